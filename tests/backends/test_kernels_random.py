"""Kernels on geometries that nobody chose: sizes, strides, paddings, dilations and groups drawn from fixed seeds."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_checks import assert_close, assert_same_bits, evaluate, evaluate_fenced
from op_cases import KERNELS, arguments, case_id
from op_description import Case
from targets import Target

from fastnn import backends
from fastnn.backends import reference

SEEDS = range(60)


def pair(rng: np.random.Generator, low: int, high: int) -> tuple[int, int]:
    first, second = (int(value) for value in rng.integers(low, high + 1, 2))
    return first, second


def random_convolution(seed: int) -> Case:
    """Options come singly as often as together; the image is large enough for the kernel, and sometimes just."""
    rng = np.random.default_rng(seed)
    kernel = pair(rng, 1, 5)
    stride = pair(rng, 1, 4) if rng.random() < 0.6 else (1, 1)
    dilation = pair(rng, 1, 3) if rng.random() < 0.4 else (1, 1)
    padding = pair(rng, 0, 3) if rng.random() < 0.6 else (0, 0)
    groups = int(rng.choice([1, 1, 1, 2, 3]))
    size = [
        max(dilation[d] * (kernel[d] - 1) + 1 - 2 * padding[d], 1) + int(rng.choice([0, 1, 2, 7, 20])) for d in (0, 1)
    ]
    channels, filters = groups * int(rng.integers(1, 9)), groups * int(rng.choice([1, 2, 5, 8, 17, 33]))
    return {
        "N": int(rng.integers(1, 4)), "C": channels, "H": size[0], "W": size[1], "O": filters, "kernel": kernel,
        "stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "bias": bool(rng.integers(2)),
    }  # fmt: skip


def random_pooling(seed: int) -> Case:
    rng = np.random.default_rng(seed)
    kernel = pair(rng, 1, 5)
    padding = (int(rng.integers(0, kernel[0] // 2 + 1)), int(rng.integers(0, kernel[1] // 2 + 1)))
    height, width = (kernel[d] + int(rng.choice([0, 1, 2, 7, 30])) for d in (0, 1))
    return {
        "N": int(rng.integers(1, 4)), "C": int(rng.integers(1, 6)), "H": height, "W": width,
        "kernel_size": kernel, "stride": pair(rng, 1, 4), "padding": padding,
    }  # fmt: skip


def random_product(seed: int) -> Case:
    rng = np.random.default_rng(seed)
    m, n, k = (int(value) for value in np.exp(rng.uniform(0, [4.5, 5, 6.5])).astype(int))
    return {"M": m, "N": n, "K": k, "ta": bool(rng.integers(2)), "tb": bool(rng.integers(2))}


DRAWN = [
    *((("conv2d_forward", "conv2d_backward_input", "conv2d_backward_weight"), random_convolution(s)) for s in SEEDS),
    *(
        (("max_pool2d_forward", "max_pool2d_backward_input", "avg_pool2d_forward", "avg_pool2d_backward_input"), case)
        for case in map(random_pooling, SEEDS)
    ),
    *((("matmul",), random_product(s)) for s in SEEDS),
]


@pytest.mark.parametrize(
    ("names", "case"), [pytest.param(names, case, id=f"{names[0]}-{case_id(case)}") for names, case in DRAWN]
)
def test_random_geometry(target: Target, names: tuple[str, ...], case: Case) -> None:
    for name in names:
        kernel = KERNELS[name]
        a = arguments(kernel, case)
        expected = evaluate(reference, kernel, arguments(kernel, case, np.float64))
        algorithms = kernel.algorithms if target.backend != "reference" else ("im2col",)
        for keywords in [{"algorithm": algorithm} for algorithm in algorithms] if kernel.algorithms else [{}]:
            backends.set_num_threads(1)
            got = evaluate_fenced(target.kernels, kernel, a, expected, **keywords)
            assert_close(got, expected, kernel, a)
            backends.set_num_threads(2)
            assert_same_bits(evaluate(target.kernels, kernel, a, **keywords), got, f"{name} on 2 threads {keywords}")
