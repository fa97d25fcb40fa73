"""Modules that hold others: Sequential, ModuleList, ModuleDict; and parameters: ParameterList, ParameterDict."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar, overload

from fastnn import checks
from fastnn.errors import ArgumentError, StateError
from fastnn.nn.module import Module, Parameter

L = TypeVar("L", bound="_Listed")


class _Listed(Module):
    """What Sequential and ModuleList share: entries by number, each an attribute."""

    def append(self: L, module: Any) -> L:
        self._put(str(len(self)), module)
        return self

    def extend(self: L, modules: Iterable[Any]) -> L:
        for module in checks.entries(f"{type(self).__name__}.extend", "modules", modules):
            self.append(module)
        return self

    def insert(self: L, index: int, module: Any) -> L:
        entries = list(self)
        least, most, where = -len(entries), len(entries), f"{type(self).__name__}.insert"
        entries.insert(checks.whole(where, "index", index, least, most, f"a place up to {most}"), module)
        self._refill(entries)
        return self

    def pop(self, index: int = -1) -> Any:
        entry = self[index]
        del self[index]
        return entry

    def __len__(self) -> int:
        return len(_items(self))

    def __iter__(self) -> Iterator[Any]:
        return iter(_items(self).values())

    def __getitem__(self, index: int | slice) -> Any:
        entries = list(self)
        of_its_kind: Any = type(self)
        found = self._at(entries, index)
        return of_its_kind(found) if isinstance(index, slice) else found

    def __setitem__(self, index: int, module: Any) -> None:
        self._put(self._at(list(_items(self)), index), module)

    def __delitem__(self, index: int | slice) -> None:
        named = list(_items(self).items())
        self._at(named, index)
        del named[index]
        self._refill([entry for _, entry in named], [name for name, _ in named])

    def _at(self, entries: list[Any], index: Any) -> Any:
        """Raises OutOfRangeError for an index beyond the ends, ArgumentError for what is no index."""
        try:
            return entries[index]
        except (IndexError, TypeError):
            checks.place(type(self).__name__, index, len(entries))
            raise

    def _put(self, name: str, module: Any) -> None:
        self.add_module(name, module)

    def _refill(self, entries: list[Any], names: list[str] | None = None) -> None:
        """These entries alone, under these names or numbers."""
        for name in _items(self):
            delattr(self, name)
        if names is None or all(name.isdigit() for name in names):
            names = [str(i) for i in range(len(entries))]
        for name, entry in zip(names, entries, strict=True):
            self._put(name, entry)


class ModuleList(_Listed):
    """A list of modules, whose parameters are found; it has no forward of its own.

    >>> from fastnn import nn
    >>> layers = nn.ModuleList([nn.Linear(3, 3) for _ in range(2)])
    >>> len(layers), [name for name, _ in layers.named_parameters()]
    (2, ['0.weight', '0.bias', '1.weight', '1.bias'])
    """

    def _shown(self) -> list[tuple[str, str]]:
        """Neighbours that look the same as one: (0-2): 3 x Linear(...)."""
        runs: list[list[tuple[str, str]]] = []
        for key, text in super()._shown():
            if runs and runs[-1][0][1] == text:
                runs[-1].append((key, text))
            else:
                runs.append([(key, text)])
        return [run[0] if len(run) == 1 else (f"{run[0][0]}-{run[-1][0]}", f"{len(run)} x {run[0][1]}") for run in runs]

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        self.extend(() if modules is None else modules)

    def __add__(self, other: Iterable[Module]) -> ModuleList:
        return ModuleList([*self, *checks.entries("ModuleList", "modules", other)])

    def __iadd__(self, modules: Iterable[Module]) -> ModuleList:
        return self.extend(modules)


class Sequential(_Listed):
    """Modules one after the other: Sequential(a, b) or Sequential({"first": a, "second": b}).

    >>> from fastnn import nn
    >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> model
    Sequential(
      (0): Linear(in_features=4, out_features=3, bias=True)
      (1): ReLU()
      (2): Linear(in_features=3, out_features=2, bias=True)
    )
    >>> len(model), model[-1], len(model[:2])
    (3, Linear(in_features=3, out_features=2, bias=True), 2)
    """

    @overload
    def __init__(self, *modules: Module) -> None: ...
    @overload
    def __init__(self, modules: Mapping[str, Module], /) -> None: ...
    def __init__(self, *modules: Any) -> None:
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            named = dict(modules[0])
        else:
            named = {str(i): module for i, module in enumerate(modules)}
        for name, module in named.items():
            self.add_module(name, module)

    def forward(self, input: Any) -> Any:
        for module in _items(self).values():
            input = module(input)
        return input

    def __getitem__(self, index: int | slice) -> Any:
        named = list(_items(self).items())
        found = self._at(named, index)
        return Sequential(dict(found)) if isinstance(index, slice) else found[1]

    def __add__(self, other: Sequential) -> Sequential:
        if not isinstance(other, Sequential):
            raise ArgumentError(f"Sequential: expected another Sequential to be added, got {other!r}")
        return Sequential(*self, *other)

    def __iadd__(self, other: Sequential) -> Sequential:
        return self.extend(other)


class ParameterList(_Listed):
    """A list of parameters; tensors and arrays become parameters.

    >>> from fastnn import nn
    >>> scales = nn.ParameterList([nn.Parameter([1.0]), nn.Parameter([2.0, 3.0])])
    >>> [name for name, _ in scales.named_parameters()]
    ['0', '1']
    """

    def __init__(self, values: Iterable[Any] | None = None) -> None:
        super().__init__()
        self.extend(() if values is None else values)

    def _put(self, name: str, parameter: Any) -> None:
        setattr(self, name, _as_parameter(parameter))

    def extra_repr(self) -> str:
        return ", ".join(f"({name}): Parameter of shape {p.shape}" for name, p in _items(self).items())


class _Named(Module):
    """What ModuleDict and ParameterDict share: entries by name."""

    def update(self, entries: Any) -> None:
        given = (
            entries.items() if isinstance(entries, (Mapping, _Named)) else checks.entries("update", "entries", entries)
        )
        for pair in given:
            if not isinstance(pair, (tuple, list)) or len(pair) != 2:
                raise ArgumentError(f"{type(self).__name__}: expected pairs of a name and an entry, got {pair!r}")
            self[pair[0]] = pair[1]

    def __getitem__(self, key: str) -> Any:
        if key not in self:
            raise StateError(f"{type(self).__name__}: expected one of {list(self)}, got {checks.shown(key)}")
        return _items(self)[key]

    def __setitem__(self, key: str, entry: Any) -> None:
        self.add_module(key, entry)

    def __delitem__(self, key: str) -> None:
        self[key]
        delattr(self, key)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key in _items(self)

    def __len__(self) -> int:
        return len(_items(self))

    def __iter__(self) -> Iterator[str]:
        return iter(_items(self))

    def keys(self) -> Iterable[str]:
        return _items(self).keys()

    def values(self) -> Iterable[Any]:
        return _items(self).values()

    def items(self) -> Iterable[tuple[str, Any]]:
        return _items(self).items()

    def pop(self, key: str) -> Any:
        entry = self[key]
        del self[key]
        return entry

    def clear(self) -> None:
        for key in list(self):
            del self[key]


class ModuleDict(_Named):
    """Modules by name, whose parameters are found; it has no forward of its own.

    >>> from fastnn import nn
    >>> heads = nn.ModuleDict({"policy": nn.Linear(4, 2), "value": nn.Linear(4, 1)})
    >>> [name for name, _ in heads.named_parameters()]
    ['policy.weight', 'policy.bias', 'value.weight', 'value.bias']
    """

    def __init__(self, modules: Any = None) -> None:
        super().__init__()
        self.update({} if modules is None else modules)


class ParameterDict(_Named):
    """Parameters by name; tensors and arrays become parameters."""

    def __init__(self, parameters: Any = None) -> None:
        super().__init__()
        self.update({} if parameters is None else parameters)

    def update(self, entries: Any) -> None:
        """Add parameters by name: those of a plain dict in the order of their names, as PyTorch does."""
        plain = (
            isinstance(entries, Mapping)
            and not isinstance(entries, OrderedDict)
            and all(isinstance(name, str) for name in entries)
        )
        super().update(sorted(entries.items()) if plain else entries)

    def __setitem__(self, key: str, entry: Any) -> None:
        self.register_parameter(key, _as_parameter(entry))

    def get(self, key: str, default: Any = None) -> Any:
        return _items(self).get(key, default) if isinstance(key, str) else default

    def extra_repr(self) -> str:
        return ", ".join(f"({name}): Parameter of shape {p.shape}" for name, p in _items(self).items())


def _as_parameter(value: Any) -> Parameter:
    return value if isinstance(value, Parameter) else Parameter(value)


def _items(container: Module) -> dict[str, Any]:
    """The modules, or parameters, by name; one that stands twice is there twice."""
    return {name: value for name, value in vars(container).copy().items() if isinstance(value, (Module, Parameter))}


class DataParallel(Module):
    """The module itself, under the name `module`, as PyTorch's without a GPU: state dicts have its prefix.

    Args:
        module: what computes.
        device_ids, output_device, dim: taken and ignored. Several processes train one model by
            ``fnn.fit(..., distributed=True)``.

    >>> from fastnn import nn
    >>> list(nn.DataParallel(nn.Linear(2, 1)).state_dict())
    ['module.weight', 'module.bias']
    """

    module: Module

    def __init__(self, module: Module, device_ids: Any = None, output_device: Any = None, dim: int = 0) -> None:
        super().__init__()
        self.add_module("module", module)  # which refuses what is none
        self.device_ids: list[Any] = []

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        return self.module(*inputs, **kwargs)
