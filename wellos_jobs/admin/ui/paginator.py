"""Lists of big tables: rows are counted up to 10,000, then shown as "10,000+", and pages go on behind that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.paginator import EmptyPage, Page, Paginator
from django.utils.functional import cached_property

from ... import conf

if TYPE_CHECKING:  # the stubs know type arguments, Django's classes take none
    _Paginator = Paginator[Any]
else:
    _Paginator = Paginator

MAX_COUNT = 10_000
"""How far rows are counted."""


class Capped(int):
    """A number that was counted up to ``MAX_COUNT``; any above it means: more.

    With ``USE_THOUSAND_SEPARATOR`` it is 10,001 on the page: Django sets separators into any text
    of a number.
    """

    def __str__(self) -> str:
        is_text = self > MAX_COUNT and not conf.django_setting("USE_THOUSAND_SEPARATOR")
        return f"{MAX_COUNT:,}+" if is_text else int.__repr__(self)


class CappedPaginator(_Paginator):
    """Counts no further than ``MAX_COUNT``. Pages behind that have no link of their own, but their addresses work."""

    @cached_property
    def count(self) -> Capped:
        rows: Any = self.object_list
        return Capped(rows.order_by()[: MAX_COUNT + 1].count())

    def validate_number(self, number: Any) -> int:
        if self.count > MAX_COUNT and isinstance(number, int) and number > self.num_pages:
            return number
        return super().validate_number(number)

    def page(self, number: Any) -> Page[Any]:
        if self.count <= MAX_COUNT:
            return super().page(number)
        number = self.validate_number(number)
        start = (number - 1) * self.per_page
        rows = self.object_list[start : start + self.per_page]
        if not rows:
            raise EmptyPage(f"Page {number} contains no results")
        return Page(rows, number, self)
