"""compile(model): any size of batch, into a given array without memory, from several threads at once, and described."""

from __future__ import annotations

import copy
import gc
import sys
import threading
import tracemalloc
import weakref
from collections.abc import Callable

import numpy as np
import plan_networks as networks
import pytest
from plan_networks import BATCHES, CLASSES, ISAS, NATIVE, running_on

import fastnn as fnn
from fastnn import nn, optim
from fastnn.errors import ArgumentError, ShapeError
from fastnn.plan.predictor import Predictor

NETWORKS = [networks.lenet, networks.normed, networks.mlp]


def exact_outputs(model: nn.Module, x: np.ndarray) -> np.ndarray:
    model = copy.deepcopy(model).double().eval()
    with fnn.no_grad():
        return model(fnn.Tensor(networks.wide(x))).numpy()


def assert_outputs(found: np.ndarray, model: nn.Module, x: np.ndarray, bound: float = 1e-5) -> None:
    expected = exact_outputs(model, x)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound * np.abs(expected).max())


def trained(network: Callable[[], nn.Module]) -> nn.Module:
    """With running statistics that are not the initial ones."""
    model = network()
    step = fnn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
    for seed in range(3):
        step(*networks.batch_for(network, 33, seed))
    return model


@pytest.mark.parametrize("network", NETWORKS, ids=lambda f: f.__name__)
def test_every_size_of_batch_on_every_instruction_set(network: Callable[[], nn.Module]) -> None:
    model = trained(network)
    predict = fnn.compile(model)
    images, _ = networks.batch_for(network, 513)
    expected = exact_outputs(model, images)
    bound = (networks.WINOGRAD if network is networks.normed else networks.EXACT) * np.abs(expected).max()
    for isa in ISAS:
        with running_on(isa):
            for n in (*BATCHES, 513):
                out = np.full((n, CLASSES), np.nan, np.float32)
                assert predict(images[:n], out) is out
                for found in (out, predict(images[:n])):
                    np.testing.assert_allclose(found, expected[:n], rtol=0, atol=bound, err_msg=f"{isa}, batch of {n}")
    assert model.training, "the model's mode is the user's"


def test_what_is_returned_belongs_to_the_caller() -> None:
    model = networks.lenet()
    predict = fnn.compile(model)
    (x, _), (v, _) = (networks.batch_for(networks.lenet, 8, seed) for seed in (0, 1))
    first = predict(x)
    kept = first.copy()
    predict(v)
    assert np.array_equal(first, kept)
    first[...] = 0
    assert np.array_equal(predict(x), kept)


@pytest.mark.parametrize("network", NETWORKS, ids=lambda f: f.__name__)
def test_predict_into_an_array_takes_no_memory(network: Callable[[], nn.Module]) -> None:
    """A few Python objects come and go; an array of one activation alone would be many times as large. What other
    threads of the process take at that moment is counted, too: not three times in a row."""
    predict = fnn.compile(network())
    x, _ = networks.batch_for(network, 64)
    out = np.empty((64, CLASSES), np.float32)
    for _ in range(3):
        predict(x, out)
    if not NATIVE:
        return
    kept, most = [], []
    for _ in range(3):
        tracemalloc.start()
        try:
            predict(x, out)
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            for _ in range(20):
                predict(x, out)
            after, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        kept.append(after - before)
        most.append(peak - before)
    assert min(most) < 4096, "of which an activation (64, ...) would not fit"
    assert min(kept) < 1024


def test_steps_take_no_memory_after_the_first() -> None:
    if not NATIVE:
        pytest.skip("other backends make new arrays in every step")
    for network in (networks.lenet, networks.mlp):
        model = network()
        step = fnn.compile(model, nn.CrossEntropyLoss(), optim.Adam(model.parameters()))
        x, y = networks.batch_for(network, 64)
        for _ in range(3):
            step(x, y)
        tracemalloc.start()
        try:
            step(x, y)
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            for _ in range(20):
                step(x, y)
            after, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak - before < 8192
        assert after - before < 2048


def test_an_array_that_does_not_fit_is_refused() -> None:
    predict = fnn.compile(networks.lenet())
    for n in (3, 300):
        x, _ = networks.batch_for(networks.lenet, n)
        shapes = [(n + 1, CLASSES), (n, 2), (n * CLASSES,)]
        for out in (np.empty((n, CLASSES)), *(np.empty(shape, np.float32) for shape in shapes), [0.0]):
            with pytest.raises(ShapeError, match="expected out to be an array float32"):
                predict(x, out)


class Centred(nn.Module):
    """Images depend on one another: the batch may not be cut."""

    def forward(self, x: fnn.Tensor) -> fnn.Tensor:
        return x - x.mean(0, keepdim=True)


class Mean(nn.Module):
    def forward(self, x: fnn.Tensor) -> fnn.Tensor:
        return x.mean(0)


class Softmax(nn.Module):
    def forward(self, x: fnn.Tensor) -> fnn.Tensor:
        return x.softmax(0)


class Rows(nn.Module):
    """(N, 6) -> (3N, 2)."""

    def forward(self, x: fnn.Tensor) -> fnn.Tensor:
        return x.reshape(-1, 2)


@pytest.mark.parametrize("model", [Centred(), Mean(), Softmax(), Rows(), nn.Identity()], ids=lambda m: type(m).__name__)
def test_large_batches_of_models_that_mix_images(model: nn.Module) -> None:
    x = np.random.default_rng(0).normal(size=(300, 6)).astype(np.float32)
    x[256:] += 5
    expected = exact_outputs(model, x)
    found = fnn.compile(model)(x)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


class Latent(nn.Module):
    """Layers applied to parameters and to constants, a weight that is computed, a plain array."""

    def __init__(self) -> None:
        super().__init__()
        fnn.manual_seed(0)
        rng = np.random.default_rng(0)
        self.canvas = nn.Parameter(rng.normal(size=(1, 2, 6, 6)).astype(np.float32))
        self.latent = nn.Parameter(rng.normal(size=(36, 3)).astype(np.float32))
        self.conv, self.project, self.last = nn.Conv2d(2, 8, 3), nn.Linear(3, 128), nn.Linear(128, CLASSES)
        self.register_buffer("fixed", rng.normal(size=(128, 128)).astype(np.float32))

    def forward(self, x: fnn.Tensor) -> fnn.Tensor:
        x = x.flatten(1) @ self.project(self.latent).relu()
        x = x + self.conv(self.canvas).relu().flatten(1)
        return self.last(x.relu() @ fnn.Tensor(self.fixed))


def test_layers_of_parameters_and_constants() -> None:
    model = Latent()
    x, y = networks.batch_for(networks.mlp, 5)
    x = x / np.float32(255)
    networks.assert_close(
        networks.compiled_gradients(model, nn.CrossEntropyLoss(), x, y),
        networks.exact_gradients(model, nn.CrossEntropyLoss(), x, y),
    )
    assert_outputs(fnn.compile(model)(x), model, x)
    predict = fnn.compile(model)
    predict(x)
    model.fixed[...] *= 2
    model.canvas.data[...] += 1
    assert_outputs(predict(x), model, x)


def test_layers_may_be_replaced() -> None:
    """Another layer, another parameter, other running statistics: looked up in every call."""
    model = trained(networks.normed)
    x, y = networks.batch_for(networks.normed, 16)
    predict, step = fnn.compile(model), fnn.compile(model, nn.CrossEntropyLoss())
    predict(x)
    step(x, y)
    changes: list[Callable[[], object]] = [
        lambda: model.__setitem__(9, nn.Linear(16, CLASSES)),
        lambda: setattr(model[9], "weight", nn.Parameter(model[9].weight.data[::-1])),
        lambda: setattr(model[1], "running_mean", np.full(16, 0.5, np.float32)),
        lambda: model.append(nn.Tanh()),
    ]
    for change in changes:
        before = predict(x)
        change()
        assert not np.array_equal(predict(x), before)
        assert_outputs(predict(x), model, x, 1e-4)
        exact = networks.exact_gradients(model, nn.CrossEntropyLoss(), x, y)
        model.zero_grad()
        found = {"loss": np.asarray(step(x, y))} | {name: p.grad for name, p in model.named_parameters()}
        networks.assert_close(found, exact, 1e-4)


def in_threads(works: list[Callable[[], None]]) -> None:
    """All at once, in turns as short as can be; an error in any of them is raised here."""
    failed: list[BaseException] = []
    barrier = threading.Barrier(len(works))

    def run(work: Callable[[], None]) -> None:
        try:
            barrier.wait(30)
            work()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        sys.setswitchinterval(interval)
    assert not any(thread.is_alive() for thread in threads)
    if failed:
        raise failed[0]


@pytest.mark.parametrize("count", [1, 2])
def test_one_plan_called_from_several_threads_gives_right_results(count: int) -> None:
    model = networks.lenet()
    predict = fnn.compile(model)
    inputs = [networks.batch_for(networks.lenet, n, seed)[0] for seed, n in enumerate((17, 17, 5))]
    expected = [exact_outputs(model, x) for x in inputs]

    def work(i: int) -> None:
        out = np.empty((len(inputs[i]), CLASSES), np.float32)
        for turn in range(40):
            found = predict(inputs[i], out) if turn % 2 else predict(inputs[i])
            np.testing.assert_allclose(found, expected[i], rtol=0, atol=1e-5 * np.abs(expected[i]).max())

    with running_on(threads=count):
        in_threads([lambda i=i: work(i) for i in range(3)])


def test_one_step_called_from_several_threads_makes_every_step() -> None:
    """Plain SGD on one batch from two threads: as many steps as calls, none of them lost or half made."""
    model, exact = networks.lenet(), networks.lenet().double()
    x, y = networks.batch_for(networks.lenet, 64)
    step = fnn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.02))
    optimizer = optim.SGD(exact.parameters(), lr=0.02)
    for _ in range(24):
        nn.CrossEntropyLoss()(exact(networks.wide(x)), y).backward()
        optimizer.step()
        optimizer.zero_grad()

    def work() -> None:
        for _ in range(12):
            step(x, y)

    in_threads([work, work])
    for p, q in zip(model.parameters(), exact.parameters(), strict=True):
        assert np.abs(p.data - q.data).max() <= 1e-5


def test_one_step_called_from_several_threads_gives_each_its_own_loss() -> None:
    """Also where operators of the interpreter stand between the native stages."""
    fnn.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.GELU(), nn.Linear(16, 16), nn.SiLU(), nn.Linear(16, CLASSES), nn.Tanh())
    rng = np.random.default_rng(0)
    batches = [(rng.normal(size=(8, 6)).astype(np.float32) * i, rng.integers(0, CLASSES, 8)) for i in range(1, 4)]
    exact = [networks.exact_gradients(model, nn.CrossEntropyLoss(), x, y) for x, y in batches]
    step = fnn.compile(model, nn.CrossEntropyLoss())

    def work(i: int) -> None:
        for _ in range(50):
            assert step(*batches[i]) == pytest.approx(float(exact[i]["loss"]), rel=1e-5)

    in_threads([lambda i=i: work(i) for i in range(3)])
    for name, p in model.named_parameters():
        expected = 50 * sum(each[name] for each in exact)
        assert np.abs(p.grad - expected).max() <= 1e-5 * np.abs(expected).max()


class Slow(nn.Module):
    """Dropout, and a forward that can be held up while a plan is made of it."""

    def __init__(self) -> None:
        super().__init__()
        fnn.manual_seed(0)
        self.first, self.dropout, self.last = nn.Linear(6, 64), nn.Dropout(0.5), nn.Linear(64, CLASSES)
        self.hold, self.entered, self.go_on = False, threading.Event(), threading.Event()

    def forward(self, x: fnn.Tensor) -> fnn.Tensor:
        if self.hold:
            self.hold = False
            self.entered.set()
            self.go_on.wait(0.5)
        return self.last(self.dropout(self.first(x)))


def test_a_plan_that_is_made_in_one_thread_leaves_the_mode_of_steps_in_another_alone() -> None:
    """predict() is traced in eval mode; a step at the same time has its dropout nevertheless."""
    model = Slow()
    x = np.random.default_rng(0).normal(size=(16, 6)).astype(np.float32)
    y = np.arange(16) % CLASSES
    step, predict = fnn.compile(model, nn.CrossEntropyLoss()), fnn.compile(model)
    model.hold = True
    outputs: list[np.ndarray] = []
    thread = threading.Thread(target=lambda: outputs.append(predict(x)))
    thread.start()
    assert model.entered.wait(30)
    threading.Timer(0.2, model.go_on.set).start()  # the step waits for the trace's end, or has its own mode before it
    losses = {step(x, y) for _ in range(3)}
    thread.join(30)
    assert len(losses) == 3, "all three with one mask, or with none"
    expected = Slow().double().eval()(networks.wide(x)).numpy()
    np.testing.assert_allclose(outputs[0], expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert model.training
    assert model.dropout.training


def test_describe_tells_the_stages_and_their_work() -> None:
    model = networks.lenet()
    step, predict = fnn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1)), fnn.compile(model)
    for plan in (step, predict):
        with pytest.raises(ArgumentError, match="call it once"):
            plan.describe()
    x, y = networks.batch_for(networks.lenet, 64)
    step(x, y)
    predict(x)
    for plan in (step, predict):
        text = plan.describe()
        for word in ("Conv2d", "ReLU", "Linear", "MFLOP", "MB", "ms", "share", "64"):
            assert word in text
    assert "CrossEntropy" in step.describe()
    assert "backward" in step.describe()
    if NATIVE:
        assert "chain" in predict.describe()
        without = fnn.compile(model, disable=["chain", "dense"])
        without(x)
        assert "chain" not in without.describe()
        assert len(without.describe().splitlines()) > len(predict.describe().splitlines()) - 4
    # the dense layers alone: 2 · 64 · (144 · 24 + 24 · 7) multiplications and additions
    fnn.manual_seed(0)
    wide = nn.Sequential(nn.Linear(500, 1000))
    one = fnn.compile(wide)
    one(np.ones((50, 500), np.float32))
    assert "50.0" in one.describe(), "2 · 50 · 500 · 1000 FLOPs"


def test_a_model_of_one_batch_size_is_not_traced_at_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    class Whole(nn.Module):
        def forward(self, x: fnn.Tensor) -> fnn.Tensor:
            return x.reshape(300, 2, 2).sum(2)

    traces = []
    trace = Predictor._trace
    monkeypatch.setattr(Predictor, "_trace", lambda self, *args: traces.append(1) or trace(self, *args))
    predict, x = fnn.compile(Whole()), np.ones((300, 4), np.float32)
    for _ in range(20):
        np.testing.assert_array_equal(predict(x), np.full((300, 2), 2, np.float32))
    assert len(traces) < 10  # the plan is compared with a new trace now and then


def test_a_predictor_that_is_dropped_is_gone() -> None:
    """Not only when the garbage collector comes by: it has memory of its own."""
    predict = fnn.compile(nn.Sequential(nn.Linear(4, 4), nn.ReLU()))
    for _ in range(3):
        predict(np.ones((2, 4), np.float32))
    gone = weakref.ref(predict)
    gc.collect()
    gc.disable()
    try:
        del predict
        assert gone() is None
    finally:
        gc.enable()
