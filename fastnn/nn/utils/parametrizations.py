"""PyTorch's torch.nn.utils.parametrizations, and its older functions, which name parameters otherwise."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

from fastnn import ops, versions
from fastnn.checks import number, whole
from fastnn.errors import ArgumentError
from fastnn.habits import no_such_name
from fastnn.nn.conv import ConvTranspose1d, ConvTranspose2d
from fastnn.nn.module import Module, Parameter
from fastnn.recording import no_grad
from fastnn.tensors import Array, Tensor

from .orthogonal import orthogonal
from .parametrize import computed, present, register_parametrization, restored

__all__ = ["orthogonal", "spectral_norm", "weight_norm"]

M = TypeVar("M", bound=Module)


def weight_norm(module: M, name: str = "weight", dim: int | None = 0) -> M:
    """The parameter is g · v / ‖v‖ from now on, with its length and its direction learned.

    Salimans and Kingma, 2016, equation 2.

    Args:
        module: whose parameter; it is returned.
        name: the parameter's.
        dim: along which the lengths differ: 0 for one an output, None for one in all.

    Its state holds parametrizations.weight.original0, the lengths g, and original1, v.

    >>> from fastnn import nn
    >>> layer = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))
    >>> layer.parametrizations.weight.original0.shape, layer.weight.shape
    ((3, 1), (3, 4))
    """
    register_parametrization(module, name, _WeightNorm(dim), unsafe=True)
    return module


def spectral_norm(
    module: M, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None
) -> M:
    """The parameter is divided by its largest singular value whenever it is read (Miyato et al., 2018).

    The estimate of that value is kept in buffers and moves on with each forward in training mode, which compiled steps
    refuse: use ``fit(..., compile=False)``.

    Args:
        module: whose parameter; it is returned.
        name: the parameter's.
        n_power_iterations: steps that the estimate makes with each reading in training mode; in eval mode it stays.
        eps: below which a norm counts as this.
        dim: of the outputs; by default 1 for transposed convolutions, else 0.

    >>> import numpy as np
    >>> from fastnn import nn
    >>> layer = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3)).eval()
    >>> bool(np.linalg.norm(layer.weight.detach().numpy(), 2) < 1.1)
    True
    """
    weight = present("spectral_norm", module, name)
    register_parametrization(module, name, _SpectralNorm(weight, n_power_iterations, _outputs(module, dim), eps))
    return module


class _WeightNorm(Module):
    def __init__(self, dim: int | None = 0) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, weight_g: Any, weight_v: Any) -> Tensor:
        return normed(weight_g, weight_v, self.dim)

    def right_inverse(self, weight: Any) -> tuple[Any, Any]:
        return lengths(weight, self.dim), weight


class _SpectralNorm(Module):
    _u: Array
    _v: Array

    def __init__(self, weight: Any, n_power_iterations: int = 1, dim: int = 0, eps: float = 1e-12) -> None:
        super().__init__()
        self.n_power_iterations = whole("spectral_norm", "n_power_iterations", n_power_iterations, 1)
        self.eps = number("spectral_norm", "eps", eps, 0)
        self.dim = dim
        if weight.ndim > 1:
            u, v = singular_vectors(_matrix(weight, dim).detach().numpy(), self.eps)
            self.register_buffer("_u", u)
            self.register_buffer("_v", v)

    def forward(self, weight: Any) -> Any:
        if weight.ndim == 1:
            return weight / length(weight, self.eps)
        matrix = _matrix(weight, self.dim)
        if self.training:
            iterate(matrix.detach().numpy(), self._u, self._v, self.n_power_iterations, self.eps)
        return weight / spectral(matrix, self._u, self._v)

    def right_inverse(self, weight: Any) -> Any:
        return weight


def lengths(weight: Any, dim: int | None) -> Any:
    """Norms over all dims but `dim`, which are kept as 1; over all dims for None."""
    dims = [d for d in range(weight.ndim) if dim is None or d != dim % weight.ndim]
    return ops.sqrt((weight * weight).sum() if dim is None else (weight * weight).sum(dims, keepdim=True))


def length(vector: Any, eps: float) -> Any:
    """Its norm, which counts at least as eps."""
    return lengths(vector, None).clamp(min=eps)


def normed(g: Any, v: Any, dim: int | None) -> Tensor:
    """g · v / ‖v‖."""
    return v * (g / lengths(v, dim))


def iterate(matrix: Array, first: Array, second: Array, count: int, eps: float) -> None:
    """Power iteration towards the first singular vectors, in place: u and v of a matrix, v and u of its transpose."""
    for _ in range(count):
        first[...] = _unit(matrix @ np.asarray(second), eps)
        second[...] = _unit(matrix.T @ np.asarray(first), eps)
    versions.wrote(first)
    versions.wrote(second)


def singular_vectors(matrix: Array, eps: float) -> tuple[Array, Array]:
    """An estimate of the first left and right singular vectors."""
    draw = ops.randn(sum(matrix.shape)).numpy().astype(matrix.dtype)
    u, v = (_unit(part, eps) for part in np.split(draw, [len(matrix)]))
    iterate(matrix, u, v, 15, eps)
    return u, v


def spectral(matrix: Any, u: Array, v: Array) -> Any:
    """The largest singular value, uᵀ W v."""
    return (Tensor(np.array(u)) * (matrix @ Tensor(np.array(v)))).sum()


def _unit(x: Array, eps: float) -> Array:
    return x / max(float(np.linalg.norm(x)), eps)


def _matrix(weight: Any, dim: int) -> Any:
    """(outputs, all else)."""
    return weight.movedim(dim, 0).flatten(1) if dim else weight.flatten(1)


def _outputs(module: Module, dim: int | None) -> int:
    return (1 if isinstance(module, (ConvTranspose1d, ConvTranspose2d)) else 0) if dim is None else dim


# ---- the older functions: the same with parameters in the module itself ----------------------------------------------


def old_weight_norm(module: M, name: str = "weight", dim: int | None = 0) -> M:
    """`parametrizations.weight_norm` with parameters weight_g and weight_v beside the module's others.

    >>> from fastnn import nn
    >>> [name for name, _ in nn.utils.weight_norm(nn.Linear(4, 3)).named_parameters()]
    ['bias', 'weight_g', 'weight_v']
    """
    weight = _own("weight_norm", module, name)
    with no_grad():
        setattr(module, f"{name}_g", Parameter(lengths(weight, dim).detach().clone()))
    setattr(module, f"{name}_v", Parameter(weight.detach().clone()))
    setattr(module, f"_{name}_dim", dim)
    computed(module, name, _of_lengths)
    return module


def remove_weight_norm(module: M, name: str = "weight") -> M:
    """The parameter itself again, with its present value."""
    _put_back("remove_weight_norm", module, name, f"{name}_g", f"{name}_v")
    return module


def old_spectral_norm(
    module: M, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None
) -> M:
    """`parametrizations.spectral_norm` with the parameter weight_orig and buffers weight_u and weight_v in the module.

    >>> from fastnn import nn
    >>> sorted(nn.utils.spectral_norm(nn.Linear(4, 3)).state_dict())
    ['bias', 'weight_orig', 'weight_u', 'weight_v']
    """
    weight = _own("spectral_norm", module, name)
    norm = _SpectralNorm(weight, n_power_iterations, _outputs(module, dim), eps)
    setattr(module, f"{name}_orig", Parameter(weight.detach().clone()))
    for end in "uv" if weight.ndim > 1 else "":
        module.register_buffer(f"{name}_{end}", getattr(norm, f"_{end}"))
    setattr(module, f"_{name}_norm", (norm.n_power_iterations, norm.dim, norm.eps))
    computed(module, name, _of_singular_value)
    return module


def remove_spectral_norm(module: M, name: str = "weight") -> M:
    """The parameter itself again, with its present value."""
    _put_back("remove_spectral_norm", module, name, f"{name}_orig", f"{name}_u", f"{name}_v")
    return module


def _of_lengths(module: Module, name: str) -> Tensor:
    own = vars(module)
    return normed(own[f"{name}_g"], own[f"{name}_v"], own[f"_{name}_dim"])


def _of_singular_value(module: Module, name: str) -> Any:
    own = vars(module)
    weight, (count, dim, eps) = own[f"{name}_orig"], own[f"_{name}_norm"]
    if weight.ndim == 1:
        return weight / length(weight, eps)
    matrix = _matrix(weight, dim)
    if module.training:
        iterate(matrix.detach().numpy().T, own[f"{name}_v"], own[f"{name}_u"], count, eps)
    return weight / spectral(matrix, own[f"{name}_u"], own[f"{name}_v"])


def _own(owner: str, module: Module, name: str) -> Parameter:
    """The parameter, which nothing computes so far."""
    weight = present(owner, module, name)
    if not isinstance(weight, Parameter):
        raise ArgumentError(
            f"{owner}: {type(module).__name__}.{name} is computed already: use parametrizations.{owner}"
        )
    return weight


def _put_back(owner: str, module: Module, name: str, *parts: str) -> None:
    if parts[0] not in vars(module) or not hasattr(type(module), "_computed"):
        raise ArgumentError(
            f"{owner}: {type(module).__name__}.{name} was not made by the function that this one undoes"
        )
    with no_grad():
        value = Parameter(getattr(module, name).detach().clone())
    for part in parts:
        if part in module._buffers:
            del module._buffers[part]
        elif part in vars(module):
            delattr(module, part)
    restored(module, name, value)


def __getattr__(name: str) -> Any:
    raise no_such_name("fastnn.nn.utils.parametrizations", name)
