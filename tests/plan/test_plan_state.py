"""A plan and its model are one: what is written to parameters, buffers and optimisers counts, in both directions."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import plan_networks as networks
import pytest
from plan_networks import CLASSES, NATIVE

import fastnn as fnn
from fastnn import nn, optim
from fastnn.errors import FastnnError, GraphError, LabelError, NonFiniteError

LOSS = nn.CrossEntropyLoss()


def eager_step(model: nn.Module, optimizer: optim.Optimizer, x: np.ndarray, y: np.ndarray) -> float:
    loss = LOSS(model(x), y)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def assert_same(model: nn.Module, exact: nn.Module, bound: float = 1e-5) -> None:
    """Parameters and buffers of a float32 model and of one in float64."""
    for (name, found), expected in zip(model.state_dict().items(), exact.state_dict().values(), strict=True):
        error = float(np.abs(found - expected).max())
        assert error <= bound * max(float(np.abs(expected).max()), 1), name


def sgd(model: nn.Module) -> optim.Optimizer:
    return optim.SGD(model.parameters(), lr=0.1, momentum=0.9, dampening=0.3)


def adam(model: nn.Module) -> optim.Optimizer:
    return optim.Adam(model.parameters(), lr=0.01, eps=1e-4)


def rprop(model: nn.Module) -> optim.Optimizer:
    return optim.Rprop(model.parameters(), lr=0.002)


def adagrad(model: nn.Module) -> optim.Optimizer:
    return optim.Adagrad(model.parameters(), lr=0.01, initial_accumulator_value=0.01)


def rmsprop(model: nn.Module) -> optim.Optimizer:
    return optim.RMSprop(model.parameters(), lr=0.002, eps=1e-3, momentum=0.5, centered=True)


ALL = [sgd, adam, rprop, adagrad, rmsprop]
NAMES = {
    sgd: {"momentum_buffer"},
    adam: {"step", "exp_avg", "exp_avg_sq"},
    rprop: {"step", "prev", "step_size"},
    adagrad: {"step", "sum"},
    rmsprop: {"step", "square_avg", "momentum_buffer", "grad_avg"},
}


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("compiled", [(0, 1, 0, 1, 1, 0), (1, 1, 0, 0, 1, 1)], ids=str)
def test_eager_and_compiled_steps_may_take_turns(make: Any, compiled: tuple[int, ...]) -> None:
    model, exact = networks.mlp(), networks.mlp().double()
    optimizer, optimizer_exact = make(model), make(exact)
    step = fnn.compile(model, LOSS, optimizer)
    for seed, by_plan in enumerate(compiled):
        x, y = networks.batch_for(networks.mlp, 16 + seed % 2, seed)
        expected = eager_step(exact, optimizer_exact, x, y)
        loss = step(x, y) if by_plan else eager_step(model, optimizer, x, y)
        assert loss == pytest.approx(expected, rel=1e-5)
    assert_same(model, exact)


@pytest.mark.parametrize("prepared", [(7,), (16, 7)], ids=str)
def test_making_a_plan_is_no_step(prepared: tuple[int, ...]) -> None:
    """The first step is the first, whether or not a plan was made for another batch: its velocity is not dampened."""
    for compiled in (True, False):
        model, exact = networks.mlp(), networks.mlp().double()
        optimizer, optimizer_exact = sgd(model), sgd(exact)
        step = fnn.compile(model, LOSS, optimizer)
        before = networks.parameters(model)
        for n in prepared:
            step.prepare(*networks.batch_for(networks.mlp, n))
        assert all(np.array_equal(before[name], values) for name, values in model.state_dict().items())
        for seed, n in enumerate((7, 16, 7)):
            x, y = networks.batch_for(networks.mlp, n, seed)
            eager_step(exact, optimizer_exact, x, y)
            if compiled or seed:
                step(x, y)
            else:
                eager_step(model, optimizer, x, y)
        assert_same(model, exact)


@pytest.mark.parametrize("make", [rprop, adagrad])
def test_what_state_holds_at_first_is_that_of_the_first_step(make: Any) -> None:
    """A plan that was made before the rate was changed, or a sum written to, has not taken the old value along."""
    model, exact = networks.mlp(), networks.mlp().double()
    optimizer, optimizer_exact = make(model), make(exact)
    step = fnn.compile(model, LOSS, optimizer)
    x, y = networks.batch_for(networks.mlp, 16)
    step.prepare(x, y)
    for one in (optimizer, optimizer_exact):
        one.param_groups[0]["lr"] *= 3
        for state in one.state.values():
            state["sum"] *= 4
    for _ in range(2):
        step(x, y)
        eager_step(exact, optimizer_exact, x, y)
    assert_same(model, exact)


def test_what_is_written_into_parameters_counts_from_the_next_step_on() -> None:
    model, exact = networks.lenet(), networks.lenet().double()
    x, y = networks.batch_for(networks.lenet, 16)
    step, predict = fnn.compile(model, LOSS, sgd(model)), fnn.compile(model)
    optimizer = sgd(exact)
    for i in range(4):
        for one in (model, exact):
            for p in one.parameters():
                p.data *= 1 - 0.1 * i
                p.data.reshape(-1)[0] = 0.01 * i
        eager_step(exact, optimizer, networks.wide(x), y)
        step(x, y)
        with fnn.no_grad():
            expected = exact(networks.wide(x)).numpy()
        np.testing.assert_allclose(predict(x), expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    assert_same(model, exact, 1e-4)


def test_state_dicts_work_in_both_directions() -> None:
    """A plan's parameters are saved as they are, and loaded ones are used: parameters, running statistics, counts."""
    x, y = networks.batch_for(networks.normed, 16)
    model, exact = networks.normed(), networks.normed().double()
    optimizer = sgd(exact)
    live = model.state_dict()
    step = fnn.compile(model, LOSS, sgd(model))
    for _ in range(3):
        step(x, y)
        eager_step(exact, optimizer, networks.wide(x), y)
    assert_same(model, exact, 1e-4)
    assert live["1.num_batches_tracked"] == 3
    assert np.array_equal(live["1.running_mean"], model.state_dict()["1.running_mean"])
    predict = fnn.compile(model)
    before = predict(x)
    saved = networks.parameters(model)
    step(x, y)
    assert not np.array_equal(predict(x), before)
    model.load_state_dict(saved)
    assert np.array_equal(predict(x), before)
    other = networks.normed(seed=5)
    fnn.compile(other)(x)
    predict_other = fnn.compile(other)
    predict_other(x)
    other.load_state_dict(saved)
    assert np.array_equal(predict_other(x), before)


@pytest.mark.parametrize("layout", ["flat", "fortran", "copy"])
def test_data_may_be_bound_to_other_arrays(layout: str) -> None:
    """To views of one buffer at any offset, to arrays of another order, to copies; while a plan is in use."""
    x, y = networks.batch_for(networks.lenet, 17)
    model, twin = networks.lenet(), networks.lenet()
    flat = np.zeros(sum(p.numel() for p in model.parameters()) + 1, np.float32)
    step, predict = fnn.compile(model, LOSS), fnn.compile(model)
    step(x, y)
    predict(x)
    start = 1
    for p in model.parameters():
        values = p.data * 0.5
        if layout == "flat":
            flat[start : start + p.numel()] = values.reshape(-1)
            values = flat[start : start + p.numel()].reshape(p.shape)
            start += p.numel()
        p.data = np.asfortranarray(values) if layout == "fortran" else values
    for p in twin.parameters():
        p.data *= 0.5
    model.zero_grad()
    found = {"loss": np.asarray(step(x, y))} | {name: p.grad for name, p in model.named_parameters()}
    networks.assert_close(found, networks.exact_gradients(twin, LOSS, x, y))
    expected = twin.double()(networks.wide(x)).numpy()
    np.testing.assert_allclose(predict(x), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("disable", [(), fnn.plan.FUSIONS], ids=["fused", "unfused"])
def test_a_model_may_become_double_and_single_again(disable: tuple[str, ...]) -> None:
    model = networks.lenet()
    x, y = networks.batch_for(networks.lenet, 5)
    exact = networks.exact_gradients(model, LOSS, x, y)
    step, predict = fnn.compile(model, LOSS, disable=disable), fnn.compile(model, disable=disable)
    for dtype, bound in ((np.float32, 1e-5), (np.float64, 1e-12), (np.float32, 1e-5)):
        model.to(dtype=dtype)
        model.zero_grad()
        found = {"loss": np.asarray(step(x, y))} | {name: p.grad for name, p in model.named_parameters()}
        networks.assert_close(found, exact, bound)
        assert {p.grad.dtype for p in model.parameters()} == {np.dtype(dtype)}
        assert predict(x).dtype == dtype


def test_two_plans_of_one_model_see_each_others_parameters() -> None:
    model = networks.mlp()
    x, y = networks.batch_for(networks.mlp, 64)
    step, predict = fnn.compile(model, LOSS, optim.SGD(model.parameters(), lr=0.5)), fnn.compile(model)
    for _ in range(3):
        step(x, y)
        expected = copy.deepcopy(model).double()(x).numpy()
        np.testing.assert_allclose(predict(x), expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    with_gradients = fnn.compile(model, LOSS)
    assert with_gradients(x, y) == pytest.approx(step(x, y), rel=1e-6)
    assert with_gradients(x, y) == pytest.approx(step(x, y), rel=1e-6)


@pytest.mark.parametrize("make", ALL)
def test_optimizer_state_is_saved_and_loaded_between_compiled_steps(make: Any) -> None:
    """Stopped after two steps and taken up by another model: as if nothing had happened."""
    batches = [networks.batch_for(networks.mlp, 16, seed) for seed in range(5)]
    exact = networks.mlp().double()
    optimizer_exact = make(exact)
    for x, y in batches:
        eager_step(exact, optimizer_exact, x, y)
    model = networks.mlp()
    optimizer = make(model)
    step = fnn.compile(model, LOSS, optimizer)
    for x, y in batches[:2]:
        step(x, y)
    saved, kept = networks.parameters(model), copy.deepcopy(optimizer.state_dict())
    other = networks.mlp(seed=9)
    optimizer_other = make(other)
    step_other = fnn.compile(other, LOSS, optimizer_other)
    step_other(*batches[4])  # has a plan, and a state of its own, when the saved one comes
    for one, its_optimizer, its_step in ((other, optimizer_other, step_other), (model, optimizer, step)):
        if one is model:
            step(*batches[4])
        one.load_state_dict(saved)
        its_optimizer.load_state_dict(kept)
        for x, y in batches[2:]:
            its_step(x, y)
        assert_same(one, exact)
        assert all(set(state) == NAMES[make] for state in its_optimizer.state_dict()["state"].values())
    for found, expected in zip(optimizer.state.values(), optimizer_exact.state.values(), strict=True):
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("make", [sgd, adam, adagrad])
@pytest.mark.parametrize("how", ["cleared", "one removed", "one replaced", "array replaced", "written in place"])
def test_the_state_of_an_optimizer_may_be_changed_between_compiled_steps(how: str, make: Any) -> None:
    model, exact = networks.mlp(), networks.mlp().double()
    optimizers = {make(one): one for one in (model, exact)}
    step = fnn.compile(model, LOSS, next(iter(optimizers)))
    for seed in range(6):
        x, y = networks.batch_for(networks.mlp, 16, seed)
        for optimizer, one in optimizers.items():
            if seed in (2, 4):
                weight = next(one.parameters())
                entries = optimizer.state[weight]
                name = {sgd: "momentum_buffer", adam: "exp_avg", adagrad: "sum"}[make]
                factor = 4 if make is adagrad else -1  # a sum of squares stays positive
                if how == "cleared":
                    optimizer.state.clear()
                elif how == "one removed":
                    del optimizer.state[weight]
                elif how == "one replaced":
                    optimizer.state[weight] = {**entries, name: entries[name] * 0}
                elif how == "array replaced":
                    entries[name] = entries[name] * factor
                else:
                    entries[name] *= factor
            if one is exact:
                eager_step(exact, optimizer, x, y)
        step(x, y)
    assert_same(model, exact)


@pytest.mark.parametrize(
    "options", [{"momentum": 0.5}, {"centered": True}, {"momentum": 0.5, "centered": True}], ids=str
)
def test_options_of_rmsprop_that_ask_for_another_array_after_some_steps(options: dict[str, Any]) -> None:
    """The array begins with zeros, once, and lies where the optimiser has its state."""
    model, exact = networks.mlp(), networks.mlp().double()
    optimizers = [optim.RMSprop(one.parameters(), lr=0.002, eps=1e-3) for one in (model, exact)]
    step = fnn.compile(model, LOSS, optimizers[0])
    found = []
    for seed in range(7):
        if seed == 2:
            for optimizer in optimizers:
                optimizer.param_groups[0].update(options)
        x, y = networks.batch_for(networks.mlp, 16, seed)
        step(x, y)
        eager_step(exact, optimizers[1], x, y)
        if seed > 2:
            found.append({name: id(array) for name, array in next(iter(optimizers[0].state.values())).items()})
            assert found[-1].keys() == next(iter(optimizers[1].state.values())).keys()
            del found[-1]["step"]
    assert all(ids == found[0] for ids in found)
    assert_same(model, exact)


@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize("make", [sgd, adagrad])
def test_state_of_a_model_that_was_double(make: Any, steps: int) -> None:
    """Adagrad keeps state before the first step."""
    model, exact = networks.mlp().double(), networks.mlp().double()
    optimizer, optimizer_exact = make(model), make(exact)
    for seed in range(steps):
        for one, its in ((model, optimizer), (exact, optimizer_exact)):
            eager_step(one, its, *networks.batch_for(networks.mlp, 16, seed))
    model.float()
    step = fnn.compile(model, LOSS, optimizer)
    for seed in range(3):
        x, y = networks.batch_for(networks.mlp, 16, seed)
        step(x, y)
        eager_step(exact, optimizer_exact, x, y)
    assert {array.dtype for state in optimizer.state.values() for array in state.values() if np.ndim(array)} == {
        np.dtype(np.float32)
    }
    assert_same(model, exact)


def test_train_and_eval_mode_are_looked_at_in_every_step() -> None:
    """Batch statistics and dropout in training, running statistics and none in eval; predict() is always eval."""
    fnn.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(288, CLASSES)
    )
    rng = np.random.default_rng(0)
    x, y = rng.normal(2, 3, (16, 1, 8, 8)).astype(np.float32), rng.integers(0, CLASSES, 16)
    step, predict = fnn.compile(model, LOSS), fnn.compile(model)
    for train in (True, False, True):
        model.train(train)
        before = networks.parameters(model)
        exact = copy.deepcopy(model).double()
        fnn.manual_seed(11)
        expected = networks.eager_gradients(exact, LOSS, networks.wide(x), y)
        fnn.manual_seed(11)
        model.zero_grad()
        found = {"loss": np.asarray(step(x, y))} | {name: p.grad for name, p in model.named_parameters()}
        networks.assert_close(found, expected, 1e-4)
        assert_same(model, exact)
        assert np.array_equal(before["1.running_mean"], model.state_dict()["1.running_mean"]) is not train
        outputs = copy.deepcopy(model).double().eval()(networks.wide(x)).numpy()
        np.testing.assert_allclose(predict(x), outputs, rtol=0, atol=1e-5 * np.abs(outputs).max())
        assert [module.training for module in model.modules()] == [train] * 7
    model.train()
    model[1].eval()  # frozen statistics alone
    kept = networks.parameters(model)
    step(x, y)
    assert np.array_equal(kept["1.running_mean"], model.state_dict()["1.running_mean"])


def test_numbers_of_layers_may_change_between_steps() -> None:
    """The momentum and eps of batch norm, the probability of dropout, the slope of an activation."""

    def network() -> nn.Module:
        fnn.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.LeakyReLU(0.1), nn.Flatten(), nn.Dropout(0.5),
            nn.Linear(288, CLASSES),
        )  # fmt: skip

    model, exact = network(), network().double()
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(16, 1, 8, 8)).astype(np.float32), rng.integers(0, CLASSES, 16)
    step = fnn.compile(model, LOSS)
    for momentum, eps, p, slope in ((0.1, 1e-5, 0.5, 0.1), (0.7, 1e-5, 0.0, 0.1), (0.7, 0.5, 0.2, 0.4)):
        for one in (model, exact):
            one[1].momentum, one[1].eps, one[2].negative_slope, one[4].p = momentum, eps, slope, p
        model.zero_grad()
        fnn.manual_seed(1)
        expected = networks.eager_gradients(exact, LOSS, networks.wide(x), y)
        fnn.manual_seed(1)
        found = {"loss": np.asarray(step(x, y))} | {name: p.grad for name, p in model.named_parameters()}
        networks.assert_close(found, expected)
        assert_same(model, exact)


def test_normalize_is_live() -> None:
    """mean and std may be changed in place between steps: the plan reads uint8 through a table of them."""
    model = networks.mlp()
    x, y = networks.batch_for(networks.mlp, 16)
    step, predict = fnn.compile(model, LOSS), fnn.compile(model)
    for mean, std in ((0.3, 0.4), (0.9, 0.4), (0.9, 0.1)):
        model[0].mean[...], model[0].std[...] = mean, std
        exact = copy.deepcopy(model).double()
        model.zero_grad()
        found = {"loss": np.asarray(step(x, y))} | {name: p.grad for name, p in model.named_parameters()}
        networks.assert_close(found, networks.eager_gradients(exact, LOSS, x, y))
        outputs = exact(x).numpy()
        np.testing.assert_allclose(predict(x), outputs, rtol=0, atol=1e-5 * np.abs(outputs).max())


@pytest.mark.parametrize("network", [networks.mlp, networks.lenet], ids=lambda f: f.__name__)
@pytest.mark.parametrize("options", [{}, {"disable": fnn.plan.FUSIONS}, {"clip_norm": 1.0}, {"accumulate": 2}], ids=str)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, on the backend reference
@pytest.mark.parametrize("wrong", ["label below", "label above", "nan", "overflow"])
def test_a_refused_step_changes_nothing(wrong: str, options: dict[str, Any], network: Any) -> None:
    """Labels that do not exist and losses that are not finite are noticed before any update; then it goes on."""
    model, exact = network(), network().double()
    optimizer, optimizer_exact = sgd(model), sgd(exact)
    step = fnn.compile(model, LOSS, optimizer, **options)
    x, y = networks.batch_for(network, 16)
    for _ in range(2):
        step(x, y)
        if "accumulate" not in options and "clip_norm" not in options:
            eager_step(exact, optimizer_exact, networks.wide(x), y)
    before, state = networks.parameters(model), copy.deepcopy(optimizer.state_dict())
    bad_x, bad_y = x, y.copy()
    error: type[FastnnError] = LabelError
    if wrong.startswith("label"):
        bad_y[5] = -1 if wrong == "label below" else CLASSES
    else:
        error = NonFiniteError
        with_nan = model.state_dict()[list(model.state_dict())[-1]]
        with_nan[0] = np.nan if wrong == "nan" else 3e38
        if wrong == "overflow":
            with_nan[1] = -3e38
            bad_y[:] = 1
        before = networks.parameters(model)
    for _ in range(2):
        with pytest.raises(error):
            step(bad_x, bad_y)
    after = model.state_dict()
    assert all(np.array_equal(before[name], after[name], equal_nan=True) for name in before)
    assert all(p.grad is None for p in model.parameters())
    for i, entries in optimizer.state_dict()["state"].items():
        assert all(np.array_equal(entries[key], state["state"][i][key]) for key in entries)
    if wrong.startswith("label") and ("accumulate" not in options and "clip_norm" not in options):
        step(x, y)
        eager_step(exact, optimizer_exact, networks.wide(x), y)
        assert_same(model, exact)


@pytest.mark.skipif(not NATIVE, reason="only native kernels hold addresses")
def test_a_first_step_that_is_refused_leaves_the_optimizer_as_it_was() -> None:
    model, exact = networks.mlp(), networks.mlp().double()
    optimizer, optimizer_exact = sgd(model), sgd(exact)
    step = fnn.compile(model, LOSS, optimizer)
    x, y = networks.batch_for(networks.mlp, 16)
    with pytest.raises(LabelError):
        step(x, y + CLASSES)
    eager_step(exact, optimizer_exact, x, y)
    eager_step(model, optimizer, x, y)
    assert_same(model, exact)


def test_a_model_that_is_refused_has_none_of_the_attributes_that_its_trial_gave_it() -> None:
    class Once(nn.Module):
        def forward(self, x: fnn.Tensor) -> fnn.Tensor:
            if hasattr(self, "begun"):
                return x + 1
            self.begun = True
            return (x + 1) * 2

    model = Once().eval()
    with pytest.raises(GraphError, match="does not run the same operators at every call"):
        fnn.compile(model)(np.ones((1, 2), np.float32))
    assert not hasattr(model, "begun")
