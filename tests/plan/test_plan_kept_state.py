"""State that one call leaves in attributes for the next, an input of the plan; and forward hooks, traced too.

Compared as in test_plan_kept.py.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from kept_models import MSE, SIZES, Net, batches, compare, plain

import fastnn as fnn
from fastnn import nn, optim
from fastnn.errors import GraphError
from fastnn.plan import FUSIONS


def recurrent(m: Any, x: Any) -> Any:
    if m.state is None or len(m.state) != len(x):
        m.state = fnn.zeros(len(x), 6)
    m.state = (m.a(x) + m.b(m.state.detach())).tanh()
    return m.state


def two_states(m: Any, x: Any) -> Any:
    h, c = m.state if m.state is not None and len(m.state[0]) == len(x) else (fnn.zeros(len(x), 6), fnn.ones(len(x), 6))
    c = c * 0.9 + m.a(x).sigmoid() * h
    h = m.b(c).tanh()
    m.state = h.detach(), c.detach()
    return h


def running_mean(m: Any, x: Any) -> Any:
    h = m.a(x)
    m.average = 0.9 * m.average + 0.1 * h.detach().mean(0)
    return m.b(h - m.average)


def by_hasattr(m: Any, x: Any) -> Any:
    mean = m.a(x).detach().mean(0)
    m.follows = m.follows * 0.5 + mean if hasattr(m, "follows") else mean
    return m.b(m.a(x) * m.follows)


def one_behind(m: Any, x: Any) -> Any:
    m.previous, m.state = m.state, m.b(m.a(x)).detach()
    return m.b(m.a(x)) + (0 if m.previous is None else m.previous.mean(0))


def first_alone(m: Any, x: Any) -> Any:
    h = m.a(x)
    if m.state is None:
        m.state = h.detach().mean(0)
    return m.b(h + m.state)


STATES: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "recurrent": (recurrent, lambda m: [m.state]),
    "two states": (two_states, lambda m: m.state),
    "a buffer's running mean": (running_mean, lambda m: [m.average]),
    "hasattr": (by_hasattr, lambda m: [m.follows]),
    "one call behind": (one_behind, lambda m: [m.state, *([] if m.previous is None else [m.previous])]),
    "of the first call": (first_alone, lambda m: [m.state]),
}


@pytest.mark.parametrize("kind", STATES)
def test_what_a_call_leaves_for_the_next_is_an_input_of_the_plan(kind: str) -> None:
    do, kept = STATES[kind]
    compare(lambda: Net(do), plain, kept)


def test_state_that_is_set_between_calls_counts() -> None:
    def change(m: Any, i: int) -> None:
        if i == 1:
            m.state = fnn.ones(SIZES[i], 6)
        if i == 4:
            m.state = None

    compare(lambda: Net(recurrent), plain, lambda m: [m.state], change)


def test_two_plans_share_a_models_state() -> None:
    model, (x, y) = Net(recurrent), batches()[0]
    twin = copy.deepcopy(model)
    step, predict = fnn.compile(model, MSE), fnn.compile(model)
    for _ in range(3):
        assert step(x, y) == pytest.approx(MSE(twin(x), y).item(), rel=1e-5)
        np.testing.assert_allclose(predict(x), twin(x).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_an_attribute_that_one_mode_sets_and_the_other_reads() -> None:
    """Predictions follow what the last training step has left."""

    def either(m: Any, x: Any) -> Any:
        h = m.a(x)
        if m.training:
            m.shift = h.detach().mean(0)
        return m.b(h - m.shift)

    fnn.manual_seed(0)
    model = Net(either)
    step, predict = fnn.compile(model, MSE, optim.SGD(model.parameters(), lr=0.1)), fnn.compile(model)
    for x, y in batches():
        step(x, y)
        model.eval()
        expected = model(x).detach().numpy()
        np.testing.assert_allclose(predict(x), expected, rtol=1e-5, atol=1e-6)
        assert step(x, y) == pytest.approx(MSE(fnn.Tensor(expected), y).item(), rel=1e-4)
        model.train()


def test_lazy_layers_learn_their_sizes_without_a_call_that_counts() -> None:
    class Lazy(Net):
        def __init__(self) -> None:
            super().__init__(recurrent)
            self.a = nn.LazyLinear(6)

    model, (x, y) = Lazy(), batches()[0]
    step = fnn.compile(model, MSE)
    got = step(x, y)
    model.state = None
    assert got == pytest.approx(MSE(model(x), y).item(), rel=1e-5)


def test_state_with_nothing_fused() -> None:
    compare(lambda: Net(recurrent), plain, lambda m: [m.state], disable=FUSIONS)


def test_state_whose_numbers_are_read_is_refused_and_named() -> None:
    def reads(m: Any, x: Any) -> Any:
        h = m.a(x)
        scale = 1.0 if m.state is None else float(m.state.mean())
        m.state = h.detach()
        return m.b(h) * scale

    model, (x, y) = Net(reads), batches()[0]
    step = fnn.compile(model, MSE)
    step(x, y)
    first = model.state
    with pytest.raises(GraphError, match=r"reads the value of a tensor, .* of Net\.state, which the call before"):
        step(x, y)
    assert model.state is first
    model.state = None
    with pytest.warns(UserWarning, match=r"reads the value of a tensor, .* of Net\.state"):
        fnn.fit(model, (x, y), loss=MSE, epochs=2, verbose=False)


# ---- hooks -----------------------------------------------------------------------------------------------------------


class SaveFeatures:
    def __init__(self, module: Any) -> None:
        self.handle = module.register_forward_hook(self.hook)

    def hook(self, module: Any, args: Any, output: Any) -> None:
        self.features = output


def with_dict() -> Any:
    model, features = Net(), {}

    def named(name: str) -> Any:
        def hook(module: Any, args: Any, output: Any) -> None:
            features[name] = output.detach()

        return hook

    model.a.register_forward_hook(named("a"))
    model.b.register_forward_hook(named("b"))
    model.features = features
    return model


def with_object() -> Any:
    model = Net()
    model.saved = SaveFeatures(model.a)
    return model


def that_computes() -> Any:
    model = Net()
    model.a.register_forward_pre_hook(lambda module, args: (args[0] * 2,))
    model.b.register_forward_hook(lambda module, args, output: output.clamp(-0.5, 0.5))
    return model


def penalised(m: Any) -> Any:
    return lambda o, y: MSE(o, y) + m.saved.features.abs().mean()


HOOKS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any], Callable[[Any], Any]]] = {
    "a dict of features": (with_dict, plain, lambda m: m.features.values()),
    "an object": (with_object, penalised, lambda m: [m.saved.features]),
    "what they compute": (that_computes, plain, lambda m: []),
}


@pytest.mark.parametrize("kind", HOOKS)
def test_forward_hooks_are_traced_like_forward(kind: str) -> None:
    compare(*HOOKS[kind])


def test_a_hook_counts_from_the_call_after_it_is_registered_until_it_is_removed() -> None:
    model, (x, _) = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6)), batches()[0]
    predict = fnn.compile(model)
    before = predict(x)
    handle = model[0].register_forward_hook(lambda module, args, output: output * 2)
    np.testing.assert_allclose(predict(x), model(x).detach().numpy(), rtol=1e-5, atol=1e-6)
    assert not np.allclose(predict(x), before)
    handle.remove()
    np.testing.assert_array_equal(predict(x), before)


def test_a_hook_is_not_blamed_for_what_forward_reads() -> None:
    model = Net(lambda m, x: m.b(m.a(x)) * float(x.mean()))
    model.a.register_forward_hook(lambda module, args, output: output * 2)
    with pytest.raises(GraphError, match="the model reads the value of a tensor"):
        fnn.compile(model)(batches()[0][0])
