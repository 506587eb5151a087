"""What the admin pages of this app share: they show rows, and never add, change or delete one."""

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

if TYPE_CHECKING:  # the stubs know type arguments, Django's classes take none
    _ModelAdmin = admin.ModelAdmin[Any]
else:
    _ModelAdmin = admin.ModelAdmin


class ReadOnlyAdmin(BulkActionsMixin, _ModelAdmin):
    """A list and a page for each row, to look at. What changes a row is an action with its own permission."""

    change_list_template = "admin/wellos_jobs/change_list.html"
    change_form_template = "admin/wellos_jobs/change_form.html"
    show_full_result_count = False
    list_per_page = 50
    paginator = CappedPaginator
    show_facets = admin.ShowFacets.NEVER  # counting each filter reads the whole table

    class Media:
        css = {"all": ["wellos_jobs/admin.css", "wellos_jobs/lists.css"]}

    organization_path: ClassVar[str] = "organization_id"
    """Leads from a row to its organization. With '' rows have none, and people of some organizations see none."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the rows this person may see: lists, counts, searches, actions and single pages all begin here."""
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
    """A search that looks for words in the newest rows only. An id of a job is taken as it is, in rows of any age."""

    search_order: ClassVar[str] = "created_at"
    """The column by which rows are newer: one with an index."""

    search_narrowing: ClassVar[Text] = _("With filters or dates it reaches further back.")
    """What the page says to those who look for something older."""

    def exact_match(self, rows: QuerySet[Any], term: str) -> QuerySet[Any] | None:
        """Return the rows that a term means if it is an id; None if it is words."""
        chosen = ids.parse_id(term)
        return None if chosen is None else rows.filter(job_id=chosen)

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
    """A change list that resolves each organization on the page once, not once a row.

    It is sorted by the columns of ``sortable_by`` only, whatever the address asks: others have no
    index. ``window`` says where a search has looked for words, None if it looked for none, and
    ``window_links`` leads to others.
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
    """A filter over a column of jobs whose values are known without asking the database."""

    prefix = ""

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        value = self.value()
        return (
            queryset.filter(**{f"{self.prefix}{self.parameter_name}": value}) if value else queryset
        )


class QueueFilter(_JobFieldFilter):
    title = _("queue")
    parameter_name = "queue"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in conf.queues()]


class NameFilter(_JobFieldFilter):
    title = _("name")
    parameter_name = "name"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(job.name, job.name) for job in registry.all_jobs()]


class QueueOfJobFilter(QueueFilter):
    prefix = "job__"


class NameOfJobFilter(NameFilter):
    prefix = "job__"
