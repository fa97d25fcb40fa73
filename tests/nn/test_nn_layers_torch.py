"""Layers against PyTorch's: names, shapes and distribution of what they hold, values and gradients, attributes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn

torch = pytest.importorskip("torch")
SEQ, IMG, ROWS, WORDS = (2, 4, 11), (2, 4, 8, 6), (5, 6), (3, 5)

# Name, arguments, named arguments, the inputs' shapes; integers where a shape is WORDS.
CASES: list[tuple[str, tuple[Any, ...], dict[str, Any], list[tuple[int, ...]]]] = [
    ("Conv1d", (4, 6, 3), {"stride": 2, "padding": 1, "groups": 2}, [SEQ]),
    ("Conv1d", (4, 6, 4), {"padding": "same", "dilation": 3, "bias": False}, [SEQ]),
    ("Conv1d", (4, 6, 5), {"padding": 2, "padding_mode": "circular"}, [SEQ]),
    ("Conv2d", (4, 6, (3, 2)), {"padding": (1, 2), "padding_mode": "reflect", "stride": 2}, [IMG]),
    ("Conv2d", (4, 6, (4, 3)), {"padding": "same", "padding_mode": "replicate"}, [IMG]),
    ("Conv2d", (4, 6, 2), {"padding": "same"}, [IMG]),
    ("ConvTranspose1d", (4, 6, 3, 2, 1, 1, 2), {"dilation": 2}, [SEQ]),
    ("ConvTranspose2d", (4, 6, 3, 2, 1, 1), {"groups": 2}, [IMG]),
    ("ConvTranspose2d", (4, 3, (2, 3)), {"stride": (3, 1), "bias": False}, [IMG]),
    ("MaxPool1d", (3, 2, 1), {"ceil_mode": True}, [SEQ]),
    ("MaxPool2d", (2,), {"dilation": 2, "stride": 3}, [IMG]),
    ("AvgPool1d", (4,), {"ceil_mode": True, "count_include_pad": False, "padding": 1}, [SEQ]),
    ("AvgPool2d", (3, 2, 1, True, True, 5), {}, [IMG]),
    ("AdaptiveAvgPool1d", (3,), {}, [SEQ]),
    ("AdaptiveAvgPool2d", ((None, 4),), {}, [IMG]),
    ("AdaptiveMaxPool1d", (4,), {}, [SEQ]),
    ("AdaptiveMaxPool2d", ((3, 2),), {}, [IMG]),
    ("BatchNorm1d", (4,), {}, [SEQ]),
    ("BatchNorm1d", (4,), {"affine": False, "momentum": None}, [SEQ]),
    ("BatchNorm2d", (4,), {"track_running_stats": False}, [IMG]),
    ("InstanceNorm1d", (4,), {"affine": True}, [SEQ]),
    ("InstanceNorm2d", (4, 1e-3), {}, [IMG]),
    ("Embedding", (7, 3), {}, [WORDS]),
    ("Embedding", (7, 3, 2), {}, [WORDS]),
    ("EmbeddingBag", (7, 3), {"mode": "sum"}, [WORDS]),
    ("Bilinear", (6, 4, 3), {}, [(5, 6), (5, 4)]),
    ("CosineSimilarity", (), {"dim": 1}, [ROWS, ROWS]),
    ("PairwiseDistance", (1.0,), {"keepdim": True}, [ROWS, ROWS]),
    ("Upsample", (), {"scale_factor": 2, "mode": "bilinear", "align_corners": True}, [IMG]),
    ("Upsample", (17,), {"mode": "linear"}, [SEQ]),
    ("UpsamplingNearest2d", (), {"scale_factor": 2}, [IMG]),
    ("UpsamplingBilinear2d", ((9, 7),), {}, [IMG]),
    ("PixelShuffle", (2,), {}, [IMG]),
    ("PixelUnshuffle", (2,), {}, [IMG]),
    ("ChannelShuffle", (2,), {}, [IMG]),
    ("Unfold", (3,), {"padding": 1, "stride": 2}, [IMG]),
    ("Fold", ((4, 3), 2), {}, [(2, 8, 6)]),
    ("ZeroPad1d", ((1, 2),), {}, [SEQ]),
    ("ZeroPad2d", ((1, 2, 0, 3),), {}, [IMG]),
    ("ConstantPad1d", (2, 1.5), {}, [SEQ]),
    ("ConstantPad2d", (1, -1.0), {}, [IMG]),
    ("ReflectionPad1d", (3,), {}, [SEQ]),
    ("ReflectionPad2d", ((1, 2, 0, 3),), {}, [IMG]),
    ("ReplicationPad1d", (3,), {}, [SEQ]),
    ("ReplicationPad2d", (2,), {}, [IMG]),
    ("CircularPad1d", (3,), {}, [SEQ]),
    ("CircularPad2d", ((1, 2, 0, 3),), {}, [IMG]),
    ("PReLU", (), {}, [ROWS]),
    ("PReLU", (4, 0.5), {}, [IMG]),
    ("GLU", (), {"dim": 1}, [IMG]),
    ("Softplus", (2, 1), {}, [ROWS]),
    ("Hardtanh", (-0.5, 2), {}, [ROWS]),
    ("Threshold", (0.1, 20), {}, [ROWS]),
    ("CELU", (2,), {}, [ROWS]),
    ("Softshrink", (0.3,), {}, [ROWS]),
    ("Hardshrink", (0.3,), {}, [ROWS]),
    ("GELU", ("tanh",), {}, [ROWS]),
    ("Softmax2d", (), {}, [IMG]),
    ("Softmin", (), {"dim": 1}, [ROWS]),
    *((name, (), {}, [ROWS]) for name in ("ReLU6", "Hardswish", "Mish", "SELU", "Softsign", "LogSigmoid")),
    ("Tanhshrink", (), {}, [ROWS]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "args", "kwargs", "shapes"), CASES, ids=lambda value: str(value))
def test_layers_are_pytorchs(name: str, args: Any, kwargs: Any, shapes: Any) -> None:
    """In training mode and in eval mode, with the same weights; what they hold afterwards, too."""
    mine, theirs = getattr(nn, name)(*args, **kwargs).double(), getattr(torch.nn, name)(*args, **kwargs).double()
    held = {key: value.numpy() for key, value in theirs.state_dict().items()}
    assert {k: np.shape(v) for k, v in mine.state_dict().items()} == {k: v.shape for k, v in held.items()}
    mine.load_state_dict(held)
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 7, s) if s == WORDS else rng.normal(size=s) for s in shapes]
    for training in (True, False):
        mine.train(training)
        theirs.train(training)
        given = [fnn.Tensor(a, a.dtype.kind == "f") for a in arrays]
        others = [torch.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
        mine.zero_grad()
        theirs.zero_grad()
        y, z = mine(*given), theirs(*others)
        weights = rng.normal(size=y.shape)
        (y * weights).sum().backward()
        (z * torch.tensor(weights)).sum().backward()
        pairs = [(y.numpy(), z.detach().numpy())]
        pairs += [(a.grad, b.grad.numpy()) for a, b in zip(given, others, strict=True) if b.requires_grad]
        pairs += [(a.grad, b.grad.numpy()) for a, b in zip(mine.parameters(), theirs.parameters(), strict=True)]
        pairs += [(np.asarray(v), theirs.state_dict()[k].numpy()) for k, v in mine.state_dict().items()]
        for a, b in pairs:
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("name", "args", "kwargs"),
    [
        ("Conv1d", (16, 64, 9), {}), ("ConvTranspose1d", (64, 32, 5), {}),
        ("ConvTranspose2d", (32, 64, 3), {"groups": 2}),
        ("Bilinear", (30, 20, 40), {}), ("Embedding", (300, 40), {}), ("EmbeddingBag", (300, 40), {}),
        ("InstanceNorm2d", (64,), {"affine": True}), ("PReLU", (64,), {}),
    ],
)  # fmt: skip
def test_weights_start_as_pytorchs(name: str, args: Any, kwargs: Any) -> None:
    """The same spread, and the same largest value where there is one."""
    fnn.manual_seed(0)
    torch.manual_seed(0)
    mine, theirs = getattr(nn, name)(*args, **kwargs), getattr(torch.nn, name)(*args, **kwargs)
    for key, value in theirs.state_dict().items():
        a, b = np.asarray(mine.state_dict()[key]), value.numpy()
        assert a.dtype == b.dtype
        assert a.std() == pytest.approx(b.std(), rel=0.35 if a.size < 100 else 0.05, abs=1e-6)
        assert a.mean() == pytest.approx(b.mean(), abs=float(0.2 * b.std() + 0.01 * abs(b.mean())))
        if "Embedding" not in name:
            assert np.abs(a).max() == pytest.approx(np.abs(b).max(), rel=0.2 if a.size < 100 else 0.05)


def test_attributes_are_pytorchs() -> None:
    for name, args in (("Conv1d", (2, 3, 3)), ("Conv2d", (2, 3, 3)), ("ConvTranspose2d", (2, 3, 3))):
        mine, theirs = getattr(nn, name)(*args), getattr(torch.nn, name)(*args)
        for attribute in ("kernel_size", "stride", "padding", "dilation", "groups", "padding_mode", "in_channels"):
            assert getattr(mine, attribute) == getattr(theirs, attribute)
        assert repr(mine) == repr(theirs)
    assert nn.Conv1d(2, 3, 4, padding="same").padding == torch.nn.Conv1d(2, 3, 4, padding="same").padding


def test_a_transposed_convolution_of_a_named_size() -> None:
    mine, theirs = (
        nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1),
        torch.nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1),
    )
    mine.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    x = np.random.default_rng(0).normal(size=(1, 2, 5, 5)).astype(np.float32)
    for size in ((10, 9), (1, 3, 9, 10)):
        expected = theirs(torch.tensor(x), output_size=size).detach().numpy()
        np.testing.assert_allclose(mine(x, output_size=size).numpy(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("kind", "x"), [("InstanceNorm1d", SEQ), ("InstanceNorm2d", IMG)])
def test_instance_norm_follows_running_statistics(kind: str, x: Any) -> None:
    torch = pytest.importorskip("torch")
    shape = x.shape if hasattr(x, "shape") else x
    batches = np.random.default_rng(3).normal(2, 3, (3, *shape))
    mine, theirs = (getattr(library, kind)(shape[1], momentum=0.3, affine=True, track_running_stats=True).double()
                    for library in (nn, torch.nn))  # fmt: skip
    for batch in batches:
        np.testing.assert_allclose(mine(batch).detach(), theirs(torch.tensor(batch)).detach(), atol=1e-10)
    assert list(mine.state_dict()) == list(theirs.state_dict())
    for name, value in theirs.state_dict().items():
        np.testing.assert_allclose(mine.state_dict()[name], value, rtol=1e-12)
    expected = theirs.eval()(torch.tensor(batches[0])).detach()
    np.testing.assert_allclose(mine.eval()(batches[0]).detach(), expected, atol=1e-10)
    mean, var = np.zeros(shape[1]), np.ones(shape[1])
    nn.functional.instance_norm(batches[0], mean, var, momentum=0.5)
    means, variances = torch.zeros(shape[1]).double(), torch.ones(shape[1]).double()
    torch.nn.functional.instance_norm(torch.tensor(batches[0]), means, variances, momentum=0.5)
    np.testing.assert_allclose([mean, var], [means, variances], rtol=1e-12)


@pytest.mark.parametrize("compiled", [False, True])
def test_batch_norm_that_no_longer_tracks(compiled: bool) -> None:
    """`track_running_stats = False` set later, as in PyTorch: in training the statistics stay, in eval they count."""
    torch = pytest.importorskip("torch")
    own, other = nn.BatchNorm1d(3), torch.nn.BatchNorm1d(3)
    x = np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32)
    step = fnn.compile(own, nn.MSELoss(), fnn.optim.SGD(own.parameters(), lr=0.0))
    for i in range(4):
        own.track_running_stats = other.track_running_stats = i < 2
        step(x + i, x) if compiled else own(x + i)
        other(torch.tensor(x + i))
        np.testing.assert_allclose(own.running_mean, other.running_mean.numpy(), rtol=1e-5)
        assert int(own.num_batches_tracked) == int(other.num_batches_tracked)
    np.testing.assert_allclose(own.eval()(x).numpy(), other.eval()(torch.tensor(x)).detach().numpy(), atol=1e-5)
