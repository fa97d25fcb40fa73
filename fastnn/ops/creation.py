"""New tensors: of given numbers, of one number, of a sequence, of random numbers.

Sizes are given one by one or as one tuple or list. `dtype` is a type of fnn or NumPy; left out, floats are of the
default type (float32), whole numbers int64. `device` is the CPU, `requires_grad` asks for a gradient; `layout`,
`pin_memory`, `memory_format` and `out` are PyTorch's, and only taken where they ask for nothing. Random numbers come
from the streams that `fnn.manual_seed` starts, new ones at every call, in a compiled model, too; or from `generator`.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.arrays import Size, as_array, check_size
from fastnn.checks import is_number, is_whole, number, shown, whole
from fastnn.devices import cpu_only
from fastnn.dtypes import dtype_of, get_default_dtype
from fastnn.errors import ArgumentError, DTypeError, ShapeError
from fastnn.habits import check_options
from fastnn.ops.common import check_held, number_as, tensor_of
from fastnn.ops.draws import Permutation, RandintLike, RandLike, RandnLike, drawn
from fastnn.ops.names import of
from fastnn.tensors import Array, Function, Tensor

if not TYPE_CHECKING:
    __all__ = of("creation")

_TAKEN: dict[str, Any] = {"layout": None, "pin_memory": False, "memory_format": None, "out": None}


def made_of(op: str, array: Any, dtype: Any, device: Any, requires_grad: bool, rest: dict[str, Any]) -> Tensor:
    """The array as a tensor of that type; raises TypeError for options that nobody has."""
    unknown = set(rest) - set(_TAKEN)
    if unknown:
        raise TypeError(f"{op}() got an unexpected keyword argument {unknown.pop()!r}")
    check_options(op, **{name: value for name, value in rest.items() if name != "pin_memory"})
    cpu_only(op, device)
    wanted = dtype_of(op, dtype)
    return Tensor(array if wanted is None else array.astype(wanted, copy=False), requires_grad)


def sizes(op: str, size: tuple[Any, ...]) -> tuple[int, ...]:
    """A shape, given as integers one by one or as one tuple or list."""
    given = size[0] if len(size) == 1 and not is_whole(size[0]) else size
    if not isinstance(given, (tuple, list)) or not all(is_whole(each) for each in given):
        raise ArgumentError(f"{op}: expected sizes as integers, got {', '.join(map(repr, size)) or 'none'}")
    if any(each < 0 for each in given):
        raise ShapeError(f"{op}: expected sizes of at least 0, got {tuple(given)}")
    shape = tuple(map(operator.index, given))
    check_size(op, shape)
    return shape


# ---- of given numbers ------------------------------------------------------------------------------------------------


def tensor(data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, **rest: Any) -> Tensor:
    """A tensor of a copy of `data`: a number, nested lists of numbers or tensors, an array, a tensor.

    Python's floats are of the default type, ints int64; arrays and tensors keep theirs.

    >>> import fastnn as fnn
    >>> fnn.tensor([[1, 2], [3, 4]]), fnn.tensor(0.5, requires_grad=True)
    (Tensor([[1, 2],
            [3, 4]], dtype=int64), Tensor(0.5, requires_grad=True))
    """
    found, typed = _array_of(data)
    if dtype is None and not typed and found.dtype.kind == "f":
        dtype = get_default_dtype()
    wanted = dtype_of("tensor", dtype)
    if found.dtype.kind not in "fiub":
        raise DTypeError(f"Tensor: expected float32, float64, integers or booleans, got {found.dtype}")
    if wanted is not None and wanted.kind in "iu" and not hasattr(data, "dtype") and found.dtype != wanted:
        check_held("tensor", found, wanted)
    return made_of("tensor", np.array(found, wanted), None, device, requires_grad, rest)


def _array_of(data: Any) -> tuple[Array, bool]:
    """`data` as an array, and whether it has a type of its own."""
    if isinstance(data, Tensor):
        return data.detach().data, True
    if isinstance(data, (list, tuple)):
        if not len(data):
            return np.empty(0, get_default_dtype()), False
        kinds = _kinds(data)
        if any(issubclass(kind, Tensor) for kind in kinds):
            types: set[np.dtype[Any]] = set()
            entries = as_array(_untaped(data, types))
            return entries.astype(_common(types)), True
        if len(kinds) > 1 and any(issubclass(kind, np.generic) for kind in kinds) and not kinds & {np.ndarray}:
            entries, numbers = as_array(data), kinds - {list, tuple}
            if entries.dtype.kind in "fiub":
                types = {get_default_dtype() if kind is float else np.dtype(kind) for kind in numbers}
                return entries.astype(_common(types)), True
        first = data
        while isinstance(first, (list, tuple)) and len(first):
            first = first[0]
        return as_array(data), hasattr(first, "dtype")
    return as_array(data), hasattr(data, "dtype")


def _common(types: set[np.dtype[Any]]) -> np.dtype[Any]:
    """The type of all: whole numbers do not count beside floating ones."""
    return np.result_type(*({each for each in types if each.kind == "f"} or types))


def _kinds(data: Any) -> set[type]:
    """The types of what nested lists hold."""
    kinds = set(map(type, data))
    for entry in data if kinds & {list, tuple} else ():
        if isinstance(entry, (list, tuple)):
            kinds |= _kinds(entry)
    return kinds


def _untaped(data: Any, types: set[np.dtype[Any]]) -> Any:
    """Nested lists with arrays in the place of tensors; `types` takes in what their entries would be alone."""
    if isinstance(data, (list, tuple)):
        return [_untaped(entry, types) for entry in data]
    if isinstance(data, Tensor):
        types.add(data.dtype)
        array = data.detach().data
        return array.reshape(()) if array.size == 1 else array  # one number, whatever its dimensions: as PyTorch
    types.add(get_default_dtype() if type(data) is float else as_array(data).dtype)
    return data


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """`data` as a tensor, without a copy where it is an array, or a tensor, of that type already.

    >>> import numpy as np, fastnn as fnn
    >>> array = np.zeros(2, np.float32)
    >>> fnn.as_tensor(array).numpy() is array
    True
    """
    wanted = dtype_of("as_tensor", dtype)
    cpu_only("as_tensor", device)
    if isinstance(data, Tensor):
        return data if wanted is None else data.astype(wanted)
    if isinstance(data, np.ndarray):
        return Tensor(data if wanted is None else data.astype(wanted, copy=False))
    return tensor(data, dtype=wanted)


def from_numpy(ndarray: Array) -> Tensor:
    """A tensor that shares the array's memory. Raises ArgumentError for anything but an array."""
    if not isinstance(ndarray, np.ndarray):
        raise ArgumentError(f"from_numpy: expected an array, got {type(ndarray).__name__}")
    return Tensor(ndarray)


# ---- of one number ---------------------------------------------------------------------------------------------------


def full(
    size: Any, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, **rest: Any
) -> Tensor:
    """`fill_value` everywhere, in the shape `size`; of the default type if it is a float, int64 or bool else.

    >>> import fastnn as fnn
    >>> fnn.full((2,), 0.5), fnn.full([2], 3).dtype
    (Tensor([0.5, 0.5]), dtype('int64'))
    """
    options = {"dtype": dtype, "device": device, "requires_grad": requires_grad, **rest}
    return _full("full", sizes("full", (size,)), fill_value, **options)


def _full(
    op: str, shape: tuple[int, ...], value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False,
    **rest: Any,
) -> Tensor:  # fmt: skip
    value = value.item() if isinstance(value, (Tensor, np.ndarray)) and math.prod(value.shape) == 1 else value
    if not (is_number(value) or isinstance(value, (bool, np.bool_))):
        raise ArgumentError(f"{op}: expected a number to fill with, got {shown(value)}")
    kind = dtype_of(op, dtype) or (get_default_dtype() if isinstance(value, (float, np.floating)) else None)
    if kind is not None:
        value = number_as(op, value, kind)
    return made_of(op, np.full(shape, value, kind), None, device, requires_grad, rest)


def _filled(name: str, value: float, doc: str) -> Callable[..., Tensor]:
    def made(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False, **rest: Any) -> Tensor:
        shape = sizes(name, (rest.pop("size"),) if "size" in rest else size)
        return _full(name, shape, value, dtype=dtype, device=device, requires_grad=requires_grad, **rest)

    made.__name__ = made.__qualname__ = name
    made.__doc__ = doc
    return made


zeros = _filled("zeros", 0.0, "Zeros in this shape, of the default type or `dtype`.")
ones = _filled("ones", 1.0, "Ones in this shape, of the default type or `dtype`.")
empty = _filled("empty", 0.0, "A tensor of this shape to be written to; it holds zeros, PyTorch's anything.")


def full_like(
    input: Any, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, **rest: Any
) -> Tensor:
    """`fill_value` everywhere, in the shape of `input`, of its type or `dtype`."""
    options = {"dtype": dtype, "device": device, "requires_grad": requires_grad, **rest}
    return _like("full_like", input, fill_value, **options)


def _like(op: str, input: Any, value: Any, dtype: Any = None, **options: Any) -> Tensor:
    x = tensor_of(input)
    return _full(op, x.shape, value, dtype=x.dtype if dtype is None else dtype, **options)


def zeros_like(input: Any, **options: Any) -> Tensor:
    """Zeros in the shape of `input`, of its type or `dtype`; the options of `full_like`."""
    return _like("zeros_like", input, 0, **options)


def ones_like(input: Any, **options: Any) -> Tensor:
    """Ones in the shape of `input`, of its type or `dtype`; the options of `full_like`."""
    return _like("ones_like", input, 1, **options)


def empty_like(input: Any, **options: Any) -> Tensor:
    """A tensor like `input` to be written to; it holds zeros. The options of `full_like`."""
    return _like("empty_like", input, 0, **options)


def new_full(input: Tensor, size: Any, fill_value: Any, *, dtype: Any = None, **options: Any) -> Tensor:
    """`fill_value` everywhere in the shape `size`, of this tensor's type or `dtype`."""
    return full(size, fill_value, dtype=input.dtype if dtype is None else dtype, **options)


def new_zeros(input: Tensor, *size: Any, dtype: Any = None, **options: Any) -> Tensor:
    """Zeros in the shape `size`, of this tensor's type or `dtype`."""
    return zeros(*size, dtype=input.dtype if dtype is None else dtype, **options)


def new_ones(input: Tensor, *size: Any, dtype: Any = None, **options: Any) -> Tensor:
    """Ones in the shape `size`, of this tensor's type or `dtype`."""
    return ones(*size, dtype=input.dtype if dtype is None else dtype, **options)


def new_empty(input: Tensor, *size: Any, dtype: Any = None, **options: Any) -> Tensor:
    """A tensor of the shape `size` and this tensor's type or `dtype`, to be written to; it holds zeros."""
    return empty(*size, dtype=input.dtype if dtype is None else dtype, **options)


def new(input: Tensor, *data: Any, device: Any = None) -> Tensor:
    """PyTorch's older maker, in this tensor's type: of sizes, `x.new(2, 3)` or `x.new(x.size())`, or of a copy of data.

    >>> import fastnn as fnn
    >>> fnn.zeros(2).new(1, 3).fill_(7), fnn.zeros(2).new([1, 2])
    (Tensor([[7., 7., 7.]]), Tensor([1., 2.]))
    """
    cpu_only("new", device)
    return of_old(input.dtype, *data)


def of_old(dtype: Any, *data: Any) -> Tensor:
    """What ``fnn.FloatTensor(...)`` makes: of sizes, zeros to be written to; else of a copy of data."""
    if data and (type(data[0]) is Size or all(isinstance(size, int) for size in data)):
        return empty(*data, dtype=dtype)
    return tensor(data[0] if data else [], dtype=dtype)


def new_tensor(input: Tensor, data: Any, *, dtype: Any = None, **options: Any) -> Tensor:
    """A copy of `data` as a tensor of this tensor's type or `dtype`."""
    return tensor(data, dtype=input.dtype if dtype is None else dtype, **options)


# ---- sequences -------------------------------------------------------------------------------------------------------


def arange(
    start: Any, end: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = None, requires_grad: bool = False,
    **rest: Any,
) -> Tensor:  # fmt: skip
    """start, start + step, ... below `end`; with one number, from 0. int64 of whole numbers, else the default type.

    >>> import fastnn as fnn
    >>> fnn.arange(3), fnn.arange(1, 2, 0.5)
    (Tensor([0, 1, 2], dtype=int64), Tensor([1. , 1.5]))
    """
    first, last = (0, start) if end is None else (start, end)
    bounds = [
        number("arange", name, value.item() if isinstance(value, Tensor) else value)
        for name, value in (("start", first), ("end", last), ("step", step))
    ]
    if bounds[2] == 0 or (bounds[1] - bounds[0]) / bounds[2] < 0:
        raise ArgumentError(f"arange: expected a step from start towards end, got {bounds[2]:g}")
    integers = all(isinstance(value, int) for value in bounds)
    count = max(0, math.ceil((bounds[1] - bounds[0]) / bounds[2]))
    check_size("arange", (count,))
    array = bounds[0] + np.arange(count) * bounds[2]
    own = np.int64 if integers else get_default_dtype()
    return made_of("arange", array, own if dtype is None else dtype, device, requires_grad, rest)


def linspace(
    start: float, end: float, steps: int, *, dtype: Any = None, device: Any = None, requires_grad: bool = False,
    **rest: Any,
) -> Tensor:  # fmt: skip
    """So many numbers at equal distances, from `start` to `end`, both among them.

    >>> import fastnn as fnn
    >>> fnn.linspace(0, 1, 3)
    Tensor([0. , 0.5, 1. ])
    """
    (count,) = sizes("linspace", (whole("linspace", "steps", steps, 0),))
    array = np.linspace(number("linspace", "start", start), number("linspace", "end", end), count)
    return made_of("linspace", array, get_default_dtype() if dtype is None else dtype, device, requires_grad, rest)


def logspace(
    start: float, end: float, steps: int, base: float = 10.0, *, dtype: Any = None, device: Any = None,
    requires_grad: bool = False, **rest: Any,
) -> Tensor:  # fmt: skip
    """So many powers of `base`, whose exponents go from `start` to `end` at equal distances.

    >>> import fastnn as fnn
    >>> fnn.logspace(0, 2, 3)
    Tensor([  1.,  10., 100.])
    """
    exponents = linspace(start, end, steps, dtype=np.float64).data
    powers = number("logspace", "base", base) ** exponents
    return made_of("logspace", powers, get_default_dtype() if dtype is None else dtype, device, requires_grad, rest)


def eye(
    n: int, m: int | None = None, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, **rest: Any
) -> Tensor:
    """The identity matrix (n, n), or (n, m) with ones on its diagonal."""
    rows, columns = sizes("eye", (n, n if m is None else m))
    wanted = get_default_dtype() if dtype is None else dtype
    return made_of("eye", np.eye(rows, columns), wanted, device, requires_grad, rest)


# ---- random numbers --------------------------------------------------------------------------------------------------


def _random(name: str, function: type[Function], doc: str) -> Any:
    def made(
        *size: Any, generator: Any = None, dtype: Any = None, device: Any = None, requires_grad: bool = False,
        **rest: Any,
    ) -> Tensor:  # fmt: skip
        shape = sizes(name, (rest.pop("size"),) if "size" in rest else size)
        wanted = dtype_of(name, dtype) or get_default_dtype()
        if wanted.kind != "f":
            raise DTypeError(f"{name}: expected float32 or float64, got {wanted}")
        found = drawn(function, name, shape, generator, dtype=wanted)
        made_of(name, np.zeros(0), None, device, False, rest)
        return found.requires_grad_(requires_grad) if requires_grad is not False else found

    made.__name__ = made.__qualname__ = name
    made.__doc__ = doc
    return made


rand = _random("rand", RandLike, "Numbers from [0, 1), all equally likely, in this shape.")
randn = _random("randn", RandnLike, "Standard normal numbers in this shape.")


def randint(low: int, high: Any = None, size: Any = None, *, generator: Any = None, dtype: Any = np.int64,
            device: Any = None, requires_grad: bool = False, **rest: Any) -> Tensor:  # fmt: skip
    """Whole numbers from low (0 if left out) to high - 1, all equally likely, in the shape `size`; int64.

    >>> import fastnn as fnn
    >>> fnn.randint(5, (2, 3)).shape, fnn.randint(3, 4, (2,))
    ((2, 3), Tensor([3, 3], dtype=int64))
    """
    if size is None:
        low, high, size = 0, low, high
    elif high is None:
        low, high = 0, low
    if not (is_whole(low) and is_whole(high) and low < high):
        raise ArgumentError(f"randint: expected integers low < high, got {low!r} and {high!r}")
    wanted = dtype_of("randint", dtype) or np.dtype(np.int64)
    attributes = {"low": operator.index(low), "high": operator.index(high), "dtype": wanted}
    found = drawn(RandintLike, "randint", sizes("randint", (size,)), generator, **attributes)
    made_of("randint", np.zeros(0), None, device, False, rest)
    return found.requires_grad_(requires_grad) if requires_grad is not False else found


def randint_like(input: Tensor, low: int, high: int | None = None, *, dtype: Any = None, **options: Any) -> Tensor:
    """Whole numbers from low (0 if left out) to high - 1 in the shape of `input`, of its type or `dtype`."""
    low, high = (0, low) if high is None else (low, high)
    like = tensor_of(input)
    return randint(low, high, like.shape, dtype=like.dtype if dtype is None else dtype, **options)


def randperm(n: int, *, generator: Any = None, dtype: Any = np.int64, device: Any = None, requires_grad: bool = False,
             **rest: Any) -> Tensor:  # fmt: skip
    """0 to n - 1 in random order, int64."""
    count = sizes("randperm", (n,) if is_whole(n) else ((n,),))
    found = drawn(Permutation, "randperm", count, generator, dtype=dtype_of("randperm", dtype))
    made_of("randperm", np.zeros(0), None, device, False, rest)
    return found.requires_grad_(requires_grad) if requires_grad is not False else found


def normal(mean: Any = 0.0, std: Any = 1.0, size: Any = None, *, generator: Any = None, **options: Any) -> Tensor:
    """Normal numbers: of tensors of means and standard deviations, one for each; of two numbers, in the shape `size`.

    >>> import fastnn as fnn
    >>> fnn.normal(fnn.zeros(3), 0.1).shape, fnn.normal(0.0, 1.0, (2, 2)).shape
    ((3,), (2, 2))
    """
    shape = size
    if size is None:
        if not any(isinstance(each, (Tensor, np.ndarray)) for each in (mean, std)):
            raise ArgumentError("normal: expected size=, or a tensor as mean or std")
        given = [tensor_of(each).shape for each in (mean, std)]
        try:
            shape = np.broadcast_shapes(*given)
        except ValueError:
            raise ShapeError(f"normal: expected shapes that broadcast, got {given[0]} and {given[1]}") from None
    if is_number(std):
        number("normal", "std", std, 0)
    like = next((each for each in (mean, std) if isinstance(each, Tensor)), None)
    asked = options.pop("requires_grad", False)
    dtype = options.pop("dtype", None) or (like.dtype if like is not None and like.dtype.kind == "f" else None)
    found = randn(*sizes("normal", (shape,)), generator=generator, dtype=dtype, **options) * std + mean
    return found.requires_grad_() if asked else found
