"""Where the pages that are no list of rows have their place on an admin site, and the JSON of the queues."""

from __future__ import annotations

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import URLPattern, path

from ... import status
from ..groups.flows import FlowPage, FlowsPage
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
"""All of them; the navigation (``pages.ENTRIES``) names those that it leads to."""


class QueuesAdmin(ReadOnlyAdmin):
    """The overview and the pages below it. The model has no table."""

    def get_urls(self) -> list[URLPattern]:
        stats = self.admin_site.admin_view(self.stats_view)
        return [
            *(page.pattern(self) for page in PAGES),
            path("stats/", stats, name="wellos_jobs_queues_stats"),
            path(
                "",
                self.admin_site.admin_view(OverviewPage(self).answer),
                name="wellos_jobs_queues_changelist",
            ),
        ]  # the last is the name by which the app index links to the overview

    def stats_view(self, request: HttpRequest) -> HttpResponse:
        """Answer with the metrics of every queue as JSON."""
        if not self.has_view_permission(request) or not organization_scope.sees_everything(request):
            raise PermissionDenied
        return JsonResponse(status.all_queue_metrics(), safe=False)

    def has_view_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return request.user.has_perm("wellos_jobs.view_queues")
