"""fastnn: neural networks on an ordinary CPU, with compiled kernels of their own and PyTorch's names.

    import fastnn as fnn
    from fastnn import nn

    model = nn.Sequential(nn.Normalize(0.3, 0.4), nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
    fnn.fit(model, "digits", val=0.1, epochs=5)

Layers and losses are in `fnn.nn`, optimisers in `fnn.optim`, data sets in `fnn.data`, saving and loading in
`fnn.weights`, what looks into models in `fnn.insight`; `fnn.Tensor` computes gradients.
"""

# This file is the table of contents; their types are in __init__.pyi. What training, data and insight need is imported
# on first use.

from importlib import import_module
from typing import Any

from fastnn import backends, errors, init, nn, ops, optim, random
from fastnn.backends import get_num_threads, set_num_threads
from fastnn.devices import device
from fastnn.dtypes import OF_TENSORS, TYPES, get_default_dtype, set_default_dtype
from fastnn.errors import FastnnError
from fastnn.habits import no_such_name
from fastnn.ops.names import function, having, in_place
from fastnn.random import initial_seed, manual_seed, seed
from fastnn.recording import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)
from fastnn.tensors import Function, Size, Tensor

__all__ = [
    "FastnnError",
    "Function",
    "GradScaler",
    "History",
    "Size",
    "Tensor",
    "accelerator",
    "amp",
    "autocast",
    "autograd",
    "backends",
    "compare_optimizers",
    "compile",
    "compiler",
    "cuda",
    "data",
    "device",
    "diagnose",
    "distributed",
    "distributions",
    "elementwise",
    "enable_grad",
    "errors",
    "evaluate",
    "fit",
    "from_torch",
    "func",
    "get_default_dtype",
    "get_num_threads",
    "gradcheck",
    "gradgradcheck",
    "graph",
    "hub",
    "inference_mode",
    "init",
    "initial_seed",
    "insight",
    "interop",
    "is_grad_enabled",
    "is_inference_mode_enabled",
    "jit",
    "landscape",
    "linalg",
    "load",
    "load_run",
    "manual_seed",
    "multiprocessing",
    "nn",
    "no_grad",
    "numeric_gradient",
    "onnx",
    "ops",
    "optim",
    "plan",
    "predict",
    "predict_proba",
    "random",
    "recipes",
    "release_memory",
    "save",
    "seed",
    "set_default_dtype",
    "set_grad_enabled",
    "set_num_threads",
    "show_config",
    "signal_report",
    "special",
    "to_torch",
    "train",
    "utils",
    "vmap",
    "weights",
    *OF_TENSORS,
    *TYPES,
    *having("f"),  # the operators
]

_SETTINGS = (
    "are_deterministic_algorithms_enabled", "bfloat16", "channels_last", "contiguous_format", "dtype", "e", "finfo",
    "float16", "get_default_device", "get_float32_matmul_precision", "get_rng_state", "half", "iinfo", "inf",
    "is_autocast_enabled", "is_tensor", "nan", "newaxis", "pi", "preserve_format", "set_default_device",
    "set_default_tensor_type", "set_float32_matmul_precision", "set_flush_denormal", "set_num_interop_threads",
    "set_printoptions", "set_rng_state", "strided", "use_deterministic_algorithms", "version",
)  # fmt: skip
__all__ += _SETTINGS

_ON_FIRST_USE = {
    **dict.fromkeys(_SETTINGS, "fastnn.settings"),
    "_assert": "fastnn.settings",
    "GradScaler": "fastnn.amp",
    "History": "fastnn.train",
    "autocast": "fastnn.amp",
    "compare_optimizers": "fastnn.insight",
    "compile": "fastnn.plan",
    "diagnose": "fastnn.insight.diagnosis",
    "elementwise": "fastnn.own",
    "evaluate": "fastnn.train",
    "fit": "fastnn.train",
    "from_torch": "fastnn.interop.torch",
    "gradcheck": "fastnn.insight.gradients",
    "gradgradcheck": "fastnn.insight.gradients",
    "graph": "fastnn.insight.graph",
    "landscape": "fastnn.insight",
    "load": "fastnn.saving",
    "load_run": "fastnn.recipes",
    "numeric_gradient": "fastnn.insight.gradients",
    "onnx": "fastnn.interop",
    "predict": "fastnn.train",
    "predict_proba": "fastnn.train",
    "release_memory": "fastnn.plan.release",
    "save": "fastnn.saving",
    "show_config": "fastnn.config",
    "signal_report": "fastnn.insight.signals",
    "to_torch": "fastnn.interop.torch",
    "vmap": "fastnn.func",
}
_OPERATORS = frozenset([*having("f"), *in_place("f")])
_MODULES = (
    "accelerator", "amp", "autograd", "compiler", "cuda", "data", "distributed", "distributions", "func", "hub",
    "insight", "interop", "jit", "linalg", "metrics", "multiprocessing", "plan", "recipes", "special", "train",
    "utils", "weights",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _ON_FIRST_USE:
        value = getattr(import_module(_ON_FIRST_USE[name]), name)
    elif name in _MODULES:
        value = import_module(f"fastnn.{name}")
    elif name in _OPERATORS:
        value = function(name)
    elif name in TYPES:
        value = TYPES[name]
    elif name in OF_TENSORS:
        value = import_module("fastnn.settings").tensor_type(name)
    elif name == "__version__":
        value = import_module("fastnn.config").version()
    else:
        each = import_module("fastnn.ops.foreach").over(name) if name.startswith("_foreach_") else None
        if each is None:
            raise no_such_name("fastnn", name)
        value = each
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
