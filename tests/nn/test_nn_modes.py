"""Training and eval mode: borrowed for one thread, kept where the user set it, and what freeze keeps."""

from __future__ import annotations

import copy
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn, optim
from fastnn.nn.modes import borrowed, mode
from fastnn.train import Callback, Training

X = (5 + np.random.default_rng(0).standard_normal((64, 1, 8, 8))).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 3, 64)
ROUNDS = 50


class Probe(nn.Module):
    """Passes its input on, and notes in which thread its forward ran in which mode."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.drop = nn.Dropout(0.5)
        self.notes: SimpleQueue[tuple[int, bool]] = SimpleQueue()  # which a plan does not look into

    def forward(self, x: Any) -> Any:
        self.notes.put((threading.get_ident(), self.training))
        assert self.training == self.norm.training == self.drop.training
        return self.drop(self.norm(x))


def probed() -> nn.Sequential:
    fnn.manual_seed(0)
    return nn.Sequential(Probe(), nn.Flatten(), nn.Linear(64, 3))


def seen_by_threads(model: nn.Module, *works: Callable[[], Any]) -> list[set[bool]]:
    """The modes in which forward ran in one thread for each work, all of which begin at one time."""
    barrier = threading.Barrier(len(works))
    failures: list[BaseException] = []
    idents = [0] * len(works)

    def run(index: int) -> None:
        try:
            idents[index] = threading.get_ident()
            barrier.wait()
            works[index]()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    notes = noted(model)
    return [{training for ident, training in notes if ident == one} for one in idents]


def noted(model: nn.Module) -> list[tuple[int, bool]]:
    return [model[0].notes.get() for _ in range(model[0].notes.qsize())]


def evaluated(model: nn.Module, compile: bool) -> Callable[[], Any]:
    return lambda: [fnn.evaluate(model, (X[:8], Y[:8]), compile=compile) for _ in range(ROUNDS // 5)]


def fitted(model: nn.Module, compile: bool) -> Callable[[], Any]:
    return lambda: fnn.fit(model, (X[:16], Y[:16]), epochs=ROUNDS // 5, batch_size=8, verbose=False, compile=compile)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("compile", [True, False])
def test_two_threads_evaluate_one_model(training: bool, compile: bool) -> None:
    model = probed().train(training)
    for _ in range(5):
        assert seen_by_threads(model, evaluated(model, compile), evaluated(copy.copy(model), compile)) == [{False}] * 2
        assert [module.training for module in model.modules()] == [training] * 6


@pytest.mark.parametrize("compile", [True, False])
def test_one_thread_evaluates_and_one_predicts_while_one_trains(compile: bool) -> None:
    model = probed()

    def predict() -> None:
        for n in range(1, 9):
            fnn.compile(model)(X[:n])

    found = seen_by_threads(model, fitted(model, compile), evaluated(model, compile), predict)
    assert found == [{True}, {False}, {False}]
    assert all(module.training for module in model.modules())


def test_a_model_may_be_walked_through_while_another_thread_sets_attributes() -> None:
    model = probed()
    done = threading.Event()

    def set_and_forget() -> None:
        for n in range(2000):
            setattr(model, f"note{n}", n)
            delattr(model, f"note{n}")
        done.set()

    def walk() -> None:
        while not done.is_set():
            assert [*map(len, ([*model.modules()], [*model.parameters()], model.state_dict()))] == [6, 4, 7]

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        seen_by_threads(model, set_and_forget, walk)
    finally:
        sys.setswitchinterval(interval)


def test_a_thread_that_calls_the_model_itself_sees_the_modes_that_were_set() -> None:
    model = probed().eval()
    own = lambda: [model(X[:4]) for _ in range(ROUNDS)]  # noqa: E731
    assert seen_by_threads(model, own, fitted(model, False)) == [{False}, {True}]


def test_what_is_set_during_a_loan_holds_in_that_thread_until_its_end() -> None:
    model = probed()
    other: list[bool] = []
    with borrowed(model):
        model.eval()
        model[0].training = True
        assert [module.training for module in model.modules()] == [False, True, False, False, False, False]
        thread = threading.Thread(target=lambda: other.append(model.training))
        thread.start()
        thread.join()
        with mode(model, training=True):
            assert model[2].training
        assert not model[2].training
    assert other == [True]
    assert all(module.training for module in model.modules())
    model.eval()
    with pytest.raises(ZeroDivisionError), mode(model, training=True):
        raise ZeroDivisionError
    assert not model.training


def test_a_generator_that_is_left_inside_a_loan_keeps_no_mode() -> None:
    model = probed()

    def generate() -> Any:
        with mode(model, training=False):
            yield

    held = generate()
    next(held)
    with mode(model, training=False):
        held.close()  # not the innermost
        assert not model.training
    assert model.training
    held = generate()
    next(held)
    thread = threading.Thread(target=held.close)  # in another thread than it began in
    thread.start()
    thread.join()
    assert model.training


def test_a_callback_may_set_modes_within_fit() -> None:
    model = probed()

    class Evaluate(Callback):
        def on_batch_end(self, training: Training) -> None:
            training.model.eval()
            training.model(X[:2])
            training.model.train()

        def on_epoch_end(self, training: Training) -> None:
            training.model[0].eval()  # from here on

    model.eval()
    fnn.fit(model, (X, Y), epochs=2, batch_size=32, callbacks=[Evaluate()], verbose=False, compile=False)
    assert [training for _, training in noted(model)] == [True, False, True, False, False, False, True, False]
    assert not model.training


# ---- what fit puts into training mode --------------------------------------------------------------------------------


def backbone_and_head() -> nn.Sequential:
    fnn.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5))
    return nn.Sequential(backbone, nn.Flatten(), nn.Linear(4 * 36, 3))


class ByItself(nn.Sequential):
    """Keeps its batch norm in eval mode, as PyTorch's users write it."""

    def train(self, mode: bool = True) -> ByItself:
        super().train(mode)
        self[1].eval()
        return self


def by_itself() -> nn.Sequential:
    model = backbone_and_head()
    model[0] = ByItself(*model[0])
    return model


def new_head() -> nn.Sequential:
    model = backbone_and_head().eval()
    model[2] = nn.Linear(4 * 36, 3)
    return model


def head_alone() -> nn.Sequential:
    model = backbone_and_head().eval()
    model[2].train()
    return model


MODES: dict[str, tuple[Callable[[], nn.Sequential], bool]] = {
    "all in training mode": (backbone_and_head, True),
    "all in eval mode": (lambda: backbone_and_head().eval(), True),
    "all in eval mode, with a new layer": (new_head, True),
    "a part in eval mode": (lambda: _with(backbone_and_head(), lambda m: m[0].eval()), False),
    "batch norm in eval mode": (lambda: _with(backbone_and_head(), lambda m: m[0][1].eval()), False),
    "train() called on a part alone": (head_alone, False),
    "a part with a train of its own": (by_itself, False),
    "frozen": (lambda: _with(backbone_and_head(), lambda m: m[0].freeze()), False),
    "frozen and in training mode again": (lambda: _with(backbone_and_head(), lambda m: m[0].freeze()).train(), False),
    "frozen in eval mode": (lambda: _with(backbone_and_head(), lambda m: m[0].freeze()).eval(), False),
    "a frozen copy": (lambda: copy.deepcopy(_with(backbone_and_head(), lambda m: m[0].freeze())), False),
    "no longer frozen": (lambda: _with(backbone_and_head(), lambda m: m.freeze() and m.unfreeze()), True),
    "asking for gradients again": (lambda: _with(backbone_and_head(), lambda m: m.freeze().requires_grad_()), True),
}


def _with(model: Any, change: Callable[[Any], Any]) -> Any:
    change(model)
    return model


@pytest.mark.parametrize("compile", [True, False])
@pytest.mark.parametrize("case", MODES)
def test_statistics_follow_where_the_user_wants_it(case: str, compile: bool) -> None:
    make, follows = MODES[case]
    model = make()
    modes = [module.training for module in model.modules()]
    before = copy.deepcopy(model[0].state_dict())
    optimizer = optim.SGD(model.parameters(), lr=0.01)
    fnn.fit(model, (X, Y), optimizer=optimizer, epochs=2, batch_size=16, verbose=False, compile=compile)
    assert [module.training for module in model.modules()] == modes
    moved = {name for name, array in model[0].state_dict().items() if not np.array_equal(array, before[name])}
    statistics = {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
    assert moved & statistics == (statistics if follows else set())
    if case.startswith(("frozen", "a frozen")):
        assert not moved


@pytest.mark.parametrize("how", ["step", "run_epoch", "own loop"])
def test_what_is_frozen_stays_so_in_other_loops_after_train(how: str) -> None:
    model = backbone_and_head()
    model[0].freeze()
    optimizer, loss_fn = optim.SGD(model.parameters(), lr=0.01, momentum=0.9), nn.CrossEntropyLoss()
    before, head = copy.deepcopy(model[0].state_dict()), model[2].weight.data.copy()
    step = fnn.compile(model.train(), loss_fn, optimizer)
    if how == "step":
        step(X[:16], Y[:16])
    elif how == "run_epoch":
        step.run_epoch(X, Y, batch_size=16, progress=False)
    else:
        loss_fn(model(X[:16]), Y[:16]).backward()
        optimizer.step()
    assert all(np.array_equal(array, before[name]) for name, array in model[0].state_dict().items())
    assert not np.array_equal(model[2].weight.data, head)
    model[0].unfreeze()
    step(X[:16], Y[:16])
    assert not np.array_equal(model[0][1].running_mean, before["1.running_mean"])


def test_a_frozen_part_learns_nothing_and_its_norm_uses_what_it_has() -> None:
    """Expected values by hand: (x - running_mean) / sqrt(running_var + eps), in training mode."""
    model = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2, affine=False), nn.Linear(2, 2))
    model[0].running_mean[...], model[0].running_var[...] = [1, 2], [4, 9]
    assert model[:2].freeze()[0].frozen
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ["2.weight", "2.bias"]
    assert not model[2].frozen
    x = np.array([[1.0, 5.0], [5.0, 2.0]], np.float32)
    np.testing.assert_allclose(model[0](x).data, [[0, 1], [2, 0]], atol=1e-5)
    assert model[1].train()(x).data.tolist() == pytest.approx(x / np.sqrt(1 + 1e-5))
    assert "frozen" in repr(model)
    assert list(model.state_dict()) == list(nn.Sequential(*model).state_dict())
    plain = nn.BatchNorm1d(2).requires_grad_(False)  # as in PyTorch: statistics follow all the same
    plain(x)
    assert plain.running_mean[0] != 0
    model.unfreeze()
    assert all(p.requires_grad for p in model.parameters())
    assert "frozen" not in repr(model)
    model[0](x)
    assert model[0].running_mean.tolist() == pytest.approx([0.9 * 1 + 0.1 * 3, 0.9 * 2 + 0.1 * 3.5])


def test_dropout_in_a_frozen_part_goes_on_dropping() -> None:
    model = nn.Sequential(nn.Dropout(0.5)).freeze()
    assert 0 in model(np.ones(100, np.float32)).data
    assert 0 not in model.eval()(np.ones(100, np.float32)).data


def test_train_reaches_each_module_once() -> None:
    """Also where every one of them defines `train` itself and calls its base class's."""
    calls = []

    class Nested(nn.Module):
        def __init__(self, depth: int) -> None:
            super().__init__()
            if depth:
                self.inner = Nested(depth - 1)

        def train(self, mode: bool = True) -> nn.Module:
            calls.append(mode)
            return super().train(mode)

    model = Nested(11)
    model.eval()
    assert calls == [False] * 12
    assert not any(module.training for module in model.modules())


class Sets(Callback):
    """Calls `change(model)` at one moment of the training."""

    def __init__(self, moment: str, change: Callable[[Any], None], at: int = 1) -> None:
        def call(training: Training) -> None:
            if (training.batch if moment == "on_batch_end" else training.epoch) == at:
                change(training.model)

        setattr(self, moment, call)


@pytest.mark.parametrize("compile", [True, False])
@pytest.mark.parametrize("moment", ["on_epoch_begin", "on_batch_end", "on_epoch_end"])
def test_a_callback_that_leaves_the_model_in_eval_mode_does_not_end_its_training(moment: str, compile: bool) -> None:
    """Batch norm and dropout were at rest from then on, without a word."""

    def trained(*callbacks: Callback) -> dict[str, Any]:
        fnn.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 3))
        model[2].requires_grad_(False)
        fnn.fit(model, X, Y, epochs=3, batch_size=16, seed=0, verbose=False, callbacks=callbacks, compile=compile)
        return {name: entry.numpy() for name, entry in model.state_dict().items()}

    expected, found = trained(), trained(Sets(moment, lambda model: model.eval()))
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
    parts = trained(Sets("on_epoch_end", lambda model: model[2].eval()))
    left = trained(Sets("on_epoch_end", lambda model: (model[2].eval(), model.eval())))  # type: ignore[arg-type]
    assert parts["2.num_batches_tracked"] == 4 < expected["2.num_batches_tracked"] == left["2.num_batches_tracked"]
