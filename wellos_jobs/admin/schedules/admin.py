"""Admin of all schedules, and of organization reports, which have a form of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlencode
from zoneinfo import available_timezones

from django.contrib import admin
from django.contrib.admin.utils import flatten
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import NoReverseMatch, URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_safe

from ... import operations, payload
from ...definitions import ids
from ...models import AuditEntry, JobRecord, OrganizationReportSchedule, Schedule
from ...permissions import address_of
from ...states import JobState
from ..ui import display, organization_scope
from ..ui.hidden_data import may_see_data, without_data
from ..ui.safe_list import clean_query
from .actions import ScheduleActions
from .clock_panel import clock_panel
from .forms import ZONES_LIST, OrganizationReportForm, ScheduleForm, limited_to_organizations
from .list import (
    CatchUpFilter,
    ConditionFilter,
    OrganizationFilter,
    ScheduleChangeList,
    ScheduleColumns,
    SourceFilter,
    has_reports,
    moment,
)
from .preview import preview, preview_of_query, rendered

if TYPE_CHECKING:  # the stubs know type arguments, Django's classes take none
    _ModelAdmin = admin.ModelAdmin[Any]
else:
    _ModelAdmin = admin.ModelAdmin

HISTORY = 20
"""Number of jobs and audit entries shown on the page of a schedule."""

WHEN = (_("When"), {"fields": ("cron", "time_zone", "starts_at", "ends_at", "preview_shown")})
LATE = (_("Missed and overlapping runs"), {"fields": ("catch_up", "catch_up_limit", "overlap")})
WHY = (_("Audit"), {"fields": ("reason",)})
FACTS = ("condition", ("next_run", "last_run", "missed_shown"), "declaration")
"""Read-only fields above the form."""


class BaseScheduleAdmin(ScheduleActions, ScheduleColumns, _ModelAdmin):
    """Shared by both admins of schedules."""

    list_per_page = 50
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_select_related = ("last_job",)
    actions = ("enable_schedules", "disable_schedules", "run_schedules", "delete_selected")
    change_list_template = "admin/wellos_jobs/schedule/change_list.html"
    change_form_template = "admin/wellos_jobs/schedule/change_form.html"
    add_readonly: ClassVar[tuple[str, ...]] = ("preview_shown",)

    class Media:
        css = {"all": ["wellos_jobs/admin.css"]}
        js = ["wellos_jobs/schedule_preview.js"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return organization_scope.visible(request, super().get_queryset(request))

    # --- pages ------------------------------------------------------------------------------------

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return ScheduleChangeList

    def get_urls(self) -> list[URLPattern]:
        name = f"wellos_jobs_{self.opts.model_name}_preview"
        page = self.admin_site.admin_view(require_safe(self.preview_view))
        return [path("preview/", page, name=name), *super().get_urls()]

    def preview_view(self, request: HttpRequest) -> HttpResponse:
        """Return the next runs for the current input of the form, as an HTML fragment."""
        if not (self.has_view_or_change_permission(request) or self.has_add_permission(request)):
            raise PermissionDenied
        clean_query(request)
        return HttpResponse(rendered(preview_of_query(request.GET)))

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        shows_clock = request.method == "GET" and organization_scope.sees_everything(request)
        context = {"clock": clock_panel() if shows_clock else None, "has_reports": has_reports()}
        return super().changelist_view(request, context | (extra_context or {}))

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        context = {
            "zones": sorted(available_timezones()),
            "zones_id": ZONES_LIST,
            **(extra_context or {}),
        }

        if object_id is not None and (pk := _pk_of(object_id)) is not None:
            context |= {
                "history": self._history(request, pk),
                "history_url": self._history_url(object_id),
                "audit_entries": self._audit_of(request, object_id),
                "may_run": self.has_action_permission(request, "run_schedules"),
                "may_switch": self.has_change_permission(request),
            }

        return super().changeform_view(request, object_id, form_url, context)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.add_readonly if obj is None else (*self.add_readonly, *flatten(FACTS))

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        """Return the form, limited to the organizations the user may see."""
        form: Any = super().get_form(request, obj, change, **kwargs)
        if request.user.is_superuser:
            form.shortest_interval = 0

        return (
            form
            if organization_scope.sees_everything(request)
            else limited_to_organizations(form, request)
        )

    def reason_fieldset(self, request: HttpRequest, obj: Any) -> list[Any]:
        """Return the fieldset with the reason, if the user may submit the form."""
        if obj is None:
            may_submit = self.has_add_permission(request)
        else:
            may_submit = self.has_change_permission(request, obj)
        return [WHY] if may_submit else []

    @admin.display(description=_("next runs"))
    def preview_shown(self, row: Schedule) -> SafeString:
        url = reverse(
            f"admin:wellos_jobs_{self.opts.model_name}_preview", current_app=self.admin_site.name
        )
        query = urlencode(
            {name: getattr(row, name) for name in ("cron", "time_zone", "organization_id")}
        )
        return format_html(
            '<div class="wj-preview" aria-live="polite" data-preview-url="{}?{}">{}</div>',
            url,
            query,
            rendered(preview(row)),
        )

    def _history(self, request: HttpRequest, pk: int) -> list[dict[str, Any]]:
        row = self.get_queryset(request).filter(pk=pk).first()
        if row is None:
            return []

        jobs = organization_scope.visible(request, JobRecord.objects.filter(schedule=pk))
        jobs = jobs.order_by("-created_at").prefetch_related("requested_by")
        return [self._history_line(row, job) for job in jobs[:HISTORY]]

    def _history_line(self, row: Schedule, job: JobRecord) -> dict[str, Any]:
        due = ids.moment_of(job.pk)
        by_hand = bool(job.context.get("run_now"))

        return {
            "due": display.link(
                self.admin_site, "jobrecord", job.pk, moment(row, due) if due else job.pk
            ),
            "by_hand": by_hand,
            "requester": job.requested_by if by_hand else None,
            "state": display.badge(job.state, JobState(job.state).label),
            "attempts": f"{job.attempts}/{job.max_attempts}",
            "wait": display.wait_time(job),
            "run": display.run_time(job),
            "error": display.shortened(job.error),
        }

    def _audit_of(self, request: HttpRequest, pk: str) -> list[AuditEntry]:
        """Return the audit entries of a schedule, newest first."""
        rows = AuditEntry.objects.filter(target_type="schedule", target_id=pk)
        entries = list(rows.order_by("-at", "-pk")[:HISTORY])
        return entries if may_see_data(request) else [without_data(entry) for entry in entries]

    def _history_url(self, pk: str) -> str:
        try:
            url = reverse(
                "admin:wellos_jobs_jobrecord_changelist", current_app=self.admin_site.name
            )
        except NoReverseMatch:
            return ""
        return f"{url}?{urlencode({'schedule__exact': pk})}"

    # --- storing ----------------------------------------------------------------------------------

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        reason = form.cleaned_data.get("reason", "")
        operations.save_schedule(obj, by=request.user, reason=reason, address=address_of(request))


class ScheduleAdmin(BaseScheduleAdmin):
    """All schedules."""

    form = ScheduleForm
    list_display = (
        "name_shown",
        "when",
        "next_run",
        "last_run",
        "last_runs",
        "state_shown",
        "organization_shown",
    )
    list_filter = ("enabled", SourceFilter, OrganizationFilter, CatchUpFilter, ConditionFilter)
    search_fields = ("name", "job_name", "organization_id", "cron", "time_zone")
    search_help_text = _("Part of the name, job, organization, cron expression or time zone")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        data = "data_shown" if self._is_data_fixed(request, obj) else "data"
        shown = (data,) if obj is None or may_see_data(request) else ()
        what = ("job_name", *shown, "organization_id", "enabled")
        first = (None, {"fields": ("name", *what) if obj is None else (*FACTS, *what)})
        return [first, WHEN, LATE, *self.reason_fieldset(request, obj)]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Make the name read-only, since job ids derive from it, and what the code declares.

        Users who may not see the data may not give it to another job either.
        """
        fields = super().get_readonly_fields(request, obj)
        if obj is None:
            return fields
        is_job_fixed = bool(obj.source) or not may_see_data(request)
        return (*fields, "name", "data_shown", *(["job_name"] if is_job_fixed else []))

    def _is_data_fixed(self, request: HttpRequest, obj: Any) -> bool:
        return obj is not None and (
            bool(obj.source) or not self.has_change_permission(request, obj)
        )

    @admin.display(description=_("data"))
    def data_shown(self, row: Schedule) -> SafeString | str:
        return display.as_json(payload.mask(row.data)) if row.data else display.NOTHING


class OrganizationReportScheduleAdmin(BaseScheduleAdmin):
    """Schedules of organization reports, with the options of the report instead of raw data."""

    form = OrganizationReportForm
    list_display = (
        "organization_named",
        "report_shown",
        "when",
        "next_run",
        "last_run",
        "last_runs",
        "state_shown",
        "recipients_shown",
    )
    list_filter = ("enabled", OrganizationFilter, CatchUpFilter, ConditionFilter)
    search_fields = ("organization_id", "cron", "time_zone")
    search_help_text = _("Part of the organization, cron expression or time zone")

    # Without a job for such reports, there is nothing to show or change.

    def has_module_permission(self, request: HttpRequest) -> bool:
        return has_reports() and super().has_module_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return has_reports() and super().has_view_permission(request, obj)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return has_reports() and super().has_add_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return has_reports() and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return has_reports() and super().has_delete_permission(request, obj)

    def get_list_display(self, request: HttpRequest) -> Any:
        columns = super().get_list_display(request)
        hidden = () if may_see_data(request) else ("recipients_shown",)
        return [column for column in columns if column not in hidden]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        shown = ("recipients",) if obj is None or may_see_data(request) else ()
        what = ("organization_id", "report_type", "format", *shown, "enabled")
        first = (None, {"fields": what if obj is None else (*FACTS, *what)})
        return [first, WHEN, LATE, *self.reason_fieldset(request, obj)]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        fields = super().get_readonly_fields(request, obj)
        return fields if obj is None else (*fields, "organization_id")

    @admin.display(description=_("organization"), ordering="organization_id")
    def organization_named(self, row: OrganizationReportSchedule) -> str:
        """Return the name without a link, since the column links to the schedule."""
        return str(getattr(row, "organization_name", row.organization_id))

    @admin.display(description=_("report"))
    def report_shown(self, row: OrganizationReportSchedule) -> SafeString:
        return format_html(
            '{}<br><span class="wj-quiet">{}</span>',
            row.report_type or gettext("default"),
            row.format.upper(),
        )

    @admin.display(description=_("recipients"))
    def recipients_shown(self, row: OrganizationReportSchedule) -> str:
        return display.shortened(", ".join(map(str, row.recipients)) or display.NOTHING, 60)


def _pk_of(object_id: str) -> int | None:
    """Return the primary key that a URL names; None if it is not one."""
    text = str(object_id)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
