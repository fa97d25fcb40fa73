"""Every loss beside PyTorch's: values and the gradients of all its arguments, eager and compiled; weights, labels."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from plan_networks import NATIVE

import fastnn as fnn
import fastnn.nn.functional as F
from fastnn import nn
from fastnn.errors import LabelError

compiled = pytest.mark.skipif(not NATIVE, reason="compiled operators need the native kernels")

RNG = np.random.default_rng(11)
X, Y, Z = RNG.normal(size=(6, 5)), RNG.normal(size=(6, 5)), RNG.normal(size=(6, 5))
Y[0, :2] = X[0, :2]  # ties
SHARES, WEIGHTS = RNG.uniform(0.05, 0.95, (6, 5)), RNG.uniform(0.5, 2, 5)
SOFT = SHARES / SHARES.sum(1, keepdims=True)
ZEROS = np.where(SOFT > 0.1, SOFT, 0)
SIGNS, SIGN = np.sign(RNG.normal(size=(6, 5))), np.sign(RNG.normal(size=6))
LABELS = np.array([4, 0, 2, 2, 1, 3])
SOME = np.array([4, -100, 2, 2, -100, 3])
IMAGES, MAP = RNG.normal(size=(2, 4, 3, 2)), RNG.integers(0, 4, (2, 3, 2))
HOLES = np.where(RNG.random(MAP.shape) < 0.4, 255, MAP)
SOFT_MAP = RNG.dirichlet(np.ones(4), (2, 3, 2)).transpose(0, 3, 1, 2)
COUNTS = RNG.poisson(2.0, (6, 5)).astype(float)
W = {"weight": WEIGHTS}
SMOOTH = {"label_smoothing": 0.2}

Case = tuple[str, dict[str, Any], tuple[np.ndarray, ...]]
CASES: dict[str, Case] = {
    "mse": ("MSELoss", {}, (X, Y)),
    "mse-broadcast": ("MSELoss", {}, (X[:, :1], Y[:, 0])),
    "l1": ("L1Loss", {}, (X, Y)),
    "smooth-l1": ("SmoothL1Loss", {}, (X, Y)),
    "smooth-l1-beta": ("SmoothL1Loss", {"beta": 0.3}, (X, Y)),
    "smooth-l1-0": ("SmoothL1Loss", {"beta": 0.0}, (X, Y)),
    "huber": ("HuberLoss", {"delta": 0.7}, (X, Y)),
    "kl": ("KLDivLoss", {}, (np.log(SHARES), SOFT)),
    "kl-log": ("KLDivLoss", {"log_target": True}, (np.log(SHARES), np.log(SOFT))),
    "poisson": ("PoissonNLLLoss", {}, (X, COUNTS)),
    "poisson-full": ("PoissonNLLLoss", {"full": True, "log_input": False}, (SHARES, COUNTS + 1)),
    "gaussian": ("GaussianNLLLoss", {"full": True}, (X, Y, np.where(SHARES > 0.1, SHARES, 1e-9))),
    "gaussian-rows": ("GaussianNLLLoss", {}, (X, Y, SHARES[:, 0])),
    "bce-weight": ("BCELoss", W, (SHARES, SOFT)),
    "bce": ("BCELoss", {}, (SHARES, SOFT)),
    "bce-logits": ("BCEWithLogitsLoss", {}, (X, SOFT)),
    "bce-logits-weight": ("BCEWithLogitsLoss", W, (X, SOFT)),
    "bce-logits-pos": ("BCEWithLogitsLoss", {"pos_weight": WEIGHTS}, (X, SOFT)),
    "bce-logits-both": ("BCEWithLogitsLoss", {"weight": SHARES, "pos_weight": WEIGHTS}, (X, SOFT)),
    "triplet": ("TripletMarginLoss", {}, (X, Y, Z)),
    "triplet-swap": ("TripletMarginLoss", {"swap": True, "margin": 2.0}, (X, Y, Z)),
    "triplet-1": ("TripletMarginLoss", {"p": 1.0}, (X, Y, Z)),
    "triplet-3": ("TripletMarginLoss", {"p": 3.0, "margin": 0.5}, (X, Y, Z)),
    "ranking": ("MarginRankingLoss", {"margin": 0.3}, (X[0], Z[1], SIGNS[0])),
    "cosine-embedding": ("CosineEmbeddingLoss", {"margin": 0.1}, (X, Y, SIGN)),
    "hinge": ("HingeEmbeddingLoss", {"margin": 0.8}, (X, SIGNS)),
    "soft-margin": ("SoftMarginLoss", {}, (X, SIGNS.astype(int))),
    "multilabel": ("MultiLabelSoftMarginLoss", {}, (X, SOFT)),
    "multilabel-weight": ("MultiLabelSoftMarginLoss", W, (X, SOFT)),
    "multi-margin": ("MultiMarginLoss", {}, (X, LABELS)),
    "multi-margin-2": ("MultiMarginLoss", {"p": 2, "margin": 0.5, **W}, (X, LABELS)),
    "ce-weight": ("CrossEntropyLoss", W, (X, LABELS)),
    "ce-weight-smooth": ("CrossEntropyLoss", {**W, **SMOOTH}, (X, LABELS)),
    "ce-ignored": ("CrossEntropyLoss", {}, (X, SOME)),
    "ce-ignored-smooth": ("CrossEntropyLoss", SMOOTH, (X, SOME)),
    "ce-ignored-weight-smooth": ("CrossEntropyLoss", {**W, **SMOOTH}, (X, SOME)),
    "ce-ignore-2": ("CrossEntropyLoss", {**W, "ignore_index": 2}, (X, LABELS)),
    "ce-map": ("CrossEntropyLoss", {}, (IMAGES, MAP)),
    "ce-map-holes": ("CrossEntropyLoss", {"ignore_index": 255, "weight": WEIGHTS[:4], **SMOOTH}, (IMAGES, HOLES)),
    "ce-map-soft": ("CrossEntropyLoss", SMOOTH, (IMAGES, SOFT_MAP)),
    "ce-soft": ("CrossEntropyLoss", SMOOTH, (X, SOFT)),
    "ce-soft-weight": ("CrossEntropyLoss", {**W, **SMOOTH}, (X, SOFT)),
    "ce-one": ("CrossEntropyLoss", SMOOTH, (X[0], np.array(3))),
    "nll-weight": ("NLLLoss", W, (X, LABELS)),
    "nll-ignored": ("NLLLoss", W, (X, SOME)),
    "nll-map": ("NLLLoss", {"ignore_index": 255}, (IMAGES, HOLES)),
    "nll-one": ("NLLLoss", {}, (X[0], np.array(3))),
    "cosine-similarity": ("CosineSimilarity", {}, (X, Y)),
    "distance": ("PairwiseDistance", {"p": 1.5, "keepdim": True}, (X, Y)),
    "distance-max": ("PairwiseDistance", {"p": float("inf")}, (X, Z)),
}
DISTANCES = ("CosineSimilarity", "PairwiseDistance")


def _torchs(name: str, reduction: str, only: int | None = None) -> tuple[Any, list[Any]]:
    """PyTorch's losses, and the gradients of the arguments; `only` that one needs a gradient."""
    torch = pytest.importorskip("torch")
    kind, options, data = CASES[name]
    options = {key: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for key, v in options.items()}
    given = options if kind in DISTANCES else {**options, "reduction": reduction}
    tensors = [torch.from_numpy(x.copy()) for x in data]
    for i, x in enumerate(tensors):
        x.requires_grad_(x.dtype.is_floating_point and only in (None, i))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        losses = getattr(torch.nn, kind)(**given)(*tensors)
    (losses * torch.linspace(0.5, 2, losses.numel(), dtype=losses.dtype).reshape(losses.shape)).sum().backward()
    return losses.detach().numpy(), [None if x.grad is None else x.grad.numpy() for x in tensors]


def _ours(name: str, reduction: str, dtype: Any = np.float64, only: int | None = None) -> tuple[Any, list[Any]]:
    kind, options, data = CASES[name]
    given = options if kind in DISTANCES else {**options, "reduction": reduction}
    tensors = [fnn.Tensor(x.astype(dtype) if x.dtype.kind == "f" else x) for x in data]
    for i, x in enumerate(tensors):
        x.requires_grad_(x.dtype.kind == "f" and only in (None, i))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        losses = getattr(nn, kind)(**given)(*tensors)
    assert losses.dtype == dtype
    losses.backward(np.linspace(0.5, 2, losses.numel()).reshape(losses.shape))
    return losses.detach().numpy(), [x.grad for x in tensors]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", CASES)
def test_losses_and_all_gradients_are_torchs(name: str, reduction: str) -> None:
    """In float64 to 1e-12, and in float32; also where the first argument alone asks for a gradient."""
    for only in (None, 0):
        expected, grads = _torchs(name, reduction, only)
        for dtype, rtol, atol in ((np.float64, 1e-12, 1e-13), (np.float32, 2e-5, 1e-5)):
            if dtype == np.float32 and name == "gaussian":
                continue  # a variance of 1e-6 magnifies float32's rounding of the inputs
            losses, found = _ours(name, reduction, dtype, only)
            np.testing.assert_allclose(losses, expected, rtol, atol)
            for mine, torchs in zip(found, grads, strict=True):
                assert (mine is None) == (torchs is None)
                if mine is not None:
                    np.testing.assert_allclose(mine, torchs, rtol, atol)


class _Given(nn.Module):
    """A model that gives its one parameter, whatever comes in."""

    def __init__(self, value: np.ndarray) -> None:
        super().__init__()
        self.value = nn.Parameter(value.astype(np.float32))

    def forward(self, x: Any) -> Any:
        return self.value + x.sum() * 0


TWO = [name for name, (kind, _, data) in CASES.items() if len(data) == 2 and kind not in DISTANCES and data[1].ndim]


@compiled
@pytest.mark.parametrize("name", TWO)
def test_compiled_is_eager_without_python(name: str) -> None:
    """The loss and the gradient of a compiled step; no part of the step runs in Python."""
    kind, options, (data, target) = CASES[name]
    model, twin = _Given(data), _Given(data)
    loss = getattr(nn, kind)(**options)
    target = target.astype(np.float32) if target.dtype.kind == "f" else target
    x = np.ones((len(target), 1), np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        step = fnn.compile(model, loss)
        value = step(x, target)
        expected = loss(twin(x), target)
    expected.backward()
    assert value == pytest.approx(expected.item(), rel=1e-5)
    np.testing.assert_allclose(model.value.grad, twin.value.grad, rtol=1e-4, atol=1e-6)
    assert "Python" not in step.describe()


@compiled
def test_triplet_in_a_compiled_step() -> None:
    """A loss of one's own of three parts of the output, with a gradient into each."""

    def loss(outputs: Any, _: Any) -> Any:
        return F.triplet_margin_loss(outputs[:2], outputs[2:4], outputs[4:], margin=2.0)

    model, twin = _Given(X), _Given(X)
    step = fnn.compile(model, loss)
    value = step(np.ones((6, 1), np.float32), np.zeros(6, np.float32))
    expected = loss(twin(np.ones((6, 1), np.float32)), None)
    expected.backward()
    assert value == pytest.approx(expected.item(), rel=1e-5)
    np.testing.assert_allclose(model.value.grad, twin.value.grad, rtol=1e-4, atol=1e-6)
    assert "Python" not in step.describe()


# ---- by hand ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (lambda: F.l1_loss([1.0, 5.0], [2.0, 2.0]), 2.0),
        (lambda: F.l1_loss([1.0, 5.0], [2.0, 2.0], weight=[1.0, 3.0]), (1 + 9) / 4),
        (lambda: F.mse_loss([1.0, 5.0], [2.0, 2.0], weight=[1.0, 3.0]), (1 + 27) / 4),
        (lambda: F.smooth_l1_loss([0.5, 5.0], [0.0, 2.0], reduction="sum"), 0.125 + 2.5),
        (lambda: F.huber_loss([0.5, 5.0], [0.0, 2.0], "sum", 2.0), 0.125 + 2 * (3 - 1)),
        (lambda: F.kl_div(np.log([[0.5, 0.5]]), [[1.0, 0.0]], reduction="batchmean"), np.log(2)),
        (lambda: F.hinge_embedding_loss([0.25, 0.25], [1.0, -1.0]), 0.5),
        (lambda: F.margin_ranking_loss([1.0, 1.0], [2.0, 2.0], [1.0, -1.0]), 0.5),
        (lambda: F.multi_margin_loss([[0.1, 0.2, 0.4]], [2]), (0.7 + 0.8) / 3),
        (lambda: F.triplet_margin_loss([[0.0, 0.0]], [[3.0, 4.0]], [[0.0, 5.5]], eps=0.0), 0.5),
        (lambda: F.cosine_embedding_loss([[1.0, 0.0], [1.0, 0.0]], [[0.0, 2.0], [3.0, 0.0]], [1.0, -1.0]), 1.0),
        (lambda: F.cross_entropy([[0.0, 0.0], [9.0, 1.0]], [1, -100]), np.log(2)),
        (lambda: F.cross_entropy([[0.0, 0.0], [0.0, np.log(3)]], [0, 1], [1.0, 3.0]),
         (np.log(2) + 3 * np.log(4 / 3)) / 4),
        (lambda: F.soft_margin_loss([1000.0], [-1.0]), 1000.0),
    ],
)  # fmt: skip
def test_values_by_hand(loss: Any, expected: float) -> None:
    assert loss().item() == pytest.approx(expected, rel=1e-6)


def test_mean_of_ignored_labels_alone_is_nan() -> None:
    """As in PyTorch: 0/0; the sum is 0."""
    with np.errstate(invalid="ignore"):
        assert np.isnan(F.cross_entropy(X, np.full(6, -100)).item())
    assert F.cross_entropy(X, np.full(6, -100), reduction="sum").item() == 0


def test_bce_of_certain_probabilities_has_a_finite_gradient_in_the_target() -> None:
    torch = pytest.importorskip("torch")
    p, t = np.array([0.0, 1.0, 0.5]), np.array([0.2, 0.8, 0.1])
    mine = [fnn.Tensor(x, requires_grad=True) for x in (p, t)]
    other = [torch.from_numpy(x).requires_grad_() for x in (p, t)]
    F.binary_cross_entropy(*mine).backward()
    torch.nn.functional.binary_cross_entropy(*other).backward()
    np.testing.assert_allclose(mine[0].grad, other[0].grad.numpy(), rtol=1e-8)  # whose 1e-12 is a float32
    np.testing.assert_allclose(mine[1].grad, [100 / 3, -100 / 3, 0])  # PyTorch's is infinite, though its loss is not


def test_a_bad_label_of_a_map_is_named_by_a_compiled_step() -> None:
    step = fnn.compile(_Given(IMAGES), nn.CrossEntropyLoss())
    with pytest.raises(LabelError, match="got 9 at position 7"):
        step(np.ones((2, 1), np.float32), np.where(np.arange(12).reshape(2, 3, 2) == 7, 9, MAP))


@pytest.mark.parametrize("loss", ["mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"])
def test_broadcasting_warns_in_one_sentence(loss: str) -> None:
    """(N, 1) against (N,): N² pairs, as PyTorch computes them."""
    sentence = rf"{loss}: input \(3, 1\) and target \(3,\) broadcast to \(3, 3\).*reshape\(-1, 1\)"
    with pytest.warns(UserWarning, match=sentence):
        losses = getattr(F, loss)(np.ones((3, 1)), np.arange(3.0), reduction="none")
    assert losses.shape == (3, 3)


def test_weights_are_buffers() -> None:
    loss = nn.CrossEntropyLoss(weight=fnn.Tensor([1.0, 2.0]))
    assert list(loss.state_dict()) == ["weight"]
    assert loss([[0.0, 0.0]], [1]).item() == pytest.approx(np.log(2))
    assert list(nn.CrossEntropyLoss().state_dict()) == []


@compiled
def test_compiled_step_learns_that_labels_are_ignored() -> None:
    """A step made for labels that all count meets -100: its plan is made anew, and nothing was updated twice."""
    fnn.manual_seed(1)
    model = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 5))
    fnn.manual_seed(1)
    twin = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 5))
    x = X.astype(np.float32)
    opt, other = (fnn.optim.SGD(m.parameters(), lr=0.1) for m in (model, twin))
    step = fnn.compile(model, nn.CrossEntropyLoss(), opt)
    for labels in (LABELS, SOME, LABELS, SOME):
        loss = nn.CrossEntropyLoss()(twin(x), labels)
        other.zero_grad()
        loss.backward()
        other.step()
        assert step(x, labels) == pytest.approx(loss.item(), rel=1e-5)
    for name, array in model.state_dict().items():
        np.testing.assert_allclose(array, twin.state_dict()[name], rtol=1e-4, atol=1e-5, err_msg=name)
    with pytest.raises(LabelError, match="got 7"):
        step(x, np.array([7, 0, 0, 0, 0, -100]))
    assert "Python" not in step.describe()
