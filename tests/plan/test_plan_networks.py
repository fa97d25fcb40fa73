"""Compiled steps give the gradients that float64 gives: random networks, exact integers, every fusion switched off."""

from __future__ import annotations

from functools import partial

import numpy as np
import plan_networks as networks
import pytest
import torch_twins
from plan_networks import BATCHES, CLASSES, EXACT, ISAS, LOSSES, NATIVE, WINOGRAD, running_on

import fastnn as fnn
from fastnn import nn

SEEDS = range(60)


def drawn(seed: int) -> tuple[list[networks.Layer], tuple[int, ...], bool]:
    """The network of this seed; the seeds take the sizes of batches in turn."""
    return networks.random_plan_network(np.random.default_rng(seed), BATCHES[seed % len(BATCHES)])


def errors_of_torch(
    model: nn.Module, layers: list[networks.Layer], loss: networks.Layer, x: np.ndarray, y: np.ndarray
) -> dict[str, float]:
    twin = torch_twins.build(layers, pytest.importorskip("torch").nn)
    torch_twins.copy_weights(model, twin)
    return networks.errors_of_torch(twin, loss, x, y)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_networks_give_the_gradients_of_float64(seed: int) -> None:
    """Within 1e-5 of each one's largest entry, 1e-4 with Winograd, or 3 times the error of PyTorch's float32."""
    rng = np.random.default_rng(seed)
    fnn.manual_seed(seed)
    layers, shape, uint8 = drawn(seed)
    model = torch_twins.build(layers, nn)
    if seed % 3 == 0:
        networks.kill_some_units(model)
    loss = LOSSES[seed % len(LOSSES)]
    loss_fn = getattr(nn, loss[0])(**loss[1])
    x, y = networks.draw_batch(rng, shape, uint8, seed % len(LOSSES))
    exact = networks.exact_gradients(model, loss_fn, x, y)
    winograd = any(options.get("kernel_size") in ((3, 3), (5, 5)) for _, options in layers)
    with running_on(ISAS[seed % len(ISAS)], threads=1 + seed % 2):
        for without in (False, True) if winograd else (False,):
            found = networks.compiled_gradients(model, loss_fn, x, y, exact=without)
            bound = WINOGRAD if winograd and not without else EXACT
            excuse = partial(errors_of_torch, model, layers, loss, x, y)
            networks.assert_close(found, exact, bound, excuse)


def test_random_networks_hold_everything() -> None:
    """The comparison above means something only if all these were drawn."""
    all_layers = [drawn(seed)[0] for seed in SEEDS]
    names = {name for layers in all_layers for name, _ in layers}
    assert names >= {
        "Conv2d", "Linear", "MaxPool2d", "AvgPool2d", "AdaptiveAvgPool2d", "ReLU", "SiLU", "Tanh", "BatchNorm2d",
        "BatchNorm1d", "Normalize", "Dropout", "Flatten",
    }  # fmt: skip
    pools = [options for layers in all_layers for name, options in layers if name == "MaxPool2d"]
    assert any(pool["stride"] < pool["kernel_size"] for pool in pools)
    assert any(pool["stride"] == pool["kernel_size"] == 3 for pool in pools)
    convolutions = [options for layers in all_layers for name, options in layers if name == "Conv2d"]
    assert any(options["stride"] != (1, 1) for options in convolutions)
    assert any(options["kernel_size"] == (3, 3) for options in convolutions)
    assert {drawn(seed)[2] for seed in SEEDS} == {False, True}
    assert any(sum(name == "Conv2d" for name, _ in layers) == 3 for layers in all_layers)
    if NATIVE:
        assert {ISAS[seed % len(ISAS)] for seed in SEEDS} == set(ISAS)


class Integers(nn.Module):
    """A chain whose weights are small integers: every sum is exact in float32, in whatever order it is made."""

    def __init__(self, channels: int, pool: int, relu_first: bool) -> None:
        super().__init__()
        rng = np.random.default_rng(channels)
        self.first, self.second = nn.Conv2d(1, channels, 3, padding=1), nn.Conv2d(channels, 5, (2, 3))
        self.last = nn.Linear(5 * (11 // pool - 1) * (11 // pool - 2), 3)
        self.pool, self.relu_first = nn.MaxPool2d(pool), relu_first
        for p in self.parameters():
            p.data[...] = rng.integers(-1, 2, p.shape)

    def forward(self, x: fnn.Tensor) -> fnn.Tensor:
        x = self.first(x)
        x = self.pool(x.relu()) if self.relu_first else self.pool(x).relu()
        return self.last(self.second(x).relu().flatten(1))


def weighted(outputs: fnn.Tensor, y: fnn.Tensor) -> fnn.Tensor:
    return (outputs * y).sum()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("channels", [3, 16])
@pytest.mark.parametrize(("pool", "relu_first"), [(2, True), (3, False)], ids=["relu-pool", "pool-relu"])
def test_ties_and_zeros_are_broken_as_in_the_reference(
    pool: int, relu_first: bool, channels: int, isa: str | None
) -> None:
    """Windows of equal values, sums that are exactly zero behind ReLU, windows that do not divide: not one bit off."""
    model = Integers(channels, pool, relu_first)
    rng = np.random.default_rng(0)
    for n in (1, 2, 17, 33):
        x = rng.integers(0, 2, (n, 1, 11, 11)).astype(np.float32)
        y = rng.integers(-1, 2, (n, 3)).astype(np.float32)
        exact = networks.exact_gradients(model, weighted, x, y)
        assert all(np.abs(values).max() < 2**24 for values in exact.values())
        with running_on(isa):
            found = networks.compiled_gradients(model, weighted, x, y, exact=True)
        assert found.keys() == exact.keys()
        for name, values in exact.items():
            np.testing.assert_array_equal(found[name], values, err_msg=f"{name}, batch of {n}")


@pytest.mark.parametrize("network", [networks.lenet, networks.normed, networks.mlp], ids=lambda f: f.__name__)
@pytest.mark.parametrize("disable", [*((name,) for name in fnn.plan.FUSIONS), fnn.plan.FUSIONS], ids="+".join)
def test_without_a_fusion_the_gradients_are_the_same(network, disable: tuple[str, ...], record_property) -> None:
    """Each fusion switched off; `python tests/support/plan_networks.py` prints the error of what stays fused."""
    x, y = networks.batch_for(network, 17)
    exact = networks.exact_gradients(network(), nn.CrossEntropyLoss(), x, y)
    unfused = networks.compiled_gradients(network(), nn.CrossEntropyLoss(), x, y, disable=disable)
    fused = networks.compiled_gradients(network(), nn.CrossEntropyLoss(), x, y)
    record_property("fused", max(networks.errors(fused, exact).values()))
    record_property("unfused", max(networks.errors(unfused, exact).values()))
    networks.assert_close(fused, exact, WINOGRAD)
    networks.assert_close(unfused, exact, EXACT if "winograd" in disable else WINOGRAD)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("n", BATCHES)
def test_every_size_of_batch_on_every_instruction_set(n: int, isa: str | None) -> None:
    for network in (networks.lenet, networks.mlp):
        x, y = networks.batch_for(network, n)
        exact = networks.exact_gradients(network(), nn.CrossEntropyLoss(), x, y)
        with running_on(isa):
            found = networks.compiled_gradients(network(), nn.CrossEntropyLoss(), x, y, exact=True)
        networks.assert_close(found, exact)


class Residual(nn.Module):
    """Values and weights that are used twice: a residual connection, a convolution applied twice, a dense layer too."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again = nn.Conv2d(2, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.wide, self.last = nn.Linear(8 * 9, 8 * 9), nn.Linear(8 * 9, CLASSES)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: fnn.Tensor) -> fnn.Tensor:
        x = self.first(x).relu()
        x = x + self.again(x).relu()
        x = self.pool(self.again(x)).relu().flatten(1)
        return self.last(self.wide(x).relu() + self.wide(x * 0.5).relu() + x)


class TiedAutoencoder(nn.Module):
    """One weight for both directions."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Linear(12, 5)
        self.bias = nn.Parameter(np.zeros(12, np.float32))

    def forward(self, x: fnn.Tensor) -> fnn.Tensor:
        return self.encode(x).relu() @ self.encode.weight + self.bias


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("n", [1, 17, 33])
def test_values_and_weights_that_are_used_twice(n: int, isa: str | None) -> None:
    fnn.manual_seed(0)
    rng = np.random.default_rng(n)
    images = rng.normal(size=(n, 2, 6, 6)).astype(np.float32)
    rows = rng.normal(size=(n, 12)).astype(np.float32)
    for model, loss_fn, x, y in (
        (Residual(), nn.CrossEntropyLoss(), images, rng.integers(0, CLASSES, n)),
        (TiedAutoencoder(), nn.MSELoss(), rows, rows),
    ):
        exact = networks.exact_gradients(model, loss_fn, x, y)
        with running_on(isa):
            networks.assert_close(networks.compiled_gradients(model, loss_fn, x, y), exact, WINOGRAD)
            networks.assert_close(networks.compiled_gradients(model, loss_fn, x, y, exact=True), exact)


@pytest.mark.skipif(not NATIVE, reason="the other backends have no Winograd convolutions")
@pytest.mark.parametrize("isa", ISAS)
def test_exact_does_without_winograd(isa: str | None) -> None:
    """The same bits as with Winograd switched off by name, and others than with it, which round a little worse."""
    x, y = networks.batch_for(networks.normed, 33)
    with running_on(isa):
        options = ({}, {"exact": True}, {"disable": "winograd"})
        usual, exact, disabled = (
            networks.compiled_gradients(networks.normed(), nn.CrossEntropyLoss(), x, y, **each) for each in options
        )
    assert all(np.array_equal(exact[name], disabled[name]) for name in exact)
    assert not all(np.array_equal(exact[name], usual[name]) for name in exact)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("background", [0.0, -0.42, None], ids=["zero", "gray", "none"])
@pytest.mark.parametrize(
    ("n", "inputs", "outputs"), [(32, 50, 48), (33, 39, 100), (130, 784, 60), (34, 531, 70), (32, 528, 100)]
)
def test_dense_layers_on_floats_that_are_mostly_background(
    n: int, inputs: int, outputs: int, background: float | None, isa: str | None
) -> None:
    """What differs from the background is listed; the first number may be the background, or not a number."""
    rng = np.random.default_rng(n)
    x = rng.normal(size=(n, inputs)).astype(np.float32)
    if background is not None:
        x[rng.random(x.shape) < 0.8] = background
        x[0, 0] = background
    y = rng.integers(0, CLASSES, n)
    fnn.manual_seed(0)
    model = nn.Sequential(nn.Linear(inputs, outputs), nn.ReLU(), nn.Linear(outputs, CLASSES))
    with running_on(isa):
        networks.assert_close(
            networks.compiled_gradients(model, nn.CrossEntropyLoss(), x, y),
            networks.exact_gradients(model, nn.CrossEntropyLoss(), x, y),
        )
        x[0, 0] = np.nan
        assert np.isnan(fnn.compile(model)(x)[0]).all()
        assert np.isfinite(fnn.compile(model)(x)[1:]).all()
