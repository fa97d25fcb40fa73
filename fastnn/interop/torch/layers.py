"""Layers that PyTorch and fastnn both have: the arguments that one was made with, to make the other."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from fastnn import nn
from fastnn.errors import ArgumentError
from fastnn.habits import no_such_name
from fastnn.interop.torch.program import FromTorch
from fastnn.interop.torch.values import array_of, torch

__all__ = ["CONTAINERS", "LAYERS", "arguments", "counterpart", "is_container", "torch_layer", "translatable"]

CONTAINERS = frozenset(("ModuleDict", "ModuleList", "ParameterDict", "ParameterList", "Sequential"))
_ONLY_ONE_HAS = {"divisor_override": None, "proj_size": 0}  # in some layers; the values that change nothing
LAYERS = frozenset(nn._FILES) - CONTAINERS


def torch_layer(module: Any) -> str | None:
    """The name of the layer of torch.nn that `module` computes, or None; subclasses count that keep its forward.

    A layer that fastnn does not have is named, too.
    """
    cls: Any
    for cls in type(module).__mro__:
        if cls.__module__.startswith("torch.nn.modules.") and cls.__name__ != "Module":
            kept = type(module).forward is cls.forward and "forward" not in vars(module)
            return cls.__name__ if kept else None
    return None


def arguments(module: Any, name: str) -> dict[str, Any]:
    """What to make the layer `name` of torch.nn or fastnn.nn with, so that it is like `module`, which is the other's.

    Layers among the arguments are the module's own: they are to be translated. Both libraries keep arguments under the
    same names; those that are not kept do not change what the layer computes.
    """
    if name in ("TransformerEncoderLayer", "TransformerDecoderLayer"):
        return _of_transformer_layer(module)
    if name == "Transformer":
        made = {f"custom_{part}": getattr(module, part) for part in ("encoder", "decoder")}
        return {**made, **{key: getattr(module, key) for key in ("d_model", "nhead", "batch_first")}}
    if name in ("TransformerEncoder", "TransformerDecoder"):
        layer = f"{name.removeprefix('Transformer').lower()}_layer"
        return {layer: module.layers[0], "num_layers": module.num_layers, "norm": module.norm}
    found = {}
    for key in inspect.signature(getattr(nn, name)).parameters:
        if key in ("bias", "add_bias_kv"):
            if getattr(module, "affine", True):
                found[key] = _has_bias(module, key)
        elif key not in ("device", "dtype", "args", "kwargs", "inplace") and hasattr(module, key):
            found[key] = _plain(getattr(module, key))
    for key, value in _ONLY_ONE_HAS.items():
        if key in found and found[key] == value:
            del found[key]
    return found


def _has_bias(module: Any, key: str) -> bool:
    if key == "add_bias_kv":
        return getattr(module, "bias_k", None) is not None
    names = ("in_proj_bias",) if hasattr(module, "in_proj_weight") else ("bias", "bias_ih")  # of cells
    bias = next((getattr(module, name) for name in names if hasattr(module, name)), None)
    return bias if isinstance(bias, bool) else bias is not None


def _of_transformer_layer(module: Any) -> dict[str, Any]:
    activation = module.activation
    if not inspect.isroutine(activation):
        raise ArgumentError(f"{type(module).__name__}: expected a function as activation, got {activation!r}")
    return {
        "d_model": module.self_attn.embed_dim,
        "nhead": module.self_attn.num_heads,
        "dim_feedforward": module.linear1.out_features,
        "dropout": module.dropout.p,
        "activation": activation,
        "layer_norm_eps": module.norm1.eps,
        "batch_first": module.self_attn.batch_first,
        "norm_first": module.norm_first,
        "bias": module.linear1.bias is not None,
    }


def counterpart(module: Any, name: str, library: Any, functional: Any, translate: Any) -> Any:
    """The layer `name` of `library` (torch.nn or fastnn.nn), made with the arguments of the other's `module`.

    `translate` makes layers among the arguments the library's. Weights are still those that a new layer has.
    """
    if not hasattr(library, name):
        raise no_such_name(library.__name__, name)
    given = arguments(module, name)
    for key, value in given.items():
        if key == "activation":
            given[key] = getattr(functional, value.__name__)
        elif isinstance(value, (nn.Module, torch().nn.Module)):
            given[key] = translate(value)
    return getattr(library, name)(**given)


def _plain(value: Any) -> Any:
    """Without arrays of the other library, as the weights of classes are."""
    if isinstance(value, torch().Tensor):
        return array_of(value)
    if isinstance(value, (np.ndarray, nn.Parameter)):
        return torch().from_numpy(np.array(value.data if isinstance(value, nn.Parameter) else value))
    return value


def translatable(module: nn.Module) -> bool:
    """Whether it and all that it holds are known layers, whose forward need not be traced."""
    if type(module) in (FromTorch, nn.DataParallel, nn.Module) or is_container(module):
        return all(map(translatable, module.children()))
    return type(module).__name__ in LAYERS and type(module).__module__.startswith("fastnn.nn")


def is_container(module: nn.Module) -> bool:
    return type(module).__name__ in CONTAINERS and type(module).__module__ == "fastnn.nn.containers"
