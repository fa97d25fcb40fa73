"""Parametrized modules beside PyTorch's: the same names, losses and weights, eagerly and in compiled steps."""

from __future__ import annotations

import copy
from importlib import import_module
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn, optim
from fastnn.nn.utils import parametrizations, parametrize

torch = pytest.importorskip("torch")

NORMS = ["parametrizations.weight_norm", "parametrizations.spectral_norm", "weight_norm", "spectral_norm"]
STEPS = 5


def network(package: Any, norm: str) -> Any:
    nn = package.nn
    path, _, name = f"{package.__name__}.nn.utils.{norm}".rpartition(".")
    normed = getattr(import_module(path), name)
    return nn.Sequential(
        normed(nn.Conv2d(1, 4, 3)),
        nn.Tanh(),
        normed(nn.ConvTranspose2d(4, 3, 3)),
        nn.Flatten(),
        normed(nn.Linear(3 * 8 * 8, 6)),
        normed(nn.Linear(6, 5), **({"dim": None} if "weight" in norm else {"n_power_iterations": 3})),
    )


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("norm", NORMS)
def test_they_train_as_in_pytorch(norm: str, rng: np.random.Generator) -> None:
    theirs, mine = network(torch, norm), network(fnn, norm)
    state = {name: value.numpy().copy() for name, value in theirs.state_dict().items()}
    assert list(mine.state_dict()) == list(state)
    assert [name for name, _ in mine.named_parameters()] == [name for name, _ in theirs.named_parameters()]
    mine.load_state_dict(state)
    compiled = copy.deepcopy(mine)
    x, y = rng.standard_normal((6, 1, 8, 8)).astype(np.float32), rng.integers(0, 5, 6)

    optimizer, expected = torch.optim.SGD(theirs.parameters(), lr=0.1), []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(theirs(torch.tensor(x)), torch.tensor(y))
        loss.backward()
        optimizer.step()
        expected.append(loss.item())
    found, own = [], optim.SGD(mine.parameters(), lr=0.1)
    for _ in range(STEPS):
        own.zero_grad()
        loss = nn.functional.cross_entropy(mine(fnn.tensor(x)), fnn.tensor(y))
        loss.backward()
        own.step()
        found.append(loss.item())
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    for name, value in theirs.state_dict().items():
        np.testing.assert_allclose(mine.state_dict()[name], value.numpy(), rtol=1e-3, atol=1e-4, err_msg=name)
    outputs = theirs.eval()(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(mine.eval()(x).detach().numpy(), outputs, rtol=1e-3, atol=1e-4)

    if "weight" in norm:  # a power iteration writes into buffers, which plans do not
        step = fnn.compile(compiled, nn.CrossEntropyLoss(), optim.SGD(compiled.parameters(), lr=0.1))
        np.testing.assert_allclose([step(x, y) for _ in range(STEPS)], expected, rtol=1e-4)


def test_fit_trains_what_is_spectrally_normed() -> None:
    model = nn.Sequential(nn.Normalize(0.3, 0.4), nn.Flatten(), parametrizations.spectral_norm(nn.Linear(784, 10)))
    history = fnn.fit(
        model,
        "digits",
        optimizer=optim.SGD(model.parameters(), lr=0.01),
        epochs=2,
        verbose=False,
        seed=0,
        compile=False,
    )
    assert history[-1].train_loss < history[0].train_loss
    sigma = np.linalg.norm(model.eval()[-1].weight.detach().numpy(), 2)
    assert sigma == pytest.approx(1, abs=0.2)  # an estimate, and that of a Linear is 0.65


class Symmetric(nn.Module):
    def forward(self, x: Any) -> Any:
        return x.triu() + x.triu(1).T


class Doubled(nn.Module):
    def forward(self, x: Any) -> Any:
        return 2 * x

    def right_inverse(self, x: Any) -> Any:
        return x / 2


def test_several_of_them_follow_one_another_and_go_again() -> None:
    layer = nn.Linear(3, 3)
    before = np.array(layer.weight.data)
    parametrize.register_parametrization(layer, "weight", Doubled())
    np.testing.assert_array_equal(layer.weight.detach().numpy(), before)
    assert isinstance(layer, nn.Linear)
    assert type(layer).__name__ == "ParametrizedLinear"
    parametrize.register_parametrization(layer, "weight", Symmetric())
    parametrize.register_parametrization(layer, "bias", Doubled())
    upper = np.triu(before)
    np.testing.assert_array_equal(layer.weight.detach().numpy(), upper + np.triu(before, 1).T)
    assert parametrize.is_parametrized(layer, "bias")
    layer.weight.sum().backward()
    gradient = layer.parametrizations.weight.original.grad
    np.testing.assert_array_equal(gradient, 2 * (np.triu(np.ones((3, 3))) + np.triu(np.ones((3, 3)), 1)))
    parametrize.remove_parametrizations(layer, "bias")
    parametrize.remove_parametrizations(layer, "weight")
    assert type(layer) is nn.Linear
    assert sorted(layer.state_dict()) == ["bias", "weight"]
    assert isinstance(layer.weight, nn.Parameter)
    np.testing.assert_array_equal(layer.weight.data, upper + np.triu(before, 1).T)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", ["weight_norm", "spectral_norm"])
def test_the_older_functions_are_undone(name: str) -> None:
    layer = getattr(nn.utils, name)(nn.Linear(3, 2))
    value = layer.eval().weight.detach().numpy().copy()
    undone = getattr(nn.utils, f"remove_{name}")(layer)
    assert type(undone) is nn.Linear
    assert sorted(undone.state_dict()) == ["bias", "weight"]
    np.testing.assert_allclose(undone.weight.data, value, rtol=1e-6)
    with pytest.raises(fnn.errors.ArgumentError, match="was not made by"):
        getattr(nn.utils, f"remove_{name}")(layer)


def test_within_cached_it_is_computed_once() -> None:
    layer = parametrizations.weight_norm(nn.Linear(3, 2))
    with parametrize.cached():
        assert layer.weight is layer.weight
    assert layer.weight is not layer.weight


def test_mistakes_are_said() -> None:
    layer = nn.Linear(3, 2)
    with pytest.raises(fnn.errors.ShapeError, match=r"keep the shape \(2, 3\) of weight, got \(3, 3\)"):
        parametrize.register_parametrization(layer, "weight", Square())
    assert type(layer) is nn.Linear
    layer = nn.Linear(3, 2)
    with pytest.raises(fnn.errors.ArgumentError, match="got 'weights'; it has weight, bias"):
        parametrizations.weight_norm(layer, "weights")
    with pytest.raises(fnn.errors.ArgumentError, match="got 'weights'; it has weight, bias"):
        parametrizations.spectral_norm(layer, "weights")
    with pytest.raises(fnn.errors.ArgumentError, match="expected a Module, got function"):
        parametrize.register_parametrization(layer, "weight", test_mistakes_are_said)  # type: ignore[arg-type]
    nn.utils.weight_norm(layer)
    with pytest.raises(fnn.errors.ArgumentError, match=r"ParametrizedLinear.weight is computed from other parameters"):
        layer.weight = nn.Parameter(np.zeros((2, 3)))
    layer = nn.Linear(2, 2)
    parametrize.register_parametrization(layer, "weight", Square())
    with pytest.raises(fnn.errors.ArgumentError, match="Square has no right_inverse"):
        layer.weight = fnn.zeros(2, 2)


@pytest.mark.parametrize("norm", ["weight_norm", "spectral_norm"])
def test_what_is_assigned_goes_to_the_originals_as_in_pytorch(norm: str) -> None:
    weight = np.arange(1.0, 7.0).reshape(2, 3)
    found = []
    for package in (fnn, torch):
        layer = getattr(package.nn.utils.parametrizations, norm)(package.nn.Linear(3, 2).double()).eval()
        layer.weight = package.tensor(weight)
        found.append([np.asarray(p.detach()) for name, p in layer.named_parameters() if "original" in name])
    for mine, other in zip(*found, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-12)


class Square(nn.Module):
    def forward(self, x: Any) -> Any:
        return x.T @ x


def test_what_is_refused_changes_nothing() -> None:
    layer = parametrizations.weight_norm(nn.Linear(3, 2))
    before, names = layer.weight.detach().numpy().copy(), list(layer.state_dict())
    with pytest.raises(fnn.errors.ShapeError, match=r"keep the shape \(2, 3\)"):
        parametrize.register_parametrization(layer, "weight", Square())
    np.testing.assert_array_equal(layer.weight.detach().numpy(), before)
    assert list(layer.state_dict()) == names
    plain = nn.Linear(3, 2)
    with pytest.raises(fnn.errors.ArgumentError, match="n_power_iterations"):
        nn.utils.spectral_norm(plain, n_power_iterations=0)
    assert sorted(plain.state_dict()) == ["bias", "weight"]


def test_a_spectral_norm_follows_on_a_weight_norm() -> None:
    layer = parametrizations.spectral_norm(parametrizations.weight_norm(nn.Linear(3, 2)), n_power_iterations=50)
    assert np.linalg.norm(layer.weight.detach().numpy(), 2) == pytest.approx(1, rel=1e-4)
