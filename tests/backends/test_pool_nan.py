"""A NaN in a pooling window, wherever it stands: the window's maximum is NaN, in eager and in every compiled engine."""

from __future__ import annotations

import numpy as np
import pytest
from plan_networks import ISAS, running_on

import fastnn as fnn
from fastnn import nn, optim
from fastnn.backends import shapes
from fastnn.errors import NonFiniteError, ShapeError

# What the engines are chosen by: channels that fill vectors or do not, batch norm, and few or many images.
CHANNELS = (1, 3, 6, 16, 20, 32)
IMAGES = (1, 2, 5, 8, 17)


def pictures(n: int, pool: int, seed: int) -> np.ndarray:
    """Images of windows (n, 1, 4 pool, 5 pool); every second window holds a NaN, in each place in turn."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 1, 4 * pool, 5 * pool)).astype(np.float32)
    for count, (image, row, column) in enumerate(np.ndindex(n, 4, 5)):
        if count % 2:
            place = count // 2 % pool**2
            x[image, 0, row * pool + place // pool, column * pool + place % pool] = np.nan
    return x


def pooled(z: np.ndarray, pool: int) -> np.ndarray:
    """NumPy's maximum, which a NaN wins, over windows of pool x pool."""
    n, c, h, w = z.shape
    return z.reshape(n, c, h // pool, pool, w // pool, pool).max(axis=(3, 5))


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("pool", [2, 3, 4, 5])
def test_a_nan_wins_its_window_in_every_engine(pool: int, relu: bool, norm: bool) -> None:
    for channels in CHANNELS:
        fnn.manual_seed(channels)
        conv = nn.Conv2d(1, channels, 1)
        layers: list[nn.Module] = [conv, *[nn.BatchNorm2d(channels)] * norm, *[nn.ReLU()] * relu, nn.MaxPool2d(pool)]
        model = nn.Sequential(*layers).eval()
        weight, bias = conv.weight.data.reshape(1, -1, 1, 1), conv.bias.data.reshape(1, -1, 1, 1)
        for images in IMAGES:
            x = pictures(images, pool, channels + images)
            z = (x * weight + bias) / np.sqrt(1 + 1e-5) ** norm
            expected = pooled(np.maximum(z, 0) if relu else z, pool)
            for isa in ISAS:
                with running_on(isa), fnn.no_grad():
                    for name, got in (("eager", model(x).numpy()), ("compiled", fnn.compile(model)(x))):
                        message = f"{name}, {isa}, {channels} channels, {images} images"
                        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5, err_msg=message)


@pytest.mark.parametrize("norm", [False, True])
def test_a_nan_is_kept_by_later_layers(norm: bool) -> None:
    """Through a second convolution, by Winograd's way too, which may spread it further but never loses it."""
    for channels in (4, 8, 16):
        fnn.manual_seed(channels)
        layers: list[nn.Module] = [nn.Conv2d(1, channels, 1), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1)]
        model = nn.Sequential(*layers, *[nn.BatchNorm2d(channels)] * norm, nn.ReLU(), nn.MaxPool2d(2)).eval()
        for images in IMAGES:
            x = np.random.default_rng(images).normal(size=(images, 1, 16, 16)).astype(np.float32)
            x[-1, 0, 9, 6] = np.nan
            for isa in ISAS:
                with running_on(isa), fnn.no_grad():
                    wanted = np.isnan(model(x).numpy())
                    assert wanted.any()
                    assert np.isnan(fnn.compile(model)(x))[wanted].all(), f"{isa}, {channels} channels, {images} images"


@pytest.mark.parametrize("place", range(4))
def test_a_step_notices_a_nan_in_every_place_of_a_window(place: int) -> None:
    for channels in (3, 16):
        for images in (2, 16):
            for isa in ISAS:
                with running_on(isa):
                    fnn.manual_seed(0)
                    model = nn.Sequential(
                        nn.Conv2d(1, channels, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * channels, 2)
                    )
                    step = fnn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
                    x = np.ones((images, 1, 4, 4), np.float32)
                    x[0, 0, place // 2, place % 2] = np.nan
                    with pytest.raises(NonFiniteError):
                        step(x, np.zeros(images, int))


def test_the_gradient_goes_to_the_first_nan() -> None:
    for pool, window in ((2, [1, np.nan, 3, np.nan]), (3, [1, 2, 3, 4, np.nan, 6, np.nan, 8, 9])):
        x = fnn.Tensor(np.array(window, np.float32).reshape(1, 1, pool, pool), requires_grad=True)
        nn.MaxPool2d(pool)(x).sum().backward()
        expected = np.zeros(pool**2)
        expected[np.isnan(window).argmax()] = 1
        np.testing.assert_array_equal(x.grad.ravel(), expected)


def test_other_extremes_keep_nan() -> None:
    x = fnn.Tensor(np.array([[1, np.nan, 3], [4, 5, 6]], np.float32))
    assert np.isnan(x.max().numpy())
    assert np.isnan(x.min().numpy())
    assert x.argmax().item() == 1
    values, places = x.max(1)
    assert np.isnan(values.numpy()[0])
    assert places.numpy().tolist() == [1, 2]
    assert np.isnan(x.clamp(0, 2).numpy()).sum() == 1
    assert np.isnan(nn.Softmax(1)(x).numpy()).all(1).tolist() == [True, False]
    assert np.isnan(nn.LogSoftmax(1)(x).numpy()).all(1).tolist() == [True, False]
    image = x.reshape(1, 2, 1, 3)
    for pool in (nn.AvgPool2d((1, 3)), nn.GlobalAvgPool2d()):
        assert np.isnan(pool(image).numpy()).ravel().tolist() == [True, False]


def test_planes_that_int32_positions_cannot_count_are_refused() -> None:
    """Planes of which only one pixel is in memory; the check comes before anything is allocated."""
    huge = np.broadcast_to(np.float32(1), (1, 1, (1 << 16) + 1, 1 << 15))
    with pytest.raises(ShapeError, match="pixels"):
        shapes.max_pool2d_forward(huge, (2, 2), (2, 2), (0, 0), None, shapes.FLOAT32)
    with pytest.raises(ShapeError, match="pixels"):
        nn.MaxPool2d(1 << 15)(huge)
    grad, argmax = np.zeros((1, 1, 1, 1), np.float32), np.zeros((1, 1, 1, 1), np.int32)
    with pytest.raises(ShapeError, match="pixels"):
        shapes.max_pool2d_backward_input(grad, argmax, huge.shape[2:], None, shapes.FLOAT32)
    most = huge[:, :, 1:]
    shapes.max_pool2d_forward(most, (1 << 15, 1 << 15), (1 << 15, 1 << 15), (0, 0), None, shapes.FLOAT32)
