"""Many compiled steps: the loss after a hundred of them, epochs in one call, the same bits whatever the threads."""

from __future__ import annotations

import functools
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import plan_networks as networks
import pytest
from plan_networks import CLASSES, ISAS, NATIVE, running_on

import fastnn as fnn
from fastnn import nn, optim
from fastnn.errors import ArgumentError, DTypeError, LabelError, NonFiniteError, ShapeError

LOSS = nn.CrossEntropyLoss()
STEPS = 100
BUILT: dict[Callable[..., nn.Module], list[networks.Layer]] = {
    networks.lenet: [
        ("Conv2d", {"in_channels": 1, "out_channels": 6, "kernel_size": 3, "padding": 1}), ("ReLU", {}),
        ("MaxPool2d", {"kernel_size": 2}), ("Conv2d", {"in_channels": 6, "out_channels": 16, "kernel_size": 3}),
        ("ReLU", {}), ("MaxPool2d", {"kernel_size": 2}), ("Flatten", {}),
        ("Linear", {"in_features": 144, "out_features": 24}), ("ReLU", {}),
        ("Linear", {"in_features": 24, "out_features": CLASSES}),
    ],
    networks.normed: [
        ("Conv2d", {"in_channels": 3, "out_channels": 16, "kernel_size": 3, "padding": 1, "bias": False}),
        ("BatchNorm2d", {"num_features": 16}), ("ReLU", {}), ("MaxPool2d", {"kernel_size": 2}),
        ("Conv2d", {"in_channels": 16, "out_channels": 16, "kernel_size": 3, "padding": 1, "bias": False}),
        ("BatchNorm2d", {"num_features": 16}), ("ReLU", {}), ("AdaptiveAvgPool2d", {"output_size": 1}), ("Flatten", {}),
        ("Linear", {"in_features": 16, "out_features": CLASSES}),
    ],
}  # fmt: skip


def data_for(network: Callable[..., nn.Module], n: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of which something can be learned: the labels say where they are brighter."""
    x, y = networks.batch_for(network, n)
    x = x.copy()
    flat = x.reshape(n, -1)
    for i, label in enumerate(y):
        flat[i, label * 5 : label * 5 + 5] = 255 if x.dtype == np.uint8 else 4
    return x, y


def chosen(i: int) -> slice:
    """The images of step i: four batches of eight in turn."""
    return slice(8 * (i % 4), 8 * (i % 4) + 8)


@functools.cache
def losses_in_float64(network: Callable[..., nn.Module]) -> list[float]:
    x, y = data_for(network, 32)
    model = network().double()
    optimizer = optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    losses = []
    for i in range(STEPS):
        loss = LOSS(model(networks.wide(x[chosen(i)])), y[chosen(i)])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def last_loss_of_torch(network: Callable[..., nn.Module], dtype: Any) -> float:
    import torch
    import torch_twins

    torch.set_num_threads(1)
    twin = torch_twins.build(BUILT[network], torch.nn)
    torch_twins.copy_weights(network(), twin)
    twin = twin.to(dtype)
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.02, momentum=0.9)
    x, y = map(torch.from_numpy, data_for(network, 32))
    for i in range(STEPS):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(twin(x.to(dtype)[chosen(i)]), y[chosen(i)])
        loss.backward()
        optimizer.step()
    return loss.item()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("network", [networks.lenet, networks.normed, networks.mlp], ids=lambda f: f.__name__)
def test_the_loss_after_a_hundred_steps_is_that_of_float64(network: Callable[..., nn.Module], isa: str | None) -> None:
    """Within 1e-3, or 3 times the error that PyTorch's float32 makes on the same network."""
    x, y = data_for(network, 32)
    model = network()
    step = fnn.compile(model, LOSS, optim.SGD(model.parameters(), lr=0.02, momentum=0.9))
    with running_on(isa):
        losses = [step(x[chosen(i)], y[chosen(i)]) for i in range(STEPS)]
    expected = losses_in_float64(network)
    assert expected[-1] < 0.7 * expected[0], "nothing was learned: this test could not fail"
    error = abs(losses[-1] - expected[-1])
    if error > 1e-3 and network in BUILT:
        torch = pytest.importorskip("torch")
        single, double = (last_loss_of_torch(network, dtype) for dtype in (torch.float32, torch.float64))
        assert double == pytest.approx(expected[-1], abs=1e-6)
        assert error <= 3 * abs(single - double)
    else:
        assert error <= 1e-3


@pytest.mark.skipif(not NATIVE, reason="the other backends make no such promise")
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("network", [networks.lenet, networks.normed, networks.mlp], ids=lambda f: f.__name__)
def test_the_same_bits_for_every_number_of_threads(network: Callable[..., nn.Module], isa: str | None) -> None:
    """Losses, parameters, optimiser state and predictions; also where the number changes between steps."""
    found = []
    sizes = (257, 33, 64, 1 if network is not networks.normed else 2, 33)
    for threads in ((1,), (2,), (3,), (2, 1, 3)):
        model = network()
        optimizer = optim.Adam(model.parameters(), lr=0.01)
        step, predict = fnn.compile(model, LOSS, optimizer), fnn.compile(model)
        results: list[Any] = []
        for i, n in enumerate(sizes):
            with running_on(isa, threads[i % len(threads)]):
                x, y = networks.batch_for(network, n, i)
                results += [np.float64(step(x, y)), predict(x)]
        results += [values.copy() for values in model.state_dict().values()]
        results += [values for state in optimizer.state.values() for values in state.values()]
        found.append([np.asarray(values).tobytes() for values in results])
    assert all(other == found[0] for other in found[1:])


@pytest.mark.parametrize("options", [{}, {"clip_norm": 0.5}, {"disable": fnn.plan.FUSIONS}], ids=str)
def test_an_epoch_is_its_steps(options: dict[str, Any]) -> None:
    """In the permutation's order, a scheduler stepped with each batch, a short last one; the images' mean loss."""
    x, y = data_for(networks.mlp, 50)
    order = np.random.default_rng(0).permutation(50)[:43]
    found = []
    for whole in (True, False):
        model = networks.mlp()
        optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.8)
        step = fnn.compile(model, LOSS, optimizer, **options)
        if whole:
            loss = step.run_epoch(x, y, order, 16, scheduler)
        else:
            sizes, losses = [], []
            for start in (0, 16, 32):
                chosen = order[start : start + 16]
                losses.append(step(x[chosen], y[chosen]))
                sizes.append(len(chosen))
                scheduler.step()
            assert sizes == [16, 16, 11]
            loss = float(np.average(losses, weights=sizes))
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * 0.8**3)
        found.append((loss, networks.parameters(model)))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-12)
    assert all(np.array_equal(found[0][1][name], found[1][1][name]) for name in found[0][1])


def test_an_epoch_without_permutation_takes_all_in_order() -> None:
    x, y = data_for(networks.mlp, 33)
    found = []
    for order in (None, np.arange(33), np.arange(33, dtype=np.uint8)):
        model = networks.mlp()
        step = fnn.compile(model, LOSS, optim.SGD(model.parameters(), lr=0.1))
        found.append((step.run_epoch(x, y, order, batch_size=10), networks.parameters(model)["2.weight"].tobytes()))
    assert found[0] == found[1] == found[2]
    one_hot = np.eye(CLASSES, dtype=np.float32)[y]
    model = networks.mlp()
    step = fnn.compile(model, nn.MSELoss(), optim.SGD(model.parameters(), lr=0.1))
    losses = [step.run_epoch(x, one_hot, batch_size=10) for _ in range(5)]
    assert losses[-1] < losses[0]


def test_what_an_epoch_does_not_take() -> None:
    x, y = data_for(networks.mlp, 20)
    model = networks.mlp()
    before = networks.parameters(model)
    step = fnn.compile(model, LOSS, optim.SGD(model.parameters(), lr=0.1))
    for order in (np.array([0, 20]), np.array([-1, 0]), np.zeros(0, int), np.zeros((2, 2), int), np.array([0.0, 1.0])):
        with pytest.raises(ArgumentError):
            step.run_epoch(x, y, order)
    for size in (0, -1, 1.5):
        with pytest.raises(ArgumentError):
            step.run_epoch(x, y, batch_size=size)
    with pytest.raises(ShapeError):
        step.run_epoch(x, y[:-1])
    for dtype in (object, str, complex, "m8[s]", [("a", float)]):  # of which a native array would hold no such entries
        with pytest.raises(DTypeError):
            step.run_epoch(x.astype(dtype), y)
    wrong = y.copy()
    wrong[3] = CLASSES
    with pytest.raises(LabelError):
        step.run_epoch(x, wrong, batch_size=20)
    assert all(np.array_equal(before[name], values) for name, values in model.state_dict().items())


def test_an_epoch_ends_where_the_loss_is_no_longer_finite() -> None:
    x, y = data_for(networks.lenet, 20)
    x[13] = np.nan
    model, twin = networks.lenet(), networks.lenet()
    step, other = (fnn.compile(m, LOSS, optim.SGD(m.parameters(), lr=0.1)) for m in (model, twin))
    with pytest.raises(NonFiniteError):
        step.run_epoch(x, y, batch_size=5)
    for start in (0, 5):
        other(x[start : start + 5], y[start : start + 5])
    assert all(np.array_equal(a.data, b.data) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


@pytest.mark.skipif(os.name != "posix", reason="SIGINT to oneself")
def test_ctrl_c_ends_an_epoch_within_a_second_and_after_a_whole_step() -> None:
    """Of a loss whose gradient stays the same, Adam changes a bias by lr in each step: so many were made as counted."""
    fnn.manual_seed(0)
    model = nn.Sequential(nn.Linear(784, 1000))
    optimizer = optim.Adam(model.parameters(), lr=2.0**-10)
    step = fnn.compile(model, lambda outputs, y: (outputs * y).sum(), optimizer)
    x, y = np.ones((64, 784), np.float32), np.ones((64, 1000), np.float32)
    step.run_epoch(x, y, batch_size=64)  # all that is imported on first use is there
    order = np.arange(200_000) % 64
    bias, first = model[0].bias.data, model[0].bias.data[0] + 2.0**-10
    for turn in range(4):
        sent: list[float] = []

        def interrupt(sent: list[float] = sent) -> None:
            sent.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)

        timer = threading.Timer(0.1, interrupt)
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            step.run_epoch(x, y, order, batch_size=64, progress=False)
        assert time.monotonic() - sent[0] < 1
        timer.join()
        counts = {state["step"] for state in optimizer.state.values()}
        made = round(float(first - bias[0]) * 2**10)
        assert counts == {made}, f"interrupted for the {turn + 1}. time"
    step(x, y)
    assert {state["step"] for state in optimizer.state.values()} == {made + 1}


def penalised(model: nn.Module) -> Callable[[Any, Any], fnn.Tensor]:
    def loss_fn(outputs: fnn.Tensor, y: Any) -> fnn.Tensor:
        squares = sum((p * p).sum() for p in model.parameters())
        return LOSS(outputs, y) + 0.01 * squares + 0.1 * (outputs * outputs).mean()

    return loss_fn


def test_losses_with_a_penalty() -> None:
    """What the loss adds to the cross-entropy, of the weights themselves or of the outputs, has its gradient too."""
    for network in (networks.lenet, networks.mlp):
        model = network()
        exact = network().double()
        x, y = networks.batch_for(network, 17)

        expected = networks.eager_gradients(exact, penalised(exact), networks.wide(x), y)
        found = {"loss": np.asarray(fnn.compile(model, penalised(model))(x, y))}
        networks.assert_close(found | {name: p.grad for name, p in model.named_parameters()}, expected)


class Cubic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        fnn.manual_seed(0)
        self.conv, self.last = nn.Conv2d(1, 8, 3), nn.Linear(8 * 196, CLASSES)

    def forward(self, x: fnn.Tensor) -> fnn.Tensor:
        h = self.conv(x)
        return self.last((networks.Cube.apply(h) + h.relu()).flatten(1))


def test_operators_that_users_write_stand_between_fused_stages() -> None:
    model = Cubic()
    x, y = networks.batch_for(networks.lenet, 17)
    exact = networks.exact_gradients(model, LOSS, x, y)
    step = fnn.compile(model, LOSS)
    for interrupted in (False, True, False):
        model.zero_grad()
        networks.Cube.fails = interrupted
        try:
            if interrupted:  # in the middle of backward: nothing of it is left for the next step
                with pytest.raises(KeyboardInterrupt):
                    step(x, y)
                continue
        finally:
            networks.Cube.fails = False
        found = {"loss": np.asarray(step(x, y))} | {name: p.grad for name, p in model.named_parameters()}
        networks.assert_close(found, exact)


def test_a_parameter_that_no_gradient_reaches_is_left_alone() -> None:
    """Behind detach() and no_grad(): no gradient, so no step, not even weight decay."""

    class Detached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            fnn.manual_seed(0)
            self.seen, self.hidden, self.unused = nn.Linear(36, CLASSES), nn.Linear(36, CLASSES), nn.Linear(2, 2)

        def forward(self, x: fnn.Tensor) -> fnn.Tensor:
            with fnn.no_grad():
                shift = self.hidden(x)
            return self.seen(x) + self.hidden(x).detach() + shift

    x, y = networks.batch_for(networks.mlp, 5)
    x = x.reshape(5, 36).astype(np.float32) / 255
    model = Detached()
    exact = networks.exact_gradients(model, LOSS, x, y)
    assert set(exact) == {"loss", "seen.weight", "seen.bias"}
    networks.assert_close(networks.compiled_gradients(model, LOSS, x, y), exact)
    before = networks.parameters(model)
    step = fnn.compile(model, LOSS, optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5))
    step(x, y)
    after = model.state_dict()
    unchanged = {name for name in before if np.array_equal(before[name], after[name])}
    assert unchanged == {"hidden.weight", "hidden.bias", "unused.weight", "unused.bias"}
