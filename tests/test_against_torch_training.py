"""Whole networks over 100 steps against PyTorch: every optimiser, float64 within 1e-9, float32 loss within 1e-3."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
import torch
from plan_networks import ISAS, running_on
from torch_twins import build, copy_weights

import fastnn as fnn
from fastnn import nn, optim

torch.set_num_threads(1)  # networks so small that threads would only wait for one another

STEPS = 100
OPTIMISERS: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("SGD", {"lr": 0.05}),
    "sgd-decay": ("SGD", {"lr": 0.05, "weight_decay": 0.01}),
    "momentum-dampening": ("SGD", {"lr": 0.05, "momentum": 0.9, "dampening": 0.3}),
    "momentum-nesterov-decay": ("SGD", {"lr": 0.02, "momentum": 0.9, "weight_decay": 5e-3, "nesterov": True}),
    "adam": ("Adam", {"lr": 2e-3}),
    "adam-decay": ("Adam", {"lr": 2e-3, "betas": (0.8, 0.99), "eps": 1e-6, "weight_decay": 0.01}),
    "adamw": ("AdamW", {"lr": 2e-3, "weight_decay": 0.1}),
    "rmsprop": ("RMSprop", {"lr": 1e-3}),
    "rmsprop-momentum-decay": ("RMSprop", {"lr": 5e-4, "alpha": 0.9, "momentum": 0.8, "weight_decay": 0.01}),
    "rmsprop-centered": ("RMSprop", {"lr": 1e-3, "eps": 1e-6, "centered": True}),
    "rmsprop-all": ("RMSprop", {"lr": 5e-4, "eps": 1e-6, "momentum": 0.8, "centered": True, "weight_decay": 0.01}),
    "adagrad": ("Adagrad", {"lr": 2e-2, "eps": 1e-6}),
    "adagrad-decay": (
        "Adagrad",
        {"lr": 3e-2, "eps": 1e-6, "lr_decay": 0.01, "weight_decay": 0.01, "initial_accumulator_value": 0.1},
    ),
    "rprop": ("Rprop", {"lr": 1e-3, "etas": (0.4, 1.1), "step_sizes": (1e-6, 0.01)}),
}
CONVOLUTIONAL = [
    ("Conv2d", {"in_channels": 2, "out_channels": 6, "kernel_size": 3, "padding": 1}),
    ("BatchNorm2d", {"num_features": 6}),
    ("ReLU", {}),
    ("MaxPool2d", {"kernel_size": 2}),
    ("Conv2d", {"in_channels": 6, "out_channels": 8, "kernel_size": 3, "groups": 2, "stride": 2}),
    ("GELU", {}),
    ("Flatten", {}),
    ("Linear", {"in_features": 32, "out_features": 12}),
    ("BatchNorm1d", {"num_features": 12}),
    ("Tanh", {}),
    ("Linear", {"in_features": 12, "out_features": 5}),
]


def _batches(dtype: type) -> list[tuple[np.ndarray, np.ndarray]]:
    """Four batches, gone through again and again; the classes can be told from the images."""
    rng = np.random.default_rng(7)
    prototypes = rng.normal(size=(5, 2, 11, 10))
    labels = [rng.integers(0, 5, 8) for _ in range(4)]
    return [((prototypes[y] + rng.normal(size=(8, 2, 11, 10))).astype(dtype), y) for y in labels]


def _losses(model: nn.Module, opt: optim.Optimizer, dtype: type, **options: Any) -> list[float]:
    loss_fn, batches, losses = nn.CrossEntropyLoss(**options), _batches(dtype), []
    for step in range(STEPS):
        x, y = batches[step % 4]
        loss = loss_fn(model(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        losses.append(loss.item())
    return losses


def _torch_losses(model: Any, opt: Any, dtype: type, **options: Any) -> list[float]:
    loss_fn, batches, losses = torch.nn.CrossEntropyLoss(**options), _batches(dtype), []
    for step in range(STEPS):
        x, y = batches[step % 4]
        loss = loss_fn(model(torch.from_numpy(x)), torch.from_numpy(y))
        opt.zero_grad()
        loss.backward()
        opt.step()
        losses.append(loss.item())
    return losses


# Those whose options are all in another one's test, too.
CONTAINED = {"sgd", "adam", "rmsprop", "rmsprop-momentum-decay", "rmsprop-centered", "adagrad"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] * (name in CONTAINED)) for name in OPTIMISERS]
)
def test_hundred_steps(name: str) -> None:
    """Losses, parameters and running statistics; half of the network in a parameter group of its own."""
    kind, options = OPTIMISERS[name]
    fnn.manual_seed(3)
    layers = copy.deepcopy(CONVOLUTIONAL)
    if kind == "Rprop":  # a bias before batch norm has a gradient of 0 but for rounding, and its sign is what counts
        layers[0][1]["bias"] = layers[7][1]["bias"] = False
    model, twin = build(layers, nn), build(layers, torch.nn)
    copy_weights(model, twin)
    single = copy.deepcopy(model)
    model.double()
    twin.double()

    def groups(net: Any) -> list[dict[str, Any]]:
        parameters = list(net.parameters())
        return [{"params": parameters[:6]}, {"params": parameters[6:], "lr": 0.5 * options["lr"]}]

    exact = _torch_losses(twin, getattr(torch.optim, kind)(groups(twin), **options), np.float64, label_smoothing=0.1)
    double = _losses(model, getattr(optim, kind)(groups(model), **options), np.float64, label_smoothing=0.1)
    np.testing.assert_allclose(double, exact, rtol=0, atol=1e-9)
    state = twin.state_dict()
    for key, value in model.state_dict().items():
        np.testing.assert_allclose(value, state[key].numpy(), rtol=0, atol=1e-9, err_msg=key)
    assert exact[-1] < 0.8 * exact[0]  # it learns, so the comparison is not of two standing stills
    for isa in ISAS:
        with running_on(isa):
            net = copy.deepcopy(single)
            losses = _losses(net, getattr(optim, kind)(groups(net), **options), np.float32, label_smoothing=0.1)
        np.testing.assert_allclose(losses, exact, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    "name", ["momentum-nesterov-decay", "adamw", "rmsprop", "rmsprop-all", "adagrad", "adagrad-decay", "rprop"]
)
def test_optimiser_state_is_torchs(name: str) -> None:
    """The state after three steps has PyTorch's structure and numbers, and can be loaded from PyTorch's."""
    kind, options = OPTIMISERS[name]
    values = [np.arange(6.0).reshape(2, 3), np.array([0.5, -1.0])]
    own = [nn.Parameter(fnn.Tensor(v.copy())) for v in values]
    other = [torch.nn.Parameter(torch.tensor(v)) for v in values]
    opt, twin = getattr(optim, kind)(own, **options), getattr(torch.optim, kind)(other, **options)
    for step in range(3):
        for p, q in zip(own, other, strict=True):
            p.grad = np.cos(p.data + step)
            q.grad = torch.cos(q.detach() + step)
        opt.step()
        twin.step()
    state, expected = opt.state_dict(), twin.state_dict()
    shared = {key: value for key, value in state["param_groups"][0].items() if key in expected["param_groups"][0]}
    assert shared.items() <= {**expected["param_groups"][0], "params": [0, 1]}.items()
    assert state["param_groups"][0].keys() - shared.keys() == {"l1", "l2", "penalize_bias"}
    twin.load_state_dict(expected | {"param_groups": state["param_groups"]})  # which PyTorch takes, too
    assert state["state"].keys() == expected["state"].keys()
    for i, entries in expected["state"].items():
        assert state["state"][i].keys() == entries.keys()
        for key, value in entries.items():
            np.testing.assert_allclose(state["state"][i][key], value.numpy(), rtol=1e-12)
    fresh = getattr(optim, kind)([nn.Parameter(fnn.Tensor(p.data.copy())) for p in own], **options)
    fresh.load_state_dict({"state": {i: {k: v.numpy() for k, v in s.items()} for i, s in expected["state"].items()},
                           "param_groups": state["param_groups"]})  # fmt: skip
    for p, q in zip(fresh.param_groups[0]["params"], own, strict=True):
        p.grad = q.grad = np.sin(q.data)
    opt.step()
    fresh.step()
    for p, q in zip(fresh.param_groups[0]["params"], own, strict=True):
        np.testing.assert_allclose(p.data, q.data, rtol=1e-12)
