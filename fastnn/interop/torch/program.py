"""FromTorch: the forward of a torch.nn.Module, step by step, as plain data that is run with fastnn's operators.

A step is [kind, name, args, kwargs]. The kinds are "module" (a layer, by its path), "value" (a parameter or buffer, by
its path), "method" (of the first argument), "fnn", "F", "operator" and "math" (functions of these places), and
"attribute" (such as "shape"). Among the arguments, {"step": i} is what step i gave, where the inputs come first;
{"training": None} says whether the module is in training mode; {"slice": [...]}, {"dtype": name}, {"dict": {...}} and
{"ellipsis": None} are what they say.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.dtypes import TYPES
from fastnn.errors import ArgumentError, GraphError
from fastnn.nn import Module
from fastnn.ops.names import having, in_place, method
from fastnn.tensors import Tensor

__all__ = ["ATTRIBUTES", "FromTorch", "function_of", "written_into"]

ATTRIBUTES = frozenset(("T", "device", "dtype", "indices", "mT", "ndim", "shape", "values"))
_NAMES = """abs add and_ eq floordiv ge getitem gt invert le lt matmul mod mul ne neg not_ or_ pos pow sub truediv
    xor"""
_OPERATORS = frozenset(_NAMES.split())
_MATH = frozenset(["ceil", "cos", "exp", "floor", "log", "log2", "pow", "prod", "sin", "sqrt"])
_FUNCTIONS = {"fnn": frozenset([*having("f"), *in_place("f")]), "F": frozenset([*having("F"), *in_place("F")])}


def function_of(kind: str, name: str) -> Callable[..., Any] | None:
    """What a step of this kind and name calls; None if there is no such function."""
    if kind == "operator" and name == "setitem":
        return written_into
    if kind == "operator" and name in _OPERATORS:
        return getattr(operator, name)
    if kind == "math" and name in _MATH:
        return getattr(math, name)
    if name in _FUNCTIONS.get(kind, ()):
        return method(name)
    if kind == "attribute" and name in ATTRIBUTES:
        return operator.attrgetter(name)
    if kind == "method" and not name.startswith("_") and callable(getattr(Tensor, name, None)):
        return operator.methodcaller  # bound where the arguments are
    return None


def written_into(x: Any, key: Any, value: Any) -> Any:
    """What x is after ``x[key] = value``, as a tensor of its own; of either library."""
    made = x.clone()
    made[key] = value
    return made


class FromTorch(Module):
    """A module that `fnn.from_torch` made of one with a forward of its own; layers and weights have their names there.

    >>> import torch, fastnn as fnn
    >>> class Residual(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.linear = torch.nn.Linear(4, 4)
    ...     def forward(self, x):
    ...         return x + torch.relu(self.linear(x))
    >>> fnn.from_torch(Residual())
    FromTorch(Residual
      (linear): Linear(in_features=4, out_features=4, bias=True)
    )
    """

    def __init__(self, name: str, inputs: list[str], training: dict[str, Any], evaluation: dict[str, Any]) -> None:
        super().__init__()
        self._name, self._inputs = name, inputs
        self._programs = {"training": training, "evaluation": evaluation}

    def forward(self, *inputs: Any) -> Any:
        if len(inputs) != len(self._inputs):
            raise ArgumentError(f"{self._name}: expected {len(self._inputs)} inputs ({', '.join(self._inputs)}), "
                                f"got {len(inputs)}")  # fmt: skip
        program = self._programs["training" if self.training else "evaluation"]
        found = list(inputs)
        for kind, name, args, kwargs in program["steps"]:
            given = [self._value(arg, found) for arg in args]
            named = {key: self._value(arg, found) for key, arg in kwargs.items()}
            found.append(self._run(kind, name, given, named))
        return self._value(program["result"], found)

    def _run(self, kind: str, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        if kind == "module":
            return self.get_submodule(name)(*args, **kwargs)
        if kind == "value":
            found = self._member("value", name)
            return Tensor(found) if isinstance(found, np.ndarray) else found
        function = function_of(kind, name)
        if function is None:
            raise GraphError(f"{self._name}: expected a function of fastnn, got the {kind} {name!r}")
        if kind == "method":
            return getattr(args[0], name)(*args[1:], **kwargs)
        return function(*args, **kwargs)

    def _value(self, described: Any, found: list[Any]) -> Any:
        if isinstance(described, (list, tuple)):
            return type(described)(self._value(entry, found) for entry in described)
        if not isinstance(described, dict):
            return described
        ((kind, content),) = described.items()
        if kind == "step":
            return found[content]
        if kind == "training":
            return self.training
        if kind == "slice":
            return slice(*self._value(content, found))
        if kind == "dict":
            return {key: self._value(entry, found) for key, entry in content.items()}
        return TYPES[content] if kind == "dtype" else ...

    def extra_repr(self) -> str:
        return self._name
