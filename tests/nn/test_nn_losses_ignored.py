"""Labels that a loss leaves out: what the model says there counts for nothing, whatever it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn
from fastnn.nn import functional as F

torch = pytest.importorskip("torch")
TARGET = np.array([0, -100, 1, -100, 2, 3])
WEIGHT = np.array([1.0, 2.0, 3.0, 0.5], np.float32)


def logits(strange: float) -> np.ndarray:
    x = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    x[1, 0] = x[3] = strange  # where labels are ignored
    x[0, 3] = -np.inf  # and a class that is masked where one is not
    return x


@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("strange", [-np.inf, np.inf, np.nan])
def test_a_row_that_is_ignored_may_be_anything(strange: float, reduction: str, weight: Any) -> None:
    """The loss is PyTorch's of the other rows alone; PyTorch's own gradient of all rows is NaN where the logits are."""
    kept = TARGET != -100
    x, t = fnn.tensor(logits(strange), requires_grad=True), torch.tensor(logits(strange)[kept], requires_grad=True)
    ours = F.cross_entropy(x, TARGET, weight=weight, reduction=reduction)
    theirs = torch.nn.functional.cross_entropy(
        t, torch.tensor(TARGET[kept]), weight=None if weight is None else torch.tensor(weight), reduction=reduction
    )
    found = ours.detach().numpy()
    if reduction == "none":
        assert (found[~kept] == 0).all()
        found = found[kept]
    np.testing.assert_allclose(found, theirs.detach().numpy(), rtol=1e-6)
    ours.sum().backward()
    theirs.sum().backward()
    np.testing.assert_allclose(x.grad[kept], t.grad.numpy(), rtol=1e-5, atol=1e-7)
    assert (x.grad[~kept] == 0).all()


def test_in_compiled_steps_and_negative_log_likelihood_too() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(np.ones((), np.float32))

        def forward(self, x: Any) -> Any:
            return x * self.scale

    model, x = Masked(), logits(-np.inf)
    t, scale = torch.tensor(x), torch.ones((), requires_grad=True)
    expected = torch.nn.functional.cross_entropy((t * scale), torch.tensor(TARGET))
    assert fnn.compile(model, nn.CrossEntropyLoss())(x, TARGET) == pytest.approx(expected.item(), rel=1e-6)
    assert F.nll_loss(F.log_softmax(x, 1), TARGET).item() == pytest.approx(expected.item(), rel=1e-6)


def test_where_all_labels_are_ignored_the_mean_is_nan_and_no_parameter_is_lost() -> None:
    """PyTorch's loss is NaN there and its gradient 0: a step that follows leaves the weights as they are."""
    for loss in (nn.CrossEntropyLoss(), nn.CrossEntropyLoss(weight=WEIGHT, label_smoothing=0.1)):
        layer = nn.Linear(3, 4)
        before = layer.weight.data.copy()
        value = loss(layer(np.ones((2, 3), np.float32)), np.array([-100, -100]))
        value.backward()
        assert np.isnan(value.item())
        np.testing.assert_array_equal(layer.weight.grad, np.zeros_like(before))


def test_labels_within_the_model_are_ignored_in_plans_as_out_of_them() -> None:
    """Labels as an input of the model, as Hugging Face's take them, and labels that are its constants."""

    class WithLoss(nn.Module):
        def __init__(self, labels: Any = None) -> None:
            super().__init__()
            self.layer, self.labels = nn.Linear(4, 4), labels

        def forward(self, x: Any, labels: Any = None) -> Any:
            return F.cross_entropy(self.layer(x), self.labels if labels is None else labels)

    x = np.random.default_rng(1).standard_normal((6, 4)).astype(np.float32)
    model, fixed = WithLoss(), WithLoss(TARGET)
    for each, inputs in ((model, (x, TARGET)), (fixed, (x,))):
        expected = each(*inputs)
        expected.backward()
        gradient, each.layer.weight.grad = each.layer.weight.grad.copy(), None
        assert float(fnn.compile(each)(*inputs)) == pytest.approx(expected.item(), rel=1e-6)
        step = fnn.compile(each, lambda loss, _: loss)
        value = step(inputs if len(inputs) > 1 else x, np.zeros(1, np.float32))
        assert value == pytest.approx(expected.item(), rel=1e-6)
        np.testing.assert_allclose(each.layer.weight.grad, gradient, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss"])
def test_labels_may_be_left_out_by_the_loss_itself(name: str) -> None:
    """labels.masked_fill(..., -100) in a compiled loss was a LabelError, since the labels that came held none."""

    def loss(outputs: Any, y: Any) -> Any:
        return getattr(F, name)(outputs.log_softmax(1), y.masked_fill(y == 1, -100))

    x, y = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32), np.arange(6) % 3
    model = nn.Linear(4, 3)
    step = fnn.compile(model, loss)
    kept = y != 1
    expected = F.cross_entropy(model(x)[kept.nonzero()[0]], fnn.tensor(y[kept]))
    expected.backward()
    gradient = model.weight.grad.copy()
    model.zero_grad()
    assert step(x, y) == pytest.approx(expected.item(), rel=1e-5)
    np.testing.assert_allclose(model.weight.grad, gradient, rtol=1e-4, atol=1e-6)
    for _ in range(2):
        with pytest.raises(fnn.errors.LabelError):
            step(x, y + 1)
    assert step(x, y) == pytest.approx(expected.item(), rel=1e-5)
