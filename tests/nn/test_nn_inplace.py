"""PyTorch's ``inplace=True``: whoever else uses the input sees the result, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastnn as fnn

LAYERS: dict[str, Callable[[Any], Any]] = {
    **{
        name: lambda nn, name=name: getattr(nn, name)(inplace=True)
        for name in ("ReLU", "LeakyReLU", "ELU", "SiLU", "SELU", "CELU", "Mish", "Hardswish", "ReLU6", "Hardtanh")
    },
    "Threshold": lambda nn: nn.Threshold(0.1, 0.2, True),
}


def residual(lib: Any, name: str) -> Any:
    """A block that begins with the layer, and what it is given on top, as VQ-VAE's are written."""

    class Residual(lib.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.conv = lib.nn.Conv2d(2, 3, 3)
            self.block = lib.nn.Sequential(LAYERS[name](lib.nn), lib.nn.Conv2d(3, 3, 1))

        def forward(self, x: Any) -> Any:
            x = self.conv(x)
            return x + self.block(x)

    return Residual()


@pytest.mark.parametrize("name", LAYERS)
def test_a_residual_block_that_overwrites_what_it_adds_to(name: str) -> None:
    torch = pytest.importorskip("torch")
    theirs, own = residual(torch, name).double(), residual(fnn, name).double()
    own.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    x = np.random.default_rng(0).standard_normal((4, 2, 6, 6))
    wanted, found = theirs(torch.from_numpy(x)), own(fnn.tensor(x))
    np.testing.assert_allclose(found.data, wanted.detach().numpy(), rtol=1e-10, atol=1e-12)
    (wanted**2).sum().backward()
    (found**2).sum().backward()
    for p, other in zip(own.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(p.grad, other.grad.numpy(), rtol=1e-8, atol=1e-10)
    with fnn.no_grad():
        np.testing.assert_allclose(own(x).data, wanted.detach().numpy(), rtol=1e-10, atol=1e-12)
    own = own.float()
    np.testing.assert_allclose(fnn.compile(own)(x.astype(np.float32)), own(x.astype(np.float32)).data, atol=1e-5)


def test_the_tensor_goes_on_and_the_array_that_it_was_made_of_does_not() -> None:
    array = np.array([-1.0, 2.0], np.float32)
    x = fnn.Tensor(array)
    assert fnn.nn.ReLU(True)(x) is x
    assert x.tolist() == [0.0, 2.0]
    assert array.tolist() == [-1.0, 2.0]
    fnn.nn.ReLU(True)(array)
    assert array.tolist() == [-1.0, 2.0]


def test_views_of_what_is_overwritten_on_the_tape_see_it() -> None:
    x = fnn.Tensor([-1.0, 2.0], requires_grad=True)
    y = x * 1
    view = y.view(2, 1)
    fnn.nn.functional.relu(y, inplace=True)
    assert view.tolist() == [[0.0], [2.0]]
    y.sum().backward()
    assert x.grad.tolist() == [0.0, 1.0]


def test_dropout_in_place_drops_for_all_in_training_alone() -> None:
    x = fnn.ones(1000)
    y = fnn.nn.Dropout(0.5, inplace=True).eval()(x)
    assert y.sum().item() == 1000
    fnn.nn.Dropout(0.5, inplace=True)(x)
    assert sorted(set(x.tolist())) == [0.0, 2.0]
    assert repr(fnn.nn.ReLU(inplace=True)) == "ReLU(inplace=True)"


@pytest.mark.parametrize("name", ["relu", "exp", "sigmoid", "tanh"])
def test_what_an_operator_keeps_survives_the_next_write(name: str) -> None:
    x, twin = (fnn.tensor([-1.0, 2.0], requires_grad=True) for _ in range(2))
    y = x * 1
    getattr(y, name + "_")()
    y.add_(1)
    y.sum().backward()
    (getattr(twin, name)() + 1).sum().backward()
    assert x.grad.tolist() == twin.grad.tolist()
