"""Where a search looks for words: in the newest 50,000 rows that the rest of the search leaves, and the page says so.

Words may stand anywhere in a text, so no index finds them and each row is read. Looking at so many
rows and no more, a page is as quick on a table of any size. Whoever looks for something older goes
back step by step or narrows the search.

A moment in the address fixes where a search begins. So what a person was asked about is what a bulk
operation takes, whatever has come since.
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
"""In how many rows words are looked for."""
SMALL_RESULT = 20_000
"""If what an index finds is no more than this, words are looked for in all of it, however old."""
SINCE, UNTIL = "looked_since", "looked_until"
"""Parts of an address: from which place on, and before which, words are looked for."""
PARAMETERS = frozenset({SINCE, UNTIL})
EVERYWHERE = "any"
"""A place that stands for no bound."""

Row = TypeVar("Row", bound=Model)
Place = datetime | int
_KEPT = "_wellos_jobs_window"
_NARROWED = "_wellos_jobs_narrowed"


@dataclass(frozen=True)
class Window:
    """The rows in which words were looked for: not before ``since``, and before ``until``. None is no bound.

    ``newest`` is where the newest rows begin among which others are counted, those that the filters
    leave out.
    """

    since: Place | None
    until: Place | None
    newest: Place | None

    @property
    def is_everything(self) -> bool:
        """Whether no row was left out."""
        return self.since is None and self.until is None

    def __str__(self) -> str:
        """Say in words where the search looked."""
        told = {"n": f"{MAX_ROWS:,}", "since": _shown(self.since), "until": _shown(self.until)}
        if self.until is None:
            return (
                _("Words were looked for in the newest %(n)s rows only, back to %(since)s.") % told
            )
        if self.since is None:
            return (
                _("Words were looked for in the rows before %(until)s, back to the oldest.") % told
            )
        return (
            _("Words were looked for in %(n)s rows only, from %(until)s back to %(since)s.") % told
        )


def set_narrowing(request: HttpRequest, conditions: Q) -> None:
    """Remember what filters ask for that are applied after the search, and that an index finds."""
    setattr(request, _NARROWED, conditions)


def limited_to_window(
    request: HttpRequest, rows: QuerySet[Row], column: str, conditions: Q | None = None
) -> QuerySet[Row]:
    """Leave of ``rows`` those in which words are looked for: the newest by ``column``, or those that the address says.

    ``conditions`` is what else an index finds: if it leaves few rows, these are all looked at,
    however old. One query to find the place, one more if there are such conditions.

    Raises:
        IncorrectLookupParameters: the address names no place.
    """
    narrow = (conditions or Q()) & getattr(request, _NARROWED, Q())
    until = _given(request, column, UNTIL)
    if until not in {None, EVERYWHERE}:
        rows = rows.filter(**{f"{column}__lt": until})
    since = newest = _given(request, column, SINCE)
    if since is None:
        since = newest = _last_of_newest(rows, column)
        if narrow and rows.filter(narrow).order_by()[: SMALL_RESULT + 1].count() <= SMALL_RESULT:
            since = None
    window = Window(_bound(since), _bound(until), _bound(newest))
    setattr(request, _KEPT, window)
    return rows if window.since is None else rows.filter(**{f"{column}__gte": window.since})


def _last_of_newest(rows: QuerySet[Any], column: str) -> Place | None:
    """Return where the newest rows end; None if there are no others."""
    two: list[Place] = list(
        rows.order_by(f"-{column}").values_list(column, flat=True)[MAX_ROWS - 1 : MAX_ROWS + 1]
    )
    return two[0] if len(two) == 2 else None


def search_everywhere(request: HttpRequest) -> None:
    """Let this request look for words in all rows, whatever its address says, as for a file that takes its time."""
    query = _without(request.GET)
    query[SINCE] = EVERYWHERE
    request.GET = query  # type: ignore[assignment]  # the stubs take the immutable kind only


def window_of(request: HttpRequest) -> Window | None:
    """Return where this request has looked for words; None if it looked for none."""
    window: Window | None = getattr(request, _KEPT, None)
    return window


def pinned_query(request: HttpRequest) -> str:
    """Return the query string of a request by which the same rows are found later, whatever has come since."""
    window = window_of(request)
    if window is None:
        return str(request.META.get("QUERY_STRING", ""))
    query = _without(request.GET)
    query[SINCE] = EVERYWHERE if window.since is None else _written(window.since)
    if window.until is not None:
        query[UNTIL] = _written(window.until)
    return query.urlencode()


def links(request: HttpRequest, window: Window) -> Mapping[str, str]:
    """Return the addresses, as query strings, of the rows ``before`` these and of the ``newest``; '' where none is."""
    before, newest = _without(request.GET), _without(request.GET)
    if window.since is not None:
        before[UNTIL] = _written(window.since)
    return {
        "before": f"?{before.urlencode()}" if window.since is not None else "",
        "newest": f"?{newest.urlencode()}" if window.until is not None else "",
    }


def _without(query: QueryDict) -> QueryDict:
    """Return a copy without the places and the page number, which counts from them."""
    copy = query.copy()
    for name in (SINCE, UNTIL, "p"):
        copy.pop(name, None)
    return copy


def _given(request: HttpRequest, column: str, name: str) -> Any:
    """Return the place that the address names, None if it names none."""
    text = request.GET.get(name, "")
    if text in {"", EVERYWHERE}:
        return text or None
    try:
        place = int(text) if column == "pk" else datetime.fromisoformat(text)
    except ValueError as error:
        raise IncorrectLookupParameters(f"{name}={text}") from error
    if isinstance(place, datetime) and timezone.is_naive(place):
        raise IncorrectLookupParameters(f"{name}={text}")
    return place


def _bound(place: Any) -> Place | None:
    return None if place == EVERYWHERE else place


def _written(place: Place) -> str:
    return str(place) if isinstance(place, int) else place.isoformat()


def _shown(place: Place | None) -> str:
    if place is None:
        return ""
    return (
        f"#{place}" if isinstance(place, int) else display.to_the_second(timezone.localtime(place))
    )
