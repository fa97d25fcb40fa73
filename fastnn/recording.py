"""Whether the calling thread records what it computes: no_grad, enable_grad and their kin; and who traces it."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from fastnn.checks import flag
from fastnn.errors import ArgumentError

if TYPE_CHECKING:
    from fastnn.tensors import Function, Tensor

__all__ = [
    "Tracer",
    "current_module",
    "enable_grad",
    "inference_mode",
    "is_grad_enabled",
    "is_inference_mode_enabled",
    "no_grad",
    "recording",
    "set_grad_enabled",
    "set_module",
    "state",
    "traced_by",
    "tracer",
]

_GENERATOR = 0x20  # among the flags of a function's code


class Tracer(Protocol):
    """What writes operators down without computing them; `ignores`: the labels may hold cross-entropy's -100."""

    ignores: bool

    def record(self, function: type[Function], inputs: tuple[Any, ...], attributes: dict[str, Any]) -> Tensor: ...

    def refuse_writing(self) -> None: ...

    def made(self, tensor: Tensor) -> None: ...

    def detached(self, tensor: Tensor, x: Tensor) -> Tensor: ...

    def seen_in(self, view: Tensor, x: Tensor, function: Any, attributes: dict[str, Any]) -> None: ...

    def take_over(self, tensor: Tensor, make: Callable[[Tensor], Tensor]) -> None: ...

    def trial(self, function: type[Function], inputs: Any, attributes: dict[str, Any], needs: Any) -> Any: ...


class _State(threading.local):
    recording = True
    inference = False
    tracer: Tracer | None = None
    module: Any = None
    anomaly = False  # whether backward looks for NaN
    on_tape: Any = None  # by NumPy function, the operator that backward means while it is differentiated


state = _State()


def recording() -> bool:
    """Whether the calling thread records what it computes."""
    return state.recording


def tracer() -> Tracer | None:
    """Who gets the calling thread's operators instead of them being computed; None unless a plan is being made."""
    return state.tracer


def set_module(module: Any) -> Any:
    """Say whose forward begins in the calling thread: nodes remember it. Returns whose it was, to be set again."""
    before = state.module
    state.module = module
    return before


def current_module() -> Any:
    """Whose forward runs in the calling thread; None outside of all."""
    return state.module


@contextmanager
def traced_by(tracer: Tracer | None, *, recording: bool) -> Iterator[None]:
    """Within it, Function.apply hands every operator of the calling thread to `tracer`; `recording` begins as said."""
    before = state.tracer, state.recording
    state.tracer, state.recording = tracer, recording
    try:
        yield
    finally:
        state.tracer, state.recording = before


class _Switch:
    """What the grad modes share: each is a context manager and a decorator, with and without brackets."""

    wanted = False
    before: list[bool]  # one entry for each time that this object was entered

    def __new__(cls, function: Any = None) -> Any:
        switch = object.__new__(cls)
        switch.before = []
        return switch if function is None else switch(function)

    def __enter__(self) -> Any:
        self.before.append(state.recording)
        state.recording = self.wanted
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        state.recording = self.before.pop()

    def __call__(self, function: Any) -> Any:
        if not callable(function):
            raise ArgumentError(f"{type(self).__name__}: expected a function to decorate, got {function!r}")
        if getattr(getattr(function, "__code__", None), "co_flags", 0) & _GENERATOR:
            return _each_step(self, function)

        @functools.wraps(function)
        def switched(*args: Any, **kwargs: Any) -> Any:
            with self._fresh():
                return function(*args, **kwargs)

        return switched

    def _fresh(self) -> Any:
        """The same switch for one call: another thread may be in another one."""
        switch = object.__new__(type(self))
        switch.wanted, switch.before = self.wanted, []
        return switch


def _each_step(switch: _Switch, function: Callable[..., Any]) -> Any:
    """A generator function whose body alone sees the switch, not the code that takes its values."""

    @functools.wraps(function)
    def stepping(*args: Any, **kwargs: Any) -> Iterator[Any]:
        values = iter(function(*args, **kwargs))
        while True:
            with switch._fresh():
                try:
                    value = next(values)
                except StopIteration as end:
                    return end.value
            yield value

    return stepping


class no_grad(_Switch):
    """Within it nothing is recorded on the tape: a context manager and a decorator, for the calling thread alone.

    >>> import fastnn as fnn
    >>> w = fnn.Tensor([1.0, 2.0], requires_grad=True)
    >>> with fnn.no_grad():
    ...     y = w * 3
    >>> y.requires_grad
    False
    >>> @fnn.no_grad
    ... def triple(x):
    ...     return x * 3
    >>> triple(w).requires_grad
    False
    """


class enable_grad(_Switch):
    """Within it everything is recorded on the tape, also inside `no_grad`: a context manager and a decorator.

    >>> import fastnn as fnn
    >>> w = fnn.Tensor([1.0, 2.0], requires_grad=True)
    >>> with fnn.no_grad(), fnn.enable_grad():
    ...     y = w * 3
    >>> y.requires_grad
    True
    """

    wanted = True


class set_grad_enabled(_Switch):
    """Recording on or off from this call on, for the calling thread; as a context manager, until its end.

    >>> import fastnn as fnn
    >>> with fnn.set_grad_enabled(False):
    ...     fnn.is_grad_enabled()
    False
    >>> fnn.is_grad_enabled()
    True
    """

    start: bool | None = None  # what was before the call, which has switched already

    def __new__(cls, mode: bool) -> Any:
        switch = super().__new__(cls)
        switch.wanted, switch.start = flag("set_grad_enabled", "mode", mode), state.recording
        state.recording = switch.wanted
        return switch

    def __enter__(self) -> Any:
        super().__enter__()
        if self.start is not None:
            self.before[-1], self.start = self.start, None
        return self

    def __call__(self, function: Any) -> Any:
        if self.start is not None:
            state.recording, self.start = self.start, None
        return super().__call__(function)


class inference_mode(_Switch):
    """As `no_grad`; `inference_mode(False)` records, as `enable_grad` does. Tensors made inside are ordinary ones.

    >>> import fastnn as fnn
    >>> w = fnn.Tensor([1.0, 2.0], requires_grad=True)
    >>> with fnn.inference_mode():
    ...     y = w * 3
    >>> y.requires_grad
    False
    """

    def __new__(cls, mode: Any = True) -> Any:
        switch = super().__new__(cls)
        switch.wanted = not (
            callable(mode) or flag("inference_mode", "mode", mode)
        )  # a function to decorate counts as True
        return switch(mode) if callable(mode) else switch

    def __enter__(self) -> Any:
        self.before.append(state.inference)
        state.inference = not self.wanted
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        state.inference = self.before.pop()


def is_grad_enabled() -> bool:
    """Whether the calling thread records what it computes."""
    return state.recording


def is_inference_mode_enabled() -> bool:
    """Whether the calling thread is within `inference_mode`."""
    return state.inference
