"""Types of sizes for annotations, by the names that PyTorch has for them in torch.nn.common_types."""

from __future__ import annotations

from typing import Any

_scalar_or_tuple_any_t = int | tuple[int, ...]
_scalar_or_tuple_1_t = int | tuple[int]
_scalar_or_tuple_2_t = int | tuple[int, int]
_scalar_or_tuple_3_t = int | tuple[int, int, int]
_size_any_t = _scalar_or_tuple_any_t
_size_1_t = _scalar_or_tuple_1_t
_size_2_t = _scalar_or_tuple_2_t
_size_3_t = _scalar_or_tuple_3_t
_ratio_2_t = float | tuple[float, float]
_ratio_any_t = float | tuple[float, ...]
_maybe_indices_t: Any = Any
