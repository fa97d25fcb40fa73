"""Attention with several heads, and the encoder of transformers (Vaswani et al. 2017)."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn import init, ops
from fastnn.checks import flag, number, whole
from fastnn.errors import ArgumentError, ShapeError
from fastnn.habits import check_options
from fastnn.nn.linear import Linear
from fastnn.nn.members import new_parameter
from fastnn.nn.module import Module, Parameter
from fastnn.ops.attention import attention
from fastnn.ops.common import layer_input, tensor_of
from fastnn.tensors import Tensor

__all__ = ["MultiheadAttention"]


class MultiheadAttention(Module):
    """out_proj of attention in num_heads parts of the projected query, key and value, all of embed_dim features.

    query (L, N, E), key and value (S, N, E), with batch_first (N, L, E) and (N, S, E), or without N. Returns the output
    in query's layout and, unless need_weights=False, the weights (N, L, S), averaged over the heads unless
    average_attn_weights=False. In boolean masks True forbids: attn_mask (L, S) or (N·heads, L, S), key_padding_mask
    (N, S); masks of floats are added. Parameters: in_proj_weight (3E, E), in_proj_bias, out_proj.

    >>> import numpy as np
    >>> from fastnn import nn
    >>> x = np.zeros((2, 5, 8), np.float32)
    >>> [a.shape for a in nn.MultiheadAttention(8, 2, batch_first=True)(x, x, x)]
    [(2, 5, 8), (2, 5, 5)]
    """

    in_proj_bias: Parameter | None

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        check_options("MultiheadAttention", device=device, dtype=dtype)
        self.embed_dim = whole("MultiheadAttention", "embed_dim", embed_dim, 1)
        self.num_heads = whole("MultiheadAttention", "num_heads", num_heads, 1)
        if embed_dim % num_heads:
            raise ArgumentError(f"MultiheadAttention: expected num_heads to divide {embed_dim}, got {num_heads}")
        if add_bias_kv or add_zero_attn or kdim not in (None, embed_dim) or vdim not in (None, embed_dim):
            raise ArgumentError(
                "MultiheadAttention: expected add_bias_kv=False, add_zero_attn=False and kdim and vdim of embed_dim, "
                "all that fastnn has"
            )
        self.dropout, self.batch_first = number("MultiheadAttention", "dropout", dropout, 0, 1), batch_first
        self.head_dim = embed_dim // num_heads
        self.in_proj_weight = new_parameter(self, (3 * embed_dim, embed_dim))
        self.in_proj_bias = new_parameter(self, (3 * embed_dim,)) if flag(type(self).__name__, "bias", bias) else None
        self.out_proj = Linear(embed_dim, embed_dim, bias)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fresh random weights, biases 0."""
        init.xavier_uniform_(self.in_proj_weight)
        self.out_proj.reset_parameters()
        for bias in (self.in_proj_bias, self.out_proj.bias):
            if bias is not None:
                init.zeros_(bias)

    def forward(
        self,
        query: Any,
        key: Any,
        value: Any,
        key_padding_mask: Any = None,
        need_weights: bool = True,
        attn_mask: Any = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        same = query is key and key is value
        given = [layer_input("MultiheadAttention", x, self.in_proj_weight) for x in (query, key, value)]
        if any(x.ndim not in (2, 3) or x.ndim != given[0].ndim or x.shape[-1] != self.embed_dim for x in given):
            raise ShapeError(
                f"MultiheadAttention: expected query, key and value of two or three dimensions, the last one "
                f"{self.embed_dim}, got {', '.join(str(tuple(x.shape)) for x in given)}"
            )
        batched = given[0].ndim == 3
        if not batched:
            given = [x.unsqueeze(0) for x in given]
        elif not self.batch_first:
            given = [x.transpose(0, 1) for x in given]
        q, k, v = self._project(given, same)
        mask = self._mask(key_padding_mask, attn_mask, q, k)
        heads, weights = attention(q, k, v, mask, self.dropout if self.training else 0.0, False)
        n, _, length, _ = heads.shape
        y = self.out_proj(heads.transpose(1, 2).reshape(n, length, self.embed_dim))
        y = y.squeeze(0) if not batched else y if self.batch_first else y.transpose(0, 1)
        if not need_weights:
            return y, None
        weights = weights.mean(1) if average_attn_weights else weights
        return y, weights if batched else weights.squeeze(0)

    def _project(self, given: list[Tensor], same: bool) -> list[Tensor]:
        """query, key and value as (N, heads, length, E / heads)."""
        e, bias = self.embed_dim, self.in_proj_bias
        if same:
            whole_projection = ops.linear(given[0], self.in_proj_weight, bias)
            parts = [whole_projection[..., i * e : (i + 1) * e] for i in range(3)]
        else:
            places = [slice(i * e, (i + 1) * e) for i in range(3)]
            parts = [
                ops.linear(x, self.in_proj_weight[place], None if bias is None else bias[place])
                for x, place in zip(given, places, strict=True)
            ]
        return [p.reshape(p.shape[0], p.shape[1], self.num_heads, self.head_dim).transpose(1, 2) for p in parts]

    def _mask(self, padding: Any, mask: Any, q: Tensor, k: Tensor) -> Tensor | None:
        """Both masks as one that is added to (N, heads, L, S)."""
        found: Tensor | None = None
        for each, shapes in (
            (mask, {2: (1, 1, q.shape[2], k.shape[2]), 3: q.shape[:3] + k.shape[2:3]}),
            (padding, {1: (1, 1, 1, k.shape[2]), 2: (q.shape[0], 1, 1, k.shape[2])}),
        ):
            if each is None:
                continue
            each = tensor_of(each)
            if each.ndim not in shapes:
                raise ShapeError(f"MultiheadAttention: expected masks (L, S) and (N, S), got one of {each.shape}")
            each = each.reshape(*shapes[each.ndim])
            if each.dtype == np.bool_:
                each = ops.where(each, np.full((), -np.inf, q.dtype), np.zeros((), q.dtype))
            found = each if found is None else found + each
        return found
