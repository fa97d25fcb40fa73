"""Which results lie in the memory of what they are made of: those of PyTorch that do, and no others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn.tensors import Tensor

torch = pytest.importorskip("torch")

VIEWS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "view": lambda t, F, x: x.view(-1),
    "reshape": lambda t, F, x: x.reshape(x.shape[0], -1),
    "unflatten": lambda t, F, x: x.unflatten(0, (1, -1)),
    "flatten": lambda t, F, x: t.flatten(x),
    "squeeze": lambda t, F, x: x.squeeze(),
    "unsqueeze": lambda t, F, x: x.unsqueeze(0),
    "transpose": lambda t, F, x: x.transpose(0, -1),
    "movedim": lambda t, F, x: x.movedim(0, -1),
    "swapaxes": lambda t, F, x: x.swapaxes(0, -1),
    "expand": lambda t, F, x: x.expand(2, *x.shape),
    "expand to itself": lambda t, F, x: x.expand(*x.shape),
    "broadcast": lambda t, F, x: t.broadcast_tensors(x, x)[0],
    "entry": lambda t, F, x: x[(0,) * x.ndim],
    "row": lambda t, F, x: x[0],
    "...": lambda t, F, x: x[...],
    "None": lambda t, F, x: x[None],
    "chunk": lambda t, F, x: x.chunk(2)[0],
    "unbind": lambda t, F, x: x.unbind(0)[0],
    "tensor_split": lambda t, F, x: x.tensor_split(2)[0],
    "narrow": lambda t, F, x: x.narrow(0, 0, 1),
    "unfold": lambda t, F, x: x.unfold(0, 1, 1),
    "diagonal": lambda t, F, x: x.diagonal(),
    "atleast_2d": lambda t, F, x: t.atleast_2d(x),
    "einsum": lambda t, F, x: t.einsum("ij->ji", x),
    "eval dropout": lambda t, F, x: F.dropout(x, 0.5, False),
    "contiguous": lambda t, F, x: x.contiguous(),
    "to": lambda t, F, x: x.to(t.float32),
    "detach": lambda t, F, x: x.detach(),
}
COPIES: dict[str, Callable[[Any, Any, Any], Any]] = {
    "flip": lambda t, F, x: x.flip(0),
    "flip nothing": lambda t, F, x: x.flip(()),
    "rot90 by 0": lambda t, F, x: t.rot90(x, 0),
    "rot90 by 2": lambda t, F, x: t.rot90(x, 2),
    "roll by 0": lambda t, F, x: x.roll(0, 0),
    "roll": lambda t, F, x: x.roll(0),
    "repeat": lambda t, F, x: x.repeat(*(1,) * x.ndim),
    "repeat_interleave": lambda t, F, x: x.repeat_interleave(1, 0),
    "diag": lambda t, F, x: t.diag(x),
    "diff": lambda t, F, x: t.diff(x, 0),
    "pad by 0": lambda t, F, x: F.pad(x, (0, 0)),
    "pad by less": lambda t, F, x: F.pad(x, (-1, 0)),
    "cat": lambda t, F, x: t.cat([x]),
    "sum": lambda t, F, x: x[:1].sum(0),
    "mean": lambda t, F, x: x[:1].mean(0),
    "sort": lambda t, F, x: x.sum().sort()[0] if x.ndim else x.sort()[0],
    "cumsum": lambda t, F, x: x.cumsum(0),
    "cummax": lambda t, F, x: x.cummax(0)[0],
    "logsumexp": lambda t, F, x: x.logsumexp(0),
    "matrix_power": lambda t, F, x: x[:1, :1].matrix_power(1),
    "pixel_shuffle": lambda t, F, x: F.pixel_shuffle(x[None, None], 1),
    "interpolate": lambda t, F, x: F.interpolate(x[None, None], scale_factor=1),
    "interpolate, smaller": lambda t, F, x: F.interpolate(x[None, None], scale_factor=0.5),
    "a list": lambda t, F, x: x[[0]],
    "a mask": lambda t, F, x: x[x > 0],
    "clone": lambda t, F, x: x.clone(),
}
SHAPES = ((2, 2), (1, 3), (2,), ())


def shares(call: Any, shape: tuple[int, ...], lib: Any, F: Any) -> bool | None:
    x = lib.ones(shape, requires_grad=True) * 1
    try:
        y = call(lib, F, x)
    except Exception:  # not for this shape
        return None
    if isinstance(x, Tensor):
        assert isinstance(y, Tensor)
        return np.shares_memory(x.numpy(), y.numpy())
    return x.untyped_storage().data_ptr() == y.untyped_storage().data_ptr()


@pytest.mark.parametrize(("name", "view"), [*[(name, True) for name in VIEWS], *[(name, False) for name in COPIES]])
def test_views_are_views_and_copies_are_copies(name: str, view: bool) -> None:
    call, tried = (VIEWS if view else COPIES)[name], 0
    for shape in SHAPES:
        theirs = shares(call, shape, torch, torch.nn.functional)
        ours = shares(call, shape, fnn, fnn.nn.functional)
        if theirs is not None and ours is not None:
            assert ours is theirs is view, shape
            tried += 1
    assert tried


def test_what_was_computed_before_detach_keeps_its_gradient() -> None:
    """Truncated backpropagation through time: the state is cut behind what has used it."""
    found = []
    for lib in (torch, fnn):
        w = lib.ones(2, requires_grad=True)
        state, loss = w * 2, 0.0
        for _ in range(3):
            state = state + w
            loss = loss + (state * 3).sum()
            state.detach_()
        assert state.is_leaf
        assert not state.requires_grad
        loss.backward()
        found.append(np.asarray(w.grad).tolist())
    assert found == [[15, 15]] * 2  # 3 * 3, and 3 for each of the two that start from a state cut off


def test_a_function_that_returns_its_input() -> None:
    class Same(fnn.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x

        @staticmethod
        def backward(ctx: Any, grad: Any) -> Any:
            return grad

    class Copied(fnn.autograd.Function):
        forward, backward = staticmethod(lambda ctx, x: x.view(-1)), staticmethod(lambda ctx, grad: grad)

    x = fnn.ones(2, requires_grad=True) * 1
    with pytest.raises(fnn.errors.GraphError, match="Same, which made it"):
        Same.apply(x).add_(1)
    y = Copied.apply(x)
    y += 1
    assert (x.tolist(), y.tolist()) == ([1, 1], [2, 2])
