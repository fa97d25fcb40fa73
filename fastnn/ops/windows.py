"""Windows: weights that fall off towards both ends, of spectra and of patches that overlap.

`periodic` leaves out the last weight of a window one longer, so that copies join; else it is symmetric.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.arrays import check_size
from fastnn.checks import flag, number, whole
from fastnn.dtypes import get_default_dtype
from fastnn.ops.creation import made_of
from fastnn.ops.names import of
from fastnn.tensors import Array, Tensor

if not TYPE_CHECKING:
    __all__ = of("windows")


def _window(op: str, length: Any, periodic: Any, formula: Callable[[int], Array], options: dict[str, Any]) -> Tensor:
    """`formula`, NumPy's, gives the symmetric window of a length."""
    count = whole(op, "window_length", length, 0)
    check_size(op, (count,))
    more = int(flag(op, "periodic", periodic) and count > 1)
    dtype, device, asked = options.pop("dtype", None), options.pop("device", None), options.pop("requires_grad", False)
    weights = formula(count + more)[:count]
    return made_of(op, weights, get_default_dtype() if dtype is None else dtype, device, asked, options)


def hann_window(window_length: int, periodic: bool = True, **options: Any) -> Tensor:
    """½ - ½ cos(2πn / N), n = 0, 1, …; `options` are those of `zeros`: dtype, device, requires_grad.

    >>> import fastnn as fnn
    >>> fnn.hann_window(5, periodic=False)
    Tensor([0. , 0.5, 1. , 0.5, 0. ])
    """
    return _window("hann_window", window_length, periodic, np.hanning, options)


def hamming_window(
    window_length: int, periodic: bool = True, alpha: float = 0.54, beta: float = 0.46, **options: Any
) -> Tensor:
    """alpha - beta cos(2πn / N), n = 0, 1, …"""
    a, b = number("hamming_window", "alpha", alpha), number("hamming_window", "beta", beta)

    def formula(count: int) -> Array:
        return a - b + 2 * b * np.hanning(count) if count > 1 else np.ones(count)

    return _window("hamming_window", window_length, periodic, formula, options)


def blackman_window(window_length: int, periodic: bool = True, **options: Any) -> Tensor:
    """0.42 - 0.5 cos(2πn / N) + 0.08 cos(4πn / N), n = 0, 1, …"""
    return _window("blackman_window", window_length, periodic, np.blackman, options)


def bartlett_window(window_length: int, periodic: bool = True, **options: Any) -> Tensor:
    """A triangle: 1 - |2n / N - 1|, n = 0, 1, …"""
    return _window("bartlett_window", window_length, periodic, np.bartlett, options)


def kaiser_window(window_length: int, periodic: bool = True, beta: float = 12.0, **options: Any) -> Tensor:
    """I₀(β √(1 - (2n / N - 1)²)) / I₀(β), n = 0, 1, …"""
    shape = number("kaiser_window", "beta", beta)
    return _window("kaiser_window", window_length, periodic, lambda count: np.kaiser(count, shape), options)
