"""Small dense networks in one stage: activations, losses and shapes against float64, threads, what is refused."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import numpy as np
import plan_networks as networks
import pytest
from plan_networks import ISAS, NATIVE, running_on

import fastnn as fnn
from fastnn import nn, optim
from fastnn.errors import ArgumentError, LabelError, NonFiniteError
from fastnn.ops import activations

ACTIVATIONS: list[tuple[str, dict[str, Any]]] = [
    ("Identity", {}),
    ("ReLU", {}),
    ("LeakyReLU", {"negative_slope": 0.2}),
    ("LeakyReLU", {"negative_slope": -0.5}),  # whose slope does not follow from y
    ("Tanh", {}),
    ("Sigmoid", {}),
    ("ELU", {"alpha": 0.7}),
    ("ELU", {"alpha": -0.7}),
    ("GELU", {}),
    ("SiLU", {}),
    ("ReLU6", {}),
    ("Hardswish", {}),
    ("Softplus", {}),
    ("Mish", {}),
]
LOSSES: list[tuple[str, dict[str, Any]]] = [
    ("MSELoss", {}),
    ("MSELoss", {"reduction": "sum"}),
    ("BCELoss", {}),
    ("BCEWithLogitsLoss", {}),
    ("CrossEntropyLoss", {"label_smoothing": 0.1}),
    ("CrossEntropyLoss", {"reduction": "sum"}),
    ("soft", {}),
    ("NLLLoss", {}),
]
PIECED: list[tuple[str, dict[str, Any]]] = [("HuberLoss", {"delta": 0.4}), ("SmoothL1Loss", {}), ("L1Loss", {})]
LANES = (4, 8, 16)
ROWS = sorted({1, 2, 1000, *(n + d for n in LANES for d in (-1, 0, 1))})
UNITS = (1, 3, 4, 5, 15, 16, 17, 33, 50, 64, 130)


def network(widths: list[int], activation: tuple[str, dict[str, Any]], loss: str, seed: int = 0) -> nn.Module:
    fnn.manual_seed(seed)
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs), getattr(nn, activation[0])(**activation[1])]
    last = {"BCELoss": [nn.Sigmoid()], "NLLLoss": [nn.LogSoftmax(dim=1)]}.get(loss, [])
    return nn.Sequential(*(layers if len(widths) % 2 else layers[:-1]), *last)


def loss_of(name: str, options: dict[str, Any]) -> Any:
    return nn.CrossEntropyLoss() if name == "soft" else getattr(nn, name)(**options)


def batch(n: int, inputs: int, outputs: int, loss: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, inputs)).astype(np.float32)
    if loss in ("CrossEntropyLoss", "NLLLoss"):
        return x, rng.integers(0, outputs, n)
    y = rng.uniform(0.05, 1, (n, outputs)).astype(np.float32)
    return x, y / y.sum(axis=1, keepdims=True) if loss == "soft" else y


def is_fused(step: Any) -> bool:
    return not NATIVE or "rows" in step.describe()


@pytest.fixture
def rows_wherever_they_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for batches that are too small for it to pay."""

    def is_supported(layers: list[Any], training: bool, frozen: bool) -> bool:
        from fastnn._kernels import rows_support

        shapes = [layer.linear.inputs[1].shape for layer in layers]
        return rows_support(shapes, 1 << 20, training=training, frozen=frozen)

    monkeypatch.setattr("fastnn.plan.executions.is_small_network", is_supported)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    ("activation", "loss"),
    [*itertools.product(ACTIVATIONS, LOSSES), *((("Tanh", {}), loss) for loss in PIECED)],
    ids=str,
)
def test_activations_and_losses(activation: tuple[str, dict[str, Any]], loss: tuple[str, Any], isa: str | None) -> None:
    """As one stage, and as dense layers and a loss: the gradients of float64."""
    for widths, n in (([5, 17, 6], 19), ([16, 8, 33, 3], 70)):
        model, loss_fn = network(widths, activation, loss[0]), loss_of(*loss)
        x, y = batch(n, widths[0], widths[-1], loss[0])
        exact = networks.exact_gradients(model, loss_fn, x, y)
        with running_on(isa):
            for disable in ((), ("rows",)):
                networks.assert_close(networks.compiled_gradients(model, loss_fn, x, y, disable=disable), exact)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("n", ROWS)
@pytest.mark.usefixtures("rows_wherever_they_run")
def test_shapes(n: int, isa: str | None) -> None:
    """Rows and units around the widths of vectors and tiles; one network begins with too wide a layer."""
    rng = np.random.default_rng(n)
    for seed in range(8):
        widths = [int(u) for u in rng.choice(UNITS, size=int(rng.integers(4, 7)))]
        widths[0] = 300 if seed == 7 else widths[0]
        model = network(widths, ("Tanh", {}), "MSELoss", seed)
        x, y = batch(n, widths[0], widths[-1], "MSELoss", seed)
        exact = networks.exact_gradients(model, nn.MSELoss(), x, y)
        with running_on(isa):
            networks.assert_close(networks.compiled_gradients(model, nn.MSELoss(), x, y), exact)
            step, predict = fnn.compile(model, nn.MSELoss()), fnn.compile(model)
            step(x, y)
            predict(x)
            assert is_fused(step)
            assert is_fused(predict)
            outputs = model.double()(x.astype(np.float64)).numpy()
            model.float()
            for compiled in (predict, fnn.compile(model, frozen=True)):
                np.testing.assert_allclose(compiled(x), outputs, atol=2e-6, rtol=0)
                np.testing.assert_allclose(compiled(x), step.outputs, atol=2e-6, rtol=0)


@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("n", [64, 1000, 20_000])
def test_the_same_bits_for_any_number_of_threads(n: int, kind: Any) -> None:
    """More rows than chunks have blocks, too."""
    x, y = batch(n, 24, 6, "MSELoss")
    after = []
    for threads in (1, 2, 3):
        model = network([24, 64, 50, 6], ("Tanh", {}), "MSELoss")
        step = fnn.compile(model, nn.MSELoss(), kind(model.parameters(), lr=0.01))
        with running_on(threads=threads):
            losses = [step(x, y) for _ in range(3)]
        assert is_fused(step)
        after.append((losses, networks.parameters(model)))
    for losses, parameters in after[1:]:
        assert losses == after[0][0]
        assert all(np.array_equal(values, after[0][1][name]) for name, values in parameters.items())


@pytest.mark.parametrize("clip_norm", [None, 0.05])
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("name", ["MSELoss", "BCEWithLogitsLoss"])
def test_steps_follow_the_loop_in_float64(name: str, accumulate: int, clip_norm: float | None) -> None:
    widths, loss_fn = [7, 20, 33, 5], getattr(nn, name)()
    model, exact = (network(widths, ("Tanh", {}), name) for _ in range(2))
    exact.double()
    optimizer, loop = (optim.Adam(m.parameters(), lr=0.01) for m in (model, exact))
    step = fnn.compile(model, loss_fn, optimizer, clip_norm=clip_norm, accumulate=accumulate)
    for i in range(6):
        x, y = batch((40, 7)[i % 2], 7, 5, name, i)
        loss = loss_fn(exact(x.astype(np.float64)), y.astype(np.float64))
        assert step(x, y) == pytest.approx(loss.item(), rel=1e-5)
        (loss / accumulate).backward()
        if (i + 1) % accumulate:
            continue
        norm = np.sqrt(sum(float(np.square(p.grad).sum()) for p in exact.parameters()))
        for p in exact.parameters() if clip_norm is not None else []:
            p.grad = p.grad * min(1.0, clip_norm / (norm + 1e-6))
        loop.step()
        exact.zero_grad()
    for p, q in zip(model.parameters(), exact.parameters(), strict=True):
        np.testing.assert_allclose(p.data, q.data, atol=3e-5)


@pytest.mark.parametrize("disable", [(), ("rows",)], ids=["rows", "dense"])
@pytest.mark.parametrize(
    ("loss", "slip", "error"),
    [("MSELoss", np.nan, NonFiniteError), ("NLLLoss", 5, LabelError), ("CrossEntropyLoss", -1, LabelError)],
)
def test_nothing_is_updated_from_what_is_refused(loss: str, slip: float, error: Any, disable: tuple[str, ...]) -> None:
    model = network([4, 20, 5], ("ReLU", {}), loss)
    step = fnn.compile(model, getattr(nn, loss)(), optim.Adam(model.parameters()), disable=disable)
    x, y = batch(300, 4, 5, loss)
    step(x, y)
    before = networks.parameters(model)
    wrong = y.copy()
    wrong[257] = slip
    with pytest.raises(error):
        step(x, wrong)
    assert all(np.array_equal(before[name], values) for name, values in model.state_dict().items())
    step(x, y)
    assert not all(np.array_equal(before[name], values) for name, values in model.state_dict().items())


@pytest.mark.parametrize("disable", [(), ("rows",)], ids=["rows", "dense"])
def test_probabilities_outside_their_range_are_refused(disable: tuple[str, ...]) -> None:
    model = network([4, 20, 5], ("Identity", {}), "MSELoss")
    x, y = batch(300, 4, 5, "BCELoss")
    x[-1] = 100
    with pytest.raises(ArgumentError, match="probabilities"):
        fnn.compile(model, nn.BCELoss(), disable=disable)(x, y)


def test_binary_cross_entropy_stops_at_the_ends() -> None:
    """Probabilities 0 and 1, and the smallest ones: logarithms no less than -100, as eager."""
    p = np.array([0, 1e-45, 1e-40, 1.2e-38, 1e-7, 0.2499, 0.25, 0.5, 0.7, 1 - 6e-8, 1], np.float32)
    first, last = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    for layer in (first, last):
        layer.weight.data[...] = 1
    model = nn.Sequential(first, last)
    step, loss_fn = fnn.compile(model, nn.BCELoss()), nn.BCELoss()
    for t in (0.0, 0.3, 1.0):
        for value in p:
            x, y = np.full((1, 1), value, np.float32), np.full((1, 1), t, np.float32)
            expected = loss_fn(fnn.Tensor(x.astype(np.float64)), y.astype(np.float64)).item()
            assert step(x, y) == pytest.approx(expected, rel=3e-7, abs=1e-45)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_rows_do_not_see_one_another(value: float, isa: str | None) -> None:
    """What is not finite passes in its own row, as eager, and in no other."""
    model = network([5, 17, 33, 3], ("ReLU", {}), "MSELoss")
    x, _ = batch(40, 5, 3, "MSELoss")
    with running_on(isa):
        usual = fnn.compile(model)(x)
        x[17, 2] = value
        found = fnn.compile(model)(x)
        np.testing.assert_array_equal(np.isnan(found), np.isnan(model(x).numpy()))
    assert not np.isfinite(found[17]).any()
    others = np.arange(40) != 17
    np.testing.assert_array_equal(found[others], usual[others])


def test_a_model_with_two_heads_and_a_loss_of_its_own() -> None:
    """Runs of layers that end in no loss keep what backward needs; the trunk's gradient is the sum of both heads'."""

    class TwoHeads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk = network([6, 20, 33], ("GELU", {}), "MSELoss")
            self.mean, self.scale = (network([33, 9, 2], ("Tanh", {}), "MSELoss", seed) for seed in (1, 2))

        def forward(self, x: fnn.Tensor) -> fnn.Tensor:
            x = self.trunk(x)
            return self.mean(x) * self.scale(x).exp()

    def loss_fn(outputs: fnn.Tensor, y: fnn.Tensor) -> fnn.Tensor:
        return ((outputs - y) ** 2).mean() + outputs.abs().mean()

    fnn.manual_seed(0)
    model = TwoHeads()
    x, y = batch(200, 6, 2, "MSELoss")
    networks.assert_close(
        networks.compiled_gradients(model, loss_fn, x, y), networks.exact_gradients(model, loss_fn, x, y)
    )


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("widths", [[7, 20, 5], [7, 300, 5]], ids=["rows", "dense"])
def test_batch_norm_is_folded_where_the_model_never_changes(widths: list[int], affine: bool) -> None:
    first, hidden, last = widths
    model = nn.Sequential(
        nn.Linear(first, hidden), nn.BatchNorm1d(hidden, affine=affine), nn.Tanh(), nn.Linear(hidden, last, bias=False)
    )
    model.append(nn.BatchNorm1d(last))
    rng = np.random.default_rng(0)
    for name, array in model.state_dict().items():
        if "num_batches" not in name:
            array[...] = rng.uniform(0.5, 2, array.shape) * (1 if "var" in name else rng.choice([-1, 1], array.shape))
    x, _ = batch(33, first, last, "MSELoss")
    model.eval()
    expected = copy.deepcopy(model).double()(x.astype(np.float64)).numpy()
    frozen = fnn.compile(model, frozen=True)
    np.testing.assert_allclose(frozen(x), expected, rtol=1e-5, atol=2e-5)
    assert not NATIVE or ("Linear" in frozen.describe() and len(frozen.describe().splitlines()) == 5)
    live = fnn.compile(model)
    live(x)
    model[1].running_mean += 1
    np.testing.assert_allclose(live(x), model(x).numpy(), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("name", ["MSELoss", "BCEWithLogitsLoss"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_losses_of_images(name: str, reduction: str) -> None:
    """Of predictions with more dimensions than two."""
    fnn.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 3))
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(9, 1, 8, 8)).astype(np.float32), rng.uniform(size=(9, 2, 4, 4)).astype(np.float32)
    loss_fn = getattr(nn, name)(reduction=reduction)
    exact = networks.exact_gradients(model, loss_fn, x, y)
    networks.assert_close(networks.compiled_gradients(model, loss_fn, x, y, exact=True), exact)


def test_a_users_activation_is_not_taken_for_what_it_derives_from() -> None:
    class Doubled(activations.Tanh):
        @staticmethod
        def forward(ctx: Any, x: np.ndarray) -> np.ndarray:
            return 2 * activations.Tanh.forward(ctx, x)

    class Layer(nn.Module):
        def forward(self, x: fnn.Tensor) -> fnn.Tensor:
            return Doubled.apply(x)

    fnn.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 20), Layer(), nn.Linear(20, 3))
    x, _ = batch(7, 5, 3, "MSELoss")
    np.testing.assert_allclose(fnn.compile(model)(x), model(x).numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("isa", ISAS)
def test_an_infinite_input_leaves_the_padding_of_a_layer_out(isa: str | None) -> None:
    """33 features in vectors: what fills the last one is infinity times 0."""
    fnn.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(4, 33), nn.Tanh(), nn.Linear(33, 1)), np.ones((8, 4), np.float32)
    x[0, 0] = np.inf
    with running_on(isa):
        np.testing.assert_allclose(fnn.compile(model)(x), model(x).detach(), atol=1e-6)
