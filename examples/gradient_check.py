"""Finite differences against the gradient that backward() computes: how small should ε be?

    python examples/gradient_check.py [--out FOLDER]

(L(w + ε) − L(w − ε)) / 2ε is wrong by O(ε²), the one-sided (L(w + ε) − L(w)) / ε by O(ε), both by rounding of about
10⁻¹⁶/ε. What to see: from the right both lines fall with ε, one twice as steeply as the other, until rounding takes
over; the central quotient is best at about 10⁻⁴, the one-sided at 10⁻⁷, and is then some hundred times as wrong.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from _shared import run, save

import fastnn as fnn
from fastnn import nn
from fastnn.insight import plots


def main(out: Path) -> dict[str, list[float]]:
    """Draws the picture; gives the errors of both quotients by ε = 10⁻¹, 10⁻², ..., 10⁻¹²."""
    fnn.manual_seed(0)
    digits = fnn.data.load("digits", raw=True)
    x, y = digits.images[:32].reshape(32, 64) / 16, digits.labels[:32]
    model = nn.Sequential(nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 10)).double()
    loss_fn, weight = nn.CrossEntropyLoss(), model[2].weight

    def loss(w: np.ndarray) -> fnn.Tensor:
        weight.data[...] = w
        return loss_fn(model(x), y)

    at = weight.data.copy()
    loss(at).backward()
    sizes = 10.0 ** -np.arange(1, 13)
    errors = {
        name: [
            float(np.abs(fnn.numeric_gradient(loss, at, eps=eps, one_sided=one_sided) - weight.grad).max())
            for eps in sizes
        ]
        for name, one_sided in (("one-sided", True), ("central", False))
    }
    weight.data[...] = at
    fnn.gradcheck(model, x)  # raises GradientError for a wrong gradient; here of inputs and all parameters
    figure = plots.figure(5.5, 3.4)
    axes = plots.styled(figure.subplots(), "a gradient by finite differences", "ε", "largest error of an entry")
    for (name, values), colour in zip(errors.items(), (plots.ORANGE, plots.BLUE), strict=True):
        axes.loglog(sizes, values, "o-", color=colour, label=name)
        print(f"{name}: at best wrong by {min(values):.1e}, at ε = {sizes[np.argmin(values)]:.0e}")
    axes.legend()
    save(figure, out / "gradient_check.png")
    return errors


if __name__ == "__main__":
    run(main, __doc__)
