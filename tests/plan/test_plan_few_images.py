"""compile(model) for a few images: kernels of their own, the call that skips looking things up, and frozen models."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import threading

import numpy as np
import plan_networks as networks
import pytest
from long import draws
from plan_networks import CLASSES, ISAS, NATIVE, running_on

import fastnn as fnn
from fastnn import nn, optim
from fastnn.errors import ArgumentError, ShapeError

FEW = (1, 2, 3, 4, 5, 7)


def exact_outputs(model: nn.Module, x: np.ndarray) -> np.ndarray:
    model = copy.deepcopy(model).double().eval()
    with fnn.no_grad():
        return model(fnn.Tensor(networks.wide(x))).numpy()


def assert_close(found: np.ndarray, expected: np.ndarray, bound: float = 1e-5, message: str = "") -> None:
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound * np.abs(expected).max(), err_msg=message)


def convolutions(rng: np.random.Generator) -> tuple[nn.Module, np.ndarray]:
    """One to three convolutions of few channels, with and without bias, ReLU, pooling and padding, on 7 images."""
    c, h, w = int(rng.integers(1, 8)), int(rng.integers(9, 36)), int(rng.integers(9, 36))
    uint8 = rng.random() < 0.5
    x = rng.integers(0, 256, (7, c, h, w)).astype(np.uint8) if uint8 else rng.normal(size=(7, c, h, w))
    layers: list[nn.Module] = [nn.Normalize(rng.uniform(0.2, 0.8, c), rng.uniform(0.1, 0.5, c))] if uint8 else []
    for _ in range(rng.integers(1, 4)):
        kh, kw = (int(rng.integers(1, min(6, size + 1))) for size in (h, w))
        o, ph, pw = int(rng.integers(1, 24)), int(rng.integers(0, kh)), int(rng.integers(0, kw))
        layers.append(nn.Conv2d(c, o, (kh, kw), padding=(ph, pw), bias=bool(rng.random() < 0.7)))
        c, h, w = o, h + 2 * ph - kh + 1, w + 2 * pw - kw + 1
        if rng.random() < 0.7:
            layers.append(nn.ReLU())
        if rng.random() < 0.5 and min(h, w) > 1:
            layers.append(nn.MaxPool2d(2))
            h, w = h // 2, w // 2
    return nn.Sequential(*layers, nn.Flatten()), x if uint8 else x.astype(np.float32)


@pytest.mark.parametrize("seed", draws(range(40), 8))
def test_a_few_images_through_convolutions_of_few_channels(seed: int) -> None:
    fnn.manual_seed(seed)
    model, x = convolutions(np.random.default_rng(seed))
    for exact, bound in ((True, networks.EXACT), (False, networks.WINOGRAD)):
        predict = fnn.compile(model, exact=exact)
        for isa in ISAS:
            with running_on(isa):
                for n in FEW:
                    assert_close(predict(x[:n]), exact_outputs(model, x[:n]), bound, f"{isa}, batch of {n}")


def test_pooling_of_a_few_images_keeps_nan() -> None:
    """A pixel that is not a number is seen in every window that its convolutions reach, and nowhere else."""
    fnn.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 5, 3))
    x = np.random.default_rng(0).normal(size=(1, 1, 40, 20)).astype(np.float32)
    x[0, 0, 30, 9] = np.nan
    expected = np.isnan(exact_outputs(model, x))
    assert expected.any()
    assert not expected.all()
    for isa in ISAS:
        with running_on(isa):
            assert np.array_equal(np.isnan(fnn.compile(model)(x)), expected)


def test_chain_of_few_images_is_chosen_by_their_number() -> None:
    if not NATIVE:
        pytest.skip("the other backends fuse nothing")
    predict = fnn.compile(networks.lenet())
    x, _ = networks.batch_for(networks.lenet, 64)
    for n, name in ((1, "planes"), (64, "narrow")):
        predict(x[:n])
        assert f"chain {name}" in predict.describe()


# ---- frozen ---------------------------------------------------------------------------------------------------------


def dense(rng: np.random.Generator, kind: str) -> tuple[nn.Module, np.ndarray]:
    """Two dense layers on `kind` input of 7 images, most of whose numbers are the same."""
    inputs, hidden = int(rng.integers(32, 1300)), int(rng.integers(32, 300))
    layers = [
        nn.Linear(inputs, hidden),
        nn.ReLU(),
        nn.Linear(hidden, 33, bias=False),
        nn.ReLU(),
        nn.Linear(33, CLASSES),
    ]
    few = rng.random((7, inputs)) < 0.2
    x = np.where(few, rng.normal(size=few.shape), {"zeros": 0, "background": -0.42, "full": 0}[kind]).astype(np.float32)
    x[few & (rng.random(few.shape) < 0.2)] = 0
    return nn.Sequential(*layers), rng.normal(size=few.shape).astype(np.float32) if kind == "full" else x


@pytest.mark.parametrize("kind", ["zeros", "background", "full"])
@pytest.mark.parametrize("seed", range(5))
def test_frozen_dense_layers(seed: int, kind: str) -> None:
    fnn.manual_seed(seed)
    model, x = dense(np.random.default_rng(seed), kind)
    predict = fnn.compile(model, frozen=True)
    for isa in ISAS:
        for threads in (1, 2):
            with running_on(isa, threads):
                for n in FEW:
                    assert_close(predict(x[:n]), exact_outputs(model, x[:n]), message=f"{isa}, batch of {n}")


@pytest.mark.parametrize("channels", [1, 3])
def test_frozen_dense_layers_on_bytes(channels: int) -> None:
    """Zero is another float in each channel."""
    fnn.manual_seed(0)
    rng = np.random.default_rng(0)
    model = nn.Sequential(
        nn.Normalize(rng.uniform(0.2, 0.8, channels), rng.uniform(0.1, 0.5, channels)),
        nn.Flatten(), nn.Linear(channels * 200, 50), nn.ReLU(), nn.Linear(50, CLASSES),
    )  # fmt: skip
    x = (rng.integers(0, 256, (7, channels, 10, 20)) * (rng.random((7, channels, 10, 20)) < 0.3)).astype(np.uint8)
    x[6] = 0
    predict = fnn.compile(model, frozen=True)
    for isa in ISAS:
        with running_on(isa):
            for n in (*FEW, 7):
                assert_close(predict(x[7 - n :]), exact_outputs(model, x[7 - n :]), message=f"{isa}, batch of {n}")


def test_a_background_is_what_most_inputs_are() -> None:
    """One large number, first or not, is none: taken off all others and added again it would cost them their digits."""
    fnn.manual_seed(0)
    model = nn.Sequential(nn.Linear(784, 64))
    model[0].weight.data[:, 0] = 0
    x = np.random.default_rng(0).normal(size=(1, 784)).astype(np.float32)
    x[0, 0] = 2e4
    predict = fnn.compile(model, frozen=True)
    assert_close(predict(x), exact_outputs(model, x))
    model[0].weight.data[:, 0] = 1
    x[0, 0] = np.inf
    assert np.isposinf(fnn.compile(model, frozen=True)(x)).all()


def test_describe_names_the_frozen_kernel_where_it_runs() -> None:
    if not NATIVE:
        pytest.skip("the other backends fuse nothing")
    predict = fnn.compile(nn.Sequential(nn.Linear(64, 64)), frozen=True)
    x = np.ones((64, 64), np.float32)
    for n in (1, 64):
        predict(x[:n])
        assert ("frozen" in predict.describe()) == (n == 1)


def test_frozen_refuses_what_cannot_be_copied() -> None:
    model = networks.mlp()
    model.lock = threading.Lock()
    with pytest.raises(ArgumentError, match="expected a model that can be copied"):
        fnn.compile(model, frozen=True)


def test_inference_does_without_the_extension() -> None:
    """As where the package was built without a compiler."""
    program = """
import sys
sys.modules["fastnn._kernels"] = None
import numpy as np, fastnn as fnn
model = fnn.nn.Sequential(fnn.nn.Linear(3, 2))
for frozen in (False, True):
    assert fnn.compile(model, frozen=frozen)(np.ones((4, 3), np.float32)).shape == (4, 2)
"""
    environment = {**os.environ, "FASTNN_BACKEND": "reference"}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, timeout=120)


def test_frozen_gives_the_same_bits_for_every_number_of_threads() -> None:
    fnn.manual_seed(0)
    model = nn.Sequential(nn.Linear(4000, 500), nn.ReLU(), nn.Linear(500, CLASSES))
    x = np.random.default_rng(0).normal(size=(3, 4000)).astype(np.float32)
    found = []
    for threads in (1, 2, 5):
        with running_on(threads=threads):
            found.append(fnn.compile(model, frozen=True)(x))
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


def test_frozen_does_not_follow_the_model_and_the_others_do() -> None:
    model = networks.lenet()
    x, y = networks.batch_for(networks.lenet, 3)
    frozen, live = fnn.compile(model, frozen=True), fnn.compile(model)
    step = fnn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.5))
    before = exact_outputs(model, x)
    frozen(x), live(x)
    step(x, y)
    model[0].bias.data[...] += 1
    after = exact_outputs(model, x)
    assert np.abs(after - before).max() > 0.01
    for _ in range(2):
        assert_close(frozen(x), before)
        assert_close(live(x), after)
    assert model.training


def test_frozen_is_for_inference() -> None:
    with pytest.raises(ArgumentError, match="frozen for inference"):
        fnn.compile(networks.mlp(), nn.CrossEntropyLoss(), frozen=True)  # type: ignore[call-overload]


# ---- the ready call ------------------------------------------------------------------------------------------------


def test_a_ready_call_sees_what_changes_between_calls() -> None:
    """Parameters written to and replaced, the numbers of Normalize, layers, instruction sets, shapes and types."""
    fnn.manual_seed(0)
    model = nn.Sequential(nn.Normalize([0.3], [0.4]), nn.Conv2d(1, 6, 3), nn.Flatten(), nn.Linear(384, CLASSES))
    x = np.random.default_rng(0).integers(0, 256, (5, 1, 10, 10)).astype(np.uint8)
    predict = fnn.compile(model)
    changes = [
        lambda: model[3].weight.data.__imul__(2),
        lambda: setattr(model[3].weight, "data", model[3].weight.data[::-1].copy()),
        lambda: model[0].mean.__iadd__(0.1),
        lambda: model.__setitem__(2, nn.Sequential(nn.ReLU(), nn.Flatten())),
    ]
    for change in changes:
        for n in (5, 1, 1):
            assert_close(predict(x[:n]), exact_outputs(model, x[:n]))
        before = predict(x)
        predict(x)
        change()
        assert not np.array_equal(predict(x), before)
        assert_close(predict(x), exact_outputs(model, x))
    for isa in ISAS:
        with running_on(isa):
            assert_close(predict(x), exact_outputs(model, x))
    scaled = (x / np.float32(255)).astype(np.float32)
    assert_close(predict(scaled), exact_outputs(model, scaled))
    assert_close(predict(x.astype(np.int64)), exact_outputs(model, x.astype(np.int64)))
    assert_close(predict(np.asfortranarray(x)), exact_outputs(model, x))


def test_a_ready_call_refuses_what_the_first_one_refused() -> None:
    predict = fnn.compile(networks.mlp())
    x, _ = networks.batch_for(networks.mlp, 2)
    for _ in range(2):
        expected = predict(x)
        for out in (np.empty((2, CLASSES)), np.empty((3, CLASSES), np.float32), "out"):
            with pytest.raises(ShapeError, match="expected out to be an array float32"):
                predict(x, out)  # type: ignore[arg-type]
        every_other = np.empty((2, 2 * CLASSES), np.float32)[:, ::2]
        assert predict(x, every_other) is every_other
        assert np.array_equal(every_other, expected)
        with pytest.raises(ShapeError):
            predict(x[:, :-1])
