"""Server-rendered SVG charts without scripts or inline styles; admin.css has colors and widths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from django.template.loader import render_to_string
from django.utils.functional import Promise
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

Text = str | Promise
Value = float | None
"""None is a gap in the data."""

WIDTH, HEIGHT = 440, 150
"""About the pixels of a chart when two are side by side, so that its labels keep their size."""
LEFT, RIGHT, TOP, BOTTOM = 52, 8, 8, 22


def sparkline(
    values: Sequence[Value], label: Text, *, width: int = 120, height: int = 28
) -> SafeString:
    """Return a small line without axes. ``label`` describes it for screen readers."""
    points = _points(values, _top(values), (0, 2, width, height - 4))
    return format_html(
        '<svg class="wj-spark" viewBox="0 0 {} {}" width="{}" height="{}" role="img"'
        ' aria-label="{}"><title>{}</title>{}</svg>',
        width,
        height,
        width,
        height,
        label,
        label,
        _polylines(points, "wj-line-0"),
    )


@dataclass(frozen=True)
class Series:
    """One line of a chart, with one value per label. ``color`` is a number from 0 to 5."""

    name: Text
    values: Sequence[Value]
    color: int = 0


@dataclass(frozen=True)
class Chart:
    """Lines over the same labels. ``unit`` is shown after each number."""

    title: Text
    labels: Sequence[str]
    series: Sequence[Series] = field(default_factory=list)
    unit: Text = ""


def lines(chart: Chart) -> SafeString:
    """Return a chart with axes, legend and a collapsed table of its numbers."""
    top = nice_top(max((_top(series.values) for series in chart.series), default=0.0))
    box = (LEFT, TOP, WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM)

    drawn = format_html_join(
        "",
        "{}",
        (
            (_polylines(_points(one.values, top, box), f"wj-line-{one.color}"),)
            for one in chart.series
        ),
    )
    picture = format_html(
        '<svg class="wj-chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}{}</svg>',
        WIDTH,
        HEIGHT,
        chart.title,
        _axes(chart, top, box),
        drawn,
    )

    rows = [
        (label, [number(one.values[at]) for one in chart.series])
        for at, label in enumerate(chart.labels)
        if any(one.values[at] for one in chart.series)
    ]
    return render_to_string(
        "admin/wellos_jobs/chart.html", {"chart": chart, "picture": picture, "rows": rows}
    )


def number(value: Value) -> str:
    """Return a number for an axis or a table, rounded to three digits; a dash for a gap."""
    if value is None:
        return "-"
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2g}" if abs(value) < 10 else f"{value:.1f}"


def nice_top(value: float) -> float:
    """Round up to 1, 2 or 5 times a power of ten, for the upper end of an axis."""
    if value <= 0:
        return 1.0
    power: float = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value * 0.9999)


def _top(values: Sequence[Value]) -> float:
    return max((value for value in values if value is not None), default=0.0)


def _points(values: Sequence[Value], top: float, box: tuple[int, int, int, int]) -> list[list[str]]:
    """Return the points, split at the gaps."""
    left, upper, width, height = box
    step = width / max(1, len(values) - 1)

    runs: list[list[str]] = [[]]
    for at, value in enumerate(values):
        if value is None:
            runs.append([])
            continue
        share = value / top if top else 0.0
        runs[-1].append(f"{left + at * step:.1f},{upper + height * (1 - share):.1f}")
    return [run for run in runs if run]


def _polylines(runs: Sequence[Sequence[str]], css: str) -> SafeString:
    """Return a line for each run of points; a single point becomes a dot."""
    return format_html_join(
        "",
        '<polyline class="{}" points="{}"/>',
        (
            (css, " ".join(run)) if len(run) > 1 else (f"{css} wj-alone", " ".join([*run, *run]))
            for run in runs
        ),
    )


def _axes(chart: Chart, top: float, box: tuple[int, int, int, int]) -> SafeString:
    left, upper, width, height = box

    levels = [(upper + round(height * (1 - share)), number(top * share)) for share in (0, 0.5, 1)]
    grid = format_html_join(
        "",
        '<line class="wj-grid" x1="{}" x2="{}" y1="{}" y2="{}"/>'
        '<text class="wj-axis" x="{}" y="{}" text-anchor="end">{}</text>',
        (
            (left, left + width, y, y, left - 6, y + 4, f"{text} {chart.unit}".strip())
            for y, text in levels
        ),
    )

    last = len(chart.labels) - 1
    shown = sorted({0, last // 2, last}) if last >= 0 else []
    anchors = {0: "start", last: "end"}
    below = format_html_join(
        "",
        '<text class="wj-axis" x="{}" y="{}" text-anchor="{}">{}</text>',
        (
            (
                round(left + width * at / max(1, last)),
                HEIGHT - 6,
                anchors.get(at, "middle"),
                chart.labels[at],
            )
            for at in shown
        ),
    )
    return format_html("{}{}", grid, below)
