"""What PyTorch users type by habit and fastnn does not have: one sentence each that says what to use."""

from __future__ import annotations

from types import ModuleType
from typing import Any, NoReturn

import numpy as np

from fastnn.errors import ArgumentError

_ARRAY = "fastnn takes NumPy's arrays: np.{}, and fnn.Tensor(array) for a tensor"
_CPU = "fastnn runs on the CPU: leave it out"
_OPTIMISERS = "fnn.optim has SGD, Adam, AdamW, NAdam, RAdam, Adamax, Adagrad, Adadelta, RMSprop, Rprop, ASGD and LBFGS"
_NORMED = "in a module's forward, w = v * (g / v.norm()) is weight normalisation; fastnn does not rewrite modules"

_METHODS = (
    "abs", "argmax", "clamp", "exp", "log", "max", "mean", "min", "permute", "pow", "reshape", "sqrt", "squeeze",
    "std", "sum", "transpose", "unsqueeze", "var",
)  # fmt: skip
_OPS = ("dropout", "flatten", "log_softmax", "matmul", "relu", "sigmoid", "softmax", "tanh")

HINTS = {
    "fastnn": {
        **{name: _ARRAY.format(name) for name in ("zeros", "ones", "full", "empty", "arange", "linspace", "eye")},
        **{name: _ARRAY.format(name) for name in ("zeros_like", "ones_like", "empty_like", "full_like")},
        **dict.fromkeys(("concat", "concatenate"), "use fnn.cat"),
        "einsum": "matmul (@), * and .sum() keep gradients, NumPy's functions do not",
        **{name: f"it is a method of tensors, x.{name}(...)" for name in _METHODS},
        **{name: f"use fnn.ops.{name}" for name in _OPS},
        "randn": f"{_ARRAY.format('random.default_rng().standard_normal')}; in a model, fnn.randn_like",
        "rand": f"{_ARRAY.format('random.default_rng().random')}; in a model, fnn.rand_like",
        "randint": _ARRAY.format("random.default_rng().integers"),
        "randperm": _ARRAY.format("random.default_rng().permutation"),
        "from_numpy": "fnn.Tensor(array) shares the array's memory",
        "as_tensor": "fnn.Tensor(array) shares the array's memory",
        "cuda": _CPU,
        "backends": _CPU,
        "device": _CPU,
        "float": "types are NumPy's: np.float32",
        **{name: f"types are NumPy's: np.{name}" for name in ("float32", "float64", "int64", "uint8")},
        "long": "types are NumPy's: np.int64",
        "autograd": "fnn.Function is for operators of your own, tensor.backward() for gradients",
    },
    "fastnn.nn": {
        "DataParallel": _CPU,
        "Dropout2d": "nn.Dropout drops single entries",
        "Hardswish": "nn.SiLU is close to it",
        "CTCLoss": "fastnn has no loss for sequences without alignment",
    },
    "fastnn.nn.utils": {
        **dict.fromkeys(("weight_norm", "spectral_norm", "parametrizations", "parametrize"), _NORMED),
        "rnn": "pad sequences with fnn.cat or fnn.ops.pad: fastnn has no packed sequences",
        "prune": "write zeros into weight.data, and mask weight.grad before each step",
    },
    "fastnn.optim.swa_utils": {},
    "fastnn.utils": {"tensorboard": "history.json holds what fit has seen; History.plot draws it"},
    "fastnn.optim": {
        **dict.fromkeys(("SparseAdam", "Adafactor", "Muon"), _OPTIMISERS),
    },
}


def no_such_name(module: str, name: str) -> AttributeError:
    """The error for `module.name`, with a hint if PyTorch has it."""
    hint = HINTS[module].get(name)
    return AttributeError(f"module {module!r} has no attribute {name!r}" + (f": {hint}" if hint else ""))


class CalledModule(ModuleType):
    """The class of fastnn.tensors, which in PyTorch is a function."""

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        raise ArgumentError("fnn.tensor is a module: expected fnn.Tensor(data), with a capital T")


# What PyTorch's functions and classes take and fastnn's do not, with the values that change nothing; the first is said.
_SPEED: tuple[Any, ...] = (None, False, True)  # says how PyTorch computes, not what
OPTIONS: dict[str, tuple[Any, ...]] = {
    "assign": (False,),
    "bias": (True,),
    "capturable": _SPEED,
    "copy": (False,),
    "create_graph": (False,),
    "decoupled_weight_decay": (False,),
    "device": (None, "cpu"),
    "differentiable": (False,),
    "dtype": (None, np.float32, np.dtype(np.float32), "float32"),
    "foreach": _SPEED,
    "fused": _SPEED,
    "generator": (None,),
    "inputs": (None,),
    "last_epoch": (-1,),
    "out": (None,),
    "persistent": (True,),
    "remove_duplicate": (True,),
    "three_phase": (False,),
    "padding_mode": ("zeros",),
    "dilation": (1, (1, 1)),
    "ceil_mode": (False,),
    "return_indices": (False,),
    "divisor_override": (None,),
    "approximate": ("none",),
    "size_average": (None,),
    "reduce": (None,),
    "layout": (None,),
    "memory_format": (None,),
    "requires_grad": (False,),
}
_INSTEAD = {
    "device": "fastnn runs on the CPU",
    "dtype": "model.double() makes a model float64",
    "generator": "random numbers come from fnn.manual_seed",
}


def check_options(owner: str, **given: Any) -> None:
    """Raise ArgumentError for options of PyTorch that fastnn does not have, unless they ask for nothing.

    >>> check_options("MaxPool2d", dilation=1, ceil_mode=False)
    """
    for name, value in given.items():
        harmless = OPTIONS[name]
        if not any(value is same or (type(value) is type(same) and value == same) for same in harmless):
            shape = getattr(value, "shape", None)
            got = f"an array of shape {shape}" if isinstance(shape, tuple) else repr(value)
            instead = f": {_INSTEAD[name]}" if name in _INSTEAD else ""
            raise ArgumentError(f"{owner}: expected {name}={harmless[0]!r}, all that fastnn has, got {got}{instead}")
