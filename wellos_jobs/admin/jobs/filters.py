"""The filters of the list of jobs, with the number of jobs per choice, counted in one query."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db.models import Count, Q
from django.http import HttpRequest
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _

from ...models.job import PRIORITIES
from ...states import JobState
from ..ui import paginator, search_window
from ..ui.field_filter import Field, FieldFilter
from ..ui.read_only import OrganizationChangeList, queue_choices

MAX_COUNTED_CHOICES = 60
"""Filters with more choices show no counts, since each choice adds cost per row."""

_PRIORITIES = frozenset(str(value) for value, _title in PRIORITIES)

SLACK = timedelta(hours=1)
"""How far the clock of the creating host may be ahead of the clock of the worker."""


class CountedFilter(admin.SimpleListFilter):
    """A filter whose choices show counts; ``JobChangeList`` applies it after the search."""

    is_indexed = False
    """Whether the filtered column has an index."""

    def condition(self, value: str) -> Q:
        """Return the condition for a choice."""
        return Q(**{str(self.parameter_name): value})

    @property
    def selected(self) -> Q:
        """The condition of the current choice."""
        value = self.value()
        return Q() if value is None else self.condition(value)

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset  # applied by the change list, which needs the unfiltered rows for counts

    def choices(self, changelist: Any) -> Iterator[Any]:
        shown = changelist.counts.get(self.parameter_name, {})
        values = [None, *(value for value, _title in self.lookup_choices)]
        for value, choice in zip(values, super().choices(changelist), strict=True):
            if value in shown:
                choice = {**choice, "display": f"{choice['display']} ({shown[value]})"}
            yield choice


class StateFilter(CountedFilter):
    title = _("state")
    is_indexed = True
    parameter_name = "state__exact"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(state.value, state.label) for state in JobState]


class CountedQueueFilter(CountedFilter):
    title = _("queue")
    is_indexed = True
    parameter_name = "queue"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return queue_choices()


class PriorityFilter(CountedFilter):
    title = _("priority")
    parameter_name = "priority__exact"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(str(value), title) for value, title in PRIORITIES]

    def condition(self, value: str) -> Q:
        return Q(priority=int(value)) if value in _PRIORITIES else Q(pk__in=())


class ErrorFilter(CountedFilter):
    title = _("error")
    parameter_name = "failing"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("yes", _("has an error")), ("no", _("has none"))]

    def condition(self, value: str) -> Q:
        return Q(error="") if value == "no" else ~Q(error="")


@dataclass(frozen=True)
class FinishedUntil(Field):
    """Finished until a day; also filters by the indexed creation time, with ``SLACK``."""

    def condition(self, text: str) -> dict[str, Any]:
        found = super().condition(text)
        return found | {"created_at__lt": found["finished_at__lt"] + SLACK}


class JobFieldFilter(FieldFilter):
    title = _("details")
    fields = (
        Field("organization", _("Organization"), "organization_id"),
        Field("batch", _("Batch id"), "batch_id"),
        Field("schedule", _("Schedule name"), "schedule__name"),
        Field("created_from", _("Created from"), "created_at__gte", "date"),
        Field("created_to", _("Created until"), "created_at__lte", "date"),
        Field("finished_from", _("Finished from"), "finished_at__gte", "date"),
        FinishedUntil("finished_to", _("Finished until"), "finished_at__lte", "date"),
    )


class JobChangeList(OrganizationChangeList):
    """The list of jobs. The counts of a filter are of the newest rows that match the others."""

    def get_filters(self, request: HttpRequest) -> Any:
        found = super().get_filters(request)
        selected = Q()
        for spec in found[0]:
            if isinstance(spec, CountedFilter) and spec.is_indexed:
                selected &= spec.selected
        search_window.set_narrowing(request, selected)
        return found

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> Any:
        self._uncounted = super().get_queryset(request, exclude_parameters)
        rows = self._uncounted
        for counted in self._counted():
            rows = rows.filter(counted.selected)
        return rows

    @cached_property
    def counts(self) -> Mapping[str, Mapping[str, str]]:
        """The number of jobs by parameter and choice; a "+" means at least this many."""
        wanted = self._wanted_counts()
        names = {f"count_{number}": key for number, key in enumerate(wanted)}
        aggregates = dict(zip(names, wanted.values(), strict=True))

        rows = self._uncounted
        since = self.window.newest if self.window else None
        if since is not None:  # other choices match other rows, maybe too many to search
            rows = rows.filter(created_at__gte=since)
        newest = rows.order_by("-created_at")[: paginator.MAX_COUNT + 1]
        found = newest.aggregate(total=Count("pk"), **aggregates)

        plus = "+" if since is not None or found["total"] > paginator.MAX_COUNT else ""
        shown: dict[str, dict[str, str]] = {}
        for name, (parameter, value) in names.items():
            count = min(found[name], paginator.MAX_COUNT)
            shown.setdefault(parameter, {})[value] = f"{count:,}{plus}"
        return shown

    def _wanted_counts(self) -> dict[tuple[str, str], Count]:
        """Return an aggregate for each parameter and choice."""
        wanted = {}
        for counted in self._counted():
            if len(counted.lookup_choices) > MAX_COUNTED_CHOICES:
                continue

            others = Q()
            for other in self._counted():
                if other is not counted:
                    others &= other.selected

            for value, _title in counted.lookup_choices:
                condition = counted.condition(value) & others
                wanted[str(counted.parameter_name), value] = Count("pk", filter=condition)
        return wanted

    def _counted(self) -> list[CountedFilter]:
        return [spec for spec in self.filter_specs if isinstance(spec, CountedFilter)]
