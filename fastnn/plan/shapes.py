"""Shape and type of what an operator makes of values that do not exist yet.

The common operators have a rule here, which also makes their kernels' checks, and so have those that draw random
numbers; any other operator, one that a user wrote among them, is tried once on ones of the right shapes, and a
factorisation on identities, since a matrix of ones is singular.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.arrays import without_numbers
from fastnn.backends import shapes
from fastnn.ops import (
    activations,
    arithmetic,
    conv,
    dense,
    draws,
    elementwise,
    factors,
    gamma,
    joining,
    loss,
    loss_sequences,
    norms,
    pool,
    shaping,
)
from fastnn.ops.common import low, tall
from fastnn.tape import Context, computing_dtype
from fastnn.tensors import Array, Cast, Function

if TYPE_CHECKING:
    from fastnn.plan.trace import Graph

__all__ = ["image_by_image", "output_of", "trials"]


class _Trials(threading.local):
    """What an operator is tried in: a context after which nothing that it did besides is left. `known` is the memory
    (memory_of) of arrays that forward can reach, which a trace cannot write to."""

    apart: Callable[[], AbstractContextManager[None]] = staticmethod(nullcontext)
    known: frozenset[int] = frozenset()


trials = _Trials()

Rule = Callable[..., Any]  # of the inputs' arrays, which have shape and type alone, and the attributes


def _same(x: Array, *_: Any, **__: Any) -> Array:
    return x


def _drawn_like(x: Array, *, dtype: np.dtype[Any], **_: Any) -> Array:
    return without_numbers(x.shape, dtype)


def _multinomial(x: Array, *, num_samples: int, **_: Any) -> Array:
    return without_numbers((len(x), num_samples), np.dtype(np.int64))


def _ctc(log_probs: Array, *_: Any, **__: Any) -> Array:
    return without_numbers(log_probs.shape[1:2], log_probs.dtype)


def _conv2d(x: Array, weight: Array, bias: Array | None, **attributes: Any) -> Array:
    options = {**attributes, "algorithm": "auto", "out": None, "dtypes": shapes.FLOATING}
    return low(shapes.conv2d_forward(tall(x), tall(weight), bias, **options), weight)


def _linear(x: Array, weight: Array, bias: Array | None) -> Array:
    return shapes.linear_forward(x, weight, bias, None, shapes.FLOATING)


def _max_pool2d(x: Array, **attributes: Any) -> Array:
    return low(shapes.max_pool2d_forward(tall(x), **attributes, out=None, dtypes=shapes.FLOATING)[0], x)


def _avg_pool2d(x: Array, *, count_include_pad: bool, **attributes: Any) -> Array:
    return low(shapes.avg_pool2d_forward(tall(x), **attributes, out=None, dtypes=shapes.FLOATING), x)


def _global_avg_pool2d(x: Array) -> Array:
    return low(shapes.global_avg_pool2d_forward(tall(x), None, shapes.FLOATING), x)


def _normalize(x: Array, mean: Array, std: Array) -> Array:
    return without_numbers(x.shape, mean.dtype)


def _batch_norm(x: Array, mean: Array, var: Array, weight: Array | None, bias: Array | None, *, eps: float) -> Array:
    return shapes.batch_norm_forward(x, mean, var, weight, bias, None, shapes.FLOATING)


def _batch_norm_training(x: Array, weight: Array | None, bias: Array | None, **_: Any) -> Array:
    if x.shape[0]:
        shapes.batch_norm_statistics(x, None, shapes.FLOATING)
    return x


def _cat(*arrays: Array, dim: int) -> Array:
    shape = list(arrays[0].shape)
    shape[dim] = sum(array.shape[dim] for array in arrays)
    return without_numbers(tuple(shape), np.result_type(*arrays))


def _reshape(x: Array, *, shape: tuple[int, ...]) -> Array:
    return x.reshape(shape)


def _cross_entropy(logits: Array, target: Array, *, label_smoothing: float, reduction: str) -> Array:
    losses, _ = shapes.softmax_cross_entropy(logits, target, label_smoothing, None, shapes.FLOATING)
    return losses if reduction == "none" else without_numbers((), losses.dtype)


def _broadcast(*arrays: Array) -> Array:
    return without_numbers(np.broadcast_shapes(*(x.shape for x in arrays)), np.result_type(*(x.dtype for x in arrays)))


_ELEMENTWISE: tuple[type[Function], ...] = (  # of arrays that broadcast
    arithmetic.Abs, arithmetic.Add, arithmetic.Div, arithmetic.Exp, arithmetic.Log, arithmetic.Mul, arithmetic.Neg,
    arithmetic.Sqrt, arithmetic.Sub, *elementwise.FORMULAS,
)  # fmt: skip
_RULES: dict[type[Function], Rule] = {
    **dict.fromkeys(_ELEMENTWISE, _broadcast),
    **dict.fromkeys(activations.KINDS, _same),
    activations.Dropout: _same,
    conv.Conv2d: _conv2d,
    dense.Linear: _linear,
    draws.Bernoulli: _same,
    gamma.LGamma: _same,
    gamma.PolyGamma: _same,
    gamma.StandardDirichlet: _same,
    gamma.StandardGamma: _same,
    draws.Binomial: _same,
    draws.Multinomial: _multinomial,
    loss_sequences.CTC: _ctc,
    draws.Permutation: _drawn_like,
    draws.Poisson: _same,
    draws.VonMises: _same,
    draws.RandLike: _drawn_like,
    draws.RandintLike: _drawn_like,
    draws.RandnLike: _drawn_like,
    joining.Cat: _cat,
    loss.CrossEntropy: _cross_entropy,
    norms.BatchNorm: _batch_norm,
    norms.BatchNormTraining: _batch_norm_training,
    norms.Normalize: _normalize,
    pool.AvgPool2d: _avg_pool2d,
    pool.GlobalAvgPool2d: _global_avg_pool2d,
    pool.MaxPool2d: _max_pool2d,
    shaping.Reshape: _reshape,
}


def output_of(
    function: type[Function], inputs: tuple[Any, ...], attributes: dict[str, Any], needs: tuple[bool, ...]
) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of function.apply(*inputs, **attributes); an input with `shape` and no data is a value to come.

    Raises what the operator itself would raise for such shapes.
    """
    rule = _RULES.get(function)
    if rule is not None:
        output = rule(
            *(without_numbers(x.shape, x.dtype) if hasattr(x, "producer") else x for x in inputs), **attributes
        )
    else:
        output = tried(function, inputs, attributes, needs)[2]
    return output.shape, output.dtype


def tried(
    function: type[Function], inputs: tuple[Any, ...], attributes: dict[str, Any], needs: tuple[bool, ...]
) -> tuple[Context, list[Any], Array]:
    """The operator on ones of the right shapes: its context, the arrays that it was given, and its output."""
    floats: Any = _identities if function in factors.FACTORS else np.ones
    make = {True: floats, False: np.zeros}  # zero is a label, or an index, that there always is
    arrays = [make[x.dtype.kind == "f"](x.shape, x.dtype) if hasattr(x, "producer") else x for x in inputs]
    context = Context(computing_dtype(arrays), needs, attributes)
    with np.errstate(all="ignore"), trials.apart():
        return context, arrays, np.asarray(function.forward(context, *arrays, **attributes))


def _identities(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    return np.broadcast_to(np.eye(*shape[-2:], dtype=dtype), shape).copy()


def image_by_image(graph: Graph) -> bool:
    """Whether each image's outputs depend on that image alone, as far as the operators are known to work so."""
    n = graph.x.shape[:1]
    if graph.states or graph.keepings or any(value.shape[:1] != n for value in (*graph.inputs, *graph.results)):
        return False
    fixed: set[int] = set()  # ids of values that do not depend on the images
    for op in graph.operators:
        values = [v for v in op.inputs if hasattr(v, "tensor")]
        joins = op.function in _ELEMENTWISE or (op.function is joining.Cat and op.attributes["dim"] != 0)
        if not joins and op.function not in _IMAGE_BY_IMAGE:
            return False
        if all(value.tensor is not None or id(value) in fixed for value in values):
            fixed.add(id(op.output))
        elif op.output.shape[:1] != n or (joins and not all(_is_along(v, op.output.shape, fixed) for v in op.inputs)):
            return False
    return True


_IMAGE_BY_IMAGE = {
    *activations.KINDS, activations.LogSoftmax, activations.Softmax, conv.Conv2d, dense.Linear, norms.BatchNorm,
    norms.Normalize, pool.AvgPool2d, pool.GlobalAvgPool2d, pool.MaxPool2d, shaping.Reshape, Cast,
}  # fmt: skip


def _is_along(value: Any, shape: tuple[int, ...], fixed: set[int]) -> bool:
    """Whether a value of a result of this shape has an entry for each image, or is one and the same for all."""
    of_value = np.shape(value) if not hasattr(value, "tensor") else value.shape
    whole = len(of_value) == len(shape)
    if hasattr(value, "tensor") and value.tensor is None and id(value) not in fixed:
        return whole and of_value[0] == shape[0]
    return not whole or of_value[0] == 1
