"""fnn.compile: the same mathematics, fused."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable
from types import FunctionType, MethodType
from typing import Any, TypeVar, overload

from fastnn.checks import entries, flag, number, whole
from fastnn.errors import ArgumentError
from fastnn.nn import Module
from fastnn.optim import Optimizer
from fastnn.plan.fuse import FUSIONS
from fastnn.plan.predictor import Predictor
from fastnn.plan.step import Step

__all__ = ["compile"]

F = TypeVar("F", bound=Callable[..., Any])


@overload
def compile(
    model: Module,
    *,
    frozen: bool = False,
    exact: bool = False,
    disable: Iterable[str] | bool = (),
    fullgraph: bool = False,
    dynamic: bool | None = None,
    backend: Any = None,
    mode: str | None = None,
    options: dict[str, Any] | None = None,
) -> Predictor: ...
@overload
def compile(model: F, *, fullgraph: bool = False, dynamic: bool | None = None, backend: Any = None) -> F: ...
@overload
def compile(
    model: Module,
    loss_fn: Callable[..., Any],
    optimizer: Optimizer | None = None,
    *,
    clip_norm: float | None = None,
    accumulate: int = 1,
    exact: bool = False,
    disable: Iterable[str] | bool = (),
) -> Step: ...
def compile(
    model: Any,
    loss_fn: Callable[..., Any] | None = None,
    optimizer: Optimizer | None = None,
    *,
    clip_norm: float | None = None,
    accumulate: int = 1,
    frozen: bool = False,
    exact: bool = False,
    disable: Iterable[str] | bool = (),
    fullgraph: bool = False,
    dynamic: bool | None = None,
    backend: Any = None,
    mode: str | None = None,
    options: dict[str, Any] | None = None,
) -> Any:
    """A model as a compiled step: traced once for each shape of input, fused, run in a few native calls.

    `compile(model)` gives `predict(x, out=None) -> ndarray`: inference, always in eval mode. Called with tensors it is
    the model as `torch.compile(model)` is: in the mode that the model is in, with tensors on the tape as outputs, whose
    `backward()` runs in the plan, too. It has the model's parameters and methods; as a layer of another model it is
    the model itself, which is compiled with that one. A model that no plan can be made of runs operator by operator,
    which a warning says once, and so do functions, fifth calls whose backward is still to come, and training mode
    without gradients.
    `compile(model, loss_fn)` gives `step(x, y) -> float`: the loss; gradients are added to `.grad`, as by backward().
    `compile(model, loss_fn, optimizer)` gives `step(x, y) -> float`: the loss before the update; parameters and the
    optimiser's state are updated, `.grad` is not; `step.run_epoch(images, labels, permutation, batch_size)` makes a
    whole epoch. A step is its own forward and backward, and trains inside `no_grad()`, too, where `loss.backward()`
    is an error. All take NumPy arrays of any batch size, and tuples, lists and dicts of them where the model or the
    loss takes several. All have `describe()`, which tells what was fused and where the time goes. Parameters stay live:
    what is written to `.data` counts from the next call on.

    Args:
        model: a Module. What it computes may depend on shapes and on its mode, but not on values (GraphError). Forward
            has to do the same at every call: `fnn.randn_like` and its kin draw anew in a plan, too, but where forward
            draws in NumPy, counts its calls or writes into arrays, GraphError says so. It is traced twice, and again
            before the 2nd, 11th, 101st, ... call, to find that out; what it keeps from its first call on, such as a
            table, is all right. Tensors that forward, its forward hooks or the loss leave in attributes, in entries of
            dicts and in lists (``self.mu = mu``, ``features["conv"] = output``) are there after each call, with its
            numbers and off the tape; a loss that reads them has their gradients. What one call leaves and the next
            reads, such as a hidden state, is an input of the plan. Hooks for gradients,
            of tensors, modules and parameters, are called in each step, between kernels and before clipping and
            updates; forward may not read what they change. A list that grows from call to call and numbers read out of
            a state are GraphErrors.
        loss_fn: maps (outputs, targets) to a scalar, under the same conditions. Attributes, closures, globals and
            lists that forward or a plain function read may change between calls: that makes a new plan.
        optimizer: holds parameters of the model. Those of fastnn.optim step by kernels, others by their own step().
        clip_norm: where the norm of all gradients together is larger, they are scaled down to it.
        accumulate: batches whose mean gradient makes one update. What is left of them at the end of an epoch makes one,
            too: `run_epoch` sees to it, a loop of your own calls `step.flush()`.
        frozen: inference on a copy of the model as it is now: what becomes of its parameters later is not seen, what
            forward leaves in attributes is left in the copy's, and dense layers' weights are kept in the order that
            answers up to four images fastest: a copy of them for each of these batch sizes that is met. ArgumentError
            for a model that cannot be copied.
        exact: no Winograd convolutions, which round a little worse than direct ones (see the README).
        disable: names of fusions to do without, to see what each gives: "region", "chain", "dense", "rows" (small
            dense networks), "cross_entropy", "operators" (native stages of their own), "update" (inside backward),
            "winograd", "sparse" (gradients behind max-pooling).
        fullgraph: whether a model called with tensors that no plan can be made of is a GraphError, not a warning.
        dynamic, backend, mode, options: PyTorch's; taken and ignored.

    Raises ArgumentError for arguments that make no sense. On the backends jit and reference nothing is fused.

    >>> import numpy as np
    >>> import fastnn as fnn
    >>> from fastnn import nn, optim
    >>> fnn.manual_seed(0)
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> step = fnn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.5))
    >>> x, y = np.eye(4, dtype=np.float32), np.array([0, 1, 2, 0])
    >>> losses = [step(x, y) for _ in range(50)]
    >>> losses[-1] < 0.1 * losses[0]
    True
    >>> fnn.compile(model)(x).argmax(axis=1)
    array([0, 1, 2, 0])
    """
    if isinstance(model, (FunctionType, MethodType)) and loss_fn is None:
        warnings.warn(
            f"compile: {model.__qualname__} runs operator by operator, not compiled: plans are made of models "
            "(nn.Module)",
            UserWarning,
            stacklevel=2,
        )
        return model
    if not isinstance(model, Module):
        raise ArgumentError(f"compile: expected a model (an nn.Module), got {type(model).__name__}")
    disable = () if disable is False else disable  # PyTorch's default
    disable = (disable,) if isinstance(disable, str) else tuple(entries("compile", "disable", disable))
    unknown = [name for name in disable if not isinstance(name, str) or name not in FUSIONS]
    exact, frozen = flag("compile", "exact", exact), flag("compile", "frozen", frozen)
    if unknown:
        raise ArgumentError(f"compile: expected disable to name fusions among {list(FUSIONS)}, got {unknown}")
    without = frozenset((*disable, "winograd") if exact else disable)
    if loss_fn is None:
        if optimizer is not None or clip_norm is not None or accumulate != 1:
            raise ArgumentError("compile: expected a loss_fn with optimizer, clip_norm or accumulate, got none")
        return Predictor(_copied(model) if frozen else model, without, frozen, flag("compile", "fullgraph", fullgraph))
    if frozen:
        raise ArgumentError("compile: expected frozen for inference, compile(model, frozen=True), got a loss_fn, too")
    if not callable(loss_fn):
        raise ArgumentError(f"compile: expected loss_fn(outputs, targets), got {type(loss_fn).__name__}")
    if optimizer is not None and not isinstance(optimizer, Optimizer):
        raise ArgumentError(f"compile: expected an optimiser of fastnn.optim, got {type(optimizer).__name__}")
    if optimizer is not None and optimizer.needs_closure:
        raise ArgumentError(
            f"compile: expected an optimiser that steps by the gradient alone, got {type(optimizer).__name__}, which "
            "looks at the loss of each trial: compile(model, loss_fn) is its closure, and fnn.fit does that by itself"
        )
    if clip_norm is not None:
        clip_norm = number("compile", "clip_norm", clip_norm, above=0, finite=False)
    accumulate = whole("compile", "accumulate", accumulate, 1)
    return Step(model, loss_fn, optimizer, without, clip_norm, accumulate)


def _copied(model: Module) -> Module:
    try:
        return copy.deepcopy(model)
    except TypeError as error:  # an attribute that is no data: a lock, a file, a generator
        raise ArgumentError(f"compile: expected a model that can be copied, for frozen=True: {error}") from error
