"""What programs for PyTorch set and ask before anything else: taken where it changes nothing here."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from fastnn import printing, random
from fastnn.checks import choice, flag, whole
from fastnn.devices import CPU, cpu_only, device
from fastnn.dtypes import OF_TENSORS, set_default_dtype
from fastnn.ops.creation import of_old
from fastnn.tensors import Tensor

__all__ = [
    "are_deterministic_algorithms_enabled", "bfloat16", "channels_last", "contiguous_format", "dtype", "e", "finfo",
    "float16", "get_default_device", "get_float32_matmul_precision", "get_rng_state", "half", "iinfo", "inf",
    "is_autocast_enabled", "is_tensor", "nan", "newaxis", "pi", "preserve_format", "set_default_device",
    "set_default_tensor_type", "set_float32_matmul_precision", "set_flush_denormal", "set_num_interop_threads",
    "set_printoptions", "set_rng_state", "strided", "tensor_type", "use_deterministic_algorithms", "version",
]  # fmt: skip

e, inf, nan, newaxis, pi = np.e, np.inf, np.nan, np.newaxis, np.pi
finfo, iinfo, dtype = np.finfo, np.iinfo, np.dtype


class _BFloat16:
    def __repr__(self) -> str:
        return "bfloat16"


# Types that programs name and may go without: where a tensor would be of one, that is a DTypeError.
float16, bfloat16 = np.dtype("float16"), _BFloat16()
half = float16
channels_last, contiguous_format, preserve_format = "channels_last", "contiguous_format", "preserve_format"
strided = "strided"
version = SimpleNamespace(cuda=None, hip=None, xpu=None, debug=False, git_version="")
get_rng_state, set_rng_state = random.get_state, random.set_state


def _assert(condition: Any, message: str) -> None:
    """As Python's assert: PyTorch's vision models check their arguments so."""
    assert condition, message


def is_tensor(obj: Any) -> bool:
    """Whether it is a tensor; arrays are none."""
    return isinstance(obj, Tensor)


def set_printoptions(
    precision: int | None = None, threshold: int | None = None, edgeitems: int | None = None,
    linewidth: int | None = None, profile: str | None = None, sci_mode: bool | None = None,
) -> None:  # fmt: skip
    """How tensors are printed, by print() and str(), and arrays, by NumPy's np.set_printoptions, as repr() writes both.

    `profile` is "default", "short" or "full"; without `sci_mode` the numbers decide whether they get exponents.
    """
    profiles: dict[str, dict[str, Any]] = {
        "default": {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80},
        "short": {"precision": 2, "threshold": 1000, "edgeitems": 2, "linewidth": 80},
        "full": {"precision": 4, "threshold": 2**31, "edgeitems": 3, "linewidth": 80},
    }
    chosen = {} if profile is None else profiles[choice("set_printoptions", "profile", profile, profiles)]
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems, "linewidth": linewidth}
    # NumPy takes what it then cannot print with.
    most = {"precision": 100}
    options = {
        name: whole("set_printoptions", name, n, 0, most.get(name, 2**31 - 1))
        for name, n in given.items()
        if n is not None
    }
    printing.OPTIONS.update({**chosen, **options}, sci_mode=sci_mode)
    if sci_mode is not None:
        options["suppress"] = not flag("set_printoptions", "sci_mode", sci_mode)
    np.set_printoptions(**{**chosen, **options})


def set_default_tensor_type(t: Any) -> None:
    """The type of new tensors of floats by its old name, such as fnn.DoubleTensor."""
    name = str(getattr(t, "__name__", t)).rpartition(".")[2]
    set_default_dtype(OF_TENSORS.get(name, t))


def set_default_device(device: Any) -> None:
    """The CPU alone; BackendError for others."""
    cpu_only("set_default_device", device)


def get_default_device() -> device:
    """The CPU."""
    return CPU


def is_autocast_enabled(device_type: str | None = None) -> bool:
    """False: see `fnn.autocast`."""
    return False


def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
    """Nothing: fastnn's results are the same in every run, for any number of threads."""


def are_deterministic_algorithms_enabled() -> bool:
    """True."""
    return True


def set_float32_matmul_precision(precision: str) -> None:
    """Nothing: products of float32 are computed in float32. ArgumentError for what PyTorch does not take."""
    choice("set_float32_matmul_precision", "precision", precision, ("highest", "high", "medium"))


def get_float32_matmul_precision() -> str:
    """ "highest"."""
    return "highest"


def set_flush_denormal(mode: bool) -> bool:
    """False: nothing is set. fastnn's kernels keep numbers that are next to 0, or drop them where no result shows."""
    return flag("set_flush_denormal", "mode", mode) and False


def set_num_interop_threads(count: int) -> None:
    """Nothing: operators run one after the other; fnn.set_num_threads says by how many threads each."""


class TensorType(type):
    """The class of PyTorch's old names of types, ``fnn.FloatTensor``: to call, for isinstance and in annotations."""

    dtype: np.dtype[Any]

    def __call__(cls, *data: Any) -> Tensor:
        return of_old(cls.dtype, *data)

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, Tensor) and instance.dtype == cls.dtype


def tensor_type(name: str) -> TensorType:
    """The maker of tensors by PyTorch's old name: ``fnn.LongTensor([1, 2])``, ``fnn.FloatTensor(2, 3)``."""
    dtype = OF_TENSORS[name]
    said = f"A tensor of {dtype}, of a copy of data, or of sizes: fnn.tensor, fnn.empty. All of {dtype} are instances."
    return TensorType(name, (), {"__doc__": said, "__module__": "fastnn", "dtype": dtype})
