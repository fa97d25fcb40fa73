"""What a run found out: as text with Markdown tables, and as JSON."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterator
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from . import many, parts, whole
from .settings import Bench, Settings
from .table import Row, lines, markdown

TITLES = (
    parts.STEPS, parts.EAGER, parts.INFERENCE, parts.PEAK, parts.THREADS, whole.RUNS, whole.MEMORY, whole.IMPORT,
    *many.TITLES,
)  # fmt: skip
DOCUMENT = (
    "# Performance",
    "",
    "Written by the command below; nothing in it is edited by hand. Each library runs in processes of its own,",
    "alternating with the others. Times are medians; a ratio is the time of the best mode of the best peer over",
    "fastnn's, the median over rounds. All start from the same weights and must get the same losses or outputs before",
    "they are timed. `python -m benchmarks.versus --help` tells what else can be measured; the README has the summary.",
    "",
)
RESTLESS = 0.05  # CPUs used while others were timed, from which on it is said


def machine(settings: Settings, images: dict[str, str]) -> dict[str, Any]:
    """Where and with what it is measured."""
    return {
        "cpu": _cpu_name(),
        "platform": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "isa": settings.isa,
        "all held to it": settings.held,
        "threads": settings.threads,
        "load before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "date": datetime.now(timezone.utc).isoformat(timespec="minutes"),
        "versions": {package: metadata.version(package) for package in ("fastnn-cpu", "numpy", *settings.peers)},
        "images": images,
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def subtitle(bench: Bench) -> str:
    about = bench.raw["machine"]
    isa = f"all held to {about['isa']}" if about["all held to it"] else about["isa"]
    return f"{about['cpu']}, {isa}, {about['threads']} threads, {about['date'][:10]}"


def text(bench: Bench) -> str:
    return "\n".join(_lines(bench))


def document(bench: Bench, arguments: str) -> str:
    """The same as a document of its own: what was measured, where, when and by which command."""
    return "\n".join([*DOCUMENT, f"```sh\npython -m benchmarks.versus {arguments}\n```", *_lines(bench, "## {}"), ""])


def as_json(bench: Bench) -> dict[str, Any]:
    def filled(row: Row) -> dict[str, Any]:
        return {name: value for name, value in vars(row).items() if value not in ("", None)}

    return {
        **bench.raw,
        "tables": {title: [filled(row) for row in rows] for title, rows in bench.rows.items()},
        "notes": bench.notes,
        "failures": bench.failures,
    }


def _lines(bench: Bench, heading: str = "**{}**") -> Iterator[str]:
    about = bench.raw["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    yield ""
    yield f"{subtitle(bench)}; {versions}; images: {about['images']['mnist']}"
    if bench.peak.samples:
        before, after = (max(bench.raw[f"peak {when}"]) for when in ("before", "after"))
        middle, least, most = statistics.median(bench.peak.samples), min(bench.peak.samples), max(bench.peak.samples)
        yield (
            f"FMA peak, GFLOP/s: {before:.0f} before, {after:.0f} after; all samples: median {middle:.0f}, from "
            f"{least:.0f} to {most:.0f}; load before: {about['load before']}; took {bench.raw['seconds']:.0f} s"
        )
    for title in TITLES:
        if title in bench.rows:
            yield from ("", heading.format(title), "", *lines(bench.rows[title]))
    yield from _ablation(bench)
    yield from _random_networks(bench)
    notes = [*bench.notes, *_failures(bench), *_restless(bench)]
    yield from ("", *(f"* {note}" for note in notes)) if notes else ()


def _ablation(bench: Bench) -> Iterator[str]:
    """Name by name, step by step: how many times longer it takes."""
    gave: dict[str, dict[str, float]] = bench.raw.get("ablation ratios", {})
    works = list(dict.fromkeys(work for ratios in gave.values() for work in ratios))
    if works:
        cells = [
            [name, *(f"{ratios[work]:.2f}×" if work in ratios else "" for work in works)]
            for name, ratios in gave.items()
        ]
        yield from ("", f"**{parts.ABLATION}: times as long without it**", "")
        yield from markdown(["without", *works], cells)


def _random_networks(bench: Bench) -> Iterator[str]:
    """Yields a line that describes each random network."""
    described: dict[str, str] = bench.raw.get("random networks", {})
    if described:
        seed = bench.settings.networks.seed
        yield from ("", f"Random networks of seed {seed} (a number in brackets: how many results back):", "")
        yield from (f"* {name.removeprefix('random ')}: {text}" for name, text in described.items())


def _failures(bench: Bench) -> Iterator[str]:
    for what, where in bench.failures.items():
        others = f" and {len(where) - 1} more" if len(where) > 1 else ""
        yield f"{what} ({where[0]}{others})"


def _restless(bench: Bench) -> Iterator[str]:
    """A worker that used the CPU while another was timed has spoilt that other's time."""
    for each in bench.raw.get("works", []):
        for series in each["series"]:
            idle = statistics.median(series["idle_cpus"])
            if idle > RESTLESS:
                name = f"{series['peer']} {series['mode']}"
                yield f"{each['work']}: {name} used {idle:.2f} CPUs while others were timed"
