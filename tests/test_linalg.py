"""fastnn.linalg: values, gradients, second derivatives against PyTorch in float64; singular input; compiled plans."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn, optim
from fastnn.errors import ArgumentError, DTypeError, FastnnError, GraphError, LinAlgError, ShapeError

RNG = np.random.default_rng(5)
SQUARE, STACK = RNG.normal(size=(3, 3)), RNG.normal(size=(2, 3, 3))
TALL, WIDE, ROW = RNG.normal(size=(2, 4, 3)), RNG.normal(size=(3, 4)), RNG.normal(size=3)
RIGHT, SINGULAR = RNG.normal(size=(2, 3, 2)), np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [1.0, 0.0, 1.0]])
WEIGHTS = np.arange(1.0, 10.0).reshape(3, 3)
INF = math.inf


def positive(a: Any) -> Any:
    return a @ a.transpose(-1, -2) + 0.1 * a.shape[-1]


def squares(x: Any) -> Any:
    """Of vectors whose sign nobody fixes."""
    return x * x


# Each runs on both packages' `linalg` (L), or on the package itself (P), with the same arrays.
DIFFERENTIABLE: dict[str, tuple[Callable[..., Any], tuple[np.ndarray, ...]]] = {
    "inv": (lambda P, L, a: L.inv(a), (STACK,)),
    "inverse": (lambda P, L, a: P.inverse(a) + a.inverse(), (SQUARE,)),
    "solve": (lambda P, L, a, b: L.solve(a, b), (STACK, RIGHT)),
    "solve, broadcast": (lambda P, L, a, b: L.solve(a, b), (SQUARE, RIGHT)),
    "solve, a stack of A": (lambda P, L, a, b: L.solve(a, b), (STACK, RIGHT[0])),
    "solve, a vector": (lambda P, L, a, b: L.solve(a, b), (SQUARE, ROW)),
    "solve, vectors": (lambda P, L, a, b: L.solve(a, b), (STACK, RIGHT[..., 0])),
    "solve, from the right": (lambda P, L, a, b: L.solve(a, b, left=False), (STACK, TALL)),
    "det": (lambda P, L, a: L.det(a) + P.det(a) + a.det(), (STACK,)),
    "matrix_exp": (lambda P, L, a: L.matrix_exp(a) + P.matrix_exp(3 * a[0]) + a.matrix_exp(), (STACK,)),
    "slogdet": (lambda P, L, a: L.slogdet(a).logabsdet + L.slogdet(a).sign + a.slogdet()[1], (STACK,)),
    "logdet": (lambda P, L, a: P.logdet(positive(a)) + positive(a).logdet(), (STACK,)),
    "cholesky": (lambda P, L, a: L.cholesky(positive(a)), (STACK,)),
    "cholesky, upper": (lambda P, L, a: L.cholesky(positive(a), upper=True) + P.cholesky(positive(a), True), (SQUARE,)),
    "cholesky of a lower triangle": (lambda P, L, a: L.cholesky(positive(a).tril()), (SQUARE,)),
    "cholesky_ex": (lambda P, L, a: L.cholesky_ex(positive(a)).L, (STACK,)),
    "cholesky_solve": (lambda P, L, a, b: P.cholesky_solve(b, L.cholesky(positive(a))), (STACK, RIGHT)),
    "cholesky_solve, upper": (lambda P, L, a, b: P.cholesky_solve(b, a.triu(), True), (SQUARE, RIGHT[0])),
    "cholesky_inverse": (lambda P, L, a: P.cholesky_inverse(L.cholesky(positive(a))), (SQUARE,)),
    "eigh": (
        lambda P, L, a: (lambda r: r.eigenvalues.unsqueeze(-1) + squares(r.eigenvectors))(L.eigh(positive(a))),
        (STACK,),
    ),
    "eigh, values": (lambda P, L, a: L.eigh(a)[0] + L.eigvalsh(a, "U"), (STACK,)),
    "svd": (
        lambda P, L, a: (lambda r: squares(r.U)[..., :3, :] + r.S.unsqueeze(-1) + squares(r.Vh))(L.svd(a, False)),
        (TALL,),
    ),
    "svd, together": (lambda P, L, a: (lambda r: r.U @ r.Vh)(L.svd(a, full_matrices=False)), (WIDE,)),
    "svd, full": (lambda P, L, a: (lambda r: r.S.unsqueeze(-1) + squares(r.Vh))(L.svd(a)), (TALL,)),
    "torch.svd": (lambda P, L, a: (lambda r: squares(r.V) + r.S + squares(r.U)[:3])(P.svd(a)), (TALL[0],)),
    "svdvals": (lambda P, L, a: L.svdvals(a), (TALL,)),
    "qr": (lambda P, L, a: (lambda r: r.Q @ WEIGHTS_OF[P] + r.R)(L.qr(a)), (STACK,)),
    "qr, tall": (lambda P, L, a: (lambda r: r.Q[..., :3, :] + squares(r.R))(L.qr(a)), (TALL,)),
    "qr, wide": (lambda P, L, a: (lambda r: r.Q @ squares(r.R))(L.qr(a)), (WIDE,)),
    "pinv, tall": (lambda P, L, a: L.pinv(a) + P.pinverse(a), (TALL,)),
    "pinv, wide": (lambda P, L, a: L.pinv(a), (WIDE,)),
    "pinv, hermitian": (lambda P, L, a: L.pinv(a + a.transpose(-1, -2), hermitian=True), (SQUARE,)),
    "lstsq": (lambda P, L, a, b: L.lstsq(a, b).solution, (TALL, RNG.normal(size=(2, 4, 2)))),
    "norm": (lambda P, L, a: L.norm(a) + L.norm(a, dim=1).sum() + L.norm(a[0], 3), (SQUARE,)),
    "norm of a matrix": (lambda P, L, a: L.norm(a, 2) + L.norm(a, "nuc") + L.norm(a, INF, (0, 1), True), (SQUARE,)),
    "vector_norm": (lambda P, L, a: L.vector_norm(a) + L.vector_norm(a, 1, -1, True) + L.vector_norm(a, INF), (STACK,)),
    "matrix_norm": (
        lambda P, L, a: sum(L.matrix_norm(a, o, (0, 2)) for o in ("fro", "nuc", 1, -1, 2, -2, INF, -INF)),
        (TALL,),
    ),
    "matrix_norm, kept": (lambda P, L, a: L.matrix_norm(a, "nuc", (2, 0), True) * L.matrix_norm(a, 1, (2, 0)), (TALL,)),
    "matrix_power": (lambda P, L, a: L.matrix_power(a, 5) + P.matrix_power(a, -2) + a.matrix_power(0), (STACK,)),
    "multi_dot": (lambda P, L, a, b, c: L.multi_dot([c, a, b]), (WIDE, TALL[0], ROW)),
    "cross": (lambda P, L, a, b: L.cross(a, b) + P.cross(a, b, -1), (STACK, STACK[::-1].copy())),
    "cross, broadcast": (lambda P, L, a, b: L.cross(a, b, dim=-1), (WIDE.T.copy(), ROW[None])),
    "cross of the first dimension": (lambda P, L, a, b: P.cross(a, b) + a.cross(b, dim=0), (WIDE, WIDE[::-1].copy())),
    "cond": (lambda P, L, a: L.cond(a) + L.cond(a, -2), (STACK,)),
    "solve_triangular": (lambda P, L, a, b: L.solve_triangular(a, b, upper=True), (STACK, RIGHT)),
    "solve_triangular, unit": (
        lambda P, L, a, b: L.solve_triangular(a, b, upper=False, unitriangular=True),
        (STACK, RIGHT),
    ),
    "solve_triangular, right": (lambda P, L, a, b: L.solve_triangular(a, b, upper=True, left=False), (STACK, TALL)),
    "inv_ex": (lambda P, L, a: L.inv_ex(a).inverse, (STACK,)),
    "lu": (lambda P, L, a: sum(f @ f.transpose(-1, -2) for f in L.lu(a)), (STACK,)),
    "lu, tall": (lambda P, L, a: P.lu_unpack(*P.lu(a))[1] + a.lu()[0], (TALL,)),
    "lu, wide": (lambda P, L, a: L.lu_factor(a).LU + L.lu(a).U, (WIDE,)),
    "lu_solve": (lambda P, L, a, b: L.lu_solve(*L.lu_factor(a), b) + b.lu_solve(*P.lu(a)), (STACK, RIGHT)),
    "lu_solve, of all kinds": (
        lambda P, L, a, b: sum(L.lu_solve(*L.lu_factor(a), b, left=i > 1, adjoint=i % 2 > 0) for i in range(4)),
        (STACK, RIGHT @ RIGHT.transpose(0, 2, 1)),
    ),
    "householder_product": (lambda P, L, a, t: L.householder_product(a, t), (TALL, RIGHT[:, 0, :].copy())),
    "vecdot": (lambda P, L, a, b: L.vecdot(a, b, dim=-2), (STACK, RIGHT[..., :1])),
    "diagonal": (lambda P, L, a: L.diagonal(a, offset=1), (STACK,)),
}  # fmt: skip
WEIGHTS_OF: dict[Any, Any] = {fnn: WEIGHTS}


@pytest.mark.filterwarnings("ignore:.*torch.(cholesky|cross|lu|lu_solve) ")
@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_values_and_derivatives_are_pytorchs(name: str) -> None:
    torch = pytest.importorskip("torch")
    WEIGHTS_OF[torch] = torch.tensor(WEIGHTS)
    call, arrays = DIFFERENTIABLE[name]
    found: list[list[np.ndarray]] = []
    for package, leaf in (
        (fnn, lambda a: fnn.Tensor(a.copy(), True)),
        (torch, lambda a: torch.tensor(a, requires_grad=True)),
    ):
        inputs = [leaf(a) for a in arrays]
        y = call(package, package.linalg, *inputs)
        weights = np.linspace(0.5, 1.5, y.numel()).reshape(tuple(y.shape))
        start = fnn.Tensor(weights) if package is fnn else torch.tensor(weights)
        plain = package.autograd.grad(y, inputs, start, retain_graph=True)
        slopes = package.autograd.grad(y, inputs, start, create_graph=True)
        total = sum((slope * slope * 0.5).sum() for slope in slopes)
        second = package.autograd.grad(total, inputs, allow_unused=True) if total.requires_grad else []
        results = [y, *plain, *slopes, *(s for s in second if s is not None and name not in ("diagonal",))]
        found.append([np.asarray(t.detach()) for t in results])
    assert len(found[0]) == len(found[1]) > 2
    for ours, theirs in zip(*found, strict=True):
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10 * max(1, np.abs(theirs).max()))


def test_what_has_no_gradient_is_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    stack = np.stack([SINGULAR, SQUARE])
    calls: list[Callable[[Any, Any], Any]] = [
        lambda L, a: L.matrix_rank(a), lambda L, a: L.matrix_rank(a, atol=10.0),
        lambda L, a: L.matrix_rank(a, hermitian=True),
        lambda L, a: L.matrix_exp(a * 9), lambda L, a: L.lu(a)[0],
        lambda L, a: L.lu_factor(a[1]).pivots, lambda L, a: L.lu(a[..., :2]).P,
        lambda L, a: L.lstsq(a, a[..., 0]).rank, lambda L, a: L.lstsq(a, a, driver="gelsd").singular_values,
        lambda L, a: L.lstsq(a[..., :2], a, driver="gels").residuals, lambda L, a: L.lstsq(a, a).residuals,
        lambda L, a: L.lstsq(a[..., :2], a, driver="gelss").residuals, lambda L, a: L.inv_ex(a[1]).info,
        lambda L, a: L.slogdet(a[1]).sign, lambda L, a: L.det(a[0]), lambda L, a: L.pinv(a[0], rtol=0.3),
        lambda L, a: L.cond(a, 1)[1], lambda L, a: L.cond(a, "fro")[1],
        lambda L, a: L.cholesky_ex(a @ a.transpose(-1, -2) - 1).info > 0,
        lambda L, a: abs(L.qr(a[:, :, :2], "complete").Q[..., 2]), lambda L, a: abs(L.qr(a, mode="r").R),
        lambda L, a: abs(L.svd(a[1, :2], full_matrices=True).Vh), lambda L, a: L.qr(a, "r").Q,
    ]  # fmt: skip
    for i, call in enumerate(calls):
        ours, theirs = call(fnn.linalg, fnn.Tensor(stack)), call(torch.linalg, torch.tensor(stack))
        assert ours.dtype == np.asarray(theirs).dtype, i
        np.testing.assert_allclose(ours, theirs, 1e-10, 1e-10, err_msg=str(i))


def test_one_that_is_singular_is_named() -> None:
    stack = fnn.Tensor(np.stack([np.eye(3), SINGULAR * 0]))
    for call in (
        fnn.linalg.inv,
        fnn.linalg.cholesky,
        lambda a: fnn.linalg.solve(a, np.ones(3)),
        fnn.cholesky,
        fnn.inverse,
    ):
        with pytest.raises(LinAlgError, match=r"matrix, which matrix \[1\] of \(2, 3, 3\) is not"):
            call(stack)
        with pytest.raises(LinAlgError, match=r"matrix, which the matrix \(3, 3\) is not"):
            call(stack[1])
        for kind in (FastnnError, np.linalg.LinAlgError, ValueError, RuntimeError, fnn.linalg.LinAlgError):
            with pytest.raises(kind):
                call(stack)
    with pytest.raises(LinAlgError):
        fnn.linalg.inv_ex(stack, check_errors=True)
    result, info = fnn.linalg.inv_ex(stack)
    assert info.tolist() == [0, 1]
    assert info.dtype == np.int32
    assert result.data[0].tolist() == np.eye(3).tolist()
    assert np.isnan(result.data[1]).all()


def test_low_ranks() -> None:
    """PyTorch's, by random numbers, are as exact where q is the rank; signs are nobody's."""
    torch = pytest.importorskip("torch")
    for mine, theirs in (
        (fnn.svd_lowrank(TALL, 3), torch.svd_lowrank(torch.tensor(TALL), 3)),
        (fnn.svd_lowrank(TALL, 3, 2, TALL[0] * 0.5), torch.svd_lowrank(torch.tensor(TALL - TALL[0] * 0.5), 3)),
        (fnn.pca_lowrank(TALL), torch.pca_lowrank(torch.tensor(TALL))),
        (fnn.pca_lowrank(WIDE, 3, center=False), torch.pca_lowrank(torch.tensor(WIDE), 3, center=False)),
    ):
        for own, other in zip(mine, theirs, strict=True):
            np.testing.assert_allclose(np.abs(own.numpy()), np.abs(other.numpy()), atol=1e-10)


def test_edges() -> None:
    """A determinant that is 0 has its cofactors as gradient; equal (singular) values let the others' pass."""
    x = fnn.Tensor(SINGULAR, True)
    x.det().backward()
    cofactors = [
        [(-1) ** (i + j) * np.linalg.det(np.delete(np.delete(SINGULAR, i, 0), j, 1)) for j in range(3)]
        for i in range(3)
    ]
    np.testing.assert_allclose(x.grad, cofactors, rtol=1e-10, atol=1e-10)
    for values in (fnn.linalg.svdvals, fnn.linalg.eigvalsh):
        x = fnn.Tensor(np.eye(3), True)
        values(x).sum().backward()
        assert x.grad.tolist() == np.eye(3).tolist()
    assert fnn.gradcheck(lambda a: fnn.linalg.cond(a, 1) + fnn.linalg.cond(a, "fro"), STACK)
    assert fnn.logdet([[-1.0]]).isnan().item()
    assert fnn.linalg.slogdet(np.zeros((2, 2))).logabsdet.item() == -INF
    assert fnn.linalg.cond(np.zeros((2, 2)), 1).item() == INF
    assert [part.shape for part in fnn.linalg.lu(np.zeros((2, 0, 3)))] == [(2, 0, 0), (2, 0, 0), (2, 0, 3)]
    assert fnn.lu(SINGULAR, get_infos=True)[2].item() == 3
    assert fnn.linalg.matrix_exp(np.zeros((2, 0, 0))).shape == (2, 0, 0)
    assert fnn.linalg.matrix_exp([[-1e3, 0], [0, np.nan]]).isnan().any().item()
    assert fnn.linalg.inv(np.zeros((0, 3, 3))).shape == (0, 3, 3)
    assert fnn.linalg.svd(np.zeros((0, 3, 2)), False).U.shape == (0, 3, 2)
    assert fnn.linalg.inv(np.eye(2, dtype=np.int64)).dtype == fnn.linalg.det(np.float32([[2]])).dtype == np.float32
    u, s, v = fnn.svd(TALL[0], compute_uv=False)
    assert not u.data.any()
    assert not v.data.any()
    assert s.shape == (3,)


@pytest.mark.parametrize(
    ("kind", "words", "call"),
    [
        (ShapeError, r"inv: expected square matrices \(\.\.\., N, N\), got shape \(3,\)", lambda: fnn.linalg.inv(ROW)),
        (ShapeError, "det: expected square", lambda: fnn.det(WIDE)),
        (ShapeError, r"svd: expected matrices \(\.\.\., M, N\)", lambda: fnn.linalg.svd(ROW)),
        (ShapeError, "solve: expected matrices and right-hand sides", lambda: fnn.linalg.solve(SQUARE, np.ones(4))),
        (ShapeError, "solve: expected matrices and right", lambda: fnn.linalg.solve(SQUARE, TALL)),
        (ShapeError, "cholesky_solve: expected matrices", lambda: fnn.cholesky_solve(np.ones((4, 1)), SQUARE)),
        (LinAlgError, r"finite numbers, which matrix \[1\] of", lambda: fnn.linalg.svd(STACK * [[[1]], [[np.nan]]])),
        (ArgumentError, "pinv: expected rtol", lambda: fnn.linalg.pinv(SQUARE, rtol=ROW)),
        (ArgumentError, "matrix_norm: expected a number or a word", lambda: fnn.linalg.matrix_norm(SQUARE, ROW)),
        (ArgumentError, "matrix_norm: expected a number or a word", lambda: fnn.linalg.cond(SQUARE, ROW)),
        (ShapeError, "cross: expected vectors of 3", lambda: fnn.cross(np.ones(4), np.ones(4))),
        (ShapeError, "multi_dot: expected two or more", lambda: fnn.linalg.multi_dot([SQUARE])),
        (ShapeError, "norm: expected a vector or a matrix", lambda: fnn.linalg.norm(STACK, 2)),
        (ArgumentError, "matrix_norm: expected ord", lambda: fnn.linalg.matrix_norm(SQUARE, 3)),
        (ArgumentError, "matrix_norm: expected two dim", lambda: fnn.linalg.matrix_norm(SQUARE, dim=(0,))),
        (ArgumentError, "vector_norm: expected ord", lambda: fnn.linalg.vector_norm(ROW, "fro")),
        (ArgumentError, "qr: expected mode", lambda: fnn.linalg.qr(SQUARE, "full")),
        (ArgumentError, "eigh: expected UPLO", lambda: fnn.linalg.eigh(SQUARE, "X")),
        (ArgumentError, "lstsq: expected driver", lambda: fnn.linalg.lstsq(SQUARE, SQUARE, driver="qr")),
        (LinAlgError, "lu: expected no 0 on U's diag", lambda: fnn.lu(SINGULAR)),
        (LinAlgError, "lu_factor: expected no 0 on U's diag", lambda: fnn.linalg.lu_factor(np.zeros((2, 2)))),
        (ArgumentError, "lu: expected pivot=True", lambda: fnn.linalg.lu(SQUARE, pivot=False)),
        (DTypeError, "lu_unpack: expected pivots as whole", lambda: fnn.lu_solve(SQUARE, SQUARE, ROW)),
        (ShapeError, "householder_product: expected A", lambda: fnn.linalg.householder_product(WIDE, ROW)),
        (GraphError, "qr: expected mode", lambda: fnn.gradcheck(lambda a: fnn.linalg.qr(a, "complete").R, TALL)),
        (AttributeError, r"'fastnn.linalg' has no attribute 'eig': np.linalg", lambda: fnn.linalg.eig),
    ],
)  # fmt: skip
def test_bad_input(kind: type[Exception], words: str, call: Callable[[], Any]) -> None:
    with pytest.raises(kind, match=words):
        call()


class Whitened(nn.Module):
    """All of them that a model may use, one after the other, on a matrix that its parameter makes."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.call, arrays = DIFFERENTIABLE[name]
        self.given = nn.ParameterList([nn.Parameter(np.float32(a)) for a in arrays])

    def forward(self, x: Any) -> Any:
        return x * self.call(fnn, fnn.linalg, *self.given).sum()


class Inverse(nn.Module):
    def forward(self, x: Any) -> Any:
        return fnn.linalg.inv(x)


COMPILED = ["inv", "solve", "det", "slogdet", "cholesky", "eigh", "svd", "qr, tall", "pinv, tall", "lstsq", "cond",
            "solve_triangular", "matrix_norm", "cholesky_ex", "matrix_exp", "lu", "lu_solve"]  # fmt: skip


@pytest.mark.parametrize("name", COMPILED)
def test_compiled_plans_do_what_eager_does(name: str) -> None:
    x, y = np.float32([[0.5, 1.5]]), np.float32([[1, 0]])
    eager, compiled = Whitened(name), Whitened(name)
    loss = nn.functional.mse_loss(eager(fnn.Tensor(x)), fnn.Tensor(y))
    loss.backward()
    step = fnn.compile(compiled, nn.functional.mse_loss)
    assert step(x, y) == pytest.approx(loss.item(), rel=1e-6)
    for mine, other in zip(compiled.parameters(), eager.parameters(), strict=True):
        np.testing.assert_allclose(mine.grad, other.grad, rtol=1e-5, atol=1e-5 * np.abs(other.grad).max())


def test_a_plan_follows_the_model_and_says_what_is_singular() -> None:
    """Ridge regression's closed form as a layer: its strength is learned, in the same steps compiled and not."""

    class Ridge(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.strength = nn.Parameter([0.5])

        def forward(self, x: Any) -> Any:
            gram = x.T @ x + self.strength * np.eye(3, dtype=np.float32)
            return x @ fnn.linalg.solve(gram, x.T @ x.sum(1, keepdim=True))

    x, y = np.float32(RNG.normal(size=(8, 3))), np.float32(RNG.normal(size=(8, 1)))
    losses = []
    for compiled in (False, True):
        model = Ridge()
        opt = optim.SGD(model.parameters(), lr=0.1)
        losses.append(
            fnn.fit(model, (x, y), loss=nn.MSELoss(), optimizer=opt, epochs=3, batch_size=8, compile=compiled, seed=1)
        )
    assert losses[0]["train_loss"] == pytest.approx(losses[1]["train_loss"], rel=1e-5)
    predict = fnn.compile(Inverse())
    assert predict(np.float32([[2]])).tolist() == [[0.5]]
    with pytest.raises(LinAlgError, match=r"invertible matrix, which the matrix \(1, 1\) is not"):
        predict(np.float32([[0]]))
    assert predict(np.float32([[4]])).tolist() == [[0.25]]


def test_no_matrix_with_nan_has_a_triangle() -> None:
    stack = np.stack([np.eye(2), np.array([[1, 0], [np.nan, 1]])])
    with pytest.raises(LinAlgError, match=r"positive definite matrix, which matrix \[1\] of \(2, 2, 2\) is not"):
        fnn.linalg.cholesky(stack)
    assert (fnn.linalg.cholesky_ex(stack).info.numpy() > 0).tolist() == [False, True]
