"""How fast this machine is, on one core and on all, measured in half a minute: what `fastnn bench` prints."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np

from fastnn import backends
from fastnn.checks import number
from fastnn.config import configuration
from fastnn.errors import ArgumentError
from fastnn.nn import CrossEntropyLoss
from fastnn.optim import SGD
from fastnn.plan.compile import compile
from fastnn.tables import aligned, html_text

from .recipe import MODELS

__all__ = ["Measure", "Speed", "measure_speed"]

SEEN = ("mlp", "lenet5", "cnn", "fast", "resnet")
OF_IMAGES = tuple(name for name in MODELS if name not in ("tabular", "cnn1d"))
IMAGE = (1, 28, 28)  # as of MNIST
TRAINING, INFERENCE = 128, 256  # images in a batch
SIZES = 384, 1024  # of matrices: the first lie in a second-level cache
FLOATS = 1 << 24  # of an array that no cache holds


@dataclass(frozen=True)
class Measure:
    """One thing that was measured.

    Attributes:
        name: what, such as "cnn, training".
        unit: of both numbers; more is faster.
        one, all: with one thread, and with all that fastnn uses here.
    """

    name: str
    unit: str
    one: float
    all: float


@dataclass(frozen=True)
class Speed:
    """What `measure_speed` found; prints as a table.

    Attributes:
        measures: the `Measure` of each thing, in order.
        threads: how many "all" are.
        machine: `fnn.show_config`'s facts.
        seconds: that measuring took.
    """

    measures: tuple[Measure, ...]
    threads: int
    machine: dict[str, Any] = field(repr=False)
    seconds: float

    def __getitem__(self, name: str) -> Measure:
        return {measure.name: measure for measure in self.measures}[name]

    def __repr__(self) -> str:
        many = self.threads > 1
        head = (f"{self.threads} threads", "ratio") if many else ()
        rows: list[tuple[str, ...]] = [("", "unit", "1 thread", *head)]
        for m in self.measures:
            more = (_shown(m.all), f"{m.all / m.one:.2f}") if many else ()
            rows.append((m.name, m.unit, _shown(m.one), *more))
        kernels = ", ".join(self.machine[key] for key in ("backend", "isa") if self.machine[key])
        return f"{aligned(rows, left=2)}\n{self.machine['platform']}, kernels: {kernels}; took {self.seconds:.0f} s"

    def _repr_html_(self) -> str:
        return html_text(str(self))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as for JSON."""
        return asdict(self)

    def plot(self) -> Any:
        """Draws bars of every measure, one thread beside all, on an axis of its own; a Matplotlib figure.

        Raises MissingExtraError without Matplotlib.
        """
        from fastnn.insight import plots

        units = list(dict.fromkeys(m.unit for m in self.measures))
        counts = [sum(m.unit == unit for m in self.measures) for unit in units]
        figure = plots.figure(7, 1.2 + 0.45 * len(self.measures) + 0.5 * len(units))
        plots.heading(figure, f"{self.machine['platform']}, 1 thread (grey) and {self.threads} (blue)")
        rows = figure.subplots(len(units), height_ratios=counts, squeeze=False)[:, 0]
        for axes, unit in zip(rows, units, strict=True):
            found = [m for m in self.measures if m.unit == unit]
            places = np.arange(len(found))
            for shift, width, color in ((-0.2, "one", plots.GRAY), (0.2, "all", plots.BLUE)):
                values = [getattr(m, width) for m in found]
                bars = axes.barh(places + shift, values, 0.38, color=color)
                axes.bar_label(bars, list(map(_shown, values)), padding=3, fontsize=8)
            axes.set_yticks(places, [m.name for m in found])
            axes.set_ylim(len(found) - 0.5, -0.5)
            axes.margins(x=0.15)
            if len(found) > 1:
                axes.set_xscale("log")
            plots.styled(axes, x=unit)
        return figure


def measure_speed(seconds: float = 0.5, models: Sequence[str] = SEEN) -> Speed:
    """Measures this machine: matrix products, memory, and training and inference of the recipes' models.

    Every number is the fastest of several runs. The models see images of 1 x 28 x 28, in batches of 128 for training,
    of 256 for inference, and one by one; as `fnn.fit` and ``fnn.compile(model, frozen=True)`` run them. The number of
    threads is put back.

    Args:
        seconds: for each number; all of it takes some 40 times as long, on one core half of that.
        models: keys of `MODELS`; those of tables and signals are none.

    Returns:
        The `Speed`.

    Raises ArgumentError for seconds that are not a number above 0, and for a name of no such model.

    >>> from fastnn.recipes import measure_speed
    >>> speed = measure_speed(0.001, ["mlp"])
    >>> speed["matrix product"].unit, speed["mlp, training"].one > 0
    ('GFLOP/s', True)
    """
    seconds = number("measure_speed", "seconds", seconds, above=0)
    for name in models:
        if name not in OF_IMAGES:
            raise ArgumentError(f"measure_speed: expected models out of {', '.join(OF_IMAGES)}, got {name!r}")
    begin, threads = time.perf_counter(), backends.get_num_threads()
    try:
        found = [_rates(count, seconds, models) for count in dict.fromkeys((1, threads))]
    finally:
        backends.set_num_threads(threads)
    measures = tuple(Measure(*name, one, found[-1][name]) for name, one in found[0].items())
    return Speed(measures, threads, configuration(), time.perf_counter() - begin)


def _rates(threads: int, seconds: float, models: Sequence[str]) -> dict[tuple[str, str], float]:
    """Each (name, unit)'s number with so many threads."""
    backends.set_num_threads(threads)
    kernels, rng = backends.kernels(np.dtype(np.float32)), np.random.default_rng(0)
    products = []
    for size in SIZES:
        a = rng.random((size, size), np.float32)
        products.append(_rate(partial(kernels.matmul, a, a, out=np.empty_like(a)), 2 * size**3 / 1e9, seconds))
    x = np.ones(FLOATS, np.float32)
    copied = _rate(partial(kernels.relu_forward, x, out=np.ones_like(x)), 8 * FLOATS / 1e9, seconds)
    found = {("matrix product", "GFLOP/s"): max(products), ("memory, read and written", "GB/s"): copied}
    images = rng.integers(0, 256, (INFERENCE, *IMAGE), np.uint8)
    labels = rng.integers(0, 10, TRAINING)
    for name in models:
        model = MODELS[name](IMAGE, 10, 0.13, 0.31)
        step = compile(model, CrossEntropyLoss(), SGD(model.parameters(), lr=1e-4))
        found[f"{name}, training", "images/s"] = _rate(partial(step, images[:TRAINING], labels), TRAINING, seconds)
        model.eval()
        for what, batch in (("inference", images), ("one image at a time", images[:1])):
            run = partial(compile(model, frozen=True), batch)
            found[f"{name}, {what}", "images/s"] = _rate(run, len(batch), seconds)
    return found


def _rate(run: Callable[[], object], work: float, seconds: float) -> float:
    """Work a second in the fastest of many runs, at least three, after two that are not counted."""
    run()
    run()
    best, runs, end = np.inf, 0, time.perf_counter() + seconds
    while runs < 3 or time.perf_counter() < end:
        begin = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - begin)
        runs += 1
    return work / best


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
