"""The list of dead letters: search, actions and columns."""

from __future__ import annotations

import re
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from ... import operations
from ...models import DeadLetter
from ...operations.verbs import VERBS
from ...states import DeadLetterStatus
from ..ui import display
from ..ui.bulk_actions import BulkAction, Effect, Sentence, already, effects
from ..ui.read_only import NameFilter, QueueFilter, ReadOnlyAdmin, WindowedSearch
from ..ui.saved_views import SavedViews
from .fault_page import AssignForm
from .page import DeadLetterPages

FINGERPRINT = re.compile(r"[0-9a-fA-F]{16}")


class DeadLetterAdmin(SavedViews, DeadLetterPages, WindowedSearch, ReadOnlyAdmin):
    """List of dead letters: jobs that failed for good."""

    organization_path = "job__organization_id"
    list_display = (
        "job_name",
        "status_shown",
        "reason",
        "error",
        "attempts_shown",
        "created",
        "queue",
        "organization_shown",
        "resolver",
    )
    list_filter = ("status", "reason", QueueFilter, "created_at", NameFilter)
    further_lookups = frozenset({"fingerprint__exact", "organization_id__exact"})
    list_select_related = ("job",)
    search_fields = ("name", "error_class", "message", "organization_id")
    search_help_text = _("Job id, fingerprint, or part of the job name, error or organization")
    actions = ("replay_dead_letters", "assign_dead_letters", "discard_dead_letters")
    change_list_template = "admin/wellos_jobs/deadletter/change_list.html"

    def exact_match(self, rows: QuerySet[Any], term: str) -> QuerySet[Any] | None:
        if FINGERPRINT.fullmatch(term):
            return rows.filter(fingerprint=term.lower())
        return super().exact_match(rows, term)

    def get_queryset(self, request: HttpRequest) -> QuerySet[DeadLetter]:
        return super().get_queryset(request).prefetch_related("resolved_by")

    replay_dead_letters = BulkAction(
        VERBS["replay"],
        operations.replay_many,
        _("Replay selected dead letters"),
        _("Replay"),
        lambda dead_letters: _effects(
            dead_letters,
            lambda n: ngettext(
                "%d job is requeued with new attempts; its history is kept",
                "%d jobs are requeued with new attempts; their history is kept",
                n,
            ),
        ),
        lambda n: ngettext("%d dead letter replayed", "%d dead letters replayed", n) % n,
    )
    assign_dead_letters = BulkAction(
        VERBS["assign"],
        operations.assign_many,
        _("Assign selected dead letters"),
        _("Assign"),
        lambda dead_letters: _effects(
            dead_letters,
            lambda n: ngettext(
                "%d open dead letter is assigned", "%d open dead letters are assigned", n
            ),
        ),
        lambda n: ngettext("%d dead letter assigned", "%d dead letters assigned", n) % n,
        AssignForm,
    )
    discard_dead_letters = BulkAction(
        VERBS["discard"],
        operations.discard_many,
        _("Discard selected dead letters"),
        _("Discard"),
        lambda dead_letters: _effects(
            dead_letters,
            lambda n: ngettext(
                "%d dead letter is closed; its job stays failed",
                "%d dead letters are closed; their jobs stay failed",
                n,
            ),
        ),
        lambda n: ngettext("%d dead letter discarded", "%d dead letters discarded", n) % n,
    )

    @admin.display(description=_("job"), ordering="job__name")
    def job_name(self, dead_letter: DeadLetter) -> str:
        return dead_letter.job.name

    @admin.display(description=_("status"), ordering="status")
    def status_shown(self, dead_letter: DeadLetter) -> SafeString:
        return display.badge(dead_letter.status, dead_letter.get_status_display())

    @admin.display(description=_("error"))
    def error(self, dead_letter: DeadLetter) -> str:
        return display.shortened(
            f"{dead_letter.error_class.rpartition('.')[2]}: {dead_letter.message}".removeprefix(
                ": "
            ),
            70,
        )

    @admin.display(description=_("created"), ordering="created_at")
    def created(self, dead_letter: DeadLetter) -> str:
        return display.short_moment(dead_letter.created_at)

    @admin.display(description=_("attempts"))
    def attempts_shown(self, dead_letter: DeadLetter) -> str:
        return f"{dead_letter.job.attempts}/{dead_letter.job.max_attempts}"

    @admin.display(description=_("queue"), ordering="job__queue")
    def queue(self, dead_letter: DeadLetter) -> str:
        return dead_letter.job.queue

    @admin.display(description=_("organization"), ordering="job__organization_id")
    def organization_shown(self, dead_letter: DeadLetter) -> SafeString | str:
        return getattr(
            dead_letter.job,
            "organization_shown",
            dead_letter.job.organization_id or display.NOTHING,
        )

    @admin.display(description=_("resolved by"))
    def resolver(self, dead_letter: DeadLetter) -> str:
        return str(dead_letter.resolved_by or display.NOTHING)


def _effects(dead_letters: QuerySet[DeadLetter], sentence: Sentence) -> list[Effect]:
    is_open = [DeadLetterStatus.OPEN]
    return effects(
        dead_letters,
        "status",
        (is_open, sentence),
        unchanged=lambda value: already(DeadLetterStatus(value).label),
    )
