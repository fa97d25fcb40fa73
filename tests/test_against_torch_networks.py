"""Random networks of 3 to 8 layers against PyTorch: outputs and all gradients, in float32 and float64."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from long import draws

pytest.importorskip("torch")
import torch
from torch_twins import build, copy_weights, gradients, random_network, relative_error, torch_gradients

import fastnn as fnn
from fastnn import nn

torch.set_num_threads(1)  # networks so small that threads would only wait for one another


@pytest.mark.parametrize("seed", draws(range(40), 10))
def test_random_network_agrees_with_torch(seed: int) -> None:
    """float32 within max(1e-4, 3 x PyTorch-float32's own error) of PyTorch's float64, float64 within 1e-9.

    A gradient that is zero but for rounding (a bias before a batch norm) is compared with the network's largest one; so
    are the last digits of one that nearly cancels (a weight before a batch norm), in both types.
    """
    rng = np.random.default_rng(seed)
    fnn.manual_seed(seed)
    layers, shape = random_network(rng)
    model, twin = build(layers, nn), build(layers, torch.nn)
    copy_weights(model, twin)
    exact_twin = copy.deepcopy(twin).double()
    x = rng.normal(size=shape).astype(np.float32)
    cotangent = rng.normal(size=twin(torch.from_numpy(x)).shape).astype(np.float32)
    names = ["output", "input", *(name for name, _ in model.named_parameters())]
    exact = dict(zip(names, torch_gradients(exact_twin, x.astype(np.float64), cotangent), strict=True))
    single = dict(zip(names, torch_gradients(twin, x, cotangent), strict=True))
    largest = max(np.abs(values).max() for values in exact.values())
    worst = max(np.abs(single[name] - values).max() for name, values in exact.items())  # of PyTorch, in float32
    nil = {name for name, values in exact.items() if np.abs(values).max() < 1e-9 * largest}
    for name, value in zip(names, gradients(copy.deepcopy(model), x, cotangent), strict=True):
        assert value.dtype == np.float32
        if name in nil:
            assert np.abs(value).max() <= max(1e-4 * largest, 10 * np.abs(single[name]).max()), (name, layers)
            continue
        bound = max(1e-4, 3 * relative_error(single[name], exact[name]))
        off = np.abs(value - exact[name]).max()
        cancels = off <= max(1e-6 * largest, 3 * worst)  # 8 units of its last place
        assert cancels or relative_error(value, exact[name]) <= bound, (name, layers)
    model.double()
    for name, value in zip(names, gradients(model, x.astype(np.float64), cotangent), strict=True):
        assert value.dtype == np.float64
        assert np.abs(value - exact[name]).max() <= 1e-9 * np.abs(exact[name]).max() + 1e-12 * largest, (name, layers)


def test_random_networks_use_every_layer() -> None:
    """The comparison above means something only if the networks drawn there hold all kinds of layers."""
    drawn = {name for seed in range(40) for name, _ in random_network(np.random.default_rng(seed))[0]}
    layers = {
        "Conv2d", "Linear", "MaxPool2d", "AvgPool2d", "AdaptiveAvgPool2d", "ReLU", "LeakyReLU", "ELU", "Sigmoid",
        "Tanh", "GELU", "SiLU", "Softmax", "LogSoftmax", "Flatten", "Dropout", "BatchNorm1d", "BatchNorm2d",
        "Normalize", "Identity",
    }  # fmt: skip
    assert layers <= drawn
    convolutions = [
        arguments
        for seed in range(40)
        for name, arguments in random_network(np.random.default_rng(seed))[0]
        if name == "Conv2d"
    ]
    assert any(c["groups"] > 1 for c in convolutions)
    assert any(c["dilation"] != (1, 1) for c in convolutions)
    assert any(c["stride"][0] != c["stride"][1] for c in convolutions)


@pytest.mark.parametrize("seed", range(3))
def test_normalize_agrees_with_frozen_batch_norm(seed: int) -> None:
    """The twin that random networks give Normalize is the same function."""
    rng = np.random.default_rng(seed)
    layers = [("Normalize", {"mean": rng.normal(size=3).tolist(), "std": rng.uniform(0.5, 2, 3).tolist()})]
    x = rng.normal(size=(2, 3, 4, 5))
    expected = build(layers, torch.nn).double()(torch.from_numpy(x)).numpy()
    assert relative_error(build(layers, nn)(x).numpy(), expected) < 1e-5
