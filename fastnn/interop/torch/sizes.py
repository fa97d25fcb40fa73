"""Sizes within a trace of torch.fx, for an example of the inputs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from fastnn.errors import GraphError
from fastnn.interop.torch.values import torch

__all__ = ["Sizes"]


class Sizes:
    """What the nodes of a trace give for an example, without a number computed: tensors of shapes alone, on "meta".

    So no statistic of a layer moves, nothing is drawn, and no decision follows from the example's numbers.
    """

    def __init__(self, module: Any, inputs: list[Any], constants: dict[str, Any]) -> None:
        self.module, self.constants = module, constants
        self.inputs = list(map(self._bare, inputs))
        self.values: dict[Any, Any] = {}
        self.following = False  # so that what runs now is no part of the trace

    def follow(self, node: Any) -> None:
        """Note what a new node gives; nothing where that needs numbers, or is an error, which the trace will have."""
        self.following = True
        try:
            with torch().device("meta"), torch().no_grad():
                self.values[node] = self._value(node)
        except Exception:  # of whatever a user's forward calls
            pass
        finally:
            self.following = False

    def _value(self, node: Any) -> Any:
        if node.op == "placeholder":
            return self.inputs[sum(each.op == "placeholder" for each in node.graph.nodes) - 1]
        if node.op == "get_attr":
            known = self.constants.get(node.target)
            return self._bare(
                functools.reduce(getattr, node.target.split("."), self.module) if known is None else known
            )
        args, kwargs = torch().fx.node.map_arg((node.args, node.kwargs), self.values.__getitem__)
        if node.op == "call_module":
            module = self.module.get_submodule(node.target)
            state = {name: self._bare(t) for name, t in (*module.named_parameters(), *module.named_buffers())}
            return torch().func.functional_call(module, state, args, kwargs)
        if node.op == "call_method":
            return getattr(args[0], node.target)(*args[1:], **kwargs)
        return node.target(*args, **kwargs)

    def _bare(self, value: Any) -> Any:
        """Its shape alone, so that nothing is written into what the module holds."""
        return value.detach().to("meta") if isinstance(value, torch().Tensor) else value

    def plain(self, node: Any) -> Any:
        """Its number, or tuple of numbers; None for tensors and for what is not known."""
        value = self.values.get(node)
        return value if isinstance(value, (bool, int, float, tuple)) and not _has_tensors(value) else None

    def length(self, node: Any) -> Any:
        """How many parts it has; None where that is not known."""
        value = self.values.get(node)
        sized = isinstance(value, (tuple, list)) or bool(getattr(value, "ndim", 0))
        return len(value) if sized else None  # type: ignore[arg-type]

    def conversion(self, number: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """A method of the trace's proxies that gives their number."""

        def converted(proxy: Any) -> Any:
            known = self.plain(proxy.node)
            if known is None:
                raise GraphError("forward needs a number that its input's sizes do not tell")
            return number(known)

        return converted


def _has_tensors(value: Any) -> bool:
    return isinstance(value, tuple) and any(isinstance(each, torch().Tensor) for each in value)
