"""Layers whose weights PyTorch computes whenever they are read: normed, orthogonal or pruned ones."""

from __future__ import annotations

from typing import Any

from fastnn.errors import GraphError
from fastnn.interop.torch.values import array_of, torch
from fastnn.nn import Module, utils

__all__ = ["compute_alike", "refuse_hooks"]


def compute_alike(source: Any, made: Module) -> None:
    """Computes the weights of the layer `made` as those of PyTorch's layer `source` are, from parameters of its names.

    Raises GraphError for what fastnn cannot compute a weight by, and for hooks that do something else.
    """
    for name, chain in _parametrizations(source).items():
        for each in chain:
            _parametrize(made, name, each)
    for hook in source._forward_pre_hooks.values():
        kind, where = type(hook).__name__, type(hook).__module__
        if where == "torch.nn.utils.weight_norm":
            utils.weight_norm(made, hook.name, _dim(hook))
        elif where == "torch.nn.utils.spectral_norm":
            utils.spectral_norm(made, hook.name, hook.n_power_iterations, hook.eps, hook.dim)
        elif any(cls.__name__ == "BasePruningMethod" for cls in type(hook).__mro__):
            name = hook._tensor_name
            utils.prune.custom_from_mask(made, name, array_of(getattr(source, f"{name}_mask")))
        else:
            raise _hooked(source, kind)
    if source._forward_hooks:
        raise _hooked(source, type(next(iter(source._forward_hooks.values()))).__name__)


def refuse_hooks(source: Any) -> None:
    """GraphError for a module of another kind than layers that does more than its forward says."""
    for name, chain in _parametrizations(source).items():
        raise _computed(name, chain[0])
    for hook in (*source._forward_pre_hooks.values(), *source._forward_hooks.values()):
        raise _hooked(source, type(hook).__name__)


def _parametrizations(source: Any) -> Any:
    return source.parametrizations if torch().nn.utils.parametrize.is_parametrized(source) else {}


def _parametrize(made: Module, name: str, by: Any) -> None:
    kind, where = type(by).__name__, type(by).__module__
    if where != "torch.nn.utils.parametrizations":
        raise _computed(name, by)
    if kind == "_WeightNorm":
        utils.parametrizations.weight_norm(made, name, _dim(by))
    elif kind == "_SpectralNorm":
        utils.parametrizations.spectral_norm(made, name, by.n_power_iterations, by.eps, by.dim)
    elif kind == "_Orthogonal":
        trivial = hasattr(by, "base")
        utils.parametrizations.orthogonal(made, name, by.orthogonal_map.name, use_trivialization=trivial)
    else:
        raise _computed(name, by)


def _dim(norm: Any) -> int | None:
    """PyTorch keeps None, for one length in all, as -1."""
    return None if norm.dim == -1 else int(norm.dim)


def _computed(name: str, by: Any) -> GraphError:
    return GraphError(
        f"its {name} is computed by {type(by).__name__}, for which fastnn has nothing: "
        f"torch.nn.utils.parametrize.remove_parametrizations(module, {name!r}) first"
    )


def _hooked(source: Any, kind: str) -> GraphError:
    return GraphError(f"{type(source).__name__} has hooks (a {kind}), which are not taken over: remove them first")
