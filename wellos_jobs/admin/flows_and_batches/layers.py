"""Layered layout of a directed acyclic graph, from left to right. Pure.

A node is placed to the right of all it needs. A line that passes a layer gets a lane in it, so that
it goes around the nodes. A few barycenter sweeps order each layer so that few lines cross.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

WIDTH, HEIGHT = 196, 46
ACROSS, DOWN = 64, 16
LANE = 14
"""Height of the lane of a passing line."""
MARGIN = 6
SWEEPS = 6
MAX_SPAN = 12
"""A line across more layers is straight: lanes in all of them would be too tall and slow."""

Key = Hashable
Point = tuple[float, float]


@dataclass(frozen=True)
class Layout:
    """The top left corner of each node, the points of each line, and the total size."""

    places: Mapping[Key, Point]
    lines: Mapping[tuple[Key, Key], Sequence[Point]]
    width: float
    height: float


def layout(nodes: Sequence[Key], edges: Iterable[tuple[Key, Key]]) -> Layout:
    """Place the nodes. An edge is (needed, needing); edges with an unknown node are ignored."""
    known = set(nodes)
    valid = ((start, end) for start, end in edges if {start, end} <= known and start != end)
    drawn = list(dict.fromkeys(valid))

    depth = depths(nodes, drawn)
    layers: list[list[Key]] = [[] for _ in range(max(depth.values(), default=0) + 1)]
    for node in nodes:
        layers[depth[node]].append(node)

    paths = {edge: _path(edge, depth, layers) for edge in drawn}
    _order(layers, [step for path in paths.values() for step in pairwise(path)])

    middles, height = _middles(layers, known)
    lefts = {
        key: MARGIN + column * (WIDTH + ACROSS)
        for column, layer in enumerate(layers)
        for key in layer
    }

    return Layout(
        {node: (lefts[node], middles[node] - HEIGHT / 2) for node in nodes},
        {edge: _points(path, lefts, middles) for edge, path in paths.items()},
        2 * MARGIN + len(layers) * WIDTH + (len(layers) - 1) * ACROSS,
        height,
    )


def depths(nodes: Sequence[Key], edges: Sequence[tuple[Key, Key]]) -> dict[Key, int]:
    """Return the layer of each node: the length of the longest path to it. Terminates on cycles."""
    needs: dict[Key, int] = dict.fromkeys(nodes, 0)
    after: dict[Key, list[Key]] = {node: [] for node in nodes}
    for start, end in edges:
        needs[end] += 1
        after[start].append(end)

    depth = dict.fromkeys(nodes, 0)
    ready = [node for node in nodes if not needs[node]]
    for node in ready:  # grows during iteration
        for other in after[node]:
            depth[other] = max(depth[other], depth[node] + 1)
            needs[other] -= 1
            if not needs[other]:
                ready.append(other)
    return depth


def _path(edge: tuple[Key, Key], depth: Mapping[Key, int], layers: list[list[Key]]) -> list[Key]:
    """Return the stops of a line, and add a lane for it to each layer it passes."""
    start, end = edge
    path: list[Key] = [start]
    if depth[end] - depth[start] > MAX_SPAN:
        return [start, end]
    for column in range(depth[start] + 1, depth[end]):
        lane = (start, end, column)
        layers[column].append(lane)
        path.append(lane)
    return [*path, end]


def _order(layers: list[list[Key]], steps: Sequence[tuple[Key, Key]]) -> None:
    before: dict[Key, list[Key]] = {}
    after: dict[Key, list[Key]] = {}
    for start, end in steps:
        before.setdefault(end, []).append(start)
        after.setdefault(start, []).append(end)

    rank = {key: place for layer in layers for key, place in _ranks(layer)}
    for sweep in range(SWEEPS):
        neighbors, order = (before, layers) if sweep % 2 == 0 else (after, layers[::-1])
        for layer in order:
            target = {
                key: _mean([rank[other] for other in neighbors.get(key, [])], rank[key])
                for key in layer
            }
            layer.sort(key=target.__getitem__)
            rank.update(_ranks(layer))


def _ranks(layer: Sequence[Key]) -> Iterable[tuple[Key, float]]:
    return ((key, place / max(1, len(layer) - 1)) for place, key in enumerate(layer))


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _middles(layers: Sequence[Sequence[Key]], nodes: set[Key]) -> tuple[dict[Key, float], float]:
    """Return the vertical middle of each node and lane, and the total height."""
    heights = [
        sum((HEIGHT if key in nodes else LANE) + DOWN for key in layer) - DOWN for layer in layers
    ]
    tallest = max([*heights, HEIGHT])

    middles: dict[Key, float] = {}
    for layer, height in zip(layers, heights, strict=True):
        top = MARGIN + (tallest - height) / 2
        for key in layer:
            own = HEIGHT if key in nodes else LANE
            middles[key] = top + own / 2
            top += own + DOWN

    return middles, tallest + 2 * MARGIN


def _points(
    path: Sequence[Key], lefts: Mapping[Key, float], middles: Mapping[Key, float]
) -> list[Point]:
    points = [(lefts[path[0]] + WIDTH, middles[path[0]])]
    for lane in path[1:-1]:
        points += [(lefts[lane], middles[lane]), (lefts[lane] + WIDTH, middles[lane])]
    return [*points, (lefts[path[-1]], middles[path[-1]])]
