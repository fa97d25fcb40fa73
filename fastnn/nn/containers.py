"""Modules that hold other modules: Sequential, ModuleList."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, overload

from fastnn.errors import ArgumentError
from fastnn.nn.module import Module


class ModuleList(Module):
    """A list of modules, whose parameters are found; it has no forward of its own.

    >>> from fastnn import nn
    >>> layers = nn.ModuleList([nn.Linear(3, 3) for _ in range(2)])
    >>> len(layers), [name for name, _ in layers.named_parameters()]
    (2, ['0.weight', '0.bias', '1.weight', '1.bias'])
    """

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        self.extend(() if modules is None else modules)

    def append(self, module: Module) -> ModuleList:
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> ModuleList:
        for module in modules:
            self.append(module)
        return self

    def __len__(self) -> int:
        return len(_items(self))

    def __iter__(self) -> Iterator[Module]:
        return iter(_items(self).values())

    def __getitem__(self, index: int | slice) -> Any:
        modules = list(self)
        return ModuleList(modules[index]) if isinstance(index, slice) else modules[index]


class Sequential(Module):
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

    def append(self, module: Module) -> Sequential:
        self.add_module(str(len(self)), module)
        return self

    def __len__(self) -> int:
        return len(_items(self))

    def __iter__(self) -> Iterator[Module]:
        return iter(_items(self).values())

    def __getitem__(self, index: int | slice) -> Any:
        named = list(_items(self).items())
        return Sequential(dict(named[index])) if isinstance(index, slice) else named[index][1]

    def __setitem__(self, index: int, module: Module) -> None:
        name = list(_items(self))[index]
        if not isinstance(module, Module):
            raise ArgumentError(f"Sequential: expected a Module at {index}, got {module!r}")
        setattr(self, name, module)

    def __delitem__(self, index: int) -> None:
        named = list(_items(self).items())
        del named[index]
        for name in _items(self):
            delattr(self, name)
        numbered = all(name.isdigit() for name, _ in named)
        for i, (name, module) in enumerate(named):
            self.add_module(str(i) if numbered else name, module)


def _items(container: Module) -> dict[str, Module]:
    """The modules by name; one that stands twice is there twice."""
    return {name: value for name, value in vars(container).items() if isinstance(value, Module)}
