"""fastnn: neural networks on an ordinary CPU, with compiled kernels of their own and PyTorch's names.

    import fastnn as fnn
    from fastnn import nn

    model = nn.Sequential(nn.Normalize(0.3, 0.4), nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
    fnn.fit(model, "digits", val=0.1, epochs=5)

Layers and losses are in `fnn.nn`, optimisers in `fnn.optim`, data sets in `fnn.data`, saving and loading in
`fnn.weights`, what looks into models in `fnn.insight`; `fnn.Tensor` computes gradients.
"""

# This file is the table of contents. What training, data and insight need is imported on first use.

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastnn import errors, init, nn, ops, optim, random
from fastnn.backends import get_num_threads, set_num_threads
from fastnn.errors import FastnnError
from fastnn.habits import no_such_name
from fastnn.ops import bernoulli, cat, rand_like, randn_like, stack, where
from fastnn.random import manual_seed
from fastnn.tape import no_grad
from fastnn.tensors import Function, Tensor

if TYPE_CHECKING:
    __version__: str

    from fastnn import data, distributions, insight, plan, recipes, train, utils, weights
    from fastnn.config import show_config
    from fastnn.insight import landscape
    from fastnn.insight.compare import compare_optimizers
    from fastnn.insight.diagnosis import diagnose
    from fastnn.insight.gradients import gradcheck, numeric_gradient
    from fastnn.insight.graph import graph
    from fastnn.insight.signals import signal_report
    from fastnn.plan.compile import compile
    from fastnn.recipes import load_run
    from fastnn.saving import load, save
    from fastnn.train.evaluate import evaluate
    from fastnn.train.fit import fit
    from fastnn.train.history import History

__all__ = [
    "FastnnError",
    "Function",
    "History",
    "Tensor",
    "bernoulli",
    "cat",
    "compare_optimizers",
    "compile",
    "data",
    "diagnose",
    "distributions",
    "errors",
    "evaluate",
    "fit",
    "get_num_threads",
    "gradcheck",
    "graph",
    "init",
    "insight",
    "landscape",
    "load",
    "load_run",
    "manual_seed",
    "nn",
    "no_grad",
    "numeric_gradient",
    "ops",
    "optim",
    "plan",
    "rand_like",
    "randn_like",
    "random",
    "recipes",
    "save",
    "set_num_threads",
    "show_config",
    "signal_report",
    "stack",
    "train",
    "utils",
    "weights",
    "where",
]

_ON_FIRST_USE = {
    "History": "fastnn.train",
    "compare_optimizers": "fastnn.insight",
    "compile": "fastnn.plan",
    "diagnose": "fastnn.insight.diagnosis",
    "evaluate": "fastnn.train",
    "fit": "fastnn.train",
    "gradcheck": "fastnn.insight.gradients",
    "graph": "fastnn.insight.graph",
    "landscape": "fastnn.insight",
    "load": "fastnn.saving",
    "load_run": "fastnn.recipes",
    "numeric_gradient": "fastnn.insight.gradients",
    "save": "fastnn.saving",
    "show_config": "fastnn.config",
    "signal_report": "fastnn.insight.signals",
}
_MODULES = ("data", "distributions", "insight", "plan", "recipes", "train", "utils", "weights")


def __getattr__(name: str) -> Any:
    if name in _ON_FIRST_USE:
        value = getattr(import_module(_ON_FIRST_USE[name]), name)
    elif name in _MODULES:
        value = import_module(f"fastnn.{name}")
    elif name == "__version__":
        value = import_module("fastnn.config").version()
    else:
        raise no_such_name("fastnn", name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
