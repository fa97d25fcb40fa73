"""Tensor: an array on the tape; and Function, what is recorded there."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fastnn.arrays import Size, as_array, without_subclass, zeros_of_sizes
from fastnn.checks import flag
from fastnn.devices import CPU, device, no_half, no_such_device
from fastnn.dtypes import get_default_dtype, numeric
from fastnn.errors import ArgumentError, DTypeError, GraphError, ShapeError
from fastnn.hooks import Hookable
from fastnn.recording import state
from fastnn.tape import Array, Context, Node, computing_dtype, no_grad, recording, run_backward, tracer
from fastnn.values import Values, plain
from fastnn.versions import recorded, wrote
from fastnn.views import renew

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

__all__ = ["Array", "Context", "Function", "Size", "Tensor", "no_grad"]


def _as_array(data: Any) -> Array:
    """NumPy's view of `data`: float32 and float64 stay, integers and booleans stay, Python floats become float32."""
    array = as_array(data)
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind in "iub" or (type(data) is np.ndarray and array.dtype.char in "fd" and array.dtype.isnative):
        return array
    if kind != "f" or size > 8:
        raise DTypeError(f"Tensor: expected float32, float64, integers or booleans, got {array.dtype}")
    precise = size >= 4 and hasattr(data, "dtype")  # numbers and lists of numbers have no precision of their own
    return array.astype(f"f{size}" if precise else get_default_dtype(), copy=False)


def _is_all_of(value: Any, array: Array | None) -> bool:
    """Whether it is that array, or the Values of it, whole."""
    if array is None or type(value) is not Values:
        return array is not None and value is array
    return value.base is array and value.shape == array.shape and value.strides == array.strides


class Tensor(Hookable):
    """An array that can remember how it was computed.

    `data` is anything NumPy takes: float32 and float64 arrays and integers keep their type (no copy is made), lists of
    floats become float32; sizes, as in ``Tensor(2, 3)``, give a tensor of that shape to be written to, which holds
    zeros. `data` stays a live, writable ndarray; `grad` is an ndarray of the same shape and type once
    backward() has run, `None` before. What is assigned to either is cast to the tensor's type, and must have its shape
    (ShapeError). `x += y`, `-=`, `*=` and `/=` write into `data`, which they may only off the tape (GraphError): under
    no_grad, or where no gradient is required. backward() raises GraphError where it would read what fastnn has written
    to since, through this tensor or a view; what NumPy writes by itself, ``x.data[0] = 1``, is not noticed.

    Raises DTypeError for complex numbers, objects and text, and for `requires_grad=True` on integers.

    >>> import fastnn as fnn
    >>> w = fnn.Tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> (w * w).sum().backward()
    >>> w.grad
    array([2., 4., 6.], dtype=float32)
    """

    __slots__ = ("__dict__", "__weakref__", "_data", "_grad", "_requires_grad", "_view", "node")  # and marks

    if TYPE_CHECKING:  # what fastnn.ops hangs on; this file need not know it

        def __add__(self, other: Any) -> Tensor: ...
        def __radd__(self, other: Any) -> Tensor: ...
        def __sub__(self, other: Any) -> Tensor: ...
        def __rsub__(self, other: Any) -> Tensor: ...
        def __mul__(self, other: Any) -> Tensor: ...
        def __rmul__(self, other: Any) -> Tensor: ...
        def __truediv__(self, other: Any) -> Tensor: ...
        def __rtruediv__(self, other: Any) -> Tensor: ...
        def __pow__(self, other: Any) -> Tensor: ...
        def __rpow__(self, other: Any) -> Tensor: ...
        def __matmul__(self, other: Any) -> Tensor: ...
        def __rmatmul__(self, other: Any) -> Tensor: ...
        def __lt__(self, other: Any) -> Tensor: ...
        def __le__(self, other: Any) -> Tensor: ...
        def __gt__(self, other: Any) -> Tensor: ...
        def __ge__(self, other: Any) -> Tensor: ...
        def __getitem__(self, index: Any) -> Tensor: ...
        def __setitem__(self, index: Any, value: Any) -> None: ...
        def __iter__(self) -> Iterator[Tensor]: ...
        def __len__(self) -> int: ...
        def size(self, dim: int | None = None) -> Any: ...
        def __eq__(self, other: Any) -> Tensor: ...  # type: ignore[override]
        def __ne__(self, other: Any) -> Tensor: ...  # type: ignore[override]
        def __and__(self, other: Any) -> Tensor: ...
        def __or__(self, other: Any) -> Tensor: ...
        def __xor__(self, other: Any) -> Tensor: ...
        def __invert__(self) -> Tensor: ...
        def __mod__(self, other: Any) -> Tensor: ...
        def __floordiv__(self, other: Any) -> Tensor: ...
        def __iadd__(self, other: Any) -> Tensor: ...
        def __isub__(self, other: Any) -> Tensor: ...
        def __imul__(self, other: Any) -> Tensor: ...
        def __itruediv__(self, other: Any) -> Tensor: ...
        def __neg__(self) -> Tensor: ...
        def __abs__(self) -> Tensor: ...
        def __getattr__(self, name: str) -> Any: ...  # all others that stand in fastnn/ops/names.py
        def abs(self) -> Tensor: ...
        def exp(self) -> Tensor: ...
        def log(self) -> Tensor: ...
        def sqrt(self) -> Tensor: ...
        def relu(self) -> Tensor: ...
        def sigmoid(self) -> Tensor: ...
        def tanh(self) -> Tensor: ...
        def softmax(self, dim: int = -1) -> Tensor: ...
        def log_softmax(self, dim: int = -1) -> Tensor: ...
        def matmul(self, other: Any) -> Tensor: ...
        def sum(self, dim: Any = None, keepdim: bool = False) -> Tensor: ...
        def mean(self, dim: Any = None, keepdim: bool = False) -> Tensor: ...
        def argmax(self, dim: int | None = None, keepdim: bool = False) -> Tensor: ...
        def reshape(self, *shape: Any) -> Tensor: ...
        def view(self, *shape: Any) -> Tensor: ...
        def squeeze(self, dim: int | None = None) -> Tensor: ...
        def unsqueeze(self, dim: int) -> Tensor: ...
        def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Tensor: ...
        def transpose(self, dim0: int, dim1: int) -> Tensor: ...
        def permute(self, *dims: Any) -> Tensor: ...
        def t(self) -> Tensor: ...
        @property
        def T(self) -> Tensor: ...

    def __init__(self, data: Any = (), requires_grad: bool | int = False, *sizes: int) -> None:
        if type(data) in (int, Size):  # PyTorch's Tensor(2, 3), or Tensor(x.size())
            data, requires_grad = zeros_of_sizes(get_default_dtype(), data, requires_grad, *sizes)
        elif sizes or not isinstance(requires_grad, (bool, np.bool_)):
            got = ", ".join(map(repr, (data, requires_grad, *sizes)))
            raise ArgumentError(f"Tensor: expected data and requires_grad=True or False, or sizes, got {got}")
        if isinstance(data, Tensor):
            given, data = data, data.numpy()
            check_off_tape("Tensor(tensor)", given)
        self._data: Array = _as_array(data)
        self._grad: Array | None = None
        self.node: Node | None = None
        self._view: tuple[Any, ...] | None = None  # see fastnn/views.py
        self._requires_grad = False
        if requires_grad:
            self.requires_grad_()
        if (recorder := state.tracer) is not None:
            recorder.made(self)

    # ---- what it is ------------------------------------------------------------------------------------------------

    def _get_data(self) -> Values:
        return self._data.view(Values)

    def _get_grad(self) -> Values | None:
        grad = self._grad
        return grad.view(Values) if isinstance(grad, np.ndarray) else grad

    def _set_data(self, value: Any) -> None:
        if _is_all_of(value, self._data):  # x.data += y: Python hands back what it has changed in place
            wrote(self._data)
        else:
            if (recorder := tracer()) is not None:
                recorder.refuse_writing()
            self._data = self._like("data", value)

    def _set_grad(self, value: Any) -> None:
        if value is not None and _is_all_of(value, self._grad):
            wrote(self._grad)
        else:
            self._grad = None if value is None else self._like("grad", value)

    def _like(self, name: str, value: Any) -> Array:
        """`value` as an array of this tensor's shape and type: itself if it is one."""
        array = value.numpy() if isinstance(value, Tensor) else _as_array(value)
        if array.shape != self._data.shape:
            raise ShapeError(f".{name}: expected shape {self._data.shape}, got {array.shape}")
        if array.dtype.kind == "f" and self._data.dtype.kind != "f":
            raise DTypeError(f".{name}: expected {self._data.dtype}, got {array.dtype}")
        return array.astype(self._data.dtype, copy=False)

    if TYPE_CHECKING:
        data: Any
        grad: Any
    else:
        data = property(_get_data, _set_data, doc="The live, writable ndarray, with a tensor's methods: see Values.")
        grad = property(_get_grad, _set_grad, doc="The gradient, such an ndarray, or None.")

    @property
    def device(self) -> device:
        """Always the CPU, which equals "cpu"."""
        return CPU

    is_cuda = is_sparse = is_quantized = property(lambda self: False)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._data.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._data.dtype

    @property
    def ndim(self) -> int:
        return self._data.ndim

    @property
    def requires_grad(self) -> bool:
        if recorded:
            renew(self)
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    @property
    def is_leaf(self) -> bool:
        """True unless an operator on the tape computed it."""
        if recorded:
            renew(self)
        return self.node is None

    def dim(self) -> int:
        return self._data.ndim

    def __repr__(self) -> str:
        return str(import_module("fastnn.printing").exact(self))

    def __str__(self) -> str:
        return str(import_module("fastnn.printing").text(self))

    # ---- out of the tape -------------------------------------------------------------------------------------------

    def numpy(self, *, force: builtins.bool = False) -> Array:
        """The live ndarray itself, not a copy; `force` says nothing."""
        return self._data

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        """What NumPy's functions see. Raises GraphError where the tape would be cut without a word."""
        check_off_tape("NumPy (np.asarray)", self)
        array = self._data if dtype is None else self._data.astype(dtype, copy=False)
        return array.copy() if copy else array

    def item(self) -> Any:
        """The one entry as a Python number; ShapeError if there are more."""
        if self._data.size != 1:
            raise ShapeError(f"item: expected a tensor with one entry, got shape {self.shape}")
        return self._data.item()

    def tolist(self) -> Any:
        return self._data.tolist()

    def __float__(self) -> builtins.float:
        return builtins.float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __format__(self, spec: str) -> str:
        """f"{loss:.3f}" for a tensor with one entry; of no dimensions, f"{loss}" is the number, too."""
        return format(self.item(), spec) if spec or (type(self) is Tensor and self.ndim == 0) else str(self)

    def __bool__(self) -> bool:
        if self._data.size != 1:
            raise ShapeError(f"bool: expected a tensor with one entry, got shape {self.shape}: use .any() or .all()")
        return bool(self._data.item())

    def detach(self) -> Tensor:
        """The same data, off the tape."""
        cut = Tensor(self._data)
        return cut if state.tracer is None else state.tracer.detached(cut, self)

    def clone(self, *, memory_format: Any = None) -> Tensor:
        """A copy of the data that gradients pass through."""
        return self | False if self.dtype == np.bool_ else self * 1

    # ---- PyTorch's habits ------------------------------------------------------------------------------------------

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Ask for (or renounce) a gradient; a leaf only."""
        requires_grad = flag("requires_grad_", "requires_grad", requires_grad)
        if not requires_grad and not self.is_leaf:
            raise GraphError("requires_grad can only be switched off on leaves: use .detach()")
        if requires_grad and self._data.dtype.kind != "f":
            raise DTypeError(f"requires_grad: expected float32 or float64, got {self.dtype}")
        self._requires_grad = requires_grad
        return self

    def zero_grad(self) -> None:
        self.grad = None

    def cpu(self) -> Tensor:
        return self

    def cuda(self, *_: Any, **__: Any) -> Tensor:
        raise no_such_device("cuda", ".cuda()")

    def to(
        self, *target: Any, device: Any = None, dtype: Any = None, non_blocking: bool = False, copy: bool = False,
        memory_format: Any = None,
    ) -> Tensor:  # fmt: skip
        """Itself on the CPU; its numbers in the type that is asked for: a dtype, or that of another tensor.

        >>> import fastnn as fnn
        >>> x = fnn.tensor([1.5])
        >>> x.to("cpu") is x, x.to(fnn.device("cpu"), fnn.int64), x.to(fnn.tensor([True])).dtype
        (True, Tensor([1], dtype=int64), dtype('bool'))
        """
        wanted = target_dtype(*target, device, dtype)
        if wanted is None or wanted == self.dtype:
            return self.clone() if flag("to", "copy", copy) else self
        return self.astype(wanted)

    def float(self, memory_format: Any = None) -> Tensor:
        return self.astype(np.float32)

    def half(self) -> Tensor:
        raise no_half()

    def double(self, memory_format: Any = None) -> Tensor:
        return self.astype(np.float64)

    def long(self, memory_format: Any = None) -> Tensor:
        return self.astype(np.int64)

    def astype(self, dtype: DTypeLike) -> Tensor:
        """The same numbers in another type; gradients pass between float32 and float64."""
        own = self._data.dtype
        if dtype is own or (dtype is own.type and own.isnative):  # as a rule
            return self
        wanted = numeric("astype", dtype)
        return self if wanted == self.dtype else (Cast if wanted.kind == "f" else Round).apply(self, dtype=wanted)

    # ---- copies ----------------------------------------------------------------------------------------------------

    def __getstate__(self) -> tuple[Array, Array | None, bool, dict[str, Any]]:
        if not self.is_leaf:
            raise GraphError("copying or pickling a tensor that is on the tape: copy its .detach() instead")
        return self._data, self._grad, self._requires_grad, dict(vars(self))

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._data, self._grad, self._requires_grad, *marks = state  # older pickles have no marks
        self.__dict__.update(*marks)
        self.node = self._view = None

    # ---- backward --------------------------------------------------------------------------------------------------

    def backward(
        self, gradient: Any = None, retain_graph: bool | None = None, create_graph: bool = False, inputs: Any = None
    ) -> None:
        """Add the gradient of this tensor to `.grad` of every leaf that it was computed from and that asks for one.

        `gradient` (same shape; 1 if absent, which only a tensor with one entry may leave out) is where the chain rule
        starts. The graph is freed on the way, unless `retain_graph`. With `create_graph`, `.grad` is a tensor on the
        tape, which has derivatives itself; `inputs` names the tensors whose `.grad` is wanted alone. Raises GraphError
        if there is no graph, if it was freed already, or if a gradient is needed and absent; ShapeError for a gradient
        of another shape.
        """
        if flag("backward", "create_graph", create_graph) or inputs is not None:
            from fastnn.autograd.engine import backward

            backward(self, gradient, retain_graph, create_graph, inputs=inputs)
            return
        if not self.requires_grad:
            raise GraphError("backward: nothing here requires a gradient (no parameters, or under no_grad)")
        if gradient is None:
            if self._data.size != 1:
                raise GraphError(
                    f"backward: expected a scalar, got shape {self.shape}: reduce it with .mean() or .sum(), "
                    "or pass the gradient"
                )
            start = np.array(1, self.dtype).reshape(self.shape)
        else:
            given = gradient.numpy() if isinstance(gradient, Tensor) else as_array(gradient)
            numeric("backward", given.dtype)
            start = given.astype(self.dtype, copy=False)
            if start.shape != self.shape:
                raise ShapeError(f"backward: expected a gradient of shape {self.shape}, got {start.shape}")
        if self.node is None:
            from fastnn.autograd.engine import backward

            backward(self, start)
        else:
            run_backward(self.node, start, flag("backward", "retain_graph", retain_graph))


def check_off_tape(reader: str, x: Tensor) -> None:
    """GraphError where `reader` would cut `x`, which needs a gradient, off the tape."""
    if x.requires_grad and (recording() or tracer() is not None):
        raise GraphError(
            f"{reader} would cut a tensor that needs a gradient off the tape: use fastnn's operators (+, tensor.exp(), "
            "tensor.mean(), fnn.cat, fnn.stack, fnn.where, ...), or .detach() where no gradient is wanted"
        )


def target_dtype(*targets: Any) -> np.dtype[Any] | None:
    """What `.to(...)` asks for: a dtype, or None for the CPU; BackendError for any other device."""
    wanted = [found for found in map(_target, targets) if found is not None]
    return wanted[-1] if wanted else None


def _target(target: Any) -> np.dtype[Any] | None:
    if target is None or target is True or target is False or str(target) in ("cpu", "cpu:0"):
        return None
    if isinstance(target, Tensor):
        return target.dtype
    if str(target).split(":")[0] in ("cuda", "mps", "xpu", "gpu"):
        raise no_such_device(target, f".to({str(target)!r})")
    try:
        return np.dtype(target)
    except (SyntaxError, TypeError, ValueError):
        raise ArgumentError(f"to: expected 'cpu', 'float32' or 'float64', got {target!r}") from None


class Function:
    """An operator with a gradient. A new one takes ten lines:

    >>> import numpy as np
    >>> import fastnn as fnn
    >>> class Cube(fnn.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         ctx.save_for_backward(x)
    ...         return x ** 3
    ...     @staticmethod
    ...     def backward(ctx, grad):
    ...         (x,) = ctx.saved_tensors
    ...         return grad * 3 * x ** 2
    >>> x = fnn.Tensor([1.0, 2.0], requires_grad=True)
    >>> Cube.apply(x).sum().backward()
    >>> x.grad
    array([ 3., 12.], dtype=float32)
    >>> fnn.gradcheck(Cube.apply, np.array([1.0, 2.0]))
    True

    `forward(ctx, *inputs, **attributes)` sees ndarrays in the place of tensors and returns one ndarray;
    `backward(ctx, grad)` returns one gradient per input, in order (alone if there is one input), None where there is
    none. Neither writes to the arrays that it is given. `differentiable = False` is for those without a backward.
    """

    differentiable: ClassVar[bool] = True

    @staticmethod
    def forward(ctx: Context, *inputs: Any, **attributes: Any) -> Array:
        raise NotImplementedError("a Function needs a static method forward(ctx, *inputs)")

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Any:
        raise NotImplementedError("a Function needs a static method backward(ctx, grad)")

    @classmethod
    def apply(cls, *inputs: Any, **attributes: Any) -> Tensor:
        """Run forward on the inputs' arrays and, if any of them requires a gradient, record it on the tape."""
        if Values in map(type, inputs):
            inputs = tuple(map(plain, inputs))
        if (plan := state.tracer) is not None:
            return plan.record(cls, inputs, attributes)
        if recorded:
            for x in inputs:
                if isinstance(x, Tensor):
                    renew(x)
        on_tape = state.recording and cls.differentiable
        arrays = [x._data if isinstance(x, Tensor) else without_subclass(x) for x in inputs]
        needs = tuple([on_tape and isinstance(x, Tensor) and x._requires_grad for x in inputs])
        ctx = Context(computing_dtype(arrays), needs, attributes)
        output = Tensor.__new__(Tensor)
        output._data = np.asarray(cls.forward(ctx, *arrays, **attributes))
        output._grad = output._view = None
        output._requires_grad = needed = True in needs
        output.node = Node(cls, inputs, attributes, ctx) if needed else None
        return output


class Cast(Function):
    """Another floating type; the gradient is cast back by the tape."""

    @staticmethod
    def forward(ctx: Context, x: Array, *, dtype: np.dtype[Any]) -> Array:
        return x.astype(dtype)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        return grad


class Round(Function):
    """An integer type, or booleans: no gradient passes. Attribute: dtype."""

    differentiable = False

    @staticmethod
    def forward(ctx: Context, x: Array, *, dtype: np.dtype[Any]) -> Array:
        return x.astype(dtype)


Values.tensor = Tensor
