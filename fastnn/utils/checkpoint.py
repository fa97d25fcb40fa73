"""PyTorch's torch.utils.checkpoint: forward keeps inputs alone, and backward computes once more what lies between.

Chen et al. 2016, arXiv:1604.06174. Memory for time; compiled plans lay out their memory by themselves and run the
function as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from fastnn import ops, random
from fastnn.autograd import grad as gradients_of
from fastnn.checks import called, entries, flag, whole
from fastnn.errors import ArgumentError, GraphError
from fastnn.habits import no_such_name
from fastnn.nn import Sequential
from fastnn.tape import enable_grad, no_grad, recording, tracer
from fastnn.tensors import Array, Context, Function, Tensor
from fastnn.trees import flatten, is_tree, unflatten
from fastnn.versions import clock

__all__ = ["checkpoint", "checkpoint_sequential"]


class _Run(NamedTuple):
    """A function that has run once: what came out, how it runs again, on what, and with which random numbers."""

    output: Array
    again: Callable[[], tuple[Tensor, list[Tensor]]]
    state: Any


class Checkpoint(Function):
    """The output of `run`: all outputs in one vector, or a single one as it is. The inputs are those of the function,
    and what it reads elsewhere. Saves the inputs. Attribute: run."""

    @staticmethod
    def forward(ctx: Context, *inputs: Array, run: Callable[[], _Run]) -> Array:
        ctx.save_for_backward(*inputs)
        return run().output

    @staticmethod
    def backward(ctx: Context, grad: Any) -> tuple[Any, ...]:
        if isinstance(grad, Tensor):
            raise GraphError("it computes once more what it did not keep: leave checkpoint out")
        _, again, state = ctx.attributes["run"]()
        now = random.get_state()
        try:
            if state is not None:
                random.set_state(state)
            with enable_grad():
                output, inputs = again()
        finally:
            if state is not None:
                random.set_state(now)
        wanted = [x for x, needed in zip(inputs, ctx.needs_input_grad, strict=True) if needed]
        found = iter(gradients_of(output, wanted, Tensor(grad), retain_graph=True, allow_unused=True))
        each = (next(found) if needed else None for needed in ctx.needs_input_grad)
        return tuple(None if g is None else g.data for g in each)


def checkpoint(
    function: Callable[..., Any],
    *args: Any,
    use_reentrant: bool | None = None,
    preserve_rng_state: bool = True,
    determinism_check: str = "default",
    debug: bool = False,
    early_stop: bool = True,
    **kwargs: Any,
) -> Any:
    """``function(*args, **kwargs)``, of which only the inputs are kept; backward computes it once more.

    Args:
        function: a module or a function of tensors; returns a tensor, or a tuple, list or dict of them. It has to do
            the same twice; batch norm's running statistics follow twice, as in PyTorch.
        preserve_rng_state: whether dropout and its kin draw the same numbers again.
        use_reentrant, determinism_check, debug, early_stop: taken and ignored: gradients reach all that `function`
            reads, and `fnn.autograd.grad` takes them, as with PyTorch's use_reentrant=False.

    Second derivatives are refused (GraphError).

    >>> import fastnn as fnn
    >>> from fastnn.utils.checkpoint import checkpoint
    >>> x = fnn.tensor([0.5], requires_grad=True)
    >>> checkpoint(lambda x: x.exp().sin(), x, use_reentrant=False).backward()
    >>> bool(abs(x.grad[0] - x.detach().exp().cos() * x.detach().exp()) < 1e-6)
    True
    """
    called("checkpoint", "function", function)
    if not recording() or tracer() is not None:
        return function(*args, **kwargs)
    leaves, structure = flatten([list(args), kwargs])
    own = [i for i, x in enumerate(leaves) if isinstance(x, Tensor)]

    def run() -> tuple[Any, list[Tensor]]:
        """The function on inputs that begin a tape of their own, and these."""
        fresh = {i: leaves[i].detach().requires_grad_(leaves[i].requires_grad) for i in own}
        positional, named = unflatten(structure, [fresh.get(i, x) for i, x in enumerate(leaves)])
        return function(*positional, **named), list(fresh.values())

    state = random.get_state() if flag("checkpoint", "preserve_rng_state", preserve_rng_state) else None
    start = next(clock)
    result, fresh = run()
    outputs, shape = flatten(result) if is_tree(result) else ([result], None)
    on_tape = [x for x in outputs if isinstance(x, Tensor) and x.requires_grad]
    if not on_tape:
        return result
    others = [x for x in _read(on_tape, start) if all(x is not own for own in fresh)]

    def again() -> tuple[Tensor, list[Tensor]]:
        result, fresh = run()
        outputs = flatten(result)[0] if is_tree(result) else [result]
        return _joined([x for x in outputs if isinstance(x, Tensor) and x.requires_grad]), [*fresh, *others]

    with no_grad():
        ran = _Run(_joined(on_tape).data, again, state)
    joined = Checkpoint.apply(*(leaves[i] for i in own), *others, run=lambda: ran)
    parts = iter(_parted(joined, [x.shape for x in on_tape]))
    found = [next(parts) if isinstance(x, Tensor) and x.requires_grad else x for x in outputs]
    return found[0] if shape is None else unflatten(shape, found)


def _read(outputs: list[Tensor], start: int) -> list[Tensor]:
    """What wants a gradient, was there before the function ran, and is read by it: parameters above all."""
    found: dict[int, Tensor] = {}
    seen: set[int] = set()
    todo = list(outputs)
    while todo:
        x = todo.pop()
        if x.node is None or x.node.number < start:
            found[id(x)] = x
        elif x.node.number not in seen:
            seen.add(x.node.number)
            todo += [each for each in x.node.inputs if isinstance(each, Tensor) and each.requires_grad]
    return list(found.values())


def _joined(outputs: list[Tensor]) -> Tensor:
    return outputs[0] if len(outputs) == 1 else ops.cat([x.reshape(-1) for x in outputs])


def _parted(joined: Tensor, shapes: list[tuple[int, ...]]) -> list[Tensor]:
    if len(shapes) == 1:
        return [joined]
    sizes = [ops.zeros(shape).numel() for shape in shapes]
    return [part.reshape(shape) for part, shape in zip(joined.split(sizes), shapes, strict=True)]


def checkpoint_sequential(
    functions: Any, segments: int, input: Any, use_reentrant: bool | None = None, **kwargs: Any
) -> Any:
    """A Sequential, or a list of functions, in so many segments of which all but the last are checkpoints.

    Raises ArgumentError for more segments than there are functions.

    >>> import fastnn as fnn
    >>> from fastnn import nn
    >>> from fastnn.utils.checkpoint import checkpoint_sequential
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    >>> checkpoint_sequential(model, 2, fnn.ones(3, 4), use_reentrant=False).shape
    (3, 2)
    """
    given = functions.children() if isinstance(functions, Sequential) else functions
    each = [
        called("checkpoint_sequential", "each of functions", function)
        for function in entries("checkpoint_sequential", "functions", given)
    ]
    if not each:
        raise ArgumentError("checkpoint_sequential: expected at least one function, got none")
    size = len(each) // whole("checkpoint_sequential", "segments", segments, 1, len(each))

    def run(part: list[Any]) -> Callable[[Any], Any]:
        def forward(x: Any) -> Any:
            for function in part:
                x = function(x)
            return x

        return forward

    for start in range(0, size * (segments - 1), size):
        input = checkpoint(run(each[start : start + size]), input, **kwargs)
    return run(each[size * (segments - 1) :])(input)


def __getattr__(name: str) -> Any:
    raise no_such_name("fastnn.utils.checkpoint", name)
