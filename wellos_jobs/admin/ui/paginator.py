"""Paginator for large tables: counts up to 10,000 rows and shows more as "10,000+"."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.paginator import EmptyPage, Page, Paginator
from django.utils.functional import cached_property

from ... import conf

if TYPE_CHECKING:  # only the stubs are generic
    _Paginator = Paginator[Any]
else:
    _Paginator = Paginator

MAX_COUNT = 10_000
"""Rows are counted up to this number."""
MAX_PAGE = 10_000_000
"""No database takes an offset of any size."""


class Capped(int):
    """A count up to ``MAX_COUNT``; a greater one means "more".

    With ``USE_THOUSAND_SEPARATOR`` the page shows 10,001, since Django formats the number itself.
    """

    def __str__(self) -> str:
        is_text = self > MAX_COUNT and not conf.django_setting("USE_THOUSAND_SEPARATOR")
        return f"{MAX_COUNT:,}+" if is_text else int.__repr__(self)


class CappedPaginator(_Paginator):
    """Counts up to ``MAX_COUNT`` rows. Pages beyond have no links, but their URLs work."""

    @cached_property
    def count(self) -> Capped:
        rows: Any = self.object_list
        return Capped(rows.order_by()[: MAX_COUNT + 1].count())

    def validate_number(self, number: Any) -> int:
        if isinstance(number, int) and number > MAX_PAGE:
            raise EmptyPage(f"Page {number} contains no results")
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
