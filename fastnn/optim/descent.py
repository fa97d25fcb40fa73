"""Gradient descent whose step is sought on the way down."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from fastnn import versions
from fastnn.checks import called, number, whole
from fastnn.errors import ArgumentError, NonFiniteError, ShapeError

from .optimizer import Array, Group, Optimizer, is_penalized, loss_of, penalty_gradient

__all__ = ["GradientDescent"]


class GradientDescent(Optimizer):
    """Gradient descent with backtracking: no step that does not decrease R(θ), the loss with the penalties.

    θ ← θ - αγg, with the first α of 1, ρ, ρ², ... that decreases R enough, by Armijo's condition
    R(θ - αγg) ≤ R(θ) - cαγ‖g‖², and at all: R(θ - αγg) < R(θ) (Nocedal and Wright 2006, Algorithm 3.1).

    Where no α does so, because θ is a minimum as far as numbers of this precision can tell, the parameters stay as they
    are, bit for bit, and `alpha` is 0. A trial that gives no finite loss is one that does not decrease it.

    Args:
        params: parameters, or groups of them, with an `lr` and penalties of their own.
        lr: γ, the longest step tried.
        c: how much of the decrease that the slope promises is enough, between 0 and 1.
        contraction: ρ, between 0 and 1.
        max_trials: steps tried at most.
        penalty: `l1`, `l2` and `penalize_bias`, as of all optimisers. The step goes along the gradient of least norm
            where l1 has a kink: an entry at 0 stays there unless the loss pulls harder than l1.

    Attributes:
        alpha: α of the last step; 0: none was found. None before the first.
        trials: how many steps the last one tried.

    >>> import numpy as np
    >>> from fastnn import nn, optim
    >>> w = nn.Parameter(np.array([4.0, -2.0], np.float32))
    >>> opt = optim.GradientDescent([w], lr=10.0)
    >>> def closure():
    ...     opt.zero_grad()
    ...     loss = (w * w).sum()
    ...     loss.backward()
    ...     return loss
    >>> opt.step(closure).item(), closure().item() < 20, opt.alpha
    (20.0, True, 0.0625)
    """

    needs_closure = True
    follows_lr = False

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        c: float = 1e-4,
        contraction: float = 0.5,
        max_trials: int = 50,
        **options: Any,
    ) -> None:
        self.c = number("GradientDescent", "c", c, above=0, below=1)
        self.contraction = number("GradientDescent", "contraction", contraction, above=0, below=1)
        self.max_trials = whole("GradientDescent", "max_trials", max_trials, 1, expected="max_trials of at least 1")
        self.alpha: float | None = None
        self.trials = 0
        super().__init__(params, {"lr": lr}, **options)
        if any(group["maximize"] for group in self.param_groups):
            raise ArgumentError("GradientDescent: expected maximize=False: let the closure return the negative loss")

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; the loss before it, as the closure gave it, is returned.

        Args:
            closure: computes the loss, without the penalty, and the gradients of the parameters as they are. It is
                called once where the step begins and once for each trial, so it has to give the same loss for the same
                parameters: no dropout, no other batch.

        Raises ArgumentError without a closure. What the closure raises where the step begins is passed on. At a trial,
        its NonFiniteError counts as no decrease; before anything else goes on, the parameters are put back.
        """
        if closure is None:
            raise ArgumentError("GradientDescent.step: expected a closure that computes the loss, got none")
        loss = called("GradientDescent.step", "closure", closure)()
        before = self._objective(loss)
        moves = [(p, p.data.copy(), *self._direction(p, group)) for group, p in self._with_gradients()]
        slope = math.fsum(rate * float(np.square(g, dtype=np.float64).sum()) for _, _, g, rate in moves)
        self.alpha, self.trials = 0.0, 0
        try:
            alpha = 1.0
            while slope > 0 and self.trials < self.max_trials:
                if not self._move(moves, alpha):
                    break  # shorter ones change nothing either
                self.trials += 1
                after = self._trial(closure)
                if after < before and after <= before - self.c * alpha * slope:
                    self.alpha = alpha
                    break
                alpha *= self.contraction
        finally:
            if self.alpha == 0:
                for p, start, _, _ in moves:
                    p.data[...] = start
                    versions.wrote(p.data)
        return loss

    @property
    def converged(self) -> bool:
        """Whether the last step found that none along the gradient decreases what is minimised."""
        return self.alpha == 0

    def state_dict(self) -> dict[str, Any]:
        """As of all optimisers, and "alpha": that of the last step, which says whether there is any use in another."""
        return {**super().state_dict(), "alpha": self.alpha}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """What `state_dict` gave; raises StateError, and changes nothing, if it does not fit."""
        super().load_state_dict(state_dict)
        alpha = state_dict.get("alpha")
        self.alpha = None if alpha is None else float(number("GradientDescent", "alpha", alpha, 0))

    def _with_gradients(self) -> list[tuple[Group, Any]]:
        found = [(group, p) for group in self.param_groups for p in group["params"] if p.grad is not None]
        for _, p in found:
            if p.grad.shape != p.data.shape:
                raise ShapeError(f"{self._name}: expected .grad of shape {p.data.shape}, got {p.grad.shape}")
        return found

    def _objective(self, loss: Any) -> float:
        return loss_of("GradientDescent", loss) + (self.penalty() or 0.0)

    def _trial(self, closure: Callable[[], Any]) -> float:
        try:
            return self._objective(closure())
        except NonFiniteError:
            return math.inf

    def _direction(self, p: Any, group: Mapping[str, Any]) -> tuple[Array, float]:
        """R's gradient, a copy, of least norm where l1 leaves a choice; and the rate of its group."""
        g = p.grad.copy()
        if is_penalized(group, p.data):
            kink = (p.data == 0) & (group["l1"] > 0)
            g += penalty_gradient(p.data, group)
            g = np.where(kink, np.sign(g) * np.maximum(np.abs(g) - g.dtype.type(group["l1"]), 0), g)
        return g, float(group["lr"])

    @staticmethod
    def _move(moves: list[Any], alpha: float) -> bool:
        """Whether any parameter is another than before, after this step."""
        moved = False
        for p, start, g, rate in moves:
            np.subtract(start, g.dtype.type(alpha * rate) * g, out=p.data)
            versions.wrote(p.data)
            moved = moved or not np.array_equal(p.data, start)
        return moved
