"""Functions that are called with gradients: where they are kept, and what registering one returns."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastnn.errors import GraphError

if TYPE_CHECKING:
    from fastnn.tape import Node
    from fastnn.tensors import Tensor

__all__ = ["Handle", "Hookable", "hooks", "key_of"]

_numbers = itertools.count()

# Functions of gradients, each called with that of the whole tensor: by the number of the node that computes it, or the
# negative id of a leaf. Empty, as it nearly always is, it costs a comparison for each backward().
hooks: dict[int, dict[int, Callable[[Any], Any]]] = {}
_hooked: dict[int, weakref.ref[Any]] = {}  # whose hooks they are: these go with it


def key_of(x: Hookable) -> int:
    """What gradients are entered by: the number of the node that computes the tensor, or the negative id of a leaf."""
    return -id(x) if x.node is None else x.node.number


def hooks_of(x: Hookable) -> dict[int, Callable[[Any], Any]]:
    """The tensor's hooks by the numbers of their handles, to be written to."""
    key = key_of(x)
    if key not in hooks:
        hooks[key] = {}
        _hooked[key] = weakref.ref(x if x.node is None else x.node, lambda _: drop_hooks(key))
    return hooks[key]


def drop_hooks(key: int) -> None:
    """Forget the hooks entered by `key`."""
    hooks.pop(key, None)
    _hooked.pop(key, None)


class Handle:
    """Takes the hook back: by `remove()`, or at the end of a `with` block."""

    __slots__ = ("_hooks", "id")

    def __init__(self, hooks: dict[int, Any], hook: Any) -> None:
        self._hooks, self.id = hooks, next(_numbers)
        hooks[self.id] = hook

    def remove(self) -> None:
        """The hook is not called any more; a second time does nothing."""
        self._hooks.pop(self.id, None)

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


class Hookable:
    """What a tensor tells of its gradient."""

    __slots__ = ()
    node: Node | None
    requires_grad: bool
    is_leaf: bool

    @property
    def grad_fn(self) -> Node | None:
        """The node of the tape that this tensor was computed by; None for a leaf."""
        return None if self.is_leaf else self.node

    def register_hook(self, hook: Any) -> Handle:
        """Call `hook(gradient)` with this tensor's gradient, a tensor, whenever backward has all of it.

        What it returns, a tensor or an array of the same shape, takes the gradient's place; None leaves it. The handle
        has `remove()`. Raises GraphError for a tensor that needs no gradient.

        >>> import fastnn as fnn
        >>> x = fnn.Tensor([1.0, 2.0], requires_grad=True)
        >>> handle = x.register_hook(lambda gradient: gradient * 10)
        >>> x.sum().backward()
        >>> x.grad
        array([10., 10.], dtype=float32)
        """
        if not self.requires_grad:
            raise GraphError("register_hook: expected a tensor that requires a gradient, got one that does not")
        return Handle(hooks_of(self), hook)

    def retain_grad(self) -> None:
        """Keep the gradient of this computed tensor in its `.grad`, as that of a leaf is kept."""
        if not self.requires_grad:
            raise GraphError("retain_grad: expected a tensor that requires a gradient, got one that does not")
        if self.node is not None and not self.retains_grad:
            here: Any = weakref.ref(self)

            def keep(gradient: Tensor) -> None:
                if (tensor := here()) is not None:
                    from fastnn.autograd.engine import accumulate

                    accumulate(tensor, gradient)

            keep.retains = True  # type: ignore[attr-defined]
            self.register_hook(keep)

    @property
    def retains_grad(self) -> bool:
        """Whether `retain_grad` was called on this computed tensor."""
        return any(hasattr(hook, "retains") for hook in hooks.get(key_of(self), {}).values())
