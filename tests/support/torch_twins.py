"""A fastnn model and its PyTorch twin: random networks described once, built twice, with the same numbers in them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import fastnn as fnn
from fastnn import nn

Layer = tuple[str, dict[str, Any]]  # a class of nn and torch.nn, and its arguments


def build(layers: list[Layer], library: Any) -> Any:
    """The layers in the library's Sequential; Normalize, which PyTorch lacks, is a frozen batch norm there."""
    built = []
    for name, arguments in layers:
        if name == "Normalize" and library is not nn:
            twin = library.BatchNorm2d(len(arguments["mean"]), eps=0.0, affine=False)
            twin.running_mean.copy_(twin.running_mean.new_tensor(arguments["mean"]))
            twin.running_var.copy_(twin.running_var.new_tensor(np.square(arguments["std"])))
            built.append(twin.eval())
        else:
            built.append(getattr(library, name)(**arguments))
    return library.Sequential(*built)


def copy_weights(model: nn.Module, twin: Any) -> None:
    """The model's parameters into its twin."""
    import torch

    with torch.no_grad():
        for own, other in zip(model.parameters(), twin.parameters(), strict=True):
            other.copy_(torch.from_numpy(own.numpy().copy()))


def relative_error(value: np.ndarray, exact: np.ndarray) -> float:
    """The largest difference, relative to the largest entry."""
    assert value.shape == exact.shape
    return float(np.abs(value - exact).max(initial=0) / max(np.abs(exact).max(initial=0), 1e-30))


ACTIVATIONS: list[Layer] = [
    ("ReLU", {}),
    ("LeakyReLU", {"negative_slope": 0.1}),
    ("ELU", {"alpha": 0.7}),
    ("Sigmoid", {}),
    ("Tanh", {}),
    ("GELU", {}),
    ("SiLU", {}),
    ("ReLU6", {}),
    ("Hardswish", {}),
    ("Softplus", {}),
    ("Mish", {}),
    ("Identity", {}),
    ("Softmax", {"dim": 1}),
    ("LogSoftmax", {"dim": 1}),
    ("Dropout", {"p": 0.0}),
]


def random_network(rng: np.random.Generator) -> tuple[list[Layer], tuple[int, ...]]:
    """3 to 8 layers that fit on one another, and the shape of the input (N, C, H, W)."""
    n, c, h, w = int(rng.integers(2, 6)), int(rng.integers(1, 5)), int(rng.integers(7, 20)), int(rng.integers(7, 20))
    shape = (n, c, h, w)
    count = int(rng.integers(3, 9))
    layers: list[Layer] = []
    if rng.random() < 0.3:
        mean, std = rng.integers(-16, 16, c) / 16, rng.integers(8, 32, c) / 16  # exact in float32, squares too
        layers.append(("Normalize", {"mean": mean.tolist(), "std": std.tolist()}))
    dense = int(rng.integers(0, 3)) if count > 4 else 0  # layers after Flatten
    while len(layers) < count - (dense + 1 if dense else 0):
        name, arguments, (c, h, w) = _image_layer(rng, c, h, w)
        layers.append((name, arguments))
    if dense:
        layers.append(("Flatten", {}))
        features = c * h * w
        for _ in range(dense):
            layers.append(_dense_layer(rng, features))
            features = layers[-1][1].get("out_features", features)
    return layers, shape


def _image_layer(rng: np.random.Generator, c: int, h: int, w: int) -> tuple[str, dict[str, Any], tuple[int, int, int]]:
    kind = rng.choice(["conv", "conv", "conv", "max", "avg", "norm", "global", "activation", "activation"])
    if kind == "conv":
        return _convolution(rng, c, h, w)
    if kind in ("max", "avg") and min(h, w) >= 3:
        k = (int(rng.integers(1, 4)), int(rng.integers(2, 4)))
        s, p = (int(rng.integers(1, 4)), int(rng.integers(1, 3))), (int(rng.integers(0, k[0] // 2 + 1)), 0)
        arguments: dict[str, Any] = {"kernel_size": k, "stride": s, "padding": p}
        if kind == "avg":
            arguments["count_include_pad"] = bool(rng.integers(2))
        size = [(side + 2 * p[i] - k[i]) // s[i] + 1 for i, side in enumerate((h, w))]
        return ("MaxPool2d" if kind == "max" else "AvgPool2d"), arguments, (c, size[0], size[1])
    if kind == "norm":
        return "BatchNorm2d", {"num_features": c, "affine": bool(rng.integers(2))}, (c, h, w)
    if kind == "global" and rng.random() < 0.3:
        return "AdaptiveAvgPool2d", {"output_size": 1}, (c, 1, 1)
    name, arguments = ACTIVATIONS[rng.integers(len(ACTIVATIONS))]
    return name, arguments, (c, h, w)


def _convolution(rng: np.random.Generator, c: int, h: int, w: int) -> tuple[str, dict[str, Any], tuple[int, int, int]]:
    groups = int(rng.choice([g for g in (1, 1, 2, 3, c) if c % g == 0]))
    out = groups * int(rng.integers(1, 5))
    dilation = (int(rng.integers(1, 3)), 1)
    k = tuple(int(rng.integers(1, 1 + min(5, (side - 1) // d + 1))) for side, d in zip((h, w), dilation, strict=True))
    s, p = (int(rng.integers(1, 3)), int(rng.integers(1, 4))), (int(rng.integers(0, 3)), int(rng.integers(0, 3)))
    size = [(side + 2 * p[i] - dilation[i] * (k[i] - 1) - 1) // s[i] + 1 for i, side in enumerate((h, w))]
    arguments = {
        "in_channels": c, "out_channels": out, "kernel_size": k, "stride": s, "padding": p, "dilation": dilation,
        "groups": groups, "bias": bool(rng.integers(2)),
    }  # fmt: skip
    return "Conv2d", arguments, (out, size[0], size[1])


def _dense_layer(rng: np.random.Generator, features: int) -> Layer:
    kind = rng.integers(4)
    if kind <= 1:
        return "Linear", {
            "in_features": features, "out_features": int(rng.integers(1, 40)), "bias": bool(rng.integers(2))
        }  # fmt: skip
    if kind == 2:
        return "BatchNorm1d", {"num_features": features}
    return ACTIVATIONS[rng.integers(len(ACTIVATIONS))]


def gradients(model: nn.Module, x: np.ndarray, cotangent: np.ndarray) -> Iterator[np.ndarray]:
    """Output, input gradient and all parameter gradients of a fastnn model, in this order."""
    data = fnn.Tensor(x, requires_grad=True)
    output = model(data)
    output.backward(cotangent)
    assert data.grad is not None
    yield output.numpy()
    yield data.grad
    for parameter in model.parameters():
        assert parameter.grad is not None
        yield parameter.grad


def torch_gradients(twin: Any, x: np.ndarray, cotangent: np.ndarray) -> Iterator[np.ndarray]:
    """The same of the PyTorch twin, in its own precision."""
    import torch

    dtype = next((p.dtype for p in twin.parameters()), torch.from_numpy(x).dtype)
    data = torch.from_numpy(x).to(dtype).requires_grad_()
    output = twin(data)
    output.backward(torch.from_numpy(cotangent).to(output.dtype))
    yield output.detach().numpy()
    yield data.grad.numpy()
    for parameter in twin.parameters():
        yield parameter.grad.numpy()
