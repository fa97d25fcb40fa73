"""`fnn.compile(model)`: inference by a plan for each shape of input."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import backends
from fastnn.errors import ArgumentError, LabelError, ShapeError
from fastnn.nn import Module
from fastnn.nn.arguments import positional_parameters
from fastnn.nn.modes import mode
from fastnn.plan.execute import Execution
from fastnn.plan.executions import Plan, kernels_in_use
from fastnn.plan.inputs import Inputs, arguments
from fastnn.plan.places import MISSING
from fastnn.plan.shapes import image_by_image
from fastnn.plan.steady import CHECKED
from fastnn.plan.taped import Taped, holds_tensors, predicted
from fastnn.plan.trace import Around, Graph, trace
from fastnn.tensors import Array
from fastnn.trees import ARRAY, Nesting, flatten, map_arrays, unflatten
from fastnn.versions import wrote

if TYPE_CHECKING:
    from fastnn._kernels import Repeat

__all__ = ["Predictor"]

MOST_IMAGES = 256  # that are predicted at a time


class Predictor(Plan):
    """`compile(model)`: inference, always in eval mode; `frozen`: nothing else holds the model. See `fnn.compile`."""

    def __init__(self, model: Module, options: frozenset[str], frozen: bool, whole: bool = False) -> None:
        super().__init__(model, options)
        self.frozen = frozen
        self._whole = whole
        self._of_tensors: Taped | None = None  # made when it is first called with tensors
        self._takes_one = len(positional_parameters(model)) == 1  # then a second positional argument is `out`

    def __getitem__(self, key: Any) -> Any:
        model: Any = self.model
        if not hasattr(model, "__getitem__"):
            raise ArgumentError(f"{type(model).__name__} has no layers by number: expected a Sequential or ModuleList")
        return model[key]

    def __reduce__(self) -> Any:
        return type(self), (self.model, self.options, self.frozen, self._whole)

    def __repr__(self) -> str:
        return f"compile({self.model!r})"

    @property
    def _orig_mod(self) -> Module:
        """PyTorch's name for the model itself."""
        return self.model

    def __getattr__(self, name: str) -> Any:
        """What the model has: its parameters, layers, mode. Methods that return the model return this."""
        if name.startswith("__") or "model" not in vars(self):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        found = getattr(self.model, name)
        if getattr(found, "__self__", None) is not self.model:
            return found

        @wraps(found)
        def method(*args: Any, **named: Any) -> Any:
            result = found(*args, **named)
            return self if result is self.model else result

        return method

    def __setattr__(self, name: str, value: Any) -> None:
        """Set the model's attributes on the model, as PyTorch's compiled modules do."""
        own = vars(self)
        is_private = name[0] == "_" and not hasattr(own.get("model"), name)
        if name in own or is_private or "_takes_one" not in own or hasattr(type(self), name):
            super().__setattr__(name, value)
        else:
            setattr(self.model, name, value)

    def _start_over(self) -> None:
        super()._start_over()
        self._ready: Repeat | None = None  # the next call if it is like the last one
        self._of_one_size: set[Any] = set()  # inputs that the model, as it is now, does not take
        self._ignores = False  # whether labels among the inputs have held -100
        self._calls = 0  # of a model with users' code, which is looked at again and again
        self._is_due = False  # whether the call that runs has yet to compare its plan with a new trace

    def __call__(self, x: Any = MISSING, /, *rest: Any, out: Array | None = None, **named: Any) -> Any:
        """The model's outputs for x (N, ...), an ndarray; with `out`, an array of their shape and type, in that one.

        Models of several inputs take them as in ``model(*args, **named)``: arrays, and tuples, lists and dicts of
        them. Outputs come in the structure in which the model returns them; `out` is for a single one.

        Where each image's outputs depend on that image alone, 256 are in work at a time. Raises ShapeError or
        DTypeError, as the model would, for what it does not take, and ShapeError for an `out` that does not fit.
        """
        if len(rest) == 1 and not named and self._takes_one:
            (out,), rest = rest, ()
        ready = self._ready
        outputs = None if ready is None or rest or named else ready(self, x, out)
        if outputs is None:
            return self._called(() if x is MISSING else (x, *rest), named, out)
        if out is not None:
            wrote(out)
        return outputs

    def _called(self, args: tuple[Any, ...], named: dict[str, Any], out: Array | None) -> Any:
        """The outputs of a call that is not like the last one."""
        backends.follow_cpus()
        with self._turn():
            if not self.frozen and not self._follow_model() and self._structure.has_users_code and not self._is_due:
                self._is_checked()
            tensors = out is None and holds_tensors(args, named, objects=not self.frozen)
            outputs = None if tensors else self._predict(arguments(self.model, args, named), out)
        if tensors and self.frozen:
            return predicted(self, args, named)
        if tensors:
            if self._of_tensors is None:
                self._of_tensors = Taped(self.model, self.options, self, self._whole)
            return self._of_tensors(args, named)
        if out is not None:
            wrote(out)
        return outputs

    def _forget(self) -> None:
        super()._forget()
        self._of_one_size.clear()
        if self._ready is not None:
            self._ready.is_over = True  # for other threads that wait for their turn
        self._ready = None

    def _is_checked(self) -> bool:
        """Count a call; whether the plan is compared with a new trace before it."""
        self._calls += 1
        self._is_due = self._calls in CHECKED
        return self._is_due

    def _predict(self, x: Inputs, out: Array | None) -> Any:
        count = len(x.arrays[0])
        first = x.part(slice(0, MOST_IMAGES)) if count > MOST_IMAGES else x
        if count <= MOST_IMAGES or not self._may_be_cut(first):
            return _into(out, self._outputs(x))
        if out is not None and isinstance(out, np.ndarray):  # images still to be read must not be written over
            arrays = [array.copy() if np.may_share_memory(array, out) else array for array in x.arrays]
            x = Inputs(arrays, x.positional, x.named)
        to: list[Array] = []
        structure: Nesting = ARRAY
        for start in range(0, count, MOST_IMAGES):
            outputs = self._outputs(x.part(slice(start, start + MOST_IMAGES)))
            parts, structure = flatten(outputs)
            if not start:
                shapes = [((count, *part.shape[1:]), part.dtype) for part in parts]
                if out is not None:
                    _check_out(out, structure, *shapes[0])
                to = [np.empty(*shape) for shape in shapes] if out is None else [out]
            for part, whole in zip(parts, to, strict=True):
                whole[start : start + len(part)] = part
        return unflatten(structure, to)

    def _may_be_cut(self, first: Inputs) -> bool:
        """Whether the images can be predicted in parts; not by a model that takes one size of batch alone."""
        if first.key in self._of_one_size:
            return False
        try:
            return image_by_image(self._execution(first).graph)
        except ShapeError:
            self._of_one_size.add(first.key)  # so that the next call does not trace it again
            return False

    def _outputs(self, x: Inputs) -> Any:
        self._last, self._ready = self._execution(x), None
        try:
            self._last.run([*x.arrays, *self._states_of(self._last.graph)], [])
        except LabelError:
            if self._ignores:
                raise
            self._ignores = True
            try:
                return self._outputs(x)
            except LabelError:
                self._ignores = False
                raise
        self._leave_kept(self._last)
        self._ready = self._made_ready(x.arrays[0])
        return self._last.outputs

    def _made_ready(self, x: Array) -> Repeat | None:
        """The next call if its input is like x, which ran last; None where it is more than one program."""
        call = None if self._last is None else self._last.call(x)
        if call is None:
            return None
        from fastnn._kernels import Repeat

        cls = type(self)  # bound methods would keep the predictor alive
        questions: list[Callable[[Any], Any]] = [_follow_cpus] if x.size >= 1 << 10 else []  # for several threads
        if not self.frozen and self._structure.has_users_code:
            questions.append(cls._is_checked)
        return Repeat(call, self._lock, tuple(questions), None if self.frozen else self._structure.changed)

    def _execution(self, x: Inputs) -> Execution:
        key = (x.key, self._ignores, kernels_in_use(), *self._structure.state_key())
        known = self._executions.get(key)
        found: Execution = self._find(key, lambda: self._make(x), Execution.stands)
        due, self._is_due = self._is_due, False  # a call makes one comparison, however many parts its images come in
        if due and found is known:
            self._check_again(found.graph, lambda around: self._trace(x, around), parameters=False)
        return found

    def _trace(self, x: Inputs, around: Callable[[], Around]) -> Graph:
        with mode(self.model, training=False):
            return trace(self.model, None, x, None, self._ignores, around)

    def _make(self, x: Inputs) -> Execution:
        graph = self._steady_graph(lambda around: self._trace(x, around), training=False)
        stages, operators = self._stages(graph, False)
        return Execution(graph, stages, training=False, frozen=self.frozen, options=self.options, operators=operators)


def _follow_cpus(_: Predictor) -> None:
    backends.follow_cpus()


def _check_out(out: Array, structure: Nesting, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if structure != ARRAY:
        raise ArgumentError("predict: expected no out for a model of several outputs")
    if not isinstance(out, np.ndarray) or out.shape != shape or out.dtype != dtype:
        got = f"{out.dtype} {out.shape}" if isinstance(out, np.ndarray) else type(out).__name__
        raise ShapeError(f"predict: expected out to be an array {dtype} {shape}, got {got}")
    if not out.flags.writeable:
        raise ArgumentError("predict: expected out to be an array that can be written to, got a read-only one")


def _into(out: Array | None, outputs: Any) -> Any:
    """Copies of the outputs, which the next call overwrites."""
    if out is None:
        return map_arrays(np.ndarray.copy, outputs)
    arrays, structure = flatten(outputs)
    _check_out(out, structure, arrays[0].shape, arrays[0].dtype)
    np.copyto(out, outputs)
    return out
