"""Products of tensors by labels of dimensions, norms and distances: compositions of matmul, sums and views."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn.backends.sums import total
from fastnn.checks import entries, is_whole, number, text
from fastnn.dtypes import dtype_of
from fastnn.errors import ArgumentError, ShapeError
from fastnn.ops.arithmetic import numbers_first
from fastnn.ops.common import Dim, axes, axis, floating, tensor_of
from fastnn.ops.dense import matmul
from fastnn.ops.joining import where
from fastnn.ops.moving import diagonal
from fastnn.ops.reductions import amax, amin
from fastnn.ops.shaping import Deviation, apart, permute, reshape
from fastnn.tape import tracer
from fastnn.tensors import Array, Context, Function, Tensor

__all__ = [
    "addbmm", "addmm", "addmv", "addr", "baddbmm", "bmm", "cdist", "chain_matmul", "dist", "dot", "einsum", "ger",
    "inner", "kron", "logsumexp", "mm", "mv", "norm", "normalize", "outer", "pdist", "tensordot", "trace", "vdot",
]  # fmt: skip


def _of_ranks(op: str, shape: str, **tensors: tuple[Any, int]) -> list[Tensor]:
    """The tensors, each with that many dimensions; ShapeError for others."""
    found = [tensor_of(x) for x, _ in tensors.values()]
    if any(x.ndim != rank for x, (_, rank) in zip(found, tensors.values(), strict=True)):
        raise ShapeError(f"{op}: expected {shape}, got {' and '.join(str(x.shape) for x in found)}")
    return found


def _product(a: Tensor, b: Tensor) -> Tensor:
    """matmul, which of whole numbers gives whole numbers."""
    if a.dtype.kind != "f" and b.dtype.kind != "f":
        return matmul(a.double(), b.double()).astype(np.result_type(a.dtype, b.dtype))
    return matmul(a, b)


def mm(input: Any, mat2: Any) -> Tensor:
    """The product of matrices (M, K) and (K, N)."""
    return _product(*_of_ranks("mm", "matrices (M, K) and (K, N)", a=(input, 2), b=(mat2, 2)))


def bmm(input: Any, mat2: Any) -> Tensor:
    """The products of matrices (B, M, K) and (B, K, N), pair by pair.

    >>> import fastnn as fnn
    >>> fnn.bmm(fnn.ones(5, 2, 3), fnn.ones(5, 3, 4)).shape
    (5, 2, 4)
    """
    a, b = _of_ranks("bmm", "stacks (B, M, K) and (B, K, N)", a=(input, 3), b=(mat2, 3))
    if a.shape[0] != b.shape[0]:
        raise ShapeError(f"bmm: expected stacks of as many matrices, got {a.shape} and {b.shape}")
    return _product(a, b)


def mv(input: Any, vec: Any) -> Tensor:
    """The product of a matrix (M, K) and a vector (K,)."""
    return _product(*_of_ranks("mv", "a matrix (M, K) and a vector (K,)", a=(input, 2), b=(vec, 1)))


def dot(input: Any, tensor: Any) -> Tensor:
    """The sum of the products of two vectors' entries."""
    a, b = _of_ranks("dot", "two vectors (K,)", a=(input, 1), b=(tensor, 1))
    if a.shape != b.shape:
        raise ShapeError(f"dot: expected vectors of one length, got {a.shape} and {b.shape}")
    return _product(a, b)


vdot = dot


def inner(input: Any, other: Any) -> Tensor:
    """The sums of products over the last dimensions: (..., K) and (..., K) -> (..., ...)."""
    a, b = tensor_of(input), tensor_of(other)
    return a * b if 0 in (a.ndim, b.ndim) else tensordot(a, b, ([-1], [-1]))


def outer(input: Any, vec2: Any) -> Tensor:
    """All products of the entries of two vectors, (N, M)."""
    a, b = _of_ranks("outer", "two vectors", a=(input, 1), b=(vec2, 1))
    return reshape(a, -1, 1) * b


ger = outer


def _added(input: Any, product: Tensor, beta: float, alpha: float) -> Tensor:
    beta, alpha = number("beta", "beta", beta, finite=False), number("alpha", "alpha", alpha, finite=False)
    product = product if alpha == 1 else product * alpha
    return product if beta == 0 else product + (input if beta == 1 else input * beta)


@numbers_first("beta", "alpha")
def addmm(input: Any, mat1: Any, mat2: Any, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta · input + alpha · (mat1 @ mat2)."""
    return _added(tensor_of(input), mm(mat1, mat2), beta, alpha)


@numbers_first("beta", "alpha")
def addmv(input: Any, mat: Any, vec: Any, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta · input + alpha · (mat @ vec)."""
    return _added(tensor_of(input), mv(mat, vec), beta, alpha)


@numbers_first("beta", "alpha")
def addr(input: Any, vec1: Any, vec2: Any, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta · input + alpha · outer(vec1, vec2)."""
    return _added(tensor_of(input), outer(vec1, vec2), beta, alpha)


@numbers_first("beta", "alpha")
def baddbmm(input: Any, batch1: Any, batch2: Any, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta · input + alpha · bmm(batch1, batch2)."""
    return _added(tensor_of(input), bmm(batch1, batch2), beta, alpha)


@numbers_first("beta", "alpha")
def addbmm(input: Any, batch1: Any, batch2: Any, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta · input + alpha times the sum over the stack of bmm(batch1, batch2)."""
    return _added(tensor_of(input), bmm(batch1, batch2).sum(0), beta, alpha)


def chain_matmul(*matrices: Any) -> Tensor:
    """The product of several matrices, from left to right."""
    if not matrices:
        raise ArgumentError("chain_matmul: expected at least one matrix, got none")
    result = tensor_of(matrices[0])
    for each in matrices[1:]:
        result = mm(result, each)
    return apart(result, matrices[0])


def kron(input: Any, other: Any) -> Tensor:
    """The Kronecker product: each entry of `input` times all of `other`."""
    a, b = tensor_of(input), tensor_of(other)
    dims = max(a.ndim, b.ndim)
    a, b = (reshape(x, (1,) * (dims - x.ndim) + x.shape) if x.ndim < dims else x for x in (a, b))
    pairs = list(zip(a.shape, b.shape, strict=True))
    wide = reshape(a, [size for n, _ in pairs for size in (n, 1)]) * reshape(
        b, [size for _, m in pairs for size in (1, m)]
    )
    return reshape(wide, [n * m for n, m in pairs])


def tensordot(a: Any, b: Any, dims: Any = 2) -> Tensor:
    """Sums of products over the last `dims` dimensions of a and the first of b, or over those in two lists."""
    a, b = tensor_of(a), tensor_of(b)
    if is_whole(dims):
        left, right = list(range(a.ndim - dims, a.ndim)), list(range(dims))
    else:
        pair = entries("tensordot", "dims", dims)
        if len(pair) != 2:
            raise ArgumentError(f"tensordot: expected a number of dimensions, or two lists of them, got {dims!r}")
        left, right = ([each] if is_whole(each) else entries("tensordot", "dims", each) for each in pair)
    left, right = [axis("tensordot", d, a.ndim) for d in left], [axis("tensordot", d, b.ndim) for d in right]
    if [a.shape[d] for d in left] != [b.shape[d] for d in right]:
        raise ShapeError(
            f"tensordot: expected dimensions of equal sizes, got {left} of {a.shape}, {right} of {b.shape}"
        )
    names_a = list(range(a.ndim))
    names_b = [left[right.index(d)] if d in right else a.ndim + d for d in range(b.ndim)]
    kept = [name for d, name in enumerate(names_a) if d not in left] + [n for n in names_b if n >= a.ndim]
    return _pair(a, names_a, b, names_b, kept)


def trace(input: Any) -> Tensor:
    """The sum of a matrix's diagonal."""
    (x,) = _of_ranks("trace", "a matrix", x=(input, 2))
    return diagonal(x).sum()


# ---- einsum ----------------------------------------------------------------------------------------------------------


def einsum(equation: str, *operands: Any) -> Tensor:
    """Sums of products by labels: dimensions with one label are multiplied entry by entry, labels that are not behind
    the arrow are summed over; without an arrow the labels that come once stay, in alphabetical order; "..." stands for
    further dimensions, which broadcast. Operands are joined from left to right, two at a time, by matmul.

    Raises ArgumentError for equations that do not fit the operands, ShapeError for sizes that differ.

    >>> import fastnn as fnn
    >>> fnn.einsum("bij,bjk->bik", fnn.ones(2, 3, 4), fnn.ones(2, 4, 5)).shape
    (2, 3, 5)
    """
    given = operands[0] if len(operands) == 1 and isinstance(operands[0], (tuple, list)) else operands
    tensors = [tensor_of(x) for x in given]
    labels, kept = _labels(text("einsum", "equation", equation), [x.ndim for x in tensors])
    sizes: dict[Any, int] = {}
    parts: list[tuple[Tensor, list[Any]]] = []
    for x, names in zip(tensors, labels, strict=True):
        for name, size in zip(names, x.shape, strict=True):
            if size != 1 and sizes.setdefault(name, size) not in (1, size):
                raise ShapeError(f"einsum: expected one size of {name!r}, got {sizes[name]} and {size} in {equation!r}")
            sizes[name] = max(size, sizes.get(name, 1)) if size else 0
        for name in set(names):  # a label that comes twice in one operand stands for its diagonal
            while names.count(name) > 1:
                first = names.index(name)
                second = names.index(name, first + 1)
                x = diagonal(x, 0, first, second)
                names = [n for d, n in enumerate(names) if d not in (first, second)] + [name]
        parts.append((x, names))
    x, names = parts[0]
    for i, (other, more) in enumerate(parts[1:], 1):
        needed = {name for _, rest in parts[i + 1 :] for name in rest} | set(kept)
        joint = [name for name in dict.fromkeys([*names, *more]) if name in needed]
        x, names = _pair(x, names, other, more, joint), joint
    x, names = _summed(x, names, set(kept))
    return permute(x, [names.index(name) for name in kept]) if names != kept else x


def _labels(equation: str, ranks: list[int]) -> tuple[list[list[Any]], list[Any]]:
    """The labels of each operand's dimensions, and of the result's; those of "..." are numbers from behind."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks):
        raise ArgumentError(f"einsum: expected {len(terms)} operands for {equation!r}, got {len(ranks)}")
    found = [_expanded(equation, term, rank) for term, rank in zip(terms, ranks, strict=True)]
    further = sorted({name for names in found for name in names if isinstance(name, int)})
    if not arrow:
        letters = [name for names in found for name in names if isinstance(name, str)]
        return found, further + sorted(name for name in set(letters) if letters.count(name) == 1)
    kept = _expanded(equation, right, len(right.replace("...", "")) + (len(further) if "..." in right else 0))
    if len(set(kept)) < len(kept) or not set(kept) <= {name for names in found for name in names}:
        raise ArgumentError(f"einsum: expected each label behind -> once, and before it, too, got {equation!r}")
    return found, kept


def _expanded(equation: str, term: str, rank: int) -> list[Any]:
    before, dots, after = term.partition("...")
    names = before + after
    further = rank - len(names)
    if not all(name.isalpha() for name in names) or further < 0 or (further and not dots):
        raise ArgumentError(f"einsum: expected a label for each of {rank} dimensions, got {term!r} in {equation!r}")
    return [*before, *range(-further, 0), *after]


def _summed(x: Tensor, names: Sequence[Any], needed: set[Any]) -> tuple[Tensor, list[Any]]:
    """x summed over the dimensions whose labels nobody needs."""
    gone = tuple(d for d, name in enumerate(names) if name not in needed)
    return (x.sum(gone) if gone else x), [name for name in names if name in needed]


def _pair(a: Tensor, a_names: Sequence[Any], b: Tensor, b_names: Sequence[Any], kept: list[Any]) -> Tensor:
    """The products of two tensors, summed over the labels that are not kept, in the order of `kept`: one matmul."""
    a, left = _summed(a, a_names, {*b_names, *kept})
    b, right = _summed(b, b_names, {*a_names, *kept})
    for one, other in (
        (0, 1),
        (1, 0),
    ):  # a dimension of size 1 that meets a larger one broadcasts: summed, it is a factor
        x, names = ((a, left), (b, right))[one]
        y, others = ((a, left), (b, right))[other]
        gone = [
            n
            for n in names
            if n in others and n not in kept and x.shape[names.index(n)] != y.shape[others.index(n)] == 1
        ]
        if gone:
            y, others = _summed(y, others, set(others) - set(gone))
            x, names = _summed(x, names, set(names) - set(gone))
        (a, left), (b, right) = ((x, names), (y, others)) if one == 0 else ((y, others), (x, names))
    stack = [name for name in left if name in right and name in kept]
    inner = [name for name in left if name in right and name not in kept]
    rows, columns = [n for n in left if n not in right], [n for n in right if n not in left]
    if not inner:  # entry by entry
        names = stack + rows + columns
        wide_a, wide_b = _spread_out(a, left, names), _spread_out(b, right, names)
        return _in_order(wide_a * wide_b, names, kept)
    a_size, b_size = dict(zip(left, a.shape, strict=True)), dict(zip(right, b.shape, strict=True))

    def matrix(x: Tensor, names: list[Any], size: dict[Any, int], first: list[Any], second: list[Any]) -> Tensor:
        x = _in_order(x, names, [*stack, *first, *second])
        return reshape(
            x, *(size[n] for n in stack), math.prod(size[n] for n in first), math.prod(size[n] for n in second)
        )

    y = _product(matrix(a, left, a_size, rows, inner), matrix(b, right, b_size, inner, columns))
    shape = (*y.shape[: len(stack)], *(a_size[n] for n in rows), *(b_size[n] for n in columns))
    return _in_order(reshape(y, shape), stack + rows + columns, kept)


def _in_order(x: Tensor, names: list[Any], wanted: list[Any]) -> Tensor:
    return x if names == wanted else permute(x, [names.index(name) for name in wanted])


def _spread_out(x: Tensor, names: list[Any], wanted: list[Any]) -> Tensor:
    """x with its dimensions in the places of their labels, and size 1 elsewhere."""
    x = _in_order(x, names, [name for name in wanted if name in names])
    sizes = iter(x.shape)
    return reshape(x, [next(sizes) if name in names else 1 for name in wanted])


# ---- norms and distances ---------------------------------------------------------------------------------------------


class Norm(Function):
    """The square root of the sum of squares over the dimensions `dim` (all if None), whose gradient at 0 is 0.

    Saves x and the output. Attributes: dim, keepdim. In plans it is composed of other operators."""

    @staticmethod
    def forward(ctx: Context, x: Array, *, dim: tuple[int, ...] | None, keepdim: bool) -> Array:
        y = np.sqrt(total(x * x, dim, keepdim))
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        x, y = ctx.saved_tensors
        return x * _kept(np.divide(grad, y, out=np.zeros_like(y), where=y != 0), ctx.attributes)


class LogSumExp(Function):
    """The logarithm of the sum of exp over the dimensions `dim` (all if None). Saves the exponentials, after the
    largest entry was taken away, and their sums. Attributes: dim, keepdim. In plans it is composed of others."""

    @staticmethod
    def forward(ctx: Context, x: Array, *, dim: tuple[int, ...] | None, keepdim: bool) -> Array:
        largest = np.max(x, axis=dim, keepdims=True)
        largest[np.isinf(largest)] = 0
        shares = x - largest
        np.exp(shares, out=shares)
        sums = total(shares, dim, True)
        ctx.save_for_backward(shares, sums)
        y: Array = np.log(sums) + largest
        return y if keepdim else y.squeeze(dim)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        shares, sums = ctx.saved_tensors
        return shares * (_kept(grad, ctx.attributes) / sums)


def _kept(y: Array, attributes: dict[str, Any]) -> Array:
    """What was made over dimensions, with these in their places."""
    dim = attributes["dim"]
    return y if attributes["keepdim"] or dim is None else np.expand_dims(y, dim)


def _power_norm(x: Tensor, p: float, dims: tuple[int, ...] | None, keepdim: bool) -> Tensor:
    """(Σ |x|^p)^(1/p); its gradient where all entries are 0 is 0, as in PyTorch."""
    if p == 2:
        plain = tracer() is None and x.ndim and x.numel()
        return (Norm.apply if plain else composed_norm)(x, dim=dims, keepdim=keepdim)
    if p in (math.inf, -math.inf):
        return (amax if p > 0 else amin)(x.abs(), dims, keepdim)
    if p == 0:
        return (x != 0).astype(x.dtype).sum(dims, keepdim)
    if p == 1:
        return x.abs().sum(dims, keepdim)
    size = x.abs()
    total = (where(size == 0, 0 if p > 0 else math.inf, where(size == 0, 1, size) ** p)).sum(dims, keepdim)
    return where(total == 0, 0, where(total == 0, 1, total) ** (1 / p))


def composed_norm(x: Tensor, *, dim: tuple[int, ...] | None, keepdim: bool) -> Tensor:
    """The 2-norm by operators that have derivatives of any order, and kernels in plans."""
    return Deviation.apply((x * x).sum(dim, keepdim))


def norm(input: Any, p: Any = "fro", dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The p-norm over one dimension, several, or all: the p-th root of the sum of |x|^p. "fro" is the 2-norm, infinity
    the largest |x|, 0 the number of entries that are not 0.

    >>> import fastnn as fnn
    >>> fnn.tensor([[3.0, 4.0], [6.0, 8.0]]).norm(dim=1)
    Tensor([ 5., 10.])
    """
    wanted = dtype_of("norm", dtype)
    x = floating(input) if wanted is None else tensor_of(input).astype(wanted)
    if isinstance(p, str) and p in ("inf", "-inf"):
        p = float(p)
    if p is None or (isinstance(p, str) and p == "fro"):
        p = 2.0
    order = number("norm", "p", p, finite=False, expected="a number, infinity or 'fro'")
    return _power_norm(x, order, axes("norm", dim, x.ndim), keepdim)


def normalize(input: Any, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """`input` divided along `dim` by its p-norm, or by eps where that is smaller: vectors of length 1.

    >>> import fastnn as fnn
    >>> fnn.ops.normalize([[3.0, 4.0]])
    Tensor([[0.6, 0.8]])
    """
    x = floating(input)
    return x / norm(x, p, dim, True).clamp(eps)


def dist(input: Any, other: Any, p: float = 2) -> Tensor:
    """The p-norm of input - other."""
    return norm(floating(input) - other, p)


def cdist(x1: Any, x2: Any, p: float = 2.0, compute_mode: str | None = "use_mm_for_euclid_dist_if_necessary") -> Tensor:
    """The p-norms of all differences of rows: (..., P, D) and (..., R, D) -> (..., P, R). `compute_mode` is taken and
    says nothing: differences are always taken, which is exact."""
    a, b = floating(x1), floating(x2)
    if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-1]:
        raise ShapeError(f"cdist: expected rows (P, D) and (R, D), got {a.shape} and {b.shape}")
    return norm(a.unsqueeze(-2) - b.unsqueeze(-3), p, -1)


def pdist(input: Any, p: float = 2.0) -> Tensor:
    """The p-norms of the differences of all pairs of rows (N, D) -> (N(N-1)/2,): of 0 and 1, 0 and 2, ..., N-2 and N-1.

    >>> import fastnn as fnn
    >>> fnn.pdist([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
    Tensor([5.       , 1.       , 4.2426405])
    """
    x = floating(input)
    if x.ndim != 2:
        raise ShapeError(f"pdist: expected rows (N, D), got {x.shape}")
    first, second = np.triu_indices(len(x), 1)
    return norm(x[first] - x[second], p, 1)


def logsumexp(input: Any, dim: Dim, keepdim: bool = False) -> Tensor:
    """log of the sum of exp over one dimension or several, exact for large numbers.

    >>> import fastnn as fnn
    >>> round(fnn.tensor([1000.0, 1000.0]).logsumexp(0).item(), 2)
    1000.69
    """
    x = floating(input)
    dims = axes("logsumexp", dim, x.ndim)
    if x.ndim == 0:
        return apart(x, input)
    if not math.prod(x.shape[d] for d in (range(x.ndim) if dims is None else dims)):
        return x.sum(dims, keepdim) - math.inf  # the logarithm of nothing
    return (LogSumExp.apply if tracer() is None else composed_logsumexp)(x, dim=dims, keepdim=keepdim)


def composed_logsumexp(x: Tensor, *, dim: tuple[int, ...] | None, keepdim: bool) -> Tensor:
    """The same by operators that have derivatives of any order, and kernels in plans."""
    largest = amax(x.detach(), dim, True)
    largest = where(largest.abs() == math.inf, 0, largest)
    sums = (x - largest).exp().sum(dim, keepdim).log()
    return sums + (largest if keepdim else reshape(largest, sums.shape))
