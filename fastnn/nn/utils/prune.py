"""PyTorch's torch.nn.utils.prune: parameters of which some entries are held at 0, by a mask beside them.

A pruned parameter `weight` is `weight_orig`, which is learned, times the buffer `weight_mask`, whenever it is read.
What is pruned again loses entries of those that are left.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np

from fastnn import ops
from fastnn.checks import entries, is_whole, number, text, whole
from fastnn.errors import ArgumentError, ShapeError
from fastnn.habits import no_such_name
from fastnn.nn.module import Module, Parameter, expect_module
from fastnn.ops.common import axis
from fastnn.tensors import Array, Tensor
from fastnn.versions import wrote

from .parametrize import computed, present, restored

__all__ = [
    "BasePruningMethod", "CustomFromMask", "Identity", "L1Unstructured", "LnStructured", "RandomStructured",
    "RandomUnstructured", "custom_from_mask", "global_unstructured", "identity", "is_pruned", "l1_unstructured",
    "ln_structured", "random_structured", "random_unstructured", "remove",
]  # fmt: skip

M = TypeVar("M", bound=Module)


class BasePruningMethod:
    """A way to choose what is pruned: a subclass writes compute_mask, and `apply` prunes a module's parameter by it.

    >>> from fastnn import nn
    >>> from fastnn.nn.utils import prune
    >>> class EverySecond(prune.BasePruningMethod):
    ...     def compute_mask(self, t, default_mask):
    ...         mask = default_mask.clone()
    ...         mask.view(-1)[::2] = 0
    ...         return mask
    >>> layer = nn.Linear(4, 1)
    >>> _ = EverySecond.apply(layer, "weight")
    >>> layer.weight_mask.tolist()
    [[0.0, 1.0, 0.0, 1.0]]
    """

    # "unstructured": of entries; "structured": of channels along self.dim; "global": is shown what is pruned already.
    PRUNING_TYPE: ClassVar[str] = "unstructured"
    dim: int

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Any:
        """Of what counts most, `t`, and what is kept so far: 1 for what is kept, 0 for what is not; a tensor."""
        raise NotImplementedError(f"{type(self).__name__} needs a method compute_mask(self, t, default_mask)")

    @classmethod
    def apply(cls, module: Module, name: str, *args: Any, importance_scores: Any = None, **options: Any) -> Any:
        """Prunes `module.name` by the method of these arguments, which is returned. Small scores go first; they are the
        parameter's own values unless there are `importance_scores` of its shape (else ShapeError)."""
        method = cls(*args, **options)
        value = getattr(module, name) if _has_mask(module, name) else present("prune", module, name)
        scores = _scores("prune", value, importance_scores)
        before = vars(module)[f"{name}_mask"] if _has_mask(module, name) else None
        mask = method._mask(scores, None if before is None else np.array(before)).astype(scores.dtype)
        if before is None:
            computed(module, name, _masked)
            setattr(module, f"{name}_orig", value)  # the same object, which optimisers may hold
        module.register_buffer(f"{name}_mask", mask)
        return method

    def prune(self, t: Any, default_mask: Any = None, importance_scores: Any = None) -> Tensor:
        """`t` with 0 for what is pruned; on the tape."""
        x = ops.common.tensor_of(t)
        before = None if default_mask is None else np.array(ops.common.tensor_of(default_mask).detach().data)
        if before is not None and before.shape != x.shape:
            raise ShapeError(f"prune: expected a default_mask of shape {x.shape}, got {before.shape}")
        return x * Tensor(self._mask(_scores("prune", x, importance_scores), before).astype(x.dtype))

    def _mask(self, scores: Array, before: Array | None) -> Array:
        """The new mask, within what is left by the one before."""
        if before is None:
            return self._asked(scores, np.ones_like(scores))
        left: Any = ...
        if self.PRUNING_TYPE == "unstructured":
            left = before != 0
        elif self.PRUNING_TYPE == "structured":
            dim = axis("prune", self.dim, scores.ndim)
            kept = before.any(axis=tuple(d for d in range(scores.ndim) if d != dim))
            left = (slice(None),) * dim + (kept,)
        before[left] = self._asked(scores[left], before[left])
        return before

    def _asked(self, scores: Array, before: Array) -> Array:
        mask = self.compute_mask(Tensor(scores), Tensor(before.copy()))
        return np.asarray(mask.detach().data if isinstance(mask, Tensor) else mask)


class _Share(BasePruningMethod):
    """An `amount` of what is there: a whole number of entries or channels, or a share from 0 to 1."""

    def __init__(self, amount: float) -> None:
        if not is_whole(amount, 0):
            number(type(self).__name__, "amount", amount, 0, 1)
        self.amount = amount

    def _count(self, of: int) -> int:
        """How many of so many are pruned. ArgumentError for more than there are."""
        if is_whole(self.amount):
            return whole(type(self).__name__, "amount", self.amount, 0, of)
        return round(self.amount * of)

    def _lowest(self, scores: Array) -> Array:
        """The places of those of the lowest scores, in a vector."""
        return np.argsort(scores, kind="stable")[: self._count(scores.size)]


class L1Unstructured(_Share):
    """Prunes the entries of the smallest magnitude."""

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        default_mask.data.reshape(-1)[self._lowest(np.abs(t.data).ravel())] = 0
        return default_mask


class RandomUnstructured(_Share):
    """Prunes entries by lot, from `fnn.manual_seed`."""

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        default_mask.data.reshape(-1)[self._lowest(ops.rand(t.numel()).data)] = 0
        return default_mask


class _Structured(_Share):
    PRUNING_TYPE = "structured"

    def _without(self, mask: Tensor, scores: Array) -> Tensor:
        """The mask with 0 for the channels of the lowest scores."""
        mask.data[(slice(None),) * axis("prune", self.dim, mask.ndim) + (self._lowest(scores),)] = 0
        return mask


class LnStructured(_Structured):
    """Prunes the channels along `dim` whose n-norm is smallest."""

    def __init__(self, amount: float, n: float, dim: int = -1) -> None:
        super().__init__(amount)
        self.n, self.dim = number("LnStructured", "n", n, finite=False), dim

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        dim = axis("prune", self.dim, t.ndim)
        count = t.shape[dim]
        rows = np.moveaxis(t.data, dim, 0).reshape(count, t.data.size // max(1, count))
        return self._without(default_mask, _norms(rows, self.n))


class RandomStructured(_Structured):
    """Prunes channels along `dim` by lot, from `fnn.manual_seed`."""

    def __init__(self, amount: float, dim: int = -1) -> None:
        super().__init__(amount)
        self.dim = dim

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        return self._without(default_mask, ops.rand(t.shape[axis("prune", self.dim, t.ndim)]).data)


class Identity(BasePruningMethod):
    """Prunes nothing: the parameter gets a mask of ones."""

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        return default_mask


class CustomFromMask(BasePruningMethod):
    """Prunes what `mask` says."""

    PRUNING_TYPE = "global"

    def __init__(self, mask: Any) -> None:
        self.mask = ops.common.tensor_of(mask).detach()

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        if self.mask.shape != t.shape:
            raise ShapeError(f"custom_from_mask: expected a mask of shape {t.shape}, got {self.mask.shape}")
        return default_mask * self.mask.astype(default_mask.dtype)


def _norms(rows: Array, n: float) -> Array:
    if math.isinf(n):
        return np.asarray((np.max if n > 0 else np.min)(np.abs(rows), axis=1))
    return np.asarray(np.count_nonzero(rows, axis=1) if n == 0 else (np.abs(rows) ** n).sum(1) ** (1 / n))


def _scores(owner: str, value: Any, given: Any) -> Array:
    scores = value if given is None else ops.common.tensor_of(given)
    if tuple(scores.shape) != tuple(value.shape):
        raise ShapeError(f"{owner}: expected importance_scores of shape {value.shape}, got {scores.shape}")
    return np.asarray(scores.detach().data)


def _has_mask(module: Module, name: str) -> bool:
    text("prune", "the name of a parameter", name)
    return (name, _masked) in getattr(type(module), "_computed", ())


def _masked(module: Module, name: str) -> Tensor:
    own = vars(module)
    masked: Tensor = own[f"{name}_orig"] * Tensor(own[f"{name}_mask"])
    return masked


# ---- by their names --------------------------------------------------------------------------------------------------


def identity(module: M, name: str) -> M:
    """Gives the parameter a mask of ones."""
    Identity.apply(module, name)
    return module


def random_unstructured(module: M, name: str, amount: float) -> M:
    """Prunes an amount of entries by lot: so many, or a share of them from 0 to 1."""
    RandomUnstructured.apply(module, name, amount)
    return module


def l1_unstructured(module: M, name: str, amount: float, importance_scores: Any = None) -> M:
    """Prunes an amount of entries, those of the smallest magnitude: so many, or a share of them from 0 to 1.

    Raises ArgumentError for amounts that make no sense, and where the module has no such parameter.

    >>> from fastnn import nn
    >>> from fastnn.nn.utils import prune
    >>> layer = prune.l1_unstructured(nn.Linear(4, 2), "weight", amount=0.25)
    >>> sorted(layer.state_dict()), int((layer.weight == 0).sum())
    (['bias', 'weight_mask', 'weight_orig'], 2)
    """
    L1Unstructured.apply(module, name, amount, importance_scores=importance_scores)
    return module


def random_structured(module: M, name: str, amount: float, dim: int) -> M:
    """Prunes an amount of channels along `dim` by lot."""
    RandomStructured.apply(module, name, amount, dim)
    return module


def ln_structured(module: M, name: str, amount: float, n: float, dim: int, importance_scores: Any = None) -> M:
    """Prunes an amount of channels along `dim`, those whose n-norm is smallest."""
    LnStructured.apply(module, name, amount, n, dim, importance_scores=importance_scores)
    return module


def custom_from_mask(module: M, name: str, mask: Any) -> M:
    """Prunes what the mask, of the parameter's shape, has 0 for."""
    CustomFromMask.apply(module, name, mask)
    return module


def global_unstructured(
    parameters: Iterable[tuple[Module, str]],
    pruning_method: type[BasePruningMethod],
    importance_scores: Mapping[tuple[Module, str], Any] | None = None,
    **kwargs: Any,
) -> None:
    """Prunes several parameters, pairs of a module and a name, as if they were one.

    `pruning_method` is L1Unstructured, RandomUnstructured or one of your own of that type; `amount=` its share.

    >>> from fastnn import nn
    >>> from fastnn.nn.utils import prune
    >>> model = nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 4))
    >>> prune.global_unstructured([(model[0], "weight"), (model[1], "weight")], prune.L1Unstructured, amount=0.5)
    >>> int((model[0].weight == 0).sum() + (model[1].weight == 0).sum())
    8
    """
    pairs = entries("global_unstructured", "parameters", parameters)
    if not pairs or not all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in pairs):
        raise ArgumentError("global_unstructured: expected pairs of a module and the name of a parameter")
    if not (isinstance(pruning_method, type) and issubclass(pruning_method, BasePruningMethod)):
        raise ArgumentError(f"global_unstructured: expected a class of pruning methods, got {pruning_method!r}")
    if pruning_method.PRUNING_TYPE != "unstructured":
        raise ArgumentError(
            f"global_unstructured: expected a pruning_method of entries, got {pruning_method.__name__}, which is "
            f"{pruning_method.PRUNING_TYPE}"
        )
    values = [getattr(m, name) if _has_mask(m, name) else present("global_unstructured", m, name) for m, name in pairs]
    chosen: dict[Any, Any] = dict(importance_scores or {})
    scores = [_scores("global_unstructured", v, chosen.get(tuple(p))) for p, v in zip(pairs, values, strict=True)]
    masks = [
        vars(m)[f"{name}_mask"] if _has_mask(m, name) else np.ones_like(each)
        for (m, name), each in zip(pairs, scores, strict=True)
    ]
    whole_scores, before = (np.concatenate([np.ravel(each) for each in parts]) for parts in (scores, masks))
    mask, at = pruning_method(**kwargs)._mask(whole_scores, before), 0
    for (module, name), each in zip(pairs, scores, strict=True):
        custom_from_mask(module, name, mask[at : at + each.size].reshape(each.shape))
        at += each.size


def remove(module: M, name: str) -> M:
    """Makes it a parameter without a mask again, with its present value: zeros stay, but may be learned."""
    if not _has_mask(module, name):
        raise ArgumentError(f"remove: {type(module).__name__}.{name} is not pruned")
    original: Parameter = vars(module)[f"{name}_orig"]
    original.data[...] = getattr(module, name).detach().data
    wrote(original.data)
    del module._buffers[f"{name}_mask"]
    delattr(module, f"{name}_orig")
    restored(module, name, original)
    return module


def is_pruned(module: Module) -> bool:
    """Whether a parameter of the module, or of one below it, is pruned."""
    module = expect_module("is_pruned", module)
    return any(compute is _masked for each in module.modules() for _, compute in getattr(type(each), "_computed", ()))


def __getattr__(name: str) -> Any:
    raise no_such_name("fastnn.nn.utils.prune", name)
