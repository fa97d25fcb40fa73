# ruff: noqa: C408, E741  (tables of cases read better with dict(); I and O are the field's names)
"""Descriptions of the kernels that sum products, or work on images: dense, convolution, pooling, batch norm."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
from op_description import Arguments, Array, Case, Kernel, apart, mean, normal, root

from fastnn.backends import reference
from fastnn.backends.shapes import Pair, conv2d_output_size

Generator = np.random.Generator

# ---- dense -----------------------------------------------------------------------------------------------------------


def _matmul(rng: Generator, M: int, N: int, K: int, ta: bool = False, tb: bool = False) -> Arguments:
    a, b = normal(rng, *((K, M) if ta else (M, K))), normal(rng, *((N, K) if tb else (K, N)))
    return {"a": a, "b": b, "transpose_a": ta, "transpose_b": tb}


def _matmul_k(a: Arguments) -> int:
    return a["a"].shape[0 if a["transpose_a"] else 1]


def _matmul_flops(a: Arguments) -> int:
    return 2 * a["a"].size * a["b"].shape[0 if a["transpose_b"] else 1]


_TILES = [(1, 1, 1), (5, 7, 3), (6, 8, 4), (7, 9, 1), (13, 17, 5), (6, 16, 2), (5, 15, 64), (7, 33, 8), (12, 32, 7),
          (11, 31, 33), (13, 33, 255), (25, 65, 256), (4, 40, 257), (3, 100, 300), (1, 130, 513), (40, 1, 70),
          (33, 3, 600), (0, 5, 3), (4, 0, 3), (4, 5, 0)]  # fmt: skip
_MATMULS = [dict(M=m, N=n, K=k, ta=ta, tb=tb) for (m, n, k) in _TILES for ta, tb in product((False, True), repeat=2)]
# All over the threads; the second and third have more rows than a block and more than two blocks of K, the fourth more
# of B than is packed at once.
_MATMULS += [
    dict(M=97, N=200, K=64),
    dict(M=211, N=190, K=530),
    dict(M=200, N=130, K=520, ta=True, tb=True),
    dict(M=9, N=4200, K=520),
]
_LINEARS = [dict(N=1, I=1, O=1), dict(N=5, I=7, O=3), dict(N=6, I=300, O=17), dict(N=13, I=64, O=33),
            dict(N=128, I=784, O=100), dict(N=0, I=4, O=3), dict(N=3, I=50, O=129)]  # fmt: skip
_LINEAR_BENCHMARKS = [dict(N=128, I=9216, O=128), dict(N=128, I=784, O=1000), dict(N=32, I=400, O=120)]


def _linear(rng: Generator, N: int, I: int, O: int, bias: bool = True) -> Arguments:
    x, weight = normal(rng, N, I), normal(rng, O, I)
    return {"x": x, "weight": weight, "bias": normal(rng, O) if bias else None}


def _linear_backward_input(rng: Generator, N: int, I: int, O: int) -> Arguments:
    return {"grad": normal(rng, N, O), "weight": normal(rng, O, I)}


def _linear_backward_weight(rng: Generator, N: int, I: int, O: int) -> Arguments:
    return {"grad": normal(rng, N, O), "x": normal(rng, N, I)}


DENSE = [
    Kernel("matmul", _matmul, _MATMULS, [dict(M=n, N=n, K=n) for n in (256, 1024)] + [dict(M=73728, N=64, K=288)],
           _matmul_flops, terms=_matmul_k, size=root(_matmul_k)),
    Kernel("linear_forward", _linear, [*_LINEARS, dict(N=5, I=7, O=9, bias=False)], _LINEAR_BENCHMARKS,
           lambda a: 2 * a["x"].size * len(a["weight"]),
           terms=lambda a: a["x"].shape[1], size=root(lambda a: a["x"].shape[1])),
    Kernel("linear_backward_input", _linear_backward_input, _LINEARS, _LINEAR_BENCHMARKS,
           lambda a: 2 * a["grad"].size * a["weight"].shape[1],
           terms=lambda a: a["grad"].shape[1], size=root(lambda a: a["grad"].shape[1])),
    Kernel("linear_backward_weight", _linear_backward_weight, _LINEARS, _LINEAR_BENCHMARKS,
           lambda a: 2 * a["grad"].size * a["x"].shape[1],
           terms=lambda a: len(a["x"]), size=root(lambda a: len(a["x"]))),
]  # fmt: skip

# ---- convolution -----------------------------------------------------------------------------------------------------


def _conv(
    rng: Generator, N: int, C: int, H: int, W: int, O: int, kernel: Pair, bias: bool = True, **options: Any
) -> Arguments:
    weight = normal(rng, O, C // options.get("groups", 1), *kernel)
    return {"x": normal(rng, N, C, H, W), "weight": weight, "bias": normal(rng, O) if bias else None, **options}


def _conv_grad(
    rng: Generator, N: int, O: int, H: int, W: int, kernel: Pair,
    stride: Pair = (1, 1), padding: Pair = (0, 0), dilation: Pair = (1, 1), **_: Any,
) -> Array:  # fmt: skip
    return normal(rng, N, O, *conv2d_output_size("case", (H, W), kernel, stride, padding, dilation))


def _conv_backward_input(rng: Generator, **case: Any) -> Arguments:
    a = _conv(rng, **case)
    size = a.pop("x").shape[2:]
    del a["bias"]
    return {"grad": _conv_grad(rng, **case), "input_size": size, **a}


def _conv_backward_weight(rng: Generator, **case: Any) -> Arguments:
    a = _conv(rng, **case)
    kernel_size = a.pop("weight").shape[2:]
    del a["bias"]
    return {"grad": _conv_grad(rng, **case), "kernel_size": kernel_size, **a}


def _options(a: Arguments) -> Arguments:
    return {name: a[name] for name in ("stride", "padding", "dilation", "groups") if name in a}


def _weight_entries(a: Arguments) -> int:
    """Of one filter, C/groups*kh*kw: what an output sums."""
    return math.prod(a["weight"].shape[1:])


def _outputs(a: Arguments) -> int:
    options = (a.get("stride", (1, 1)), a.get("padding", (0, 0)), a.get("dilation", (1, 1)))
    size = conv2d_output_size("case", a["x"].shape[2:], a["weight"].shape[2:], *options)
    return len(a["x"]) * len(a["weight"]) * math.prod(size)


def _filters_seen(a: Arguments) -> int:
    """What one pixel of the input gradient sums, at most: O/groups*kh*kw."""
    return len(a["weight"]) // a.get("groups", 1) * math.prod(a["weight"].shape[2:])


def _positions(a: Arguments) -> int:
    return len(a["grad"]) * math.prod(a["grad"].shape[2:])


_CONVS: list[Case] = [
    dict(N=9, C=32, H=4, W=5, O=40, kernel=(4, 5)),  # one matrix product, as the next one
    dict(N=8, C=16, H=5, W=1, O=256, kernel=(5, 1), bias=False),
    dict(N=1, C=1, H=3, W=3, O=1, kernel=(3, 3)),
    dict(N=2, C=1, H=4, W=5, O=5, kernel=(1, 1)),
    dict(N=2, C=1, H=28, W=28, O=32, kernel=(3, 3)),
    dict(N=2, C=32, H=12, W=12, O=64, kernel=(3, 3)),
    dict(N=3, C=1, H=28, W=28, O=6, kernel=(5, 5), padding=(2, 2)),
    dict(N=2, C=6, H=14, W=14, O=16, kernel=(5, 5)),
    dict(N=2, C=7, H=9, W=10, O=17, kernel=(1, 1)),
    dict(N=2, C=8, H=9, W=11, O=13, kernel=(1, 1), stride=(2, 2)),
    dict(N=2, C=3, H=7, W=6, O=9, kernel=(7, 6)),
    dict(N=2, C=3, H=7, W=6, O=9, kernel=(3, 3), bias=False),
    dict(N=2, C=5, H=6, W=23, O=7, kernel=(1, 7)),
    dict(N=2, C=4, H=17, W=5, O=12, kernel=(5, 1), padding=(2, 0)),
    dict(N=1, C=3, H=8, W=19, O=25, kernel=(2, 3), stride=(2, 1)),
    dict(N=2, C=3, H=13, W=15, O=8, kernel=(2, 2), stride=(3, 4)),
    dict(N=2, C=3, H=4, W=3, O=4, kernel=(3, 3), padding=(4, 3)),
    dict(N=2, C=2, H=5, W=8, O=3, kernel=(4, 4), padding=(2, 1), stride=(1, 2)),
    dict(N=2, C=5, H=11, W=18, O=11, kernel=(3, 3), dilation=(2, 3)),
    dict(N=2, C=6, H=9, W=9, O=10, kernel=(3, 3), groups=2),
    dict(N=2, C=17, H=9, W=10, O=17, kernel=(3, 3), padding=(1, 1), groups=17),
    dict(N=2, C=4, H=9, W=10, O=8, kernel=(3, 2), stride=(2, 2), groups=4),
    dict(N=3, C=6, H=11, W=12, O=9, kernel=(3, 2), stride=(2, 3), padding=(2, 1), dilation=(1, 2), groups=3),
    dict(N=1, C=3, H=33, W=31, O=33, kernel=(3, 3), padding=(1, 1)),
    dict(N=1, C=512, H=4, W=4, O=8, kernel=(3, 3)),
    dict(N=1, C=3, H=5, W=5, O=512, kernel=(3, 3)),
    dict(N=9, C=16, H=20, W=21, O=31, kernel=(3, 3)),
    dict(N=0, C=2, H=5, W=5, O=3, kernel=(3, 3)),
    # Blocks of channels on every instruction set: lanes that hold none, more groups than one, more strips than one.
    dict(N=3, C=13, H=9, W=7, O=45, kernel=(3, 2), padding=(1, 1)),
    dict(N=2, C=36, H=6, W=17, O=28, kernel=(5, 3), padding=(4, 0), groups=2),
    dict(N=1, C=61, H=28, W=40, O=62, kernel=(3, 3), padding=(1, 2)),
    dict(N=20, C=16, H=3, W=3, O=48, kernel=(2, 2)),
    # Strides: of several rests, larger than the kernel, from planes, in several strips, small images together.
    dict(N=3, C=32, H=15, W=13, O=48, kernel=(3, 3), stride=(2, 2), padding=(1, 1)),
    dict(N=2, C=18, H=17, W=12, O=33, kernel=(5, 2), stride=(3, 2), padding=(2, 1)),
    dict(N=2, C=4, H=22, W=20, O=32, kernel=(8, 8), stride=(4, 4)),
    dict(N=2, C=32, H=9, W=10, O=64, kernel=(1, 1), stride=(2, 2)),
    dict(N=2, C=16, H=10, W=11, O=32, kernel=(2, 1), stride=(3, 2)),
    dict(N=1, C=64, H=57, W=56, O=64, kernel=(3, 3), stride=(2, 2), padding=(1, 1)),
    dict(N=20, C=16, H=5, W=5, O=32, kernel=(3, 3), stride=(2, 2), padding=(1, 1)),
    # Dilations, alone and with strides that share a factor with them, and more padding than the kernel is wide.
    dict(N=2, C=16, H=14, W=13, O=32, kernel=(3, 3), dilation=(2, 2), padding=(2, 2)),
    dict(N=2, C=16, H=20, W=21, O=16, kernel=(3, 4), stride=(4, 2), dilation=(2, 3), padding=(1, 2)),
    dict(N=2, C=16, H=5, W=6, O=32, kernel=(3, 3), padding=(4, 5)),
    # Depthwise: rest lanes, rest columns and rows, more taps than are kept in registers; twice as many channels.
    dict(N=2, C=40, H=9, W=18, O=40, kernel=(3, 3), padding=(1, 1), groups=40),
    dict(N=3, C=32, H=11, W=15, O=32, kernel=(3, 3), stride=(2, 2), padding=(1, 1), groups=32),
    dict(N=2, C=16, H=12, W=9, O=16, kernel=(5, 5), stride=(1, 3), dilation=(2, 1), padding=(4, 2), groups=16),
    dict(N=2, C=16, H=7, W=7, O=32, kernel=(3, 3), padding=(1, 1), groups=16),
    # Groups: of whole blocks, of parts of one, and some that lie across two.
    dict(N=2, C=48, H=8, W=9, O=96, kernel=(3, 3), padding=(1, 1), groups=3),
    dict(N=2, C=32, H=8, W=9, O=32, kernel=(3, 2), stride=(2, 1), groups=4),
    dict(N=2, C=36, H=6, W=7, O=60, kernel=(3, 3), stride=(1, 2), padding=(2, 1), groups=3),
    # More entries than are taken at a time.
    dict(N=2, C=128, H=4, W=5, O=33, kernel=(3, 3), stride=(1, 2), padding=(1, 1)),
]
# Every rest of pixels of a tile, for every number of blocks.
_CONVS += [
    dict(N=1, C=16, H=1, W=width, O=outputs, kernel=(1, 1)) for width in range(1, 10) for outputs in (16, 32, 48, 64)
]
_CONV_BENCHMARKS: list[Case] = [
    dict(N=128, C=1, H=28, W=28, O=32, kernel=(3, 3)),
    dict(N=128, C=32, H=26, W=26, O=64, kernel=(3, 3)),
    dict(N=128, C=1, H=28, W=28, O=6, kernel=(5, 5), padding=(2, 2)),
    dict(N=128, C=6, H=14, W=14, O=16, kernel=(5, 5)),
]
_ALGORITHMS = ("direct", "im2col", "auto")

CONVOLUTION = [
    Kernel("conv2d_forward", _conv, _CONVS, _CONV_BENCHMARKS,
           lambda a: 2 * _weight_entries(a) * _outputs(a),
           terms=_weight_entries, size=root(_weight_entries), algorithms=_ALGORITHMS),
    Kernel("conv2d_backward_input", _conv_backward_input, _CONVS, _CONV_BENCHMARKS,
           lambda a: 2 * _weight_entries(a) * a["grad"].size,
           terms=_filters_seen, size=root(_filters_seen), algorithms=_ALGORITHMS),
    Kernel("conv2d_backward_weight", _conv_backward_weight, _CONVS, _CONV_BENCHMARKS,
           lambda a: 2 * a["grad"].size * a["x"].shape[1] // a.get("groups", 1) * math.prod(a["kernel_size"]),
           terms=_positions, size=root(_positions), algorithms=_ALGORITHMS),
]  # fmt: skip

# ---- pooling ---------------------------------------------------------------------------------------------------------


def _pool(rng: Generator, N: int, C: int, H: int, W: int, **options: Any) -> Arguments:
    return {"x": apart(rng, N, C, H, W), **options}


def _pool_grad(
    rng: Generator, N: int, C: int, H: int, W: int, kernel_size: Pair, stride: Pair, **options: Any
) -> Array:
    size = conv2d_output_size("case", (H, W), kernel_size, stride, options.get("padding", (0, 0)))
    return normal(rng, N, C, *size)


def _max_pool_backward(rng: Generator, **case: Any) -> Arguments:
    a = _pool(rng, **case)
    argmax = reference.max_pool2d_forward(**a)[1]
    return {"grad": normal(rng, *argmax.shape), "argmax": argmax, "input_size": a["x"].shape[2:]}


def _avg_pool_backward(rng: Generator, **case: Any) -> Arguments:
    a = _pool(rng, **case)
    return {"grad": _pool_grad(rng, **case), "input_size": a.pop("x").shape[2:], **a}


def _global_backward(rng: Generator, N: int, C: int, H: int, W: int) -> Arguments:
    return {"grad": normal(rng, N, C, 1, 1), "input_size": (H, W)}


def _window(a: Arguments) -> int:
    return math.prod(a["kernel_size"])


def _image(a: Arguments) -> int:
    return math.prod(a["x"].shape[2:])


_POOLS: list[Case] = [
    dict(N=1, C=1, H=2, W=2, kernel_size=(2, 2), stride=(2, 2)),
    dict(N=2, C=3, H=8, W=10, kernel_size=(2, 2), stride=(2, 2)),
    dict(N=2, C=3, H=9, W=35, kernel_size=(2, 2), stride=(2, 2)),
    dict(N=2, C=3, H=9, W=11, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1)),
    dict(N=2, C=2, H=7, W=17, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1)),
    dict(N=2, C=2, H=7, W=9, kernel_size=(2, 3), stride=(1, 2), padding=(1, 1)),
    dict(N=2, C=2, H=11, W=13, kernel_size=(2, 3), stride=(3, 4)),
    # 2x2 windows in all but one number, which the kernel for these must not take
    dict(N=1, C=2, H=11, W=12, kernel_size=(2, 2), stride=(3, 2)),
    dict(N=1, C=2, H=10, W=13, kernel_size=(2, 2), stride=(2, 3)),
    dict(N=1, C=2, H=10, W=12, kernel_size=(3, 2), stride=(2, 2)),
    dict(N=1, C=2, H=10, W=12, kernel_size=(2, 3), stride=(2, 2)),
    dict(N=1, C=2, H=10, W=12, kernel_size=(2, 2), stride=(2, 2), padding=(1, 0)),
    dict(N=1, C=2, H=10, W=12, kernel_size=(2, 2), stride=(2, 2), padding=(0, 1)),
    dict(N=2, C=2, H=5, W=7, kernel_size=(5, 7), stride=(1, 1)),
    dict(N=2, C=2, H=5, W=7, kernel_size=(1, 1), stride=(1, 1)),
    dict(N=2, C=3, H=6, W=33, kernel_size=(5, 5), stride=(2, 2), padding=(2, 2)),
    dict(N=16, C=24, H=26, W=26, kernel_size=(2, 2), stride=(2, 2)),
    dict(N=8, C=24, H=26, W=26, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1)),
    dict(N=1, C=2, H=130, W=131, kernel_size=(2, 2), stride=(2, 2)),
    dict(N=0, C=2, H=4, W=4, kernel_size=(2, 2), stride=(2, 2)),
]
_AVG_POOLS = _POOLS + [{**case, "count_include_pad": False} for case in _POOLS if "padding" in case]
_POOL_BENCHMARKS: list[Case] = [dict(N=128, C=64, H=24, W=24, kernel_size=(2, 2), stride=(2, 2))]
_GLOBALS = [dict(N=1, C=1, H=1, W=1), dict(N=2, C=3, H=5, W=7), dict(N=3, C=17, H=8, W=8), dict(N=0, C=2, H=3, W=3),
            dict(N=2, C=3, H=41, W=50),
            dict(N=64, C=64, H=12, W=12)]  # fmt: skip
_GLOBAL_BENCHMARKS = [dict(N=128, C=64, H=12, W=12)]

POOLING = [
    Kernel("max_pool2d_forward", _pool, _POOLS, _POOL_BENCHMARKS, lambda a: a["x"].size),
    Kernel("max_pool2d_backward_input", _max_pool_backward, _POOLS, _POOL_BENCHMARKS, lambda a: a["grad"].size,
           terms=lambda a: 25),
    Kernel("avg_pool2d_forward", _pool, _AVG_POOLS, _POOL_BENCHMARKS, lambda a: a["x"].size,
           terms=_window, size=mean(_window)),
    Kernel("avg_pool2d_backward_input", _avg_pool_backward, _AVG_POOLS, _POOL_BENCHMARKS,
           lambda a: a["grad"].size * (1 + _window(a)), terms=_window, size=mean(_window)),
    Kernel("global_avg_pool2d_forward", _pool, _GLOBALS, _GLOBAL_BENCHMARKS, lambda a: a["x"].size,
           terms=_image, size=mean(_image)),
    Kernel("global_avg_pool2d_backward_input", _global_backward, _GLOBALS, _GLOBAL_BENCHMARKS,
           lambda a: a["grad"].size * math.prod(a["input_size"])),
]  # fmt: skip

# ---- batch norm ------------------------------------------------------------------------------------------------------


def _norm_input(rng: Generator, shape: tuple[int, ...], offset: float = 0.0) -> Array:
    return normal(rng, *shape) * np.float32(1.5) + np.float32(offset)


def _statistics(rng: Generator, shape: tuple[int, ...], offset: float = 0.0) -> Arguments:
    return {"x": _norm_input(rng, shape, offset)}


def _norm(
    rng: Generator, shape: tuple[int, ...], offset: float = 0.0, eps: float = 1e-2, affine: str = "weight bias"
) -> Arguments:
    """eps is large, so that it matters."""
    c = shape[1]
    weight, bias = normal(rng, c) if "weight" in affine else None, normal(rng, c) if "bias" in affine else None
    return {"x": _norm_input(rng, shape, offset), "mean": normal(rng, c) + np.float32(offset),
            "var": normal(rng, c) ** 2, "weight": weight, "bias": bias, "eps": eps}  # fmt: skip


def _norm_backward_weight(rng: Generator, shape: tuple[int, ...], **case: Any) -> Arguments:
    a = _norm(rng, shape, **case)
    return {"grad": normal(rng, *shape), **{name: a[name] for name in ("x", "mean", "var", "eps")}}


def _norm_backward_input(rng: Generator, shape: tuple[int, ...], training: bool = True, **case: Any) -> Arguments:
    a = {"grad": normal(rng, *shape), **_norm(rng, shape, **case)}
    del a["bias"]
    sums = (normal(rng, shape[1]), normal(rng, shape[1])) if training else (None, None)
    return {**a, "grad_weight": sums[0], "grad_bias": sums[1]}


def _per_channel(a: Arguments) -> int:
    return max(a["x"].size // a["x"].shape[1], 1)


_NORMS: list[Case] = [
    dict(shape=shape)
    for shape in [(2, 1), (5, 3), (7, 17), (33, 16), (3, 4, 1, 1), (2, 3, 5, 7), (4, 8, 4, 4), (1, 5, 9, 3)]
]
_NORMS += [
    dict(shape=(64, 300)),
    dict(shape=(16, 24, 13, 13)),
    dict(shape=(3, 2, 70, 71)),
    dict(shape=(6, 5, 4, 5), offset=100.0),
]
_EMPTY_NORMS: list[Case] = [dict(shape=(0, 3)), dict(shape=(0, 2, 3, 3))]
_NORM_BENCHMARKS: list[Case] = [dict(shape=(128, 64, 12, 12)), dict(shape=(128, 1000))]


def _of_normalised(a: Arguments) -> float:
    """x - mean is known to eps times the size of x."""
    return float(np.max(np.abs(a["x"]), initial=0) / np.sqrt(np.min(a["var"]) + a["eps"]))


NORM = [
    Kernel("batch_norm_statistics", _statistics, _NORMS, _NORM_BENCHMARKS, lambda a: 4 * a["x"].size,
           terms=_per_channel, size=lambda a: float(np.mean(np.abs(a["x"]))) / math.sqrt(_per_channel(a))),
    Kernel("batch_norm_forward", _norm,
           [*_NORMS, *_EMPTY_NORMS, *(dict(shape=(4, 5, 3, 3), affine=affine) for affine in ("weight", "bias", ""))],
           _NORM_BENCHMARKS, lambda a: 2 * a["x"].size, size=_of_normalised, first_may_be_out=True),
    Kernel("batch_norm_backward_weight", _norm_backward_weight, [*_NORMS, *_EMPTY_NORMS], _NORM_BENCHMARKS,
           lambda a: 4 * a["x"].size, terms=_per_channel,
           size=lambda a: _of_normalised(a) * math.sqrt(_per_channel(a))),
    Kernel("batch_norm_backward_input", _norm_backward_input,
           [*_NORMS, *_EMPTY_NORMS, dict(shape=(4, 5, 3, 3), training=False), dict(shape=(4, 17), training=False),
            dict(shape=(4, 5, 3, 3), affine=""), dict(shape=(4, 5), affine="", training=False)],
           _NORM_BENCHMARKS, lambda a: 5 * a["x"].size, size=_of_normalised, first_may_be_out=True),
]  # fmt: skip
