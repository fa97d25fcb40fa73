"""Gradients by finite differences, and the check of backward() against them, in float64.

After chainer's gradient_check: one random direction tests all entries of an array at once, and the check keeps away
from kinks (a ReLU that changes sides between x - εd and x + εd says nothing about the gradient at x).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastnn import random
from fastnn.arrays import as_array, numbers
from fastnn.autograd.engine import grad
from fastnn.checks import called, flag, number, whole
from fastnn.errors import ArgumentError, FastnnError
from fastnn.nn import Module
from fastnn.ops import cat
from fastnn.recording import enable_grad, no_grad, recording
from fastnn.tape import Array, gradients
from fastnn.tensors import Tensor

__all__ = ["GradientError", "gradcheck", "gradgradcheck", "numeric_gradient"]

DIRECTIONS = 3  # per array: an error hides from none but by rounding
ATTEMPTS = 10  # directions tried per array before its surroundings are called kinked
LARGEST_SEARCH = 4096  # entries of an array that are looked through one by one for the wrong one


class GradientError(FastnnError, AssertionError):
    """A gradient from backward() that finite differences contradict."""


def numeric_gradient(f: Callable[[Array], Any], x: Any, eps: float = 1e-6, one_sided: bool = False) -> Array:
    """The gradient of `f` at `x`, entry by entry: (f(x + εe) - f(x - εe)) / 2ε, or one-sided (f(x + εe) - f(x)) / ε.

    f takes an array (float64, of x's shape) and gives a number or a tensor with one entry. The result is float64. The
    central quotient is wrong by O(ε²), the one-sided by O(ε), both by rounding of about 1e-16·|f|/ε.

    >>> import numpy as np, fastnn as fnn
    >>> fnn.numeric_gradient(lambda w: (w ** 2).sum(), np.array([1.0, -3.0])).round(6)
    array([ 2., -6.])
    """
    x = np.array(numbers("numeric_gradient", x), np.float64)
    f, eps = called("numeric_gradient", "f", f), number("numeric_gradient", "eps", eps, above=0)
    one_sided = flag("numeric_gradient", "one_sided", one_sided)
    gradient = np.empty_like(x)
    middle = _number(f(x)) if one_sided else 0.0
    for i in np.ndindex(x.shape):
        entry = x[i]
        x[i] = entry + eps
        above = _number(f(x))
        x[i] = entry - eps
        gradient[i] = (above - middle) / eps if one_sided else (above - _number(f(x))) / (2 * eps)
        x[i] = entry
    return gradient


def _number(value: Any) -> float:
    array = numbers("numeric_gradient", value)
    if array.size != 1:
        raise ArgumentError(f"numeric_gradient: expected a function that gives one number, got shape {array.shape}")
    return float(array.item())


class _Check:
    """A function of leaf tensors, made scalar by fixed random weights of its outputs, and the tolerances."""

    def __init__(
        self, evaluate: Callable[[], Any], leaves: dict[str, Tensor], eps: float, atol: float, rtol: float, seed: int
    ) -> None:
        self.evaluate, self.leaves = evaluate, leaves
        self.eps, self.atol, self.rtol = eps, atol, rtol
        self.generator = np.random.default_rng(seed)
        self.random_state = random.get_state()  # dropout drops the same entries in every evaluation
        with enable_grad():
            output = self._output()
        if not output.requires_grad:
            raise ArgumentError("gradcheck: expected a result that depends on a floating input or a parameter")
        self.weights = self.generator.uniform(0.5, 1.5, output.shape)
        self.middle = float((output.numpy() * self.weights).sum())
        self.noise = 1e-14 * (1.0 + float(np.abs(output.numpy() * self.weights).sum()))  # rounding of one evaluation
        start = self.weights.astype(output.dtype)
        # Not by backward(): it would add to .grad of what a function closes over.
        found = {id(output): start} if output.node is None else gradients(output.node, start)[1]
        self.gradients = {name: found.get(id(leaf), np.zeros(leaf.shape)) for name, leaf in self.leaves.items()}

    def _output(self) -> Tensor:
        random.set_state(self.random_state)
        output = self.evaluate()
        if not isinstance(output, Tensor):
            raise ArgumentError(f"gradcheck: expected a function that gives a Tensor, got {type(output).__name__}")
        return output

    def _value(self, leaf: Tensor, shift: Array) -> float:
        kept = leaf.numpy()
        leaf.data = kept + shift
        try:
            with no_grad():
                return float((self._output().numpy() * self.weights).sum())
        finally:
            leaf.data = kept

    def along(self, name: str, direction: Array) -> tuple[float, float, float] | None:
        """(numeric, from backward, tolerance) of the slope along a direction; None if there is a kink at every ε."""
        leaf, gradient = self.leaves[name], self.gradients[name]
        expected = float((gradient * direction).sum())
        size = float(np.sqrt(((gradient * direction) ** 2).sum())) if np.isfinite(expected) else 0.0
        for eps in (self.eps, self.eps / 8, self.eps / 64):
            above, below = self._value(leaf, eps * direction), self._value(leaf, -eps * direction)
            numeric = (above - below) / (2 * eps)
            tolerance = self.atol + self.rtol * max(size, abs(numeric)) + self.noise / eps
            bend = abs(above - 2 * self.middle + below) / (2 * eps)  # O(ε) if smooth; half the jump in slope at a kink
            if bend <= tolerance or not np.isfinite(bend):
                return numeric, expected, tolerance
        return None

    def directions(self, name: str) -> Iterator[Array]:
        """No entry is near 0, and no two are equal, so that errors neither vanish nor cancel."""
        shape = self.leaves[name].shape
        for _ in range(ATTEMPTS):
            yield self.generator.choice((-1.0, 1.0), shape) * self.generator.uniform(0.5, 1.5, shape)

    def entries(self, name: str) -> Iterator[tuple[tuple[int, ...], Array]]:
        """The unit vectors."""
        unit = np.zeros(self.leaves[name].shape)
        for i in np.ndindex(unit.shape):
            unit[i] = 1.0
            yield i, unit
            unit[i] = 0.0

    def by_directions(self, name: str) -> str | None:
        """What is wrong with this leaf's gradient, or None."""
        passed = 0
        for direction in self.directions(name):
            slopes = self.along(name, direction)
            if slopes is None:
                continue
            if _wrong(*slopes):
                entry = self.by_entries(name) if direction.size <= LARGEST_SEARCH else None
                return entry or f"{name}: {_message(slopes)} along a random direction"
            passed += 1
            if passed == DIRECTIONS:
                return None
        raise ArgumentError(
            f"gradcheck: expected a point with a gradient, but {name} {self.leaves[name].shape} is at a kink "
            "(a ReLU at exactly 0, a tie in max-pooling): try other inputs or parameters"
        )

    def by_entries(self, name: str) -> str | None:
        """What is wrong with the worst entry, or None; entries at a kink are passed over."""
        worst, message, checked = 0.0, None, False
        for i, unit in self.entries(name):
            slopes = self.along(name, unit)
            if slopes is None:
                continue
            checked = True
            error = abs(slopes[0] - slopes[1])
            if _wrong(*slopes) and (message is None or error > worst):
                worst, message = error, f"{name}, entry {i}: {_message(slopes)}"
        if not checked:
            raise ArgumentError(f"gradcheck: expected a point with a gradient, but every entry of {name} is at a kink")
        return message


def _joined(output: Any) -> Any:
    """Several outputs as one vector; those that have no gradient, such as indices, stay out."""
    if not isinstance(output, (tuple, list)):
        return output
    parts = [part for part in output if isinstance(part, Tensor) and part.dtype.kind == "f"]
    return cat([part.reshape(-1) for part in parts]) if parts else output


def _wrong(numeric: float, expected: float, tolerance: float) -> bool:
    return not abs(numeric - expected) <= tolerance  # NaN is wrong


def _message(slopes: tuple[float, float, float]) -> str:
    numeric, expected, tolerance = slopes
    return f"finite differences give {numeric:.9g}, backward gives {expected:.9g} (tolerance {tolerance:.2g})"


def gradcheck(
    function: Callable[..., Any],
    inputs: Any,
    eps: float = 1e-6,
    atol: float = 1e-6,
    rtol: float = 1e-4,
    raise_exception: bool = True,
    *,
    per_entry: bool = False,
    seed: int = 0,
) -> bool:
    """Does backward() agree with finite differences, for every parameter and every floating input? In float64.

    Args:
        function: a model (a float64 copy of it is checked, the model stays as it is) or any function of tensors; of
            several outputs all those of floating types are checked.
        inputs: what it is called with: one array or tensor, or a tuple of them. Floating ones become float64 and are
            checked, others (labels, uint8 images) are passed on.
        eps: the step; it is made smaller where a kink is near.
        atol, rtol: agreement to atol + rtol·(size of the gradient along the direction).
        raise_exception: False returns False instead of raising GradientError.
        per_entry: check every entry by itself (slow) instead of three random directions per array.
        seed: of the directions.

    Returns True. Raises GradientError that names the parameter or input, the entry and both numbers; ArgumentError at
    a point without a gradient (every direction meets a kink) and for functions that do not give a tensor.

    >>> import numpy as np, fastnn as fnn
    >>> from fastnn import nn
    >>> model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    >>> fnn.gradcheck(model, np.ones((5, 4)))
    True
    """
    if not callable(function):
        raise ArgumentError(f"gradcheck: expected a model or a function of tensors, got {type(function).__name__}")
    eps = number("gradcheck", "eps", eps, above=0)
    atol, rtol = number("gradcheck", "atol", atol, 0), number("gradcheck", "rtol", rtol, 0)
    seed = whole("gradcheck", "seed", seed, 0)
    call = copy.deepcopy(function).double() if isinstance(function, Module) else function
    given = inputs if isinstance(inputs, (tuple, list)) else (inputs,)
    arguments: list[Any] = []
    leaves: dict[str, Tensor] = {}
    for i, value in enumerate(given):
        array = value.numpy() if isinstance(value, Tensor) else as_array(value)
        if array.dtype.kind == "f":
            leaves[f"input {i}"] = Tensor(array.astype(np.float64), requires_grad=True)
            arguments.append(leaves[f"input {i}"])
        else:
            arguments.append(value)
    if isinstance(call, Module):
        leaves.update((name, p) for name, p in call.named_parameters() if p.requires_grad)
    state = random.get_state()
    try:
        check = _Check(lambda: _joined(call(*arguments)), leaves, eps, atol, rtol, seed)
        for name, leaf in leaves.items():
            if leaf.numel() == 0:
                continue
            problem = check.by_entries(name) if flag("gradcheck", "per_entry", per_entry) else check.by_directions(name)
            if problem is not None:
                if raise_exception:
                    raise GradientError(f"gradcheck: {problem}")
                return False
    finally:
        random.set_state(state)
    return True


class _Slopes(Module):
    """What gradgradcheck checks: the gradients of a model or function, as one vector, on the tape."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *arguments: Any) -> Tensor:
        *inputs, weights = arguments
        wanted = [x for x in inputs if isinstance(x, Tensor) and x.requires_grad]
        if isinstance(self.function, Module):
            wanted += [p for p in self.function.parameters() if p.requires_grad]
        on_tape = recording()  # finite differences are those of the ordinary backward
        with enable_grad():
            output = _joined(self.function(*inputs))
            found = grad(output, wanted, weights, retain_graph=on_tape, allow_unused=True)
            if on_tape:
                ordinary, found = found, grad(output, wanted, weights, create_graph=True, allow_unused=True)
                for one, other in zip(ordinary, found, strict=True):
                    if one is not None and not np.allclose(one.data, other.data, 1e-7, 1e-9, equal_nan=True):
                        raise GradientError("gradgradcheck: backward on the tape gives other gradients than backward")
            return cat([slope.reshape(-1) for slope in found if slope is not None])


def gradgradcheck(
    function: Callable[..., Any],
    inputs: Any,
    grad_outputs: Any = None,
    eps: float = 1e-6,
    atol: float = 1e-6,
    rtol: float = 1e-4,
    raise_exception: bool = True,
    *,
    seed: int = 0,
) -> bool:
    """Do second derivatives agree with finite differences of first ones? In float64, arguments as for `gradcheck`.

    `grad_outputs`, the gradient that the first backward starts from, is checked as an input, too; random if absent.

    >>> import numpy as np, fastnn as fnn
    >>> fnn.gradgradcheck(lambda x: x.tanh(), np.array([0.3, -1.0]))
    True
    """
    if not callable(function):
        raise ArgumentError(f"gradgradcheck: expected a model or a function of tensors, got {type(function).__name__}")
    given, seed = inputs if isinstance(inputs, (tuple, list)) else (inputs,), whole("gradgradcheck", "seed", seed, 0)
    if not given:
        raise ArgumentError("gradgradcheck: expected at least one input, got none")
    if grad_outputs is None:
        state = random.get_state()
        twin = copy.deepcopy(function).double() if isinstance(function, Module) else function
        arrays = [numbers("gradgradcheck", x) for x in given]
        with no_grad():
            output = _joined(twin(*(Tensor(x.astype(np.float64) if x.dtype.kind == "f" else x) for x in arrays)))
        random.set_state(state)
        grad_outputs = np.random.default_rng(seed).uniform(0.5, 1.5, output.shape)
    elif isinstance(grad_outputs, (tuple, list)):
        grad_outputs = _joined(
            [x if isinstance(x, Tensor) else Tensor(numbers("gradgradcheck", x)) for x in grad_outputs]
        )
    return gradcheck(
        _Slopes(function), (*given, grad_outputs), eps, atol, rtol, raise_exception=raise_exception, seed=seed
    )
