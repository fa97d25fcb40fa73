"""Training and eval mode: what a module was set to, and what holds in one thread while fastnn borrows the module.

`fit`, `evaluate` and all others that need a model in a certain mode never write to its modules, which other threads may
be using. They lay the modes that they need over the modules' own, for the calling thread and for a while.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["borrowed", "mode", "mode_of", "modes_in_force", "set_mode", "training_mode"]


class _Overlay(dict[int, bool]):
    """Modes by the ids of modules, which are held so that the ids stay theirs."""

    def __init__(self, modules: list[Any]) -> None:
        super().__init__((id(module), mode_of(module)) for module in modules)
        self.modules = modules


class _Thread(threading.local):
    overlays: tuple[_Overlay, ...] = ()  # the innermost last


_thread = _Thread()
_changes = itertools.count(1)
_last_change = 0


def mode_of(module: Any) -> bool:
    """Whether the module is in training mode, as the calling thread sees it."""
    overlays = _thread.overlays
    for overlay in reversed(overlays) if overlays else ():
        found = overlay.get(id(module))
        if found is not None:
            return found
    own: bool = module.__dict__.get("training", True)
    return own


def set_mode(module: Any, training: bool) -> None:
    """Set the mode: in the innermost loan that the module is part of, else for all threads and for good."""
    global _last_change
    for overlay in reversed(_thread.overlays):
        if id(module) in overlay:
            overlay[id(module)] = bool(training)
            break
    else:
        vars(module)["training"] = bool(training)
    _last_change = next(_changes)


def modes_in_force() -> tuple[object, int]:
    """What changes whenever the calling thread may see other modes than before: compare the first part by identity."""
    return _thread.overlays, _last_change


@contextmanager
def borrowed(model: Any) -> Iterator[None]:
    """Context in which this thread may set the modes of a model, and which no other thread notices.

    It begins with the modes as they are. What is set inside, by `train()`, `eval()` or `module.training = ...`, is
    forgotten at the end. A thread that is started inside sees the modules' own modes.
    """
    from fastnn.nn.module import Module

    modules = list(model.modules())
    overlay = _Overlay([module for module in modules if isinstance(module, Module)])
    others = [(module, module.training) for module in modules if not isinstance(module, Module)]  # look like modules
    _thread.overlays = (*_thread.overlays, overlay)
    try:
        yield
    finally:
        _thread.overlays = tuple(other for other in _thread.overlays if other is not overlay)
        overlay.clear()  # should a generator that was inside end in another thread, then nothing is left in its own
        for module, was in others:
            module.training = was


@contextmanager
def mode(model: Any, *, training: bool) -> Iterator[None]:
    """Training or eval mode for a while, in the calling thread alone."""
    with borrowed(model):
        model.train(training)
        yield


@contextmanager
def training_mode(model: Any) -> Iterator[Callable[[], None]]:
    """The loan of `fit`: the model is in training mode, but for the parts of it that the user has put into eval mode.

    It gives what to call after callbacks: where one left the model itself in eval mode, as evaluations of one's own do,
    all modes are again those of the last call that found it in training mode; what is set in parts of it stays.

    Where the model itself is in eval mode, all of it is trained: it comes from an evaluation, whatever layers were put
    into it since. But if `train()` was called on parts of it, then those alone are in training mode.
    """
    parts = [module for module in model.modules() if module is not model]
    keep = model.training or any(vars(part).get("training", False) for part in parts)
    resting = [part for part in parts if keep and not part.training]
    with borrowed(model):
        model.train(True)
        for module in resting:
            module.training = False
        kept: list[tuple[Any, bool]] = []

        def resume() -> None:
            if model.training:
                kept[:] = [(module, module.training) for module in model.modules()]
            else:
                for module, training in kept:
                    module.training = training

        resume()
        yield resume
