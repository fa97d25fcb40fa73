"""A chart of the ratios: how many times as fast as the best peer fastnn is, and where its targets are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from .table import Row

LEFT_OUT = ("Import", "Peak memory")  # other things than speed, and far off the scale
WIDEST = 12.0  # longer bars end there; what they are is written beside them
OURS, BEHIND, TARGET = "#2a6f97", "#c2554d", "#333333"


def draw(path: Path, rows: Mapping[str, Sequence[Row]], subtitle: str) -> None:
    """Write a PNG with a bar for each row that compares times with a peer's; ImportError without Matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    groups = {
        title: [row for row in each if row.ratio is not None and row.peer]
        for title, each in rows.items()
        if title not in LEFT_OUT
    }
    groups = {title: each for title, each in groups.items() if each}
    if not groups:
        return
    heights = [len(each) + 1.2 for each in groups.values()]
    figure, axes = plt.subplots(
        len(groups), 1, figsize=(9, 0.24 * sum(heights) + 1.2), height_ratios=heights, sharex=True, squeeze=False
    )
    for axis, (title, each) in zip(axes[:, 0], groups.items(), strict=True):
        places = range(len(each))
        ratios = [min(row.ratio or 0, WIDEST) for row in each]
        axis.barh(places, ratios, color=[OURS if ratio >= 1 else BEHIND for ratio in ratios], height=0.7)
        axis.set_yticks(places, [row.work for row in each], fontsize=7)
        axis.invert_yaxis()
        axis.set_title(title, fontsize=9, loc="left")
        axis.axvline(1, color="black", linewidth=0.8)
        for place, row in zip(places, each, strict=True):
            end = max(min(row.ratio or 0, WIDEST), 1)
            if row.target.startswith("≥") and row.target.endswith("×"):
                target = float(row.target[1:-1])
                axis.plot([target] * 2, [place - 0.4, place + 0.4], color=TARGET, linewidth=1.5)
                end = max(end, target)
            told = axis.text(end, place, f"  {row.ratio:.2f}× {row.peer}", va="center", fontsize=6)
            told.set_in_layout(False)  # it may reach beyond the axes
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1, 0].set_xlabel("times as fast as the best peer; a dark stroke is the target", fontsize=8)
    widest = max(min(row.ratio or 0, WIDEST) for each in groups.values() for row in each)
    axes[-1, 0].set_xlim(0, 1.35 * max(widest, 1))
    figure.suptitle(f"fastnn against the best peer\n{subtitle}", fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)
