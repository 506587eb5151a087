"""Change list filter with a form of text and date fields."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils import timezone
from django.utils.dateparse import parse_date
from django.utils.translation import gettext_lazy as _

from .page import Text


@dataclass(frozen=True)
class Field:
    """One field of the form: query parameter, label and lookup."""

    name: str
    label: Text
    lookup: str
    kind: str = "text"
    """``text`` or ``date``, a day in the current time zone; ``__lte`` includes the whole day."""

    def condition(self, text: str) -> dict[str, Any]:
        """Return the lookup and its value.

        Raises:
            IncorrectLookupParameters: the text is not a date.
        """
        if self.kind == "text":
            return {self.lookup: text}
        try:
            day = parse_date(text)
        except ValueError as error:
            raise IncorrectLookupParameters(str(error)) from error
        if day is None or day.year in {1, 9999}:
            raise IncorrectLookupParameters(f"{text!r} is not a date")
        column, _sign, bound = self.lookup.rpartition("__")
        if bound == "lte":
            return {f"{column}__lt": _start_of(day + timedelta(days=1))}
        return {self.lookup: _start_of(day)}


class FieldFilter(admin.ListFilter):
    """The filter; subclasses set ``fields``."""

    field_path = ""
    """Not one model field; django-unfold reads this attribute of every filter."""
    title = _("details")
    template = "admin/wellos_jobs/field_filter.html"
    fields: ClassVar[tuple[Field, ...]]

    def __init__(
        self, request: HttpRequest, params: dict[str, Any], model: Any, model_admin: Any
    ) -> None:
        super().__init__(request, params, model, model_admin)
        for field in self.fields:
            if field.name in params and (text := params.pop(field.name)[-1].strip()):
                self.used_parameters[field.name] = text

    def has_output(self) -> bool:
        return True

    def expected_parameters(self) -> list[str | None]:
        return [field.name for field in self.fields]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        for field in self.fields:
            if (text := self.used_parameters.get(field.name)) is not None:
                try:
                    queryset = queryset.filter(**field.condition(str(text)))
                except (ValidationError, ValueError) as error:  # such as text for a UUID
                    raise IncorrectLookupParameters(str(error)) from error
        return queryset

    def choices(self, changelist: Any) -> Iterator[dict[str, Any]]:
        """Yield the context of the form, once."""
        mine = self.expected_parameters()
        yield {
            "fields": [(field, self.used_parameters.get(field.name, "")) for field in self.fields],
            "kept": [
                (name, value) for name, value in changelist.params.items() if name not in mine
            ],
            "query_string": changelist.get_query_string(remove=mine),
            "selected": bool(self.used_parameters),
        }


def _start_of(day: Any) -> datetime:
    return timezone.make_aware(datetime.combine(day, time.min))
