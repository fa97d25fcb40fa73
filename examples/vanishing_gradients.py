"""Vanishing gradients: 20 layers of sigmoids or ReLUs, initialised naively, after Glorot (Xavier), after He (Kaiming).

    python examples/vanishing_gradients.py [--out FOLDER] [--full]

For each of the six networks: how far the outputs of each layer are spread, how large the gradient of each layer's
weights is, before any training, and how the loss falls in ten epochs on the digits. What to see:

* naive weights (normal, deviation 0.01) shrink every signal: nothing comes through, and nothing is learned;
* sigmoids lose a factor of four or more of the gradient in every layer: no initialisation helps 20 of them;
* ReLUs halve the mean square of a signal: Kaiming's weights make up for it, Xavier's lack a factor √2 in each layer.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from _shared import run, save

import fastnn as fnn
from fastnn import init, nn, optim
from fastnn.insight import SignalReport, plots

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"sigmoid": nn.Sigmoid, "ReLU": nn.ReLU}
INITIALISATIONS: dict[str, Callable[[Any], Any]] = {
    "naive": lambda weight: init.normal_(weight, 0.0, 0.01),
    "Xavier": init.xavier_normal_,
    "Kaiming": lambda weight: init.kaiming_normal_(weight, nonlinearity="relu"),
}
COLOURS = dict(zip(INITIALISATIONS, (plots.GRAY, plots.ORANGE, plots.BLUE), strict=True))


def network(activation: str, initialisation: str, layers: int, width: int = 64) -> nn.Sequential:
    fnn.manual_seed(0)
    modules: list[nn.Module] = [nn.Normalize(0.22, 0.32), nn.Flatten()]
    for i in range(layers):
        modules += [nn.Linear(width if i else 784, width), ACTIVATIONS[activation]()]
    model = nn.Sequential(*modules, nn.Linear(width, 10))
    for module in model:
        if isinstance(module, nn.Linear):
            INITIALISATIONS[initialisation](module.weight)
            init.zeros_(module.bias)
    return model


def main(out: Path, full: bool = False, layers: int = 20, epochs: int | None = None) -> dict[tuple[str, str], Any]:
    """Draws the picture; gives (signal report, history) of each network."""
    digits, epochs = fnn.data.load("mnist" if full else "digits"), epochs or (1 if full else 10)
    results: dict[tuple[str, str], tuple[SignalReport, fnn.History]] = {}
    print("20 layers        std, layer 1 → last     gradient, layer 1 → last    loss before → after training")
    for key in ((a, i) for a in ACTIVATIONS for i in INITIALISATIONS):
        model = network(*key, layers)
        report = fnn.signal_report(model, digits.images[:256], digits.labels[:256])
        history = fnn.fit(
            model, digits, optimizer=optim.Adam(model.parameters(), lr=1e-3), epochs=epochs, batch_size=32, seed=0,
            verbose=False,
        )  # fmt: skip
        results[key] = report, history
        spread, gradient = spreads(report), gradients(report)
        print(
            f"{key[0]:8} {key[1]:8}{spread[0]:9.2g} → {spread[-1]:<9.2g}{gradient[0]:12.1e} → {gradient[-1]:<10.1e}"
            f"{report.loss:10.3f} → {history[-1].train_loss:.3f}"
        )
    save(draw(results), out / "vanishing_gradients.png")
    return results


def spreads(report: SignalReport) -> list[float]:
    """Deviation of the outputs of each activation."""
    return [signal.std for signal in report if signal.operator in ("sigmoid", "relu")]


def gradients(report: SignalReport) -> list[float]:
    """Norm of the gradient of each linear layer's parameters."""
    return [signal.parameter_gradient or 0.0 for signal in report if signal.operator == "linear"]


def draw(results: dict[tuple[str, str], tuple[SignalReport, fnn.History]]) -> Any:
    figure = plots.figure(7.8, 5)
    panels = figure.subplots(2, 3, sharex="col", sharey="col")
    for row, activation in zip(panels, ACTIVATIONS, strict=True):
        plots.styled(row[0], f"{activation}: outputs", y="standard deviation")
        plots.styled(row[1], f"{activation}: gradients", y="norm")
        plots.styled(row[2], f"{activation}: training", y="training loss")
        for initialisation, colour in COLOURS.items():
            report, history = results[activation, initialisation]
            style = {"color": colour, "label": initialisation, "marker": "o", "markersize": 3}
            spread, gradient = spreads(report), gradients(report)
            row[0].semilogy(range(1, 1 + len(spread)), spread, **style)
            row[1].semilogy(range(1, 1 + len(gradient)), gradient, **style)
            row[2].plot(history["epoch"], history["train_loss"], **style)
        row[0].legend(fontsize=9)
    for axes, label in zip(panels[-1], ("layer", "layer", "epoch"), strict=True):
        axes.set_xlabel(label)
        axes.xaxis.get_major_locator().set_params(integer=True)
    return figure


if __name__ == "__main__":
    run(main, __doc__)
