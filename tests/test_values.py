"""`.data`, `.grad` and what state_dict() gives: NumPy's arrays with a tensor's methods."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn, optim
from fastnn.errors import FastnnError
from fastnn.values import Values

ROWS = np.array([[1.0, -2.0, 0.5], [4.0, 0.25, -3.0]], np.float32)


@pytest.fixture
def p() -> nn.Parameter:
    return nn.Parameter(ROWS.copy())


def test_they_are_the_live_array(p: nn.Parameter) -> None:
    for values in (p.data, nn.Sequential(nn.Linear(2, 3)).state_dict()["0.weight"]):
        assert isinstance(values, np.ndarray)
        assert np.asarray(values).base is values.base or np.asarray(values).base is values
        assert type(np.asarray(values)) is type(values.numpy()) is np.ndarray
        assert np.shares_memory(np.asarray(values), values)
    p.data[0, 0] = 7
    p.data += 1
    np.testing.assert_array_equal(p.numpy(), ROWS + 1 + [[6, 0, 0], [0, 0, 0]])
    assert np.shares_memory(p.data, p.numpy())
    kept = p.data
    p.data = np.zeros((2, 3))
    assert not np.shares_memory(kept, p.data)


def test_assigning_what_was_changed_in_place_keeps_the_array(p: nn.Parameter) -> None:
    array = p.numpy()
    p.data += 1
    p.data *= 2
    assert p.numpy() is array
    p.data = p.data[::-1]
    assert p.numpy() is not array
    np.testing.assert_array_equal(p.numpy(), (ROWS[::-1] + 1) * 2)


def test_habits_with_gradients(p: nn.Parameter) -> None:
    assert p.grad is None
    (p * p).sum().backward()
    assert isinstance(p.grad, np.ndarray)
    assert abs(p.grad.abs().mean().item() - np.abs(2 * ROWS).mean()) < 1e-6
    assert p.grad.data.size() == (2, 3)
    assert p.grad.view(-1).tolist() == (2 * ROWS).reshape(-1).tolist()
    p.grad.data *= 0.5
    np.testing.assert_array_equal(p.grad, ROWS)
    kept = p.grad
    p.grad += 1
    assert np.shares_memory(kept, p.grad)
    p.grad = None
    assert p.grad is None


def test_what_a_method_returns_is_both(p: nn.Parameter) -> None:
    half = p.data.abs().sqrt()
    assert type(half) is Values
    np.testing.assert_allclose(half, np.sqrt(np.abs(ROWS)))
    assert type(p.data * 2 - half) is Values
    assert type(p.data.sum()) is Values
    assert f"{p.data.sum():.2f} {float(p.data.sum())}" == "0.75 0.75"
    assert p.data.clone().matmul(p.t()).requires_grad, "a gradient that is wanted is not lost"
    copied = p.data.clone()
    copied[...] = 0
    np.testing.assert_array_equal(p.data, ROWS)


CALLS: dict[str, tuple[Any, Any]] = {
    "sum": (lambda t: t.sum(), lambda t: t.sum()),
    "sum of a dim": (lambda t: t.sum(dim=1, keepdim=True), lambda t: t.sum(dim=1, keepdim=True)),
    "max of a dim": (lambda t: t.max(1)[1], lambda t: t.max(1)[1]),
    "max with its place": (lambda t: t.max(dim=1, keepdim=True)[0], lambda t: t.max(dim=1, keepdim=True)[0]),
    "std": (lambda t: t.std(), lambda t: t.std()),
    "mean": (lambda t: t.mean(0), lambda t: t.mean(0)),
    "argmax": (lambda t: t.argmax(dim=1), lambda t: t.argmax(dim=1)),
    "view": (lambda t: t.view(3, -1), lambda t: t.view(3, -1)),
    "view of a shape": (lambda t: t.view((6,)), lambda t: t.view((6,))),
    "transpose": (lambda t: t.transpose(0, 1), lambda t: t.transpose(0, 1)),
    "flatten": (lambda t: t.flatten(0), lambda t: t.flatten(0)),
    "clamp": (lambda t: t.clamp(-1, 1), lambda t: t.clamp(-1, 1)),
    "pow": (lambda t: t.pow(2).mean(), lambda t: t.pow(2).mean()),
    "unsqueeze": (lambda t: t.unsqueeze(1), lambda t: t.unsqueeze(1)),
    "numel": (lambda t: np.array(t.numel()), lambda t: np.array(t.numel())),
    "size": (lambda t: np.array(t.size()), lambda t: np.array(t.size())),
    "size of a dim": (lambda t: np.array(t.size(-1)), lambda t: np.array(t.size(-1))),
    "t": (lambda t: t.t(), lambda t: t.t()),
}


@pytest.mark.parametrize("name", CALLS)
def test_called_as_in_pytorch_they_answer_as_in_pytorch(name: str, p: nn.Parameter) -> None:
    torch = pytest.importorskip("torch")
    own, other = CALLS[name]
    expected = other(torch.nn.Parameter(torch.from_numpy(ROWS.copy())).data)
    np.testing.assert_allclose(own(p.data), np.asarray(expected), rtol=1e-6)
    assert own(p.data).shape == tuple(expected.shape)


NUMPYS: dict[str, Any] = {
    "std": lambda a: np.std(a),
    "std of an axis": lambda a: a.std(axis=0),
    "var with ddof": lambda a: a.var(ddof=1),
    "max of an axis": lambda a: a.max(axis=1),
    "np.max": lambda a: np.max(a, 1),
    "sum": lambda a: np.sum(a, axis=0, keepdims=True),
    "sum in another type": lambda a: a.sum(dtype=np.float64),
    "sort": lambda a: np.sort(a),
    "sort of all": lambda a: np.sort(a, axis=None),
    "unique": np.unique,
    "median": np.median,
    "percentile": lambda a: np.percentile(a, 30, axis=0),
    "tile": lambda a: np.tile(a, (2, 2)),
    "repeat": lambda a: np.repeat(a, 2, axis=0),
    "nonzero": lambda a: np.stack(np.nonzero(a)),
    "argwhere": np.argwhere,
    "argsort": lambda a: np.argsort(a, axis=0),
    "cumsum": lambda a: np.cumsum(a, axis=1),
    "average": lambda a: np.average(a, axis=1, weights=[1, 2, 3]),
    "moveaxis": lambda a: np.moveaxis(a, 0, 1),
    "transpose": lambda a: np.transpose(a, (1, 0)),
    "norm": lambda a: np.linalg.norm(a, axis=1),
    "squeeze": lambda a: np.squeeze(a[:1], 0),
    "view": lambda a: a.view(np.int32),
    "flatten": lambda a: a.flatten("F"),
    "cov": np.cov,
    "allclose": lambda a: np.allclose(a, a),
    "einsum": lambda a: np.einsum("ij,kj->ik", a, a),
    "histogram": lambda a: np.histogram(a, 3)[0],
    "matmul": lambda a: a @ a.T,
    "size": lambda a: a.size + 0,
}


@pytest.mark.parametrize("name", NUMPYS)
def test_numpys_functions_and_keywords_are_numpys(name: str, p: nn.Parameter) -> None:
    np.testing.assert_array_equal(NUMPYS[name](p.data), NUMPYS[name](ROWS.copy()))
    np.testing.assert_array_equal(p.data, ROWS)


def test_operators_and_layers_take_them(p: nn.Parameter) -> None:
    x = np.ones((4, 3), np.float32)
    for taken in (fnn.Tensor(p.data), nn.Parameter(p.data.clone()), p.data):
        np.testing.assert_allclose(fnn.ops.linear(x, taken).numpy(), x @ ROWS.T, rtol=1e-6)
    twice = nn.Parameter(fnn.Tensor(ROWS.astype(np.float64)).data)
    assert twice.dtype == np.float64, "they keep their type, as a tensor does"
    loss = (fnn.Tensor(p.data) * p).sum()
    loss.backward()
    np.testing.assert_array_equal(p.grad, ROWS)


class Scaled(nn.Module):
    """A buffer used by its methods."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.register_buffer("scale", np.array([2.0, 3.0], np.float32))

    def forward(self, x: Any) -> Any:
        return self.linear(x) * self.scale.unsqueeze(0).abs()


def test_buffers_have_them_too() -> None:
    model, x, y = Scaled(), np.ones((5, 3), np.float32), np.zeros((5, 2), np.float32)
    step = fnn.compile(model, nn.MSELoss())
    assert np.isclose(step(x, y), nn.MSELoss()(model(x), y).item(), rtol=1e-6)
    model.scale *= 2
    assert np.isclose(step(x, y), nn.MSELoss()(model(x), y).item(), rtol=1e-6), "a plan reads what is there"
    twin = copy.deepcopy(model.double())
    assert type(twin.scale) is Values
    assert twin.scale.dtype == np.float64
    assert not np.shares_memory(twin.scale, model.scale)
    norm = nn.BatchNorm1d(3)
    norm(np.arange(12, dtype=np.float32).reshape(4, 3))
    assert norm.running_mean.abs().max().item() > 0
    assert norm.num_batches_tracked.item() == 1


def test_copies_and_pickles_need_no_fastnn(p: nn.Parameter, tmp_path: Any) -> None:
    assert b"fastnn" not in pickle.dumps(p.data)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(p.data)), ROWS)
    state = copy.deepcopy(nn.Linear(2, 2).state_dict())
    assert all(type(values) is Values for values in state.values())
    np.save(tmp_path / "p.npy", p.data)
    np.testing.assert_array_equal(np.load(tmp_path / "p.npy"), ROWS)
    fnn.weights.save({"p": p.data}, tmp_path / "p.safetensors")
    np.testing.assert_array_equal(fnn.weights.load(tmp_path / "p.safetensors")["p"], ROWS)
    assert repr(p.data) == repr(ROWS)


def test_optimisers_and_plans_see_what_is_written(p: nn.Parameter) -> None:
    model, x, y = nn.Linear(3, 1), np.ones((4, 3), np.float32), np.zeros((4, 1), np.float32)
    step = fnn.compile(model, nn.MSELoss(), optim.SGD(model.parameters(), lr=0.1))
    step(x, y)
    model.weight.data.view(-1)[...] = 0
    model.bias.data[...] = 2
    assert np.isclose(step(x, y), 4)
    p.grad = np.ones((2, 3))
    optim.SGD([p], lr=1.0).step()
    np.testing.assert_array_equal(p.data, ROWS - 1)


def test_what_neither_has_is_refused(p: nn.Parameter) -> None:
    for name in ("backward", "zero_grad", "no_such_method", "node"):
        with pytest.raises(AttributeError):
            getattr(p.data, name)
    with pytest.raises((FastnnError, TypeError)):
        p.data.sum(dim=1, axis=0)


def test_an_entry_answers_as_a_tensor_does() -> None:
    module = nn.Module()
    module.register_buffer("alphas", fnn.tensor([0.25, 0.5]))
    a, b = module.alphas[0], module.alphas[1]
    assert (a / b).sqrt().item() == pytest.approx(0.5**0.5)
    assert (1 - a).log().clamp(max=-1).item() == -1
    assert (float(a), round(a, 1), f"{a:.3f}", bool(a < b), max(module.alphas).item()) == (
        0.25,
        0.2,
        "0.250",
        True,
        0.5,
    )
    assert fnn.arange(3).data[2] == range(3)[fnn.arange(3).data[2]]
    module.register_buffer("place", fnn.tensor([3]))
    assert (int(module.place), float(module.place)) == (3, 3.0)
    assert {a, module.alphas[0], b} == {0.25, 0.5}
    with pytest.raises(ValueError, match="size 1"):
        int(module.alphas)
    with pytest.raises(TypeError, match=r"hash: expected one number, got an array of shape \(2,\)"):
        hash(module.alphas)


def test_an_entry_stands_for_a_number() -> None:
    share, count = fnn.tensor([0.5]).data[0], fnn.tensor([3]).data[0]
    assert nn.Dropout(share).p == 0.5
    assert fnn.arange(count).tolist() == [0, 1, 2]
    assert fnn.arange(6.0).clamp(max=share).sum().item() == 2.5
    assert isinstance(share[()], np.float32)
    weight = nn.Parameter([1.0])
    opt = optim.SGD([weight], lr=0.1)
    opt.param_groups[0]["lr"] = share
    weight.grad = np.ones(1, np.float32)
    opt.step()
    assert (weight.item(), opt.param_groups[0]["lr"]) == (0.5, 0.5)


def test_a_shape_changed_in_place_is_that_of_what_is_returned() -> None:
    """``grad = p.grad.data.transpose_(0, 1)``: PyTorch's .data is another tensor of the same memory, too."""
    p = nn.Parameter(np.arange(6.0).reshape(2, 3))
    turned = p.data.transpose_(0, 1)
    assert turned.shape == (3, 2)
    assert p.data.unsqueeze_(0).shape == (1, 2, 3)
    assert p.shape == (2, 3)
    turned[0, 1] = 9
    assert p.data[1, 0] == 9
    square = nn.Parameter([[1.0, 2.0], [3.0, 4.0]])
    assert square.data.t_().tolist() == [[1, 3], [2, 4]]
    assert square.data.add_(1) is square.data or square.tolist() == [[2, 3], [4, 5]]


def test_what_changes_an_arrays_shape_gives_another_and_what_is_new_is_a_tensor() -> None:
    p = nn.Parameter(np.arange(6.0).reshape(2, 3))
    assert p.data.unsqueeze_(0).shape == (1, 2, 3)
    assert p.data.t_().shape == (3, 2)
    assert p.data.add_(1).shape == p.shape == (2, 3)
    assert p.data.new(2).resize_(3).fill_(4).tolist() == [4, 4, 4]
    with pytest.raises(AttributeError, match="a shape that stays"):
        p.data.resize_(3)
