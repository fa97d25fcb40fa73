"""What all optimisers share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from typing import Any

import numpy as np

from fastnn.errors import ArgumentError, ShapeError, StateError

__all__ = ["Array", "Group", "Optimizer"]

Array = np.ndarray[Any, np.dtype[Any]]
Group = dict[str, Any]


class Optimizer:
    """What all optimisers share: groups of parameters, each with its own options, and a state per parameter.

    `param_groups` is a list of dicts: "params", "lr" and the other options, which may be written to at any time. A
    subclass defines `_update(param, grad, state, group)`; `state` is an empty dict at first.
    """

    def __init__(self, params: Iterable[Any], defaults: Mapping[str, Any]) -> None:
        self.defaults = dict(defaults)
        self.state: dict[Any, dict[str, Any]] = {}  # by parameter
        self.param_groups: list[Group] = []
        if hasattr(params, "parameters"):
            raise ArgumentError(f"{self._name}: expected parameters, got {type(params).__name__}: pass .parameters()")
        if hasattr(params, "data"):
            raise ArgumentError(f"{self._name}: expected parameters in a list, got one parameter: write [parameter]")
        given = list(params)
        if not given:
            raise ArgumentError(
                f"{self._name}: expected at least one parameter, got none: layers kept in a plain list are not found, "
                "nn.ModuleList's are"
            )
        for group in given if isinstance(given[0], Mapping) else [{"params": given}]:
            self.add_param_group(group)

    @property
    def _name(self) -> str:
        return type(self).__name__

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """{"params": [...], "lr": ..., ...}; options that are left out take the optimiser's own.

        Raises ArgumentError for what is not a parameter, for one that is in a group already, for unknown options and
        for values that make no sense.
        """
        if not isinstance(group, Mapping) or "params" not in group:
            raise ArgumentError(f'{self._name}: expected a group {{"params": [...], ...}}, got {group!r}')
        params = [group["params"]] if hasattr(group["params"], "data") else list(group["params"])
        unknown = [key for key in group if key != "params" and key not in self.defaults]
        if unknown:
            raise ArgumentError(f"{self._name}: expected options among {list(self.defaults)}, got {unknown}")
        taken = {id(p) for other in self.param_groups for p in other["params"]}
        for p in params:
            if not isinstance(getattr(p, "data", None), np.ndarray) or not hasattr(p, "grad"):
                raise ArgumentError(f"{self._name}: expected parameters, got {type(p).__name__}")
            if id(p) in taken:
                raise ArgumentError(f"{self._name}: a parameter of shape {p.data.shape} is given twice")
            taken.add(id(p))
        options = {**self.defaults, **{key: value for key, value in group.items() if key != "params"}}
        self._check(options)
        self.param_groups.append({"params": params, **options})

    def _check(self, options: Mapping[str, Any]) -> None:
        for name in ("lr", "weight_decay", "eps", "momentum", "lr_decay", "initial_accumulator_value", "alpha"):
            if name in options and not (isinstance(options[name], Real) and options[name] >= 0):
                raise ArgumentError(f"{self._name}: expected {name} of at least 0, got {options[name]!r}")
        for beta in options.get("betas", ()):
            if not 0 <= beta < 1:
                raise ArgumentError(f"{self._name}: expected betas of at least 0 and below 1, got {options['betas']!r}")

    def zero_grad(self, set_to_none: bool = True) -> None:
        """All gradients back to None, or (`set_to_none=False`) to zeros in place."""
        for group in self.param_groups:
            for p in group["params"]:
                if set_to_none or p.grad is None:
                    p.grad = None
                else:
                    p.grad[...] = 0

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient. `closure`, if given, computes loss and gradients first; its loss
        is returned."""
        loss = None if closure is None else closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    if p.grad.shape != p.data.shape:
                        raise ShapeError(f"{self._name}: expected .grad of shape {p.data.shape}, got {p.grad.shape}")
                    self._update(p.data, p.grad, self.state.setdefault(p, {}), group)
        return loss

    def _update(self, param: Array, grad: Array, state: dict[str, Any], group: Group) -> None:
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """PyTorch's {"state": {index: {...}}, "param_groups": [{..., "params": [index, ...]}]}, with live arrays."""
        index: dict[int, int] = {}
        groups = []
        for group in self.param_groups:
            for p in group["params"]:
                index[id(p)] = len(index)
            groups.append({**group, "params": [index[id(p)] for p in group["params"]]})
        state = {index[id(p)]: dict(entries) for p, entries in self.state.items() if entries}
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over options and state (as copies). Raises StateError, and changes nothing, if they do not fit."""
        if not isinstance(state_dict, Mapping):
            raise StateError(f"{self._name}: expected what state_dict() returned, got {type(state_dict).__name__}")
        if not {"state", "param_groups"} <= state_dict.keys():
            raise StateError(f"{self._name}: expected what state_dict() returned, got the keys {list(state_dict)}")
        params = [p for group in self.param_groups for p in group["params"]]
        sizes = [len(group["params"]) for group in self.param_groups]
        given = [len(group["params"]) for group in state_dict["param_groups"]]
        if sizes != given:
            raise StateError(f"{self._name}: expected groups of {sizes} parameters, got {given}")
        loaded = {}
        for i, state in state_dict["state"].items():
            p = params[int(i)]
            for name, value in state.items():
                if name != "step" and value is not None and np.shape(value) != p.data.shape:
                    raise StateError(
                        f"{self._name}: expected {name} of parameter {i} of shape {p.data.shape}, got {np.shape(value)}"
                    )
            loaded[p] = {
                name: int(value) if name == "step" else np.array(value, p.data.dtype, order="C")
                for name, value in state.items()
                if value is not None
            }
        self.state = loaded
        for group, new in zip(self.param_groups, state_dict["param_groups"], strict=True):
            group.update({key: value for key, value in new.items() if key != "params"})

    def __repr__(self) -> str:
        groups = [
            f"  ({i}) {len(group['params'])} parameters: "
            + ", ".join(f"{key}={value}" for key, value in group.items() if key != "params")
            for i, group in enumerate(self.param_groups)
        ]
        return "\n".join([f"{self._name}(", *groups, ")"])
