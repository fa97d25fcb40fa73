"""Images read at places that are computed: spatial transformers (Jaderberg et al. 2015, arXiv:1506.02025)."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn.checks import choice, flag
from fastnn.errors import ShapeError
from fastnn.ops.arithmetic import abs as absolute
from fastnn.ops.common import floating, sizes
from fastnn.ops.dense import matmul
from fastnn.ops.elementwise import floor, rint
from fastnn.ops.joining import where
from fastnn.tensors import Array, Tensor

__all__ = ["affine_grid", "grid_sample"]


_KEYS = -0.75


def affine_grid(theta: Any, size: Sequence[int], align_corners: bool | None = None) -> Tensor:
    """Where each pixel of an output of `size` (N, C, H, W) lies in the input: theta (N, 2, 3) -> (N, H, W, 2).

    Places are x and y from -1 to 1: with `align_corners` the middles of the pixels in the corners, else their outer
    edges (None is False). Raises ShapeError for other shapes; there are no volumes.

    >>> import fastnn as fnn
    >>> fnn.nn.functional.affine_grid([[[1.0, 0, 0], [0, 1, 0]]], (1, 1, 1, 2))
    Tensor([[[[-0.5,  0. ],
              [ 0.5,  0. ]]]])
    """
    theta, (count, _, height, width) = floating(theta), sizes("size", size, 4)
    if theta.shape != (count, 2, 3):
        raise ShapeError(f"affine_grid: expected theta of shape ({count}, 2, 3) for size {size}, got {theta.shape}")
    corners = flag("affine_grid", "align_corners", align_corners)
    columns, rows = (_middles(n, corners) for n in (width, height))
    places = np.stack(np.broadcast_arrays(columns, rows[:, None], 1.0), -1).reshape(-1, 3).astype(theta.dtype)
    return matmul(Tensor(places), theta.transpose(1, 2)).reshape(count, height, width, 2)


def _middles(count: int, align_corners: bool) -> Array:
    middles = np.linspace(-1, 1, count) if count > 1 else np.zeros(count)
    return middles if align_corners else middles * (count - 1) / count


def grid_sample(
    input: Any, grid: Any, mode: str = "bilinear", padding_mode: str = "zeros", align_corners: bool | None = None
) -> Tensor:
    """The input's entries at the places of `grid`: (N, C, H, W) and (N, OH, OW, 2) -> (N, C, OH, OW).

    Args:
        input, grid: grid holds x and y from -1 to 1, as `affine_grid` gives them; gradients go to both.
        mode: "bilinear", between the four pixels around; "bicubic", among sixteen, by cubic convolution with a = -3/4
            (Keys 1981); or "nearest".
        padding_mode: what lies outside: "zeros", "border" (the pixel at the edge) or "reflection" (mirrored there).
        align_corners: whether -1 and 1 are the middles of the pixels in the corners, not their outer edges, which is
            what None means.

    Raises ArgumentError for other modes, ShapeError for other shapes; there are no volumes.

    >>> import fastnn as fnn
    >>> fnn.nn.functional.grid_sample([[[[1.0, 3.0]]]], [[[[0.0, 0.0], [0.5, 0.0]]]])
    Tensor([[[[2., 3.]]]])
    """
    x = floating(input)
    places = floating(grid, x.dtype)
    if x.ndim != 4 or places.ndim != 4 or places.shape[0] != x.shape[0] or places.shape[3] != 2 or 0 in x.shape[2:]:
        raise ShapeError(
            f"grid_sample: expected input (N, C, H, W) and grid (N, OH, OW, 2), got {x.shape} and {places.shape}"
        )
    choice("grid_sample", "mode", mode, ("bilinear", "bicubic", "nearest"))
    choice("grid_sample", "padding_mode", padding_mode, ("zeros", "border", "reflection"))
    inner = flag("grid_sample", "align_corners", align_corners)
    height, width = x.shape[2:]
    column, row = _pixels(places[..., 0], width, inner), _pixels(places[..., 1], height, inner)
    channels_last = x.permute(0, 2, 3, 1)
    images = np.arange(x.shape[0]).reshape(-1, 1, 1)

    def picked(r: Tensor, c: Tensor) -> Tensor:
        """The pixels in these rows and columns, 0 outside; (N, OH, OW, C)."""
        inside = (r >= 0) & (r <= height - 1) & (c >= 0) & (c <= width - 1)
        r, c = (where(inside, each, 0.0).astype(np.int64) for each in (r, c))
        return channels_last[images, r, c] * inside.astype(x.dtype).unsqueeze(-1)

    def within(r: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        return _padded(r, height, padding_mode, inner), _padded(c, width, padding_mode, inner)

    if mode == "bicubic":  # places are between pixels as they are; which pixels stand there is asked for each
        top, left = floor(row).detach(), floor(column).detach()
        down, across = (_cubic((place - start).unsqueeze(-1)) for place, start in ((row, top), (column, left)))
        taps = (
            picked(*within(top + (i - 1), left + (j - 1))) * (down[i] * across[j]) for i in range(4) for j in range(4)
        )
        return functools.reduce(operator.add, taps).permute(0, 3, 1, 2)
    row, column = within(row, column)
    if mode == "nearest":
        return picked(rint(row).detach(), rint(column).detach()).permute(0, 3, 1, 2) + (row + column).unsqueeze(1) * 0
    top, left = floor(row).detach(), floor(column).detach()
    below, right = (row - top).unsqueeze(-1), (column - left).unsqueeze(-1)
    weighted = (
        picked(top, left) * (1 - below) * (1 - right),
        picked(top, left + 1) * (1 - below) * right,
        picked(top + 1, left) * below * (1 - right),
        picked(top + 1, left + 1) * below * right,
    )
    return functools.reduce(operator.add, weighted).permute(0, 3, 1, 2)


def _pixels(place: Tensor, size: int, align_corners: bool) -> Tensor:
    """From -1 to 1 to pixels, of which the first has its middle at 0."""
    return (place + 1) * ((size - 1) / 2) if align_corners else ((place + 1) * size - 1) / 2


def _cubic(t: Tensor) -> tuple[Tensor, ...]:
    """The weights of the pixels at -1, 0, 1 and 2 for a place at t, from 0 to 1; they sum up to 1."""

    def inner(x: Tensor) -> Tensor:
        return ((2 + _KEYS) * x - (3 + _KEYS)) * x * x + 1

    def outer(x: Tensor) -> Tensor:
        return ((_KEYS * x - 5 * _KEYS) * x + 8 * _KEYS) * x - 4 * _KEYS

    return outer(t + 1), inner(t), inner(1 - t), outer(2 - t)


def _padded(place: Tensor, size: int, padding_mode: str, align_corners: bool) -> Tensor:
    """The place within the image that stands for one outside; no gradient passes at the border."""
    if padding_mode == "zeros":
        return place
    if padding_mode == "reflection":
        low, span = (0.0, size - 1.0) if align_corners else (-0.5, float(size))
        if not span:
            return place * 0
        away = absolute(place - low)
        turns = floor(away / span).detach()
        rest = away - turns * span
        place = where(turns % 2 == 0, rest, span - rest) + low
    return where(place <= 0, 0.0, where(place >= size - 1, size - 1.0, place))
