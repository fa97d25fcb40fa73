"""gradcheck of everything there is: every operator, method, module and Function has a case, passes, and fails if wrong.

The cases are compared with what fastnn offers: whoever adds an operator or a layer is told here to add a case.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import numpy as np
import pytest
from choice_cases import SINGLE
from choice_cases import inputs as choice_inputs

import fastnn as fnn
from fastnn import nn, ops
from fastnn.insight.gradients import GradientError
from fastnn.tape import computed
from fastnn.tensors import Cast

RNG = np.random.default_rng(7)
ROWS, IMAGES = RNG.normal(size=(5, 4)), RNG.normal(size=(2, 4, 6, 5))
POSITIVE, SHARES = RNG.uniform(0.5, 2, (5, 4)), RNG.uniform(0.1, 0.9, (5, 4))
LABELS = np.array([0, 3, 1, 1, 2])
MATRIX, VECTOR, KERNELS = RNG.normal(size=(3, 4)), RNG.normal(size=4), RNG.normal(size=(6, 2, 3, 2))
MEAN, VARIANCE = RNG.normal(size=4), RNG.uniform(0.5, 2, 4)

Case = tuple[Any, tuple[Any, ...]]  # what is checked, and on what

OPERATORS: dict[str, Case] = {
    "avg_pool2d": (lambda x: ops.avg_pool2d(x, 3, 2, 1), (IMAGES,)),
    "batch_norm": (lambda x, w, b: ops.batch_norm(x, MEAN, VARIANCE, w, b), (IMAGES, VECTOR, VARIANCE)),
    "batch_norm_training": (ops.batch_norm_training, (IMAGES, VECTOR, VARIANCE)),
    "bernoulli": (lambda x: x * ops.bernoulli(SHARES), (ROWS,)),
    "binary_cross_entropy": (lambda p: ops.binary_cross_entropy(p, SHARES[::-1]), (SHARES,)),
    "binary_cross_entropy_with_logits": (lambda z: ops.binary_cross_entropy_with_logits(z, SHARES), (ROWS,)),
    "cat": (lambda x, y: ops.cat([x, y, x], 1), (ROWS, POSITIVE[:, :2])),
    "conv2d": (lambda x, w, b: ops.conv2d(x, w, b, (2, 1), 1, groups=2), (IMAGES, KERNELS, KERNELS[:, 0, 0, 0])),
    "cross_entropy": (lambda z: ops.cross_entropy(z, LABELS, label_smoothing=0.1), (ROWS,)),
    "dropout": (lambda x: ops.dropout(x, 0.4), (ROWS,)),
    "elu": (lambda x: ops.elu(x, 0.7), (ROWS,)),
    "flatten": (lambda x: ops.flatten(x, 1), (IMAGES,)),
    "gelu": (ops.gelu, (ROWS,)),
    "global_avg_pool2d": (ops.global_avg_pool2d, (IMAGES,)),
    "leaky_relu": (lambda x: ops.leaky_relu(x, 0.2), (ROWS,)),
    "linear": (ops.linear, (ROWS, MATRIX, MATRIX[:, 0])),
    "log_softmax": (ops.log_softmax, (ROWS,)),
    "matmul": (ops.matmul, (ROWS, MATRIX.T)),
    "max_pool2d": (lambda x: ops.max_pool2d(x, 2), (IMAGES,)),
    "mse_loss": (lambda x: ops.mse_loss(x, POSITIVE), (ROWS,)),
    "nll_loss": (lambda x: ops.nll_loss(x, LABELS), (ROWS,)),
    "normalize_channels": (lambda x: ops.normalize_channels(x, MEAN, VARIANCE), (IMAGES,)),
    "rand_like": (lambda x: x * ops.rand_like(x), (ROWS,)),
    "randn_like": (lambda x: x * ops.randn_like(x), (ROWS,)),
    "relu": (ops.relu, (ROWS,)),
    "sigmoid": (ops.sigmoid, (ROWS,)),
    "silu": (ops.silu, (ROWS,)),
    "softmax": (lambda x: ops.softmax(x, 0), (ROWS,)),
    "stack": (lambda x, y: ops.stack([x, y], 1), (ROWS, POSITIVE)),
    "tanh": (ops.tanh, (ROWS,)),
    "where": (lambda x, y: ops.where(SHARES > 0.5, x, y), (ROWS, VECTOR)),
}  # fmt: skip

METHODS: dict[str, Case] = {
    "T": (lambda x: x.T, (ROWS,)),
    "__abs__": (abs, (ROWS,)),
    "__add__": (lambda x, y: x + y, (ROWS, VECTOR)),
    "__getitem__": (lambda x: x[[0, 2, 2], 1:], (ROWS,)),
    "__iter__": (lambda x: sum(row * i for i, row in enumerate(x)), (ROWS,)),
    "__matmul__": (lambda x, y: x @ y, (np.stack([ROWS, -ROWS]), MATRIX.T)),
    "__mod__": (lambda x, y: x % y, (ROWS, POSITIVE)),
    "__mul__": (lambda x, y: x * y, (ROWS, VECTOR)),
    "__neg__": (lambda x: -x, (ROWS,)),
    "__pow__": (lambda x, y: x**y, (POSITIVE, VECTOR)),
    "__radd__": (lambda x: VECTOR + x, (ROWS,)),
    "__rmatmul__": (lambda x: MATRIX @ x, (ROWS.T,)),
    "__rmod__": (lambda x: ROWS % x, (POSITIVE,)),
    "__rmul__": (lambda x: VECTOR * x, (ROWS,)),
    "__rpow__": (lambda x: VARIANCE**x, (ROWS,)),
    "__rsub__": (lambda x: VECTOR - x, (ROWS,)),
    "__rtruediv__": (lambda x: VECTOR / x, (POSITIVE,)),
    "__sub__": (lambda x, y: x - y, (ROWS, VECTOR)),
    "__truediv__": (lambda x, y: x / y, (ROWS, POSITIVE)),
    "abs": (lambda x: x.abs(), (ROWS,)),
    "acos": (lambda x: x.acos(), (SHARES,)),
    "acosh": (lambda x: (x + 1).acosh(), (POSITIVE,)),
    "add": (lambda x, y: x.add(y), (ROWS, VECTOR)),
    "addcdiv": (lambda x, y, z: x.addcdiv(y, z, value=0.5), (ROWS, VECTOR, POSITIVE)),
    "addcmul": (lambda x, y, z: x.addcmul(y, z, value=0.5), (ROWS, VECTOR, POSITIVE)),
    "amax": (lambda x: x.amax((0, 2)), (IMAGES,)),
    "amin": (lambda x: x.amin(1, keepdim=True), (ROWS,)),
    "aminmax": (lambda x: x.aminmax(dim=0).max - x.aminmax().min, (ROWS,)),
    "asin": (lambda x: x.asin(), (SHARES,)),
    "asinh": (lambda x: x.asinh(), (ROWS,)),
    "atan": (lambda x: x.atan(), (ROWS,)),
    "atan2": (lambda x, y: x.atan2(y), (ROWS, VECTOR)),
    "atanh": (lambda x: x.atanh(), (SHARES,)),
    "ceil": (lambda x: x.ceil(), (SHARES,)),
    "clamp": (lambda x, y: x.clamp(-0.5, 0.5) + x.clamp(y - 1, y), (ROWS, POSITIVE)),
    "clamp_max": (lambda x, y: x.clamp_max(y), (ROWS, VECTOR)),
    "clamp_min": (lambda x, y: x.clamp_min(y), (ROWS, VECTOR)),
    "cos": (lambda x: x.cos(), (ROWS,)),
    "cosh": (lambda x: x.cosh(), (ROWS,)),
    "deg2rad": (lambda x: x.deg2rad(), (ROWS,)),
    "div": (lambda x, y: x.div(y), (ROWS, POSITIVE)),
    "erf": (lambda x: x.erf(), (ROWS,)),
    "erfc": (lambda x: x.erfc(), (ROWS,)),
    "exp": (lambda x: x.exp(), (ROWS,)),
    "expand": (lambda x: x.expand(2, -1, -1), (ROWS,)),
    "exp2": (lambda x: x.exp2(), (ROWS,)),
    "expm1": (lambda x: x.expm1(), (ROWS,)),
    "flatten": (lambda x: x.flatten(), (IMAGES,)),
    "floor": (lambda x: x.floor(), (SHARES,)),
    "fmod": (lambda x, y: x.fmod(y), (ROWS, POSITIVE)),
    "frac": (lambda x: x.frac(), (SHARES,)),
    "lerp": (lambda x, y, z: x.lerp(y, z), (ROWS, VECTOR, SHARES)),
    "log": (lambda x: x.log(), (POSITIVE,)),
    "log10": (lambda x: x.log10(), (POSITIVE,)),
    "log1p": (lambda x: x.log1p(), (POSITIVE,)),
    "log2": (lambda x: x.log2(), (POSITIVE,)),
    "log_softmax": (lambda x: x.log_softmax(), (ROWS,)),
    "logit": (lambda x: x.logit(), (SHARES,)),
    "matmul": (lambda x, y: x.matmul(y), (ROWS, VECTOR)),
    "max": (lambda x: x.max(0)[0] + x.max(), (ROWS,)),
    "maximum": (lambda x, y: x.maximum(y), (ROWS, VECTOR)),
    "mean": (lambda x: x.mean((0, 2)), (IMAGES,)),
    "median": (lambda x: x.median(0).values + x.median(), (ROWS,)),
    "min": (lambda x: x.min(0, keepdim=True)[0] * x.min(), (ROWS,)),
    "minimum": (lambda x, y: x.minimum(y), (ROWS, VECTOR)),
    "mul": (lambda x, y: x.mul(y), (ROWS, VECTOR)),
    "nan_to_num": (lambda x: x.nan_to_num(), (ROWS,)),
    "nanmean": (lambda x: x.nanmean(1), (ROWS,)),
    "nansum": (lambda x: x.nansum(1), (ROWS,)),
    "neg": (lambda x: x.neg(), (ROWS,)),
    "permute": (lambda x: x.permute(2, 0, 3, 1), (IMAGES,)),
    "pow": (lambda x: x.pow(3), (ROWS,)),
    "prod": (lambda x: x.prod(1) + x.prod(), (ROWS,)),
    "rad2deg": (lambda x: x.rad2deg(), (ROWS,)),
    "reciprocal": (lambda x: x.reciprocal(), (POSITIVE,)),
    "relu": (lambda x: x.relu(), (ROWS,)),
    "remainder": (lambda x, y: x.remainder(y), (ROWS, POSITIVE)),
    "reshape": (lambda x: x.reshape(2, -1), (ROWS,)),
    "rint": (lambda x: ops.rint(x), (SHARES,)),
    "round": (lambda x: x.round(), (SHARES,)),
    "rsqrt": (lambda x: x.rsqrt(), (POSITIVE,)),
    "sigmoid": (lambda x: x.sigmoid(), (ROWS,)),
    "sign": (lambda x: x.sign(), (SHARES,)),
    "sin": (lambda x: x.sin(), (ROWS,)),
    "sinh": (lambda x: x.sinh(), (ROWS,)),
    "softmax": (lambda x: x.softmax(), (ROWS,)),
    "sqrt": (lambda x: x.sqrt(), (POSITIVE,)),
    "square": (lambda x: x.square(), (ROWS,)),
    "squeeze": (lambda x: x[:, :1].squeeze(1), (ROWS,)),
    "std": (lambda x: x.std(1), (ROWS,)),
    "std_mean": (lambda x: sum(ops.std_mean(x, 1)), (ROWS,)),
    "sub": (lambda x, y: x.sub(y), (ROWS, VECTOR)),
    "sum": (lambda x: x.sum(1), (ROWS,)),
    "t": (lambda x: x.t(), (ROWS,)),
    "tan": (lambda x: x.tan(), (SHARES,)),
    "tanh": (lambda x: x.tanh(), (ROWS,)),
    "transpose": (lambda x: x.transpose(1, 2), (IMAGES,)),
    "true_divide": (lambda x, y: x.true_divide(y), (ROWS, POSITIVE)),
    "trunc": (lambda x: x.trunc(), (SHARES,)),
    "unsqueeze": (lambda x: x.unsqueeze(1), (ROWS,)),
    "var": (lambda x: x.var(0), (ROWS,)),
    "var_mean": (lambda x: sum(ops.var_mean(x)), (ROWS,)),
    "view": (lambda x: x.view(-1), (ROWS,)),
}
WITHOUT_GRADIENT = {"__floordiv__", "__rfloordiv__", *ops.logic.SPECIAL}
WITHOUT_GRADIENT |= {"all", "any", "argmax", "argmin", "count_nonzero", "floor_divide"}
WITHOUT_GRADIENT |= {
    name for name, (file, _) in ops.names.FORMS.items() if file in ("casting", "creation", "draws", "logic")
}
IN_PLACE = {"__iadd__", "__isub__", "__imul__", "__itruediv__"}  # on the tape they are __add__ and so on
NO_OPERATORS = {"__array_function__", "__array_ufunc__", "__setitem__", "where"}

MODULES: dict[str, Callable[[], Case]] = {
    "AdaptiveAvgPool2d": lambda: (nn.AdaptiveAvgPool2d(1), (IMAGES,)),
    "AvgPool2d": lambda: (nn.AvgPool2d(2), (IMAGES,)),
    "BCELoss": lambda: (lambda p: nn.BCELoss()(p, SHARES[::-1]), (SHARES,)),
    "BCEWithLogitsLoss": lambda: (lambda z: nn.BCEWithLogitsLoss()(z, SHARES), (ROWS,)),
    "BatchNorm1d": lambda: (nn.BatchNorm1d(4), (ROWS,)),
    "BatchNorm2d": lambda: (nn.BatchNorm2d(4), (IMAGES,)),
    "Conv2d": lambda: (nn.Conv2d(4, 6, 3, padding="same", dilation=2, groups=2), (IMAGES,)),
    "CrossEntropyLoss": lambda: (nn.CrossEntropyLoss(), (ROWS, LABELS)),
    "Dropout": lambda: (nn.Dropout(0.3), (ROWS,)),
    "ELU": lambda: (nn.ELU(), (ROWS,)),
    "Flatten": lambda: (nn.Flatten(), (IMAGES,)),
    "GELU": lambda: (nn.GELU(), (ROWS,)),
    "GlobalAvgPool2d": lambda: (nn.GlobalAvgPool2d(), (IMAGES,)),
    "Identity": lambda: (nn.Identity(), (ROWS,)),
    "LeakyReLU": lambda: (nn.LeakyReLU(), (ROWS,)),
    "Linear": lambda: (nn.Linear(4, 3), (ROWS,)),
    "LogSoftmax": lambda: (nn.LogSoftmax(), (ROWS,)),
    "MSELoss": lambda: (lambda x: nn.MSELoss()(x, POSITIVE), (ROWS,)),
    "MaxPool2d": lambda: (nn.MaxPool2d(3, 2, 1), (IMAGES,)),
    "NLLLoss": lambda: (lambda x: nn.NLLLoss()(x, LABELS), (ROWS,)),
    "Normalize": lambda: (nn.Normalize(0.3, 2.0), (IMAGES,)),
    "ReLU": lambda: (nn.ReLU(), (ROWS,)),
    "Sequential": lambda: (nn.Sequential(nn.Linear(4, 3), nn.Tanh()), (ROWS,)),
    "SiLU": lambda: (nn.SiLU(), (ROWS,)),
    "Sigmoid": lambda: (nn.Sigmoid(), (ROWS,)),
    "Softmax": lambda: (nn.Softmax(), (ROWS,)),
    "Tanh": lambda: (nn.Tanh(), (ROWS,)),
    "Unflatten": lambda: (nn.Unflatten(1, (2, 2)), (ROWS,)),
}
WITHOUT_FORWARD = {"Module", "ModuleList"}

# What joins, chooses, moves, sorts and multiplies: the expressions that are compared with PyTorch, too.
CHOICES: dict[str, Case] = {
    name: (lambda *x, each=each: each(fnn, ops, *x), tuple(choice_inputs().values())) for name, each in SINGLE.items()
}
IN_CHOICES = {
    name
    for name, (file, _) in ops.names.FORMS.items()
    if file in ("joining", "moving", "places", "products", "sorting", "writing")
}

CASES: dict[str, Callable[[], Case]] = {
    **{f"choice: {name}": (lambda case=case: case) for name, case in CHOICES.items()},
    **{f"ops.{name}": (lambda case=case: case) for name, case in OPERATORS.items()},
    **{f"Tensor.{name}": (lambda case=case: case) for name, case in METHODS.items()},
    **{f"nn.{name}": make for name, make in MODULES.items()},
}


def test_nothing_is_forgotten() -> None:
    """Add a case above for what is named here."""
    modules = {name for name in nn.__all__ if isinstance(getattr(nn, name), type)} - {"Parameter"}
    operators = {*ops.names.FORMS, *ops._SPECIAL} - set(ops.names.ALIASES)
    assert operators - set(OPERATORS) - set(METHODS) - WITHOUT_GRADIENT - IN_PLACE - NO_OPERATORS - IN_CHOICES == set()
    assert modules - set(MODULES) - WITHOUT_FORWARD == set()
    used = {function for name in CASES for function in functions_of(*CASES[name]())}
    assert {function.__name__ for function in functions() - used} == set()


def functions() -> set[type[fnn.Function]]:
    """Every Function of fastnn.ops that has a gradient."""
    families = [import_module(f"fastnn.ops.{family.name}") for family in iter_modules(ops.__path__)]
    found = {f for family in families for _, f in inspect.getmembers(family, inspect.isclass)}
    return {f for f in found if issubclass(f, fnn.Function) and f is not fnn.Function and f.differentiable}


def functions_of(call: Any, inputs: tuple[Any, ...]) -> set[type[fnn.Function]]:
    output = call(*(fnn.Tensor(x, requires_grad=True) if x.dtype.kind == "f" else x for x in inputs))
    return {node.function for _, node in computed(output)}


@pytest.mark.parametrize("name", CASES)
def test_every_gradient_is_right(name: str) -> None:
    fnn.manual_seed(0)
    assert fnn.gradcheck(*CASES[name]())


def _case_of(function: type[fnn.Function]) -> Case:
    """The first case that uses it."""
    return next(made for make in CASES.values() if function in functions_of(*(made := make())))


FLAT = {"Ceil", "Floor", "Rint", "Sign", "Trunc"}  # their gradients are 0, in which no factor shows


@pytest.mark.parametrize(
    "function",
    sorted((f for f in functions() if f.__name__ not in FLAT), key=lambda f: f.__name__),
    ids=lambda f: f.__name__,
)
def test_an_error_in_it_is_found(function: type[fnn.Function], monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundredth too much, or the sign of one entry."""
    fnn.manual_seed(0)
    call, inputs = _case_of(function)
    right = function.backward

    def planted(change: Callable[[np.ndarray], np.ndarray]) -> Any:
        def backward(ctx: Any, grad: np.ndarray) -> Any:
            results = right(ctx, grad)
            results = results if isinstance(results, tuple) else (results,)
            return tuple(None if result is None else change(np.array(result)) for result in results)

        return staticmethod(backward)

    def one_sign(gradient: np.ndarray) -> np.ndarray:
        largest = np.unravel_index(np.abs(gradient).argmax(), gradient.shape)
        gradient[largest] *= -1
        return gradient

    assert fnn.gradcheck(call, inputs)
    for change in (lambda gradient: 1.01 * gradient, one_sign):
        monkeypatch.setattr(function, "backward", planted(change))
        with pytest.raises(GradientError, match="finite differences give"):
            fnn.gradcheck(call, inputs)


def test_a_cast_is_one() -> None:
    """float32 and back: finite differences see only rounding, so it is compared by hand."""
    x = fnn.Tensor(np.array([1.0, 2.0]), requires_grad=True)
    y = x.float()
    assert y.node is not None
    assert y.node.function is Cast
    (y * np.float32(3)).sum().backward()
    assert x.grad.dtype == np.float64
    assert x.grad.tolist() == [3, 3]


def test_the_softmax_jacobian() -> None:
    """ds_i/dx_k = s_i(δ_ik - s_k), row by row."""
    x = np.array([[0.5, -1.0, 2.0, 0.0]])
    s = np.exp(x[0]) / np.exp(x[0]).sum()
    for i in range(4):
        given = fnn.Tensor(x, requires_grad=True)
        ops.softmax(given)[0, i].backward()
        np.testing.assert_allclose(given.grad[0], s[i] * (np.eye(4)[i] - s), rtol=1e-13)
