"""What PyTorch users type by habit and fastnn does not have: one sentence each that says what to use."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import numpy as np

from fastnn.errors import ArgumentError

_CPU = "fastnn runs on the CPU: leave it out"
_OPTIMISERS = "fnn.optim has SGD, Adam, AdamW, NAdam, RAdam, Adamax, Adagrad, Adadelta, RMSprop, Rprop, ASGD and LBFGS"

HINTS = {
    "fastnn.autograd": {"profiler": "model.describe() of a compiled step tells where the time goes"},
    "fastnn.optim": {
        **dict.fromkeys(("SparseAdam", "Adafactor", "Muon"), _OPTIMISERS),
    },
}


def no_such_name(module: str, name: str) -> Exception:
    """The error for `module.name`, with a hint if PyTorch has it; of an import, where one asks from the module itself.

    For a module's ``__getattr__``, which raises it. ``from module import name`` would replace an AttributeError by one
    of its own, without the hint; it lets an ImportError pass.
    """
    hint = _hint(module, name)
    if hint and _imports(sys._getframe(2)):
        return ImportError(f"cannot import name {name!r} from {module!r}: {hint}")
    return AttributeError(f"module {module!r} has no attribute {name!r}" + (f": {hint}" if hint else ""))


def no_such_method(kind: str, name: str) -> AttributeError:
    """The error for a tensor's `name`."""
    hint = _hint("fastnn.Tensor", name)
    return AttributeError(f"{kind!r} object has no attribute {name!r}" + (f": {hint}" if hint else ""))


def _hint(module: str, name: str) -> str | None:
    if name.startswith("_"):  # what Python asks of any object
        return None
    from fastnn.absent import hint_of

    return hint_of(module, name)


def _imports(frame: FrameType) -> bool:
    """Whether the frame's code is at ``from ... import``."""
    from opcode import opmap

    return frame.f_lasti >= 0 and frame.f_code.co_code[frame.f_lasti] == opmap["IMPORT_FROM"]


# What PyTorch's functions and classes take and fastnn's do not, with the values that change nothing; the first is said.
_SPEED: tuple[Any, ...] = (None, False, True)  # says how PyTorch computes, not what
OPTIONS: dict[str, tuple[Any, ...]] = {
    "bias": (True,),
    "capturable": _SPEED,
    "copy": (False,),
    "decoupled_weight_decay": (False,),
    "device": (None, "cpu"),
    "differentiable": (False,),
    "dtype": (None, np.float32, np.dtype(np.float32), "float32"),
    "foreach": _SPEED,
    "fused": _SPEED,
    "generator": (None,),
    "last_epoch": (-1,),
    "out": (None,),
    "max_norm": (None,),
    "return_indices": (False,),
    "scale_grad_by_freq": (False,),
    "include_last_offset": (False,),
    "padding_idx": (None,),
    "track_running_stats": (False,),
    "remove_duplicate": (True,),
    "three_phase": (False,),
    "layout": (None, "strided"),
    "memory_format": (None, "preserve_format", "contiguous_format", "channels_last"),  # a tensor has NumPy's order
    "requires_grad": (False,),
}
_INSTEAD = {
    "device": "fastnn runs on the CPU",
    "dtype": "model.double() makes a model float64",
    "generator": "random numbers come from fnn.manual_seed",
}


def check_options(owner: str, **given: Any) -> None:
    """Raise ArgumentError for options of PyTorch that fastnn does not have, unless they ask for nothing.

    >>> check_options("BatchNorm2d", device=None, bias=True)
    """
    for name, value in given.items():
        harmless, value = OPTIONS[name], str(value) if isinstance(value, str) else value  # a device is text, too
        if not any(value is same or (type(value) is type(same) and value == same) for same in harmless):
            shape = getattr(value, "shape", None)
            got = f"an array of shape {shape}" if isinstance(shape, tuple) else repr(value)
            instead = f": {_INSTEAD[name]}" if name in _INSTEAD else ""
            raise ArgumentError(f"{owner}: expected {name}={harmless[0]!r}, all that fastnn has, got {got}{instead}")
