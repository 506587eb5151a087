"""The audit log: read-only list with search and filters."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import URLPattern
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from ...definitions import ids
from ...models import AuditEntry
from ...states import AuditAction
from ..ui import display
from ..ui.field_filter import Field, FieldFilter
from ..ui.hidden_data import may_see_data, without_data
from ..ui.read_only import ReadOnlyAdmin, WindowedSearch
from .erasure import ErasurePage
from .export import AuditExport

ACTIONS: dict[str, Any] = dict(AuditAction.choices)
TARGETS = {
    "job": _("job"),
    "dead_letter": _("dead letter"),
    "fault": _("fault"),
    "schedule": _("schedule"),
    "batch": _("batch"),
    "flow": _("flow"),
    "queue": _("queue"),
    "limit": _("limit"),
    "breaker": _("circuit breaker"),
    "worker": _("worker"),
    "supervisor": _("supervisor"),
    "bulk": _("bulk operation"),
    "person": _("person"),
    "installation": _("installation"),
}
_MODELS = {
    "job": "jobrecord",
    "dead_letter": "deadletter",
    "schedule": "schedule",
    "batch": "batch",
}


class ActionFilter(admin.SimpleListFilter):
    """Filter by action, without a DISTINCT query on a large table."""

    title = _("action")
    parameter_name = "action"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return list(ACTIONS.items())

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.filter(action=self.value()) if self.value() else queryset


class ActorFilter(admin.SimpleListFilter):
    """Filter by whether a user or the system did it."""

    title = _("actor")
    parameter_name = "by"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("people", _("users")), ("none", _("system"))]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        match self.value():
            case "people":
                return queryset.exclude(actor_name="")
            case "none":
                return queryset.filter(actor_name="")
        return queryset


class TargetFilter(admin.SimpleListFilter):
    """Filter by the type of the target."""

    title = _("target type")
    parameter_name = "target_type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return list(TARGETS.items())

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.filter(target_type=self.value()) if self.value() else queryset


class ActorAndTimeFilter(FieldFilter):
    """Filter by user name and date range."""

    title = _("name and time")
    fields = (
        Field("actor", _("Actor"), "actor_name__icontains"),
        Field("from", _("From"), "at__gte", "date"),
        Field("to", _("Until"), "at__lte", "date"),
    )


class AuditEntryAdmin(AuditExport, WindowedSearch, ReadOnlyAdmin):
    """List of audit entries: time, action, target, actor, reason and address."""

    organization_path = ""
    list_display = ("when", "action_shown", "target", "actor_name", "reason_shown", "address")
    list_filter = (ActorAndTimeFilter, ActorFilter, TargetFilter, ActionFilter, "at")
    change_list_template = "admin/wellos_jobs/auditentry/change_list.html"
    sortable_by = ("when",)
    search_fields = ("target_id__exact", "actor_name", "reason")
    search_help_text = _("Id of a job or dead letter, user name, or part of the reason")
    search_order = "at"
    fields = ("at", "action_shown", "target", "actor_name", "address", "reason", "detail_shown")
    readonly_fields = fields

    def get_urls(self) -> list[URLPattern]:
        return [ErasurePage.pattern(self), *super().get_urls()]

    def exact_match(self, rows: QuerySet[Any], term: str) -> QuerySet[Any] | None:
        job_id = ids.parse_id(term)
        if job_id is None and not term.isdecimal():
            return None

        # The index on targets begins with the type.
        return rows.filter(target_type__in=list(TARGETS), target_id=str(job_id or term))

    def get_object(self, request: HttpRequest, *args: Any, **options: Any) -> AuditEntry | None:
        entry: AuditEntry | None = super().get_object(request, *args, **options)
        if entry is None or may_see_data(request):
            return entry
        return without_data(entry)

    @admin.display(description=_("at"), ordering="at")
    def when(self, entry: AuditEntry) -> str:
        return display.short_moment(entry.at)

    @admin.display(description=_("action"), ordering="action")
    def action_shown(self, entry: AuditEntry) -> SafeString:
        return display.badge(entry.action, entry.action_label)

    @admin.display(description=_("target"))
    def target(self, entry: AuditEntry) -> SafeString | str:
        return target_link(self.admin_site, entry)

    @admin.display(description=_("reason"))
    def reason_shown(self, entry: AuditEntry) -> str:
        changed = ", ".join(entry.detail.get("changes", {}))
        return display.shortened(entry.reason or str(entry.detail.get("error", "")) or changed)

    @admin.display(description=_("detail"))
    def detail_shown(self, entry: AuditEntry) -> SafeString:
        return display.as_json(entry.detail)


def target_link(site: admin.AdminSite, entry: AuditEntry) -> SafeString | str:
    """Return the target of an entry, with its type and name, linked to its page."""
    kind = TARGETS.get(entry.target_type, entry.target_type)
    label = f"{kind} {entry.detail.get('name') or entry.target_id}"
    model = _MODELS.get(entry.target_type)
    return display.link(site, model, entry.target_id, label) if model else label
