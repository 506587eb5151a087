"""The queue page of the admin and its JSON."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.translation import gettext as _

from .. import status
from . import display
from .base import ReadOnlyAdmin

SUMMED = ("waiting", "active", "completed", "failed", "delayed", "blocked", "total")


class QueuesAdmin(ReadOnlyAdmin):
    """How full each queue is. The model has no table: all pages are our own."""

    def get_urls(self) -> list[URLPattern]:
        page = self.admin_site.admin_view(self.queues_view)
        stats = self.admin_site.admin_view(self.stats_view)
        return [
            path("", page, name="wellos_jobs_queues"),
            path("stats/", stats, name="wellos_jobs_queues_stats"),
            path("", page, name="wellos_jobs_queues_changelist"),  # the name by which the app index links here
        ]

    def queues_view(self, request: HttpRequest) -> HttpResponse:
        self._check(request)
        metrics = status.all_queue_metrics()
        request.current_app = self.admin_site.name
        context = {
            **self.admin_site.each_context(request),
            "title": _("Queues"),
            "opts": self.model._meta,
            "media": self.media,
            "queues": [{**queue, "oldest": display.duration(queue["oldest_wait"])} for queue in metrics],
            "sums": {name: sum(queue[name] or 0 for queue in metrics) for name in SUMMED},
            "problems": sorted({queue["problem"] for queue in metrics if "problem" in queue}),
        }
        return TemplateResponse(request, "admin/wellos_jobs/queues.html", context)

    def stats_view(self, request: HttpRequest) -> HttpResponse:
        self._check(request)
        return JsonResponse(status.all_queue_metrics(), safe=False)

    def _check(self, request: HttpRequest) -> None:
        if not self.has_view_permission(request):
            raise PermissionDenied

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("wellos_jobs.view_queues")


__all__ = ["QueuesAdmin", "admin"]
