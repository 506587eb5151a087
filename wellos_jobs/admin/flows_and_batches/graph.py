"""The graph of a flow as an SVG with linked nodes, and as an equivalent table."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from django.contrib.admin import AdminSite
from django.db.models import Q, QuerySet
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _

from ...models import JobDependency, JobRecord
from ...states import JobState
from . import layers

MAX_JOBS = 200
"""Flows with more jobs are not drawn."""
COLUMNS = ("id", "name", "state", "queue", "flow_id", "parent_id")
MAX_NAME_LENGTH = 26
"""Longer names are truncated in their box."""

Edge = tuple[uuid.UUID, uuid.UUID]


@dataclass(frozen=True)
class Picture:
    """The jobs around a job: those it needs and those that need it."""

    svg: SafeString | str = ""
    rows: Sequence[tuple[JobRecord, str, Sequence[JobRecord]]] = ()
    """Each job with its URL and the jobs it needs."""
    is_cut: bool = False
    """Whether there are more than ``MAX_JOBS``, too many to draw."""
    states: dict[str, int] = field(default_factory=dict)


def picture(
    site: AdminSite, job: JobRecord, visible: QuerySet[JobRecord], *, is_its_page: bool = True
) -> Picture | None:
    """Return the flow of a job, else the job with its neighbors; None without any. Two queries.

    ``visible`` are the jobs that the user may see; others are left out. With ``is_its_page`` the
    job is highlighted and not linked.
    """
    edges = _edges(job)
    nodes = _nodes(job, edges, visible)
    if len(nodes) < 2:
        return None

    states: dict[str, int] = {}
    for node in nodes:
        states[node.state] = states.get(node.state, 0) + 1

    by_id = {node.pk: node for node in nodes}
    needs: dict[uuid.UUID, list[JobRecord]] = {}
    for start, end in edges:
        if start in by_id and end in by_id:
            needs.setdefault(end, []).append(by_id[start])

    rows = [(node, _url(site, node), needs.get(node.pk, [])) for node in nodes[:MAX_JOBS]]
    if len(nodes) > MAX_JOBS:
        return Picture("", rows, True, states)
    return Picture(_svg(job if is_its_page else None, rows, edges), rows, False, states)


def _edges(job: JobRecord) -> list[Edge]:
    """Return (needed, needing) pairs of the flow, else of the job itself."""
    if job.flow_id is not None:
        condition = Q(job__flow_id=job.flow_id)
    else:
        condition = Q(job=job.pk) | Q(needs=job.pk)
    found = JobDependency.objects.filter(condition).order_by("pk")
    return list(found.values_list("needs_id", "job_id")[: 10 * MAX_JOBS])


def _nodes(job: JobRecord, edges: Iterable[Edge], visible: QuerySet[JobRecord]) -> list[JobRecord]:
    wanted = list({key for edge in edges for key in edge} | {job.pk})[: 2 * MAX_JOBS]
    condition = Q(pk__in=wanted)
    if job.flow_id is not None:
        condition |= Q(flow_id=job.flow_id)
    return list(
        visible.filter(condition).order_by("created_at", "pk").only(*COLUMNS)[: MAX_JOBS + 1]
    )


def _url(site: AdminSite, node: JobRecord) -> str:
    try:
        return reverse("admin:wellos_jobs_jobrecord_change", args=[node.pk], current_app=site.name)
    except NoReverseMatch:
        return ""


def _svg(
    job: JobRecord | None, rows: Sequence[tuple[JobRecord, str, Any]], edges: Iterable[Edge]
) -> SafeString:
    layout = layers.layout([node.pk for node, _url, _needs in rows], edges)
    lines = format_html_join(
        "",
        '<path d="{}" marker-end="url(#wj-arrow)"/>',
        ((_curve(p),) for p in layout.lines.values()),
    )
    boxes = format_html_join(
        "",
        "{}",
        ((_box(node, url, layout.places[node.pk], node == job),) for node, url, _needs in rows),
    )

    return format_html(
        '<svg class="wj-flow" viewBox="0 0 {} {}" width="{}" height="{}" role="group"'
        ' aria-label="{}">{}<g class="wj-flow-lines" aria-hidden="true">'
        "{}</g>{}</svg>",
        *(round(layout.width), round(layout.height)) * 2,
        _("Flow of %(n)d jobs: each arrow leads from a job to one that waits for it")
        % {"n": len(rows)},
        _ARROW,
        lines,
        boxes,
    )


_ARROW = mark_safe(  # a constant
    '<defs><marker id="wj-arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7"'
    ' markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z"/></marker></defs>'
)


def _curve(points: Sequence[layers.Point]) -> str:
    """Return the SVG path through the points, horizontal at each of them."""
    parts = [f"M{points[0][0]:g} {points[0][1]:g}"]
    for (x, y), (to_x, to_y) in pairwise(points):
        if y == to_y:
            parts.append(f"H{to_x:g}")
        else:
            half = (x + to_x) / 2
            parts.append(f"C{half:g} {y:g} {half:g} {to_y:g} {to_x:g} {to_y:g}")
    return "".join(parts)


def _box(node: JobRecord, url: str, place: layers.Point, is_here: bool) -> SafeString:
    state = JobState(node.state).label
    name = (
        node.name if len(node.name) <= MAX_NAME_LENGTH else f"{node.name[: MAX_NAME_LENGTH - 1]}…"
    )
    inside = format_html(
        '<rect width="{}" height="{}" rx="6"/><text class="wj-flow-name" x="12" y="19">{}</text>'
        '<text class="wj-flow-state" x="12" y="36">{}</text><title>{}: {} {}</title>',
        *(layers.WIDTH, layers.HEIGHT, name, state),
        *(node.name, state, node.pk),
    )

    css = f"wj-node wj-node-{node.state}{' wj-node-here' if is_here else ''}"
    at = f"translate({place[0]:g} {place[1]:g})"
    if not url or is_here:
        return format_html('<g class="{}" transform="{}">{}</g>', css, at, inside)
    return format_html(
        '<a class="{}" transform="{}" href="{}" aria-label="{}">{}</a>',
        css,
        at,
        url,
        f"{node.name}: {state}",
        inside,
    )
