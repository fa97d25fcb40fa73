"""Kernels touch no memory but that of arrays which fit: whatever replaces an array of a model, plan or optimiser."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import plan_networks as networks
import plan_replacements as replacements
import pytest
from long import draws
from plan_networks import CLASSES, NATIVE
from plan_replacements import fenced, fences_stand

import fastnn as fnn
from fastnn import nn, optim
from fastnn.errors import DTypeError, FastnnError, ShapeError, StateError
from fastnn.plan import memory

LOSS = nn.CrossEntropyLoss()


@pytest.mark.parametrize("first", draws(range(0, 120, 20), 2))
def test_random_replacements(first: int) -> None:
    """tests/support/plan_replacements.py says what is asserted; .ci/sanitize tries 500 under AddressSanitizer."""
    assert len(list(replacements.tries(20, first))) == 20


def images(n: int = 6) -> tuple[np.ndarray, np.ndarray]:
    return replacements.batch(np.random.default_rng(0), n)


def read_only_file(path: Path, a: np.ndarray) -> np.ndarray:
    np.save(path, a)
    return np.load(path, mmap_mode="r")


WRONG: list[tuple[str, Callable[[np.ndarray], Any], type[FastnnError], str]] = [
    ("running_mean", lambda a: fenced(a[:3]), ShapeError, r"BatchNorm2d\(8.*running_mean of shape \(8,\).*got \(3,\)"),
    ("running_var", lambda a: a.astype(np.int32), DTypeError, r"BatchNorm2d\(8.*running_var.*got int32"),
    ("running_var", lambda a: np.ma.masked_less(a, 2), DTypeError, r"BatchNorm2d\(8.*got MaskedArray"),
    (
        "num_batches_tracked",
        lambda a: np.int64(3),
        DTypeError,
        r"num_batches_tracked to be an integer array.*got int64",
    ),
    ("num_batches_tracked", lambda a: np.zeros(2, int), DTypeError, r"num_batches_tracked.*got int64 \(2,\)"),
    ("weight", lambda a: nn.Parameter(fenced(np.ones(3, "f4"))), ShapeError, r"weight of shape \(8,\), got \(3,\)"),
    ("bias", lambda a: nn.Parameter(fenced(np.ones((8, 2), "f4"))), ShapeError, r"bias of shape \(8,\), got \(8, 2\)"),
]


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "uncompiled"])
@pytest.mark.parametrize(("name", "spoil", "error", "message"), WRONG)
def test_wrong_arrays_of_a_batch_norm_are_named(
    name: str, spoil: Any, error: type[FastnnError], message: str, compiled: bool
) -> None:
    model = replacements.normed()
    x, y = images()
    step = fnn.compile(model, LOSS) if compiled else lambda x, y: LOSS(model(x), y).backward()
    step(x, y)
    old = getattr(model[2], name)
    setattr(model[2], name, spoil(old))
    new = getattr(model[2], name)
    with pytest.raises(error, match=message):
        step(x, y)
    assert fences_stand([new.data if isinstance(new, fnn.Tensor) else new])
    setattr(model[2], name, old)
    step(x, y)


@pytest.mark.parametrize("plan", ["step", "predict"])
def test_statistics_in_a_read_only_file(plan: str, tmp_path: Path) -> None:
    """A prediction reads them; a step, which has to write them, refuses: writing there would end the process."""
    model = replacements.normed()
    twin = copy.deepcopy(model)
    x, y = images()
    for one in (model, twin):
        one[2].running_mean = read_only_file(tmp_path / "mean.npy", np.linspace(0, 1, 8).astype(np.float32))
    if plan == "predict":
        np.testing.assert_allclose(fnn.compile(model)(x), twin.eval()(x).numpy(), rtol=0, atol=1e-5)
        return
    for call in (fnn.compile(model, LOSS), lambda x, y: LOSS(twin(x), y)):
        with pytest.raises(StateError, match="running_mean that follows the batches, got a read-only array"):
            call(x, y)


STATES = {
    "other shape": lambda a: fenced(a.reshape(-1)[:2]),
    "flat": lambda a: fenced(a.reshape(-1)),
    "integers": lambda a: a.astype(np.int64),
    "strided": replacements.strided_view,
    "read-only": replacements.read_only,
    "unaligned": replacements.unaligned,
    "list": lambda a: a.tolist(),
}


@pytest.mark.parametrize("how", STATES)
@pytest.mark.parametrize("make", replacements.OPTIMIZERS[1:])
def test_wrong_arrays_of_an_optimiser_are_named(make: Any, how: str) -> None:
    """Compiled and uncompiled steps say the same, count no step, and go on with the old array."""
    for compiled in (True, False):
        model = networks.mlp()
        x, y = networks.batch_for(networks.mlp, 16)
        optimizer = make(model.parameters())
        step = fnn.compile(model, LOSS, optimizer)

        def eager_step(optimizer: Any = optimizer, model: Any = model, x: Any = x, y: Any = y) -> None:
            LOSS(model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()

        call = (lambda step=step, x=x, y=y: step(x, y)) if compiled else eager_step
        call()
        weight = next(p for p in model.parameters() if p.ndim == 2)
        state = optimizer.state[weight]
        name = next(name for name, value in state.items() if isinstance(value, np.ndarray))
        old, steps = state[name], state.get("step")
        state[name] = STATES[how](old)
        with pytest.raises(StateError, match=f"{type(optimizer).__name__}: expected {name} of a parameter of shape"):
            call()
        assert state.get("step") == steps
        assert fences_stand([state[name]])
        state[name] = old
        call()


def test_a_number_of_steps_that_is_none_is_refused() -> None:
    for wrong in ("three", -1, 2.5, None):
        model = networks.mlp()
        x, y = networks.batch_for(networks.mlp, 16)
        optimizer = optim.Adam(model.parameters())
        step = fnn.compile(model, LOSS, optimizer)
        step(x, y)
        for state in optimizer.state.values():
            state["step"] = wrong
        with pytest.raises(StateError, match="Adam: expected step to be a parameter's number of steps"):
            step(x, y)


def test_arrays_changed_in_place_are_noticed() -> None:
    """Shape and size of the very array that the plan has: each time the plan follows, or says what does not fit."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(128, 8), nn.ReLU(), nn.Linear(8, CLASSES))
    x = images()[0].astype(np.float32)
    predict = fnn.compile(model)
    predict(x)
    model[1].weight.data = weight = np.ascontiguousarray(model[1].weight.data)
    for shape in ((128, 8), (1024,), (8, 64, 2)):
        weight.shape = shape
        with pytest.raises(ShapeError):
            predict(x)
        weight.shape = (8, 128)
        predict(x)
    weight[...] *= 2
    expected = model(x).numpy()
    np.testing.assert_allclose(predict(x), expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    model[1].bias.data = owned = model[1].bias.numpy().copy()
    predict(x)
    owned.resize((2,), refcheck=False)
    with pytest.raises(ShapeError, match="bias"):
        predict(x)


@pytest.mark.skipif(not NATIVE, reason="only native programs have addresses")
def test_arrays_changed_while_a_plan_runs_are_noticed() -> None:
    """By a user's Function between two programs: the second one looks again."""

    class Vandal(fnn.Function):
        strike = False

        @staticmethod
        def forward(ctx: Any, x: np.ndarray) -> np.ndarray:
            if Vandal.strike:
                model[2].bias.numpy().resize((1,), refcheck=False)
            return x

        @staticmethod
        def backward(ctx: Any, grad: np.ndarray) -> np.ndarray:
            return grad

    class Layer(nn.Module):
        def forward(self, x: fnn.Tensor) -> fnn.Tensor:
            return Vandal.apply(x)

    model = nn.Sequential(nn.Linear(4, 8), Layer(), nn.Linear(8, 3))
    x, y = np.ones((5, 4), np.float32), np.zeros(5, np.int64)
    step = fnn.compile(model, LOSS)
    model[2].bias.data = model[2].bias.numpy().copy()
    for _ in range(3):  # the second call traces the model again, and tries the Function
        step(x, y)
    Vandal.strike = True
    with pytest.raises(StateError, match=r"running on was resized.*now float32 \(1,\)"):
        step(x, y)


@pytest.mark.parametrize("kind", [memory.Watch, memory._Watch], ids=["compiled", "in Python"])
def test_what_a_watch_sees(kind: Any) -> None:
    """_Watch serves where the package was installed without its extension."""
    changes: list[Callable[[fnn.Tensor, np.ndarray], Any]] = [
        lambda t, a: t._data.setflags(write=False),
        lambda t, a: setattr(t._data, "shape", (6,)),
        lambda t, a: setattr(t._data, "dtype", np.int32),
        lambda t, a: setattr(t, "_data", t._data.copy()),
        lambda t, a: a.resize((2,), refcheck=False),
    ]
    for change in changes:
        tensor, array = fnn.Tensor(np.ones((2, 3), np.float32)), np.zeros(4)
        watch = kind([(tensor, tensor.numpy()), (None, array)])
        tensor.data[...] = 5
        assert watch.stands()
        change(tensor, array)
        assert not watch.stands()


def tied(how: str) -> nn.Module:
    fnn.manual_seed(0)
    hidden = [layer for _ in range(3) for layer in (nn.Linear(8, 8), nn.ReLU())]
    model = nn.Sequential(*hidden, nn.Linear(8, CLASSES))
    if how == "weights":
        model[2].weight.data = model[4].weight.data
    else:
        room = np.zeros(144, np.float32)
        rows = np.concatenate([model[2].weight.data.reshape(-1), model[4].weight.data.reshape(-1)])[:96]
        room[:96] = rows
        model[2].weight.data, model[4].weight.data = room[:64].reshape(8, 8), room[32:96].reshape(8, 8)
    return model


@pytest.mark.parametrize("how", ["weights", "halves of weights"])
def test_parameters_that_share_memory(how: str) -> None:
    """Each is updated after all gradients are there, and in the optimiser's order, as uncompiled."""
    model, twin = tied(how), tied(how)
    make = replacements.OPTIMIZERS[1]
    optimizer, optimizer_twin = make(model.parameters()), make(twin.parameters())
    step = fnn.compile(model, LOSS, optimizer)
    rng = np.random.default_rng(0)
    for _ in range(4):
        x, y = rng.normal(size=(16, 8)).astype(np.float32), rng.integers(0, CLASSES, 16)
        step(x, y)
        LOSS(twin(x), y).backward()
        optimizer_twin.step()
        optimizer_twin.zero_grad()
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        np.testing.assert_allclose(p.data, q.data, rtol=0, atol=1e-5)


@pytest.mark.parametrize("n", [6, 300])
def test_outputs_over_inputs(n: int) -> None:
    """`out` may lie over the images, also shifted by one: what is still to be read is not written over."""
    model = nn.Sequential(nn.Linear(CLASSES, CLASSES), nn.Tanh())
    predict = fnn.compile(model)
    room = np.random.default_rng(0).normal(size=(n + 1, CLASSES)).astype(np.float32)
    expected = model(room[:n].copy()).numpy()
    np.testing.assert_allclose(predict(room[:n], room[1:]), expected, rtol=0, atol=1e-5)
    with pytest.raises(FastnnError, match="can be written to, got a read-only one"):
        predict(room[:n], replacements.read_only(expected))


def test_epochs_of_images_of_other_types() -> None:
    """What a step casts, an epoch does, too; and it refuses what a step refuses."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 6)), rng.integers(0, CLASSES, 40)
    losses = []
    for kind in ("<f4", ">f4"):
        fnn.manual_seed(0)
        step = fnn.compile(nn.Sequential(nn.ReLU(), nn.Linear(6, CLASSES)), LOSS)
        losses.append(step.run_epoch(x.astype(kind), y.astype(">i4"), batch_size=16, progress=False))
    assert losses[0] == losses[1]
    with pytest.raises(DTypeError, match="got complex64"):
        step.run_epoch(x.astype(np.complex64), y, progress=False)


def test_results_larger_than_any_array() -> None:
    """Bytes that 64 bits cannot count, by padding alone."""
    for padding in (2**31, 2**62):
        model = nn.Conv2d(1, 1, 1, padding=padding)
        for call in (model, fnn.compile(model)):
            with pytest.raises(
                ShapeError, match=r"expected (a result that an array can hold|padded planes of at most)"
            ):
                call(np.ones((1, 1, 4, 4), np.float32))


@pytest.mark.skipif(not NATIVE, reason="looks at the binding itself")
def test_the_binding_refuses_by_itself() -> None:
    """Below all checks that name a layer: arrays of another size, type or layout, and read-only ones to be written."""
    from fastnn import _kernels as kernels

    a, small = np.ones((4, 6), np.float32), np.ones(3, np.float32)
    six, locked = np.ones(6, np.float32), replacements.read_only(np.ones(6, np.float32))
    image = np.ones((2, 3, 5, 5), np.float32)
    weight, y = np.ones((4, 3, 3, 3), np.float32), np.ones((2, 4, 3, 3), np.float32)
    plain = ((1, 1), (0, 0), (1, 1), 1, 0)
    calls: list[tuple[Any, ...]] = [
        (kernels.batch_norm_statistics, a, small, six),
        (kernels.batch_norm_statistics, a, six, locked),
        (kernels.batch_norm_statistics, a.astype(np.float64), six, six.copy()),
        (kernels.batch_norm_forward, a, six, six, small, None, 1e-5, a.copy()),
        (kernels.batch_norm_forward, a, six, six, None, None, 1e-5, a[:3].copy()),
        (kernels.relu_forward, a, a[:3].copy()),
        (kernels.relu_forward, a[:, ::2], a[:, ::2].copy()[:, ::-1]),
        (kernels.softmax_cross_entropy, a, np.zeros(3, np.int64), 0.0, 1.0, np.ones(4, np.float32), a.copy()),
        (kernels.mse, a, six, 1.0, a.copy(), a.copy()),
        (kernels.sgemm, a, a, None, np.ones((4, 6), np.float32)),
        (kernels.conv2d_forward, image, weight, small, *plain, y),
        (kernels.conv2d_forward, image, weight[:, :2].copy(), None, *plain, y),
        (kernels.conv2d_forward, image, weight, None, *plain, np.ones((2, 4, 4, 3), np.float32)),
        (kernels.max_pool2d_forward, image, (2, 2), (2, 2), (0, 0), image.copy(), np.zeros(image.shape, np.int32)),
        (kernels.update_array, six, six, [small], kernels.Numbers()),
        (kernels.update_array, locked, six, [None], kernels.Numbers()),
        (kernels.sum_of_squares, None),
    ]
    for function, *arguments in calls:
        with pytest.raises((FastnnError, TypeError)):
            function(*arguments)
