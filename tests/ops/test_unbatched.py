"""Convolution and pooling of one sample without a batch, and other forms that PyTorch's programs use."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn.errors import ArgumentError, DTypeError, ShapeError

RNG = np.random.default_rng(0)
IMAGE, SEQUENCE, ROWS = RNG.standard_normal((2, 6, 7)), RNG.standard_normal((2, 9)), RNG.standard_normal((5, 3))
W1, W2 = RNG.standard_normal((2, 2, 3)), RNG.standard_normal((2, 2, 3, 3))
LABELS = np.array([[2, 0, -1, 1], [-1, 3, 3, 3], [1, 1, 0, -1]])

CASES: dict[str, tuple[Any, Any]] = {
    "conv1d": (lambda t, F, x: F.conv1d(x, t.tensor(W1), padding="same"), SEQUENCE),
    "conv2d": (lambda t, F, x: F.conv2d(x, t.tensor(W2), stride=2, padding=1), IMAGE),
    "conv_transpose1d": (lambda t, F, x: F.conv_transpose1d(x, t.tensor(W1), stride=2), SEQUENCE),
    "conv_transpose2d": (lambda t, F, x: F.conv_transpose2d(x, t.tensor(W2), stride=2), IMAGE),
    "ConvTranspose2d": (
        lambda t, F, x: t.nn.init.ones_((m := t.nn.ConvTranspose2d(2, 1, 3, 2, bias=False).double()).weight)
        is None or m(x, output_size=(14, 15)),
        IMAGE,
    ),
    "padding_mode": (
        lambda t, F, x: t.nn.init.ones_((m := t.nn.Conv2d(2, 1, 3, padding=1, padding_mode="reflect", bias=False)
                                         .double()).weight) is None or m(x),
        IMAGE,
    ),
    "max_pool1d": (lambda t, F, x: F.max_pool1d(x, 3, 2), SEQUENCE),
    "max_pool2d": (lambda t, F, x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True), IMAGE),
    "max_pool2d with indices": (lambda t, F, x: F.max_pool2d(x, 2, return_indices=True)[1] * x.sum(), IMAGE),
    "avg_pool1d": (lambda t, F, x: F.avg_pool1d(x, 2), SEQUENCE),
    "avg_pool2d": (lambda t, F, x: F.avg_pool2d(x, 2, padding=1, count_include_pad=False), IMAGE),
    "adaptive_avg_pool1d": (lambda t, F, x: F.adaptive_avg_pool1d(x, 4), SEQUENCE),
    "adaptive_avg_pool2d": (lambda t, F, x: t.nn.AdaptiveAvgPool2d(1)(x), IMAGE),
    "adaptive_max_pool2d": (lambda t, F, x: F.adaptive_max_pool2d(x, (4, 3)), IMAGE),
    "LazyConv2d": (lambda t, F, x: x.sum() * t.nn.LazyConv2d(3, 3).double()(x).ndim, IMAGE),
    "InstanceNorm1d": (lambda t, F, x: t.nn.InstanceNorm1d(2, affine=True).double()(x) * x, SEQUENCE),
    "InstanceNorm2d": (lambda t, F, x: t.nn.InstanceNorm2d(2).double()(x) * x, IMAGE),
    "repeat by name": (lambda t, F, x: x.repeat(repeats=(2, 1, 3)), SEQUENCE),
    "rrelu": (lambda t, F, x: F.rrelu(x, 0.2, 0.6) + t.rrelu(x) + t.nn.RReLU().eval()(x), ROWS),
    "pdist": (lambda t, F, x: F.pdist(x) + t.pdist(x, 3) + F.pdist(x, p=float("inf")), ROWS),
    "pdist of equal rows": (lambda t, F, x: F.pdist(t.stack((x[0], x[1], x[0]))), ROWS),
    "multilabel_margin_loss": (
        lambda t, F, x: F.multilabel_margin_loss(x, t.tensor(LABELS), reduction="none"),
        RNG.standard_normal((3, 4)),
    ),
    "MultiLabelMarginLoss": (
        lambda t, F, x: t.nn.MultiLabelMarginLoss()(x, t.tensor(LABELS[0])),
        RNG.standard_normal(4),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_pytorchs(name: str) -> None:
    torch = pytest.importorskip("torch")
    function, values = CASES[name]
    found = []
    for library in (fnn, torch):
        x = library.tensor(values, requires_grad=True)
        y = function(library, library.nn.functional, x)
        (y * y).sum().backward()
        found.append((y.detach().numpy(), np.asarray(x.grad)))
    for got, expected in zip(*found, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)


def test_slopes_of_rrelu_are_drawn_from_their_range_for_each_entry() -> None:
    fnn.manual_seed(0)
    slopes = fnn.nn.RReLU(0.25, 0.75)(fnn.full((4000,), -1.0)).neg().numpy()
    assert 0.25 <= slopes.min() < 0.26
    assert 0.74 < slopes.max() < 0.75
    assert abs(slopes.mean() - 0.5) < 0.01
    assert (fnn.nn.RReLU()(fnn.ones(3)) == 1).all()


def test_a_tensor_of_a_size_has_that_shape() -> None:
    assert fnn.Tensor(fnn.ones(2, 3).size()).shape == (2, 3)
    assert fnn.Tensor((2, 3)).tolist() == [2.0, 3.0]


def test_one_sample_is_compiled() -> None:
    model = fnn.nn.Sequential(fnn.nn.Conv2d(2, 3, 3), fnn.nn.ReLU(), fnn.nn.MaxPool2d(2), fnn.nn.Flatten(0))
    x = IMAGE.astype(np.float32)
    expected = model(x).detach().numpy()
    np.testing.assert_allclose(fnn.compile(model)(x), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(expected, model[:3](x[None]).detach().numpy().ravel())


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: fnn.pdist(SEQUENCE[0]), ShapeError, r"pdist: expected rows \(N, D\), got \(9,\)"),
        (lambda: fnn.rrelu(ROWS, 0.5, 0.25), ArgumentError, "lower of at most upper"),
        (lambda: fnn.nn.functional.multilabel_margin_loss(ROWS, LABELS), ShapeError, "targets of that shape"),
        (lambda: fnn.nn.functional.multilabel_margin_loss(ROWS, ROWS), DTypeError, "expected targets to be integers"),
        (lambda: fnn.nn.functional.conv2d(SEQUENCE, fnn.tensor(W2)), ShapeError, r"shape \(N, C, H, W\), got \(2, 9\)"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()
