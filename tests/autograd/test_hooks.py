"""Hooks of tensors and modules, grad modes, and what Module finds by name; against PyTorch where it is installed."""

from __future__ import annotations

import copy
import gc
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import hooks, nn, optim
from fastnn.errors import ArgumentError, GraphError, ShapeError, StateError


def leaf(*values: float) -> fnn.Tensor:
    return fnn.Tensor(np.array(values), requires_grad=True)


# ---- tensors ---------------------------------------------------------------------------------------------------------


def test_a_hook_sees_the_whole_gradient_and_may_change_it() -> None:
    x, seen = leaf(1.0, 2.0), []
    h = x * 3
    h.register_hook(lambda g: seen.append(g.tolist()))
    handle = h.register_hook(lambda g: g * 10)
    x.register_hook(lambda g: g + 1)
    ((h * h).sum() + h.sum()).backward(retain_graph=True)
    assert seen == [[7, 13]]
    assert x.grad.tolist() == [211, 391]
    handle.remove()
    handle.remove()
    assert fnn.autograd.grad((h * h).sum(), x)[0].tolist() == [19, 37]


def test_hooks_go_with_their_tensors() -> None:
    x = leaf(1.0)
    y = x * 2
    y.register_hook(lambda g: g)
    with x.register_hook(lambda g: g * 5):
        assert len(hooks.hooks) == 2
        y.sum().backward()
        assert x.grad.tolist() == [10]
    del y
    gc.collect()
    x.grad = None
    (x * 2).sum().backward()
    assert x.grad.tolist() == [2]
    assert not hooks.hooks


def test_gradients_of_computed_tensors_are_kept_on_demand() -> None:
    x = leaf(1.0, 2.0)
    h = x * 3
    h.retain_grad()
    h.retain_grad()
    assert h.retains_grad
    assert not x.retains_grad
    (h * h).sum().backward(retain_graph=True)
    assert h.grad.tolist() == [6, 12]
    (h * h).sum().backward()
    assert h.grad.tolist() == [12, 24]
    assert x.grad.tolist() == [36, 72]


def test_what_hooks_refuse() -> None:
    with pytest.raises(GraphError, match="requires a gradient"):
        fnn.Tensor([1.0]).register_hook(lambda g: g)
    with pytest.raises(GraphError, match="requires a gradient"):
        fnn.Tensor([1.0]).retain_grad()
    x = leaf(1.0, 2.0)
    x.register_hook(lambda g: g.sum())
    with pytest.raises(ShapeError, match="hook"):
        x.sum().backward()


def test_grad_fn() -> None:
    x = leaf(1.0)
    y = (x * 2).exp()
    assert x.grad_fn is None
    assert repr(y.grad_fn) == "<ExpBackward0>"
    assert y.grad_fn.name() == "ExpBackward0"
    assert repr(y.grad_fn.next_functions) == "((<MulBackward0>, 0),)"


# ---- modules ---------------------------------------------------------------------------------------------------------


def calls(package: Any, tensor: Any) -> list[Any]:
    """What hooks of all kinds see and change, under either package."""
    layers = package.nn
    model = layers.Sequential(layers.Linear(2, 3), layers.Tanh(), layers.Linear(3, 1))
    for i, (_, p) in enumerate(model.named_parameters()):
        p.data[...] = tensor(np.linspace(-1, 1 + i, p.data.size if package is fnn else p.numel()).reshape(p.shape))
    seen: list[Any] = []

    def note(name: str) -> Any:
        def hook(module: Any, *given: Any) -> None:
            for group in given:
                for entry in group if isinstance(group, tuple) else (group,):
                    seen.append((name, None if entry is None else np.asarray(entry.detach()).tolist()))

        return hook

    handles = [
        model[0].register_forward_pre_hook(lambda module, args: (args[0] * 2,)),
        model[1].register_forward_hook(lambda module, args, output: output * 3),
        model[1].register_forward_hook(note("after")),
        model[1].register_forward_pre_hook(note("before")),
        model[1].register_full_backward_hook(note("back 1")),
        model[1].register_full_backward_pre_hook(lambda module, grad_output: (grad_output[0] * 2,)),
        model[2].register_full_backward_hook(lambda module, grad_input, grad_output: (grad_input[0] + 1,)),
        model[0].register_full_backward_hook(note("back 0")),
        model.register_forward_hook(lambda module, args, kwargs, output: output + 1, with_kwargs=True),
        model.register_forward_hook(note("first"), prepend=True),
    ]
    x = tensor(np.array([[1.0, 2.0], [3.0, -1.0]]))
    model(x).sum().backward()
    seen += [("grad", np.asarray(p.grad).tolist()) for p in model.parameters()]
    for handle in handles:
        handle.remove()
    seen.append(("plain", np.asarray(model(x).detach()).tolist()))
    return seen


def test_hooks_of_modules_are_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    ours = calls(fnn, lambda a: fnn.Tensor(a.astype(np.float32)))
    theirs = calls(torch, lambda a: torch.tensor(a, dtype=torch.float32))
    assert [name for name, _ in ours] == [name for name, _ in theirs]
    for (name, one), (_, other) in zip(ours, theirs, strict=True):
        assert (one is None) == (other is None), name
        if one is not None:
            np.testing.assert_allclose(one, other, 1e-5, 1e-6, err_msg=name)


def test_hooks_by_hand() -> None:
    model, x = nn.Sequential(nn.Identity()), fnn.Tensor([[1.0, 2.0]], requires_grad=True)
    seen: list[Any] = []
    model[0].register_full_backward_hook(lambda module, grads, outputs: seen.append((grads, outputs)))
    (model(x) * 3 + x * 5).sum().backward()  # the gradient through the module alone
    assert seen[0][0][0].tolist() == seen[0][1][0].tolist() == [[3, 3]]
    assert x.grad.tolist() == [[8, 8]]


def test_a_replaced_gradient_needs_a_single_input() -> None:
    class Product(nn.Module):
        def forward(self, a: Any, b: Any) -> Any:
            return a * b

    model, a, b = Product(), leaf(2.0), leaf(3.0)
    seen: list[Any] = []
    with model.register_full_backward_hook(lambda module, grads, _: seen.append([g.tolist() for g in grads])):
        model(a, b).sum().backward()
    assert seen == [[[3], [2]]]
    model.register_full_backward_hook(lambda module, grads, _: grads)
    with pytest.raises(GraphError, match="single input"):
        model(a, b).sum().backward()
    with pytest.raises(ArgumentError, match="function"):
        model.register_forward_hook(3)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="always_call"):
        model.register_forward_hook(print, always_call=True)


def test_plans_refuse_hooks_that_do_more_than_compute() -> None:
    fnn.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    x, y = np.ones((6, 4), np.float32), np.arange(6) % 2
    predict, step = fnn.compile(model), fnn.compile(model, nn.CrossEntropyLoss())
    before = predict(x)
    step(x, y)
    seen: list[Any] = []
    handle = model[1].register_forward_hook(lambda module, args, output: seen.append(output.shape))
    for call in (lambda: predict(x), lambda: step(x, y)):
        with pytest.raises(GraphError, match=r"forward changes seen"):
            call()
    assert not seen
    with pytest.warns(UserWarning, match=r"forward changes seen"):
        fnn.fit(model, (x, y), epochs=1, optimizer=optim.SGD(model.parameters(), lr=0.0), verbose=False)
    assert seen
    handle.remove()
    with model[1].register_forward_hook(lambda module, args, output: seen.append(output.numpy().sum())):
        with pytest.raises(GraphError, match=r"Tanh \(1\) has hooks that read values"):
            step(x, y)
        with pytest.warns(UserWarning, match=r"Tanh \(1\) has hooks that read"):
            fnn.fit(model, (x, y), epochs=1, optimizer=optim.SGD(model.parameters(), lr=0.0), verbose=False)
    np.testing.assert_array_equal(predict(x), before)


def test_plans_call_hooks_of_parameters() -> None:
    """Steps and fit trained what a hook had masked, without a word."""
    fnn.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    x, y = np.ones((6, 4), np.float32), np.arange(6) % 2
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    steps = [fnn.compile(model, nn.CrossEntropyLoss(), optimizer), fnn.compile(model, nn.CrossEntropyLoss())]
    steps[0](x, y)  # and not steps[1]: hooks count before and after there is a plan
    kept, other = model[0].weight.data.copy(), model[2].weight.data.copy()
    with model[0].weight.register_hook(lambda gradient: gradient * 0):
        for step in steps:
            step(x, y)
        fnn.fit(model, (x, y), epochs=1, optimizer=optimizer, verbose=False)
        np.testing.assert_array_equal(model[0].weight.data, kept)
        assert np.abs(model[2].weight.data - other).max() > 1e-4
    for step in steps:
        step(x, y)
    assert np.abs(model[0].weight.data - kept).max() > 1e-4


def test_members_by_name() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.BatchNorm1d(3), nn.Tanh()))
    assert model.get_submodule("") is model
    assert model.get_submodule("1.1") is model[1][1]
    assert model.get_parameter("1.0.weight") is model[1][0].weight
    assert model.get_buffer("1.0.running_mean") is model[1][0].running_mean
    model.set_submodule("1.1", nn.ReLU())
    assert repr(model[1][1]) == "ReLU()"
    model.register_module("head", nn.Linear(3, 1))
    assert [name for name, _ in model.named_children()] == ["0", "1", "head"]
    assert model.type("float64").get_parameter("0.weight").dtype == np.float64
    for call in (
        lambda: model.get_submodule("1.5"),
        lambda: model.get_submodule("0.weight"),
        lambda: model.get_parameter("1.0.running_mean"),
        lambda: model.get_buffer("0.weight"),
        lambda: model.set_submodule("2.0", nn.Tanh()),
        lambda: model.set_submodule("2", nn.Tanh(), True),
    ):
        with pytest.raises(StateError, match="Sequential has no"):
            call()


def test_buffers_outside_of_the_state() -> None:
    model = nn.Linear(2, 2)
    model.register_buffer("mask", np.ones(2, np.float32), persistent=False)
    model.register_buffer("scale", fnn.Tensor([2.0]))
    assert [name for name, _ in model.named_buffers()] == ["mask", "scale"]
    assert list(model.state_dict()) == ["weight", "bias", "scale"]
    assert copy.deepcopy(model).double().mask.dtype == np.float64
    model.register_buffer("mask", np.zeros(2, np.float32))
    assert list(model.state_dict()) == ["weight", "bias", "mask", "scale"]  # in its place, as in PyTorch


def test_assigned_state() -> None:
    """Its own type and memory, also for the next compiled call."""
    model, x = nn.Linear(2, 1), np.ones((1, 2), np.float32)
    predict = fnn.compile(model)
    predict(x)
    given = {"weight": np.array([[1.0, 2.0]], np.float32), "bias": np.zeros(1, np.float32)}
    keys = model.load_state_dict(given, assign=True)
    assert keys == ([], [])
    assert predict(x).tolist() == [[3]]
    assert model.weight.data is not given["weight"]
    model.load_state_dict({"weight": np.ones((1, 2))}, strict=False, assign=True)
    assert model.weight.dtype == np.float64


# ---- grad modes ------------------------------------------------------------------------------------------------------


def test_grad_modes() -> None:
    w = leaf(1.0)

    def on_tape() -> bool:
        return (w * 2).requires_grad

    assert fnn.is_grad_enabled()
    for off in (fnn.no_grad, fnn.inference_mode, lambda: fnn.set_grad_enabled(False), lambda: fnn.enable_grad()):
        for _ in range(2):
            with off():
                assert on_tape() is (off().__class__ is fnn.enable_grad)
                fnn.set_grad_enabled(fnn.is_grad_enabled())
            assert on_tape()
    for bare in (fnn.no_grad, fnn.inference_mode):
        assert not bare(on_tape)()
        assert not bare()(on_tape)()
        assert on_tape()
    with fnn.no_grad():
        assert fnn.enable_grad(on_tape)()
        assert fnn.enable_grad()(on_tape)()
        with fnn.inference_mode(False):
            assert on_tape()
        assert not on_tape()
    with fnn.inference_mode():
        assert fnn.is_inference_mode_enabled()
    assert not fnn.is_inference_mode_enabled()
    decorated = fnn.set_grad_enabled(False)(on_tape)
    assert on_tape()
    assert not decorated()
    assert on_tape()
    fnn.set_grad_enabled(False)
    assert not on_tape()
    fnn.set_grad_enabled(True)
    assert on_tape()
    with pytest.raises(ArgumentError, match="function to decorate"):
        fnn.no_grad()(3)


def test_generators_see_the_mode_in_their_body_alone() -> None:
    w = leaf(1.0)

    @fnn.no_grad
    def values() -> Iterator[bool]:
        for _ in range(2):
            yield (w * 2).requires_grad

    assert [(inside, (w * 2).requires_grad) for inside in values()] == [(False, True), (False, True)]


def test_modes_belong_to_their_thread() -> None:
    seen: list[bool] = []
    with fnn.no_grad():
        thread = threading.Thread(target=lambda: seen.append(fnn.is_grad_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]


def test_a_backward_that_reaches_some_inputs_leaves_nothing_for_the_next() -> None:
    class Two(nn.Module):
        def forward(self, a: Any, b: Any) -> Any:
            return a * 2, b * 3

    model, seen = Two(), []
    model.register_full_backward_hook(lambda module, into, out: seen.append([g and g.item() for g in into]))
    a, b = fnn.ones(1, requires_grad=True), fnn.ones(1, requires_grad=True)
    first, second = model(a, b)
    first.sum().backward(retain_graph=True)
    (first * 100 + second * 100).sum().backward()
    assert seen[-1] == [200, 300]


def test_a_backward_that_comes_past_the_outputs_calls_no_module_hook() -> None:
    """What a forward hook has kept is the output before the module's own wrapping, as in PyTorch."""
    torch = pytest.importorskip("torch")
    called: list[list[str]] = []
    for lib in (fnn, torch):
        kept, seen = {}, []
        model = lib.nn.Sequential(lib.nn.Linear(2, 3), lib.nn.Linear(3, 1))
        for name, layer in model.named_children():
            layer.register_full_backward_hook(
                lambda m, into, out, name=name, seen=seen: seen.append(f"{name} {out[0].ndim}")
            )
        model[1].register_forward_hook(lambda m, args, output, kept=kept: kept.update(last=output))
        model(lib.ones(4, 2, requires_grad=True))
        kept["last"].sum().backward()
        called.append(seen)
    assert called[0] == called[1] == ["0 2"]
