"""Random programs of views and writes in place: the numbers and gradients are PyTorch's, or an error is raised.

A program is a list of steps, drawn while PyTorch runs it in float64; what PyTorch refuses to do, fastnn has to refuse
too, and the program goes on without it.
"""

from __future__ import annotations

import random
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn.errors import ArgumentError, FastnnError

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.skipif(fnn.backends.name() == "jit", reason="the tape is the same")

Step = tuple[Any, ...]  # what kind, whether under no_grad, the variable's number, and what the kind needs

H = np.random.default_rng(0).uniform(0.5, 1.5, (3, 4))
G = np.random.default_rng(1).uniform(0.5, 1.5, (4,))
STARTS = ("off the tape", "on the tape", "on the tape, kept", "leaf")


def start(lib: Any, kind: str, h: Any) -> Any:
    if kind == "off the tape":
        return lib.full((3, 4), 2.0, dtype=h.dtype)
    if kind == "leaf":
        return h
    return h * 1.5 if kind == "on the tape" else (h * 0.5).tanh()


# ---- steps, in both libraries ----------------------------------------------------------------------------------------


def parts(lib: Any, x: Any, kind: str, dim: int) -> Any:
    """The first part of several; PyTorch, which refuses to write to one of several views, cuts out one alone."""
    size = x.shape[dim]
    if lib is torch:
        return x.select(dim, size - 1) if kind == "unbind" else x.narrow(dim, 0, -(-size // 2))
    return {
        "unbind": lambda: x.unbind(dim)[-1],
        "chunk": lambda: x.chunk(2, dim)[0],
        "split": lambda: x.split(-(-size // 2), dim)[0],
    }[kind]()


VIEWS: dict[str, Any] = {
    "view": lambda x, shape: x.view(*shape),
    "reshape": lambda x, shape: x.reshape(*shape),
    "flatten": lambda x: x.flatten(),
    "ravel": lambda x: x.ravel(),
    "transpose": lambda x, a, b: x.transpose(a, b),
    "permute": lambda x, dims: x.permute(*dims),
    "T": lambda x: x.T if x.ndim == 2 else x.transpose(0, -1),
    "t": lambda x: x.t(),
    "index": lambda x, key: x[key],
    "unsqueeze": lambda x, dim: x.unsqueeze(dim),
    "squeeze": lambda x: x.squeeze(),
    "expand": lambda x, shape: x.expand(*shape),
    "narrow": lambda x, dim, first, length: x.narrow(dim, first, length),
    "select": lambda x, dim, i: x.select(dim, i),
    "diagonal": lambda x, offset: x.diagonal(offset),
    "movedim": lambda x, a, b: x.movedim(a, b),
    "unfold": lambda x, dim: x.unfold(dim, 2, 1),
    "detach": lambda x: x.detach(),
}
WRITES: dict[str, Any] = {
    "copy_": lambda x, v: x.copy_(v),
    "add_": lambda x, v: x.add_(v),
    "mul_": lambda x, v: x.mul_(v),
    "sub_": lambda x, v: x.sub_(v),
    "+=": lambda x, v: x.__iadd__(v),
    "-=": lambda x, v: x.__isub__(v),
    "*=": lambda x, v: x.__imul__(v),
    "/=": lambda x, v: x.__itruediv__(v),
    "fill_": lambda x: x.fill_(0.7),
    "zero_": lambda x: x.zero_(),
    "relu_": lambda x: x.relu_(),
    "tanh_": lambda x: x.tanh_(),
    "sigmoid_": lambda x: x.sigmoid_(),
    "exp_": lambda x: x.exp_(),
    "neg_": lambda x: x.neg_(),
    "clamp_": lambda x: x.clamp_(0.6, 1.2),
    "**=": lambda x: x.__ipow__(2),
}
COMPUTED: dict[str, Any] = {
    "times 3": lambda x: x * 3,
    "squared": lambda x: x * x,
    "tanh": lambda x: x.tanh(),
    "flip": lambda x: x.flip(0),
    "clone": lambda x: x.clone(),
}


def value(lib: Any, what: Any, xs: list[Any], h: Any, g: Any) -> Any:
    kind, *rest = what
    if kind == "number":
        return rest[0]
    if kind == "sum":
        return h.sum() * 0.1
    if kind == "row":
        return g * 0.5
    copied = xs[rest[0]] * 0.9
    return copied.detach() if kind == "detached" else copied


def do(lib: Any, step: Step, xs: list[Any], h: Any, g: Any) -> Any:
    """What a step makes, or None."""
    kind, off, i, *rest = step
    x = xs[i]
    with lib.no_grad() if off else nullcontext():
        if kind in VIEWS:
            return VIEWS[kind](x, *rest)
        if kind in COMPUTED:
            return COMPUTED[kind](x)
        if kind in ("unbind", "chunk", "split"):
            return parts(lib, x, kind, *rest)
        if kind == "set":
            key, what = rest
            x[key] = value(lib, what, xs, h, g)
        elif kind == "update":  # x[key] += v
            key, what = rest
            x[key] += value(lib, what, xs, h, g)
        elif kind == "masked_fill_":
            x.masked_fill_(x.detach() > 1, 0.3)
        else:
            WRITES[kind](x, *[value(lib, what, xs, h, g) for what in rest])
    return None


# ---- programs --------------------------------------------------------------------------------------------------------


def keys(draw: random.Random, shape: tuple[int, ...], basic: bool) -> Any:
    key: list[Any] = []
    for size in shape:
        choices: list[Any] = [slice(None), draw.randrange(size), slice(0, (size + 1) // 2), slice(0, size, 2), -1]
        key.append(draw.choice(choices))
        if draw.random() < 0.3:
            break
    if not basic and draw.random() < 0.2 and shape:
        return [0, shape[0] - 1]
    return tuple(key) if len(key) > 1 or draw.random() < 0.5 else key[0]


def shapes(draw: random.Random, count: int) -> tuple[int, ...]:
    found = [(count,), (1, count), (count, 1)]
    found += [(a, count // a) for a in (2, 3, 4) if count % a == 0]
    return draw.choice(found)


def a_view(draw: random.Random, i: int, x: Any) -> Step:
    off = draw.random() < 0.03
    dims = list(range(x.ndim))
    if not x.ndim:
        return draw.choice([("view", off, i, (1,)), ("unsqueeze", off, i, 0), ("detach", off, i), ("flatten", off, i)])
    dim = draw.randrange(x.ndim)
    kind = draw.choice([*VIEWS, "unbind", "chunk", "split", "index", "index", "view", "view"])
    draw.shuffle(dims)
    rest: dict[str, Any] = {
        "view": lambda: (shapes(draw, x.numel()),),
        "reshape": lambda: (shapes(draw, x.numel()),),
        "transpose": lambda: (dim, draw.randrange(x.ndim)),
        "permute": lambda: (tuple(dims),),
        "index": lambda: (keys(draw, tuple(x.shape), True),),
        "unsqueeze": lambda: (dim,),
        "expand": lambda: ((2, *x.shape) if draw.random() < 0.5 else tuple(x.shape),),
        "narrow": lambda: (dim, x.shape[dim] // 2, x.shape[dim] - x.shape[dim] // 2),
        "select": lambda: (dim, draw.randrange(x.shape[dim])),
        "diagonal": lambda: (draw.choice([0, 0, 1]),),
        "movedim": lambda: (dim, draw.randrange(x.ndim)),
        "unfold": lambda: (dim,),
    }
    more = rest.get(kind, tuple)() if kind not in ("unbind", "chunk", "split") else (dim,)
    promised = x.is_contiguous() and not off  # else PyTorch may give a view, a copy, or x itself
    if kind in ("reshape", "flatten", "ravel") and not promised:
        kind, more = "T", ()
    return (kind, off, i, *more)


def a_value(draw: random.Random, xs: list[Any], shape: tuple[int, ...]) -> Any:
    same = [i for i, x in enumerate(xs) if tuple(x.shape) == shape]
    choices = [("number", 1.3), ("sum",), ("sum",)]
    choices += [("row",)] * 2 if shape[-1:] == (4,) else []
    choices += [(draw.choice(["copy", "copy", "detached"]), draw.choice(same))] if same else []
    return draw.choice(choices)


def a_write(draw: random.Random, i: int, x: Any, xs: list[Any]) -> Step:
    off = draw.random() < 0.15
    kind = draw.choice(["set", "set", "set", "update", "masked_fill_", "+=", "copy_", "fill_", *WRITES])
    if kind in ("set", "update") and x.ndim:
        key = keys(draw, tuple(x.shape), False)
        return kind, off, i, key, a_value(draw, xs, tuple(x.detach()[key].shape))
    if kind in ("set", "update") or kind in list(WRITES)[:8]:
        kind = kind if kind in WRITES else "copy_"
        return kind, off, i, a_value(draw, xs, tuple(x.shape)) if kind != "copy_" else draw.choice(
            [("sum",), ("copy", i), ("detached", i)])  # fmt: skip
    return kind, off, i


def total(lib: Any, xs: list[Any], h: Any, g: Any) -> Any:
    """A number that depends on all variables, and on h and g in any case."""
    loss = h.sum() * 0.01 + g.sum() * 0.01
    for i, x in enumerate(xs):
        weights = np.random.default_rng(i).uniform(0.5, 1.5, tuple(x.shape))
        loss = loss + (x * lib.tensor(weights, dtype=h.dtype)).sum()
    return loss


def outcome(lib: Any, xs: list[Any], h: Any, g: Any) -> tuple[list[Any], list[Any]]:
    """The numbers of all variables, and the gradients of h and g of a sum that has all of them in it."""
    numbers = [x.detach().numpy().copy() for x in xs]
    total(lib, xs, h, g).backward()
    return numbers, [np.asarray(h.grad), np.asarray(g.grad)]


def leaves(lib: Any) -> tuple[Any, Any]:
    make = lib.tensor if lib is torch else fnn.tensor
    h, g = (make(array.copy(), dtype=lib.float64, requires_grad=True) for array in (H, G))
    return h, g


def refused(error: Exception) -> str:
    """What kind of refusal an error of PyTorch's is."""
    text = str(error)
    for kind, words in {
        "leaf": "leaf Variable that requires grad",
        "overlap": "more than one element of the written-to",
        "no_grad": "no_grad mode",
        "kept": "modified by an inplace",
    }.items():
        if words in text:
            return kind
    return "other"


def refuses(step: Step, xs: list[Any], h: Any, g: Any) -> bool:
    """Whether fastnn raises an error of its own."""
    try:
        do(fnn, step, xs, h, g)
    except FastnnError:
        return True
    return False


class Net(fnn.nn.Module):
    """A program as a model."""

    def __init__(self, kinds: list[str], steps: list[Step]) -> None:
        super().__init__()
        self.h, self.g, self.kinds, self.steps = fnn.nn.Parameter(H), fnn.nn.Parameter(G), kinds, steps

    def forward(self, x: Any) -> Any:
        xs = [start(fnn, kind, self.h) for kind in self.kinds]
        for step in self.steps:
            made = do(fnn, step, xs, self.h, self.g)
            xs += [] if made is None else [made]
        return total(fnn, xs, self.h, self.g) + 0 * x.sum()


def compiled(kinds: list[str], steps: list[Step], gradients: list[Any]) -> str:
    """Compares a plan of the program, in float32; says whether there is one."""
    net = Net(kinds, steps)
    try:
        fnn.compile(net, lambda output, target: output)(np.ones((1, 1), np.float32), np.ones(1))
    except (FastnnError, NotImplementedError):
        return "an error"
    for ours, theirs in zip((net.h.grad, net.g.grad), gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5 * (1 + np.abs(theirs).max()))
    return "compiled"


def compare(seed: int, length: int = 9, plan: bool = False) -> str:
    """Draws a program, runs it in both, and says how PyTorch's run ended. AssertionError where fastnn's differs.

    With `plan`, it is compiled, too.
    """
    draw = random.Random(seed)
    (h, g), (fh, fg) = leaves(torch), leaves(fnn)
    kinds = [draw.choice(STARTS[:3]), draw.choice(STARTS)]
    xs, fxs = ([start(lib, kind, leaf) for kind in kinds] for lib, leaf in ((torch, h), (fnn, fh)))
    done: list[Any] = [kinds]
    try:
        while len(done) <= length:
            i = draw.randrange(len(xs)) if draw.random() < 0.4 else len(xs) - 1
            i = i if xs[i].numel() else 0
            chance = draw.random()
            step = a_view(draw, i, xs[i]) if chance < 0.5 else (
                (draw.choice(list(COMPUTED)), False, i) if chance < 0.6 else a_write(draw, i, xs[i], xs))  # fmt: skip
            if step[0] == "flip" and not xs[i].ndim:
                continue
            try:
                made = do(torch, step, xs, h, g)
                flags = [x.requires_grad for x in xs]
                for x in xs:
                    _ = x.grad_fn  # which is where PyTorch refuses a view that was made under no_grad
            except (RuntimeError, IndexError) as error:
                kind = refused(error)
                base = xs[i] if xs[i]._base is None else xs[i]._base
                if kind == "no_grad" or (kind == "leaf" and base is not h):  # it mistakes some views for leaves
                    return kind
                if kind in ("leaf", "overlap"):
                    done.append(("refused", step))
                    assert refuses(step, fxs, fh, fg)
                continue
            done.append(step)
            try:
                with np.errstate(all="ignore"):
                    found = do(fnn, step, fxs, fh, fg)
            except ArgumentError as error:
                if "read-only" not in str(error):
                    raise
                return "read-only"  # what is expanded, where PyTorch writes one number to all entries
            assert (made is None) == (found is None)
            if made is not None:
                xs.append(made)
                fxs.append(found)
            for x, y in zip(xs, fxs, strict=True):
                np.testing.assert_allclose(y.detach().numpy(), x.detach().numpy(), rtol=1e-12, atol=1e-12)
            if not any(s[1] for s in done[1:] if s[0] != "refused"):
                assert flags == [y.requires_grad for y in fxs[: len(flags)]]
        try:
            expected = outcome(torch, xs, h, g)
        except RuntimeError as error:
            return refused(error)  # fastnn may keep less for backward, and then computes
        with np.errstate(all="ignore"):
            actual = outcome(fnn, fxs, fh, fg)
        for ours, theirs in zip(actual[0] + actual[1], expected[0] + expected[1], strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)
        if plan:
            return compiled(kinds, [step for step in done[1:] if step[0] != "refused"], expected[1])
    except Exception as error:
        raise AssertionError(f"program {seed}: {done}: {type(error).__name__} {error}") from error
    return "right"


def test_random_programs_are_pytorchs() -> None:
    ends = [compare(seed, plan=seed % 10 == 0) for seed in range(240)]
    assert ends.count("right") > 80
    assert ends.count("compiled") > 2


@pytest.mark.long
def test_thousands_of_random_programs_are_pytorchs() -> None:
    for seed in range(1000, 9000):
        compare(seed, length=6 + seed % 10, plan=seed % 5 == 0)
