"""Batches in the admin: how far each is, its jobs by state, what it calls back, and what failed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from ... import operations
from ...models import AuditEntry, Batch, JobRecord
from ...monitoring import groups
from ...monitoring.groups import Tally
from ...operations.verbs import VERBS
from ...states import BatchState, JobState
from ..ui import display, organization_scope
from ..ui.bulk_actions import BulkAction, Effect, effects
from ..ui.read_only import OrganizationChangeList, ReadOnlyAdmin

FAILURES = 20
"""How many of the jobs that failed last the page of a batch shows."""


def _with_hidden_jobs(request: HttpRequest, batches: QuerySet[Batch]) -> QuerySet[Batch]:
    """Leave the batches that have jobs beyond the border: an act on the batch would reach them."""
    return batches.filter(
        Exists(organization_scope.hidden(request, JobRecord.objects.filter(batch=OuterRef("pk"))))
    )


def _hidden_jobs_text(n: int) -> str:
    return ngettext(
        "%d batch has jobs that you may not see, too: only who sees all of them acts on it as a whole",
        "%d batches have jobs that you may not see, too: only who sees all of them acts on them as a whole",
        n,
    )


class BatchChangeList(OrganizationChangeList):
    """Counts the jobs of all batches on the page in one query."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        counted = groups.batch_tallies(JobRecord.objects.all(), self.result_list)
        for batch in self.result_list:
            batch.tally = counted[batch.pk]


class BatchAdmin(ReadOnlyAdmin):
    """Every batch that is kept."""

    list_display = (
        "name",
        "state_shown",
        "progress",
        "jobs_shown",
        "organization_shown",
        "age",
        "took",
    )
    list_filter = ("state", "created_at")
    search_fields = ("name", "organization_id")
    search_help_text = _("A part of the name or of the organization")
    actions = ("retry_batches", "cancel_batches")
    change_form_template = "admin/wellos_jobs/batch/change_form.html"
    fields = ("name",)

    class Media:
        css = {"all": ["wellos_jobs/boards.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Batch]:
        return organization_scope.visible(
            request, super().get_queryset(request).select_related("on_complete", "on_success")
        )

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[BatchChangeList]:
        return BatchChangeList

    # --- one batch --------------------------------------------------------------------------------

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        return super().change_view(
            request, object_id, form_url, self._page(request, object_id) | (extra_context or {})
        )

    def _page(self, request: HttpRequest, object_id: str) -> dict[str, Any]:
        batch = self.get_object(request, object_id)
        if batch is None:
            return {}  # Django goes on to say that there is none
        tally = groups.batch_tallies(JobRecord.objects.all(), [batch])[batch.pk]
        rate, left = groups.speed(tally, batch.created_at, batch.finished_at or timezone.now())
        jobs_url = self._jobs_url()
        may_act = not _with_hidden_jobs(request, Batch.objects.filter(pk=batch.pk)).exists()
        failed = JobRecord.objects.filter(batch=batch.pk, state=JobState.FAILED).order_by(
            "-finished_at"
        )
        return {
            "batch": batch,
            "tally": tally,
            "states": [
                (state, number, self._jobs_link(jobs_url, batch, state))
                for state, number in tally.in_order()
            ],
            "all_jobs": self._jobs_link(jobs_url, batch),
            "rate": rate * 60,
            "left": left.total_seconds()
            if left is not None and batch.state != BatchState.DONE
            else None,
            "took": self.took(batch),
            "organization": display.organizations([batch.organization_id]).get(
                batch.organization_id, display.NOTHING
            ),
            "callbacks": [
                (name, job, display.link(self.admin_site, "jobrecord", job.pk, job.name))
                for name, job in (
                    ("on_complete", batch.on_complete),
                    ("on_success", batch.on_success),
                )
                if job is not None
            ],
            "failures": [
                (
                    display.link(self.admin_site, "jobrecord", job.pk, job.name),
                    job,
                    display.shortened(job.error, 200),
                )
                for job in failed[:FAILURES]
            ],
            "audit_entries": list(
                AuditEntry.objects.filter(target_type="batch", target_id=str(batch.pk))
            ),
            "may_retry": may_act
            and self.has_action_permission(request, "retry_batches")
            and tally.failed > 0,
            "may_cancel": may_act
            and self.has_action_permission(request, "cancel_batches")
            and batch.state != BatchState.DONE,
            "refusal": "" if may_act else _hidden_jobs_text(1) % 1,
        }

    def _jobs_url(self) -> str:
        try:
            return reverse(
                "admin:wellos_jobs_jobrecord_changelist", current_app=self.admin_site.name
            )
        except NoReverseMatch:
            return ""

    def _jobs_link(self, url: str, batch: Batch, state: str = "") -> str:
        chosen = {"batch__exact": str(batch.pk)} | ({"state__exact": str(state)} if state else {})
        return f"{url}?{urlencode(chosen)}" if url else ""

    # --- actions ----------------------------------------------------------------------------------

    retry_batches = BulkAction(
        VERBS["retry_batch"],
        operations.retry_batches,
        _("Retry the failed jobs of selected batches"),
        _("Retry"),
        lambda batches: [_failed(batches)],
        lambda n: ngettext("%d batch runs again", "%d batches run again", n) % n,
        out_of_scope=_with_hidden_jobs,
        out_of_scope_text=_hidden_jobs_text,
    )
    cancel_batches = BulkAction(
        VERBS["cancel_batch"],
        operations.cancel_batches,
        _("Cancel selected batches"),
        _("Cancel these batches"),
        lambda batches: effects(
            batches,
            "state",
            (
                [BatchState.OPEN, BatchState.CLOSED],
                lambda n: ngettext(
                    "%d batch is closed, and its jobs that have not ended are canceled",
                    "%d batches are closed, and their jobs that have not ended are canceled",
                    n,
                ),
            ),
            unchanged=lambda state: (
                lambda n: ngettext("%d batch is done already", "%d batches are done already", n)
            ),
        ),
        lambda n: ngettext("%d batch canceled", "%d batches canceled", n) % n,
        out_of_scope=_with_hidden_jobs,
        out_of_scope_text=_hidden_jobs_text,
    )

    # --- columns ----------------------------------------------------------------------------------

    @admin.display(description=_("state"), ordering="state")
    def state_shown(self, batch: Batch) -> SafeString:
        return state_badge(batch)

    @admin.display(description=_("progress"))
    def progress(self, batch: Any) -> SafeString | str:
        return display.bar(batch.tally.percent) if batch.tally.total else display.NOTHING

    @admin.display(description=_("jobs"))
    def jobs_shown(self, batch: Any) -> SafeString | str:
        return counts_shown(batch.tally)

    @admin.display(description=_("organization"), ordering="organization_id")
    def organization_shown(self, batch: Batch) -> SafeString | str:
        return getattr(batch, "organization_shown", batch.organization_id or display.NOTHING)

    @admin.display(description=_("age"), ordering="created_at")
    def age(self, batch: Batch) -> str:
        return display.away(timezone.now(), batch.created_at)

    @admin.display(description=_("took"))
    def took(self, batch: Batch) -> str:
        return display.between(batch.created_at, batch.finished_at)


def state_badge(batch: Batch) -> SafeString:
    """Show the state of a batch; one that is open is no fault, as an open dead letter is."""
    colour = {BatchState.OPEN: "waiting", BatchState.CLOSED: "active", BatchState.DONE: "completed"}
    return display.badge(colour[BatchState(batch.state)], BatchState(batch.state).label)


def counts_shown(tally: Tally) -> SafeString | str:
    """Show the jobs of a group: how many there are, and those in each state."""
    parts: Iterable[tuple[str, int, object]] = (
        (state, number, state.label) for state, number in tally.in_order()
    )
    badges = format_html_join(" ", '<span class="wj-badge wj-{}">{} {}</span>', parts)
    return (
        format_html('<span class="wj-counts">{} {}</span>', tally.total, badges)
        if tally.total
        else display.NOTHING
    )


def _failed(batches: QuerySet[Batch]) -> Effect:
    n = JobRecord.objects.filter(batch__in=batches.order_by(), state=JobState.FAILED).count()
    text = ngettext(
        "%d failed job runs again, and what ended only because it had failed",
        "%d failed jobs run again, and what ended only because they had failed",
        n,
    )
    return Effect(n, text)
