"""How sharply the loss bends where a model is: eigenvalues, trace and spectral density of its Hessian.

As PyHessian gives them (Yao et al. 2020, https://arxiv.org/abs/1912.07145), all from Lanczos runs: their Ritz values
are the largest eigenvalues, and as nodes of a quadrature (Golub and Welsch 1969) they give trace and density, averaged
over random vectors (stochastic Lanczos quadrature, Ubaru, Chen and Saad 2017).

Products of the Hessian with vectors are by two backwards, exact to rounding. Differences of gradients would be faster
(about 0.5 s against 1.5 s for 2,000 images through LeNet-5), but wherever ReLU or max-pooling changes sides between the
two points they measure the kink instead: for LeNet-5 as initialised they were wrong by a factor of 3 to 40.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.autograd.engine import grad
from fastnn.checks import whole
from fastnn.console import bar
from fastnn.errors import ArgumentError, NonFiniteError
from fastnn.insight import plots
from fastnn.insight.landscape.measure import sample
from fastnn.nn import Module
from fastnn.nn.modes import mode
from fastnn.plan.fewest import trial
from fastnn.recording import enable_grad
from fastnn.tape import in_reverse
from fastnn.tensors import Array, Tensor
from fastnn.train.checks import check_loss
from fastnn.train.evaluate import as_dataset, input_for, loss_for
from fastnn.train.targets import as_targets
from fastnn.trees import take

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Sharpness", "sharpness"]

MOST_KEPT = 2**30  # bytes of graphs that are kept from product to product, instead of being computed again
CONVERGED = 1e-3  # relative error of the eigenvalues asked for, at which the first run may end
LEAST_DENSITY = 1e-7  # that a picture shows


@dataclass(frozen=True, eq=False)
class Sharpness:
    """Result of `sharpness`.

    Attributes:
        eigenvalues: the largest eigenvalues of the Hessian, largest first, (top,).
        errors: a bound of each one's distance to the nearest true eigenvalue, (top,).
        smallest: the smallest eigenvalue that was found: below 0 where the loss bends downwards.
        trace: the sum of all eigenvalues, an estimate; `trace_error` is its standard error, NaN for one vector.
        nodes, weights: of the spectral density, (vectors, steps); the weights of a row sum to 1.
        parameters: how many the Hessian is of.
        loss: at the model's parameters.
    """

    eigenvalues: Array
    errors: Array
    smallest: float
    trace: float
    trace_error: float
    nodes: Array
    weights: Array
    parameters: int
    loss: float

    def density(self, points: Any = 1000, sigma: float | None = None) -> tuple[Array, Array]:
        """(t, share of eigenvalues per unit at t): the nodes as normal distributions of width `sigma`.

        `points` are how many, or where; `sigma` is 1 % of the spectrum's width by default.
        """
        low, high = float(self.nodes.min()), float(self.nodes.max())
        width = sigma if sigma is not None else 0.01 * max(high - low, 1e-12)
        t = np.linspace(low - 5 * width, high + 5 * width, points) if np.ndim(points) == 0 else np.asarray(points)
        bells = np.exp(-0.5 * ((t[:, None, None] - self.nodes) / width) ** 2) / (width * np.sqrt(2 * np.pi))
        return t, (bells * self.weights).sum(2).mean(1)

    def plot(self) -> Figure:
        """The spectral density, on a logarithmic scale, with the largest eigenvalues."""
        t, density = self.density()
        drawing = plots.figure(7, 3.2)
        plots.heading(drawing, f"Spectrum of the Hessian ({self.parameters:,} parameters, loss {self.loss:.3g})")
        axes = plots.styled(drawing.subplots(), x="eigenvalue of the loss's Hessian", y="density of eigenvalues")
        axes.semilogy(t, np.maximum(density, LEAST_DENSITY / 10), color=plots.BLUE, linewidth=1.2)
        axes.set_ylim(bottom=LEAST_DENSITY)
        for value in self.eigenvalues:
            axes.axvline(
                value, color=plots.ORANGE, linewidth=1.2, linestyle=":", label=f"among the largest: {value:.4g}"
            )
        axes.legend(fontsize=9)
        return drawing

    def __repr__(self) -> str:
        largest = ", ".join(f"{value:.4g}" for value in self.eigenvalues)
        return f"Sharpness(largest eigenvalues {largest}; smallest {self.smallest:.3g}; trace {self.trace:.4g})"


def sharpness(
    model: Module,
    data: Any,
    *,
    loss: Any = None,
    top: int = 2,
    vectors: int = 2,
    steps: int = 15,
    images: int = 2000,
    batch_size: int = 500,
    seed: int = 0,
    progress: bool | None = None,
) -> Sharpness:
    """The largest eigenvalues, the trace and the spectral density of the loss's Hessian, in eval mode.

    Args:
        model: its parameters that require a gradient count; it stays as it is, `.grad` too. In float64
            (`model.double()`) the results are exact to float64.
        data: as for `evaluate`: of a data set's name the test part.
        loss: as for `evaluate`; a mean over the images.
        top: how many of the largest eigenvalues. Of equal ones, one is found.
        vectors: random vectors, each with a Lanczos run; more make trace and density more certain.
        steps: of each run, each a product with the Hessian; the first one goes on, up to four times as long, until the
            largest eigenvalues are right to 1e-3.
        images: at most so many, a sample of each class.
        batch_size: images at a time; the result does not depend on it but for rounding.
        seed: of the random vectors.
        progress: whether to show a bar on standard error; by default if that is a terminal.

    Raises ArgumentError for a model without parameters to learn and numbers that make no sense, NonFiniteError where
    the Hessian is not finite, GraphError for a model with an operator that has no second derivative.

    >>> import fastnn as fnn
    >>> model = fnn.nn.Sequential(fnn.nn.Normalize(0.3, 0.4), fnn.nn.Flatten(), fnn.nn.Linear(784, 10))
    >>> found = fnn.insight.sharpness(model, "digits", images=100, progress=False)
    >>> found.eigenvalues.shape, bool(found.smallest > -1e-3)  # the loss of a linear model bends nowhere downwards
    ((2,), True)
    """
    if not isinstance(model, Module):
        raise ArgumentError(f"sharpness: expected a model (nn.Module), got {type(model).__name__}")
    check_loss("sharpness", loss)
    top, vectors, steps = (
        whole("sharpness", name, value, 1) for name, value in (("top", top), ("vectors", vectors), ("steps", steps))
    )
    batch_size, seed = whole("sharpness", "batch_size", batch_size, 1), whole("sharpness", "seed", seed, 0)
    dataset = sample(as_dataset(data, "test"), whole("sharpness", "images", images, 1))
    parameters = [p for p in model.parameters() if p.requires_grad]
    count = sum(p.numel() for p in parameters)
    if not count:
        raise ArgumentError("sharpness: expected a model with parameters to learn, got none")
    generator = np.random.default_rng(seed)
    loss_fn = loss_for(model, dataset.images, dataset.labels) if loss is None else loss
    with mode(model, training=False), enable_grad():
        inputs, batches = input_for(model)(dataset.images), []
        to_target = as_targets(dataset.labels, trial(model, take(inputs, slice(2))), loss_fn)
        for start in range(0, len(dataset), batch_size):
            chosen = np.arange(start, min(start + batch_size, len(dataset)))
            batches.append((take(inputs, chosen), to_target(take(dataset.labels, chosen)), len(chosen) / len(dataset)))
        hessian = _Hessian(model, loss_fn, parameters, batches)
        size, largest = min(steps, count), max(top, min(4 * steps, count))
        runs: list[tuple[Array, Array, float]] = []
        with bar(progress, total=vectors * size, desc="Hessian", leave=False) as shown:
            for i in range(vectors):
                start = generator.choice((-1.0, 1.0), count) / np.sqrt(count)
                most, wanted = (largest, min(top, count)) if i == 0 else (size, 0)
                runs.append(_lanczos(hessian, start, size, most, wanted, shown.update))
    values, components, residual = runs[0]
    order = np.argsort(values)[::-1][:top]
    nodes, weights = _padded([(values, components[0] ** 2) for values, components, _ in runs])
    traces = count * (nodes * weights).sum(1)
    return Sharpness(
        values[order],
        abs(residual * components[-1][order]),
        float(nodes[weights > 0].min()),
        float(traces.mean()),
        float(traces.std(ddof=1) / np.sqrt(vectors)) if vectors > 1 else float("nan"),
        nodes,
        weights,
        count,
        hessian.loss,
    )


class _Hessian:
    """Called with a vector (count,) it gives the product with the Hessian of the mean loss over all batches."""

    def __init__(self, model: Any, loss_fn: Any, parameters: list[Any], batches: list[tuple[Any, Any, float]]) -> None:
        self._model, self._loss_fn, self._parameters, self._batches = model, loss_fn, parameters, batches
        self._ends = np.cumsum([p.numel() for p in parameters])
        self._graphs: list[tuple[Tensor, ...]] = []
        first, self.loss = self._slopes(0)
        if _bytes(first) * len(batches) <= MOST_KEPT:
            self._graphs.append(first)
        for i in range(1, len(batches)):
            slopes, loss = self._slopes(i)
            self.loss += loss
            if self._graphs:
                self._graphs.append(slopes)

    def _slopes(self, i: int) -> tuple[tuple[Tensor, ...], float]:
        """The gradients of a batch on the tape, with its part of the loss."""
        x, y, share = self._batches[i]
        loss = self._loss_fn(self._model(np.copy(x)), y)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            raise ArgumentError("sharpness: expected a loss of one number")
        return grad(loss * share, self._parameters, create_graph=True, materialize_grads=True), loss.item() * share

    def __call__(self, vector: Array) -> Array:
        parts = [
            Tensor(part.reshape(p.shape).astype(p.dtype))
            for part, p in zip(np.split(vector, self._ends[:-1]), self._parameters, strict=True)
        ]
        total = np.zeros(vector.shape)
        for i in range(len(self._batches)):
            slopes = self._graphs[i] if self._graphs else self._slopes(i)[0]
            used = [(slope, part) for slope, part in zip(slopes, parts, strict=True) if slope.requires_grad]
            if used:
                outputs, starts = zip(*used, strict=True)
                found = grad(outputs, self._parameters, starts, retain_graph=True, materialize_grads=True)
                total += np.concatenate([part.numpy().ravel() for part in found])
        if not np.isfinite(total).all():
            raise NonFiniteError("sharpness: the Hessian is not finite here: is the loss?")
        return total


def _bytes(tensors: tuple[Tensor, ...]) -> int:
    """What the graph of these tensors keeps in memory, about."""
    arrays: dict[int, int] = {}
    for node in in_reverse([x.node for x in tensors if x.node is not None]):
        kept = (*node.inputs, *(() if node.ctx is None else node.ctx.saved_tensors))
        for x in kept:
            array = x._data if isinstance(x, Tensor) else x
            if isinstance(array, np.ndarray) and array.strides != (0,) * array.ndim:
                arrays[array.ctypes.data] = array.nbytes
    return sum(arrays.values())


def _lanczos(
    product: Callable[[Array], Array], start: Array, steps: int, most: int, wanted: int, advance: Callable[[], Any]
) -> tuple[Array, Array, float]:
    """Ritz values (k,) in ascending order, the eigenvectors of the tridiagonal matrix (k, k), and its next entry β.

    Each new direction is made orthogonal to all before, twice, so that no eigenvalue comes again. Goes on after `steps`
    until the `wanted` largest are right, and at most to `most`. `start` has length 1.
    """
    basis = [start]
    alphas: list[float] = []
    betas: list[float] = []
    while True:
        following = product(basis[-1])
        advance()
        alphas.append(float(basis[-1] @ following))
        for _ in range(2):
            for vector in basis:
                following -= (vector @ following) * vector
        beta = float(np.linalg.norm(following))
        values, components = np.linalg.eigh(np.diag(alphas) + np.diag(betas, 1) + np.diag(betas, -1))
        scale = max(abs(values).max(), 1e-30)
        errors = abs(beta * components[-1])[::-1][:wanted]
        right = len(values) >= wanted and (errors <= CONVERGED * abs(values[::-1][:wanted])).all()
        ended = beta <= 1e-10 * scale  # the start lies in a space that the Hessian does not lead out of
        if ended or len(alphas) >= most or (len(alphas) >= steps and right):
            return values, components, beta
        betas.append(beta)
        basis.append(following / beta)


def _padded(runs: list[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Nodes and weights of all runs as rows, shorter ones filled with their last node of weight 0."""
    longest = max(len(nodes) for nodes, _ in runs)
    rows = [
        (np.pad(nodes, (0, longest - len(nodes)), "edge"), np.pad(weights, (0, longest - len(weights))))
        for nodes, weights in runs
    ]
    return np.array([nodes for nodes, _ in rows]), np.array([weights for _, weights in rows])
