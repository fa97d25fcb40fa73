"""Arguments of kinds that make no sense: one typed error each. tests/long/bad_input.py finds them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn, optim
from fastnn.errors import ArgumentError, DTypeError, FastnnError, ShapeError
from fastnn.nn.functional import conv1d, linear

MASKED = np.ma.masked_array(np.ones((1, 2), np.float32), [[True, False]])
ONE = fnn.ones(1, 1, 2)
MISTAKES: dict[str, tuple[type[FastnnError], str, Callable[[], Any]]] = {
    "a path": (ArgumentError, "name of a file", lambda: fnn.weights.load(None)),
    "a run": (ArgumentError, "name of a file", lambda: fnn.load_run(3)),
    "a history": (ArgumentError, "name of a file", lambda: fnn.History.load(3)),
    "a checkpoint": (ArgumentError, "name of a file", lambda: fnn.train.Checkpoint(3.5)),
    "a landscape": (ArgumentError, "name of a file", lambda: fnn.landscape.load(3)),
    "parameters": (ArgumentError, "SGD: expected params to be a list, got 3", lambda: optim.SGD(3)),
    "a closure": (ArgumentError, "closure to be a function", lambda: optim.SGD([nn.Parameter([1.0])], 0.1).step(1)),
    "milestones": (ArgumentError, "milestones to be a list", lambda: optim.lr_scheduler.MultiStepLR(sgd(), 3)),
    "apply": (ArgumentError, "fn to be a function", lambda: nn.ReLU().apply(None)),
    "a module's name": (ArgumentError, "target to be text", lambda: nn.ReLU().get_submodule(3)),
    "entries": (ArgumentError, "entries to be a list", lambda: nn.ModuleDict(3)),
    "a model's input": (ArgumentError, "shape to be a list", lambda: fnn.recipes.cnn(28)),
    "printing": (ArgumentError, "precision to be a whole number", lambda: fnn.set_printoptions(precision=-1)),
    "parts without end": (ArgumentError, "sections", lambda: fnn.tensor_split(fnn.ones(3), 2**62)),
    "windows without end": (ArgumentError, "output_size", lambda: nn.AdaptiveMaxPool1d(10**30)(fnn.ones(1, 1, 4))),
    "a weight": (DTypeError, "weight to be a tensor", lambda: nn.functional.conv1d(fnn.ones(1, 1, 4), 1)),
    "text in the place of a tensor": (DTypeError, "float32", lambda: fnn.squeeze("cnn")),
    "a mask": (ShapeError, "broadcasts", lambda: fnn.masked_select(fnn.ones(2, 3), np.ones((2, 2), bool))),
    "unequal rows": (ShapeError, "equal lengths", lambda: fnn.logical_and(fnn.ones(2), [1.0, [2.0]])),
    "no matrix": (ArgumentError, "at least one", fnn.chain_matmul),
    "objects": (DTypeError, "got object", lambda: fnn.logical_or(np.array([None]), [1.0])),
    "fields": (DTypeError, "Tensor: expected float32", lambda: fnn.eq(np.zeros(1, [("a", "f4")]), [1.0])),
    "a set": (DTypeError, "Tensor: expected float32", lambda: fnn.ge(fnn.ones(0), {1.0})),
    "a masked weight": (DTypeError, "1 masked of 2", lambda: linear(fnn.ones(1, 2), MASKED)),
    "groups": (ArgumentError, "groups to be a whole number", lambda: conv1d(fnn.ones(1, 1, 4), ONE, groups=None)),
    "bounds": (ArgumentError, "bounds from 0 to 255 for uint8, got -1", lambda: fnn.clamp(np.uint8([1]), max=-1)),
    "booleans": (DTypeError, "got booleans", lambda: -fnn.tensor([True])),
    "a reduction": (ArgumentError, "reduction", lambda: nn.MSELoss(reduction=np.ones(2))),
}


def sgd() -> optim.SGD:
    return optim.SGD([nn.Parameter([1.0])], lr=0.1)


@pytest.mark.parametrize("name", MISTAKES)
def test_it_is_one_typed_error(name: str) -> None:
    kind, words, call = MISTAKES[name]
    with pytest.raises(kind, match=words):
        call()


def test_functions_take_lists_and_arrays_as_the_others_do() -> None:
    assert fnn.squeeze([[1.0, 2.0]]).tolist() == [1, 2]
    assert fnn.t([[1, 2]]).shape == (2, 1)
    assert fnn.transpose([[1, 2]], 0, 1).shape == (2, 1)
    assert fnn.unsqueeze([1, 2], 0).shape == (1, 2)
    assert fnn.numel(np.ones((2, 3))) == 6
    assert fnn.clone(np.ones(2)).tolist() == [1, 1]
    assert fnn.is_floating_point(np.ones(2))
    assert fnn.bitwise_not([True, False]).tolist() == [False, True]
    assert fnn.randint_like(np.zeros((2, 2), np.int64), 3).shape == (2, 2)
    assert fnn.reshape([[1, 2]], 2).shape == (2,)
    assert fnn.permute(np.ones((2, 3)), 1, 0).shape == (3, 2)


def test_arrays_of_other_types_and_byte_orders_are_numbers_like_others() -> None:
    """Expected values are PyTorch's."""
    assert fnn.sign(np.array([-3, 0, 2], ">i8")).tolist() == [-1, 0, 1]
    assert fnn.sign(np.array([True, False])).tolist() == [True, False]
    assert fnn.frac(np.array([True])).tolist() == [0]
    assert fnn.clone(fnn.tensor([True])).tolist() == [True]
    assert fnn.floor_divide([1.0, -1.0, 7.0], [0.0, 0.0, 2.0]).tolist() == [np.inf, -np.inf, 3]
    assert fnn.diff(fnn.ones(3), 2**40).shape == (0,)
