"""Compiled models that are called with tensors, as PyTorch's are: forward and backward of a plan, the loss outside."""

from __future__ import annotations

import copy
import gc
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from kept_models import Net, batches

import fastnn as fnn
import fastnn.nn.functional as F
from fastnn import nn, optim
from fastnn.errors import GraphError, ShapeError
from fastnn.plan import FUSIONS

RNG = np.random.default_rng(0)


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.a, self.b = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Any) -> Any:
        return (self.norm(self.b(self.a(x).relu())) + x).relu()


class Several(nn.Module):
    """Two inputs, of which one may be integers, and several outputs, one without a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.linear = nn.Embedding(5, 6), nn.Linear(6, 6)

    def forward(self, x: Any, kinds: Any) -> Any:
        h = self.linear(x) + self.embedding(kinds)
        return {"h": h.tanh(), "others": (h.sum(1), h.argmax(1))}


NETWORKS: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "dense": (lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)), (5, 6)),
    "wide": (lambda: nn.Sequential(nn.Linear(6, 600), nn.ReLU(), nn.Linear(600, 3)), (5, 6)),
    "chain": (
        lambda: nn.Sequential(nn.Conv2d(2, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 3)),
        (4, 2, 6, 6),
    ),
    "narrow": (lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 3)), (16, 1, 6, 6)),
    "residual": (
        lambda: nn.Sequential(nn.Conv2d(2, 16, 3, padding=1), Residual(16), Residual(16), nn.Flatten()),
        (4, 2, 8, 8),
    ),
    "strided": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 16, 4, 2, 1), nn.BatchNorm2d(16), nn.LeakyReLU(0.2), nn.Conv2d(16, 16, 4, 2, 1)
        ),
        (4, 2, 8, 8),
    ),
}


def gradients(model: Any, loss: Any) -> list[np.ndarray]:
    model.zero_grad()
    loss.backward()
    return [np.zeros(p.shape) if p.grad is None else p.grad.copy() for p in model.parameters()]


def close(got: list[np.ndarray], expected: list[np.ndarray]) -> None:
    largest = max(np.abs(e).max() for e in expected)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-6 * largest)


@pytest.mark.parametrize("disable", [(), FUSIONS], ids=["fused", "by itself"])
@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_are_those_of_the_model_whatever_runs_between_forward_and_backward(name: str, disable: Any) -> None:
    make, shape = NETWORKS[name]
    model = make()
    twin, compiled = copy.deepcopy(model), fnn.compile(model, disable=disable)
    x, w, z = (RNG.standard_normal(shape).astype(np.float32) for _ in range(3))
    of_model, of_twin = fnn.Tensor(x, requires_grad=True), fnn.Tensor(x, requires_grad=True)
    other = fnn.compile(make(), lambda outputs, _: (outputs**2).mean())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            y, second = compiled(of_model), compiled(fnn.Tensor(z))
            other(w, np.zeros(len(w)))  # in whose course the threads' working memory is written to
            make()(w).sum().backward()
            expected, of_second = twin(of_twin), twin(z)
            np.testing.assert_allclose(y.detach(), expected.detach(), rtol=1e-4, atol=1e-5)
            close(
                gradients(compiled, (y**2).mean() + second.sin().mean()),
                gradients(twin, (expected**2).mean() + of_second.sin().mean()),
            )
            close([of_model.grad], [of_twin.grad])
    for (key, a), b in zip(model.state_dict().items(), twin.state_dict().values(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6, err_msg=key)
    assert len(compiled._of_tensors._executions) == 2  # with x's gradient, and without


def test_several_inputs_and_outputs() -> None:
    model = Several()
    twin, compiled = copy.deepcopy(model), fnn.compile(model)
    x, kinds = fnn.randn(4, 6), fnn.tensor([0, 3, 3, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, expected = compiled(x, kinds=kinds), twin(x, kinds)
    assert found["others"][1].tolist() == expected["others"][1].tolist()
    assert not found["others"][1].requires_grad
    for loss in (lambda y: y["h"].mean() + (y["others"][0] ** 2).sum(), lambda y: y["others"][0].sum()):
        close(gradients(compiled, loss(compiled(x, kinds))), gradients(twin, loss(twin(x, kinds))))


def test_an_input_that_no_output_depends_on_has_no_gradient() -> None:
    class First(nn.Module):
        def forward(self, x: Any, y: Any) -> Any:
            return x * 2 + (y > 0)

    x, y = (fnn.ones(2, 3, requires_grad=True) for _ in range(2))
    fnn.compile(First())(x, y).sum().backward()
    assert x.grad.tolist() == [[2] * 3] * 2
    assert y.grad is None


def test_a_training_loop_of_pytorchs_form() -> None:
    fnn.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 6))
    twin, compiled = copy.deepcopy(model), fnn.compile(model, mode="reduce-overhead", dynamic=False, disable=False)
    for m in (compiled.train(), twin.train()):
        optimizer = optim.Adam(m.parameters(), lr=0.01, weight_decay=0.1)
        for x, y in batches() * 3:
            optimizer.zero_grad()
            F.mse_loss(m(fnn.Tensor(x)), fnn.Tensor(y)).backward()
            nn.utils.clip_grad_norm_(m.parameters(), 0.5)
            optimizer.step()
        assert m.eval() is m
    for a, b in zip(compiled.state_dict().values(), twin.state_dict().values(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)
    x = fnn.Tensor(batches()[0][0])
    with fnn.no_grad():
        y = compiled(x)
    assert type(y) is fnn.Tensor
    assert not y.requires_grad
    np.testing.assert_allclose(y, compiled(x.numpy()), rtol=1e-6)
    assert compiled(x).requires_grad
    assert "Linear" in compiled.describe()


def test_outputs_that_wait_for_backward_keep_their_own_memory() -> None:
    model = NETWORKS["dense"][0]()
    twin, compiled = copy.deepcopy(model), fnn.compile(model)
    xs = [fnn.randn(5, 6) for _ in range(7)]  # more than there are copies of a plan
    losses, expected = [[(m(x) ** 2).sum() for x in xs] for m in (compiled, twin)]
    assert len(next(iter(compiled._of_tensors._executions.values())).executions) == 4
    for i in (3, 0, 6, 1):
        close(gradients(compiled, losses[i]), gradients(twin, expected[i]))
    del losses
    gc.collect()
    compiled(xs[0])
    assert len(next(iter(compiled._of_tensors._executions.values())).executions) == 4


def test_a_graph_that_is_retained_goes_backward_again() -> None:
    """As for the weight that VQGAN gives its critic: two calls of grad(), then backward(). Statistics follow once."""
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten())
    twin = copy.deepcopy(model)
    xs = [RNG.normal(size=(4, 2, 8, 8)).astype(np.float32) for _ in range(6)]
    found = []
    for m in (fnn.compile(model), twin):
        x = fnn.Tensor(xs[0], requires_grad=True)
        y = m(x)
        waiting = [m(fnn.Tensor(other)).sum() for other in xs[1:3]]  # runs in copies of the plan
        first = fnn.autograd.grad((y * y).sum(), x, retain_graph=True)
        second = fnn.autograd.grad(y.exp().sum(), x, retain_graph=True)
        waiting[0].backward()
        (y * 3).sum().backward(retain_graph=True)
        y.sum().backward()
        waiting[1].backward()
        own = twin if m is twin else model
        found.append([[*first, *second, x.grad, *(p.grad for p in own.parameters())], [*own.buffers()]])
    of_model, of_twin = ([[np.asarray(array) for array in kind] for kind in each] for each in found)
    close(of_model[0], of_twin[0])
    close(of_model[1], of_twin[1])


def test_a_second_backward_is_refused_where_forward_would_be_another() -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.Dropout(0.5))
    compiled = fnn.compile(model)
    loss = compiled(fnn.randn(5, 6)).sum()
    loss.backward(retain_graph=True)
    with pytest.raises(GraphError, match="a second backward of a compiled model that draws"):
        loss.backward(retain_graph=True)
    model.eval()
    with pytest.raises(GraphError, match="was changed between forward and its second backward"):
        loss.backward(retain_graph=True)
    model[0].weight.data += 1
    with pytest.raises(GraphError, match="was modified in place after forward"):
        loss.backward()


def test_weights_that_change_before_backward_are_noticed() -> None:
    model = NETWORKS["dense"][0]()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    compiled = fnn.compile(model)
    first, second = compiled(fnn.randn(5, 6)).sum(), compiled(fnn.randn(5, 6)).sum()
    first.backward()
    optimizer.step()
    with pytest.raises(GraphError, match="a weight or the input of a compiled model was modified"):
        second.backward()


def test_second_derivatives_are_the_models_own() -> None:
    model = NETWORKS["dense"][0]()
    results = []
    for m in (fnn.compile(model), model):
        x = fnn.Tensor(np.linspace(-1, 1, 30).reshape(5, 6).astype(np.float32), requires_grad=True)
        (slope,) = fnn.autograd.grad(m(x).sum(), x, create_graph=True)
        results.append(gradients(model, (slope.norm(2, dim=1) - 1).pow(2).mean()))
    close(*results)


def test_what_forward_leaves_in_attributes_is_on_the_tape() -> None:
    def leaves(m: Any, x: Any) -> Any:
        m.state = m.a(x)
        m.dict = {"h": [m.state.tanh()], "off": m.state.detach(), "sign": m.state > 0}
        m.list = []
        m.list.append(m.state)
        return m.b(m.dict["h"][0]), m.state

    model = Net(leaves)
    twin, compiled = copy.deepcopy(model), fnn.compile(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            x, losses = fnn.randn(5, 6), []
            for m, kept in ((compiled, model), (twin, twin)):
                y, h = m(x)
                assert kept.state is kept.list[0]
                assert not kept.dict["off"].requires_grad
                losses.append((y**2).sum() + (kept.state * kept.dict["h"][0]).sum() + (kept.dict["off"] * h).sum())
                losses[-1] = losses[-1] + (kept.list[0] * kept.dict["sign"].float()).mean()
            assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-5)
            close(gradients(compiled, losses[0]), gradients(twin, losses[1]))
    (copies,) = compiled._of_tensors._executions.values()
    assert copies.calls == 3


def test_hooks_are_called_once() -> None:
    model, seen = Net(), []
    model.a.register_full_backward_hook(lambda m, came, went: seen.append("module"))
    model.b.weight.register_hook(lambda grad: seen.append("parameter"))
    fnn.compile(model)(fnn.randn(5, 6)).sum().backward()
    assert sorted(seen) == ["module", "parameter"]


def reads_values(m: Any, x: Any) -> Any:
    return m.b(m.a(x)) if x.sum().item() > 0 else m.a(x)


def reads_what_it_left(m: Any, x: Any) -> Any:
    m.state = m.a(x) if m.state is None else m.a(x) + m.state.detach()
    return m.b(m.state)


def draws(m: Any, x: Any) -> Any:
    return m.b(m.a(x)) + RNG.random()


def returns_others(m: Any, x: Any) -> Any:
    return m.b(m.a(x)), "done"


def asks_for_its_inputs_gradient(m: Any, x: Any) -> Any:
    return m.b(m.a(x.requires_grad_()))


def writes_into_its_input(m: Any, x: Any) -> Any:
    return m.b(m.a(x.mul_(2)))


@pytest.mark.parametrize(
    "do", [asks_for_its_inputs_gradient, writes_into_its_input, reads_values, reads_what_it_left, draws, returns_others]
)
def test_what_no_plan_can_be_made_of_runs_operator_by_operator_and_says_so_once(do: Any) -> None:
    model = Net(do)
    compiled = fnn.compile(model)

    def step() -> None:
        y = compiled(fnn.randn(5, 6))
        (y[0] if isinstance(y, tuple) else y).sum().backward()

    with pytest.warns(UserWarning, match="operator by operator, not compiled") as caught:
        step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step()
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert not str(caught[0].message).endswith("compiled: ")  # without a reason
    assert model.a.weight.grad.any()
    with pytest.raises(GraphError):
        fnn.compile(model, fullgraph=True)(fnn.randn(5, 6))


def fails_in_a_trace(m: Any, x: Any) -> Any:
    if fnn.compiler.is_compiling():
        raise ValueError("not here")
    return m.b(m.a(x))


def fails(m: Any, x: Any) -> Any:
    raise KeyError("state")


def test_errors_are_those_of_the_model() -> None:
    with pytest.raises(KeyError, match="state"):
        fnn.compile(Net(fails))(fnn.randn(5, 6))
    with pytest.warns(UserWarning, match="ValueError.'not here'"):
        fnn.compile(Net(fails_in_a_trace))(fnn.randn(5, 6))
    compiled = fnn.compile(Net())
    with pytest.raises(ShapeError, match="linear: expected input with 6 features"):
        compiled(fnn.randn(5, 7))
    compiled(fnn.randn(5, 6))


def test_copies_and_names() -> None:
    model = Net()
    compiled = fnn.compile(model)
    twin = copy.deepcopy(compiled)
    assert twin._orig_mod is not model
    twin.load_state_dict(compiled.state_dict())
    x = fnn.randn(5, 6)
    np.testing.assert_array_equal(twin(x).detach(), compiled(x).detach())
    assert compiled.a is model.a
    given = {name: p.detach() * 2 for name, p in compiled.named_parameters()}
    called, expected = (fnn.func.functional_call(each, given, x) for each in (compiled, model))
    np.testing.assert_array_equal(called, expected)
    averaged = fnn.optim.swa_utils.AveragedModel(compiled)
    averaged.update_parameters(compiled)
    np.testing.assert_array_equal(averaged(x).detach(), model(x).detach())
    assert "Net(" in repr(compiled)
    with pytest.raises(AttributeError, match="nothing"):
        _ = compiled.nothing


def test_as_a_layer_it_is_the_model_itself() -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = fnn.compile(Net())

        def forward(self, x: Any) -> Any:
            return self.inner(x)

    assert [name for name, _ in Outer().named_children()] == ["inner"]
    average = optim.swa_utils.AveragedModel(fnn.compile(Net()))
    average.update_parameters(fnn.compile(Net()))


def test_functions_stay_what_they_are() -> None:
    with pytest.warns(UserWarning, match="twice runs operator by operator"):

        @fnn.compile
        def twice(x: Any) -> Any:
            return 2 * x

    assert twice(3) == 6


def test_what_is_changed_between_forward_and_backward_counts_in_the_next_call() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    compiled, x = fnn.compile(model), fnn.tensor(RNG.normal(size=(2, 3)).astype(np.float32))
    outputs = compiled(x)
    model[0] = nn.Linear(3, 3)
    outputs.sum().backward()
    assert model[0].weight.grad is None
    np.testing.assert_allclose(compiled(x).detach(), model(x).detach(), rtol=1e-5)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("layer", [nn.LayerNorm(3), nn.Sequential(nn.Linear(3, 3), nn.Tanh())], ids=["scale", "dense"])
def test_a_weight_written_before_backward_is_an_error(layer: Any, order: int) -> None:
    """A scale of one dimension, too, and where second derivatives are taken."""
    x = fnn.tensor(RNG.normal(size=(2, 3)).astype(np.float32), requires_grad=True)
    outputs = fnn.compile(nn.Sequential(layer))(x)
    with fnn.no_grad():
        next(layer.parameters()).mul_(10)
    with pytest.raises(GraphError, match="modified in place after forward"):
        fnn.autograd.grad((outputs * outputs).sum(), [x], create_graph=order == 2)


def test_a_view_of_what_was_written_on_the_tape_has_a_gradient() -> None:
    base, x = fnn.ones((2, 3), requires_grad=True), fnn.zeros((4, 3))
    view = x[:2]
    x[:2] = base * 1
    fnn.compile(nn.Linear(3, 3))(view).sum().backward()
    assert base.grad is not None


def test_the_modes_of_all_layers_count() -> None:
    """As in Monte Carlo dropout."""
    model = nn.Sequential(nn.Linear(3, 300), nn.Dropout(0.5)).eval()
    model[1].train()
    with fnn.no_grad():
        assert 0.3 < (fnn.compile(model)(fnn.ones(4, 3)).numpy() == 0).mean() < 0.7


def test_an_object_that_holds_tensors_is_an_argument() -> None:
    """DETR's NestedTensor: no plan takes it, so the model runs operator by operator."""

    class Nested:
        def __init__(self, tensors: Any, mask: Any) -> None:
            self.tensors, self.mask = tensors, mask

    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 2)

        def forward(self, samples: Any) -> Any:
            return self.linear(samples.tensors) * samples.mask

    model = Masked()
    x = Nested(fnn.ones(4, 3), fnn.tensor([[1.0], [0.0], [1.0], [0.0]]))
    y = fnn.compile(model)(x)
    assert y.requires_grad
    np.testing.assert_array_equal(y.numpy(force=True), model(x).numpy(force=True))
