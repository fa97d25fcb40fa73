"""Random networks that are graphs: residual sums, concatenations, shared layers, two heads; for fastnn and PyTorch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from plan_networks import CLASSES, Layer

from fastnn import nn

ACTIVATIONS: list[Layer] = [
    ("ReLU", {}),
    ("ReLU", {}),
    ("LeakyReLU", {"negative_slope": 0.1}),
    ("Tanh", {}),
    ("Sigmoid", {}),
    ("ELU", {"alpha": 0.7}),
    ("GELU", {}),
    ("SiLU", {}),
    ("ReLU6", {}),
    ("Hardswish", {}),
    ("Softplus", {}),
    ("Mish", {}),
]
Shape = tuple[int, int, int]
Pair = tuple[int, int]


@dataclass
class Described:
    """Steps on numbered values, of which 0 is the input: a layer's number, "add" or "cat", with the values taken."""

    batch: int
    shape: Shape
    uint8: bool = False
    layers: list[Layer] = field(default_factory=list)
    steps: list[tuple[Any, tuple[int, ...]]] = field(default_factory=list)
    shapes: list[Shape] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.shapes.append(self.shape)

    def step(self, what: Any, values: tuple[int, ...], shape: Shape) -> int:
        self.steps.append((what, values))
        self.shapes.append(shape)
        return len(self.steps)

    def layer(self, name: str, value: int, shape: Shape, **options: Any) -> int:
        self.layers.append((name, options))
        return self.step(len(self.layers) - 1, (value,), shape)

    def conv(self, value: int, out: int, kernel: Any = 3, **options: Any) -> int:
        """By default of the same size."""
        c, h, w = self.shapes[value]
        k = (kernel, kernel) if isinstance(kernel, int) else kernel
        options.setdefault("padding", (k[0] // 2, k[1] // 2))
        stride, dilation = options.setdefault("stride", (1, 1)), options.setdefault("dilation", (1, 1))
        h, w = (
            (side + 2 * p - d * (each - 1) - 1) // s + 1
            for side, p, d, each, s in zip((h, w), options["padding"], dilation, k, stride, strict=True)
        )
        return self.layer("Conv2d", value, (out, h, w), in_channels=c, out_channels=out, kernel_size=k, **options)

    def norm(self, value: int, **options: Any) -> int:
        """Batch norm, where the batch is large enough for it."""
        c, h, w = self.shapes[value]
        if self.batch * h * w < 16:
            return value
        return self.layer("BatchNorm2d", value, (c, h, w), num_features=c, **options)

    def activation(self, value: int, layer: Layer) -> int:
        return self.layer(layer[0], value, self.shapes[value], **layer[1])

    def pool(
        self, name: str, value: int, k: tuple[int, int], s: tuple[int, int], p: tuple[int, int], **more: Any
    ) -> int:
        c, h, w = self.shapes[value]
        size = ((h + 2 * p[0] - k[0]) // s[0] + 1, (w + 2 * p[1] - k[1]) // s[1] + 1)
        return self.layer(name, value, (c, *size), kernel_size=k, stride=s, padding=p, **more)

    def add(self, a: int, b: int) -> int:
        return self.step("add", (a, b), self.shapes[a])

    def cat(self, *values: int) -> int:
        _, h, w = self.shapes[values[0]]
        return self.step("cat", values, (sum(self.shapes[v][0] for v in values), h, w))

    def head(self, value: int, average: bool) -> int:
        c, h, w = self.shapes[value]
        if average:
            value, h, w = self.layer("AdaptiveAvgPool2d", value, (c, 1, 1), output_size=1), 1, 1
        value = self.layer("Flatten", value, (c * h * w, 1, 1))
        return self.layer("Linear", value, (CLASSES, 1, 1), in_features=c * h * w, out_features=CLASSES)

    def build(self, library: Any = nn, cat: Any = None) -> Any:
        """The network in this library."""
        import fastnn as fnn

        steps, layers, cat = self.steps, self.layers, cat or fnn.cat

        class Network(library.Module):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                super().__init__()
                for k, (name, options) in enumerate(layers):
                    setattr(self, f"layer{k}", _layer(library, name, options))

            def forward(self, x: Any) -> Any:
                values = [x]
                for what, taken in steps:
                    given = [values[k] for k in taken]
                    if what == "add":
                        values.append(given[0] + given[1])
                    elif what == "cat":
                        values.append(cat(given, 1))
                    else:
                        values.append(getattr(self, f"layer{what}")(*given))
                return values[-1]

        return Network()


def _layer(library: Any, name: str, options: dict[str, Any]) -> Any:
    if name == "Normalize" and library is not nn:  # a frozen batch norm does the same in PyTorch
        twin = library.BatchNorm2d(len(options["mean"]), eps=0.0, affine=False)
        twin.running_mean.copy_(twin.running_mean.new_tensor(options["mean"]))
        twin.running_var.copy_(twin.running_var.new_tensor(np.square(options["std"])))
        return twin.eval()
    return getattr(library, name)(**options)


def described(seed: int) -> Described:
    """The network of this seed, out of one to four random parts."""
    rng = np.random.default_rng(seed)
    batch = int(rng.choice([1, 2, 5, 16, 17, 33]))
    shape = (int(rng.choice([1, 3, 4, 8])), int(rng.integers(7, 14)), int(rng.integers(7, 14)))
    net = Described(batch, shape, bool(rng.random() < 0.3))
    value = 0
    if net.uint8:
        mean, std = rng.integers(2, 14, shape[0]) / 16, rng.integers(4, 16, shape[0]) / 16
        value = net.layer("Normalize", 0, shape, mean=mean.tolist(), std=std.tolist())
    for _ in range(int(rng.integers(1, 5))):
        value = PARTS[int(rng.integers(len(PARTS)))](net, rng, value)
        if rng.random() < 0.3:
            value = _pooled(net, rng, value)
    other = int(rng.integers(1, len(net.shapes)))
    first = net.head(value, average=bool(rng.random() < 0.5))
    if rng.random() < 0.4:  # two heads
        net.add(first, net.head(other, average=True))
    return net


def _channels(rng: np.random.Generator) -> int:
    return int(rng.choice([4, 8, 16, 17, 20, 32]))


def _active(net: Described, rng: np.random.Generator, value: int) -> int:
    return net.activation(value, ACTIVATIONS[int(rng.integers(len(ACTIVATIONS)))])


def _norm(net: Described, rng: np.random.Generator, value: int, chance: float = 0.7) -> int:
    if rng.random() >= chance:
        return value
    momentum = float(rng.choice([0.1, 0.3]))
    return net.norm(
        value, affine=bool(rng.random() < 0.8), momentum=momentum, track_running_stats=bool(rng.random() < 0.9)
    )


def _pooled(net: Described, rng: np.random.Generator, value: int) -> int:
    _, h, w = net.shapes[value]
    if min(h, w) < 3:
        return value
    k, s = (int(rng.integers(2, 4)), int(rng.integers(1, 4))), (int(rng.integers(1, 4)), int(rng.integers(1, 3)))
    p = (int(rng.integers(0, k[0] // 2 + 1)), int(rng.integers(0, k[1] // 2 + 1)))
    if rng.random() < 0.5:
        return net.pool("MaxPool2d", value, k, s, p)
    return net.pool("AvgPool2d", value, k, s, p, count_include_pad=bool(rng.integers(2)))


def _plain(net: Described, rng: np.random.Generator, value: int) -> int:
    """Any convolution, then norm, activation and pooling in any order."""
    c, h, w = net.shapes[value]
    groups = int(rng.choice([g for g in (1, 1, 2, 4, c) if c % g == 0]))
    dilation = (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
    k = tuple(int(rng.integers(1, 1 + min(5, (side - 1) // d + 1))) for side, d in zip((h, w), dilation, strict=True))
    stride, padding = (int(rng.integers(1, 3)), int(rng.integers(1, 3))), (int(rng.integers(3)), int(rng.integers(3)))
    options = {"groups": groups, "dilation": dilation, "stride": stride, "padding": padding}
    value = net.conv(value, groups * int(rng.integers(1, 9)), k, bias=bool(rng.integers(2)), **options)
    follows = [_norm, _active, _pooled]
    for each in rng.permutation(3)[: int(rng.integers(1, 4))]:
        value = follows[each](net, rng, value)
    return value


def _residual(net: Described, rng: np.random.Generator, value: int) -> int:
    """He et al. 2015, figure 2: with a projection where sizes differ."""
    c, h, _ = net.shapes[value]
    out, stride = (c, (1, 1)) if rng.random() < 0.5 else (_channels(rng), (1, 1) if h < 4 else (2, 2))
    bias = bool(rng.integers(2))
    inner = _active(net, rng, _norm(net, rng, net.conv(value, out, 3, stride=stride, bias=bias)))
    inner = _norm(net, rng, net.conv(inner, out, 3, bias=bias))
    skip = value if (out, stride) == (c, (1, 1)) else _norm(net, rng, net.conv(value, out, 1, stride=stride, bias=bias))
    return _active(net, rng, net.add(inner, skip) if rng.random() < 0.5 else net.add(skip, inner))


def _pre_activation(net: Described, rng: np.random.Generator, value: int) -> int:
    c = net.shapes[value][0]
    inner = net.conv(_active(net, rng, net.norm(value)), 2 * c, 3)
    return net.add(value, net.conv(_active(net, rng, net.norm(inner)), c, 3))


def _separable(net: Described, rng: np.random.Generator, value: int) -> int:
    c, h, _ = net.shapes[value]
    value = net.conv(value, c, 3, groups=c, stride=(1, 1) if h < 4 else (1, 2), bias=False)
    value = _active(net, rng, _norm(net, rng, value))
    return _active(net, rng, _norm(net, rng, net.conv(value, _channels(rng), 1, bias=False)))


def _inception(net: Described, rng: np.random.Generator, value: int) -> int:
    """Concatenation of several branches, one of which may be the input itself."""
    branches = [_active(net, rng, net.conv(value, int(rng.integers(1, 20)), k)) for k in (1, 3, (1, 3))]
    branches += [net.conv(value, 3, 3, dilation=(2, 2), padding=(2, 2)), value]
    return net.cat(*branches[int(rng.integers(0, 4)) :], *([value] if rng.random() < 0.2 else []))


def _shared(net: Described, rng: np.random.Generator, value: int) -> int:
    """One convolution and its norm, applied twice."""
    c = net.shapes[value][0]
    once = net.conv(value, c, 3)
    number = net.steps[once - 1][0]
    normed = net.norm(once, momentum=0.2)
    active = _active(net, rng, normed)
    again = net.step(number, (active,), net.shapes[value])
    if normed != once:
        again = net.step(net.steps[normed - 1][0], (again,), net.shapes[value])
    return again


def _long_sum(net: Described, rng: np.random.Generator, value: int) -> int:
    """Of six values, more than one join takes."""
    c = net.shapes[value][0]
    total = net.conv(value, c, 3)
    for k in range(5):
        part = value if k == 2 else net.conv(value, c, 1 + 2 * (k % 2), bias=k > 2)
        total = net.add(total, _norm(net, rng, part, 0.3)) if k % 2 else net.add(part, total)
    return _active(net, rng, total)


PARTS = [_plain, _plain, _residual, _residual, _pre_activation, _separable, _inception, _shared, _long_sum]
