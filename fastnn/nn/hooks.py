"""Functions that are called with what a module gets, gives, and receives as gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fastnn.checks import called, flag
from fastnn.errors import ArgumentError, FastnnError, GraphError
from fastnn.ops.shaping import Reshape
from fastnn.recording import recording
from fastnn.tensors import Tensor
from fastnn.trees import flatten, is_tree, unflatten

__all__ = ["Hooked"]


class _Hook:
    def __init__(self, function: Callable[..., Any], when: str, with_kwargs: bool = False) -> None:
        self.function = called("hook", "hook", function)
        self.when = when  # "before", "after", "gradient of the output", "gradients", "load"
        self.with_kwargs = flag("hook", "with_kwargs", with_kwargs)


class ModuleHandle:
    """Takes the hook back: by `remove()`, or at the end of a `with` block."""

    def __init__(self, module: Hooked, hook: _Hook) -> None:
        self._module, self._hook = module, hook

    def remove(self) -> None:
        """The hook is not called any more; a second time does nothing."""
        self._module._hooks = tuple(hook for hook in self._module._hooks if hook is not self._hook)

    def __enter__(self) -> ModuleHandle:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


class _OfOneKind(Mapping[int, Any]):
    """PyTorch's ``module._forward_hooks`` and its kin: the functions that are called, by numbers.

    `clear()`, `pop(number)` and `del` take them back, as `handle.remove()` does.
    """

    def __init__(self, module: Hooked, when: str) -> None:
        self._module, self._when = module, when

    def _found(self) -> dict[int, _Hook]:
        return {id(hook): hook for hook in self._module._of(self._when)}

    def __getitem__(self, number: int) -> Any:
        return self._found()[number].function

    def __delitem__(self, number: int) -> None:
        ModuleHandle(self._module, self._found()[number]).remove()

    def __iter__(self) -> Iterator[int]:
        return iter(self._found())

    def __len__(self) -> int:
        return len(self._found())

    def pop(self, number: int) -> Any:
        function = self[number]
        del self[number]
        return function

    def clear(self) -> None:
        for number in self:
            del self[number]


def _kind(when: str) -> property:
    def replace(module: Hooked, hooks: Mapping[Any, Any]) -> None:
        if hooks:
            raise ArgumentError(
                "hooks: expected an empty dict, which takes them back: register_forward_hook enters one"
            )
        _OfOneKind(module, when).clear()

    return property(lambda module: _OfOneKind(module, when), replace)


class Hooked:
    """The part of a Module that calls hooks. Those around forward are compiled with it; a compiled step calls those for
    gradients between its kernels."""

    _hooks: tuple[_Hook, ...] = ()  # replaced, never changed: whoever relies on a model's structure sees it

    _forward_pre_hooks, _forward_hooks = _kind("before"), _kind("after")
    _backward_pre_hooks, _backward_hooks = _kind("gradient of the output"), _kind("gradients")

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> ModuleHandle:
        """Call `hook(module, args)` before each forward; what it returns, a tuple or one value, takes args' place.

        `with_kwargs`: `hook(module, args, kwargs)`, which returns None or (args, kwargs). `prepend`: before the others.
        """
        return self._register(_Hook(hook, "before", with_kwargs), prepend)

    def register_forward_hook(
        self,
        hook: Callable[..., Any],
        *,
        prepend: bool = False,
        with_kwargs: bool = False,
        always_call: bool = False,
    ) -> ModuleHandle:
        """Call `hook(module, args, output)` after each forward; what it returns takes the output's place.

        `with_kwargs`: `hook(module, args, kwargs, output)`. `prepend`: before the others. What it does with tensors,
        and what it leaves of them in a dict or an attribute, is part of a compiled step, too.

        >>> import numpy as np
        >>> from fastnn import nn
        >>> model, shapes = nn.Sequential(nn.Linear(2, 3), nn.Tanh()), []
        >>> handle = model[0].register_forward_hook(lambda module, args, output: shapes.append(output.shape))
        >>> _ = model(np.ones((5, 2), np.float32))
        >>> shapes
        [(5, 3)]
        >>> handle.remove()
        """
        if flag("register_forward_hook", "always_call", always_call):
            raise ArgumentError("register_forward_hook: expected always_call=False: an error in forward ends the call")
        return self._register(_Hook(hook, "after", with_kwargs), prepend)

    def register_full_backward_hook(self, hook: Callable[..., Any], prepend: bool = False) -> ModuleHandle:
        """Call `hook(module, grad_input, grad_output)` when backward has passed the module: tuples of tensors.

        A grad_input is None where an input needs no gradient. What the hook returns takes grad_input's place, which
        only a module with a single such input allows (GraphError).
        """
        return self._register(_Hook(hook, "gradients"), prepend)

    def register_full_backward_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> ModuleHandle:
        """Call `hook(module, grad_output)` before backward passes the module; what it returns takes its place."""
        return self._register(_Hook(hook, "gradient of the output"), prepend)

    def register_load_state_dict_pre_hook(self, hook: Callable[..., Any]) -> ModuleHandle:
        """Call `hook(module, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)`
        before `load_state_dict` takes up the module: what it changes in this state_dict, a copy, is loaded."""
        return self._register(_Hook(hook, "load", with_kwargs=True), False)

    def _register_load_state_dict_pre_hook(self, hook: Callable[..., Any], with_module: bool = False) -> ModuleHandle:
        """PyTorch's older form, whose hook gets no module."""
        return self._register(_Hook(hook, "load", with_module), False)

    def _call_load_hooks(self, *given: Any) -> None:
        for hook in self._of("load"):
            hook.function(*((self, *given) if hook.with_kwargs else given))

    def _register(self, hook: _Hook, first: bool) -> ModuleHandle:
        self._hooks = (hook, *self._hooks) if flag("hook", "prepend", first) else (*self._hooks, hook)
        return ModuleHandle(self, hook)

    def _with_hooks(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """forward, and all hooks around it."""
        for hook in self._of("before"):
            result = self._call(hook, *((args, kwargs) if hook.with_kwargs else (args,)))
            if hook.with_kwargs and result is not None:
                args, kwargs = result
            elif result is not None:
                args = result if isinstance(result, tuple) else (result,)
        watch = _Gradients(self) if recording() and (self._of("gradients", "gradient of the output")) else None
        output = self.forward(*(args if watch is None else watch.inputs(args)), **kwargs)
        for hook in self._of("after"):
            result = self._call(hook, *((args, kwargs, output) if hook.with_kwargs else (args, output)))
            output = output if result is None else result
        return output if watch is None else watch.outputs(output)

    def _call(self, hook: _Hook, *given: Any) -> Any:
        try:
            return hook.function(self, *given)
        except FastnnError as error:
            vars(error).setdefault("hooked", self)  # not forward is to blame
            raise

    def _of(self, *when: str) -> list[_Hook]:
        return [hook for hook in self._hooks if hook.when in when]


class _Gradients:
    """One call of a module whose gradients are waited for: its inputs and outputs pass under other names."""

    def __init__(self, module: Hooked) -> None:
        self.module = module
        self.grad_input: list[Tensor | None] = []
        self.grad_output: list[Tensor | None] = []
        self.wanted = 0  # gradients of inputs
        self.came = 0  # in this backward

    def inputs(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        self.grad_input = [None] * len(args)
        passed = []
        for i, x in enumerate(args):
            if isinstance(x, Tensor) and x.requires_grad:
                x = Reshape.apply(x, shape=x.shape)
                x.register_hook(lambda grad, i=i: self.came_to_input(i, grad))
                self.wanted += 1
            passed.append(x)
        return tuple(passed)

    def outputs(self, output: Any) -> Any:
        found, structure = flatten(output) if is_tree(output) else ([output], None)
        self.grad_output = [None] * len(found)
        for i, y in enumerate(found):
            if isinstance(y, Tensor) and y.requires_grad:
                found[i] = Reshape.apply(y, shape=y.shape)
                found[i].register_hook(lambda grad, i=i: self.came_to_output(i, grad))
        return found[0] if structure is None else unflatten(structure, found)

    def came_to_output(self, i: int, grad: Tensor) -> Tensor:
        if self.came:  # the last backward did not reach all inputs
            self.begin()
        self.grad_output[i] = grad
        for hook in self.module._of("gradient of the output"):
            result = hook.function(self.module, tuple(self.grad_output))
            if result is not None:
                grad = result[i] if isinstance(result, tuple) else result
                self.grad_output[i] = grad
        if not self.wanted:
            self.call(None)
        return grad

    def came_to_input(self, i: int, grad: Tensor) -> Tensor | None:
        self.grad_input[i] = grad
        self.came += 1
        if self.came < self.wanted:
            return grad
        if not any(
            each is not None for each in self.grad_output
        ):  # backward came past the outputs: no call, as in PyTorch
            self.begin()
            return grad
        return self.call(i)

    def begin(self) -> None:
        """Before a backward, of which a graph that is kept, and a compiled step, have several."""
        self.came = 0
        self.grad_input, self.grad_output = [None] * len(self.grad_input), [None] * len(self.grad_output)

    def call(self, last: int | None) -> Tensor | None:
        self.came = 0
        for hook in self.module._of("gradients"):
            result = hook.function(self.module, tuple(self.grad_input), tuple(self.grad_output))
            if result is None:
                continue
            if sum(grad is not None for grad in self.grad_input) != 1 or last is None:
                raise GraphError(
                    "register_full_backward_hook: a returned gradient takes the place of that of a single input that "
                    "needs one; here there are others: use tensor.register_hook on the input that is meant"
                )
            self.grad_input[last] = result[last] if isinstance(result, tuple) else result
        return None if last is None else self.grad_input[last]
