"""Convolution, and its transpose, of images and of sequences, which the kernels see as images of height 1."""

from __future__ import annotations

from typing import Any

from fastnn.backends.sums import total
from fastnn.checks import whole
from fastnn.errors import ArgumentError, ShapeError
from fastnn.ops.common import Size, layer_input, low, tall, tall_shape, unbatched, weight_of, window
from fastnn.ops.padding import pad
from fastnn.tensors import Array, Context, Function, Tensor

__all__ = ["conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d"]


class Conv2d(Function):
    """x (N, C, H, W), weight (O, C/g, kh, kw), bias (O,) or None -> (N, O, OH, OW); or without H, kh and OH.

    Saves the sizes; x where a parameter's gradient needs it, weight where that of x does; kernels conv2d_*.
    Attributes: stride, padding, dilation (pairs), groups.
    """

    @staticmethod
    def forward(ctx: Context, x: Array, weight: Array, bias: Array | None, **attributes: Any) -> Array:
        need_x, *need_parameters = ctx.needs_input_grad
        kept = x if any(need_parameters) else None, weight if need_x else None
        ctx.save_for_backward(*kept, tall_shape(x.shape)[2:], tall_shape(weight.shape)[2:])
        return low(ctx.kernels.conv2d_forward(tall(x), tall(weight), bias, **attributes), weight)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> tuple[Array | None, Array | None, Array | None]:
        x, weight, image_size, kernel_size = ctx.saved_tensors
        need_x, need_weight, need_bias = ctx.needs_input_grad
        grad_x = grad_weight = grad_bias = None
        if need_x:
            grad_x = ctx.kernels.conv2d_backward_input(tall(grad), tall(weight), image_size, **ctx.attributes)
            grad_x = low(grad_x, grad)
        if need_weight or need_bias:
            found = ctx.kernels.conv2d_backward_weight(tall(grad), tall(x), kernel_size, **ctx.attributes)
            grad_weight, grad_bias = low(found[0], grad), found[1]
        return grad_x, grad_weight, grad_bias


class ConvTranspose2d(Function):
    """x (N, C, H, W), weight (C, O/g, kh, kw), bias (O,) or None -> (N, O, OH, OW); or without H, kh and OH.

    What a convolution (N, O, OH, OW) -> (N, C, H, W) with this weight makes of its output's gradient x; so its own
    gradient is that convolution. Saves x and weight where they are needed; kernels conv2d_*.
    Attributes: stride, padding, dilation, output_padding (pairs), groups.
    """

    @staticmethod
    def forward(
        ctx: Context, x: Array, weight: Array, bias: Array | None, *, output_padding: tuple[int, int], **attributes: Any
    ) -> Array:
        need_x, *need_parameters = ctx.needs_input_grad
        ctx.save_for_backward(
            x if any(need_parameters) else None, weight if need_x else None, tall_shape(weight.shape)[2:]
        )
        size = transposed_size(tall_shape(x.shape), tall_shape(weight.shape), output_padding, **attributes)
        y = ctx.kernels.conv2d_backward_input(tall(x), tall(weight), size, **attributes)
        if bias is not None:
            y += bias[:, None, None]
        return low(y, weight)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> tuple[Array | None, Array | None, Array | None]:
        x, weight, kernel_size = ctx.saved_tensors
        need_x, need_weight, need_bias = ctx.needs_input_grad
        attributes = {name: value for name, value in ctx.attributes.items() if name != "output_padding"}
        grad_x = grad_weight = grad_bias = None
        if need_x:
            grad_x = low(ctx.kernels.conv2d_forward(tall(grad), tall(weight), None, **attributes), grad)
        if need_weight:
            found = ctx.kernels.conv2d_backward_weight(tall(x), tall(grad), kernel_size, **attributes)
            grad_weight = low(found[0], grad)
        if need_bias:
            grad_bias = total(tall(grad), (0, 2, 3))
        return grad_x, grad_weight, grad_bias


def transposed_size(
    x: tuple[int, ...],
    weight: tuple[int, ...],
    output_padding: tuple[int, int],
    *,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> tuple[int, int]:
    """(OH, OW) of a transposed convolution of these shapes."""
    height, width = (
        (x[2 + d] - 1) * stride[d] - 2 * padding[d] + dilation[d] * (weight[2 + d] - 1) + output_padding[d] + 1
        for d in (0, 1)
    )
    return height, width


_IMAGES = ("", "(N, C, L)", "(N, C, H, W)")
_KERNELS = ("", "k", "kh, kw")


def conv1d(
    input: Any,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int] = 1,
    padding: int | tuple[int] | str = 0,
    dilation: int | tuple[int] = 1,
    groups: int = 1,
) -> Tensor:
    """input (N, C, L), weight (O, C/groups, k), bias (O,) or None -> (N, O, OL): conv2d with one dimension less.

    >>> import fastnn as fnn
    >>> fnn.ops.conv1d([[[1.0, 2.0, 4.0, 7.0]]], fnn.Tensor([[[-1.0, 1.0]]]))
    Tensor([[[1., 2., 3.]]])
    """
    return _convolve("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(
    input: Any,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    """input (N, C, H, W), weight (O, C/groups, kh, kw), bias (O,) or None -> (N, O, OH, OW).

    Cross-correlation, as in PyTorch: OH = (H + 2·padding - dilation·(kh - 1) - 1) // stride + 1; `padding` "valid" is
    none, "same" keeps H and W (stride 1). `input` is cast to the weight's type. Raises ShapeError for channels that do
    not fit and images smaller than the kernel, DTypeError for uint8 images.

    >>> import numpy as np, fastnn as fnn
    >>> sobel = fnn.Tensor([[[[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]]])
    >>> ramp = np.arange(5.0) * np.ones((1, 1, 5, 1))
    >>> fnn.ops.conv2d(ramp, sobel).numpy()[0, 0]
    array([[8., 8., 8.],
           [8., 8., 8.],
           [8., 8., 8.]], dtype=float32)
    """
    return _convolve("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


@unbatched
def _convolve(
    op: str, dims: int, input: Any, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any,
    groups: int,
) -> Tensor:  # fmt: skip
    x = layer_input(op, input, weight)
    _check_layouts(op, dims, x, weight, "O, C/groups")
    strides, dilations = window("stride", stride, dims), window("dilation", dilation, dims)
    groups = whole(op, "groups", groups)
    if isinstance(padding, str):
        pads, more = paddings(op, padding, tall_shape(weight.shape)[2:], strides, dilations)
        x = pad(x, [n for each in reversed(more[2 - dims :]) for n in (0, each)]) if any(more) else x
    else:
        pads = window("padding", padding, dims, 0)
    return Conv2d.apply(x, weight, bias, stride=strides, padding=pads, dilation=dilations, groups=groups)


def _check_layouts(op: str, dims: int, x: Tensor, weight: Tensor, channels: str) -> None:
    if weight.ndim != dims + 2:
        raise ShapeError(f"{op}: expected weight of shape ({channels}, {_KERNELS[dims]}), got {weight.shape}")
    if x.ndim != dims + 2:
        raise ShapeError(f"{op}: expected input of shape {_IMAGES[dims]}, got {x.shape}")


def paddings(
    op: str, padding: str, kernel_size: tuple[int, ...], stride: tuple[int, int], dilation: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """What "same" or "valid" stands for: zeros on both sides, and what is added on the right and below alone."""
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding != "same":
        raise ArgumentError(f"{op}: expected padding of ints, 'same' or 'valid', got {padding!r}")
    if stride != (1, 1):
        raise ArgumentError(f"{op}: padding='same' expects stride 1, got {stride}")
    height, width = (d * (k - 1) for d, k in zip(dilation, kernel_size, strict=True))
    return (height // 2, width // 2), (height % 2, width % 2)


def conv_transpose1d(
    input: Any,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int] = 1,
    padding: int | tuple[int] = 0,
    output_padding: int | tuple[int] = 0,
    groups: int = 1,
    dilation: int | tuple[int] = 1,
) -> Tensor:
    """input (N, C, L), weight (C, O/groups, k), bias (O,) or None -> (N, O, OL): conv_transpose2d with one dimension
    less.
    """
    return _transpose("conv_transpose1d", 1, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose2d(
    input: Any,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> Tensor:
    """input (N, C, H, W), weight (C, O/groups, kh, kw), bias (O,) or None -> (N, O, OH, OW).

    The transpose of a convolution as a linear map: it leads from the shape of that convolution's output back to that of
    its input. OH = (H - 1)·stride - 2·padding + dilation·(kh - 1) + output_padding + 1, with output_padding less than
    stride (ArgumentError; PyTorch also takes one that is less than the dilation). ShapeError for channels that do not
    fit and for outputs without entries.

    >>> import fastnn as fnn
    >>> image, kernel = fnn.Tensor([[[[1.0, 2.0]]]]), fnn.Tensor([[[[1.0, 10.0]]]])
    >>> fnn.ops.conv_transpose2d(image, kernel, stride=2)
    Tensor([[[[ 1., 10.,  2., 20.]]]])
    """
    return _transpose("conv_transpose2d", 2, input, weight, bias, stride, padding, output_padding, groups, dilation)


@unbatched
def _transpose(
    op: str, dims: int, input: Any, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, output_padding: Any,
    groups: int, dilation: Any,
) -> Tensor:  # fmt: skip
    x, bias = layer_input(op, input, weight), None if bias is None else weight_of(op, "bias", bias)
    _check_layouts(op, dims, x, weight, "C, O/groups")
    if x.shape[1] != weight.shape[0]:
        raise ShapeError(
            f"{op}: expected input with {weight.shape[0]} channels (weight is {weight.shape}), got {x.shape}"
        )
    attributes: dict[str, Any] = {
        "stride": window("stride", stride, dims),
        "padding": window("padding", padding, dims, 0),
        "dilation": window("dilation", dilation, dims),
        "groups": (groups := whole(op, "groups", groups)),
    }
    more = window("output_padding", output_padding, dims, 0)
    strides = attributes["stride"]
    if any(not 0 <= p < max(s, d) for p, s, d in zip(more, strides, attributes["dilation"], strict=True)):
        raise ArgumentError(
            f"{op}: expected output_padding from 0 to less than stride={stride} or dilation={dilation}, got "
            f"{output_padding}"
        )
    size = transposed_size(tall_shape(x.shape), tall_shape(weight.shape), more, **attributes)
    if min(size) < 1:
        raise ShapeError(f"{op}: expected an output with entries, got one of size {size} (input is {x.shape})")
    if bias is not None and bias.shape != (weight.shape[1] * groups,):
        raise ShapeError(f"{op}: expected bias of shape {(weight.shape[1] * groups,)}, got {bias.shape}")
    if all(p < s for p, s in zip(more, strides, strict=True)):
        return ConvTranspose2d.apply(x, weight, bias, output_padding=more, **attributes)
    (top, left), (below, right) = attributes["padding"], more  # kernels know no more than a stride: cut from the whole
    whole_y = ConvTranspose2d.apply(x, weight, None, output_padding=(0, 0), **{**attributes, "padding": (0, 0)})
    y = pad(whole_y, (-left, right - left, -top, below - top))
    return y if bias is None else y + bias.reshape(-1, 1, 1)
