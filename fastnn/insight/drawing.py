"""The computational graph as SVG: boxes from top to bottom, layers of the model as panels behind them."""

from __future__ import annotations

from collections.abc import Hashable
from html import escape
from typing import TYPE_CHECKING

from fastnn.insight.layout import place
from fastnn.insight.plots import BLUE, GREEN, RED

if TYPE_CHECKING:
    from fastnn.insight.graph import Graph, GraphNode

__all__ = ["draw"]

LETTER, BOLD = 6.9, 8.0  # mean widths of a letter at 12 px
LINE, PAD = 15.0, 7.0
GAP = 26.0  # between layers
MARGIN = 16.0
FONT = "font-family='DejaVu Sans, Verdana, sans-serif'"
FILL = {"operator": "#ffffff", "parameter": "#e8f3ec", "constant": "#f1f1f1"}
STROKE = {"operator": "#555555", "parameter": GREEN, "constant": "#aaaaaa"}
VALUE, GRADIENT = BLUE, RED


def draw(graph: Graph) -> str:
    """The whole SVG."""
    from fastnn.insight.graph import shown

    nodes = graph.nodes
    texts: dict[Hashable, list[tuple[str, str]]] = {}  # lines and their colours
    for node in nodes:
        lines = [(node.operator or node.name, "#000000")]
        if not (node.kind == "constant" and node.name == shown(node.value)):
            lines.append((shown(node.value), VALUE))
        if node.gradient is not None:
            lines.append((shown(node.gradient, gradient=True), GRADIENT))
        texts[id(node)] = lines
    widths: dict[Hashable, float] = {
        key: max(40.0, len(lines[0][0]) * BOLD + 2 * PAD, *(len(text) * LETTER + 2 * PAD for text, _ in lines[1:]))
        for key, lines in texts.items()
    }
    layers = _layers(graph)
    edges = [(id(source), id(node)) for node in nodes for source in node.inputs]
    main = {id(node) for node in nodes if node.kind == "operator"}
    placed = place(
        layers,
        widths,
        edges,
        [(20.0 if layers[below] - layers[above] <= 2 else 3.0) if above in main else 1.0 for above, below in edges],
    )

    heights = [0.0] * (1 + max(layers.values()))
    for key, layer in layers.items():
        heights[layer] = max(heights[layer], len(texts[key]) * LINE + 2 * PAD)
    top = MARGIN
    middles = []
    for height in heights:
        middles.append(top + height / 2)
        top += height + GAP + 8.0 * bool(graph.titles)
    size = {key: len(lines) * LINE + 2 * PAD for key, lines in texts.items()}
    panels = _panels(graph, placed.x, layers, widths, size, middles)
    left = min([x - widths[key] / 2 for key, x in placed.x.items()] + [panel[0] for panel in panels]) - MARGIN
    right = max([x + widths[key] / 2 for key, x in placed.x.items()] + [panel[2] for panel in panels]) + MARGIN
    bottom = middles[-1] + heights[-1] / 2 + MARGIN + 10.0

    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{right - left:.0f}' height='{bottom:.0f}' "
        f"viewBox='{left:.1f} 0 {right - left:.1f} {bottom:.1f}' {FONT} font-size='12'>",
        "<defs><marker id='head' viewBox='0 0 8 8' refX='7' refY='4' markerWidth='7' markerHeight='7' orient='auto'>"
        "<path d='M0,0.5 L8,4 L0,7.5 z' fill='#777777'/></marker></defs>",
        f"<rect x='{left:.1f}' y='0' width='{right - left:.1f}' height='{bottom:.1f}' fill='#ffffff'/>",
    ]
    for x0, y0, x1, y1, text_x, text_y, title in panels:
        parts.append(
            f"<rect x='{x0:.1f}' y='{y0:.1f}' width='{x1 - x0:.1f}' height='{y1 - y0:.1f}' rx='8' fill='#f4f7fb' "
            f"stroke='#d5dfeb'/><text x='{text_x:.1f}' y='{text_y:.1f}' fill='#55697f'>{escape(title)}</text>"
        )
    for (above, below), path in zip(edges, placed.paths, strict=True):
        (x0, row0), *between, (x1, row1) = path
        points = [(x0, middles[row0] + size[above] / 2), (x0, middles[row0] + heights[row0] / 2)]
        for x, row in between:
            points += [(x, middles[row] - heights[row] / 2), (x, middles[row] + heights[row] / 2)]
        points += [(x1, middles[row1] - heights[row1] / 2), (x1, middles[row1] - size[below] / 2)]
        parts.append(f"<path d='{_curve(points)}' fill='none' stroke='#777777' marker-end='url(#head)'/>")
    for node in nodes:
        parts.append(_box(node, placed.x[id(node)], middles[layers[id(node)]], widths[id(node)], texts[id(node)]))
    return "\n".join([*parts, "</svg>"])


def _layers(graph: Graph) -> dict[Hashable, int]:
    """Operators below all that they are computed from; a leaf just above the first that uses it.

    With panels, leaves have rows for themselves, so that the panel of one layer does not reach into that of another.
    """
    layers: dict[Hashable, int] = {}
    for node in graph.nodes:
        if node.kind == "operator":
            above = [layers[id(i)] for i in node.inputs if i.kind == "operator"]
            leaves = any(i.kind != "operator" for i in node.inputs)
            row = max(above, default=-1) + 1
            layers[id(node)] = row + 1 if leaves and (not above or graph.titles) else row
    for node in graph.nodes:
        for i in node.inputs:
            if i.kind != "operator":
                layers[id(i)] = min(layers.get(id(i), layers[id(node)]), layers[id(node)] - 1)
    used = {layer: number for number, layer in enumerate(sorted(set(layers.values())))}
    return {key: used[layer] for key, layer in layers.items()}


def _panels(
    graph: Graph,
    x: dict[Hashable, float],
    layers: dict[Hashable, int],
    widths: dict[Hashable, float],
    heights: dict[Hashable, float],
    middles: list[float],
) -> list[tuple[float, float, float, float, float, float, str]]:
    """(left, top, right, bottom, x and y of the title, title) around each layer of the model; one used twice has two.

    The title stands right of the last operator, where no edge passes.
    """
    runs: list[list[GraphNode]] = []
    for node in graph.nodes:
        if node.group not in graph.titles:
            continue
        if runs and runs[-1][-1].group == node.group:
            runs[-1].append(node)
        else:
            runs.append([node])
    panels = []
    for run in runs:
        keys: list[Hashable] = [id(node) for node in run]
        title = graph.titles[run[0].group]
        last = max(layers[k] for k in keys)
        text_x = max(x[k] + widths[k] / 2 for k in keys if layers[k] == last) + 12
        x0 = min(x[k] - widths[k] / 2 for k in keys) - 10
        x1 = max(max(x[k] + widths[k] / 2 for k in keys), text_x + len(title) * LETTER) + 10
        y0 = min(middles[layers[k]] - heights[k] / 2 for k in keys) - 7
        y1 = max(middles[layers[k]] + heights[k] / 2 for k in keys) + 7
        panels.append((x0, y0, x1, y1, text_x, middles[last] + 4, title))
    return panels


def _box(node: GraphNode, x: float, y: float, width: float, lines: list[tuple[str, str]]) -> str:
    """One node; a tooltip says its name and its shape."""
    height = len(lines) * LINE + 2 * PAD
    round_by = 4 if node.kind == "operator" else height / 2
    parts = [
        f"<g><title>{escape(f'{node.name}: {node.operator or node.kind}, shape {node.value.shape}')}</title>"
        f"<rect x='{x - width / 2:.1f}' y='{y - height / 2:.1f}' width='{width:.1f}' height='{height:.1f}' "
        f"rx='{min(round_by, 16):.0f}' fill='{FILL[node.kind]}' stroke='{STROKE[node.kind]}'/>"
    ]
    for i, (text, colour) in enumerate(lines):
        weight = " font-weight='bold'" if i == 0 else ""
        baseline = y - height / 2 + PAD + LINE * (i + 0.78)
        parts.append(
            f"<text x='{x:.1f}' y='{baseline:.1f}' text-anchor='middle' fill='{colour}'{weight}>{escape(text)}</text>"
        )
    return "".join(parts) + "</g>"


def _curve(points: list[tuple[float, float]]) -> str:
    """Through all points, upright at each: boxes at an edge's side, in whose rows it goes straight, are not touched."""
    (x, y), *rest = [point for i, point in enumerate(points) if i == 0 or point != points[i - 1]]
    path = f"M{x:.1f},{y:.1f}"
    for to_x, to_y in rest:
        half = (y + to_y) / 2
        path += f" C{x:.1f},{half:.1f} {to_x:.1f},{half:.1f} {to_x:.1f},{to_y:.1f}"
        x, y = to_x, to_y
    return path
