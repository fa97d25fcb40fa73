"""Three implementations of one kernel interface, and the one place that chooses among them.

native     fastnn._kernels, compiled C, float32: the default
jit        Numba, float32: where the extension could not be built
reference  NumPy, any float dtype: the specification, the float64 path, the naive baseline

FASTNN_BACKEND names one; without it the extension is used, and where that is absent Numba, said once with its cost.
Where there is nothing to run on, importing fastnn raises. What the environment asks for is looked at on first use, so
that the command can report a misspelt name as any other error.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import warnings
from importlib import import_module
from typing import Any

import numpy as np

from fastnn.backends.threads import MOST_THREADS, default_threads
from fastnn.checks import whole
from fastnn.errors import ArgumentError, BackendError, DTypeError, FastnnError, MissingExtraError

NAMES = ("native", "jit", "reference")


class _RefusedError(BackendError):
    """The environment asks for what cannot be had: not the fault of the layer that happens to compute first."""

    def __str__(self) -> str:
        return self.message


def _choose() -> tuple[str, str]:
    """The float32 backend and why."""
    asked = os.environ.get("FASTNN_BACKEND", "")
    if asked and asked not in NAMES:
        raise BackendError(f"expected FASTNN_BACKEND to be one of {', '.join(NAMES)}, got {asked!r}")
    has_extension = importlib.util.find_spec("fastnn._kernels") is not None
    has_numba = importlib.util.find_spec("numba") is not None
    if asked == "native" and not has_extension:
        fault, remedy = _without_extension()
        raise BackendError(f"FASTNN_BACKEND=native, but fastnn {fault}: {remedy}")
    if asked == "jit" and not has_numba:
        raise MissingExtraError("Numba", "jit")
    if asked:
        return asked, "FASTNN_BACKEND"
    if has_extension:
        return "native", "the compiled extension is installed"
    if has_numba:
        fault, remedy = _without_extension()
        warnings.warn(
            f"fastnn {fault}, so it runs on Numba: the first use of each kernel compiles it (seconds), and convolutions"
            f" and matrix products run several times slower. For full speed {remedy}.",
            stacklevel=2,
        )
        return "jit", "the compiled extension is absent, Numba is installed"
    fault, remedy = _without_extension()
    raise BackendError(
        f"fastnn {fault}, and Numba is absent: {remedy},"
        ' or pip install "fastnn-cpu[jit]", or set FASTNN_BACKEND=reference for slow NumPy'
    )


def _without_extension() -> tuple[str, str]:
    """Why the extension is absent, and what to do: a source folder that is imported as it is was never installed."""
    from pathlib import Path  # which brings urllib along

    source = Path(__file__).parents[2]
    if (source / "setup.py").is_file() and (source / "kernels").is_dir():
        return (
            "is imported from its source folder, in which its kernels are not compiled",
            "run pip install -e . in it, or start Python in another folder if fastnn is installed",
        )
    return "was installed without its compiled kernels", "reinstall it with a C compiler (GCC or Clang)"


@functools.cache
def _choice() -> tuple[str, str]:
    try:
        return _choose()
    except FastnnError as error:
        raise _RefusedError(error.message) from None


_set_threads: int | None = None  # by set_num_threads
_modules: dict[str, Any] = {}


@functools.cache
def _default_threads() -> tuple[int, str]:
    try:
        return default_threads()
    except ArgumentError as error:
        raise _RefusedError(error.message) from None


def _load(name: str) -> Any:
    module = import_module(f"fastnn.backends.{name}")
    if name == "native":
        asked = os.environ.get("FASTNN_ISA") or None
        if asked is not None and asked not in module.isas():
            raise _RefusedError(f"expected FASTNN_ISA to be one of {', '.join(module.isas())}, got {asked!r}")
        module.set_isa(asked)
    if name != "reference":
        module.set_num_threads(get_num_threads())
    _modules[name] = module
    return module


def name() -> str:
    """The backend that float32 runs on: "native", "jit" or "reference"."""
    return _choice()[0]


def get(name: str) -> Any:
    """A backend by name: a module whose functions are the kernel interface (see fastnn.backends.reference)."""
    if name not in NAMES:
        raise BackendError(f"expected one of {', '.join(NAMES)}, got {name!r}")
    return _modules.get(name) or _load(name)


_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


def kernels(dtype: np.dtype[Any]) -> Any:
    """The backend for arrays of this dtype: the active one for float32, reference for float64; else DTypeError."""
    if dtype == _FLOAT32:
        return _modules.get(_choice()[0]) or _load(name())
    if dtype == _FLOAT64:
        return _modules.get("reference") or _load("reference")
    raise DTypeError(f"expected float32 or float64, got {dtype}")


def set_num_threads(count: int) -> None:
    """Use this many threads from now on, the calling one among them. Results of the native kernels do not depend on it.

    Raises ArgumentError for a count that is not a whole number from 1 to 256.

    >>> import fastnn as fnn
    >>> before = fnn.get_num_threads()
    >>> fnn.set_num_threads(1); fnn.get_num_threads()
    1
    >>> fnn.set_num_threads(before)
    """
    global _set_threads
    count = whole("", "count", count, 1, expected="a positive number of threads")
    if count > MOST_THREADS:
        raise ArgumentError(f"expected at most {MOST_THREADS} threads, got {count}")
    _set_threads = count
    for module in _modules.values():
        if module is not _modules.get("reference"):
            module.set_num_threads(_set_threads)


def get_num_threads() -> int:
    """Threads that the kernels use, the calling one among them."""
    return _default_threads()[0] if _set_threads is None else _set_threads


def describe() -> dict[str, Any]:
    """What was chosen and why: backend, backend_why, isa (None without native), isas, threads, threads_why."""
    chosen, why = _choice()
    native = get("native") if chosen == "native" else None
    return {
        "backend": chosen,
        "backend_why": why,
        "isa": native.isa() if native else None,
        "isas": native.isas() if native else [],
        "threads": get_num_threads(),
        "threads_why": _default_threads()[1] if _set_threads is None else "set_num_threads",
    }


def __getattr__(name: str) -> Any:
    """PyTorch's settings of other devices, which programs make first of all."""
    if name not in ("cuda", "cudnn", "mps"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")


if not os.environ.get("FASTNN_BACKEND"):
    _choice()
