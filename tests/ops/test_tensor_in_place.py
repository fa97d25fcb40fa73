"""What is written in place between forward and backward: the gradient of what forward saw, or an error, never another.

The oracle of a gradient is the same computation without the write; which writes raise is kept in a table, worked out by
hand from the formulas of the derivatives, and compared with what PyTorch refuses.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
import fastnn.nn.functional as F
from fastnn import nn, optim
from fastnn.errors import GraphError
from fastnn.tensors import Tensor

MODIFIED = "modified in place"


def leaf(*shape: int, seed: int = 0, low: float = 0.2, high: float = 0.8) -> Tensor:
    return Tensor(np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32), requires_grad=True)


def change(tensor: Tensor) -> None:
    with fnn.no_grad():
        tensor += 0.5


# ---- operators -------------------------------------------------------------------------------------------------------

# The operator, the shapes of its operands, and which writes its gradients cannot stand: "a", "b", ... an operand, where
# all of them ask for a gradient, "y" the output.
OPERATORS: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...], str]] = {
    "add": (lambda a, b: a + b, ((2, 3), (2, 3)), ""),
    "add, broadcast": (lambda a, b: a + b, ((2, 3), (3,)), ""),
    "sub": (lambda a, b: a - b, ((2, 3), (2, 3)), ""),
    "mul": (lambda a, b: a * b, ((2, 3), (2, 3)), "ab"),
    "mul, broadcast": (lambda a, b: a * b, ((2, 3), (1, 3)), "ab"),
    "mul by a number": (lambda a: a * 3, ((2, 3),), ""),
    "div": (lambda a, b: a / b, ((2, 3), (2, 3)), "ab"),
    "div by a number": (lambda a: a / 3, ((2, 3),), ""),
    "number over": (lambda a: 3 / a, ((2, 3),), "a"),
    "pow": (lambda a, b: a**b, ((2, 3), (2, 3)), "aby"),
    "square": (lambda a: a**2, ((2, 3),), "a"),
    "neg": (lambda a: -a, ((2, 3),), ""),
    "abs": (lambda a: a.abs(), ((2, 3),), "a"),
    "exp": (lambda a: a.exp(), ((2, 3),), "y"),
    "log": (lambda a: a.log(), ((2, 3),), "a"),
    "sqrt": (lambda a: a.sqrt(), ((2, 3),), "y"),
    "clamp": (lambda a: a.clamp(0.3, 0.6), ((2, 3),), "a"),
    "matmul": (lambda a, b: a @ b, ((2, 3), (3, 4)), "ab"),
    "matmul of stacks": (lambda a, b: a @ b, ((5, 2, 3), (3, 4)), "ab"),
    "relu": (lambda a: a.relu(), ((2, 3),), "y"),
    "sigmoid": (lambda a: a.sigmoid(), ((2, 3),), "y"),
    "tanh": (lambda a: a.tanh(), ((2, 3),), "y"),
    "softmax": (lambda a: a.softmax(1), ((2, 3),), "y"),
    "log_softmax": (lambda a: a.log_softmax(1), ((2, 3),), "y"),
    "leaky_relu": (F.leaky_relu, ((2, 3),), "a"),
    "elu": (F.elu, ((2, 3),), "a"),
    "gelu": (F.gelu, ((2, 3),), "a"),
    "silu": (F.silu, ((2, 3),), "a"),
    "sum": (lambda a: a.sum(0), ((2, 3),), ""),
    "mean": (lambda a: a.mean(), ((2, 3),), ""),
    "max": (lambda a: a.max(1)[0], ((2, 3),), ""),
    "reshape": (lambda a: a.reshape(3, 2), ((2, 3),), ""),
    "transpose": (lambda a: a.transpose(0, 1), ((2, 3),), ""),
    "index": (lambda a: a[:, 1:], ((2, 3),), ""),
    "linear": (F.linear, ((2, 3), (4, 3), (4,)), "ab"),
    "conv2d": (F.conv2d, ((2, 1, 4, 4), (2, 1, 3, 3), (2,)), "ab"),
    "max_pool2d": (lambda a: F.max_pool2d(a, 2), ((1, 1, 4, 4),), ""),
    "avg_pool2d": (lambda a: F.avg_pool2d(a, 2), ((1, 1, 4, 4),), ""),
    "cross_entropy": (lambda a: F.cross_entropy(a, np.array([0, 2])), ((2, 3),), ""),
    "mse_loss": (lambda a: F.mse_loss(a, np.ones((2, 3), np.float32)), ((2, 3),), ""),
    "binary_cross_entropy": (lambda a: F.binary_cross_entropy(a, np.ones((2, 3), np.float32)), ((2, 3),), "a"),
}
WRITES = [(name, place) for name, (_, shapes, _) in OPERATORS.items() for place in "abc"[: len(shapes)] + "y"]


def run(name: str, asking: str, write: Callable[[dict[str, Tensor]], None] | None) -> list[Any]:
    """The gradients of the operands, of which those in `asking` want one, with a write before backward."""
    function, shapes, _ = OPERATORS[name]
    given = [leaf(*shape, seed=i) for i, shape in enumerate(shapes)]
    for letter, x in zip("abc", given, strict=False):
        x.requires_grad_(letter in asking)
    y = function(*given)
    if write is not None:
        write({**dict(zip("abc", given, strict=False)), "y": y.detach()})
    y.backward(np.random.default_rng(9).normal(size=y.shape).astype(np.float32))
    return [None if x.grad is None else x.grad.tolist() for x in given]


@pytest.mark.parametrize(("name", "place"), WRITES)
def test_a_write_raises_where_the_gradient_reads_it_and_changes_nothing_elsewhere(name: str, place: str) -> None:
    _, shapes, refused = OPERATORS[name]
    letters = "abc"[: len(shapes)]
    for asking in {letters, *letters}:

        def write(tensors: dict[str, Tensor]) -> None:
            change(tensors[place])

        if asking == letters and place in refused:
            with pytest.raises(GraphError, match=MODIFIED):
                run(name, asking, write)
            continue
        try:
            written = run(name, asking, write)
        except GraphError as error:
            assert place in refused
            assert MODIFIED in str(error)  # noqa: PT017
        else:
            assert written == run(name, asking, None)


@pytest.mark.parametrize(("name", "asking", "place"), [("mul", "b", "b"), ("mul", "a", "a"), ("matmul", "a", "a"),
    ("matmul of stacks", "b", "b"), ("linear", "bc", "b"), ("conv2d", "bc", "b"), ("div", "a", "a")])  # fmt: skip
def test_what_no_gradient_needs_may_be_written(name: str, asking: str, place: str) -> None:
    """The first layer's weight: its own gradient needs the images alone."""
    assert run(name, asking, lambda tensors: change(tensors[place])) == run(name, asking, None)


@pytest.mark.parametrize(("name", "place"), WRITES)
def test_pytorch_refuses_whatever_is_refused(name: str, place: str) -> None:
    torch = pytest.importorskip("torch")
    T = torch.nn.functional
    same = {
        "max": lambda a: a.max(1)[0], "linear": T.linear, "conv2d": T.conv2d, "leaky_relu": T.leaky_relu,
        "elu": T.elu, "gelu": T.gelu, "silu": T.silu, "max_pool2d": lambda a: T.max_pool2d(a, 2),
        "avg_pool2d": lambda a: T.avg_pool2d(a, 2), "cross_entropy": lambda a: T.cross_entropy(a, torch.tensor([0, 2])),
        "mse_loss": lambda a: T.mse_loss(a, torch.ones(2, 3)),
        "binary_cross_entropy": lambda a: T.binary_cross_entropy(a, torch.ones(2, 3)),
    }  # fmt: skip
    if name == "number over":
        pytest.skip("PyTorch keeps 1 / a in the place of a")
    function, shapes, refused = OPERATORS[name]
    given = [torch.tensor(leaf(*shape, seed=i).data, requires_grad=True) for i, shape in enumerate(shapes)]
    y = same.get(name, function)(*given)
    with torch.no_grad():
        {**dict(zip("abc", given, strict=False)), "y": y.detach()}[place].add_(0.5)
    try:
        y.sum().backward()
    except RuntimeError as error:
        assert "modified by an inplace operation" in str(error)  # noqa: PT017
    else:
        assert place not in refused


# ---- what writes -----------------------------------------------------------------------------------------------------


def squares(model: nn.Linear) -> Tensor:
    """A loss whose gradient reads the weight, through a view of it."""
    return (model.weight.transpose(0, 1) * model.weight.t()).sum()


def eager_step(make: Callable[[Any], Any]) -> Callable[[nn.Linear], None]:
    def step(model: nn.Linear) -> None:
        optimizer = make(model.parameters())
        squares(model).backward()

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = squares(model)
            loss.backward()
            return loss

        optimizer.step(*([closure] if isinstance(optimizer, optim.GradientDescent) else []))

    return step


def compiled_step(**options: Any) -> Callable[[nn.Linear], None]:
    def step(model: nn.Linear) -> None:
        compiled = fnn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1), **options)
        compiled(np.ones((4, 3), np.float32), np.array([0, 1, 1, 0]))

    return step


def run_epoch(model: nn.Linear) -> None:
    step = fnn.compile(model, nn.CrossEntropyLoss(), optim.Adam(model.parameters()))
    step.run_epoch(np.ones((4, 3), np.float32), np.array([0, 1, 1, 0]), batch_size=2, progress=False)


def predict_into(model: nn.Linear) -> None:
    fnn.compile(nn.Linear(2, 3))(np.ones((2, 2), np.float32), out=model.weight.data)


def by_data(model: nn.Linear) -> None:
    model.weight.data -= 0.5


def in_another_thread(model: nn.Linear) -> None:
    thread = threading.Thread(target=change, args=(model.weight,))
    thread.start()
    thread.join()


CHANGES: dict[str, Callable[[nn.Linear], Any]] = {
    "+=": lambda model: change(model.weight),
    "a view": lambda model: change(model.weight.detach()[0]),
    "a view of a view": lambda model: change(model.weight.detach().reshape(-1)[1:3].reshape(2, 1)),
    "a transposed view": lambda model: change(model.weight.detach().t()),
    "a view by strides": lambda model: change(Tensor(np.lib.stride_tricks.as_strided(model.weight.data, (2,), (4,)))),
    "a view of a buffer": lambda model: change(Tensor(np.asarray(memoryview(model.weight.data)))),
    ".data -=": by_data,
    "thread": in_another_thread,
    "load_state_dict": lambda model: model.load_state_dict(nn.Linear(3, 2).state_dict()),
    "init": lambda model: nn.init.normal_(model.weight),
    "init of the array": lambda model: nn.init.constant_(model.weight.data, 3),
    "reset_parameters": lambda model: model.reset_parameters(),
    "fit": lambda model: fnn.fit(model, (np.ones((4, 3), np.float32), np.array([0, 1, 1, 0])), batch_size=2),
    "compiled": compiled_step(),
    "compiled, after the gradients": compiled_step(clip_norm=1.0),
    "run_epoch": run_epoch,
    "predict(out=)": predict_into,
    **{
        name: eager_step(lambda params, name=name: getattr(optim, name)(params, lr=0.1))
        for name in ("SGD", "Rprop", "Adagrad", "RMSprop", "Adam", "AdamW", "GradientDescent")
    },
}


@pytest.mark.parametrize("name", CHANGES)
def test_whatever_writes_is_noticed(name: str) -> None:
    model = nn.Linear(3, 2)
    loss = squares(model)
    CHANGES[name](model)
    with pytest.raises(GraphError, match=MODIFIED):
        loss.backward()
    model.zero_grad()
    squares(model).backward()  # the forward pass again: right
    np.testing.assert_allclose(model.weight.grad, 2 * model.weight.data, rtol=1e-6)


@pytest.mark.parametrize("array", [lambda b: np.ndarray((3,), "f4", b), lambda b: np.frombuffer(b, "f4")])
def test_arrays_over_one_buffer(array: Callable[[bytearray], np.ndarray]) -> None:
    """Of shared memory, a memory map or bytes: each array is a stranger to the other, and their memory the same."""
    buffer, w = bytearray(np.ones(3, np.float32)), leaf(3)
    for write in (change, Tensor.exp_):  # off the tape and on it
        loss = (w * Tensor(array(buffer))).sum()
        write(Tensor(array(buffer)))
        with pytest.raises(GraphError, match=MODIFIED):
            loss.backward()


def test_a_replaced_array_is_no_write() -> None:
    """`.data = other` leaves the old array as it was, and the gradient is that of the old values."""
    w = leaf(3)
    loss, before = (w * w).sum(), w.data.copy()
    w.data = w.data + 1
    loss.backward()
    np.testing.assert_array_equal(w.grad, 2 * before)


def test_a_gradient_that_is_a_constant_elsewhere() -> None:
    """`w.grad` in a formula is an array that backward() adds to."""
    w = leaf(3)
    w.sum().backward()
    loss = (w * w.grad).sum()
    w.sum().backward()
    with pytest.raises(GraphError, match=MODIFIED):
        loss.backward()
    for write in (lambda: fnn.optim.SGD([w]).zero_grad(set_to_none=False), lambda: setattr(w, "grad", halved(w.grad))):
        loss = (w * w.grad).sum()
        write()
        with pytest.raises(GraphError, match=MODIFIED):
            loss.backward()


def halved(array: Any) -> Any:
    array *= 0.5
    return array


def test_indices_and_what_a_function_keeps_in_its_own_way() -> None:
    class Scaled(fnn.Function):
        @staticmethod
        def forward(ctx: Any, x: np.ndarray, scale: np.ndarray) -> np.ndarray:
            ctx.kept = {"scale": [scale]}
            return x * scale

        @staticmethod
        def backward(ctx: Any, grad: np.ndarray) -> Any:
            return grad * ctx.kept["scale"][0], None

    x, scale, index = leaf(3), Tensor([1.0, 2.0, 3.0]), Tensor([0, 1])
    scaled, picked = Scaled.apply(x, scale), x[index]
    scale += 1
    index += 1
    for y in (scaled, picked):
        with pytest.raises(GraphError, match=MODIFIED):
            y.sum().backward()


# ---- the order of a training -----------------------------------------------------------------------------------------


def gan() -> tuple[nn.Module, nn.Module, Any, Any]:
    fnn.manual_seed(0)
    generator, critic = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3)), nn.Sequential(
        nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1))  # fmt: skip
    return generator, critic, optim.Adam(generator.parameters(), 0.1), optim.Adam(critic.parameters(), 0.1)


def test_a_gans_order() -> None:
    """As PyTorch's tutorial has it: right; the critic's old answer used after its step: an error that says why."""
    generator, critic, step_g, step_d = gan()
    noise, loss = np.ones((5, 2), np.float32), nn.BCEWithLogitsLoss()
    real, fake = np.ones((5, 1), np.float32), np.zeros((5, 1), np.float32)
    for _ in range(2):
        made = generator(noise)
        step_d.zero_grad()
        loss(critic(np.ones((5, 3), np.float32)), real).backward()
        loss(critic(made.detach()), fake).backward()
        step_d.step()
        step_g.zero_grad()
        loss(critic(made), real).backward()
        step_g.step()
    made = generator(noise)
    answer = critic(made)
    step_d.zero_grad()
    loss(answer, fake).backward(retain_graph=True)
    step_d.step()
    with pytest.raises(GraphError, match=r"weight \(1, 4\) of Linear was modified in place after Linear had kept it"):
        loss(answer, real).backward()


def test_accumulated_and_repeated_gradients_stay_allowed() -> None:
    model, x = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), np.ones((5, 3), np.float32)
    for _ in range(3):
        model(x).sum().backward()
    loss = model(x).sum()
    model.zero_grad()
    loss.backward(retain_graph=True)
    once = [p.grad.copy() for p in model.parameters()]
    loss.backward(retain_graph=True)
    for p, grad in zip(model.parameters(), once, strict=True):
        np.testing.assert_allclose(p.grad, 2 * grad, rtol=1e-6)
    optim.SGD(model.parameters()).step()
    with pytest.raises(GraphError, match=r"weight \(2, 4\) of Linear was modified"):
        loss.backward()


def test_tied_weights() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    loss = model(leaf(2, 3)).sum()
    change(model[0].weight)
    with pytest.raises(GraphError, match=MODIFIED):
        loss.backward()


def test_running_statistics_are_written_without_harm() -> None:
    """A second batch moves them; the gradient in eval mode is that of the statistics of its own forward pass."""
    norm, x = nn.BatchNorm1d(3), leaf(4, 3)
    norm.eval()(x).sum().backward()
    expected = x.grad.copy()
    x.zero_grad()
    loss = norm(x).sum()
    norm.train()
    second = norm(x * 7)
    norm(x * 5)
    loss.backward()
    np.testing.assert_array_equal(x.grad, expected)
    second.sum().backward()


def test_insight_follows_the_same_rule() -> None:
    model = nn.Linear(3, 2)
    loss = squares(model)
    assert "weight" in str(fnn.graph(loss, model=model))
    change(model.weight)
    with pytest.raises(GraphError, match=MODIFIED):
        fnn.graph(loss, model=model)


def test_many_arrays_that_come_and_go_raise_no_false_alarm() -> None:
    """New arrays get the ids of old ones, which were written."""
    x = leaf(3)
    for _ in range(300):
        scratch = Tensor(np.ones(3, np.float32))
        scratch += 1
        kept = x * scratch
        del scratch
        other = Tensor(np.ones(3, np.float32))
        other += 1
        kept.sum().backward()
    np.testing.assert_allclose(x.grad, 600)


# ---- x op= y ---------------------------------------------------------------------------------------------------------

UPDATES: dict[str, tuple[Any, Any]] = {
    "__iadd__": ([1, 2, 3], 2),
    "__isub__": ([1, 2, 3], 2),
    "__imul__": ([1, 2, 3], 2),
    "__itruediv__": ([1.0, 2.0, 3.0], 2),
    "__ifloordiv__": ([7, -7, 3], 2),
    "__imod__": ([7.5, -7.0, 3.0], 2),
    "__ipow__": ([1.0, 2.0, 3.0], 2),
    "__iand__": ([True, False, True], [True, True, False]),
    "__ior__": ([5, 6, 7], [1, 1, 8]),
    "__ixor__": ([True, False, True], [True, True, False]),
    "__ilshift__": ([1, 2, 3], 2),
    "__irshift__": ([16, 8, 3], 2),
}


@pytest.mark.parametrize("name", UPDATES)
def test_updates_write_into_the_tensor_itself(name: str) -> None:
    """mask &= other, seen by whoever holds mask; expected values from PyTorch."""
    torch = pytest.importorskip("torch")
    given, operand = UPDATES[name]
    x, twin = fnn.tensor(given), torch.tensor(given)
    y, other = (lib.tensor(operand) if isinstance(operand, list) else operand for lib in (fnn, torch))
    part, seen = x[1:], x.data
    assert getattr(x, name)(y) is x
    getattr(twin, name)(other)
    assert x.tolist() == twin.tolist() == seen.tolist()
    assert part.tolist() == twin[1:].tolist()


def test_updates_on_the_tape() -> None:
    x = leaf(3)
    y = x * 1
    z = y
    y **= 2
    assert z is y
    y.sum().backward()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad, 2 * x.data)
    with pytest.raises(GraphError, match="requires a gradient is changed in place"):
        x **= 2
