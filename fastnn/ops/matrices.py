"""Inverse, determinant and factorisations of matrices by the names that torch itself has, too, beside torch.linalg."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastnn.checks import flag, number, whole
from fastnn.errors import ShapeError
from fastnn.ops import factors
from fastnn.ops.common import axis, floating
from fastnn.ops.dense import matmul
from fastnn.ops.joining import cat, where
from fastnn.ops.moving import roll, tril, triu
from fastnn.ops.shaping import apart, expand
from fastnn.tensors import Tensor

__all__ = [
    "cholesky", "cholesky_inverse", "cholesky_solve", "cross", "det", "inverse", "logdet", "matrix_exp", "matrix_power",
    "pca_lowrank", "pinverse", "qr", "slogdet", "svd", "svd_lowrank",
]  # fmt: skip


class SignAndLogarithm(NamedTuple):
    """What slogdet gives: the determinant is sign · exp(logabsdet)."""

    sign: Tensor
    logabsdet: Tensor


class QR(NamedTuple):
    """What qr gives: orthonormal columns, and an upper triangle."""

    Q: Tensor
    R: Tensor


class USV(NamedTuple):
    """What torch.svd gives: the matrix is U @ diag(S) @ V.T."""

    U: Tensor
    S: Tensor
    V: Tensor


def matrix(op: str, x: Any) -> Tensor:
    """`x` as floats; ShapeError for what is no matrix (..., M, N)."""
    x = floating(x)
    if x.ndim < 2:
        raise ShapeError(f"{op}: expected matrices (..., M, N), got shape {x.shape}")
    return x


def square(op: str, x: Any) -> Tensor:
    """`x` as floats; ShapeError for what is no square matrix (..., N, N)."""
    x = floating(x)
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise ShapeError(f"{op}: expected square matrices (..., N, N), got shape {x.shape}")
    return x


def check_stacks(op: str, a: tuple[int, ...], b: tuple[int, ...], left: bool = True) -> None:
    """ShapeError unless equations of (..., N, N) have right-hand sides (..., N, K), or (..., K, N) without `left`."""
    try:
        np.broadcast_shapes(a[:-2], b[:-2])
        fits = len(b) > 1 and b[-2 if left else -1] == a[-2]
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError(f"{op}: expected matrices and right-hand sides that fit, got {a} and {b}")


def mt(x: Tensor) -> Tensor:
    """Each matrix transposed."""
    return x.transpose(-1, -2)


def identity(x: Tensor, n: int) -> Tensor:
    """The identity (N, N) in x's type."""
    return Tensor(np.eye(n, dtype=x.dtype))


# ---- inverse and determinant -----------------------------------------------------------------------------------------


def inverse(A: Any) -> Tensor:
    """The inverses of square matrices (..., N, N). Raises LinAlgError for a singular one; `solve` is more exact.

    >>> import fastnn as fnn
    >>> fnn.linalg.inv([[2.0, 0.0], [0.0, 4.0]])
    Tensor([[0.5 , 0.  ],
            [0.  , 0.25]])
    """
    return factors.Inverse.apply(square("inv", A), check=True)


def det(A: Any) -> Tensor:
    """The determinants of square matrices (..., N, N) -> (...).

    >>> import fastnn as fnn
    >>> fnn.linalg.det([[2.0, 1.0], [0.0, 4.0]])
    Tensor(8.)
    """
    return factors.Det.apply(square("det", A))


def slogdet(A: Any) -> SignAndLogarithm:
    """Sign and logarithm of the size of determinants, which may be too large or small for a number: (..., N, N) ->
    sign (...), 0 of a singular matrix, and logabsdet (...), there -infinity. The sign has no gradient.

    >>> import fastnn as fnn
    >>> fnn.linalg.slogdet([[0.0, 1.0], [1.0, 0.0]])
    SignAndLogarithm(sign=Tensor(-1.), logabsdet=Tensor(0.))
    """
    both = factors.SLogDet.apply(square("slogdet", A))
    return SignAndLogarithm(both[..., 0].detach(), both[..., 1])


def logdet(A: Any) -> Tensor:
    """The logarithms of determinants (..., N, N) -> (...); NaN of a negative one."""
    sign, logarithm = slogdet(square("logdet", A))
    return where(sign < 0, np.nan, logarithm)


def pinverse(input: Any, rcond: float = 1e-15) -> Tensor:
    """Pseudo-inverses (..., M, N) -> (..., N, M), of the singular values above rcond times the largest."""
    return factors.Pinv.apply(matrix("pinverse", input), atol=0.0, rtol=number("pinverse", "rcond", rcond))


def matrix_exp(A: Any) -> Tensor:
    """The exponentials of square matrices (..., N, N), not of their entries: the sum of Aᵏ/k!.

    >>> import fastnn as fnn
    >>> fnn.linalg.matrix_exp([[0.0, 1.0], [0.0, 0.0]])
    Tensor([[1., 1.],
            [0., 1.]])
    """
    return factors.MatrixExp.apply(square("matrix_exp", A))


def matrix_power(A: Any, n: int) -> Tensor:
    """The product of n times the same square matrix (..., N, N), by squaring; of its inverse for n < 0.

    >>> import fastnn as fnn
    >>> fnn.linalg.matrix_power([[1.0, 1.0], [0.0, 1.0]], 5)
    Tensor([[1., 5.],
            [0., 1.]])
    """
    x = square("matrix_power", A)
    n = whole("matrix_power", "n", n)
    if n < 0:
        x, n = inverse(x), -n
    result = None if n else expand(identity(x, x.shape[-1]), x.shape)
    while n:
        if n % 2:
            result = x if result is None else matmul(result, x)
        n //= 2
        x = matmul(x, x) if n else x
    assert result is not None
    return apart(result, A)


# ---- factorisations --------------------------------------------------------------------------------------------------


def cholesky(A: Any, upper: bool = False) -> Tensor:
    """The lower triangle L of symmetric positive definite matrices L @ L.T, (..., N, N), of which the lower triangle is
    read; with `upper` L.T, from the upper one. Raises LinAlgError for a matrix that is not positive definite.

    >>> import fastnn as fnn
    >>> fnn.linalg.cholesky([[4.0, 2.0], [2.0, 2.0]])
    Tensor([[2., 0.],
            [1., 1.]])
    """
    return triangle_of(square("cholesky", A), upper, check=True)


def triangle_of(x: Tensor, upper: bool, *, check: bool) -> Tensor:
    """Cholesky's triangle; without `check` NaN where there is none."""
    upper = flag("cholesky", "upper", upper)
    return mt(triangle_of(mt(x), False, check=check)) if upper else factors.Cholesky.apply(x, check=check)


def cholesky_solve(B: Any, L: Any, upper: bool = False) -> Tensor:
    """x of A @ x = B, where L (..., N, N) is A's triangle, as `cholesky` gives it: B (..., N, K) -> (..., N, K)."""
    lower, b = square("cholesky_solve", L), matrix("cholesky_solve", B)
    check_stacks("cholesky_solve", lower.shape, b.shape)
    lower = mt(triu(lower)) if flag("cholesky_solve", "upper", upper) else tril(lower)
    half = factors.Solve.apply(lower, b)
    return factors.Solve.apply(mt(lower), half)


def cholesky_inverse(L: Any, upper: bool = False) -> Tensor:
    """The inverse of the matrix whose triangle L (..., N, N) is, as `cholesky` gives it."""
    lower = square("cholesky_inverse", L)
    return cholesky_solve(identity(lower, lower.shape[-1]), lower, upper)


def qr(input: Any, some: bool = True) -> QR:
    """As `linalg.qr`; without `some` Q is square, mode "complete"."""
    x = matrix("qr", input)
    rows, columns = x.shape[-2:]
    if rows < columns:  # R of the further columns is Qᵀ times these
        first = qr(x[..., :rows])
        return QR(first.Q, cat((first.R, matmul(mt(first.Q), x[..., rows:])), -1))
    complete = not flag("qr", "some", some) and rows > columns
    size = rows if complete else columns
    return QR(*factors.unpacked(factors.Qr.apply(x, complete=complete), (rows, size), (size, columns)))


def parts_of(op: str, x: Any, full: bool) -> tuple[Tensor, Tensor, Tensor]:
    """U (..., M, K), S (..., K) and V.T (..., K, N) of matrices, K = min(M, N); with `full` U and V are square."""
    x = matrix(op, x)
    rows, columns = x.shape[-2:]
    k = min(rows, columns)
    shapes = ((rows, rows if full else k), (k,), (columns if full else k, columns))
    u, s, vh = factors.unpacked(factors.Svd.apply(x, full=bool(full)), *shapes)
    return u, s, vh


def svd(input: Any, some: bool = True, compute_uv: bool = True) -> USV:
    """As `linalg.svd`, with V in the place of V.T; `some` is not full_matrices. Without `compute_uv` U and V are 0."""
    some, compute_uv = flag("svd", "some", some), flag("svd", "compute_uv", compute_uv)
    u, s, vh = parts_of("svd", input, not some and compute_uv)
    if compute_uv:
        return USV(u, s, mt(vh))
    zeros = [Tensor(np.zeros((*s.shape[:-1], n, n), s.dtype)) for n in (u.shape[-2], vh.shape[-1])]
    return USV(zeros[0], s, zeros[1])


def svd_lowrank(A: Any, q: int | None = 6, niter: int | None = 2, M: Any = None) -> USV:
    """The q largest singular values of matrices A, or of A - M, and their vectors: U (..., M, q), S (..., q) and
    V (..., N, q). They are exact, of which PyTorch's are approximations by random numbers: `niter` says nothing."""
    x = matrix("svd_lowrank", A)
    x = x if M is None else x - floating(M, x.dtype)
    q = whole("svd_lowrank", "q", 6 if q is None else q, 0, min(x.shape[-2:]))
    u, s, vh = parts_of("svd_lowrank", x, False)
    return USV(u[..., :q], s[..., :q], mt(vh)[..., :q])


def pca_lowrank(A: Any, q: int | None = None, center: bool = True, niter: int = 2) -> USV:
    """The q largest principal components of data (..., M, N), M samples of N features, in the columns of V: svd_lowrank
    of A less the mean of each feature. q is 6 by default, or as many as there are.

    >>> import fastnn as fnn
    >>> fnn.pca_lowrank(fnn.tensor([[1.0, 1.0], [3.0, 3.0]]), 1).S
    Tensor([2.])
    """
    x = matrix("pca_lowrank", A)
    q = min(6, *x.shape[-2:]) if q is None else q
    return svd_lowrank(x - x.mean(-2, True) if flag("pca_lowrank", "center", center) else x, q, niter)


# ---- vectors ---------------------------------------------------------------------------------------------------------


def cross(input: Any, other: Any, dim: int | None = None) -> Tensor:
    """The cross products of vectors of 3 along `dim`, by default the first dimension of size 3; others broadcast.

    >>> import fastnn as fnn
    >>> fnn.cross([1.0, 0.0, 0.0], [0.0, 1.0, 0.0])
    Tensor([0., 0., 1.])
    """
    a, b = floating(input), floating(other)
    if dim is None:
        dim = next((d for d, size in enumerate(a.shape) if size == 3), -1)
        dim = dim - a.ndim if dim >= 0 else dim
    dim = axis("cross", dim, max(a.ndim, b.ndim)) - max(a.ndim, b.ndim)  # from behind, as dimensions broadcast
    if min(a.ndim, b.ndim) < -dim or a.shape[dim] != 3 or b.shape[dim] != 3:
        raise ShapeError(f"cross: expected vectors of 3 along a dimension, got {a.shape} and {b.shape}")
    return roll(a, -1, dim) * roll(b, -2, dim) - roll(a, -2, dim) * roll(b, -1, dim)


def reflected(a: Tensor, tau: Tensor) -> Tensor:
    """The first N columns of the product of reflections 1 - tau[i]·v·vᵀ, each v below the diagonal of a (..., M, N) and
    1 on it."""
    q = Tensor(np.eye(*a.shape[-2:], dtype=a.dtype))
    vectors = tril(a, -1) + q
    for i in reversed(range(tau.shape[-1])):
        v = vectors[..., i : i + 1]
        q = q - tau[..., i, None, None] * matmul(v, matmul(mt(v), q))
    return q
