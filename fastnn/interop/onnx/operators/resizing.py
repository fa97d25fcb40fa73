"""Other sizes, and channels as places."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn.errors import ArgumentError, ShapeError
from fastnn.interop.onnx.operators.registry import (
    Call,
    along,
    axes_of,
    axis_of,
    bounded,
    ints,
    known,
    op,
    reads,
    tensor,
)
from fastnn.ops.pool import mapped
from fastnn.ops.resizing import Repeat
from fastnn.tensors import Array, Tensor


@reads("Resize", "Upsample")
def resize(call: Call, x: Any, *rest: Any) -> Any:
    """x in another size, by nearest, linear or cubic interpolation; all rules for coordinates are ONNX's."""
    x = tensor(x)
    roi, scales, sizes = _given(call, rest)
    where = axes_of(call)
    axes = list(range(x.ndim)) if where is None else [axis_of(each, x.ndim) for each in where]
    outs, factors = _sizes(call, [x.shape[a] for a in axes], scales, sizes)
    whole = list(x.shape)
    for a, out in zip(axes, outs, strict=True):
        whole[a] = out
    bounded(whole)
    regions = [(0.0, 1.0)] * len(axes) if roi is None or not roi.size else list(zip(*np.split(roi, 2), strict=True))
    steps = {
        a: _Axis(call, x.shape[a], out, factor, region)
        for a, out, factor, region in zip(axes, outs, factors, regions, strict=True)
        if out != x.shape[a] or factor != 1 or region != (0.0, 1.0)
    }
    if call.get("mode", "nearest") == "nearest":
        return _nearest(x, {a: step.nearest() for a, step in steps.items()})
    kind = x.dtype
    y = x if kind.kind == "f" else x.double()
    if all(a > 1 for a in steps) and x.ndim < 5:  # images, whose matrices are known to compiled plans
        y = mapped(
            y, [steps[a].matrix().astype(y.dtype) if a in steps else np.eye(x.shape[a]) for a in range(2, x.ndim)]
        )
    else:
        for a, step in steps.items():
            y = op("matmul")(y.transpose(a, -1), step.matrix().T.astype(y.dtype)).transpose(a, -1)
    outside = [step.outside() for step in steps.values()]
    if any(each.any() for each in outside):
        fill = np.zeros((), bool)
        for a, step in steps.items():
            fill = fill | step.outside().reshape(-1, *[1] * (x.ndim - 1 - a))
        y = op("where")(fill, np.asarray(call.get("extrapolation_value", 0.0), y.dtype), y)
    return y.astype(kind)


def _given(call: Call, rest: tuple[Any, ...]) -> tuple[Array | None, Array | None, list[int] | None]:
    """The region, the factors and the sizes, wherever this version has them."""
    if call.version < 11 or call.operator == "Upsample":
        scales = known(rest[0]) if rest else np.asarray(call.get("scales", []), float)
        return None, scales, None
    roi, scales, sizes = (*rest, None, None, None)[:3]
    found = None if scales is None or not known(scales).size else known(scales)
    return None if roi is None else known(roi), found, None if sizes is None or found is not None else ints(sizes)


def _sizes(
    call: Call, before: list[int], scales: Array | None, sizes: list[int] | None
) -> tuple[list[int], list[float]]:
    if sizes is None:
        if scales is None or len(scales) != len(before) or not (scales > 0).all():
            raise ShapeError(f"expected {len(before)} scales above 0, or sizes, got {scales}")
        return [math.floor(n * s) for n, s in zip(before, scales.tolist(), strict=True)], scales.tolist()
    if len(sizes) != len(before):
        raise ShapeError(f"expected {len(before)} sizes, got {sizes}")
    policy = call.get("keep_aspect_ratio_policy", "stretch")
    if policy != "stretch":
        ratios = [s / n for s, n in zip(sizes, before, strict=True)]
        ratio = min(ratios) if policy == "not_larger" else max(ratios)
        return [math.floor(n * ratio + 0.5) for n in before], [ratio] * len(before)
    return sizes, [s / n for s, n in zip(sizes, before, strict=True)]


class _Axis:
    """What one dimension's new entries are made of."""

    def __init__(self, call: Call, size: int, out: int, scale: float, region: tuple[float, float]) -> None:
        self.call, self.size, self.scale = call, size, scale
        i, full = np.arange(out, dtype=np.float64), scale * size
        mode = call.get("coordinate_transformation_mode", "half_pixel")
        if call.version < 11 or call.operator == "Upsample":
            mode = "asymmetric"
        first, last = region
        start, end = first * (size - 1), last * (size - 1)
        rules: dict[str, Any] = {
            "half_pixel": lambda: (i + 0.5) / scale - 0.5,
            "asymmetric": lambda: i / scale,
            "align_corners": lambda: i * (size - 1) / (out - 1) if out != 1 else i * 0,
            "pytorch_half_pixel": lambda: (i + 0.5) / scale - 0.5 if out > 1 else i * 0,
            "half_pixel_symmetric": lambda: size / 2 * (1 - out / full) + (i + 0.5) / scale - 0.5,
            "tf_half_pixel_for_nn": lambda: (i + 0.5) / scale,
            "tf_crop_and_resize": lambda: (
                start + i * (end - start) / (out - 1) if out > 1 else i * 0 + (start + end) / 2
            ),
        }
        if mode not in rules:
            raise ArgumentError(
                f"expected coordinate_transformation_mode to be one of {', '.join(rules)}, got {mode!r}"
            )
        self.places = rules[mode]()
        self.crops = mode == "tf_crop_and_resize"

    def outside(self) -> Any:
        """Which new entries lie beyond the old ones."""
        return self.crops & ((self.places < 0) | (self.places > self.size - 1))

    def nearest(self) -> Any:
        """The old entry of each new one."""
        rule = self.call.get("nearest_mode", "floor" if self.call.version < 11 else "round_prefer_floor")
        rounded: dict[str, Any] = {
            "round_prefer_floor": lambda x: np.ceil(x - 0.5),
            "round_prefer_ceil": lambda x: np.floor(x + 0.5),
            "floor": np.floor,
            "ceil": np.ceil,
        }
        if rule not in rounded:
            raise ArgumentError(f"expected nearest_mode to be one of {', '.join(rounded)}, got {rule!r}")
        return np.clip(rounded[rule](self.places), 0, self.size - 1).astype(np.int64)

    def matrix(self) -> Array:
        """The weights of all old entries in each new one, (out, size)."""
        mode = self.call.get("mode", "linear")
        if mode not in ("linear", "cubic"):
            raise ArgumentError(f"expected mode nearest, linear or cubic, got {mode!r}")
        narrow = min(self.scale, 1.0) if self.call.get("antialias", 0) else 1.0
        reach = math.ceil((1 if mode == "linear" else 2) / narrow)
        firsts = np.floor(self.places).astype(np.int64)
        entries = firsts[:, None] + np.arange(1 - reach, reach + 1)
        t = np.abs(self.places[:, None] - entries) * narrow
        if mode == "linear":
            weights = np.maximum(1 - t, 0)
        else:
            a = self.call.get("cubic_coeff_a", -0.75)
            near, far = ((a + 2) * t - (a + 3)) * t * t + 1, a * (((t - 5) * t + 8) * t - 4)
            weights = np.where(t <= 1, near, np.where(t < 2, far, 0))
        if self.call.get("exclude_outside", 0):
            weights = np.where((entries < 0) | (entries >= self.size), 0, weights)
        total = weights.sum(1, keepdims=True)
        weights = weights / np.where(total == 0, 1, total)
        matrix = np.zeros((len(self.places), self.size))
        np.add.at(matrix, (np.arange(len(matrix))[:, None], np.clip(entries, 0, self.size - 1)), weights)
        return matrix


def _nearest(x: Tensor, picks: dict[int, Array]) -> Tensor:
    repeats = [1] * x.ndim
    for a, pick in picks.items():
        count = len(pick) // x.shape[a]
        if count > 1 and x.dtype.kind == "f" and np.array_equal(pick, np.repeat(np.arange(x.shape[a]), count)):
            repeats[a] = count
        else:
            x = x[along(a, pick)]
    return Repeat.apply(x, repeats=tuple(repeats)) if any(n > 1 for n in repeats) else x


_MODES = {"linear": "bilinear", "cubic": "bicubic"}  # since opset 20


@reads("GridSample")
def grid_sample(call: Call, x: Any, grid: Any) -> Any:
    """The entries of images at the places of a grid."""
    mode = call.get("mode", "bilinear")
    inner = bool(call.get("align_corners", 0))
    return op("grid_sample")(tensor(x), tensor(grid), _MODES.get(mode, mode), call.get("padding_mode", "zeros"), inner)


@reads("DepthToSpace")
def depth_to_space(call: Call, x: Any) -> Any:
    """Channels become places."""
    x, b = tensor(x), call.get("blocksize", 1)
    n, c, h, w = _image(x)
    if call.get("mode", "DCR") == "CRD":
        return op("pixel_shuffle")(x, b)
    return x.reshape(n, b, b, c // (b * b), h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, c // (b * b), h * b, w * b)


@reads("SpaceToDepth")
def space_to_depth(call: Call, x: Any) -> Any:
    """Places become channels."""
    x, b = tensor(x), call.get("blocksize", 1)
    n, c, h, w = _image(x)
    if call.get("mode", "DCR") == "CRD":
        return op("pixel_unshuffle")(x, b)
    return x.reshape(n, c, h // b, b, w // b, b).permute(0, 3, 5, 1, 2, 4).reshape(n, c * b * b, h // b, w // b)


def _image(x: Tensor) -> tuple[int, int, int, int]:
    if x.ndim != 4:
        raise ShapeError(f"expected input of shape (N, C, H, W), got {x.shape}")
    n, c, h, w = x.shape
    return n, c, h, w


@reads("Col2Im")
def col2im(call: Call, x: Any, image: Any, block: Any) -> Any:
    """Columns of windows, added where they came from."""
    size, kernel = ints(image), ints(block)
    if len(size) != 2:
        raise call.refuse(f"{len(size)} dimensions of space")
    pads = call.get("pads") or [0] * 4
    strides, dilations = call.get("strides") or [1, 1], call.get("dilations") or [1, 1]
    around = size[0] + pads[0] + pads[2], size[1] + pads[1] + pads[3]
    y = op("fold")(tensor(x), around, tuple(kernel), tuple(dilations), 0, tuple(strides))
    return y[:, :, pads[0] : pads[0] + size[0], pads[1] : pads[1] + size[1]]
