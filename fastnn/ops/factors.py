"""Inverses and factorisations of matrices (..., M, N), which NumPy's LAPACK computes, and their gradients.

Each backward is written once, of what forward was given and what it gave, so that it has a derivative itself. Several
results of one factorisation lie side by side in one array (..., total), which `unpacked` cuts up. In compiled plans
these operators run in Python; while a plan is made they are tried on the identity, since a matrix of ones is singular.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.errors import GraphError, LinAlgError
from fastnn.ops.common import sum_to
from fastnn.tensors import Array, Context, Function, Tensor

__all__ = [
    "FACTORS", "Cholesky", "Det", "Eigh", "Inverse", "Lu", "MatrixExp", "Order", "Pinv", "Pivots", "Qr", "SLogDet",
    "Solve", "Svd", "unpacked",
]  # fmt: skip


def _packed(*parts: tuple[Array, int]) -> Array:
    """Arrays side by side, each with the number of its dimensions that are not the stack's."""
    flat = [x.reshape(*x.shape[: x.ndim - dims], math.prod(x.shape[x.ndim - dims :])) for x, dims in parts]
    return np.concatenate(flat, -1)


def unpacked(y: Any, *shapes: tuple[int, ...]) -> list[Any]:
    """The arrays, or tensors, of these shapes that lie side by side along the last dimension of `y`, as views."""
    parts, start = [], 0
    for shape in shapes:
        end = start + math.prod(shape)
        parts.append(y[..., start:end].reshape((*y.shape[:-1], *shape)))
        start = end
    return parts


def _of_each(what: str, compute: Callable[..., Array], a: Array, *others: Array, check: bool = True) -> Array:
    """compute(a, ...), LinAlgError that names the matrix where one is not `what`; without `check` NaN in its place."""
    try:
        return compute(a, *others)
    except np.linalg.LinAlgError:
        others = tuple(np.broadcast_to(x, (*a.shape[:-2], *x.shape[-2:])) for x in others)
        results = []
        for place in np.ndindex(a.shape[:-2]):
            try:
                results.append(compute(a[place], *(x[place] for x in others)))
            except np.linalg.LinAlgError as error:
                if check:
                    which = f"matrix {list(place)} of {a.shape}" if place else f"the matrix {a.shape}"
                    raise LinAlgError(f"expected {what}, which {which} is not ({error})") from None
                results.append(np.full(a.shape[-2:], np.nan, a.dtype))
        return np.stack(results).reshape(a.shape)


def _factored(compute: Callable[..., Any], a: Array, *options: Any) -> Any:
    """compute(a, ...), LinAlgError that names the first matrix with NaN or infinity, for which LAPACK has no result."""
    try:
        return compute(a, *options)
    except np.linalg.LinAlgError as error:
        places = np.argwhere(~np.isfinite(a).all((-2, -1)))
        which = f"matrix {places[0].tolist()} of {a.shape}" if places.size else f"the matrix {a.shape}"
        raise LinAlgError(f"expected finite numbers, which {which} has not ({error})") from None


def _cholesky(a: Array) -> Array:
    """NumPy's, which gives NaN for NaN: no matrix with one is positive definite."""
    y = np.linalg.cholesky(a)
    if np.isnan(y).any():
        raise np.linalg.LinAlgError("Matrix is not positive definite")
    return y


def _inverted(a: Array, check: bool = True) -> Array:
    return _of_each("an invertible matrix", np.linalg.inv, a, check=check)


def _solved(a: Array, b: Array) -> Array:
    a, b = (x.reshape((1,) * (max(a.ndim, b.ndim) - x.ndim) + x.shape) for x in (a, b))  # else NumPy 1 sees vectors
    stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    return _of_each("an invertible matrix", np.linalg.solve, np.broadcast_to(a, (*stack, *a.shape[-2:])), b)


def _inverse(a: Any) -> Any:
    return Inverse.apply(a, check=True) if isinstance(a, Tensor) else _inverted(a)


def _solve(a: Any, b: Any) -> Any:
    return Solve.apply(a, b) if isinstance(a, Tensor) or isinstance(b, Tensor) else _solved(a, b)


def _t(x: Any) -> Any:
    return x.swapaxes(-1, -2)


def _over(numerator: Any, denominator: Any) -> Any:
    """The quotient, in which 0/0 is 0: no gradient came through vectors of a common (singular) value."""
    denominator = np.where((numerator == 0) & (denominator == 0), 1.0, denominator)
    with np.errstate(divide="ignore", invalid="ignore"):
        return numerator / denominator


def _upper_half(n: int, dtype: np.dtype[Any]) -> Array:
    """Ones above the diagonal, halves on it."""
    return np.triu(np.ones((n, n), dtype)) - np.eye(n, dtype=dtype) / 2


class Inverse(Function):
    """The inverse of a (..., N, N). Saves the output y: the gradient is -yᵀ·grad·yᵀ (Petersen and Pedersen, The Matrix
    Cookbook, 2012, eq. 60). Attribute: check, whether a singular matrix is an error, or gives NaN."""

    @staticmethod
    def forward(ctx: Context, a: Array, *, check: bool) -> Array:
        y = _inverted(a, check)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        (y,) = ctx.saved_tensors
        result: Array = -(_t(y) @ grad @ _t(y))
        return result


class Solve(Function):
    """x of a·x = b: a (..., N, N), b (..., N, K) -> (..., N, K), the dimensions before broadcast. Saves a and x.

    That of b is a⁻ᵀ·grad, that of a the product of its negative and xᵀ (Giles, Collected matrix derivative results,
    2008, section 2.3.1).
    """

    @staticmethod
    def forward(ctx: Context, a: Array, b: Array) -> Array:
        x = _solved(a, b)
        ctx.save_for_backward(a, x, a.shape, b.shape)
        return x

    @staticmethod
    def backward(ctx: Context, grad: Array) -> tuple[Array | None, Array | None]:
        a, x, a_shape, b_shape = ctx.saved_tensors
        grad_b = _solve(_t(a), grad)
        need_a, need_b = ctx.needs_input_grad
        return (
            sum_to(-(grad_b @ _t(x)), a_shape) if need_a else None,
            sum_to(grad_b, b_shape) if need_b else None,
        )


class Det(Function):
    """The determinant of a (..., N, N) -> (...). Saves a and the output; the gradient is that of its cofactors, y·a⁻ᵀ
    (Jacobi's formula), which of a singular matrix follow from its singular values."""

    @staticmethod
    def forward(ctx: Context, a: Array) -> Array:
        y = np.asarray(np.linalg.det(a))
        ctx.save_for_backward(a, y)
        return y

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        a, y = ctx.saved_tensors
        if not isinstance(grad, Tensor) and not y.all():
            return grad[..., None, None] * _cofactors(a)
        return (grad * y)[..., None, None] * _t(_inverse(a))


def _cofactors(a: Array) -> Array:
    """det(u)·det(v)·u·c·vᵀ of a = u·s·vᵀ, where c holds the products of all other singular values."""
    u, s, vh = np.linalg.svd(a)
    n = s.shape[-1]
    others = np.where(np.eye(n, dtype=bool), 1.0, s[..., None, :]).prod(-1).astype(a.dtype)
    turns = (np.linalg.det(u) * np.linalg.det(vh))[..., None, None]
    return turns * (u * others[..., None, :]) @ vh


class SLogDet(Function):
    """Sign and logarithm of the determinant's size, of a (..., N, N) -> (..., 2). Saves a: the gradient of the
    logarithm is a⁻ᵀ (The Matrix Cookbook, eq. 57), the sign has none."""

    @staticmethod
    def forward(ctx: Context, a: Array) -> Array:
        ctx.save_for_backward(a)
        return np.stack(np.linalg.slogdet(a), -1)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        (a,) = ctx.saved_tensors
        result: Array = grad[..., 1:, None] * _t(_inverse(a))
        return result


class Cholesky(Function):
    """The lower triangle L of a = L·Lᵀ, (..., N, N), from a's lower triangle. Saves the output. Attribute: check,
    whether a matrix that is not positive definite is an error or gives NaN. Gradient: Murray, Differentiation of the
    Cholesky decomposition, 2016, eq. 10, made symmetric."""

    @staticmethod
    def forward(ctx: Context, a: Array, *, check: bool) -> Array:
        y = _of_each("a positive definite matrix", _cholesky, a, check=check)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        (y,) = ctx.saved_tensors
        half = _t(y) @ grad * _upper_half(y.shape[-1], grad.dtype).T
        both = half + _t(half)
        result: Array = _solve(_t(y), _t(_solve(_t(y), both))) * 0.5
        return result


class Eigh(Function):
    """Eigenvalues w, ascending, and vectors v (columns) of symmetric a (..., N, N), side by side: N + N·N entries.

    Saves the output. Attribute: uplo, the triangle that is read, "L" or "U". Gradient: Giles, section 3.1, made
    symmetric; of vectors whose values are equal there is none.
    """

    @staticmethod
    def forward(ctx: Context, a: Array, *, uplo: Any) -> Array:
        w, v = _factored(np.linalg.eigh, a, uplo)
        y = _packed((w, 1), (v, 2))
        ctx.save_for_backward(y, ((w.shape[-1],), v.shape[-2:]))
        return y

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        y, shapes = ctx.saved_tensors
        (w, v), (grad_w, grad_v) = unpacked(y, *shapes), unpacked(grad, *shapes)
        of_v = _t(v) @ grad_v
        turned = _over((of_v - _t(of_v)) * 0.5, w[..., None, :] - w[..., :, None])
        result: Array = v @ (turned + np.eye(*v.shape[-2:], dtype=grad.dtype) * grad_w[..., None, :]) @ _t(v)
        return result


class Svd(Function):
    """u, s and vᵀ of a = u·s·vᵀ, a (..., M, N), side by side. With `full` u and v are square; no gradient flows through
    what they then have more than K = min(M, N) vectors.

    Saves the output. Gradient: Townsend, Differentiating the singular value decomposition, 2016; of vectors whose
    singular values are equal there is none.
    """

    @staticmethod
    def forward(ctx: Context, a: Array, *, full: bool) -> Array:
        u, s, vh = _factored(np.linalg.svd, a, full)
        y = _packed((u, 2), (s, 1), (vh, 2))
        ctx.save_for_backward(y, (u.shape[-2:], s.shape[-1:], vh.shape[-2:]))
        return y

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        y, shapes = ctx.saved_tensors
        (u, s, vh), (grad_u, grad_s, grad_vh) = unpacked(y, *shapes), unpacked(grad, *shapes)
        k = s.shape[-1]
        u, grad_u, vh, grad_vh = u[..., :k], grad_u[..., :k], vh[..., :k, :], grad_vh[..., :k, :]
        columns, rows = s[..., None, :], s[..., :, None]
        of_u, of_v = _t(u) @ grad_u, _t(grad_vh @ _t(vh))
        apart = columns * columns - rows * rows
        inner = _over(of_u - _t(of_u), apart) * columns + rows * _over(of_v - _t(of_v), apart)
        result = u @ (inner + np.eye(k, dtype=grad.dtype) * grad_s[..., None, :]) @ vh
        if u.shape[-2] > k:
            result = result + _over(grad_u - u @ of_u, columns) @ vh
        if vh.shape[-1] > k:
            result = result + u @ _over(grad_vh - _t(of_v) @ vh, rows)
        return result


class Qr(Function):
    """q and r of a = q·r, a (..., M, N), side by side: q (M, K), r (K, N), K = min(M, N); with `complete` q is square.

    Saves the output. The gradient is there for M ≥ N, and not for a complete q of more rows than columns: Walter and
    Lehmann, Algorithmic differentiation of linear algebra functions, 2010, section 3.1.
    """

    @staticmethod
    def forward(ctx: Context, a: Array, *, complete: bool) -> Array:
        q, r = np.linalg.qr(a, "complete" if complete else "reduced")
        y = _packed((q, 2), (r, 2))
        ctx.save_for_backward(y, (q.shape[-2:], r.shape[-2:]))
        return y

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        y, shapes = ctx.saved_tensors
        (q, r), (grad_q, grad_r) = unpacked(y, *shapes), unpacked(grad, *shapes)
        if r.shape[-2] != r.shape[-1]:
            raise GraphError(
                "qr: expected mode='reduced', since a complete q of more rows than columns has no gradient"
            )
        half = (grad_r @ _t(r) - _t(q) @ grad_q) * _upper_half(r.shape[-1], grad.dtype)
        result: Array = _t(_solve(r, _t(grad_q + q @ (half + _t(half)))))
        return result


class Pinv(Function):
    """The pseudo-inverse (..., N, M) of a (..., M, N), of the singular values above max(atol, rtol·largest).

    Saves a and the output p. Gradient: Golub and Pereyra, The differentiation of pseudo-inverses and nonlinear least
    squares problems whose variables separate, 1973, eq. 4.12.
    """

    @staticmethod
    def forward(ctx: Context, a: Array, *, atol: float, rtol: float) -> Array:
        u, s, vh = _factored(np.linalg.svd, a, False)
        large = s > np.maximum(atol, rtol * s.max(-1, keepdims=True, initial=0))
        p: Array = _t(vh) @ (np.divide(1, s, out=np.zeros_like(s), where=large)[..., None] * _t(u))
        ctx.save_for_backward(a, p)
        return p

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        a, p = ctx.saved_tensors
        left, right = _t(grad) @ (p @ _t(p)), (_t(p) @ p) @ _t(grad)
        return left - a @ (p @ left) + right - (right @ p) @ a - _t(p) @ grad @ _t(p)


def _eliminated(a: Array, pivot: bool) -> tuple[Array, Array]:
    """Gaussian elimination of (..., M, N): the multipliers below the diagonal, U on it and above; and with which row,
    counted from 1 as LAPACK does, each of the first min(M, N) changed places before: with `pivot` that of the largest
    entry."""
    a = a.copy()
    rows, count = a.shape[-2], min(a.shape[-2:])
    pivots = np.broadcast_to(np.arange(1, count + 1, dtype=np.int32), (*a.shape[:-2], count)).copy()
    for j in range(count):
        if pivot:
            place = np.abs(a[..., j:, j]).argmax(-1) + j
            pivots[..., j] = place + 1
            swapped = np.where(np.arange(rows) == j, place[..., None], np.arange(rows))
            swapped = np.where(np.arange(rows) == place[..., None], j, swapped)
            a = np.take_along_axis(a, swapped[..., None], -2)
        head = a[..., j, None, j, None]
        a[..., j + 1 :, j, None] = np.divide(
            a[..., j + 1 :, j, None], head, out=np.zeros_like(a[..., j + 1 :, j, None]), where=head != 0
        )
        a[..., j + 1 :, j + 1 :] -= a[..., j + 1 :, j, None] * a[..., j, None, j + 1 :]
    return a, pivots


class Pivots(Function):
    """The pivots (..., K) of the LU factorisation of a (..., M, N), int32 from 1 on, K = min(M, N)."""

    differentiable = False

    @staticmethod
    def forward(ctx: Context, a: Array) -> Array:
        return _eliminated(a, True)[1]


class Order(Function):
    """The order of a matrix's `rows` rows after the pivots (..., K): (..., rows), counted from 0."""

    differentiable = False

    @staticmethod
    def forward(ctx: Context, pivots: Array, *, rows: int) -> Array:
        order = np.broadcast_to(np.arange(rows), (*pivots.shape[:-1], rows)).copy()
        for j in range(pivots.shape[-1]):
            place = pivots[..., j, None].astype(np.int64) - 1
            there = np.take_along_axis(order, place, -1)
            np.put_along_axis(order, place, order[..., j, None], -1)
            order[..., j, None] = there
        return order


class Lu(Function):
    """L and U of a = L·U in one matrix, a (..., M, N) whose rows are in the order of pivots; L has ones on its
    diagonal, which are left out. Saves the output. Gradient: Axen et al., as PyTorch's plu_backward_base has it."""

    @staticmethod
    def forward(ctx: Context, a: Array) -> Array:
        y, _ = _eliminated(a, False)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        (y,) = ctx.saved_tensors
        (m, n), k, kind = y.shape[-2:], min(y.shape[-2:]), grad.dtype
        under, on = np.tri(m, n, -1, kind), np.eye(m, n, dtype=kind)
        lower, upper = (y * under + on)[..., :k], (y * (1 - under))[..., :k, :]
        grad_l, grad_u = (grad * under)[..., :k], (grad * (1 - under))[..., :k, :]
        if m <= n:
            inner = (_t(lower) @ grad_l - grad_u @ _t(upper)) * np.tri(k, k, -1, kind)
            inner = _t(_solve(upper[..., :k], _t(inner))) @ np.eye(k, n, dtype=kind) + grad_u
            result: Array = _solve(_t(lower), inner)
        else:
            inner = (grad_u @ _t(upper) - _t(lower) @ grad_l) * np.tri(k, k, 0, kind).T
            inner = np.eye(m, k, dtype=kind) @ _solve(_t(lower[..., :k, :]), inner) + grad_l
            result = _t(_solve(upper, _t(inner)))
        return result


# Of the numerator and the denominator of the approximation (13, 13), from the constant on.
_PADE = (
    64764752532480000, 32382376266240000, 7771770303897600, 1187353796428800, 129060195264000, 10559470521600,
    670442572800, 33522128640, 1323241920, 40840800, 960960, 16380, 182, 1,
)  # fmt: skip


def _exponential(a: Array) -> Array:
    """By scaling and squaring in float64 (Higham, The scaling and squaring method for the matrix exponential revisited,
    2005, algorithm 2.3 with degree 13): a matrix whose 1-norm is above 5.37 is halved until it is not."""
    with np.errstate(over="ignore", invalid="ignore"):
        norm = np.abs(a).sum(-2, dtype=np.float64).max(-1, initial=0)
        halvings = np.maximum(
            0, np.ceil(np.log2(np.where(np.isfinite(norm) & (norm > 0), norm, 1) / 5.371920351148152))
        )
        x = a * np.exp2(-halvings)[..., None, None]
        one, c = np.eye(a.shape[-1]), _PADE
        x2 = x @ x
        x4 = x2 @ x2
        x6 = x4 @ x2
        odd = x @ (x6 @ (c[13] * x6 + c[11] * x4 + c[9] * x2) + c[7] * x6 + c[5] * x4 + c[3] * x2 + c[1] * one)
        even = x6 @ (c[12] * x6 + c[10] * x4 + c[8] * x2) + c[6] * x6 + c[4] * x4 + c[2] * x2 + c[0] * one
        y = np.linalg.solve(even - odd, even + odd)
        for i in range(int(halvings.max(initial=0))):
            y = np.where((halvings > i)[..., None, None], y @ y, y)
        return y.astype(a.dtype)


def _largest(x: Any) -> float:
    return float(np.abs(x.detach().numpy() if isinstance(x, Tensor) else x).max(initial=0))


class MatrixExp(Function):
    """The exponential of a (..., N, N). Saves a. The gradient is the upper right block of the exponential of
    [[aᵀ, grad], [0, aᵀ]] (Higham, Functions of Matrices, 2008, eq. 3.16), linear in grad: made as large as a, it takes
    no halvings of its own, which would cost digits."""

    @staticmethod
    def forward(ctx: Context, a: Array) -> Array:
        ctx.save_for_backward(a)
        return _exponential(a)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        (a,) = ctx.saved_tensors
        n = a.shape[-1]
        first, second = np.split(np.eye(2 * n, dtype=a.dtype), 2)
        scale = a.dtype.type(2.0 ** np.floor(np.log2(_largest(grad) / (_largest(a) or 1) or 1)))
        both = _t(first) @ _t(a) @ first + _t(second) @ _t(a) @ second + _t(first) @ (grad / scale) @ second
        y = MatrixExp.apply(both) if isinstance(both, Tensor) else _exponential(both)
        result: Array = first @ y @ _t(second) * scale
        return result


FACTORS: tuple[type[Function], ...] = (
    Cholesky, Det, Eigh, Inverse, Lu, MatrixExp, Order, Pinv, Pivots, Qr, SLogDet, Solve, Svd
)  # fmt: skip
