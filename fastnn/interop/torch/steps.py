"""The forward of a torch.nn.Module as steps (see program.py), traced by torch.fx."""

from __future__ import annotations

import builtins
import functools
import inspect
import linecache
import math
import operator
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fastnn.dtypes import TYPES
from fastnn.errors import FastnnError, GraphError
from fastnn.interop.torch.program import ATTRIBUTES, function_of
from fastnn.interop.torch.sizes import Sizes
from fastnn.interop.torch.values import torch
from fastnn.tensors import Tensor

__all__ = ["Programs", "Untraceable", "programs"]

Step = list[Any]
# Functions that make tensors of sizes alone, which torch.fx does not look into.
_CREATING = ("arange", "empty", "eye", "full", "linspace", "ones", "rand", "randn", "tensor", "zeros")


class Untraceable(Exception):
    """Why torch.fx cannot trace a forward."""


@dataclass
class Programs:
    """The names of the inputs, the steps in both modes, and the tensors that are none of the module's."""

    inputs: list[str]
    training: dict[str, Any] = field(default_factory=dict)
    evaluation: dict[str, Any] = field(default_factory=dict)
    constants: dict[str, Any] = field(default_factory=dict)


def programs(module: Any, is_leaf: Callable[[Any, str], bool], inputs: list[Any] | None = None) -> Programs:
    """The forward of `module` in training and in eval mode; calls of modules for which `is_leaf` holds are one step.

    Where a forward decides or loops by sizes, those for the example `inputs` count.

    Raises Untraceable where the forward needs values or takes any number of inputs, GraphError for operators that
    fastnn does not have.
    """
    required = _required(module)
    found = Programs(required)
    before = {each: each.training for each in module.modules()}
    try:
        for training in (True, False):
            for each in before:  # those that are traced as a part of this one ask for theirs
                each.training = training
            graph = _traced(module, required, is_leaf, found.constants, inputs)
            program = _Encoder(module).program(graph)
            if training:
                found.training = program
            else:
                found.evaluation = program
    finally:
        for each, training in before.items():
            each.training = training
    merged = _merged(found.training, found.evaluation)
    if merged is not None:
        found.training = found.evaluation = merged
    return found


def _required(module: Any) -> list[str]:
    """The names of the inputs that have no default."""
    names = []
    for name, parameter in inspect.signature(module.forward).parameters.items():
        without = parameter.default is parameter.empty
        if without and parameter.kind in (parameter.VAR_POSITIONAL, parameter.KEYWORD_ONLY):
            raise Untraceable(f"forward{inspect.signature(module.forward)} takes inputs without places of their own")
        if without and parameter.kind is not parameter.VAR_KEYWORD:
            names.append(name)
    return names


def _traced(
    module: Any,
    required: list[str],
    is_leaf: Callable[[Any, str], bool],
    constants: dict[str, Any],
    inputs: list[Any] | None = None,
) -> Any:
    library = torch()
    fx = library.fx
    sizes = None if inputs is None else Sizes(module, inputs, constants)

    class Tracer(fx.Tracer):  # type: ignore[name-defined]
        proxy_buffer_attributes = True

        def proxy(self, node: Any) -> Any:
            return Proxy(node, self)

        def to_bool(self, obj: Any) -> Any:
            """Assertions about values, such as `assert x.dim() == 4`, are taken to hold, and are left out."""
            known = None if sizes is None else sizes.plain(obj.node)
            if known is not None:
                return bool(known)
            caller = sys._getframe(2)  # behind __bool__
            line = linecache.getline(caller.f_code.co_filename, caller.f_lineno)
            return line.lstrip().startswith("assert ") or super().to_bool(obj)

        def is_leaf_module(self, m: Any, module_qualified_name: str) -> bool:
            return is_leaf(m, module_qualified_name)

        def call_module(self, m: Any, forward: Any, args: Any, kwargs: Any) -> Any:
            if sizes is not None and sizes.following:
                return forward(*args, **kwargs)
            own = not type(m).__module__.startswith("torch.nn.modules.")
            if own and type(m).forward is not library.nn.Sequential.forward and _with_more(m, args, kwargs):
                return forward(*args, **kwargs)
            return super().call_module(m, forward, args, kwargs)

        def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: Any) -> Any:
            following = sizes is not None and sizes.following
            return attr_val if following else super().getattr(attr, attr_val, parameter_proxy_cache)

        def iter(self, obj: Any) -> Any:
            count = None if sizes is None else sizes.length(obj.node)
            return super().iter(obj) if count is None else iter([obj[i] for i in range(count)])

        def create_node(self, *args: Any, **kwargs: Any) -> Any:
            node = super().create_node(*args, **kwargs)
            if sizes is not None:
                sizes.follow(node)
            return node

        def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> Any:
            inputs = [self.create_proxy("placeholder", name, (), {}) for name in required]
            return lambda _, *given: module.forward(*given), [self.root, *inputs]

        def create_arg(self, a: Any) -> Any:
            if isinstance(a, library.Tensor) and not isinstance(a, library.nn.Parameter):
                name = next((n for n, known in constants.items() if _same(known, a)), f"_constant{len(constants)}")
                constants.setdefault(name, a.detach().clone())
                return self.create_node("get_attr", name, (), {})
            return super().create_arg(a)

    class Proxy(fx.Proxy):  # type: ignore[name-defined]
        """`x += y` as what writes into x, which torch.fx takes for `x = x + y`."""

    for name in ("iadd", "isub", "imul", "itruediv", "ipow", "setitem"):
        setattr(Proxy, f"__{name}__", _writing(getattr(operator, name)))
    if sizes is not None:
        for name, number in (("index", int), ("int", int), ("float", float)):
            setattr(Proxy, f"__{name}__", sizes.conversion(number))
        Proxy.__len__ = lambda self: sizes.length(self.node)

    try:
        with _wrapped(library, sizes):
            return Tracer().trace(module)
    except (FastnnError, Untraceable):
        raise
    except Exception as error:  # whatever a user's forward does with what fx gives it
        first = str(error).strip().partition("\n")[0]
        raise Untraceable(f"torch.fx cannot trace forward of {type(module).__name__}: {first}") from error


def _writing(function: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: Any, *others: Any) -> Any:
        return self.tracer.create_proxy("call_function", function, (self, *others), {})

    return method


def _same(a: Any, b: Any) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and bool((a == b).all())


def _with_more(module: Any, args: Any, kwargs: Any) -> bool:
    """Whether a call gives more than the inputs without defaults, which alone a translated module takes."""
    try:
        return bool(kwargs) or len(args) != len(_required(module))
    except Untraceable:
        return True


@contextmanager
def _wrapped(library: Any, sizes: Sizes | None) -> Iterator[None]:
    """Functions that make tensors take part in the trace where a size depends on the input.

    A type whose limits are asked for is float32 where the trace does not know it. Functions that their authors have
    told torch.fx not to look into (`torch.fx.wrap`) are looked into.
    """
    closed = getattr(library.fx._symbolic_trace, "_wrapped_fns_to_patch", {})
    kept_closed = dict(closed)
    kept = {name: getattr(library, name) for name in _CREATING}

    def wrapper(function: Any) -> Any:
        function = inspect.unwrap(function)  # of the trace that this one is a part of

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            found: list[Any] = []
            library.fx.node.map_aggregate((args, kwargs), lambda x: found.append(x) if _is_proxy(x) else None)
            if not found:
                return function(*args, **kwargs)
            return found[0].tracer.create_proxy("call_function", function, args, kwargs)

        return call

    def _is_proxy(x: Any) -> bool:
        return isinstance(x, library.fx.Proxy)

    if sizes is not None:  # which import this in time: it keeps what it finds in torch, such as finfo
        from torch import _dynamo  # noqa: F401
    limits = library.finfo

    def finfo(dtype: Any = library.float32) -> Any:
        known = None if sizes is None or not _is_proxy(dtype) else sizes.values.get(dtype.node)
        return limits((known or library.float32) if _is_proxy(dtype) else dtype)

    try:
        library.finfo = finfo
        for name, function in kept.items():
            setattr(library, name, wrapper(function))
        closed.clear()
        yield
    finally:
        library.finfo = limits
        for name, function in kept.items():
            setattr(library, name, function)
        closed.update(kept_closed)


class _Encoder:
    """Nodes of a graph of torch.fx as steps; what is written in place becomes another value from there on."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.places: dict[Any, int] = {}  # of what a node gave
        self.steps: list[Step] = []
        self.written: set[Any] = set()  # nodes whose value a module has changed in a way that is not known

    def program(self, graph: Any) -> dict[str, Any]:
        for node in reversed(list(graph.nodes)):
            needed = node.op in ("placeholder", "output") or node.users or self._writes(node)
            if not needed:
                graph.erase_node(node)
        inputs = sum(node.op == "placeholder" for node in graph.nodes)
        result = None
        for node in graph.nodes:
            if node.op == "placeholder":
                self.places[node] = len(self.places)
            elif node.op == "output":
                result = self.value(node.args[0])
            elif hasattr(node.target, "_fields"):  # a namedtuple, whose parts alone count
                continue
            else:
                self.steps.append(self.step(node))
                self.places[node] = inputs + len(self.steps) - 1
                self._follow_writing(node)
        return {"steps": self.steps, "result": result}

    def step(self, node: Any) -> Step:
        args, kwargs = list(node.args), dict(node.kwargs)
        if node.op == "call_module":
            kind, name = "module", node.target
        elif node.op == "get_attr":
            kind, name = "value", node.target
        elif node.op == "call_method":
            kind, name = "method", node.target
            kwargs.pop("memory_format", None)
            kwargs.pop("non_blocking", None)
        elif node.target is builtins.getattr:
            kind, name = "attribute", args.pop()
        else:
            kind, name = _function(node.target)
            kwargs = _without_defaults(node.target, kwargs)
            kwargs.pop("inplace", None)  # the value is followed instead
        if kind == "operator" and name.startswith("i") and function_of(kind, name[1:]) is not None:
            name = name[1:]
        if kind not in ("module", "value") and function_of(kind, name) is None:
            raise GraphError(f"fastnn has no {_said(kind, name)}")
        step = [kind, name, [self.value(arg) for arg in args], {key: self.value(arg) for key, arg in kwargs.items()}]
        self._check(*step)
        return step

    def _check(self, kind: str, name: str, args: list[Any], kwargs: dict[str, Any]) -> None:
        """GraphError for options that fastnn's function does not take."""
        if kind not in ("fnn", "F", "method"):
            return
        function = getattr(Tensor, name) if kind == "method" else function_of(kind, name)
        try:
            inspect.signature(function).bind(*args, **kwargs)  # type: ignore[arg-type]
        except TypeError as error:
            raise GraphError(f"{_said(kind, name)} of fastnn does not take these arguments: {error}") from None
        except ValueError:  # without a signature
            pass

    def value(self, arg: Any) -> Any:
        library = torch()
        if isinstance(arg, library.fx.Node):
            if arg in self.written:
                raise GraphError(f"the input of {arg.name} is used after a layer wrote into it: inplace=False there")
            if hasattr(arg.target, "_fields"):
                return tuple(map(self.value, arg.args))
            return {"step": self.places[arg]}
        if isinstance(arg, library.dtype):
            name = str(arg).removeprefix("torch.")
            if name not in TYPES:
                raise GraphError(f"fastnn has no type {name}")
            return {"dtype": name}
        if isinstance(arg, library.device):
            return "cpu"
        if isinstance(arg, slice):
            return {"slice": [self.value(each) for each in (arg.start, arg.stop, arg.step)]}
        if arg is ...:
            return {"ellipsis": None}
        if isinstance(arg, (tuple, list)):
            return tuple(map(self.value, arg)) if isinstance(arg, tuple) else list(map(self.value, arg))
        if isinstance(arg, dict):
            return {"dict": {key: self.value(entry) for key, entry in arg.items()}}
        if arg is None or isinstance(arg, (bool, int, float, str)):
            return arg
        raise GraphError(f"forward uses {arg!r}, for which fastnn has nothing")

    def _writes(self, node: Any) -> bool:
        """Whether it writes into its first argument."""
        if node.op == "call_method":
            return node.target.endswith("_") and not node.target.endswith("__")
        if node.op == "call_module":
            return _writes_input(self.module.get_submodule(node.target))
        if node.op != "call_function":
            return False
        name = getattr(node.target, "__name__", "")
        by_operator = node.target in vars(operator).values() and name.startswith("i") and name[1:] in vars(operator)
        by_operator |= node.target is operator.setitem
        return bool(node.kwargs.get("inplace")) or by_operator or (name.endswith("_") and not name.endswith("__"))

    def _follow_writing(self, node: Any) -> None:
        """From here on, what was written into is the result."""
        if not self._writes(node) or not node.args or not hasattr(node.args[0], "op"):
            return
        into = node.args[0]
        if node.op == "call_module" and not hasattr(self.module.get_submodule(node.target), "inplace"):
            self.written.add(into)
        before = self.places[into]
        self.places = {n: self.places[node] if place == before else place for n, place in self.places.items()}


def _writes_input(module: Any) -> bool:
    if isinstance(module, torch().nn.Sequential):
        return any(map(_writes_input, list(module)[:1]))
    return getattr(module, "inplace", False) is True


def _function(target: Any) -> tuple[str, str]:
    """The kind and the name of a function that a forward calls."""
    name = getattr(target, "__name__", str(target))
    if target in vars(operator).values():
        return "operator", name
    if target in vars(math).values():
        return "math", name
    library = torch()
    name = name.lstrip("_")
    first_f = getattr(library.nn.functional, name, None) is target or "nn" in (getattr(target, "__module__", "") or "")
    for kind in ("F", "fnn") if first_f else ("fnn", "F"):
        if function_of(kind, name) is not None:
            return kind, name
    module = getattr(target, "__module__", None) or "torch"
    if module.startswith(("torch", "_")):
        return ("F" if first_f else "fnn"), name
    raise GraphError(f"forward calls {module}.{name}, for which fastnn has nothing")


def _without_defaults(function: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """What is given beyond PyTorch's own defaults, some of which are of no concern elsewhere."""
    try:
        defaults = {key: p.default for key, p in inspect.signature(function).parameters.items()}
    except (TypeError, ValueError):  # written in C
        return kwargs
    kept = ("training", *(key for key, value in kwargs.items() if defaults.get(key, inspect) is not value))
    return {key: value for key, value in kwargs.items() if key in kept and key != "_stacklevel"}


def _said(kind: str, name: str) -> str:
    if kind == "method":
        return f"tensor's method {name}"
    if kind == "attribute":
        return f"tensor's attribute {name} (it has {', '.join(sorted(ATTRIBUTES))})"
    return {"F": "function F.", "fnn": "function torch.", "operator": "operator ", "math": "function math."}[
        kind
    ] + name


def _merged(training: Any, evaluation: Any) -> Any:
    """One program for both modes, where they differ in nothing but flags for training; else None."""
    if isinstance(training, bool) and isinstance(evaluation, bool) and training != evaluation:
        return {"training": None} if training else None
    if type(training) is not type(evaluation):
        return None
    if isinstance(training, dict):
        if list(training) != list(evaluation):
            return None
        merged = {key: _merged(training[key], evaluation[key]) for key in training}
        missing = any(merged[key] is None is not training[key] for key in training)
        return None if missing else merged
    if isinstance(training, (list, tuple)):
        if len(training) != len(evaluation):
            return None
        pairs = list(zip(training, evaluation, strict=True))
        entries = [_merged(*pair) for pair in pairs]
        missing = any(new is None is not old for new, (old, _) in zip(entries, pairs, strict=True))
        return None if missing else type(training)(entries)
    return training if training == evaluation else None
