"""Layers that learn their number of inputs from the first batch: each then is the layer without Lazy."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fastnn import init
from fastnn.checks import is_whole
from fastnn.errors import ShapeError
from fastnn.nn.conv import Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d
from fastnn.nn.linear import Linear
from fastnn.nn.members import UninitializedParameter
from fastnn.nn.module import Module
from fastnn.nn.norm import BatchNorm1d, BatchNorm2d, InstanceNorm1d, InstanceNorm2d

if not TYPE_CHECKING:
    __all__ = [
        "LazyBatchNorm1d", "LazyBatchNorm2d", "LazyConv1d", "LazyConv2d", "LazyConvTranspose1d",
        "LazyConvTranspose2d", "LazyInstanceNorm1d", "LazyInstanceNorm2d", "LazyLinear", "UninitializedParameter",
    ]  # fmt: skip


class _Lazy(Module):
    """What all of them share. A subclass names the layer that it becomes after this class, and then says which argument
    it goes without and where in the input's shape that number stands."""

    size: ClassVar[str]
    place: ClassVar[int]
    becomes: ClassVar[Any]  # a class of modules
    defaults: ClassVar[dict[str, Any]]  # where they are others than that class's

    def __init_subclass__(cls, **defaults: Any) -> None:
        cls.becomes, cls.defaults = cls.__mro__[2], defaults
        _, left_out, *others = inspect.signature(cls.becomes.__init__).parameters.values()
        cls.size = left_out.name
        others = [each.replace(default=defaults.get(each.name, each.default)) for each in others]
        cls.__signature__ = inspect.Signature(others)  # type: ignore[attr-defined]
        cls.__doc__ = f"""{cls.becomes.__name__} without `{cls.size}`, which its first input tells.

        Until then its parameters have no shape; an optimiser may hold them already. A compiled step, `fit`, or a state
        dict of the layer makes them, too. From the first forward on the layer is {cls.becomes.__name__} itself.
        """

    def __init__(self, *args: Any, **options: Any) -> None:
        given = inspect.signature(type(self)).bind(*args, **options).arguments
        options = {name: value for name, value in self.defaults.items() if name not in given} | options
        groups = given.get("groups", 1)
        with init.left_out():  # one input a group stands for those that are not known
            self.becomes.__init__(self, groups if is_whole(groups, 1) else 1, *args, **options)
        setattr(self, self.size, 0)
        for name, _ in [*self.named_parameters(recurse=False)]:
            setattr(self, name, UninitializedParameter())
        for name, buffer in [*self.named_buffers(recurse=False)]:
            setattr(self, name, buffer if buffer.ndim == 0 else buffer[:0])
        self._arguments = args, options

    def has_uninitialized_params(self) -> bool:
        """Whether a parameter has no shape yet."""
        return any(self._is_unmade(name) for name, _ in self.named_parameters(recurse=False))

    def initialize_parameters(self, input: Any) -> None:
        """Makes the parameters that there are none of yet, and the layer what it becomes."""
        if input.ndim < (-self.place if self.place < 0 else 2):
            raise ShapeError(
                f"{type(self).__name__}: expected input with a dimension of {self.size}, got {input.shape}"
            )
        args, options = self._arguments
        made = self.becomes(input.shape[self.place], *args, **options)
        for name, value in [*made.named_parameters(recurse=False), *made.named_buffers(recurse=False)]:
            if self._is_unmade(name):
                self._assign(name, np.asarray(value.data, getattr(self, name).dtype))
        del self._arguments
        setattr(self, self.size, input.shape[self.place])
        self.__class__ = self.becomes

    def forward(self, *inputs: Any) -> Any:
        self.initialize_parameters(*inputs[:1])
        return self.forward(*inputs)


class LazyLinear(_Lazy, Linear):
    place = -1


class LazyConv1d(_Lazy, Conv1d):
    place = -2


class LazyConv2d(_Lazy, Conv2d):
    place = -3


class LazyConvTranspose1d(_Lazy, ConvTranspose1d):
    place = -2


class LazyConvTranspose2d(_Lazy, ConvTranspose2d):
    place = -3


class LazyBatchNorm1d(_Lazy, BatchNorm1d):
    place = 1


class LazyBatchNorm2d(_Lazy, BatchNorm2d):
    place = 1


class LazyInstanceNorm1d(_Lazy, InstanceNorm1d, affine=True, track_running_stats=True):
    place = -2


class LazyInstanceNorm2d(_Lazy, InstanceNorm2d, affine=True, track_running_stats=True):
    place = -3
