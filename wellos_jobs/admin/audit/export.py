"""Export the filtered audit log as CSV, streamed."""

from __future__ import annotations

import json
from typing import Any

from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied
from django.http import (
    HttpRequest,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
    StreamingHttpResponse,
)
from django.http.response import HttpResponseBase
from django.urls import URLPattern, path, reverse
from django.utils import timezone

from ...models import AuditEntry
from ...monitoring import csv_export
from ..ui import search_window
from ..ui.hidden_data import may_see_data, without_data

CHUNK = 2_000
"""Rows held in memory at a time."""
HEADINGS = ("at", "action", "actor", "address", "kind", "target", "reason", "detail")


class AuditExport:
    """Mixin for the audit log admin: its export view."""

    def get_urls(self) -> list[URLPattern]:
        below: Any = super()
        view = self.admin_site.admin_view(self.export_view)  # type: ignore[attr-defined]
        return [path("export/", view, name="wellos_jobs_auditentry_export"), *below.get_urls()]

    def has_export_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("wellos_jobs.export_auditentry")

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> Any:
        below: Any = super()
        context = {"may_export": self.has_export_permission(request), **(extra_context or {})}
        return below.changelist_view(request, context)

    def export_view(self, request: HttpRequest) -> HttpResponseBase:
        """Return the entries that match the query string, newest first."""
        site_admin: Any = self
        if not self.has_export_permission(request) or not site_admin.has_view_permission(request):
            raise PermissionDenied
        if request.method not in {"GET", "HEAD"}:
            return HttpResponseNotAllowed(["GET", "HEAD"])

        search_window.search_everywhere(request)
        try:
            entries = site_admin.get_changelist_instance(request).get_queryset(request)
        except IncorrectLookupParameters:
            url = reverse(
                "admin:wellos_jobs_auditentry_changelist", current_app=site_admin.admin_site.name
            )
            return HttpResponseRedirect(f"{url}?e=1")

        name = f"audit-{timezone.localtime():%Y-%m-%d-%H%M}.csv"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        found = entries.iterator(chunk_size=CHUNK)
        shown = found if may_see_data(request) else map(without_data, found)
        lines = csv_export.lines(HEADINGS, map(_row, shown))
        return StreamingHttpResponse(lines, content_type="text/csv; charset=utf-8", headers=headers)


def _row(entry: AuditEntry) -> tuple[str, ...]:
    return (
        timezone.localtime(entry.at).isoformat(),
        entry.action,
        entry.actor_name,
        entry.address,
        entry.target_type,
        entry.target_id,
        entry.reason,
        json.dumps(entry.detail, ensure_ascii=False) if entry.detail else "",
    )
