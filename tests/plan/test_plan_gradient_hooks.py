"""Functions that wait for gradients in compiled steps: what they are given, give back, and when they are called.

Compared as in test_plan_kept.py, and against PyTorch by tests/programs/gradient_hooks.py.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from kept_models import MSE, Net, batches, compare, plain

import fastnn as fnn
from fastnn import nn, optim
from fastnn.errors import GraphError, ShapeError
from fastnn.plan import FUSIONS


def kept_in_attribute(m: Any, x: Any) -> Any:
    h = m.a(x)
    h.register_hook(lambda grad: m.dict.__setitem__("grad", grad))
    return m.b(h.tanh())


def changed(m: Any, x: Any) -> Any:
    h = m.a(x).relu()
    y = m.b(h)
    h.register_hook(lambda grad: grad.clamp(-0.01, 0.01))  # of the whole, after it was used
    h.register_hook(lambda grad: m.dict.__setitem__("grad", grad))
    return y + h


def reads_what_forward_left(m: Any, x: Any) -> Any:
    m.mask = x.detach() > 0
    h = m.a(x)

    def hook(grad: Any) -> Any:
        m.dict["grad"] = grad * m.mask.float()
        return m.dict["grad"]

    h.register_hook(hook)
    return m.b(h)


def twice(m: Any, x: Any) -> Any:
    h = m.a(x)
    h.register_hook(lambda grad: grad * 2)
    g = m.b(h)
    g.register_hook(lambda grad: m.dict.__setitem__("grad", grad))
    return g * h


DOING = {f.__name__: f for f in (kept_in_attribute, changed, reads_what_forward_left, twice)}


@pytest.mark.parametrize("disable", [(), FUSIONS], ids=["fused", "by itself"])
@pytest.mark.parametrize("name", DOING)
def test_hooks_of_tensors_see_and_change_gradients(name: str, disable: Any) -> None:
    compare(lambda: Net(DOING[name]), plain, lambda m: [m.dict["grad"]], disable=disable)


def with_full_hook() -> Any:
    model = Net()
    model.b.register_full_backward_hook(lambda m, came, went: model.dict.update(a=came[0], b=went[0]))
    return model


def with_changing_hooks() -> Any:
    model = Net()
    model.b.register_full_backward_hook(lambda m, came, went: (came[0] * 0.5,))
    model.b.register_full_backward_pre_hook(lambda m, went: model.dict.update(a=went[0]) or (went[0] * 3,))
    return model


def with_hooked_parameters() -> Any:
    model = Net()
    model.a.weight.register_hook(lambda grad: grad * 0.1)
    kept = model.dict
    model.b.bias.register_hook(lambda grad: kept.update(a=grad))
    return model


@pytest.mark.parametrize("make", [with_full_hook, with_changing_hooks, with_hooked_parameters])
def test_hooks_of_modules_and_parameters(make: Callable[[], Any]) -> None:
    compare(make, plain, lambda m: m.dict.values())


@pytest.mark.parametrize("options", [{"clip_norm": 0.05}, {"accumulate": 2}], ids=str)
def test_clipping_and_accumulation_come_after_hooks(options: dict[str, Any]) -> None:
    model, twin = Net(), Net()
    twin.load_state_dict(model.state_dict())
    for m in (model, twin):
        m.a.weight.register_hook(lambda grad: grad * 100)
    step = fnn.compile(model, MSE, optim.SGD(model.parameters(), lr=0.1), **options)
    of_twin = optim.SGD(twin.parameters(), lr=0.1)
    for i, (x, y) in enumerate(batches()[:2]):
        step(x, y)
        (MSE(twin(x), fnn.Tensor(y)) / options.get("accumulate", 1)).backward()
        if (i + 1) % options.get("accumulate", 1) == 0:
            nn.utils.clip_grad_norm_(twin.parameters(), options.get("clip_norm", np.inf))
            of_twin.step()
            of_twin.zero_grad()
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        np.testing.assert_allclose(p.data, q.data, rtol=1e-4, atol=1e-6)


def test_a_parameters_hook_counts_from_the_call_after_it_is_registered_until_it_is_removed() -> None:
    model, (x, y) = Net(), batches()[0]
    step = fnn.compile(model, MSE, optim.SGD(model.parameters(), lr=0.1))
    seen: list[float] = []

    def frozen() -> bool:
        before = model.a.weight.data.copy()
        step(x, y)
        return bool((model.a.weight.data == before).all())

    assert not frozen()
    handle = model.a.weight.register_hook(lambda grad: seen.append(1) or grad * 0)
    assert frozen()
    assert frozen()
    handle.remove()
    assert not frozen()
    assert len(seen) == 2


def test_what_hooks_collect_makes_no_new_plan() -> None:
    seen: list[float] = []

    def hooked(m: Any, x: Any) -> Any:
        h = m.a(x)
        h.register_hook(lambda grad: seen.append(float(grad.norm())))
        return m.b(h)

    model, (x, y) = Net(hooked), batches()[0]
    step = fnn.compile(model, MSE, optim.SGD(model.parameters(), lr=0.1))
    step(x, y)
    execution = step._last
    for _ in range(3):
        step(x, y)
    assert step._last is execution
    assert len(seen) == 4
    assert seen[0] > seen[3] > 0


def test_where_forward_changes_with_what_a_hook_leaves_the_next_trace_says_so() -> None:
    def hooked(m: Any, x: Any) -> Any:
        h = m.a(x)
        h.register_hook(lambda grad: m.dict.__setitem__("scale", m.dict["scale"] + 1))
        return m.b(h) * m.dict["scale"]

    model, (x, y) = Net(hooked), batches()[0]
    model.dict["scale"] = 1.0
    step = fnn.compile(model, MSE)
    step(x, y)
    with pytest.raises(GraphError, match="the same inputs at every call"):
        step(x, y)


def test_a_hook_that_raises_leaves_everything_as_it_was() -> None:
    def hook(grad: Any) -> None:
        raise ValueError("enough")

    model, (x, y) = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 6)), batches()[0]
    step = fnn.compile(model, MSE, optim.Adam(model.parameters(), lr=0.1))
    step(x, y)
    before = copy.deepcopy(model.state_dict())
    handle = model[0].weight.register_hook(hook)
    with pytest.raises(ValueError, match="enough"):
        step(x, y)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    handle.remove()
    step(x, y)


def test_a_gradient_of_another_shape_is_refused() -> None:
    model, (x, y) = Net(), batches()[0]
    model.a.weight.register_hook(lambda grad: grad[0])
    with pytest.raises(ShapeError, match=r"expected a gradient of shape \(6, 6\), got \(6,\)"):
        fnn.compile(model, MSE)(x, y)


def test_hooks_that_hold_tensors_of_the_trace_are_refused_and_fit_goes_on_without_a_plan() -> None:
    def hooked(m: Any, x: Any) -> Any:
        h = m.a(x)
        if h.requires_grad:
            scale = h.detach().abs().mean()
            h.register_hook(lambda grad: m.dict.__setitem__("grad", grad * scale))
        return m.b(h)

    model, (x, y) = Net(hooked), batches()[0]
    with pytest.raises(GraphError, match="a hook for a gradient reads a tensor that forward or the loss has computed"):
        fnn.compile(model, MSE)(x, y)
    with pytest.warns(UserWarning, match="leave it in an attribute"):
        fnn.fit(model, (x, y), loss=MSE, epochs=1, verbose=False)
    assert "grad" in model.dict


def test_a_gradient_that_is_to_be_kept_in_grad_is_refused() -> None:
    def retaining(m: Any, x: Any) -> Any:
        m.state = m.a(x)
        m.state.retain_grad()
        return m.b(m.state)

    model, (x, y) = Net(retaining), batches()[0]
    with pytest.raises(GraphError, match=r"gradient of a tensor \(5, 6\) .*retain_grad"):
        fnn.compile(model, MSE)(x, y)


def test_hooks_are_called_where_forward_takes_derivatives_itself() -> None:
    def slope(m: Any, x: Any) -> Any:
        x = x.clone().requires_grad_()
        h = m.a(x)
        h.register_hook(lambda grad: grad * 2)
        (dx,) = fnn.autograd.grad(m.b(h.tanh()).sum(), x, create_graph=True)
        return dx

    compare(lambda: Net(slope), plain, lambda m: [])


def test_full_hooks_are_called_in_each_backward_of_a_graph_that_is_kept() -> None:
    model, calls = Net(), []
    model.b.register_full_backward_hook(lambda m, came, went: calls.append(came[0].shape))
    loss = MSE(model(batches()[0][0]), fnn.Tensor(batches()[0][1]))
    loss.backward(retain_graph=True)
    loss.backward()
    assert calls == [(5, 6), (5, 6)]
