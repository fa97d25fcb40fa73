"""Where the nodes of a graph go: layer below layer, in the manner of Sugiyama, Tagawa and Toda (1981).

Layers are given; edges over several of them are led through points of their own. Within a layer, the order follows the
mean place of the neighbours, by sweeps down and up; then everything is moved towards its neighbours as far as room is.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["Placed", "place"]

SWEEPS = 12
ROOM = 18.0  # between two nodes of a layer
THIN = 8.0  # the width of a point that an edge is led through


@dataclass(frozen=True)
class Placed:
    """Where everything is: the middle of each node, and the points of each edge from its first node to its second."""

    x: dict[Hashable, float]
    paths: list[list[tuple[float, int]]]  # of each edge, in the order given: (x, layer)


@dataclass(frozen=True)
class _Point:
    edge: int
    layer: int


def place(
    layers: Mapping[Hashable, int],
    widths: Mapping[Hashable, float],
    edges: Sequence[tuple[Hashable, Hashable]],
    weights: Sequence[float],
) -> Placed:
    """Places for nodes in `layers` (counted from 0 at the top), `edges` going down, heavier ones straighter."""
    row_of: dict[Hashable, int] = dict(layers)
    width: dict[Hashable, float] = dict(widths)
    links: list[tuple[Hashable, Hashable, float]] = []
    chains: list[list[Hashable]] = []
    for number, ((above, below), weight) in enumerate(zip(edges, weights, strict=True)):
        between: list[Hashable] = [_Point(number, row) for row in range(layers[above] + 1, layers[below])]
        for point in between:
            row_of[point], width[point] = point.layer, THIN  # type: ignore[attr-defined]
        chain = [above, *between, below]
        chains.append(chain)
        links += [(a, b, weight) for a, b in pairwise(chain)]
    rows: list[list[Hashable]] = [[] for _ in range(1 + max(row_of.values()))]
    for node in sorted(row_of, key=lambda node: not isinstance(node, _Point)):  # edges passing by stay on the left
        rows[row_of[node]].append(node)
    up: dict[Hashable, list[tuple[Hashable, float]]] = {node: [] for node in row_of}
    down: dict[Hashable, list[tuple[Hashable, float]]] = {node: [] for node in row_of}
    for a, b, weight in links:
        down[a].append((b, weight))
        up[b].append((a, weight))
    x: dict[Hashable, float] = {}
    pull = {node: sum(weight for _, weight in up[node] + down[node]) or 1.0 for node in row_of}
    for row in rows:
        _spread(row, width, pull, x, [i * 100.0 for i in range(len(row))])
    for sweep in range(2 * SWEEPS):
        neighbours = up if sweep % 2 == 0 else down
        for row in rows if sweep % 2 == 0 else reversed(rows):
            if sweep >= SWEEPS:  # the order stands: now both sides pull
                _spread(row, width, pull, x, [_mean(up[n] + down[n], x, x[n]) for n in row])
                continue
            wanted = {node: _mean(neighbours[node], x, x[node]) for node in row}
            row.sort(key=wanted.__getitem__)  # stable
            _spread(row, width, pull, x, [wanted[node] for node in row])
    return Placed(
        {node: x[node] for node in layers}, [[(x[point], row_of[point]) for point in chain] for chain in chains]
    )


def _mean(neighbours: list[tuple[Hashable, float]], x: dict[Hashable, float], otherwise: float) -> float:
    total = sum(weight for _, weight in neighbours)
    return sum(weight * x[node] for node, weight in neighbours) / total if total else otherwise


def _spread(
    row: list[Hashable],
    width: dict[Hashable, float],
    pull: dict[Hashable, float],
    x: dict[Hashable, float],
    wanted: list[float],
) -> None:
    """Set x of a row, in its order and without overlap, as near as can be to what is wanted (weighted least squares).

    Nodes that would overlap become one block, which goes to the mean of what its nodes want.
    """
    offsets = [0.0]
    for a, b in pairwise(row):
        offsets.append(offsets[-1] + (width[a] + width[b]) / 2 + ROOM)
    blocks: list[tuple[float, float, int]] = []  # (mean of wanted left ends, weight, number of nodes)
    for node, goal, offset in zip(row, wanted, offsets, strict=True):
        start, weight, count = goal - offset, pull[node], 1
        while blocks and blocks[-1][0] > start:
            before, heavy, more = blocks.pop()
            start = (start * weight + before * heavy) / (weight + heavy)
            weight, count = weight + heavy, count + more
        blocks.append((start, weight, count))
    starts = [start for start, _, count in blocks for _ in range(count)]
    for node, start, offset in zip(row, starts, offsets, strict=True):
        x[node] = start + offset
