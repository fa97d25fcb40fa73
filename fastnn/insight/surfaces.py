"""Functions of two numbers on which optimisers show their habits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["SURFACES", "Surface"]

Interval = tuple[float, float]


@dataclass(frozen=True)
class Surface:
    """A function f(x, y), and how to look at it.

    Attributes:
        name, formula: for titles.
        function: f of x and y, which are arrays or tensors alike.
        start: (x, y) where the optimisers begin.
        window: ((lowest x, highest x), (lowest y, highest y)) that is shown.
        steps: how many each optimiser makes.
        lowest: the least loss that a log scale tells from less, so that no grid is too coarse for the valley's floor.
        log: whether pictures begin with the log scale.
        moment: the step up to which pictures draw the paths, while all of them are seen; None for the last.
        rates: learning rates by the optimisers' names, chosen so that each shows what it is like here.
    """

    name: str
    formula: str
    function: Callable[[Any, Any], Any]
    start: tuple[float, float]
    window: tuple[Interval, Interval]
    steps: int = 200
    lowest: float | None = None
    log: bool | None = None
    moment: int | None = None
    rates: Mapping[str, float] = field(default_factory=dict)


SURFACES: dict[str, Surface] = {
    # Curved 100 times as much across as along: plain descent at a rate that its steep side just bears (it diverges from
    # 2 / 100 on) oscillates there and creeps along the valley, where the slope shrinks by 1 - 0.0195 a step. Momentum
    # gathers speed along it and overshoots; Nesterov's look-ahead brakes across. Their losses end in that order.
    "ravine": Surface(
        "a quadratic ravine",
        "f(x, y) = ½ (x² + 100 y²), least at (0, 0)",
        lambda x, y: 0.5 * (x**2 + 100 * y**2),
        start=(-9.0, 2.5),
        window=((-10.0, 5.0), (-3.2, 3.2)),
        steps=120,
        moment=14,
        lowest=0.01,
        log=False,
        rates={
            "SGD": 0.0195, "momentum": 0.008, "Nesterov": 0.008,
            "Adam": 0.35, "RMSprop": 0.3, "Rprop": 0.1, "Adagrad": 0.7,
        },
    ),
    # Rosenbrock 1960: a curved valley with a flat floor.
    "rosenbrock": Surface(
        "Rosenbrock’s valley",
        "f(x, y) = (1 − x)² + 100 (y − x²)², least at (1, 1)",
        lambda x, y: (1 - x) ** 2 + 100 * (y - x**2) ** 2,
        start=(-1.2, 1.0),
        window=((-2.0, 2.0), (-0.8, 2.4)),
        steps=600,
        moment=320,
        lowest=2.0,
        log=True,
        rates={
            "SGD": 0.0015, "momentum": 0.0008, "Nesterov": 0.0008,
            "Adam": 0.06, "RMSprop": 0.01, "Rprop": 0.02, "Adagrad": 0.3,
        },
    ),
    # Beale 1958: plateaus with steep edges around a narrow minimum.
    "beale": Surface(
        "Beale’s function",
        "f(x, y) = (1.5 − x + xy)² + (2.25 − x + xy²)² + (2.625 − x + xy³)², least at (3, 0.5)",
        lambda x, y: (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2,
        start=(1.0, 1.5),
        window=((-0.5, 4.5), (-1.5, 2.0)),
        steps=300,
        moment=40,
        lowest=0.1,
        log=True,
        rates={
            "SGD": 0.008, "momentum": 0.002, "Nesterov": 0.002,
            "Adam": 0.08, "RMSprop": 0.03, "Rprop": 0.05, "Adagrad": 0.3,
        },
    ),
    # Not convex: two valleys, and between them a point without slope, near whose ridge all begin.
    "saddle": Surface(
        "a saddle between two valleys",
        "f(x, y) = ½ x² − ½ y² + ¼ y⁴, least at (0, ±1), a saddle at (0, 0)",
        lambda x, y: 0.5 * x**2 - 0.5 * y**2 + 0.25 * y**4,
        start=(-1.8, 0.001),
        window=((-2.0, 1.2), (-1.6, 1.6)),
        steps=120,
        moment=23,
        log=False,
        rates={
            "SGD": 0.15, "momentum": 0.06, "Nesterov": 0.06,
            "Adam": 0.06, "RMSprop": 0.02, "Rprop": 0.05, "Adagrad": 0.3,
        },
    ),
}  # fmt: skip
