"""What a module holds: parameters, buffers and other modules, each known by its name."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np

from fastnn.arrays import aligned, aligned_copy, as_array, check_size
from fastnn.checks import flag, text
from fastnn.dtypes import dtype_of, get_default_dtype
from fastnn.errors import ArgumentError, StateError
from fastnn.habits import check_options
from fastnn.hooks import Handle
from fastnn.tensors import Array, Tensor
from fastnn.values import Values

if TYPE_CHECKING:
    from fastnn.nn.module import Module

__all__ = ["MOST_LAYERS", "Members", "Parameter", "UninitializedParameter", "new_parameter"]


MOST_LAYERS = 10_000  # that one module makes: more is a mistake, and would take for ever

changes = itertools.count(1)


class Parameter(Tensor):
    """A tensor that a module learns: an attribute of this type is found by `parameters()`.

    Numbers and arrays become float32 (or what `fnn.set_default_dtype` says), also those of float64, which NumPy makes
    by default; `Module.double()` makes the parameters float64. A Tensor keeps its type. What is no array in row-major
    order that can be written to, such as x.t() or an expanded x, is copied, so that optimisers and plans can step it.

    >>> import numpy as np
    >>> from fastnn import nn
    >>> nn.Parameter(np.zeros(2, np.float32))
    Parameter containing:
    tensor([0., 0.], requires_grad=True)
    """

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        super().__init__(data.numpy() if isinstance(data, Tensor) else data)
        if not isinstance(data, (Tensor, Values)) and self.dtype.kind == "f":
            with np.errstate(invalid="ignore"):  # in memory that is yet to be initialised
                self._data = self._data.astype(get_default_dtype(), copy=False)
        if not self._data.flags.carray:
            self._data = aligned_copy(self._data, self.dtype)
        self.requires_grad_(requires_grad)

    def register_hook(self, hook: Any) -> Handle:
        handle = super().register_hook(hook)
        Members.changes = next(changes)  # a compiled step has to call it from now on
        return handle

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        data, twin = self._data, type(self).__new__(type(self))
        if id(data) not in memo:  # where no other parameter, tied to this one, has the same array
            memo[id(data)] = aligned_copy(data, data.dtype)
        memo[id(self)] = twin
        twin.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return twin

    def __str__(self) -> str:
        return f"Parameter containing:\n{super().__str__()}"

    __repr__ = __str__


def new_parameter(layer: object, shape: Sequence[int], fill: float | None = None) -> Parameter:
    """A parameter of the default type that holds `fill` everywhere, or what is to be initialised next.

    Raises ShapeError for sizes that no array can have.
    """
    check_size(type(layer).__name__, tuple(shape))
    array = aligned(shape, get_default_dtype())
    if fill is not None:
        array.fill(fill)
    return Parameter(array)


class UninitializedParameter(Parameter):
    """A parameter of a lazy layer before its first forward, when nobody knows its shape (StateError for who asks)."""

    __slots__ = ()

    def __init__(self, requires_grad: bool = True, device: Any = None, dtype: Any = None) -> None:
        check_options("UninitializedParameter", device=device)
        kind = dtype_of("UninitializedParameter", dtype) or get_default_dtype()
        super().__init__(Tensor(np.empty(0, kind)), requires_grad)

    @property
    def shape(self) -> tuple[int, ...]:
        raise StateError(
            "this parameter of a lazy layer has no shape before the first forward: call the model on a batch first"
        )

    def numel(self) -> int:
        return len(self.shape)  # which raises

    def materialize(self, shape: tuple[int, ...], device: Any = None, dtype: Any = None) -> None:
        """Makes it a Parameter of this shape, whose entries are yet to be written."""
        check_options("materialize", device=device)
        self._data = aligned(shape, dtype_of("materialize", dtype) or self.dtype)
        self.__class__ = Parameter  # type: ignore[assignment]  # the same object, which an optimiser may hold

    def __str__(self) -> str:
        return "<UninitializedParameter>"

    __repr__ = __str__


FORMER = {"_buffers": "_buffer_names"}  # attributes by their names in older pickles, and in model files


class _Held(MutableMapping[str, Any]):
    """PyTorch's ``module._modules``, ``_parameters`` or ``_buffers``: what a module holds of one kind, by its names.

    What is written to it, or deleted, is the module's.
    """

    def __init__(self, owner: Members, names: Callable[[], Iterable[str]], put: Callable[[str, Any], None]) -> None:
        self._owner, self._names, self._put = owner, names, put

    def __getitem__(self, name: str) -> Any:
        if name not in self._names():
            raise StateError(f"expected one of {', '.join(self._names()) or 'none'}, got {name!r}")
        return getattr(self._owner, name)

    def __setitem__(self, name: str, value: Any) -> None:
        self._put(name, value)

    def __delitem__(self, name: str) -> None:
        self[name]
        self._owner._buffer_names = tuple(known for known in self._owner._buffer_names if known != name)
        delattr(self._owner, name)

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._names()))

    def __len__(self) -> int:
        return len(tuple(self._names()))

    def __repr__(self) -> str:
        return repr(dict(self))


class Members:
    """The part of a Module that finds things by name. Attributes are kept where Python keeps them."""

    changes: ClassVar[int] = 0  # of attributes of any module: whoever relies on a model's structure watches this number
    _buffer_names: tuple[str, ...] = ()
    _transient: tuple[str, ...] = ()  # buffers that are not part of state_dict

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """The same as setting the attribute; None stands for a parameter that this layer goes without."""
        self._check_name(name)
        if name in self._buffer_names:
            raise ArgumentError(f"{type(self).__name__}: expected a name that is free, got {name!r}")
        setattr(self, name, param)

    def register_buffer(self, name: str, tensor: Any, persistent: bool = True) -> None:
        """An array that belongs to the state but is not learned, such as running means; None for one that is absent.

        `persistent=False` keeps it out of `state_dict`.
        """
        self._check_name(name)
        if isinstance(vars(self).get(name), (Parameter, Members)):
            raise ArgumentError(f"{type(self).__name__}: expected a name that is free, got {name!r}")
        persistent = flag("register_buffer", "persistent", persistent)
        given = tensor.numpy() if isinstance(tensor, Tensor) else tensor
        setattr(self, name, None if given is None else np.array(as_array(given)).view(Values))
        if name not in self._buffer_names:  # one that is registered again keeps its place
            self._buffer_names = (*self._buffer_names, name)
        kept_out = tuple(known for known in self._transient if known != name)
        self._transient = kept_out if persistent else (*kept_out, name)

    def add_module(self, name: str, module: Module) -> None:
        """The same as setting the attribute."""
        self._check_name(name)
        if not isinstance(module, Members):
            raise ArgumentError(f"{type(self).__name__}: expected a Module as {name!r}, got {_described(module)}")
        setattr(self, name, module)

    register_module = add_module

    @property
    def _modules(self) -> _Held:
        return _Held(self, lambda: self._names_of(Members), self.add_module)

    @property
    def _parameters(self) -> _Held:
        return _Held(self, lambda: self._names_of(Parameter), self.register_parameter)

    @property
    def _buffers(self) -> _Held:
        def put(name: str, value: Any) -> None:
            self.register_buffer(name, value, name not in self._transient)

        return _Held(self, lambda: self._buffer_names, put)

    def _names_of(self, kind: type) -> list[str]:
        return [name for name, value in vars(self).copy().items() if isinstance(value, kind)]

    def _check_name(self, name: str) -> None:
        if not isinstance(name, str) or not name or "." in name or (hasattr(self, name) and name not in vars(self)):
            raise ArgumentError(f"{type(self).__name__}: expected a name that is free and without dots, got {name!r}")

    def _check_kept(self, name: str, value: Any) -> None:
        """Raises ArgumentError where a value of another kind would take a parameter, module or buffer away, unseen."""
        old = vars(self).get(name)
        if old is None or value is None or isinstance(value, (Parameter, Members)):
            return
        if isinstance(old, Parameter):
            kind, expected, hint = "parameter", "nn.Parameter", f"; to change its values write {name}.data[...] = ..."
        elif isinstance(old, Members):
            kind, expected, hint = "module", "nn.Module", ""
        elif name in self._buffer_names and not hasattr(value, "dtype"):
            kind, expected, hint = "buffer", "an array, a tensor", f"; to change its values write {name}[...] = ..."
        else:
            return
        got = type(value).__name__
        raise ArgumentError(f"{type(self).__name__}.{name} is a {kind}: expected {expected} or None, got {got}{hint}")

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules held directly, each once."""
        seen = set()
        for name, value in vars(self).copy().items():  # a copy: another thread may set an attribute meanwhile
            if isinstance(value, Members) and id(value) not in seen:
                seen.add(id(value))
                yield name, cast("Module", value)

    def children(self) -> Iterator[Module]:
        """The modules held directly, each once."""
        for _, child in self.named_children():
            yield child

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """This module (named `prefix`) and all below it that are not in `memo`, each once, parents first."""
        check_options("named_modules", remove_duplicate=remove_duplicate)
        memo = set() if memo is None else memo
        if not isinstance(memo, set):
            raise ArgumentError(f"named_modules: expected memo to be a set, got {type(memo).__name__}")
        coming = [(text("named_modules", "prefix", prefix), cast("Module", self))]  # the next one last
        while coming:
            path, module = coming.pop()
            if module not in memo:
                memo.add(module)
                yield path, module
                coming += [(_joined(path, name), child) for name, child in module.named_children()][::-1]

    def modules(self, remove_duplicate: bool = True) -> Iterator[Module]:
        """This module and all below it, each once, parents first."""
        for _, module in self.named_modules(remove_duplicate=remove_duplicate):
            yield module

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Names as PyTorch's ("0.weight"); a parameter that several layers share comes once."""
        check_options("named_parameters", remove_duplicate=remove_duplicate)
        seen = set()
        for path, module in self._named_parts(prefix, recurse):
            for name, value in vars(module).copy().items():
                if isinstance(value, Parameter) and id(value) not in seen:
                    seen.add(id(value))
                    yield _joined(path, name), value

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """What an optimiser takes: every parameter once; without `recurse` those of this module alone."""
        for _, parameter in self.named_parameters(recurse=recurse):
            yield parameter

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Array]]:
        """Live arrays, by name."""
        check_options("named_buffers", remove_duplicate=remove_duplicate)
        for path, module in self._named_parts(prefix, recurse):
            for name in module._buffer_names:
                buffer = getattr(module, name)
                if buffer is not None:  # a Tensor, where forward has assigned what it computed
                    yield _joined(path, name), buffer.data if isinstance(buffer, Tensor) else buffer

    def _named_parts(self, prefix: str, recurse: bool) -> Iterator[tuple[str, Members]]:
        """All modules by name, or without `recurse` this one alone."""
        if flag("named_parameters, named_buffers", "recurse", recurse):
            yield from self.named_modules(prefix=prefix)
        else:
            yield text("named_parameters, named_buffers", "prefix", prefix), self

    def buffers(self, recurse: bool = True) -> Iterator[Array]:
        """Live arrays that belong to the state but are not learned."""
        for _, buffer in self.named_buffers(recurse=recurse):
            yield buffer

    # ---- by name ---------------------------------------------------------------------------------------------------

    def get_submodule(self, target: str) -> Module:
        """The module of this name ("0.linear"); "" is this module itself. Raises StateError for none.

        >>> from fastnn import nn
        >>> nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.Tanh())).get_submodule("1.0")
        Tanh()
        """
        found: Any = self
        for name in target.split(".") if text("get_submodule", "target", target) else ():
            found = vars(found).get(name)
            if not isinstance(found, Members):
                raise StateError(f"get_submodule: {type(self).__name__} has no module {target!r}")
        return found

    def set_submodule(self, target: str, module: Module, strict: bool = False) -> None:
        """Put a module in the place of this name, where one has to be already with `strict`."""
        path, _, name = text("set_submodule", "target", target).rpartition(".")
        if flag("set_submodule", "strict", strict):
            self.get_submodule(target)
        self.get_submodule(path).add_module(name, module)

    def get_parameter(self, target: str) -> Parameter:
        """The parameter of this name ("0.weight"). Raises StateError for none."""
        found = self._member("parameter", target)
        if not isinstance(found, Parameter):
            raise StateError(f"get_parameter: {type(self).__name__} has no parameter {target!r}")
        return found

    def get_buffer(self, target: str) -> Array:
        """The live array of this name ("1.running_mean"). Raises StateError for none."""
        path, _, name = text("get_buffer", "target", target).rpartition(".")
        found = self._member("buffer", target)
        if found is None or name not in self.get_submodule(path)._buffer_names:
            raise StateError(f"get_buffer: {type(self).__name__} has no buffer {target!r}")
        return found

    def _member(self, kind: str, target: str) -> Any:
        path, _, name = text(f"get_{kind}", "target", target).rpartition(".")
        return vars(self.get_submodule(path)).get(name)


def _joined(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _described(value: Any) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}: call it, {value.__name__}()"
    return f"a {type(value).__name__}: unpack it, *layers" if isinstance(value, (list, tuple)) else repr(value)


def beginning(given: Iterable[str], own: Iterable[str]) -> str:
    """What to say where the names given are a module's own but for what they begin with, as DataParallel's do."""
    given, own = list(given), list(own)
    for longer, shorter, what in ((given, own, "begin"), (own, given, "would have to begin")):
        start = min(longer, default="").partition(".")[0] + "."
        if shorter and {f"{start}{name}" for name in shorter} == set(longer):
            return f": all names given {what} with {start!r}, as those of a wrapper such as DataParallel"
    return ""
