"""What a person may do to one job: the buttons on its page, and the page behind each."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib.admin import AdminSite
from django.http import Http404, HttpRequest
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from .. import conf, operations, queues, registry
from ..models import JobRecord
from ..models.job import PRIORITIES
from ..states import OPEN_STATES, JobState, Priority
from ..views import may_see_payload
from .acts import ActPage
from .confirm import ReasonForm
from .lookup import find_job
from .pages import Text

NOT_STARTED = OPEN_STATES - {JobState.ACTIVE}


class PriorityForm(ReasonForm):
    """Another priority, and why."""

    field_order = ("priority", "reason")
    priority = forms.TypedChoiceField(label=gettext_lazy("Priority"), choices=PRIORITIES, coerce=int)


class QueueForm(ReasonForm):
    """Another queue, and why. Only those on the job's Redis can be meant."""

    field_order = ("queue", "reason")
    queue = forms.ChoiceField(label=gettext_lazy("Queue"))

    def __init__(self, *args: Any, job: JobRecord, **options: Any) -> None:
        super().__init__(*args, **options)
        there = [name for name in conf.queues() if name != job.queue and queues.share_redis(job.queue, name)]
        self.fields["queue"] = forms.ChoiceField(label=_("Queue"), choices=[(name, name) for name in there])


@dataclass(frozen=True)
class Verb:
    """One act: its permission, its words, the states it fits, and what it does with the form's fields."""

    permission: str
    button: Text
    effect: Text
    states: Collection[JobState]
    run: Callable[..., Any]
    done: Text
    form: str = ""
    is_grave: bool = False


VERBS: dict[str, Verb] = {
    "retry": Verb(
        "retry_job",
        gettext_lazy("Retry"),
        gettext_lazy("The job runs again from the start, with fresh attempts; its history stays."),
        {JobState.FAILED},
        lambda job, fields, **who: operations.retry(job, **who),
        gettext_lazy("The job runs again"),
    ),
    "promote": Verb(
        "promote_job",
        gettext_lazy("Run now"),
        gettext_lazy("The job no longer waits for its time: it runs as soon as a worker is free."),
        {JobState.DELAYED},
        lambda job, fields, **who: operations.promote(job, **who),
        gettext_lazy("The job runs now"),
    ),
    "priority": Verb(
        "change_job_priority",
        gettext_lazy("Change priority"),
        gettext_lazy("The job goes to the end of the lane of its new priority."),
        NOT_STARTED,
        lambda job, fields, **who: operations.change_priority(job, Priority(fields["priority"]), **who),
        gettext_lazy("The job has another priority"),
        form="priority",
    ),
    "move": Verb(
        "move_job",
        gettext_lazy("Move"),
        gettext_lazy("The job waits in another queue from now on, at the end of its lane."),
        NOT_STARTED,
        lambda job, fields, **who: operations.move(job, fields["queue"], **who),
        gettext_lazy("The job is in another queue"),
        form="queue",
    ),
    "cancel": Verb(
        "cancel_job",
        gettext_lazy("Cancel"),
        gettext_lazy("The job never starts; if it runs, it is stopped in its run. It cannot be brought back."),
        OPEN_STATES,
        lambda job, fields, **who: operations.cancel(job, **who),
        gettext_lazy("The job is canceled"),
        is_grave=True,
    ),
}
FOR_FOREIGN = {"cancel"}
"""What can be done to jobs of plain RQ code."""


@dataclass(frozen=True)
class Button:
    """A link that looks like a button."""

    url: str
    text: Text
    is_grave: bool = False


def buttons(site: AdminSite, request: HttpRequest, job: JobRecord) -> list[Button]:
    """Return what this person may do to this job as it is now."""
    found = [
        Button(act_url(site, job, name), verb.button, verb.is_grave)
        for name, verb in VERBS.items()
        if _fits(name, verb, job) and request.user.has_perm(f"wellos_jobs.{verb.permission}")
    ]
    if request.user.has_perm("wellos_jobs.enqueue_job") and may_see_payload(request, job) and _can_be_copied(job):
        url = reverse("admin:wellos_jobs_job_copy", args=[job.pk], current_app=site.name)
        found.insert(len(found) - bool(found and found[-1].is_grave), Button(url, _("Edit a copy and enqueue")))
    return found


def act_url(site: AdminSite, job: JobRecord, verb: str) -> str:
    """Return the address of the page that asks before an act."""
    return reverse("admin:wellos_jobs_job_act", args=[job.pk, verb], current_app=site.name)


def job_url(site: AdminSite, job_id: object) -> str:
    """Return the address of the page of a job."""
    return reverse("admin:wellos_jobs_jobrecord_change", args=[job_id], current_app=site.name)


def _fits(name: str, verb: Verb, job: JobRecord) -> bool:
    return job.state in verb.states and (not job.is_foreign or name in FOR_FOREIGN)


def _can_be_copied(job: JobRecord) -> bool:
    return not job.is_foreign and registry.find(job.name) is not None


class JobAct(ActPage):
    """The page between a button of a job and its doing."""

    name = "job_act"
    path = "<str:job_id>/act/<slug:verb>/"
    title = gettext_lazy("Job")
    permission = "wellos_jobs.view_jobrecord"

    def heading(self, request: HttpRequest, **values: Any) -> Text:
        return f"{self._verb(**values).button}: {find_job(request, values['job_id']).name}"

    def needed(self, **values: Any) -> str:
        return f"wellos_jobs.{self._verb(**values).permission}"

    def row(self, request: HttpRequest, **values: Any) -> JobRecord:
        return find_job(request, values["job_id"])

    def form(self, request: HttpRequest, row: Any, data: Any = None, **values: Any) -> forms.Form:
        match self._verb(**values).form:
            case "priority":
                return PriorityForm(data, initial={"priority": row.priority})
            case "queue":
                return QueueForm(data, job=row)
        return ReasonForm(data)

    def told(self, request: HttpRequest, row: Any, **values: Any) -> dict[str, Any]:
        verb = self._verb(**values)
        told = {"button": verb.button, "effect": verb.effect, "is_grave": verb.is_grave}
        if row.is_foreign and values["verb"] not in FOR_FOREIGN:
            told["refusal"] = _("The job was enqueued by plain RQ code: that has to be done there")
        return told

    def do(self, row: Any, form: forms.Form, who: dict[str, Any], **values: Any) -> str:
        verb = self._verb(**values)
        verb.run(row, form.cleaned_data, **who)
        return str(verb.done)

    def home(self, row: Any) -> str:
        return job_url(self.site, row.pk)

    def _verb(self, **values: Any) -> Verb:
        if values["verb"] not in VERBS:
            raise Http404(_("There is no such action: %(verb)s") % {"verb": values["verb"]})
        return VERBS[values["verb"]]
