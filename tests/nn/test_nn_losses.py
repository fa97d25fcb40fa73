"""Losses: values by hand and by PyTorch, every kind of target, reductions, gradients, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn
from fastnn.errors import ArgumentError, DTypeError, LabelError, ShapeError

LOGITS = np.array([[2.0, -1.0, 0.5], [0.0, 1.5, -0.5], [0.3, 0.2, -2.0], [1.0, 1.0, 1.0]])
LABELS = np.array([0, 2, 1, 1])
SOFT = np.array([[0.7, 0.2, 0.1], [0.0, 0.5, 0.5], [1.0, 0.0, 0.0], [0.2, 0.2, 0.6]])
PROBABILITIES = np.array([[0.9, 0.1, 0.5], [0.2, 0.7, 0.3], [0.4, 0.6, 0.8], [0.5, 0.5, 0.25]])

CASES: dict[str, tuple[str, dict[str, Any], np.ndarray, np.ndarray]] = {  # loss, options, input, target
    "cross-entropy": ("CrossEntropyLoss", {}, LOGITS, LABELS),
    "cross-entropy-soft": ("CrossEntropyLoss", {}, LOGITS, SOFT),
    "cross-entropy-smooth": ("CrossEntropyLoss", {"label_smoothing": 0.2}, LOGITS, LABELS),
    "cross-entropy-soft-smooth": ("CrossEntropyLoss", {"label_smoothing": 0.2}, LOGITS, SOFT),
    "nll": ("NLLLoss", {}, np.log(SOFT + 0.1), LABELS),
    "bce-logits": ("BCEWithLogitsLoss", {}, LOGITS, PROBABILITIES),
    "bce": ("BCELoss", {}, PROBABILITIES, SOFT),
    "mse": ("MSELoss", {}, LOGITS, SOFT),
}


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", CASES)
def test_losses_and_gradients_are_torchs(name: str, reduction: str) -> None:
    """In float64 to 1e-12 and in float32 to 1e-6, with an upstream gradient that is not 1."""
    torch = pytest.importorskip("torch")
    kind, options, data, target = CASES[name]
    z = torch.from_numpy(data).requires_grad_()
    expected = getattr(torch.nn, kind)(**options, reduction=reduction)(z, torch.from_numpy(target))
    upstream = np.linspace(0.5, 2, expected.numel()).reshape(expected.shape)
    expected.backward(torch.from_numpy(upstream))
    for dtype, atol in ((np.float64, 1e-12), (np.float32, 1e-6)):
        x = fnn.Tensor(data.astype(dtype), requires_grad=True)
        loss = getattr(nn, kind)(**options, reduction=reduction)(x, target)
        assert loss.dtype == dtype
        assert x.grad is None
        loss.backward(upstream)
        assert x.grad is not None
        assert x.grad.dtype == dtype
        np.testing.assert_allclose(loss.numpy(), expected.detach().numpy(), atol=atol)
        np.testing.assert_allclose(x.grad, z.grad.numpy(), atol=atol)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", CASES)
def test_gradients_are_finite_differences(name: str, reduction: str) -> None:
    kind, options, data, target = CASES[name]
    loss = getattr(nn, kind)(**options, reduction=reduction)
    assert fnn.gradcheck(lambda x: loss(x, target), data, per_entry=True)


def test_cross_entropy_by_hand() -> None:
    """-log softmax of the right class: log(e^2 + e^0) - 2, and log 2 where the logits are equal."""
    losses = nn.CrossEntropyLoss(reduction="none")([[2.0, 0.0], [0.0, 0.0]], [0, 1])
    assert losses.tolist() == pytest.approx([np.log(np.exp(2) + 1) - 2, np.log(2)])


@pytest.mark.parametrize(
    "target",
    [[0, 2, 1, 1], LABELS.astype(np.uint8), LABELS.astype(np.int32), fnn.Tensor(LABELS), np.eye(3)[LABELS],
     np.eye(3, dtype=np.int64)[LABELS], np.eye(3, dtype=np.float32)[LABELS]],
)  # fmt: skip
def test_labels_of_any_kind_give_the_same(target: Any) -> None:
    """Lists, any integer type, tensors, one-hot."""
    loss = nn.CrossEntropyLoss()(LOGITS, target)
    assert loss.item() == pytest.approx(nn.CrossEntropyLoss()(LOGITS, LABELS).item(), rel=1e-14)


def test_cross_entropy_is_log_softmax_and_nll() -> None:
    apart = nn.NLLLoss()(nn.LogSoftmax(dim=1)(LOGITS), LABELS)
    assert apart.item() == pytest.approx(nn.CrossEntropyLoss()(LOGITS, LABELS).item(), rel=1e-14)


def test_bce_is_stable() -> None:
    """Logits of ±1e4 and probabilities of 0 and 1."""
    logits = fnn.Tensor(np.array([1e4, -1e4, 1e4, -1e4], np.float32), requires_grad=True)
    losses = nn.BCEWithLogitsLoss(reduction="none")(logits, [1.0, 0.0, 0.0, 1.0])
    assert losses.tolist() == [0, 0, 1e4, 1e4]
    losses.sum().backward()
    assert logits.grad == pytest.approx([0, 0, 1, -1])
    assert nn.BCELoss(reduction="none")([1.0, 0.0, 0.0], [1.0, 0.0, 1.0]).tolist() == [0, 0, 100]


def test_cross_entropy_is_stable() -> None:
    logits = fnn.Tensor(np.array([[1e4, -1e4], [-1e4, 1e4]], np.float32), requires_grad=True)
    loss = nn.CrossEntropyLoss(reduction="none")(logits, [0, 0])
    assert loss.tolist() == [0, 2e4]
    loss.sum().backward()
    assert logits.grad is not None
    assert logits.grad.tolist() == [[0, 0], [-1, 1]]


@pytest.mark.parametrize("name", CASES)
def test_empty_batch(name: str) -> None:
    """The sum of no losses is 0, their mean is NaN as in PyTorch; the gradient is empty."""
    kind, options, data, target = CASES[name]
    x = fnn.Tensor(data[:0], requires_grad=True)
    assert getattr(nn, kind)(**options, reduction="sum")(x, target[:0]).item() == 0
    loss = getattr(nn, kind)(**options)(x, target[:0])
    assert np.isnan(loss.item())
    loss.backward()
    assert x.grad is not None
    assert x.grad.shape == (0, 3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.CrossEntropyLoss()(LOGITS, [0, 3, 1, 1]), LabelError, "3"),
        (lambda: nn.CrossEntropyLoss()(LOGITS, [0, -1, 1, 1]), LabelError, "-1"),
        (lambda: nn.CrossEntropyLoss()(LOGITS, [0, 1]), ShapeError, r"\(4, 3\)|\(2,\)"),
        (lambda: nn.CrossEntropyLoss()(LOGITS[0], [0]), ShapeError, r"logits \(N, C\) .* got \(3,\) and \(1,\)"),
        (lambda: nn.CrossEntropyLoss()(LOGITS, [0.0, 1.0, 1.0, 2.0]), DTypeError, "labels to be integers, got float64"),
        (lambda: nn.CrossEntropyLoss()(LOGITS, SOFT[:, :2]), ShapeError, r"\(4, 2\)"),
        (lambda: nn.CrossEntropyLoss()(LOGITS, [["a"]] * 4), DTypeError, "expected numbers as target"),
        (lambda: nn.CrossEntropyLoss(label_smoothing=2), ArgumentError, "label_smoothing from 0 to 1, got 2"),
        (lambda: nn.NLLLoss()(LOGITS, [0, 3, 1, 1]), LabelError, "labels from 0 to 2, got 0 to 3"),
        (lambda: nn.NLLLoss()(LOGITS, SOFT), ShapeError, r"target \(N,\), got \(4, 3\) and \(4, 3\)"),
        (lambda: nn.NLLLoss()(LOGITS, [0.0, 1.0, 1.0, 2.0]), DTypeError, "labels to be integers, got float64"),
        (lambda: nn.MSELoss()(LOGITS, LABELS), ShapeError, r"target of shape \(4, 3\), as the input, got \(4,\)"),
        (lambda: nn.MSELoss(reduction="avg"), ArgumentError, "'mean', 'sum' or 'none', got 'avg'"),
        (
            lambda: nn.CrossEntropyLoss(weight=[1.0, 2.0])(LOGITS, LABELS),
            ShapeError,
            r"weights of shape \(3,\), got \(2,\)",
        ),
        (lambda: nn.BCELoss(weight=np.ones((5, 3)))(PROBABILITIES, SOFT), ShapeError, r"weights of shape \(4, 3\)"),
        (lambda: nn.KLDivLoss(reduction="avg"), ArgumentError, "'mean', 'sum' or 'none', got 'avg'"),
        (lambda: nn.L1Loss(size_average=np.ones(2)), ArgumentError, "size_average to be True or False"),
        (lambda: nn.HuberLoss(delta=0)(LOGITS, SOFT), ArgumentError, "delta above 0, got 0"),
        (lambda: nn.MultiMarginLoss(p=3)(LOGITS, LABELS), ArgumentError, "p of 1 or 2, got 3"),
        (lambda: nn.GaussianNLLLoss()(LOGITS, SOFT, -SOFT), ArgumentError, "var of at least 0, got -1"),
        (
            lambda: nn.GaussianNLLLoss()(LOGITS, SOFT, SOFT[:2]),
            ShapeError,
            r"var of shape \(4, 3\) or \(4,\), got \(2, 3\)",
        ),
        (lambda: nn.CosineEmbeddingLoss()(LOGITS, SOFT, LOGITS), ShapeError, r"target \(N,\), got \(4, 3\)"),
        (lambda: nn.BCELoss()(LOGITS, SOFT), ArgumentError, "probabilities from 0 to 1, got -2 to 2"),
        (lambda: nn.BCEWithLogitsLoss()(LOGITS, SOFT[:2]), ShapeError, r"\(4, 3\), as the input, got \(2, 3\)"),
    ],
)
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_losses_take_keywords_as_pytorchs() -> None:
    """By the names that PyTorch's forward has."""
    x, y, labels = fnn.tensor([[1.0, 2.0], [0.5, -1.0]]), fnn.ones(2, 2), fnn.tensor([0, 1])
    calls: list[tuple[Any, dict[str, Any]]] = [
        (nn.CrossEntropyLoss(), {"input": x, "target": labels}),
        (nn.MSELoss(), {"input": x, "target": y}),
        (nn.CosineEmbeddingLoss(), {"input1": x, "input2": y, "target": fnn.ones(2)}),
        (nn.TripletMarginLoss(), {"anchor": x, "positive": y, "negative": x + 1}),
        (nn.GaussianNLLLoss(), {"input": x, "target": y, "var": y}),
        (nn.PoissonNLLLoss(), {"log_input": x, "target": y}),
    ]
    for loss, named in calls:
        first, *others = named
        assert loss(**named) == loss(*named.values()) == loss(named[first], **{name: named[name] for name in others})
    with pytest.raises(TypeError, match="targets"):
        nn.MSELoss()(x, targets=y)


@pytest.mark.parametrize(
    ("size_average", "reduce", "meant"),
    [  # what PyTorch 0.4's documentation says of the two
        (True, None, "mean"), (False, None, "sum"), (None, True, "mean"), (None, False, "none"),
        (True, True, "mean"), (False, True, "sum"), (True, False, "none"), (False, False, "none"),
    ],
)  # fmt: skip
def test_losses_take_the_flags_that_reduction_has_replaced(size_average: Any, reduce: Any, meant: str) -> None:
    x, y = fnn.tensor([[1.0, 2.0], [0.5, -1.0]]), fnn.tensor([[0.5, 0.25], [0.5, 0.75]])
    flags = {"size_average": size_average, "reduce": reduce}
    functions: list[tuple[str, tuple[Any, ...]]] = [
        ("binary_cross_entropy", (y, y)), ("binary_cross_entropy_with_logits", (x, y)), ("cross_entropy", (x, y)),
        ("cosine_embedding_loss", (x, y, fnn.ones(2))), ("hinge_embedding_loss", (x, fnn.ones(2, 2))),
        ("kl_div", (x, y)), ("l1_loss", (x, y)), ("margin_ranking_loss", (x, y, fnn.ones(2, 2))), ("mse_loss", (x, y)),
        ("multi_margin_loss", (x, fnn.tensor([0, 1]))), ("multilabel_margin_loss", (x, fnn.tensor([[0, -1], [1, 0]]))),
        ("multilabel_soft_margin_loss", (x, y)), ("nll_loss", (x, fnn.tensor([0, 1]))), ("poisson_nll_loss", (x, y)),
        ("smooth_l1_loss", (x, y)), ("soft_margin_loss", (x, y)), ("triplet_margin_loss", (x, y, x + 1)),
    ]  # fmt: skip
    for name, inputs in functions:
        function = getattr(nn.functional, name)
        with pytest.warns(UserWarning, match=f"{name}: size_average and reduce are .* reduction='{meant}'"):
            found = function(*inputs, **flags)
        assert fnn.equal(found, function(*inputs, reduction=meant)), name
    for kind in (nn.CrossEntropyLoss, nn.KLDivLoss, nn.MSELoss, nn.TripletMarginLoss):
        with pytest.warns(UserWarning, match=f"{kind.__name__}: .* reduction='{meant}'"):
            assert kind(**flags).reduction == meant
    with pytest.warns(UserWarning, match=meant):
        assert nn.MSELoss(size_average, reduce)(x, y).shape == nn.MSELoss(reduction=meant)(x, y).shape


@pytest.mark.parametrize("lossy", [nn.MSELoss, nn.CrossEntropyLoss, lambda **flags: nn.functional.mse_loss(
    fnn.ones(2), fnn.ones(2), **flags)])  # fmt: skip
def test_flags_of_old_are_warned_of_at_the_users_line(lossy: Any) -> None:
    with pytest.warns(UserWarning, match="say reduction='sum'") as told:
        lossy(size_average=False)
    assert [each.filename for each in told] == [__file__]
