"""Batches: progress, jobs by state, callbacks and failed jobs."""

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
from ...monitoring.flows_and_batches import Tally, batch_tallies, speed
from ...operations.verbs import VERBS
from ...states import BatchState, JobState
from ..ui import display, organization_scope
from ..ui.bulk_actions import BulkAction, Effect, effects
from ..ui.read_only import OrganizationChangeList, ReadOnlyAdmin

FAILURES = 20
"""How many of the last failed jobs the page of a batch shows."""


def _with_hidden_jobs(request: HttpRequest, batches: QuerySet[Batch]) -> QuerySet[Batch]:
    """Return the batches with jobs that the user may not see, and so may not change."""
    return batches.filter(
        Exists(organization_scope.hidden(request, JobRecord.objects.filter(batch=OuterRef("pk"))))
    )


def _hidden_jobs_text(n: int) -> str:
    return ngettext(
        "%d batch has jobs that you may not see, so you cannot act on the whole batch",
        "%d batches have jobs that you may not see, so you cannot act on the whole batches",
        n,
    )


class BatchChangeList(OrganizationChangeList):
    """Count the jobs of all batches on the page in one query."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        counted = batch_tallies(JobRecord.objects.all(), self.result_list)
        for batch in self.result_list:
            batch.tally = counted[batch.pk]


class BatchAdmin(ReadOnlyAdmin):
    """List and page of batches."""

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
    search_help_text = _("Part of the name or organization")
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
            return {}  # Django responds that it does not exist

        tally = batch_tallies(JobRecord.objects.all(), [batch])[batch.pk]
        return {
            "batch": batch,
            "tally": tally,
            "took": self.took(batch),
            "organization": display.organizations([batch.organization_id]).get(
                batch.organization_id, display.NOTHING
            ),
            "callbacks": self._callbacks(batch),
            "failures": self._failures(batch),
            "audit_entries": list(
                AuditEntry.objects.filter(target_type="batch", target_id=str(batch.pk))
            ),
            **self._job_counts(batch, tally),
            **self._speed(batch, tally),
            **self._permissions(request, batch, tally),
        }

    def _job_counts(self, batch: Batch, tally: Tally) -> dict[str, Any]:
        """Return links to the jobs of a batch, in total and by state."""
        url = self._jobs_url()
        return {
            "all_jobs": self._jobs_link(url, batch),
            "states": [
                (state, number, self._jobs_link(url, batch, state))
                for state, number in tally.in_order()
            ],
        }

    def _speed(self, batch: Batch, tally: Tally) -> dict[str, Any]:
        """Return the jobs finished per minute, and the seconds left at that speed."""
        rate, left = speed(tally, batch.created_at, batch.finished_at or timezone.now())
        is_done = batch.state == BatchState.DONE
        return {
            "rate": rate * 60,
            "left": None if left is None or is_done else left.total_seconds(),
        }

    def _callbacks(self, batch: Batch) -> list[tuple[str, JobRecord, Any]]:
        found = [("on_complete", batch.on_complete), ("on_success", batch.on_success)]
        return [
            (name, job, display.link(self.admin_site, "jobrecord", job.pk, job.name))
            for name, job in found
            if job is not None
        ]

    def _failures(self, batch: Batch) -> list[tuple[Any, JobRecord, str]]:
        """Return the last failed jobs, with link and shortened error."""
        failed = JobRecord.objects.filter(batch=batch.pk, state=JobState.FAILED)
        return [
            (
                display.link(self.admin_site, "jobrecord", job.pk, job.name),
                job,
                display.shortened(job.error, 200),
            )
            for job in failed.order_by("-finished_at")[:FAILURES]
        ]

    def _permissions(self, request: HttpRequest, batch: Batch, tally: Tally) -> dict[str, Any]:
        """Return which buttons are shown, and why there may be none."""
        may_act = not _with_hidden_jobs(request, Batch.objects.filter(pk=batch.pk)).exists()
        may_retry = may_act and self.has_action_permission(request, "retry_batches")
        may_cancel = may_act and self.has_action_permission(request, "cancel_batches")
        return {
            "may_retry": may_retry and tally.failed > 0,
            "may_cancel": may_cancel and batch.state != BatchState.DONE,
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
        filters = {"batch__exact": str(batch.pk)} | ({"state__exact": str(state)} if state else {})
        return f"{url}?{urlencode(filters)}" if url else ""

    # --- actions ----------------------------------------------------------------------------------

    retry_batches = BulkAction(
        VERBS["retry_batch"],
        operations.retry_batches,
        _("Retry failed jobs of selected batches"),
        _("Retry"),
        lambda batches: [_failed(batches)],
        lambda n: ngettext("%d batch retried", "%d batches retried", n) % n,
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
                    "%d batch is closed and its unfinished jobs are canceled",
                    "%d batches are closed and their unfinished jobs are canceled",
                    n,
                ),
            ),
            unchanged=lambda state: (
                lambda n: ngettext("%d batch is already done", "%d batches are already done", n)
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
    """Return the state as a badge; unlike an open dead letter, an open batch is not red."""
    color = {BatchState.OPEN: "waiting", BatchState.CLOSED: "active", BatchState.DONE: "completed"}
    return display.badge(color[BatchState(batch.state)], BatchState(batch.state).label)


def counts_shown(tally: Tally) -> SafeString | str:
    """Return the number of jobs of a group, in total and by state."""
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
        "%d failed job is retried, and the jobs that ended only because it failed",
        "%d failed jobs are retried, and the jobs that ended only because they failed",
        n,
    )
    return Effect(n, text)
