"""Where reductions and their kin meet nothing, NaN, infinities and ties: by PyTorch, or by the limit in float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn
from fastnn.errors import ShapeError

torch = pytest.importorskip("torch")
NAN, INF = math.nan, math.inf


def both(call: Any, *arrays: Any) -> None:
    """The same values and gradients from both libraries; values from a compiled model, too."""
    ours = [fnn.tensor(each, requires_grad=each.dtype.kind == "f") for each in arrays]
    theirs = [torch.tensor(each, requires_grad=each.dtype.kind == "f") for each in arrays]
    found, expected = call(fnn, *ours), call(torch, *theirs)
    np.testing.assert_allclose(found.detach().numpy(), expected.detach().numpy(), rtol=1e-5, atol=1e-7)
    if expected.requires_grad:
        (found * 1.5).sum().backward()
        (expected * 1.5).sum().backward()
        for a, b in zip(ours, theirs, strict=True):
            if b.grad is not None:
                np.testing.assert_allclose(a.grad, b.grad.numpy(), rtol=1e-5, atol=1e-7)

    class Model(nn.Module):
        def forward(self, *inputs: Any) -> Any:
            return call(fnn, *inputs)

    if len(arrays[0]):
        np.testing.assert_allclose(fnn.compile(Model())(*arrays), expected.detach().numpy(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("shape", [(0, 3), (0, 2, 4), (2, 0, 3)])
@pytest.mark.parametrize("name", ["max", "min", "amax", "argmax", "argmin", "median", "mode", "aminmax", "logsumexp"])
def test_a_batch_of_none_is_reduced_over_what_has_entries(name: str, shape: tuple[int, ...]) -> None:
    x = np.zeros(shape, np.float32)
    found, expected = (getattr(each, name)(to(x), dim=-1) for each, to in ((fnn, fnn.tensor), (torch, torch.tensor)))
    found, expected = ((each if isinstance(each, tuple) else (each,)) for each in (found, expected))
    assert [each.shape for each in found] == [tuple(each.shape) for each in expected]
    assert [str(each.dtype) for each in found] == [str(each.dtype).removeprefix("torch.") for each in expected]
    if name != "logsumexp":
        with pytest.raises(ShapeError, match="at least one entry"):
            getattr(fnn, name)(fnn.tensor(np.zeros((3, 0), np.float32)), dim=1)


def test_the_logarithm_of_an_empty_sum() -> None:
    assert fnn.logsumexp(np.zeros((2, 0), np.float32), 1).tolist() == [-INF, -INF]


@pytest.mark.parametrize("name", ["median", "nanmedian", "max", "min"])
def test_equals_share_the_gradient_of_the_whole(name: str) -> None:
    both(lambda lib, x: getattr(lib, name)(x), np.array([[2, 1, 2], [2, 3, 1], [1, 3, 3]], np.float32))


@pytest.mark.parametrize("q", [0.0, 0.25, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("interpolation", ["linear", "lower", "higher", "midpoint", "nearest"])
def test_a_quantile_of_nan_is_nan(interpolation: str, q: float) -> None:
    x = np.array([[3, NAN, 1, 2], [4, 2, 1, 3]], np.float32)
    both(lambda lib, x: lib.quantile(x, q, dim=1, interpolation=interpolation), x)
    assert math.isnan(fnn.quantile(x, q).item())


@pytest.mark.parametrize("interpolation", ["lower", "higher", "nearest"])
def test_a_quantile_is_one_of_the_entries_infinite_ones_too(interpolation: str) -> None:
    for entries in ([1, INF], [-INF, 1, 2], [-INF, INF], [INF, INF, INF]):
        for q in (0.0, 0.2, 0.5, 0.8, 1.0):
            x = np.array(entries, np.float32)
            both(lambda lib, x, q=q: lib.quantile(x, q, interpolation=interpolation), x)


def test_a_bound_that_is_nan_makes_nan() -> None:
    x = np.array([-2, 0.5, 2, 0.25], np.float32)
    low, high = np.array([NAN, 0, NAN, 0], np.float32), np.array([1, NAN, 1, 1], np.float32)
    both(lambda lib, x: lib.clamp(x, *((torch.tensor if lib is torch else fnn.tensor)(b) for b in (low, high))), x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_slope_of_sinc_near_nothing(dtype: Any) -> None:
    """-π²x/3 + π⁴x³/30 there; it was a small difference of large numbers, 2 % off at 1e-4."""
    x = np.array([1e-30, 1e-8, 1e-5, 1e-4, 1e-3, -0.01, 0.03, 0.079, 0.081, 0.4], dtype)
    given = fnn.tensor(x, requires_grad=True)
    fnn.sinc(given).sum().backward()
    a = x.astype(np.float64) * np.pi
    series = np.pi * (-a / 3 + a**3 / 30 - a**5 / 840 + a**7 / 45360)
    closed = np.pi * (np.cos(a) / a - np.sin(a) / a**2)
    expected = np.where(np.abs(a) < 0.3, series, closed)
    np.testing.assert_allclose(given.grad, expected, rtol=2e-5 if dtype is np.float32 else 1e-10)


def test_attention_where_a_mask_allows_nothing_is_nothing() -> None:
    """As in PyTorch; it was NaN, and its gradient with it."""
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((2, 3, n, 4)).astype(np.float32) for n in (4, 5, 5))
    of_samples = np.array([[True] * 5, [False] * 5])[:, None, None]  # one that is padding alone
    mask = rng.random((2, 1, 4, 5)) > 0.3
    mask[0, 0, 1] = False
    for each in (of_samples, mask, np.where(mask, 0, -INF).astype(np.float32)):

        def attend(lib: Any, q: Any, k: Any, v: Any, m: Any) -> Any:
            place = torch.nn.functional if lib is torch else nn.functional
            return place.scaled_dot_product_attention(q, k, v, attn_mask=m)

        if each.dtype == bool:
            both(attend, q, k, v, each)
        both(lambda lib, *a, m=each: attend(lib, *a, (torch.tensor if lib is torch else fnn.tensor)(m)), q, k, v)


class OfOne(nn.Module):
    """A model whose forward is a function."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(x)


def test_plans_return_several_numbers() -> None:
    x = np.array([[1.0, -2.0], [3.0, 4.0]], np.float32)
    low, high = fnn.compile(OfOne(lambda x: fnn.aminmax(x * 2)))(x)
    assert (float(low), float(high)) == (-4, 8)
    total, mean = fnn.compile(OfOne(lambda x: (x.sum(), x.mean())))(x)
    assert (float(total), float(mean)) == (6, 1.5)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x // 3, lambda x: x // -0.5, lambda x: fnn.div(x, 3, rounding_mode="trunc"), lambda x: 7 // x,
        lambda x: fnn.eq(3, x).float(), lambda x: fnn.lt(1, x).float(), lambda x: fnn.ge(1, x).float(),
    ],
)  # fmt: skip
def test_plans_and_pytorch_take_a_number_on_the_left_and_floors(function: Any) -> None:
    x = np.array([[1, -2.5, 7], [3, 4, 0.5]], np.float32)
    model = OfOne(function)
    expected = function(fnn.tensor(x)).numpy()
    np.testing.assert_array_equal(fnn.compile(model)(x), expected)
    np.testing.assert_array_equal(fnn.to_torch(model, (3,))(torch.tensor(x)).numpy(), expected)


@pytest.mark.parametrize("name", ["median", "nanmedian", "mode", "max", "min"])
def test_to_torch_finds_what_the_model_finds(name: str) -> None:
    """It was the smallest for whatever is found by sorting, without a word."""
    x = np.array([[3, 1, 1, 2, 5], [4, 4, 2, 9, 0]], np.float32)
    for part in (0, 1):
        model = OfOne(lambda x, part=part: getattr(fnn, name)(x, 1)[part])
        found = fnn.to_torch(model, (5,))(torch.tensor(x))
        expected = getattr(torch, name)(torch.tensor(x), 1)[part]
        if part == 0 or name in ("max", "min"):  # of equal entries PyTorch may point at another
            np.testing.assert_array_equal(found.numpy(), expected.numpy())


@pytest.mark.parametrize("options", [{"padding": 1}, {"padding": 1, "dilation": 2}, {"padding": 1, "ceil_mode": True}])
def test_padding_is_no_maximum_of_minus_infinity(options: Any) -> None:
    """It was: places of -5 and the like, and gradients that went nowhere."""
    x = np.full((1, 1, 5, 5), -np.inf, np.float32)
    x[0, 0, 4, 4] = 2
    ours, theirs = fnn.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    found = fnn.nn.functional.max_pool2d(ours, 3, 2, return_indices=True, **options)
    expected = torch.nn.functional.max_pool2d(theirs, 3, 2, return_indices=True, **options)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())
    found[0].sum().backward()
    expected[0].sum().backward()
    np.testing.assert_array_equal(ours.grad, theirs.grad.numpy())


def test_values_with_nan_and_membership() -> None:
    x = np.array([2.0, NAN, 1.0, NAN, 2.0], np.float32)
    ours = fnn.unique(fnn.tensor(x), return_inverse=True, return_counts=True)
    theirs = torch.unique(torch.tensor(x), return_inverse=True, return_counts=True)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    for table in (fnn.tensor([[1.0, 2.0], [3.0, NAN]]), torch.tensor([[1.0, 2.0], [3.0, NAN]])):
        assert [value in table for value in (3.0, 4, NAN)] == [True, False, False]


def test_the_angle_of_the_origin_has_a_gradient_of_none() -> None:
    """It was NaN, in compiled steps, too."""
    a, b = np.array([[0, 0, -0.0, 1, -3]], np.float32), np.array([[0, 2, -0.0, 0, 2]], np.float32)
    both(lambda lib, a, b: lib.atan2(a, b), a, b)
    model = nn.Linear(1, 5, bias=False)
    model.weight.data = fnn.tensor(a.T)
    step = fnn.compile(model, lambda x, y: fnn.atan2(x, y).sum(), fnn.optim.SGD(model.parameters(), 1.0))
    step(np.ones((1, 1), np.float32), b)
    x = torch.tensor(a, requires_grad=True)
    torch.atan2(x, torch.tensor(b)).sum().backward()
    np.testing.assert_allclose(model.weight.detach().numpy().T, (x - x.grad).detach().numpy(), rtol=1e-6)


@pytest.mark.parametrize(
    ("norm", "shape"),
    [(nn.LayerNorm(3), (0, 3)), (nn.LayerNorm((2, 3)), (4, 0, 2, 3)), (nn.RMSNorm(3), (0, 2, 3)),
     (nn.GroupNorm(2, 4), (0, 4, 3)), (nn.GroupNorm(2, 4), (0, 4)), (nn.InstanceNorm1d(3, affine=True), (0, 3, 5))],
)  # fmt: skip
def test_norms_of_no_samples_stay_on_the_tape(norm: Any, shape: tuple[int, ...]) -> None:
    """They gave their input back: `backward()` failed, or parameters were left without gradients, which decay skips.
    A sum over no samples is 0."""
    y = norm(fnn.zeros(shape))
    assert tuple(y.shape) == shape
    y.sum().backward()
    for parameter in norm.parameters():
        np.testing.assert_array_equal(parameter.grad.numpy(), np.zeros(parameter.shape))


@pytest.mark.parametrize("size", [10, 40_000])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize(
    "call", [lambda x: x + x, lambda x: x - (-x), lambda x: x * x, lambda x: x / (x - x), lambda x: fnn.exp(x)]
)
def test_errors_that_numpy_is_asked_for_come_at_every_size(call: Any, kind: Any, size: int) -> None:
    """Large arrays, which kernels compute, had none."""
    x = fnn.tensor(np.full(size, np.finfo(kind).max, kind))
    with np.errstate(all="raise"), pytest.raises(FloatingPointError):
        call(x)
    with np.errstate(all="ignore"):
        assert not np.isfinite(call(x).numpy()).any()
