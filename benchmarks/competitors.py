"""Who runs each kernel: native, jit, vectorised NumPy, naive NumPy, PyTorch; as many of them as are installed.

A large case is timed without the naive loops, and once more with a part of its images or rows that they can do in a
fraction of a second: there all competitors have that same smaller work.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from typing import Any

import numpy as np
from op_cases import KERNELS, arguments, case_id
from op_description import Arguments, Array, Case, Kernel

import fastnn as fnn
from fastnn import backends

INSTALLED = {
    "native": importlib.util.find_spec("fastnn._kernels") is not None,
    "jit": importlib.util.find_spec("numba") is not None,
    "numpy": True,
    "torch": importlib.util.find_spec("torch") is not None,
    "naive": True,
}
NAMES = [name for name, installed in INSTALLED.items() if installed]
ABSENT = {("torch", "batch_norm_backward_input")}  # no operator of PyTorch takes the sums that the kernel is given
OTHER_NUMBERS = {("torch", "dropout_forward")}  # random ones of its own

MOST_LOOPS = 200_000


@dataclass(frozen=True, eq=False)
class Group:
    """One kernel on one case, by several competitors: a table of the report."""

    kernel: Kernel
    case: Case
    looped: bool  # small enough for naive loops

    def __str__(self) -> str:
        return f"{self.kernel.name} {case_id(self.case)}"

    def competitors(self) -> list[str]:
        names = [name for name in NAMES if (name, self.kernel.name) not in ABSENT]
        return [name for name in names if self.looped or name != "naive"]


def groups() -> Iterator[Group]:
    for kernel in KERNELS.values():
        fitting = [for_loops(case) == case for case in kernel.benchmarks]
        for case, fits in zip(kernel.benchmarks, fitting, strict=True):
            yield Group(kernel, case, fits)
            if not fits and not ("shape" in case and any(fitting)):
                yield Group(kernel, for_loops(case), True)


def for_loops(case: Case) -> Case:
    """As much of a case as naive loops can do: all, or one image, or the first rows, or the first elements."""
    if "H" in case:
        return {**case, "N": 1}
    if "M" in case:
        return {**case, "M": 16384 // case["N"]} if case["M"] * case["N"] > MOST_LOOPS else case
    if "shape" in case and math.prod(case["shape"]) > MOST_LOOPS:
        return {**case, "shape": (16384,)}
    return case


@dataclass(frozen=True)
class Run:
    call: Callable[[], Any]  # what to time
    results: Callable[[], tuple[Array, ...]]  # what comes of it


def prepare(name: str, kernel: Kernel, a: Arguments) -> Run:
    """A competitor with its arguments."""
    if name == "torch":
        return _prepare_torch(kernel, a)
    function = getattr(_module(name), kernel.name)
    own = {key: value.copy() if key in kernel.written else value for key, value in a.items()}
    call = partial(function, **own)
    return Run(call, lambda: _results(kernel, own, call()))


@cache
def _module(name: str) -> Any:
    if name == "naive":
        import naive

        return naive
    return backends.get("reference" if name == "numpy" else name)


def _prepare_torch(kernel: Kernel, a: Arguments) -> Run:
    torch, module = load_torch()

    def tensor(key: str, value: Any) -> Any:
        """On the same memory, but for what is written to; PyTorch's indices are int64."""
        if not isinstance(value, np.ndarray):
            return value
        return torch.from_numpy(
            value.astype(np.int64 if value.dtype.kind == "i" else np.float32, copy=key in kernel.written)
        )

    own = {key: tensor(key, value) for key, value in a.items()}
    call = module.optimiser_step(kernel.name, own) if kernel.written else partial(getattr(module, kernel.name), **own)
    return Run(call, lambda: _results(kernel, own, call()))


@cache
def load_torch() -> tuple[Any, Any]:
    """PyTorch, on as many threads as fastnn, and the module torch_kernels."""
    import torch
    import torch_kernels

    torch.set_num_threads(fnn.get_num_threads())
    return torch, torch_kernels


def _results(kernel: Kernel, a: Arguments, returned: Any) -> tuple[Array, ...]:
    if kernel.written:
        return tuple(np.asarray(a[name]).copy() for name in kernel.written)
    return tuple(np.asarray(value) for value in (returned if isinstance(returned, tuple) else (returned,)))


@lru_cache(maxsize=1)
def inputs_and_results(group: Group) -> tuple[Arguments, tuple[Array, ...]]:
    """The arguments of a group, and what vectorised NumPy makes of them."""
    a = arguments(group.kernel, group.case)
    return a, prepare("numpy", group.kernel, a).results()
