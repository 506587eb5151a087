"""The list of schedules: columns, filters, and what is computed once per page."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from ... import cron
from ...definitions import registry
from ...errors import CronError
from ...models import JobRecord, Schedule
from ...models.report_data import REPORT_PREFIX
from ...monitoring import schedule_runs
from ...schedules import REPORT_JOB
from ...states import CatchUp, JobState
from ..ui import charts, display, organization_scope
from .preview import zone_of

OVERDUE = timedelta(seconds=60)
"""A run this late means that no scheduler is processing the schedule."""
MAX_ORGANIZATIONS = 50
"""How many organizations the filter offers; others can be searched for."""

NONE = "-"
"""Query value for schedules without an organization."""

SOURCES = {"code": _("code"), "settings": _("settings"), "": _("by hand")}


class ScheduleChangeList(ChangeList):
    """Resolve each organization on the page only once, and link reports to their own form."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        found = display.resolved(row.organization_id for row in self.result_list)
        visible = organization_scope.visible(request, JobRecord.objects.all())
        runs = schedule_runs.last_runs(visible, self.result_list)

        for row in self.result_list:
            row.past_runs = runs.get(row.pk)
            known = found.get(row.organization_id, {})
            row.organization_shown = (
                display.organization(row.organization_id, known) or display.NOTHING
            )
            row.organization_name = str(known.get("label") or row.organization_id)
            row.zone_shown = zone_of(row, known)[0]

    def url_for_result(self, result: Any) -> str:
        if result.name.startswith(REPORT_PREFIX) and self.model is Schedule and has_reports():
            name = "admin:wellos_jobs_organizationreportschedule_change"
            try:
                return reverse(name, args=[result.pk], current_app=self.model_admin.admin_site.name)
            except NoReverseMatch:
                pass  # this site has no admin of organization reports
        return str(super().url_for_result(result))


def has_reports() -> bool:
    """Return whether a job for organization reports is registered, by contrib or the project."""
    return registry.find(REPORT_JOB) is not None


# --- filters --------------------------------------------------------------------------------------


class SourceFilter(admin.SimpleListFilter):
    title = _("declared in")
    parameter_name = "source"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(source or "hand", label) for source, label in SOURCES.items()]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        value = self.value()
        return queryset.filter(source="" if value == "hand" else value) if value else queryset


class ConditionFilter(admin.SimpleListFilter):
    title = _("condition")
    parameter_name = "condition"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [
            ("broken", _("broken")),
            ("overdue", _("overdue")),
            ("missed", _("has missed runs")),
        ]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        match self.value():
            case "broken":
                return queryset.exclude(broken="")
            case "overdue":
                return queryset.filter(
                    broken="", enabled=True, next_run_at__lt=timezone.now() - OVERDUE
                )
            case "missed":
                return queryset.filter(missed__gt=0)
        return queryset


class CatchUpFilter(admin.SimpleListFilter):
    title = _("missed runs")
    parameter_name = "catch_up"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(str(choice.value), choice.label) for choice in CatchUp]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.filter(catch_up=self.value()) if self.value() else queryset


class OrganizationFilter(admin.SimpleListFilter):
    title = _("organization")
    parameter_name = "organization"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        rows = organization_scope.visible(request, Schedule.objects.exclude(organization_id=""))
        rows = rows.order_by("organization_id")
        ids = list(rows.values_list("organization_id", flat=True).distinct()[:MAX_ORGANIZATIONS])
        current = self.used_parameters.get(self.parameter_name)
        if current and current != NONE and current not in ids:
            ids.append(current)
        return [(NONE, _("none")), *((one, one) for one in ids)] if ids else []

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        value = self.value()
        if not value:
            return queryset
        return queryset.filter(organization_id="" if value == NONE else value)


# --- columns --------------------------------------------------------------------------------------


class ScheduleColumns:
    """The columns of the lists, and the read-only fields above the form."""

    admin_site: admin.AdminSite

    @admin.display(description=_("name"), ordering="name")
    def name_shown(self, row: Schedule) -> SafeString:
        return format_html('{}<br><span class="wj-quiet">{}</span>', row.name, _origin(row))

    @admin.display(description=_("when"), ordering="cron")
    def when(self, row: Schedule) -> SafeString:
        return format_html(
            '{}<br><span class="wj-quiet"><code>{}</code> {}</span>',
            words(row.cron),
            row.cron,
            _zone(row),
        )

    @admin.display(description=_("state"), ordering="enabled")
    def state_shown(self, row: Schedule) -> SafeString:
        remarks = [display.shortened(row.broken, 60)] if row.broken else []
        if row.missed:
            remarks.append(ngettext("%d run missed", "%d runs missed", row.missed) % row.missed)
        lines = format_html_join(
            "", '<br><span class="wj-quiet">{}</span>', ((remark,) for remark in remarks)
        )
        return format_html("{}{}", _state(row), lines)

    @admin.display(description=_("last run"), ordering="last_run_at")
    def last_run(self, row: Schedule) -> SafeString | str:
        if row.last_run_at is None:
            return display.NOTHING
        job = row.last_job
        outcome: SafeString | str = ""
        if job is not None:
            badge = display.badge(job.state, JobState(job.state).label)
            outcome = display.link(self.admin_site, "jobrecord", job.pk, badge)
        return _time(row, row.last_run_at, outcome)

    @admin.display(description=_("last runs"))
    def last_runs(self, row: Any) -> SafeString | str:
        runs: schedule_runs.PastRuns | None = row.past_runs
        if runs is None:
            return display.NOTHING

        text = ngettext("%(n)d run", "%(n)d runs", len(runs)) % {"n": len(runs)}
        if runs.failed:
            text = gettext("%(failed)d of %(n)d failed") % {"failed": runs.failed, "n": len(runs)}
        label = gettext("Duration of the last runs: %(runs)s") % {"runs": text}
        line = charts.sparkline(runs.seconds, label, width=70, height=22)
        return format_html('{}<br><span class="wj-quiet">{}</span>', line, text)

    @admin.display(description=_("next run"), ordering="next_run_at")
    def next_run(self, row: Schedule) -> SafeString | str:
        if row.next_run_at is None or not row.enabled:
            return display.NOTHING

        now = timezone.now()
        if not row.broken and row.next_run_at < now - OVERDUE:
            return _time(row, row.next_run_at, display.badge("overdue", gettext("overdue")))
        return _time(row, row.next_run_at, f"· {display.away(now, row.next_run_at)}")

    @admin.display(description=_("organization"), ordering="organization_id")
    def organization_shown(self, row: Schedule) -> SafeString | str:
        return getattr(row, "organization_shown", row.organization_id or display.NOTHING)

    # --- fields of the detail page ----------------------------------------------------------------

    @admin.display(description=_("state"))
    def condition(self, row: Schedule) -> SafeString | str:
        if row.broken:
            return format_html("{} {}", _state(row), display.block(row.broken))
        if row.orphaned and not row.enabled:
            why = gettext(
                "It is no longer declared and does not run. Delete it, or enable it to keep it."
            )
            return format_html("{} {}", _state(row), why)
        return _state(row)

    @admin.display(description=_("declared in"))
    def declaration(self, row: Schedule) -> SafeString | str:
        label = str(SOURCES.get(row.source, row.source))
        changed = changed_fields(row)
        if not changed:
            return label

        lines = format_html_join(
            "",
            "<li>{} <code>{}</code></li>",
            ((name, _declared_value(row, name)) for name in changed),
        )
        return format_html(
            '{}<p>{}</p><ul class="wj-changes">{}</ul>',
            label,
            gettext("Changed in the admin; the declared values do not apply:"),
            lines,
        )

    @admin.display(description=_("missed"))
    def missed_shown(self, row: Schedule) -> str:
        if not row.missed:
            return display.NOTHING
        count = ngettext("%d run", "%d runs", row.missed) % row.missed
        if row.missed_at is None:
            return count
        return gettext("%(count)s, the last at %(at)s") % {
            "count": count,
            "at": moment(row, row.missed_at),
        }


def words(expression: str) -> str:
    """Return a cron expression in words, capitalized, or a remark if it is invalid."""
    try:
        text = cron.describe(expression)
    except CronError:
        return gettext("invalid cron expression")
    return text[:1].upper() + text[1:]


def moment(row: Schedule, at: datetime) -> str:
    """Format a moment in the time zone of a schedule."""
    try:
        return display.moment_in(at.astimezone(cron.zone(_zone(row))))
    except CronError:
        return display.moment_in(timezone.localtime(at))


def _state(row: Schedule) -> SafeString:
    if row.broken:
        return display.badge("broken", gettext("broken"))
    if row.orphaned and not row.enabled:
        return display.badge("off", gettext("no longer declared"))
    return (
        display.badge("on", gettext("on")) if row.enabled else display.badge("off", gettext("off"))
    )


def _origin(row: Schedule) -> str:
    """Return where the schedule was declared, and its job unless it has the same name."""
    source = str(SOURCES.get(row.source, row.source))
    if changed_fields(row):
        source = gettext("%(source)s, changed in the admin") % {"source": source}
    return source if row.job_name == row.name else f"{row.job_name} · {source}"


def _time(row: Schedule, at: datetime, remark: SafeString | str) -> SafeString:
    """Format a moment in the time zone of a schedule on two lines, the second with a remark."""
    day, time, zone = moment(row, at).split(" ", 2)
    return format_html(
        '<span class="wj-time">{}</span> <span class="wj-time">{}</span><br>'
        '<span class="wj-quiet">{} {}</span>',
        day,
        time,
        zone,
        remark,
    )


def changed_fields(row: Schedule) -> list[str]:
    """Return the fields of a declared schedule that were changed in the admin."""
    if not row.source:
        return []
    return [
        name for name, value in row.declared.items() if _plain(getattr(row, name, value)) != value
    ]


def _zone(row: Schedule) -> str:
    return str(getattr(row, "zone_shown", "") or zone_of(row)[0])


def _plain(value: Any) -> Any:
    """Return a value as ``declared`` stores it."""
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value


def _declared_value(row: Schedule, name: str) -> str:
    """Return a declared value; not the data, which only some users may see."""
    return "…" if name == "data" else _value(row.declared[name])


def _value(value: Any) -> str:
    return display.NOTHING if value in (None, "") else str(value)
