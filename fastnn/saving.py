"""Models, and nested containers of tensors, numbers and text: `save` and `load`, in one safetensors file, no pickle.

The arrays are the file's entries; how they hang together is written as JSON in its metadata. A state dict's file is an
ordinary safetensors file with the same names, and so is a model's, whose layers are written as their attributes.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from fastnn import nn, weights
from fastnn.arrays import aligned_copy
from fastnn.data.about import About
from fastnn.errors import ArgumentError, DataError, DTypeError, FastnnError
from fastnn.formats import check_format, parse_json
from fastnn.nn import Module, Parameter, functional
from fastnn.nn.members import FORMER
from fastnn.tensors import Tensor
from fastnn.values import Values

__all__ = ["load", "save"]

FORMAT = 1
NAME = "containers "  # of the format, before its number
BEGINNING = json.dumps({"format": NAME}).removesuffix('"}')
DEEPEST = 64  # levels of containers
_SEQUENCES: dict[str, Any] = {"list": list, "tuple": tuple}
_MAPPINGS: dict[str, Any] = {"dict": dict, "ordered": OrderedDict}
_IN_FILES = {name: former for former, name in FORMER.items()}
_WORDS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}  # which JSON does not have


def save(obj: Any, f: str | os.PathLike[str] | IO[bytes], *_: Any, **__: Any) -> None:
    """Writes `obj` to the file `f`, for `load`; whatever was there stays until the new file is complete.

    Args:
        obj: a model, with its layers, weights, buffers, mode, and what it was trained on (`fnn.train.about`); of a
            class of your own its name and attributes are written, not its code. Or tensors, arrays, numbers, text,
            None and booleans, in dicts, OrderedDicts, lists and tuples of any depth up to 64, among them models: a
            state dict, an optimiser's, or ``{"model": ..., "optimizer": ..., "epoch": 3}``. An array that occurs twice
            is written once.
        f: the path; any ending will do. Or an open file, ``open(path, "wb")``, io.BytesIO(): it is written to where it
            stands. PyTorch's other arguments are taken and ignored.

    Raises ArgumentError for other objects, such as functions among a module's attributes, and for layers with
    parametrizations; DTypeError for arrays that safetensors has no type for. Hooks of modules are left out.

    >>> import tempfile, fastnn as fnn
    >>> model = fnn.nn.Linear(3, 2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     fnn.save({"model": model.state_dict(), "epoch": 3}, f"{folder}/run.pt")
    ...     run = fnn.load(f"{folder}/run.pt")
    ...     fnn.save(model, f"{folder}/m.fnn")
    ...     again = fnn.load(f"{folder}/m.fnn")
    >>> run["epoch"], list(run["model"]), again
    (3, ['weight', 'bias'], Linear(in_features=3, out_features=2, bias=True))
    """
    if not isinstance(f, (str, os.PathLike)) and not hasattr(f, "write"):
        raise ArgumentError(f"save: expected a path or an open file, got {type(f).__name__}")
    writer = _Writer()
    described = writer.describe(obj, (), 0)
    note = json.dumps({"format": f"{NAME}{FORMAT}", "value": described}, allow_nan=False)
    if isinstance(f, (str, os.PathLike)):
        return weights.save(writer.arrays, f, note=note)
    try:
        f.write(weights.content_of(writer.arrays, note))
    except TypeError:
        raise ArgumentError('save: expected a file that is open for bytes, mode "wb", got one for text') from None


def load(
    f: str | os.PathLike[str] | IO[bytes],
    map_location: Any = None,
    *_: Any,
    weights_only: bool | None = None,
    classes: type | Iterable[type] = (),
    **__: Any,
) -> Any:
    """Returns what `save` wrote to the file `f`; of another safetensors file the names with their arrays. An open file
    is read from where it stands to its end.

    Arrays come back as arrays, tensors as tensors that ask for no gradient. `map_location` and PyTorch's other
    arguments are taken and ignored: there is one device, and nothing in a file is executed. A model comes back ready to
    `predict`, or to be trained further; where parts of it are of your own classes, name these:
    ``load("m.fnn", classes=[Net])``, or let the file name any class of modules that the program has defined by now, by
    ``weights_only=False``. Their ``__init__`` is not called.

    Raises DataError for a file that is not there, or not whole, or not one of these; ArgumentError for a model of
    classes that are not fastnn's and are not named.
    """
    where: Any = f
    if not isinstance(f, (str, os.PathLike)) and hasattr(f, "read"):
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, "stream")
            copy.write_bytes(_read(f))
            return load(copy, weights_only=weights_only, classes=classes)
    arrays, note = weights.load_with_note(where)
    if note is None or not note.startswith(BEGINNING):  # a note of one's own
        return arrays
    own = [classes] if isinstance(classes, type) else list(classes)
    if not all(isinstance(cls, type) and issubclass(cls, Module) for cls in own):
        raise ArgumentError(f"load: expected classes of modules, as classes=[Net], got {own}")
    reader = _Reader(arrays, own, weights_only is False)
    try:
        content = parse_json(note)
        number = content["format"].removeprefix(NAME)
        check_format(int(number) if number.isdecimal() else number, FORMAT)
        return reader.value(content["value"], 0)
    except (FastnnError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        path = os.fspath(where)
        if reader.unnamed:
            raise ArgumentError(
                f"load: {path} holds a model of the class {reader.unnamed}, which is not fastnn's: name it: "
                f'fnn.load("{path}", classes=[{reader.unnamed}])'
            ) from None
        expected = f"expected a file that fnn.save wrote, got {path}"
        raise DataError(f"{expected}, whose description is wrong: {error}") from error


def _read(stream: IO[bytes]) -> bytes:
    content = stream.read()
    if not isinstance(content, bytes):
        raise ArgumentError('load: expected a file that is open for bytes, mode "rb", got one for text')
    return content


class _Writer:
    """Describes values as JSON; `arrays` are those met, by name."""

    def __init__(self) -> None:
        self.arrays: dict[str, Any] = {}
        self.names: dict[int, tuple[str, Any]] = {}  # by identity, with what keeps it alive
        self.modules: dict[int, int] = {}  # numbers by identity
        self.unfinished: set[int] = set()  # identities of modules

    def describe(self, value: Any, path: tuple[str, ...], depth: int) -> Any:
        if depth > DEEPEST:
            raise ArgumentError(f"save: expected at most {DEEPEST} levels of containers, got more: one within itself?")
        if isinstance(value, Module):
            return self._module(value, path, depth)
        if isinstance(value, Parameter):
            return {"parameter": [self._name(value._data, path), value.requires_grad]}
        if isinstance(value, About):
            return {"about": self.describe(value.to_dict(), path, depth)}
        if isinstance(value, Tensor):
            return {"tensor": self._name(value.data, path)}
        if isinstance(value, np.ndarray):
            return {"array": self._name(value, path)}
        if isinstance(value, np.generic):
            value = value.item()
        if value is None or isinstance(value, (bool, int, str)):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else {"float": repr(value)}
        if isinstance(value, Mapping):
            kind = "ordered" if isinstance(value, OrderedDict) else "dict"
            pairs = [(_key(key), self.describe(entry, (*path, str(key)), depth + 1)) for key, entry in value.items()]
            return {kind: [list(pair) for pair in pairs]}
        if isinstance(value, (list, tuple)):
            kind = "tuple" if isinstance(value, tuple) else "list"
            return {kind: [self.describe(entry, (*path, str(i)), depth + 1) for i, entry in enumerate(value)]}
        name = getattr(value, "__name__", "")
        if name in functional.__all__ and getattr(functional, name) is value:
            return {"function": name}
        got = type(value).__name__ + (f" at {'/'.join(path)}" if path else "")
        instead = ": save its .state_dict()" if hasattr(value, "state_dict") else ""
        if type(value).__name__ == "History":
            instead = ": it has a .save(file) of its own; of a run, save run.model"
        raise ArgumentError(f"save: expected tensors, numbers, text and containers of them, got {got}{instead}")

    def _module(self, module: Module, path: tuple[str, ...], depth: int) -> Any:
        """The class by its name, and the attributes; a module that occurs again by its number."""
        if id(module) in self.unfinished:
            raise ArgumentError(f"save: expected layers within layers, got {type(module).__name__} within itself")
        if hasattr(type(module), "_plain"):  # a class made by nn.utils, which no other process has
            raise ArgumentError(
                f"save: expected layers without parametrizations, got {type(module).__name__}: save the model's "
                ".state_dict(), or remove them first"
            )
        if id(module) in self.modules:
            return {"again": self.modules[id(module)]}
        self.modules[id(module)] = len(self.modules)
        self.unfinished.add(id(module))
        place, attributes = path[-1:], {**vars(module), "training": module.training}
        attributes.pop("_hooks", None)
        described = [
            [_IN_FILES.get(name, name), self.describe(value, (*path[:-1], ".".join([*place, name])), depth + 1)]
            for name, value in attributes.items()
        ]
        self.unfinished.remove(id(module))
        cls = type(module)
        return {"module": [cls.__module__, cls.__qualname__, described]}

    def _name(self, array: Any, path: tuple[str, ...]) -> str:
        known = self.names.get(id(array))
        if known is not None:
            return known[0]
        if array.dtype.kind not in "biuf":
            raise DTypeError(f"save: expected arrays of numbers, got {array.dtype} at {'/'.join(path)}")
        name = "/".join(path) or "value"
        while name in self.arrays:
            name += "'"
        self.arrays[name], self.names[id(array)] = np.asarray(array), (name, array)
        return name


def _key(key: Any) -> Any:
    if isinstance(key, np.generic):
        key = key.item()
    if (
        key is not None
        and not isinstance(key, (bool, int, str))
        and not (isinstance(key, float) and math.isfinite(key))
    ):
        raise ArgumentError(f"save: expected keys that are text or numbers, got {key!r}")
    return key


class _Reader:
    """Makes values of descriptions; each array is made once. Almost any error for what is none."""

    def __init__(self, arrays: dict[str, Any], own: Iterable[type[Module]], defined: bool = False) -> None:
        self.arrays, self.defined = arrays, defined
        self.tensors: dict[str, Tensor] = {}
        self.modules: list[Module | None] = []  # None while it is being made
        self.unnamed = ""  # a class of the user's that it takes
        self.own = {cls.__name__: cls for cls in own}

    def value(self, described: Any, depth: int) -> Any:
        if depth > DEEPEST:
            raise ValueError(f"it has more than {DEEPEST} levels")
        if not isinstance(described, dict):
            if isinstance(described, list):
                raise ValueError("a list stands where a value is expected")
            return described
        ((kind, content),) = described.items()
        if kind == "array":
            return self.arrays[content]
        if kind == "tensor":
            if content not in self.tensors:
                self.tensors[content] = Tensor(self.arrays[content])
            return self.tensors[content]
        if kind == "parameter":
            name, learned = content
            if name not in self.tensors:
                self.tensors[name] = Parameter(
                    Tensor(aligned_copy(self.arrays[name], self.arrays[name].dtype)), learned is True
                )
            return self.tensors[name]
        if kind == "module":
            return self._module(*content, depth=depth)
        if kind == "again":
            if (module := self.modules[content]) is None:
                raise ValueError("a layer stands within itself")
            return module
        if kind == "about":
            return About.from_dict(self.value(content, depth + 1))
        if kind == "function":
            if content not in functional.__all__:
                raise ValueError(f"fastnn.nn.functional has no function {content}")
            return getattr(functional, content)
        if kind == "float":
            return _WORDS[content]
        if not isinstance(content, list):
            raise ValueError(f"a {kind} has no list of entries")
        if kind in _SEQUENCES:
            return _SEQUENCES[kind](self.value(entry, depth + 1) for entry in content)
        pairs = [(key, self.value(entry, depth + 1)) for key, entry in content]
        return _MAPPINGS[kind](pairs)

    def _module(self, origin: str, name: str, attributes: Any, *, depth: int) -> Module:
        module: Module = object.__new__(self._class(origin, name))
        number = len(self.modules)
        self.modules.append(None)
        for attribute, described in attributes:
            if not isinstance(attribute, str) or attribute == "_hooks":
                raise ValueError(f"{name} has an attribute {attribute!r}")
            vars(module)[FORMER.get(attribute, attribute)] = self.value(described, depth + 1)
        for buffer in module._buffer_names:
            if isinstance(array := vars(module).get(buffer), np.ndarray):
                vars(module)[buffer] = array.view(Values)
        self.modules[number] = module
        return module

    def _class(self, origin: str, name: str) -> type[Module]:
        """fastnn's class of that name, or the user's; no module is imported on a file's word."""
        short = name.rpartition(".")[2]
        if origin.partition(".")[0] != "fastnn":
            if self.defined and short not in self.own and (found := _defined(origin, name)):
                self.own[short] = found[-1]  # in a notebook, the one that was defined last
            self.unnamed = "" if short in self.own else short
            return self.own[short]
        import fastnn.interop.onnx.load
        import fastnn.interop.torch.program
        import fastnn.nn.utils.parametrizations
        import fastnn.recipes  # noqa: F401

        for layer in nn.__all__:  # each imports its file: whatever modules fastnn has are now known
            getattr(nn, layer)
        if found := _defined(origin, name):
            return found[0]
        raise ValueError(f"fastnn has no layer {name}")


def _defined(origin: str, name: str) -> list[type[Module]]:
    """The classes of modules of that name that there are by now, in the order in which they were defined."""
    known: list[type[Module]] = [Module]
    for cls in known:
        known += cls.__subclasses__()
    return [cls for cls in known if (cls.__module__, cls.__qualname__) == (origin, name)]
