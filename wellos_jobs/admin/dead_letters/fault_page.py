"""The page of one fault: its dead letters, its canary, and actions on all of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from django import forms
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import Http404, HttpRequest
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from ... import operations, status
from ...models import DeadLetter, JobRecord
from ...monitoring import faults
from ...monitoring.faults import Fault, FaultFilter
from ...operations import bulk, texts
from ...operations.audit import Actor
from ...operations.verbs import VERBS, Verb
from ...states import FINAL_STATES, DeadLetterStatus, JobState
from ..ui import display, organization_scope
from ..ui.action_page import ActionPage, Button, PageVerb, ReasonForm, Redirect
from ..ui.bulk_actions import MAX_INLINE, operation_url, with_rate_field
from ..ui.page import Page, Text
from .by_fault import dead_letters_of, fault_url, filters_of, list_query, query_of, spark

SHOWN = 50


@dataclass(frozen=True)
class FaultSelection:
    """The dead letters of a fault that match the filters; actions apply to the open ones."""

    fingerprint: str
    dead_letters: QuerySet[DeadLetter]
    filters: FaultFilter
    query: str

    @property
    def open_dead_letters(self) -> QuerySet[DeadLetter]:
        return self.dead_letters.filter(status=DeadLetterStatus.OPEN)


def find_fault(request: HttpRequest, fingerprint: str, filters: FaultFilter) -> FaultSelection:
    """Return a fault with at least one dead letter the user may see. Raises Http404."""
    rows = organization_scope.visible(request, DeadLetter.objects.filter(fingerprint=fingerprint))
    if not rows.exists():
        raise Http404(_("Fault %(fault)s has no dead letters") % {"fault": fingerprint})

    dead_letters = dead_letters_of(request, filters).filter(fingerprint=fingerprint)
    return FaultSelection(fingerprint, dead_letters, filters, query_of(request))


class FaultPage(Page):
    """One fault; the filters of the list of faults stay in force."""

    name = "fault"
    path = "faults/<slug:fingerprint>/"
    title = gettext_lazy("Fault")
    permission = "wellos_jobs.view_deadletter"
    template = "admin/wellos_jobs/parts/fault.html"
    is_organization_scoped = True
    styles = ("wellos_jobs/job.css",)

    def heading(self, request: HttpRequest, **values: Any) -> Text:
        return _("Fault %(fault)s") % {"fault": values["fingerprint"]}

    def context(self, request: HttpRequest, **values: Any) -> dict[str, Any]:
        selection = find_fault(request, values["fingerprint"], filters_of(request))
        fault = faults.fault_of(selection.dead_letters, selection.fingerprint)
        count = selection.open_dead_letters.count()
        canary = canary_status(self, request, selection.fingerprint)
        list_url = reverse("admin:wellos_jobs_deadletter_changelist", current_app=self.site.name)

        return {
            "fault": fault,
            "spark": spark(fault) if fault else "",
            "open_count": count,
            "dead_letters": self._dead_letters(selection),
            "more": max(0, (fault.number if fault else 0) - SHOWN),
            "canary": canary,
            "buttons": self._buttons(request, selection, fault, count),
            "faults_url": reverse("admin:wellos_jobs_faults", current_app=self.site.name)
            + selection.query,
            "list_url": f"{list_url}?{list_query(selection.fingerprint, selection.filters)}",
            "is_live": canary is not None and not canary["is_final"],
        }

    def _dead_letters(self, selection: FaultSelection) -> list[Any]:
        columns = (
            "id",
            "job_id",
            "status",
            "created_at",
            "organization_id",
            "queue",
            "note",
            "assigned_to_id",
        )
        rows = list(selection.dead_letters.order_by("-created_at", "-pk").only(*columns)[:SHOWN])
        users = get_user_model()._default_manager.in_bulk(
            {row.assigned_to_id for row in rows if row.assigned_to_id}
        )
        organizations = display.organizations(row.organization_id for row in rows)

        return [
            (
                row,
                display.link(self.site, "deadletter", row.pk, row.pk),
                display.link(self.site, "jobrecord", row.job_id, row.job_id),
                organizations.get(row.organization_id, display.NOTHING),
                users.get(row.assigned_to_id, ""),
            )
            for row in rows
        ]

    def _buttons(
        self, request: HttpRequest, selection: FaultSelection, fault: Fault | None, count: int
    ) -> list[Button]:
        if fault is None or not count:
            return []
        return FaultActionPage.buttons(
            self.site,
            request,
            selection.fingerprint,
            lambda name: count > 1 or name != "canary",
            selection.query,
        )


def canary_status(page: Page, request: HttpRequest, fingerprint: str) -> dict[str, Any] | None:
    """Return the status of the last canary of a fault; None if the user may not see its job."""
    entry = faults.last_canary(fingerprint)
    if entry is None:
        return None

    jobs = JobRecord.objects.filter(pk=entry.detail.get("job"))
    job = organization_scope.visible(request, jobs).first()
    if job is None:
        return None

    live = status.job_status(job)
    state = JobState(live["state"])
    later = DeadLetter.objects.filter(job=job.pk, pk__gt=entry.detail.get("letter", 0))
    newer = later.only("fingerprint").first()

    return {
        "entry": entry,
        "link": display.link(page.site, "jobrecord", job.pk, job),
        "state": display.badge(state.value, state.label),
        "word": state.value,
        "error": display.shortened(live["error"] or "", 300),
        "problem": live.get("problem", ""),
        "is_final": state in FINAL_STATES,
        "is_another_fault": newer is not None and newer.fingerprint != fingerprint,
        "fault_url": fault_url(page.site, newer.fingerprint) if newer else "",
    }


# --- actions --------------------------------------------------------------------------------------


class AssignForm(ReasonForm):
    """The assignee, a note and the reason."""

    field_order = ("person", "note", "reason")
    person = forms.CharField(
        label=gettext_lazy("Assignee"),
        required=False,
        max_length=150,
        help_text=gettext_lazy("Username of a staff member. Leave empty to unassign."),
    )
    note = forms.CharField(
        label=gettext_lazy("Note"),
        required=False,
        max_length=texts.MAX_REASON,
        widget=forms.Textarea(attrs={"rows": 3}),
    )

    def choice(self) -> dict[str, Any]:
        person = self.cleaned_data["person"]
        return {"person": str(person.pk) if person else None, "note": self.cleaned_data["note"]}

    def clean_person(self) -> Any:
        """Return the staff member, None for no assignee."""
        name = str(self.cleaned_data["person"]).strip()
        if not name:
            return None
        users = get_user_model()._default_manager.filter(is_active=True, is_staff=True)
        found = users.filter(**{get_user_model().USERNAME_FIELD: name}).first()
        if found is None:
            text = _("There is no staff member with the username “%(name)s”.")
            raise ValidationError(text, params={"name": name})
        return found


BULK = {"replay", "assign", "discard"}
"""The verbs that run as a job for many dead letters."""


class FaultActionPage(ActionPage):
    """Confirmation page for an action on all open dead letters of a fault."""

    name = "fault_act"
    path = "faults/<slug:fingerprint>/act/<slug:verb>/"
    title = gettext_lazy("Fault")
    permission = "wellos_jobs.view_deadletter"

    verbs: ClassVar[Mapping[str, PageVerb]] = {
        "canary": PageVerb(VERBS["send_canary"]),
        "replay": PageVerb(VERBS["replay"], text=gettext_lazy("Replay all")),
        "assign": PageVerb(VERBS["assign"], form=AssignForm),
        "discard": PageVerb(VERBS["discard"], text=gettext_lazy("Discard all")),
    }

    def heading(self, request: HttpRequest, **values: Any) -> Text:
        return f"{self.verbs[values['verb']].button}: {values['fingerprint']}"

    def target(self, request: HttpRequest, verb: str, **values: Any) -> FaultSelection:
        return find_fault(request, values["fingerprint"], filters_of(request))

    def form(
        self, verb: str, target: FaultSelection, request: HttpRequest, data: Any = None
    ) -> ReasonForm:
        if verb == "assign":
            return AssignForm(data, initial={"person": request.user.get_username()})
        return with_rate_field(ReasonForm(data)) if verb == "replay" else ReasonForm(data)

    def details(self, verb: str, target: FaultSelection) -> dict[str, Any]:
        count = target.open_dead_letters.count()
        return {
            "effects": [_effect(verb, count)],
            "refusal": "" if count else _("None of these dead letters is open."),
        }

    def perform(
        self, verb: str, target: FaultSelection, form: ReasonForm, **who: Any
    ) -> Text | Redirect:
        rate = form.cleaned_data.get("rate")
        dead_letters = target.open_dead_letters
        if verb in BULK and (rate or dead_letters.count() > MAX_INLINE):
            return self._begin(target, self.verbs[verb].verb, rate, form.choice(), who)

        match verb:
            case "canary":
                job = operations.send_canary(dead_letters, **who)
                return _("Job %(job)s was replayed as a canary") % {"job": job.pk}
            case "assign":
                n = operations.assign_many(dead_letters, **form.choice(), **who).done
                text = ngettext("%(n)d dead letter assigned", "%(n)d dead letters assigned", n)
            case "discard":
                n = operations.discard_many(dead_letters, **who).done
                text = ngettext("%(n)d dead letter discarded", "%(n)d dead letters discarded", n)
            case "replay":
                n = operations.replay_many(dead_letters, **who).done
                text = ngettext("%(n)d dead letter replayed", "%(n)d dead letters replayed", n)
            case _:
                raise self.not_implemented(verb)
        return text % {"n": n}

    def return_url(self, request: HttpRequest, target: FaultSelection) -> str:
        return fault_url(self.site, target.fingerprint, target.query)

    def _begin(
        self,
        selection: FaultSelection,
        verb: Verb,
        rate: float | None,
        choice: Mapping[str, Any],
        who: dict[str, Any],
    ) -> Redirect:
        """Run the action as a job, which selects the dead letters as the change list would."""
        only_open = dataclasses.replace(selection.filters, status=DeadLetterStatus.OPEN.value)
        operation = bulk.begin(
            verb,
            selection.open_dead_letters,
            site=self.site.name,
            query=list_query(selection.fingerprint, only_open),
            rate=rate,
            total=selection.open_dead_letters.count(),
            actor=Actor(**who),
            choice=choice,
        )

        url = operation_url(
            operation,
            self.site,
            otherwise=fault_url(self.site, selection.fingerprint, selection.query),
        )
        return Redirect(_("The action runs as a job. This page shows its progress."), url)


def _effect(verb: str, n: int) -> str:
    """Return the effect of an action on ``n`` open dead letters."""
    match verb:
        case "canary":
            return _(
                "Replays only the newest open dead letter, so that you can check the result before"
                " you replay the others."
            )
        case "replay":
            text = ngettext(
                "%(n)d job is requeued with new attempts. Its history is kept.",
                "%(n)d jobs are requeued with new attempts. Their history is kept.",
                n,
            )
        case "assign":
            text = ngettext(
                "%(n)d open dead letter is assigned.", "%(n)d open dead letters are assigned.", n
            )
        case "discard":
            text = ngettext(
                "%(n)d dead letter is closed; its job stays failed.",
                "%(n)d dead letters are closed; their jobs stay failed.",
                n,
            )
        case _:
            raise NotImplementedError(f"The verb {verb!r} has no description of its effect")

    return text % {"n": n}
