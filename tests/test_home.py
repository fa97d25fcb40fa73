"""A model's home: predict, whole models in one file, and runs; what is expected is worked out by hand or by NumPy."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn, weights
from fastnn.errors import ArgumentError, DataError, NonFiniteError, ShapeError


class Net(nn.Module):
    """A class of one's own, with a shared layer, a tied weight, a function and a frozen part."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width, self.act, self.sizes = width, nn.functional.gelu, [1, (2, None)]
        self.first = nn.Linear(width, width)
        self.second = nn.Linear(width, width)
        self.second.weight = self.first.weight
        self.layers = nn.ModuleList([self.first, nn.BatchNorm1d(width)])
        self.register_buffer("scale", np.float32([2.0]), persistent=False)
        self.layers[1].freeze()

    def forward(self, x: Any) -> Any:
        return self.layers[1](self.act(self.second(self.layers[0](x)))) * self.scale


def saved(model: Any, path: Path, **options: Any) -> Any:
    fnn.save(model, path)
    return fnn.load(path, **options)


def samples(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "Bilinear": (2, 3, 4), "TransformerEncoder": (nn.TransformerEncoderLayer(8, 2), 2), "GroupNorm": (2, 4),
    "TransformerDecoder": (nn.TransformerDecoderLayer(8, 2), 2), "TransformerDecoderLayer": (8, 2),
    "Transformer": (8, 2, 1, 1, 16), "MultiheadAttention": (8, 2), "TransformerEncoderLayer": (8, 2),
    "Sequential": (nn.Linear(2, 3), nn.ReLU()), "DataParallel": (nn.Linear(2, 3),),
    "ModuleList": ([nn.Linear(2, 2)],), "ModuleDict": ({"a": nn.Linear(2, 2)},), "ParameterList": ([[1.0]],),
    "ParameterDict": ({"a": [1.0]},), "Unflatten": (1, (2, 2)),
}  # fmt: skip


def of_class(cls: Any) -> Any:
    """A module of that class, with the arguments that suit it."""
    if cls.__name__ in ARGUMENTS:
        return cls(*ARGUMENTS[cls.__name__])
    for arguments in ((), (2,), (2, 3), (2, 3, 3), (0.5, 0.5)):
        try:
            return cls(*arguments)
        except (TypeError, fnn.FastnnError):
            continue
    raise AssertionError(f"no arguments for {cls.__name__}")


def test_every_layer_comes_back(tmp_path: Path) -> None:
    """Its class, options, arrays and modes."""
    classes = {v for v in (getattr(nn, n) for n in dir(nn)) if inspect.isclass(v) and issubclass(v, nn.Module)}
    assert len(classes) > 80
    layers = nn.ModuleDict({cls.__name__: of_class(cls) for cls in classes if cls is not nn.Module}).eval()
    found = saved(layers, tmp_path / "all.fnn")
    assert repr(found) == repr(layers)
    for (name, mine), (other, theirs) in zip(layers.named_modules(), found.named_modules(), strict=True):
        assert (name, type(mine), list(vars(mine))) == (other, type(theirs), list(vars(theirs)))
        for key, value in vars(mine).items():
            if isinstance(value, (int, float, str, tuple, type(None))):
                assert vars(theirs)[key] == value or value != value, (name, key)
    before, after = layers.state_dict(), found.state_dict()
    assert list(before) == list(after)
    for name, array in before.items():
        np.testing.assert_array_equal(after[name], array)
        assert after[name].dtype == array.dtype


def test_a_model_that_came_back_computes_and_learns_the_same(tmp_path: Path) -> None:
    model = nn.Sequential(
        nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(24, 3)
    )
    x, y = samples(24, 2, 8), np.arange(24) % 3
    fnn.fit(model, (x, y), epochs=1, seed=0, verbose=False)
    found = saved({"model": model, "epoch": 1}, tmp_path / "m.fnn")["model"]
    np.testing.assert_array_equal(found.predict_proba(x), model.predict_proba(x))
    histories = [fnn.fit(each, (x, y), epochs=2, seed=3, verbose=False)["train_loss"] for each in (model, found)]
    assert histories[0] == histories[1]
    arrays = weights.load(tmp_path / "m.fnn")
    assert {f"model.{name}" for name in model.state_dict()} == set(arrays)


def test_a_class_of_ones_own_is_asked_for_by_name(tmp_path: Path) -> None:
    model, x = Net(3), samples(5, 3)
    path = tmp_path / "m.fnn"
    with pytest.raises(
        ArgumentError, match=r'of the class Net, which is not fastnn.s: name it: fnn\.load\(".*", classes=\[Net\]\)'
    ):
        saved(model, path)
    with pytest.raises(ArgumentError, match="expected classes of modules"):
        fnn.load(path, classes=[model])
    found = fnn.load(path, classes=Net)
    np.testing.assert_array_equal(found(x).data, model(x).data)
    assert (type(found), found.width, found.sizes, found.training) == (Net, 3, [1, (2, None)], True)
    assert found.first.weight is found.second.weight
    assert found.layers[0] is found.first
    assert found.layers[1].frozen
    assert [n for n, _ in found.named_parameters()] == [n for n, _ in model.named_parameters()]
    assert "scale" not in found.state_dict()
    model.rule = lambda: 0
    with pytest.raises(ArgumentError, match="got function at rule"):
        fnn.save(model, path)
    model.rule = model
    with pytest.raises(ArgumentError, match="got Net within itself"):
        fnn.save(model, path)


def test_files_that_lie_about_layers_are_refused(tmp_path: Path) -> None:
    """No module is imported and no class made that is no layer."""
    path = tmp_path / "m.fnn"
    fnn.save(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), path)
    arrays, note = weights.load_with_note(path)
    assert note is not None
    for old, new in {
        '"fastnn.nn.linear", "Linear"': '"fastnn.tensors", "Tensor"',
        '"fastnn.nn.activations", "ReLU"': '"fastnn.__main__", "main"',
        '"0.weight", true': '"none", true',
        '["0", {"module"': '["_hooks", {"module"',
        '["training", true]': '["training", {"again": 0}]',
        '["in_features", 2]': '["in_features", {"function": "__name__"}]',
        '["in_features", 2': '["in_features", {"about": {"dict": [["outputs", "?"]]}}',
        '["out_features", 2': '[["out_features"], 2',
    }.items():
        assert old in note, (old, note)
        weights.save(arrays, path, note=note.replace(old, new, 1))
        with pytest.raises(DataError, match="whose description is wrong"):
            fnn.load(path)
    assert json.loads(note)["value"]["module"][:2] == ["fastnn.nn.containers", "Sequential"]


def test_predict_gives_classes_in_eval_mode_and_puts_the_mode_back() -> None:
    """By the argmax of x W^T + b; dropout, which would set half of x to zero, is off."""
    layer = nn.Linear(4, 3)
    model, x = nn.Sequential(nn.Dropout(0.5), layer), samples(21, 4)
    logits = x @ layer.weight.data.T + layer.bias.data
    for compiled in (True, False):
        for size in (1, 4, 100):
            found = fnn.predict(model, x, batch_size=size, compile=compiled)
            np.testing.assert_array_equal(found, logits.argmax(axis=1))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model.predict_proba(x), shares, rtol=1e-4)
    assert model.training
    assert model[0].training
    assert model.eval().predict(x.tolist()).tolist() == logits.argmax(axis=1).tolist()
    assert not model.training


def trained(targets: Any, outputs: int, loss: Any = None, classes: Any = ()) -> tuple[Any, np.ndarray]:
    model, x = nn.Linear(2, outputs), samples(8, 2)
    data = fnn.data.Dataset(x, targets, classes)
    fnn.fit(model, data, loss=loss, epochs=1, verbose=False)
    model.weight.data[...] = np.resize([1, 0, 0, 1], (outputs, 2))
    model.bias.data[...] = 0
    return model, x


def test_predict_knows_from_training_what_the_outputs_are(tmp_path: Path) -> None:
    """The weights are those of the identity: outputs are the inputs."""
    labels = np.arange(8) % 2
    model, x = trained(labels, 2, classes=("cat", "dog"))
    model = saved(model, tmp_path / "m.fnn")
    expected = np.where(x[:, 0] >= x[:, 1], "cat", "dog")
    np.testing.assert_array_equal(model.predict(x), expected)
    about = fnn.train.about(model)
    assert about is not None
    assert (about.classes, about.samples, about.shape, about.loss) == (("cat", "dog"), 8, (2,), "CrossEntropyLoss")

    model, x = trained(samples(8, 2), 2, nn.MSELoss())
    np.testing.assert_allclose(model.predict(x), x, rtol=1e-6)
    with pytest.raises(ArgumentError, match="whose outputs are values"):
        model.predict_proba(x)

    model, x = trained((samples(8, 2) > 0).astype(np.float32), 2, nn.BCEWithLogitsLoss())
    np.testing.assert_array_equal(model.predict(x), x > 0)
    np.testing.assert_allclose(model.predict_proba(x), 1 / (1 + np.exp(-x)), rtol=1e-5)


def test_predict_refuses_what_it_cannot_take() -> None:
    model = nn.Linear(4, 2)
    with pytest.raises(ArgumentError, match="not known to be trained on pictures"):
        model.predict("a.png")
    with pytest.raises(ArgumentError, match="at least one sample"):
        model.predict(np.zeros((0, 4), np.float32))
    with pytest.raises(ShapeError, match=r"expected samples \(N, ...\), got an array of shape \(4,\)"):
        model.predict(np.zeros(4, np.float32))


def test_a_model_of_several_outputs_gives_them_all() -> None:
    class Two(nn.Module):
        def forward(self, a: Any, b: Any) -> Any:
            return {"sum": a + b, "difference": a - b}

    a, b = samples(10, 2), samples(10, 2) * 2
    found = Two().predict((a, b), batch_size=4)
    np.testing.assert_array_equal(found["sum"], a + b)
    np.testing.assert_array_equal(found["difference"], a - b)


def test_one_sample_is_made_several_as_the_message_says() -> None:
    pd = pytest.importorskip("pandas")
    df = pd.DataFrame(np.random.default_rng(0).normal(size=(20, 3)), columns=list("abc"))
    model = nn.Linear(3, 2)
    fnn.fit(model, df, np.arange(20) % 2, verbose=False)
    for x, number in ((df.iloc[0], 1), ([0.1, 0.2, 0.3], 1)):
        with pytest.raises(ShapeError, match=r"expected samples \(N, 3\), got one alone: write") as found:
            model.predict(x)
        remedies = [part.split(" for ")[0] for part in str(found.value).split("write ")[1].split(", ")]
        frame, array = (eval(remedy, {"df": df, "x": x, "np": np}) for remedy in remedies)
        assert model.predict(frame).shape == model.predict(array).shape == (number,)


def test_no_class_follows_from_nan() -> None:
    x = np.zeros((5, 1, 2), np.float32)
    x[3] = np.nan
    with pytest.raises(NonFiniteError, match="got NaN for sample 3"):
        nn.Sequential(nn.Flatten(), nn.Linear(2, 3)).predict(x)
    assert np.isnan(nn.Sequential(nn.Flatten(), nn.Linear(2, 1)).predict(x)[3, 0])  # a value, which is seen
