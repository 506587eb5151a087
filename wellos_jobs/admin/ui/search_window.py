"""Limit text searches to the newest 50,000 matching rows, and say so on the page.

A word can be anywhere in a text, so no index helps and every row must be read. The limit keeps
searches fast on tables of any size; users reach older rows step by step, or by adding filters.

A query parameter pins the start of the window, so that a bulk operation takes the rows the user
has seen, whatever was added since.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from django.contrib.admin.options import IncorrectLookupParameters
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest, QueryDict
from django.utils import timezone
from django.utils.translation import gettext as _

from . import display

MAX_ROWS = 50_000
"""Maximum number of rows to search for words."""
SMALL_RESULT = 20_000
"""If indexed filters leave no more rows than this, all of them are searched."""
SINCE, UNTIL = "looked_since", "looked_until"
"""Query parameters: the first position of the window, and the position it ends before."""
PARAMETERS = frozenset({SINCE, UNTIL})
EVERYWHERE = "any"
"""The value for "no bound"."""

Row = TypeVar("Row", bound=Model)
Position = datetime | int
_WINDOW_ATTRIBUTE = "_wellos_jobs_window"
_NARROWING_ATTRIBUTE = "_wellos_jobs_narrowed"


@dataclass(frozen=True)
class Window:
    """The searched rows: from ``since`` up to, but not including, ``until``. None is no bound.

    ``newest`` is where the newest rows begin; the counts of the other filter choices use it.
    """

    since: Position | None
    until: Position | None
    newest: Position | None

    @property
    def is_everything(self) -> bool:
        """Whether all rows were searched."""
        return self.since is None and self.until is None

    def __str__(self) -> str:
        """Describe the window in a sentence."""
        values = {"n": f"{MAX_ROWS:,}", "since": _shown(self.since), "until": _shown(self.until)}
        if self.until is None:
            return _("Only the newest %(n)s rows were searched, back to %(since)s.") % values
        if self.since is None:
            return _("Only rows before %(until)s were searched.") % values
        return _("Only %(n)s rows were searched, from %(until)s back to %(since)s.") % values


def set_narrowing(request: HttpRequest, conditions: Q) -> None:
    """Remember the conditions of indexed filters that are applied after the search."""
    setattr(request, _NARROWING_ATTRIBUTE, conditions)


def limited_to_window(
    request: HttpRequest, rows: QuerySet[Row], column: str, conditions: Q | None = None
) -> QuerySet[Row]:
    """Limit ``rows`` to the newest by ``column``, or to the window in the query string.

    ``conditions`` are further indexed conditions: if they leave few rows, all are searched. One
    query to find the position, one more with such conditions.

    Raises:
        IncorrectLookupParameters: the query string has an invalid position.
    """
    narrowing = (conditions or Q()) & getattr(request, _NARROWING_ATTRIBUTE, Q())
    until = _given(request, column, UNTIL)
    if until not in {None, EVERYWHERE}:
        rows = rows.filter(**{f"{column}__lt": until})

    since = newest = _given(request, column, SINCE)
    if since is None:
        since = newest = _last_of_newest(rows, column)
        if (
            narrowing
            and rows.filter(narrowing).order_by()[: SMALL_RESULT + 1].count() <= SMALL_RESULT
        ):
            since = None

    window = Window(_bound(since), _bound(until), _bound(newest))
    setattr(request, _WINDOW_ATTRIBUTE, window)
    return rows if window.since is None else rows.filter(**{f"{column}__gte": window.since})


def _last_of_newest(rows: QuerySet[Any], column: str) -> Position | None:
    """Return the position of the last of the newest rows; None if there are no older ones."""
    two: list[Position] = list(
        rows.order_by(f"-{column}").values_list(column, flat=True)[MAX_ROWS - 1 : MAX_ROWS + 1]
    )
    return two[0] if len(two) == 2 else None


def search_everywhere(request: HttpRequest) -> None:
    """Search all rows in this request, whatever its query string says; for exports."""
    query = _without(request.GET)
    query[SINCE] = EVERYWHERE
    request.GET = query  # type: ignore[assignment]  # the stubs expect an immutable one


def window_of(request: HttpRequest) -> Window | None:
    """Return the window that this request searched; None without a text search."""
    window: Window | None = getattr(request, _WINDOW_ATTRIBUTE, None)
    return window


def pinned_query(request: HttpRequest) -> str:
    """Return the query string that finds the same rows later, whatever was added since."""
    window = window_of(request)
    if window is None:
        return str(request.META.get("QUERY_STRING", ""))
    query = _without(request.GET)
    query[SINCE] = EVERYWHERE if window.since is None else _written(window.since)
    if window.until is not None:
        query[UNTIL] = _written(window.until)
    return query.urlencode()


def links(request: HttpRequest, window: Window) -> Mapping[str, str]:
    """Return query strings for the rows ``before`` the window and the ``newest``, '' for none."""
    before, newest = _without(request.GET), _without(request.GET)
    if window.since is not None:
        before[UNTIL] = _written(window.since)
    return {
        "before": f"?{before.urlencode()}" if window.since is not None else "",
        "newest": f"?{newest.urlencode()}" if window.until is not None else "",
    }


def _without(query: QueryDict) -> QueryDict:
    """Return a copy without the window and the page number within it."""
    copy = query.copy()
    for name in (SINCE, UNTIL, "p"):
        copy.pop(name, None)
    return copy


def _given(request: HttpRequest, column: str, name: str) -> Any:
    """Return a position from the query string, None if it is missing."""
    text = request.GET.get(name, "")
    if text in {"", EVERYWHERE}:
        return text or None
    try:
        position = int(text) if column == "pk" else datetime.fromisoformat(text)
    except ValueError as error:
        raise IncorrectLookupParameters(f"{name}={text}") from error
    if isinstance(position, datetime) and (
        timezone.is_naive(position) or position.year in {1, 9999}
    ):
        raise IncorrectLookupParameters(f"{name}={text}")
    return position


def _bound(position: Any) -> Position | None:
    return None if position == EVERYWHERE else position


def _written(position: Position) -> str:
    return str(position) if isinstance(position, int) else position.isoformat()


def _shown(position: Position | None) -> str:
    if position is None:
        return ""
    return (
        f"#{position}"
        if isinstance(position, int)
        else display.to_the_second(timezone.localtime(position))
    )
