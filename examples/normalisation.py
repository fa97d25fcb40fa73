"""Inputs that are centred and scaled, and batch norm: which learning rates a deep network can be trained with.

    python examples/normalisation.py [--out FOLDER] [--full]

The same eight layers of ReLUs are trained for three epochs by plain SGD, at learning rates from 10⁻⁴ to 10, four times:
on pixels from 0 to 255, from 0 to 1, centred and scaled by the training images' mean and deviation, and on these with
batch norm after each layer. What to see: pixels as they are leave a narrow range of learning rates, all others learn
nothing or come apart, where the line leaves the picture; centred and scaled they are learned better; batch norm makes
the range wide.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from _shared import run, save

import fastnn as fnn
from fastnn import init, nn, optim
from fastnn.insight import plots

RATES = tuple(10.0 ** np.arange(-4, 1.5, 0.5))
LAYERS, WIDTH = 8, 64


def network(first: nn.Module, batch_norm: bool = False) -> nn.Sequential:
    fnn.manual_seed(0)
    layers: list[nn.Module] = [first, nn.Flatten()]
    for i in range(LAYERS):
        linear = nn.Linear(WIDTH if i else 784, WIDTH)
        init.kaiming_normal_(linear.weight, nonlinearity="relu")
        layers += [linear, nn.BatchNorm1d(WIDTH) if batch_norm else nn.Identity(), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(WIDTH, 10))


def main(out: Path, full: bool = False, rates: tuple[float, ...] = RATES) -> dict[str, list[float]]:
    """Draws the picture; gives the training losses by learning rate, of each preparation."""
    train = fnn.data.load("mnist" if full else "digits")
    mean, std = train.statistics()  # of training images alone
    preparations = {
        "0 … 255": (nn.Normalize(0.0, 1 / 255), False, plots.GRAY),
        "0 … 1": (nn.Normalize(0.0, 1.0), False, plots.ORANGE),
        "centred and scaled": (nn.Normalize(mean, std), False, plots.BLUE),
        "… and batch norm": (nn.Normalize(mean, std), True, plots.GREEN),
    }
    figure = plots.figure(7.5, 3.4)
    axes = plots.styled(figure.subplots(), "after three epochs", "learning rate", "training loss")
    losses = {}
    for name, (first, batch_norm, colour) in preparations.items():
        losses[name] = [loss_at(rate, first, batch_norm, train) for rate in rates]
        axes.semilogx(rates, np.minimum(losses[name], 3), "o-", color=colour, label=name)
        fine = sum(loss < 1.5 for loss in losses[name])
        print(f"{name:20}lowest loss {min(losses[name]):.2f}; below 1.5 at {fine} of {len(rates)} learning rates")
    axes.axhline(np.log(10), color="0.6", linewidth=1, linestyle="dotted", label="nothing learned, ln 10")
    axes.set_ylim(0, 2.6)
    figure.legend(loc="outside right upper", fontsize=9)
    save(figure, out / "normalisation.png")
    return losses


def loss_at(rate: float, first: nn.Module, batch_norm: bool, train: fnn.data.Dataset) -> float:
    model = network(first, batch_norm)
    optimizer = optim.SGD(model.parameters(), lr=rate)
    try:
        history = fnn.fit(model, train, optimizer=optimizer, epochs=3, batch_size=32, seed=0, verbose=False)
    except fnn.errors.NonFiniteError:
        return float("inf")
    return history[-1].train_loss


if __name__ == "__main__":
    run(main, __doc__)
