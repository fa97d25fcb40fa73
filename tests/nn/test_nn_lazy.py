"""Lazy layers: what they are before the first forward, how they learn their sizes, and what they are from then on."""

from __future__ import annotations

import copy
import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn, optim
from fastnn.errors import ArgumentError, ShapeError, StateError

RNG = np.random.default_rng(5)
X, Y = RNG.normal(size=(6, 2, 4, 4)).astype(np.float32), np.arange(6) % 3
SEQUENCES = X[:, :, 0]

# Name, arguments, input.
LAYERS: list[tuple[str, tuple[Any, ...], dict[str, Any], Any]] = [
    ("LazyLinear", (3,), {"bias": False}, X),
    ("LazyConv1d", (4, 3), {"groups": 2, "padding": 1}, SEQUENCES),
    ("LazyConv2d", (4, (3, 2), 2), {}, X),
    ("LazyConvTranspose1d", (4, 3, 2), {}, SEQUENCES),
    ("LazyConvTranspose2d", (6, 3), {"groups": 2}, X),
    ("LazyBatchNorm1d", (), {}, SEQUENCES),
    ("LazyBatchNorm2d", (1e-3,), {"affine": False}, X),
    ("LazyInstanceNorm1d", (1e-3,), {}, SEQUENCES),
    ("LazyInstanceNorm1d", (), {"affine": False}, SEQUENCES),
    ("LazyInstanceNorm2d", (1e-3, 0.3, True, False), {}, X),
]


def network() -> nn.Sequential:
    return nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))


@pytest.mark.parametrize(
    ("name", "args", "options", "x"), LAYERS, ids=[f"{i} {each[0]}" for i, each in enumerate(LAYERS)]
)
def test_layers_are_pytorchs(name: str, args: tuple[Any, ...], options: dict[str, Any], x: Any) -> None:
    torch = pytest.importorskip("torch")
    mine, theirs = (getattr(library, name)(*args, **options) for library in (nn, torch.nn))
    assert list(mine.state_dict()) == list(theirs.state_dict())
    assert (
        list(inspect.signature(type(mine)).parameters)[: len(args)]
        == list(inspect.signature(type(theirs)).parameters)[: len(args)]
    )
    y = theirs(torch.tensor(x)).detach().numpy()
    mine.load_state_dict(theirs.state_dict())
    np.testing.assert_allclose(mine(x).numpy(), y, atol=2e-5)
    assert type(mine).__name__ == type(theirs).__name__ == name.removeprefix("Lazy")
    assert "Norm" in name or repr(mine) == repr(theirs)
    for key, value in mine.state_dict().items():
        assert value.shape == theirs.state_dict()[key].shape


def test_weights_are_those_of_the_layer_without_lazy() -> None:
    fnn.manual_seed(3)
    expected = nn.Linear(4, 3)
    fnn.manual_seed(3)
    layer = nn.LazyLinear(3)
    layer(X)
    np.testing.assert_array_equal(layer.weight.data, expected.weight.data)
    np.testing.assert_array_equal(layer.bias.data, expected.bias.data)
    assert layer.in_features == 4
    assert isinstance(layer.weight, nn.Parameter)


@pytest.mark.parametrize("dtype", [object, "U3", np.complex64, "m8[s]", "no type"])
def test_materialize_takes_numbers(dtype: Any) -> None:
    with pytest.raises(fnn.errors.DTypeError, match="materialize"):
        nn.LazyLinear(3).weight.materialize((3, 4), dtype=dtype)


def test_an_optimizer_made_before_the_first_forward_steps() -> None:
    """As in PyTorch: the parameters stay the same objects."""
    model = network()
    weight = model[4].weight
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(X), Y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    assert model[4].weight is weight


def test_compiled_steps_predictors_and_fit_make_the_parameters() -> None:
    model = network()
    before = nn.LazyBatchNorm2d().eval()
    step = fnn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
    losses = [step(X, Y) for _ in range(4)]
    assert losses[-1] < losses[0]
    assert type(model[0]) is nn.Conv2d
    assert model[1].num_batches_tracked == 4  # the forward that made the parameters does not count
    predict = fnn.compile(network().eval())
    assert predict(X).shape == (6, 3)
    assert before(X).shape == X.shape
    for compiled in (True, False):
        fitted = network()
        fnn.fit(fitted, X, Y, epochs=1, batch_size=3, verbose=False, compile=compiled)
        assert fitted[4].weight.shape == (3, 16)


def test_state_dicts_make_the_parameters() -> None:
    trained, fresh = network(), network()
    trained(X)
    fresh.load_state_dict(trained.state_dict())
    assert fresh[1].running_mean.shape == (4,)
    np.testing.assert_array_equal(fresh.eval()(X).data, trained.eval()(X).data)
    assert fresh[4].in_features == 16
    with pytest.raises(StateError, match=r"0\.weight: expected shape \(4, 2, 3, 3\), got \(0,\)"):
        fresh.load_state_dict(network().state_dict())
    unmade = network()
    with pytest.raises(StateError, match=r"missing 4\.bias"):
        unmade.load_state_dict({k: v for k, v in trained.state_dict().items() if k != "4.bias"})
    assert unmade[0].has_uninitialized_params()  # nothing has changed
    unmade.double().load_state_dict(trained.state_dict())
    assert unmade[0].weight.dtype == unmade[1].running_var.dtype == np.float64


def test_a_saved_model_goes_on_where_it_was(tmp_path: Path) -> None:
    fnn.save(network(), tmp_path / "lazy.fnn")
    model = fnn.load(tmp_path / "lazy.fnn")
    assert model[4].has_uninitialized_params()
    assert model(X).shape == (6, 3)
    assert isinstance(model[4].weight, nn.Parameter)


def test_copies_types_and_reprs_before_the_first_forward() -> None:
    model = copy.deepcopy(network().double())
    assert repr(model[4]) == "LazyLinear(in_features=0, out_features=3, bias=True)"
    assert "<UninitializedParameter>" in repr(list(model.parameters()))
    assert "LazyLinear" in model._repr_html_()
    assert model(X).dtype == np.float64
    assert {value.dtype for value in model.parameters()} == {np.dtype(np.float64)}
    assert model[1].running_mean.dtype == np.float64


def test_what_is_asked_too_early_or_is_wrong() -> None:
    layer = nn.LazyLinear(3)
    for ask in (lambda: layer.weight.shape, lambda: layer.weight.numel()):
        with pytest.raises(StateError, match="no shape before the first forward"):
            ask()
    with pytest.raises(ShapeError, match=r"expected input with a dimension of in_features, got \(\)"):
        layer(fnn.tensor(1.0))
    with pytest.raises(ArgumentError, match="out_features to be a positive integer"):
        nn.LazyLinear(0)
    with pytest.raises(ArgumentError, match="LazyConv1d: expected in_channels and out_channels divisible by groups=3"):
        nn.LazyConv1d(4, 3, groups=3)
    with pytest.raises(TypeError, match="kernel_size"):
        nn.LazyConv2d(4)
