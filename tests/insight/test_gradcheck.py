"""numeric_gradient and gradcheck: right gradients pass, planted errors are found and named, kinks avoided."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn
from fastnn.errors import ArgumentError
from fastnn.insight.gradients import GradientError


class Cube(fnn.Function):
    """x³; a test plants an error in the gradient by setting `planted`."""

    planted: Any = staticmethod(lambda gradient: gradient)

    @staticmethod
    def forward(ctx: Any, x: np.ndarray) -> np.ndarray:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, grad: np.ndarray) -> Any:
        (x,) = ctx.saved_tensors
        return Cube.planted(grad * 3 * x**2)


def network() -> nn.Sequential:
    fnn.manual_seed(0)
    return nn.Sequential(
        nn.Normalize(0.1, 0.5), nn.Conv2d(2, 4, 3, padding=1, groups=2), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 3, (2, 1)), nn.LeakyReLU(), nn.AvgPool2d((1, 2), 1), nn.Flatten(), nn.Dropout(0.3),
        nn.Linear(12, 5), nn.BatchNorm1d(5), nn.GELU(), nn.Linear(5, 3), nn.LogSoftmax(),
    )  # fmt: skip


# ---- numeric_gradient ------------------------------------------------------------------------------------------------


def test_numeric_gradient_central_and_one_sided() -> None:
    """x³ at 2: central 12 + ε², one-sided 12 + 6ε + ε²."""
    for given in (2.0, [2.0], fnn.Tensor([[2.0]])):
        gradient = fnn.numeric_gradient(lambda x: (x**3).sum(), given, eps=1e-3)
        assert gradient.shape == np.shape(given)
        assert gradient.dtype == np.float64
        assert gradient.item() == pytest.approx(12 + 1e-6, abs=1e-9)
    one_sided = fnn.numeric_gradient(lambda x: (x**3).sum(), 2.0, eps=1e-3, one_sided=True)
    assert one_sided.item() == pytest.approx(12 + 6e-3 + 1e-6, abs=1e-9)


def test_numeric_gradient_takes_tensors_out_and_leaves_its_input_alone() -> None:
    x = np.array([[1.0, 2.0], [3.0, 4.0]])
    gradient = fnn.numeric_gradient(lambda w: (fnn.Tensor(w) ** 2).sum(), x)
    np.testing.assert_allclose(gradient, 2 * x, atol=1e-8)
    assert x.tolist() == [[1, 2], [3, 4]]
    with pytest.raises(ArgumentError, match=r"gives one number, got shape \(2, 2\)"):
        fnn.numeric_gradient(lambda w: w, x)


# ---- gradcheck passes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_network_with_every_kind_of_layer(mode: str, rng: np.random.Generator) -> None:
    """Dropout drops the same in every evaluation; the model is left as it was."""
    model = network().train(mode == "train")
    before = {name: array.copy() for name, array in model.state_dict().items()}
    state = fnn.random.get_state()
    assert fnn.gradcheck(model, rng.normal(size=(4, 2, 6, 7)))
    assert fnn.random.get_state() == state
    for name, array in model.state_dict().items():
        assert array.dtype == before[name].dtype
        np.testing.assert_array_equal(array, before[name])
    assert all(p.grad is None for p in model.parameters())


def test_several_inputs_and_labels(rng: np.random.Generator) -> None:
    """Labels are passed on as they are."""
    loss = nn.CrossEntropyLoss()
    assert fnn.gradcheck(loss, (rng.normal(size=(4, 3)), np.array([0, 2, 1, 1])))
    assert fnn.gradcheck(lambda a, b: a @ b, (rng.normal(size=(2, 3)), fnn.Tensor(rng.normal(size=(3, 2)))))
    assert fnn.gradcheck(nn.Sequential(nn.Normalize(0.3, 0.2), nn.Flatten(), nn.Linear(12, 2)),
                         rng.integers(0, 255, (2, 1, 3, 4), np.uint8))  # fmt: skip


def test_near_a_kink(rng: np.random.Generator) -> None:
    """Entries 1e-7 from 0: steps of 1e-6 would cross over."""
    x = rng.choice([-1e-7, 1e-7, 1.0, -1.0], size=(6, 5))
    assert fnn.gradcheck(nn.ReLU(), x)
    assert fnn.gradcheck(nn.ReLU(), x, per_entry=True)


# ---- gradcheck fails -------------------------------------------------------------------------------------------------


def one_entry(gradient: np.ndarray) -> np.ndarray:
    gradient = gradient.copy()
    gradient[1, 2] *= 1.01
    return gradient


PLANTED = {
    "scaled": lambda gradient: gradient * 1.001,
    "sign": lambda gradient: -gradient,
    "one-entry": one_entry,
    "exchanged": lambda gradient: gradient[::-1],
    "absent": lambda gradient: None,
    "nan": lambda gradient: gradient * np.nan,
}


@pytest.mark.parametrize("per_entry", [False, True])
@pytest.mark.parametrize("name", PLANTED)
def test_planted_errors_are_found(name: str, per_entry: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.arange(1.0, 7.0).reshape(2, 3) / 3
    assert fnn.gradcheck(Cube.apply, x, per_entry=per_entry)
    monkeypatch.setattr(Cube, "planted", staticmethod(PLANTED[name]))
    with pytest.raises(GradientError, match=r"input 0, entry .* finite differences give .*, backward gives") as caught:
        fnn.gradcheck(Cube.apply, x, per_entry=per_entry)
    if name == "one-entry":
        assert "entry (1, 2)" in str(caught.value)
    assert not fnn.gradcheck(Cube.apply, x, per_entry=per_entry, raise_exception=False)


def test_the_wrong_parameter_is_named(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    """An error in one kernel of the float64 backend shows up under the name of the parameter that it belongs to."""
    from fastnn.backends import reference

    right = reference.linear_backward_weight

    def wrong(grad: np.ndarray, x: np.ndarray) -> Any:
        weight, bias = right(grad, x)
        return weight, bias / len(grad)

    monkeypatch.setattr(reference, "linear_backward_weight", wrong)
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.Tanh())
    with pytest.raises(GradientError, match=r"1\.bias, entry \(\d,\): finite differences give"):
        fnn.gradcheck(model, rng.normal(size=(3, 2, 3)))


def test_a_wrong_entry_of_a_large_array_is_found(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of 10,000 entries, off by a hundredth of the gradient's size: too many to look for the entry, but found."""

    def planted(gradient: np.ndarray) -> np.ndarray:
        gradient = gradient.copy()
        gradient[71, 33] += 0.01 * np.linalg.norm(gradient)
        return gradient

    monkeypatch.setattr(Cube, "planted", staticmethod(planted))
    with pytest.raises(GradientError, match=r"input 0: .* along a random direction"):
        fnn.gradcheck(Cube.apply, rng.normal(size=(100, 100)))


def test_a_function_s_own_model_keeps_its_gradients(rng: np.random.Generator) -> None:
    model = nn.Linear(4, 3).double()
    model.weight.grad = rng.normal(size=(3, 4))
    kept = model.weight.grad.copy()
    with fnn.no_grad():  # which the check does not need to know of
        assert fnn.gradcheck(lambda x: (model(x) ** 2).sum(), rng.normal(size=(2, 4)))
    np.testing.assert_array_equal(model.weight.grad, kept)
    assert model.bias.grad is None
    assert fnn.gradcheck(lambda x: x, np.ones(2))  # nothing is computed


def test_at_a_kink() -> None:
    with pytest.raises(ArgumentError, match=r"input 0 \(2, 3\) is at a kink .* try other inputs"):
        fnn.gradcheck(nn.ReLU(), np.zeros((2, 3)))
    with pytest.raises(ArgumentError, match="every entry of input 0 is at a kink"):
        fnn.gradcheck(nn.ReLU(), np.zeros((2, 3)), per_entry=True)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x.numpy(), "gives a Tensor, got ndarray"),
        (lambda x: x.detach(), "depends on a floating input or a parameter"),
    ],
)
def test_functions_that_cannot_be_checked(function: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        fnn.gradcheck(function, np.ones(3))


def test_several_outputs_are_checked_together() -> None:
    """As PyTorch's, without what has no gradient; a wrong one among them is found."""

    def right(x: Any) -> Any:
        return x * x, x.exp(), x.argmax()

    def wrong(x: Any) -> Any:
        return x * x, x.exp() * x.detach()

    x = np.array([0.3, -1.0])
    assert fnn.gradcheck(right, x)
    assert not fnn.gradcheck(wrong, x, raise_exception=False)
    assert fnn.gradgradcheck(right, x)
    assert fnn.gradgradcheck(right, x, [np.ones(2), np.array([0.5, 2.0])])
