"""What a plan relies on besides arrays: the model's layers, their options and modes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastnn import locks
from fastnn.nn import Module

__all__ = ["MODES", "Structure"]

MODES = locks.lock()  # held by plans that put modules into eval mode for a trace, and by those that read modes
_PLAIN = (bool, int, float, str, tuple, type(None))


class Structure:
    """Modules and parameters of a model (and of a loss), and whether they are still what they were.

    Walking through a model takes longer than a small network's step: it is done only after an attribute of some module
    was set.
    """

    def __init__(self, *roots: Module) -> None:
        self._roots = roots
        self._seen = -1
        self._print: list[Any] = []
        self._kept: list[Any] = []
        self.changed()

    def changed(self) -> bool:
        """Whether layers, parameters, buffers or options are others than at the last call."""
        if self._seen == Module.changes:
            return False
        self._seen = Module.changes
        self._modules = [module for root in self._roots for module in root.modules()]
        self._parameters = [parameter for root in self._roots for parameter in root.parameters()]
        before, self._print = self._print, list(map(_fingerprint, self._modules))
        # kept, so that nothing else can come to have the id of what was replaced
        self._kept = [value for module in self._modules for value in vars(module).values()]
        return before != self._print

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Afterwards every module has the attributes that it had before: a trace leaves nothing behind."""
        before = [(module, dict(vars(module))) for module in self._modules]
        try:
            yield
        finally:
            for module, attributes in before:
                now = vars(module)
                if now.keys() != attributes.keys() or any(now[name] is not value for name, value in attributes.items()):
                    now.clear()
                    now.update(attributes)

    def modes(self) -> tuple[tuple[bool, ...], tuple[bool, ...]]:
        """Which modules are in training mode, and which parameters want a gradient."""
        return (
            tuple([module.training for module in self._modules]),
            tuple([parameter._requires_grad for parameter in self._parameters]),
        )


def _fingerprint(module: Module) -> list[Any]:
    """The module's identity, and its attributes: plain ones by value, others by identity."""
    options = [
        (name, repr(value) if isinstance(value, _PLAIN) else id(value))
        for name, value in vars(module).items()
        if name != "training"
    ]
    return [id(module), *options]
