"""What all optimisers share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from fastnn import versions
from fastnn.arrays import aligned_copy, live
from fastnn.backends.sums import squares
from fastnn.checks import called, entries, flag, is_number, mapping, number, plain, shown, whole
from fastnn.errors import ArgumentError, ShapeError, StateError
from fastnn.habits import check_options

__all__ = ["Array", "Group", "Optimizer", "is_pair", "is_penalized", "loss_of", "penalty_gradient"]

Array = np.ndarray[Any, np.dtype[Any]]
Group = dict[str, Any]
Prepared = tuple[Array, Array, dict[str, Any], Group]

# PyTorch's mark of an option that has no default: an optimiser of one's own has it as its argument's.
required = type("_RequiredParameter", (), {"__repr__": lambda self: "<required parameter>"})()

_UNUSED = ("capturable", "decoupled_weight_decay", "differentiable", "foreach", "fused")

_NUMBERS: dict[str, Any] = {
    "step": int,
    "mu_product": float,
    "eta": float,
    "mu": float,
}  # of a parameter's state; all else are arrays


# Options of some optimisers alone, which tell the state of one from that of another.
_OF_ITS_KIND = frozenset((
    "alpha", "amsgrad", "betas", "centered", "dampening", "etas", "history_size", "lambd",
    "line_search_fn", "lr_decay", "max_eval", "max_iter", "momentum", "momentum_decay", "nesterov", "rho", "step_sizes",
    "t0",
))  # fmt: skip


def is_penalized(group: Mapping[str, Any], param: Array | None = None) -> bool:
    """Whether there is a penalty on this parameter of the group, or on any of its parameters."""
    if not group["l1"] and not group["l2"]:
        return False
    return param is None or param.ndim > 1 or bool(group["penalize_bias"])


def _as_kept(state: Any, p: Any, name: str = "") -> Any:
    """Copies of what an optimiser of one's own keeps for `p`, arrays as tensors, floats but a "step" in p's type."""
    if isinstance(state, Mapping):
        return {key: _as_kept(value, p, str(key)) for key, value in state.items()}
    if type(state) in (list, tuple):
        return type(state)([_as_kept(value, p) for value in state])
    if not isinstance(state, np.ndarray) and not hasattr(state, "node"):
        return state
    is_like_p = state.dtype.kind == "f" and name != "step"
    return p.new_tensor(state, dtype=p.dtype if is_like_p else state.dtype)


def penalty_gradient(param: Array, group: Mapping[str, Any]) -> Array:
    """Of a parameter that is penalised, in its type; where an entry is 0, so is its part of l1."""
    return param.dtype.type(2 * group["l2"]) * param + param.dtype.type(group["l1"]) * np.sign(param)


def is_pair(value: Any) -> bool:
    """Whether it is two numbers."""
    return isinstance(value, (tuple, list)) and len(value) == 2 and all(map(is_number, value))


def _is_named(given: Any) -> bool:
    return isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], str)


def loss_of(where: str, loss: Any) -> float:
    """What a closure returned, as a number. Raises ArgumentError for what is none."""
    try:
        return float(loss.item() if hasattr(loss, "item") else loss)
    except (TypeError, ValueError):
        raise ArgumentError(f"{where}: expected a closure that returns the loss, got {shown(loss)}") from None


class Optimizer:
    """What all optimisers share: groups of parameters, each with its own options, and a state per parameter.

    `param_groups` is a list of dicts: "params", "lr" and the other options, which may be written to at any time. A
    subclass defines `_update(param, grad, state, group)`; `state` is an empty dict at first.

    Penalties, of every optimiser and every group: what is minimised is loss + R(θ), and `step` adds R's gradient, once
    an update and after clipping, which looks at the gradients of the loss alone.

    Args:
        params, defaults: the parameters, or groups of them; the options with their values.
        l1: R = l1 · Σ|θᵢ|, the lasso's penalty, with the gradient l1 · sign(θ), 0 at 0.
        l2: R = l2 · Σθᵢ², that of ridge regression, with the gradient 2 · l2 · θ. Of optimisers that add weight decay
            to the gradient, all but AdamW and Rprop, ``weight_decay=2 * l2`` makes the same steps, but is not reported.
        penalize_bias: whether parameters of one dimension count, too: biases, and the scales of batch norm. By default
            they do not (Goodfellow et al. 2016, section 7.1): they say where a unit works, not how much it does.
        maximize: whether the loss shall grow: its gradients count with the other sign, those of penalties do not.
        options: PyTorch's that say how it computes, foreach, fused and capturable, change nothing; for others that
            fastnn does not have ArgumentError, unless they ask for nothing.

    >>> import numpy as np
    >>> from fastnn import nn, optim
    >>> layer = nn.Linear(2, 1)
    >>> layer.weight.data[...] = [[3.0, -4.0]]
    >>> optim.SGD(layer.parameters(), lr=0.1, l1=0.5, l2=0.01).penalty()
    3.75
    """

    needs_closure: ClassVar[bool] = False  # whether step() asks for the loss at several points
    own_state: ClassVar[str | None] = None  # an array of state that tells it from another with the same options
    follows_lr: ClassVar[bool] = True  # whether a step is as long as its group's lr says

    def __init__(
        self,
        params: Iterable[Any],
        defaults: Mapping[str, Any],
        *,
        l1: float = 0.0,
        l2: float = 0.0,
        penalize_bias: bool = False,
        maximize: bool = False,
        **options: Any,
    ) -> None:
        unknown = next((name for name in options if name not in _UNUSED), None)
        if unknown is not None:
            raise TypeError(f"{self._name}() got an unexpected keyword argument {unknown!r}")
        check_options(self._name, **options)
        defaults = mapping(self._name, "defaults", defaults)
        penalize_bias = flag(self._name, "penalize_bias", penalize_bias)
        maximize = flag(self._name, "maximize", maximize)
        self.defaults = {**defaults, "l1": l1, "l2": l2, "penalize_bias": penalize_bias, "maximize": maximize}
        self.state: dict[Any, dict[str, Any]] = defaultdict(dict)  # by parameter
        self.param_groups: list[Group] = []
        if hasattr(params, "parameters"):
            raise ArgumentError(f"{self._name}: expected parameters, got {type(params).__name__}: pass .parameters()")
        if isinstance(params, np.ndarray) or hasattr(params, "data"):
            raise ArgumentError(f"{self._name}: expected parameters in a list, got one parameter: write [parameter]")
        given = entries(self._name, "params", params)
        if not given:
            raise ArgumentError(
                f"{self._name}: expected at least one parameter, got none: layers kept in a plain list are not found, "
                "nn.ModuleList's are"
            )
        for group in given if isinstance(given[0], Mapping) else [{"params": given}]:
            self.add_param_group(group)
        self._check_penalty(self.param_groups)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take up a copy's attributes; optimisers of one's own call it in theirs."""
        vars(self).update(state)

    @property
    def converged(self) -> bool:
        """Whether the last step found that no step decreases the loss; False where an optimiser cannot know."""
        return False

    @property
    def _name(self) -> str:
        return type(self).__name__

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """{"params": [...], "lr": ..., ...}; options that are left out take the optimiser's own.

        Other entries, such as a name or a factor of one's own, stay in the group, as in PyTorch. Pairs of a name and a
        parameter, as of `named_parameters()`, leave the names in "param_names".

        Raises ArgumentError for what is not a parameter, for one that is in a group already, for what looks like an
        option misspelt and for values that make no sense.

        >>> from fastnn import nn, optim
        >>> opt = optim.SGD([{"params": nn.Linear(2, 1).named_parameters(), "lr_scale": 0.1}], lr=0.5)
        >>> opt.param_groups[0]["lr_scale"], opt.param_groups[0]["param_names"]
        (0.1, ['weight', 'bias'])
        """
        if not isinstance(param_group, Mapping) or "params" not in param_group:
            raise ArgumentError(f'{self._name}: expected a group {{"params": [...], ...}}, got {param_group!r}')
        group = param_group
        given = group["params"]
        params = [given] if hasattr(given, "data") else entries(self._name, "params", given)
        if params and all(map(_is_named, params)):
            names, params = map(list, zip(*params, strict=True))
            group = {**group, "param_names": names}
        if self.param_groups and ("param_names" in group) != ("param_names" in self.param_groups[0]):
            raise ArgumentError(f"{self._name}: expected names with the parameters of all groups, or of none")
        self._check_spelling([key for key in group if key != "params" and key not in self.defaults])
        taken = {id(p) for other in self.param_groups for p in other["params"]}
        for p in params:
            if not isinstance(getattr(p, "data", None), np.ndarray) or not hasattr(p, "grad"):
                raise ArgumentError(f"{self._name}: expected parameters, got {type(p).__name__}")
            if not getattr(p, "is_leaf", True) and not p.retains_grad:
                raise ArgumentError(
                    f"{self._name}: expected parameters, got a tensor {p.data.shape} that {p.node.function.__name__} "
                    "computed: its steps would not reach what it was computed from; give that, or nn.Parameter(x)"
                )
            if id(p) in taken:
                raise ArgumentError(f"{self._name}: a parameter of shape {p.data.shape} is given twice")
            taken.add(id(p))
        options = plain({**self.defaults, **{key: value for key, value in group.items() if key != "params"}})
        self._check(options)
        if "l1" in group or "l2" in group:
            self._check_penalty([{"params": params, **options}])
        self.param_groups.append({"params": params, **options})

    def _check_spelling(self, others: list[Any]) -> None:
        if not others:
            return
        from difflib import get_close_matches  # takes as long as a tenth of the rest of fastnn

        for key in others:
            for meant in get_close_matches(str(key), self.defaults, 1, 0.85):
                raise ArgumentError(
                    f"{self._name}: expected options among {list(self.defaults)}, got {key!r}: {meant}?"
                )

    def _check(self, options: Mapping[str, Any]) -> None:
        for name in (
            "lr", "weight_decay", "eps", "momentum", "lr_decay", "initial_accumulator_value", "alpha", "l1", "l2",
        ):  # fmt: skip
            if name in options:
                number(self._name, name, options[name], 0)
        for name in ("amsgrad", "centered", "nesterov"):
            flag(self._name, name, options.get(name, False))
        betas = options.get("betas", (0.0, 0.0))
        if type(self)._update is Optimizer._update:  # its step is one's own, and so are its betas, three perhaps
            return
        if not is_pair(betas) or not all(0 <= beta < 1 for beta in betas):
            raise ArgumentError(f"{self._name}: expected two betas of at least 0 and below 1, got {betas!r}")

    def _check_group(self, group: Group) -> None:
        """Raises ArgumentError for options of a group that make no sense, as they may when they are changed."""
        lr = number(self._name, "lr", group.get("lr", 0.0))
        self._check({**group, "lr": abs(lr)})  # a rate may lie below 0, after the last step of a cycle

    def _check_penalty(self, groups: list[Group]) -> None:
        wanted = [group for group in groups if is_penalized(group)]
        if wanted and not any(is_penalized(group, p.data) for group in wanted for p in group["params"]):
            raise ArgumentError(
                f"{self._name}: expected penalize_bias=True with l1 or l2 for parameters that all have one dimension: "
                "without it biases, and what looks like them, are left out"
            )

    def penalty(self) -> float | None:
        """R(θ) as it is now, of all parameters; None where no group has l1 or l2."""
        groups = [group for group in self.param_groups if is_penalized(group)]
        if not groups:
            return None
        total = 0.0
        for group in groups:
            for p in group["params"]:
                data, _ = live(p)
                if is_penalized(group, data):
                    if group["l1"]:
                        total += group["l1"] * float(np.abs(data).sum(dtype=np.float64))
                    if group["l2"]:
                        total += group["l2"] * squares(data)
        return total

    def zero_grad(self, set_to_none: bool = True) -> None:
        """All gradients back to None, or (`set_to_none=False`) to zeros in place."""
        set_to_none = flag("zero_grad", "set_to_none", set_to_none)
        for group in self.param_groups:
            for p in group["params"]:
                if set_to_none or p.grad is None:
                    p.grad = None
                else:
                    p.grad[...] = 0
                    versions.wrote(p.grad)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient. `closure`, if given, computes loss and gradients first; its loss
        is returned. Neither holds the penalty: `step` adds its gradient, `penalty` tells its value."""
        loss = None if closure is None else called(f"{self._name}.step", "closure", closure)()
        moves = []
        apart: dict[int, Array] = {}  # what lies in another order, as p.data = x.t() does, by the id of a copy
        for group in self.param_groups:
            for name, value in group.items():
                is_entry = isinstance(value, np.ndarray) and type(value) is not np.ndarray  # of a tensor's values
                if is_entry or isinstance(value, np.generic):  # group["lr"] = ...; it would change the update's type
                    group[name] = plain(value)
            lr, texts = group.get("lr", 0.0), str in map(type, group.values())
            if texts or not isinstance(lr, (float, int)) or lr - lr:  # NaN and infinity are not 0 from themselves
                self._check_group(group)
            for p in group["params"]:
                data, grad = live(p)
                if grad is not None:
                    if not (data.flags.c_contiguous and data.flags.aligned) and data.flags.writeable:
                        data, own = aligned_copy(data, data.dtype), data
                        apart[id(data)] = own
                    moves.append(self._prepared(p, data, grad, group))
        try:
            for move in moves:
                lying = apart.get(id(move[0]))
                if lying is not None:  # an earlier move may have written to it: weights are tied so
                    move[0][...] = lying
                self._update(*move)
                if lying is not None:
                    lying[...] = move[0]
        except TypeError:  # of an option that has become None
            for group in self.param_groups:
                self._check_group(group)
            raise
        finally:
            versions.wrote(*[move[0] for move in moves], *apart.values())
        return loss

    def _prepared(self, p: Any, data: Array, grad: Any, group: Group) -> Prepared:
        """The arguments of `_update` for a parameter. All are made before the first update, so that what is wrong with
        one gradient, or a lack of memory, leaves every parameter as it was."""
        if not isinstance(grad, np.ndarray):  # a tensor on the tape, by create_graph
            grad = grad.detach().numpy()
        if grad.shape != data.shape:
            raise ShapeError(f"{self._name}: expected .grad of shape {data.shape}, got {grad.shape}")
        if group["maximize"]:
            grad = np.asarray(-grad)  # the negative of a scalar is no array
        if is_penalized(group, data):
            grad = np.asarray(grad + penalty_gradient(data, group))
        return data, grad, self.state[p], group

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
        try:
            return self._load(params, sizes, state_dict)
        except (ArgumentError, TypeError, ValueError, LookupError, AttributeError) as error:
            if isinstance(error, StateError):
                raise
            raise StateError(f"{self._name}: expected what state_dict() returned, got another ({error})") from error

    def _load(self, params: list[Any], sizes: list[int], state_dict: Mapping[str, Any]) -> None:
        given = [len(group["params"]) for group in state_dict["param_groups"]]
        if sizes != given:
            raise StateError(f"{self._name}: expected groups of {sizes} parameters, got {given}")
        of_adam = all("exp_avg_sq" in each for each in state_dict["state"].values())
        for group, new in zip(self.param_groups, state_dict["param_groups"], strict=True):
            # Adam did not have the one in the first versions; RAdam's state, which looks like Adam's, has the other.
            later = {"amsgrad"} & group.keys() if of_adam and "decoupled_weight_decay" not in new else set()
            if apart := sorted(_OF_ITS_KIND & (new.keys() ^ group.keys()) - later):
                told = ", ".join(f"{'without' if name in group else 'with'} {name}" for name in apart)
                raise StateError(f"{self._name}: expected a state of its own, got another optimiser's ({told})")
        if any(each and self.own_state not in (None, *each) for each in state_dict["state"].values()):
            told = f"without {self.own_state}"
            raise StateError(f"{self._name}: expected a state of its own, got another optimiser's ({told})")
        options = [
            plain({**group, **{key: value for key, value in new.items() if key != "params"}, "params": []})
            for group, new in zip(self.param_groups, state_dict["param_groups"], strict=True)
        ]
        for each in options:
            self._check_group(each)
        loaded: dict[Any, dict[str, Any]] = defaultdict(dict)
        for i, state in state_dict["state"].items():
            p = params[int(i)]
            if type(self)._update is Optimizer._update:  # people's own: what they keep, as tensors again
                loaded[p] = _as_kept(state, p)
                continue
            for name, value in state.items():
                if name not in _NUMBERS and value is not None and np.shape(value) != p.data.shape:
                    raise StateError(
                        f"{self._name}: expected {name} of parameter {i} of shape {p.data.shape}, got {np.shape(value)}"
                    )
            loaded[p] = {
                name: _NUMBERS[name](value) if name in _NUMBERS else aligned_copy(np.asarray(value), p.data.dtype)
                for name, value in state.items()
                if value is not None
            }
            whole(self._name, "step", loaded[p].get("step", 0), 0)
        self.state = loaded
        for group, new in zip(self.param_groups, options, strict=True):
            group.update({**new, "params": group["params"]})

    def __repr__(self) -> str:
        groups = [
            f"  ({i}) {len(group['params'])} parameters: "
            + ", ".join(f"{key}={value}" for key, value in group.items() if key != "params")
            for i, group in enumerate(self.param_groups)
        ]
        return "\n".join([f"{self._name}(", *groups, ")"])
