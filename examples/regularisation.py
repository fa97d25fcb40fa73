"""Regularisation: what dropout, weight decay and penalties do to a network that overfits.

    python examples/regularisation.py [--out FOLDER] [--full]

A network of 50,000 parameters is trained on 300 digits, every fifth of them under a wrong label, and watched on others
under the right ones: without regularisation and with four kinds of it. What to see: without, it learns the mistakes by
heart, too: the training loss falls to nothing while the validation loss rises. The others hold it down, at the price
of a larger training loss. L1 (the lasso) drives most weights to zero; L2 (ridge regression) and weight decay make all
of them small.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from _shared import run, save

import fastnn as fnn
from fastnn import nn, optim
from fastnn.insight import plots

KINDS: dict[str, tuple[float, dict[str, float]]] = {  # dropout; options of the optimiser
    "none": (0.0, {}),
    "dropout 0.5": (0.5, {}),
    "weight decay 1": (0.0, {"weight_decay": 1.0}),
    "l2 = 0.01": (0.0, {"l2": 0.01}),
    "l1 = 0.002": (0.0, {"l1": 0.002}),
}
COLOURS = dict(zip(KINDS, (plots.GRAY, plots.ORANGE, plots.GREEN, plots.BLUE, plots.RED), strict=True))


def network(mean: float, std: float, dropout: float) -> nn.Sequential:
    fnn.manual_seed(0)
    return nn.Sequential(
        nn.Normalize(mean, std), nn.Flatten(),
        nn.Linear(784, 64), nn.ReLU(), nn.Dropout(dropout), nn.Linear(64, 10),
    )  # fmt: skip


def main(out: Path, full: bool = False, epochs: int = 60) -> dict[str, tuple[fnn.History, np.ndarray]]:
    """Draws the picture; gives history and first weights of each network."""
    rest, few = fnn.data.load("mnist" if full else "digits").split(300)
    few.labels[::5] = (few.labels[::5] + 1) % 10
    figure = plots.figure(7.5, 3.6)
    train, val, size = figure.subplots(1, 3)
    plots.styled(train, "training loss", "epoch", "loss without penalty")
    plots.styled(val, "validation loss", "epoch")
    plots.styled(size, "first layer, sorted", "share of the weights", "size of a weight")
    plots.percent(size.xaxis)
    size.set_xticks([0, 0.5, 1])
    results = {}
    for kind, (dropout, options) in KINDS.items():
        model = network(*few.statistics(), dropout)
        optimizer = optim.AdamW(model.parameters(), lr=5e-3, **{"weight_decay": 0.0, **options})
        history = fnn.fit(model, few, rest, optimizer=optimizer, epochs=epochs, batch_size=50, seed=0, verbose=False)
        weights = np.sort(np.abs(model[2].weight.data), axis=None)
        results[kind] = history, weights
        train.semilogy(history["epoch"], history["train_loss"], color=COLOURS[kind], label=kind)
        val.plot(history["epoch"], history["val_loss"], color=COLOURS[kind])
        size.semilogy(np.linspace(0, 1, len(weights)), weights, color=COLOURS[kind])
        last = history[-1]
        print(
            f"{kind:15} training loss {last.train_loss:.4f}, penalty {last.penalty or 0:.3f}, validation loss "
            f"{last.val_loss:.3f}, accuracy {last.val_accuracy:.1%}; weights below 0.001: {np.mean(weights < 1e-3):.0%}"
        )
    val.set_ylim(0.3, 1.5)
    size.set_ylim(1e-5, 1)
    figure.legend(loc="outside lower center", ncols=3, fontsize=9)
    save(figure, out / "regularisation.png")
    return results


if __name__ == "__main__":
    run(main, __doc__)
