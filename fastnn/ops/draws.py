"""Random tensors: new numbers at every call, compiled or not, from the streams that `fnn.manual_seed` starts."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import random
from fastnn.checks import flag, is_whole, shown, whole
from fastnn.devices import cpu_only
from fastnn.dtypes import dtype_of
from fastnn.errors import ArgumentError, DTypeError, ShapeError
from fastnn.habits import check_options
from fastnn.ops.common import tensor_of
from fastnn.ops.names import of
from fastnn.tape import tracer
from fastnn.tensors import Array, Context, Function, Tensor

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

if not TYPE_CHECKING:
    __all__ = of("draws")


class RandnLike(Function):
    """Standard normal numbers in x's shape. Attribute: dtype."""

    differentiable = False

    @staticmethod
    def draw(source: np.random.Generator, shape: tuple[int, ...], *, dtype: np.dtype[Any]) -> Array:
        return source.standard_normal(shape, dtype)

    @staticmethod
    def forward(ctx: Context, x: Array, *, dtype: np.dtype[Any]) -> Array:
        return RandnLike.draw(random.next_generator(), x.shape, dtype=dtype)


class RandLike(Function):
    """Numbers from [0, 1) in x's shape. Attribute: dtype."""

    differentiable = False

    @staticmethod
    def draw(source: np.random.Generator, shape: tuple[int, ...], *, dtype: np.dtype[Any]) -> Array:
        return source.random(shape, dtype)

    @staticmethod
    def forward(ctx: Context, x: Array, *, dtype: np.dtype[Any]) -> Array:
        return RandLike.draw(random.next_generator(), x.shape, dtype=dtype)


class RandintLike(Function):
    """Whole numbers from low to high - 1 in x's shape. Attributes: low, high, dtype."""

    differentiable = False

    @staticmethod
    def draw(
        source: np.random.Generator, shape: tuple[int, ...], *, low: int, high: int, dtype: np.dtype[Any]
    ) -> Array:
        return np.asarray(source.integers(low, high, shape)).astype(dtype)

    @staticmethod
    def forward(ctx: Context, x: Array, *, low: int, high: int, dtype: np.dtype[Any]) -> Array:
        return RandintLike.draw(random.next_generator(), x.shape, low=low, high=high, dtype=dtype)


class Permutation(Function):
    """0 to n - 1 in random order, for x (n,). Attribute: dtype."""

    differentiable = False

    @staticmethod
    def draw(source: np.random.Generator, shape: tuple[int, ...], *, dtype: np.dtype[Any]) -> Array:
        return source.permutation(shape[0]).astype(dtype)

    @staticmethod
    def forward(ctx: Context, x: Array, *, dtype: np.dtype[Any]) -> Array:
        return Permutation.draw(random.next_generator(), x.shape, dtype=dtype)


class Bernoulli(Function):
    """1 with the probabilities that x holds, else 0."""

    differentiable = False

    @staticmethod
    def forward(ctx: Context, x: Array) -> Array:
        if not ((x >= 0) & (x <= 1)).all():
            wrong = x[~((x >= 0) & (x <= 1))][0]
            raise ArgumentError(f"bernoulli: expected probabilities from 0 to 1, got {wrong}")
        return (random.next_generator().random(x.shape, x.dtype) < x).astype(x.dtype)


class Multinomial(Function):
    """(N, C) shares, not negative -> (N, num_samples) indices, drawn by them. Attributes: num_samples, replacement."""

    differentiable = False

    @staticmethod
    def draw(source: np.random.Generator, x: Array, *, num_samples: int, replacement: bool) -> Array:
        if not (np.isfinite(x) & (x >= 0)).all() or not (x.sum(-1) > 0).all():
            raise ArgumentError("multinomial: expected shares that are finite, not negative, and not all 0")
        if not replacement and (np.count_nonzero(x, -1) < num_samples).any():
            raise ArgumentError(f"multinomial: expected {num_samples} shares above 0 where none is drawn twice")
        if replacement:  # where a number from [0, 1) falls among the sums of shares
            ends = np.cumsum(x, -1, dtype=np.float64)
            points = source.random((len(x), num_samples)) * ends[:, -1:]
            return np.stack([np.searchsorted(row, at, side="right") for row, at in zip(ends, points, strict=True)])
        # The order of exponential times at these rates (Efraimidis and Spirakis 2006).
        with np.errstate(divide="ignore"):
            times = source.standard_exponential(x.shape) / x
        return np.argsort(times, -1)[:, :num_samples]

    @staticmethod
    def forward(ctx: Context, x: Array, *, num_samples: int, replacement: bool) -> Array:
        return Multinomial.draw(random.next_generator(), x, num_samples=num_samples, replacement=replacement)


class Poisson(Function):
    """Counts with the means that x holds, as floats."""

    differentiable = False

    @staticmethod
    def draw(source: np.random.Generator, x: Array) -> Array:
        fits = (x >= 0) & (x < 2**62)  # counts are int64
        if not fits.all():
            raise ArgumentError(f"poisson: expected means from 0 to 2**62, got {x[~fits].flat[0]}")
        return np.asarray(source.poisson(x)).astype(x.dtype)  # NumPy gives an int for one rate

    @staticmethod
    def forward(ctx: Context, x: Array) -> Array:
        return Poisson.draw(random.next_generator(), x)


class Binomial(Function):
    """How many of n events come about, each with probability p; n and p in one shape, counts as floats."""

    differentiable = False

    @staticmethod
    def draw(source: np.random.Generator, n: Array, p: Array) -> Array:
        if not ((p >= 0) & (p <= 1)).all():
            raise ArgumentError(
                f"binomial: expected probabilities from 0 to 1, got {p[~((p >= 0) & (p <= 1))].flat[0]}"
            )
        if not (n >= 0).all():
            raise ArgumentError(f"binomial: expected counts of at least 0, got {n[~(n >= 0)].flat[0]}")
        return np.asarray(source.binomial(n.astype(np.int64), p)).astype(p.dtype)

    @staticmethod
    def forward(ctx: Context, n: Array, p: Array) -> Array:
        return Binomial.draw(random.next_generator(), n, p)


class VonMises(Function):
    """Angles from -π to π around x with the concentrations k, both of one shape."""

    differentiable = False

    @staticmethod
    def forward(ctx: Context, x: Array, k: Array) -> Array:
        return np.asarray(random.next_generator().vonmises(x, k)).astype(x.dtype)


class Generator:
    """Random numbers apart from all others: ``fnn.Generator().manual_seed(0)``, for what takes a `generator`.

    >>> import fastnn as fnn
    >>> g = fnn.Generator().manual_seed(0)
    >>> first = fnn.rand(3, generator=g)
    >>> bool((fnn.rand(3, generator=g.manual_seed(0)) == first).all())
    True
    """

    def __init__(self, device: Any = "cpu") -> None:
        cpu_only("Generator", device)
        self.seed()

    def manual_seed(self, seed: int) -> Generator:
        """Start afresh from an integer from 0 to 2^64 - 1; returns the generator itself."""
        if not is_whole(seed, 0, 2**64 - 1):
            raise ArgumentError(f"manual_seed: expected an integer from 0 to 2**64 - 1, got {seed!r}")
        self._seed = int(seed)
        self.numpy = np.random.Generator(np.random.Philox(self._seed))
        return self

    def seed(self) -> int:
        """Start afresh from a seed of the operating system's; returns it."""
        self.manual_seed(int.from_bytes(os.urandom(8), "little"))
        return self._seed

    def initial_seed(self) -> int:
        """The seed that it was started from."""
        return self._seed

    def get_state(self) -> dict[str, Any]:
        """All there is to know to go on from here, as NumPy's generators say it."""
        return dict(self.numpy.bit_generator.state)

    def set_state(self, new_state: dict[str, Any]) -> Generator:
        """Go on from where get_state() was called."""
        try:
            self.numpy.bit_generator.state = new_state
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ArgumentError(f"set_state: expected what get_state() returned, got {shown(new_state)}") from error
        return self


def source_of(op: str, generator: Any) -> np.random.Generator:
    """NumPy's generator behind a user's: fnn.Generator's, or NumPy's own. ArgumentError for others, and in plans."""
    if tracer() is not None:
        raise ArgumentError(f"{op}: in a compiled model random numbers come from fnn.manual_seed: leave out generator=")
    source = getattr(generator, "numpy", generator)
    if not isinstance(source, np.random.Generator):
        raise ArgumentError(f"{op}: expected generator=fnn.Generator(), got {type(generator).__name__}")
    return source


def drawn(function: Any, op: str, shape: tuple[int, ...], generator: Any, **attributes: Any) -> Tensor:
    """Numbers of this shape, in a plan new ones at every call."""
    if generator is None:
        return function.apply(Tensor(np.broadcast_to(np.zeros((), np.float32), shape)), **attributes)
    return Tensor(function.draw(source_of(op, generator), shape, **attributes))


def randn_like(
    input: Any,
    *,
    dtype: DTypeLike | None = None,
    layout: None = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: None = None,
) -> Tensor:
    """Standard normal numbers in the shape of `input`, of its type or `dtype` (float32 or float64); no gradient.

    Every call takes new numbers, in a compiled model, too; `fnn.manual_seed` starts them afresh, for any number of
    threads. Raises DTypeError for integers.

    >>> import fastnn as fnn
    >>> mean, std = fnn.Tensor([0.0, 5.0]), fnn.Tensor([1.0, 0.1])
    >>> (mean + std * fnn.randn_like(std)).shape  # a variational autoencoder's draw
    (2,)
    """
    check_options("randn_like", layout=layout, device=device, memory_format=memory_format)
    x = tensor_of(input)
    found = RandnLike.apply(x, dtype=_dtype("randn_like", x, dtype))
    return found.requires_grad_() if flag("randn_like", "requires_grad", requires_grad) else found


def rand_like(
    input: Any,
    *,
    dtype: DTypeLike | None = None,
    layout: None = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: None = None,
) -> Tensor:
    """Numbers from [0, 1), all equally likely, in the shape of `input`; everything else as for `randn_like`.

    >>> import fastnn as fnn
    >>> drawn = fnn.rand_like(fnn.Tensor([[0.0, 0.0]]))
    >>> drawn.shape, bool((drawn >= 0).all() and (drawn < 1).all())
    ((1, 2), True)
    """
    check_options("rand_like", layout=layout, device=device, memory_format=memory_format)
    x = tensor_of(input)
    found = RandLike.apply(x, dtype=_dtype("rand_like", x, dtype))
    return found.requires_grad_() if flag("rand_like", "requires_grad", requires_grad) else found


def bernoulli(input: Any, p: Any = None, *, generator: Any = None, out: None = None) -> Tensor:
    """1 with the probability that `input` holds in that place, or `p`, else 0, in its shape and type; no gradient.

    Every call takes new numbers, as `randn_like` does. Raises ArgumentError for entries that are not from 0 to 1,
    DTypeError for integers.

    >>> import fastnn as fnn
    >>> fnn.bernoulli(fnn.Tensor([0.0, 1.0]))
    Tensor([0., 1.])
    """
    check_options("bernoulli", out=out)
    x = tensor_of(input)
    _dtype("bernoulli", x, None)
    if p is not None:
        x = x.detach() * 0 + p
    if generator is not None:
        return (drawn(RandLike, "bernoulli", x.shape, generator, dtype=x.dtype) < x).astype(x.dtype)
    return Bernoulli.apply(x)


def multinomial(
    input: Any, num_samples: int, replacement: bool = False, *, generator: Any = None, out: None = None
) -> Tensor:
    """So many indices drawn by the shares that `input` holds, (C,) or (N, C), each row for itself; int64, no gradient.

    Shares need not sum to 1. Without `replacement` no index is drawn twice. Raises ArgumentError for shares that are
    negative, not finite, or all 0, and for too few to draw from.

    >>> import fastnn as fnn
    >>> fnn.multinomial(fnn.tensor([0.0, 3.0]), 3, replacement=True)
    Tensor([1, 1, 1], dtype=int64)
    """
    check_options("multinomial", out=out)
    x = tensor_of(input)
    _dtype("multinomial", x, None)
    if x.ndim not in (1, 2) or not x.shape[-1]:
        raise ShapeError(f"multinomial: expected shares (C,) or (N, C), got {x.shape}")
    rows = x if x.ndim == 2 else x.reshape(1, -1)
    options: dict[str, Any] = {
        "num_samples": whole("multinomial", "num_samples", num_samples, 1),
        "replacement": flag("multinomial", "replacement", replacement),
    }
    if generator is None:
        found = Multinomial.apply(rows, **options)
    else:
        found = Tensor(Multinomial.draw(source_of("multinomial", generator), rows.detach().data, **options))
    return found if x.ndim == 2 else found.reshape(-1)


def poisson(input: Any, generator: Any = None) -> Tensor:
    """Counts, each with the mean that `input` holds in that place, in its shape and type; no gradient.

    Raises ArgumentError for negative means, DTypeError for integers.

    >>> import fastnn as fnn
    >>> fnn.poisson(fnn.tensor([0.0, 0.0]))
    Tensor([0., 0.])
    """
    x = tensor_of(input)
    _dtype("poisson", x, None)
    if generator is None:
        return Poisson.apply(x)
    return Tensor(Poisson.draw(source_of("poisson", generator), x.detach().data))


def _dtype(name: str, x: Tensor, dtype: DTypeLike | None) -> np.dtype[Any]:
    wanted = x.dtype if dtype is None else dtype_of(name, dtype)
    if wanted is None or wanted not in (np.float32, np.float64):
        raise DTypeError(f"{name}: expected float32 or float64, got {wanted}: pass a float tensor")
    return wanted
