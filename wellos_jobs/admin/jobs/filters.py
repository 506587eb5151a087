"""The filters beside the list of jobs, with how many jobs each choice leaves: one query for all of them."""

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

from ... import conf
from ...models.job import PRIORITIES
from ...states import JobState
from ..ui import paginator, search_window
from ..ui.field_filter import Field, FieldFilter
from ..ui.read_only import OrganizationChangeList

MAX_COUNTED_CHOICES = 60
"""A filter with more choices shows no counts: each of them costs, for every row that is looked at."""


SLACK = timedelta(hours=1)
"""By how much the clock that says when a job was created may be ahead of the one that says when it finished."""


class CountedFilter(admin.SimpleListFilter):
    """A filter whose choices say how many jobs they leave. ``JobChangeList`` applies it, after the search."""

    is_indexed = False
    """Whether an index finds what it chooses."""

    def condition(self, value: str) -> Q:
        """Return what a job has to be like."""
        return Q(**{str(self.parameter_name): value})

    @property
    def chosen(self) -> Q:
        """What the choice asks for."""
        value = self.value()
        return Q() if value is None else self.condition(value)

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset  # the list does it, after it has taken what the counts are made from

    def choices(self, changelist: Any) -> Iterator[Any]:
        shown = changelist.counts.get(self.parameter_name, {})
        values = [None, *(value for value, _title in self.lookup_choices)]
        for value, choice in zip(values, super().choices(changelist), strict=True):
            yield (
                {**choice, "display": f"{choice['display']} ({shown[value]})"}
                if value in shown
                else choice
            )


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
        return [(name, name) for name in conf.queues()]


class PriorityFilter(CountedFilter):
    title = _("priority")
    parameter_name = "priority__exact"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(str(value), title) for value, title in PRIORITIES]

    def condition(self, value: str) -> Q:
        return Q(priority=int(value)) if value.isdecimal() else Q(pk__in=())


class ErrorFilter(CountedFilter):
    title = _("error")
    parameter_name = "failing"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("yes", _("has an error")), ("no", _("has none"))]

    def condition(self, value: str) -> Q:
        return Q(error="") if value == "no" else ~Q(error="")


@dataclass(frozen=True)
class FinishedUntil(Field):
    """Jobs that finished until a day. They were created before, by which an index finds them: ``SLACK`` for clocks."""

    def condition(self, text: str) -> dict[str, Any]:
        found = super().condition(text)
        return found | {"created_at__lt": found["finished_at__lt"] + SLACK}


class JobFieldFilter(FieldFilter):
    title = _("details")
    fields = (
        Field("organization", _("Organization"), "organization_id"),
        Field("batch", _("Batch (its id)"), "batch_id"),
        Field("schedule", _("Schedule (its name)"), "schedule__name"),
        Field("created_from", _("Created from"), "created_at__gte", "date"),
        Field("created_to", _("Created until"), "created_at__lte", "date"),
        Field("finished_from", _("Finished from"), "finished_at__gte", "date"),
        FinishedUntil("finished_to", _("Finished until"), "finished_at__lte", "date"),
    )


class JobChangeList(OrganizationChangeList):
    """The list of jobs. What its counts are made from is the newest rows that the other filters leave."""

    def get_filters(self, request: HttpRequest) -> Any:
        found = super().get_filters(request)
        chosen = Q()
        for spec in found[0]:
            if isinstance(spec, CountedFilter) and spec.is_indexed:
                chosen &= spec.chosen
        search_window.set_narrowing(request, chosen)
        return found

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> Any:
        self._uncounted = super().get_queryset(request, exclude_parameters)
        rows = self._uncounted
        for counted in self._counted():
            rows = rows.filter(counted.chosen)
        return rows

    @cached_property
    def counts(self) -> Mapping[str, Mapping[str, str]]:
        """By parameter and choice, how many jobs: at least so many if it ends with a plus."""
        wanted = {}
        for counted in self._counted():
            others = Q()
            for other in self._counted():
                others &= other.chosen if other is not counted else Q()
            if len(counted.lookup_choices) <= MAX_COUNTED_CHOICES:
                for value, _title in counted.lookup_choices:
                    wanted[counted.parameter_name, value] = Count(
                        "pk", filter=counted.condition(value) & others
                    )
        names = {f"count_{number}": key for number, key in enumerate(wanted)}
        rows, begins = self._uncounted, self.window.newest if self.window else None
        if (
            begins is not None
        ):  # other choices leave other rows: all of them may be far too many to look for words in
            rows = rows.filter(created_at__gte=begins)
        newest = rows.order_by("-created_at")[: paginator.MAX_COUNT + 1]
        found = newest.aggregate(
            total=Count("pk"), **dict(zip(names, wanted.values(), strict=True))
        )
        shown: dict[str, dict[str, str]] = {}
        plus = "+" if begins is not None or found["total"] > paginator.MAX_COUNT else ""
        for name, (parameter, value) in names.items():
            shown.setdefault(str(parameter), {})[value] = (
                f"{min(found[name], paginator.MAX_COUNT):,}{plus}"
            )
        return shown

    def _counted(self) -> list[CountedFilter]:
        return [spec for spec in self.filter_specs if isinstance(spec, CountedFilter)]
