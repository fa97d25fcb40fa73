"""Values: the array behind `.data`, `.grad` and the entries of `state_dict()`, which answers as a tensor does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from fastnn.errors import DTypeError
from fastnn.tape import recording, traced_by

__all__ = ["Values", "plain"]

# What NumPy's functions pass to an array's method, and PyTorch's methods do not know.
_NUMPYS = frozenset(("axis", "ddof", "dtype", "initial", "keepdims", "kind", "order", "out", "stable", "where"))
# Methods that both have, and mean something else by: what is returned, the arguments, or the divisor of a variance.
_BOTH = (
    "all", "any", "argmax", "argmin", "argsort", "cumprod", "cumsum", "max", "mean", "min", "prod", "squeeze", "std",
    "sum", "var",
)  # fmt: skip
# Methods of a tensor that would be about another one, made for the call.
_NOT_FOR_ARRAYS = frozenset(("backward", "register_hook", "retain_grad", "zero_grad"))


class _Size(int):
    """The number of entries, as NumPy's ``array.size``; called, it is PyTorch's ``tensor.size()``."""

    shape: tuple[int, ...]

    def __call__(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else self.shape[dim]


class Values(np.ndarray):
    """A view of a tensor's memory: an ndarray in all respects, with a tensor's methods on top.

    What is written to it is written to the tensor. ``np.asarray(values)`` is a plain ndarray of the same memory, and
    so is ``tensor.numpy()``. A method that PyTorch alone has is the tensor's (``norm``, ``copy_``, ``add_``,
    ``clone``, ``abs``, ...); one that NumPy alone has is NumPy's. Where both have one of the same name, a call with
    NumPy's keywords (``axis=``, ``ddof=``, ``out=``, ...), as all of NumPy's functions make it, is NumPy's, any other
    is PyTorch's: ``values.std()`` divides by n - 1, ``np.std(values)`` by n; ``values.max(1)`` are the maxima with
    their places, ``values.max(axis=1)`` the maxima. ``view(2, 3)`` and ``transpose(0, 1)`` with whole numbers are
    PyTorch's, ``view(dtype)`` and ``transpose((1, 0))`` NumPy's, and so are ``flatten(1)`` and ``flatten()``, a copy.
    ``sort``, ``repeat`` and ``nonzero``, which NumPy's own functions call, are always NumPy's.

    >>> import numpy as np
    >>> from fastnn import nn
    >>> weight = nn.Parameter(np.array([[3.0, -4.0]]))
    >>> float(weight.data.abs().sum()), weight.data.size(1), weight.data.size
    (7.0, 2, 2)
    >>> weight.data.view(-1)[0] = 6
    >>> weight
    Parameter containing:
    tensor([[ 6., -4.]], requires_grad=True)
    """

    tensor: ClassVar[Any]  # fastnn.tensors.Tensor, which needs this file itself

    def __getattr__(self, name: str) -> Any:
        method = None if name.startswith("_") or name in _NOT_FOR_ARRAYS else getattr(self.tensor, name, None)
        if isinstance(method, property):
            return getattr(self.tensor(self), name)
        if name.startswith("resize_"):  # which would leave this one as it is
            raise AttributeError(f"{name}: x.data is an array, of a shape that stays: call it on the tensor, x.{name}")
        if callable(method):
            return lambda *args, **kwargs: self._as_tensor(name, args, kwargs)
        raise AttributeError(f"neither NumPy's arrays nor tensors have a method {name!r}")

    def _as_tensor(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the tensor's method returns, tensors without a gradient as Values."""
        with traced_by(None, recording=recording()):  # a trace may write to tensors that are made in it: not to this
            tensor = self.tensor(self)
        if any(isinstance(value, self.tensor) for value in (*args, *kwargs.values())):
            result = getattr(tensor, name)(*args, **kwargs)
        else:  # while a model is traced, too, arrays are values
            with traced_by(None, recording=recording()):
                result = getattr(tensor, name)(*args, **kwargs)
        if result is not tensor:
            return result if name.startswith("new") else _values(result)
        array = tensor.data  # of another shape after t_(), unsqueeze_() and the like: an array cannot take one itself
        return self if (array.shape, array.strides) == (self.shape, self.strides) else array

    def __getitem__(self, key: Any) -> Any:
        """One entry is Values without dimensions, which answer as a tensor does: ``buffer[3].sqrt()``; ``[()]`` is
        NumPy's scalar."""
        found = super().__getitem__(key)
        is_scalar = isinstance(found, np.generic) and not (type(key) is tuple and not key)
        return np.asarray(found).view(Values) if is_scalar else found

    def __hash__(self) -> int:  # type: ignore[override]
        """That of the number, for one entry without dimensions: in sets and dicts it is the number."""
        if self.ndim:
            raise DTypeError(f"hash: expected one number, got an array of shape {self.shape}: use x.tolist() or id(x)")
        return hash(self.item())

    def __int__(self) -> int:
        return int(self.item())  # of one entry in any number of dimensions, as a tensor's

    def __float__(self) -> float:
        return float(self.item())

    def __round__(self, ndigits: int | None = None) -> Any:
        return round(self.item(), ndigits)  # as of NumPy's scalars

    @property  # type: ignore[override]
    def data(self) -> Values:
        """Itself; what is assigned is written into it."""
        return self

    @data.setter
    def data(self, value: Any) -> None:
        if value is not self:  # values.data *= 2: Python hands back what it has changed in place
            self[...] = value

    @property
    def size(self) -> _Size:
        """The number of entries; ``size()`` is the shape, ``size(dim)`` one entry of it."""
        size = _Size(super().size)
        size.shape = self.shape
        return size

    def numpy(self) -> np.ndarray[Any, Any]:
        """A plain ndarray of the same memory."""
        return plain(self)

    def view(self, *args: Any, **kwargs: Any) -> Any:
        """PyTorch's, a new shape, for whole numbers; NumPy's for a type."""
        if args and (isinstance(args[0], int) or type(args[0]) in (tuple, list)):
            return self.reshape(*args)
        return super().view(*args, **kwargs)

    def transpose(self, *axes: Any) -> Any:
        """PyTorch's for two whole numbers, which change places; else NumPy's."""
        if len(axes) == 2 and all(isinstance(axis, int) for axis in axes):
            return self.swapaxes(*axes)
        return super().transpose(*axes)

    def flatten(self, *args: Any, **kwargs: Any) -> Any:
        """PyTorch's for a dimension to start from; else NumPy's copy, which its own functions sort in place."""
        if (args and isinstance(args[0], int)) or "start_dim" in kwargs:
            return self._as_tensor("flatten", args, kwargs)
        return super().flatten(*args, **kwargs)

    def __repr__(self) -> str:
        return repr(plain(self))

    def __str__(self) -> str:
        return str(self.tensor(self))

    def __reduce__(self) -> Any:
        return plain(self).__reduce__()  # pickles need no fastnn

    def __deepcopy__(self, memo: dict[int, Any] | None) -> Values:
        return np.array(self).view(Values)


def _of_both(name: str) -> Callable[..., Any]:
    numpys = getattr(np.ndarray, name)

    def method(self: Values, *args: Any, **kwargs: Any) -> Any:
        if _NUMPYS.isdisjoint(kwargs) and hasattr(self.tensor, name):
            return self._as_tensor(name, args, kwargs)
        return numpys(self, *args, **kwargs)

    method.__name__ = name
    method.__doc__ = f"PyTorch's ``tensor.{name}``; with NumPy's keywords, such as axis=, NumPy's ``array.{name}``."
    return method


for _name in _BOTH:
    setattr(Values, _name, _of_both(_name))


def _values(result: Any) -> Any:
    """A method's result with Values in the place of tensors, but for those that a gradient or a plan goes through."""
    if type(result) is Values.tensor:
        return result if result.requires_grad else result.data
    if isinstance(result, (tuple, list)):
        entries = [_values(entry) for entry in result]
        return type(result)(*entries) if hasattr(result, "_fields") else type(result)(entries)
    return result


def plain(array: Any) -> Any:
    """The ndarray that Values are the whole of, itself, or else a view; anything that is not Values as it is."""
    if type(array) is not Values:
        return array
    base = array.base
    if type(base) is np.ndarray and base.shape == array.shape and base.strides == array.strides:
        return base
    return np.asarray(array)
