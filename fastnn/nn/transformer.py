"""Transformer layers of attention and dense networks (Vaswani et al. 2017, arXiv:1706.03762), and stacks of them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn import init, ops
from fastnn.arrays import check_size
from fastnn.checks import whole
from fastnn.dtypes import dtype_of
from fastnn.errors import ArgumentError
from fastnn.habits import check_options
from fastnn.nn.attention import MultiheadAttention
from fastnn.nn.containers import ModuleList
from fastnn.nn.dropout import Dropout
from fastnn.nn.layer_norm import LayerNorm
from fastnn.nn.linear import Linear
from fastnn.nn.members import MOST_LAYERS
from fastnn.nn.module import Module
from fastnn.tensors import Tensor

__all__ = [
    "Transformer",
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "TransformerEncoder",
    "TransformerEncoderLayer",
]


class TransformerEncoderLayer(Module):
    """Self-attention and two linear layers, each added to its input and normalised: after it, or (norm_first) before.

    Input (L, N, d_model), with batch_first (N, L, d_model); masks as MultiheadAttention has them. `activation` is
    "relu", "gelu" or a function.
    """

    norms = 2

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Callable[[Any], Tensor] = ops.relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        check_options(name, device=device, dtype=dtype)
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first)
        if self.norms == 3:
            self.multihead_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first)
        self.linear1 = Linear(d_model, dim_feedforward, bias)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias)
        self.norm_first = norm_first
        for i in range(1, self.norms + 1):
            setattr(self, f"norm{i}", LayerNorm(d_model, layer_norm_eps, bias=bias))
        for i in range(1, self.norms + 1):
            setattr(self, f"dropout{i}", Dropout(dropout))
        if isinstance(activation, str) and activation not in ("relu", "gelu"):
            raise ArgumentError(f"{name}: expected activation relu or gelu, got {activation!r}")
        self.activation = getattr(ops, activation) if isinstance(activation, str) else activation

    def forward(
        self, src: Any, src_mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool = False
    ) -> Tensor:
        x = self._added(1, src, lambda x: self.self_attn(x, x, x, src_key_padding_mask, False, src_mask)[0])
        return self._added(2, x, self._feed)

    def _added(self, i: int, x: Any, part: Callable[[Tensor], Tensor]) -> Tensor:
        """x and what the i-th part makes of it, with the i-th norm and dropout."""
        norm, drop = getattr(self, f"norm{i}"), getattr(self, f"dropout{i}")
        result: Tensor = x + drop(part(norm(x))) if self.norm_first else norm(x + drop(part(x)))
        return result

    def _feed(self, x: Tensor) -> Tensor:
        return self.linear2(self.dropout(self.activation(self.linear1(x))))


class TransformerDecoderLayer(TransformerEncoderLayer):
    """Self-attention, attention to what an encoder gave (`memory`), and two linear layers, as in
    TransformerEncoderLayer."""

    norms = 3

    def forward(  # type: ignore[override]
        self,
        tgt: Any,
        memory: Any,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        x = self._added(1, tgt, lambda x: self.self_attn(x, x, x, tgt_key_padding_mask, False, tgt_mask)[0])
        to_memory = memory, memory, memory_key_padding_mask, False, memory_mask
        return self._added(3, self._added(2, x, lambda x: self.multihead_attn(x, *to_memory)[0]), self._feed)


class TransformerEncoder(Module):
    """num_layers copies of a TransformerEncoderLayer one after the other, and `norm` at the end, unless it is None."""

    def __init__(
        self,
        encoder_layer: Module,
        num_layers: int,
        norm: Module | None = None,
        enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ) -> None:
        super().__init__()
        self.num_layers = whole("TransformerEncoder", "num_layers", num_layers, 0, MOST_LAYERS)
        self.layers = ModuleList([copy.deepcopy(encoder_layer) for _ in range(self.num_layers)])
        self.norm = norm

    def forward(
        self, src: Any, mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool | None = None
    ) -> Tensor:
        for layer in self.layers:
            src = layer(src, mask, src_key_padding_mask)
        return src if self.norm is None else self.norm(src)


class TransformerDecoder(Module):
    """num_layers copies of a TransformerDecoderLayer one after the other, and `norm` at the end, unless it is None."""

    def __init__(self, decoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        super().__init__()
        self.num_layers = whole("TransformerDecoder", "num_layers", num_layers, 0, MOST_LAYERS)
        self.layers = ModuleList([copy.deepcopy(decoder_layer) for _ in range(self.num_layers)])
        self.norm = norm

    def forward(
        self,
        tgt: Any,
        memory: Any,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        for layer in self.layers:
            tgt = layer(tgt, memory, tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask)
        return tgt if self.norm is None else self.norm(tgt)


class Transformer(Module):
    """An encoder of `src`, and a decoder of `tgt` that attends to it; both end in a LayerNorm.

    Inputs (L, N, d_model) and (T, N, d_model), with batch_first (N, L, d_model) and (N, T, d_model); masks as
    MultiheadAttention has them. Weights of two and more dimensions start as xavier_uniform_ makes them.

    >>> import fastnn as fnn
    >>> from fastnn import nn
    >>> model = nn.Transformer(8, 2, 1, 1, 16, batch_first=True)
    >>> model(fnn.ones(3, 5, 8), fnn.ones(3, 4, 8), tgt_mask=model.generate_square_subsequent_mask(4)).shape
    (3, 4, 8)
    """

    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Callable[[Any], Tensor] = ops.relu,
        custom_encoder: Module | None = None,
        custom_decoder: Module | None = None,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        check_options("Transformer", device=device, dtype=dtype)
        sizes = d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias
        self.encoder = (
            custom_encoder
            if custom_encoder is not None
            else TransformerEncoder(
                TransformerEncoderLayer(*sizes), num_encoder_layers, LayerNorm(d_model, layer_norm_eps, bias=bias)
            )
        )
        self.decoder = (
            custom_decoder
            if custom_decoder is not None
            else TransformerDecoder(
                TransformerDecoderLayer(*sizes), num_decoder_layers, LayerNorm(d_model, layer_norm_eps, bias=bias)
            )
        )
        self.d_model, self.nhead, self.batch_first = d_model, nhead, batch_first
        for parameter in self.parameters():
            if parameter.ndim > 1:
                init.xavier_uniform_(parameter)

    def forward(
        self,
        src: Any,
        tgt: Any,
        src_mask: Any = None,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        src_key_padding_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        src_is_causal: bool | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        memory = self.encoder(src, src_mask, src_key_padding_mask)
        result: Tensor = self.decoder(tgt, memory, tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask)
        return result

    @staticmethod
    def generate_square_subsequent_mask(sz: int, device: Any = None, dtype: Any = None) -> Tensor:
        """(sz, sz), -infinity where a place would attend to a later one, 0 elsewhere."""
        shape = (whole("generate_square_subsequent_mask", "sz", sz, 0),) * 2
        check_size("generate_square_subsequent_mask", shape)
        wanted = dtype_of("generate_square_subsequent_mask", np.float32 if dtype is None else dtype)
        return Tensor(np.triu(np.full(shape, -np.inf), 1).astype(wanted))
