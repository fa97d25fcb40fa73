"""New tensors: values, types and options as PyTorch's; random ones by their moments and by their seed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn
from fastnn.errors import ArgumentError, BackendError, DTypeError, FastnnError, ShapeError

# Calls of the package, fastnn or PyTorch, and what they give, worked out by hand: type and numbers.
CALLS: list[tuple[Callable[[Any], Any], str, Any]] = [
    (lambda t: t.tensor([[1, 2], [3, 4]]), "int64", [[1, 2], [3, 4]]),
    (lambda t: t.tensor([0.5, 2]), "float32", [0.5, 2]),
    (lambda t: t.tensor(True), "bool", True),
    (lambda t: t.tensor([]), "float32", []),
    (lambda t: t.tensor(np.ones(2)), "float64", [1, 1]),
    (lambda t: t.tensor([1, 2], dtype=t.float32), "float32", [1, 2]),
    (lambda t: t.tensor([1.7], dtype=t.long), "int64", [1]),
    (lambda t: t.tensor([t.tensor(1.5), t.tensor(2.5)]), "float32", [1.5, 2.5]),
    (lambda t: t.tensor((np.float64(1.5), 2.0)), "float64", [1.5, 2.0]),
    (lambda t: t.as_tensor([1, 2]), "int64", [1, 2]),
    (lambda t: t.as_tensor(np.ones(2), dtype=t.float32), "float32", [1, 1]),
    (lambda t: t.from_numpy(np.arange(3)), "int64", [0, 1, 2]),
    (lambda t: t.zeros(2, 1), "float32", [[0], [0]]),
    (lambda t: t.zeros((2, 1), dtype=t.int32), "int32", [[0], [0]]),
    (lambda t: t.zeros([1]), "float32", [0]),
    (lambda t: t.zeros(()), "float32", 0),
    (lambda t: t.zeros(size=(1,)), "float32", [0]),
    (lambda t: t.ones(2, dtype=t.bool), "bool", [True, True]),
    (lambda t: t.empty(0, 3), "float32", np.zeros((0, 3)).tolist()),
    (lambda t: t.full((2,), 3), "int64", [3, 3]),
    (lambda t: t.full((2,), 0.5), "float32", [0.5, 0.5]),
    (lambda t: t.full([1], True), "bool", [True]),
    (lambda t: t.full((1,), -math.inf), "float32", [-math.inf]),
    (lambda t: t.full((1,), 2, dtype=t.double), "float64", [2]),
    (lambda t: t.zeros_like(t.ones(2, dtype=t.int64)), "int64", [0, 0]),
    (lambda t: t.ones_like(t.zeros(2), dtype=t.bool), "bool", [True, True]),
    (lambda t: t.full_like(t.zeros(2, dtype=t.long), 7), "int64", [7, 7]),
    (lambda t: t.arange(3), "int64", [0, 1, 2]),
    (lambda t: t.arange(1, 4), "int64", [1, 2, 3]),
    (lambda t: t.arange(5, 0, -2), "int64", [5, 3, 1]),
    (lambda t: t.arange(0, 1, 0.25), "float32", [0, 0.25, 0.5, 0.75]),
    (lambda t: t.arange(3.0), "float32", [0, 1, 2]),
    (lambda t: t.arange(2, dtype=t.float32), "float32", [0, 1]),
    (lambda t: t.arange(0), "int64", []),
    (lambda t: t.linspace(0, 1, 5), "float32", [0, 0.25, 0.5, 0.75, 1]),
    (lambda t: t.linspace(-1, 1, steps=1), "float32", [-1]),
    (lambda t: t.eye(2), "float32", [[1, 0], [0, 1]]),
    (lambda t: t.eye(2, 3, dtype=t.int64), "int64", [[1, 0, 0], [0, 1, 0]]),
    (lambda t: t.ones(1, dtype=t.int64).new_zeros(2), "int64", [0, 0]),
    (lambda t: t.ones(1).new_ones((2,)), "float32", [1, 1]),
    (lambda t: t.ones(1, dtype=t.int64).new(2).zero_(), "int64", [0, 0]),
    (lambda t: t.ones(1, dtype=t.float64).new([1, 2]), "float64", [1, 2]),
    (lambda t: t.ones(1).new(t.ones(2).size()).fill_(3), "float32", [3, 3]),
    (lambda t: t.FloatTensor(t.ones(2).size()).fill_(3), "float32", [3, 3]),
    (lambda t: t.tensor([np.float32(1.5), 2]), "float32", [1.5, 2]),
    (lambda t: t.tensor([np.int64(1), 2.5]), "float32", [1, 2.5]),
    (lambda t: t.tensor([np.float64(1), 2]), "float64", [1, 2]),
    (lambda t: t.tensor([t.tensor([1.0]), t.tensor([[2]])]), "float32", [1, 2]),
    (lambda t: t.ones(1).new_full((2,), 3), "float32", [3, 3]),
    (lambda t: t.ones(1).new_tensor([1, 2]), "float32", [1, 2]),
    (lambda t: t.randint(3, 4, (2,)), "int64", [3, 3]),
    (lambda t: t.randint(1, (2,), dtype=t.float32), "float32", [0, 0]),
    (lambda t: t.randperm(1), "int64", [0]),
    (lambda t: t.normal(t.tensor([1.0, 2.0]), t.zeros(2)), "float32", [1, 2]),
    (lambda t: t.rand(0), "float32", []),
    (lambda t: t.bernoulli(t.tensor([0.0, 1.0])), "float32", [0, 1]),
    (lambda t: t.tensor([1.5]).type(t.long), "int64", [1]),
    (lambda t: t.tensor([0, 3]).bool(), "bool", [False, True]),
    (lambda t: t.tensor([1.5]).int(), "int32", [1]),
    (lambda t: t.tensor([1.5]).byte(), "uint8", [1]),
    (lambda t: t.tensor([1]).type_as(t.zeros(1)), "float32", [1]),
    (lambda t: t.tensor([1]).to(t.device("cpu"), t.float64), "float64", [1]),
    (lambda t: t.tensor([1]).to(t.zeros(1)), "float32", [1]),
    (lambda t: t.tensor([1]).to("cpu", non_blocking=True), "int64", [1]),
    (lambda t: t.arange(4).view_as(t.zeros(2, 2)), "int64", [[0, 1], [2, 3]]),
    (lambda t: t.LongTensor([1, 2]), "int64", [1, 2]),
    (lambda t: t.FloatTensor([1, 2]), "float32", [1, 2]),
]


@pytest.mark.parametrize("place", range(len(CALLS)))
def test_values_and_types(place: int) -> None:
    call, dtype, values = CALLS[place]
    made = call(fnn)
    assert isinstance(made, fnn.Tensor)
    assert made.dtype == np.dtype(dtype)
    assert made.tolist() == pytest.approx(values) if np.ndim(values) <= 1 else made.tolist() == values


@pytest.mark.parametrize("place", range(len(CALLS)))
def test_values_and_types_are_pytorchs(place: int) -> None:
    torch = pytest.importorskip("torch")
    call, dtype, values = CALLS[place]
    made = call(torch)
    assert str(made.dtype) == f"torch.{dtype}"
    assert made.tolist() == pytest.approx(values) if np.ndim(values) <= 1 else made.tolist() == values


def test_what_is_copied_and_what_is_shared() -> None:
    array = np.zeros(2, np.float32)
    assert fnn.from_numpy(array).numpy() is fnn.as_tensor(array).numpy() is array
    copy = fnn.tensor(array)
    array += 1
    assert copy.tolist() == [0, 0]
    x = fnn.ones(2, requires_grad=True)
    assert fnn.as_tensor(x) is x
    assert fnn.tensor(x * 2).is_leaf


def test_options() -> None:
    assert fnn.ones(2, requires_grad=True, device="cpu", layout=None, pin_memory=True).requires_grad
    assert fnn.randn(2, requires_grad=True, device=fnn.device("cpu")).requires_grad
    assert fnn.tensor(1.0, requires_grad=True).is_leaf
    assert fnn.rand(2, dtype=fnn.float64).dtype == fnn.float64


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fnn.zeros(2.5), ArgumentError, "zeros: expected sizes as integers, got 2.5"),
        (lambda: fnn.zeros(-1), ShapeError, "at least 0"),
        (lambda: fnn.zeros(2, device="cuda"), BackendError, "zeros: fastnn runs on the CPU"),
        (lambda: fnn.zeros(2, device="nowhere"), ArgumentError, "the device 'cpu', got 'nowhere'"),
        (lambda: fnn.zeros(2, dtype=np.float16), DTypeError, "zeros: expected float32, float64"),
        (lambda: fnn.zeros(2, dtype="text"), DTypeError, "such as fnn.float32"),
        (lambda: fnn.zeros(2, colour=1), TypeError, r"unexpected keyword argument 'colour'"),
        (lambda: fnn.zeros(2, out=3), ArgumentError, "zeros: expected out to be a tensor, got int"),
        (lambda: fnn.ones(2, dtype=fnn.long, requires_grad=True), DTypeError, "requires_grad"),
        (lambda: fnn.tensor("text"), DTypeError, "Tensor: expected float32"),
        (
            lambda: fnn.tensor([[1], [1, 2]]),
            ShapeError,
            "lists of equal lengths, got some of 1 and of 2: cut or pad them",
        ),
        (lambda: fnn.full((2,), "a"), ArgumentError, "a number to fill with"),
        (lambda: fnn.arange(0, 3, -1), ArgumentError, "a step from start towards end"),
        (lambda: fnn.arange(0, 3, 0), ArgumentError, "a step from start towards end"),
        (lambda: fnn.from_numpy([1]), ArgumentError, "expected an array, got list"),
        (lambda: fnn.randint(3, 3, (2,)), ArgumentError, "low < high"),
        (lambda: fnn.rand(2, dtype=fnn.long), DTypeError, "rand: expected float32 or float64"),
        (lambda: fnn.rand(2, generator=3), ArgumentError, "generator=fnn.Generator"),
        (lambda: fnn.normal(0.0, 1.0), ArgumentError, "expected size="),
        (lambda: fnn.normal(0.0, -1.0, (2,)), ArgumentError, "std of at least 0"),
        (lambda: fnn.Generator().manual_seed(-1), ArgumentError, "an integer from 0"),
        (lambda: fnn.zeros(1, device=fnn.device("cuda")), BackendError, "fnn.cuda.is_available"),
    ],
)
def test_what_is_refused(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
    assert issubclass(error, FastnnError) or error is TypeError


# ---- random numbers --------------------------------------------------------------------------------------------------

DRAWS: dict[str, Callable[..., Any]] = {
    "rand": lambda **o: fnn.rand(50, 40, **o),
    "randn": lambda **o: fnn.randn(50, 40, **o),
    "randint": lambda **o: fnn.randint(0, 7, (50, 40), **o),
    "randperm": lambda **o: fnn.randperm(2000, **o),
    "normal": lambda **o: fnn.normal(0.0, 1.0, (50, 40), **o),
    "bernoulli": lambda **o: fnn.bernoulli(fnn.full((50, 40), 0.25), **o),
}
MOMENTS = {"rand": (0.5, 12**-0.5), "randn": (0, 1), "randint": (3, 2), "randperm": (999.5, 2000 / 12**0.5),
           "normal": (0, 1), "bernoulli": (0.25, 0.1875**0.5)}  # fmt: skip


@pytest.mark.parametrize("name", DRAWS)
def test_random_numbers(name: str) -> None:
    """The moments of their distribution, new numbers at every call, the same after the same seed."""
    fnn.manual_seed(1)
    one, other = DRAWS[name](), DRAWS[name]()
    fnn.manual_seed(1)
    assert DRAWS[name]().tolist() == one.tolist() != other.tolist()
    mean, std = MOMENTS[name]
    assert one.numpy().mean() == pytest.approx(mean, abs=5 * std / 2000**0.5)
    assert one.numpy().std() == pytest.approx(std, rel=0.1)
    g = fnn.Generator().manual_seed(2)
    state = g.get_state()
    first = DRAWS[name](generator=g).tolist()
    assert DRAWS[name](generator=g).tolist() != first
    assert DRAWS[name](generator=g.manual_seed(2)).tolist() == first
    assert DRAWS[name](generator=g.set_state(state)).tolist() == first
    assert g.initial_seed() == 2
    if name == "randperm":
        assert sorted(first) == list(range(2000))


class Noisy(nn.Module):
    def __init__(self, draw: Callable[[], Any]) -> None:
        super().__init__()
        self.draw = draw

    def forward(self, x: Any) -> Any:
        return x + self.draw().float()


@pytest.mark.parametrize("name", ["rand", "randn", "randint", "randperm", "normal", "bernoulli"])
def test_random_numbers_are_new_in_every_call_of_a_compiled_model(name: str) -> None:
    shape = (2000,) if name == "randperm" else (50, 40)
    model, x = Noisy(DRAWS[name]), np.zeros(shape, np.float32)
    plan = fnn.compile(model)
    plan(x)
    fnn.manual_seed(3)
    one, other = plan(x).copy(), plan(x).copy()
    assert (one != other).any()
    fnn.manual_seed(3)
    np.testing.assert_array_equal(model(x).numpy(), one)
    np.testing.assert_array_equal(model(x).numpy(), other)


def test_a_generator_of_ones_own_is_refused_in_a_compiled_model() -> None:
    g = fnn.Generator()
    with pytest.raises(ArgumentError, match="leave out generator="):
        fnn.compile(Noisy(lambda: fnn.rand(2, 2, generator=g)))(np.zeros((2, 2), np.float32))


class Constants(nn.Module):
    def forward(self, x: Any) -> Any:
        steps = fnn.arange(x.shape[1], dtype=fnn.float32)
        return (x + fnn.ones(3)) * steps + fnn.zeros_like(x) + x.new_full((3,), 0.5) + fnn.eye(2, 3) + fnn.tensor([1.0])


def test_new_tensors_are_constants_of_a_compiled_model() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    plan = fnn.compile(Constants())
    for scale in (1, 2, 3):
        np.testing.assert_allclose(plan(scale * x), Constants()(scale * x).numpy(), rtol=1e-6)


def test_lists_of_tensors_and_numbers_have_pytorchs_types() -> None:
    torch = pytest.importorskip("torch")
    lists: list[Any] = [
        lambda t: [t.tensor(1.0), 1.0], lambda t: [t.tensor(1), 1.0], lambda t: [1.0, t.ones((), dtype=t.float64)],
        lambda t: [t.tensor(1), True], lambda t: [1, t.tensor(2.5)], lambda t: [[1, 2.5], [t.tensor(3), 4]],
        lambda t: [True, t.tensor(False)], lambda t: (t.tensor(1, dtype=t.int32), t.tensor(2, dtype=t.int32)),
        lambda t: [0.5, t.ones((), requires_grad=True)],
    ]  # fmt: skip
    for made in lists:
        mine, theirs = fnn.tensor(made(fnn)), torch.tensor(made(torch))
        assert (str(mine.dtype), mine.tolist()) == (str(theirs.dtype).removeprefix("torch."), theirs.tolist())


def test_gradients_of_numbers_meet_in_an_array() -> None:
    """Two gradients of a tensor without dimensions: NumPy's sum of them is no array, which kernels refuse."""
    torch = pytest.importorskip("torch")
    for name in ("sigmoid", "tanh", "relu", "exp", "log1p"):
        found = {}
        for library in (torch, fnn):
            x = library.tensor([0.3, 2.0], requires_grad=True)
            y = getattr(library, name)(x[0])
            (y * y.exp() + y).backward()
            found[library] = [float(entry) for entry in x.grad]
        assert found[fnn] == pytest.approx(found[torch], rel=1e-6)


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("bartlett", {}), ("blackman", {}), ("hann", {}), ("hamming", {}), ("kaiser", {"beta": 12.0}),
        ("kaiser", {"beta": 3.0}), ("hamming", {"alpha": 0.6, "beta": 0.4}),
    ],
)  # fmt: skip
def test_windows_are_scipys(name: str, said: dict[str, float], periodic: bool) -> None:
    windows = pytest.importorskip("scipy.signal").windows
    for length in (0, 1, 2, 5, 8):
        found = getattr(fnn, f"{name}_window")(length, periodic, dtype=fnn.float64, **said)
        if "alpha" in said:
            expected = windows.general_cosine(length, [said["alpha"], said["beta"]], sym=not periodic)
            expected = np.ones(1) if length == 1 else expected
        else:
            expected = windows.get_window((name, *said.values()), length, fftbins=periodic) if length else np.zeros(0)
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)
    assert fnn.hann_window(3).dtype == np.float32
    with pytest.raises(ArgumentError, match="window_length"):
        fnn.hann_window(-1)
