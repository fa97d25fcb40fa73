"""Views: tensors that lie in the memory of another one, and what they go on as when that is written on the tape.

A view keeps, in `_view`, the tensor that it is a view of, by which operator with which attributes, and that tensor's
node at the time; what others are views of, and is none itself, has () there. Writes go to the end of this chain
(fastnn/ops/in_place.py); a view of something that has another node by now is made anew when it is used next, so that
a view which nobody writes to costs nothing. What detach() gives is no view: it sees the numbers that are written, and
no gradient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastnn.backends.checks import Array
from fastnn.errors import GraphError
from fastnn.recording import enable_grad, tracer
from fastnn.tape import Context, Write, detach, detached
from fastnn.versions import owner

if TYPE_CHECKING:
    from fastnn.tensors import Tensor

__all__ = ["as_it_is", "made_apart", "renew", "source_of"]


def source_of(x: Tensor) -> tuple[Tensor, Any, dict[str, Any], Any] | None:
    """What x is a view of, by which operator, with which attributes, and that tensor's node at the time; None for no
    view, which it is no longer where either of the two has been given another array.

    Raises GraphError where what it is a view of has got another shape since.
    """
    view: Any = x._view or None
    if view is not None and owner(view[0]._data) is not owner(x._data):
        view = x._view = None
    if view is not None:
        source, function, attributes, _ = view
        try:
            there = function.forward(Context(x.dtype, (False,), attributes), source._data, **attributes)
        except (IndexError, ValueError):
            there = None
        if there is None or _place(there) != _place(x._data):
            raise GraphError(
                f"a view of shape {x.shape} is written or read on the tape after what it is a view of has got another "
                f"shape, {source.shape}, in place (t_, squeeze_, unsqueeze_, transpose_): make the view after that"
            )
    return view


def _place(array: Array) -> tuple[Any, ...]:
    """The place of its entries in memory; strides of dimensions of one entry do not count."""
    steps = [step if size > 1 else 0 for size, step in zip(array.shape, array.strides, strict=True)]
    return array.shape, (array.ctypes.data, steps) if array.size else None


def as_it_is(x: Tensor, array: Any) -> Tensor:
    """The tensor that operators have seen so far, with its numbers, before x goes on as something else."""
    before = type(x).__new__(type(x))
    before._data, before._grad, before._requires_grad, before.node = array, None, x._requires_grad, x.node
    before._view = None
    number, older = detached.get(id(x), (-1, x))
    if older is not x and older.node is not None and older.node.ctx is not None:  # backward has not been there
        detach(before, number, older)
    return before


def made_apart(x: Tensor) -> GraphError:
    """Returns the error for a view made under no_grad of what is on the tape, where one of the two is written there."""
    return GraphError(
        f"a view of shape {x.shape} was made under fnn.no_grad() of a tensor on the tape, and one of the two is "
        "written in place outside: make the view and write both inside of no_grad, or both outside"
    )


def renew(x: Tensor) -> None:
    """Let a view of what was written on the tape since go on as a view of what it is now.

    Raises GraphError for a view that was made under no_grad of a tensor that was on the tape.
    """
    view = x._view
    if not view or tracer() is not None:  # who traces renews for itself
        return
    source, function, attributes, then = view
    renew(source)
    if source.node is then or source.node is None or source_of(x) is None:
        return
    if x.node is None and then is not None:
        raise made_apart(x)
    with enable_grad():
        made = function.apply(source, **attributes)
    x.node = Write(made.node, x, as_it_is(x, x._data))
    x._requires_grad, x._view = True, (source, function, attributes, source.node)
