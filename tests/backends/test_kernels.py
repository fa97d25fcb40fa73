"""Every kernel of every backend against the reference in float64: all cases, algorithms, instruction sets, threads."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from kernel_checks import (
    algorithms,
    assert_close,
    assert_same_bits,
    evaluate,
    evaluate_fenced,
    expected_results,
)
from op_cases import GRADIENTS, KERNELS, arguments, bytes_moved, case_id
from op_description import Case, Kernel
from targets import Target

from fastnn import backends
from fastnn.backends import reference

CASES = [
    pytest.param(kernel, index, id=f"{kernel.name}-{case_id(case)}")
    for kernel in KERNELS.values()
    for index, case in enumerate(kernel.cases)
]
BY_KERNEL = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS.keys())


@pytest.mark.parametrize(("kernel", "index"), CASES)
def test_agrees_with_reference_in_float64(target: Target, kernel: Kernel, index: int) -> None:
    a = arguments(kernel, kernel.cases[index])
    expected = expected_results(kernel.name, index)
    for keywords in algorithms(kernel, target.kernels, expected, a):
        backends.set_num_threads(1)
        first = evaluate_fenced(target.kernels, kernel, a, expected, **keywords)
        assert_close(first, expected, kernel, a)
        for threads in () if target.backend == "reference" else (2, 3):
            backends.set_num_threads(threads)
            again = evaluate_fenced(target.kernels, kernel, a, expected, **keywords)
            assert_same_bits(again, first, f"{threads} threads, {keywords}")
        assert_same_bits(evaluate(target.kernels, kernel, a, **keywords), first, f"without out=, {keywords}")


@pytest.mark.parametrize(
    ("name", "case"),
    [
        pytest.param(name, case, id=f"{name}-{case_id(case)}")
        for name in KERNELS
        if name.startswith(("linear_", "conv2d_", "max_pool2d_"))
        for case in ({**timed, "N": 37} for timed in KERNELS[name].benchmarks)
    ],
)
def test_layers_of_real_networks(target: Target, name: str, case: Case) -> None:
    """The sizes that are timed, with fewer images: work is cut into more than a few pieces."""
    kernel = KERNELS[name]
    a = arguments(kernel, case)
    expected = evaluate(reference, kernel, arguments(kernel, case, np.float64))
    backends.set_num_threads(2)
    got = evaluate_fenced(target.kernels, kernel, a, expected)
    assert_close(got, expected, kernel, a)
    backends.set_num_threads(1)
    assert_same_bits(evaluate(target.kernels, kernel, a), got, "1 thread")


def test_every_kernel_is_described() -> None:
    """Without a description a kernel would have neither tests nor a benchmark."""
    assert set(KERNELS) == set(reference.__all__)


@BY_KERNEL
def test_every_kernel_can_be_timed(kernel: Kernel) -> None:
    assert kernel.cases
    assert kernel.benchmarks
    case = kernel.benchmarks[0]
    shape = {"shape": (4, *case["shape"][1:])} if "shape" in case else {"M": 4} if "M" in case else {"N": 4}
    a = arguments(kernel, {**case, **shape})
    results = evaluate(reference, kernel, a)
    assert kernel.flops(a) > 0
    assert bytes_moved(a, results) > results[0].nbytes


def test_every_gradient_is_checked() -> None:
    """By central differences, in test_reference_gradients.py; dropout and the losses are their own backward."""
    backward = {name for name in KERNELS if "_backward_" in name}
    assert backward < {gradient.tested for gradient in GRADIENTS}


@BY_KERNEL
def test_signatures_agree(target: Target, kernel: Kernel) -> None:
    """Names, order, kinds and defaults of the parameters."""
    expected = inspect.signature(getattr(reference, kernel.name))
    got = inspect.signature(getattr(target.kernels, kernel.name))
    assert [p.replace(annotation=p.empty) for p in got.parameters.values()] == [
        p.replace(annotation=p.empty) for p in expected.parameters.values()
    ]
