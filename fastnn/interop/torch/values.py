"""PyTorch itself, its tensors as arrays and arrays as its tensors, and its files."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastnn.arrays import aligned_copy
from fastnn.errors import DataError, DTypeError, needs
from fastnn.files import open_regular
from fastnn.tensors import Array, Tensor

__all__ = ["array_of", "load_pt", "mapped", "tensor_of", "torch"]


def torch() -> Any:
    """The package torch. Raises MissingExtraError where it is not installed."""
    with needs("PyTorch", "torch"):
        import torch
    return torch


def array_of(tensor: Any) -> Array:
    """A copy of a tensor's values; those of 16-bit floats become float32.

    Raises DTypeError for tensors without a counterpart: complex, quantised and sparse ones, and those without values.
    """
    library = torch()
    if tensor.is_complex() or tensor.is_quantized or tensor.layout is not library.strided or tensor.is_meta:
        kind = "one without values" if tensor.is_meta else f"one of {tensor.dtype}, {tensor.layout}"
        raise DTypeError(f"expected a dense tensor of real numbers, got {kind}")
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point() and tensor.dtype not in (library.float32, library.float64):
        tensor = tensor.float()
    array = tensor.resolve_neg().numpy()
    return aligned_copy(array, array.dtype)


def tensor_of(value: Any) -> Any:
    """A tensor of PyTorch with a copy of the values of an array or of fastnn's tensor."""
    return torch().from_numpy(np.array(value.detach().numpy() if isinstance(value, Tensor) else value))


def mapped(value: Any, known: Any, change: Any) -> Any:
    """`value`, in whose dicts, lists and tuples whatever is a `known` is changed."""
    if isinstance(value, known):
        return change(value)
    if isinstance(value, Mapping):
        return {key: mapped(entry, known, change) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(mapped(entry, known, change) for entry in value)
    return value


def _of_numpy() -> list[Any]:
    """What a pickle needs to have NumPy's numbers and arrays in it, beside text and tensors: data, no code."""
    made_by: dict[str, Any] = {"_reconstruct": np.zeros(1).__reduce__()[0], "scalar": np.float64(0).__reduce__()[0]}
    functions = [
        (function, f"numpy.{place}.multiarray.{name}")
        for name, function in made_by.items()
        for place in ("core", "_core")  # before NumPy 2, and since
    ]
    kinds = [type(np.dtype(kind)) for kind in "?bBhHiIlLqQefd"]
    return [*functions, np.ndarray, np.dtype, *kinds]


def load_pt(path: str | os.PathLike[str]) -> Any:
    """What is in a file that torch.save wrote, with arrays for tensors; nothing in the file is executed.

    State dicts, checkpoints and other containers of tensors, NumPy's arrays, numbers and text can be read; whole
    models, which are pickled with their code's names, cannot: in PyTorch, save ``model.state_dict()`` instead.

    Args:
        path: of the file, often .pt or .pth.

    Returns:
        A dict of arrays by name for a state dict; other containers as they are. 16-bit floats become float32.

    Raises:
        DataError: no such file, a damaged one, or one with more than such values in it.
        MissingExtraError: PyTorch is not installed.

    >>> import tempfile, torch
    >>> import fastnn as fnn
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save(torch.nn.Linear(3, 2).state_dict(), f"{folder}/linear.pt")
    ...     state = fnn.interop.load_pt(f"{folder}/linear.pt")
    >>> model = fnn.nn.Linear(3, 2)
    >>> model.load_state_dict(state)
    <All keys matched successfully>
    """
    library, name = torch(), os.fspath(path)
    allowed = getattr(library.serialization, "safe_globals", contextlib.nullcontext)  # from PyTorch 2.5 on
    try:
        with open_regular(path) as stream, allowed(_of_numpy()):
            content = library.load(stream, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise DataError(f"expected a file that torch.save wrote, got {name}, which is not there") from error
    except Exception as error:  # a damaged pickle may raise anything
        if "weights_only" in str(error) or "Unsupported" in str(error):
            kind = re.search(r"GLOBAL (\S+) was not", str(error))
            objects = f"objects ({kind[1]})" if kind else "objects"
            reason = f"which holds {objects}, such as a whole model: in PyTorch, save model.state_dict()"
        else:
            reason = f"which is damaged or something else ({str(error).partition(chr(10))[0]})"
        raise DataError(f"expected a file of tensors that torch.save wrote, got {name}, {reason}") from error
    return mapped(content, library.Tensor, array_of)
