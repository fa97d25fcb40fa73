"""What forward is given: tensors, also where the model was called with arrays, eagerly and in a plan."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn, optim

ROWS = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
LABELS = np.array([0, 1, 0, 1, 1, 0])


class Given(nn.Module):
    """Returns its first argument, and keeps all that it was given."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        self.args, self.kwargs = args, kwargs
        return args[0] if args else 0


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Given()

    def forward(self, x: Any, inside: Any) -> Any:
        return self.inner(x, inside.data)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8, np.int64, bool])
def test_arrays_become_tensors_of_their_type_without_a_copy(dtype: Any) -> None:
    array, model = np.ones((2, 3), dtype), Given()
    model(array, array, key=array)
    for given in (*model.args, *model.kwargs.values()):
        assert type(given) is fnn.Tensor
        assert given.dtype == dtype
        assert given.numpy() is array


def test_what_is_no_array_of_numbers_stays_as_it_is() -> None:
    model, tensor = Given(), fnn.Tensor(ROWS)
    others = (tensor, 3, 2.5, None, "text", (3, 3), [1, 2], {"a": 1}, np.float32(1), np.array(["a"]), np.array([1j]))
    model(*others, key=[1.0])
    assert all(given is other for given, other in zip(model.args, others, strict=True))
    assert model.kwargs == {"key": [1.0]}
    for first in ([], ["a"], [tensor], [[tensor]], (1.0, 2.0)):
        model(first)
        assert model.args[0] is first


def test_a_list_of_numbers_as_the_first_argument_is_data() -> None:
    model = Given()
    for data in ([1.0, 2.0], [[1, 2], [3, 4]], [np.float32(1)], [True]):
        model(data)
        assert type(model.args[0]) is fnn.Tensor
        assert model.args[0].tolist() == data


def test_only_the_outermost_call_looks_at_its_arguments() -> None:
    model = Outer()
    model(ROWS, ROWS)
    assert [type(given) for given in model.inner.args] == [fnn.Tensor, type(nn.Parameter(ROWS).data)]


class Standardized(nn.Module):
    """x / x.std(): NumPy's is the biased one, a tensor's the unbiased."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 2)

    def forward(self, x: Any) -> Any:
        return self.linear(x / x.std())


def spread_loss(outputs: Any, y: Any) -> Any:
    return ((outputs[:, 0] - y) ** 2).mean() / (1 + y.std())


class SpreadLoss(nn.Module):
    def forward(self, outputs: Any, y: Any) -> Any:
        return spread_loss(outputs, y)


def test_a_model_computes_the_same_for_arrays_and_tensors() -> None:
    fnn.manual_seed(0)
    model = Standardized().eval()
    expected = (ROWS / ROWS.std(ddof=1)) @ model.linear.weight.data.T + model.linear.bias.data
    for given in (ROWS, ROWS.astype(np.float64), ROWS.tolist(), fnn.Tensor(ROWS)):
        np.testing.assert_allclose(model(given).data, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(fnn.compile(model)(ROWS), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(), spread_loss, SpreadLoss()], ids=["own", "function", "module"])
def test_fit_and_evaluate_compute_the_same_without_a_plan(loss: Any) -> None:
    found = []
    y = LABELS if isinstance(loss, nn.CrossEntropyLoss) else LABELS.astype(np.float32)
    for compile in (True, False):
        fnn.manual_seed(0)
        model = Standardized()
        history = fnn.fit(
            model, (ROWS, y), (ROWS, y), loss=loss, optimizer=optim.SGD(model.parameters(), lr=0.1), epochs=3,
            batch_size=3, seed=0, verbose=False, compile=compile,
        )  # fmt: skip
        found.append([*history["train_loss"], *history["val_loss"], fnn.evaluate(model, (ROWS, y), loss=loss).loss])
    np.testing.assert_allclose(*found, rtol=1e-5)


def test_losses_as_modules_are_given_tensors() -> None:
    loss = SpreadLoss()
    y = LABELS.astype(np.float32)
    expected = ((ROWS[:, 0] - y) ** 2).mean() / (1 + y.std(ddof=1))
    assert loss(fnn.Tensor(ROWS), y).item() == pytest.approx(expected, rel=1e-5)
    assert loss(ROWS, y).item() == pytest.approx(expected, rel=1e-5)


def test_bytes_stay_bytes_until_normalize() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 1, 4, 4)).astype(np.uint8)
    model = nn.Sequential(nn.Normalize(0.5, 0.25), nn.Flatten())
    expected = ((images / 255 - 0.5) / 0.25).reshape(3, -1)
    np.testing.assert_allclose(model(images).data, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(fnn.compile(model)(images), expected, rtol=1e-5, atol=1e-5)
