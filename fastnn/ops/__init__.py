"""Differentiable operators: functions of tensors (or of anything NumPy takes), by family.

Each file holds Functions, which say what they save and which kernels they call, and the functions that users call:
PyTorch's, by the same names. names.py says which of them are functions of fastnn and of fastnn.nn.functional, and
which are methods of tensors; a family is imported when one of its names is used first.
"""

from typing import TYPE_CHECKING, Any

from fastnn.habits import no_such_method
from fastnn.ops import arithmetic, logic, names, places, shaping, ufuncs
from fastnn.ops.dense import matmul
from fastnn.ops.in_place import SPECIAL as _UPDATES
from fastnn.tensors import Tensor

if TYPE_CHECKING:
    from fastnn.ops.activations import *  # noqa: F403
    from fastnn.ops.arithmetic import *  # noqa: F403
    from fastnn.ops.arranging import *  # noqa: F403
    from fastnn.ops.attention import *  # noqa: F403
    from fastnn.ops.conv import *  # noqa: F403
    from fastnn.ops.creation import *  # noqa: F403
    from fastnn.ops.dense import *  # noqa: F403
    from fastnn.ops.draws import *  # noqa: F403
    from fastnn.ops.elementwise import *  # noqa: F403
    from fastnn.ops.elimination import *  # noqa: F403
    from fastnn.ops.gamma import *  # noqa: F403
    from fastnn.ops.inverse_erf import *  # noqa: F403
    from fastnn.ops.joining import *  # noqa: F403
    from fastnn.ops.logic import *  # noqa: F403
    from fastnn.ops.lookup import *  # noqa: F403
    from fastnn.ops.loss import *  # noqa: F403
    from fastnn.ops.loss_entries import *  # noqa: F403
    from fastnn.ops.loss_margins import *  # noqa: F403
    from fastnn.ops.loss_sequences import *  # noqa: F403
    from fastnn.ops.matrices import *  # noqa: F403
    from fastnn.ops.moving import *  # noqa: F403
    from fastnn.ops.nonlinear import *  # noqa: F403
    from fastnn.ops.norms import *  # noqa: F403
    from fastnn.ops.padding import *  # noqa: F403
    from fastnn.ops.places import *  # noqa: F403
    from fastnn.ops.pool import *  # noqa: F403
    from fastnn.ops.products import *  # noqa: F403
    from fastnn.ops.reductions import *  # noqa: F403
    from fastnn.ops.resizing import *  # noqa: F403
    from fastnn.ops.sample_norm import *  # noqa: F403
    from fastnn.ops.sampling import *  # noqa: F403
    from fastnn.ops.shaping import *  # noqa: F403
    from fastnn.ops.similarity import *  # noqa: F403
    from fastnn.ops.sorting import *  # noqa: F403
    from fastnn.ops.special import *  # noqa: F403
    from fastnn.ops.windows import *  # noqa: F403
    from fastnn.ops.writing import *  # noqa: F403

if not TYPE_CHECKING:  # which would take a list that it cannot read for an empty one
    __all__ = sorted(names.FORMS)


def __getattr__(name: str) -> Any:
    if name not in names.FORMS:
        raise AttributeError(f"module 'fastnn.ops' has no attribute {name!r}")
    value = names.find(name)
    globals()[name] = value
    return value


class _Late:
    """A method that is looked up in the table when it is used first, and then stands in this one's place."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, tensor: Any, owner: type) -> Any:
        setattr(Tensor, self.name, names.method(self.name))
        return getattr(owner if tensor is None else tensor, self.name)


def _no_such_method(x: Tensor, name: str) -> Any:
    raise no_such_method(x.__class__.__name__, name)  # type may be the operator here, by __getattr__


def _updating(name: str) -> Any:
    """``x &= y`` and its like, which write into x itself as the method `name` does: whoever holds x sees it."""
    return lambda a, b: getattr(a, name)(b)


# What Python and NumPy call by themselves, and properties.
_SPECIAL: dict[str, Any] = {
    **arithmetic.SPECIAL,
    **_UPDATES,
    **logic.SPECIAL,
    **places.SPECIAL,
    **shaping.SPECIAL,
    "__getattr__": _no_such_method,
    "__array_ufunc__": ufuncs.array_ufunc,
    "__array_function__": ufuncs.array_function,
    "__matmul__": matmul,
    "__rmatmul__": lambda b, a: matmul(a, b),
    "__floordiv__": lambda a, b: names.find("floor_divide")(a, b),
    "__rfloordiv__": lambda a, b: names.find("floor_divide")(b, a),
    "__mod__": lambda a, b: names.find("remainder")(a, b),
    "__rmod__": lambda a, b: names.find("remainder")(b, a),
    "__ifloordiv__": _updating("floor_divide_"),
    "__imod__": _updating("remainder_"),
    "__ipow__": _updating("pow_"),
    "__iand__": _updating("bitwise_and_"),
    "__ior__": _updating("bitwise_or_"),
    "__ixor__": _updating("bitwise_xor_"),
    "__ilshift__": _updating("bitwise_left_shift_"),
    "__irshift__": _updating("bitwise_right_shift_"),
}
for _name, _method in _SPECIAL.items():
    setattr(Tensor, _name, _method)
for _name in names.methods():
    setattr(Tensor, _name, _late := _Late())
    _late.__set_name__(Tensor, _name)
