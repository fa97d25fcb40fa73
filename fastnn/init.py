"""Initialisers, by PyTorch's names: each fills a parameter in place and returns it.

Xavier: Glorot and Bengio 2010, https://proceedings.mlr.press/v9/glorot10a.html. Kaiming: He et al. 2015,
https://arxiv.org/abs/1502.01852. Random numbers come from `fnn.manual_seed`, never from a `generator` (ArgumentError).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from fastnn import random, versions
from fastnn.checks import choice, number, whole
from fastnn.errors import ArgumentError, DTypeError, ShapeError
from fastnn.habits import no_such_name

__all__ = [
    "calculate_gain",
    "constant_",
    "dirac_",
    "eye_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "sparse_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]

P = TypeVar("P")  # a parameter, or an ndarray itself


_local = threading.local()


@contextmanager
def left_out() -> Iterator[None]:
    """Context in which this thread's initialisers change nothing and draw nothing: for weights that are loaded next."""
    before, _local.left_out = getattr(_local, "left_out", False), True
    try:
        yield
    finally:
        _local.left_out = before


def uniform_(tensor: P, a: float = 0.0, b: float = 1.0, generator: Any = None) -> P:
    """Numbers from the uniform distribution on [a, b).

    >>> import numpy as np, fastnn as fnn
    >>> w = fnn.init.uniform_(np.empty((3, 2), np.float32), -1, 1)
    >>> bool((np.abs(w) <= 1).all())
    True
    """
    a, b = number("uniform_", "a", a), number("uniform_", "b", b)
    if not 0 <= b - a < math.inf:
        raise ArgumentError(f"uniform_: expected a <= b, at a finite distance, got {a} and {b}")
    return _drawn(tensor, lambda source, shape: source.uniform(a, b, shape), generator)


def normal_(tensor: P, mean: float = 0.0, std: float = 1.0, generator: Any = None) -> P:
    """Numbers from the normal distribution."""
    mean, std = number("normal_", "mean", mean), number("normal_", "std", std, 0)
    return _drawn(tensor, lambda source, shape: source.normal(mean, std, shape), generator)


def constant_(tensor: P, val: float) -> P:
    """The same number everywhere."""
    return _filled(tensor, number("constant_", "val", val, finite=False))


def zeros_(tensor: P) -> P:
    """Zero everywhere."""
    return constant_(tensor, 0.0)


def ones_(tensor: P) -> P:
    """One everywhere."""
    return constant_(tensor, 1.0)


def xavier_uniform_(tensor: P, gain: float = 1.0, generator: Any = None) -> P:
    """Uniform on ±gain·sqrt(6 / (fan_in + fan_out)): the variance of signals and gradients is kept."""
    bound = number("xavier_uniform_", "gain", gain) * math.sqrt(6.0 / (sum(fans(_array(tensor))) or 1))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: P, gain: float = 1.0, generator: Any = None) -> P:
    """Normal with standard deviation gain·sqrt(2 / (fan_in + fan_out))."""
    gain = number("xavier_normal_", "gain", gain)
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / (sum(fans(_array(tensor))) or 1)), generator)


def kaiming_uniform_(
    tensor: P, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator: Any = None
) -> P:
    """Uniform on ±gain·sqrt(3 / fan); `a` is LeakyReLU's slope, `mode` is "fan_in" or "fan_out"."""
    bound = calculate_gain(nonlinearity, a) * math.sqrt(3.0 / (_fan(_array(tensor), mode) or 1))
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: P, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator: Any = None
) -> P:
    """Normal with standard deviation gain / sqrt(fan); `a` is LeakyReLU's slope, `mode` is "fan_in" or "fan_out"."""
    return normal_(tensor, 0.0, calculate_gain(nonlinearity, a) / math.sqrt(_fan(_array(tensor), mode) or 1), generator)


def trunc_normal_(
    tensor: P, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0, generator: Any = None
) -> P:
    """Numbers from the normal distribution, those outside [a, b] drawn again.

    >>> import numpy as np, fastnn as fnn
    >>> w = fnn.init.trunc_normal_(np.empty(1000), 0, 1, -0.5, 2)
    >>> bool(w.min() >= -0.5 and w.max() <= 2)
    True
    """
    mean, std = number("trunc_normal_", "mean", mean), number("trunc_normal_", "std", std)
    a, b = number("trunc_normal_", "a", a, finite=False), number("trunc_normal_", "b", b, finite=False)
    if not a < b or std <= 0 or a > mean + 5 * std or b < mean - 5 * std:
        raise ArgumentError(
            f"trunc_normal_: expected a < b within 5 std of the mean, std above 0, got {(mean, std, a, b)}"
        )

    def draw(source: np.random.Generator, shape: tuple[int, ...]) -> Any:
        values = source.normal(mean, std, shape)
        while (outside := (values < a) | (values > b)).any():
            values[outside] = source.normal(mean, std, int(outside.sum()))
        return values

    return _drawn(tensor, draw, generator)


def orthogonal_(tensor: P, gain: float = 1.0, generator: Any = None) -> P:
    """A random (semi-)orthogonal matrix times gain, the dimensions after the first taken as one (Saxe et al. 2014)."""
    array, gain = _array(tensor), number("orthogonal_", "gain", gain)
    if array.ndim < 2:
        raise ShapeError(f"orthogonal_: expected at least two dimensions, got {array.shape}")

    def draw(source: np.random.Generator, shape: tuple[int, ...]) -> Any:
        rows, columns = shape[0], math.prod(shape[1:])
        q, r = np.linalg.qr(source.normal(size=(max(rows, columns), min(rows, columns))))
        q = q * np.sign(np.diag(r))  # then all orthogonal matrices are equally likely
        return gain * (q if rows >= columns else q.T).reshape(shape)

    return _drawn(tensor, draw, generator)


def sparse_(tensor: P, sparsity: float, std: float = 0.01, generator: Any = None) -> P:
    """Normal, with the share `sparsity` of each column's entries set to 0 (Martens 2010); a matrix."""
    sparsity, std = number("sparse_", "sparsity", sparsity, 0, 1), number("sparse_", "std", std, 0)
    rows = _matrix("sparse_", tensor)[0]

    def draw(source: np.random.Generator, shape: tuple[int, ...]) -> Any:
        values = source.normal(0, std, shape)
        first = math.ceil(sparsity * rows)
        for column in values.T:
            column[source.permutation(rows)[:first]] = 0
        return values

    return _drawn(tensor, draw, generator)


def eye_(tensor: P) -> P:
    """The identity matrix."""
    return _filled(tensor, np.eye(*_matrix("eye_", tensor)))


def dirac_(tensor: P, groups: int = 1) -> P:
    """A convolution (out, in/groups, k, ...) that gives its input back, as many channels of each group as it has."""
    array, groups = _array(tensor), whole("dirac_", "groups", groups, 1)
    if array.ndim not in (3, 4, 5) or array.shape[0] % groups:
        raise ShapeError(f"dirac_: expected a convolution's weight for {groups} groups, got {array.shape}")
    values = np.zeros(array.shape, array.dtype)
    each = array.shape[0] // groups
    centre = tuple(size // 2 for size in array.shape[2:])
    for group in range(groups):
        for i in range(min(each, array.shape[1])):
            place = (group * each + i, i, *centre)
            values[place] = 1
    return _filled(tensor, values)


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """What the activation's shrinking of the signal must be made up for with; `param` is LeakyReLU's slope (0.01).

    Raises ArgumentError for an activation without a known gain.

    >>> import fastnn as fnn
    >>> fnn.init.calculate_gain("relu")
    1.4142135623730951
    """
    gains = {
        **dict.fromkeys(("linear", *(f"conv{kind}{n}d" for kind in ("", "_transpose") for n in (1, 2, 3))), 1.0),
        "sigmoid": 1.0,
        "tanh": 5.0 / 3,
        "relu": math.sqrt(2.0),
        "selu": 0.75,
    }
    if choice("calculate_gain", "nonlinearity", nonlinearity, (*gains, "leaky_relu")) == "leaky_relu":
        slope = 0.01 if param is None else number("calculate_gain", "the slope", param)
        return math.sqrt(2.0 / (1 + slope**2))
    return gains[nonlinearity]


def fans(array: np.ndarray[Any, Any]) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight: (out, in) of a linear layer, (out, in/groups, kh, kw) of a convolution."""
    if array.ndim < 2:
        raise ShapeError(f"init: expected a weight with at least two dimensions, got {array.shape}")
    window = math.prod(array.shape[2:])
    return array.shape[1] * window, array.shape[0] * window


def _matrix(op: str, tensor: Any) -> tuple[int, int]:
    shape = _array(tensor).shape
    if len(shape) != 2:
        raise ShapeError(f"{op}: expected a matrix, got shape {shape}")
    return shape


def _fan(array: np.ndarray[Any, Any], mode: str) -> int:
    choice("init", "mode", mode, ("fan_in", "fan_out"))
    return fans(array)[mode == "fan_out"]


def _drawn(tensor: P, draw: Callable[[np.random.Generator, tuple[int, ...]], Any], generator: Any) -> P:
    source = getattr(generator, "numpy", generator)
    if generator is not None and not isinstance(source, np.random.Generator):
        raise ArgumentError(f"init: expected generator=fnn.Generator(), got {type(generator).__name__}")
    array = _array(tensor)
    if getattr(_local, "left_out", False):
        return tensor
    return _filled(tensor, draw(random.generator() if source is None else source, array.shape))


def _filled(tensor: P, values: Any) -> P:
    array = _array(tensor)
    if not array.flags.writeable:
        raise ArgumentError("init: expected a parameter that can be written to, got read-only data")
    if array.dtype.kind not in "fiub":
        raise DTypeError(f"init: expected a parameter of numbers, got one of {array.dtype}")
    array[...] = values
    versions.wrote(array)
    return tensor


def _array(tensor: Any) -> np.ndarray[Any, Any]:
    array = getattr(tensor, "data", None) if not isinstance(tensor, np.ndarray) else tensor
    if not isinstance(array, np.ndarray):
        raise ArgumentError(f"init: expected a parameter, such as layer.weight, got {type(tensor).__name__}")
    return array


def _calculate_fan_in_and_fan_out(tensor: Any) -> tuple[int, int]:
    """`fans` by the name that layers of one's own call it by."""
    return fans(_array(tensor))


def _calculate_correct_fan(tensor: Any, mode: str) -> int:
    """One of `fans`, by the name that layers of one's own call it by."""
    return _fan(_array(tensor), mode.lower() if isinstance(mode, str) else mode)


# PyTorch's names of before 2018, without the underscore.
_OLD = frozenset(name[:-1] for name in __all__ if name.endswith("_")) - {"ones", "trunc_normal", "zeros"}


def __getattr__(name: str) -> Any:
    if name in _OLD:
        return globals()[f"{name}_"]
    raise no_such_name("fastnn.nn.init", name)
