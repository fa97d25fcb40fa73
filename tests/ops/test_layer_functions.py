"""The functions behind layers against PyTorch in float64: values and gradients, over options, shapes and strides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
import fastnn.nn.functional as F

torch = pytest.importorskip("torch")
T = torch.nn.functional
SEQ, IMG, ROWS = (2, 4, 11), (2, 4, 7, 6), (5, 6)
W1, W2 = (6, 2, 3), (6, 2, 3, 2)

# Name, the call as both packages take it, the shapes of its tensors.
CASES: list[tuple[str, Callable[..., Any], list[tuple[int, ...]]]] = [
    ("conv1d", lambda f, x, w, b: f.conv1d(x, w, b, 2, 1, 2, 2), [SEQ, W1, (6,)]),
    ("conv1d, no bias", lambda f, x, w: f.conv1d(x, w, groups=2, stride=(3,)), [SEQ, W1]),
    ("conv1d, same", lambda f, x, w: f.conv1d(x, w, padding="same", dilation=3, groups=2), [SEQ, (6, 2, 4)]),
    ("conv1d, valid", lambda f, x, w: f.conv1d(x, w, padding="valid"), [SEQ, (1, 4, 11)]),
    ("conv1d, of one", lambda f, x, w: f.conv1d(x, w), [(3, 1, 1), (2, 1, 1)]),
    ("conv2d, same", lambda f, x, w, b: f.conv2d(x, w, b, padding="same", groups=2), [IMG, W2, (6,)]),
    ("conv2d, same, even", lambda f, x, w: f.conv2d(x, w, padding="same", dilation=(1, 2)), [IMG, (3, 4, 2, 4)]),
    ("conv_transpose1d", lambda f, x, w, b: f.conv_transpose1d(x, w, b, 3, 2, 1, 2, 2), [SEQ, (4, 3, 3), (6,)]),
    ("conv_transpose1d, plain", lambda f, x, w: f.conv_transpose1d(x, w), [SEQ, (4, 3, 3)]),
    ("conv_transpose2d", lambda f, x, w, b: f.conv_transpose2d(x, w, b, 2, 1, 1), [IMG, (4, 3, 3, 3), (3,)]),
    ("conv_transpose2d, output padded by dilation",
     lambda f, x, w, b: f.conv_transpose2d(x, w, b, (1, 2), (1, 0), (1, 2), 1, (2, 3)), [IMG, (4, 3, 3, 3), (3,)]),
    ("conv_transpose2d, pairs", lambda f, x, w: f.conv_transpose2d(x, w, None, (2, 3), (0, 1), (1, 2), 4, (2, 1)),
     [IMG, (4, 2, 3, 2)]),
    ("max_pool1d", lambda f, x: f.max_pool1d(x, 3, 2, 1), [SEQ]),
    ("max_pool1d, all", lambda f, x: f.max_pool1d(x, 3, 3, 1, 2, True), [SEQ]),
    ("max_pool2d, ceil", lambda f, x: f.max_pool2d(x, (3, 2), (2, 3), (1, 0), ceil_mode=True), [IMG]),
    ("max_pool2d, ceil beyond", lambda f, x: f.max_pool2d(x, 2, 3, 1, ceil_mode=True), [IMG]),
    ("max_pool2d, dilation", lambda f, x: f.max_pool2d(x, 3, 1, 1, (2, 1)), [IMG]),
    ("max_pool2d, dilation, ceil", lambda f, x: f.max_pool2d(x, 2, 3, 0, 2, ceil_mode=True), [IMG]),
    ("avg_pool1d", lambda f, x: f.avg_pool1d(x, 3, 2, 1, False, False), [SEQ]),
    ("avg_pool1d, ceil", lambda f, x: f.avg_pool1d(x, 4, 3, 1, True, True), [SEQ]),
    ("avg_pool2d, ceil", lambda f, x: f.avg_pool2d(x, 3, 2, 1, True, True), [IMG]),
    ("avg_pool2d, ceil, inside", lambda f, x: f.avg_pool2d(x, (3, 4), (2, 3), (0, 1), True, False), [IMG]),
    ("avg_pool2d, divisor", lambda f, x: f.avg_pool2d(x, 3, 2, 1, True, False, 7), [IMG]),
    ("adaptive_avg_pool1d", lambda f, x: f.adaptive_avg_pool1d(x, 4), [SEQ]),
    ("adaptive_avg_pool1d, larger", lambda f, x: f.adaptive_avg_pool1d(x, 13), [SEQ]),
    ("adaptive_avg_pool1d, of one", lambda f, x: f.adaptive_avg_pool1d(x, 1), [SEQ]),
    ("adaptive_avg_pool2d", lambda f, x: f.adaptive_avg_pool2d(x, (3, 4)), [IMG]),
    ("adaptive_avg_pool2d, even", lambda f, x: f.adaptive_avg_pool2d(x, (7, 3)), [IMG]),
    ("adaptive_avg_pool2d, None", lambda f, x: f.adaptive_avg_pool2d(x, (None, 4)), [IMG]),
    ("adaptive_max_pool1d", lambda f, x: f.adaptive_max_pool1d(x, 4), [SEQ]),
    ("adaptive_max_pool2d", lambda f, x: f.adaptive_max_pool2d(x, (3, 4)), [IMG]),
    ("adaptive_max_pool2d, even", lambda f, x: f.adaptive_max_pool2d(x, (1, 2)), [IMG]),
    ("pad, constant", lambda f, x: f.pad(x, (1, 2, 0, 3), "constant", 1.5), [IMG]),
    ("pad, negative", lambda f, x: f.pad(x, (-1, 2, 1, -2, 0, 1)), [IMG]),
    ("pad, reflect", lambda f, x: f.pad(x, (3, 2, 0, 6), "reflect"), [IMG]),
    ("pad, replicate", lambda f, x: f.pad(x, (3, 0, 1, 9), mode="replicate"), [IMG]),
    ("pad, circular", lambda f, x: f.pad(x, (6, 1, 0, 2), mode="circular"), [IMG]),
    ("pad, sequences", lambda f, x: f.pad(x, (4, 1), mode="reflect"), [SEQ]),
    ("interpolate, 2", lambda f, x: f.interpolate(x, scale_factor=2), [IMG]),
    ("interpolate, size", lambda f, x: f.interpolate(x, size=(10, 4)), [IMG]),
    ("interpolate, mixed", lambda f, x: f.interpolate(x, (14, 3)), [IMG]),
    ("interpolate, 1.7", lambda f, x: f.interpolate(x, scale_factor=1.7), [SEQ]),
    ("interpolate, exact", lambda f, x: f.interpolate(x, (3, 9), mode="nearest-exact"), [IMG]),
    ("interpolate, area", lambda f, x: f.interpolate(x, (3, 4), mode="area"), [IMG]),
    ("interpolate, linear", lambda f, x: f.interpolate(x, scale_factor=2.5, mode="linear"), [SEQ]),
    ("interpolate, recomputed", lambda f, x: f.interpolate(x, scale_factor=2.3, mode="linear",
     recompute_scale_factor=True), [SEQ]),
    ("interpolate, bilinear", lambda f, x: f.interpolate(x, scale_factor=(2, 1.5), mode="bilinear"), [IMG]),
    ("interpolate, corners", lambda f, x: f.interpolate(x, (5, 13), mode="bilinear", align_corners=True), [IMG]),
    ("interpolate, one", lambda f, x: f.interpolate(x, (1, 3), mode="bilinear", align_corners=True), [IMG]),
    ("interpolate, bicubic", lambda f, x: f.interpolate(x, (9, 4), mode="bicubic"), [IMG]),
    ("interpolate, bicubic corners", lambda f, x: f.interpolate(x, (9, 4), mode="bicubic", align_corners=True), [IMG]),
    ("pixel_shuffle", lambda f, x: f.pixel_shuffle(x, 2), [(2, 8, 3, 4)]),
    ("pixel_shuffle, one", lambda f, x: f.pixel_shuffle(x, 3), [(9, 3, 4)]),
    ("pixel_unshuffle", lambda f, x: f.pixel_unshuffle(x, 3), [(2, 2, 6, 3)]),
    ("channel_shuffle", lambda f, x: f.channel_shuffle(x, 3), [(2, 6, 3, 4)]),
    ("unfold", lambda f, x: f.unfold(x, (2, 3), (2, 1), (1, 2), (1, 2)), [IMG]),
    ("fold", lambda f, x: f.fold(x, (7, 6), (2, 3), (2, 1), (1, 2), (2, 2)), [(2, 18, 16)]),
    ("relu6", lambda f, x: f.relu6(x), [ROWS]),
    ("hardswish", lambda f, x: f.hardswish(x), [ROWS]),
    ("hardtanh", lambda f, x: f.hardtanh(x, -0.5, 2), [ROWS]),
    ("softplus", lambda f, x: f.softplus(x), [ROWS]),
    ("softplus, beta", lambda f, x: f.softplus(x, 2.5), [ROWS]),
    ("softplus, threshold", lambda f, x: f.softplus(x, 2, 1), [ROWS]),
    ("softsign", lambda f, x: f.softsign(x), [ROWS]),
    ("mish", lambda f, x: f.mish(x), [ROWS]),
    ("celu", lambda f, x: f.celu(x, 2), [ROWS]),
    ("selu", lambda f, x: f.selu(x), [ROWS]),
    ("logsigmoid", lambda f, x: f.logsigmoid(x), [ROWS]),
    ("tanhshrink", lambda f, x: f.tanhshrink(x), [ROWS]),
    ("softshrink", lambda f, x: f.softshrink(x, 1), [ROWS]),
    ("hardshrink", lambda f, x: f.hardshrink(x, 1), [ROWS]),
    ("threshold", lambda f, x: f.threshold(x, 1, -7.5), [ROWS]),
    ("gelu, tanh", lambda f, x: f.gelu(x, approximate="tanh"), [ROWS]),
    ("glu", lambda f, x: f.glu(x) + f.glu(x, -1), [ROWS]),
    ("glu, channels", lambda f, x: f.glu(x, dim=1), [IMG]),
    ("softmin", lambda f, x: f.softmin(x, dim=1), [ROWS]),
    ("prelu", lambda f, x, w: f.prelu(x, w), [IMG, (4,)]),
    ("prelu, one", lambda f, x, w: f.prelu(x, w), [ROWS, (1,)]),
    ("instance_norm", lambda f, x, w, b: f.instance_norm(x, None, None, w, b, True, 0.1, 1e-3), [IMG, (4,), (4,)]),
    ("instance_norm, sequences", lambda f, x: f.instance_norm(x), [SEQ]),
    ("batch_norm, sequences", lambda f, x, w, b: f.batch_norm(x, None, None, w, b, True), [SEQ, (4,), (4,)]),
    ("cosine_similarity", lambda f, a, b: f.cosine_similarity(a, b), [ROWS, ROWS]),
    ("cosine_similarity, broadcast", lambda f, a, b: f.cosine_similarity(a, b, dim=-1), [(5, 1, 6), (4, 6)]),
    ("pairwise_distance", lambda f, a, b: f.pairwise_distance(a, b), [ROWS, ROWS]),
    ("pairwise_distance, 1", lambda f, a, b: f.pairwise_distance(a, b, 1, keepdim=True), [ROWS, ROWS]),
    ("pairwise_distance, 3", lambda f, a, b: f.pairwise_distance(a, b, 3.0), [ROWS, ROWS]),
    ("pairwise_distance, infinity", lambda f, a, b: f.pairwise_distance(a, b, float("inf")), [ROWS, ROWS]),
    ("bilinear", lambda f, a, b, w, c: f.bilinear(a, b, w, c), [(5, 3, 6), (5, 3, 4), (2, 6, 4), (2,)]),
]  # fmt: skip


def both(call: Callable[..., Any], arrays: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Value and gradients by fastnn, and by PyTorch."""
    mine, theirs = [fnn.Tensor(a, True) for a in arrays], [torch.tensor(a, requires_grad=True) for a in arrays]
    y, z = call(F, *mine), call(T, *theirs)
    assert y.shape == tuple(z.shape)
    weights = np.random.default_rng(1).normal(size=y.shape)
    (y * weights).sum().backward()
    (z * torch.tensor(weights)).sum().backward()
    return [y.numpy(), *(t.grad for t in mine)], [z.detach().numpy(), *(t.grad.numpy() for t in theirs)]


@pytest.mark.parametrize(("call", "shapes"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_values_and_gradients_are_pytorchs(call: Any, shapes: Any) -> None:
    rng = np.random.default_rng(0)
    arrays = [2 * rng.normal(size=shape) for shape in shapes]
    for given in (arrays, [np.ascontiguousarray(a.T).T for a in arrays]):  # and with other strides
        for mine, theirs in zip(*both(call, given), strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-10, atol=1e-10)


def test_batch_norm_moves_the_running_statistics_that_it_is_given() -> None:
    x = np.random.default_rng(0).normal(2, 3, (5, 4, 6))
    mine, theirs = [np.full(4, v) for v in (0.5, 2.0)], [torch.full((4,), v, dtype=torch.float64) for v in (0.5, 2.0)]
    for momentum in (0.1, 0.7):
        F.batch_norm(x, *mine, training=True, momentum=momentum)
        T.batch_norm(torch.tensor(x), *theirs, training=True, momentum=momentum)
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(a, b.numpy(), rtol=1e-12)


def test_hardsigmoid() -> None:
    """By hand: PyTorch's slope is 1/6 in single precision, whatever the type."""
    x = fnn.Tensor(np.array([-4.0, -3, -1.5, 0, 3, 4]), True)
    y = F.hardsigmoid(x)
    y.sum().backward()
    np.testing.assert_allclose(y.numpy(), [0, 0, 0.25, 0.5, 1, 1], rtol=1e-12)
    np.testing.assert_allclose(x.grad, [0, 0, 1 / 6, 1 / 6, 0, 0], rtol=1e-12)


KINKS = np.array([0.0, -0.0, 6, 3, -3, 1, -1, 0.5, -0.5, 20, 20.5, -20, 700, -700, 1e-300, np.inf, -np.inf, np.nan])
AT_KINKS = [
    "relu6", "hardswish", "hardtanh", "softplus", "softsign", "mish", "celu", "selu", "logsigmoid",
    "tanhshrink", "softshrink", "hardshrink",
]  # fmt: skip


@pytest.mark.parametrize("name", AT_KINKS)
def test_activations_where_they_bend_and_end(name: str) -> None:
    """Values and slopes; of what is not finite the value alone."""
    with np.errstate(all="ignore"):
        (y, slope), (z, other) = both(lambda f, x: getattr(f, name)(x), [KINKS])
    np.testing.assert_allclose(y, z, rtol=1e-10, atol=1e-300)
    finite = np.isfinite(KINKS)
    np.testing.assert_allclose(slope[finite], other[finite], rtol=1e-10, atol=1e-300)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("max_pool1d", (3, 2, 1)), ("max_pool1d", (2, 3, 0, 2, True)), ("max_pool2d", (2,)),
        ("max_pool2d", (3, (1, 2), 1, (1, 2), True)),
    ],
)  # fmt: skip
def test_where_the_largest_were(name: str, options: Any) -> None:
    """Indices, the first of equal ones too."""
    shape = SEQ if name == "max_pool1d" else IMG
    for x in (np.random.default_rng(0).normal(size=shape), np.round(np.random.default_rng(1).normal(size=shape))):
        values, indices = getattr(F, name)(x, *options, return_indices=True)
        dilation, ceil = (*options, 0, 1, False)[3:5] if len(options) > 3 else (1, False)
        arguments = (*options[:3], *([None, 0][len(options) - 1 :] if len(options) < 3 else []))
        kernel, stride, padding = (*arguments, None, 0)[:3] if len(arguments) < 3 else arguments
        expected, places = getattr(T, name)(torch.tensor(x), kernel, stride, padding, dilation, ceil, True)
        np.testing.assert_array_equal(values.numpy(), expected.numpy())
        assert indices.dtype == np.int64
        np.testing.assert_array_equal(indices.numpy(), places.numpy())


@pytest.mark.parametrize("padding_idx", [None, 2, -1])
@pytest.mark.parametrize("shape", [(7,), (3, 5), (), (0,), (2, 1, 4)])
def test_embedding(shape: tuple[int, ...], padding_idx: int | None) -> None:
    rng = np.random.default_rng(0)
    index, table = rng.integers(0, 6, shape), rng.normal(size=(6, 3))

    def call(f: Any, w: Any) -> Any:
        given = torch.tensor(index) if f is T else index
        return f.embedding(given, w, padding_idx)

    for mine, theirs in zip(*both(call, [table]), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-10)


def test_rows_taken_often_and_seldom() -> None:
    index, table = np.r_[np.zeros(40, int), np.arange(6), np.full(17, 3), 5, 5], np.ones((7, 2))
    for mine, theirs in zip(
        *both(lambda f, w: f.embedding(torch.tensor(index) if f is T else index, w), [table]), strict=True
    ):
        np.testing.assert_allclose(mine, theirs, rtol=1e-12)


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_embedding_bag(mode: str) -> None:
    rng = np.random.default_rng(0)
    index, table, weights = rng.integers(0, 6, (4, 5)), rng.normal(size=(6, 3)), rng.normal(size=(4, 5))

    def taken(f: Any, x: np.ndarray) -> Any:
        return torch.tensor(x) if f is T else x

    calls: list[Any] = [lambda f, w: f.embedding_bag(taken(f, index), w, mode=mode)]
    if mode != "max":
        offsets = np.array([0, 3, 3, 11])
        calls += [lambda f, w: f.embedding_bag(taken(f, index.ravel()), w, taken(f, offsets), mode=mode)]
    if mode == "sum":
        calls += [
            lambda f, w: f.embedding_bag(
                taken(f, index), w, mode=mode,
                per_sample_weights=torch.tensor(weights) if f is T else fnn.Tensor(weights),
            )
        ]  # fmt: skip
    for call in calls:
        for mine, theirs in zip(*both(call, [table]), strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("offsets", [[1, 4], [0, 5, 3], [0, 9], [-1, 3], [], [0.0, 3.0], [[0, 3]]])
def test_every_number_is_in_a_bag(offsets: Any) -> None:
    """Those before the first offset were in none, without a word."""
    table = fnn.Tensor(np.ones((6, 3), np.float32), requires_grad=True)
    with pytest.raises(fnn.FastnnError, match="expected offsets"):
        F.embedding_bag(np.arange(6), table, np.array(offsets))
