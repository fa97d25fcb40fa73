"""Types and memory of tensors: casts by name, and what programs ask about layout, of which there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.arrays import is_shared as in_shared_memory
from fastnn.arrays import shared_copy
from fastnn.dtypes import OF_TENSORS, dtype_of
from fastnn.ops.common import axis, tensor_of
from fastnn.ops.names import of
from fastnn.ops.shaping import Reshape, apart, reshape
from fastnn.tape import tracer
from fastnn.tensors import Tensor

if not TYPE_CHECKING:
    __all__ = of("casting")


def _cast(name: str, dtype: Any, doc: str) -> Any:
    def operator(input: Tensor) -> Tensor:
        return input.astype(dtype)

    operator.__name__ = operator.__qualname__ = name
    operator.__doc__ = doc
    return operator


bool = _cast("bool", np.bool_, "True where the entry is not 0.")
byte = _cast("byte", np.uint8, "The numbers as uint8.")
char = _cast("char", np.int8, "The numbers as int8.")
int = _cast("int", np.int32, "The numbers as int32.")
short = _cast("short", np.int16, "The numbers as int16.")


def type(input: Tensor, dtype: Any = None) -> Any:
    """The numbers in another type, a dtype or PyTorch's old name of it; without one, that old name.

    >>> import fastnn as fnn
    >>> x = fnn.tensor([1.5])
    >>> x.type(), x.type(fnn.long), x.type("torch.DoubleTensor").dtype
    ('torch.FloatTensor', Tensor([1], dtype=int64), dtype('float64'))
    """
    if dtype is None:
        found = [name for name, each in OF_TENSORS.items() if each == input.dtype]
        return f"torch.{found[0]}" if found else str(input.dtype)
    name = str(getattr(dtype, "__name__", dtype)).rpartition(".")[2]
    wanted = dtype_of("type", OF_TENSORS.get(name, dtype))
    assert wanted is not None
    return input.astype(wanted)


def type_as(input: Tensor, other: Tensor) -> Tensor:
    """The numbers in the type of `other`."""
    return tensor_of(input).astype(tensor_of(other).dtype)


def view_as(input: Tensor, other: Tensor) -> Tensor:
    """The entries in the shape of `other`."""
    return reshape(input, tensor_of(other).shape)


def is_floating_point(input: Tensor) -> Any:
    """Whether it holds float32 or float64."""
    return tensor_of(input).dtype.kind == "f"


def is_signed(input: Tensor) -> Any:
    """Whether the type has negative numbers."""
    return tensor_of(input).dtype.kind in "if"


def is_complex(input: Tensor) -> Any:
    """False: there are no complex numbers."""
    return False


def is_nonzero(input: Tensor) -> Any:
    """Whether its one entry is not 0; ShapeError if there are more."""
    return tensor_of(input).__bool__()


def clone(input: Tensor, *, memory_format: Any = None) -> Tensor:
    """A copy of the data that gradients pass through."""
    return tensor_of(input).clone()


def detach(input: Tensor) -> Tensor:
    """The same data, off the tape."""
    return tensor_of(input).detach()


def numel(input: Tensor) -> Any:
    """The number of entries."""
    return tensor_of(input)._data.size


nelement = numel


def ndimension(input: Tensor) -> Any:
    """The number of dimensions."""
    return input.ndim


def element_size(input: Tensor) -> Any:
    """The bytes of one entry."""
    return input.dtype.itemsize


def stride(input: Tensor, dim: Any = None) -> Any:
    """How many entries lie between neighbours along each dimension, or along `dim`."""
    strides = tuple(each // input.dtype.itemsize for each in input._data.strides)
    return strides if dim is None else strides[axis("stride", dim, len(strides))]


def data_ptr(input: Tensor) -> Any:
    """The address of the first entry."""
    return input.detach().numpy().ctypes.data


def contiguous(input: Tensor, memory_format: Any = None) -> Tensor:
    """The tensor itself where its entries lie in order, without gaps; else a copy where they do.

    >>> import fastnn as fnn
    >>> x = fnn.zeros(2, 3)
    >>> x.contiguous() is x, x.T.contiguous().is_contiguous()
    (True, True)
    """
    if tracer() is not None or input._data.flags.c_contiguous:  # what a plan reads it copies as it needs it
        return input
    return apart(Reshape.apply(input, shape=input.shape), order="C")


def is_contiguous(input: Tensor, memory_format: Any = None) -> Any:
    """Whether the entries lie in order, without gaps."""
    return input._data.flags.c_contiguous


def share_memory_(input: Tensor) -> Tensor:
    """The tensor itself, its entries from now on in memory that processes forked from this one have in common with it.

    >>> import fastnn as fnn
    >>> fnn.zeros(2).share_memory_().is_shared()
    True
    """
    input._data = shared_copy(input._data)
    return input


def is_shared(input: Tensor) -> Any:
    """Whether `share_memory_` has moved it, or what it is a view of."""
    return in_shared_memory(input._data)


def pin_memory(input: Tensor, device: Any = None) -> Tensor:
    """The tensor itself: there is no other device to copy to."""
    return input


def is_pinned(input: Tensor, device: Any = None) -> Any:
    """False."""
    return False


def get_device(input: Tensor) -> Any:
    """-1, as PyTorch says of the CPU."""
    return -1
