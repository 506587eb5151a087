"""The list of jobs: search, actions and columns."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from ... import operations
from ...models import JobRecord
from ...operations.verbs import VERBS
from ...states import JobState, Priority
from ..ui import display, search_window
from ..ui.bulk_actions import BulkAction, Sentence, effects
from ..ui.read_only import NameFilter, ReadOnlyAdmin
from ..ui.saved_views import SavedViews
from . import search
from .actions import NOT_STARTED, PriorityForm, QueueForm
from .filters import (
    CountedQueueFilter,
    ErrorFilter,
    JobChangeList,
    JobFieldFilter,
    PriorityFilter,
    StateFilter,
)
from .page import JobPages


class JobRecordAdmin(SavedViews, JobPages, ReadOnlyAdmin):
    """List of all jobs."""

    list_display = (
        "name",
        "state_and_progress",
        "attempts_shown",
        "wait",
        "run",
        "queue_and_priority",
        "organization_shown",
        "requester",
        "created",
    )
    list_filter = (
        JobFieldFilter,
        StateFilter,
        CountedQueueFilter,
        PriorityFilter,
        ErrorFilter,
        "created_at",
        NameFilter,
    )
    sortable_by = ("created",)
    further_lookups = frozenset({"schedule__exact", "flow_id__exact", "batch__exact"})
    search_fields = ("name",)
    search_help_text = _(
        "Id or its beginning, or part of the name, organization, requester or error. "
        "Prefixes, which can be combined: id: name: queue: org: state: error: by: "
        'data.customer.name:"Ann Lee" data.invoice_id:42 '
        "(encrypted values cannot be searched)"
    )
    actions = ("retry_jobs", "cancel_jobs", "promote_jobs", "change_priority", "move_jobs")

    def get_queryset(self, request: HttpRequest) -> QuerySet[JobRecord]:
        # Not select_related: users may be in another database.
        return super().get_queryset(request).prefetch_related("requested_by")

    # --- search and actions -----------------------------------------------------------------------

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[JobRecord], search_term: str
    ) -> tuple[QuerySet[JobRecord], bool]:
        # Messages fail silently, since bulk operations search without a session.
        try:
            found = search.search(
                queryset,
                search_term,
                may_see_data=request.user.has_perm("wellos_jobs.view_payload"),
                among=lambda rows, narrow: search_window.limited_to_window(
                    request, rows, "created_at", narrow
                ),
            )
        except search.SearchError as error:
            messages.warning(request, str(error), fail_silently=True)
            return queryset.none(), False

        if names := search.encrypted_names(search_term):
            text = gettext("Some jobs encrypt %(names)s, and encrypted values cannot be searched")
            messages.info(request, text % {"names": ", ".join(names)}, fail_silently=True)
        return found, False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[JobChangeList]:
        return JobChangeList

    retry_jobs = BulkAction(
        VERBS["retry"],
        operations.retry_many,
        _("Retry selected jobs"),
        _("Retry"),
        lambda jobs: effects(
            jobs,
            "state",
            (
                [JobState.FAILED],
                lambda n: ngettext(
                    "%d failed job is retried with new attempts; its dead letter is closed",
                    "%d failed jobs are retried with new attempts; their dead letters are closed",
                    n,
                ),
            ),
            ([JobState.DELAYED], _run_now),
            unchanged=_unchanged,
        ),
        lambda n: ngettext("%d job retried", "%d jobs retried", n) % n,
    )
    cancel_jobs = BulkAction(
        VERBS["cancel"],
        operations.cancel_many,
        _("Cancel selected jobs"),
        _("Cancel these jobs"),
        lambda jobs: effects(
            jobs,
            "state",
            (
                NOT_STARTED,
                lambda n: ngettext(
                    "%d job that has not started is canceled",
                    "%d jobs that have not started are canceled",
                    n,
                ),
            ),
            (
                [JobState.ACTIVE],
                lambda n: ngettext(
                    "%d running job is stopped",
                    "%d running jobs are stopped",
                    n,
                ),
            ),
            unchanged=_unchanged,
        ),
        lambda n: ngettext("%d job canceled", "%d jobs canceled", n) % n,
    )

    promote_jobs = BulkAction(
        VERBS["promote"],
        operations.promote_many,
        _("Run selected delayed jobs now"),
        _("Run now"),
        lambda jobs: effects(jobs, "state", ([JobState.DELAYED], _run_now), unchanged=_unchanged),
        lambda n: ngettext("%d job enqueued to run now", "%d jobs enqueued to run now", n) % n,
    )
    change_priority = BulkAction(
        VERBS["change_priority"],
        operations.change_priority_many,
        _("Change the priority of selected jobs"),
        _("Change priority"),
        lambda jobs: effects(
            jobs,
            "state",
            (
                NOT_STARTED,
                lambda n: ngettext(
                    "%d job is queued last among the jobs of its new priority",
                    "%d jobs are queued last among the jobs of their new priority",
                    n,
                ),
            ),
            unchanged=_unchanged,
        ),
        lambda n: ngettext("%d priority changed", "%d priorities changed", n) % n,
        PriorityForm,
    )
    move_jobs = BulkAction(
        VERBS["move"],
        operations.move_many,
        _("Move selected jobs to another queue"),
        _("Move"),
        lambda jobs: effects(
            jobs,
            "state",
            (
                NOT_STARTED,
                lambda n: ngettext(
                    "%d job is moved, last among the jobs of its priority",
                    "%d jobs are moved, last among the jobs of their priority",
                    n,
                ),
            ),
            unchanged=_unchanged,
        ),
        lambda n: ngettext("%d job moved", "%d jobs moved", n) % n,
        QueueForm,
    )

    # --- columns ----------------------------------------------------------------------------------

    @admin.display(description=_("state"), ordering="state")
    def state_and_progress(self, job: JobRecord) -> SafeString:
        shown = self.state_shown(job)
        if job.state != JobState.ACTIVE:
            return shown
        return format_html("{}<br>{}", shown, self.progress_shown(job))

    @admin.display(description=_("queue"), ordering="queue")
    def queue_and_priority(self, job: JobRecord) -> SafeString | str:
        if job.priority == Priority.NORMAL:
            return job.queue
        return format_html(
            '{}<br><span class="wj-quiet">{}</span>', job.queue, job.get_priority_display()
        )

    @admin.display(description=_("state"), ordering="state")
    def state_shown(self, job: JobRecord) -> SafeString:
        return display.badge(job.state, JobState(job.state).label)

    @admin.display(description=_("progress"), ordering="progress")
    def progress_shown(self, job: JobRecord) -> SafeString | str:
        if not job.progress and job.state != JobState.ACTIVE:
            return display.NOTHING
        return display.bar(job.progress, job.progress_message)

    @admin.display(description=_("attempts"), ordering="attempts")
    def attempts_shown(self, job: JobRecord) -> str:
        return f"{job.attempts}/{job.max_attempts}"

    @admin.display(description=_("organization"), ordering="organization_id")
    def organization_shown(self, job: JobRecord) -> SafeString | str:
        return getattr(job, "organization_shown", job.organization_id or display.NOTHING)

    @admin.display(description=_("requested by"))
    def requester(self, job: JobRecord) -> str:
        return str(job.requested_by or display.NOTHING)

    @admin.display(description=_("created"), ordering="created_at")
    def created(self, job: JobRecord) -> str:
        return display.short_moment(job.created_at)

    @admin.display(description=_("wait"))
    def wait(self, job: JobRecord) -> str:
        return display.wait_time(job)

    @admin.display(description=_("run"))
    def run(self, job: JobRecord) -> str:
        return display.run_time(job)


def _run_now(n: int) -> str:
    return ngettext("%d delayed job is run now", "%d delayed jobs are run now", n)


def _unchanged(state: str) -> Sentence:
    label = JobState(state).label
    return lambda n: (
        ngettext("%%d %s job is left unchanged", "%%d %s jobs are left unchanged", n) % label
    )
