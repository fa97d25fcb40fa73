"""Tables whose rows are learned, and layers of two inputs."""

from __future__ import annotations

import math
from typing import Any, TypeVar

from fastnn import init, ops
from fastnn.arrays import as_array
from fastnn.checks import choice, flag, number, whole
from fastnn.errors import ShapeError
from fastnn.habits import check_options
from fastnn.nn.applied import Applied
from fastnn.nn.members import new_parameter
from fastnn.nn.module import Module, Parameter
from fastnn.ops.lookup import padding_row
from fastnn.tensors import Tensor, wrote

E = TypeVar("E", bound="_Table")


class _Table(Module):
    weight: Parameter

    def _set_up(
        self, num_embeddings: int, embedding_dim: int, padding_idx: int | None, given: Any, options: dict[str, Any]
    ) -> None:
        name = type(self).__name__
        check_options(name, **options)
        self.num_embeddings = whole(name, "num_embeddings", num_embeddings, 1)
        self.embedding_dim = whole(name, "embedding_dim", embedding_dim, 1)
        self.padding_idx = None if padding_idx is None else padding_row(name, padding_idx, self.num_embeddings)
        shape = (self.num_embeddings, self.embedding_dim)
        if given is None:
            self.weight = new_parameter(self, shape)
            self.reset_parameters()
        else:
            self.weight = given if isinstance(given, Parameter) else Parameter(given)
            if self.weight.shape != shape:
                raise ShapeError(f"{name}: expected _weight of shape {shape}, got {self.weight.shape}")

    def reset_parameters(self) -> None:
        """Standard normal numbers, and zeros in the row of padding_idx."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            self.weight.data[self.padding_idx] = 0
            wrote(self.weight.data)

    @classmethod
    def from_pretrained(cls: type[E], embeddings: Any, freeze: bool = True, **options: Any) -> E:
        """A table (V, D) of these numbers, which is learned unless `freeze`."""
        values = embeddings.data if isinstance(embeddings, Tensor) else as_array(embeddings)
        if values.ndim != 2:
            raise ShapeError(f"{cls.__name__}.from_pretrained: expected an array (V, D), got {values.shape}")
        weight = Parameter(
            Tensor(values.copy()) if values.dtype.kind == "f" else values,
            requires_grad=not flag("from_pretrained", "freeze", freeze),
        )
        return cls(*values.shape, _weight=weight, **options)  # type: ignore[call-arg]

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"


class Embedding(_Table):
    """The rows of a table for numbers of rows: integers (...) -> (..., embedding_dim).

    weight (num_embeddings, embedding_dim) starts as standard normal numbers. The row `padding_idx` starts as zeros and
    is not learned. `sparse` is taken and says nothing; max_norm and scale_grad_by_freq are refused.

    >>> import numpy as np
    >>> from fastnn import nn
    >>> nn.Embedding(1000, 16)(np.zeros((8, 20), np.int64)).shape
    (8, 20, 16)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: Any = None,
        _freeze: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        options = {"max_norm": max_norm, "scale_grad_by_freq": scale_grad_by_freq, "device": device, "dtype": dtype}
        self._set_up(num_embeddings, embedding_dim, padding_idx, _weight, options)
        if _freeze:
            self.weight.requires_grad_(False)

    def forward(self, input: Any) -> Tensor:
        return ops.embedding(input, self.weight, self.padding_idx)


class EmbeddingBag(_Table):
    """The sum, mean or maximum of the rows of each bag: integers (B, L), or flat ones and `offsets` (B,) -> (B, D)."""

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        _weight: Any = None,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        options = {
            "max_norm": max_norm, "scale_grad_by_freq": scale_grad_by_freq, "padding_idx": padding_idx,
            "include_last_offset": include_last_offset, "device": device, "dtype": dtype,
        }  # fmt: skip
        self.mode = choice("EmbeddingBag", "mode", mode, ("sum", "mean", "max"))
        self._set_up(num_embeddings, embedding_dim, padding_idx, _weight, options)

    def forward(self, input: Any, offsets: Any = None, per_sample_weights: Any = None) -> Tensor:
        return ops.embedding_bag(
            input, self.weight, offsets, mode=self.mode, per_sample_weights=per_sample_weights
        )  # fmt: skip

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, mode={self.mode!r}"


class Bilinear(Module):
    """y_o = x1ᵀ W_o x2 + b_o: inputs (..., in1_features) and (..., in2_features), output (..., out_features).

    weight (out, in1, in2) and bias (out,) start uniform on ±1/sqrt(in1_features), as in PyTorch.
    """

    bias: Parameter | None

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        check_options("Bilinear", device=device, dtype=dtype)
        self.in1_features = whole("Bilinear", "in1_features", in1_features, 1)
        self.in2_features = whole("Bilinear", "in2_features", in2_features, 1)
        self.out_features = whole("Bilinear", "out_features", out_features, 1)
        self.weight = new_parameter(self, (self.out_features, self.in1_features, self.in2_features))
        self.bias = new_parameter(self, (self.out_features,)) if flag(type(self).__name__, "bias", bias) else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fresh random weights."""
        bound = 1 / math.sqrt(self.in1_features)
        for parameter in (self.weight, self.bias):
            if parameter is not None:
                init.uniform_(parameter, -bound, bound)

    def forward(self, input1: Any, input2: Any) -> Tensor:
        return ops.bilinear(input1, input2, self.weight, self.bias)

    def extra_repr(self) -> str:
        sizes = f"in1_features={self.in1_features}, in2_features={self.in2_features}, out_features={self.out_features}"
        return f"{sizes}, bias={self.bias is not None}"


class CosineSimilarity(Applied):
    """The cosine of the angle between two vectors along dim."""

    function, options = "cosine_similarity", ("dim", "eps")

    def __init__(self, dim: int = 1, eps: float = 1e-8) -> None:
        super().__init__()
        self.dim, self.eps = whole("CosineSimilarity", "dim", dim), number("CosineSimilarity", "eps", eps, 0)

    def extra_repr(self) -> str:
        return ""


class PairwiseDistance(Applied):
    """The p-norm of x1 - x2 + eps along the last dimension."""

    function, options = "pairwise_distance", ("norm", "eps", "keepdim")

    def __init__(self, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> None:
        super().__init__()
        self.norm, self.eps = number("PairwiseDistance", "p", p, 0, finite=False), eps
        self.keepdim = keepdim

    def extra_repr(self) -> str:
        return ""
