"""Functions that few programs use, beside PyTorch's in float64: values, gradients, edges; and in compiled plans."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastnn as fnn
import fastnn.nn.functional as F
from fastnn import nn, optim
from fastnn.errors import ArgumentError, DTypeError, ShapeError

RNG = np.random.default_rng(7)
A, IMAGES, ABOVE = RNG.normal(size=(3, 6)), RNG.normal(size=(2, 3, 5, 6)), RNG.uniform(1.2, 9, (2, 4))
TIMES, SHARES, PLACES = np.array([1, 2, 0, 1, 3, 1]), RNG.uniform(0.1, 1, 6), np.sort(RNG.uniform(size=6))


def unpooled(t: Any, f: Any, x: Any, *options: Any, size: Any = None) -> Any:
    y, places = f.max_pool2d(x, *options, return_indices=True)
    return f.max_unpool2d(y * y, places, *options, output_size=size)


# Each of the package `t`, its functional module `f` and tensors.
CASES: dict[str, tuple[Any, ...]] = {
    "cov": (lambda t, f, x: t.cov(x) + x.cov(correction=0) * x[0].cov(), A),
    "cov, weighted": (
        lambda t, f, x: t.cov(x, fweights=t.tensor(TIMES)) + t.cov(x, correction=2, aweights=t.tensor(SHARES)), A,
    ),
    "cov, doubly weighted": (
        lambda t, f, x: t.cov(x, fweights=t.tensor(TIMES), aweights=t.tensor(SHARES)), A,
    ),
    "corrcoef": (lambda t, f, x: t.corrcoef(x) ** 2 + x[1].corrcoef(), A),
    "gradient": (lambda t, f, x: sum((t.gradient(x), *t.gradient(x, dim=-1, spacing=0.3)), start=()), A),
    "gradient, at places": (
        lambda t, f, x: sum(t.gradient(x, dim=1, spacing=(t.tensor(PLACES),), edge_order=e)[0] for e in (1, 2)), A,
    ),
    "gradient, second order": (lambda t, f, x: sum(t.gradient(x, spacing=[2.0, 0.5], edge_order=2)), A),
    "polygamma": (lambda t, f, x: t.polygamma(2, x) + x.polygamma(0) + t.special.polygamma(1, x), ABOVE),
    "mvlgamma": (lambda t, f, x: t.mvlgamma(x, 2) + x.mvlgamma(3), ABOVE),
    "ndtri": (lambda t, f, x: t.special.ndtri(x / 10), ABOVE),
    "max_unpool": (lambda t, f, x: unpooled(t, f, x, 2), IMAGES),
    "max_unpool, of a size": (lambda t, f, x: unpooled(t, f, x, (3, 2), 2, 1, size=(2, 3, 5, 6)), IMAGES),
    "max_unpool, one sample": (lambda t, f, x: unpooled(t, f, x[0], 2, size=[5, 6]), IMAGES),
    "max_unpool1d": (
        lambda t, f, x: f.max_unpool1d(*f.max_pool1d(x[:, :, 0], 2, 2, return_indices=True), 2, 2), IMAGES,
    ),
    "triplets": (
        lambda t, f, x, y: f.triplet_margin_with_distance_loss(
            x, y, x * y, distance_function=lambda a, b: 1 - f.cosine_similarity(a, b), margin=0.5, swap=True
        ) + f.triplet_margin_with_distance_loss(x, y, -y, reduction="sum"),
        A, A[::-1].copy(),
    ),
}  # fmt: skip
CASES["gradient"] = (lambda t, f, x: sum(t.gradient(x)) * t.gradient(x, dim=-1, spacing=0.3)[0], A)


@pytest.mark.filterwarnings("ignore:.*Length of all-zero")
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_pytorchs(name: str) -> None:
    torch = pytest.importorskip("torch")
    call, *arrays = CASES[name]
    found = []
    for t, f in ((fnn, F), (torch, torch.nn.functional)):
        inputs = [t.tensor(x, requires_grad=True) for x in arrays]
        y = call(t, f, *inputs)
        (y * y).sum().backward()
        found.append([y.detach().numpy(), *(np.asarray(x.grad) for x in inputs)])
    bound = 1e-7 if "gamma" in name else 1e-10  # PyTorch's derivatives of digamma are no better
    for mine, theirs in zip(*found, strict=True):
        assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)
        np.testing.assert_allclose(mine, theirs, rtol=bound, atol=bound)


def test_without_gradients_they_are_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    whole, small = np.array([[5, 0], [-9, 7]]), np.array([5, 0, 200], np.uint8)
    calls: list[Any] = [
        lambda t: t.logspace(-2, 1, 5), lambda t: t.logspace(0, 3, 4, base=2), lambda t: t.logspace(1, 1, 0),
        lambda t: t.tensor(whole) << 2, lambda t: t.tensor(whole) >> 1,
        lambda t: t.bitwise_left_shift(t.tensor(small), 1),
        lambda t: t.tensor(whole).bitwise_right_shift(t.tensor([1, 3])), lambda t: 1 << t.tensor([0, 4]),
        lambda t: t.unravel_index(t.tensor([[5, 11]]), (3, 4))[0], lambda t: t.unravel_index(t.tensor(7), (2, 2, 2))[2],
        lambda t: t.tensor(whole).reshape_as(t.ones(4)), lambda t: t.tensor(whole)[:, t.newaxis],
        lambda t: t.tensor([2.0, 3.0]).apply_(lambda x: x * x), lambda t: t.tensor(whole).unique_consecutive(),
        lambda t: t.unique_consecutive(t.tensor([[1, 1, 2], [3, 3, 2]]), True, True, -1)[0],
        lambda t: t.unique_consecutive(t.tensor([[1, 1, 2], [3, 3, 2]]), True, True, dim=1)[1],
        lambda t: t.unique_consecutive(t.tensor([[1, 1, 2], [3, 3, 2]]), True, True, 0)[2],
        lambda t: t.tensor([-1.0, 2.0]).prelu(t.tensor([0.3])), lambda t: t.tensor([1.5]).numpy(force=True),
        lambda t: t.cov(t.tensor(whole)), lambda t: t.tensor([2.0], dtype=t.float64).float_power_(2),
    ]  # fmt: skip
    for i, call in enumerate(calls):
        mine, theirs = np.asarray(call(fnn)), np.asarray(call(torch))
        assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype), i
        np.testing.assert_allclose(mine, theirs, rtol=1e-6, err_msg=str(i))
    for t in (fnn, torch):
        x = t.zeros(2, 3)
        assert (x.is_cpu, x.nbytes, x.itemsize, x.is_signed(), t.is_signed(t.tensor(small))) == (
            True,
            24,
            4,
            True,
            False,
        )
        assert t.get_float32_matmul_precision() == "highest"
        t.set_flush_denormal(False)


def test_activations_in_place_are_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    for name, args in (("elu_", ()), ("leaky_relu_", (0.1,)), ("hardtanh_", (-0.5, 0.5)), ("selu_", ()),
                       ("celu_", (0.7,)), ("threshold_", (0.1, 3.0)), ("relu_", ())):  # fmt: skip
        x, t = fnn.tensor(A), torch.tensor(A)
        assert getattr(F, name)(x, *args) is x
        getattr(torch.nn.functional, name)(t, *args)
        np.testing.assert_allclose(x.numpy(), t.numpy(), rtol=1e-12, err_msg=name)


@pytest.mark.parametrize(
    ("kind", "words", "call"),
    [
        (DTypeError, "bitwise_left_shift: expected integers", lambda: fnn.tensor([True]) << 1),
        (ShapeError, r"cov: expected variables \(V, N\)", lambda: fnn.cov(IMAGES)),
        (ShapeError, "gradient: expected a spacing for each of 2", lambda: fnn.gradient(A, spacing=[1.0])),
        (ShapeError, "of more than 2 entries", lambda: fnn.gradient([1.0, 2.0], edge_order=2)),
        (ArgumentError, "polygamma: expected n", lambda: fnn.polygamma(-1, A)),
        (ShapeError, "max_unpool2d: expected input and indices of one", lambda: F.max_unpool2d(IMAGES, IMAGES[0], 2)),
        (ShapeError, r"output_size within a stride of \(10, 12\)",
         lambda: F.max_unpool2d(IMAGES, np.zeros(IMAGES.shape, int), 2, output_size=(12, 12))),
        (ArgumentError, "init: expected generator=fnn.Gen", lambda: nn.init.normal_(nn.Parameter(A), generator=3)),
    ],
)  # fmt: skip
def test_bad_input(kind: type[Exception], words: str, call: Any) -> None:
    with pytest.raises(kind, match=words):
        call()


def test_initialisers_take_generators() -> None:
    for name, args in (("normal_", ()), ("uniform_", ()), ("orthogonal_", ()), ("trunc_normal_", ()),
                       ("sparse_", (0.3,)), ("kaiming_uniform_", ()), ("xavier_normal_", ())):  # fmt: skip
        fill = getattr(nn.init, name)
        fnn.manual_seed(1)
        before = fnn.get_rng_state()
        first, second, other = (
            fill(nn.Parameter(np.ones((4, 3))), *args, generator=fnn.Generator().manual_seed(seed)).tolist()
            for seed in (5, 5, 6)
        )
        assert first == second != other
        assert fnn.get_rng_state() == before


@pytest.mark.parametrize("pct_start", [0.3, 0.5, 0.41])
def test_one_cycle_in_three_phases_is_pytorchs(pct_start: float) -> None:
    torch = pytest.importorskip("torch")
    found = []
    for package, p in ((optim, nn.Parameter([1.0])), (torch.optim, torch.nn.Parameter(torch.ones(1)))):
        opt = package.SGD([p], lr=0.1, momentum=0.9)
        schedule = package.lr_scheduler.OneCycleLR(opt, 0.5, 11, pct_start=pct_start, three_phase=True)
        rates = []
        for _ in range(10):
            opt.step()
            schedule.step()
            rates += [*schedule.get_last_lr(), opt.param_groups[0]["momentum"]]
        found.append(rates)
    np.testing.assert_allclose(*found, rtol=1e-10)


class SegNet(nn.Module):
    """Pools and puts back, as its decoder does."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 1, 3, padding=1)
        self.pool, self.unpool = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)

    def forward(self, x: Any) -> Any:
        y, places = self.pool(self.first(x).relu())
        return self.last(self.unpool(y, places, output_size=x.size()))


def test_layers_in_compiled_steps() -> None:
    x = RNG.normal(size=(2, 1, 6, 6)).astype(np.float32)
    fnn.manual_seed(0)
    model = SegNet()
    loss = nn.MSELoss()(model(x), fnn.tensor(x))
    loss.backward()
    expected = [np.array(p.grad) for p in model.parameters()]
    model.zero_grad()
    assert fnn.compile(model, nn.MSELoss())(x, x) == pytest.approx(loss.item(), rel=1e-6)
    for p, grad in zip(model.parameters(), expected, strict=True):
        np.testing.assert_allclose(p.grad, grad, rtol=1e-4, atol=1e-6)
    assert repr(model.unpool) == "MaxUnpool2d(kernel_size=(2, 2), stride=(2, 2), padding=(0, 0))"
    triplets = nn.TripletMarginWithDistanceLoss(distance_function=nn.PairwiseDistance(), margin=0.7)
    expected_loss = nn.TripletMarginLoss(margin=0.7)(A, A + 1, A * 2)
    assert triplets(A, A + 1, A * 2).item() == pytest.approx(expected_loss.item())


def test_edges_of_the_functions_above() -> None:
    assert fnn.unique_consecutive(fnn.zeros(0)).shape == (0,)
    with pytest.raises(ShapeError, match="gradient: expected 3 coordinates, got"):
        fnn.gradient(fnn.tensor([0.0, 1.0, 4.0]), spacing=[fnn.tensor([0.0, 2.0])])
    layer = nn.InstanceNorm1d(2, track_running_stats=True)
    statistics = layer.running_mean
    layer(fnn.randn(3, 2, 5))
    assert layer.running_mean is statistics
    assert np.abs(statistics).max() > 0
    layer.reset_running_stats()
    assert np.abs(statistics).max() == 0
