"""Batch normalisation (Ioffe and Szegedy 2015), and normalisation of the input by constants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn import init, ops
from fastnn.arrays import numbers
from fastnn.checks import flag, number, whole
from fastnn.dtypes import get_default_dtype
from fastnn.errors import ArgumentError, DataError, GraphError, ShapeError
from fastnn.habits import check_options
from fastnn.nn.members import new_parameter
from fastnn.nn.module import Module, Parameter
from fastnn.ops.common import floating, tensor_of
from fastnn.ops.norms import Running, check_pixels
from fastnn.recording import tracer
from fastnn.tensors import Array, Tensor
from fastnn.values import plain

MOST_SHOWN = 6  # channels in a layer's description


class _Following(Module):
    """A normalisation with weight and bias, whose running statistics follow its batches; each may be None."""

    num_features: int
    weight: Parameter | None
    bias: Parameter | None
    # Of models in older files, whose instance norms have none of them.
    running_mean: Array | None = None
    running_var: Array | None = None
    num_batches_tracked: Array | None = None

    def _add_statistics(self, tracks: bool) -> None:
        self.running_mean = self.running_var = self.num_batches_tracked = None  # names that are free, then
        self.register_buffer("running_mean", np.zeros(self.num_features, get_default_dtype()) if tracks else None)
        self.register_buffer("running_var", np.ones(self.num_features, get_default_dtype()) if tracks else None)
        self.register_buffer("num_batches_tracked", np.zeros((), np.int64) if tracks else None)

    def reset_parameters(self) -> None:
        """Weight 1, bias 0, and running statistics as if no batch had been seen."""
        if self.weight is not None and self.bias is not None:
            init.ones_(self.weight)
            init.zeros_(self.bias)
        self.reset_running_stats()

    def reset_running_stats(self) -> None:
        """Running statistics as if no batch had been seen."""
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            self.running_mean[...], self.running_var[...], self.num_batches_tracked[...] = 0, 1, 0


class _BatchNorm(_Following):
    """y = (x - mean) / sqrt(var + eps) * weight + bias for each of num_features channels.

    In training mean and var are the batch's, and the running ones follow them: running += momentum·(batch's - running),
    with the unbiased variance; `momentum=None` averages over all batches. In eval mode the running ones are used.
    `affine=False` goes without weight and bias; `track_running_stats=False` always uses the batch's statistics.
    A layer that `freeze` keeps as it is uses the running ones in training, too.

    The running ones follow within forward. `fit` and compiled steps put them back where the loss turns out not to be
    finite; a loop of your own has to look at its inputs.
    """

    layout: str
    ndims: tuple[int, ...]

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        check_options(type(self).__name__, device=device, dtype=dtype, bias=bias)
        self.num_features = whole(type(self).__name__, "num_features", num_features, 1)
        self.eps = number(type(self).__name__, "eps", eps, 0)
        self.momentum = None if momentum is None else number(type(self).__name__, "momentum", momentum, 0, 1)
        self.affine = affine = flag(type(self).__name__, "affine", affine)
        self.track_running_stats = flag(type(self).__name__, "track_running_stats", track_running_stats)
        self.weight = new_parameter(self, (self.num_features,), 1) if affine else None
        self.bias = new_parameter(self, (self.num_features,), 0) if affine else None
        self._add_statistics(self.track_running_stats)

    def forward(self, x: Any) -> Tensor:
        own = self.weight if isinstance(self.weight, (Tensor, np.ndarray)) else self.running_mean
        x = floating(x, own.dtype if isinstance(own, (Tensor, np.ndarray)) else None)
        if x.ndim not in self.ndims or x.shape[1] != self.num_features:
            expected = self.layout.replace("C", str(self.num_features))
            raise ShapeError(f"batch_norm: expected input of shape {expected}, got {x.shape}")
        follows = self.training and not self.frozen
        if self.running_mean is not None and self.running_var is not None and not follows:
            mean, var = self.running_mean, self.running_var
            return ops.batch_norm(x, mean, var, self.weight, self.bias, eps=self.eps)
        count = x.numel() // self.num_features
        if count == 1:
            raise ShapeError(f"batch_norm: expected more than one value per channel in training, got {x.shape}")
        running = None
        if follows and self.running_mean is not None and self.running_var is not None:
            batches = self.num_batches_tracked
            running = Running(plain(self.running_mean), plain(self.running_var), plain(batches), self.momentum)
        return ops.batch_norm_training(x, self.weight, self.bias, self.eps, running)

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"track_running_stats={self.track_running_stats}"
        )


class BatchNorm1d(_BatchNorm):
    __doc__ = f"""Batch normalisation of features, input (N, C), or of sequences, (N, C, L).

    {_BatchNorm.__doc__}
    """
    layout, ndims = "(N, C) or (N, C, L)", (2, 3)


class BatchNorm2d(_BatchNorm):
    __doc__ = f"""Batch normalisation of images, input (N, C, H, W).

    {_BatchNorm.__doc__}
    """
    layout, ndims = "(N, C, H, W)", (4,)


class _InstanceNorm(_Following):
    ndim: int
    track_running_stats: bool = False  # of models in older files

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        check_options(name, device=device, dtype=dtype)
        self.num_features, self.eps = whole(name, "num_features", num_features, 1), number(name, "eps", eps, 0)
        self.momentum = None if momentum is None else number(name, "momentum", momentum, 0, 1)
        self.affine = flag(name, "affine", affine)
        self.track_running_stats = tracks = flag(name, "track_running_stats", track_running_stats)
        self.weight = new_parameter(self, (self.num_features,), 1) if self.affine else None
        self.bias = new_parameter(self, (self.num_features,), 0) if self.affine else None
        self._add_statistics(tracks)

    def forward(self, input: Any) -> Tensor:
        input = tensor_of(input)
        if input.ndim == self.ndim - 1:
            return self.forward(input.unsqueeze(0)).squeeze(0)
        if input.ndim != self.ndim or input.shape[1] != self.num_features:
            one = f"{self.num_features}, {'L' if self.ndim == 3 else 'H, W'}"
            raise ShapeError(f"instance_norm: expected input of shape (N, {one}) or ({one}), got {input.shape}")
        mean, var = self.running_mean, self.running_var
        if mean is not None and var is not None:
            if not self.training or self.frozen:
                return ops.instance_norm(input, mean, var, self.weight, self.bias, False, eps=self.eps)
            if tracer() is not None:
                raise GraphError(
                    "instance_norm: running statistics are followed in eager training alone: leave out "
                    "track_running_stats=True, or train without compile"
                )
        momentum = self.momentum or 0.0
        return ops.instance_norm(input, mean, var, self.weight, self.bias, True, momentum, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"track_running_stats={self.track_running_stats}"
        )


class InstanceNorm1d(_InstanceNorm):
    """Normalisation of each channel of each sequence by itself, (N, C, L) or (C, L); all else as InstanceNorm2d."""

    ndim = 3


class InstanceNorm2d(_InstanceNorm):
    """Normalisation of each channel of each image by itself, input (N, C, H, W) or (C, H, W) (Ulyanov et al. 2016).

    `affine` adds weight and bias (C,), which start as 1 and 0. With `track_running_stats` the means over the batch of
    the images' statistics are followed in training, as batch norm does it, and used in eval mode; compiled training
    refuses them (GraphError).
    """

    ndim = 4


class Normalize(Module):
    """(x - mean) / std channel by channel, input (N, C, ...): the first layer of a model that takes raw images.

    Integers, such as uint8 images or lists out of JSON, are pixels from 0 to 255 and are divided by 255 first
    (DTypeError for any beyond); floating numbers and booleans are taken as they are. `mean` and `std` are numbers or
    one number per channel, of the training images after that division. They are buffers: saved and loaded with the
    weights. With ``pixels=False``, integers are numbers like others, as in tables. `Normalize.of` takes all of it from
    the training data.

    >>> import numpy as np
    >>> from fastnn import nn
    >>> nn.Normalize(0.5, 0.25)(np.full((1, 1), 255, np.uint8))
    Tensor([[2.]])
    """

    mean: Array
    std: Array
    pixels: bool = True  # of models in older files

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float], *, pixels: bool = True) -> None:
        super().__init__()
        self.pixels = flag("Normalize", "pixels", pixels)
        for name, value in (("mean", mean), ("std", std)):
            self.register_buffer(name, np.atleast_1d(numbers("Normalize", value).astype(np.float32)))
        if self.mean.shape != self.std.shape or self.mean.ndim != 1 or not (self.std > 0).all():
            raise ArgumentError(f"Normalize: expected mean and std of one length, std positive, got {mean} and {std}")

    @classmethod
    def of(cls, x: Any) -> Normalize:
        """The layer for data like these: their mean and standard deviation, per feature or channel.

        Args:
            x: the training data: a table (N, F), an array or a data frame, whose numbers are taken as they are;
                pictures (N, C, H, W) or signals (N, C, L), whose integers are pixels; or a `Dataset` of one of these.

        A feature that is the same everywhere gets the deviation 1. Raises DataError for missing and infinite values, by
        column.

        >>> from fastnn import nn
        >>> nn.Normalize.of([[1, 5], [3, 5]])
        Normalize(mean=[2, 5], std=[1, 1])
        """
        from fastnn.data import Dataset
        from fastnn.data.dataset import mean_std
        from fastnn.data.frames import as_samples, check_missing

        columns = ()
        if isinstance(x, Dataset):
            x, columns = x.images, x.columns
        values, names = as_samples(x.numpy() if isinstance(x, Tensor) else x)
        names = names or columns
        if values.ndim < 2 or not values.size or values.dtype.kind not in "fiub":
            raise ShapeError(f"Normalize.of: expected data (N, F) or (N, C, ...), got {values.dtype} {values.shape}")
        check_missing(values, names)
        pixels = values.ndim > 2
        if pixels and values.dtype.kind in "iu":
            check_pixels(values)
            values = values[:, np.newaxis] if values.ndim == 3 else values  # gray pictures (N, H, W)
        kind = (
            values.dtype
            if values.dtype.kind == "f"
            else np.uint8
            if pixels and values.dtype.kind != "b"
            else np.float64
        )
        pairs = [mean_std(channel.astype(kind, copy=False)) for channel in np.moveaxis(values, 1, 0)]
        infinite = [i for i, pair in enumerate(pairs) if not np.isfinite(pair).all()]
        if infinite:
            named = repr(names[infinite[0]]) if names else infinite[0]
            raise DataError(
                f"Normalize.of: expected finite numbers, got others in {'channel' if pixels else 'column'} {named}: "
                "leave those samples out, or clip them (np.clip)"
            )
        return cls([mean for mean, _ in pairs], [std for _, std in pairs], pixels=pixels)

    def forward(self, x: Any) -> Tensor:
        if not self.pixels:
            x = tensor_of(x)
            x = x if x.dtype.kind == "f" else x.astype(self.mean.dtype)
        return ops.normalize_channels(x, self.mean, self.std)

    def extra_repr(self) -> str:
        return f"mean=[{_listed(self.mean)}], std=[{_listed(self.std)}]"


def _listed(values: Any) -> str:
    """Whatever stands in the place of the array, too: an error about it names the layer."""
    found = [f"{v:g}" if isinstance(v, np.floating) else str(v) for v in np.asarray(values).ravel()]
    return ", ".join(
        found if len(found) <= MOST_SHOWN else [*found[: MOST_SHOWN - 1], f"and {len(found) - MOST_SHOWN + 1} more"]
    )
