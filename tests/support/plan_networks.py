"""What the tests of the compiled plan share: random networks of fused and unfused neighbours, compared with float64.

python tests/support/plan_networks.py     prints the error of fused stages beside that of the same stages unfused
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

import fastnn as fnn
from fastnn import backends, nn

Layer = tuple[str, dict[str, Any]]  # a class of nn and torch.nn, and its arguments
Loss = Callable[[Any, Any], Any]

NATIVE = backends.name() == "native"
ISAS: list[str | None] = list(backends.get("native").isas()) if NATIVE else [None]
BATCHES = (1, 2, 3, 15, 16, 17, 31, 33, 64, 257)
CLASSES = 7
EXACT, WINOGRAD = 1e-5, 1e-4  # of each gradient's largest entry

LOSSES: list[Layer] = [
    ("CrossEntropyLoss", {}),
    ("CrossEntropyLoss", {"reduction": "sum"}),
    ("CrossEntropyLoss", {"label_smoothing": 0.1}),
    ("MSELoss", {}),  # with one-hot targets
    ("CrossEntropyLoss", {"reduction": "mean", "label_smoothing": 0.0}),  # with soft targets
]


@contextmanager
def running_on(isa: str | None = None, threads: int | None = None) -> Iterator[None]:
    """Native kernels of this instruction set and number of threads, where there are such kernels."""
    before = backends.get_num_threads()
    kernels = backends.get("native") if NATIVE else None
    isa_before = kernels.isa() if kernels else None
    try:
        if kernels and isa:
            kernels.set_isa(isa)
        if threads:
            backends.set_num_threads(threads)
        yield
    finally:
        if kernels:
            kernels.set_isa(isa_before)
        backends.set_num_threads(before)


def random_plan_network(rng: np.random.Generator, batch: int) -> tuple[list[Layer], tuple[int, ...], bool]:
    """Convolutions, with and without what the fuser takes along, then dense layers; the input's shape; is it uint8?"""
    c, h, w = (int(rng.choice([1, 2, 3, 8])), int(rng.integers(6, 13)), int(rng.integers(6, 13)))
    shape = (batch, c, h, w)
    layers: list[Layer] = []
    uint8 = bool(rng.random() < 0.4)
    if uint8 or rng.random() < 0.2:
        mean, std = rng.integers(2, 14, c) / 16, rng.integers(4, 16, c) / 16
        layers.append(("Normalize", {"mean": mean.tolist(), "std": std.tolist()}))
    for _ in range(int(rng.integers(0, 4))):
        found, (c, h, w) = _convolution_with_what_follows(rng, batch, c, h, w)
        layers += found
    if rng.random() < 0.25:
        layers.append(("AdaptiveAvgPool2d", {"output_size": 1}))
        h = w = 1
    layers.append(("Flatten", {}))
    features = c * h * w
    for _ in range(int(rng.integers(0, 3))):
        width = int(rng.choice([1, 5, 16, 33]))
        layers.append(("Linear", {"in_features": features, "out_features": width, "bias": bool(rng.integers(2))}))
        features = width
        follows = rng.choice(["ReLU", "ReLU", "Tanh", "BatchNorm1d", "Dropout", "nothing"])
        if follows == "BatchNorm1d" and batch >= 15 and width > 1:
            layers.append(("BatchNorm1d", {"num_features": width}))
        elif follows == "Dropout":
            layers += [("ReLU", {}), ("Dropout", {"p": 0.0})]
        elif follows in ("ReLU", "Tanh"):
            layers.append((str(follows), {}))
    layers.append(("Linear", {"in_features": features, "out_features": CLASSES}))
    return layers, shape, uint8


def _convolution_with_what_follows(
    rng: np.random.Generator, batch: int, c: int, h: int, w: int
) -> tuple[list[Layer], tuple[int, int, int]]:
    """A convolution, mostly one that chains take, then norm, activation and pooling, mostly in the order of a chain."""
    square = rng.random() < 0.5
    kh, kw = (min(side, 3) if square else int(rng.integers(1, min(side, 5) + 1)) for side in (h, w))
    padding = (int(rng.integers(0, kh // 2 + 1)), int(rng.integers(0, kw // 2 + 1)))
    stride = (2, 1) if rng.random() < 0.15 else (1, 1)
    out = int(rng.choice([1, 3, 8, 16, 17, 32]))
    h, w = (h + 2 * padding[0] - kh) // stride[0] + 1, (w + 2 * padding[1] - kw) // stride[1] + 1
    options = {"kernel_size": (kh, kw), "stride": stride, "padding": padding, "bias": bool(rng.random() < 0.7)}
    layers: list[Layer] = [("Conv2d", {"in_channels": c, "out_channels": out, **options})]
    if rng.random() < 0.35 and batch * h * w >= 16 and out > 1:  # else all but rounding cancels out
        layers.append(("BatchNorm2d", {"num_features": out, "affine": bool(rng.random() < 0.8)}))
    activation = rng.choice(["ReLU", "ReLU", "ReLU", "SiLU", "none"])
    if activation != "none":
        layers.append((str(activation), {}))
    pooling = rng.choice(["plain", "plain", "overlap", "average", "none", "none"])
    if min(h, w) >= 3 and pooling != "none":
        k = int(rng.integers(2, 4))
        s = k if pooling == "plain" else int(rng.integers(1, k))
        layers.append(("AvgPool2d" if pooling == "average" else "MaxPool2d", {"kernel_size": k, "stride": s}))
        h, w = (h - k) // s + 1, (w - k) // s + 1
    return layers, (out, h, w)


def kill_some_units(model: nn.Module) -> None:
    """Biases so low that the first unit of every second layer never lives behind a ReLU."""
    for bias in [p for name, p in model.named_parameters() if name.endswith("bias")][::2]:
        bias.data[0] = -50


def draw_batch(
    rng: np.random.Generator, shape: tuple[int, ...], uint8: bool, loss: int
) -> tuple[np.ndarray, np.ndarray]:
    """Images, and targets for LOSSES[loss]."""
    x = rng.integers(0, 256, shape).astype(np.uint8) if uint8 else rng.normal(size=shape).astype(np.float32)
    labels = rng.integers(0, CLASSES, shape[0])
    if LOSSES[loss][0] == "MSELoss":
        return x, np.eye(CLASSES, dtype=np.float32)[labels]
    if loss == 4:
        soft = rng.uniform(0.1, 1, (shape[0], CLASSES)).astype(np.float32)
        return x, soft / soft.sum(axis=1, keepdims=True)
    return x, labels


def wide(x: np.ndarray) -> np.ndarray:
    """The same numbers in float64; integers stay."""
    return x.astype(np.float64) if x.dtype.kind == "f" else x


def eager_gradients(model: nn.Module, loss_fn: Loss, x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """Loss and gradients of the model as it is, uncompiled, by name; a gradient that is None is left out."""
    model.zero_grad()
    loss = loss_fn(model(fnn.Tensor(x)), y)
    loss.backward()
    found = {"loss": np.asarray(loss.item())}
    return found | {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def exact_gradients(model: nn.Module, loss_fn: Loss, x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """The same of a copy in float64, which runs on the reference kernels: what the plan has to agree with."""
    return eager_gradients(copy.deepcopy(model).double(), loss_fn, wide(x), wide(y))


def compiled_gradients(
    model: nn.Module, loss_fn: Loss, x: np.ndarray, y: np.ndarray, **options: Any
) -> dict[str, np.ndarray]:
    """The same of a compiled copy."""
    model = copy.deepcopy(model)
    model.zero_grad()
    found = {"loss": np.asarray(fnn.compile(model, loss_fn, **options)(x, y))}
    return found | {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def errors(found: dict[str, np.ndarray], exact: dict[str, np.ndarray]) -> dict[str, float]:
    """Each one's largest difference relative to its largest entry, or of all if it is zero but for rounding."""
    assert found.keys() == exact.keys()
    largest = max(float(np.abs(values).max(initial=0)) for values in exact.values())
    relative = {}
    for name, values in exact.items():
        assert found[name].shape == values.shape, name
        size = float(np.abs(values).max(initial=0))
        size = size if size > 1e-9 * largest else largest
        relative[name] = float(np.abs(found[name] - values).max(initial=0)) / max(size, 1e-30)
    return relative


def assert_close(
    found: dict[str, np.ndarray],
    exact: dict[str, np.ndarray],
    bound: float = EXACT,
    excuse: Callable[[], dict[str, float]] | None = None,
) -> None:
    """Within `bound`; where not, within three times the error of `excuse()`: another float32 implementation's."""
    too_far = {name: error for name, error in errors(found, exact).items() if not error <= bound}
    if too_far and excuse is not None:
        others = excuse()
        too_far = {name: error for name, error in too_far.items() if not error <= 3 * others[name]}
    assert not too_far, too_far


def errors_of_torch(twin: Any, loss: Layer, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """How far PyTorch's float32 is from its float64: the most of six runs with the batch in another order each."""
    import torch

    images = x / np.float32(255) if x.dtype == np.uint8 else x

    def found(dtype: type, order: np.ndarray) -> dict[str, np.ndarray]:
        one = copy.deepcopy(twin).to(torch.float64 if dtype is np.float64 else torch.float32)
        data, target = images[order].astype(dtype), y[order].astype(dtype if y.ndim > 1 else np.int64)
        value = getattr(torch.nn, loss[0])(**loss[1])(one(torch.from_numpy(data)), torch.from_numpy(target))
        value.backward()
        gradients = {name: p.grad.numpy() for name, p in one.named_parameters() if p.grad is not None}
        return {"loss": value.detach().numpy(), **gradients}

    torch.set_num_threads(1)
    orders = [np.arange(len(x)), *(np.random.default_rng(i).permutation(len(x)) for i in range(5))]
    precise = found(np.float64, orders[0])
    runs = [errors(found(np.float32, order), precise) for order in orders]
    runs += [_sensitivity(twin, partial(found, np.float64, orders[0]), precise, seed) for seed in range(4)]
    return {name: max(run[name] for run in runs) for name in precise}


def _sensitivity(
    twin: Any, found: Callable[[], dict[str, np.ndarray]], precise: dict[str, np.ndarray], seed: int
) -> dict[str, float]:
    """What a change of the weights by one rounding each does in float64: much, where two entries of a window tie."""
    import torch

    before = copy.deepcopy(twin.state_dict())
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for p in twin.parameters():
            p.mul_(torch.from_numpy(1 + np.asarray(rng.choice([-1e-7, 1e-7], p.shape), np.float32)))
    try:
        return errors(found(), precise)
    finally:
        twin.load_state_dict(before)


def parameters(model: nn.Module) -> dict[str, np.ndarray]:
    """Copies of all parameters and buffers."""
    return {name: values.copy() for name, values in model.state_dict().items()}


def lenet(seed: int = 0) -> nn.Module:
    """A small image network: a chain of two convolutions, two dense layers."""
    fnn.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(16 * 9, 24), nn.ReLU(), nn.Linear(24, CLASSES),
    )  # fmt: skip


def normed(seed: int = 0) -> nn.Module:
    """Batch norm in the chain, no bias before it, global average pooling at the end."""
    fnn.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(16, CLASSES),
    )  # fmt: skip


def mlp(seed: int = 0) -> nn.Module:
    """uint8 images through a table into dense layers."""
    fnn.manual_seed(seed)
    return nn.Sequential(
        nn.Normalize(0.3, 0.4), nn.Flatten(), nn.Linear(36, 20), nn.ReLU(), nn.Linear(20, 9), nn.ReLU(),
        nn.Linear(9, CLASSES),
    )  # fmt: skip


def tied(seed: int = 0) -> nn.Module:
    """mlp, with one layer that is applied twice."""
    fnn.manual_seed(seed)
    twice = nn.Linear(20, 20)
    layers = (nn.Normalize(0.3, 0.4), nn.Flatten(), nn.Linear(36, 20), nn.ReLU(), twice, nn.ReLU(), twice, nn.ReLU())
    return nn.Sequential(*layers, nn.Linear(20, CLASSES))


def batch_for(model: Callable[..., nn.Module], n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A batch that lenet, normed, mlp or tied takes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, n)
    if model in (mlp, tied):
        return rng.integers(0, 256, (n, 1, 6, 6)).astype(np.uint8), labels
    shape = (n, 3, 8, 8) if model is normed else (n, 1, 16, 16)
    return rng.normal(size=shape).astype(np.float32), labels


def print_errors() -> None:
    """The largest error of a gradient, fused and unfused, against float64."""
    columns = ("fused", "exact", *(f"no {name}" for name in fnn.plan.FUSIONS), "all off")
    print(f"{'network':8} {'batch':>5}  " + "".join(f"{name:>18}" for name in columns))
    loss = nn.CrossEntropyLoss()
    for network in (lenet, normed, mlp):
        for n in (3, 64):
            x, y = batch_for(network, n)
            exact = exact_gradients(network(), loss, x, y)
            options: list[dict[str, Any]] = [{}, {"exact": True}, *({"disable": [name]} for name in fnn.plan.FUSIONS)]
            options.append({"disable": fnn.plan.FUSIONS})
            found = [max(errors(compiled_gradients(network(), loss, x, y, **o), exact).values()) for o in options]
            print(f"{network.__name__:8} {n:5}  " + "".join(f"{error:18.1e}" for error in found))


if __name__ == "__main__":
    print_errors()


class Cube(fnn.Function):
    """An operator that a user wrote; it can be told to fail."""

    fails = False

    @staticmethod
    def forward(ctx: Any, x: np.ndarray) -> np.ndarray:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, grad: np.ndarray) -> np.ndarray:
        if Cube.fails:
            raise KeyboardInterrupt
        (x,) = ctx.saved_tensors
        return grad * 3 * x**2
