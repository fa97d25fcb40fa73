"""What joins, chooses, moves, sorts and multiplies, against PyTorch in float64: values, types and gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from choice_cases import CONSTANT, SINGLE, WRITTEN, Expression, inputs

import fastnn as fnn
import fastnn.nn.functional as FF
from fastnn import ops
from fastnn.errors import ArgumentError, DTypeError, FastnnError, GraphError, LabelError, ShapeError

IN = inputs()


def weights(shape: Any) -> np.ndarray:
    return np.random.default_rng(3).normal(size=tuple(shape))


@pytest.mark.parametrize("name", SINGLE)
def test_values_and_gradients_are_pytorchs(name: str) -> None:
    torch = pytest.importorskip("torch")
    expression = SINGLE[name]
    theirs = {key: torch.tensor(x, requires_grad=True) for key, x in IN.items()}
    ours = {key: fnn.Tensor(x, requires_grad=True) for key, x in IN.items()}
    expected = expression(torch, torch.nn.functional, **theirs)
    found = expression(fnn, FF, **ours)
    assert found.shape == tuple(expected.shape)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found.detach().numpy(), expected.detach().numpy(), rtol=1e-10, atol=1e-10)
    (expected * torch.tensor(weights(expected.shape))).sum().backward()
    (found * weights(found.shape)).sum().backward()
    for key, x in theirs.items():
        if x.grad is not None or ours[key].grad is not None:
            zero = np.zeros(x.shape)
            want = zero if x.grad is None else x.grad.numpy()
            have = zero if ours[key].grad is None else np.asarray(ours[key].grad)
            np.testing.assert_allclose(have, want, rtol=1e-10, atol=1e-10, err_msg=key)


@pytest.mark.parametrize("name", SINGLE)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    expression: Expression = SINGLE[name]
    assert fnn.gradcheck(lambda *x: expression(fnn, FF, *x), tuple(IN.values()))


@pytest.mark.parametrize("name", CONSTANT)
def test_constants_are_pytorchs(name: str) -> None:
    torch = pytest.importorskip("torch")
    expected = CONSTANT[name](torch, torch.nn.functional, **{key: torch.tensor(x) for key, x in IN.items()})
    found = CONSTANT[name](fnn, FF, **{key: fnn.Tensor(x) for key, x in IN.items()})
    pairs = list(zip(found, expected, strict=True)) if isinstance(expected, tuple) else [(found, expected)]
    for one, other in pairs:
        assert str(one.dtype) == str(other.dtype).replace("torch.", "")
        assert one.shape == tuple(other.shape)
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-12)


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("on_tape", [False, True], ids=["off the tape", "on it"])
def test_writes_are_pytorchs(name: str, on_tape: bool) -> None:
    torch = pytest.importorskip("torch")
    results = []
    for package in (torch, fnn):
        a = package.tensor(IN["a"], requires_grad=on_tape)
        b = package.tensor(IN["b"], requires_grad=on_tape)
        x = a * 1
        memory = np.asarray(x.detach().numpy())
        assert WRITTEN[name](package, x, b) is not None
        np.testing.assert_array_equal(memory, x.detach().numpy())  # where it was
        if on_tape:
            (x * x * 0.5).sum().backward()
            empty = np.zeros((3, 4))
            results.append([x.detach().numpy(), *(empty if p.grad is None else np.asarray(p.grad) for p in (a, b))])
        else:
            results.append([x.numpy()])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)


# ---- by hand, without PyTorch ----------------------------------------------------------------------------------------


def test_some_values() -> None:
    x = fnn.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 4.0]])
    assert x.sort(1).values.tolist() == [[1, 2, 3], [0, 4, 5]]
    assert x.topk(2).indices.tolist() == [[0, 2], [1, 2]]
    assert fnn.einsum("ij,kj->ik", x, x).tolist() == [[14, 13], [13, 41]]
    assert x.gather(1, fnn.tensor([[2], [0]])).tolist() == [[2], [0]]
    assert [part.tolist() for part in x.split(2, 1)] == [[[3, 1], [0, 5]], [[2], [4]]]
    assert x[:, [0, 0]].tolist() == [[3, 3], [0, 0]]
    assert x[range(2), fnn.tensor([2, 1])].tolist() == [2, 5]
    assert x.cumsum(1).tolist() == [[3, 4, 6], [0, 5, 9]]
    assert ops.normalize([[3.0, 4.0]]).tolist() == [[np.float32(0.6), np.float32(0.8)]]
    assert fnn.zeros(3).scatter_add(0, fnn.tensor([0, 0, 2]), fnn.tensor([1.0, 2.0, 3.0])).tolist() == [3, 0, 3]
    assert x.norm().item() == pytest.approx(55**0.5)
    assert fnn.tensor([0.0, 0.0], requires_grad=True).norm().tolist() == 0


def test_the_gradient_of_a_norm_of_zero_is_zero() -> None:
    for p in (2, 3, 1, float("inf")):
        x = fnn.Tensor(np.zeros((2, 3)), requires_grad=True)
        x.norm(p, 1).sum().backward()
        assert x.grad.tolist() == np.zeros((2, 3)).tolist()


def test_an_entry_picked_twice_gets_both_gradients() -> None:
    x = fnn.tensor([1.0, 2.0, 3.0], requires_grad=True)
    (x[[0, 2, 2]] * fnn.tensor([1.0, 10.0, 100.0])).sum().backward()
    assert x.grad.tolist() == [1, 0, 110]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda x: x[5], ShapeError),
        (lambda x: x[[0, 9]], ShapeError),
        (lambda x: x[0.5], ShapeError),
        (lambda x: x[fnn.tensor([True, False])], ShapeError),
        (lambda x: x.gather(1, fnn.tensor([[9]])), ShapeError),
        (lambda x: x.gather(1, fnn.tensor([0])), ShapeError),
        (lambda x: x.gather(1, fnn.tensor([[0.0]])), DTypeError),
        (lambda x: x.index_select(0, fnn.tensor([4])), ShapeError),
        (lambda x: x.masked_fill(x, 1), DTypeError),
        (lambda x: x.masked_fill(x > 0, [1, 2]), ShapeError),
        (lambda x: x.scatter(0, fnn.tensor([[0]]), x, reduce="max"), ArgumentError),
        (lambda x: x.split([1, 1], 1), ShapeError),
        (lambda x: x.split("2"), ArgumentError),
        (lambda x: x.expand(4, 4), ShapeError),
        (lambda x: x.repeat(2), ShapeError),
        (lambda x: x.flip(0, 0), ShapeError),
        (lambda x: x.topk(9), ShapeError),
        (lambda x: x.unflatten(1, (3, 3)), ShapeError),
        (lambda x: fnn.einsum("ij,jk", x), ArgumentError),
        (lambda x: fnn.einsum("ijk->i", x), ArgumentError),
        (lambda x: fnn.einsum("ij,jk->ik", x, x), ShapeError),
        (lambda x: fnn.einsum("ij->ik", x), ArgumentError),
        (lambda x: fnn.bmm(x, x), ShapeError),
        (lambda x: fnn.dot(x, x), ShapeError),
        (lambda x: x.norm("nuc"), ArgumentError),
        (lambda x: ops.one_hot([3], 2), LabelError),
        (lambda x: ops.one_hot([0.5]), DTypeError),
        (lambda x: fnn.broadcast_tensors(x, fnn.zeros(3)), ShapeError),
        (lambda x: x.__setitem__(0, fnn.zeros(7)), ShapeError),
        (lambda x: x.uniform_(2, 1), ArgumentError),
    ],
)
def test_mistakes_are_named(call: Any, error: type[FastnnError]) -> None:
    with pytest.raises(error):
        call(fnn.tensor([[1.0, 2.0, 3.0, 4.0]] * 3))


# ---- writes ----------------------------------------------------------------------------------------------------------


def test_a_forward_that_fills_a_tensor_step_by_step() -> None:
    w = fnn.tensor([2.0, 3.0], requires_grad=True)
    out = fnn.zeros(2, 3)
    for i in range(3):
        out[:, i] = w * (i + 1) if i == 0 else out[:, i - 1].clone() * w
    (out * out).sum().backward()  # w, w², w³: 2 Σ k w^(2k-1)
    assert w.grad.tolist() == [2 * (2 + 2 * 8 + 3 * 32), 2 * (3 + 2 * 27 + 3 * 243)]


def test_what_was_read_before_a_write_keeps_its_gradient() -> None:
    w = fnn.tensor([1.0, 2.0], requires_grad=True)
    x = w + 0
    before = x + 1  # keeps nothing
    x[0] = 10.0
    (before * 3 + x).sum().backward()
    assert w.grad.tolist() == [3, 4]


def test_writes_that_a_gradient_would_miss_are_refused() -> None:
    w = fnn.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(GraphError, match="no_grad"):
        w[0] = 1.0
    with pytest.raises(GraphError, match="no_grad"):
        w.view(2, 1)[0] = 1.0
    with pytest.raises(GraphError, match="no_grad"):
        w.zero_()
    x = w * 1
    y = x.exp()  # keeps its output, not x
    z = x * x  # keeps x
    x[0] = 5.0
    y.sum().backward(retain_graph=True)
    with pytest.raises(GraphError, match="modified in place"):
        z.sum().backward()


def test_a_write_is_in_the_gradient_of_all_views() -> None:
    """Worked out by hand; random programs are compared in tests/autograd/test_view_programs.py."""
    w = fnn.tensor([1.0, 2.0, 3.0, 4.0], requires_grad=True)
    x = w + 0
    before, row = x.view(4), x.view(2, 2)[0]
    row[:] = w[:2] * 3
    (x * 2 + before * 10).sum().backward()
    assert w.grad.tolist() == [36, 36, 12, 12]
    zeros = fnn.zeros(4)
    seen, cut = zeros.view(2, 2), zeros.detach()
    zeros[1] = w[0] * 5
    assert seen.requires_grad
    assert not cut.requires_grad
    assert cut.tolist() == [0, 5, 0, 0]
    (entry,) = fnn.autograd.grad(seen.sum(), w)
    assert entry.tolist() == [5, 0, 0, 0]


def test_random_numbers_in_place() -> None:
    fnn.manual_seed(0)
    x = fnn.zeros(20000)
    array = x.numpy()
    assert x.uniform_(2, 4) is x
    assert x.numpy() is array
    assert 2 <= array.min() < 2.01
    assert 3.99 < array.max() < 4
    assert x.normal_(3, 2).data.mean() == pytest.approx(3, abs=0.1)
    assert array.std() == pytest.approx(2, abs=0.1)
    assert x.exponential_(2).data.mean() == pytest.approx(0.5, abs=0.02)
    assert x.geometric_(0.25).data.mean() == pytest.approx(4, abs=0.2)
    assert set(x.random_(3, 5).data) == {3, 4}
    assert set(x.random_(2).data) == {0, 1}
    assert np.log(x.log_normal_(1, 0.5).data).mean() == pytest.approx(1, abs=0.05)
    with pytest.raises(DTypeError):
        fnn.tensor([1]).normal_()


def test_shapes_in_place() -> None:
    x = fnn.tensor([[1.0, 2.0]])
    assert x.t_().shape == (2, 1)
    assert x.squeeze_(1).shape == (2,)
    assert x.unsqueeze_(0).shape == (1, 2)
    assert x.transpose_(0, 1).shape == (2, 1)
    assert fnn.zeros(3, 3).fill_diagonal_(2).tolist() == [[2, 0, 0], [0, 2, 0], [0, 0, 2]]
    assert fnn.ones(2, 2).bool().fill_diagonal_(False).tolist() == [[False, True], [True, False]]
    assert fnn.zeros(2, 2).fill_diagonal_(fnn.tensor(3.0)).tolist() == [[3, 0], [0, 3]]
    assert fnn.zeros(2, 2, dtype=fnn.bool).scatter_(1, fnn.tensor([[1], [0]]), True).tolist() == [[0, 1], [1, 0]]
    with pytest.raises(ArgumentError, match="fill_diagonal_: expected one number"):
        fnn.zeros(2, 2).fill_diagonal_([1.0])
    y = fnn.tensor([1.0], requires_grad=True) * 2
    assert not y.detach_().requires_grad


def test_choices_of_no_entries_and_of_too_many() -> None:
    assert fnn.combinations(fnn.tensor([1, 2, 3]), 0).shape == (0,)
    assert fnn.combinations(fnn.tensor([1, 2]), 3).shape == (0, 3)
