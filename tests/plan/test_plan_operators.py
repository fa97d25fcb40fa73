"""Every operator as a stage of a compiled plan: values and gradients as in eager, and nothing of it in Python."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from choice_cases import COMPILED, Expressed
from operator_cases import CASES, Case, Formula, assert_alike, compiled, drawn, eager, interpreted, weighted
from plan_networks import ISAS, NATIVE, Cube, running_on

import fastnn as fnn
import fastnn.ops.attention  # imported when it is used first
from fastnn import nn, ops, optim
from fastnn.ops import gamma, inverse_erf
from fastnn.plan.trace import Detach
from fastnn.tensors import Cast, Function, Round

pytestmark = pytest.mark.skipif(not NATIVE, reason="compiled operators need the native kernels")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_operators_give_what_they_give_in_eager(case: Case) -> None:
    """Outputs, loss, gradients of all parameters, and predictions; in one program."""
    model, x, weights = drawn(case)
    expected = eager(model, weighted, x, weights)
    for isa in ISAS:
        with running_on(isa):
            assert_alike(compiled(model, weighted, x, weights), expected)
            predict = fnn.compile(model)
            for _ in range(2):
                assert_alike([predict(x)], expected[:1])
            assert interpreted(predict) == []
    assert_alike(compiled(model, weighted, x, weights, disable=fnn.plan.FUSIONS), expected)
    step = fnn.compile(model, weighted)
    step(x, weights)
    assert interpreted(step) == []
    assert len(step._last.parts) == 1


NOT_IN_PLANS = (Function, ops.shaping.View, ops.shaping.Windows, ops.moving.Diagonal)  # Picks are in their place


def functions() -> Iterator[type[Function]]:
    """All operators of fastnn."""
    for module in pkgutil.iter_modules(ops.__path__, "fastnn.ops."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, type) and issubclass(value, Function) and value not in NOT_IN_PLANS:
                yield value
    yield from (Cast, Round, Detach)


def test_every_operator_is_lowered_and_tested() -> None:
    """In the graphs of the cases above, or in a test of its own."""
    from fastnn.plan.rules import RULES

    of_their_own = [*vars(ops.draws).values(), *vars(gamma).values(), *vars(inverse_erf).values()]
    seen = {value for value in of_their_own if isinstance(value, type) and issubclass(value, Function)}
    models: list[tuple[nn.Module, np.ndarray]] = [drawn(case)[:2] for case in CASES]
    models += [(Expressed(name), np.ones(1, np.float32)) for name in COMPILED]
    models += [(Formula(lambda x, p: ops.i1(p * x), [(1,)], 0, 1), np.ones(1, np.float32))]
    for model, x in models:
        predict = fnn.compile(model)
        predict(x)
        seen.update(op.function for op in predict._last.graph.operators)
    factorisations = set(ops.factors.FACTORS)  # NumPy's: they run in Python, as tests/test_linalg.py tries
    composed = {ops.products.Norm, ops.products.LogSumExp, ops.elementwise.Lerp, ops.nonlinear.SELU}
    composed |= {ops.attention.Attention, ops.picking.PickRows}  # of others while a plan is made
    assert set(functions()) - seen - factorisations - composed == set()
    assert set(functions()) - set(RULES) - factorisations - composed == set()


@pytest.mark.parametrize("name", ["sin", "cos", "tan", "atan", "erf", "expm1", "log1p", "exp2", "exp", "log"])
def test_functions_keep_their_digits(name: str) -> None:
    """Within four units of the last place of the value (of 1, where a wave crosses zero), as NumPy in float64."""
    near = np.random.default_rng(0).uniform(-8, 8, 4000)
    tiny = np.concatenate([np.logspace(-40, 0, 400), -np.logspace(-40, 0, 400)])
    far = np.array([80.5, 88.7, 89.0, -20.0, -87.0, -104.0, 127.9, 128.0, -149.0, 1e4, -1e6, 3e38, -3e38, np.inf])
    x = np.concatenate([near, tiny, far, [-np.inf, np.nan, 0.0, -0.0, -1.0, -0.3, 0.5, -0.5, 1.0]]).astype(np.float32)
    with np.errstate(all="ignore"):
        exact = getattr(fnn, name)(x.astype(np.float64)).data
        expected = exact.astype(np.float32)
        unit = np.spacing(np.maximum(np.abs(expected), 1 if name in ("sin", "cos") else 0))
        model = Formula(lambda x: getattr(fnn, name)(x), [], 0, 1)
        for isa in ISAS:
            with running_on(isa):
                found = fnn.compile(model)(x)
            whole = np.isfinite(expected) & (np.abs(expected) < 1e38)
            away = np.abs(found - exact)[whole] / unit[whole]
            assert away.max() <= 4, (x[whole][away.argmax()], found[whole][away.argmax()])
            np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
            np.testing.assert_array_equal(found[np.isinf(expected)], expected[np.isinf(expected)])


SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-45, 3e38, 1e-38, 0.5], np.float32)
EXACT: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b, "div": lambda a, b: a / b,
    "neg": lambda a, b: -a, "abs": lambda a, b: abs(a), "sqrt": lambda a, b: a.sqrt(),
    "clamp": lambda a, b: a.clamp(-0.5, 0.5), "where": lambda a, b: fnn.where(a > b, a, b),
    "less": lambda a, b: (a < b).astype(np.float32), "equal": lambda a, b: (a == b).astype(np.float32),
    "max": lambda a, b: (a + b).max(1)[0], "min": lambda a, b: (a + b).min(1)[0],
    "argmax": lambda a, b: (a + b).argmax(1).astype(np.float32), "relu": lambda a, b: ops.relu(a),
    "square": lambda a, b: a**2,
}  # fmt: skip


@pytest.mark.parametrize("name", EXACT)
def test_special_values(name: str) -> None:
    """Zeros with their signs, infinities and NaN, on every instruction set."""
    model = Formula(lambda x: EXACT[name](x, x.T), [], 0, 1)
    x = np.ascontiguousarray(np.broadcast_to(SPECIAL, (len(SPECIAL), len(SPECIAL))))
    with np.errstate(all="ignore"):
        expected = model(fnn.Tensor(x)).numpy()
        for isa in ISAS:
            with running_on(isa):
                found = fnn.compile(model)(x)
            np.testing.assert_array_equal(found, expected)
            number = ~np.isnan(expected)
            np.testing.assert_array_equal(np.signbit(found)[number], np.signbit(expected)[number])


@pytest.mark.parametrize("name", ["exp", "log", "pow"])
def test_special_values_of_elementary_functions(name: str) -> None:
    formulas: dict[str, Any] = {"exp": lambda x: x.exp(), "log": lambda x: x.log(), "pow": lambda x: x ** abs(x.T)}
    model = Formula(formulas[name], [], 0, 1)
    x = np.ascontiguousarray(np.broadcast_to(SPECIAL, (len(SPECIAL), len(SPECIAL))))
    with np.errstate(all="ignore"):
        expected = model(fnn.Tensor(x)).numpy()
        for isa in ISAS:
            with running_on(isa):
                np.testing.assert_allclose(fnn.compile(model)(x), expected, rtol=3e-7)


@pytest.mark.parametrize("before", [fnn.sub, fnn.add, fnn.where])
def test_an_array_may_stand_before_a_value(before: Callable[..., Any]) -> None:
    """It is not compared with the model's input, entry by entry."""
    rng = np.random.default_rng(0)
    a, x = rng.standard_normal((2, 4, 3)).astype(np.float32)
    given = (a > 0, 1.0) if before is fnn.where else (a,)
    expected = {fnn.sub: a - x, fnn.add: a + x, fnn.where: np.where(a > 0, 1, x)}[before]
    for inner in (lambda x: x, lambda x: x * 1.0):
        model = Formula(lambda x, inner=inner: before(*given, inner(x)), [], 0, 1)
        np.testing.assert_array_equal(fnn.compile(model)(x), expected)


def test_batches_without_entries() -> None:
    model = Formula(lambda x, p: ops.tanh(x * p).sum(1), [(4,)], -1, 1)
    x, y = np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
    assert_alike(compiled(model, weighted, x, y), eager(model, weighted, x, y))
    assert fnn.compile(model)(x).shape == (0,)


def test_a_users_operator_stands_between_native_ones() -> None:
    model = Formula(lambda x, p, q: (Cube.apply(p * x) * q + Cube.apply(x)).tanh(), [(4,), (3, 4)], -1, 1)
    x, y = np.random.default_rng(0).uniform(-1, 1, (2, 3, 4)).astype(np.float32)
    assert_alike(compiled(model, weighted, x, y), eager(model, weighted, x, y))
    assert_alike([fnn.compile(model)(x)], [model(x).numpy()])
    step = fnn.compile(model, weighted)
    step(x, y)
    assert len(interpreted(step)) == 3
    assert "Python: it has no kernel" in step.describe()


def test_double_precision_in_the_middle_runs_in_python() -> None:
    model = Formula(lambda x, p: (p * x).astype(np.float64).exp().sum(1).astype(np.float32) * 2, [(4,)], -1, 1)
    x, y = np.random.default_rng(0).uniform(-1, 1, (3, 4)).astype(np.float32), np.ones(3, np.float32)
    assert_alike(compiled(model, weighted, x, y), eager(model, weighted, x, y))
    wide = Formula(lambda x, p: (p * x).astype(np.float64), [(4,)], -1, 1)
    assert_alike(compiled(wide, weighted, x, x), eager(wide, weighted, x, x))


def test_targets_of_other_types_and_views_of_them() -> None:
    def loss_fn(outputs: fnn.Tensor, y: fnn.Tensor) -> fnn.Tensor:
        return ops.mse_loss(outputs[:, 0], y[:, 1]) + ops.mse_loss(outputs[:, 1:], y[:, ::2], reduction="sum")

    model = Formula(lambda x, p: x @ p, [(5, 3)], -1, 1)
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (6, 5)).astype(np.float32)
    for y in (rng.normal(size=(6, 3)), rng.integers(0, 9, (6, 3)), rng.normal(size=(6, 3)).astype(np.float32)):
        y = np.concatenate([y, y[:, :1]], 1)
        model.zero_grad()
        assert_alike(compiled(model, loss_fn, x, y), eager(model, loss_fn, x, y))


SUMMED = nn.MSELoss(reduction="sum")


def networks() -> dict[str, Callable[[], nn.Module]]:
    return {
        "tanh": lambda: nn.Sequential(nn.Linear(9, 16), nn.Tanh(), nn.Linear(16, 16), nn.GELU(), nn.Linear(16, 4)),
        "norm": lambda: nn.Sequential(nn.Linear(9, 16), nn.BatchNorm1d(16), nn.ELU(), nn.Linear(16, 4)),
        "average of all": lambda: nn.Sequential(nn.Linear(9, 16), nn.BatchNorm1d(16, momentum=None), nn.Linear(16, 4)),
        "dropout": lambda: nn.Sequential(
            nn.Linear(9, 64), nn.ReLU(), nn.Dropout(0.4), nn.Linear(64, 4), nn.Dropout(0.1)
        ),
        "image": lambda: nn.Sequential(
            Formula(lambda x: x.reshape(-1, 1, 3, 3), [], 0, 1),
            nn.Conv2d(1, 6, 2, stride=2, padding=1), nn.BatchNorm2d(6), nn.LeakyReLU(0.2), nn.AvgPool2d(2, 1),
            nn.Conv2d(6, 6, 1, groups=3), nn.SiLU(), nn.Flatten(), nn.Linear(6, 4),
        ),
        "residual": lambda: Residual(),
    }  # fmt: skip


class Residual(nn.Module):
    """Sums, a concatenation, a shared layer, and numbers drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.shared, self.last = nn.Linear(9, 8), nn.Linear(8, 8), nn.Linear(24, 4)

    def forward(self, x: fnn.Tensor) -> fnn.Tensor:
        a = self.first(x).tanh()
        b = a + self.shared(a).relu()
        c = b + self.shared(b).sigmoid()
        noise = fnn.randn_like(c) * 0.1 + fnn.rand_like(c)
        return self.last(fnn.cat([a, c + noise * fnn.bernoulli(a.sigmoid()), b * c], 1))


@pytest.mark.parametrize("loss", [nn.MSELoss(), nn.BCEWithLogitsLoss(), nn.CrossEntropyLoss(), SUMMED], ids=str)
@pytest.mark.parametrize("name", networks())
def test_steps_are_those_of_eager(name: str, loss: Any) -> None:
    """Losses, parameters, running statistics, and the same random numbers."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(12, 9)).astype(np.float32), rng.uniform(size=(12, 4)).astype(np.float32)
    y /= y.sum(1, keepdims=True)
    found = []
    for how in ("eager", "compiled"):
        fnn.manual_seed(3)
        model = networks()[name]()
        optimizer = optim.SGD(model.parameters(), lr=0.05 if loss.reduction == "mean" else 0.002, momentum=0.9)
        step = fnn.compile(model, loss, optimizer)
        losses = []
        for _ in range(6):
            if how == "compiled":
                losses.append(step(x, y))
                continue
            optimizer.zero_grad()
            value = loss(model(x), fnn.Tensor(y))
            value.backward()
            optimizer.step()
            losses.append(value.item())
        if how == "compiled":
            assert interpreted(step) == []
        model.eval()
        found.append([np.array(losses), *(np.array(v) for v in model.state_dict().values()), model(x).numpy()])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_dropout_drops_the_same_entries_as_in_eager() -> None:
    model = nn.Sequential(nn.Dropout(0.3), nn.Dropout(0.5))
    x = np.ones((40, 50), np.float32)
    weights = Formula(lambda x, p: model(x * p), [(50,)], 1, 1)
    step = fnn.compile(weights, weighted)
    for _ in range(2):
        fnn.manual_seed(5)
        outputs = [weights(x).numpy() for _ in range(3)]
        fnn.manual_seed(5)
        for expected in outputs:
            step(x, x)
            np.testing.assert_array_equal(step.outputs, expected)
    assert not np.array_equal(outputs[0], outputs[1])


def test_what_operators_refuse() -> None:
    """The error of eager, before anything is updated."""
    cases: list[tuple[Any, np.ndarray, type[Exception]]] = [
        (lambda out, y: ops.nll_loss(out, y), np.array([0, 4]), fnn.errors.LabelError),
        (lambda out, y: ops.cross_entropy(out, y, reduction="none").sum(), np.array([0, -1]), fnn.errors.LabelError),
        (lambda out, y: ops.binary_cross_entropy(out + 1, y), np.ones((2, 4), np.float32), fnn.errors.ArgumentError),
        (lambda out, y: (fnn.bernoulli(out + 1) * y).sum(), np.ones((2, 4), np.float32), fnn.errors.ArgumentError),
        (lambda out, y: (out / y).sum(), np.zeros((2, 4), np.float32), fnn.errors.NonFiniteError),
    ]
    x = np.ones((2, 4), np.float32)
    for loss_fn, y, error in cases:
        model = Formula(lambda x, p: x * p, [(4,)], 0.2, 0.8)
        before = model.p0.data.copy()
        step = fnn.compile(model, loss_fn, optim.SGD(model.parameters(), lr=0.1))
        with pytest.raises(error):
            step(x, y)
        np.testing.assert_array_equal(model.p0.data, before)


def test_the_same_bits_for_every_number_of_threads() -> None:
    model = Formula(
        lambda x, p, q: ((x * p).tanh() @ q).sum(0) * (x * p).sum() + (x * x * p).sum((0,))[:40],
        [(300,), (300, 40)],
        -1,
        1,
    )
    x, y = np.random.default_rng(0).uniform(-1, 1, (700, 300)).astype(np.float32), np.ones(40, np.float32)
    found = []
    for threads in (1, 2, 3):
        with running_on(None, threads):
            found.append([values.tobytes() for values in compiled(model, weighted, x, y)])
    assert found[0] == found[1] == found[2]
