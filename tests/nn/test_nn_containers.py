"""Containers as lists and dicts of modules and of parameters."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn
from fastnn.errors import ArgumentError


def names(module: nn.Module) -> list[str]:
    return [name for name, _ in module.named_parameters()]


def kinds(module: nn.Module) -> list[str]:
    return [type(child).__name__ for child in module]


def test_sequential() -> None:
    model = nn.Sequential(OrderedDict([("first", nn.Linear(3, 2)), ("act", nn.ReLU())]))
    assert names(model) == ["first.weight", "first.bias"]
    assert names(model[:1]) == ["first.weight", "first.bias"]
    assert isinstance(model[-1], nn.ReLU)
    plain = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    plain.append(nn.Tanh()).extend([nn.Linear(2, 1)]).insert(1, nn.Sigmoid())
    assert kinds(plain) == ["Linear", "Sigmoid", "ReLU", "Tanh", "Linear"]
    assert names(plain) == ["0.weight", "0.bias", "4.weight", "4.bias"]
    assert isinstance(plain.pop(1), nn.Sigmoid)
    plain += nn.Sequential(nn.Sigmoid())
    assert kinds(plain + nn.Sequential(nn.ReLU()))[-2:] == ["Sigmoid", "ReLU"]
    del plain[-2:]
    assert kinds(plain) == ["Linear", "ReLU", "Tanh"]
    assert plain(np.zeros((1, 3), np.float32)).shape == (1, 2)
    with pytest.raises(ArgumentError, match="insert: expected a place up to 3, got 9"):
        plain.insert(9, nn.ReLU())
    with pytest.raises(ArgumentError, match="another Sequential"):
        plain + nn.ModuleList([nn.ReLU()])


def test_module_list() -> None:
    layers = nn.ModuleList([nn.Linear(2, 2)])
    layers.insert(0, nn.ReLU())
    layers += [nn.Tanh()]
    layers[2] = nn.Sigmoid()
    assert kinds(layers + nn.ModuleList([nn.Mish()])) == ["ReLU", "Linear", "Sigmoid", "Mish"]
    assert kinds(layers[1:]) == ["Linear", "Sigmoid"]
    assert names(layers) == ["1.weight", "1.bias"]
    del layers[0]
    assert names(layers) == ["0.weight", "0.bias"]
    assert isinstance(layers.pop(), nn.Sigmoid)
    assert len(layers) == 1


def test_module_dict() -> None:
    heads = nn.ModuleDict({"a": nn.Linear(2, 1), "b": nn.ReLU()})
    heads["c"] = nn.Linear(2, 3)
    heads.update([("d", nn.Tanh())])
    assert list(heads) == list(heads.keys()) == ["a", "b", "c", "d"]
    assert "b" in heads
    assert "z" not in heads
    assert len(heads) == 4
    assert names(heads) == ["a.weight", "a.bias", "c.weight", "c.bias"]
    assert heads["c"](np.zeros((1, 2), np.float32)).shape == (1, 3)
    assert isinstance(heads.pop("b"), nn.ReLU)
    del heads["a"]
    assert [(key, type(value).__name__) for key, value in heads.items()] == [("c", "Linear"), ("d", "Tanh")]
    assert [type(value).__name__ for value in heads.values()] == ["Linear", "Tanh"]
    with pytest.raises(KeyError):
        heads["a"]
    with pytest.raises(ArgumentError, match="expected a Module as 'x'"):
        heads["x"] = 3
    heads.clear()
    assert len(heads) == 0


def test_parameter_list_and_dict() -> None:
    scales = nn.ParameterList([nn.Parameter([1.0]), fnn.Tensor([2.0, 3.0])])
    scales.append(np.ones((2, 2)))
    assert names(scales) == ["0", "1", "2"]
    assert [p.shape for p in scales] == [(1,), (2,), (2, 2)]
    assert all(isinstance(p, nn.Parameter) for p in scales)
    assert sorted(scales.state_dict()) == ["0", "1", "2"]
    assert scales[-1].shape == (2, 2)
    assert len(scales[:2]) == 2
    assert list(nn.ParameterDict({"b": [1.0], "a": [2.0]})) == ["a", "b"]  # as PyTorch sorts a plain dict
    assert list(nn.ParameterDict([("b", [1.0]), ("a", [2.0])])) == ["b", "a"]
    table = nn.ParameterDict({"w": nn.Parameter([1.0])})
    table["v"] = np.zeros(3)
    assert names(table) == ["w", "v"]
    assert table.get("x") is None
    (table["w"] * 2).sum().backward()
    assert table["w"].grad.tolist() == [2]


def test_a_model_of_dicts_compiles() -> None:
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.heads = nn.ModuleDict({"a": nn.Linear(3, 2), "b": nn.Linear(3, 2)})
            self.scales = nn.ParameterList([nn.Parameter([2.0]), nn.Parameter([0.5])])

        def forward(self, x: fnn.Tensor) -> fnn.Tensor:
            return sum(head(x) * scale for head, scale in zip(self.heads.values(), self.scales, strict=True))

    model, x = Heads(), np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    np.testing.assert_allclose(fnn.compile(model)(x), model(x).numpy(), rtol=1e-5)
