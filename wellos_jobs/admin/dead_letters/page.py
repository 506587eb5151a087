"""The page of a dead letter: error, data, and actions: replay, edit and replay, assign, discard."""

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
from ...operations.verbs import VERBS
from ...permissions import may_see_payload
from ...states import DeadLetterStatus
from ..jobs.data_form import DataForm
from ..ui import display, long_text, organization_scope
from ..ui.action_page import ActionPage, Button, PageVerb, ReasonForm
from ..ui.lookup import find_dead_letter
from ..ui.page import Page, Text
from .by_fault import FaultsPage, fault_url
from .fault_page import AssignForm, FaultActionPage, FaultPage

MAX_AUDIT_ENTRIES = 100


class DeadLetterPage(Page):
    """Served as the change page of ``DeadLetterAdmin``."""

    name = "deadletter_change"
    path = "<path:dead_letter_id>/change/"
    title = gettext_lazy("Dead letter")
    permission = "wellos_jobs.view_deadletter"
    template = "admin/wellos_jobs/parts/dead_letter.html"
    live = False
    is_organization_scoped = True
    styles = ("wellos_jobs/job.css",)

    def heading(self, request: HttpRequest, **values: Any) -> Text:
        dead_letter = find_dead_letter(request, values["dead_letter_id"])
        return _("%(name)s: dead letter %(dead_letter)s") % {
            "name": dead_letter.job.name,
            "dead_letter": dead_letter.pk,
        }

    def context(self, request: HttpRequest, **values: Any) -> dict[str, Any]:
        dead_letter = find_dead_letter(request, values["dead_letter_id"])
        may_see = may_see_payload(request, dead_letter.job)
        alike = organization_scope.visible(
            request, DeadLetter.objects.filter(fingerprint=dead_letter.fingerprint)
        )
        former = dead_letter.former_data
        open_alike = alike.filter(status=DeadLetterStatus.OPEN).exclude(pk=dead_letter.pk)

        return {
            "dead_letter": dead_letter,
            "message": long_text.cut(dead_letter.message),
            "trace": long_text.shown(dead_letter, "traceback"),
            "whole": self._traceback_url(dead_letter),
            "facts": self._facts(dead_letter),
            "buttons": self._buttons(request, dead_letter),
            "may_see_payload": may_see,
            "data": display.as_json(payload.mask(dead_letter.job.data)) if may_see else "",
            "former_data": display.as_json(payload.mask(former))
            if may_see and former is not None
            else "",
            "fault_url": fault_url(self.site, dead_letter.fingerprint, "?status=any"),
            "alike": open_alike.order_by()[:1001].count(),
            "entries": self._entries(dead_letter),
        }

    def _facts(self, dead_letter: DeadLetter) -> list[tuple[str, Any]]:
        job = dead_letter.job
        organization = display.organizations([job.organization_id]).get(job.organization_id, "")
        found = [
            (_("Job"), display.link(self.site, "jobrecord", job.pk, job)),
            (_("Reason"), dead_letter.get_reason_display()),
            (_("Failed"), display.to_the_second(dead_letter.created_at)),
            (_("Queue"), job.queue),
            (_("Attempts"), f"{job.attempts}/{job.max_attempts}"),
            (_("Organization"), organization),
            (_("Assigned to"), dead_letter.assigned_to or ""),
            (_("Note"), dead_letter.note),
            (_("Resolved by"), dead_letter.resolved_by or ""),
            (
                _("Resolved"),
                display.to_the_second(dead_letter.resolved_at) if dead_letter.resolved_at else "",
            ),
        ]

        return [(label, value) for label, value in found if value]

    def _buttons(self, request: HttpRequest, dead_letter: DeadLetter) -> list[Button]:
        if dead_letter.status != DeadLetterStatus.OPEN:
            return []
        return DeadLetterActionPage.buttons(
            self.site, request, dead_letter.pk, lambda verb: self._fits(request, dead_letter, verb)
        )

    def _fits(self, request: HttpRequest, dead_letter: DeadLetter, verb: str) -> bool:
        if dead_letter.job.is_foreign:
            return verb not in {"replay", "edit"}
        return verb != "edit" or may_see_payload(request, dead_letter.job)

    def _traceback_url(self, dead_letter: DeadLetter) -> str:
        if not long_text.is_cut(dead_letter, "traceback"):
            return ""
        return reverse(
            "admin:wellos_jobs_deadletter_traceback",
            args=[dead_letter.pk],
            current_app=self.site.name,
        )

    def _entries(self, dead_letter: DeadLetter) -> list[AuditEntry]:
        about = Q(target_type="dead_letter", target_id=str(dead_letter.pk))
        about |= Q(target_type="job", target_id=str(dead_letter.job_id))
        return list(AuditEntry.objects.filter(about).order_by("-at", "-pk")[:MAX_AUDIT_ENTRIES])[
            ::-1
        ]


class DeadLetterTraceback(DeadLetterPage):
    """The full traceback as text."""

    name = "deadletter_traceback"
    path = "<str:dead_letter_id>/traceback.txt"

    def answer(self, request: HttpRequest, **values: Any) -> HttpResponse:
        self.require(request, self.permission)
        dead_letter = find_dead_letter(request, values["dead_letter_id"])
        return long_text.as_file(dead_letter.traceback)  # deferred until here


class DeadLetterActionPage(ActionPage):
    """Confirmation page for an action on one dead letter."""

    name = "deadletter_act"
    path = "<str:dead_letter_id>/act/<slug:verb>/"
    title = gettext_lazy("Dead letter")
    permission = "wellos_jobs.view_deadletter"

    verbs: ClassVar[Mapping[str, PageVerb]] = {
        "replay": PageVerb(
            VERBS["replay"],
            gettext_lazy("The job is requeued with new attempts. Its history is kept."),
        ),
        "edit": PageVerb(
            VERBS["replay_edited"],
            gettext_lazy(
                "The job is requeued with this data. The dead letter keeps the data it failed with."
            ),
        ),
        "assign": PageVerb(
            VERBS["assign"],
            gettext_lazy("The dead letter is assigned to a staff member."),
        ),
        "discard": PageVerb(
            VERBS["discard"],
            gettext_lazy("The dead letter is closed. Its job stays failed."),
        ),
    }

    def target(self, request: HttpRequest, verb: str, **values: Any) -> DeadLetter:
        dead_letter = find_dead_letter(request, values["dead_letter_id"])
        if verb == "edit" and not may_see_payload(request, dead_letter.job):
            raise PermissionDenied
        return dead_letter

    def target_name(self, target: DeadLetter) -> Text:
        return target.job.name

    def form(
        self, verb: str, target: DeadLetter, request: HttpRequest, data: Any = None
    ) -> ReasonForm:
        match verb:
            case "edit":
                return DataForm(data, job=target.job, request=request)
            case "assign":
                person = target.assigned_to or request.user
                return AssignForm(
                    data, initial={"person": person.get_username(), "note": target.note}
                )
        return ReasonForm(data)

    def details(self, verb: str, target: DeadLetter) -> dict[str, Any]:
        error = f"{target.error_class}: {target.message}".removeprefix(": ")
        facts = [
            (_("Job"), display.link(self.site, "jobrecord", target.job_id, target.job)),
            (_("Error"), display.shortened(error, 300)),
        ]
        return {"facts": facts, "refusal": self._refusal(target, verb)}

    def perform(self, verb: str, target: DeadLetter, form: ReasonForm, **who: Any) -> Text:
        match verb:
            case "replay":
                operations.replay(target, **who)
                return _("The job was replayed")
            case "edit":
                self._replay_edited(target, form, **who)
                return _("The job was replayed with the edited data")
            case "assign":
                person, note = form.cleaned_data["person"], form.cleaned_data["note"]
                operations.assign([target], person, note, **who)
                return _("The dead letter was assigned")
            case "discard":
                operations.discard(target, **who)
                return _("The dead letter was discarded")
        raise self.not_implemented(verb)

    def _replay_edited(self, target: DeadLetter, form: ReasonForm, **who: Any) -> None:
        try:
            operations.replay_edited(target, form.cleaned_data["data"], **who)
        except (PayloadError, EncryptionError, TypeError) as error:
            raise ValidationError(str(error)) from error  # the job's signature has changed since

    def return_url(self, request: HttpRequest, target: DeadLetter) -> str:
        return reverse(
            "admin:wellos_jobs_deadletter_change", args=[target.pk], current_app=self.site.name
        )

    def _refusal(self, dead_letter: DeadLetter, verb: str) -> str:
        if dead_letter.status != DeadLetterStatus.OPEN:
            return _("The dead letter is already %(status)s") % {
                "status": dead_letter.get_status_display()
            }
        if verb != "edit":
            return ""
        try:
            edits.definition_of(dead_letter.job)
        except InvalidOperation as error:
            return str(error)
        return ""


class DeadLetterPages:
    """Mixin for the dead letter admin: pages by fault, detail page, and the pages of buttons."""

    def get_urls(self) -> list[URLPattern]:
        below: Any = super()
        pages = (FaultsPage, FaultPage, FaultActionPage, DeadLetterActionPage, DeadLetterTraceback)
        return [*(page.pattern(self) for page in pages), *below.get_urls()]  # type: ignore[arg-type]

    def change_view(
        self, request: HttpRequest, object_id: str, *args: Any, **options: Any
    ) -> HttpResponse:
        return DeadLetterPage(self).answer(request, dead_letter_id=object_id)  # type: ignore[arg-type]
