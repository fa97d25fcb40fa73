"""L-BFGS."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np

from fastnn import versions
from fastnn.checks import called, choice, number, whole
from fastnn.errors import ArgumentError

from .optimizer import Array, Optimizer, is_penalized, loss_of, penalty_gradient

__all__ = ["LBFGS"]

ARMIJO, CURVATURE = 1e-4, 0.9  # the Wolfe conditions' numbers
ENOUGH = 1e-10  # curvature below which a pair is not kept


class LBFGS(Optimizer):
    """Liu and Nocedal 1989, https://doi.org/10.1007/BF01589116: Newton's steps, the Hessian guessed from gradients.

    A step makes up to `max_iter` iterations, each along a direction made of the last `history_size` changes of θ and of
    the gradient, of length lr, or, with ``line_search_fn="strong_wolfe"``, of a length sought by cubic interpolation.
    It ends where no gradient is above `tolerance_grad`, where θ or the loss change by less than `tolerance_change`, or
    after `max_eval` calls of the closure (1.25 · max_iter by default). The steps are PyTorch's; there is one group.

    >>> import numpy as np
    >>> import fastnn as fnn
    >>> from fastnn import optim
    >>> w = fnn.Tensor(np.array([4.0, -2.0]), requires_grad=True)
    >>> opt = optim.LBFGS([w], line_search_fn="strong_wolfe")
    >>> def closure():
    ...     opt.zero_grad()
    ...     loss = ((w - 1) ** 4).sum() + (w * w).sum()
    ...     loss.backward()
    ...     return loss
    >>> opt.step(closure).item(), round(closure().item(), 4)
    (182.0, 0.5785)
    """

    needs_closure = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
        **options: Any,
    ) -> None:
        max_iter = whole("LBFGS", "max_iter", max_iter, 1)
        if line_search_fn is not None:
            choice("LBFGS", "line_search_fn", line_search_fn, ("strong_wolfe",))
        defaults = {
            "lr": lr,
            "max_iter": max_iter,
            "max_eval": whole("LBFGS", "max_eval", max_iter * 5 // 4 if max_eval is None else max_eval, 1),
            "tolerance_grad": number("LBFGS", "tolerance_grad", tolerance_grad, 0),
            "tolerance_change": number("LBFGS", "tolerance_change", tolerance_change, 0),
            "history_size": whole("LBFGS", "history_size", history_size, 1),
            "line_search_fn": line_search_fn,
        }
        self._memory: dict[str, Any] = {"func_evals": 0, "n_iter": 0}
        super().__init__(params, defaults, **options)

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        if self.param_groups:
            raise ArgumentError("LBFGS: expected one group of parameters, got another one")
        super().add_param_group(param_group)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Up to max_iter iterations; returns the loss before them. The closure computes the loss and all gradients.

        Raises ArgumentError without a closure. Penalties and `maximize` count in the loss that the search compares.
        """
        if closure is None:
            raise ArgumentError("LBFGS.step: expected a closure that computes the loss, got none")
        group, kept = self.param_groups[0], self._memory
        first = called("LBFGS.step", "closure", closure)()
        loss, grad, calls = self._objective(first), self._gradient(), 1
        kept["func_evals"] += 1
        if np.abs(grad).max() <= group["tolerance_grad"]:
            return first
        for iteration in range(1, group["max_iter"] + 1):
            kept["n_iter"] += 1
            d = self._direction(grad, group["history_size"])
            kept["prev_flat_grad"], before = grad.copy(), loss
            t = group["lr"] * (min(1.0, 1.0 / float(np.abs(grad).sum())) if kept["n_iter"] == 1 else 1.0)
            kept["d"], kept["t"] = d, t
            slope = float(grad @ d)
            if slope > -group["tolerance_change"]:
                break
            start, more = [p.data.copy() for p in group["params"]], 0
            if group["line_search_fn"] is not None:
                search = _Search(partial(self._at, closure, start, d), d, loss, grad, slope)
                loss, grad, t = search.run(t, group["tolerance_change"], group["max_eval"] - calls)
                kept["t"], more = t, search.calls
                self._put(start, t, d)
            else:
                self._put(start, t, d)
                if iteration != group["max_iter"]:  # there is no use for the gradient after the last one
                    loss, grad, more = self._objective(closure()), self._gradient(), 1
            calls += more
            kept["func_evals"] += more
            if (
                calls >= group["max_eval"]
                or np.abs(grad).max() <= group["tolerance_grad"]
                or float(np.abs(d * t).max()) <= group["tolerance_change"]
                or abs(loss - before) < group["tolerance_change"]
            ):
                break
        return first

    def _direction(self, grad: Array, most: int) -> Array:
        """-H·g by the two-loop recursion (Nocedal and Wright 2006, Algorithm 7.4)."""
        kept = self._memory
        if kept["n_iter"] == 1:
            kept.update(pairs=[], scale=1.0)
            return -grad
        y, s = grad - kept["prev_flat_grad"], kept["d"] * kept["t"]
        curvature = float(y @ s)
        if curvature > ENOUGH:
            kept["pairs"] = [*kept["pairs"][-(most - 1) or len(kept["pairs"]) :], (y, s, 1.0 / curvature)]
            kept["scale"] = curvature / float(y @ y)
        q, shares = -grad, []
        for y, s, rho in reversed(kept["pairs"]):
            shares.append(float(s @ q) * rho)
            q -= shares[-1] * y
        q *= kept["scale"]
        for (y, s, rho), share in zip(kept["pairs"], reversed(shares), strict=True):
            q += (share - float(y @ q) * rho) * s
        return q

    def _objective(self, loss: Any) -> float:
        sign = -1.0 if self.param_groups[0]["maximize"] else 1.0
        return sign * loss_of("LBFGS", loss) + (self.penalty() or 0.0)

    def _gradient(self) -> Array:
        """Of all parameters, one after the other; 0 where there is none."""
        group, parts = self.param_groups[0], []
        for p in group["params"]:
            g = np.zeros_like(p.data) if p.grad is None else -p.grad if group["maximize"] else p.grad
            parts.append((g + penalty_gradient(p.data, group) if is_penalized(group, p.data) else g).ravel())
        return np.concatenate(parts)

    def _put(self, start: list[Array], t: float, d: Array) -> None:
        """θ = start + t·d."""
        at = 0
        for p, before in zip(self.param_groups[0]["params"], start, strict=True):
            np.add(before, before.dtype.type(t) * d[at : at + before.size].reshape(before.shape), out=p.data)
            versions.wrote(p.data)
            at += before.size

    def _at(self, closure: Callable[[], Any], start: list[Array], d: Array, t: float) -> tuple[float, Array]:
        self._put(start, t, d)
        return self._objective(closure()), self._gradient()

    def state_dict(self) -> dict[str, Any]:
        """The groups, and in the place of states what has been learnt of the Hessian, as plain values and arrays."""
        kept = self._memory
        return {**super().state_dict(), "memory": {**kept, "pairs": [list(pair) for pair in kept.get("pairs", [])]}}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """What `state_dict` gave; raises StateError if the groups do not fit."""
        super().load_state_dict(state_dict)
        memory = dict(state_dict.get("memory", {"func_evals": 0, "n_iter": 0}))
        memory["pairs"] = [(np.array(y), np.array(s), float(rho)) for y, s, rho in memory.get("pairs", [])]
        self._memory = memory


class _Point:
    """A step length, with loss, gradient and slope there."""

    def __init__(self, t: float, loss: float, grad: Array, slope: float) -> None:
        self.t, self.loss, self.grad, self.slope = t, loss, grad, slope


class _Search:
    """A step length that meets the strong Wolfe conditions (Nocedal and Wright 2006, Algorithms 3.5 and 3.6)."""

    def __init__(
        self, evaluate: Callable[[float], tuple[float, Array]], d: Array, loss: float, grad: Array, slope: float
    ) -> None:
        self.evaluate, self.d, self.calls = evaluate, d, 0
        self.start = _Point(0.0, loss, grad, slope)

    def _point(self, t: float) -> _Point:
        self.calls += 1
        loss, grad = self.evaluate(t)
        return _Point(t, loss, grad, float(grad @ self.d))

    def _too_high(self, point: _Point) -> bool:
        return point.loss > self.start.loss + ARMIJO * point.t * self.start.slope

    def _flat(self, point: _Point) -> bool:
        return abs(point.slope) <= -CURVATURE * self.start.slope

    def run(self, t: float, tolerance: float, most: int) -> tuple[float, Array, float]:
        """(loss, gradient, length) of the best point that is found in about `most` evaluations."""
        before, point, tries = self.start, self._point(t), 0
        bracket: list[_Point] = []
        while tries < most:
            if self._too_high(point) or (tries > 1 and point.loss >= before.loss):
                bracket = [before, point]
                break
            if self._flat(point):
                return point.loss, point.grad, point.t
            if point.slope >= 0:
                bracket = [before, point]
                break
            bounds = (point.t + 0.01 * (point.t - before.t), point.t * 10)
            before, point = point, self._point(_cubic(before, point, bounds))
            tries += 1
        best = self._zoom(bracket or [self.start, point], tolerance, most - tries)
        return best.loss, best.grad, best.t

    def _zoom(self, bracket: list[_Point], tolerance: float, most: int) -> _Point:
        """The bracket made smaller, until a point in it meets the conditions."""
        size, near_an_end = float(np.abs(self.d).max()), False
        low, high = (0, 1) if bracket[0].loss <= bracket[1].loss else (1, 0)
        for _ in range(most):
            least, largest = sorted(each.t for each in bracket)
            if (largest - least) * size < tolerance:
                break
            t, margin = _cubic(bracket[0], bracket[1], (least, largest)), 0.1 * (largest - least)
            if min(largest - t, t - least) < margin:
                if near_an_end or t >= largest or t <= least:
                    t = largest - margin if abs(t - largest) < abs(t - least) else least + margin
                    near_an_end = False
                else:
                    near_an_end = True
            else:
                near_an_end = False
            point = self._point(t)
            if self._too_high(point) or point.loss >= bracket[low].loss:
                bracket[high] = point
                low, high = (0, 1) if bracket[0].loss <= bracket[1].loss else (1, 0)
                continue
            if self._flat(point):
                return point
            if point.slope * (bracket[high].t - bracket[low].t) >= 0:
                bracket[high] = bracket[low]
            bracket[low] = point
        return bracket[low]


def _cubic(a: _Point, b: _Point, bounds: tuple[float, float]) -> float:
    """Where the cubic through two points, with their slopes, is least, within the bounds."""
    d1 = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.t - b.t)
    square = d1 * d1 - a.slope * b.slope
    if not square >= 0:
        return (bounds[0] + bounds[1]) / 2
    left, right = (a, b) if a.t <= b.t else (b, a)
    d2 = math.sqrt(square)
    t = right.t - (right.t - left.t) * ((right.slope + d2 - d1) / (right.slope - left.slope + 2 * d2))
    return min(max(t, bounds[0]), bounds[1])
