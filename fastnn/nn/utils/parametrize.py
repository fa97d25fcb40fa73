"""PyTorch's torch.nn.utils.parametrize: parameters that are computed from others whenever they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, partial
from typing import Any

from fastnn.checks import text
from fastnn.errors import ArgumentError, ShapeError
from fastnn.habits import no_such_name
from fastnn.nn.containers import ModuleDict, ModuleList
from fastnn.nn.module import Module, Parameter, expect_module
from fastnn.ops.common import tensor_of
from fastnn.recording import no_grad
from fastnn.tensors import Tensor

__all__ = [
    "ParametrizationList",
    "cached",
    "computed",
    "is_parametrized",
    "register_parametrization",
    "remove_parametrizations",
    "type_before_parametrizations",
]

_kept: ContextVar[dict[tuple[int, str], Any] | None] = ContextVar("kept", default=None)  # by module and name


class ParametrizationList(ModuleList):
    """What computes one parameter of a module: the parameters that are learned, and the modules they go through.

    Attributes:
        original: what the first module takes; original0, original1, ... where its `right_inverse` gives several.
    """

    def __init__(self, first: Module, original: Parameter, unsafe: bool = False) -> None:
        super().__init__()
        self.unsafe = unsafe
        self.append(first)
        inverse = getattr(first, "right_inverse", None)
        with no_grad():
            try:
                values = original if inverse is None else inverse(original)
            except NotImplementedError:  # by which PyTorch's say that they have none
                values = original
        self.several = isinstance(values, (tuple, list))
        names = [f"original{i}" for i in range(len(values))] if self.several else ["original"]
        for name, value in zip(names, values if self.several else [values], strict=True):
            learned = value if value is original else Parameter(value.detach().clone(), original.requires_grad)
            setattr(self, name, learned)

    def originals(self) -> list[Any]:
        """The parameters that are learned."""
        return list(self.parameters(recurse=False))

    def forward(self) -> Any:
        first, *others = self.children()
        value = first(*self.originals())
        for module in others:
            value = module(value)
        return value

    def right_inverse(self, value: Any) -> None:
        """Writes into the originals what the modules' `right_inverse` make of the value, the last module's first.

        Raises ArgumentError where a module has none, ShapeError where an original would get another shape.
        """
        value = tensor_of(value)
        with no_grad():
            for module in reversed(list(self.children())):
                inverse = getattr(module, "right_inverse", None)
                if inverse is None:
                    raise ArgumentError(
                        f"{type(module).__name__} has no right_inverse: expected one, which says what a parameter that "
                        "it computes is made of, where a value is assigned to that"
                    )
                value = inverse(value)
            for original, each in zip(self.originals(), value if self.several else [value], strict=True):
                original.data = each.data


def register_parametrization(
    module: Module, tensor_name: str, parametrization: Module, *, unsafe: bool = False
) -> Module:
    """Let a parameter be `parametrization(original)` from now on, whenever it is read; the original is learned.

    Args:
        module: whose parameter; its class becomes one of its own, Parametrized..., and it is returned.
        tensor_name: the parameter's name, such as "weight"; a second parametrization takes the first one's result.
        parametrization: takes the original and returns a tensor of its shape. With a method ``right_inverse``, it is
            given the parameter as it is, and returns the original, or several: then it takes several.
        unsafe: whether the shape may change.

    A value that is assigned to the parameter, ``layer.weight = value``, goes through the `right_inverse` of each.
    Raises ArgumentError where the module has no such parameter, ShapeError where the shape changes.

    >>> import numpy as np
    >>> from fastnn import nn
    >>> from fastnn.nn.utils import parametrize
    >>> class Symmetric(nn.Module):
    ...     def forward(self, x):
    ...         return x.triu() + x.triu(1).T
    >>> layer = parametrize.register_parametrization(nn.Linear(3, 3), "weight", Symmetric())
    >>> bool((layer.weight == layer.weight.T).all()), sorted(layer.state_dict())
    (True, ['bias', 'parametrizations.weight.original'])
    """
    if not isinstance(parametrization, Module):
        raise ArgumentError(
            f"register_parametrization: expected a Module, got {type(parametrization).__name__}: write its "
            "forward(self, x)"
        )
    before = present("register_parametrization", module, tensor_name)
    again = is_parametrized(module, tensor_name)
    found = None if again else ParametrizationList(parametrization, before, unsafe)
    with no_grad():
        after = parametrization(before) if found is None else found()
    if tuple(after.shape) != tuple(before.shape) and not unsafe:
        raise ShapeError(
            f"register_parametrization: expected {type(parametrization).__name__} to keep the shape "
            f"{tuple(before.shape)} of {tensor_name}, got {tuple(after.shape)}: pass unsafe=True if it is meant"
        )
    if found is None:
        _lists(module)[tensor_name].append(parametrization)
        return module
    if not is_parametrized(module):
        module.add_module("parametrizations", ModuleDict())
    _lists(module)[tensor_name] = found
    computed(module, tensor_name, _parametrized)
    return module


def present(owner: str, module: Module, name: str) -> Any:
    """The parameter of this name, or what is computed in its place. ArgumentError where there is neither."""
    module = expect_module(owner, module)
    if is_parametrized(module, text(owner, "the name of a parameter", name)):
        return getattr(module, name)
    found = vars(module).get(name)
    if not isinstance(found, Parameter):
        known = ", ".join(name for name, _ in module.named_parameters(recurse=False)) or "none"
        raise ArgumentError(
            f"{owner}: expected the name of a parameter of {type(module).__name__}, got {name!r}; it has {known}"
        )
    return found


def is_parametrized(module: Module, tensor_name: str | None = None) -> bool:
    """Whether this parameter, or any, is computed by a parametrization."""
    module = expect_module("is_parametrized", module)
    held = vars(module).get("parametrizations")
    return isinstance(held, ModuleDict) and (len(held) > 0 if tensor_name is None else tensor_name in held)


def remove_parametrizations(module: Module, tensor_name: str, leave_parametrized: bool = True) -> Module:
    """Make it a parameter of its own again: with its present value or, not `leave_parametrized`, with the original."""
    if not is_parametrized(module, tensor_name):
        raise ArgumentError(f"remove_parametrizations: {type(module).__name__}.{tensor_name} is not parametrized")
    found = _lists(module)[tensor_name]
    originals = found.originals()
    if not leave_parametrized and found.several:
        raise ArgumentError(
            f"remove_parametrizations: {tensor_name} has several originals: expected leave_parametrized=True"
        )
    with no_grad():
        value = getattr(module, tensor_name).detach().clone() if leave_parametrized else originals[0]
    del _lists(module)[tensor_name]
    if not is_parametrized(module):
        delattr(module, "parametrizations")
    if found.several or not leave_parametrized:
        original = value if isinstance(value, Parameter) else Parameter(value, originals[0].requires_grad)
    else:
        original = originals[0]  # optimisers know it
        original.data[...] = value.data
    restored(module, tensor_name, original)
    return module


def type_before_parametrizations(module: Module) -> type:
    """The class that the module had."""
    return getattr(type(module), "_plain", type(module))


@contextmanager
def cached() -> Iterator[None]:
    """Within it, each parametrized parameter is computed once, however often it is read.

    >>> from fastnn.nn.utils import parametrize
    >>> with parametrize.cached():
    ...     pass
    """
    token = _kept.set({} if _kept.get() is None else _kept.get())
    try:
        yield
    finally:
        _kept.reset(token)


def computed(module: Module, name: str, compute: Callable[[Module, str], Any]) -> None:
    """Let `module.name` be what `compute(module, name)` returns whenever it is read, in the parameter's place."""
    delattr(module, name)
    plain, known = type_before_parametrizations(module), getattr(type(module), "_computed", ())
    module.__class__ = _class(plain, (*known, (name, compute)))


def restored(module: Module, name: str, parameter: Parameter) -> None:
    """Let `module.name` be this parameter again."""
    left = tuple(entry for entry in getattr(type(module), "_computed", ()) if entry[0] != name)
    plain = type_before_parametrizations(module)
    module.__class__ = _class(plain, left) if left else plain
    setattr(module, name, parameter)


@cache
def _class(plain: type, entries: tuple[tuple[str, Callable[[Module, str], Any]], ...]) -> type:
    """A class like `plain` whose attributes of these names are computed."""
    members: dict[str, Any] = {"_plain": plain, "_computed": entries, "__module__": plain.__module__}
    for name, compute in entries:
        members[name] = property(partial(_read, compute, name), _assigned(compute, name))
    return type(f"Parametrized{plain.__name__}", (plain,), members)


def _read(compute: Callable[[Module, str], Any], name: str, module: Module) -> Any:
    return compute(module, name)


def _assigned(compute: Callable[[Module, str], Any], name: str) -> Callable[[Module, Any], None]:
    def assign(module: Module, value: Any) -> None:
        if compute is _parametrized:
            _lists(module)[name].right_inverse(tensor_of(value).detach())
            return
        raise ArgumentError(
            f"{type(module).__name__}.{name} is computed from other parameters: set these, or remove what computes it"
        )

    return assign


def _lists(module: Module) -> Any:
    return vars(module)["parametrizations"]


def _parametrized(module: Module, name: str) -> Tensor:
    kept = _kept.get()
    if kept is None:
        return _lists(module)[name]()
    if (id(module), name) not in kept:
        kept[id(module), name] = _lists(module)[name]()
    return kept[id(module), name]


def __getattr__(name: str) -> Any:
    raise no_such_name("fastnn.nn.utils.parametrize", name)
