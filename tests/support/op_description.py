"""What a description in op_cases consists of, and helpers to make arguments for kernels."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

Array = np.ndarray
Arguments = dict[str, Any]
Case = dict[str, Any]


@dataclass(frozen=True)
class Kernel:
    name: str
    inputs: Callable[..., Arguments]  # inputs(rng, **case)
    cases: list[Case]
    benchmarks: list[Case]
    flops: Callable[[Arguments], float]  # multiplications, additions, divisions, exponentials: one each
    terms: Callable[[Arguments], float] = lambda a: 1  # how many terms each output sums: the K of eps * sqrt(K)
    size: Callable[[Arguments], float] = lambda a: 0  # how large a result is by nature, where it may cancel to nothing
    algorithms: tuple[str, ...] = ()  # of the keyword `algorithm`
    written: tuple[str, ...] = ()  # arguments that are updated in place; the kernel returns None
    first_may_be_out: bool = False


@dataclass(frozen=True)
class Gradient:
    """d sum(forward(k, a) * grad) / d a[argument] = backward(k, a, grad), with a backend k and arguments a."""

    kernel: str  # whose inputs and cases are used
    argument: str
    forward: Callable[[ModuleType, Arguments], Array]
    tested: str  # the kernel that this checks
    backward: Callable[[ModuleType, Arguments, Array], Array]


def arguments(kernel: Kernel, case: Case, dtype: type = np.float32) -> Arguments:
    """The arguments for a case, always the same ones; float64 ones have float32 values."""
    rng = np.random.default_rng([len(kernel.name), *kernel.name.encode()])
    return {name: as_dtype(value, dtype) for name, value in kernel.inputs(rng, **case).items()}


def as_dtype(value: Any, dtype: type) -> Any:
    """Floating arrays in another dtype; all else as it is. What NumPy made a scalar of becomes an array again."""
    if isinstance(value, np.ndarray | np.floating):
        value = np.asarray(value)
        return value.astype(dtype) if value.dtype.kind == "f" else value
    return value


def case_id(case: Case) -> str:
    return "-".join(f"{k}{'x'.join(map(str, v)) if isinstance(v, tuple) else v}" for k, v in case.items()) or "default"


def bytes_moved(inputs: Arguments, outputs: tuple[Array, ...]) -> int:
    """Each array that is read or written, once."""
    return sum(a.nbytes for a in (*inputs.values(), *outputs) if isinstance(a, np.ndarray))


def normal(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape, np.float32)


def apart(rng: np.random.Generator, *shape: int) -> Array:
    """Numbers between -2 and 2, all different and none near 0: away from kinks at 0 and from ties for a maximum."""
    size = math.prod(shape)
    values = (np.arange(size, dtype=np.float32) + 0.5) * np.float32(2 / max(size, 1)) + np.float32(1e-3)
    return (rng.permutation(values) * rng.choice(np.array([-1, 1], np.float32), size)).reshape(shape)


def root(terms: Callable[[Arguments], float]) -> Callable[[Arguments], float]:
    """A sum of K numbers of size 1, signs mixed, has size sqrt(K)."""
    return lambda a: math.sqrt(terms(a))


def mean(terms: Callable[[Arguments], float]) -> Callable[[Arguments], float]:
    """Their mean has size 1/sqrt(K)."""
    return lambda a: 1 / math.sqrt(max(terms(a), 1))
