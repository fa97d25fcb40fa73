"""NumPy's numbers are taken wherever Python's are, with the same result; truth values and NaN are numbers nowhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import data, insight, nn, ops, optim, recipes, train
from fastnn.errors import FastnnError
from fastnn.optim import lr_scheduler

WHOLE = [np.int64, np.int32, np.int16, np.int8, np.uint8, np.uint16, np.uint32, np.uint64, np.array]
REAL = [np.float64, np.float32, np.float16, np.array]

X = np.linspace(-1, 1, 72, dtype=np.float32).reshape(2, 4, 3, 3)
T = fnn.Tensor(X)
LABELS = np.array([0, 1])
TABLE = np.linspace(0, 1, 60, dtype=np.float32).reshape(15, 4), np.arange(15) % 3
DIGITS = data.load("digits", split="test").subset(slice(40))


def parameters() -> list[nn.Parameter]:
    return [nn.Parameter(np.ones((2, 2), np.float32))]


def stepped(optimizer: Any) -> Any:
    """The parameters after two steps, and the options."""
    for _ in range(2):
        for p in optimizer.param_groups[0]["params"]:
            p.grad = np.full(p.data.shape, 0.5, np.float32)
        optimizer.step()
    return [p.data for p in optimizer.param_groups[0]["params"]], repr(optimizer)


def rates(make: Callable[[Any], Any], metric: bool = False) -> Any:
    optimizer = optim.SGD(parameters(), lr=1.0, momentum=0.9)
    schedule = make(optimizer)
    found = []
    for _ in range(3):
        optimizer.step()
        schedule.step(*[1.0] * metric)
        found.append((schedule.get_last_lr(), optimizer.param_groups[0]["momentum"]))
    return found, schedule.state_dict()


def fitted(**options: Any) -> Any:
    fnn.manual_seed(0)
    model = nn.Linear(4, 3)
    history = fnn.fit(model, TABLE, verbose=False, **{"seed": 0, "epochs": 1, **options})
    return model.weight.data, [(r.epoch, r.train_loss, r.val_loss) for r in history]


def compiled(clip_norm: Any = None, accumulate: Any = 1, batch_size: Any = 5) -> Any:
    fnn.manual_seed(0)
    model = nn.Linear(4, 3)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    step = fnn.compile(model, nn.CrossEntropyLoss(), optimizer, clip_norm=clip_norm, accumulate=accumulate)
    return step.run_epoch(*TABLE, None, batch_size), model.weight.data


def dropped(p: Any) -> Any:
    fnn.manual_seed(0)
    return ops.dropout(T, p)


def seeded(seed: Any) -> Any:
    fnn.manual_seed(seed)
    return fnn.random.generator().random(3)


def threads(n: Any) -> Any:
    before = fnn.get_num_threads()
    try:
        fnn.set_num_threads(n)
        return fnn.get_num_threads()
    finally:
        fnn.set_num_threads(before)


def digits_model() -> nn.Module:
    fnn.manual_seed(0)
    return nn.Sequential(nn.Normalize(0.3, 0.4), nn.Flatten(), nn.Linear(784, 10))


def landscape(**options: Any) -> Any:
    return fnn.landscape.line(digits_model(), DIGITS, progress=False, **{"points": 3, "images": 20, **options}).losses


def built(make: Callable[[], nn.Module]) -> Any:
    fnn.manual_seed(0)
    layer = make()
    return repr(layer), layer(T)


# Each takes a whole number n, here 2, and returns what can be compared.
WHOLES: dict[str, Callable[[Any], Any]] = {
    "manual_seed": seeded,
    "set_num_threads": threads,
    "fit epochs": lambda n: fitted(epochs=n),
    "fit seed": lambda n: fitted(seed=n),
    "fit batch_size": lambda n: fitted(batch_size=n),
    "fit val": lambda n: fitted(val=n),
    "evaluate batch_size": lambda n: fnn.evaluate(nn.Flatten(), TABLE, batch_size=n).loss,
    "accumulate": lambda n: compiled(accumulate=n),
    "run_epoch batch_size": lambda n: compiled(batch_size=n),
    "Batches batch_size": lambda n: [y.tolist() for _, y in data.Batches(*TABLE, n)],
    "Batches seed": lambda n: next(iter(data.Batches(*TABLE, 5, shuffle=True, seed=n)))[1].tolist(),
    "split": lambda n: data.Dataset(*TABLE).split(n)[1].labels,
    "split seed": lambda n: data.Dataset(*TABLE).split(3, n)[1].images,
    "Augment shift": lambda n: data.Augment(shift=n)(X, np.random.default_rng(0)),
    "Linear": lambda n: built(lambda: nn.Linear(3, n)),
    "Conv2d out_channels": lambda n: built(lambda: nn.Conv2d(4, n, 2)),
    "Conv2d kernel_size": lambda n: built(lambda: nn.Conv2d(4, 2, n)),
    "Conv2d pairs": lambda n: built(lambda: nn.Conv2d(4, 2, (n, 1), stride=(n, n), padding=[n, n])),
    "Conv2d stride": lambda n: built(lambda: nn.Conv2d(4, 2, 1, stride=n)),
    "Conv2d padding": lambda n: built(lambda: nn.Conv2d(4, 2, 1, padding=n)),
    "Conv2d dilation": lambda n: built(lambda: nn.Conv2d(4, 2, 2, dilation=n)),
    "Conv2d groups": lambda n: built(lambda: nn.Conv2d(4, 2, 1, groups=n)),
    "MaxPool2d": lambda n: built(lambda: nn.MaxPool2d(n, n)),
    "AvgPool2d": lambda n: built(lambda: nn.AvgPool2d((n, n), n)),
    "max_pool2d": lambda n: ops.max_pool2d(T, n, n),
    "BatchNorm1d": lambda n: repr(nn.BatchNorm1d(n)),
    "Flatten": lambda n: built(lambda: nn.Flatten(1, n)),
    "Unflatten": lambda n: nn.Unflatten(1, (n, n))(T),
    "Softmax": lambda n: built(lambda: nn.Softmax(n)),
    "log_softmax": lambda n: ops.log_softmax(T, n),
    "sum": lambda n: T.sum(n),
    "mean of several": lambda n: T.mean((0, n)),
    "max": lambda n: T.max(n)[1],
    "argmax": lambda n: T.argmax(n),
    "std": lambda n: T.std(n),
    "reshape": lambda n: T.reshape(n, -1),
    "reshape of a tuple": lambda n: T.reshape((n, -1)),
    "view": lambda n: T.view(n, 2, -1),
    "flatten": lambda n: T.flatten(1, n),
    "transpose": lambda n: T.transpose(0, n),
    "permute": lambda n: T.permute(n, 0, 1, 3),
    "squeeze": lambda n: T.squeeze(n),
    "unsqueeze": lambda n: T.unsqueeze(n),
    "indexing": lambda n: T[:, n],
    "StepLR": lambda n: rates(lambda o: lr_scheduler.StepLR(o, n)),
    "CosineAnnealingLR": lambda n: rates(lambda o: lr_scheduler.CosineAnnealingLR(o, n)),
    "OneCycleLR": lambda n: rates(lambda o: lr_scheduler.OneCycleLR(o, 1.0, epochs=n, steps_per_epoch=n)),
    "ReduceLROnPlateau patience": lambda n: rates(lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=n), metric=True),
    "ReduceLROnPlateau cooldown": lambda n: rates(lambda o: lr_scheduler.ReduceLROnPlateau(o, cooldown=n), metric=True),
    "GradientDescent": lambda n: optim.GradientDescent(parameters(), max_trials=n).max_trials,
    "EarlyStopping": lambda n: train.EarlyStopping("train_loss", n).patience,
    "StopOnPlateau": lambda n: train.StopOnPlateau(n).patience,
    "Checkpoint every": lambda n: train.Checkpoint("unused", every=n).every,
    "RecordPath": lambda n: len(recorded(n)),
    "recipe": lambda n: recipes.recipe("cnn", DIGITS, epochs=n, batch_size=n),
    "landscape points": lambda n: landscape(points=n),
    "landscape images": lambda n: landscape(images=n),
    "landscape seed": lambda n: landscape(seed=n),
    "compare_optimizers steps": lambda n: insight.compare_optimizers("ravine", steps=n).losses,
    "worst_mistakes": lambda n: len(insight.worst_mistakes(digits_model(), DIGITS, n)),
    "gradcheck seed": lambda n: fnn.gradcheck(nn.Tanh(), np.ones((2, 2)), seed=n),
    "arithmetic": lambda n: (T * n, n * T, T + n, n - T, T**n, T / n),
}

# Each takes a number f, here 0.5.
REALS: dict[str, Callable[[Any], Any]] = {
    "fit val": lambda f: fitted(val=f),
    "clip_norm": lambda f: compiled(clip_norm=f),
    "split": lambda f: data.Dataset(*TABLE).split(f)[1].labels,
    "Augment": lambda f: data.Augment(rotate=f, scale=f, shear=f)(X, np.random.default_rng(0)),
    "Dropout": lambda f: repr(nn.Dropout(f)),
    "dropout": dropped,
    "LeakyReLU": lambda f: built(lambda: nn.LeakyReLU(f)),
    "ELU": lambda f: built(lambda: nn.ELU(f)),
    "leaky_relu": lambda f: ops.leaky_relu(T, f),
    "elu": lambda f: ops.elu(T, f),
    "clamp": lambda f: T.clamp(0.0, f),
    "BatchNorm2d": lambda f: built(lambda: nn.BatchNorm2d(4, eps=f, momentum=f)),
    "Normalize": lambda f: nn.Normalize(f, f)(T),
    "CrossEntropyLoss": lambda f: nn.CrossEntropyLoss(label_smoothing=f)(T.flatten(1), LABELS),
    "SGD": lambda f: stepped(optim.SGD(parameters(), lr=f, momentum=f, dampening=f, weight_decay=f)),
    "SGD with penalties": lambda f: stepped(optim.SGD(parameters(), lr=f, l1=f, l2=f)),
    "Adam": lambda f: stepped(optim.Adam(parameters(), lr=f, betas=(f, f), eps=f, weight_decay=f)),
    "AdamW": lambda f: stepped(optim.AdamW(parameters(), lr=f, weight_decay=f)),
    "RMSprop": lambda f: stepped(optim.RMSprop(parameters(), lr=f, alpha=f, eps=f, momentum=f)),
    "Adagrad": lambda f: stepped(optim.Adagrad(parameters(), lr=f, lr_decay=f, initial_accumulator_value=f)),
    "Rprop": lambda f: stepped(optim.Rprop(parameters(), lr=f, etas=(f, 3 * f), step_sizes=(f, f))),
    "GradientDescent": lambda f: repr(optim.GradientDescent(parameters(), lr=f, c=f, contraction=f)),
    "a group": lambda f: stepped(optim.SGD([{"params": parameters(), "lr": f}])),
    "StepLR": lambda f: rates(lambda o: lr_scheduler.StepLR(o, 1, f)),
    "ExponentialLR": lambda f: rates(lambda o: lr_scheduler.ExponentialLR(o, f)),
    "CosineAnnealingLR": lambda f: rates(lambda o: lr_scheduler.CosineAnnealingLR(o, 2, f)),
    "OneCycleLR": lambda f: rates(
        lambda o: lr_scheduler.OneCycleLR(
            o, f, 4, pct_start=f, base_momentum=f, max_momentum=f, div_factor=f, final_div_factor=f
        )
    ),
    "ReduceLROnPlateau": lambda f: rates(
        lambda o: lr_scheduler.ReduceLROnPlateau(o, factor=f, patience=0, threshold=f, min_lr=f, eps=f), metric=True
    ),
    "EarlyStopping": lambda f: train.EarlyStopping("train_loss", min_delta=f).min_delta,
    "StopOnPlateau": lambda f: train.StopOnPlateau(min_delta=f).min_delta,
    "StopOnStep": lambda f: train.StopOnStep(f).eps,
    "LRFinder": lambda f: train.LRFinder(start=f).start,
    "recipe": lambda f: str(recipes.recipe("best", DIGITS, lr=f, momentum=f, l2=f, label_smoothing=f)),
    "landscape extent": lambda f: landscape(extent=f),
    "diagnose": lambda f: insight.diagnose(train.History(RECORDS), acceptable=f).verdict,
    "gradcheck": lambda f: fnn.gradcheck(nn.Tanh(), np.ones((2, 2)), atol=f, rtol=f),
    "arithmetic": lambda f: (T * f, f * T, T + f, f - T, T / f),
}
RECORDS = [train.EpochRecord(1, 0.5, 0.8, 0.5, 0.8, 0.1, 1.0, 100.0)]


def recorded(n: Any) -> train.ParameterPath:
    record = train.RecordPath(per_epoch=n)
    fnn.fit(nn.Linear(4, 3), TABLE, epochs=1, batch_size=3, callbacks=[record], verbose=False)
    return record.path


def values_of(result: Any) -> Any:
    """With arrays as (type, shape, bytes), so that equal means the same bits."""
    if isinstance(result, fnn.Tensor):
        result = result.data
    if isinstance(result, np.ndarray):
        return result.dtype.str, result.shape, result.tobytes()
    if isinstance(result, (list, tuple)):
        return [values_of(each) for each in result]
    if isinstance(result, dict):
        return {key: values_of(each) for key, each in result.items()}
    return repr(result)  # which for NumPy's numbers says so


@pytest.mark.parametrize("name", WHOLES)
def test_whole_numbers_of_any_type_give_what_python_s_give(name: str) -> None:
    wanted = values_of(WHOLES[name](2))
    for kind in WHOLE:
        assert values_of(WHOLES[name](kind(2))) == wanted, kind


@pytest.mark.parametrize("name", REALS)
def test_real_numbers_of_any_type_give_what_python_s_give(name: str) -> None:
    wanted = values_of(REALS[name](0.5))
    for kind in REAL:
        assert values_of(REALS[name](kind(0.5))) == wanted, kind


NOT_OPTIONS = {"arithmetic", "indexing", "landscape extent", "Normalize"}  # arrays may stand there


@pytest.mark.parametrize("name", sorted(WHOLES.keys() - NOT_OPTIONS))
def test_what_is_no_whole_number_is_refused(name: str) -> None:
    for value in (True, np.bool_(True), 2.5, np.float32(2.5), "2", float("nan"), 1j):
        if name == "std" and isinstance(value, (bool, np.bool_)):
            continue  # that is PyTorch's `unbiased`
        with pytest.raises((FastnnError, TypeError)) as caught:
            WHOLES[name](value)
        assert isinstance(caught.value, FastnnError), (value, caught.value)


@pytest.mark.parametrize("name", sorted(REALS.keys() - NOT_OPTIONS))
def test_what_is_no_number_is_refused(name: str) -> None:
    for value in (True, np.bool_(False), float("nan"), np.float32("nan"), "0.5", 0.5j, np.zeros(3)):
        with pytest.raises((FastnnError, TypeError)) as caught:
            REALS[name](value)
        assert isinstance(caught.value, FastnnError), (value, caught.value)


def test_numbers_with_a_range_of_their_own() -> None:
    for kind in WHOLE:
        assert values_of(train.LRFinder(steps=kind(12)).steps) == "12"
    assert values_of(train.RecordPath(most_bytes=np.float64(1e6))._most_bytes) == "1000000.0"


def test_sizes_of_images_in_a_folder(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for label in "ab":
        (tmp_path / label).mkdir()
        for i in range(5):
            image.fromarray(np.full((6, 6), 40 * i, np.uint8)).save(tmp_path / label / f"{i}.png")
    for kind in (np.int64, np.uint8, np.array):
        assert data.load(tmp_path, size=(kind(4), kind(5))).images.shape[1:] == (1, 4, 5)
    for size in ((True, 4), (4.5, 4), (0, 4), 4, (4,), "44"):
        with pytest.raises(FastnnError, match="load: expected"):
            data.load(tmp_path, size=size)  # type: ignore[arg-type]
