"""Actions on one job: the buttons on its page, and their confirmation pages."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from django import forms
from django.contrib.admin import AdminSite
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ... import conf, operations
from ...broker import queues
from ...definitions import registry
from ...models import JobRecord
from ...models.job import PRIORITIES
from ...operations.verbs import VERBS
from ...permissions import may_see_payload
from ...states import OPEN_STATES, JobState, Priority
from ..ui.action_page import ActionPage, Button, PageVerb, ReasonForm
from ..ui.lookup import find_job
from ..ui.page import Text

NOT_STARTED = OPEN_STATES - {JobState.ACTIVE}


class PriorityForm(ReasonForm):
    """A new priority and the reason."""

    field_order = ("priority", "reason")
    priority = forms.TypedChoiceField(
        label=gettext_lazy("Priority"), choices=PRIORITIES, coerce=int
    )


class QueueForm(ReasonForm):
    """A new queue and the reason. For one job, only queues on the same Redis are offered."""

    field_order = ("queue", "reason")
    queue = forms.ChoiceField(label=gettext_lazy("Queue"))

    def __init__(self, *args: Any, job: JobRecord | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        names = list(conf.queues())
        if job is not None:
            names = [
                name for name in names if name != job.queue and queues.share_redis(job.queue, name)
            ]
        choices = [(name, name) for name in names]
        self.fields["queue"] = forms.ChoiceField(label=_("Queue"), choices=choices)


@dataclass(frozen=True, kw_only=True)
class JobVerb(PageVerb):
    """An action on a job: the states it applies to, and the operation it runs."""

    states: Collection[JobState]
    run: Callable[..., Any]
    done: Text


ALLOWED_FOR_RQ_JOBS = {"cancel"}
"""Verbs that also apply to plain RQ jobs."""


class OneJobPage(ActionPage):
    """A confirmation page for one job; it leads back to the page of the job."""

    permission = "wellos_jobs.view_jobrecord"

    def return_url(self, request: HttpRequest, target: JobRecord) -> str:
        return job_url(self.site, target.pk)


class JobActionPage(OneJobPage):
    """Confirmation page for an action on one job."""

    name = "job_act"
    path = "<str:job_id>/act/<slug:verb>/"
    title = gettext_lazy("Job")

    verbs: ClassVar[Mapping[str, JobVerb]] = {
        "retry": JobVerb(
            VERBS["retry"],
            gettext_lazy(
                "The job is retried from the start with new attempts. Its history is kept."
            ),
            states={JobState.FAILED},
            run=lambda job, fields, **who: operations.retry(job, **who),
            done=gettext_lazy("The job was retried"),
        ),
        "promote": JobVerb(
            VERBS["promote"],
            gettext_lazy("The job runs as soon as a worker is free, not at its scheduled time."),
            states={JobState.DELAYED},
            run=lambda job, fields, **who: operations.promote(job, **who),
            done=gettext_lazy("The job was enqueued to run now"),
        ),
        "priority": JobVerb(
            VERBS["change_priority"],
            gettext_lazy("The job is queued last among the jobs of its new priority."),
            states=NOT_STARTED,
            run=lambda job, fields, **who: operations.change_priority(
                job, Priority(fields["priority"]), **who
            ),
            done=gettext_lazy("The priority was changed"),
        ),
        "move": JobVerb(
            VERBS["move"],
            gettext_lazy("The job moves to another queue, last among the jobs of its priority."),
            states=NOT_STARTED,
            run=lambda job, fields, **who: operations.move(job, fields["queue"], **who),
            done=gettext_lazy("The job was moved"),
        ),
        "cancel": JobVerb(
            VERBS["cancel"],
            gettext_lazy(
                "The job does not start; if it is running, it is stopped. This cannot be undone."
            ),
            states=OPEN_STATES,
            run=lambda job, fields, **who: operations.cancel(job, **who),
            done=gettext_lazy("The job was canceled"),
        ),
    }

    def target(self, request: HttpRequest, verb: str, **values: Any) -> JobRecord:
        return find_job(request, values["job_id"])

    def target_name(self, target: JobRecord) -> Text:
        return target.name

    def form(
        self, verb: str, target: JobRecord, request: HttpRequest, data: Any = None
    ) -> ReasonForm:
        match verb:
            case "priority":
                return PriorityForm(data, initial={"priority": target.priority})
            case "move":
                return QueueForm(data, job=target)
        return ReasonForm(data)

    def details(self, verb: str, target: JobRecord) -> dict[str, Any]:
        if target.is_foreign and verb not in ALLOWED_FOR_RQ_JOBS:
            return {
                "refusal": _("The job was enqueued with plain RQ, so use RQ's own tools for it.")
            }
        return {}

    def perform(self, verb: str, target: JobRecord, form: ReasonForm, **who: Any) -> Text:
        self.verbs[verb].run(target, form.cleaned_data, **who)
        return self.verbs[verb].done


def buttons(site: AdminSite, request: HttpRequest, job: JobRecord) -> list[Button]:
    """Return the buttons for the job in its current state that the user may use."""
    found = JobActionPage.buttons(site, request, job.pk, lambda name: _fits(name, job))

    may_enqueue = request.user.has_perm(VERBS["enqueue_copy"].permission_on())
    if may_enqueue and may_see_payload(request, job) and _can_be_copied(job):
        url = reverse("admin:wellos_jobs_job_copy", args=[job.pk], current_app=site.name)
        before_destructive = len(found) - bool(found and found[-1].is_destructive)
        found.insert(before_destructive, Button(url, _("Edit a copy and enqueue")))

    return found


def job_url(site: AdminSite, job_id: object) -> str:
    """Return the URL of the page of a job."""
    return reverse("admin:wellos_jobs_jobrecord_change", args=[job_id], current_app=site.name)


def _fits(name: str, job: JobRecord) -> bool:
    return job.state in JobActionPage.verbs[name].states and (
        not job.is_foreign or name in ALLOWED_FOR_RQ_JOBS
    )


def _can_be_copied(job: JobRecord) -> bool:
    return not job.is_foreign and registry.find(job.name) is not None
