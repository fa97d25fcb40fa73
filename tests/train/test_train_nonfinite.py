"""Numbers that are not finite: what was not updated from them, and who says where they are."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn, optim, recipes, weights
from fastnn.cli import main
from fastnn.data import Batches
from fastnn.errors import NonFiniteError
from fastnn.tensors import Function, Tensor
from fastnn.train import Callback, Checkpoint, EarlyStopping, LRFinder, Training, evaluate, finite, fit

CLASSES, SIDE = 3, 4
compiled = pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "eager"])


def data(count: int = 24) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((count, 2, SIDE, SIDE)).astype(np.float32), rng.integers(0, CLASSES, count)


class Average(nn.Module):
    """Statistics of a user's own: a buffer that forward assigns anew."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", np.zeros(2, np.float32))

    def forward(self, x: Any) -> Tensor:
        if self.training:
            values = x.data if isinstance(x, Tensor) else x
            self.mean = np.float32(0.9) * self.mean + np.float32(0.1) * values.mean((0, 2, 3))
        return x * 1.0


def chain() -> nn.Sequential:
    """Two convolutions with batch norm that one native stage runs."""
    return nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8, momentum=0.3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32, CLASSES),
    )  # fmt: skip


def operators() -> nn.Sequential:
    """Batch norm that runs by itself, one that averages over all batches."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(2 * SIDE**2, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.BatchNorm1d(8, momentum=None),
        nn.Linear(8, CLASSES),
    )  # fmt: skip


def both() -> nn.Sequential:
    return nn.Sequential(
        nn.BatchNorm2d(2), nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.BatchNorm1d(32),
        nn.Linear(32, CLASSES),
    )  # fmt: skip


MODELS: dict[str, Callable[[], nn.Sequential]] = {"chain": chain, "operators": operators, "both": both}
every_model = pytest.mark.parametrize("name", MODELS)


def state(model: Any) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in model.state_dict().items()}


def same(model: Any, before: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(array, before[name]) for name, array in model.state_dict().items())


class Watch(Callback):
    """The model's state after the last batch that was used."""

    def on_epoch_begin(self, training: Training) -> None:
        self.state = state(training.model)

    on_batch_end = on_epoch_begin


# ---- statistics ----------------------------------------------------------------------------------------------------


@compiled
@every_model
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_bad_pixel_leaves_no_trace(name: str, value: float, compiled: bool) -> None:
    x, y = data()
    x[13, 1, 2] = value
    model, watch = MODELS[name](), Watch()
    with np.errstate(all="ignore"), pytest.raises(NonFiniteError, match="epoch 1, batch 2") as caught:
        fit(model, Batches(x, y, 8), callbacks=[watch], verbose=False, compile=compiled)
    assert same(model, watch.state)
    assert all(np.isfinite(array).all() for array in model.state_dict().values())
    assert "sample 13 of the data" in str(caught.value)


@compiled
def test_arithmetic_that_overflows_is_told_from_bad_data(compiled: bool) -> None:
    x, y = data()
    x[13] = 3e38
    model = nn.Sequential(nn.Flatten(), nn.Linear(32, 3), Scale(1e10))
    with np.errstate(all="ignore"), pytest.raises(NonFiniteError, match=r"epoch 1, batch 2.*arithmetic overflowed"):
        fit(model, Batches(x, y, 8), verbose=False, compile=compiled)


@every_model
@pytest.mark.parametrize(
    "options", [{}, {"clip_norm": 1.0}, {"accumulate": 2}, {"disable": ("chain", "dense", "cross_entropy")}], ids=str
)
@pytest.mark.parametrize("with_optimizer", [True, False])
def test_neither_does_it_in_a_compiled_step(name: str, options: dict[str, Any], with_optimizer: bool) -> None:
    x, y = data(8)
    model = MODELS[name]()
    opt = optim.Adam(model.parameters()) if with_optimizer else None
    step = fnn.compile(model, nn.CrossEntropyLoss(), opt, **options)
    step(x, y)
    before, bad = state(model), x.copy()
    bad[3, 0, 0, 0] = np.nan
    for _ in range(2):
        with np.errstate(all="ignore"), pytest.raises(NonFiniteError):
            step(bad, y)
        assert same(model, before)
    step(x, y)  # and it goes on
    assert int(next(b for n, b in model.named_buffers() if n.endswith("num_batches_tracked"))) == 2


def test_a_gradient_that_is_not_finite_leaves_no_trace() -> None:
    """Its loss is: clip_norm looks at the gradient before anything is updated."""
    model = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    step = fnn.compile(model, lambda o, y: (o * y).sum(), optim.SGD(model.parameters(), lr=0.1), clip_norm=1.0)
    model[2].weight.data[...] = model[2].bias.data[...] = 0
    before = state(model)
    x, huge = data()[0][:4, 0, 0, :2], np.full((4, 1), 3e38, np.float32)
    with np.errstate(all="ignore"), pytest.raises(NonFiniteError, match="norm of the gradient"):
        step(x, huge)
    assert same(model, before)


@compiled
def test_a_label_that_does_not_exist_leaves_no_trace(compiled: bool) -> None:
    x, y = data()
    step: Any
    model = both()
    if compiled:
        step = fnn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
    else:
        from fastnn.train.steps import EagerStep

        step = EagerStep(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
    before = state(model)
    y[3] = CLASSES
    with pytest.raises(fnn.FastnnError, match="label"):
        step(x, y)
    assert same(model, before)


def test_statistics_of_ones_own_are_put_back() -> None:
    x, y = data()
    x[13] = np.nan
    model, watch = nn.Sequential(Average(), chain()), Watch()
    with pytest.raises(NonFiniteError):
        fit(model, Batches(x, y, 8), callbacks=[watch], verbose=False, compile=False)
    assert same(model, watch.state)
    assert watch.state["0.mean"].any()


# ---- trainings that come apart --------------------------------------------------------------------------------------


@compiled
@every_model
@pytest.mark.parametrize("lr", [1e3, 1e12, 1e20, 1e30])
def test_a_training_ends_finite_or_says_what_is_not(name: str, lr: float, compiled: bool) -> None:
    model = MODELS[name]()
    opt = optim.SGD(model.parameters(), lr=lr)
    said = False
    with np.errstate(all="ignore"):
        try:
            fit(model, data(), optimizer=opt, epochs=2, batch_size=8, seed=0, verbose=False, compile=compiled)
        except NonFiniteError:
            said = True
    assert said or all(np.isfinite(array).all() for array in model.state_dict().values())


class Spoils(Callback):
    """Puts a value into an array once, at a moment that is given."""

    def __init__(self, array_of: Callable[[Training], np.ndarray], value: float) -> None:
        self.array_of, self.value = array_of, value

    def on_batch_end(self, training: Training) -> None:
        if (training.epoch, training.batch) == (2, 3):
            self.array_of(training)[...] = self.value


PLACES: dict[str, Callable[[Training], np.ndarray]] = {
    "the parameter 6.weight": lambda t: t.model[6].weight.data,
    "the buffer 2.running_var": lambda t: t.model[2].running_var,
    "the buffer 5.running_mean": lambda t: t.model[5].running_mean,
    "the optimiser's exp_avg_sq of 6.bias": lambda t: t.optimizer.state[t.model[6].bias]["exp_avg_sq"],
}


@compiled
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_the_last_update_spoils_is_named_and_not_kept(
    place: str, value: float, compiled: bool, tmp_path: Path
) -> None:
    model = both()
    best, keep = EarlyStopping("train_loss"), Checkpoint(tmp_path)
    callbacks = [Spoils(PLACES[place], value), best, keep]
    with pytest.raises(NonFiniteError, match=f"{place} .*became non-finite in epoch 2"):
        fit(model, data(), epochs=5, batch_size=8, callbacks=callbacks, verbose=False, compile=compiled)
    kept = weights.load(tmp_path / "weights.safetensors")
    assert all(np.isfinite(array).all() for array in kept.values())
    assert all(np.isfinite(array).all() for array in model.state_dict().values())  # those of the best epoch
    assert best.best_epoch == 1


def test_a_training_that_is_stopped_within_an_epoch_is_looked_at_too() -> None:
    class Stops(Callback):
        def on_batch_end(self, training: Training) -> None:
            training.model[6].weight.data[0, 0] = np.inf
            training.stop("enough")

    with pytest.raises(NonFiniteError, match=r"6\.weight"):
        fit(both(), data(), batch_size=8, callbacks=[Stops()], verbose=False)


def test_adams_squares_overflow() -> None:
    """A gradient of 1e25 has no square in float32: the parameter would never move again, and nothing else shows it."""
    model = nn.Linear(1, 1, bias=False)
    model.weight.data[...] = 0
    x, y = np.full((2, 1), 1.0, np.float32), np.full((2, 1), 1e25, np.float32)
    with np.errstate(all="ignore"), pytest.raises(NonFiniteError, match="the optimiser's exp_avg_sq of weight"):
        fit(model, (x, y), loss=lambda o, t: (o * t).mean(), verbose=False)


# ---- where it began -------------------------------------------------------------------------------------------------


class Steep(Function):
    """The identity, with a slope that is none."""

    @staticmethod
    def forward(ctx: Any, x: np.ndarray) -> np.ndarray:
        return x.copy()

    @staticmethod
    def backward(ctx: Any, grad: np.ndarray) -> np.ndarray:
        return grad * np.float32(np.inf)


class Steeply(nn.Module):
    def forward(self, x: Any) -> Tensor:
        return Steep.apply(x)


@compiled
def test_the_layer_that_overflows_first_is_named_and_nothing_of_the_search_stays(compiled: bool) -> None:
    model = nn.Sequential(
        chain(), nn.Sequential(Scale(1e30), nn.Dropout(0.1), Scale(1e30)), nn.Linear(CLASSES, CLASSES)
    )
    before = state(model)
    with np.errstate(all="ignore"), pytest.raises(NonFiniteError, match=r"first in the layer 1\.2 \(Scale\); try"):
        fit(model, data(), batch_size=8, verbose=False, compile=compiled)
    assert same(model, before)
    numbers = fnn.random.get_state()
    assert "layer 1.2 (Scale)" in finite.cause(model, *data(), np.arange(24))
    assert fnn.random.get_state() == numbers
    assert same(model, before)


@pytest.mark.parametrize("how", ["an argument", "a context"])
def test_a_gradient_that_is_not_finite_is_found_before_the_update(how: str) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(32, 4), Steeply(), nn.Linear(4, CLASSES))
    before = state(model)
    watched = fnn.autograd.set_detect_anomaly(how == "a context")
    with (
        watched,
        np.errstate(all="ignore"),
        pytest.raises(NonFiniteError, match=r"gradient became .* in epoch 1, batch 1, .*layer 1 \(Linear\)"),
    ):
        fit(model, data(), batch_size=8, verbose=False, detect_anomaly=how == "an argument")
    assert same(model, before)
    assert not fnn.autograd.is_anomaly_enabled()


def test_an_update_that_spoils_the_optimiser_is_named_by_its_batch() -> None:
    model = nn.Linear(1, 1, bias=False)
    x, y = np.ones((8, 1), np.float32), np.full((8, 1), 0, np.float32)
    y[4:] = 1e25  # of which Adam has no square
    batches = Batches(x, y, 4)
    with np.errstate(all="ignore"), pytest.raises(NonFiniteError, match=r"exp_avg_sq of weight .* epoch 1, batch 2,"):
        fit(model, batches, loss=lambda o, t: (o * t).mean(), verbose=False, detect_anomaly=True)


@pytest.mark.parametrize(("keep", "epoch"), [("Checkpoint", 2), ("EarlyStopping", 1)])
def test_what_a_callback_spoils_after_the_epoch_is_not_kept(keep: str, epoch: int, tmp_path: Path) -> None:
    class SpoilsLate(Callback):
        def on_epoch_end(self, training: Training) -> None:
            if training.epoch == epoch:
                training.model.state_dict()["6.bias"][...] = np.nan

    keeper = Checkpoint(tmp_path, best="train_loss") if keep == "Checkpoint" else EarlyStopping("train_loss")
    with pytest.raises(NonFiniteError, match=rf"{keep}, after epoch {epoch}: .*6\.bias"):
        fit(both(), data(), epochs=3, batch_size=8, callbacks=[SpoilsLate(), keeper], verbose=False)
    if keep == "Checkpoint":
        kept = weights.load(tmp_path / "weights.safetensors")
        assert all(np.isfinite(array).all() for array in kept.values())


# ---- models, data and outputs ---------------------------------------------------------------------------------------


@compiled
@pytest.mark.parametrize("place", ["6.weight", "6.bias", "2.running_mean", "5.running_var"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_model_that_is_not_finite_is_neither_trained_nor_measured(place: str, value: float, compiled: bool) -> None:
    model = both()
    model.state_dict()[place].reshape(-1)[1] = value
    for work in (evaluate, fit):
        with pytest.raises(NonFiniteError, match=place):
            work(model, data(), compile=compiled, **({"verbose": False} if work is fit else {}))
    with pytest.raises(NonFiniteError, match=place):
        LRFinder().run(model, data())


@compiled
def test_evaluate_names_the_image(compiled: bool) -> None:
    x, y = data()
    x[17, 0, 1, 1] = np.nan
    with pytest.raises(NonFiniteError, match="sample 17"):
        evaluate(both(), (x, y), batch_size=5, compile=compiled)
    x[17, 0, 1, 1] = 3e38
    with np.errstate(all="ignore"), pytest.raises(NonFiniteError, match=r"sample 17 .*overflowed"):
        evaluate(nn.Sequential(nn.Flatten(), nn.Linear(32, 3), Scale(1e10)), (x, y), batch_size=5, compile=compiled)


class Scale(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Any) -> Tensor:
        return x * self.factor


@compiled
def test_validation_says_it_after_the_epoch(compiled: bool) -> None:
    x, y = data()
    bad = x.copy()
    bad[5, 0, 0, 0] = np.inf
    with np.errstate(all="ignore"), pytest.raises(NonFiniteError, match=r"epoch 1.*sample 5 of the data"):
        fit(both(), (x, y), (bad, y), verbose=False, compile=compiled)


@compiled
def test_a_target_is_named(compiled: bool) -> None:
    x, _ = data()
    y = np.zeros((24, 1), np.float32)
    y[9] = np.nan
    model = nn.Sequential(nn.Flatten(), nn.Linear(32, 1))
    with pytest.raises(NonFiniteError, match=r"target 9 of the data is not finite \(nan"):
        fit(model, (x, y), loss=nn.MSELoss(), batch_size=5, verbose=False, compile=compiled)
    with pytest.raises(NonFiniteError, match=r"target 9 of the data is not finite \(nan"):
        evaluate(model, (x, y), loss=nn.MSELoss(), batch_size=5, compile=compiled)


@compiled
def test_infinities_that_are_meant_are_taken(compiled: bool) -> None:
    """A mask of -inf, in a buffer and in the outputs."""

    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(32, 4)
            self.register_buffer("mask", np.array([0, 0, 0, -np.inf], np.float32))

        def forward(self, x: Any) -> Tensor:
            return self.linear(x.reshape(-1, 32)) + Tensor(self.mask)

    x, y = data()
    model = Masked()
    assert np.isfinite(fit(model, (x, y), (x, y), verbose=False, compile=compiled)[0].val_loss)


# ---- runs -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    assert main(["train", "digits", "--model", "linear", "--epochs", "1", "--out", str(folder)]) == 0
    return folder


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("place", ["2.weight", "0.std"])
def test_a_run_that_is_not_finite_is_exit_4(
    run: Path, place: str, value: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for file in run.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    for name in ("weights", "checkpoint"):
        arrays, note = weights.load_with_note(folder / f"{name}.safetensors")
        for key, array in arrays.items():
            if key.removeprefix("model.") == place:
                array.reshape(-1)[0] = value
        weights.save(arrays, folder / f"{name}.safetensors", note=note)
    with pytest.raises(NonFiniteError, match=place):
        recipes.load_run(folder)
    np.save(tmp_path / "zero.npy", np.zeros((28, 28), np.uint8))
    for command in (
        ["eval", str(folder)],
        ["predict", str(folder), str(tmp_path / "zero.npy")],
        ["train", "--out", str(folder), "--resume", "--epochs", "2"],
    ):
        assert main(command) == 4
        assert place in capsys.readouterr().err


def test_nothing_is_changed_for_a_model_that_is_finite() -> None:
    """The copies of statistics are made and put back within a step: a training is that of before, bit for bit."""
    first, second = (both() for _ in range(2))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    x, y = data(8)
    step = fnn.compile(first, nn.CrossEntropyLoss(), optim.SGD(first.parameters(), lr=0.1))
    other = optim.SGD(second.parameters(), lr=0.1)
    plan = fnn.compile(second, nn.CrossEntropyLoss())
    for _ in range(3):
        step(x, y)
        other.zero_grad()
        plan(x, y)
        other.step()
    for (name, ours), theirs in zip(first.named_buffers(), second.buffers(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, err_msg=name)
