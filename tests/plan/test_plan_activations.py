"""Chains with every activation and pooling, in every engine: float64's gradients, in the same bits on two threads."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import numpy as np
import plan_networks as networks
import pytest
import torch_twins
from plan_networks import CLASSES, EXACT, ISAS, NATIVE, running_on

import fastnn as fnn
from fastnn import nn, optim

pytestmark = pytest.mark.skipif(not NATIVE, reason="the other backends fuse nothing")

ACTIVATIONS: list[networks.Layer | None] = [
    ("ReLU", {}), ("LeakyReLU", {"negative_slope": 0.1}), ("LeakyReLU", {"negative_slope": -0.1}), ("Tanh", {}),
    ("Sigmoid", {}), ("ELU", {"alpha": 0.7}), ("GELU", {}), ("SiLU", {}),
    ("Softplus", {}), ("Hardswish", {}), None,
]  # fmt: skip
POOLINGS: list[networks.Layer | None] = [
    None,
    ("MaxPool2d", {"kernel_size": 2}),
    ("MaxPool2d", {"kernel_size": 3}),
    ("MaxPool2d", {"kernel_size": 3, "stride": 2, "padding": 1}),
    ("AvgPool2d", {"kernel_size": 2}),
    ("AvgPool2d", {"kernel_size": 3, "stride": 2, "padding": 1}),
    ("AvgPool2d", {"kernel_size": (2, 3), "stride": (1, 2), "padding": (0, 1), "count_include_pad": False}),
    ("AdaptiveAvgPool2d", {"output_size": 1}),
]
RELU, TANH, PAIRS = ("ReLU", {}), ("Tanh", {}), ("MaxPool2d", {"kernel_size": 2})
ENGINES = {"narrow": (5, 18), "few": (5, 3), "wide": (16, 5)}  # channels and images


def tail(activation: networks.Layer | None, pooling: networks.Layer | None, pool_first: bool) -> list[networks.Layer]:
    """What follows a convolution."""
    return [op for op in ((pooling, activation) if pool_first else (activation, pooling)) if op is not None]


def convolution(inputs: int, outputs: int, kernel: int = 3) -> networks.Layer:
    options = {"in_channels": inputs, "out_channels": outputs, "kernel_size": kernel, "padding": kernel // 2}
    return "Conv2d", options


def with_classifier(layers: list[networks.Layer], x: np.ndarray) -> Any:
    """The layers, and a linear one on what they make of x."""
    body = torch_twins.build([*layers, ("Flatten", {})], nn)
    return nn.Sequential(*body, nn.Linear(body(fnn.Tensor(x)).shape[1], CLASSES))


def assert_plan_is_right(model: nn.Module, x: np.ndarray, isa: str | None, bound: float = EXACT, **options: Any) -> str:
    """Gradients and predictions against float64, on one thread and on two; returns what describe() says of the step."""
    y, loss = np.random.default_rng(0).integers(0, CLASSES, len(x)), nn.CrossEntropyLoss()
    exact = networks.exact_gradients(model, loss, x, y)
    outputs = copy.deepcopy(model).double().eval()(fnn.Tensor(x.astype(np.float64))).numpy()
    found = []
    for threads in (1, 2):
        with running_on(isa, threads):
            found.append(networks.compiled_gradients(model, loss, x, y, disable="region", **options))
            found[-1]["outputs"] = fnn.compile(copy.deepcopy(model), disable="region", **options)(x)
    networks.assert_close(found[0], exact | {"outputs": outputs}, bound)
    for name, values in found[0].items():
        assert np.array_equal(values, found[1][name]), name
    step = fnn.compile(copy.deepcopy(model), loss, disable="region", **options)
    step(x, y)
    return str(step.describe())


@pytest.mark.long
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_every_activation_and_pooling(activation: networks.Layer | None, engine: str) -> None:
    channels, n = ENGINES[engine]
    x = np.random.default_rng(0).normal(size=(n, 2, 11, 9)).astype(np.float32)
    for index, (pooling, first) in enumerate(itertools.product(POOLINGS, (False, True))):
        fnn.manual_seed(1)
        follows = tail(activation, pooling, first)
        between = [] if pooling is not None and pooling[0].startswith("Adaptive") else follows
        layers = [convolution(2, channels), *between, convolution(channels, channels + 1), *follows]
        words = assert_plan_is_right(with_classifier(layers, x), x, ISAS[index % len(ISAS)], exact=True)
        assert "its own" not in words
        assert ("chain narrow" if engine == "narrow" else "chain ") in words


@pytest.mark.parametrize("activation", [*ACTIVATIONS[:2], *ACTIVATIONS[3:6]], ids=str)
def test_activations_that_never_fall_stay_where_channels_fill_vectors(activation: networks.Layer) -> None:
    x = np.random.default_rng(0).normal(size=(19, 1, 12, 12)).astype(np.float32)
    fnn.manual_seed(2)
    layers = [convolution(1, 16), activation, convolution(16, 32), activation, PAIRS]
    for isa in ISAS:
        words = assert_plan_is_right(with_classifier(layers, x), x, isa, networks.WINOGRAD)
        assert "chain wide" in words


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("n", [3, 17])
@pytest.mark.parametrize("pooling", [POOLINGS[i] for i in (1, 3, 4)], ids=str)
def test_ties_are_broken_as_in_the_reference(pooling: networks.Layer, n: int, isa: str | None) -> None:
    """Small integers, and a slope of one half: every sum is exact, and the first of equal values takes the gradient."""
    rng = np.random.default_rng(n)
    x = rng.integers(0, 2, (n, 1, 10, 9)).astype(np.float32)
    half = ("LeakyReLU", {"negative_slope": 0.5})
    model = with_classifier([convolution(1, 3), half, pooling, convolution(3, 4), half], x)
    for p in model.parameters():
        p.data[...] = rng.integers(-1, 2, p.shape)
    y = rng.integers(-1, 2, (n, CLASSES)).astype(np.float32)

    def weighted(outputs: fnn.Tensor, targets: fnn.Tensor) -> fnn.Tensor:
        return (outputs * targets).sum()

    exact = networks.exact_gradients(model, weighted, x, y)
    with running_on(isa):
        found = networks.compiled_gradients(model, weighted, x, y, exact=True, disable="region")
    for name, values in exact.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("engine", ENGINES)
def test_poolings_keep_nan(engine: str, isa: str | None) -> None:
    """A pixel that is not a number is seen in every window that its convolutions reach, and nowhere else."""
    channels, n = ENGINES[engine]
    x = np.random.default_rng(0).normal(size=(n, 1, 24, 20)).astype(np.float32)
    x[0, 0, 13, 9] = np.nan
    for pooling, activation in itertools.product(POOLINGS[1:7], (ACTIVATIONS[0], ACTIVATIONS[3], ACTIVATIONS[6])):
        model = torch_twins.build([convolution(1, channels), *tail(activation, pooling, False)], nn)
        expected = np.isnan(copy.deepcopy(model).double()(fnn.Tensor(x.astype(np.float64))).numpy())
        assert 0 < expected.sum() < expected.size
        with running_on(isa):
            predict = fnn.compile(
                model, exact=True, disable="region"
            )  # the transforms of Winograd spread it over their tiles
            assert np.array_equal(np.isnan(predict(x)), expected), (pooling, activation)


STRIDED = ("Conv2d", {"in_channels": 2, "out_channels": 60, "kernel_size": 3, "stride": 2})
LARGE: list[tuple[list[networks.Layer], tuple[int, ...]]] = [
    ([convolution(3, 64), RELU, PAIRS, convolution(64, 130), RELU, PAIRS, convolution(130, 320), RELU, PAIRS],
     (17, 3, 16, 16)),
    ([convolution(3, 100), TANH, convolution(100, 300), TANH, ("MaxPool2d", {"kernel_size": 3})], (9, 3, 10, 11)),
    ([STRIDED, TANH, convolution(60, 90), PAIRS, convolution(90, 128, 5), RELU, PAIRS], (70, 2, 19, 19)),
    ([convolution(2, 500, 1), PAIRS, convolution(500, 600, 1), RELU, ("MaxPool2d", {"kernel_size": 4})], (8, 2, 9, 10)),
]  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("which", range(len(LARGE)))
def test_weights_larger_than_a_cache_go_layer_by_layer(which: int, isa: str | None) -> None:
    layers, shape = LARGE[which]
    fnn.manual_seed(3)
    x = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    model = with_classifier(layers, x)
    for exact in (False, True):
        words = assert_plan_is_right(model, x, isa, EXACT if exact else networks.WINOGRAD, exact=exact)
        assert "chain wide" in words


def test_lenet_with_tanh_and_average_pools_learns_as_in_pytorch() -> None:
    """The network as LeCun had it, ten steps of SGD with momentum: the same losses and weights."""
    torch = pytest.importorskip("torch")
    average, second = ("AvgPool2d", {"kernel_size": 2}), {"in_channels": 6, "out_channels": 16, "kernel_size": 5}
    layers = [convolution(1, 6, 5), TANH, average, ("Conv2d", second), TANH, average, ("Flatten", {})]
    layers += [("Linear", {"in_features": 400, "out_features": 120}), TANH]
    layers += [("Linear", {"in_features": 120, "out_features": CLASSES})]
    fnn.manual_seed(0)
    model, twin = torch_twins.build(layers, nn), torch_twins.build(layers, torch.nn)
    torch_twins.copy_weights(model, twin)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 1, 28, 28)).astype(np.float32), rng.integers(0, CLASSES, 40)
    step = fnn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.05, momentum=0.9))
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.05, momentum=0.9)
    for _ in range(10):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(twin(torch.from_numpy(x)), torch.from_numpy(y))
        loss.backward()
        optimizer.step()
        assert step(x, y) == pytest.approx(loss.item(), rel=1e-4)
    assert "chain narrow" in step.describe()
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        np.testing.assert_allclose(ours.data, theirs.detach().numpy(), rtol=0, atol=1e-4)
