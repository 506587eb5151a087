"""The list of unsuccessful attempts."""

from __future__ import annotations

from django.contrib import admin
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from ...models import JobAttempt
from ..ui import display, long_text
from ..ui.read_only import NameOfJobFilter, QueueOfJobFilter, ReadOnlyAdmin, WindowedSearch


class JobAttemptAdmin(WindowedSearch, ReadOnlyAdmin):
    """Searchable list of all unsuccessful attempts."""

    organization_path = "job__organization_id"
    list_display = ("attempt", "outcome_shown", "error", "took", "started", "worker")
    list_filter = ("outcome", "ended_at", QueueOfJobFilter, NameOfJobFilter)
    list_select_related = ("job",)
    search_fields = ("error_class", "message", "worker")
    search_help_text = _("Job id, or part of the error or worker name")
    search_order = "pk"
    ordering = ("-pk",)
    fields = (
        "job_link",
        "number",
        "replay",
        "outcome_shown",
        "started_at",
        "ended_at",
        "took",
        "worker",
        "error_class",
        "message_shown",
        "trace",
    )
    readonly_fields = fields

    @admin.display(description=_("outcome"), ordering="outcome")
    def outcome_shown(self, attempt: JobAttempt) -> SafeString:
        return display.badge(attempt.outcome, attempt.get_outcome_display())

    @admin.display(description=_("error"))
    def error(self, attempt: JobAttempt) -> str:
        return display.shortened(
            f"{attempt.error_class}: {attempt.message}".removeprefix(": "), 160
        )

    @admin.display(description=_("started"), ordering="started_at")
    def started(self, attempt: JobAttempt) -> str:
        return display.short_moment(attempt.started_at)

    @admin.display(description=_("took"))
    def took(self, attempt: JobAttempt) -> str:
        return display.between(attempt.started_at, attempt.ended_at)

    @admin.display(description=_("attempt"), ordering="job__name")
    def attempt(self, attempt: JobAttempt) -> str:
        return f"{attempt.job.name} #{attempt.number}"

    @admin.display(description=_("job"))
    def job_link(self, attempt: JobAttempt) -> SafeString | str:
        return display.link(self.admin_site, "jobrecord", attempt.job_id, attempt.job)

    @admin.display(description=_("message"))
    def message_shown(self, attempt: JobAttempt) -> SafeString | str:
        return display.block(attempt.message)

    @admin.display(description=_("traceback"))
    def trace(self, attempt: JobAttempt) -> SafeString | str:
        shown = display.block(attempt.traceback)
        if len(attempt.traceback) <= long_text.SHORT:
            return shown
        name = "admin:wellos_jobs_job_traceback"
        try:
            url = reverse(name, args=[attempt.job_id, attempt.pk], current_app=self.admin_site.name)
        except NoReverseMatch:  # jobs are not registered on this site
            return shown

        link = _("Full traceback as text")
        return format_html('{}<p><a href="{}">{}</a></p>', shown, url, link)
