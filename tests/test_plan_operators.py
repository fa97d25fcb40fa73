"""Every operator as a stage of a compiled plan: values and gradients as in eager, and nothing of it in Python."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from plan_networks import ISAS, NATIVE, running_on

import fastnn as fnn
from fastnn import nn, ops, optim
from fastnn.plan.trace import Detach
from fastnn.tensor import Cast, Function, Round

pytestmark = pytest.mark.skipif(not NATIVE, reason="compiled operators need the native kernels")

Shape = tuple[int, ...]


class Formula(nn.Module):
    """A formula of the input and of parameters of these shapes."""

    def __init__(self, formula: Callable[..., fnn.Tensor], shapes: list[Shape], low: float, high: float) -> None:
        super().__init__()
        rng = np.random.default_rng(len(shapes))
        self.formula = formula
        for i, shape in enumerate(shapes):
            setattr(self, f"p{i}", nn.Parameter(rng.uniform(low, high, shape).astype(np.float32)))

    def forward(self, x: fnn.Tensor) -> fnn.Tensor:
        outputs = self.formula(x, *self.parameters())
        return outputs if outputs.ndim else outputs.reshape(1)


# Name, formula of the input and parameters, the input's shape, the parameters' shapes, the range of all numbers.
Case = tuple[str, Callable[..., Any], Shape, list[Shape], tuple[float, float]]
ANY, POSITIVE, UNIT = (-2.0, 2.0), (0.2, 3.0), (0.05, 0.95)
CASES: list[Case] = [
    ("add", lambda x, p: p + x, (3, 5, 7), [(3, 5, 7)], ANY),
    ("add, broadcast", lambda x, p, q: (p + x) + (q + p), (4, 1, 6), [(5, 1), (1, 5, 6)], ANY),
    ("add, large rows", lambda x, p: p + x, (3, 2000), [(3, 1)], ANY),
    ("sub", lambda x, p, q: (p - x) - q, (4, 5), [(5,), (4, 1)], ANY),
    ("mul", lambda x, p, q: p * x * q, (2, 3, 4), [(3, 1), (1,)], ANY),
    ("mul by itself", lambda x, p: p * p * x + p, (2, 3), [(2, 3)], ANY),
    ("div", lambda x, p, q: p / x / q, (4, 1, 5), [(3, 5), (4, 3, 1)], POSITIVE),
    ("numbers", lambda x, p: 2 * p + 1 - p / 3 + 1 / p + x, (3, 4), [(3, 4)], POSITIVE),
    ("pow", lambda x, p, q: p**x + x**q, (4, 5), [(5,), (4, 1)], POSITIVE),
    ("pow, numbers", lambda x, p: (p * x) ** 2 + p**0.5 + p**-1.5 + p**1 + p**0, (4, 5), [(5,)], POSITIVE),
    ("pow, of negative", lambda x, p: (p * x) ** 2 + p**3, (4, 5), [(5,)], ANY),
    ("neg", lambda x, p: -p * x, (7,), [(7,)], ANY),
    ("abs", lambda x, p: abs(p - x), (5, 9), [(9,)], ANY),
    ("exp", lambda x, p: (p * x).exp(), (5, 9), [(9,)], ANY),
    ("log", lambda x, p: (p * x).log(), (5, 9), [(9,)], POSITIVE),
    ("sqrt", lambda x, p: (p * x).sqrt(), (5, 9), [(9,)], POSITIVE),
    ("clamp", lambda x, p: (p * x).clamp(-0.5, 1.5) + (p + x).clamp(max=0.2) + (p - x).clamp(0), (5, 9), [(9,)], ANY),
    ("where", lambda x, p, q: fnn.where(x > p, p * x, q), (4, 1, 6), [(5, 1), (6,)], ANY),
    ("comparisons", lambda x, p: sum(fnn.where(c, p, -p) for c in (x < p, x <= 0.5, x >= p, p > 0, x == x, x != p)),
     (4, 6), [(4, 6)], ANY),
    ("sum", lambda x, p: (p * x).sum() + (p * x).sum(1) + (p + x).sum((0, 2)).sum(0), (3, 4, 5), [(4, 5)], ANY),
    ("sum, kept", lambda x, p: (p * x) / (p * p + x * x).sum((0, 2), keepdim=True), (3, 4, 5), [(3, 4, 5)], POSITIVE),
    ("sum, many terms", lambda x, p: (p * x).sum(0) * (p + x).sum(), (9000, 5), [(5,)], ANY),
    ("sum, long rows", lambda x, p: (p * x).sum(1), (3, 7001), [(7001,)], ANY),
    ("sum, of one", lambda x, p: (p * x).sum(1) + p.sum(0), (4, 1, 3), [(1, 3)], ANY),
    ("sum, transposed", lambda x, p: ((p * x).transpose(0, 2) + 0.0).sum(1), (3, 4, 5), [(4, 5)], ANY),
    ("mean", lambda x, p: (p * x).mean() + (p * x).mean(0), (6, 5), [(6, 5)], ANY),
    ("var", lambda x, p: (p * x).var(1).sum() + (p * x).std() + (p + x).std(0), (6, 5), [(6, 5)], ANY),
    ("std of equal", lambda x, p: (p - p).std(0) + (p * x).sum(0), (6, 5), [(6, 5)], ANY),
    ("max", lambda x, p: (p * x).max() + (p * x).max(1)[0].sum() + (p + x).max(0, keepdim=True)[0],
     (6, 5), [(6, 5)], ANY),
    ("min", lambda x, p: (p * x).min() + (p * x).min(0)[0], (6, 5, 3), [(5, 1)], ANY),
    ("reshape", lambda x, p: (p * x).reshape(5, -1) + (p * x).flatten()[:12], (4, 5, 3), [(5, 3)], ANY),
    ("reshape, of transposed", lambda x, p: (p * x).T.reshape(-1) * p.reshape(-1), (4, 5), [(4, 5)], ANY),
    ("views of the input", lambda x, p: x.T.reshape(4, 5) * p + x.flatten()[3:7].unsqueeze(1), (4, 5), [(4, 5)], ANY),
    ("permute", lambda x, p: (p * x).permute(2, 0, 1) * p.T.reshape(5, 1, 4), (3, 4, 5), [(4, 5)], ANY),
    ("squeeze", lambda x, p: (p * x).unsqueeze(1).squeeze(1) * p.unsqueeze(0), (3, 5), [(5,)], ANY),
    ("index", lambda x, p: (p * x)[1:, ::2] * p[None, 1::2] + p[0] - (x * p)[..., -1:][0], (3, 6), [(6,)], ANY),
    ("index, reversed", lambda x, p: (p * x)[::-1, 1] + (p * x)[:, None, 2].sum(), (3, 6), [(6,)], ANY),
    ("slices", lambda x, p: sum((p * x)[:, i : i + 2] * (i + 1) for i in range(0, 6, 2)), (3, 6), [(6,)], ANY),
    ("iterated", lambda x, p: sum(row * i for i, row in enumerate(p * x)), (3, 6), [(6,)], ANY),
    ("cat", lambda x, p, q: fnn.cat([p * x, q, x[:, :2]], 1) * 2, (3, 6), [(6,), (3, 4)], ANY),
    ("stack", lambda x, p, q: fnn.stack([p * x, q + x, x], 1).T, (3, 6), [(6,), (3, 6)], ANY),
    ("detach", lambda x, p: (p * x).detach() * p, (3, 6), [(6,)], ANY),
    ("cast", lambda x, p: fnn.where((x * 3).astype(np.int64).astype(np.float32) > 0, p, x) + (p > 0).astype(np.float32),
     (3, 6), [(6,)], ANY),
    ("argmax", lambda x, p: p * x.argmax(1, keepdim=True).astype(np.float32) + x.argmax().astype(np.float32),
     (3, 6), [(6,)], ANY),
    ("matmul", lambda x, p: (x @ p).T @ x, (4, 6), [(6, 3)], ANY),
    ("matmul, vectors", lambda x, p: (x @ p) * (p @ p), (4, 6), [(6,)], ANY),
    ("matmul, stacked", lambda x, p, q: (x @ p) @ q, (2, 1, 4, 6), [(3, 6, 2), (2, 5)], ANY),
    ("matmul, transposed", lambda x, p: p.permute(1, 2, 0) @ x, (3, 4), [(3, 2, 5)], ANY),
    ("attention", lambda x, p: (ops.softmax((x @ p) @ x.transpose(1, 2), -1) @ x).tanh(), (2, 5, 6), [(6, 6)], ANY),
    ("linear", lambda x, p, q: ops.linear(x[:, 1:], p, q), (4, 7), [(3, 6), (3,)], ANY),
    ("linear, of a parameter", lambda x, p, q: ops.linear(p, q) + x, (4, 3), [(4, 6), (3, 6)], ANY),
    ("relu", lambda x, p: ops.relu(p * x) + ops.relu(x.T).T, (5, 9), [(9,)], ANY),
    ("leaky_relu", lambda x, p: ops.leaky_relu(p * x, 0.1), (5, 9), [(9,)], ANY),
    ("elu", lambda x, p: ops.elu(p * x, 1.5), (5, 9), [(9,)], ANY),
    ("sigmoid", lambda x, p: ops.sigmoid(p * x), (5, 9), [(9,)], ANY),
    ("tanh", lambda x, p: ops.tanh((p * x).T), (5, 9), [(9,)], ANY),
    ("gelu", lambda x, p: ops.gelu(p * x), (5, 9), [(9,)], ANY),
    ("silu", lambda x, p: ops.silu(p * x), (5, 9), [(9,)], ANY),
    ("softmax", lambda x, p: ops.softmax(p * x, 1) * x + ops.softmax(p * x, 0), (5, 9), [(9,)], ANY),
    ("log_softmax", lambda x, p: ops.log_softmax(p * x, 1) + ops.log_softmax(p * x, 0), (5, 9), [(9,)], ANY),
    ("conv2d, stride and groups", lambda x, p, q: ops.conv2d(x, p, q, stride=2, padding=1, groups=2),
     (2, 4, 7, 6), [(6, 2, 3, 3), (6,)], ANY),
    ("conv2d, dilation", lambda x, p, q: ops.conv2d(ops.conv2d(x, p, dilation=(2, 1)), q, stride=9), (2, 3, 9, 8),
     [(5, 3, 3, 2), (4, 5, 1, 2)], ANY),
    ("conv2d, transposed input", lambda x, p: ops.conv2d(x.transpose(2, 3), p, stride=2) * 2,
     (2, 3, 9, 8), [(5, 3, 3, 2)], ANY),
    ("max_pool2d", lambda x, p: ops.max_pool2d(p * x, 3, 2, 1), (2, 3, 7, 6), [(3, 7, 6)], ANY),
    ("avg_pool2d", lambda x, p: ops.avg_pool2d(p * x, (3, 2), 2, 1, count_include_pad=False) * ops.avg_pool2d(x,
     (3, 2), 2, 1),
     (2, 3, 7, 6), [(3, 7, 6)], ANY),
    ("global_avg_pool2d", lambda x, p: ops.global_avg_pool2d(p * x) * x, (2, 3, 7, 6), [(3, 7, 6)], ANY),
    ("normalize", lambda x, p: ops.normalize(p * x, MEAN, STD) * ops.normalize(x, MEAN, STD), (2, 3, 4), [(3, 4)], ANY),
    ("batch_norm, by itself", lambda x, p, q, r: ops.batch_norm(r * x, None, None, p, q, True),
     (8, 3), [(3,), (3,), (3,)], ANY),
    ("batch_norm, images", lambda x, p, q: ops.batch_norm(x * x, None, None, p, q, True),
     (4, 3, 5, 6), [(3,), (3,)], ANY),
    ("batch_norm, by constants", lambda x, p, q: ops.batch_norm(p * x, MEAN, STD, p, q), (4, 3), [(3,), (3,)], ANY),
    ("dropout of nothing", lambda x, p: ops.dropout(p * x, 1.0) + p, (5, 9), [(9,)], ANY),
    ("mse, not reduced", lambda x, p: ops.mse_loss(p * x, x.detach(), reduction="none"), (5, 9), [(9,)], ANY),
    ("mse", lambda x, p: ops.mse_loss(p * x, x) * 3 + ops.mse_loss(p + x, x, reduction="sum"), (5, 9), [(9,)], ANY),
    ("bce", lambda x, p: ops.binary_cross_entropy(p * x, x), (5, 9), [(9,)], UNIT),
    ("bce, not reduced", lambda x, p: ops.binary_cross_entropy(p * x, x, reduction="none") * x, (5, 9), [(9,)], UNIT),
    ("bce_with_logits", lambda x, p: ops.binary_cross_entropy_with_logits(p * x, x, reduction="sum"),
     (5, 9), [(9,)], UNIT),
    ("nll", lambda x, p: ops.nll_loss(p * x, LABELS) + ops.nll_loss(p + x, LABELS, reduction="none") * x[:, 0],
     (5, 9), [(9,)], ANY),
    ("cross_entropy", lambda x, p: ops.cross_entropy(p * x, LABELS, label_smoothing=0.1, reduction="none") * x[:, 0],
     (5, 9), [(9,)], ANY),
    ("cross_entropy, soft", lambda x, p: ops.cross_entropy(p * x, ops.softmax(x), reduction="sum"),
     (5, 9), [(9,)], ANY),
]  # fmt: skip
MEAN, STD = np.array([0.1, -0.2, 0.3], np.float32), np.array([0.5, 1.5, 1.0], np.float32)
LABELS = np.array([0, 8, 3, 3, 1])


def drawn(case: Case) -> tuple[Formula, np.ndarray, np.ndarray]:
    """The model, an input, and weights of its outputs."""
    _, formula, shape, shapes, (low, high) = case
    rng = np.random.default_rng(7)
    model = Formula(formula, shapes, low, high)
    x = rng.uniform(low, high, shape).astype(np.float32)
    with fnn.no_grad():
        weights = rng.uniform(0.5, 2, model(fnn.Tensor(x)).shape).astype(np.float32)
    return model, x, weights


def weighted(outputs: fnn.Tensor, weights: Any) -> fnn.Tensor:
    return (outputs * weights).sum()


def eager(model: nn.Module, loss_fn: Any, x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    """Outputs, loss and gradients."""
    model.zero_grad()
    outputs = model(fnn.Tensor(x))
    loss = loss_fn(outputs, fnn.Tensor(y))
    loss.backward()
    return [outputs.numpy(), loss.numpy(), *(np.array(p.grad) for p in model.parameters() if p.grad is not None)]


def compiled(model: nn.Module, loss_fn: Any, x: np.ndarray, y: np.ndarray, **options: Any) -> list[np.ndarray]:
    model.zero_grad()
    step = fnn.compile(model, loss_fn, **options)
    loss = step(x, y)
    return [
        step.outputs.copy(),
        np.float32(loss),
        *(np.array(p.grad) for p in model.parameters() if p.grad is not None),
    ]


def assert_alike(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-6 * max(1.0, float(np.abs(other).max(initial=0))))


def interpreted(plan: Any) -> list[str]:
    """What runs in Python in the plan that ran last."""
    return [str(name) for part in plan._last.parts if part.program is None for name in part.names]


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


def functions() -> Iterator[type[Function]]:
    """All operators of fastnn."""
    for module in pkgutil.iter_modules(ops.__path__, "fastnn.ops."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, type) and issubclass(value, Function) and value is not Function:
                yield value
    yield from (Cast, Round, Detach)


def test_every_operator_is_lowered_and_tested() -> None:
    """In the graphs of the cases above, or in a test of its own."""
    from fastnn.plan.rules import RULES

    seen: set[type[Function]] = {ops.draws.RandnLike, ops.draws.RandLike, ops.draws.Bernoulli}
    for case in CASES:
        model, x, weights = drawn(case)
        step = fnn.compile(model, weighted)
        step(x, weights)
        seen.update(op.function for op in step._last.graph.operators)
    assert set(functions()) - seen == set()
    assert set(functions()) - set(RULES) == set()


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


def test_batches_without_entries() -> None:
    model = Formula(lambda x, p: ops.tanh(x * p).sum(1), [(4,)], -1, 1)
    x, y = np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
    assert_alike(compiled(model, weighted, x, y), eager(model, weighted, x, y))
    assert fnn.compile(model)(x).shape == (0,)


class Cubed(Function):
    """An operator that a user wrote."""

    @staticmethod
    def forward(ctx: Any, x: np.ndarray) -> np.ndarray:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, grad: np.ndarray) -> np.ndarray:
        (x,) = ctx.saved_tensors
        return 3 * x**2 * grad


def test_a_users_operator_stands_between_native_ones() -> None:
    model = Formula(lambda x, p, q: (Cubed.apply(p * x) * q + Cubed.apply(x)).tanh(), [(4,), (3, 4)], -1, 1)
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


def random_formula(seed: int) -> Callable[..., fnn.Tensor]:
    """Thirty operators that read one or two values before them: many share memory, or have many users."""
    rng = np.random.default_rng(seed)
    unary: list[Any] = [
        lambda a: a.tanh(), lambda a: a.T.T, lambda a: ops.sigmoid(a.T).T, lambda a: -a, lambda a: ops.gelu(a),
        lambda a: a[:, ::-1], lambda a: a - a.mean(1, keepdim=True), lambda a: a.reshape(-1).reshape(5, 6),
        lambda a: ops.softmax(a), lambda a: fnn.cat([a[:, 3:], a[:, :3]], 1), lambda a: a / (1 + abs(a)),
        lambda a: ops.linear(a, WEIGHT).relu(), lambda a: a.max(0, keepdim=True)[0] * a,
    ]  # fmt: skip
    binary: list[Any] = [
        lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a * b, lambda a, b: fnn.where(a > b, a, b),
        lambda a, b: (a @ b.T) @ a * 0.1, lambda a, b: fnn.stack([a, b]).sum(0), lambda a, b: a + b.sum(),
    ]  # fmt: skip
    plan = [(int(rng.integers(2)), int(rng.integers(99)), *(int(i) for i in rng.integers(0, 9, 2))) for _ in range(30)]

    def formula(x: fnn.Tensor, p: fnn.Tensor, q: fnn.Tensor) -> fnn.Tensor:
        values = [x, p + x, q * x, p]
        for two, which, i, j in plan:
            a, b = values[-1 - i % len(values)], values[-1 - j % len(values)]
            value = binary[which % len(binary)](a, b) if two else unary[which % len(unary)](a)
            values.append(value.tanh() if which % 2 else value * 0.5)
        return values[-1] + values[-3] * 0.5

    return formula


WEIGHT = fnn.Tensor(np.random.default_rng(0).normal(size=(6, 6)).astype(np.float32) / 3, requires_grad=True)


@pytest.mark.parametrize("seed", range(30))
def test_random_formulas(seed: int) -> None:
    """Memory that steps hand on to later ones, views of it, and sums of many gradients; two runs of one plan."""
    model = Formula(random_formula(seed), [(5, 6), (6,)], -1, 1)
    rng = np.random.default_rng(seed)
    step, predict = fnn.compile(model, weighted), fnn.compile(model)
    for _ in range(2):
        x, y = rng.uniform(-1, 1, (2, 5, 6)).astype(np.float32)
        WEIGHT.grad = None
        expected = [*eager(model, weighted, x, y), WEIGHT.grad]
        WEIGHT.grad = None
        model.zero_grad()
        loss = step(x, y)
        found = [step.outputs.copy(), np.float32(loss), *(p.grad for p in model.parameters() if p.grad is not None)]
        assert_alike([*found, *([] if WEIGHT.grad is None else [WEIGHT.grad])], [v for v in expected if v is not None])
        assert_alike([predict(x)], expected[:1])
    assert interpreted(step) == []


def test_memory_is_used_again() -> None:
    """In inference a row of operators needs two arrays, in training one of each that backward reads."""
    shape = (100, 1000)

    def formula(x: fnn.Tensor, p: fnn.Tensor) -> fnn.Tensor:
        for _ in range(12):
            x = (x * p).exp()
        return x.sum(1)

    model = Formula(formula, [(1000,)], 0.01, 0.02)
    x, y = np.ones(shape, np.float32), np.ones(100, np.float32)
    predict, step = fnn.compile(model), fnn.compile(model, weighted)
    predict(x)
    step(x, y)
    assert predict._last.arena.bytes < 3.5 * x.nbytes
    assert step._last.arena.bytes < 32 * x.nbytes


@pytest.mark.parametrize(
    ("formula", "shapes", "parts"),
    [
        (lambda x, p: (x * p).tanh() + x / (p * p + 1), [(5,)], True),
        (lambda x, p: ops.softmax(x * p) - p, [(1, 5)], True),
        (lambda x, p: x * (x * p).sum(), [(5,)], False),
        (lambda x, p: ops.softmax(x * p, 0), [(5,)], False),
    ],
)
def test_predictions_of_many_images(formula: Any, shapes: list[Shape], parts: bool) -> None:
    """In parts of 256 where each image's outputs depend on it alone."""
    model = Formula(formula, shapes, -1, 1)
    x = np.random.default_rng(0).uniform(-1, 1, (600, 5)).astype(np.float32)
    predict = fnn.compile(model)
    assert_alike([predict(x)], [model(x).numpy()])
    assert (len(predict._last.outputs) == 600 % 256) == parts
