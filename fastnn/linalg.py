"""PyTorch's torch.linalg: inverses, factorisations and norms of matrices (..., M, N), and linear equations.

NumPy's LAPACK computes them; gradients, and their own, are formulas of fastnn's operators. In compiled plans they run
in Python. What has no inverse or no factorisation raises LinAlgError, which is NumPy's of that name, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fastnn.checks import entries, flag, is_number, number
from fastnn.dtypes import dtype_of
from fastnn.errors import ArgumentError, LinAlgError, ShapeError
from fastnn.habits import no_such_name
from fastnn.ops import elimination, factors, matrices, products
from fastnn.ops.common import Dim, axes, axis, floating, tensor_of
from fastnn.ops.dense import matmul
from fastnn.ops.joining import where
from fastnn.ops.matrices import QR, cholesky, det, matrix, matrix_exp, matrix_power, mt, slogdet, square
from fastnn.ops.moving import movedim, tril, triu
from fastnn.ops.outputs import with_out
from fastnn.ops.reductions import amax, amin
from fastnn.ops.shaping import expand, squeeze
from fastnn.recording import tracer
from fastnn.tensors import Tensor

__all__ = [
    "LinAlgError", "cholesky", "cholesky_ex", "cond", "cross", "det", "diagonal", "eigh", "eigvalsh",
    "householder_product", "inv", "inv_ex", "lstsq", "lu", "lu_factor", "lu_solve", "matmul",
    "matrix_exp", "matrix_norm", "matrix_power", "matrix_rank", "multi_dot", "norm", "pinv", "qr", "slogdet", "solve",
    "solve_triangular", "svd", "svdvals", "vecdot", "vector_norm",
]  # fmt: skip

inv = matrices.inverse


class EigenvaluesAndVectors(NamedTuple):
    """What eigh gives."""

    eigenvalues: Tensor
    eigenvectors: Tensor


class SVD(NamedTuple):
    """What svd gives: the matrix is U @ diag(S) @ Vh."""

    U: Tensor
    S: Tensor
    Vh: Tensor


class InverseAndInfo(NamedTuple):
    """What inv_ex gives."""

    inverse: Tensor
    info: Tensor


class TriangleAndInfo(NamedTuple):
    """What cholesky_ex gives."""

    L: Tensor
    info: Tensor


class LeastSquares(NamedTuple):
    """What lstsq gives."""

    solution: Tensor
    residuals: Tensor
    rank: Tensor
    singular_values: Tensor


# ---- inverses and equations ------------------------------------------------------------------------------------------


def _info(x: Tensor) -> Tensor:
    """1 for each matrix that is not there, and NaN, and 0 for others."""
    return x.detach().isnan().any((-2, -1)).astype(np.int32)


def inv_ex(A: Any, *, check_errors: bool = False) -> InverseAndInfo:
    """Inverses (..., N, N), and `info` (...): 1 where a matrix is singular, whose inverse is NaN, else 0. With
    `check_errors` that is a LinAlgError."""
    result = factors.Inverse.apply(square("inv_ex", A), check=flag("inv_ex", "check_errors", check_errors))
    return InverseAndInfo(result, _info(result))


def cholesky_ex(A: Any, *, upper: bool = False, check_errors: bool = False) -> TriangleAndInfo:
    """As `cholesky`, and `info` (...): 1 where a matrix is not positive definite, whose triangle is NaN, else 0. With
    `check_errors` that is a LinAlgError.

    >>> import fastnn as fnn
    >>> fnn.linalg.cholesky_ex([[0.0, 1.0], [1.0, 0.0]]).info
    Tensor(1, dtype=int32)
    """
    result = matrices.triangle_of(
        square("cholesky_ex", A), upper, check=flag("cholesky_ex", "check_errors", check_errors)
    )
    return TriangleAndInfo(result, _info(result))


def _columns(op: str, A: Tensor, B: Any, left: bool = True) -> tuple[Tensor, bool]:
    """B as matrices, and whether it was vectors; ShapeError for what does not fit A."""
    b = floating(B, A.dtype)
    vector = b.ndim == 1 or (b.ndim == A.ndim - 1 and b.shape == A.shape[:-1])
    b = b.unsqueeze(-1) if vector else b
    matrices.check_stacks(op, A.shape, b.shape, left or vector)
    return b, vector


def solve(A: Any, B: Any, *, left: bool = True) -> Tensor:
    """X of A @ X = B, or of X @ A = B without `left`: square A (..., N, N), B (..., N, K), or vectors (N,), or (..., N)
    in the number of A; the dimensions before broadcast. Raises LinAlgError for a singular A.

    >>> import fastnn as fnn
    >>> fnn.linalg.solve([[2.0, 0.0], [0.0, 4.0]], [2.0, 2.0])
    Tensor([1. , 0.5])
    """
    a = square("solve", A)
    left = flag("solve", "left", left)
    b, vector = _columns("solve", a, B, left)
    if left:
        x = factors.Solve.apply(a, b)
    else:
        x = factors.Solve.apply(mt(a), b) if vector else mt(factors.Solve.apply(mt(a), mt(b)))
    return x.squeeze(-1) if vector else x


def solve_triangular(A: Any, B: Any, *, upper: bool, left: bool = True, unitriangular: bool = False) -> Tensor:
    """`solve` for a triangular A, of which the other entries are not read, with `unitriangular` the diagonal neither:
    it counts as ones.

    >>> import fastnn as fnn
    >>> fnn.linalg.solve_triangular([[2.0, 9.0], [1.0, 4.0]], [[2.0], [5.0]], upper=False)
    Tensor([[1.],
            [1.]])
    """
    a = square("solve_triangular", A)
    upper, unitriangular = (
        flag("solve_triangular", name, value) for name, value in (("upper", upper), ("unitriangular", unitriangular))
    )
    a = (triu if upper else tril)(a, (1 if upper else -1) if unitriangular else 0)
    if unitriangular:
        a = a + matrices.identity(a, a.shape[-1])
    return solve(a, matrix("solve_triangular", B), left=left)


def _tolerance(op: str, A: Tensor, atol: float | None, rtol: float | None) -> tuple[float, float]:
    """Absolute and relative: by default max(M, N) times the type's eps, of the largest singular value."""
    absolute = 0.0 if atol is None else number(op, "atol", atol)
    if rtol is None:
        return absolute, 0.0 if absolute else max(A.shape[-2:]) * float(np.finfo(A.dtype).eps)
    return absolute, number(op, "rtol", rtol)


def _plain(value: Any) -> bool:
    """Whether it may be compared with words and numbers: no array."""
    return value is None or isinstance(value, str) or is_number(value)


def _symmetric(A: Tensor) -> Tensor:
    """The symmetric matrix whose lower triangle A has."""
    return tril(A) + mt(tril(A, -1))


def pinv(A: Any, rcond: float | None = None, *, atol: float | None = None, rtol: float | None = None,
         hermitian: bool = False) -> Tensor:  # fmt: skip
    """Pseudo-inverses (..., M, N) -> (..., N, M), of the singular values above max(atol, rtol · the largest). `rtol` is
    max(M, N) times the type's eps by default, 0 where `atol` is given; `rcond` is its older name. With `hermitian` the
    matrix is symmetric, of which the lower triangle is read.

    >>> import fastnn as fnn
    >>> fnn.linalg.pinv([[2.0, 0.0], [0.0, 0.0]])
    Tensor([[0.5, 0. ],
            [0. , 0. ]])
    """
    a = _symmetric(square("pinv", A)) if flag("pinv", "hermitian", hermitian) else matrix("pinv", A)
    atol, rtol = _tolerance("pinv", a, atol, rcond if rtol is None else rtol)
    return factors.Pinv.apply(a, atol=atol, rtol=rtol)


_DRIVERS = (None, "gels", "gelsy", "gelsd", "gelss")


def lstsq(A: Any, B: Any, rcond: float | None = None, *, driver: str | None = None) -> LeastSquares:
    """X of the smallest ‖A @ X - B‖, and of these the smallest: A (..., M, N), B (..., M, K) or vectors -> (..., N, K).

    `driver` says, as in PyTorch, which of the other results are there, and which are empty: `residuals` (..., K), the
    squared norms, with "gels", "gelsd" and "gelss" if M > N and every rank is N; `rank` (...) with all but "gels";
    `singular_values` with "gelsd" and "gelss". None is "gelsy". What is computed is always the pseudo-inverse times B,
    with singular values above `rcond` times the largest, by default max(M, N) times the type's eps.

    >>> import fastnn as fnn
    >>> fnn.linalg.lstsq([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]], [[1.0], [2.0], [3.0]]).solution
    Tensor([[1.],
            [2.]])
    """
    if not _plain(driver) or driver not in _DRIVERS:
        raise ArgumentError(f"lstsq: expected driver to be one of {', '.join(map(repr, _DRIVERS))}, got {driver!r}")
    a = matrix("lstsq", A)
    b, vector = _columns("lstsq", a, B)
    _, rtol = _tolerance("lstsq", a, None, rcond)
    x = matmul(pinv(a, rtol=rtol), b)
    rank = Tensor(np.zeros(0, np.int64)) if driver == "gels" else matrix_rank(a, rtol=rtol)
    residuals = values = Tensor(np.zeros(0, a.dtype))
    if driver in ("gelsd", "gelss"):
        values = svdvals(a.detach())
    wanted = driver not in (None, "gelsy") and a.shape[-2] > a.shape[-1]
    if wanted and (driver == "gels" or tracer() is not None or bool((rank == a.shape[-1]).all())):
        rest = matmul(a, x) - b
        residuals = (rest * rest).sum(-2)
    return LeastSquares(x.squeeze(-1) if vector else x, residuals, rank, values)


# ---- factorisations --------------------------------------------------------------------------------------------------


def eigh(A: Any, UPLO: str = "L") -> EigenvaluesAndVectors:
    """Eigenvalues (..., N), ascending, and eigenvectors, in columns (..., N, N), of symmetric matrices, of which one
    triangle is read: "L", the lower, or "U".

    The gradient of vectors is infinite where two values are equal, and there is a meaning to it only where the result
    does not depend on the vectors' signs.

    >>> import fastnn as fnn
    >>> fnn.linalg.eigh([[2.0, 0.0], [0.0, 1.0]]).eigenvalues
    Tensor([1., 2.])
    """
    a = square("eigh", A)
    if not _plain(UPLO) or UPLO not in ("L", "U", "l", "u"):
        raise ArgumentError(f"eigh: expected UPLO to be 'L' or 'U', got {UPLO!r}")
    n = a.shape[-1]
    return EigenvaluesAndVectors(*factors.unpacked(factors.Eigh.apply(a, uplo=UPLO.upper()), (n,), (n, n)))


def eigvalsh(A: Any, UPLO: str = "L") -> Tensor:
    """Eigenvalues (..., N), ascending, of symmetric matrices (..., N, N), as `eigh`."""
    return eigh(A, UPLO).eigenvalues


def svd(A: Any, full_matrices: bool = True, *, driver: str | None = None) -> SVD:
    """U (..., M, M), S (..., K), descending, and Vh (..., N, N) of matrices (..., M, N), K = min(M, N); without
    `full_matrices` U is (..., M, K) and Vh (..., K, N). `driver` is taken and says nothing.

    The gradient of U and Vh is infinite where two singular values are equal, and there is a meaning to it only where
    the result does not depend on the vectors' signs.

    >>> import fastnn as fnn
    >>> fnn.linalg.svd([[3.0, 0.0], [0.0, 4.0], [0.0, 0.0]]).S
    Tensor([4., 3.])
    """
    return SVD(*matrices.parts_of("svd", A, full_matrices))


def lu_factor(A: Any, *, pivot: bool = True) -> elimination.LU:
    """As `fnn.lu`. Raises LinAlgError where U has a 0 on its diagonal, by which nothing could be solved."""
    return elimination.factored("lu_factor", A, pivot, check=True)


def lu(A: Any, *, pivot: bool = True) -> elimination.PLU:
    """The permutation P (..., M, M), the triangles L (..., M, K), with ones on its diagonal, and U (..., K, N) of
    matrices P @ L @ U, K = min(M, N).

    >>> import fastnn as fnn
    >>> fnn.linalg.lu([[0.0, 1.0], [2.0, 4.0]]).U
    Tensor([[2., 4.],
            [0., 1.]])
    """
    return elimination.lu_unpack(*elimination.factored("lu", A, pivot))


def lu_solve(LU: Any, pivots: Any, B: Any, *, left: bool = True, adjoint: bool = False) -> Tensor:
    """X of A @ X = B, of X @ A = B without `left`, of A.T in the place of A with `adjoint`; A (..., N, N) as
    `lu_factor` gave it, B (..., N, K)."""
    factor, b = square("lu_solve", LU), matrix("lu_solve", B)
    left, adjoint = flag("lu_solve", "left", left), flag("lu_solve", "adjoint", adjoint)
    matrices.check_stacks("lu_solve", factor.shape, b.shape, left)
    x = elimination.solved(factor, pivots, b if left else mt(b), transposed=left == adjoint)
    return x if left else mt(x)


def householder_product(A: Any, tau: Any) -> Tensor:
    """The first N columns of H₀ @ H₁ @ ... for Hᵢ = 1 - tau[i]·v·vᵀ, where v is 1 in place i, 0 before it and column i
    of A after it: A (..., M, N) and tau (..., K), K ≤ N ≤ M, as LAPACK's geqrf gives them."""
    a, t = matrix("householder_product", A), floating(tau)
    m, n = a.shape[-2:]
    if not t.ndim or not t.shape[-1] <= n <= m:
        raise ShapeError(f"householder_product: expected A (..., M, N) and tau (..., K), got {a.shape} and {t.shape}")
    return expand(matrices.reflected(a, t), a.shape)


def svdvals(A: Any, *, driver: str | None = None) -> Tensor:
    """Singular values (..., K), descending, of matrices (..., M, N), K = min(M, N)."""
    return matrices.parts_of("svdvals", A, False)[1]


def qr(A: Any, mode: str = "reduced") -> QR:
    """Q (..., M, K), whose columns are orthonormal, and the upper triangle R (..., K, N) of matrices Q @ R,
    K = min(M, N). With mode "complete" K is M, and there is no gradient if M > N; with "r" Q is empty.

    >>> import fastnn as fnn
    >>> fnn.linalg.qr(fnn.ones(3, 2)).R.shape
    (2, 2)
    """
    if not _plain(mode) or mode not in ("reduced", "complete", "r"):
        raise ArgumentError(f"qr: expected mode 'reduced', 'complete' or 'r', got {mode!r}")
    result = matrices.qr(A, mode != "complete")
    return QR(Tensor(np.zeros(0, result.R.dtype)), result.R) if mode == "r" else result


# ---- norms -----------------------------------------------------------------------------------------------------------


def vector_norm(x: Any, ord: float = 2, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The norm (Σ |x|^ord)^(1/ord) of all entries, or over the dimensions `dim`; infinity stands for the largest |x|,
    -infinity for the smallest, 0 counts the entries that are not 0.

    >>> import fastnn as fnn
    >>> fnn.linalg.vector_norm([[3.0, 4.0], [0.0, 0.0]], dim=1)
    Tensor([5., 0.])
    """
    return products.norm(x, number("vector_norm", "ord", ord, finite=False), dim, keepdim, dtype=dtype)


def matrix_norm(
    A: Any, ord: float | str = "fro", dim: Sequence[int] = (-2, -1), keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    """The norm of matrices along the dimensions `dim`: "fro" (the 2-norm of the entries), "nuc" (the sum of singular
    values), 2 and -2 (the largest and smallest singular value), 1, -1, inf and -inf (the largest and smallest sum of
    sizes, of columns and of rows).

    >>> import fastnn as fnn
    >>> fnn.linalg.matrix_norm([[1.0, -2.0], [3.0, 4.0]], 1)
    Tensor(6.)
    """
    x = matrix("matrix_norm", A)
    wanted = dtype_of("matrix_norm", dtype)
    x = x if wanted is None else x.astype(wanted)
    dims, keepdim = axes("matrix_norm", dim, x.ndim), flag("matrix_norm", "keepdim", keepdim)
    if not _plain(ord):
        raise ArgumentError(f"matrix_norm: expected a number or a word as ord, got {ord!r}")
    if dims is None or len(dims) != 2:
        raise ArgumentError(f"matrix_norm: expected two dimensions, got {dim!r}")
    if ord == "fro":
        return products.norm(x, 2, dims, keepdim)
    if ord in ("nuc", 2, -2):
        values = svdvals(movedim(x, dims, (-2, -1)))
        y = values.sum(-1) if ord == "nuc" else (amax if ord == 2 else amin)(values, -1)
        for d in sorted(dims) if keepdim else ():
            y = y.unsqueeze(d)
        return y
    if ord not in (1, -1, math.inf, -math.inf):
        raise ArgumentError(f"matrix_norm: expected ord 'fro', 'nuc', 1, 2, infinity or their negatives, got {ord!r}")
    summed, kept = dims if abs(float(ord)) == 1 else dims[::-1]
    y = (amax if float(ord) > 0 else amin)(x.abs().sum(summed, True), kept, True)
    return y if keepdim else squeeze(y, dims)


def norm(input: Any, ord: Any = None, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """`matrix_norm` over two dimensions, `vector_norm` over one; without `dim` that of the matrix or vector `input`,
    and without `ord` the 2-norm of all entries.

    >>> import fastnn as fnn
    >>> fnn.linalg.norm([[3.0, 0.0], [0.0, 4.0]])
    Tensor(5.)
    """
    x = floating(input)
    if ord is None:
        return vector_norm(x, 2, dim, keepdim, dtype=dtype)
    if dim is None and x.ndim not in (1, 2):
        raise ShapeError(f"norm: expected a vector or a matrix where ord is given and dim is not, got {x.shape}")
    dims = (tuple(range(x.ndim)) if dim is None else axes("norm", dim, x.ndim)) or ()
    if len(dims) == 2:
        return matrix_norm(x, ord, dims, keepdim, dtype=dtype)
    return vector_norm(x, ord, dims, keepdim, dtype=dtype)


def matrix_rank(
    A: Any, tol: float | None = None, hermitian: bool = False, *, atol: float | None = None, rtol: float | None = None
) -> Tensor:
    """The number (...) of singular values above max(atol, rtol · the largest); tolerances as `pinv` has them, `tol` is
    an older name of `atol`. With `hermitian` the matrix is symmetric, of which the lower triangle is read.

    >>> import fastnn as fnn
    >>> fnn.linalg.matrix_rank(fnn.ones(3, 3))
    Tensor(1, dtype=int64)
    """
    hermitian = flag("matrix_rank", "hermitian", hermitian)
    a = (_symmetric(square("matrix_rank", A)) if hermitian else matrix("matrix_rank", A)).detach()
    atol, rtol = _tolerance("matrix_rank", a, tol if atol is None else atol, rtol)
    values = svdvals(a)
    return (values > (amax(values, -1, True) * rtol).clamp(min=atol)).sum(-1)


def cond(A: Any, p: Any = None) -> Tensor:
    """The condition number: the largest singular value by the smallest (p None or 2), the inverse of that (-2), or
    ‖A‖·‖A⁻¹‖ in the matrix norm p, where it is infinite if A is singular.

    >>> import fastnn as fnn
    >>> fnn.linalg.cond([[1.0, 0.0], [0.0, 4.0]])
    Tensor(4.)
    """
    if _plain(p) and p in (None, 2, -2):
        values = svdvals(A)
        return values[..., -1] / values[..., 0] if p == -2 else values[..., 0] / values[..., -1]
    a = square("cond", A)
    inverse, info = inv_ex(a)
    return where(info > 0, math.inf, matrix_norm(a, p) * matrix_norm(inverse, p))


# ---- products --------------------------------------------------------------------------------------------------------


def multi_dot(tensors: Sequence[Any]) -> Tensor:
    """The product of two or more matrices, in the order that multiplies least; the first and the last may be vectors.

    >>> import fastnn as fnn
    >>> fnn.linalg.multi_dot([fnn.ones(2), fnn.ones(2, 3), fnn.ones(3, 1)])
    Tensor([6.])
    """
    given = [floating(x) for x in entries("multi_dot", "tensors", tensors)]
    ranks = [x.ndim for x in given]
    if len(given) < 2 or any(rank != 2 for rank in ranks[1:-1]) or not {ranks[0], ranks[-1]} <= {1, 2}:
        raise ShapeError(f"multi_dot: expected two or more matrices, got {', '.join(str(x.shape) for x in given)}")
    row, column = ranks[0] == 1, ranks[-1] == 1
    given[0] = given[0].unsqueeze(0) if row else given[0]
    given[-1] = given[-1].unsqueeze(1) if column else given[-1]
    sizes = [given[0].shape[0], *(x.shape[1] for x in given)]
    best: dict[tuple[int, int], tuple[int, int]] = {(i, i): (0, i) for i in range(len(given))}  # cost, where it is cut
    for length in range(1, len(given)):
        for i in range(len(given) - length):
            j = i + length
            best[i, j] = min(
                (best[i, k][0] + best[k + 1, j][0] + sizes[i] * sizes[k + 1] * sizes[j + 1], k) for k in range(i, j)
            )

    def product(i: int, j: int) -> Tensor:
        cut = best[i, j][1]
        return given[i] if i == j else matmul(product(i, cut), product(cut + 1, j))

    y = product(0, len(given) - 1)
    y = y.squeeze(-1) if column else y
    return y.squeeze(0) if row else y


def cross(input: Any, other: Any, *, dim: int = -1) -> Tensor:
    """The cross products of vectors of 3 along `dim`; other dimensions broadcast."""
    return matrices.cross(input, other, dim)


def vecdot(x: Any, y: Any, *, dim: int = -1) -> Tensor:
    """The sums of products along `dim`, as the dot product of vectors; other dimensions broadcast."""
    return (floating(x) * floating(y)).sum(dim)


def diagonal(A: Any, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """The diagonals of matrices, in the last dimension."""
    x = tensor_of(A)
    return x.diagonal(offset, axis("diagonal", dim1, x.ndim), axis("diagonal", dim2, x.ndim))


for _name in set(__all__) - {"LinAlgError", "diagonal", "lstsq"}:
    globals()[_name] = with_out(globals()[_name])


def __getattr__(name: str) -> Any:
    raise no_such_name("fastnn.linalg", name)
