"""utils.checkpoint: the same values and gradients, of which forward keeps the inputs alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn
from fastnn.errors import ArgumentError, GraphError
from fastnn.tape import computed
from fastnn.utils.checkpoint import checkpoint, checkpoint_sequential

X = np.random.default_rng(6).normal(size=(5, 4))


def model() -> nn.Sequential:
    fnn.manual_seed(2)
    return nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.4), nn.Tanh(), nn.Linear(6, 4)).double()


def gradients(net: nn.Module, run: Any) -> list[np.ndarray]:
    """The output, and the gradients of the input and of all parameters, with the random numbers of one seed."""
    fnn.manual_seed(7)
    x = fnn.tensor(X, requires_grad=True)
    net.zero_grad()
    h = x * 2
    y = run(h)
    y.sin().sum().backward()
    fnn.rand(1)  # goes on from where it was
    return [y.data, x.grad, *(p.grad for p in net.parameters()), fnn.rand(3).data]


def test_values_gradients_and_random_numbers_are_the_same() -> None:
    net = model()
    expected = gradients(net, net)
    runs: dict[str, Any] = {
        "module": lambda h: checkpoint(net, h, use_reentrant=False),
        "function": lambda h: checkpoint(lambda x: net(x), h),
        "keywords": lambda h: checkpoint(lambda x, scale: net(x) * scale, h, scale=1.0),
        "nothing given": lambda h: checkpoint(lambda: net(h)),
        "segments": lambda h: checkpoint_sequential(net, 2, h, use_reentrant=False),
        "list": lambda h: checkpoint_sequential(list(net), 4, h),
        "nested": lambda h: checkpoint(lambda x: checkpoint(net, x), h),
        "several": lambda h: sum(checkpoint(lambda x: {"y": net(x), "none": (None, x * 0)}, h)["y"] for _ in "1"),
    }
    for name, run in runs.items():
        for found, one in zip(gradients(net, run), expected, strict=True):
            np.testing.assert_allclose(found, one, rtol=1e-12, err_msg=name)


def test_other_random_numbers_without_their_state() -> None:
    net = model()
    expected = gradients(net, net)
    found = gradients(net, lambda h: checkpoint(net, h, preserve_rng_state=False))
    np.testing.assert_array_equal(found[0], expected[0])
    assert not np.allclose(found[1], expected[1])


def test_forward_keeps_the_inputs_alone() -> None:
    net, x = model(), fnn.tensor(X, requires_grad=True)
    assert len(computed(net(x))) == 4
    y = checkpoint(net, x)
    assert len(computed(y)) == 1
    kept = [a for a in y.node.ctx.saved_tensors if a.size]
    assert sum(a.size for a in kept) == x.numel() + sum(p.numel() for p in net.parameters())


def test_gradients_are_asked_for_by_autograd_grad() -> None:
    net, x = model().eval(), fnn.tensor(X, requires_grad=True)
    wanted = [x, *net.parameters()]
    expected = fnn.autograd.grad(net(x).sum(), wanted)
    found = fnn.autograd.grad(checkpoint(net, x).sum(), wanted)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.data, other.data, rtol=1e-12)
    net[0].requires_grad_(False)
    checkpoint(net, X).sum().backward()
    assert net[0].weight.grad is None
    assert net[3].weight.grad is not None


def test_off_the_tape_and_compiled_it_is_the_function() -> None:
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh())
    with fnn.no_grad():
        assert checkpoint(net, X).node is None
    assert checkpoint(lambda x: x * 2, fnn.tensor(X)).node is None

    class Checked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: fnn.Tensor) -> Any:
            return checkpoint(self.net, x, use_reentrant=False)

    x, y = X.astype(np.float32), np.arange(5)
    step, loss = fnn.compile(Checked(), nn.CrossEntropyLoss()), nn.CrossEntropyLoss()(net(X.astype(np.float32)), y)
    assert step(x, y) == pytest.approx(loss.item(), rel=1e-6)


def test_what_cannot_be() -> None:
    x = fnn.tensor(X, requires_grad=True)
    y = checkpoint(lambda x: x.exp(), x)
    with pytest.raises(GraphError, match=r"Checkpoint cannot be differentiated: .*leave checkpoint out"):
        fnn.autograd.grad(y.sum(), x, create_graph=True)
    net = model()
    y = checkpoint(net, x)
    with fnn.no_grad():
        net[0].weight.mul_(2)
    with pytest.raises(GraphError, match="modified in place"):
        y.sum().backward()
    with pytest.raises(ArgumentError, match="segments"):
        checkpoint_sequential(net, 5, x)
    with pytest.raises(ArgumentError, match="at least one function"):
        checkpoint_sequential([], 1, x)
