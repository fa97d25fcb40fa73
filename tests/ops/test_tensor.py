"""Tensor and tape: what backward computes, frees and refuses; PyTorch's habits; copies, threads, types."""

from __future__ import annotations

import copy
import pickle
import threading
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn.errors import ArgumentError, BackendError, DTypeError, GraphError, ShapeError


def leaf(*values: float, dtype: type = np.float32) -> fnn.Tensor:
    return fnn.Tensor(np.array(values, dtype), requires_grad=True)


class Twice(fnn.Function):
    """2x, with whatever gradient a test wants to hand back."""

    returned: Any = None

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, y: np.ndarray | None = None) -> np.ndarray:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, grad: np.ndarray) -> Any:
        return Twice.returned(grad)


# ---- backward --------------------------------------------------------------------------------------------------------


def test_the_lectures_graph() -> None:
    """f = 1 + e^(w1 x + w0), differentiated by hand."""
    w0, w1, x = leaf(0.5), leaf(-1.0), leaf(2.0)
    f = 1 + (w1 * x + w0).exp()
    f.backward()
    e = np.exp(-1.5)
    assert f.item() == pytest.approx(1 + e)
    assert [w0.grad[0], w1.grad[0], x.grad[0]] == pytest.approx([e, 2 * e, -e])


def test_gradients_add_over_paths_and_over_calls() -> None:
    x = leaf(3.0)
    for _ in range(2):
        (x * x + x).sum().backward()
    assert x.grad == pytest.approx([14.0])  # twice 2x + 1


def test_deep_graphs_do_not_recurse() -> None:
    x = leaf(1.0)
    y = x
    for _ in range(5000):
        y = y + 1
    y.backward()
    assert x.grad == pytest.approx([1.0])


def test_a_diamond_is_visited_once() -> None:
    """60 doublings in a row: 2^60 paths."""
    x = leaf(1.0)
    y = x
    for _ in range(60):
        y = y + y
    y.backward()
    assert x.grad == pytest.approx([2.0**60])


def test_gradients_of_leaves_are_their_own() -> None:
    """a + b gives both the same gradient, but writing to one must not change the other, nor the loss's data."""
    a, b, start = leaf(1.0, 2.0), leaf(3.0, 4.0), np.ones(2, np.float32)
    (a + b).backward(start)
    a.grad *= 5
    assert b.grad == pytest.approx([1.0, 1.0])
    assert start == pytest.approx([1.0, 1.0])


def test_a_gradient_that_is_an_input_is_copied() -> None:
    """A custom operator may return what it saved; the leaf's .grad is added to in place and must not be that array."""
    data = np.array([1.0, 2.0], np.float32)
    x, constant = fnn.Tensor(np.zeros(2, np.float32), requires_grad=True), data
    Twice.returned = lambda grad: (constant, None)
    for _ in range(2):
        Twice.apply(x, constant).sum().backward()
    assert data == pytest.approx([1.0, 2.0])
    assert x.grad == pytest.approx([2.0, 4.0])


def test_backward_twice_needs_retain_graph() -> None:
    x = leaf(2.0)
    y = x * x
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad == pytest.approx([8.0])
    with pytest.raises(GraphError, match="retain_graph"):
        y.backward()


def test_backward_through_a_freed_part() -> None:
    x = leaf(2.0)
    shared = x * x
    (shared + 1).backward()
    with pytest.raises(GraphError, match="freed"):
        (shared * 3).backward()


def test_backward_wants_a_scalar_or_a_gradient() -> None:
    x = leaf(1.0, 2.0)
    with pytest.raises(GraphError, match=r"expected a scalar, got shape \(2,\)"):
        (x * 2).backward()
    with pytest.raises(ShapeError, match=r"shape \(2,\), got \(3,\)"):
        (x * 2).backward(np.ones(3))
    (x * 2).backward([1.0, 10.0])
    assert x.grad == pytest.approx([2.0, 20.0])


def test_backward_without_anything_to_differentiate() -> None:
    with pytest.raises(GraphError, match="requires a gradient"):
        fnn.Tensor([1.0]).backward()


def test_backward_from_a_leaf() -> None:
    x = leaf(5.0)
    x.backward()
    x.backward()
    assert x.grad == pytest.approx([2.0])


def test_constants_get_no_gradient() -> None:
    x, c = leaf(2.0), fnn.Tensor([3.0])
    (x * c).backward()
    assert c.grad is None
    assert x.grad == pytest.approx([3.0])


def test_the_graph_is_freed_on_the_way() -> None:
    """A loss that is kept (for a plot) keeps no activations."""
    x = leaf(1.0)
    loss = (x * x).exp().sum()
    node = loss.node
    loss.backward()
    assert node is not None
    assert node.ctx is None
    assert node.inputs == ()


# ---- custom operators ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        (lambda grad: grad, GraphError, "Twice.backward: expected 2 gradients, one per input, got 1"),
        (lambda grad: (grad[:1], None), ShapeError, r"Twice.backward: expected a gradient of shape \(2,\), got \(1,\)"),
    ],
)
def test_wrong_gradients_are_refused(returned: Any, error: type[Exception], message: str) -> None:
    Twice.returned = returned
    with pytest.raises(error, match=message):
        Twice.apply(leaf(1.0, 2.0), None).sum().backward()


def test_a_path_cut_by_none_is_no_error() -> None:
    x = leaf(1.0)
    Twice.returned = lambda grad: (None, None)
    Twice.apply(x * 2, None).sum().backward()
    assert x.grad is None


def test_context_says_what_is_needed() -> None:
    seen = []

    class Spy(fnn.Function):
        @staticmethod
        def forward(ctx: Any, x: np.ndarray, y: np.ndarray, *, power: int) -> np.ndarray:
            seen.append((ctx.needs_input_grad, ctx.attributes, ctx.kernels.__name__.split(".")[2]))
            return x

    x, y = leaf(1.0, dtype=np.float64), fnn.Tensor([1.0])
    Spy.apply(x, y, power=3)
    with fnn.no_grad():
        Spy.apply(x, y, power=3)
    assert seen == [((True, False), {"power": 3}, "reference"), ((False, False), {"power": 3}, "reference")]


# ---- no_grad ---------------------------------------------------------------------------------------------------------


def test_no_grad_as_context_and_decorator() -> None:
    x = leaf(1.0)

    @fnn.no_grad()
    def double(t: fnn.Tensor) -> fnn.Tensor:
        """Doc."""
        return t * 2

    assert not double(x).requires_grad
    assert double.__doc__ == "Doc."
    off = fnn.no_grad()
    with off:
        with off:
            pass
        assert not (x * 2).requires_grad
    with pytest.raises(ZeroDivisionError), fnn.no_grad():
        raise ZeroDivisionError
    assert (x * 2).requires_grad


def test_no_grad_holds_for_its_thread_alone() -> None:
    x, seen = leaf(1.0), []
    with fnn.no_grad():
        thread = threading.Thread(target=lambda: seen.append((x * 2).requires_grad))
        thread.start()
        thread.join()
    assert seen == [True]


# ---- types -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        ([1.0, 2.0], np.float32),
        (1.5, np.float32),
        ([1, 2], np.int64),
        (np.zeros(2), np.float64),
        (np.float64(1), np.float64),
        (np.zeros(2, np.float16), np.float32),
        (np.zeros(2, ">f4"), np.float32),
        (np.zeros(2, np.uint8), np.uint8),
        (np.zeros(2, bool), bool),
    ],
)
def test_types(data: Any, dtype: type) -> None:
    assert fnn.Tensor(data).dtype == dtype


@pytest.mark.parametrize("data", [np.zeros(2, complex), np.array([object()]), "text", np.zeros(2, np.longdouble)])
def test_types_that_are_refused(data: Any) -> None:
    with pytest.raises(DTypeError, match="expected float32, float64, integers or booleans, got"):
        fnn.Tensor(data)


def test_ragged_lists_are_refused() -> None:
    with pytest.raises(ShapeError, match="equal lengths"):
        fnn.Tensor([[1.0], [1.0, 2.0]])


def test_integers_have_no_gradient() -> None:
    with pytest.raises(DTypeError, match="requires_grad: expected float32 or float64, got int64"):
        fnn.Tensor([1, 2], requires_grad=True)


def test_data_is_the_array_itself() -> None:
    array = np.zeros(2, np.float32)
    x = fnn.Tensor(array)
    array[0] = 7
    x.numpy()[1] = 8
    assert array.tolist() == x.tolist() == [7, 8]
    assert np.asarray(x) is array


# ---- habits ----------------------------------------------------------------------------------------------------------


def test_devices() -> None:
    x = leaf(1.0)
    assert x.cpu() is x
    assert x.to("cpu") is x
    for habit in (lambda: x.cuda(), lambda: x.to("cuda"), lambda: x.to("cuda:0"), lambda: x.to("mps")):
        with pytest.raises(BackendError, match=r"fastnn runs on the CPU .* leave out \.(cuda|to)\("):
            habit()
    with pytest.raises(ArgumentError, match="'tpu7'"):
        x.to("tpu7")


def test_casts_pass_gradients() -> None:
    x = leaf(1.0, 2.0)
    (x.double() * 3).float().sum().backward()
    assert x.grad.dtype == np.float32
    assert x.grad == pytest.approx([3.0, 3.0])
    assert x.to(np.float64).dtype == x.to("float64").dtype == np.float64
    assert x.float() is x
    assert x.long().tolist() == [1, 2]
    for dtype in (np.float16, complex, "U3"):
        with pytest.raises(DTypeError, match="astype: expected float32"):
            x.to(dtype)


def test_sizes_and_numbers() -> None:
    x = fnn.Tensor(np.zeros((2, 3)))
    assert (x.size(), x.size(0), x.dim(), x.numel(), len(x), x.ndim) == ((2, 3), 2, 2, 6, 2, 2)
    assert (float(fnn.Tensor([2.5])), int(fnn.Tensor([2.5])), bool(fnn.Tensor([0.0]))) == (2.5, 2, False)
    for read in (x.item, lambda: bool(x), lambda: float(x)):
        with pytest.raises(ShapeError, match=r"one entry, got shape \(2, 3\)"):
            read()


def test_detach_clone_requires_grad() -> None:
    x = leaf(1.0)
    assert x.detach().numpy() is x.numpy()
    assert not x.detach().requires_grad
    y = x.clone()
    assert not np.shares_memory(y.data, x.data)
    y.backward()
    assert x.grad == pytest.approx([1.0])
    assert not x.requires_grad_(False).requires_grad
    x.requires_grad = True
    with pytest.raises(GraphError, match="detach"):
        (x * 2).requires_grad_(False)
    x.zero_grad()
    assert x.grad is None
    assert x.is_leaf
    assert not (x * 2).is_leaf


def test_repr() -> None:
    assert repr(fnn.Tensor([[1.0, 2.0], [3.0, 4.0]])) == "Tensor([[1., 2.],\n        [3., 4.]])"
    assert repr(leaf(1.0, dtype=np.float64)) == "Tensor([1.], dtype=float64, requires_grad=True)"
    assert repr(leaf(1.0) * 2) == "Tensor([2.], from=Mul)"


def test_accuracy_as_pytorch_users_write_it() -> None:
    logits, y = fnn.Tensor([[1.0, 2.0], [3.0, 0.0], [0.0, 1.0]]), np.array([1, 0, 0])
    assert (logits.argmax(1) == y).float().mean().item() == pytest.approx(2 / 3)
    assert (logits.argmax(1) == fnn.Tensor(y)).sum().item() == 2
    _, predicted = logits.max(1)
    assert predicted.tolist() == [1, 0, 1]


def test_tensors_are_keys() -> None:
    x, y = fnn.Tensor([1.0]), fnn.Tensor([1.0])
    assert len({x: 1, y: 2}) == 2


# ---- copies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))], ids=["deepcopy", "pickle"])
def test_copies(copied: Any) -> None:
    x = leaf(1.0, 2.0)
    (x * x).sum().backward()
    twin = copied(x)
    assert twin.requires_grad
    assert twin.tolist() == [1.0, 2.0]
    assert twin.grad == pytest.approx([2.0, 4.0])
    twin.data[0] = twin.grad[0] = 9
    assert x.tolist() == [1.0, 2.0]
    assert x.grad == pytest.approx([2.0, 4.0])
    with pytest.raises(GraphError, match="detach"):
        copied(x * 2)


def test_a_whole_number_is_a_place() -> None:
    two = fnn.tensor(2)
    assert [10, 11, 12][two] == 12
    assert list(range(two)) == [0, 1]
    assert [part.shape for part in fnn.zeros(4).split(two)] == [(2,), (2,)]
    with pytest.raises(TypeError):
        range(fnn.tensor(2.0))
    with pytest.raises(ShapeError, match="one entry"):
        range(fnn.tensor([2, 3]))


def test_arrays_behind_tensors_have_their_properties() -> None:
    x = fnn.Tensor([[1.0, 2.0]], requires_grad=True)
    assert (x.is_sparse, x.data.is_cuda, x.data.is_sparse, x.data.requires_grad) == (False,) * 4
    assert x.data.mT.shape == (2, 1)
