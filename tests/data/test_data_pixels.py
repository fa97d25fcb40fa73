"""Which integers are pixels, and are divided by 255, in every way into a model; arrays with a mask; what is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn
from fastnn.errors import DTypeError, FastnnError, LabelError

RNG = np.random.default_rng(3)
PIXELS = RNG.integers(0, 256, (12, 1, 4, 4)).astype(np.uint8)
LABELS = np.arange(12) % 3
TYPES = [np.int64, np.int32, np.int16, np.uint16, np.uint64, ">i4"]
MEAN, STD = 0.4, 0.3


def a_model(*first: nn.Module, inputs: int = 16) -> nn.Module:
    fnn.manual_seed(0)
    return nn.Sequential(*first, nn.Flatten(), nn.Linear(inputs, 3)).eval()


def logits(model: Any, x: np.ndarray) -> np.ndarray:
    """By NumPy in float64, of samples as the linear layer takes them."""
    linear = model[-1]
    return x.reshape(len(x), -1).astype(np.float64) @ linear.weight.data.T.astype(np.float64) + linear.bias.data


def off_tape(outputs: Any) -> Any:
    return outputs.detach() if isinstance(outputs, fnn.Tensor) else outputs


WAYS: dict[str, Callable[[nn.Module, Any], Any]] = {
    "eager": lambda model, x: model(x).data,
    "compiled": lambda model, x: off_tape(fnn.compile(model)(x)),
    "frozen": lambda model, x: fnn.compile(model, frozen=True)(x),
    "second call": lambda model, x: off_tape([predict := fnn.compile(model), predict(x), predict(x)][-1]),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [*TYPES, "lists", "tensor"])
def test_integers_of_every_type_are_the_same_pixels(way: str, kind: Any) -> None:
    model = a_model(nn.Normalize(MEAN, STD))
    wide = PIXELS.astype(np.int64)
    given = {"lists": wide.tolist(), "tensor": fnn.Tensor(wide)}.get(kind) if isinstance(kind, str) else None
    given = PIXELS.astype(kind) if given is None else given
    expected = logits(model, (PIXELS / 255 - MEAN) / STD)
    np.testing.assert_allclose(WAYS[way](model, given), expected, atol=1e-5)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("wrong", [-1, 256])
def test_integers_that_are_no_pixels_are_refused(way: str, wrong: int) -> None:
    model, x = a_model(nn.Normalize(MEAN, STD)), PIXELS.astype(np.int64)
    x[5, 0, 1, 1] = wrong
    with pytest.raises(DTypeError, match=f"expected pixels from 0 to 255 or floating numbers, got int64 .*{wrong}"):
        WAYS[way](model, x)


def trained(images: np.ndarray, compile: bool, *first: nn.Module, pairs: bool = False) -> np.ndarray:
    model = a_model(*first, inputs=images[0].size)
    data: Any = (images, LABELS) if pairs else fnn.data.Batches(images, LABELS, 4)
    fnn.fit(model, data, epochs=2, seed=0, verbose=False, compile=compile)
    weight: np.ndarray = model[-1].weight.data  # type: ignore[index]
    return weight


@pytest.mark.parametrize("compile", [True, False])
@pytest.mark.parametrize("layers", [(), (MEAN, STD)], ids=["plain", "normalize"])
@pytest.mark.parametrize("shape", [(12, 1, 4, 4), (12, 4, 4)], ids=str)
def test_fit_takes_integers_of_every_type_for_the_same_pixels(
    compile: bool, layers: tuple[float, ...], shape: tuple[int, ...]
) -> None:
    if layers and len(shape) == 3:
        return  # Normalize takes the second dimension for channels
    images = PIXELS.reshape(shape)
    make = [nn.Normalize(*layers)] if layers else []
    expected = trained((images / 255).astype(np.float32), compile, *make)
    for kind in (np.uint8, np.int64, np.uint16):
        np.testing.assert_allclose(trained(images.astype(kind), compile, *make), expected, atol=1e-4)


@pytest.mark.parametrize("layers", [(), (MEAN, STD)], ids=["plain", "normalize"])
def test_fit_refuses_what_is_no_pixel_before_its_first_update(layers: tuple[float, ...]) -> None:
    model = a_model(*([nn.Normalize(*layers)] if layers else []))
    before, images = model[-1].weight.data.copy(), PIXELS.astype(np.int64)  # type: ignore[index]
    images[-1, 0, 0, 0] = 300  # in the last batch
    with pytest.raises(DTypeError, match="got int64 from 0 to 300"):
        fnn.fit(model, fnn.data.Batches(images, LABELS, 4), verbose=False)
    np.testing.assert_array_equal(model[-1].weight.data, before)  # type: ignore[index]


@pytest.mark.parametrize("compile", [True, False])
def test_uint8_features_of_a_table_are_numbers(compile: bool) -> None:
    """Counts and one-hot columns: the training, the loss and the predictions of the same numbers as floats."""
    table = RNG.integers(0, 9, (12, 5)).astype(np.uint8)
    floats = table.astype(np.float32)
    for pairs in (True, False):
        found, expected = (trained(x, compile, pairs=pairs) for x in (table, floats))
        np.testing.assert_allclose(found, expected, atol=1e-6)
    model = a_model(inputs=5)
    right = logits(model, floats)
    loss = np.mean(np.log(np.exp(right).sum(1)) - right[np.arange(12), LABELS])
    assert fnn.evaluate(model, (table, LABELS), compile=compile).loss == pytest.approx(loss, rel=1e-5)
    report = fnn.signal_report(model, table, LABELS)
    assert report["mean"][0] == pytest.approx(floats.mean(), rel=1e-6)


@pytest.mark.parametrize("layers", [(), (MEAN, STD)], ids=["plain", "normalize"])
@pytest.mark.parametrize("samples", [PIXELS, PIXELS.reshape(12, 16)], ids=["images", "table"])
@pytest.mark.parametrize("kind", TYPES)
def test_evaluate_takes_the_batches_that_fit_takes(samples: np.ndarray, layers: tuple[float, ...], kind: Any) -> None:
    if layers and samples.ndim == 2:
        return
    model = a_model(*([nn.Normalize(*layers)] if layers else []))
    found = fnn.evaluate(model, fnn.data.Batches(samples.astype(kind), LABELS, 4))
    assert found.loss == fnn.evaluate(model, (samples, LABELS)).loss


def test_integers_of_a_table_may_have_any_size_in_batches() -> None:
    table = RNG.integers(-1000, 1000, (12, 5))
    found, expected = (trained(x, True) for x in (table, table.astype(np.float32)))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    model = a_model(inputs=5)
    losses = [fnn.evaluate(model, fnn.data.Batches(x, LABELS)).loss for x in (table, table.astype(np.float32))]
    assert losses[0] == losses[1]


def test_evaluate_refuses_batches_that_are_no_pixels() -> None:
    with pytest.raises(DTypeError, match="got int64 from 0 to 300"):
        fnn.evaluate(
            a_model(), fnn.data.Batches(np.linspace(0, 300, 12 * 16).astype(np.int64).reshape(12, 4, 4), LABELS)
        )


def test_refused_types_come_with_what_to_write() -> None:
    for refused in (
        lambda: fnn.evaluate(a_model(), (PIXELS.astype(int), LABELS)),
        lambda: fnn.data.Dataset(PIXELS.astype(int), LABELS),
    ):
        with pytest.raises(DTypeError, match=r"got int64: write .*np.uint8.* pixels .*np.float32.* other numbers"):
            refused()
    with pytest.raises(DTypeError, match=r"got uint8: .*x.astype\(np.float32\)"):
        a_model(inputs=5)(np.ones((2, 5), np.uint8))


@pytest.mark.parametrize("kind", [np.int64, np.uint8, bool])
def test_integer_targets_of_one_column_come_with_what_to_write(kind: Any) -> None:
    targets = (LABELS == 0).astype(kind)[:, np.newaxis]
    with pytest.raises(LabelError, match=r"\(12, 1\): write .astype\(np.float32\)"):
        fnn.fit(a_model(), (PIXELS, targets), loss=nn.BCEWithLogitsLoss(), verbose=False)


def test_fit_says_that_it_divides(capsys: pytest.CaptureFixture[str]) -> None:
    said = "pixels are divided by 255, since the model has no nn.Normalize"
    for images, layers, expected in (
        (PIXELS, [], True),
        (PIXELS.astype(np.int64), [], True),
        (PIXELS, [nn.Normalize(MEAN, STD)], False),
        (PIXELS / 255, [], False),
        (PIXELS.reshape(12, 16), [], False),
    ):
        fnn.fit(a_model(*layers), fnn.data.Batches(images, LABELS, 4))
        assert (said in capsys.readouterr().out.splitlines()) == expected


def test_what_looks_into_a_model_takes_pixels_as_fit_does() -> None:
    for make in ([], [nn.Normalize(MEAN, STD)]):
        model = a_model(*make)
        report = fnn.signal_report(model, PIXELS.astype(np.int32), LABELS)
        assert report["mean"][0] == pytest.approx((PIXELS / 255).mean(), rel=1e-5)
        assert report.loss == pytest.approx(fnn.evaluate(model, (PIXELS, LABELS)).loss, rel=1e-5)
        maps = fnn.insight.feature_maps(nn.Sequential(*make, nn.ReLU()), PIXELS[0].astype(np.int64)).maps
        np.testing.assert_allclose(maps[0], PIXELS[0] / 255, atol=1e-6)


def test_booleans_are_0_and_1() -> None:
    x = PIXELS > 127
    model = a_model(nn.Normalize(MEAN, STD))
    for way in WAYS.values():
        np.testing.assert_allclose(way(model, x), logits(model, (x - MEAN) / STD), atol=1e-5)


def test_augment_takes_bytes_and_floats() -> None:
    with pytest.raises(DTypeError, match="expected uint8 or floating images to augment, got int64"):
        fnn.data.Augment(rotate=10)(PIXELS.astype(np.int64), np.random.default_rng(0))


# ---- masks, and what is no array of numbers ------------------------------------------------------------------------


def masked(x: Any) -> Any:
    """With its first entry masked."""
    result = np.ma.array(x)
    result[(0,) * result.ndim] = np.ma.masked
    return result


X, MODEL = RNG.normal(size=(12, 16)).astype(np.float32), nn.Linear(16, 3)
PLACES: dict[str, Callable[[Any, Any], Any]] = {
    "Tensor": lambda x, y: fnn.Tensor(x),
    "a list": lambda x, y: fnn.Tensor([x[0], x[1]]),
    "nested lists": lambda x, y: fnn.Tensor([[list(x[0]), list(x[1])]]),
    "a model": lambda x, y: MODEL(x),
    "arithmetic": lambda x, y: fnn.Tensor(X) + x,
    "a target": lambda x, y: nn.MSELoss()(fnn.Tensor(X), x),
    "labels": lambda x, y: nn.CrossEntropyLoss()(MODEL(X), y),
    "fit": lambda x, y: fnn.fit(MODEL, (x, LABELS), verbose=False),
    "fit's labels": lambda x, y: fnn.fit(MODEL, (X, y), verbose=False),
    "evaluate": lambda x, y: fnn.evaluate(MODEL, (X, y)),
    "Dataset": lambda x, y: fnn.data.Dataset(x, LABELS),
    "Batches": lambda x, y: fnn.data.Batches(x, LABELS),
    "Batches' labels": lambda x, y: fnn.data.Batches(X, y),
    "load": lambda x, y: fnn.data.load((x, LABELS)),
    "split": lambda x, y: fnn.data.stratified_split(y, 0.5),
    "predict": lambda x, y: fnn.compile(MODEL)(x),
    "step": lambda x, y: fnn.compile(MODEL, nn.CrossEntropyLoss())(X, y),
    "run_epoch": lambda x, y: fnn.compile(MODEL, nn.CrossEntropyLoss()).run_epoch(x, LABELS, progress=False),
    "load_state_dict": lambda x, y: nn.Linear(16, 12).load_state_dict({"weight": x, "bias": np.zeros(12)}),
    "save": lambda x, y: fnn.weights.save({"x": x}, "never.safetensors"),
    "gradcheck": lambda x, y: fnn.gradcheck(lambda v: v.sum(), x),
    "numeric_gradient": lambda x, y: fnn.numeric_gradient(lambda v: v.sum(), x),
    "register_buffer": lambda x, y: nn.Linear(1, 1).register_buffer("kept", x),
    "Normalize": lambda x, y: nn.Normalize(x[0], np.ones(16)),
    "signal_report": lambda x, y: fnn.signal_report(MODEL, x, LABELS),
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_a_mask_is_never_dropped(place: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FastnnError, match="expected an array without masked entries, got 1 masked of") as caught:
        PLACES[place](masked(X), masked(LABELS))
    assert isinstance(caught.value, DTypeError)


def test_a_mask_that_masks_nothing_is_no_harm() -> None:
    np.testing.assert_array_equal(fnn.Tensor(np.ma.array(X)).data, X)


class Frame:
    """As a table of pandas shows itself to NumPy."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        if isinstance(self.values, Exception):
            raise self.values
        return np.asarray(self.values, dtype)


STRANGE = {
    "missing values": Frame([[1.0, None], [2.0, 3.0]]),
    "no conversion": Frame(TypeError("float() argument must not be NAType")),
    "a record": np.zeros(2, [("a", "f4"), ("b", "i4")]),
    "dates": np.array(["2026-01-01", "2026-01-02"], "M8[D]"),
    "None": [1.0, None],
}


@pytest.mark.parametrize("kind", STRANGE)
@pytest.mark.parametrize("place", ["Tensor", "Dataset", "predict", "a target"])
def test_what_is_no_array_of_numbers_is_one_error(kind: str, place: str) -> None:
    with pytest.raises((DTypeError, fnn.errors.ShapeError, fnn.errors.DataError)):
        PLACES[place](STRANGE[kind], LABELS)


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_a_table_and_a_matrix_are_arrays() -> None:
    np.testing.assert_array_equal(fnn.Tensor(Frame(X)).data, X)
    np.testing.assert_allclose(fnn.compile(MODEL)(np.matrix(X)), MODEL(X).data, atol=1e-6)
