"""What PyTorch copies is a copy here, that may be written to; what it shares between processes is shared."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn, optim


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x.repeat(2, 1, 1),
        lambda x: x.repeat(1, 1),
        lambda x: x[:1].repeat(3, 1),
        lambda x: x.tile(2, 1, 1),
        lambda x: x.repeat_interleave(1, 0),
        lambda x: x.T.contiguous(),
        lambda x: x.expand(2, 3, 4).contiguous(),
    ],
)
def test_copies_are_copies(call: Callable[[Any], Any]) -> None:
    x = fnn.arange(12.0).reshape(3, 4)
    y = call(x)
    before = y.numpy().copy()
    y += 1
    np.testing.assert_array_equal(y, before + 1)
    np.testing.assert_array_equal(x, np.arange(12.0).reshape(3, 4))


def test_what_lies_in_order_is_not_copied() -> None:
    x = fnn.zeros(2, 3)
    assert x.contiguous() is x
    assert x.T.contiguous().stride() == (2, 1)


def test_a_tensor_has_attributes_of_ones_own() -> None:
    x = fnn.ones(2, requires_grad=True)
    for tensor in (x, x * 2, nn.Parameter(fnn.ones(1))):
        tensor.tag = "mine"
        assert tensor.tag == "mine"
        with pytest.raises(AttributeError, match="has no attribute 'tags'"):
            _ = tensor.tags


def test_a_whole_number_that_losses_are_added_to_goes_on_as_their_sum() -> None:
    """``loss = torch.Tensor([0])``, a float in PyTorch, begins the tutorials' loops."""
    weight = nn.Parameter(fnn.tensor([2.0]))
    loss = fnn.Tensor([0])
    for _ in range(3):
        loss += (0.25 * weight).sum()
    loss.backward()
    assert loss.item() == 1.5
    assert weight.grad == 0.75


def step(model: nn.Module) -> None:
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    model(fnn.ones(4, 2)).sum().backward()
    optimizer.step()


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
@pytest.mark.filterwarnings("ignore:.*fork")
def test_forked_processes_train_a_shared_model() -> None:
    import multiprocessing

    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 1)).share_memory()
    assert model[0].weight.is_shared()
    assert not fnn.zeros(2).is_shared()
    assert not model[0].weight.clone().is_shared()
    before = {name: value.copy() for name, value in model.state_dict().items()}
    process = multiprocessing.get_context("fork").Process(target=step, args=(model,))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    after = model.state_dict()
    np.testing.assert_allclose(after["2.bias"], before["2.bias"] - 0.4, rtol=1e-6)  # its gradient is 1 a sample
    assert after["1.num_batches_tracked"] == 1
