"""What fastnn runs on here, and why: `show_config`."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import sys
from typing import Any

import numpy as np

from fastnn import backends
from fastnn.console import say

__all__ = ["configuration", "show_config", "version"]

OPTIONAL = ("numba", "matplotlib", "plotly", "PIL", "onnx", "sklearn", "mpi4py", "torch")
VARIABLES = ("FASTNN_BACKEND", "FASTNN_ISA", "FASTNN_NUM_THREADS", "FASTNN_DATA_DIR")


def show_config() -> None:
    """Print which kernels, instruction set and number of threads were chosen and why, and what is installed.

    >>> import fastnn as fnn
    >>> fnn.show_config()  # doctest: +ELLIPSIS
    fastnn ...
    """
    chosen = configuration()
    isas = f"of {', '.join(chosen['isas'])}" if chosen["isas"] else "only the native kernels choose one"
    rows = {
        "fastnn": f"{chosen['fastnn']}, Python {chosen['python']}, NumPy {chosen['numpy']}, {chosen['platform']}",
        "kernels": f"{chosen['backend']}: {chosen['backend_why']}",
        "ISA": f"{chosen['isa'] or 'none'}: {isas}",
        "threads": f"{chosen['threads']}: {chosen['threads_why']}",
        "environment": ", ".join(f"{name}={value}" for name, value in chosen["environment"].items()) or "nothing set",
        "optional": ", ".join(chosen["optional"]) or "nothing installed",
    }
    for name, text in rows.items():
        say(f"{name:<12}{text}")


def configuration() -> dict[str, Any]:
    """What `show_config` prints, as plain values: `backends.describe()`, versions, environment, optional packages."""
    return {
        "fastnn": version(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "platform": f"{platform.system()} {platform.machine()}",
        **backends.describe(),
        "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "optional": [name for name in OPTIONAL if importlib.util.find_spec(name) is not None],
        "executable": sys.executable,
    }


def version() -> str:
    """The installed version of fastnn."""
    try:
        return importlib.metadata.version("fastnn-cpu")  # as distributed: fastnn on PyPI is another package
    except importlib.metadata.PackageNotFoundError:
        return "(not installed, run from its sources)"
