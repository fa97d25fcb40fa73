"""PyTorch's ``torch._foreach_add_(tensors, others, alpha=2)`` and its kin: one operator on each tensor of a list.

Optimisers of one's own are written with them. They are methods of tensors, called one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnn.errors import ArgumentError
from fastnn.tensors import Tensor

__all__ = ["over"]


def over(name: str) -> Callable[..., Any] | None:
    """The function of this name, such as "_foreach_mul_"; None where tensors have no such method.

    Its arguments are lists as long as the first, or stand for all; in place it returns None, else a list. ArgumentError
    for lists of other lengths.

    >>> import fastnn as fnn
    >>> fnn._foreach_add([fnn.ones(1), fnn.ones(2)], [1.0, 2.0])
    [Tensor([2.]), Tensor([3., 3.])]
    """
    method = name.removeprefix("_foreach_")
    operator = getattr(Tensor, method, None)
    if operator is None:
        return None

    def each(tensors: Any, *args: Any, **options: Any) -> list[Tensor] | None:
        if method.startswith("addc") and len(args) == 3:  # value, or one for each, which methods take by its name
            options["value"], args = args[2], args[:2]
        columns = []
        for value in (*args, *options.values()):
            columns.append(value if isinstance(value, (list, tuple)) else [value] * len(tensors))
            if len(columns[-1]) != len(tensors):
                raise ArgumentError(f"{name}: expected lists of {len(tensors)} entries, got one of {len(columns[-1])}")
        results = []
        for x, *values in zip(tensors, *columns, strict=True):
            named = dict(zip(options, values[len(args) :], strict=True))
            results.append(operator(x, *values[: len(args)], **named))
        return None if method.endswith("_") else results

    each.__name__ = name
    return each
