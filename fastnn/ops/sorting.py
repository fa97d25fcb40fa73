"""Order and counting: sorts, largest entries, distinct values, places in sorted sequences, running sums."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from fastnn.arrays import as_array
from fastnn.checks import choice, entries, flag, is_whole, number, shown, whole
from fastnn.dtypes import dtype_of
from fastnn.errors import ArgumentError, DTypeError, LabelError, ShapeError
from fastnn.ops.common import axis, floating, tensor_of
from fastnn.ops.joining import where
from fastnn.ops.moving import flip, narrow
from fastnn.ops.places import gather, index
from fastnn.ops.shaping import Place, apart
from fastnn.tensors import Array, Context, Function, Tensor

__all__ = [
    "argsort", "bincount", "bucketize", "cummax", "cummin", "cumprod", "cumsum", "diff", "histc", "histogram",
    "kthvalue", "logcumsumexp", "msort", "one_hot", "quantile", "searchsorted", "sort", "topk", "unique",
    "unique_consecutive",
]  # fmt: skip


class ValuesAndIndices(NamedTuple):
    """What sort, topk and kthvalue give: the entries, and where they stood; a pair, too."""

    values: Tensor
    indices: Tensor


class Histogram(NamedTuple):
    """The result of histogram: each interval's weight, and the edges, one more than there are intervals."""

    hist: Tensor
    bin_edges: Tensor


_FEW = 64  # as many as the kernel topk finds, more sooner by sorting


class Order(Function):
    """The places of the entries along dim in sorted order, of equal ones the first first, NaN last; the first `count`.

    Attributes: dim, descending, count.
    """

    differentiable = False

    @staticmethod
    def forward(ctx: Context, x: Array, *, dim: int, descending: bool, count: int) -> Array:
        if few_of_last(x, dim, count):
            found: Array = ctx.kernels.topk(x.reshape(-1, x.shape[-1]), count, not descending)
            return found.reshape(*x.shape[:-1], count)
        if not descending:
            order = np.argsort(x, axis=dim, kind="stable")
        else:  # from behind, so that of equal ones the first comes first
            order = x.shape[dim] - 1 - np.flip(np.argsort(np.flip(x, dim), axis=dim, kind="stable"), dim)
        return order[(slice(None),) * dim + (slice(count),)]


def few_of_last(x: Array, dim: int, count: int) -> bool:
    """Whether the kernel topk finds the first in order."""
    return x.dtype.kind == "f" and dim == x.ndim - 1 and 0 < count <= _FEW and 2 * count <= x.shape[dim]


class CumSum(Function):
    """Sums of the entries along dim up to each; kernel cumsum. Attribute: dim."""

    @staticmethod
    def forward(ctx: Context, x: Array, *, dim: int) -> Array:
        y: Array = ctx.kernels.cumsum(x, dim) if x.dtype.kind == "f" else np.cumsum(x, axis=dim)
        return y

    @staticmethod
    def backward(ctx: Context, grad: Any) -> Any:
        dim = ctx.attributes["dim"]
        if isinstance(grad, Tensor):
            return flip(CumSum.apply(flip(grad, dim), dim=dim), dim)
        return ctx.kernels.cumsum(grad, dim, reverse=True)


class CumProd(Function):
    """Products of the entries along dim up to each. Saves x and the output. Attribute: dim."""

    @staticmethod
    def forward(ctx: Context, x: Array, *, dim: int) -> Array:
        y = np.cumprod(x, axis=dim)
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        """dy_j/dx_i is the product of all x up to j but x_i. Where no x is 0 that is y_j / x_i; up to the first 0, too,
        and from it on only the first 0 itself has a gradient, of products in which it stands as 1."""
        x, y, dim = *ctx.saved_tensors, ctx.attributes["dim"]

        def after(values: Array) -> Array:
            return np.flip(np.cumsum(np.flip(values, dim), axis=dim), dim)

        zero = x == 0
        if not zero.any():
            return after(grad * y) / x
        zeros = np.cumsum(zero, axis=dim)
        first = zero & (zeros == 1)
        without = np.where(zeros == 1, np.cumprod(np.where(first, 1, x), axis=dim), 0)
        return np.where(zeros == 0, after(grad * y) / np.where(zero, 1, x), 0) + np.where(
            first, after(grad * without), 0
        )


class LogCumSumExp(Function):
    """log of the sum of exp of the entries along dim up to each. Saves x and the output. Attribute: dim."""

    @staticmethod
    def forward(ctx: Context, x: Array, *, dim: int) -> Array:
        y = np.logaddexp.accumulate(x, axis=dim)
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        """The sum over j from i on of grad_j · exp(x_i - y_j), by the logarithms of its positive and negative terms."""
        x, y = ctx.saved_tensors
        dim = ctx.attributes["dim"]

        def sums(part: Array) -> Array:
            with np.errstate(divide="ignore"):
                terms = np.log(part) - y
            return np.exp(np.flip(np.logaddexp.accumulate(np.flip(terms, dim), axis=dim), dim) + x)

        return sums(np.maximum(grad, 0)) - sums(np.maximum(-grad, 0))


# ---- sorted ----------------------------------------------------------------------------------------------------------


def _ordered(x: Tensor, dim: int, descending: bool, count: int | None = None) -> ValuesAndIndices:
    if x.ndim == 0:
        return ValuesAndIndices(apart(x, x), Tensor(np.zeros((), np.int64)))
    size = x.shape[dim] if count is None else count
    places = Order.apply(x, dim=dim, descending=flag("sort", "descending", descending), count=size)
    return ValuesAndIndices(gather(x, dim, places), places)


def sort(input: Any, dim: int = -1, descending: bool = False, stable: bool = True) -> ValuesAndIndices:
    """The entries along `dim` in order (NaN is the largest), and their places; equal entries keep their order.
    Gradients go to where the entries stood.

    >>> import fastnn as fnn
    >>> fnn.tensor([3.0, 1.0, 2.0]).sort()
    ValuesAndIndices(values=Tensor([1., 2., 3.]), indices=Tensor([1, 2, 0], dtype=int64))
    """
    x = tensor_of(input)
    return _ordered(x, axis("sort", dim, max(x.ndim, 1)), descending)


def argsort(input: Any, dim: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The places of the entries along `dim` in order; equal entries keep their order."""
    return sort(input, dim, descending).indices


def msort(input: Any) -> Tensor:
    """The entries in order along the first dimension."""
    return sort(input, 0).values


def topk(input: Any, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> ValuesAndIndices:
    """The k largest entries along `dim`, or the smallest ones, in order, and their places.

    >>> import fastnn as fnn
    >>> values, indices = fnn.tensor([1.0, 5.0, 3.0]).topk(2)
    >>> values, indices
    (Tensor([5., 3.]), Tensor([1, 2], dtype=int64))
    """
    x = tensor_of(input)
    dim = axis("topk", dim, max(x.ndim, 1))
    size = x.shape[dim] if x.ndim else 1
    if whole("topk", "k", k, 0) > size:
        raise ShapeError(f"topk: expected k of at most {size}, the size of dimension {dim}, got {k}")
    return _ordered(x, dim, largest, k)


def kthvalue(input: Any, k: int, dim: int = -1, keepdim: bool = False) -> ValuesAndIndices:
    """The k-th smallest entry along `dim`, counted from 1, and its place."""
    x = tensor_of(input)
    dim = axis("kthvalue", dim, x.ndim)
    found = topk(x, whole("kthvalue", "k", k, 1, x.shape[dim]), dim, largest=False)
    keepdim = flag("kthvalue", "keepdim", keepdim)
    last = (narrow(each, dim, k - 1, 1) for each in found)
    return ValuesAndIndices(*(each if keepdim else each.squeeze(dim) for each in last))


def unique(
    input: Any, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> Any:
    """The distinct values in order, or the distinct slices along `dim`; with them the places at which each entry's
    value stands, and how often each comes. Each NaN is a value of its own, as in PyTorch. Off the tape."""
    x = tensor_of(input).detach()
    dim = None if dim is None else axis("unique", dim, x.ndim)
    return _counted(
        np.unique(x.data, False, True, True, dim, equal_nan=False), input, dim, return_inverse, return_counts
    )


def _counted(found: Any, input: Any, dim: int | None, inverse: bool, counts: bool) -> Any:
    values, places, numbers = found
    shape = tensor_of(input).shape if dim is None else (-1,)
    inverse, counts = flag("unique", "return_inverse", inverse), flag("unique", "return_counts", counts)
    parts = [values, *([places.reshape(shape)] if inverse else []), *([numbers] if counts else [])]
    return Tensor(parts[0]) if len(parts) == 1 else tuple(map(Tensor, parts))


def unique_consecutive(
    input: Any, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> Any:
    """The entries of the flattened input, or the slices along `dim`, without those that equal the one before them."""
    x = tensor_of(input).detach().data
    x, dim = (x.ravel(), None) if dim is None else (x, axis("unique_consecutive", dim, x.ndim))
    slices = np.moveaxis(x, dim or 0, 0)
    rows = slices.reshape(len(slices), math.prod(slices.shape[1:]))
    new = np.r_[np.ones(min(len(rows), 1), bool), (rows[1:] != rows[:-1]).any(1)]
    starts = np.flatnonzero(new)
    found = np.compress(new, x, dim or 0), np.cumsum(new) - 1, np.diff(np.r_[starts, len(rows)])
    return _counted(found, input, dim, return_inverse, return_counts)


# ---- counted and placed ----------------------------------------------------------------------------------------------


def bincount(input: Any, weights: Any = None, minlength: int = 0) -> Tensor:
    """How often each whole number from 0 on comes in a vector; or the sums of the weights of its entries."""
    x = tensor_of(input).detach().data
    if x.ndim != 1 or x.dtype.kind not in "iu" or (x.size and x.min() < 0):
        raise ArgumentError(f"bincount: expected a vector of whole numbers of at least 0, got {x.dtype} of {x.shape}")
    given = None if weights is None else tensor_of(weights).detach().data
    counts = np.bincount(x, given, whole("bincount", "minlength", minlength, 0))
    return Tensor(counts if given is None or given.dtype == np.float64 else counts.astype(given.dtype))


def histc(input: Any, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
    """How many entries lie in each of `bins` equal intervals from min to max, or from the least to the largest."""
    x = floating(input).detach().data
    min, max = number("histc", "min", min), number("histc", "max", max)
    if min > max:
        raise ArgumentError(f"histc: expected min <= max, got {min} and {max}")
    low, high = (min, max) if min != max or not x.size else (x.min(), x.max())
    low, high = (low - 1, high + 1) if low == high else (low, high)
    bins = whole("histc", "bins", bins, 1, 1 << 40)
    try:
        return Tensor(np.histogram(x, bins, (low, high))[0].astype(x.dtype))
    except (OverflowError, TypeError, ValueError) as error:  # of a range that is not finite, or too narrow
        raise ArgumentError(f"histc: expected {bins} intervals from {low} to {high} to be possible ({error})") from None


def histogram(input: Any, bins: Any, *, range: Any = None, weight: Any = None, density: bool = False) -> Histogram:
    """How many entries, or what `weight` of them, lie in each of `bins` equal intervals over `range`, by default from
    the least entry to the largest; or in the intervals between the edges that a vector `bins` holds. With `density`
    that is divided by the whole weight and by the intervals' widths. The last interval has both its ends.

    >>> import fastnn as fnn
    >>> fnn.histogram(fnn.tensor([1.0, 2.0, 1.0]), bins=4, range=(0.0, 3.0))
    Histogram(hist=Tensor([0., 2., 1., 0.]), bin_edges=Tensor([0.  , 0.75, 1.5 , 2.25, 3.  ]))
    """
    x = floating(input).detach().data
    given = None if weight is None else floating(weight, x.dtype).detach().data
    if given is not None and given.shape != x.shape:
        raise ShapeError(f"histogram: expected a weight for each entry of {x.shape}, got {given.shape}")
    edges = whole("histogram", "bins", bins, 1, 1 << 40) if is_whole(bins) else floating(bins, x.dtype).detach().data
    if not isinstance(edges, int) and (edges.ndim != 1 or edges.size < 2):
        raise ShapeError(f"histogram: expected bins to be a number or a vector of edges, got shape {edges.shape}")
    if range is not None:
        low, high = (number("histogram", "range", end) for end in entries("histogram", "range", range))
        range = (low, high)
    elif not x.size:
        range = (0.0, 1.0)  # as PyTorch
    try:
        found, edges = np.histogram(x, edges, range, weights=given)
    except (OverflowError, TypeError, ValueError) as error:  # of edges that fall, or a range that is not finite
        raise ArgumentError(f"histogram: expected bins and range that make intervals ({error})") from None
    found = found.astype(np.float64)
    if flag("histogram", "density", density):
        found /= found.sum() * np.diff(edges)
    return Histogram(Tensor(found.astype(x.dtype)), Tensor(edges.astype(x.dtype)))


def one_hot(tensor: Any, num_classes: int = -1) -> Tensor:
    """1 at the place that each label names, else 0, in a new last dimension of `num_classes` (-1: the largest label and
    1); int64. Raises LabelError for labels that are not from 0 to num_classes - 1.

    >>> import fastnn as fnn
    >>> fnn.ops.one_hot([0, 2], 3)
    Tensor([[1, 0, 0],
            [0, 0, 1]], dtype=int64)
    """
    labels = tensor_of(tensor)
    if labels.dtype.kind not in "iu":
        raise DTypeError(f"one_hot: expected integers as labels, got {labels.dtype}: y.long()")
    num_classes = whole("one_hot", "num_classes", num_classes, -1)
    if num_classes == -1:
        num_classes = int(labels.numpy().max(initial=-1)) + 1
    return OneHot.apply(labels, classes=whole("one_hot", "num_classes", num_classes, 1))


class OneHot(Function):
    """1 at the place of each label in a new last dimension. Attribute: classes."""

    differentiable = False

    @staticmethod
    def forward(ctx: Context, labels: Array, *, classes: int) -> Array:
        if labels.size and not 0 <= labels.min() <= labels.max() < classes:
            raise LabelError(f"one_hot: expected labels from 0 to {classes - 1}, got {labels.min()} to {labels.max()}")
        return (labels[..., None] == np.arange(classes)).astype(np.int64)


def searchsorted(
    sorted_sequence: Any,
    input: Any,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Any = None,
) -> Tensor:
    """Where each number must be put into a sorted sequence to keep it sorted: before entries that equal it, or with
    `right` behind them. Sequences (..., N) go with numbers (..., M); one sequence (N,) with numbers of any shape."""
    if side is not None:
        choice("searchsorted", "side", side, ("left", "right"))
    right = flag("searchsorted", "right", right)
    sequence, values = tensor_of(sorted_sequence).detach().data, tensor_of(input).detach().data
    if sorter is not None:
        order = tensor_of(sorter)
        if order.shape != sequence.shape or not sequence.ndim:
            raise ShapeError(f"searchsorted: expected a sorter of shape {sequence.shape}, got {order.shape}")
        sequence = gather(sequence, -1, order).detach().data
    where: Any = "right" if right or side == "right" else "left"
    if sequence.ndim == 1:
        found = np.asarray(np.searchsorted(sequence, values, where))
    elif not sequence.ndim or not values.ndim or sequence.shape[:-1] != values.shape[:-1]:
        raise ShapeError(f"searchsorted: expected numbers of shape {sequence.shape[:-1]} + (M,), got {values.shape}")
    else:
        found = np.empty(values.shape, np.int64)
        for i in np.ndindex(sequence.shape[:-1]):
            found[i] = np.searchsorted(sequence[i], values[i], where)
    return Tensor(found.astype(np.int32 if flag("searchsorted", "out_int32", out_int32) else np.int64))


def bucketize(input: Any, boundaries: Any, *, out_int32: bool = False, right: bool = False) -> Tensor:
    """The index of the interval between sorted boundaries in which each number lies."""
    return searchsorted(boundaries, input, out_int32=out_int32, right=right)


# ---- running sums ----------------------------------------------------------------------------------------------------


def _running(op: str, function: type[Function], input: Any, dim: int, dtype: Any) -> Tensor:
    x = tensor_of(input)
    wanted = dtype_of(op, dtype)
    x = x.astype(wanted if wanted is not None else x.dtype if x.dtype.kind == "f" else np.int64)
    dim = axis(op, dim, max(x.ndim, 1))
    return function.apply(x, dim=dim) if x.ndim else apart(x, input)


def cumsum(input: Any, dim: int, *, dtype: Any = None) -> Tensor:
    """Sums of the entries along `dim` up to each; of whole numbers and truth values int64.

    >>> import fastnn as fnn
    >>> fnn.tensor([1.0, 2.0, 3.0]).cumsum(0)
    Tensor([1., 3., 6.])
    """
    return _running("cumsum", CumSum, input, dim, dtype)


def cumprod(input: Any, dim: int, *, dtype: Any = None) -> Tensor:
    """Products of the entries along `dim` up to each; of whole numbers and truth values int64."""
    return _running("cumprod", CumProd, input, dim, dtype)


def cummax(input: Any, dim: int) -> ValuesAndIndices:
    """The largest of the entries along `dim` up to each, and its place; of equal ones the last. NaN stays.

    >>> import fastnn as fnn
    >>> fnn.tensor([1, 3, 2]).cummax(0)
    ValuesAndIndices(values=Tensor([1, 3, 3], dtype=int64), indices=Tensor([0, 1, 1], dtype=int64))
    """
    return _running_extremum("cummax", input, dim, np.maximum)


def cummin(input: Any, dim: int) -> ValuesAndIndices:
    """The smallest of the entries along `dim` up to each, and its place; of equal ones the last. NaN stays."""
    return _running_extremum("cummin", input, dim, np.minimum)


def _running_extremum(op: str, input: Any, dim: int, ufunc: np.ufunc) -> ValuesAndIndices:
    x = tensor_of(input)
    dim = axis(op, dim, max(x.ndim, 1))
    if x.ndim == 0:
        return ValuesAndIndices(apart(x, x), Tensor(np.zeros((), np.int64)))
    places = Place.apply(x, dim=dim, keepdim=True, pick=_largest_so_far if ufunc is np.maximum else _smallest_so_far)
    return ValuesAndIndices(gather(x, dim, places), places)


def _largest_so_far(x: Array, axis: int, keepdims: bool) -> Array:
    return _so_far(x, np.maximum, axis)


def _smallest_so_far(x: Array, axis: int, keepdims: bool) -> Array:
    return _so_far(x, np.minimum, axis)


def _so_far(x: Array, ufunc: np.ufunc, axis: int) -> Array:
    """The places at which the entries of ``ufunc.accumulate`` stood last."""
    here = np.expand_dims(np.arange(x.shape[axis]), tuple(d for d in range(x.ndim) if d != axis))
    stands = (x == ufunc.accumulate(x, axis=axis)) | (x != x)
    return np.maximum.accumulate(np.where(stands, here, 0), axis=axis)


def logcumsumexp(input: Any, dim: int) -> Tensor:
    """log of the sum of exp of the entries along `dim` up to each."""
    return _running("logcumsumexp", LogCumSumExp, floating(input), dim, None)


def quantile(
    input: Any, q: Any, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear"
) -> Tensor:
    """The values below which the shares `q`, a number or a vector, of the entries along `dim`, or of all, lie; between
    two entries on the line from one to the other (`interpolation` "linear", or "lower", "higher", "nearest",
    "midpoint"). NaN where an entry is. A vector's dimension comes first.

    >>> import fastnn as fnn
    >>> fnn.tensor([3.0, 1.0, 2.0, 4.0]).quantile(0.5)
    Tensor(2.5)
    """
    x, shares = floating(input), as_array(q)
    if shares.dtype.kind not in "fiu":
        raise ArgumentError(f"quantile: expected q from 0 to 1, a number or a vector, got {shown(q)}")
    if shares.ndim > 1 or not ((shares >= 0) & (shares <= 1)).all():
        raise ArgumentError(f"quantile: expected q from 0 to 1, a number or a vector, got {q!r}")
    choice("quantile", "interpolation", interpolation, ("linear", "lower", "higher", "nearest", "midpoint"))
    keepdim = flag("quantile", "keepdim", keepdim)
    kept = [1] * x.ndim if dim is None else None
    x, at = (x.reshape(-1), 0) if dim is None else (x, axis("quantile", dim, x.ndim))
    place = shares.reshape(-1).astype(np.float64) * (x.shape[at] - 1)
    low, rest = np.floor(place).astype(np.int64), place % 1
    weight: Array = {
        "linear": rest,
        "lower": np.zeros_like(rest),
        "higher": np.ceil(rest),
        "nearest": np.rint(place) - low,
        "midpoint": (rest > 0) / 2,
    }[interpolation]
    ranked = sort(x, at)[0].movedim(at, -1)
    high, last = np.ceil(place).astype(np.int64), ranked[..., -1:]
    one = (weight == 0) | (weight == 1)  # of the entries, which may be infinite: nothing is multiplied by 0
    low = np.where(weight == 1, high, low)
    found = ranked[..., low]
    if not one.all():
        weight = np.where(one, 0.5, weight).astype(x.dtype)
        found = found * (1 - weight) + ranked[..., np.where(one, low, high)] * weight
    found = where(last == last, found, last).movedim(-1, 0)  # NaN is sorted behind all others
    if keepdim:
        found = found.reshape(-1, *kept) if kept is not None else found.unsqueeze(at + 1)
    return found if shares.ndim else found[0]


def diff(input: Any, n: int = 1, dim: int = -1, prepend: Any = None, append: Any = None) -> Tensor:
    """Differences of neighbours along `dim`, n times over, of the input between `prepend` and `append`."""
    x = tensor_of(input)
    dim = axis("diff", dim, x.ndim)
    if prepend is not None or append is not None:
        from fastnn.ops.joining import cat

        x = cat([each for each in (prepend, x, append) if each is not None], dim)
    lead = (slice(None),) * dim
    for _ in range(min(whole("diff", "n", n, 0), x.shape[dim])):  # then none are left
        later, earlier = index(x, (*lead, slice(1, None))), index(x, (*lead, slice(None, -1)))
        x = later != earlier if x.dtype == np.bool_ else later - earlier
    return apart(x, input)
