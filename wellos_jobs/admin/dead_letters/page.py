"""The page of a dead letter: why the job was given up, its data, and replay, edit and replay, assign, discard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ... import operations, payload
from ...errors import EncryptionError, InvalidOperation, PayloadError
from ...models import AuditEntry, DeadLetter
from ...operations import edits
from ...states import DeadLetterStatus
from ...views.permissions import may_see_payload
from ..jobs.data_form import DataForm
from ..ui import display, long_text, organization_scope
from ..ui.action_page import ActPage, Button, ReasonForm, Verb
from ..ui.lookup import find_letter
from ..ui.page import Page, Text
from .by_fault import Faults, fault_url
from .fault_page import AssignForm, FaultAct, FaultPage

MOST_ENTRIES = 100


class LetterPage(Page):
    """Served as the change page of ``DeadLetterAdmin``."""

    name = "deadletter_change"
    path = "<path:letter_id>/change/"
    title = gettext_lazy("Dead letter")
    permission = "wellos_jobs.view_deadletter"
    template = "admin/wellos_jobs/parts/letter.html"
    live = False
    for_everybody = True
    styles = ("wellos_jobs/job.css",)

    def heading(self, request: HttpRequest, **values: Any) -> Text:
        letter = find_letter(request, values["letter_id"])
        return _("%(name)s: dead letter %(letter)s") % {
            "name": letter.job.name,
            "letter": letter.pk,
        }

    def context(self, request: HttpRequest, **values: Any) -> dict[str, Any]:
        letter = find_letter(request, values["letter_id"])
        may_see = may_see_payload(request, letter.job)
        alike = organization_scope.visible(
            request, DeadLetter.objects.filter(fingerprint=letter.fingerprint)
        )
        former = letter.former_data
        return {
            "letter": letter,
            "message": long_text.cut(letter.message),
            "trace": long_text.shown(letter, "traceback"),
            "whole": self._whole(letter),
            "facts": self._facts(letter),
            "buttons": self._buttons(request, letter),
            "may_see_payload": may_see,
            "data": display.as_json(payload.mask(letter.job.data)) if may_see else "",
            "former_data": display.as_json(payload.mask(former))
            if may_see and former is not None
            else "",
            "fault_url": fault_url(self.site, letter.fingerprint, "?status=any"),
            "alike": alike.filter(status=DeadLetterStatus.OPEN)
            .exclude(pk=letter.pk)
            .order_by()[:1001]
            .count(),
            "entries": self._entries(letter),
        }

    def _facts(self, letter: DeadLetter) -> list[tuple[str, Any]]:
        job = letter.job
        organization = display.organizations([job.organization_id]).get(job.organization_id, "")
        found = [
            (_("Job"), display.link(self.site, "jobrecord", job.pk, job)),
            (_("Reason"), letter.get_reason_display()),
            (_("Given up"), display.to_the_second(letter.created_at)),
            (_("Queue"), job.queue),
            (_("Attempts"), f"{job.attempts}/{job.max_attempts}"),
            (_("Organization"), organization),
            (_("Assigned to"), letter.assigned_to or ""),
            (_("Note"), letter.note),
            (_("Resolved by"), letter.resolved_by or ""),
            (
                _("Resolved"),
                display.to_the_second(letter.resolved_at) if letter.resolved_at else "",
            ),
        ]
        return [(label, value) for label, value in found if value]

    def _buttons(self, request: HttpRequest, letter: DeadLetter) -> list[Button]:
        if letter.status != DeadLetterStatus.OPEN:
            return []
        return LetterAct.buttons(
            self.site, request, letter.pk, lambda verb: self._fits(request, letter, verb)
        )

    def _fits(self, request: HttpRequest, letter: DeadLetter, verb: str) -> bool:
        if letter.job.is_foreign:
            return verb not in {"replay", "edit"}
        return verb != "edit" or may_see_payload(request, letter.job)

    def _whole(self, letter: DeadLetter) -> str:
        if not long_text.is_cut(letter, "traceback"):
            return ""
        return reverse(
            "admin:wellos_jobs_deadletter_traceback", args=[letter.pk], current_app=self.site.name
        )

    def _entries(self, letter: DeadLetter) -> list[AuditEntry]:
        about = Q(target_type="dead_letter", target_id=str(letter.pk))
        about |= Q(target_type="job", target_id=str(letter.job_id))
        return list(AuditEntry.objects.filter(about).order_by("-at", "-pk")[:MOST_ENTRIES])[::-1]


class LetterTraceback(LetterPage):
    """The whole traceback, as text."""

    name = "deadletter_traceback"
    path = "<str:letter_id>/traceback.txt"

    def answer(self, request: HttpRequest, **values: Any) -> HttpResponse:
        self.require(request, self.permission)
        letter = find_letter(request, values["letter_id"])
        return long_text.as_file(letter.traceback)  # deferred: read now


class LetterAct(ActPage):
    """The page between a button of a letter and its doing."""

    name = "deadletter_act"
    path = "<str:letter_id>/act/<slug:verb>/"
    title = gettext_lazy("Dead letter")
    permission = "wellos_jobs.view_deadletter"

    verbs: ClassVar[Mapping[str, Verb]] = {
        "replay": Verb(
            "replay_deadletter",
            gettext_lazy("Replay"),
            gettext_lazy("The job goes back to its queue with fresh attempts; its history stays."),
        ),
        "edit": Verb(
            "edit_deadletter",
            gettext_lazy("Edit data and replay"),
            gettext_lazy(
                "The job goes back to its queue with these data; the letter keeps those it failed with."
            ),
        ),
        "assign": Verb(
            "assign_deadletter",
            gettext_lazy("Assign"),
            gettext_lazy("The letter is given to a person."),
        ),
        "discard": Verb(
            "discard_deadletter",
            gettext_lazy("Discard"),
            gettext_lazy("The letter is closed; its job stays failed."),
            is_grave=True,
        ),
    }

    def target(self, request: HttpRequest, verb: str, **values: Any) -> DeadLetter:
        letter = find_letter(request, values["letter_id"])
        if verb == "edit" and not may_see_payload(request, letter.job):
            raise PermissionDenied
        return letter

    def called(self, target: DeadLetter) -> Text:
        return target.job.name

    def form(
        self, verb: str, target: DeadLetter, request: HttpRequest, data: Any = None
    ) -> ReasonForm:
        match verb:
            case "edit":
                return DataForm(data, job=target.job)
            case "assign":
                person = target.assigned_to or request.user
                return AssignForm(
                    data, initial={"person": person.get_username(), "note": target.note}
                )
        return ReasonForm(data)

    def told(self, verb: str, target: DeadLetter) -> dict[str, Any]:
        error = f"{target.error_class}: {target.message}".removeprefix(": ")
        facts = [
            (_("Job"), display.link(self.site, "jobrecord", target.job_id, target.job)),
            (_("Error"), display.shortened(error, 300)),
        ]
        return {"facts": facts, "refusal": self._refusal(target, verb)}

    def carry_out(self, verb: str, target: DeadLetter, form: ReasonForm, **who: Any) -> Text:
        match verb:
            case "edit":
                try:
                    operations.replay_edited(target, form.cleaned_data["data"], **who)
                except (
                    PayloadError,
                    EncryptionError,
                    TypeError,
                ) as error:  # the job has changed since the form
                    raise ValidationError(str(error)) from error
                return _("The job runs again, with other data")
            case "assign":
                operations.assign(
                    [target], form.cleaned_data["person"], form.cleaned_data["note"], **who
                )
                return _("The dead letter is assigned")
            case "discard":
                operations.discard(target, **who)
                return _("The dead letter is discarded")
        operations.replay(target, **who)
        return _("The job runs again")

    def home(self, request: HttpRequest, target: DeadLetter) -> str:
        return reverse(
            "admin:wellos_jobs_deadletter_change", args=[target.pk], current_app=self.site.name
        )

    def _refusal(self, letter: DeadLetter, verb: str) -> str:
        if letter.status != DeadLetterStatus.OPEN:
            return _("The dead letter is %(status)s already") % {
                "status": letter.get_status_display()
            }
        if verb != "edit":
            return ""
        try:
            edits.definition_of(letter.job)
        except InvalidOperation as error:
            return str(error)
        return ""


class LetterPages:
    """Gives an admin of dead letters the workbench, their page, and the pages behind the buttons."""

    def get_urls(self) -> list[URLPattern]:
        below: Any = super()
        pages = (Faults, FaultPage, FaultAct, LetterAct, LetterTraceback)
        return [*(page.pattern(self) for page in pages), *below.get_urls()]  # type: ignore[arg-type]

    def change_view(
        self, request: HttpRequest, object_id: str, *args: Any, **options: Any
    ) -> HttpResponse:
        return LetterPage(self).answer(request, letter_id=object_id)  # type: ignore[arg-type]
