"""PyTorch's torch.jit, for programs whose functions and layers are marked for it: they stay what they are.

`script` and `trace` return what they are given, which runs eagerly; `fnn.compile` is what compiles, and `fnn.save` and
`fnn.onnx` are what write models to files.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from fastnn.habits import no_such_name
from fastnn.nn.module import Module as ScriptModule

__all__ = [
    "Final", "ScriptModule", "annotate", "export", "freeze", "ignore", "interface", "is_scripting", "is_tracing",
    "isinstance", "optimize_for_inference", "script", "script_if_tracing", "script_method", "trace", "unused",
]  # fmt: skip

T = TypeVar("T")
isinstance = isinstance


def script(obj: T, *_: Any, **__: Any) -> T:
    """`obj` itself, a function, class or model: as a call or as a decorator.

    >>> import fastnn as fnn
    >>> @fnn.jit.script
    ... def twice(x):
    ...     return 2 * x
    >>> twice(fnn.ones(2))
    Tensor([2., 2.])
    """
    return obj


trace = script_method = script_if_tracing = export = freeze = optimize_for_inference = interface = script


def ignore(drop: Any = False, **_: Any) -> Any:
    """`drop` itself where it is a function, as ``@ignore``; else a decorator that changes nothing, ``@ignore()``."""
    return drop if callable(drop) else script


def unused(fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn` itself."""
    return fn


def annotate(the_type: Any, the_value: T) -> T:
    """`the_value` itself."""
    return the_value


def is_scripting() -> bool:
    """False."""
    return False


def is_tracing() -> bool:
    """False: nothing is recorded for a file."""
    return False


def __getattr__(name: str) -> Any:
    raise no_such_name("fastnn.jit", name)
