"""Module: what computes with parameters, buffers and other modules, and what is done to all of them at once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from fastnn import versions
from fastnn.arrays import aligned_copy, as_array, beyond, shared_copy
from fastnn.checks import called, flag, text
from fastnn.devices import no_half, no_such_device
from fastnn.errors import ArgumentError, DTypeError, FastnnError, StateError
from fastnn.nn.arguments import as_tensors
from fastnn.nn.hooks import Hooked
from fastnn.nn.members import FORMER, Members, Parameter, UninitializedParameter, beginning, changes
from fastnn.nn.modes import mode_of, set_mode
from fastnn.recording import state
from fastnn.tables import html_table
from fastnn.tensors import Array, Tensor, target_dtype
from fastnn.values import Values

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

M = TypeVar("M", bound="Module")


class LoadedKeys(NamedTuple):
    """What load_state_dict(strict=False) did not find, and what it had no use for."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        found = f"_IncompatibleKeys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"
        return found if any(self) else "<All keys matched successfully>"


class Module(Members, Hooked):
    """Base of all layers and models. A subclass sets parameters and modules as attributes and defines `forward`.

    >>> from fastnn import nn
    >>> class Residual(nn.Module):
    ...     def __init__(self, features):
    ...         super().__init__()
    ...         self.linear = nn.Linear(features, features)
    ...     def forward(self, x):
    ...         return x + self.linear(x).relu()
    >>> model = Residual(4)
    >>> [name for name, _ in model.named_parameters()]
    ['linear.weight', 'linear.bias']

    Attributes are kept where Python keeps them, so the order of assignment is the order of the names. Lists of
    modules go into a ModuleList. An error from within names the layers that it passed through (`error.layers`).

    `forward` always sees tensors: arrays among the arguments of a call become tensors, of the same type and without a
    copy, and so does a list of numbers as the first argument.
    """

    _frozen: bool = False
    if TYPE_CHECKING:
        training: bool
    else:  # not by methods of this class: it is read in every forward of many layers
        training = property(
            mode_of,
            set_mode,
            doc="""Whether the module is in training mode; a new one is.

        Inside `fit`, `evaluate` and others that borrow a model, it is the mode that they have put it into. It holds in
        their thread alone, and what is set in a callback of theirs is forgotten when they end.
        """,
        )

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; a subclass writes it, users call `model(x)`."""
        raise NotImplementedError(f"{type(self).__name__} needs a method forward(self, x)")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        outer, state.module = state.module, self  # nodes of the tape remember whose forward made them
        try:
            if outer is None:
                args, kwargs = as_tensors(args, kwargs)
            output = self._with_hooks(args, kwargs) if self._hooks else self.forward(*args, **kwargs)
            if output is None:
                raise ArgumentError("forward returned None: does it end with a return?")
            return output
        except FastnnError as error:
            self._sign(error)
            raise
        finally:
            state.module = outer

    def _sign(self, error: FastnnError) -> None:
        """Put this layer before those that the error came through, and its name for the next one before that."""
        inner = vars(error).get("module")
        name = next((name for name, module in self.named_modules() if module is inner and module is not self), None)
        if name is not None:
            error.layers[0] = f"{name}: {error.layers[0]}"
        leaf = next(self.children(), None) is None
        error.layers.insert(0, repr(self) if leaf else type(self).__name__)
        vars(error)["module"] = self

    # ---- what it holds ---------------------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        if hasattr(type(value), "_orig_mod"):  # a compiled model, whose parameters would be no part of this one's
            value = value._orig_mod
        self._check_kept(name, value)
        object.__setattr__(self, name, value)
        if name != "training":
            Members.changes = next(changes)  # now, not before: another thread may look at any time

    def __reduce_ex__(self, protocol: Any) -> Any:
        """What copies and pickles are made of; their mode is the one that the calling thread sees."""
        reduced = super().__reduce_ex__(protocol)
        state = reduced[2] if isinstance(reduced, tuple) and len(reduced) > 2 else None
        own, *slots = state if isinstance(state, tuple) else (state,)
        if not isinstance(own, dict) or own.get("training") == self.training:
            return reduced
        own = {**own, "training": self.training}
        return (*reduced[:2], (own, *slots) if slots else own, *reduced[3:])

    def __setstate__(self, state: Any) -> None:
        """The other end of `__reduce_ex__`."""
        own, *slots = state if isinstance(state, tuple) else (state,)
        vars(self).update({FORMER.get(name, name): value for name, value in own.items()})
        for values in slots:
            for name, value in values.items():
                object.__setattr__(self, name, value)

    if not TYPE_CHECKING:  # where it would stand for any name

        def __getattr__(self, name: str) -> Any:
            """The attribute, for programs that call PyTorch's; Python asks here, too, for what there is not."""
            return object.__getattribute__(self, name)

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        Members.changes = next(changes)

    # ---- what it says of new data ----------------------------------------------------------------------------------

    def predict(self, x: Any, **options: Any) -> Any:
        """Classes or values of samples (N, ...), or of pictures: the same as `fnn.predict(model, x, ...)`."""
        from fastnn.train.predict import predict

        return predict(self, x, **options)

    def predict_proba(self, x: Any, **options: Any) -> Array:
        """Probabilities of the classes, (N, K): the same as `fnn.predict_proba(model, x, ...)`."""
        from fastnn.train.predict import predict_proba

        return predict_proba(self, x, **options)

    # ---- what is done to all of it ---------------------------------------------------------------------------------

    def apply(self: M, fn: Callable[[Module], Any]) -> M:
        """Call `fn` on every module below, then on this one."""
        for child in self.children():
            child.apply(fn)
        called("apply", "fn", fn)(self)
        return self

    def train(self: M, mode: bool = True) -> M:
        """Training mode (dropout drops, batch norm uses the batch's statistics), or eval mode, for all modules below.

        A module below that defines `train` itself has it called, and decides for what it holds.
        """
        self.training = flag("train", "mode", mode)
        for child in self.children():
            child.train(mode)
        return self

    def eval(self: M) -> M:
        """Eval mode, for predictions: dropout does nothing, batch norm uses its running statistics."""
        return self.train(False)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """All gradients back to None, or (`set_to_none=False`) to zeros in place."""
        set_to_none = flag("zero_grad", "set_to_none", set_to_none)
        for parameter in self.parameters():
            if set_to_none or parameter.grad is None:
                parameter.grad = None
            else:
                parameter.grad[...] = 0
                versions.wrote(parameter.grad)

    def requires_grad_(self: M, requires_grad: bool = True) -> M:
        """Whether the parameters are to be learned; True also ends what `freeze` began."""
        requires_grad = flag("requires_grad_", "requires_grad", requires_grad)
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        if requires_grad:
            for module in self.modules():
                if module._frozen:
                    module._frozen = False
        return self

    def freeze(self: M) -> M:
        """Keep this module as it is: no parameter of it is learned, and batch norm keeps its statistics.

        Batch norm in a frozen module runs on its running statistics in training mode, too. Dropout, which has nothing
        to keep, goes on dropping in training mode; `eval()` on that part switches it off. `unfreeze` ends all this. A
        copy of a frozen module is frozen; `state_dict` says nothing of it.

        >>> from fastnn import nn
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
        >>> _ = model[:2].freeze()
        >>> [name for name, p in model.named_parameters() if p.requires_grad]
        ['2.weight', '2.bias']
        """
        self.requires_grad_(False)
        for module in self.modules():
            module._frozen = True
        return self

    def unfreeze(self: M) -> M:
        """Let all parameters of this module be learned and all statistics follow the batches again."""
        return self.requires_grad_(True)

    @property
    def frozen(self) -> bool:
        """Whether `freeze` was called on this module or one that holds it, and no parameter of its own is learned."""
        return self._frozen and not any(parameter.requires_grad for parameter in self.parameters(recurse=False))

    def double(self: M) -> M:
        """Parameters and buffers to float64: from now on the reference kernels compute."""
        return self._cast(np.float64)

    def float(self: M) -> M:
        """Parameters and buffers to float32."""
        return self._cast(np.float32)

    def _cast(self: M, dtype: DTypeLike) -> M:
        for parameter in self.parameters():
            parameter._data = aligned_copy(parameter._data, dtype)
            if parameter._grad is not None:
                parameter._grad = parameter._grad.astype(dtype)
        for module in self.modules():
            for name in module._buffer_names:
                buffer = getattr(module, name)
                if buffer is not None and buffer.dtype.kind == "f":
                    setattr(module, name, as_array(buffer).astype(dtype).view(Values))
        return self

    def share_memory(self: M) -> M:
        """Parameters and buffers to memory that processes forked from this one have in common with it: what one's
        optimiser steps the others see. Processes that start afresh (spawn) are sent copies.

        >>> from fastnn import nn
        >>> nn.Linear(2, 1).share_memory().weight.is_shared()
        True
        """
        for parameter in self.parameters():
            parameter._data = shared_copy(parameter._data)
        for module in self.modules():
            for name in module._buffers:
                if (buffer := getattr(module, name)) is not None:
                    setattr(module, name, shared_copy(as_array(buffer)).view(Values))
        return self

    def half(self: M) -> M:
        raise no_half()

    def type(self: M, dst_type: Any) -> M:
        """The same as `to(dst_type)`."""
        return self.to(dst_type)

    def to(
        self: M, *target: Any, device: Any = None, dtype: Any = None, non_blocking: bool = False,
        memory_format: Any = None,
    ) -> M:  # fmt: skip
        """`to("cpu")` changes nothing, `to("float64")` is double(); BackendError for any other device.

        DTypeError for types that a model cannot compute in. Where the numbers lie is for the kernels to say:
        `non_blocking` and `memory_format` change nothing.
        """
        wanted = target_dtype(*target, device, dtype)
        if wanted not in (None, np.float32, np.float64):
            raise DTypeError(f"to: expected float32 or float64, got {wanted}")
        return self if wanted is None else self._cast(wanted)

    def cpu(self: M) -> M:
        return self

    def cuda(self: M, *_: Any, **__: Any) -> M:
        raise no_such_device("cuda", ".cuda()")

    # ---- state -----------------------------------------------------------------------------------------------------

    def state_dict(self, *, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> dict[str, Any]:
        """All parameters and buffers, by PyTorch's names: the live arrays, not copies; what is written there counts.

        With `keep_vars` the parameters themselves; into `destination`, a dict, where there is one.

        >>> from fastnn import nn
        >>> list(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).state_dict())  # doctest: +NORMALIZE_WHITESPACE
        ['0.weight', '0.bias', '1.weight', '1.bias', '1.running_mean', '1.running_var', '1.num_batches_tracked']
        """
        state: dict[str, Any] = OrderedDict() if destination is None else destination
        if not isinstance(state, dict):
            raise ArgumentError(f"state_dict: expected a dict as destination, got {type(state).__name__}")
        text("state_dict", "prefix", prefix), flag("state_dict", "keep_vars", keep_vars)
        state.update(self._own_state(prefix, keep_vars))
        for name, value in vars(self).copy().items():
            if isinstance(value, Module):
                value.state_dict(destination=state, prefix=prefix + name + ".", keep_vars=keep_vars)
        return state

    def _own_state(self, prefix: str, keep_vars: bool = False) -> dict[str, Any]:
        """The part of state_dict that is of this module itself."""
        state: dict[str, Any] = {}
        for name, value in vars(self).copy().items():
            if isinstance(value, Parameter):
                state[prefix + name] = value if keep_vars else value.data
        for name, buffer in self.named_buffers(recurse=False):
            if name not in self._transient:
                state[prefix + name] = buffer.view(Values)
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> LoadedKeys:
        """Copy the arrays into this module's own, casting them to its type; with `assign`, put them in their place.

        Raises StateError, and changes nothing, if any entry has another shape or is no array of numbers, or of such
        that the type cannot hold (1e300 as float32, 0.5 as an integer), or, with `strict`, if any is missing or
        unexpected; the one message names them all. Returns the names that are.
        """
        if not isinstance(state_dict, Mapping):
            raise StateError(
                f"load_state_dict({type(self).__name__}): expected what state_dict() returned, got "
                f"{type(state_dict).__name__}: a file is read by fnn.weights.load"
            )
        strict, assign = flag("load_state_dict", "strict", strict), flag("load_state_dict", "assign", assign)
        own, state, told, problems = self.state_dict(), dict(state_dict), LoadedKeys([], []), list[str]()
        self._look_at(state, "", {}, strict, *told, problems)
        off_tape = {n: v.detach() if hasattr(v, "detach") else v for n, v in state.items()}  # PyTorch's, too
        given = {n: v.numpy() if isinstance(v, Tensor) else as_array(v) for n, v in off_tape.items()}
        missing = [name for name in own if name not in given]
        if set(missing) - set(told.missing_keys):  # what a module's own way of loading does without, or nobody knows of
            known = Module.state_dict(self).keys() - set(told.missing_keys)
            missing = [name for name in missing if name not in known]
        keys = LoadedKeys(missing, told.unexpected_keys + [name for name in given if name not in own])
        unmade = {name for name in own if name in given and given[name].shape != (0,) and self._is_unmade(name)}
        if strict:
            problems += [f"missing {', '.join(keys.missing_keys)}"] if keys.missing_keys else []
            problems += [f"unexpected {', '.join(keys.unexpected_keys)}"] if keys.unexpected_keys else []
        for name, array in own.items():
            if name in given and given[name].shape != array.shape and name not in unmade:
                problems.append(f"{name}: expected shape {array.shape}, got {given[name].shape}")
            elif name in given and given[name].dtype.kind not in "fiub":
                problems.append(f"{name}: expected numbers, got {given[name].dtype}")
            elif name in given and not assign and (wrong := beyond(given[name], array.dtype)) is not None:
                problems.append(f"{name}: expected numbers that {array.dtype} can hold, got {wrong}")
        if problems:
            raise StateError(f"load_state_dict({type(self).__name__}): {'; '.join(problems)}{beginning(given, own)}")
        for name, array in own.items():
            if name in given and (assign or name in unmade):
                self._assign(name, aligned_copy(given[name], given[name].dtype if assign else array.dtype))
            elif name in given:
                array[...] = given[name]
                versions.wrote(array)
        return keys

    def _look_at(self, state_dict: dict[str, Any], prefix: str, *told: Any) -> None:
        """What `_load_from_state_dict` does of this module, and of those in it."""
        self._load_from_state_dict(state_dict, prefix, *told)
        for name, value in vars(self).copy().items():
            if isinstance(value, Module):
                value._look_at(state_dict, f"{prefix}{name}.", *told)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], strict: bool,
        missing_keys: list[str], unexpected_keys: list[str], error_msgs: list[str],
    ) -> None:  # fmt: skip
        """Called before anything is loaded, for each module: here, as in PyTorch, a subclass changes the entries that
        begin with `prefix`, such as those of older files, and says what is missing or wrong."""
        self._call_load_hooks(state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
        missing_keys += [name for name in self._own_state(prefix) if name not in state_dict]

    def _is_unmade(self, name: str) -> bool:
        """Whether a lazy layer is still to learn the shape of this parameter or buffer."""
        path, _, attribute = name.rpartition(".")
        owner = self.get_submodule(path)
        return hasattr(owner, "initialize_parameters") and len(np.atleast_1d(getattr(owner, attribute).data)) == 0

    def _assign(self, name: str, array: Array) -> None:
        path, _, attribute = name.rpartition(".")
        owner = self.get_submodule(path)
        if isinstance(held := getattr(owner, attribute), Parameter):
            if isinstance(held, UninitializedParameter):
                held.materialize(array.shape)
            held._data = array
            Members.changes = next(changes)
        else:
            setattr(owner, attribute, array)

    # ---- repr ------------------------------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """What stands between the parentheses of a layer's repr."""
        return ""

    def __repr__(self) -> str:
        name, extra = type(self).__name__, self.extra_repr()
        if self.frozen:
            extra = f"{extra}, frozen" if extra else "frozen"
        children = [f"({key}): " + shown.replace("\n", "\n  ") for key, shown in self._shown()]
        if not children:
            return f"{name}({extra})"
        return "\n  ".join([f"{name}(" + extra, *children]) + "\n)"

    def _shown(self) -> list[tuple[str, str]]:
        """What the repr says of each module that it holds."""
        return [(key, repr(child)) for key, child in _held(self)]

    def _repr_html_(self) -> str:
        """A row for each layer that has no layers in it, or parameters of its own."""
        rows: list[tuple[Any, ...]] = [("", "layer", "shapes of parameters", "parameters")]
        for name, module in self.named_modules():
            own = dict(module.named_parameters(recurse=False))
            if own or not _held(module):
                shapes = ", ".join(f"{key} {'×'.join(map(str, p.data.shape))}" for key, p in own.items())
                layer = f"{type(module).__name__}({module.extra_repr()})"
                rows.append((name, layer, shapes, f"{sum(p.data.size for p in own.values()):,}"))
        total = sum(p.data.size for p in self.parameters())
        return html_table(rows, f"{type(self).__name__}: {total:,} parameters", left=3)


def expect_module(where: str, model: Any) -> Any:
    """The model; of a compiled one that which was compiled. Raises ArgumentError for what is no Module."""
    if hasattr(type(model), "_orig_mod"):
        model = model._orig_mod
    if not isinstance(model, Module):
        raise ArgumentError(f"{where}: expected a model (an nn.Module), got {type(model).__name__}")
    return model


def _held(module: Module) -> list[tuple[str, Module]]:
    return [(name, value) for name, value in vars(module).copy().items() if isinstance(value, Module)]
