"""Arguments of kinds that make no sense: one typed error each. tests/long/bad_input.py finds them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fastnn.nn.parameter import UninitializedParameter

import fastnn as fnn
from fastnn import nn, optim
from fastnn.distributions import constraints, transforms
from fastnn.errors import ArgumentError, DTypeError, FastnnError, LabelError, OutOfRangeError, ShapeError, StateError
from fastnn.nn import functional as F
from fastnn.nn.functional import conv1d, linear
from fastnn.nn.utils import prune
from fastnn.utils.checkpoint import checkpoint, checkpoint_sequential

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
    "a flag": (ArgumentError, "sum: expected keepdim to be True or False", lambda: fnn.ones(2, 3).sum(0, np.ones(2))),
    "a layer's flag": (ArgumentError, "bias to be True or False", lambda: nn.Linear(2, 3, bias=np.ones(3))),
    "a method's flag": (ArgumentError, "recurse to be True", lambda: list(nn.ReLU().parameters(np.ones(2)))),
    "sizes beyond memory": (ShapeError, r"Linear: expected fewer than 2\*\*60", lambda: nn.Linear(2**62, 2)),
    "a shape beyond memory": (ShapeError, r"zeros: expected fewer than 2\*\*60", lambda: fnn.zeros(2**62, 2)),
    "entries beyond memory": (ShapeError, r"Tensor: expected fewer than 2\*\*60", lambda: fnn.Tensor(2**62)),
    "layers without end": (ArgumentError, "num_layers", lambda: nn.LSTM(2, 2, num_layers=10**12)),
    "dates to be filled": (DTypeError, "parameter of numbers", lambda: nn.init.zeros_(np.array(["2026"], "M8[Y]"))),
    "a word": (ArgumentError, "mode 'fan_in' or 'fan_out'", lambda: nn.init.kaiming_normal_(weight(), mode=np.ones(2))),
    "a slope": (ArgumentError, "gain to be a finite number", lambda: nn.init.xavier_normal_(weight(), gain="x")),
    "an index beyond the end": (OutOfRangeError, "an index from -2 to 1, got 2", lambda: model()[2]),
    "an index that is none": (ArgumentError, "index to be a whole number, got 0.5", lambda: model()[0.5]),
    "a name that is none": (StateError, "expected one of", lambda: nn.ModuleDict({"a": nn.ReLU()})["b"]),
    "a comparison with text": (DTypeError, "expected", lambda: fnn.ones(2) == "cnn"),
    "a type": (DTypeError, "astype: expected a type", lambda: fnn.ones(2).astype(np.ones(2))),
    "a scale": (ArgumentError, "alpha to be a finite number", lambda: fnn.ones(2).add(1, alpha=np.ones(2))),
    "an order": (ArgumentError, "increasing to be True", lambda: fnn.vander([1.0, 2.0], increasing=np.ones(2))),
    "the other side": (ArgumentError, "left to be True", lambda: fnn.linalg.solve(X[:3], X[:3], left=X)),
    "an inversion": (ArgumentError, "invert to be True or False", lambda: fnn.isin([1], [1], invert=np.ones(2))),
    "a repetition": (ArgumentError, "with_replacement", lambda: fnn.combinations([1, 2], with_replacement=np.ones(2))),
    "an endless mean": (ArgumentError, r"means from 0 to 2\*\*62, got inf", lambda: fnn.poisson([np.inf])),
    "a retained graph": (
        ArgumentError,
        "backward: expected retain_graph",
        lambda: fnn.autograd.backward(weight().sum(), retain_graph=X),
    ),
    "a prefix": (ArgumentError, "prefix to be text", lambda: nn.Linear(1, 1).state_dict(prefix=3)),
    "a shape of samples": (ArgumentError, "sample_shape", lambda: fnn.distributions.Normal(0.0, 1.0).sample(0.5)),
    "a model": (ArgumentError, "filters: expected a model", lambda: fnn.insight.filters(3)),
    "a model's output": (ArgumentError, "gives tensors, got str", lambda: fnn.evaluate(Text(), (X, Y))),
    "a data set": (ArgumentError, "choose: expected a Dataset", lambda: fnn.recipes.choose("digits")),
    "labels of a billion classes": (
        LabelError,
        "for values, pass floating",
        lambda: fnn.evaluate(model(), (X, Y + 10**9)),
    ),
    "a closure's loss": (
        ArgumentError,
        "returns the loss",
        lambda: optim.GradientDescent([nn.Parameter([1.0])]).step(nothing),
    ),
    "what is differentiated": (ArgumentError, "func to be a function", lambda: fnn.func.vjp(3, fnn.ones(2))),
    "a state of random numbers": (ArgumentError, "get_state", lambda: fnn.random.set_state(np.ones(2))),
    "an option of fit": (ArgumentError, "compile to be True or False", lambda: fnn.fit(model(), (X, Y), compile=X)),
    "corners": (ArgumentError, "align_corners to be True", lambda: F.affine_grid(GRID, (1, 1, 2, 2), align_corners=X)),
    "other corners": (ArgumentError, "align_corners", lambda: F.grid_sample(IMAGE, IMAGE[..., :2], align_corners=X)),
    "corners of sizes": (
        ArgumentError,
        "interpolate: expected align_corners",
        lambda: F.interpolate(IMAGE, 2, mode="bilinear", align_corners=X),
    ),
    "a target's logarithm": (ArgumentError, "log_target to be True", lambda: F.kl_div(X, X, log_target=X)),
    "infinite rows": (
        ArgumentError,
        "zero_infinity to be True",
        lambda: F.ctc_loss(np.zeros((4, 1, 3), np.float32), [[1, 2]], [4], [2], zero_infinity=X),
    ),
    "a cast": (ArgumentError, "autocast: expected enabled to be True", lambda: fnn.autocast("cpu", enabled=X)),
    "a scaler": (ArgumentError, "GradScaler: expected enabled to be True", lambda: fnn.amp.GradScaler(enabled=X)),
    "a scaler's optimiser": (ArgumentError, "expected an optimizer, got 3", lambda: fnn.amp.GradScaler().step(3)),
    "shapes": (ArgumentError, "broadcast_shapes: expected sizes", lambda: fnn.broadcast_shapes((1.5, 2))),
    "a lazy type": (DTypeError, "UninitializedParameter: expected a type", lambda: UninitializedParameter(dtype="x")),
    "what is pruned": (ArgumentError, "is_pruned: expected a model", lambda: prune.is_pruned(3)),
    "a pruned name": (ArgumentError, "name of a parameter to be text", lambda: prune.identity(nn.Linear(2, 2), X)),
    "pruned pairs": (ArgumentError, "parameters to be a list", lambda: prune.global_unstructured(3, prune.Identity)),
    "a way to prune": (
        ArgumentError,
        "class of pruning methods, got 3",
        lambda: prune.global_unstructured([(nn.Linear(2, 2), "weight")], 3),
    ),
    "a parametrized model": (ArgumentError, "expected a model", lambda: nn.utils.parametrize.is_parametrized(3)),
    "a mask of another shape": (ShapeError, "default_mask of shape", lambda: prune.Identity().prune(X, Y)),
    "random numbers": (
        ArgumentError,
        "preserve_rng_state",
        lambda: checkpoint(fnn.exp, weight(), preserve_rng_state=X),
    ),
    "functions": (ArgumentError, "functions to be a list", lambda: checkpoint_sequential(3, 1, X)),
    "functions that are none": (ArgumentError, "to be a function, got 3", lambda: checkpoint_sequential([3], 1, X)),
    "a transform's numbers": (DTypeError, "scale: expected numbers", lambda: transforms.AffineTransform(0, nn.ReLU())),
    "a transform": (ArgumentError, "expected a transform", lambda: transforms.IndependentTransform(3, 1)),
    "a transform's shape": (ArgumentError, "shape to be a list", lambda: transforms.ExpTransform().forward_shape(3)),
    "a transform's wide shape": (
        ShapeError,
        "broadcasts with",
        lambda: transforms.AffineTransform(np.ones(2), 1.0).forward_shape((3,)),
    ),
    "what is mixed": (
        ArgumentError,
        "expected a Categorical and a distribution",
        lambda: fnn.distributions.MixtureSameFamily(fnn.distributions.Categorical([0.5, 0.5]), 3),
    ),
    "a width of values": (
        ArgumentError,
        "expand to be True or False",
        lambda: fnn.distributions.Bernoulli(0.5).enumerate_support(expand=X),
    ),
    "bounds that are none": (DTypeError, "interval: expected numbers", lambda: constraints.interval("a", 1)),
    "a constraint": (ArgumentError, "expected a constraint", lambda: constraints.independent("a", 1)),
    "constrained words": (DTypeError, "check: expected numbers", lambda: constraints.positive.check("a")),
    "no matrix to check": (ShapeError, "lower triangular", lambda: constraints.lower_cholesky.check([1.0])),
    "no square to check": (ShapeError, "positive definite", lambda: constraints.positive_definite.check(X)),
}
GRID, IMAGE = np.zeros((1, 2, 3), np.float32), np.ones((1, 1, 4, 4), np.float32)
X, Y = np.ones((4, 3), np.float32), np.array([0, 1, 1, 0])


def weight() -> nn.Parameter:
    return nn.Parameter(X)


def model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 2), nn.ReLU())


def nothing() -> None: ...


class Text(nn.Module):
    def forward(self, x: fnn.Tensor) -> str:
        return "cnn"


def sgd() -> optim.SGD:
    return optim.SGD([nn.Parameter([1.0])], lr=0.1)


@pytest.mark.parametrize("name", MISTAKES)
def test_it_is_one_typed_error(name: str) -> None:
    kind, words, call = MISTAKES[name]
    with pytest.raises(kind, match=words):
        call()


def test_an_index_beyond_the_end_ends_a_loop() -> None:
    assert [x for x in fnn.utils.data.Subset([1, 2, 3], [2, 0])] == [3, 1]  # noqa: C416  # by __getitem__ alone
    with pytest.raises(IndexError):
        fnn.utils.data.ConcatDataset([[1, 2], [3]])[3]
    with pytest.raises(KeyError):
        nn.ParameterDict()["weight"]


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
