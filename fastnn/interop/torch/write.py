"""`to_torch`: a fastnn model as a torch.nn.Module, with the same names and weights."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastnn import files
from fastnn.checks import takes_one
from fastnn.data.about import about
from fastnn.errors import ArgumentError
from fastnn.interop.torch import graph
from fastnn.interop.torch.layers import counterpart, is_container, translatable
from fastnn.interop.torch.program import FromTorch
from fastnn.interop.torch.values import mapped, tensor_of, torch
from fastnn.nn import Module
from fastnn.tensors import Tensor

__all__ = ["save_pt", "to_torch"]


def to_torch(source: Any, shape: Sequence[int] | None = None) -> Any:
    """A torch.nn.Module of a fastnn model: its layers, weights by value, running statistics and mode.

    Layers become PyTorch's of the same name, and what came from PyTorch becomes that again. A model with a forward of
    its own is traced, as `fnn.compile` traces it, and becomes a `torch.fx.GraphModule` that calls those layers and,
    between them, PyTorch's functions; such a forward is the one of eval mode, while its layers follow the mode. The
    number of samples stays open. Names of parameters are the same, so state dicts fit both.

    Args:
        source: a fastnn model; or a state dict, any container of arrays, or an array, which become tensors.
        shape: of one sample; for models with a forward of their own that were not trained by `fnn.fit` on data.

    Returns:
        torch.nn.Module: for a model; its predictions agree with the model's within rounding.

    Raises:
        GraphError: an operator without a form in PyTorch, or a forward that cannot be traced or depends on the
            number of samples. ArgumentError: no shape where one is needed, or something else than a model or arrays.
        MissingExtraError: PyTorch is not installed.

    >>> import numpy as np, torch, fastnn as fnn
    >>> ours = fnn.nn.Sequential(fnn.nn.Linear(4, 8), fnn.nn.ReLU(), fnn.nn.Linear(8, 3))
    >>> theirs = fnn.to_torch(ours)
    >>> theirs
    Sequential(
      (0): Linear(in_features=4, out_features=8, bias=True)
      (1): ReLU()
      (2): Linear(in_features=8, out_features=3, bias=True)
    )
    >>> list(theirs.state_dict()) == list(ours.state_dict())
    True
    """
    arrays = (np.ndarray, Tensor)
    if isinstance(source, (*arrays, Mapping, list, tuple)):
        return mapped(source, arrays, tensor_of)
    if not isinstance(source, Module):
        raise ArgumentError(f"to_torch: expected a model (an nn.Module) or arrays, got {type(source).__name__}")
    known: dict[int, Any] = {}
    if translatable(source):
        made = _layer(source, known)
    else:
        made = graph.traced(source, _shape(source, shape), lambda module: _layer(module, known))
    made.load_state_dict({name: tensor_of(value) for name, value in source.state_dict().items()}, assign=True)
    _share(source, made)
    if not translatable(source):
        graph.check_counts(source, made, _shape(source, shape))
    return made


def _layer(module: Module, known: dict[int, Any]) -> Any:
    """The module of PyTorch; one that occurs again is the same."""
    library = torch()
    if id(module) in known:
        return known[id(module)]
    name = type(module).__name__
    if type(module) is Module:  # it holds what a forward of one's own uses
        made = held(module, known)
    elif type(module) is FromTorch:
        made = graph.of_program(module, held(module, known))
    elif is_container(module):
        made = held(module, known, getattr(library.nn, name)())
    elif name == "Normalize":
        made = graph.normalize(module)
    elif name == "GlobalAvgPool2d":
        made = library.nn.AdaptiveAvgPool2d(1)
    else:
        made = counterpart(module, name, library.nn, library.nn.functional, lambda m: _layer(m, known))
    for ours, theirs in zip(module.modules(), made.modules(), strict=False):
        theirs.training = ours.training
    known[id(module)] = made
    return made


def held(module: Module, known: dict[int, Any], made: Any = None) -> Any:
    """A torch.nn.Module, `made` or a bare one, that holds what `module` does."""
    library = torch()
    made = library.nn.Module() if made is None else made
    made.training = module.training
    for name, value in vars(module).copy().items():
        if isinstance(value, Tensor):
            made.register_parameter(name, library.nn.Parameter(tensor_of(value.data), value.requires_grad))
        elif name in module._buffers:
            buffer = None if value is None else tensor_of(value)
            made.register_buffer(name, buffer, persistent=name not in module._transient)
        elif isinstance(value, Module):
            made.add_module(name, _layer(value, known))
    return made


def _share(source: Module, made: Any) -> None:
    """What is learned, and parameters that several modules of `source` share, as one."""
    library = torch()
    first: dict[int, Any] = {}
    for name in source.state_dict():
        path, _, attribute = name.rpartition(".")
        ours = vars(source.get_submodule(path))[attribute]
        theirs = getattr(made.get_submodule(path), attribute)
        if isinstance(theirs, library.nn.Parameter):
            theirs.requires_grad_(ours.requires_grad)
            setattr(made.get_submodule(path), attribute, first.setdefault(id(ours), theirs))


def _shape(model: Module, shape: Sequence[int] | None) -> tuple[int, ...]:
    takes_one("to_torch", model.forward)
    known = about(model)
    given = known.shape if shape is None and known is not None else shape
    if given is None:
        raise ArgumentError(
            "to_torch: expected the shape of one sample, to_torch(model, (1, 28, 28)), for a model with a forward of "
            "its own, got none"
        )
    return tuple(given)


def save_pt(value: Any, path: str | os.PathLike[str]) -> None:
    """Writes arrays, in any containers, as `torch.save` does: what torch.load(path, weights_only=True) reads.

    A model's state dict is ``fnn.interop.save_pt(model.state_dict(), "model.pt")``. Whatever was at `path` stays until
    the new file is complete. Raises MissingExtraError where PyTorch is not installed.
    """
    if isinstance(value, Module):
        raise ArgumentError("save_pt: expected a state dict, got a model: save_pt(model.state_dict(), path)")
    stream = io.BytesIO()
    torch().save(to_torch(value), stream)
    files.write_atomically(path, stream.getvalue())
