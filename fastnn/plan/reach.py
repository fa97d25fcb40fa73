"""What forward and a loss can read besides arrays: attributes, closures, globals, lists, random generators.

A walk from the model and the loss finds the places that they are read from. Of plain objects, classes and globals only
those names count that occur in the code which is followed: a trainer's list of losses is none of its model's business.
The code of the standard library and of installed packages is not followed, nor that of operators, which a plan runs.
"""

from __future__ import annotations

import functools
import io
import pickle
import random as python_random
import sys
import weakref
from array import array
from collections import ChainMap, UserDict, UserList, deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextvars import ContextVar
from types import BuiltinFunctionType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any

import numpy as np

from fastnn import random
from fastnn.nn import Module, Parameter
from fastnn.plan.code import is_fastnns, is_foreign, is_foreign_class, names_in
from fastnn.plan.places import MISSING, PLAIN, ArrayPlace, CodePlace, LongPlace, Place
from fastnn.tensors import Function, Tensor

__all__ = ["UNREAD", "Reach"]

UNREAD = ("training", "_about")  # attributes of modules that no forward depends on, or that are watched elsewhere

# Methods that code calls without their names: by an operator, len(), float(), `for`, `in`, `with`, an attribute.
_IMPLICIT = frozenset(
    f"__{name}__"
    for name in [
        "getattr", "getattribute", "getitem", "get", "iter", "next", "len", "contains", "missing", "enter", "bool",
        "float", "int", "index", "array", "str", "format", "eq", "ne", "lt", "le", "gt", "ge", "add", "radd", "sub",
        "rsub", "mul", "rmul", "truediv", "rtruediv", "pow", "rpow", "neg", "abs", "round", "matmul", "rmatmul",
    ]
)  # fmt: skip

_METHODS = (FunctionType, property, staticmethod, classmethod)

MOST_ENTRIES = 256  # of a container whose entries are looked into
MOST_BYTES = 1 << 24  # of an array that is put back


class Reach:
    """The modules and other places that these roots (a model, a loss) can read; `has_users_code`: not just fastnn's.

    With `whole`, what code can change in a place can be put back, and with `parameters` so can all parameters and
    buffers; without, arrays and long containers are only compared. `names` that an earlier walk has found save the
    repetitions that would find them. What lies in a `free` entry, (id of its owner, name), is passed over.
    """

    def __init__(
        self,
        roots: tuple[Any, ...],
        names: Iterable[str] = (),
        *,
        whole: bool = False,
        parameters: bool = False,
        free: Container[tuple[int, Any]] = (),
    ) -> None:
        self.whole, self.free = whole, free
        self.names = {"forward", "__call__", *_IMPLICIT, *names}
        self.lacked: set[str] = set()
        known = (-1, -1)
        while (len(self.names), len(self.lacked)) != known:  # code that is found may name what was passed over
            known = len(self.names), len(self.lacked)
            self.modules: list[Module] = []
            self.places: list[Place] = []
            self._seen: dict[int, Any] = {}  # held: an id is its object's as long as that lives
            self._classes: set[type] = set()
            self._functions: list[FunctionType] = []
            self._methods: list[tuple[Mapping[str, Any], str]] = []  # the classes that they are in, and their names
            self.has_users_code = False
            self.iterator: str | None = None  # one that values may be taken from
            for root in roots:
                self.has_users_code |= not is_fastnns(root if isinstance(root, FunctionType) else type(root))
                known_places = len(self.places)
                self._visit(root, type(root).__name__ if isinstance(root, Module) else "the loss")
                for place in self.places[known_places:]:
                    place.reader = "forward" if root is roots[0] else "the loss"
        if self._functions or self._methods:
            self.places.append(CodePlace(self._functions, self._methods))
        if parameters:
            self._add_state(roots)
        if whole:
            known_places = len(self.places)
            self._add_globals()
            for place in self.places[known_places:]:
                place.reader = "forward" if len(roots) == 1 else "forward or the loss"

    # ---- the walk --------------------------------------------------------------------------------------------------

    def _visit(self, value: Any, label: str) -> None:
        if id(value) in self._seen or (isinstance(value, PLAIN) and not isinstance(value, tuple)):
            return
        self._seen[id(value)] = value
        if isinstance(value, Module):
            self._visit_model(value, label)
        elif isinstance(value, np.ndarray):
            self._add_array(value, label)
        elif isinstance(value, Tensor):
            if not isinstance(value, Parameter) and type(value) is Tensor:
                self._add_array(value._data, label)
        elif isinstance(value, (dict, list, tuple, set, frozenset, deque)):
            self._visit_container(value, label)
        elif isinstance(value, FunctionType):
            self._visit_function(value, label)
        elif isinstance(value, functools.partial):
            for part in (value.func, value.args, value.keywords):
                self._visit(part, label)
        elif isinstance(value, (UserDict, UserList)):
            self._visit(value.data, label)
        elif isinstance(value, ChainMap):
            self._visit(value.maps, label)
        elif isinstance(value, weakref.ref):
            self._visit(value(), label)
        elif isinstance(value, MappingProxyType):
            self._visit_view(value, label)
        elif isinstance(value, ContextVar):
            self._add_context(value, label)
        elif isinstance(value, (bytearray, array, memoryview)):
            self._add_variable(label, value, lambda: bytes(value), lambda held: _refill(value, held))
        elif isinstance(value, MethodType):
            self._visit(value.__self__, _owner_label(value.__self__, label))
            self._visit(value.__func__, label)
        elif _state_of(value) is not None:
            self._add_generator(value, label)
        elif isinstance(value, (BuiltinFunctionType, np.ufunc)) or type(value).__name__ == "cython_function_or_method":
            self._visit(getattr(value, "__self__", None), label)
        elif isinstance(value, ModuleType):
            if not is_foreign(getattr(value, "__file__", None)):
                self._visit_names(value, value.__name__)
        elif isinstance(value, type):
            self._visit_class(value)
        elif isinstance(value, Iterator) and not isinstance(value, io.IOBase):
            self.iterator = label
        elif not is_foreign_class(type(value)):
            self._visit_names(value, _owner_label(value, label))
            self._visit_class(type(value))
        elif type(value).__module__.startswith("fastnn.schedules."):
            self._visit(vars(value), label)
        elif is_fastnns(type(value)):  # an optimiser, say, whose rate is read
            self._visit_names(value, _owner_label(value, label))

    def _visit_model(self, model: Module, label: str) -> None:
        for name, module in model.named_modules():
            self._seen[id(module)] = module
            self.modules.append(module)
            self.has_users_code |= not (is_fastnns(type(module)) and is_fastnns(type(module).forward))
            path = f"{label}.{name}" if name else label
            if not is_foreign_class(type(module)):
                self._visit_class(type(module))
                entries = [(key, value) for key, value in vars(module).copy().items() if key in self.names]
                buffers = [(key, vars(module).get(key)) for key in module._buffer_names]
                for key, value in (*entries, *buffers):
                    if not isinstance(value, Module) and (id(module), key) not in self.free:
                        self._visit(value, f"{path}.{key}")
            elif "forward" in vars(module):
                self.has_users_code = True
                self._visit(vars(module)["forward"], f"{path}.forward")
            for hook in module._hooks:
                self.has_users_code = True
                self._visit(hook.function, f"a hook of {path}")
            if self.whole:
                self._add_attributes(module, path)

    def _visit_class(self, cls: type) -> None:
        for base in cls.__mro__:
            if base not in self._classes and not is_foreign_class(base) and not issubclass(base, Function):
                self._classes.add(base)
                self._visit_names(base, base.__name__)

    def _visit_names(self, owner: Any, label: str) -> None:
        """Visit the attributes of an object, class or module that the code may read, also those of its class that an
        attribute of its own may come to hide."""

        def put(name: str, value: Any) -> None:
            delattr(owner, name) if value is MISSING else setattr(owner, name, value)

        space = _space_of(owner)
        is_object = not isinstance(owner, (type, ModuleType, FunctionType))
        absent: set[str] = self.names - _IMPLICIT if self.whole else self.lacked
        if not (is_object and hasattr(owner, "__dict__")):
            absent = set()
        names = [name for name in self.names if name in space or _is_of_class(owner, name) or name in absent]
        values = {name: space.get(name) for name in names}
        code = {name: v for name, v in values.items() if isinstance(owner, type) and isinstance(v, _METHODS)}
        self._methods += [(space, name) for name in code]
        if held := [name for name in names if name not in code]:
            self._add_names(label, owner, lambda: _space_of(owner), held, put)
        for name, value in values.items():
            if isinstance(value, property):
                value = value.fget
            elif isinstance(value, (staticmethod, classmethod)):
                value = value.__func__
            if (id(owner), name) not in self.free:
                self._visit(value, f"{label}.{name}")

    def _visit_function(self, function: FunctionType, label: str) -> None:
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            value = _content(cell)
            if not is_foreign(function.__code__.co_filename):
                self._add_cell(name, cell)
            if (id(cell), None) not in self.free:
                self._visit(value, name)
        for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            self._visit(value, f"a default argument of {function.__qualname__}")
        if is_foreign(function.__code__.co_filename):
            return
        self._visit_names(function, function.__qualname__)
        self._add_defaults(function)
        self._functions.append(function)
        of_variables, others, lacked = names_in(function.__code__)
        self.names |= others
        self.lacked |= lacked
        space = function.__globals__
        read = [name for name in sorted(of_variables) if name in space]
        if read:
            self._add_names("", space, lambda: space, read, lambda name, value: _put_item(space, name, value))
        for name in read:
            if (id(space), name) not in self.free:
                self._visit(space[name], name)

    def _visit_container(self, value: Any, label: str) -> None:
        if len(value) > MOST_ENTRIES:
            if not isinstance(value, (tuple, frozenset)):
                self.places.append(LongPlace(label, value, self.whole))
            return

        def named(entry: Any) -> str:
            return f"{label}[{entry!r}]"

        if isinstance(value, dict):

            def write(entries: dict[Any, Any]) -> None:
                for name in [name for name in value if name not in entries]:
                    del value[name]
                value.update(entries)

            put = functools.partial(_put_item, value)
            self.places.append(Place(named, value, lambda: dict(value), write, put=put))
        elif isinstance(value, (list, deque)):

            def refill(entries: dict[Any, Any]) -> None:
                value.clear()
                value.extend(entries.values())

            puts = functools.partial(_put_at, value) if isinstance(value, list) else None
            self.places.append(Place(named, value, lambda: dict(enumerate(value)), refill, put=puts))
        elif isinstance(value, set):

            def regain(entries: dict[Any, Any]) -> None:
                value.clear()
                value.update(entries)

            self.places.append(Place(lambda _: label, value, lambda: dict.fromkeys(value), regain))
        for key, entry in list(value.items() if isinstance(value, dict) else enumerate(value)):
            if (id(value), key) not in self.free:
                self._visit(entry, label)

    def _visit_view(self, value: Mapping[Any, Any], label: str) -> None:
        """A mapping that cannot be written to, and may change all the same."""
        self.places.append(Place(lambda entry: f"{label}[{entry!r}]", value, lambda: dict(value), lambda _: None))
        for entry in value.values():
            self._visit(entry, label)

    # ---- the places ------------------------------------------------------------------------------------------------

    def _add_attributes(self, module: Module, label: str) -> None:
        def read() -> dict[str, Any]:
            return {name: value for name, value in vars(module).copy().items() if name not in UNREAD}

        def write(entries: dict[str, Any]) -> None:
            for name in [name for name in read() if name not in entries]:
                delattr(module, name)
            for name, value in entries.items():
                if vars(module).get(name, MISSING) is not value:
                    vars(module).pop(name, None)  # a parameter may come back where something else was put
                    setattr(module, name, value)

        def put(name: str, value: Any) -> None:
            delattr(module, name) if value is MISSING else setattr(module, name, value)

        self.places.append(Place(lambda entry: f"{label}.{entry}", module, read, write, put=put))

    def _add_names(
        self, label: str, owner: Any, space: Callable[[], Any], names: list[str], put: Callable[[str, Any], None]
    ) -> None:
        def read() -> dict[str, Any]:
            now = space()
            return {name: now.get(name, MISSING) for name in names}

        def write(entries: dict[str, Any]) -> None:
            for name, value in entries.items():
                if space().get(name, MISSING) is not value:
                    put(name, value)

        form = f"{label}.{{}}" if label else "the global variable {}"
        self.places.append(Place(form.format, owner, read, write, put=put))

    def _add_cell(self, name: str, cell: Any) -> None:
        if id(cell) not in self._seen:
            self._seen[id(cell)] = cell
            put = functools.partial(setattr, cell, "cell_contents")
            self._add_variable(f"the variable {name}", cell, lambda: _content(cell), put)

    def _add_variable(self, label: str, owner: Any, read: Callable[[], Any], put: Callable[[Any], Any]) -> None:
        def write(entries: dict[Any, Any]) -> None:
            put(entries[None])

        self.places.append(
            Place(lambda _: label, owner, lambda: {None: read()}, write, put=lambda _, value: put(value))
        )

    def _add_context(self, variable: ContextVar[Any], label: str) -> None:
        def put(value: Any) -> None:
            if value is not MISSING:
                variable.set(value)

        self._add_variable(label, variable, lambda: variable.get(MISSING), put)
        self._visit(variable.get(None), label)

    def _add_defaults(self, function: FunctionType) -> None:
        def write(entries: dict[str, Any]) -> None:
            function.__defaults__, function.__kwdefaults__ = entries["__defaults__"], dict(entries["__kwdefaults__"])

        def read() -> dict[str, Any]:
            by_name = tuple((function.__kwdefaults__ or {}).items())
            return {"__defaults__": function.__defaults__, "__kwdefaults__": by_name}

        if function.__defaults__ or function.__kwdefaults__:
            named = f"{function.__qualname__}.{{}}".format
            self.places.append(Place(named, function, read, write))

    def _add_array(self, array: Any, label: str, shared: bool = False) -> None:
        if array.dtype.hasobject or not array.nbytes:
            return
        if not self.whole:
            self.places.append(ArrayPlace(label, array))
            return
        if array.nbytes > MOST_BYTES:
            return

        def write(entries: dict[Any, Any]) -> None:
            if array.flags.writeable:
                array[...] = np.frombuffer(entries[None], array.dtype).reshape(array.shape)

        self.places.append(
            Place(
                lambda _: label, array, lambda: {None: array.tobytes()}, write,
                verb="writes into", shared=shared,
            )
        )  # fmt: skip

    def _add_generator(self, generator: Any, label: str, shared: bool = False) -> None:
        state = _state_of(generator)
        if self.whole and state is not None:
            self._add_state_of_generator(generator, *state, label, shared)

    def _add_state_of_generator(
        self, generator: Any, read: Callable[[], Any], write: Callable[[Any], Any], label: str, shared: bool
    ) -> None:
        self.places.append(
            Place(
                lambda _: label, generator, lambda: {None: pickle.dumps(read())},
                lambda entries: write(pickle.loads(entries[None])),
                verb="draws random numbers from", shared=shared,
            )
        )  # fmt: skip

    def _add_state(self, roots: tuple[Any, ...]) -> None:
        for root in roots:
            if isinstance(root, Module):
                name = type(root).__name__
                for key, array in root.state_dict().items():
                    if id(array) not in self._seen:
                        self._add_array(array, f"{name}.{key}", shared=True)

    def _add_globals(self) -> None:
        """The generators that every function can draw from; NumPy's only where it has been imported."""
        numpy_random = sys.modules.get("numpy.random")
        if numpy_random is not None:
            self._add_generator(numpy_random.mtrand._rand, "np.random", shared=True)
        self._add_generator(python_random._inst, "random", shared=True)
        self._add_state_of_generator(random, random.peek, random.put_back, "fnn.random.generator()", shared=True)


def _space_of(owner: Any) -> Mapping[str, Any]:
    """The attributes of an object, a class or a Python module, those in slots among them."""
    slots = [] if isinstance(owner, type) else [name for cls in type(owner).__mro__ for name in _slots_of(cls)]
    held = {name: getattr(owner, name) for name in slots if hasattr(owner, name)}
    space: Mapping[str, Any] = getattr(owner, "__dict__", {})
    return {**held, **space} if held else space


def _is_of_class(owner: Any, name: str) -> bool:
    """Whether a class of the user's defines `name`, and an attribute of `owner` could hide that. A class hides the
    values of its bases; its methods are watched where they are defined."""
    if isinstance(owner, (ModuleType, FunctionType)):
        return False
    classes = owner.__mro__ if isinstance(owner, type) else type(owner).__mro__
    defined = [vars(cls)[name] for cls in classes if name in vars(cls) and not is_foreign_class(cls)]
    if not defined or (isinstance(owner, type) and isinstance(defined[0], _METHODS)):
        return False
    return not hasattr(type(defined[0]), "__set__")


def _refill(buffer: Any, held: bytes) -> None:
    with memoryview(buffer) as whole:
        if not whole.readonly and whole.nbytes == len(held):
            whole.cast("B")[:] = held


def _put_item(space: dict[Any, Any], name: Any, value: Any) -> None:
    if value is MISSING:
        space.pop(name, None)
    else:
        space[name] = value


def _put_at(entries: list[Any], index: int, value: Any) -> None:
    entries[index : index + 1] = [] if value is MISSING else [value]


def _slots_of(cls: type) -> tuple[str, ...]:
    slots = vars(cls).get("__slots__", ())
    names = (slots,) if isinstance(slots, str) else tuple(slots)
    return tuple(name for name in names if not name.startswith("__"))


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not yet filled
        return None


def _owner_label(owner: Any, label: str) -> str:
    return label if isinstance(owner, (np.ndarray, dict, list)) or _state_of(owner) else type(owner).__name__


def _state_of(value: Any) -> tuple[Callable[[], Any], Callable[[Any], Any]] | None:
    """How the state of a random generator is read and written; None for what is no generator."""
    if isinstance(value, python_random.Random):
        return value.getstate, value.setstate
    if type(value).__module__.split(".")[:2] != ["numpy", "random"]:
        return None
    bits = getattr(value, "bit_generator", getattr(value, "_bit_generator", value))
    if not hasattr(type(bits), "state"):
        return None
    if hasattr(value, "get_state"):  # RandomState, which also keeps half of a pair of normal numbers
        return lambda: value.get_state(legacy=False), value.set_state
    return lambda: bits.state, lambda state: setattr(bits, "state", state)
