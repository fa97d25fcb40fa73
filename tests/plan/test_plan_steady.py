"""What forward does besides computing: a plan does not repeat it for ever; fit trains as without one, and says so.

The right losses are those of the same training operator by operator, from the same seeds.
"""

from __future__ import annotations

import random
import re
import threading
import warnings
from typing import Any

import numpy as np
import pytest
from steady_models import CROSS_ENTROPY, Do, Model, X, Y, trained

import fastnn as fnn
from fastnn import nn, optim
from fastnn.errors import GraphError

GENERATOR = random.Random()
COUNT = 0


def either(value: float) -> float:
    """Nine times of ten the same, so that two traces mostly look alike."""
    return 2.0 if value < 0.9 else 1.0


def count_globally(m: Any, x: Any, h: Any) -> Any:
    global COUNT
    COUNT += 1
    return h * (2 if COUNT > 5 else 1)


def count(m: Any) -> int:
    m.calls += 1
    return m.calls


def count_by_class(m: Any, x: Any, h: Any) -> Any:
    type(m).per_class += 1
    return h / m.per_class


def count_in_a_list(m: Any, x: Any, h: Any) -> Any:
    m.list.append(1.0)
    return h / len(m.list)


def count_in_a_dict(m: Any, x: Any, h: Any) -> Any:
    m.dict["n"] += 1
    return h / m.dict["n"]


def assign_buffer(m: Any, x: Any, h: Any) -> Any:
    m.buffer = m.buffer * 0.9 + 0.1
    return h + m.buffer


def keep(m: Any, x: Any, h: Any) -> Any:
    m.kept = h
    return h


def follow_in_place(m: Any, x: Any, h: Any) -> Any:
    m.buffer *= 0.9
    m.buffer += 0.1
    return h + m.buffer


def add_to_buffer(m: Any, x: Any, h: Any) -> Any:
    m.buffer.mul_(0.9).add_(h.detach().mean(0), alpha=0.1)
    return h + m.buffer


def write_large(m: Any, x: Any, h: Any) -> Any:
    m.large += 1
    return h


def clip_weights(m: Any, x: Any, h: Any) -> Any:
    m.linear.weight.data[...] = m.linear.weight.data.clip(-0.1, 0.1)
    return h


def keep_first(m: Any, x: Any, h: Any) -> Any:
    m.kept = h if m.kept is None else m.kept
    return h


def first_is_another(m: Any, x: Any, h: Any) -> Any:
    m.calls, first = 1, m.calls == 0
    return h * 3 if first else h


def with_table(m: Any, x: Any, h: Any) -> Any:
    if m.table is None or len(m.table) < len(x):
        m.table = np.linspace(0, 1, len(x), dtype=np.float32)[:, None]
    return h + m.table[: len(x)]


UNSTEADY: dict[str, tuple[Do, str]] = {
    "noise": (lambda m, x, h: h + m.generator.standard_normal(h.shape).astype(np.float32), "draws .* Model.generator"),
    "coin": (lambda m, x, h: h * either(m.generator.random()), "draws random numbers from Model.generator"),
    "RandomState": (lambda m, x, h: h * either(m.state.rand()), "draws random numbers from Model.state"),
    "partial": (lambda m, x, h: h * either(m.draw()), "draws random numbers from Model.draw"),
    "in containers": (lambda m, x, h: h * either(m.tools["dice"][0].random()), "draws .* Model.tools"),
    "in a helper": (lambda m, x, h: h * either(m.helper.generator.random()), "draws .* Helper.generator"),
    "property": (lambda m, x, h: h * (2 if m.coin else 1), "draws random numbers from Model.generator"),
    "np.random": (lambda m, x, h: h * either(np.random.rand()), "draws .* from np.random"),  # noqa: NPY002
    "random": (lambda m, x, h: h * either(random.random()), "draws random numbers from random"),
    "global generator": (lambda m, x, h: h * either(GENERATOR.random()), "draws random numbers from GENERATOR"),
    "fnn.random": (lambda m, x, h: h * fnn.random.generator().random(), "draws .* fnn.random.generator"),
    "counter": (lambda m, x, h: h / count(m), "changes Model.calls"),
    "late counter": (lambda m, x, h: h * (2 if count(m) > 5 else 1), "changes Model.calls"),
    "helper's counter": (lambda m, x, h: h * (2 if m.helper.count() > 5 else 1), "changes Helper.calls"),
    "class's counter": (count_by_class, "changes Model.per_class"),
    "global counter": (count_globally, "changes the global variable COUNT"),
    "list": (count_in_a_list, r"changes Model\.list"),
    "dict": (count_in_a_dict, r"changes Model\.dict\['n'\]"),
    "buffer assigned": (assign_buffer, "changes Model.buffer"),
    "buffer written": (follow_in_place, "writes into Model.buffer"),
    "buffer's method": (add_to_buffer, "writes entries of a tensor"),
    "tensor of a buffer": (lambda m, x, h: h + fnn.as_tensor(m.buffer).add_(h.detach().mean(0)), "writes entries"),
    "tensor of an array": (lambda m, x, h: h + fnn.from_numpy(m.live).add_(h.detach().mean(0)), "writes entries"),
    "detached": (lambda m, x, h: (m.tensor.detach().add_(h.detach().mean(0)), h + m.tensor)[1], "writes entries"),
    "large array": (write_large, "writes into Model.large"),
    "weights": (clip_weights, "writes into Model.linear.weight"),
    "iterator": (lambda m, x, h: h * float(next(m.numbers)), "takes values from Model.numbers, an iterator"),
    "late iterator": (lambda m, x, h: h * (2 if next(m.counter) < 9 else 1), "takes values from Model.counter"),
    "first call": (first_is_another, "does not run the same operators"),
    "a weight's value": (
        lambda m, x, h: h * float(abs(m.linear.weight.data).max()),
        "Mul in Model .* after 1 compiled",
    ),
}


def started(do: Do) -> Model:
    """A model, and what is global here as it is at first."""
    global COUNT
    COUNT = 0
    GENERATOR.seed(0)
    return Model(do)


@pytest.mark.parametrize("kind", UNSTEADY)
def test_fit_does_what_forward_says_at_every_call(kind: str) -> None:
    do, reason = UNSTEADY[kind]
    losses, said, model = trained(lambda: started(do), compile=True)
    expected, nothing, twin = trained(lambda: started(do), compile=False)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    assert not nothing
    assert len(said) == 1
    assert said[0].startswith("fit: this model runs operator by operator, not compiled: forward ")
    assert re.search(reason, said[0]), said[0]
    for (name, array), other in zip(model.state_dict().items(), twin.state_dict().values(), strict=True):
        np.testing.assert_allclose(array, other, rtol=1e-4, atol=1e-6, err_msg=name)
    assert (model.calls, model.list, model.dict) == (twin.calls, twin.list, twin.dict)
    assert np.array_equal(model.large, twin.large)


def write_off_the_tape(m: Any, x: Any, h: Any) -> Any:
    with fnn.no_grad():
        h[:, 0] = 0
    return h


NO_PLAN: dict[str, tuple[Do, Any, str]] = {  # forward, the loss, and why there is no plan
    "item": (lambda m, x, h: h * float(h.mean().item() > 0), CROSS_ENTROPY, "reads the value of a tensor"),
    "if": (lambda m, x, h: h if x.sum() > 0 else -h, CROSS_ENTROPY, "reads the value of a tensor"),
    "loss": (lambda m, x, h: h, lambda o, y: CROSS_ENTROPY(o, y) * float(o.max().item()), "reads the value"),
    "detached": (lambda m, x, h: (h.detach().mul_(2), h)[1], CROSS_ENTROPY, r"what detach\(\) gives is written"),
    "no_grad": (write_off_the_tape, CROSS_ENTROPY, "written in place under fnn.no_grad"),
    "entries": (lambda m, x, h: h + h[h > 0].sort()[0].sum(), CROSS_ENTROPY, "how many entries a mask picks"),
}


@pytest.mark.parametrize("kind", NO_PLAN)
def test_fit_runs_what_no_plan_can_be_made_of(kind: str) -> None:
    """Operator by operator, with one warning, and validates by it; compile itself refuses."""
    do, loss, reason = NO_PLAN[kind]
    histories = []
    for compiled in (True, False):
        fnn.manual_seed(0)
        model = started(do)
        how: Any = {"loss": loss, "optimizer": optim.SGD(model.parameters(), lr=0.1), "compile": compiled}
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            histories.append(fnn.fit(model, X, Y, val=(X, Y), batch_size=20, epochs=2, seed=0, verbose=False, **how))
            fnn.evaluate(model, X, Y, loss=loss, compile=compiled)
        assert len(said) == compiled, [str(one.message) for one in said]
        if compiled:
            assert re.search(f"fit: .* operator by operator, not compiled: .*{reason}", str(said[0].message))
            with pytest.raises(GraphError, match=reason):
                fnn.compile(model, loss)(X, Y)
    for name in ("train_loss", "val_loss"):
        np.testing.assert_allclose(histories[0][name], histories[1][name], rtol=1e-5)


@pytest.mark.parametrize("kind", [kind for kind in UNSTEADY if kind != "a weight's value"])
def test_compile_refuses_and_puts_everything_back(kind: str) -> None:
    def states() -> list[Any]:
        names = "generator", "state", "calls", "list", "dict", "kept", "per_class"
        drawn = [model.generator.random(), model.state.rand(), random.random(), np.random.rand()]  # noqa: NPY002
        return [*drawn, *(repr(getattr(model, name)) for name in names)]

    model = Model(UNSTEADY[kind][0])
    draws = model.generator.bit_generator.state, model.state.get_state(), random.getstate(), np.random.get_state()  # noqa: NPY002
    first = states()
    model.generator.bit_generator.state = draws[0]
    model.state.set_state(draws[1])
    random.setstate(draws[2])
    np.random.set_state(draws[3])  # noqa: NPY002
    before = {name: array.copy() for name, array in model.state_dict().items()}
    step = fnn.compile(model, CROSS_ENTROPY, optim.SGD(model.parameters(), lr=0.1))
    for _ in range(2):
        with pytest.raises(GraphError, match=r"compile: forward .* fnn\.randn_like"):
            step(X, Y)
    assert all(np.array_equal(array, before[name]) for name, array in model.state_dict().items())
    assert states() == first


def test_a_compiled_step_that_was_right_at_first_is_refused_later_and_then_made_anew() -> None:
    """What enters by a parameter's value is found before the second step, which then makes no update."""
    model = Model(UNSTEADY["a weight's value"][0])
    step = fnn.compile(model, CROSS_ENTROPY, optim.SGD(model.parameters(), lr=0.1))
    step(X, Y)
    before = model.linear.weight.data.copy()
    with pytest.raises(GraphError, match="Mul in Model"):
        step(X, Y)
    assert np.array_equal(model.linear.weight.data, before)
    expected = CROSS_ENTROPY(model(X), Y).item()
    assert step(X, Y) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["first call", "a weight's value", "counter", "coin", "weights", "list"])
def test_other_threads_hide_nothing(kind: str) -> None:
    """Where there are any, what looks like their doing is tried again."""
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    try:
        test_fit_does_what_forward_says_at_every_call(kind)
    finally:
        end.set()
        thread.join()


def test_what_other_threads_draw_and_change_is_not_forwards_doing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here they do so after two of three traces."""
    model, trace, counts = Model(lambda m, x, h: h * (1 + m.dict["n"])), fnn.plan.step.trace, iter(range(100))
    position = np.random.get_state()[2]  # noqa: NPY002

    def meddle() -> None:
        np.random.rand()  # noqa: NPY002
        model.calls += 1

    def traced_and_meddled_with(*args: Any) -> Any:
        graph = trace(*args)
        if next(counts) % 3 < 2:
            thread = threading.Thread(target=meddle)
            thread.start()
            thread.join()
        return graph

    monkeypatch.setattr(fnn.plan.step, "trace", traced_and_meddled_with)
    end = threading.Event()
    waiting = threading.Thread(target=end.wait)
    waiting.start()
    try:
        fnn.compile(model, CROSS_ENTROPY)(X, Y)
    finally:
        end.set()
        waiting.join()
    assert model.calls == 2, "what the thread has set is still there"
    assert np.random.get_state()[2] != position  # noqa: NPY002


def test_evaluate_goes_on_without_a_plan_and_says_so_once() -> None:
    model = Model(UNSTEADY["counter"][0])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        losses = [fnn.evaluate(model, (X, Y), batch_size=32).loss for _ in range(3)]
    assert [str(warning.message)[:9] for warning in said] == ["evaluate:"]
    assert losses == [fnn.evaluate(_with_calls(model, n), (X, Y), batch_size=32, compile=False).loss for n in range(3)]


def _with_calls(model: Any, calls: int) -> Any:
    model.calls = calls
    return model


class Noise(fnn.Function):
    """An operator of a user's, which draws when it runs."""

    calls = 0

    @staticmethod
    def forward(ctx: Any, x: np.ndarray) -> np.ndarray:
        Noise.calls += 1
        fresh = np.random.default_rng().random() * 0
        return x + np.random.standard_normal(x.shape).astype(x.dtype) * random.random() + np.float32(fresh)  # noqa: NPY002

    @staticmethod
    def backward(ctx: Any, grad: np.ndarray) -> np.ndarray:
        return grad


# ---- what is steady --------------------------------------------------------------------------------------------------

STEADY: dict[str, Do] = {
    "a generator of its own seed": lambda m, x, h: (
        h + np.random.default_rng(7).standard_normal(h.shape).astype(np.float32)
    ),
    "a table made at the first call": with_table,
    "another thing in eval mode": lambda m, x, h: h if m.training else h * 2,
    "fastnn's own draws": lambda m, x, h: h + fnn.randn_like(h) * fnn.bernoulli(fnn.rand_like(h)),
    "an operator that draws": lambda m, x, h: Noise.apply(h),
    "a live buffer": lambda m, x, h: h * m.buffer + h,
    "an activation kept": keep,
    "the first activation kept": keep_first,
}


@pytest.mark.parametrize("kind", STEADY)
def test_what_is_the_same_at_every_call_is_compiled(kind: str) -> None:
    losses, said, model = trained(lambda: Model(STEADY[kind]), compile=True)
    expected, _, twin = trained(lambda: Model(STEADY[kind]), compile=False)
    assert not said
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    step = fnn.compile(model, CROSS_ENTROPY)
    step(X, Y)
    assert (model.table is None) is (twin.table is None)


def test_layers_of_fastnn_alone_are_traced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    whole = fnn.plan.step.trace
    monkeypatch.setattr(fnn.plan.step, "trace", lambda *args: (calls.append(1), whole(*args))[1])
    for loss in (CROSS_ENTROPY, lambda outputs, y: CROSS_ENTROPY(outputs, y)):
        model = nn.Sequential(nn.Linear(8, 2))
        step = fnn.compile(model, loss, optim.SGD(model.parameters(), lr=0.1))
        for _ in range(12):
            step(X, Y)
    assert len(calls) == 1 + 4  # with a user's loss twice, and before the 2nd and the 11th step
