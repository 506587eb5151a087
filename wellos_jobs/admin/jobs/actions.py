"""What a person may do to one job: the buttons on its page, and the page behind each."""

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
from ...states import OPEN_STATES, JobState, Priority
from ...views.permissions import may_see_payload
from ..ui.action_page import ActionPage, Button, PageVerb, ReasonForm
from ..ui.lookup import find_job
from ..ui.page import Text

NOT_STARTED = OPEN_STATES - {JobState.ACTIVE}


class PriorityForm(ReasonForm):
    """Another priority, and why."""

    field_order = ("priority", "reason")
    priority = forms.TypedChoiceField(
        label=gettext_lazy("Priority"), choices=PRIORITIES, coerce=int
    )


class QueueForm(ReasonForm):
    """Another queue, and why. For one job only those on its Redis can be meant."""

    field_order = ("queue", "reason")
    queue = forms.ChoiceField(label=gettext_lazy("Queue"))

    def __init__(self, *args: Any, job: JobRecord | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        there = list(conf.queues())
        if job is not None:
            there = [
                name for name in there if name != job.queue and queues.share_redis(job.queue, name)
            ]
        self.fields["queue"] = forms.ChoiceField(
            label=_("Queue"), choices=[(name, name) for name in there]
        )


@dataclass(frozen=True, kw_only=True)
class JobVerb(PageVerb):
    """A button for one job: the states it fits, and what it does with the form's fields."""

    states: Collection[JobState]
    run: Callable[..., Any]
    done: Text


FOR_FOREIGN = {"cancel"}
"""What can be done to jobs of plain RQ code."""


class JobActionPage(ActionPage):
    """The page between a button of a job and its doing."""

    name = "job_act"
    path = "<str:job_id>/act/<slug:verb>/"
    title = gettext_lazy("Job")
    permission = "wellos_jobs.view_jobrecord"

    verbs: ClassVar[Mapping[str, JobVerb]] = {
        "retry": JobVerb(
            VERBS["retry"],
            gettext_lazy(
                "The job runs again from the start, with fresh attempts; its history stays."
            ),
            states={JobState.FAILED},
            run=lambda job, fields, **who: operations.retry(job, **who),
            done=gettext_lazy("The job runs again"),
        ),
        "promote": JobVerb(
            VERBS["promote"],
            gettext_lazy(
                "The job no longer waits for its time: it runs as soon as a worker is free."
            ),
            states={JobState.DELAYED},
            run=lambda job, fields, **who: operations.promote(job, **who),
            done=gettext_lazy("The job runs now"),
        ),
        "priority": JobVerb(
            VERBS["change_priority"],
            gettext_lazy("The job goes to the end of the lane of its new priority."),
            states=NOT_STARTED,
            run=lambda job, fields, **who: operations.change_priority(
                job, Priority(fields["priority"]), **who
            ),
            done=gettext_lazy("The job has another priority"),
        ),
        "move": JobVerb(
            VERBS["move"],
            gettext_lazy("The job waits in another queue from now on, at the end of its lane."),
            states=NOT_STARTED,
            run=lambda job, fields, **who: operations.move(job, fields["queue"], **who),
            done=gettext_lazy("The job is in another queue"),
        ),
        "cancel": JobVerb(
            VERBS["cancel"],
            gettext_lazy(
                "The job never starts; if it runs, it is stopped in its run. It cannot be brought back."
            ),
            states=OPEN_STATES,
            run=lambda job, fields, **who: operations.cancel(job, **who),
            done=gettext_lazy("The job is canceled"),
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
        if target.is_foreign and verb not in FOR_FOREIGN:
            return {
                "refusal": _("The job was enqueued by plain RQ code: that has to be done there")
            }
        return {}

    def perform(self, verb: str, target: JobRecord, form: ReasonForm, **who: Any) -> Text:
        self.verbs[verb].run(target, form.cleaned_data, **who)
        return self.verbs[verb].done

    def return_url(self, request: HttpRequest, target: JobRecord) -> str:
        return job_url(self.site, target.pk)


def buttons(site: AdminSite, request: HttpRequest, job: JobRecord) -> list[Button]:
    """Return what this person may do to this job as it is now."""
    found = JobActionPage.buttons(site, request, job.pk, lambda name: _fits(name, job))
    if (
        request.user.has_perm(VERBS["enqueue_copy"].permission_on())
        and may_see_payload(request, job)
        and _can_be_copied(job)
    ):
        url = reverse("admin:wellos_jobs_job_copy", args=[job.pk], current_app=site.name)
        found.insert(
            len(found) - bool(found and found[-1].is_destructive),
            Button(url, _("Edit a copy and enqueue")),
        )
    return found


def job_url(site: AdminSite, job_id: object) -> str:
    """Return the address of the page of a job."""
    return reverse("admin:wellos_jobs_jobrecord_change", args=[job_id], current_app=site.name)


def _fits(name: str, job: JobRecord) -> bool:
    return job.state in JobActionPage.verbs[name].states and (
        not job.is_foreign or name in FOR_FOREIGN
    )


def _can_be_copied(job: JobRecord) -> bool:
    return not job.is_foreign and registry.find(job.name) is not None
