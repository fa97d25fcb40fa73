"""Making a plan: what compiles, what is refused and how it is said, and that making it leaves everything as it was."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import plan_networks as networks
import pytest
from plan_networks import CLASSES

import fastnn as fnn
from fastnn import nn, ops, optim
from fastnn.errors import ArgumentError, DTypeError, FastnnError, GraphError, LabelError, NonFiniteError, ShapeError

LOSS = nn.CrossEntropyLoss()


class Head(nn.Module):
    """A dense layer, and `what` done to its outputs."""

    def __init__(self, what: Callable[[fnn.Tensor], Any]) -> None:
        super().__init__()
        fnn.manual_seed(0)
        self.dense, self.what = nn.Linear(6, CLASSES), what

    def forward(self, x: Any) -> Any:
        return self.what(self.dense(x))


def rows(n: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n)
    return rng.normal(size=(n, 6)).astype(np.float32), rng.integers(0, CLASSES, n)


def in_place(h: fnn.Tensor) -> fnn.Tensor:
    h += 1
    h *= h
    return h


@pytest.mark.parametrize(
    "what",
    [
        lambda h: h + 0.5 * h.tanh() - h / (1 + h.abs()),
        lambda h: -h.exp().log() * h.sigmoid().sqrt(),
        lambda h: h - h.max(1, keepdim=True)[0],
        lambda h: h / h.std(1, keepdim=True) + h.var(0) + h.mean(),
        lambda h: h[:, [1, 0, 2, 3, 4, 5, 6]] + h[0],
        lambda h: h * (h > 0),
        lambda h: h * h.argmax(1).reshape(-1, 1),
        lambda h: h.reshape(-1, CLASSES).T.T.unsqueeze(1).squeeze(1),
        lambda h: h.clamp(-0.3, 0.3) + h.pow(2) + h.softmax(1) + h.log_softmax(1),
        lambda h: sum(row.sum() for row in h) + h,
        lambda h: h.detach() * h,
        lambda h: h.double().float().clone(),
        lambda h: h @ fnn.Tensor(np.eye(CLASSES, dtype=np.float32)[::-1].copy()),
        lambda h: h * len(h) if h.requires_grad and h.shape[1] == CLASSES else h,
        lambda h: h * h.data.sigmoid() + fnn.full_like(h.data, 0.5) / h.data.abs().max().clamp(min=1),
        in_place,
    ],
)  # fmt: skip
def test_what_runs_eagerly_compiles(what: Callable[[fnn.Tensor], Any]) -> None:
    model = Head(what)
    for n in (2, 6):
        x, y = rows(n)
        exact = networks.exact_gradients(model, LOSS, x, y)
        networks.assert_close(networks.compiled_gradients(model, LOSS, x, y), exact)
        outputs = fnn.compile(model)(x)
        with fnn.no_grad():
            expected = copy.deepcopy(model).double()(networks.wide(x)).numpy()
        np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    "what",
    [
        lambda h: h if h.sum() > 0 else -h,
        lambda h: h * h.max().item(),
        lambda h: h * float(h.sum()),
        lambda h: h * int(h.sum()),
        lambda h: h * fnn.Tensor(h.data),
        lambda h: h * h.data.numpy().sum(),
        lambda h: h * fnn.Tensor(h),
        lambda h: h * np.asarray(h).sum(),
        lambda h: h * h.numpy().sum(),
        lambda h: h * h.tolist()[0][0],
        lambda h: h if (h > 0).any() else -h,
        lambda h: h if (h > 0).all() else -h,
        lambda h: h * len(f"{h.sum():.2f}"),
        lambda h: (h.sum().backward(), h)[1],
        lambda h: (setattr(h, "data", np.zeros(h.shape, np.float32)), h)[1],
    ],
)  # fmt: skip
def test_reading_a_value_is_refused_and_said(what: Callable[[fnn.Tensor], Any]) -> None:
    """By the model or by the loss; and the model runs uncompiled as before."""
    x, y = rows()
    for make in (
        lambda: fnn.compile(Head(what)).__call__(x),
        lambda: fnn.compile(Head(what), LOSS)(x, y),
        lambda: fnn.compile(Head(lambda h: h), lambda outputs, y: LOSS(what(outputs), y))(x, y),
    ):
        with pytest.raises(GraphError, match="reads the value of a tensor"):
            make()
    assert Head(lambda h: h)(x).shape == (5, CLASSES)
    assert fnn.Tensor(x).sum().item() == pytest.approx(x.sum(), rel=1e-4), "nothing of the trace is left"


def test_data_that_forward_assigns_are_refused_and_said() -> None:
    """An average of weights that forward keeps, as momentum contrast has it, would stand still in a plan."""
    average = nn.Linear(CLASSES, CLASSES)

    def what(h: fnn.Tensor) -> fnn.Tensor:
        average.weight.data = average.weight.data * 0.9
        return h + average(h).detach()

    x, y = rows()
    with pytest.raises(GraphError, match=r"writes entries of a tensor \(x\[...\] = ..., x.data = ...\)"):
        fnn.compile(Head(what), LOSS)(x, y)


def test_entries_that_a_mask_picks_are_refused_and_said() -> None:
    x, y = rows()
    for make in (
        lambda: fnn.compile(Head(lambda h: h[h > 0])).__call__(x),
        lambda: fnn.compile(Head(lambda h: h[h > 0]), LOSS)(x, y),
    ):
        with pytest.raises(GraphError, match=r"cannot know how many entries a mask picks: .* fnn\.where"):
            make()


def test_a_model_has_to_return_a_tensor_that_depends_on_its_input() -> None:
    x, y = rows()
    for what in (lambda h: (h, 3.0), lambda h: 3.0, lambda h: fnn.Tensor(np.ones((5, CLASSES)))):
        with pytest.raises(GraphError, match="expected the model to return a tensor"):
            fnn.compile(Head(what))(x)
    with pytest.raises(GraphError, match="expected the loss to return a tensor"):
        fnn.compile(Head(lambda h: h), lambda outputs, y: 1.0)(x, y)
    with pytest.raises(ArgumentError, match="loss of one number"):
        fnn.compile(Head(lambda h: h), nn.CrossEntropyLoss(reduction="none"))(x, y)


def test_making_a_plan_has_no_side_effects() -> None:
    """No batch statistics, no random numbers, no changes of .data and .grad, no optimiser state, no other mode."""
    fnn.manual_seed(4)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(288, 16),
        nn.BatchNorm1d(16), nn.Dropout(0.1), nn.GELU(), nn.Linear(16, CLASSES),
    )  # fmt: skip
    model[1].eval()
    optimizer = optim.Adam(model.parameters())
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(16, 1, 8, 8)).astype(np.float32), rng.integers(0, CLASSES, 16)
    x_before, y_before = x.copy(), y.copy()
    before, arrays = networks.parameters(model), [p.numpy() for p in model.parameters()]
    modes = [module.training for module in model.modules()]
    fnn.manual_seed(4)
    expected_draw = ops.dropout(np.ones(100, np.float32)).numpy().copy()
    fnn.manual_seed(4)
    fnn.compile(model, LOSS, optimizer).prepare(x, y)
    fnn.compile(model, LOSS).prepare(x, y)
    fnn.compile(model)(x[:0])
    assert np.array_equal(ops.dropout(np.ones(100, np.float32)).numpy(), expected_draw)
    assert all(np.array_equal(before[name], values) for name, values in model.state_dict().items())
    assert all(p.numpy() is array for p, array in zip(model.parameters(), arrays, strict=True))
    assert all(p.grad is None for p in model.parameters())
    assert [module.training for module in model.modules()] == modes
    assert not optimizer.state_dict()["state"]
    assert np.array_equal(x, x_before)
    assert np.array_equal(y, y_before)


def test_a_plan_first_made_under_no_grad_trains_all_the_same() -> None:
    model = networks.mlp()
    x, y = networks.batch_for(networks.mlp, 16)
    exact = networks.exact_gradients(model, LOSS, x, y)
    step = fnn.compile(model, LOSS)
    with fnn.no_grad():
        step(x, y)
    model.zero_grad()
    found = {"loss": np.asarray(step(x, y))} | {name: p.grad for name, p in model.named_parameters()}
    networks.assert_close(found, exact)


def image_model() -> nn.Module:
    fnn.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, CLASSES))


WRONG_INPUTS: dict[str, tuple[type[FastnnError], Any]] = {
    "too small for the convolution": (ShapeError, np.zeros((2, 1, 2, 2), np.float32)),
    "too small for the pooling": (ShapeError, np.zeros((2, 1, 3, 3), np.float32)),
    "no pixels": (ShapeError, np.zeros((2, 1, 0, 8), np.float32)),
    "channels": (ShapeError, np.zeros((2, 3, 8, 8), np.float32)),
    "another size": (ShapeError, np.zeros((2, 1, 12, 12), np.float32)),
    "no batch": (ShapeError, np.zeros((1, 8, 8), np.float32)),
    "bytes": (DTypeError, np.zeros((2, 1, 8, 8), np.uint8)),
    "complex": (DTypeError, np.zeros((2, 1, 8, 8), np.complex64)),
    "objects": (DTypeError, np.zeros((2, 1, 8, 8), object)),
}


@pytest.mark.parametrize("name", WRONG_INPUTS)
def test_wrong_inputs_raise_what_the_model_raises(name: str) -> None:
    error, x = WRONG_INPUTS[name]
    with pytest.raises(error) as eager:
        image_model()(x)
    for call in (lambda: fnn.compile(image_model())(x), lambda: fnn.compile(image_model(), LOSS)(x, [0, 1])):
        with pytest.raises(error) as compiled:
            call()
        assert str(compiled.value).split(": ")[-1] == str(eager.value).split(": ")[-1]


@pytest.mark.parametrize(
    ("error", "y"),
    [
        (LabelError, np.array([0, 1, -1, 2, 3])),
        (LabelError, np.array([0, 1, CLASSES, 2, 3])),
        (DTypeError, np.zeros(5, np.float32)),
        (DTypeError, np.zeros(5, bool)),
        (ShapeError, np.zeros(4, int)),
        (ShapeError, np.zeros((5, 1), int)),
        (ShapeError, np.full((5, CLASSES - 1), 0.2, np.float32)),
    ],
    ids=str,
)
@pytest.mark.parametrize("disable", [(), ("cross_entropy",)], ids=["fused", "unfused"])
def test_wrong_targets_raise_what_the_loss_raises(error: type[FastnnError], y: np.ndarray, disable: Any) -> None:
    x, _ = rows()
    model = Head(lambda h: h)
    with pytest.raises(error) as eager:
        LOSS(model(x), y)
    with pytest.raises(error) as compiled:
        fnn.compile(model, LOSS, disable=disable)(x, y)
    assert str(compiled.value).split(": ")[-1] == str(eager.value).split(": ")[-1]


@pytest.mark.parametrize("y", [np.arange(5, dtype=np.int8), np.arange(5, dtype=">i4"), [0, 1, 2, 3, 4]], ids=repr)
def test_labels_of_every_integer_type(y: Any) -> None:
    x, _ = rows()
    model = Head(lambda h: h)
    exact = networks.exact_gradients(model, LOSS, x, np.arange(5))
    networks.assert_close(networks.compiled_gradients(model, LOSS, x, y), exact)


def test_one_plan_takes_targets_and_images_of_several_types_in_turn() -> None:
    """Of one shape: probabilities of float32 and float64, one-hot integers; images of float32, float64 and uint8."""
    x, _ = rows()
    model, one_hot = Head(lambda h: h), np.eye(CLASSES)[np.arange(5)]
    exact = networks.exact_gradients(model, LOSS, x, np.arange(5))
    step = fnn.compile(model, LOSS)
    for dtype in (np.float32, np.float64, np.int64, np.uint8, np.float32):
        model.zero_grad()
        found = {"loss": np.asarray(step(x, one_hot.astype(dtype)))}
        networks.assert_close(found | {name: p.grad for name, p in model.named_parameters()}, exact)
    images, _ = networks.batch_for(networks.mlp, 5)
    predict, normalized = fnn.compile(networks.mlp()), networks.mlp().double()
    for dtype in (np.uint8, np.float32, np.float64, np.uint8):
        expected = normalized(networks.wide(images.astype(dtype))).numpy()
        found = predict(images.astype(dtype))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_inputs_of_every_layout() -> None:
    """float64, big-endian, strided, read-only and transposed arrays, tensors and lists."""
    x, y = rows()
    model = Head(lambda h: h)
    exact = networks.exact_gradients(model, LOSS, x, y)
    frozen = x.copy()
    frozen.flags.writeable = False
    spread = np.zeros((10, 12), np.float32)
    spread[::2, ::2] = x
    others = (x.astype(np.float64), x.astype(">f4"), frozen, spread[::2, ::2], np.asfortranarray(x))
    for other in (*others, fnn.Tensor(x), x.tolist()):
        networks.assert_close(networks.compiled_gradients(model, LOSS, other, y), exact)
        assert fnn.compile(model)(other).shape == (5, CLASSES)


def test_empty_batches() -> None:
    x, y = rows()
    model = Head(lambda h: h)
    assert fnn.compile(model)(x[:0]).shape == (0, CLASSES)
    assert fnn.compile(image_model())(np.zeros((0, 1, 8, 8), np.float32)).shape == (0, CLASSES)
    before = networks.parameters(model)
    with pytest.raises(NonFiniteError):  # the mean of nothing, as in eager mode
        fnn.compile(model, LOSS, optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1))(x[:0], y[:0])
    assert all(np.array_equal(before[name], values) for name, values in model.state_dict().items())


@pytest.mark.parametrize(
    "arguments",
    [
        (None,),
        (Head(lambda h: h), 3),
        (Head(lambda h: h), LOSS, "sgd"),
    ],
    ids=["model", "loss", "optimizer"],
)
def test_wrong_arguments(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(ArgumentError, match="expected"):
        fnn.compile(*arguments)


@pytest.mark.parametrize(
    "options",
    [{"clip_norm": 0}, {"clip_norm": "1"}, {"accumulate": 0}, {"accumulate": 1.5}, {"disable": ["x"]}],
    ids=str,
)
def test_wrong_options(options: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match="expected"):
        fnn.compile(Head(lambda h: h), LOSS, **options)
    with pytest.raises(ArgumentError, match="expected"):
        fnn.compile(Head(lambda h: h), **options)  # without a loss they make no sense either
