"""Mount the pages that are not change lists, and the JSON metrics of all queues."""

from __future__ import annotations

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import URLPattern, path

from ... import status
from ..flows_and_batches.flows import FlowPage, FlowsPage
from ..ui import organization_scope
from ..ui.page import Page
from ..ui.read_only import ReadOnlyAdmin
from .limits import LimitsPage
from .overview import OverviewPage
from .statistics import StatisticsPage
from .workers import WorkersPage

PAGES: tuple[type[Page], ...] = (
    OverviewPage,
    FlowsPage,
    FlowPage,
    LimitsPage,
    WorkersPage,
    StatisticsPage,
)
"""All pages; the navigation has its own list, ``ui.page.ENTRIES``."""


class QueuesAdmin(ReadOnlyAdmin):
    """The overview and the pages below it; the model has no table."""

    def get_urls(self) -> list[URLPattern]:
        stats = self.admin_site.admin_view(self.stats_view)
        overview = self.admin_site.admin_view(OverviewPage(self).answer)
        return [
            *(page.pattern(self) for page in PAGES),
            path("stats/", stats, name="wellos_jobs_queues_stats"),
            # The URL name that the app index links to.
            path("", overview, name="wellos_jobs_queues_changelist"),
        ]

    def stats_view(self, request: HttpRequest) -> HttpResponse:
        """Return the metrics of all queues as JSON."""
        if not self.has_view_permission(request) or not organization_scope.sees_everything(request):
            raise PermissionDenied
        return JsonResponse(status.all_queue_metrics(), safe=False)

    def has_view_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return request.user.has_perm("wellos_jobs.view_queues")
