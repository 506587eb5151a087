"""Base classes for read-only change lists: windowed search, capped counts, organizations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from ... import conf
from ...definitions import ids, registry
from . import display, organization_scope, search_window
from .bulk_actions import BulkActionsMixin
from .page import Text
from .paginator import CappedPaginator

if TYPE_CHECKING:  # only the stubs are generic
    _ModelAdmin = admin.ModelAdmin[Any]
else:
    _ModelAdmin = admin.ModelAdmin


class ReadOnlyAdmin(BulkActionsMixin, _ModelAdmin):
    """A change list and detail pages without editing; actions have their own permissions."""

    change_list_template = "admin/wellos_jobs/change_list.html"
    change_form_template = "admin/wellos_jobs/change_form.html"
    show_full_result_count = False
    list_per_page = 50
    paginator = CappedPaginator
    show_facets = admin.ShowFacets.NEVER  # facet counts read the whole table

    class Media:
        css = {"all": ["wellos_jobs/admin.css", "wellos_jobs/lists.css"]}

    organization_path: ClassVar[str] = "organization_id"
    """Lookup of a row's organization; with '', users limited to organizations see no rows."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the rows the user may see: the base of all lists, searches, actions and pages."""
        rows = super().get_queryset(request)
        if self.organization_path:
            return organization_scope.visible(request, rows, self.organization_path)
        return rows if organization_scope.sees_everything(request) else rows.none()

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return OrganizationChangeList


class WindowedSearch:
    """Search for words in the newest rows only; a job id is found in rows of any age."""

    search_order: ClassVar[str] = "created_at"
    """The indexed column that orders rows by age."""

    search_narrowing: ClassVar[Text] = _("Add filters or dates to search older rows.")
    """The hint shown with a limited search."""

    def exact_match(self, rows: QuerySet[Any], term: str) -> QuerySet[Any] | None:
        """Return the rows with an id if the term is one, else None."""
        job_id = ids.parse_id(term)
        return None if job_id is None else rows.filter(job_id=job_id)

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        term = search_term.strip()
        exact = self.exact_match(queryset, term) if term else None
        if exact is not None:
            return exact, False
        if term:
            queryset = search_window.limited_to_window(request, queryset, self.search_order)
        return super().get_search_results(request, queryset, search_term)  # type: ignore[misc,no-any-return]


class OrganizationChangeList(ChangeList):
    """A change list that resolves each organization on the page only once.

    It can be sorted only by the columns in ``sortable_by``, since others have no index.
    ``window`` is the range that a text search was limited to, None without a search;
    ``window_links`` are links to other ranges.
    """

    window: search_window.Window | None = None
    window_links: Mapping[str, str]

    def get_filters_params(self, params: Any = None) -> dict[str, Any]:
        found = super().get_filters_params(params)
        return {
            name: value for name, value in found.items() if name not in search_window.PARAMETERS
        }

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        rows = super().get_queryset(request, exclude_parameters)
        self.window = search_window.window_of(request)
        self.window_links = {} if self.window is None else search_window.links(request, self.window)
        return rows

    def get_ordering_field(self, field_name: Any) -> Any:
        return (
            super().get_ordering_field(field_name)
            if field_name in (self.sortable_by or ())
            else None
        )

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        jobs = [job for row in self.result_list if (job := getattr(row, "job", row)) is not None]
        shown = display.organizations(getattr(job, "organization_id", "") for job in jobs)
        for job in jobs:
            job.organization_shown = shown.get(getattr(job, "organization_id", ""), display.NOTHING)


class _JobFieldFilter(admin.SimpleListFilter):
    """Filter by a column of jobs whose choices need no query."""

    prefix = ""

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        value = self.value()
        return (
            queryset.filter(**{f"{self.prefix}{self.parameter_name}": value}) if value else queryset
        )


def queue_choices() -> list[tuple[str, str]]:
    """Return the queues as choices of a filter or form field."""
    return [(name, name) for name in conf.queues()]


class QueueFilter(_JobFieldFilter):
    title = _("queue")
    parameter_name = "queue"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return queue_choices()


class NameFilter(_JobFieldFilter):
    title = _("name")
    parameter_name = "name"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(job.name, job.name) for job in registry.all_jobs()]


class QueueOfJobFilter(QueueFilter):
    prefix = "job__"


class NameOfJobFilter(NameFilter):
    prefix = "job__"
