"""NumPy's functions on tensors: none cuts a gradient off without a word, and what joins tensors keeps it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn, optim
from fastnn.errors import ArgumentError, DTypeError, GraphError, ShapeError

x = np.array([[0.5, -1.0], [2.0, 0.25]], np.float32)

CUTS: dict[str, Callable[[Any], Any]] = {
    "asarray": np.asarray,
    "array": np.array,
    "array of a list": lambda t: np.array([t, t]),
    "exp": np.exp,
    "tanh": np.tanh,
    "negative": np.negative,
    "maximum": lambda t: np.maximum(t, 0),
    "hypot": lambda t: np.hypot(np.ones((2, 2)), t),
    "add.reduce": np.add.reduce,
    "add into an array": lambda t: np.add(np.ones((2, 2)), t, out=np.zeros((2, 2))),
    "concatenate": lambda t: np.concatenate([t, t]),
    "stack": lambda t: np.stack([t, x]),
    "vstack": lambda t: np.vstack([x, t]),
    "where": lambda t: np.where(x > 0, t, 0),
    "clip": lambda t: np.clip(t, 0, 1),
    "einsum": lambda t: np.einsum("ij,jk", t, x),
    "dot": lambda t: np.dot(t, x),
    "linalg.norm": np.linalg.norm,
    "pad": lambda t: np.pad(t, 1),
    "sum": np.sum,
    "mean": np.mean,
    "max": np.max,
    "std": np.std,
    "any": np.any,
    "array_equal": lambda t: np.array_equal(t, x),
    "full_like by it": lambda t: np.full_like(x, t),
    "median": np.median,
    "ndarray.dot": lambda t: x.dot(t),
    "broadcast_to": lambda t: np.broadcast_to(t, (3, 2, 2)),
    "Tensor": fnn.Tensor,
    "Tensor of a list": lambda t: fnn.Tensor([t, t]),
    "the target of a loss, in a list": lambda t: fnn.ops.mse_loss(x[None], [t]),
}
NUMPYS = [name for name in CUTS if "Tensor" not in name and "loss" not in name]


@pytest.mark.parametrize("name", CUTS)
@pytest.mark.parametrize("leaf", [True, False])
def test_a_gradient_is_never_cut_off_without_a_word(name: str, leaf: bool) -> None:
    given = fnn.Tensor(x, requires_grad=True)
    with pytest.raises(GraphError, match=r"off the tape: use .* fnn\.cat, fnn\.stack"):
        CUTS[name](given if leaf else given * 2)


@pytest.mark.parametrize("name", NUMPYS)
def test_numpy_sees_the_array_where_no_gradient_is_wanted(name: str) -> None:
    given = fnn.Tensor(x, requires_grad=True)
    expected = CUTS[name](x)
    found = [CUTS[name](fnn.Tensor(x)), CUTS[name](given.detach())]
    with fnn.no_grad():
        found.append(CUTS[name](given))
    for result in found:
        assert isinstance(result, np.ndarray | np.generic | bool)
        np.testing.assert_array_equal(result, expected)


def test_shape_and_type_may_be_asked_for() -> None:
    given = fnn.Tensor(x, requires_grad=True) * 2
    for make, value in ((np.zeros_like, 0), (np.ones_like, 1), (lambda t: np.full_like(t, 7), 7)):
        array = make(given)
        assert (array.shape, array.dtype) == (given.shape, given.dtype)
        assert (array == value).all()
    assert np.zeros_like(given, np.int64).dtype == np.int64
    assert np.size(given) == 4


def test_numpy_does_not_write_into_tensors_unseen() -> None:
    given = fnn.Tensor(x.copy())
    for write in (
        lambda: np.copyto(given, 0),
        lambda: np.put(given, 0, 1),
        lambda: np.add(x, x, out=given),
        lambda: np.concatenate([x[:1], x[:1]], out=given),
    ):
        with pytest.raises(TypeError):
            write()
    np.testing.assert_array_equal(given.data, x)


def test_reads_stay_allowed() -> None:
    given = fnn.Tensor(x, requires_grad=True)
    assert given.numpy() is given.data.base
    assert (float(given[0, 0]), given.sum().item(), given.tolist()) == (0.5, 1.75, x.tolist())
    assert np.shape(given) == (2, 2)
    assert np.ndim(given) == 2
    assert nn.Parameter(given * 2).is_leaf  # a new leaf is what it says
    fnn.nn.Linear(2, 2).load_state_dict({"weight": given, "bias": given[0]})


@pytest.mark.parametrize("sign", ["+", "-", "*", "/", "**", "@", "<", "<=", ">", ">=", "==", "!="])
def test_arithmetic_with_an_array_or_a_numpy_number_on_the_left_is_fastnns(sign: str) -> None:
    for left in (np.abs(x), np.float64(2.0), np.float32(3), np.array(2)):
        if sign == "@" and np.ndim(left) == 0:
            continue
        given = fnn.Tensor(np.abs(x) + 1, requires_grad=True)
        result = eval(f"left {sign} given")
        assert isinstance(result, fnn.Tensor)
        np.testing.assert_allclose(result.numpy(), eval(f"left {sign} given.data"), rtol=1e-6)
        if sign in "+-*/**@":
            assert result.dtype == np.float32
            result.sum().backward()
            assert given.grad is not None


def test_an_array_may_become_a_tensor_by_augmented_assignment() -> None:
    given, total = fnn.Tensor(x, requires_grad=True), np.zeros((2, 2), np.float32)
    array = total
    total += given
    assert isinstance(total, fnn.Tensor)
    total.sum().backward()
    np.testing.assert_array_equal(given.grad, 1)
    np.testing.assert_array_equal(array, 0)


def test_a_forward_that_leaves_the_tape_is_refused_by_every_way_of_training() -> None:
    class Squashed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(2, 2)

        def forward(self, images: Any) -> Any:
            return fnn.Tensor(np.tanh(self.linear(images)))

    data = x, np.array([0, 1])
    for run in (
        lambda model: model(x),
        lambda model: fnn.compile(model)(x),
        lambda model: fnn.compile(model, nn.CrossEntropyLoss())(*data),
        lambda model: fnn.fit(model, data, compile=False),
    ):
        with pytest.raises(GraphError):
            run(Squashed())


def test_a_plan_does_not_freeze_what_numpy_made_of_a_parameter() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter([1.0, 2.0])

        def forward(self, images: Any) -> Any:
            return images * np.exp(self.scale)

    with pytest.raises(GraphError, match="would cut a tensor that needs a gradient off the tape"):
        fnn.compile(Scaled())(x)


# ---- cat, stack, where -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [0, 1, -1, -2])
def test_cat_and_stack_are_numpys_with_gradients(dim: int) -> None:
    a, b = fnn.Tensor(x, requires_grad=True), fnn.Tensor(x + 3, requires_grad=True)
    weight = np.random.default_rng(0).normal(size=(2, 2, 2)).astype(np.float32)
    np.testing.assert_array_equal(fnn.cat([a, x, b], dim).numpy(), np.concatenate([x, x, x + 3], dim))
    stacked = fnn.stack((a, b), dim)
    np.testing.assert_array_equal(stacked.numpy(), np.stack([x, x + 3], dim))
    (stacked * weight).sum().backward()
    np.testing.assert_array_equal(a.grad, np.take(weight, 0, dim))
    np.testing.assert_array_equal(b.grad, np.take(weight, 1, dim))
    a.zero_grad()
    b.zero_grad()
    joined = fnn.cat([a, b, a], dim)
    flat = np.arange(joined.numel(), dtype=np.float32).reshape(joined.shape)
    (joined * flat).sum().backward()
    first, second, third = np.split(flat, 3, dim)
    np.testing.assert_array_equal(a.grad, first + third)
    np.testing.assert_array_equal(b.grad, second)


def test_where_passes_each_its_own_gradient() -> None:
    a, b = fnn.Tensor(x, requires_grad=True), fnn.Tensor(np.float32(3), requires_grad=True)
    assert fnn.where(a > 0, a, b).tolist() == [[0.5, 3], [2, 0.25]]
    fnn.where(a > 0, a, b * 2).sum().backward()
    np.testing.assert_array_equal(a.grad, x > 0)
    assert b.grad == 2
    assert fnn.where(x > 0, 1.0, a).dtype == np.float32
    assert fnn.where(x > 0, 1, 0).tolist() == [[1, 0], [1, 1]]


def test_numbers_and_arrays_take_the_tensors_type() -> None:
    a = fnn.Tensor(x)
    assert fnn.cat([np.zeros((1, 2)), a]).dtype == np.float32
    assert fnn.cat([fnn.Tensor(x.astype(np.float64)), a]).dtype == np.float64
    assert fnn.cat([fnn.Tensor([1, 2]), fnn.Tensor([0.5])]).tolist() == [1, 2, 0.5]
    assert fnn.stack([fnn.tensor(1), 2]).dtype == np.int64


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fnn.cat([]), ArgumentError, "cat: expected a list of tensors, got none"),
        (lambda: fnn.stack(fnn.Tensor(x)), ArgumentError, "stack: expected a list of tensors, got a Tensor"),
        (lambda: fnn.cat([fnn.Tensor(1.0)]), ShapeError, "fnn.stack makes a vector"),
        (lambda: fnn.cat([x, x[:1]], 1), ShapeError, r"differ in dimension 1 alone, got \(2, 2\), \(1, 2\)"),
        (lambda: fnn.cat([x, x[0]]), ShapeError, r"differ in dimension 0 alone, got \(2, 2\), \(2,\)"),
        (lambda: fnn.cat([x], 2), ShapeError, "cat: expected a dimension from -2 to 1, got 2"),
        (lambda: fnn.stack([x, x[0]]), ShapeError, r"one shape, got \(2, 2\), \(2,\)"),
        (lambda: fnn.where(x, x, x), DTypeError, "where: expected a condition of booleans, such as x > 0, got float32"),
        (lambda: fnn.where(x > 0, x, np.ones(3)), ShapeError, r"got \(2, 2\), \(2, 2\) and \(3,\)"),
    ],
)
def test_joining_what_does_not_fit(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


class Branches(nn.Module):
    """Two branches of a network, joined, and a leaky activation by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.last = nn.Linear(2, 3), nn.Linear(2, 4), nn.Linear(7, 2)

    def forward(self, images: Any) -> Any:
        joined = fnn.cat([self.left(images), self.right(images)], 1)
        return self.last(fnn.where(joined > 0, joined, joined * 0.1))


def test_a_plan_runs_them_as_the_tape_does() -> None:
    fnn.manual_seed(0)
    model, loss, labels = Branches(), nn.CrossEntropyLoss(), np.array([0, 1])
    np.testing.assert_allclose(fnn.compile(model)(x), model(x).numpy(), rtol=1e-5)
    loss(model(x), labels).backward()
    eager = {name: p.grad.copy() for name, p in model.named_parameters()}
    model.zero_grad()
    fnn.compile(model, loss)(x, labels)
    for name, p in model.named_parameters():
        np.testing.assert_allclose(p.grad, eager[name], rtol=1e-4, atol=1e-6)
    step = fnn.compile(model, loss, optim.SGD(model.parameters(), lr=0.5))
    losses = [step(x, labels) for _ in range(100)]
    assert losses[-1] < 0.2 * losses[0]


# ---- x[...] = ... ----------------------------------------------------------------------------------------------------


def test_entries_of_parameters_are_set_off_the_tape_alone() -> None:
    scratch, weight = fnn.Tensor(x.copy()), nn.Parameter(x)
    scratch[0] = 7
    scratch[scratch > 1] = fnn.Tensor(0.0)
    scratch[1, [1]] = [9.0]
    np.testing.assert_array_equal(scratch.numpy(), [[0, 0], [0, 9]])
    with fnn.no_grad():
        weight[0, 0] = 5
    assert weight.data[0, 0] == 5
    with pytest.raises(GraphError, match=r"fnn\.where"):
        weight[0] = 1.0
    with pytest.raises(ShapeError, match=r"x is \(2, 2\)"):
        scratch[5] = 1
    with pytest.raises(ShapeError, match=r"x is \(2, 2\)"):
        scratch[0] = np.ones(3)
    frozen = np.ones(2, np.float32)
    frozen.flags.writeable = False
    with pytest.raises(ArgumentError, match="read-only"):
        fnn.Tensor(frozen)[0] = 1


def test_setting_entries_counts_as_a_write() -> None:
    factor, given = fnn.Tensor(x.copy()), fnn.Tensor(x, requires_grad=True)
    y = (factor * given).sum()
    factor[0, 0] = 3
    with pytest.raises(GraphError, match="modified in place"):
        y.backward()
