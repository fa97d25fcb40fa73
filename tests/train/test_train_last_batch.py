"""A single image that is left over: batch statistics of one value do not exist, so it joins the batch before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn, optim
from fastnn.data import Batches
from fastnn.errors import ArgumentError, FastnnError, ShapeError
from fastnn.schedules import OneCycleLR
from fastnn.tensors import Tensor
from fastnn.train import Callback, Checkpoint, LRFinder, Training, evaluate, fit

RNG = np.random.default_rng(0)
FEATURES, CLASSES = 8, 3
compiled = pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "eager"])


def features() -> nn.Sequential:
    return nn.Sequential(nn.Linear(FEATURES, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, CLASSES))


def planes_of_one_pixel() -> nn.Sequential:
    """Batch norm in a chain that a native kernel runs, on planes of 2x2 pixels and then of one."""
    return nn.Sequential(
        Square(),
        nn.Conv2d(2, 8, 1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 2), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Flatten(), nn.Linear(8, CLASSES),
    )  # fmt: skip


class Square(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(-1, 2, 2, 2)


class ByHand(nn.Module):
    """Normalises by the batch's own standard deviation, which one row does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = x if isinstance(x, Tensor) else Tensor(x)
        if self.training:
            x = (x - x.mean(0)) / (x.std(0) + 1e-3)
        return self.linear(x)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "features": features, "planes of one pixel": planes_of_one_pixel, "by hand": ByHand,
}  # fmt: skip


def data(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(count)
    return rng.standard_normal((count, FEATURES)).astype(np.float32), rng.integers(0, CLASSES, count)


class Sizes(Callback):
    """How many images each batch had, and the number of batches that others are told."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.told: set[int] = set()

    def on_epoch_begin(self, training: Training) -> None:
        self._done = 0

    def on_batch_end(self, training: Training) -> None:
        self.sizes.append(training.images - self._done)
        self._done = training.images
        self.told.add(len(training.batches))


@compiled
@pytest.mark.parametrize("name", MODELS)
def test_it_joins_the_batch_before(name: str, compiled: bool) -> None:
    fnn.manual_seed(0)
    model, sizes = MODELS[name](), Sizes()
    history = fit(model, data(33), epochs=2, batch_size=16, seed=0, callbacks=[sizes], verbose=False, compile=compiled)
    assert sizes.sizes == [16, 17, 16, 17]
    assert sizes.told == {2}
    assert len(history) == 2
    assert all(np.isfinite(array).all() for array in model.state_dict().values())


def test_the_steps_are_those_of_torch() -> None:
    """Batches of 16 and 17, in order."""
    torch = pytest.importorskip("torch")
    model = features()
    twin = torch.nn.Sequential(
        torch.nn.Linear(FEATURES, 16), torch.nn.BatchNorm1d(16), torch.nn.ReLU(), torch.nn.Linear(16, CLASSES)
    )
    twin.load_state_dict({name: torch.tensor(np.array(value)) for name, value in model.state_dict().items()})
    x, y = data(33)
    fit(model, Batches(x, y, 16), optimizer=optim.SGD(model.parameters(), lr=0.1), epochs=3, verbose=False)
    other = torch.optim.SGD(twin.parameters(), lr=0.1)
    for _ in range(3):
        for part in (slice(16), slice(16, None)):
            other.zero_grad()
            torch.nn.functional.cross_entropy(twin(torch.tensor(x[part])), torch.tensor(y[part])).backward()
            other.step()
    for name, value in twin.state_dict().items():
        np.testing.assert_allclose(model.state_dict()[name], value.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["features", "planes of one pixel"])
def test_run_epoch_joins_it_too(name: str) -> None:
    x, y = data(33)
    ends = []
    for joined in (True, False):
        fnn.manual_seed(0)
        model = MODELS[name]()
        step = fnn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
        if joined:
            loss = step.run_epoch(x, y, None, 16, progress=False)
        else:
            loss = (16 * step(x[:16], y[:16]) + 17 * step(x[16:], y[16:])) / 33
        ends.append((loss, [array.copy() for array in model.state_dict().values()]))
    assert ends[0][0] == pytest.approx(ends[1][0], rel=1e-12)
    assert all(map(np.array_equal, ends[0][1], ends[1][1]))


@compiled
@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(nn.Linear(FEATURES, CLASSES)),
        lambda: nn.Sequential(Square(), nn.Conv2d(2, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, CLASSES)),
    ],
    ids=["no batch norm", "planes of four pixels"],
)
def test_a_model_that_takes_a_single_image_gets_it(make: Callable[[], nn.Module], compiled: bool) -> None:
    sizes = Sizes()
    fit(make(), data(33), batch_size=16, callbacks=[sizes], verbose=False, compile=compiled)
    assert sizes.sizes == [16, 16, 1]


@compiled
def test_what_is_tried_out_draws_no_random_numbers(compiled: bool) -> None:
    model = nn.Sequential(nn.Linear(FEATURES, 4), nn.Dropout(0.5), nn.BatchNorm1d(4), nn.Linear(4, CLASSES))
    fnn.manual_seed(0)
    fit(model, data(33), batch_size=16, verbose=False, compile=compiled)
    assert fnn.random.get_state()["streams"] == 2  # dropout's, for two batches
    assert model[2].num_batches_tracked == 2


@compiled
@pytest.mark.parametrize(("count", "size"), [(17, 1), (1, 16)])
def test_batches_of_one_are_refused_before_anything_is_changed(count: int, size: int, compiled: bool) -> None:
    """Layers before the one that refuses have not kept anything of the batch either."""
    model = nn.Sequential(
        Square(), nn.Conv2d(2, 8, 1), nn.BatchNorm2d(8), nn.Flatten(), nn.BatchNorm1d(32), nn.Linear(32, 3)
    )
    before = {name: array.copy() for name, array in model.state_dict().items()}
    with pytest.raises(ShapeError, match=r"BatchNorm1d.*more than one value per channel"):
        fit(model, data(count), batch_size=size, verbose=False, compile=compiled)
    assert all(np.array_equal(array, before[name]) for name, array in model.state_dict().items())


@compiled
def test_a_validation_split_may_leave_any_number(compiled: bool) -> None:
    for held in (3, 4, 0.1):
        history = fit(features(), data(36), held, batch_size=16, seed=0, verbose=False, compile=compiled)
        assert np.isfinite(history[-1].val_loss)


def test_statistics_of_the_batch_in_eval_mode() -> None:
    """Without running statistics, evaluate and the validation of fit meet single images, too."""
    model = nn.Sequential(
        nn.Linear(FEATURES, 16), nn.BatchNorm1d(16, track_running_stats=False), nn.Linear(16, CLASSES)
    )
    assert np.isfinite(evaluate(model, data(33), batch_size=16).loss)
    assert np.isfinite(evaluate(model, data(5), batch_size=2).loss)
    assert np.isfinite(fit(model, data(40), data(257), verbose=False)[-1].val_loss)


def test_users_batches_are_as_before() -> None:
    batches = Batches(*data(33), 16)
    fit(features(), batches, verbose=False)
    assert (batches.fewest, len(batches), batches.epoch) == (1, 3, 1)


@compiled
def test_an_augmentation_that_changes_the_shape(compiled: bool) -> None:
    x, y = RNG.standard_normal((17, FEATURES + 2)).astype(np.float32), RNG.integers(0, CLASSES, 17)
    batches = Batches(x, y, 16, augment=lambda images, generator: images[:, 1:-1])
    assert len(fit(features(), batches, epochs=2, verbose=False, compile=compiled)) == 2


def test_full_batch_descent_of_one_image_more() -> None:
    model = features()
    history = fit(
        model, data(17), batch_size="full", optimizer=optim.GradientDescent(model.parameters()), epochs=3, verbose=False
    )
    assert history[-1].train_loss < history[0].train_loss


def test_one_cycle_counts_the_batches_that_there_are() -> None:
    for number, fits in ((2, True), (3, False)):
        model = features()
        opt = optim.SGD(model.parameters(), lr=0.1)
        cycle = OneCycleLR(opt, 0.1, total_steps=2 * number, cycle_momentum=False)
        if fits:
            fit(model, data(33), optimizer=opt, scheduler=cycle, epochs=2, batch_size=16, verbose=False)
            assert cycle.last_epoch == 4
        else:
            with pytest.raises(ArgumentError, match=r"total_steps=4.*joins the batch before"):
                fit(model, data(33), optimizer=opt, scheduler=cycle, epochs=2, batch_size=16, verbose=False)
    assert len(Batches(*data(33), 16, fewest=2)) == 2


def test_a_resumed_training_takes_the_same_path(tmp_path: Any) -> None:
    def run(epochs: int, folder: Any) -> list[np.ndarray]:
        fnn.manual_seed(0)
        model = features()
        keep = Checkpoint(folder, resume=True)
        fit(model, data(33), epochs=epochs, batch_size=16, seed=0, callbacks=[keep], verbose=False)
        return list(model.state_dict().values())

    run(1, tmp_path / "one")
    assert all(map(np.array_equal, run(3, tmp_path / "one"), run(3, tmp_path / "other")))


def test_the_range_test_meets_it_too() -> None:
    model = features()
    opt = optim.SGD(model.parameters(), lr=0.1)
    finder = LRFinder(steps=20).run(model, data(33), optimizer=opt, batch_size=16)
    assert len(finder.losses) > 5


@pytest.mark.parametrize("fewest", [0, 1.5])
def test_batches_refuse_a_senseless_least_number(fewest: Any) -> None:
    with pytest.raises(FastnnError, match="fewest"):
        Batches(*data(3), 2, fewest=fewest)


def test_batches_by_their_least_number() -> None:
    """Sizes by counting: a rest of less than `fewest` goes to the batch before it, which may be the only one."""
    for count, size, fewest, expected in (
        (7, 3, 1, [3, 3, 1]), (7, 3, 2, [3, 4]), (8, 3, 2, [3, 3, 2]), (8, 3, 3, [3, 5]),
        (1, 3, 2, [1]), (3, 1, 2, [1, 1, 1]),
    ):  # fmt: skip
        batches = Batches(np.zeros((count, 2)), np.zeros(count, int), size, fewest=fewest)
        assert [len(labels) for _, labels in batches] == expected
        assert len(batches) == len(expected)
