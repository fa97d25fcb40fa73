"""CTC, grid_sample, affine_grid and local_response_norm: values and gradients as PyTorch's in float64, and compiled."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
import fastnn.nn.functional as F
from fastnn import nn, optim
from fastnn.errors import ArgumentError, DTypeError, FastnnError, LabelError, ShapeError

RNG = np.random.default_rng(11)


def compare(call: Callable[..., Any], *arrays: Any) -> None:
    """`call` is given the package, its functional, and a tensor for each array."""
    torch = pytest.importorskip("torch")
    mine = [fnn.Tensor(x.copy(), requires_grad=True) for x in arrays]
    theirs = [torch.tensor(x, requires_grad=True) for x in arrays]
    found, expected = call(fnn, F, *mine), call(torch, torch.nn.functional, *theirs)
    np.testing.assert_allclose(found.data, expected.detach().numpy(), rtol=1e-10, atol=1e-12)
    weights = RNG.normal(size=found.shape)
    found.backward(weights)
    expected.backward(torch.tensor(weights))
    for x, y in zip(mine, theirs, strict=True):
        assert x.grad is not None
        np.testing.assert_allclose(x.grad, y.grad.numpy(), rtol=1e-9, atol=1e-11)


# ---- connectionist temporal classification ---------------------------------------------------------------------------

STEPS = RNG.normal(size=(7, 4, 5))
LABELS = np.array([[1, 2, 2], [3, 3, 9], [4, 9, 9], [9, 9, 9]])  # 9 stands behind the length
LENGTHS, COUNTS = [7, 5, 7, 3], [3, 2, 1, 0]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("joined", [False, True])
def test_ctc_loss_is_pytorchs(reduction: str, joined: bool) -> None:
    labels = np.concatenate([row[:n] for row, n in zip(LABELS, COUNTS, strict=True)]) if joined else LABELS

    def call(t: Any, functional: Any, x: Any) -> Any:
        return functional.ctc_loss(
            x.log_softmax(2), t.tensor(labels), t.tensor(LENGTHS), t.tensor(COUNTS), 0, reduction
        )

    compare(call, STEPS)


def test_ctc_loss_in_other_forms() -> None:
    compare(lambda t, f, x: f.ctc_loss(x.log_softmax(1), t.tensor([1, 1, 3]), t.tensor(6), t.tensor(3)), STEPS[:, 0])
    compare(lambda t, f, x: f.ctc_loss(x.log_softmax(2), t.tensor(LABELS % 4), (7,) * 4, (3, 2, 1, 3), blank=4), STEPS)
    compare(lambda t, f, x: f.ctc_loss(x, t.tensor(LABELS), LENGTHS, COUNTS), np.log(np.full(STEPS.shape, 0.2)))


def test_ctc_loss_of_too_few_steps() -> None:
    def call(t: Any, functional: Any, x: Any) -> Any:
        return functional.ctc_loss(
            x.log_softmax(2), t.tensor(LABELS), t.tensor([3, 5, 1, 3]), t.tensor(COUNTS), zero_infinity=True
        )

    compare(call, STEPS)  # the first row needs 4 steps, for two labels that are the same
    x = fnn.Tensor(STEPS, requires_grad=True)
    loss = F.ctc_loss(x.log_softmax(2), LABELS, [3, 5, 1, 3], COUNTS, reduction="none")
    assert np.isinf(loss.data).tolist() == [True, False, False, False]


def test_ctc_loss_is_the_sum_over_all_paths() -> None:
    """By hand: every path of four steps and three classes that reads 1, 2 once blanks and repetitions are gone."""
    logs = STEPS[:4, :1, :3] - np.log(np.exp(STEPS[:4, :1, :3]).sum(2, keepdims=True))
    total = 0.0
    for path in itertools.product(range(3), repeat=4):
        read = [c for i, c in enumerate(path) if c and (i == 0 or path[i - 1] != c)]
        total += np.exp(sum(logs[t, 0, c] for t, c in enumerate(path))) if read == [1, 2] else 0
    loss = F.ctc_loss(logs, [[1, 2]], [4], [2], reduction="sum")
    np.testing.assert_allclose(loss.item(), -np.log(total), rtol=1e-12)


def test_ctc_loss_trains_compiled_as_eagerly() -> None:
    x, y = STEPS.astype(np.float32).transpose(1, 0, 2), np.maximum(LABELS % 9, 1)
    loss_fn = nn.CTCLoss()

    def loss(out: fnn.Tensor, targets: Any) -> fnn.Tensor:
        return loss_fn(out.transpose(0, 1).log_softmax(2), targets, [7] * 4, COUNTS)

    found = []
    for compiled in (True, False):
        fnn.manual_seed(0)
        model = nn.Linear(5, 5)
        optimizer = optim.SGD(model.parameters(), lr=0.5)
        step = fnn.compile(model, loss, optimizer) if compiled else None
        losses = []
        for _ in range(3):
            if step is not None:
                losses.append(step(x, y))
                continue
            optimizer.zero_grad()
            value = loss(model(x), y)
            value.backward()
            optimizer.step()
            losses.append(value.item())
        found.append(losses)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)
    assert found[0][-1] < found[0][0]


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        ((STEPS, LABELS, [8] * 4, COUNTS), ShapeError, "input_lengths from 0 to 7"),
        ((STEPS, LABELS, LENGTHS, [4, 1, 1, 1]), ShapeError, "target_lengths from 0 to 3"),
        ((STEPS, LABELS, LENGTHS, [3, 3, 1, 1]), LabelError, "labels from 0 to 4, got 1 to 9"),
        ((STEPS, LABELS[:3], LENGTHS, COUNTS), ShapeError, "targets of 4 rows"),
        ((STEPS, [1, 2], LENGTHS, COUNTS), ShapeError, "target_lengths from 0 to 2"),
        ((STEPS, LABELS * 1.0, LENGTHS, COUNTS), DTypeError, "whole numbers, got float"),
        ((STEPS, LABELS, [7], COUNTS), ShapeError, r"lengths \(N,\)"),
        ((STEPS, LABELS, LENGTHS, COUNTS, 5), ArgumentError, "blank"),
    ],
)
def test_ctc_loss_refuses(args: tuple[Any, ...], error: type[FastnnError], message: str) -> None:
    with pytest.raises(error, match=message):
        F.ctc_loss(*args)


# ---- places ----------------------------------------------------------------------------------------------------------

IMAGES, PLACES = RNG.normal(size=(2, 3, 4, 5)), RNG.uniform(-2.2, 2.2, (2, 3, 6, 2))


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "nearest"])
def test_grid_sample_is_pytorchs(mode: str, padding_mode: str, align_corners: bool) -> None:
    options = {"mode": mode, "padding_mode": padding_mode, "align_corners": align_corners}
    compare(lambda t, f, x, grid: f.grid_sample(x, grid, **options), IMAGES, PLACES)
    compare(lambda t, f, x, grid: f.grid_sample(x[:, :, :1, :1], grid, **options), IMAGES, PLACES)
    compiled = fnn.compile(nn.Sequential(Sampled(options)))
    x = IMAGES.astype(np.float32)
    grid = fnn.Tensor(PLACES.astype(np.float32))
    np.testing.assert_allclose(compiled(x), F.grid_sample(x, grid, **options).data, atol=1e-5)


class Sampled(nn.Module):
    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__()
        self.options = options
        self.grid = nn.Parameter(PLACES.astype(np.float32))

    def forward(self, x: fnn.Tensor) -> fnn.Tensor:
        return F.grid_sample(x, self.grid, **self.options)


@pytest.mark.parametrize("align_corners", [True, False])
def test_affine_grid_is_pytorchs(align_corners: bool) -> None:
    theta = RNG.normal(size=(2, 2, 3))
    for size in ((2, 3, 4, 5), (2, 1, 1, 3)):
        compare(lambda t, f, x, size=size: f.affine_grid(x, size, align_corners=align_corners), theta)
    identity = np.broadcast_to(np.eye(2, 3), (2, 2, 3))
    grid = F.affine_grid(identity, IMAGES.shape, align_corners=align_corners)
    np.testing.assert_allclose(F.grid_sample(IMAGES, grid, align_corners=align_corners).data, IMAGES, atol=1e-12)


def test_a_place_that_is_no_number_is_outside() -> None:
    grid = np.array([[[[np.nan, 0.0], [np.inf, 0.0], [0.0, 0.0]]]])
    with np.errstate(invalid="ignore"):
        assert F.grid_sample(np.ones((1, 1, 3, 3)), grid, "nearest").data.ravel().tolist()[2] == 1


def test_places_are_refused() -> None:
    with pytest.raises(ArgumentError, match="'bilinear', 'bicubic' or 'nearest', got 'cubic'"):
        F.grid_sample(IMAGES, PLACES, "cubic")
    with pytest.raises(ArgumentError, match="padding_mode 'zeros', 'border' or 'reflection'"):
        F.grid_sample(IMAGES, PLACES, padding_mode="edge")
    with pytest.raises(ShapeError, match=r"input \(N, C, H, W\) and grid"):
        F.grid_sample(IMAGES, PLACES[:1])
    with pytest.raises(ShapeError, match=r"theta of shape \(2, 2, 3\)"):
        F.affine_grid(np.zeros((2, 3, 4)), (2, 1, 4, 4))


# ---- local response --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 5, 9])
def test_local_response_norm_is_pytorchs(size: int) -> None:
    compare(lambda t, f, x: f.local_response_norm(x, size, 0.3, 0.6, 1.5), RNG.normal(size=(2, 6, 3, 4)))
    compare(lambda t, f, x: t.nn.LocalResponseNorm(size, 0.1)(x), RNG.normal(size=(2, 6, 3)))
    assert repr(nn.LocalResponseNorm(size)) == f"LocalResponseNorm({size}, alpha=0.0001, beta=0.75, k=1.0)"
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LocalResponseNorm(size, 0.5))
    x = IMAGES.astype(np.float32)
    np.testing.assert_allclose(fnn.compile(model)(x), model.eval()(x).data, atol=1e-6)
    with pytest.raises(ShapeError, match="local_response_norm: expected input"):
        F.local_response_norm(np.ones((2, 3)), 2)
