"""Resilient backpropagation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fastnn.errors import ArgumentError

from .fused import FusedOptimizer
from .optimizer import Group, is_pair

__all__ = ["Rprop"]


class Rprop(FusedOptimizer):
    """Riedmiller and Braun 1993, https://doi.org/10.1109/ICNN.1993.298623: steps by the gradient's sign alone.

    Each entry of θ has a step size Δ of its own, γ at first. While the gradient keeps its sign, Δ ← min(η₊Δ, Δmax);
    where that turned, Δ ← max(η₋Δ, Δmin) and this entry pauses for one step.  θ ← θ - Δ·sign(g).

    Made for gradients of all data: between mini-batches signs turn for no better reason than chance.

    Args:
        params, lr: as for all; lr is the size of the first step only.
        etas: (η₋, η₊), with 0 < η₋ < 1 < η₊.
        step_sizes: (Δmin, Δmax).

    >>> import numpy as np
    >>> from fastnn import nn, optim
    >>> w = nn.Parameter(np.array([4.0, -0.5], np.float32))
    >>> opt = optim.Rprop([w], lr=0.1)
    >>> for _ in range(40):
    ...     w.grad = 2 * w.data
    ...     opt.step()
    >>> bool(np.abs(w.data).max() < 1e-3)
    True
    """

    kernel = "rprop_update"
    follows_lr = False

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50),
        **options: Any,
    ) -> None:
        super().__init__(params, {"lr": lr, "etas": etas, "step_sizes": step_sizes}, **options)

    def _check(self, options: Mapping[str, Any]) -> None:
        super()._check(options)
        etas, step_sizes = options["etas"], options["step_sizes"]
        if not is_pair(etas) or not 0 < etas[0] < 1 < etas[1]:
            raise ArgumentError(f"Rprop: expected etas around 1, such as (0.5, 1.2), got {etas!r}")
        if not is_pair(step_sizes) or not 0 <= step_sizes[0] <= step_sizes[1]:
            raise ArgumentError(f"Rprop: expected step_sizes (least, most), got {step_sizes!r}")

    def initial(self, group: Group) -> dict[str, float | None]:
        return {"prev": 0.0, "step_size": group["lr"]}

    def numbers(self, group: Group, step: int) -> dict[str, Any]:
        (minus, plus), (least, most) = group["etas"], group["step_sizes"]
        return {"eta_minus": minus, "eta_plus": plus, "step_size_min": least, "step_size_max": most}
