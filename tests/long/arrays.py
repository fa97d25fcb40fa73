"""Arrays of every kind and arguments of every value give the right result or a typed error.

Functions are called with arrays of every type, byte order, alignment and strides, empty, 0-dimensional, broadcast,
read-only, masked, of subclasses and of objects, with lists and with arguments that fit or do not. PyTorch does the same
in float64 with plain arrays. What fastnn returns has PyTorch's shape, kind and values, and so have its gradients; what
it refuses is a FastnnError, and never an array of float32 or float64 that PyTorch takes. No input is changed.
"""

from __future__ import annotations

import importlib.util
import math
import random
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import fastnn as fnn
from fastnn.errors import FastnnError

IN_CI = 0.025
SEED = 20261128
CASES = 20_000

Array = np.ndarray[Any, Any]


class Own(np.ndarray):  # type: ignore[type-arg]
    """A subclass without meaning of its own."""


class Held:
    """What NumPy takes by its protocol."""

    def __init__(self, array: Array) -> None:
        self.array = array

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        return np.asarray(self.array, dtype)


def _spaced(x: Array) -> Array:
    room = np.full((*x.shape[:-1], 2 * x.shape[-1] + 1), np.nan, x.dtype) if x.ndim else np.full(3, 9, x.dtype)
    view = room[..., 1::2] if x.ndim else room[1:2].reshape(())
    view[...] = x
    return view


def _unaligned(x: Array) -> Array:
    room = np.zeros(x.nbytes + 1, np.uint8)
    view = room[1:].view(x.dtype).reshape(x.shape)
    view[...] = x
    return view


def _padded(x: Array) -> Array:
    room = np.full([n + 3 for n in x.shape], np.nan, x.dtype)
    inner = room[(*(slice(1, n + 1) for n in x.shape), ...)]
    inner[...] = x
    return inner


def _read_only(x: Array) -> Array:
    x = x.copy()
    x.flags.writeable = False
    return x


def _mapped(x: Array) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        if not x.size:
            return x
        np.save(Path(folder, "x.npy"), x)
        return np.load(Path(folder, "x.npy"), mmap_mode="r")


def _single_entries(x: Array) -> Array:
    """Strides of 0 where that gives the same numbers: along axes of length 1."""
    return np.broadcast_to(x.copy(), x.shape)


# Of an array, the same numbers in another manner; all have to be taken where float32 or float64 is.
LAYOUTS: dict[str, Callable[[Array], Any]] = {
    "contiguous": lambda x: x.copy(), "spaced": _spaced, "Fortran": lambda x: x.copy("F"), "unaligned": _unaligned,
    "backwards": lambda x: np.asarray(np.flip(np.flip(x).copy())), "padded": _padded, "read-only": _read_only,
    "mapped": _mapped, "broadcast": _single_entries, "a tensor": fnn.Tensor, "a subclass": lambda x: x.view(Own),
    "a masked array without a mask": np.ma.asarray, "a list": lambda x: x.tolist() if x.size else x,
    "by __array__": Held,
    "a tensor that learns": lambda x: fnn.Tensor(x, requires_grad=True) if x.dtype.kind == "f" else fnn.Tensor(x),
}  # fmt: skip
EXACT = ("f4", "f8")
DTYPES = [*EXACT * 4, "f2", ">f4", ">f8", "<f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", ">i4", ">i8", "?", "O"]


def _masked(x: Array) -> Any:
    return np.ma.masked_array(x, np.ones(x.shape, bool))


# What has no numbers that could be meant; refused even where it is empty, but for the masked.
REFUSED: dict[str, Callable[[Array], Any]] = {
    "masked": _masked, "complex": lambda x: x.astype(np.complex64), "text": lambda x: x.astype(str),
    "bytes": lambda x: x.astype("S4"), "dates": lambda x: x.astype("i8").astype("M8[s]"),
    "fields": lambda x: np.zeros(x.shape, [("a", "f4"), ("b", "f4")]),
    "objects": lambda x: np.full(x.shape, None, object), "a set": lambda x: {1.0, 2.0},
    "a generator": lambda x: (i for i in range(3)), "a dict": lambda x: {"a": x}, "a function": lambda x: np.sin,
}  # fmt: skip

SHAPES: list[tuple[int, ...]] = [
    (),
    (0,),
    (1,),
    (5,),
    (2, 3),
    (3, 3),
    (0, 3),
    (3, 0),
    (3, 1, 4),
    (2, 3, 4),
    (2, 3, 4, 5),
]
NUMBERS = [0, 1, 2, 3, -1, -2, -3, -5, 7, 10**6, 2**40, -(2**63), True, None, 0.5, math.nan, math.inf, "1", [1]]

NAMES = {
    "one": "abs neg exp log sqrt sin cos tan tanh sigmoid relu square floor ceil round sign reciprocal rsqrt erf log1p "
    "expm1 atan asinh sinh cosh log2 log10 exp2 isnan isinf isfinite trunc frac logical_not ravel t numel clone "
    "nan_to_num acos asin atanh sgn",
    "two": "add sub mul div pow maximum minimum atan2 fmod remainder eq ne lt le gt ge logical_and logical_or "
    "logical_xor floor_divide true_divide",
    "reduction": "sum mean amax amin logsumexp prod any all std var argmax argmin count_nonzero nansum median",
    "along": "softmax log_softmax cumsum cumprod flip unsqueeze squeeze sort argsort unbind logcumsumexp diff",
    "activation": "elu gelu silu softplus leaky_relu hardtanh hardswish mish softsign relu6 selu celu logsigmoid "
    "hardsigmoid tanhshrink softshrink hardshrink",
    "loss": "mse_loss l1_loss smooth_l1_loss huber_loss",
    "product": "matmul mm bmm mv dot outer inner",
}

Call = tuple[str, list[tuple[int, ...]], list[Any], dict[str, Any]]  # name, arrays' shapes, arguments behind, by name


def _whole(rng: random.Random, rank: int) -> Any:
    """An axis that mostly is one, or any value."""
    return rng.randrange(-rank, rank) if rank and rng.random() < 0.75 else rng.choice(NUMBERS)


def _beside(rng: random.Random, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape that mostly broadcasts with that one."""
    if rng.random() < 0.1:
        return rng.choice(SHAPES)
    cut = shape[rng.randint(0, len(shape)) :] if rng.random() < 0.4 else shape
    return tuple(1 if rng.random() < 0.2 else n for n in cut)


def _convolution(rng: random.Random) -> Call:
    d, groups = rng.choice([1, 2]), rng.choice([1, 1, 1, 2])
    inputs, outputs = groups * rng.randint(1, 3), groups * rng.randint(1, 3)
    size = [rng.randint(1, 4) for _ in range(d)]
    x = (rng.randint(0, 3), inputs, *(n + rng.randint(0, 4) for n in size))
    options: dict[str, Any] = {"groups": groups if rng.random() < 0.9 else rng.choice(NUMBERS)}
    for name, few in (("stride", [1, 2, 3]), ("padding", [0, 1, 2]), ("dilation", [1, 2])):
        if rng.random() < 0.4:
            options[name] = rng.choice(few) if rng.random() < 0.85 else rng.choice(NUMBERS)
    shapes = [x, (outputs, inputs // groups, *size), *([(outputs,)] if rng.random() < 0.5 else [])]
    return f"nn.functional.conv{d}d", shapes, [], options


def _pooling(rng: random.Random) -> Call:
    kind, d = rng.choice(["max", "avg"]), rng.choice([1, 2])
    shape = (rng.randint(1, 2), rng.randint(1, 3), *(rng.randint(1, 7) for _ in range(d)))
    values = [rng.randint(1, 3) if rng.random() < 0.85 else rng.choice(NUMBERS) for _ in range(rng.choice([1, 1, 2]))]
    return f"nn.functional.{kind}_pool{d}d", [shape], values, {}


def _product(rng: random.Random) -> Call:
    name, (m, k, n) = rng.choice(NAMES["product"].split()), (rng.choice([0, 1, 2, 5, 17]) for _ in range(3))
    rank = {"matmul": rng.choice([1, 2, 3]), "mm": 2, "bmm": 3, "mv": 2}.get(name, 1)
    left = {1: (k,), 2: (m, k), 3: (2, m, k)}[rank]
    right = {"mv": (k,), "outer": (n,)}.get(name, {1: (k,), 2: (k, n), 3: (2, k, n)}[rank])
    return name, [left, right if rng.random() < 0.9 else rng.choice(SHAPES)], [], {}


def _shaping(rng: random.Random) -> Call:
    shape = rng.choice(SHAPES)
    count, axis = math.prod(shape), _whole(rng, len(shape))
    calls: list[tuple[str, list[Any]]] = [
        ("reshape", [rng.choice([(-1,), (count,), (1, count), (-1, 1), (count + 1,), (-1, -1), (0, -1)])]),
        ("transpose", [axis, _whole(rng, len(shape))]),
        ("permute", [tuple(rng.sample(range(len(shape)), len(shape)))]),
        ("flatten", [axis]), ("roll", [rng.choice([1, -2, 7]), axis]), ("movedim", [axis, _whole(rng, len(shape))]),
        ("tril", [rng.randint(-2, 2)]), ("triu", [rng.choice([0, 1, -1, 5])]), ("narrow", [axis, rng.randint(0, 2), 1]),
        ("chunk", [rng.choice([1, 2, 3, 0, -1]), axis]), ("split", [rng.choice([1, 2, 0, -1]), axis]),
        ("select", [axis, rng.choice([0, -1, 1, 9])]), ("topk", [rng.choice([0, 1, 2, 9, -1]), axis]),
        ("kthvalue", [rng.choice([1, 2, 0, 9]), axis]),
        ("clamp", [rng.choice([-0.5, None]), rng.choice([0.5, -1, None])]),
        ("broadcast_to", [(2, *shape)]), ("tile", [(2, 1)]), ("repeat_interleave", [rng.choice([0, 1, 2, -1]), axis]),
    ]  # fmt: skip
    name, arguments = rng.choice(calls)
    return name, [shape], arguments, {}


def _drawn(rng: random.Random) -> Call:
    """A function, with shapes and arguments that mostly fit."""
    shape = rng.choice(SHAPES)
    group = rng.randrange(11)
    if group == 0:
        return rng.choice(NAMES["one"].split()), [shape], [], {}
    if group in (1, 2):
        return rng.choice(NAMES["two"].split()), [shape, _beside(rng, shape)], [], {}
    if group == 3:
        name = rng.choice(NAMES["reduction"].split())
        axis = [_whole(rng, len(shape))] if name == "logsumexp" or rng.random() < 0.8 else []
        return name, [shape], axis, {"keepdim": True} if axis and name != "count_nonzero" and rng.random() < 0.3 else {}
    if group == 4:
        return rng.choice(NAMES["along"].split()), [shape], [_whole(rng, len(shape))], {}
    if group == 5:
        return f"nn.functional.{rng.choice(NAMES['activation'].split())}", [shape], [], {}
    if group == 6:
        reduction = rng.choice(["mean", "sum", "none", "none", "median"])
        return f"nn.functional.{rng.choice(NAMES['loss'].split())}", [shape, shape], [], {"reduction": reduction}
    if group == 7:
        weight = (rng.randint(0, 4), shape[-1] if shape and rng.random() < 0.9 else 3)
        if rng.random() < 0.4:
            return "nn.functional.layer_norm", [shape], [shape[len(shape) - rng.choice([1, 1, 2]) :]], {}
        return "nn.functional.linear", [shape, weight, weight[:1]], [], {}
    return {8: _convolution, 9: _pooling, 10: rng.choice([_product, _shaping])}[group](rng)


def _array(rng: random.Random, numbers: np.random.Generator, shape: tuple[int, ...]) -> tuple[str, Any, Array | None]:
    """What it is, the array in some manner, and the plain one for PyTorch: None where it has to be refused."""
    values = np.asarray(numbers.integers(-8, 9, shape) / 4)
    if rng.random() < 0.03:
        kind = rng.choice([*REFUSED])
        empty = kind == "masked" and not values.size
        return kind, REFUSED[kind](values), values if empty else None
    dtype, layout = rng.choice(DTYPES), rng.choice([*LAYOUTS])
    kind = np.dtype(dtype).kind
    if kind == "u":
        values = abs(values)
    if kind == "f" and rng.random() < 0.1 and values.size:
        values.reshape(-1)[rng.randrange(values.size)] = rng.choice([np.nan, np.inf, -np.inf, -0.0])
    if kind == "O":
        values, layout = values.astype(np.float64), "contiguous"
    array = np.asarray(values, dtype) if kind != "O" else values.astype(object)
    if kind in "iub" and layout in ("spaced", "padded"):
        layout = "contiguous"  # their rest is NaN
    plain = np.asarray(array, {"f": "f8", "O": "f8", "b": "?"}.get(kind, "i8"))
    return f"{dtype} {shape} {layout}", LAYOUTS[layout](array) if kind != "O" else array, plain


def _found(name: str, library: Any) -> Any:
    for part in name.split("."):
        library = getattr(library, part, None)
    return library


def _leaves(result: Any) -> list[Any]:
    return [leaf for part in result for leaf in _leaves(part)] if isinstance(result, (tuple, list)) else [result]


def _ordinary(arguments: Any) -> bool:
    """Whether they are small whole numbers, truth values and words."""
    if isinstance(arguments, tuple):
        return all(map(_ordinary, arguments))
    return arguments is None or isinstance(arguments, (bool, str)) or (type(arguments) is int and -9 < arguments < 30)


def _copied(given: Any) -> Any:
    held = given.array if isinstance(given, Held) else given.data if isinstance(given, fnn.Tensor) else given
    return held.copy() if isinstance(held, np.ndarray) else None


class _Cases:
    """Draws cases, and counts what became of them."""

    def __init__(self, torch: Any, seed: int) -> None:
        self.torch, self.rng, self.numbers = torch, random.Random(seed), np.random.default_rng(seed)
        self.count: Counter[str] = Counter()

    def one(self) -> None:
        name, shapes, behind, options = _drawn(self.rng)
        function = _found(name, fnn)
        drawn = [_array(self.rng, self.numbers, shape) for shape in shapes]
        kinds, given, plain = (list(part) for part in zip(*drawn, strict=True))
        what = f"{name}({', '.join(map(str, kinds))}, *{behind}, **{options})"
        before = [_copied(each) for each in given]
        found, refused = None, ""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = function(*given, *behind, **options)
        except FastnnError as error:
            refused = str(error)
        except Exception as error:
            raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
        for each, old in zip(given, before, strict=True):
            same = old is None or np.array_equal(_copied(each), old, equal_nan=old.dtype.kind == "f")
            assert same, f"{what}: an input was changed"
        if refused and not _ordinary([*behind, *options.values()]):  # PyTorch does not come back from some of these
            self.count["refused"] += 1
        elif any(each is None for each in plain):
            assert refused, f"{what}: {found} was made of what has no numbers"
            self.count["refused"] += 1
        else:
            self._compare(what, name, (given, plain, kinds), (behind, options), found, refused)

    def _compare(self, what: str, name: str, arrays: Any, arguments: Any, found: Any, refused: str) -> None:
        (given, plain, kinds), (behind, options), torch = arrays, arguments, self.torch
        floats = name.startswith("nn.functional.")  # which make floats of integers
        theirs = [torch.from_numpy(each.astype(np.float64 if floats else each.dtype)) for each in plain]
        learns = [isinstance(each, fnn.Tensor) and each.requires_grad for each in given]
        for tensor, one in zip(theirs, learns, strict=True):
            tensor.requires_grad_(one)
        try:
            expected = _found(name, torch)(*theirs, *behind, **options)
        except Exception as error:  # PyTorch raises errors of many types
            self.count["refused" if refused else "taken beyond PyTorch"] += 1
            del error
            return
        if refused:
            unusual = any(word in kind for kind in kinds for word in ("a list", "__array__"))
            ordinary = kinds[0][:2] in EXACT and len({kind[:2] for kind in kinds}) == 1 and not unusual
            ordinary &= min(each.size for each in plain) > 1  # of none or one there need not be an answer
            assert not ordinary, f"{what}: {refused}; PyTorch gives {expected}"
            self.count["refused"] += 1
            return
        if name == "floor_divide" and np.isinf(plain[1]).any():  # PyTorch's -5 / inf is -1, here it is no number
            return
        tolerance = 4e-3 if any("f2" in kind for kind in kinds) else 3e-5
        mine, wanted = _leaves(found), _leaves(expected)
        if name in ("topk", "kthvalue", "median", "sort"):
            mine, wanted = mine[:1], wanted[:1]  # which of equal entries it is remains open
        assert len(mine) == len(wanted), f"{what}: {len(mine)} results, expected {len(wanted)}"
        for a, b in zip(mine, wanted, strict=True):
            self._same(what, a, b, tolerance)
        self.count["right"] += 1
        # Elsewhere gradients are a matter of taste: pow's at 0 is no number here, and one in PyTorch.
        poles = name == "pow" and any((each == 0).any() for each in plain)
        finite = not poles and all(np.isfinite(each).all() for each in plain)
        if any(learns) and finite and isinstance(found, fnn.Tensor) and expected.requires_grad:
            self._gradients(what, (found, given), (expected, theirs), tolerance)

    def _same(self, what: str, mine: Any, wanted: Any, tolerance: float) -> None:
        kind = mine.data.dtype.kind if isinstance(mine, fnn.Tensor) else "f"
        assert kind in "fiub", f"{what}: a tensor of {mine.data.dtype}"
        a, b = (np.asarray(x.detach().numpy() if hasattr(x, "detach") else x) for x in (mine, wanted))
        assert a.shape == b.shape, f"{what}: shape {a.shape}, expected {b.shape}"
        kinds = a.dtype.kind.replace("u", "i") + b.dtype.kind.replace("u", "i")
        assert kinds in ("ff", "ii", "bb", "fi", "fb", "ib", "bi"), f"{what}: {a.dtype}, expected {b.dtype}"
        b = b.astype(a.dtype) if kinds == "ii" else b  # small types wrap around
        close = np.allclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True)
        assert close, f"{what}: {a.tolist()}, expected {b.tolist()}"

    def _gradients(self, what: str, mine: Any, theirs: Any, tolerance: float) -> None:
        (found, given), (expected, tensors) = mine, theirs
        if not found.requires_grad:
            assert what.startswith("floor_divide"), f"{what}: no gradient flows"  # in PyTorch an error, later
            return
        found.sum().backward()
        try:
            expected.sum().backward()
        except RuntimeError:  # for some mixtures of types it has none
            return
        for a, b in zip(given, tensors, strict=True):
            if b.grad is not None and isinstance(a, fnn.Tensor) and a.requires_grad:
                self._same(f"gradient of {what}", a.grad, b.grad.numpy(force=True), tolerance)
        self.count["gradients"] += 1


def measure(share: float = 1.0) -> str:
    """How many cases were right, and how many were refused."""
    if importlib.util.find_spec("torch") is None:
        return "needs PyTorch to compare with"
    import torch

    cases = round(CASES * share)
    run = _Cases(torch, SEED)
    for number in range(cases):
        try:
            run.one()
        except AssertionError as error:
            raise AssertionError(f"seed {SEED}, case {number}: {error}") from error
    count = run.count
    assert count["right"] > cases / 3, f"too few of {cases} were compared: {count}"
    return (
        f"{cases} cases: {count['right']} right, {count['gradients']} with their gradients, {count['refused']} refused "
        f"by a typed error, {count['taken beyond PyTorch']} taken that PyTorch refuses"
    )
