"""Three implementations of one kernel interface, and the one place that chooses among them.

native     fastnn._kernels, compiled C, float32: the default
jit        Numba, float32: where the extension could not be built
reference  NumPy, any float dtype: the specification, the float64 path, the naive baseline

FASTNN_BACKEND names one; without it the extension is used, and where that is absent Numba, said once with its cost.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from importlib import import_module
from typing import Any

import numpy as np

from fastnn.backends.threads import default_threads
from fastnn.errors import ArgumentError, BackendError, DTypeError, MissingExtraError

NAMES = ("native", "jit", "reference")


def _choose() -> tuple[str, str]:
    """The float32 backend and why."""
    asked = os.environ.get("FASTNN_BACKEND", "")
    if asked and asked not in NAMES:
        raise BackendError(f"expected FASTNN_BACKEND to be one of {', '.join(NAMES)}, got {asked!r}")
    has_extension = importlib.util.find_spec("fastnn._kernels") is not None
    has_numba = importlib.util.find_spec("numba") is not None
    if asked == "native" and not has_extension:
        raise BackendError(
            "FASTNN_BACKEND=native, but fastnn was installed without its compiled kernels:"
            " reinstall it with a C compiler (GCC or Clang)"
        )
    if asked == "jit" and not has_numba:
        raise MissingExtraError("Numba", "jit")
    if asked:
        return asked, "FASTNN_BACKEND"
    if has_extension:
        return "native", "the compiled extension is installed"
    if has_numba:
        warnings.warn(
            "fastnn was installed without its compiled kernels and runs on Numba: the first use of each kernel compiles"
            " it (seconds), and convolutions and matrix products run several times slower."
            " Reinstall with a C compiler (GCC or Clang) for full speed.",
            stacklevel=2,
        )
        return "jit", "the compiled extension is absent, Numba is installed"
    raise BackendError(
        "fastnn was installed without its compiled kernels and Numba is absent: reinstall it with a C compiler"
        ' (GCC or Clang), or pip install "fastnn[jit]", or set FASTNN_BACKEND=reference for slow NumPy'
    )


_name, _why = _choose()
_threads, _threads_why = default_threads()
_modules: dict[str, Any] = {}


def _load(name: str) -> Any:
    module = import_module(f"fastnn.backends.{name}")
    if name == "native":
        module.set_isa(os.environ.get("FASTNN_ISA") or None)
    if name != "reference":
        module.set_num_threads(_threads)
    _modules[name] = module
    return module


def name() -> str:
    """The backend that float32 runs on: "native", "jit" or "reference"."""
    return _name


def get(name: str) -> Any:
    """A backend by name: a module whose functions are the kernel interface (see fastnn.backends.reference)."""
    if name not in NAMES:
        raise BackendError(f"expected one of {', '.join(NAMES)}, got {name!r}")
    return _modules.get(name) or _load(name)


_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


def kernels(dtype: np.dtype[Any]) -> Any:
    """The backend for arrays of this dtype: the active one for float32, reference for float64; else DTypeError."""
    if dtype == _FLOAT32:
        return _modules.get(_name) or _load(_name)
    if dtype == _FLOAT64:
        return _modules.get("reference") or _load("reference")
    raise DTypeError(f"expected float32 or float64, got {dtype}")


def set_num_threads(count: int) -> None:
    """Use this many threads from now on, the calling one among them. Results of the native kernels do not depend on it.

    >>> import fastnn as fnn
    >>> before = fnn.get_num_threads()
    >>> fnn.set_num_threads(1); fnn.get_num_threads()
    1
    >>> fnn.set_num_threads(before)
    """
    global _threads, _threads_why
    if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or count < 1:
        raise ArgumentError(f"expected a positive number of threads, got {count!r}")
    _threads, _threads_why = int(count), "set_num_threads"
    for module in _modules.values():
        if module is not _modules.get("reference"):
            module.set_num_threads(_threads)


def get_num_threads() -> int:
    """Threads that the kernels use, the calling one among them."""
    return _threads


def describe() -> dict[str, Any]:
    """What was chosen and why: backend, backend_why, isa (None without native), isas, threads, threads_why."""
    native = get("native") if _name == "native" else None
    return {
        "backend": _name,
        "backend_why": _why,
        "isa": native.isa() if native else None,
        "isas": native.isas() if native else [],
        "threads": _threads,
        "threads_why": _threads_why,
    }
