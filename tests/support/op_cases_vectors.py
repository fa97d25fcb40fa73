# ruff: noqa: C408  (tables of cases read better with dict())
"""Descriptions of the kernels that go element by element or row by row: activations, losses, updates."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from op_description import Arguments, Array, Case, Kernel, apart, normal

Generator = np.random.Generator
Shape = tuple[int, ...]

# ---- activations -----------------------------------------------------------------------------------------------------

_SHAPES: list[Shape] = [(), (1,), (3,), (4,), (7,), (8,), (9,), (15,), (16,), (17,), (33,), (5, 7), (2, 3, 5, 7), (0,),
                        (3, 0, 2), (100_003,)]  # fmt: skip
_ELEMENTWISE: list[Case] = [dict(shape=shape) for shape in _SHAPES]
_ELEMENTWISE_BENCHMARKS: list[Case] = [dict(shape=(128, 64, 24, 24)), dict(shape=(128, 128))]


def _x(rng: Generator, shape: Shape, **options: Any) -> Arguments:
    return {"x": apart(rng, *shape) * np.float32(3), **options}


def _grad_and_x(rng: Generator, shape: Shape, **options: Any) -> Arguments:
    return {"grad": normal(rng, *shape), **_x(rng, shape, **options)}


def _grad_and_y(activation: Callable[[Array], Array]) -> Callable[..., Arguments]:
    """y is an output of the activation, to rounding."""
    return lambda rng, shape: {"grad": normal(rng, *shape), "y": activation(3 * normal(rng, *shape)).astype(np.float32)}


def _softmax(x: Array) -> Array:
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


def _log_softmax(x: Array) -> Array:
    return np.log(_softmax(x))


def _activation(
    name: str, forward_flops: int, backward_flops: int, backward_inputs: Callable[..., Arguments], *options: Case
) -> list[Kernel]:
    cases = _ELEMENTWISE + [{**case, **more} for more in options for case in _ELEMENTWISE if case["shape"] == (33,)]
    return [
        Kernel(f"{name}_forward", _x, cases, _ELEMENTWISE_BENCHMARKS, lambda a: forward_flops * a["x"].size,
               terms=lambda a: 4, size=lambda a: 1, first_may_be_out=True),
        Kernel(f"{name}_backward_input", backward_inputs, cases, _ELEMENTWISE_BENCHMARKS,
               lambda a: backward_flops * a["grad"].size, terms=lambda a: 4, size=lambda a: 1, first_may_be_out=True),
    ]  # fmt: skip


def _activation_by_kind(way: str, inputs: Callable[..., Arguments], flops: int) -> list[Kernel]:
    """relu6, hardswish, softplus and mish."""
    shapes: list[Shape] = [(33,), (2, 3, 5, 7), (0,), (100_003,)]
    cases = [dict(shape=shape, kind=kind) for kind in (8, 9, 10, 11) for shape in shapes]
    return [
        Kernel(f"activation_{way}", inputs, cases, [dict(shape=(128, 128), kind=9)],
               lambda a: flops * a["x"].size, terms=lambda a: 4, size=lambda a: 1, first_may_be_out=True)
    ]  # fmt: skip


_ROWS: list[Case] = [dict(shape=shape) for shape in
                     [(1, 1), (3, 2), (5, 10), (4, 16), (7, 17), (9, 33), (3, 1000), (2, 9001), (3000, 10),
                      (0, 10)]]  # fmt: skip
_ROW_BENCHMARKS: list[Case] = [dict(shape=(128, 10)), dict(shape=(128, 1000))]


def _columns(a: Arguments) -> int:
    return next(value for value in a.values() if isinstance(value, np.ndarray)).shape[1]


def _dropout(rng: Generator, shape: Shape, p: float = 0.3, seed: int = 7, stream: int = 3) -> Arguments:
    return {"x": normal(rng, *shape), "p": p, "seed": seed, "stream": stream}


ACTIVATIONS = [
    *_activation("relu", 1, 1, _grad_and_x),
    *_activation("leaky_relu", 2, 2, _grad_and_x, dict(negative_slope=0.25)),
    *_activation("elu", 4, 4, _grad_and_x, dict(alpha=0.5)),
    *_activation("sigmoid", 3, 3, _grad_and_y(lambda x: 1 / (1 + np.exp(-x)))),
    *_activation("tanh", 1, 3, _grad_and_y(np.tanh)),
    *_activation("gelu", 5, 9, _grad_and_x),
    *_activation("silu", 4, 7, _grad_and_x),
    *_activation_by_kind("forward", _x, 6),
    *_activation_by_kind("backward_input", _grad_and_x, 9),
    Kernel("softmax_forward", _x, _ROWS, _ROW_BENCHMARKS, lambda a: 5 * a["x"].size,
           terms=_columns, first_may_be_out=True),
    Kernel("softmax_backward_input", _grad_and_y(_softmax), _ROWS, _ROW_BENCHMARKS, lambda a: 4 * a["grad"].size,
           terms=_columns, size=lambda a: float(np.max(a["y"], initial=0)), first_may_be_out=True),
    Kernel("log_softmax_forward", _x, _ROWS, _ROW_BENCHMARKS, lambda a: 5 * a["x"].size,
           terms=_columns, size=lambda a: 1, first_may_be_out=True),
    Kernel("log_softmax_backward_input", _grad_and_y(_log_softmax), _ROWS, _ROW_BENCHMARKS,
           lambda a: 4 * a["grad"].size, terms=_columns, size=lambda a: math.sqrt(_columns(a)), first_may_be_out=True),
    Kernel("dropout_forward", _dropout,
           [*_ELEMENTWISE, dict(shape=(1003,), p=0.0), dict(shape=(1003,), p=1.0), dict(shape=(1003,), p=1 / 3),
            dict(shape=(17,), seed=2**64 - 1, stream=2**64 - 2), dict(shape=(17,), seed=2**33 + 5, stream=2**40)],
           _ELEMENTWISE_BENCHMARKS, lambda a: a["x"].size, first_may_be_out=True),
]  # fmt: skip

# ---- losses ----------------------------------------------------------------------------------------------------------


def _cross_entropy(rng: Generator, shape: Shape, target: str = "labels", **options: Any) -> Arguments:
    n, c = shape
    labels = rng.integers(0, c, n)
    one_hot = np.float32(labels[:, None] == np.arange(c))
    targets = {"labels": labels, "one-hot": one_hot, "soft": _softmax(normal(rng, n, c)), "any": normal(rng, n, c)}
    return {"logits": 3 * normal(rng, n, c), "target": targets[target], **options}


def _bce(rng: Generator, shape: Shape, scale: float = 1.0) -> Arguments:
    return {"logits": 5 * normal(rng, *shape), "target": rng.random(shape, np.float32), "scale": scale}


def _mse(rng: Generator, shape: Shape, scale: float = 1.0) -> Arguments:
    return {"prediction": normal(rng, *shape), "target": normal(rng, *shape), "scale": scale}


def _pieced(rng: Generator, shape: Shape, scale: float = 1.0, **parameter: float) -> Arguments:
    return {"prediction": 2 * normal(rng, *shape), "target": normal(rng, *shape), **parameter, "scale": scale}


_SCALED = [*_ELEMENTWISE, dict(shape=(33,), scale=-0.25)]

LOSSES = [
    Kernel("softmax_cross_entropy", _cross_entropy,
           [*_ROWS, *(dict(shape=(9, 17), target=kind, scale=0.125, label_smoothing=smoothing)
                      for kind in ("labels", "one-hot", "soft", "any") for smoothing in (0.0, 0.1, 1.0)),
            dict(shape=(3000, 10), target="soft", label_smoothing=0.1), dict(shape=(0, 3), target="soft")],
           _ROW_BENCHMARKS, lambda a: 8 * a["logits"].size, terms=_columns, size=lambda a: 1),
    Kernel("bce_with_logits", _bce, _SCALED, [dict(shape=(128, 1000))], lambda a: 11 * a["logits"].size,
           terms=lambda a: 4),
    Kernel("mse", _mse, _SCALED, [dict(shape=(128, 1000))], lambda a: 3 * a["prediction"].size),
    Kernel("huber", _pieced, [*_SCALED, dict(shape=(33,), delta=0.4)], [dict(shape=(128, 1000))],
           lambda a: 6 * a["prediction"].size),
    Kernel("smooth_l1", _pieced, [*_SCALED, dict(shape=(33,), beta=2.5), dict(shape=(33,), beta=0.0)],
           [dict(shape=(128, 1000))], lambda a: 6 * a["prediction"].size),
]  # fmt: skip

# ---- updates ---------------------------------------------------------------------------------------------------------


def _sgd(rng: Generator, shape: Shape, **options: Any) -> Arguments:
    velocity = normal(rng, *shape) if options.get("momentum") else None
    return {"param": normal(rng, *shape), "grad": normal(rng, *shape), "velocity": velocity, "lr": 0.1, **options}


def _adam(rng: Generator, shape: Shape, **options: Any) -> Arguments:
    """lr and eps are large, so that they matter."""
    return {"param": normal(rng, *shape), "grad": normal(rng, *shape), "exp_avg": normal(rng, *shape),
            "exp_avg_sq": normal(rng, *shape) ** 2, "step": 3, "lr": 0.1, "eps": 0.01, **options}  # fmt: skip


_UPDATE_BENCHMARKS: list[Case] = [dict(shape=(1_200_000,))]


def _adam_kernel(name: str, flops: int) -> Kernel:
    options: list[Case] = [dict(step=1), dict(beta1=0.5, beta2=0.7), dict(step=1000, weight_decay=0.1)]
    cases = _ELEMENTWISE + [dict(shape=(37,), **more) for more in options]
    return Kernel(name, _adam, cases, _UPDATE_BENCHMARKS, lambda a: flops * a["param"].size, terms=lambda a: 4,
                  written=("param", "exp_avg", "exp_avg_sq"))  # fmt: skip


def _rprop(rng: Generator, shape: Shape, **options: Any) -> Arguments:
    """Some steps grow, some shrink, some stay: every fifth gradient and every seventh before it is 0."""
    grad, prev = np.asarray(normal(rng, *shape)), np.asarray(normal(rng, *shape))
    grad.reshape(-1)[::5] = 0
    prev.reshape(-1)[::7] = 0
    return {"param": normal(rng, *shape), "grad": grad, "prev": prev,
            "step_size": 0.1 + rng.random(shape, np.float32), **options}  # fmt: skip


def _adagrad(rng: Generator, shape: Shape, **options: Any) -> Arguments:
    return {"param": normal(rng, *shape), "grad": normal(rng, *shape), "sum": normal(rng, *shape) ** 2, "step": 3,
            "lr": 0.1, "eps": 0.01, **options}  # fmt: skip


def _rmsprop(rng: Generator, shape: Shape, centered: bool = False, **options: Any) -> Arguments:
    """square_avg is well above grad_avg², so that their difference loses no digits."""
    mean = np.float32(0.3) * normal(rng, *shape)
    return {"param": normal(rng, *shape), "grad": normal(rng, *shape),
            "square_avg": mean * mean + np.float32(0.5) + rng.random(shape, np.float32),
            "momentum_buffer": normal(rng, *shape) if options.get("momentum") else None,
            "grad_avg": mean if centered else None, "lr": 0.1, "eps": 0.01, **options}  # fmt: skip


_SGD_OPTIONS: list[Case] = [
    dict(weight_decay=0.1),
    dict(momentum=0.9, dampening=0.5),
    dict(momentum=0.9, nesterov=True),
    dict(momentum=0.9, nesterov=True, weight_decay=0.1),
]

UPDATES = [
    Kernel("sgd_update", _sgd,
           [*_ELEMENTWISE, *(dict(shape=shape, momentum=0.9) for shape in _SHAPES),
            *(dict(shape=(37,), **more) for more in _SGD_OPTIONS)],
           [dict(shape=(1_200_000,), momentum=0.9, nesterov=True, weight_decay=1e-4)],
           lambda a: 8 * a["param"].size if a.get("momentum") else 2 * a["param"].size, terms=lambda a: 4,
           written=("param", "velocity")),
    Kernel("rprop_update", _rprop,
           [*_ELEMENTWISE, *(dict(shape=(37,), **more) for more in
                             (dict(eta_minus=0.3, eta_plus=2.0), dict(step_size_min=0.5, step_size_max=0.75)))],
           _UPDATE_BENCHMARKS, lambda a: 6 * a["param"].size, terms=lambda a: 4,
           written=("param", "prev", "step_size")),
    Kernel("adagrad_update", _adagrad,
           [*_ELEMENTWISE, *(dict(shape=(37,), **more) for more in (dict(step=1), dict(lr_decay=0.5),
                                                             dict(weight_decay=0.1)))],
           _UPDATE_BENCHMARKS, lambda a: 7 * a["param"].size, terms=lambda a: 4, written=("param", "sum")),
    Kernel("rmsprop_update", _rmsprop,
           [*_ELEMENTWISE, *(dict(shape=shape, momentum=0.9, centered=True) for shape in _SHAPES),
            *(dict(shape=(37,), **more) for more in
              (dict(momentum=0.9), dict(centered=True), dict(alpha=0.5, weight_decay=0.1)))],
           [dict(shape=(1_200_000,), momentum=0.9, centered=True)], lambda a: 15 * a["param"].size, terms=lambda a: 8,
           written=("param", "square_avg", "momentum_buffer", "grad_avg")),
    _adam_kernel("adam_update", 12),
    _adam_kernel("adamw_update", 12),
]  # fmt: skip
