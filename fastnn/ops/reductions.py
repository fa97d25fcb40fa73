"""Many entries made one: sums, moments, extrema, truth; over one dimension, several, or all.

`dim` may be called `axis`, and `keepdim` `keepdims`, as in NumPy.
"""

from __future__ import annotations

import functools
import inspect
import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from fastnn.checks import is_whole, number, shown, warn
from fastnn.dtypes import dtype_of
from fastnn.errors import ArgumentError, FastnnError, ShapeError
from fastnn.ops.common import Dim, axes, axis, floating, tensor_of
from fastnn.ops.joining import where
from fastnn.ops.logic import ne
from fastnn.ops.names import of
from fastnn.ops.shaping import Deviation, Extremum, Place, Sum
from fastnn.tensors import Array, Context, Function, Tensor

if not TYPE_CHECKING:
    __all__ = of("reductions")
F = TypeVar("F")


class ValuesAndIndices(NamedTuple):
    """What max, min and median give along a dimension: the entries, and where they stand; a pair, too."""

    values: Tensor
    indices: Tensor


class MinAndMax(NamedTuple):
    """What aminmax gives."""

    min: Tensor
    max: Tensor


class Peak(Function):
    """The largest entry over the dimensions `dim` (all if None), or the smallest; of equal ones each takes its share of
    the gradient. Saves x and the output. Attributes: dim, keepdim, largest."""

    @staticmethod
    def forward(ctx: Context, x: Array, *, dim: tuple[int, ...] | None, keepdim: bool, largest: bool) -> Array:
        y = (np.max if largest else np.min)(x, axis=dim, keepdims=keepdim)
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        x, y = ctx.saved_tensors
        dim = ctx.attributes["dim"]
        if dim is not None and not ctx.attributes["keepdim"]:
            grad, y = np.expand_dims(grad, dim), np.expand_dims(y, dim)
        return _shared(grad, x == y, dim)


class Middle(Function):
    """The entry of a vector that `pick` finds, whose gradient its equals share, as Peak's do. Saves both. Attribute:
    pick."""

    @staticmethod
    def forward(ctx: Context, x: Array, *, pick: Any) -> Array:
        y: Array = np.asarray(x[pick(x, axis=0, keepdims=False)])
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        x, y = ctx.saved_tensors
        return _shared(grad, (x == y) | (np.isnan(x) & np.isnan(y)), None)


def _shared(grad: Array, same: Array, dim: tuple[int, ...] | None) -> Array:
    """The gradient in equal parts, over `dim`, for the entries that are meant."""
    shares = same.astype(grad.dtype)
    found: Array = shares * (grad / np.sum(shares, axis=dim, keepdims=True))
    return found


class Prod(Function):
    """The product along dim, which is left out; kernels prod_*. Saves x and the output. Attribute: dim."""

    @staticmethod
    def forward(ctx: Context, x: Array, *, dim: int) -> Array:
        if x.dtype.kind != "f":
            return np.asarray(np.prod(x, axis=dim))
        y: Array = ctx.kernels.prod_forward(x, dim)
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        grad_x: Array = ctx.kernels.prod_backward_input(grad, *ctx.saved_tensors, ctx.attributes["dim"])
        return grad_x


class Truth(Function):
    """Whether any entry over the dimensions `dim` (all if None) is not 0, or whether all are. Attributes: dim, keepdim,
    every."""

    differentiable = False

    @staticmethod
    def forward(ctx: Context, x: Array, *, dim: tuple[int, ...] | None, keepdim: bool, every: bool) -> Array:
        return (np.all if every else np.any)(x, axis=dim, keepdims=keepdim)


def numpys_names(function: F) -> F:
    """Decorator: the function takes `axis` for `dim` and `keepdims` for `keepdim`, and any array for a tensor."""

    @functools.wraps(function)  # type: ignore[arg-type]
    def called(input: Any, *args: Any, **options: Any) -> Any:
        if options:
            for name, own in (("axis", "dim"), ("keepdims", "keepdim")):
                if name in options:
                    options[own] = options.pop(name)
        try:
            return function(tensor_of(input), *args, **options)  # type: ignore[operator]
        except (OverflowError, TypeError, ValueError) as error:
            if not isinstance(error, FastnnError):
                _check_keepdim(function, args, options)
            raise

    called.takes_axis = True  # type: ignore[attr-defined]
    return called  # type: ignore[return-value]


def _check_keepdim(function: Any, args: tuple[Any, ...], options: dict[str, Any]) -> None:
    """ArgumentError where keepdim is what made NumPy raise: looked at then, and not in every call."""
    with suppress(TypeError):  # of arguments that the function does not take
        given = inspect.signature(function).bind(None, *args, **options).arguments
        if not isinstance(given.get("keepdim", False), (bool, np.bool_)):
            raise ArgumentError(
                f"{function.__name__}: expected keepdim to be True or False, got {shown(given['keepdim'])}"
            )


def _typed(op: str, x: Tensor, dtype: Any) -> Tensor:
    """x as it is summed: in the type that is asked for."""
    wanted = dtype_of(op, dtype)
    if wanted is None and op == "sum" and x.dtype.kind == "u":
        wanted = np.dtype(np.int64)  # of uint8 NumPy's sum is uint64, which subtraction wraps
    return x if wanted is None else x.astype(wanted)


@numpys_names
def sum(input: Any, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The sum over one dimension, several, or all; of whole numbers and truth values int64.

    >>> import fastnn as fnn
    >>> fnn.Tensor([[1.0, 2.0], [3.0, 4.0]]).sum(0)
    Tensor([4., 6.])
    """
    return Sum.apply(_typed("sum", input, dtype), dim=axes("sum", dim, input.ndim), keepdim=keepdim)


@numpys_names
def mean(input: Any, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The mean over one dimension, several, or all."""
    x = floating(_typed("mean", input, dtype))
    dims = axes("mean", dim, x.ndim)
    return Sum.apply(x, dim=dims, keepdim=keepdim) / _count(x, dims)


def _count(x: Tensor, dims: tuple[int, ...] | None) -> int:
    return math.prod(x.shape if dims is None else (x.shape[d] for d in dims))


@numpys_names
def count_nonzero(input: Any, dim: Dim = None) -> Tensor:
    """How many entries are not 0; int64."""
    return sum(ne(input, 0), dim)


@numpys_names
def prod(input: Any, dim: int | None = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The product along one dimension, or of all entries; of whole numbers and truth values int64.

    >>> import fastnn as fnn
    >>> fnn.tensor([[1.0, 2.0], [0.0, 4.0]]).prod(1)
    Tensor([2., 0.])
    """
    x = _typed("prod", input, dtype)
    x = x.astype(np.int64) if dtype is None and x.dtype.kind != "f" else x
    found = axes("prod", None if dim is None else (dim,), x.ndim)
    place = None if found is None else found[0]
    y = Prod.apply(x.reshape(-1) if place is None else x, dim=place or 0)
    if not keepdim:
        return y
    return y.reshape((1,) * x.ndim) if place is None else y.unsqueeze(place)


# ---- extrema ---------------------------------------------------------------------------------------------------------


@numpys_names
def max(input: Any, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
    """The largest entry; along `dim` the largest and their indices, as `.values` and `.indices` or as a pair; of two
    tensors the larger entries.

    Of equal entries along a dimension the first takes the gradient, of all of them each its share, as in PyTorch.

    >>> import fastnn as fnn
    >>> values, indices = fnn.Tensor([[1.0, 5.0], [4.0, 3.0]]).max(1)
    >>> values, indices.numpy()
    (Tensor([5., 4.]), array([1, 0]))
    """
    return _extremum("max", input, dim, keepdim, other)


@numpys_names
def min(input: Any, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
    """The smallest entry; along `dim`, or of two tensors, as for `max`."""
    return _extremum("min", input, dim, keepdim, other)


def _extremum(op: str, x: Tensor, dim: Any, keepdim: bool, other: Any) -> Any:
    other = dim if isinstance(dim, (Tensor, np.ndarray)) and not is_whole(dim) else other
    if other is not None:
        from fastnn.ops.elementwise import maximum, minimum

        return (maximum if op == "max" else minimum)(x, other)
    if dim is None:
        return _peak(op, x, None, False, largest=op == "max")
    return _along(op, x, dim, keepdim, np.argmax if op == "max" else np.argmin)


def _along(op: str, x: Tensor, dim: Any, keepdim: bool, pick: Any) -> ValuesAndIndices:
    dim = axis(op, dim, x.ndim or 1)
    _filled(op, x, (dim,) if x.ndim else None)
    if not x.ndim:  # a number has one entry along each of its dimensions
        return ValuesAndIndices(x * 1, Tensor(np.zeros((), np.int64)))
    options = {"dim": dim, "keepdim": keepdim, "pick": pick}
    return ValuesAndIndices(Extremum.apply(x, **options), Place.apply(x, **options))


def _filled(op: str, x: Tensor, dims: tuple[int, ...] | None) -> None:
    """ShapeError where there is nothing to choose from; a batch of no rows is fine where the rows have entries."""
    if _count(x, dims) == 0:
        where = "" if dims is None or x.ndim == 1 else f" over dimension {', '.join(map(str, dims))}"
        raise ShapeError(f"{op}: expected at least one entry{where}, got shape {x.shape}")


@numpys_names
def amax(input: Any, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """The largest entry over one dimension, several, or all; of equal ones each takes its share of the gradient."""
    return _peak("amax", input, dim, keepdim, largest=True)


@numpys_names
def amin(input: Any, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """The smallest entry over one dimension, several, or all; of equal ones each takes its share of the gradient."""
    return _peak("amin", input, dim, keepdim, largest=False)


def _peak(op: str, x: Tensor, dim: Dim, keepdim: bool, largest: bool) -> Tensor:
    dims = axes(op, dim, x.ndim)
    _filled(op, x, dims)
    return Peak.apply(x, dim=dims, keepdim=keepdim, largest=largest)


@numpys_names
def aminmax(input: Any, *, dim: int | None = None, keepdim: bool = False) -> MinAndMax:
    """The smallest and the largest entry, `.min` and `.max`."""
    return MinAndMax(amin(input, dim, keepdim), amax(input, dim, keepdim))


@numpys_names
def argmax(input: Any, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The index of the largest entry along `dim`, or in the flattened tensor; int64, off the tape."""
    return _place("argmax", input, dim, keepdim, np.argmax)


@numpys_names
def argmin(input: Any, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The index of the smallest entry along `dim`, or in the flattened tensor; int64, off the tape."""
    return _place("argmin", input, dim, keepdim, np.argmin)


def _place(op: str, x: Tensor, dim: int | None, keepdim: bool, pick: Any) -> Tensor:
    found = axes(op, None if dim is None else (dim,), x.ndim)
    _filled(op, x, found)
    return Place.apply(x, dim=None if found is None else found[0], keepdim=keepdim, pick=pick)


@numpys_names
def median(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """The entry in the middle, of two the smaller; along `dim` with indices, as for `max`. NaN where one is.

    Without `dim` equal entries share the gradient, as in PyTorch.
    """
    return _middle("median", input, dim, keepdim, _argmedian)


def _middle(op: str, x: Tensor, dim: int | None, keepdim: bool, pick: Any) -> Any:
    if dim is not None:
        return _along(op, x, dim, keepdim, pick)
    _filled(op, x, None)
    return Middle.apply(x.reshape(-1), pick=pick)


def _argmedian(x: Array, axis: int, keepdims: bool) -> Array:
    order = np.argsort(x, axis=axis, kind="stable")
    middle = np.take(order, [(x.shape[axis] - 1) // 2], axis=axis)
    if x.dtype.kind == "f":
        lost = np.isnan(x)
        middle = np.where(lost.any(axis=axis, keepdims=True), lost.argmax(axis=axis, keepdims=True), middle)
    return middle if keepdims else middle.squeeze(axis)


@numpys_names
def nanmedian(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """The median of the entries that are numbers; along `dim` with indices."""
    return _middle("nanmedian", input, dim, keepdim, _argnanmedian)


def _argnanmedian(x: Array, axis: int, keepdims: bool) -> Array:
    count = np.sum(x == x, axis=axis, keepdims=True)  # NaN is sorted behind all others
    order = np.argsort(x, axis=axis, kind="stable")
    middle = np.take_along_axis(order, np.maximum(count - 1, 0) // 2, axis)
    return middle if keepdims else middle.squeeze(axis)


@numpys_names
def mode(input: Any, dim: int = -1, keepdim: bool = False) -> ValuesAndIndices:
    """The entry along `dim` that comes most often, of several the smallest, and the place where it stands last.

    >>> import fastnn as fnn
    >>> fnn.tensor([3, 1, 3, 1, 2]).mode()
    ValuesAndIndices(values=Tensor(1, dtype=int64), indices=Tensor(3, dtype=int64))
    """
    return _along("mode", input, dim, keepdim, _argmode)


def _argmode(x: Array, axis: int, keepdims: bool) -> Array:
    order = np.argsort(x, axis=axis, kind="stable")
    ranked = np.moveaxis(np.take_along_axis(x, order, axis), axis, -1)
    places = np.arange(ranked.shape[-1])
    equal = (ranked[..., 1:] == ranked[..., :-1]) | (np.isnan(ranked[..., 1:]) & np.isnan(ranked[..., :-1]))
    begins = np.concatenate([np.ones_like(ranked[..., :1], bool), ~equal], -1)
    run = places - np.maximum.accumulate(np.where(begins, places, 0), axis=-1)  # how many equal ones come before
    found = np.take_along_axis(order, np.expand_dims(run.argmax(-1), axis), axis)
    return found if keepdims else found.squeeze(axis)


# ---- moments ---------------------------------------------------------------------------------------------------------


@numpys_names
def var(
    input: Any, dim: Dim = None, unbiased: bool = True, keepdim: bool = False, *, correction: float | None = None
) -> Tensor:
    """The variance over one dimension, several, or all: squared deviations summed, divided by count - correction.

    `unbiased` is PyTorch's older name: True for a correction of 1, which is the default, False for 0; ``x.var(False)``
    says it of all entries.
    """
    return _moments("var", input, dim, unbiased, keepdim, correction)[0]


@numpys_names
def std(
    input: Any, dim: Dim = None, unbiased: bool = True, keepdim: bool = False, *, correction: float | None = None
) -> Tensor:
    """The square root of the variance, by the same arguments; its gradient where all values are equal is 0."""
    return Deviation.apply(_moments("std", input, dim, unbiased, keepdim, correction)[0])


@numpys_names
def var_mean(
    input: Any, dim: Dim = None, unbiased: bool = True, keepdim: bool = False, *, correction: float | None = None
) -> tuple[Tensor, Tensor]:
    """The variance and the mean, by the arguments of `var`."""
    return _moments("var_mean", input, dim, unbiased, keepdim, correction)


@numpys_names
def std_mean(
    input: Any, dim: Dim = None, unbiased: bool = True, keepdim: bool = False, *, correction: float | None = None
) -> tuple[Tensor, Tensor]:
    """The standard deviation and the mean, by the arguments of `var`."""
    variance, average = _moments("std_mean", input, dim, unbiased, keepdim, correction)
    return variance.sqrt(), average


@numpys_names
def nansum(input: Any, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The sum of the entries that are numbers."""
    return sum(where(input == input, input, 0), dim, keepdim, dtype=dtype)


@numpys_names
def nanmean(input: Any, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The mean of the entries that are numbers."""
    return nansum(input, dim, keepdim, dtype=dtype) / sum(input == input, dim, keepdim)


def _moments(
    op: str, input: Tensor, dim: Any, unbiased: Any, keepdim: bool, correction: float | None
) -> tuple[Tensor, Tensor]:
    """Variance and mean; a flag in the place of dim is `unbiased`, as in PyTorch."""
    if isinstance(dim, (bool, np.bool_)):
        dim, unbiased = None, dim
    if not isinstance(unbiased, (bool, np.bool_)):
        raise ArgumentError(f"{op}: expected unbiased=True or False, got {unbiased!r}: correction= is given by name")
    correction = float(unbiased) if correction is None else number(op, "correction", correction, 0)
    x = floating(input)
    dims = axes(op, dim, x.ndim)
    count = _count(x, dims)
    if count <= correction:
        warn(f"{op}: expected more than {correction:g} entries, got {count} (input is {x.shape}): the result is NaN")
    middle = mean(x, tuple(range(x.ndim)) if dims is None else dims, True)
    away = x - middle
    if not keepdim:
        middle = middle.reshape(tuple(size for d, size in enumerate(x.shape) if dims is not None and d not in dims))
    total = sum(away * away, dims, keepdim)
    return total / (count - correction) if count > correction else total * math.nan, middle


# ---- truth -----------------------------------------------------------------------------------------------------------


@numpys_names
def any(input: Any, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """Whether an entry is not 0, over one dimension, several, or all; booleans.

    >>> import fastnn as fnn
    >>> fnn.tensor([[0, 1], [0, 0]]).any(1), bool(fnn.tensor([0, 1]).any())
    (Tensor([ True, False], dtype=bool), True)
    """
    return Truth.apply(input, dim=axes("any", dim, input.ndim), keepdim=keepdim, every=False)


@numpys_names
def all(input: Any, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """Whether no entry is 0, over one dimension, several, or all; booleans."""
    return Truth.apply(input, dim=axes("all", dim, input.ndim), keepdim=keepdim, every=True)
