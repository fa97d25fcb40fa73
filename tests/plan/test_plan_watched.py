"""What a plan computes from arrays and lists of any length is computed anew when these change in place."""

from __future__ import annotations

import copy
import pickle
import types
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn, optim, versions
from fastnn.plan.trace import Unsteady

X = np.random.default_rng(0).standard_normal((16, 8)).astype(np.float32)
Y = np.arange(16) % 2


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(np.ones((64, 8), np.float32))
        self.register_buffer("mask", np.ones((64, 8), np.float32))

    def forward(self, x: Any) -> Any:
        return x @ (self.weight * (self.mask > 0)).T


class Scaled(nn.Module):
    def __init__(self, scale: Any) -> None:
        super().__init__()
        self.linear, self.scale = nn.Linear(8, 2), scale

    def forward(self, x: Any) -> Any:
        return self.linear(x) * float(np.max(self.scale[3]))


def changed_after(model: nn.Module, change: Any) -> None:
    predict = fnn.compile(model)
    for _ in range(14):
        predict(X)
    change()
    np.testing.assert_allclose(predict(X), model.eval()(X).numpy(), rtol=1e-5, atol=1e-5)


def test_a_mask_of_more_than_a_kilobyte_is_followed() -> None:
    model = Masked()
    changed_after(model, lambda: model.mask.__setitem__(slice(0, 40), 0))
    state = {name: array.copy() for name, array in model.state_dict().items()}
    state["mask"][...] = 0
    changed_after(model, lambda: model.load_state_dict(state))


@pytest.mark.parametrize("make", [list, lambda a: dict(enumerate(a)), lambda a: np.array(a).reshape(-1, 1).T.copy().T])
def test_long_lists_dicts_and_arrays_are_followed(make: Any) -> None:
    scale = make([1.0] * 5000)
    changed_after(Scaled(scale), lambda: scale.__setitem__(3, 2.0))


class Options:
    gain = 1.0

    def shift(self) -> float:
        return 0.0


def halved(self: nn.Module, x: Any) -> Any:
    return x / 2


def with_default(x: Any, *, gain: float = 1.0) -> Any:
    return x * gain


def replaced_code(options: Options) -> None:
    """As IPython's autoreload does where a file has changed."""

    def shift(self: Any) -> float:
        return 3.0

    type(options).shift.__code__ = shift.__code__  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "change",
    [
        lambda model: setattr(model.options, "gain", 2.0),  # which hides the class's
        lambda model: setattr(model.options, "shift", lambda: 2.0),
        lambda model: setattr(type(model.options), "gain", 2.0),
        lambda model: setattr(type(model.options), "shift", lambda self: 2.0),
        lambda model: setattr(type(model), "forward", halved),
        lambda model: setattr(type(model), "scale", property(lambda self: 5.0)),
        lambda model: replaced_code(model.options),
        lambda model: model.function.__kwdefaults__.update(gain=2.0),
        lambda model: setattr(model.function, "__kwdefaults__", {"gain": 3.0}),
    ],
)
def test_what_classes_and_functions_define_is_followed(change: Any) -> None:
    class Own(Options):
        def shift(self) -> float:
            return 0.0

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.options = Own()
            self.function = types.FunctionType(with_default.__code__, globals())
            self.function.__kwdefaults__ = {"gain": 1.0}

        @property
        def scale(self) -> float:
            return 1.0

        def forward(self, x: Any) -> Any:
            return self.function(x) * self.options.gain * self.scale + self.options.shift()

    model = Model()
    changed_after(model, lambda: change(model))
    assert not np.allclose(model(X).numpy(), X)


def test_a_counter_that_begins_in_its_class_is_noticed() -> None:
    class Calls:
        count = 0

    class Counting(nn.Module):
        def forward(self, x: Any) -> Any:
            calls.count += 1
            return x * calls.count

    calls = Calls()
    with pytest.raises(Unsteady, match="count"):
        fnn.compile(Counting())(X)
    assert vars(calls) in ({}, {"count": 1})


def test_a_long_list_that_forward_rotates_is_put_back() -> None:
    class Rotating(Scaled):
        def forward(self, x: Any) -> Any:
            self.scale.append(self.scale.pop(0))
            return super().forward(x)

    model = Rotating([float(i) for i in range(300)])
    with pytest.raises(fnn.errors.GraphError, match="forward changes"):
        fnn.compile(model)(X)
    assert model.scale == [float(i) for i in range(300)]


class Centred(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.centre = nn.Linear(8, 2), fnn.Tensor(np.zeros(2, np.float32))

    def forward(self, x: Any) -> Any:
        h = self.linear(x)
        out = h - self.centre.clone()
        self.centre[...] = self.centre * 0.9 + h.detach().mean(0) * 0.1
        return out


def test_entries_written_off_the_tape_run_without_a_plan() -> None:
    losses = []
    for compiled in (True, False):
        fnn.manual_seed(0)
        model = Centred()
        sgd = optim.SGD(model.parameters(), lr=0.1)
        with pytest.warns(UserWarning, match="writes entries") if compiled else nullcontext():
            history = fnn.fit(
                model, (X, Y), optimizer=sgd, epochs=2, batch_size=8, seed=0, verbose=False, compile=compiled
            )
        losses.append([record.train_loss for record in history])
    assert losses[0] == losses[1]


def test_an_error_names_the_loss_where_the_loss_changes_something() -> None:
    log: list[int] = []

    def loss(outputs: Any, targets: Any) -> Any:
        log.append(1)
        return nn.functional.cross_entropy(outputs, targets)

    with pytest.raises(Unsteady, match=r"the loss changes log\[\d\].*call the model itself"):
        fnn.compile(nn.Linear(8, 2), loss)(X, Y)


def test_a_call_on_many_images_checks_its_plan_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(nn.Linear):
        def forward(self, x: Any) -> Any:
            return super().forward(x)

    checks = []
    monkeypatch.setattr("fastnn.plan.executions.check_again", lambda *_, **__: checks.append(1))
    predict = fnn.compile(Own(8, 2))
    for _ in range(2):
        predict(np.zeros((2560, 8), np.float32))
    assert len(checks) == 1


@pytest.mark.parametrize("compiled", [True, False])
def test_batch_norm_follows_tensors_as_statistics(compiled: bool) -> None:
    means = []
    for tensor in (True, False):
        fnn.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
        if tensor:
            model[1].running_mean = fnn.Tensor(np.zeros(4, np.float32))
        fnn.fit(model, (X, Y), epochs=2, batch_size=8, seed=0, verbose=False, compile=compiled)
        means.append(np.asarray(model[1].running_mean))
    assert means[0].any()
    np.testing.assert_array_equal(*means)


def test_an_epoch_begins_with_a_group_of_its_own() -> None:
    weights = []
    for before in (1, 0):
        fnn.manual_seed(0)
        model = nn.Linear(8, 2)
        step = fnn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1), accumulate=2)
        for _ in range(before):
            step(X[:3], Y[:3])
        step.run_epoch(X, Y, batch_size=4, progress=False)
        weights.append(model.weight.numpy().copy())
    np.testing.assert_array_equal(*weights)


def test_a_copy_has_the_mode_that_its_thread_sees() -> None:
    model = nn.Sequential(nn.Linear(8, 2), nn.Dropout(0.5)).eval()
    modes = []

    class Copying(fnn.train.Callback):
        def on_epoch_end(self, training: Any, *_: Any) -> None:
            for made in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
                modes.extend(part.training for part in made.modules())

    fnn.fit(model, (X, Y), epochs=1, callbacks=[Copying()], verbose=False)
    assert modes == [True] * 6
    assert not copy.deepcopy(model).training


def test_a_trial_of_one_image_leaves_counters_and_generators() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.calls, self.rng = nn.Linear(8, 2), 0, np.random.default_rng(0)

        def forward(self, x: Any) -> Any:
            self.calls += 1
            return self.linear(x) + self.rng.random()

    from fastnn.plan.fewest import fewest_in_training

    model = Counting()
    assert fewest_in_training(model, lambda: X[:2]) == 1
    assert model.calls == 0
    assert model.rng.random() == np.random.default_rng(0).random()


def test_the_last_write_of_all_is_never_an_earlier_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread writes between the number that a write is given and its entry."""
    real, other = versions.clock, np.zeros(1)

    class Clock:
        def __next__(self) -> int:
            number = next(real)
            monkeypatch.setattr(versions, "clock", real)
            versions.wrote(other)
            return number

    for wrote in (lambda: versions.wrote(np.zeros(1)), versions.Writer([np.zeros(1)]).wrote):
        monkeypatch.setattr(versions, "clock", Clock())
        wrote()
        assert versions.latest == next(real) - 1
