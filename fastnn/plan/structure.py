"""What a plan relies on besides arrays: the model's layers, their options and modes."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from fastnn.nn import Module, Parameter

__all__ = ["MODES", "Structure"]

MODES = threading.RLock()  # held by whoever puts modules into another mode for a while, and by whoever reads modes
_PLAIN = (bool, int, float, str, tuple, type(None))


class Structure:
    """A model's modules and parameters, and whether they are still what they were.

    Walking through a model takes longer than a small network's step: it is done only after an attribute of some module
    was set.
    """

    def __init__(self, model: Module) -> None:
        self._model = model
        self._seen = -1
        self._print: tuple[Any, ...] = ()
        self.changed()

    def changed(self) -> bool:
        """Whether layers, parameters, buffers or options are others than at the last call."""
        if self._seen == Module.changes:
            return False
        self._seen = Module.changes
        self._modules = list(self._model.modules())
        self._parameters = list(self._model.parameters())
        before, self._print = self._print, tuple(map(_fingerprint, self._modules))
        # kept, so that no other array can come to have the id of one that was replaced
        self._arrays = [v for module in self._modules for v in vars(module).values() if isinstance(v, np.ndarray)]
        return before != self._print

    def modes(self) -> tuple[tuple[bool, ...], tuple[bool, ...]]:
        """Which modules are in training mode, and which parameters want a gradient."""
        return (
            tuple([module.training for module in self._modules]),
            tuple([parameter._requires_grad for parameter in self._parameters]),
        )


def _fingerprint(module: Module) -> tuple[Any, ...]:
    options = [
        (name, id(value) if isinstance(value, (Module, Parameter, np.ndarray)) else repr(value))
        for name, value in vars(module).items()
        if name != "training" and isinstance(value, (Module, Parameter, np.ndarray, *_PLAIN))
    ]
    return id(module), *options
