"""Compiled steps update as the optimiser would: every optimiser, groups, clipping, accumulation, frozen parameters."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import plan_networks as networks
import pytest
from plan_networks import ISAS, running_on

import fastnn as fnn
from fastnn import nn, optim

MakeOptimizer = Callable[[nn.Module], optim.Optimizer]
Between = Callable[[int, nn.Module, optim.Optimizer], None]
SIZES = (16, 33, 16, 5, 33, 16)  # of successive batches: plans are made, left and taken up again


def of(kind: type[optim.Optimizer], **options: Any) -> MakeOptimizer:
    return lambda model: kind(model.parameters(), **options)


OPTIMIZERS: dict[str, MakeOptimizer] = {
    "sgd": of(optim.SGD, lr=0.1),
    "decay": of(optim.SGD, lr=0.1, weight_decay=0.1),
    "momentum": of(optim.SGD, lr=0.05, momentum=0.9),
    "dampening": of(optim.SGD, lr=0.1, momentum=0.9, dampening=0.7),
    "nesterov": of(optim.SGD, lr=0.05, momentum=0.8, nesterov=True, weight_decay=0.01),
    "adam": of(optim.Adam, lr=0.01),
    "adam-decay": of(optim.Adam, lr=0.01, weight_decay=0.1, betas=(0.8, 0.95), eps=1e-6),
    "adamw": of(optim.AdamW, lr=0.01, weight_decay=0.3),
    "rprop": of(optim.Rprop, lr=0.003, etas=(0.4, 1.3)),
    "adagrad": of(optim.Adagrad, lr=0.01, lr_decay=0.1, eps=1e-6),
    "adagrad-decay": of(optim.Adagrad, lr=0.02, weight_decay=0.1, initial_accumulator_value=0.1),
    "rmsprop": of(optim.RMSprop, lr=0.003, eps=1e-5),
    "rmsprop-momentum": of(optim.RMSprop, lr=0.003, momentum=0.5, weight_decay=0.1, eps=1e-5),
    "rmsprop-centered": of(optim.RMSprop, lr=0.003, alpha=0.9, centered=True, eps=1e-4),
    "rmsprop-all": of(optim.RMSprop, lr=0.003, alpha=0.9, momentum=0.5, centered=True, eps=1e-4),
}


def split_groups(model: nn.Module) -> optim.Optimizer:
    """Weights and biases of one layer in groups of their own, as where biases should not decay."""
    names = list(model.named_parameters())
    weights, biases = ([p for name, p in names if name.endswith(end)] for end in ("weight", "bias"))
    groups = [{"params": weights, "lr": 0.02, "weight_decay": 0.2}, {"params": biases, "lr": 0.2, "momentum": 0.0}]
    return optim.SGD(groups, lr=0.1, momentum=0.9)


def layer_groups(model: nn.Module) -> optim.Optimizer:
    """The last two parameters learn faster."""
    params = list(model.parameters())
    return optim.AdamW([{"params": params[:-2]}, {"params": params[-2:], "lr": 0.03, "betas": (0.5, 0.9)}], lr=0.003)


def batches_for(
    network: Callable[[], nn.Module], sizes: tuple[int, ...] = SIZES
) -> list[tuple[np.ndarray, np.ndarray]]:
    return [networks.batch_for(network, n, seed) for seed, n in enumerate(sizes)]


def train_eagerly(
    model: nn.Module,
    optimizer: optim.Optimizer,
    batches: list[tuple[np.ndarray, np.ndarray]],
    between: Between | None = None,
    clip_norm: float | None = None,
    accumulate: int = 1,
) -> list[float]:
    """The loop that a compiled step stands for, in the model's own precision."""
    losses = []
    for i, (x, y) in enumerate(batches):
        if between is not None:
            between(i, model, optimizer)
        loss = nn.CrossEntropyLoss()(model(x), y)
        losses.append(loss.item())
        (loss / accumulate).backward()
        if (i + 1) % accumulate:
            continue
        found = [p for p in model.parameters() if p.grad is not None]
        norm = np.sqrt(sum(float(np.square(p.grad, dtype=np.float64).sum()) for p in found))
        for p in found if clip_norm is not None else []:
            p.grad = p.grad * min(1.0, clip_norm / (norm + 1e-6))
        optimizer.step()
        model.zero_grad()
    return losses


def check(
    network: Callable[[], nn.Module],
    make_optimizer: MakeOptimizer,
    *,
    sizes: tuple[int, ...] = SIZES,
    between: Between | None = None,
    disable: tuple[str, ...] = (),
    **options: Any,
) -> tuple[nn.Module, optim.Optimizer]:
    """Compiled float32 steps against the loop in float64: losses, and how far every parameter has moved."""
    start, model, exact = network(), network(), network().double()
    batches = batches_for(network, sizes)
    wide = [(networks.wide(x), y) for x, y in batches]
    expected = train_eagerly(exact, make_optimizer(exact), wide, between, **options)
    optimizer = make_optimizer(model)
    bound = 2e-4 if isinstance(optimizer, optim.SGD) else 2e-3  # Adam divides small gradients by their own size
    step = fnn.compile(model, nn.CrossEntropyLoss(), optimizer, disable=disable, **options)
    for i, (x, y) in enumerate(batches):
        if between is not None:
            between(i, model, optimizer)
        assert step(x, y) == pytest.approx(expected[i], rel=1e-4)
        assert all(p.grad is None for p in model.parameters())
    for (name, p), q, before in zip(model.named_parameters(), exact.parameters(), start.parameters(), strict=True):
        moved, error = float(np.abs(q.data - before.data).max()), float(np.abs(p.data - q.data).max())
        assert error <= bound * moved, name
        assert moved > 0 or not p.requires_grad, f"{name}: this test could not fail"
    return model, optimizer


@pytest.mark.parametrize("disable", [(), ("update",)], ids=["in backward", "after backward"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer(name: str, disable: tuple[str, ...]) -> None:
    check(networks.mlp, OPTIMIZERS[name], disable=disable)
    if name != "rprop":  # which looks at signs, and some of LeNet's gradients are 0 but for rounding
        check(networks.lenet, OPTIMIZERS[name], disable=disable, sizes=SIZES[:4])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", ["nesterov", "adamw", "rprop", "adagrad-decay", "rmsprop-all"])
def test_every_instruction_set(name: str, isa: str | None) -> None:
    with running_on(isa):
        check(networks.mlp if name == "rprop" else networks.lenet, OPTIMIZERS[name], sizes=(17, 17, 17))


@pytest.mark.parametrize("name", ["sgd", "nesterov", "adamw"])
def test_tied_weights_make_one_step(name: str) -> None:
    """From the sum of both gradients."""
    check(networks.tied, OPTIMIZERS[name])


def test_batch_norm_learns() -> None:
    check(networks.normed, OPTIMIZERS["nesterov"], sizes=(16, 33, 16))


@pytest.mark.parametrize("network", [networks.mlp, networks.lenet], ids=lambda f: f.__name__)
@pytest.mark.parametrize("groups", [split_groups, layer_groups], ids=lambda f: f.__name__)
def test_groups_with_numbers_of_their_own(groups: MakeOptimizer, network: Callable[[], nn.Module]) -> None:
    check(network, groups)


@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_learning_rate_and_decay_may_change_between_steps(name: str) -> None:
    def between(i: int, model: nn.Module, optimizer: optim.Optimizer) -> None:
        optimizer.param_groups[0]["lr"] = 0.02 / (1 + i)
        optimizer.param_groups[0]["weight_decay"] = 0.1 * i

    check(networks.mlp, OPTIMIZERS[name], between=between)


def test_momentum_may_be_switched_on_and_off_between_steps() -> None:
    def between(i: int, model: nn.Module, optimizer: optim.Optimizer) -> None:
        optimizer.param_groups[0]["momentum"] = 0.9 if i % 3 else 0.0

    check(networks.mlp, OPTIMIZERS["sgd"], between=between)


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("clip_norm", [0.05, 50.0], ids=["clipped", "not clipped"])
def test_clipping(clip_norm: float, name: str) -> None:
    check(networks.mlp, OPTIMIZERS[name], clip_norm=clip_norm)
    check(networks.lenet, OPTIMIZERS[name], clip_norm=clip_norm, sizes=SIZES[:3])


@pytest.mark.parametrize("name", ["dampening", "adamw"])
@pytest.mark.parametrize("clip_norm", [None, 0.05])
def test_accumulation(clip_norm: float | None, name: str) -> None:
    """The mean gradient of three batches makes one update; their sizes may differ."""
    check(networks.mlp, OPTIMIZERS[name], accumulate=3, clip_norm=clip_norm)


def test_accumulation_updates_only_when_its_batches_are_complete() -> None:
    model = networks.mlp()
    step = fnn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1), accumulate=2)
    before = networks.parameters(model)
    x, y = networks.batch_for(networks.mlp, 16)
    step(x, y)
    assert all(np.array_equal(before[name], values) for name, values in model.state_dict().items())
    step(x, y)
    assert not np.array_equal(before["2.weight"], model.state_dict()["2.weight"])


@pytest.mark.parametrize("options", [{"clip_norm": 0.1}, {"accumulate": 2}, {"disable": ("update",)}, {}], ids=str)
def test_more_parameters_than_a_program_has_stages(options: dict[str, Any]) -> None:
    def network() -> nn.Module:
        fnn.manual_seed(0)
        deep = [layer for _ in range(35) for layer in (nn.Linear(9, 9), nn.ReLU())]
        for layer in deep[::2]:
            layer.weight.data[...] += np.eye(9, dtype=np.float32)
        return nn.Sequential(nn.Normalize(0.3, 0.4), nn.Flatten(), nn.Linear(36, 9), *deep, nn.Linear(9, 7))

    start, model, exact = network(), network(), network().double()
    batches = batches_for(networks.mlp, (16, 16))
    loop = {key: value for key, value in options.items() if key != "disable"}
    train_eagerly(exact, OPTIMIZERS["sgd"](exact), batches, **loop)
    step = fnn.compile(model, nn.CrossEntropyLoss(), OPTIMIZERS["sgd"](model), **options)
    for x, y in batches:
        step(x, y)
    for p, q, before in zip(model.parameters(), exact.parameters(), start.parameters(), strict=True):
        assert np.abs(p.data - q.data).max() <= 2e-4 * np.abs(q.data - before.data).max() + 1e-7


@pytest.mark.parametrize("name", ["momentum", "adam", "decay", "adagrad"])
def test_freezing_and_unfreezing(name: str) -> None:
    """requires_grad is looked at in every step; who was frozen has made fewer steps, and neither moves nor decays."""

    def between(i: int, model: nn.Module, optimizer: optim.Optimizer) -> None:
        for p in list(model.parameters())[:2]:
            p.requires_grad = i not in (2, 3)

    _, optimizer = check(networks.mlp, OPTIMIZERS[name], between=between, sizes=(16,) * 6)
    if name in ("adam", "adagrad"):
        assert sorted({state["step"] for state in optimizer.state.values()}) == [4, 6]


@pytest.mark.parametrize("which", [slice(0, 1), slice(1, 2), slice(2, 4), slice(4, 6)], ids=str)
def test_frozen_from_the_beginning(which: slice) -> None:
    """A weight, a bias, or a whole layer; first, in the middle, or last."""

    def between(i: int, model: nn.Module, optimizer: optim.Optimizer) -> None:
        for p in list(model.parameters())[which]:
            p.requires_grad = False

    for network in (networks.mlp, networks.lenet, networks.normed):
        check(network, OPTIMIZERS["decay"], between=between, sizes=(16, 16))


def test_the_optimizer_may_hold_a_part_of_the_parameters() -> None:
    """The others stay, and their .grad stays None; a group that is added later is stepped from then on."""

    def between(i: int, model: nn.Module, optimizer: optim.Optimizer) -> None:
        if i == 3:
            optimizer.add_param_group({"params": list(model.parameters())[:-2], "lr": 0.01})

    check(networks.mlp, lambda m: optim.SGD(list(m.parameters())[-2:], lr=0.1, momentum=0.9), between=between)
    model = networks.lenet()
    before = networks.parameters(model)
    step = fnn.compile(model, nn.CrossEntropyLoss(), optim.Adam(list(model.parameters())[2:]))
    step(*networks.batch_for(networks.lenet, 16))
    after = model.state_dict()
    assert np.array_equal(before["0.weight"], after["0.weight"])
    assert not np.array_equal(before["3.weight"], after["3.weight"])


class SignDescent(optim.Optimizer):
    """An optimiser that fastnn does not know."""

    def __init__(self, params: Any, lr: float = 0.01) -> None:
        super().__init__(params, {"lr": lr})
        self.seen = 0

    def _update(self, param: np.ndarray, grad: np.ndarray, state: dict[str, Any], group: dict[str, Any]) -> None:
        self.seen += 1
        state["sum"] = state.get("sum", 0) + grad
        param -= (group["lr"] * state["sum"]).astype(param.dtype)


class Louder(optim.SGD):
    """A known one, overridden: its own step() counts."""

    def _update(self, param: np.ndarray, grad: np.ndarray, state: dict[str, Any], group: dict[str, Any]) -> None:
        super()._update(param, (2 * grad).astype(grad.dtype), state, group)


@pytest.mark.parametrize("kind", [SignDescent, Louder])
@pytest.mark.parametrize("options", [{}, {"clip_norm": 0.05}, {"accumulate": 2}], ids=str)
def test_optimizers_that_users_write(kind: type[optim.Optimizer], options: dict[str, Any]) -> None:
    _, optimizer = check(networks.mlp, of(kind, lr=0.05), **options)
    if isinstance(optimizer, SignDescent):
        assert optimizer.seen == 6 * len(SIZES) // options.get("accumulate", 1)


def test_gradients_are_added_to_grad_as_by_backward() -> None:
    model = networks.lenet()
    x, y = networks.batch_for(networks.lenet, 16)
    once = networks.exact_gradients(model, nn.CrossEntropyLoss(), x, y)
    exact = {name: 2 * values for name, values in once.items()} | {"loss": once["loss"]}
    step = fnn.compile(model, nn.CrossEntropyLoss())
    step(x, y)
    kept = next(model.parameters()).grad
    first = kept.copy()
    loss = np.asarray(step(x, y))
    networks.assert_close({"loss": loss} | {name: p.grad for name, p in model.named_parameters()}, exact)
    model.zero_grad()
    step(x, y)
    assert np.array_equal(next(model.parameters()).grad, first)
    assert not np.shares_memory(next(model.parameters()).grad, kept), "a gradient that was kept is not written to"


def test_accumulation_without_an_optimizer_gives_the_mean() -> None:
    model = networks.mlp()
    (x, y), (v, w) = batches_for(networks.mlp, (16, 5))
    parts = [networks.exact_gradients(model, nn.CrossEntropyLoss(), *batch) for batch in ((x, y), (v, w))]
    step = fnn.compile(model, nn.CrossEntropyLoss(), accumulate=2)
    step(x, y)
    assert all(p.grad is None for p in model.parameters())
    step(v, w)
    for name, p in model.named_parameters():
        expected = (parts[0][name] + parts[1][name]) / 2
        assert np.abs(p.grad - expected).max() <= 1e-5 * np.abs(expected).max()


def test_copies_of_a_model_are_trained_apart() -> None:
    model = networks.mlp()
    twin = copy.deepcopy(model)
    before = networks.parameters(twin)
    step = fnn.compile(model, nn.CrossEntropyLoss(), OPTIMIZERS["adam"](model))
    step(*networks.batch_for(networks.mlp, 16))
    assert all(np.array_equal(before[name], values) for name, values in twin.state_dict().items())
