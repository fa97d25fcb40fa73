"""Recurrent layers, norms of single samples and attention: PyTorch's values and gradients, eager and compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from operator_cases import assert_alike, compiled, eager, interpreted
from plan_networks import ISAS, NATIVE, running_on

import fastnn as fnn
from fastnn import nn, ops
from fastnn.errors import ArgumentError, ShapeError
from fastnn.nn import functional as F

RNG = np.random.default_rng(3)


def outputs_of(result: Any) -> list[Any]:
    if isinstance(result, (tuple, list)):
        return [each for part in result for each in outputs_of(part)]
    return [] if result is None else [result]


def assert_agrees(torch: Any, model: Any, twin: Any, inputs: list[np.ndarray], call: Callable[..., Any]) -> None:
    """Outputs, and the gradients of inputs and parameters, in float64."""
    model, twin = model.double(), twin.double()
    twin.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in model.state_dict().items()})
    given = [fnn.Tensor(x, requires_grad=True) for x in inputs]
    theirs = [torch.tensor(x, requires_grad=True) for x in inputs]
    got, expected = outputs_of(call(model, *given)), outputs_of(call(twin, *theirs))
    assert [tuple(g.shape) for g in got] == [tuple(e.shape) for e in expected]
    weights = [np.random.default_rng(i).normal(size=g.shape) for i, g in enumerate(got)]
    sum((g * w).sum() for g, w in zip(got, weights, strict=True)).backward()
    sum((e * torch.from_numpy(w)).sum() for e, w in zip(expected, weights, strict=True)).backward()
    for g, e in zip(got, expected, strict=True):
        np.testing.assert_allclose(g.numpy(), e.detach().numpy(), rtol=0, atol=1e-10)
    for g, e in zip(given, theirs, strict=True):
        np.testing.assert_allclose(g.grad, e.grad.numpy(), rtol=0, atol=1e-10)
    for (name, p), e in zip(model.named_parameters(), twin.parameters(), strict=True):
        np.testing.assert_allclose(p.grad, e.grad.numpy(), rtol=1e-12, atol=1e-10, err_msg=name)


# ---- recurrent layers ------------------------------------------------------------------------------------------------

LAYERS: list[tuple[str, dict[str, Any], tuple[int, ...]]] = [
    *((name, {}, (6, 4, 5)) for name in ("RNN", "GRU", "LSTM")),
    ("RNN", {"nonlinearity": "relu", "bias": False}, (6, 4, 5)),
    *((name, {"num_layers": 2, "bidirectional": True, "batch_first": True}, (3, 6, 5)) for name in ("GRU", "LSTM")),
    ("RNN", {"num_layers": 3, "bidirectional": True}, (4, 2, 5)),
    *((name, {"bias": False}, (1, 3, 5)) for name in ("RNN", "GRU", "LSTM")),
    *((name, {"bidirectional": True}, (7, 5)) for name in ("RNN", "GRU", "LSTM")),
]


@pytest.mark.parametrize("states", [False, True])
@pytest.mark.parametrize(("name", "options", "shape"), LAYERS)
def test_recurrent_layers_agree_with_torch(
    name: str, options: dict[str, Any], shape: tuple[int, ...], states: bool
) -> None:
    torch = pytest.importorskip("torch")
    model, twin = getattr(nn, name)(5, 7, **options), getattr(torch.nn, name)(5, 7, **options)
    assert [n for n, _ in model.named_parameters()] == [n for n, _ in twin.named_parameters()]
    count = model.num_layers * model.directions
    batch = () if len(shape) == 2 else (shape[0 if model.batch_first else 1],)
    initial = [RNG.normal(size=(count, *batch, 7)) for _ in range(states * (1 + (name == "LSTM")))]

    def call(layer: Any, x: Any, *given: Any) -> Any:
        return layer(x, (given if name == "LSTM" else given[0]) if given else None)

    assert_agrees(torch, model, twin, [RNG.normal(size=shape), *initial], call)


@pytest.mark.parametrize("name", ["RNNCell", "GRUCell", "LSTMCell"])
@pytest.mark.parametrize("shape", [(4, 5), (5,)])
def test_cells_agree_with_torch(name: str, shape: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    model, twin = getattr(nn, name)(5, 7), getattr(torch.nn, name)(5, 7)
    initial = [RNG.normal(size=(*shape[:-1], 7)) for _ in range(1 + (name == "LSTMCell"))]

    def call(cell: Any, x: Any, *given: Any) -> Any:
        return cell(x, given if name == "LSTMCell" else given[0]), cell(x)

    assert_agrees(torch, model, twin, [RNG.normal(size=shape), *initial], call)


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("learned", ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"])
def test_each_parameter_of_a_recurrent_layer_learns_alone(name: str, learned: str) -> None:
    torch = pytest.importorskip("torch")
    model, twin = getattr(nn, name)(3, 4), getattr(torch.nn, name)(3, 4).double()
    twin.load_state_dict({key: torch.from_numpy(np.array(value)) for key, value in model.state_dict().items()})
    for key, p in [*model.named_parameters(), *twin.named_parameters()]:
        p.requires_grad = key == learned
    x = RNG.standard_normal((5, 2, 3)).astype(np.float32)
    (twin(torch.from_numpy(x).double())[0] ** 2).sum().backward()
    (model(fnn.Tensor(x))[0] ** 2).sum().backward()
    expected = getattr(twin, learned).grad.numpy()
    np.testing.assert_allclose(getattr(model, learned).grad, expected, rtol=1e-4, atol=1e-5)


def test_a_gru_by_hand() -> None:
    """One unit, one step: r = z = 1/2, n = tanh(1·x + r·(0·h + 2)), h = (n + h) / 2."""
    cell = nn.GRUCell(1, 1)
    for parameter, values in zip(cell.parameters(), ([0, 0, 1], [0, 0, 0], [0, 0, 0], [0, 0, 2]), strict=True):
        parameter.data[...] = np.reshape(values, parameter.shape)
    h = cell(fnn.Tensor([[0.5]]), fnn.Tensor([[3.0]]))
    assert h.item() == pytest.approx((np.tanh(1.5) + 3) / 2, abs=1e-6)


@pytest.mark.parametrize(("times", "batch", "size"), [(1, 1, 1), (5, 3, 7), (4, 37, 16), (3, 20, 33), (2, 17, 130)])
@pytest.mark.parametrize("mode", range(4))
def test_kernels_agree_with_the_reference(mode: int, times: int, batch: int, size: int) -> None:
    """On every instruction set, the same bits for every number of threads, and nothing written past the ends."""
    if not NATIVE:
        pytest.skip("needs the native kernels")
    from fastnn.backends import native, reference

    gates, lstm = (1, 1, 3, 4)[mode], int(mode == 3)
    rng = np.random.default_rng(size)

    def make(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    states = times, batch, size
    given = [make(times, batch, gates * size), make(times + lstm, batch, size), make(*states)]
    fixed = [make(gates * size, size) / np.float32(size**0.5), make(size), make(batch, size), make(batch, size)]
    grad = make(times + lstm, batch, size)

    def run(kernels: Any, dtype: Any, reverse: bool, begins: bool) -> list[np.ndarray]:
        buffers = [np.full(a.size + 74, np.nan, dtype) for a in (*given, *given[:1], *given[2:], *fixed[2:])]
        g, y, extra, dg, dextra, dh, dc = (
            b[37:-37].reshape(a.shape)
            for b, a in zip(buffers, (*given, *given[:1], *given[2:], *fixed[2:]), strict=True)
        )
        g[...] = given[0]
        weight, bias, *first = (a.astype(dtype) for a in fixed)
        first = first if begins else [None, None]
        kernels.recurrent_forward(g, y, extra, weight, bias, *first, mode, reverse)
        kernels.recurrent_backward(dg, dextra, dh, dc, grad.astype(dtype), g, y, extra, weight, *first, mode, reverse)
        assert all(np.isnan(b[:37]).all() and np.isnan(b[-37:]).all() for b in buffers)
        return [y, dg, dh, *([extra] if mode > 1 else []), *([dextra] if mode == 2 else [dc] if mode == 3 else [])]

    for reverse, begins in ((False, True), (True, False)):
        expected = run(reference, np.float64, reverse, begins)
        for isa in ISAS:
            found = []
            for threads in (1, 2, 3):
                with running_on(isa, threads):
                    found.append(run(native, np.float32, reverse, begins))
            for one, e, *others in zip(found[0], expected, *found[1:], strict=True):
                np.testing.assert_allclose(one, e, rtol=0, atol=2e-5 * max(1, np.abs(e).max()))
                assert all(one.tobytes() == other.tobytes() for other in others)


def test_recurrent_layers_refuse() -> None:
    with pytest.raises(ArgumentError, match="proj_size"):
        nn.LSTM(3, 4, proj_size=2)
    with pytest.raises(ArgumentError, match="nonlinearity"):
        nn.RNN(3, 4, nonlinearity="elu")
    with pytest.raises(ShapeError, match=r"expected input of shape \(T, B, 3\), got \(5, 2, 4\)"):
        nn.GRU(3, 4)(np.zeros((5, 2, 4), np.float32))
    with pytest.raises(ShapeError, match=r"initial states of shape \(1, 2, 4\), got \(1, 3, 4\)"):
        nn.GRU(3, 4)(np.zeros((5, 2, 3), np.float32), np.zeros((1, 3, 4), np.float32))
    with pytest.raises(ArgumentError, match=r"initial states \(h0, c0\)"):
        nn.LSTM(3, 4)(np.zeros((5, 2, 3), np.float32), np.zeros((1, 2, 4), np.float32))


# ---- norms -----------------------------------------------------------------------------------------------------------

NORMS: list[tuple[str, tuple[Any, ...], dict[str, Any], tuple[int, ...]]] = [
    ("LayerNorm", (5,), {}, (3, 4, 5)),
    ("LayerNorm", ((4, 5),), {"eps": 0.1}, (2, 3, 4, 5)),
    ("LayerNorm", (37,), {"bias": False}, (70, 37)),
    ("LayerNorm", (37,), {"elementwise_affine": False}, (37,)),
    ("RMSNorm", (37,), {}, (70, 37)),
    ("RMSNorm", ((4, 5),), {"eps": 0.1, "elementwise_affine": False}, (2, 4, 5)),
    ("GroupNorm", (2, 6), {}, (3, 6)),
    ("GroupNorm", (3, 6), {"eps": 0.1}, (3, 6, 5, 7)),
    ("GroupNorm", (6, 6), {"affine": False}, (3, 6, 9)),
]


def spread(parameters: Any) -> None:
    for p in parameters:
        p.data[...] = np.random.default_rng(p.data.size).normal(size=p.shape)


@pytest.mark.parametrize(("name", "args", "options", "shape"), NORMS)
def test_norms_agree_with_torch(name: str, args: Any, options: dict[str, Any], shape: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    model, twin = getattr(nn, name)(*args, **options), getattr(torch.nn, name)(*args, **options)
    spread(model.parameters())
    assert_agrees(torch, model, twin, [3 * RNG.normal(size=shape) + 1], lambda layer, x: layer(x))


def test_a_layer_norm_by_hand() -> None:
    y = F.layer_norm([[0.0, 2.0, 4.0]], [3], eps=0.0)
    np.testing.assert_allclose(y.numpy(), [[-np.sqrt(1.5), 0, np.sqrt(1.5)]], rtol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 6, 1), (67, 36, 1), (200, 18, 1), (3, 6, 5), (70, 6, 20)])
@pytest.mark.parametrize("centred", [True, False])
def test_norm_kernels_agree_with_the_reference(shape: tuple[int, ...], centred: bool) -> None:
    if not NATIVE:
        pytest.skip("needs the native kernels")
    from fastnn.backends import native, reference

    rng = np.random.default_rng(1)
    x, grad = rng.normal(size=shape).astype(np.float32) + 2, rng.normal(size=shape).astype(np.float32)
    weight, bias = (rng.normal(size=shape[1]).astype(np.float32) for _ in range(2))

    def run(kernels: Any, dtype: Any, groups: int, affine: bool) -> list[np.ndarray]:
        wide = [a.astype(dtype) if affine or i < 2 else None for i, a in enumerate((x, grad, weight, bias))]
        y, statistics = kernels.group_norm_forward(wide[0], *wide[2:], groups, 0.1, centred)
        return [y, *kernels.group_norm_backward(wide[1], wide[0], statistics, wide[2], groups, centred)]

    for groups, affine in ((1, True), (min(3, shape[1]), False)):
        expected = run(reference, np.float64, groups, affine)
        for isa in ISAS:
            found = []
            for threads in (1, 2, 3):
                with running_on(isa, threads):
                    found.append([a.copy() for a in run(native, np.float32, groups, affine)])
            for one, e, *others in zip(found[0], expected, *found[1:], strict=True):
                np.testing.assert_allclose(one, e, rtol=0, atol=1e-5 * max(1, np.abs(e).max()))
                assert all(one.tobytes() == other.tobytes() for other in others)


def test_norms_refuse() -> None:
    with pytest.raises(ShapeError, match=r"expected input of shape \(..., 4\), got \(2, 3\)"):
        nn.LayerNorm(4)(np.zeros((2, 3), np.float32))
    with pytest.raises(ArgumentError, match="num_groups to divide 5 channels, got 2"):
        nn.GroupNorm(2, 5)
    with pytest.raises(ShapeError, match="C a multiple of 2"):
        F.group_norm(np.zeros((2, 3), np.float32), 2)


# ---- attention -------------------------------------------------------------------------------------------------------

MASKS = [None, "causal", np.tri(4, 6, 2).astype(bool), RNG.normal(size=(3, 1, 4, 6))]


@pytest.mark.parametrize("mask", MASKS, ids=["none", "causal", "bool", "float"])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_attention_agrees_with_torch(mask: Any, scale: float | None) -> None:
    torch = pytest.importorskip("torch")
    arrays = [RNG.normal(size=(3, 2, n, e)) for n, e in ((4, 5), (6, 5), (6, 7))]
    causal = isinstance(mask, str)
    mask = None if causal else mask

    def call(given: Any, attend: Any, wrap: Any) -> Any:
        return attend(*given, attn_mask=None if mask is None else wrap(mask), is_causal=causal, scale=scale)

    ours = [fnn.Tensor(a, requires_grad=True) for a in arrays]
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    y = call(ours, F.scaled_dot_product_attention, fnn.Tensor)
    z = call(theirs, torch.nn.functional.scaled_dot_product_attention, torch.from_numpy)
    (y * y).sum().backward()
    (z * z).sum().backward()
    np.testing.assert_allclose(y.numpy(), z.detach().numpy(), rtol=0, atol=1e-10)
    for g, e in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(g.grad, e.grad.numpy(), rtol=0, atol=1e-10)


PADDING = np.arange(6) >= np.array([6, 4, 5])[:, None]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"need_weights": False, "attn_mask": np.triu(np.ones((6, 6), bool), 1)},
        {"key_padding_mask": PADDING, "average_attn_weights": False},
        {"key_padding_mask": np.where(PADDING, -2.0, 0), "attn_mask": RNG.normal(size=(6, 6, 6))},
    ],
)
@pytest.mark.parametrize("other", [False, True])
def test_multihead_attention_agrees_with_torch(options: dict[str, Any], other: bool) -> None:
    torch = pytest.importorskip("torch")
    model, twin = nn.MultiheadAttention(8, 2, batch_first=True), torch.nn.MultiheadAttention(8, 2, batch_first=True)
    spread(model.parameters())

    def call(layer: Any, x: Any, *rest: Any) -> Any:
        wrap = fnn.Tensor if layer is model else torch.from_numpy
        given = {n: wrap(v) if isinstance(v, np.ndarray) else v for n, v in options.items()}
        return layer(x, rest[0] if rest else x, rest[1] if rest else x, **given)

    inputs = [RNG.normal(size=(3, 6, 8)) for _ in range(3 if other else 1)]
    assert_agrees(torch, model, twin, inputs, call)


@pytest.mark.parametrize(
    "options", [{}, {"norm_first": True, "activation": "gelu", "batch_first": True}, {"bias": False}]
)
@pytest.mark.parametrize("shape", [(3, 6, 8), (6, 8)])
def test_transformer_encoders_agree_with_torch(options: dict[str, Any], shape: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")

    def build(package: Any) -> Any:
        layer = package.TransformerEncoderLayer(8, 2, 16, dropout=0.0, **options)
        return package.TransformerEncoder(layer, 2, package.LayerNorm(8))

    model, twin = build(nn), build(torch.nn)
    spread(model.parameters())
    assert [n for n, _ in model.named_parameters()] == [n for n, _ in twin.named_parameters()]
    assert_agrees(torch, model, twin, [RNG.normal(size=shape)], lambda net, x: net(x))


@pytest.mark.parametrize(
    "options", [{}, {"norm_first": True, "activation": "gelu", "batch_first": True}, {"bias": False}]
)
def test_transformers_agree_with_torch(options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")

    def build(package: Any) -> Any:
        return package.Transformer(8, 2, 2, 2, 16, dropout=0.0, **options)

    model, twin = build(nn), build(torch.nn)
    spread(model.parameters())
    assert [n for n, _ in model.named_parameters()] == [n for n, _ in twin.named_parameters()]
    first = options.get("batch_first", False)
    inputs = [RNG.normal(size=(3, length, 8) if first else (length, 3, 8)) for length in (6, 4)]
    padding = np.arange(6) >= np.array([[6], [4], [5]])

    def call(net: Any, src: Any, tgt: Any) -> Any:
        wrap = fnn.Tensor if net is model else torch.from_numpy
        later = net.generate_square_subsequent_mask(4)
        later = later.double() if net is twin else later
        return net(src, tgt, tgt_mask=later, src_key_padding_mask=wrap(padding), memory_key_padding_mask=wrap(padding))

    assert_agrees(torch, model, twin, inputs, call)


def test_attention_by_hand() -> None:
    """Equal scores: the mean of the values; the first alone for the first, if causal."""
    q, v = np.zeros((1, 2, 3)), np.array([[[2.0], [4.0]]])
    assert F.scaled_dot_product_attention(q, q, v).numpy().ravel().tolist() == [3, 3]
    assert F.scaled_dot_product_attention(q, q, v, is_causal=True).numpy().ravel().tolist() == [2, 3]


def test_attention_refuses() -> None:
    q = np.zeros((1, 2, 3))
    with pytest.raises(ArgumentError, match="attn_mask=None with is_causal=True"):
        F.scaled_dot_product_attention(q, q, q, np.ones((2, 2), bool), is_causal=True)
    with pytest.raises(ShapeError, match="key and value of one length"):
        F.scaled_dot_product_attention(q, q, q[:, :1])
    with pytest.raises(ArgumentError, match="num_heads to divide 6, got 4"):
        nn.MultiheadAttention(6, 4)


# ---- compiled --------------------------------------------------------------------------------------------------------


class Last(nn.Module):
    """A layer's outputs and its states at the end."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: fnn.Tensor) -> fnn.Tensor:
        parts = outputs_of(self.layer(x))
        return ops.cat([part.reshape(-1) for part in parts], 0)


COMPILED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "RNN": (lambda: nn.RNN(5, 9, nonlinearity="relu"), (6, 4, 5)),
    "GRU": (lambda: nn.GRU(5, 33, 2, bidirectional=True, batch_first=True), (19, 6, 5)),
    "LSTM": (lambda: nn.LSTM(5, 9, 2, bidirectional=True, bias=False), (6, 4, 5)),
    "GRU of one time": (lambda: nn.GRU(5, 9), (1, 4, 5)),
    "LSTM without a batch": (lambda: nn.LSTM(5, 9), (6, 5)),
    "GRUCell": (lambda: nn.GRUCell(5, 9), (6, 5)),
    "LayerNorm": (lambda: nn.LayerNorm((4, 5)), (70, 4, 5)),
    "RMSNorm": (lambda: nn.Sequential(nn.Linear(5, 19), nn.RMSNorm(19, eps=0.1)), (6, 5)),
    "GroupNorm": (lambda: nn.Sequential(nn.Conv2d(2, 6, 3), nn.GroupNorm(3, 6)), (3, 2, 5, 6)),
    "MultiheadAttention": (lambda: SelfAttention(), (3, 6, 8)),
    "TransformerEncoderLayer": (lambda: nn.TransformerEncoderLayer(8, 2, 16, 0.0), (3, 6, 8)),
}


class SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: fnn.Tensor) -> Any:
        return self.attention(x, x, x, attn_mask=np.triu(np.ones((6, 6), bool), 1))


@pytest.mark.skipif(not NATIVE, reason="compiled operators need the native kernels")
@pytest.mark.parametrize("name", COMPILED)
def test_compiled_steps_give_what_eager_ones_give(name: str) -> None:
    make, shape = COMPILED[name]
    fnn.manual_seed(0)
    model = Last(make())
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    with fnn.no_grad():
        weights = np.random.default_rng(1).normal(size=model(fnn.Tensor(x)).shape).astype(np.float32)

    def loss(y: fnn.Tensor, w: fnn.Tensor) -> fnn.Tensor:
        return (y * w).sum()

    expected = eager(model, loss, x, weights)
    for isa in ISAS:
        with running_on(isa):
            step = fnn.compile(model, loss)
            for _ in range(2):
                model.zero_grad()
                value = step(x, weights)
            found = [step.outputs.copy(), np.float32(value), *(np.array(p.grad) for p in model.parameters())]
            assert interpreted(step) == []
            assert_alike_to(found, expected)
            predict = fnn.compile(model)
            assert_alike_to([predict(x)], expected[:1])
            assert interpreted(predict) == []
    assert_alike(compiled(model, loss, x, weights, disable=fnn.plan.FUSIONS), expected)


def assert_alike_to(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-5 * max(1.0, float(np.abs(other).max(initial=0))))


def test_a_transformer_of_encoder_layers_alone_is_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(size=(3, 2, 4)).astype(np.float32)
    theirs, mine = (nn.Transformer(4, 2, 1, 0, 6, 0.0) for nn in (torch.nn, fnn.nn))
    mine.load_state_dict({name: value.numpy() for name, value in theirs.state_dict().items()})
    expected = theirs.encoder(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(mine.encoder(fnn.from_numpy(x)).detach().numpy(), expected, rtol=1e-4, atol=1e-5)
