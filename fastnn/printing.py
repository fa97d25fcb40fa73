"""Tensors as PyTorch prints them: so many digits for all entries, and the middle of what is large left out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.dtypes import get_default_dtype

__all__ = ["OPTIONS", "exact", "text"]

OPTIONS: dict[str, Any] = {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80, "sci_mode": None}


def exact(x: Any) -> str:
    """What repr() of a tensor says: all digits, by NumPy."""
    body = np.array2string(x.numpy(), separator=", ", prefix="Tensor(")
    kind = "" if x.dtype == np.float32 else f", dtype={x.dtype}"
    if x.node is not None:
        return f"Tensor({body}{kind}, from={x.node.function.__name__})"
    return f"Tensor({body}{kind}{', requires_grad=True' * x.requires_grad})"


def text(x: Any) -> str:
    """What print() writes of a tensor: after the entries the shape of what has none, the type unless it is a usual one,
    and where it comes from.

    >>> import fastnn as fnn
    >>> print(fnn.tensor([[1.5, -2.0]], requires_grad=True))
    tensor([[ 1.5000, -2.0000]], requires_grad=True)
    """
    array, kind, size = x.numpy(), x.dtype, x.numpy().size
    usual = (get_default_dtype(),) if not size else (get_default_dtype(), np.int64, np.bool_)
    notes = [f"size={array.shape}"] if not size and array.ndim != 1 else []
    notes += [f"dtype=torch.{kind}"] if kind not in usual else []
    if x.node is not None:
        notes.append(f"grad_fn=<{x.node.function.__name__}Backward0>")
    elif x.requires_grad:
        notes.append("requires_grad=True")
    shortened = size > OPTIONS["threshold"]
    body = _entries(array, _one(_ends(array) if shortened else array), 7, shortened) if size else "[]"
    shown = f"tensor({body}"
    width = len(shown) - shown.rfind("\n") + 1
    for note in notes:
        fits = width + len(note) + 2 <= OPTIONS["linewidth"]
        shown += f"{', ' if fits else ',' + chr(10) + ' ' * 7}{note}"
        width = width + len(note) + 2 if fits else 7 + len(note)
    return f"{shown})"


def _ends(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What is shown of a large array: the first and last entries of each dimension."""
    edge = OPTIONS["edgeitems"]
    for d, n in enumerate(array.shape):
        if n > 2 * edge:
            array = np.take(array, [*range(edge), *range(n - edge, n)], d)
    return array


def _plain(value: Any) -> str:
    return str(value)


def _one(array: np.ndarray[Any, Any]) -> Callable[[Any], str]:
    """The format of one entry, equally wide for all."""
    digits, form = OPTIONS["precision"], _plain
    if array.dtype.kind == "f":
        counted = np.abs(array[np.isfinite(array) & (array != 0)]).astype(np.float64)
        whole = bool((counted == np.ceil(counted)).all())
        most, least = counted.max(initial=0), counted.min(initial=math.inf)
        scientific = counted.size > 0 and (most / least > 1000 or most > 1e8 or (not whole and least < 1e-4))
        if OPTIONS["sci_mode"] is not None:
            scientific = counted.size > 0 and OPTIONS["sci_mode"]

        def written(value: Any) -> str:
            if scientific:
                return f"{value:.{digits}e}"
            return f"{value:.0f}" + "." * math.isfinite(value) if whole else f"{value:.{digits}f}"

        form, array = written, array[np.isfinite(array) & (array != 0)]
    width = max(map(len, map(form, array.ravel().tolist())), default=1)
    return lambda value: form(value).rjust(width)


def _entries(array: np.ndarray[Any, Any], one: Callable[[Any], str], indent: int, shortened: bool) -> str:
    if not array.ndim:
        return one(array.item())
    edge, last = OPTIONS["edgeitems"], array.ndim == 1
    numbers = list(range(len(array)))
    if shortened and len(array) > 2 * edge:
        numbers = [*numbers[:edge], -1, *numbers[len(array) - edge :]]
    parts = [(" ..." if last else "...") if i < 0 else _entries(array[i], one, indent + 1, shortened) for i in numbers]
    if not last:
        return f"[{(',' + chr(10) * (array.ndim - 1) + ' ' * (indent + 1)).join(parts)}]"
    a_line = max(1, (OPTIONS["linewidth"] - indent) // (len(parts[0]) + 2))
    lines = [", ".join(parts[i : i + a_line]) for i in range(0, len(parts), a_line)]
    return f"[{(',' + chr(10) + ' ' * (indent + 1)).join(lines)}]"
