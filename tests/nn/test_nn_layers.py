"""Layers: shapes, values known by hand, gradients against finite differences, options and errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn
from fastnn.errors import ArgumentError, DTypeError, FastnnError, ShapeError

IMAGES, ROWS = (2, 4, 7, 6), (5, 6)
LAYERS: dict[str, tuple[Any, tuple[int, ...], tuple[int, ...]]] = {  # maker, input shape, output shape
    "linear": (lambda: nn.Linear(6, 3), ROWS, (5, 3)),
    "linear-more-dimensions": (lambda: nn.Linear(6, 3, bias=False), IMAGES, (2, 4, 7, 3)),
    "conv": (lambda: nn.Conv2d(4, 3, 3), IMAGES, (2, 3, 5, 4)),
    "conv-options": (lambda: nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 0), (1, 2), 2, False), IMAGES, (2, 6, 4, 4)),
    "conv-same": (lambda: nn.Conv2d(4, 3, (3, 5), padding="same", dilation=(2, 1)), IMAGES, (2, 3, 7, 6)),
    "conv-valid": (lambda: nn.Conv2d(4, 3, 1, padding="valid"), IMAGES, (2, 3, 7, 6)),
    "max-pool": (lambda: nn.MaxPool2d(2), IMAGES, (2, 4, 3, 3)),
    "max-pool-options": (lambda: nn.MaxPool2d((3, 2), 1, (1, 0)), IMAGES, (2, 4, 7, 5)),
    "avg-pool": (lambda: nn.AvgPool2d(3, 2, 1), IMAGES, (2, 4, 4, 3)),
    "avg-pool-inside": (lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False), IMAGES, (2, 4, 4, 3)),
    "adaptive": (lambda: nn.AdaptiveAvgPool2d((1, 1)), IMAGES, (2, 4, 1, 1)),
    "global": (lambda: nn.GlobalAvgPool2d(), IMAGES, (2, 4, 1, 1)),
    "relu": (lambda: nn.ReLU(), IMAGES, IMAGES),
    "leaky-relu": (lambda: nn.LeakyReLU(0.2), ROWS, ROWS),
    "elu": (lambda: nn.ELU(0.7), ROWS, ROWS),
    "sigmoid": (lambda: nn.Sigmoid(), ROWS, ROWS),
    "tanh": (lambda: nn.Tanh(), ROWS, ROWS),
    "gelu": (lambda: nn.GELU(), IMAGES, IMAGES),
    "silu": (lambda: nn.SiLU(), IMAGES, IMAGES),
    "softmax": (lambda: nn.Softmax(), ROWS, ROWS),
    "softmax-channels": (lambda: nn.Softmax(dim=1), IMAGES, IMAGES),
    "log-softmax": (lambda: nn.LogSoftmax(dim=0), ROWS, ROWS),
    "identity": (lambda: nn.Identity(), ROWS, ROWS),
    "flatten": (lambda: nn.Flatten(), IMAGES, (2, 168)),
    "flatten-part": (lambda: nn.Flatten(2, -1), IMAGES, (2, 4, 42)),
    "unflatten": (lambda: nn.Unflatten(1, (2, 3)), ROWS, (5, 2, 3)),
    "dropout": (lambda: nn.Dropout(0.4), ROWS, ROWS),
    "dropout-eval": (lambda: nn.Dropout(0.4).eval(), ROWS, ROWS),
    "dropout-none": (lambda: nn.Dropout(0.0), ROWS, ROWS),
    "batch-norm-rows": (lambda: nn.BatchNorm1d(6), ROWS, ROWS),
    "batch-norm": (lambda: nn.BatchNorm2d(4), IMAGES, IMAGES),
    "batch-norm-eval": (lambda: nn.BatchNorm2d(4).eval(), IMAGES, IMAGES),
    "batch-norm-plain": (lambda: nn.BatchNorm2d(4, affine=False), IMAGES, IMAGES),
    "batch-norm-untracked": (lambda: nn.BatchNorm1d(6, track_running_stats=False).eval(), ROWS, ROWS),
    "normalize": (lambda: nn.Normalize([0.1, 0.2, 0.3, 0.4], [1.0, 2.0, 3.0, 4.0]), IMAGES, IMAGES),
    "normalize-rows": (lambda: nn.Normalize(0.3, 0.5), ROWS, ROWS),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name: str, rng: np.random.Generator) -> None:
    """Shape and type of the output, also for an empty batch and for float64 input; the gradients."""
    make, shape, expected = LAYERS[name]
    layer, x = make(), rng.normal(size=shape)
    single = layer(x.astype(np.float32))
    assert single.shape == expected
    assert single.dtype == np.float32
    # a batch norm that takes the batch's own statistics has none to take
    if not (name.startswith("batch-norm") and (layer.training or not layer.track_running_stats)):
        assert layer(x[:0].astype(np.float32)).shape == (0, *expected[1:])
    cast = layer(x)
    if layer.state_dict():
        assert cast.dtype == np.float32
    else:
        assert cast.dtype == np.float64
    assert fnn.gradcheck(layer, x)


# ---- values ----------------------------------------------------------------------------------------------------------


def test_linear_by_hand() -> None:
    layer = nn.Linear(2, 3)
    layer.weight.data[...] = [[1, 2], [3, 4], [5, 6]]
    layer.bias.data[...] = [1, 0, -1]
    assert layer([[1.0, -1.0], [0.0, 2.0]]).tolist() == [[0, -1, -2], [5, 8, 11]]
    assert layer.in_features == 2
    assert layer.out_features == 3


def test_conv_by_hand() -> None:
    """A 2x2 kernel over a 2x3 image, padded below and above by one row of zeros."""
    layer = nn.Conv2d(1, 1, 2, padding=(1, 0))
    layer.weight.data[...] = [[[[1, 2], [3, 4]]]]
    layer.bias.data[...] = 10
    assert layer([[[[1.0, 0.0, 2.0], [0.0, 1.0, 1.0]]]]).tolist() == [[[[13, 18], [15, 21], [12, 13]]]]


def test_dropout_scales_and_repeats_with_the_seed() -> None:
    layer, x = nn.Dropout(0.25), np.ones(4000, np.float32)
    fnn.manual_seed(1)
    first, second = layer(x).numpy(), layer(x).numpy()
    fnn.manual_seed(1)
    np.testing.assert_array_equal(layer(x).numpy(), first)
    assert (first != second).any()
    assert set(np.unique(first)) == {0, np.float32(4 / 3)}
    assert first.mean() == pytest.approx(1, abs=0.05)
    assert layer.eval()(x).numpy() is x
    assert nn.Dropout(1.0)(x).numpy().any() == np.False_


def test_dropout_drops_gradients_where_it_dropped() -> None:
    x = fnn.Tensor(np.ones(1000, np.float32), requires_grad=True)
    y = nn.Dropout(0.5)(x)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, y.numpy())


def test_batch_norm_statistics_by_hand() -> None:
    layer = nn.BatchNorm1d(1, eps=0.0, momentum=0.25)
    np.testing.assert_allclose(layer([[1.0], [3.0]]).numpy(), [[-1], [1]])
    assert layer.running_mean == pytest.approx([0.5])  # 0.75 * 0 + 0.25 * 2
    assert layer.running_var == pytest.approx([1.25])  # 0.75 * 1 + 0.25 * 2, the unbiased variance
    assert layer.num_batches_tracked == 1
    np.testing.assert_allclose(layer.eval()([[0.5], [0.5 + 1.25**0.5]]).numpy(), [[0], [1]], atol=1e-6)
    assert layer.num_batches_tracked == 1
    layer.reset_parameters()
    assert (layer.running_mean, layer.running_var, layer.num_batches_tracked) == ([0], [1], 0)


def test_batch_norm_cumulative_average() -> None:
    layer = nn.BatchNorm1d(1, momentum=None)
    for values in ([1.0, 3.0], [5.0, 7.0], [0.0, 2.0]):
        layer(np.reshape(values, (2, 1)))
    assert layer.running_mean == pytest.approx([3.0])
    assert layer.num_batches_tracked == 3


@pytest.mark.parametrize("options", [{}, {"momentum": 0.3}, {"momentum": None}, {"affine": False}], ids=str)
def test_batch_norm_is_torchs(options: dict[str, Any], rng: np.random.Generator) -> None:
    """Running statistics over five batches, then eval mode."""
    torch = pytest.importorskip("torch")
    layer, twin = nn.BatchNorm2d(3, **options), torch.nn.BatchNorm2d(3, **options)
    for n in range(2, 7):
        x = rng.normal(1, 2, size=(n, 3, 4, 5)).astype(np.float32)
        np.testing.assert_allclose(layer(x).numpy(), twin(torch.from_numpy(x)).detach().numpy(), atol=1e-5)
    for name, value in twin.state_dict().items():
        np.testing.assert_allclose(layer.state_dict()[name], value.numpy(), rtol=1e-5)
    expected = twin.eval()(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(layer.eval()(x).numpy(), expected, atol=1e-5)


def test_normalize_divides_uint8_by_255() -> None:
    layer = nn.Normalize([0.5, 0.25], [0.5, 0.25])
    image = np.array([0, 255, 51, 102], np.uint8).reshape(1, 2, 2, 1)
    np.testing.assert_allclose(layer(image).numpy().ravel(), [-1, 1, -0.2, 0.6], atol=1e-6)
    np.testing.assert_array_equal(layer(image).numpy(), layer(image.astype(np.float32) / 255).numpy())
    assert layer(image).dtype == np.float32
    assert list(layer.state_dict()) == ["mean", "std"]
    assert layer.double()(image).dtype == np.float64


def test_raw_images_are_refused() -> None:
    """Trained on 0..255 by mistake, a model learns badly and does not say why."""
    x = np.zeros((1, 2, 3, 3), np.uint8)
    message = "expected float images, got uint8: put nn.Normalize first or divide by 255"
    for layer in (nn.Conv2d(2, 1, 2), nn.Sequential(nn.Flatten(), nn.Linear(18, 2))):
        for raw in (x, fnn.Tensor(x)):
            with pytest.raises(DTypeError, match=message):
                layer(raw)
        nn.Sequential(nn.Normalize(0.5, 0.5), layer)(x)


@pytest.mark.parametrize("dtype", [np.int64, bool])
def test_layers_take_integers(dtype: type) -> None:
    x = np.arange(18).reshape(1, 2, 3, 3).astype(dtype)
    for layer in (nn.Conv2d(2, 1, 2), nn.ReLU(), nn.MaxPool2d(2), nn.Sequential(nn.Flatten(), nn.Linear(18, 2))):
        np.testing.assert_array_equal(layer(x).numpy(), layer(x.astype(np.float32)).numpy())


def test_inputs_may_be_read_only_and_strided() -> None:
    layer = nn.Conv2d(3, 2, 3)
    x = np.random.default_rng(0).normal(size=(2, 6, 5, 3)).astype(np.float32)
    x.flags.writeable = False
    channels_first = x.transpose(0, 3, 1, 2)
    np.testing.assert_allclose(layer(channels_first).numpy(), layer(channels_first.copy()).numpy(), atol=1e-6)


# ---- defaults --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "fan_in"), [(lambda: nn.Linear(300, 200), 300), (lambda: nn.Conv2d(16, 64, (3, 5), groups=2), 8 * 15)]
)
def test_default_initialisation_is_torchs(layer: Any, fan_in: int) -> None:
    """Weight and bias uniform on ±1/sqrt(fan_in)."""
    fnn.manual_seed(0)
    made = layer()
    bound = fan_in**-0.5
    for parameter in made.parameters():
        assert parameter.dtype == np.float32
        assert np.abs(parameter.data).max() <= bound * (1 + 1e-6)
        assert np.abs(parameter.data).max() > 0.9 * bound
    assert made.weight.data.std() == pytest.approx(bound / 3**0.5, rel=0.03)
    before = made.weight.data.copy()
    made.reset_parameters()
    assert (made.weight.data != before).any()


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Linear(0, 3), "Linear: expected in_features to be a positive integer, got 0"),
        (lambda: nn.Linear(3, 2.5), "out_features to be a positive integer, got 2.5"),
        (lambda: nn.Conv2d(3, 4, 3, groups=2), "divisible by groups=2, got 3 and 4"),
        (lambda: nn.Conv2d(3, 4, (3, 3, 3)), "kernel_size: expected an int or two ints"),
        (lambda: nn.Conv2d(3, 4, 3, stride=0), "of at least 1 and padding of at least 0"),
        (lambda: nn.Conv2d(3, 4, 3, padding=-1), "of at least 1 and padding of at least 0"),
        (lambda: nn.Conv2d(3, 4, 3, padding="full"), "'same' or 'valid', got 'full'"),
        (lambda: nn.Conv2d(3, 4, 3, 2, padding="same"), "'same' expects stride 1"),
        (lambda: nn.ConvTranspose2d(3, 4, 2, padding_mode="reflect"), "padding_mode to be 'zeros', got 'reflect'"),
        (lambda: nn.MaxPool2d(2, padding=2), "MaxPool2d: .* padding from 0 to half"),
        (lambda: nn.AvgPool2d(0), "AvgPool2d: expected kernel_size and stride of at least 1"),
        (lambda: nn.Dropout(1.5), "Dropout: expected p from 0 to 1, got 1.5"),
        (lambda: fnn.ops.dropout([1.0], -1), "dropout: expected p from 0 to 1, got -1"),
        (lambda: nn.BatchNorm2d(-3), "BatchNorm2d: expected num_features"),
        (lambda: nn.Normalize([0.1, 0.2], 1.0), "Normalize: expected mean and std of one length"),
        (lambda: nn.Normalize(0.1, 0.0), "std positive"),
    ],
)
def test_options_that_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make()


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (nn.Linear(6, 2), (5,), r"expected input of shape \(N, 6\), got \(5,\)"),
        (nn.Linear(6, 2), (3, 5), r"expected input with 6 features \(weight is \(2, 6\)\), got \(3, 5\)"),
        (nn.Linear(6, 2), (3, 1, 2, 3), r"expected input of shape \(N, 6\), got \(3, 1, 2, 3\): flatten it first"),
        (nn.Linear(6, 2), (), r"\(N, 6\), got \(\)"),
        (nn.Conv2d(3, 2, 3), (8, 8), r"shape \(N, C, H, W\), got \(8, 8\)"),
        (nn.Conv2d(3, 2, 3), (1, 1, 8, 8), "expected input with 3 channels"),
        (nn.Conv2d(3, 2, 3), (1, 3, 2, 8), r"a kernel that fits .* got kernel \(3, 3\) .* image \(2, 8\)"),
        (nn.Conv2d(3, 2, 3), (5, 12), r"\(N, C, H, W\).*\(5, 12\)"),
        (nn.MaxPool2d(2), (8, 8), r"\(N, C, H, W\).*\(8, 8\)"),
        (nn.AvgPool2d(9), (1, 3, 8, 8), r"a kernel that fits .* got kernel \(9, 9\) .* image \(8, 8\)"),
        (nn.AdaptiveAvgPool2d(1), (3, 8), r"\(N, C, H, W\).*\(3, 8\)"),
        (nn.BatchNorm1d(4), (4,), r"expected input of shape \(N, 4\) or \(N, 4, L\), got \(4,\)"),
        (nn.BatchNorm1d(4), (2, 4, 3, 3), r"of shape \(N, 4\) or \(N, 4, L\), got \(2, 4, 3, 3\)"),
        (nn.BatchNorm2d(4), (2, 3, 5, 5), r"expected input of shape \(N, 4, H, W\), got \(2, 3, 5, 5\)"),
        (nn.BatchNorm1d(4), (1, 4), "more than one value per channel"),
        (nn.BatchNorm1d(4), (0, 4), r"\(0, 4\)"),
        (nn.Normalize([0.1, 0.2], [1.0, 1.0]), (2, 3, 4, 4), r"of shape \(N, 2, ...\), got \(2, 3, 4, 4\)"),
        (nn.Softmax(dim=2), (2, 3), "softmax: expected a dimension from -2 to 1, got 2"),
        (nn.Flatten(3), (2, 3), "flatten: expected a dimension"),
        (nn.Unflatten(1, (2, 2)), (2, 3), r"reshape: .* got \(2, 2, 2\)"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)
def test_shapes_that_are_refused(layer: nn.Module, shape: tuple[int, ...], message: str) -> None:
    """One error that names the layer, what was expected and what came."""
    with pytest.raises(ShapeError, match=message) as caught:
        layer(np.zeros(shape, np.float32))
    assert str(caught.value).startswith(repr(layer))


@pytest.mark.parametrize("x", [np.zeros((2, 3), complex), np.array([[None, 1]]), [["a", "b"]]], ids=str)
def test_types_that_are_refused(x: Any) -> None:
    for layer in (nn.Linear(2, 1), nn.ReLU(), nn.Flatten()):
        with pytest.raises(DTypeError, match="expected float32, float64, integers or booleans, got"):
            layer(x)


def test_nan_goes_through() -> None:
    x = np.array([[np.nan, 1.0]], np.float32)
    for layer in (nn.ReLU(), nn.Sigmoid(), nn.GELU(), nn.Linear(2, 1), nn.Softmax()):
        assert np.isnan(layer(x).numpy()).any()


def test_every_layer_raises_fastnns_errors_only() -> None:
    """Whatever shape comes in."""
    for name, (make, _, _) in LAYERS.items():
        for shape in ((), (0,), (3,), (3, 3), (2, 3, 4), (2, 3, 4, 5), (1, 1, 1, 1, 1)):
            try:
                make()(np.zeros(shape, np.float32))
            except FastnnError:
                continue
            except Exception as error:
                raise AssertionError(f"{name} on {shape}: {error!r}") from error


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("option", ["eps", "momentum"])
def test_options_of_batch_norm_that_are_set_to_nonsense(option: str, training: bool) -> None:
    layer = nn.BatchNorm1d(2).train(training)
    setattr(layer, option, "x")
    if option == "momentum" and not training:
        assert layer(np.ones((3, 2), np.float32)).shape == (3, 2)
        return
    with pytest.raises(ArgumentError, match=f"BatchNorm1d.*expected {option} .*got 'x'"):
        layer(np.ones((3, 2), np.float32))
