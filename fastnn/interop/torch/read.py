"""`from_torch`: a torch.nn.Module as a module of fastnn, with the same names and weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastnn import nn
from fastnn.errors import ArgumentError, FastnnError, GraphError
from fastnn.interop.torch.computed import compute_alike, refuse_hooks
from fastnn.interop.torch.layers import CONTAINERS, LAYERS, counterpart, torch_layer
from fastnn.interop.torch.program import FromTorch
from fastnn.interop.torch.steps import Untraceable, programs
from fastnn.interop.torch.values import array_of, mapped, torch
from fastnn.nn import Module, Parameter, functional
from fastnn.nn.modes import mode
from fastnn.tensors import Tensor, no_grad

__all__ = ["from_torch"]

CLOSE = 1e-4


def from_torch(source: Any, example: Any = None) -> Any:
    """A fastnn model of a torch.nn.Module: its layers, weights by value, running statistics and mode.

    Layers become fastnn's of the same name. A module with a forward of its own is traced by `torch.fx`, and its forward
    runs with fastnn's operators: skip connections, functions such as `F.relu` and `torch.cat`, tensors' methods, shared
    modules and parameters. Parameters keep their names, so state dicts fit both. The model trains, compiles and saves
    as any other. Arguments of forward that have defaults keep them. Weights that PyTorch computes stay computed:
    weight and spectral norms, orthogonal and pruned ones.

    Args:
        source: a torch.nn.Module, also as DataParallel or torch.compile hold it; or a state dict, any container of
            tensors, or a tensor, which become arrays.
        example: an input of the module, or a tuple of its inputs, as tensors or arrays; the predictions of both
            modules for it are then compared. Its sizes are those by which a forward decides and loops
            (``if x.dim() == 3``, ``for t in range(x.size(1))``); without, these cannot be traced.

    Returns:
        Module: for a module. Of 16-bit floats it has float32. For other sources the same with arrays for tensors.

    Raises:
        GraphError: layers or operators that fastnn does not have, or a forward that cannot be traced: one error
            with the path of each; also predictions for `example` that differ by more than 1e-4 of the largest.
        ArgumentError: something else than a module or tensors. MissingExtraError: PyTorch is not installed.

    >>> import torch, fastnn as fnn
    >>> theirs = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> ours = fnn.from_torch(theirs)
    >>> x = torch.randn(5, 4)
    >>> bool(abs(ours(x.numpy()).numpy() - theirs(x).detach().numpy()).max() < 1e-6)
    True
    """
    library = torch()
    if isinstance(source, (library.Tensor, Mapping, list, tuple)):
        return mapped(source, library.Tensor, array_of)
    if not isinstance(source, library.nn.Module):
        raise ArgumentError(f"from_torch: expected a torch.nn.Module or its tensors, got {type(source).__name__}")
    source = getattr(source, "_orig_mod", source)  # of what torch.compile gave
    inputs = None if example is None else _tensors(example)
    translation = _Translation(inputs)
    model = translation.module(source, "")
    if model is None or translation.problems:
        said = "; ".join(f"{path or 'the module'}: {reason}" for path, reason in translation.problems.items())
        hint = "" if inputs or not translation.traced else "; forwards that ask for sizes need from_torch(module, x)"
        raise GraphError(f"from_torch({type(source).__name__}): cannot translate {said}{hint}")
    _take_values(source, model)
    if inputs is not None:
        _compare(source, model, inputs)
    return model


def _tensors(example: Any) -> list[Any]:
    library = torch()
    given = example if isinstance(example, tuple) else (example,)
    return [x if isinstance(x, library.Tensor) else library.as_tensor(np.asarray(x)) for x in given]


class _Translation:
    """The modules met so far, by identity, and why others cannot be translated, by path."""

    def __init__(self, inputs: list[Any] | None = None) -> None:
        self.inputs = inputs  # of the outermost module, whose sizes its forward may ask for
        self.known: dict[int, Module | None] = {}
        self.problems: dict[str, str] = {}
        self.used: set[int] = set()  # modules that a traced forward calls
        self.traced: set[int] = set()  # own modules whose forward alone cannot be traced
        self.inner: dict[str, str] = {}  # why, by their paths

    def module(self, source: Any, path: str) -> Module | None:
        """The module of fastnn; None, with problems noted, if it has none."""
        if id(source) in self.known:
            return self.known[id(source)]
        try:
            made = self._module(source, path)
        except Untraceable as error:
            self.traced.add(id(source))
            within = {p: why for p, why in self.inner.items() if p.startswith(f"{path}." if path else "")}
            self.problems.update(within or {path: str(error)})
            made = None
        except FastnnError as error:
            self.problems[path] = error.message
            made = None
        self.known[id(source)] = made
        return made

    def _module(self, source: Any, path: str) -> Module | None:
        library = torch()
        name = torch_layer(source)
        if isinstance(source, library.nn.modules.lazy.LazyModuleMixin):
            raise GraphError(f"{name} has no weights yet: call the module with an input first")
        if name in LAYERS:
            paths = {id(m): p for p, m in source.named_modules(prefix=path)}
            layer: Module = counterpart(source, name, nn, functional, lambda m: self.module(m, paths[id(m)]))
            compute_alike(source, layer)
            return layer
        refuse_hooks(source)
        if name in CONTAINERS:
            made = self._container(source, name, path)
            if self.inputs is None or path or not self._opened(source):
                return made
            opened = {p for p, m in source.named_modules() if id(m) in self.traced}
            self.problems = {p: why for p, why in self.problems.items() if p not in opened}
        if type(source).__module__.startswith("torch.nn.parallel.") and hasattr(source, "module"):
            inner = self.module(source.module, f"{path}.module" if path else "module")
            return None if inner is None else nn.DataParallel(inner)
        if name not in (None, "Sequential"):
            raise GraphError(f"fastnn has no layer {name}")
        if isinstance(source, library.jit.ScriptModule):
            raise GraphError("TorchScript cannot be traced: give the module that it was made of")
        inputs = None if path else self.inputs
        found = programs(source, lambda m, inner: self.leaf(m, f"{path}.{inner}" if path else inner), inputs)
        made = FromTorch(type(source).__name__, found.inputs, found.training, found.evaluation)
        self._hold(source, made, path, traced=True)
        for name, tensor in found.constants.items():
            made.register_buffer(name, array_of(tensor), persistent=False)
        return made

    def leaf(self, source: Any, path: str) -> bool:
        """Whether a call of this module is one step: anything but a forward of its own that cannot be traced alone."""
        self.used.add(id(source))
        if torch_layer(source) not in (None, "Sequential"):
            return True
        if id(source) not in self.known:
            before = dict(self.problems)
            self.module(source, path)
            if self._opened(source):
                self.inner |= {p: why for p, why in self.problems.items() if p not in before}
                self.problems = before
        return not self._opened(source)

    def _opened(self, source: Any) -> bool:
        """Whether it is traced as a part of what calls it: it, or a module of the sequence that it is, has to be."""
        if torch_layer(source) == "Sequential":
            return any(map(self._opened, source))
        return id(source) in self.traced

    def _container(self, source: Any, name: str, path: str) -> Module:
        made: Module = getattr(nn, name)()
        self._hold(source, made, path)
        return made

    def _only_held(self, source: Any) -> bool:
        """Whether a traced forward does not call it: its own forward is a part of that one, or it is not used."""
        layer = torch_layer(source)
        own = layer is None and (id(source) not in self.known or id(source) in self.traced)
        return (
            own or self._opened(source) or (layer not in LAYERS | CONTAINERS | {None} and id(source) not in self.used)
        )

    def _hold(self, source: Any, made: Module, path: str, traced: bool = False) -> None:
        """Give `made` what `source` holds: modules, parameters and buffers, in order, by name."""
        for name, parameter in source._parameters.items():
            setattr(made, name, None if parameter is None else _parameter(parameter))
        for name, buffer in source._buffers.items():
            persistent = name not in source._non_persistent_buffers_set
            made.register_buffer(name, None if buffer is None else array_of(buffer), persistent=persistent)
        for name, child in source._modules.items():
            inner = f"{path}.{name}" if path else name
            if child is None:
                setattr(made, name, None)
            elif traced and self._only_held(child):
                bare = Module()
                self._hold(child, bare, inner, traced=True)
                setattr(made, name, bare)
            elif (translated := self.module(child, inner)) is not None:
                setattr(made, name, translated)


def _parameter(parameter: Any) -> Parameter:
    return Parameter(Tensor(array_of(parameter)), parameter.requires_grad)


def _take_values(source: Any, model: Module) -> None:
    """Modes, weights and statistics by value, types, what is learned, and parameters that are shared."""
    ours = dict(model.named_modules())
    for path, module in source.named_modules():
        if path in ours:
            ours[path].training = module.training
    state = {name: array_of(value) for name, value in source.state_dict().items()}
    model.load_state_dict(state, assign=True)
    first: dict[int, str] = {}
    for name, parameter in source.named_parameters(remove_duplicate=False):
        path, _, attribute = name.rpartition(".")
        if id(parameter) in first:
            setattr(model.get_submodule(path), attribute, model.get_parameter(first[id(parameter)]))
        else:
            first[id(parameter)] = name
            model.get_parameter(name).requires_grad_(parameter.requires_grad)


def _compare(source: Any, model: Module, tensors: list[Any]) -> None:
    """GraphError where the two disagree about these inputs, both in eval mode."""
    library = torch()
    if any(p.dtype in (library.float16, library.bfloat16) for p in source.parameters()):
        source = copy.deepcopy(source).float()  # as the model is
        tensors = [x.float() if x.is_floating_point() else x for x in tensors]
    modes = {module: module.training for module in source.modules()}
    try:
        with library.no_grad():
            expected = source.eval()(*tensors)
    finally:
        for module, training in modes.items():
            module.training = training
    with mode(model, training=False), no_grad():
        got = model(*map(array_of, tensors))
    for ours, theirs in zip(_flat(got), _flat(expected), strict=True):
        theirs = array_of(theirs)
        difference = float(np.abs(ours.numpy() - theirs).max(initial=0) / max(1.0, np.abs(theirs).max(initial=0)))
        if not difference <= CLOSE:
            raise GraphError(
                f"from_torch({type(source).__name__}): expected predictions for the example that agree within "
                f"{CLOSE:g}, got {difference:.2g}"
            )


def _flat(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        value = list(value.values())
    return [entry for part in value for entry in _flat(part)] if isinstance(value, (list, tuple)) else [value]
