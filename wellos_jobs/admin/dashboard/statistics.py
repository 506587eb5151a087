"""Throughput, failures and durations over one hour to 90 days, by queue and job name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.utils import formats, timezone
from django.utils.translation import gettext, pgettext
from django.utils.translation import gettext_lazy as _

from ... import conf
from ...definitions import registry
from ...monitoring import csv_export, trends
from ...monitoring.trends import JobLine, Percentiles, Trends
from ..ui import charts, display, organization_scope
from ..ui.charts import Chart, Series
from ..ui.page import Page, Text

LINES = 100
"""Maximum number of table rows; the CSV has all."""
WINDOWS: dict[str, Text] = {
    "1h": _("1 hour"),
    "24h": _("24 hours"),
    "7d": _("7 days"),
    "30d": _("30 days"),
    "90d": _("90 days"),
}
UNITS: dict[float, Text] = {60: _("per minute"), 3600: _("per hour"), 86400: _("per day")}
ORDERS: dict[str, tuple[Text, Callable[[JobLine], Any]]] = {
    "runs": (_("most jobs first"), lambda line: -(line.completed + line.failed)),
    "failures": (_("most failures first"), lambda line: (-(line.failure_rate or 0), -line.failed)),
    "slow": (_("slowest first"), lambda line: -_at_least(line.run)),
    "waits": (_("longest waits first"), lambda line: -_at_least(line.wait)),
}
"""Sort orders of the table."""
COLUMNS = (
    "queue",
    "name",
    "completed",
    "failed",
    *(f"{kind}_p{n}" for kind in ("wait", "run") for n in (50, 95, 99)),
)


class StatisticsPage(Page):
    """Charts, and a table of all jobs, also as CSV."""

    name = "statistics"
    path = "statistics/"
    title = _("Statistics")
    template = "admin/wellos_jobs/parts/statistics.html"
    styles = ("wellos_jobs/boards.css",)

    def answer(self, request: HttpRequest, **values: Any) -> HttpResponse:
        is_csv = request.GET.get("format") == "csv" and request.method == "GET"
        if is_csv and organization_scope.sees_everything(request):
            self.require(request, self.permission)
            return _csv(self.context(request, **values)["found"])
        return super().answer(request, **values)

    def context(self, request: HttpRequest, **values: Any) -> dict[str, Any]:
        filters = {
            "window": _one_of(request.GET.get("window", ""), WINDOWS, "24h"),
            "queue": request.GET.get("queue", "")[:100],
            "name": request.GET.get("name", "")[:180],
            "order": _one_of(request.GET.get("order", ""), ORDERS, "runs"),
        }
        found = trends.trends(filters["window"], filters["queue"], filters["name"])
        lines = sorted(found.lines, key=ORDERS[filters["order"]][1])

        return {
            "found": found,
            "filters": filters,
            "windows": [(key, text, _link(filters, window=key)) for key, text in WINDOWS.items()],
            "orders": [(key, text) for key, (text, _key) in ORDERS.items()],
            "queues": conf.queues(),
            "names": [definition.name for definition in registry.all_jobs()],
            "unit": UNITS[found.window.counts.length.total_seconds()],
            "rate": _percent(found.total),
            "charts": list(_charts(found)),
            "lines": [(line, _percent(line)) for line in lines[:LINES]],
            "more": max(0, len(lines) - LINES),
            "csv": _link(filters, format="csv"),
            "few": trends.SMALL_SAMPLE,
        }


def _one_of(text: str, known: Any, default: str) -> str:
    return text if text in known else default


def _link(filters: dict[str, str], **changes: str) -> str:
    return "?" + urlencode({key: value for key, value in {**filters, **changes}.items() if value})


def _at_least(tail: Percentiles) -> float:
    """Return the 95th percentile as a sort key; values above the last bucket sort highest."""
    return tail.p95 if tail.p95 is not None else (float("inf") if tail.runs else -1.0)


def _percent(line: JobLine | None) -> str:
    rate = line.failure_rate if line is not None else None
    return display.NOTHING if rate is None else f"{charts.number(rate * 100)} %"


def _charts(found: Trends) -> Iterator[Any]:
    seconds = found.window.counts.length.total_seconds()
    labels = [_label(at, seconds) for at in found.begins]
    finished = [
        Series(gettext("completed"), found.completed),
        Series(gettext("failed"), found.failed, 1),
    ]
    title = gettext("Jobs finished %(unit)s") % {"unit": UNITS[seconds]}
    yield charts.lines(Chart(title, labels, finished))

    shares = (
        trends.share(failed, completed + failed)
        for completed, failed in zip(found.completed, found.failed, strict=True)
    )
    rates = [None if share is None else share * 100 for share in shares]
    failed = [Series(gettext("failed"), rates, 1)]
    yield charts.lines(Chart(gettext("Failure rate"), labels, failed, unit="%"))

    seconds = found.window.times.length.total_seconds()
    labels = [_label(at, seconds) for at in found.time_begins]
    yield charts.lines(Chart(gettext("Wait"), labels, _tails(found.waits), unit="s"))
    yield charts.lines(Chart(pgettext("duration", "Run"), labels, _tails(found.runs), unit="s"))


def _tails(tails: Sequence[Percentiles]) -> list[Series]:
    return [
        Series(name, [getattr(tail, name) for tail in tails], color)
        for color, name in ((0, "p50"), (4, "p95"), (1, "p99"))
    ]


def _label(at: datetime, seconds: float) -> str:
    if seconds >= 86400:
        return at.strftime("%Y-%m-%d")  # days are in UTC
    return formats.date_format(timezone.localtime(at), "H:i" if seconds < 3600 else "m-d H:i")


def _csv(found: Trends) -> HttpResponse:
    headers = {"Content-Disposition": 'attachment; filename="statistics.csv"'}
    lines = csv_export.lines(COLUMNS, map(_cells, found.lines))
    return HttpResponse(lines, content_type="text/csv; charset=utf-8", headers=headers)


def _cells(line: JobLine) -> list[Any]:
    tails = [getattr(tail, f"p{n}") for tail in (line.wait, line.run) for n in (50, 95, 99)]
    return [line.queue, line.name, line.completed, line.failed, *tails]
