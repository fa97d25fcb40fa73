"""Modules of PyTorch that decide by sizes, compute their weights, or are wrapped."""

from __future__ import annotations

import copy
import math
from typing import Any, NamedTuple

import numpy as np
import pytest
from test_torch import Wild, both_ways

import fastnn as fnn

torch = pytest.importorskip("torch")
prune = pytest.importorskip("torch.nn.utils.prune")
functional = torch.nn.functional
theirs = torch.nn


class Sized(theirs.Module):
    """It decides and loops by sizes of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = theirs.Linear(7, 3)
        self.norm = theirs.BatchNorm1d(3)

    def forward(self, x: Any) -> Any:
        if x.dim() == 2:
            x = x.unsqueeze(1)
        if x.size(1) > 8:
            raise ValueError("too long")
        h = torch.zeros(len(x), 3)
        for t in range(x.size(1)):
            h = torch.tanh(self.cell(torch.cat([x[:, t], h], 1)))
        for row in x.transpose(0, 1):
            h = h + row[:, :3] / math.sqrt(x.shape[-1])
        h = functional.dropout(self.norm(h), 0.5, self.training)
        return functional.pad(h, (0, 1)) if h.shape[1] % 2 else h


def test_sizes_of_an_example_decide() -> None:
    module, x = (
        theirs.Sequential(theirs.Linear(4, 4), theirs.Sequential(Sized(), theirs.Linear(4, 2))),
        torch.randn(3, 5, 4),
    )
    module.train()
    before, drawn = copy.deepcopy(module.state_dict()), torch.get_rng_state()
    fnn.from_torch(module, x)
    assert all(map(torch.equal, before.values(), module.state_dict().values()))  # no statistic has moved
    assert torch.equal(drawn, torch.get_rng_state())
    both_ways(module, x)
    both_ways(Sized(), torch.randn(3, 4))
    with pytest.raises(fnn.FastnnError, match=r"cannot translate 1.0: .* need from_torch\(module, x\)"):
        fnn.from_torch(module)
    with pytest.raises(fnn.FastnnError, match="control flow"):  # the numbers of an example decide nothing
        fnn.from_torch(Wild(lambda x: x if x.sum() > 0 else -x), torch.ones(2))


class Parts(NamedTuple):
    logits: Any
    features: Any


class Windows(theirs.Module):
    """A mask written part by part, as of attention in shifted windows, and parts with names."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = theirs.Linear(4, 4)

    def forward(self, x: Any) -> Any:
        mask = x.new_zeros((x.shape[1], x.shape[1]))
        for count, rows in enumerate((slice(0, 2), slice(2, None))):
            mask[rows, rows] = count + 1
        scores = (self.linear(x) @ x.transpose(1, 2)).masked_fill(mask == 0, torch.finfo(x.dtype).min)
        found = scores.softmax(-1) @ x
        found[:, 0] = 0.5
        return Parts(found.flatten(1), (x, found))


def test_writing_into_parts_and_parts_with_names() -> None:
    both_ways(Windows(), torch.randn(3, 5, 4))


NORMS = torch.nn.utils


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "computed",
    [
        NORMS.parametrizations.weight_norm, NORMS.parametrizations.spectral_norm, NORMS.parametrizations.orthogonal,
        NORMS.weight_norm, NORMS.spectral_norm,
        lambda layer: prune.l1_unstructured(layer, "weight", 0.4),
        lambda layer: NORMS.parametrizations.orthogonal(layer, orthogonal_map="cayley", use_trivialization=False),
        lambda layer: NORMS.parametrizations.weight_norm(layer, dim=None),
    ],
)  # fmt: skip
def test_weights_that_are_computed(computed: Any, training: bool) -> None:
    """The same names, predictions and gradients, and the same steps of a power iteration in training mode."""
    module = theirs.Sequential(computed(theirs.Linear(6, 4)), theirs.Tanh()).train(training)
    model, x = fnn.from_torch(module), torch.randn(3, 6)
    assert sorted(model.state_dict()) == sorted(module.state_dict())
    expected, found = module(x), model(x.numpy())
    np.testing.assert_allclose(found.detach().numpy(), expected.detach(), rtol=1e-4, atol=1e-5)
    (expected**2).sum().backward()
    (found * found).sum().backward()
    for name, parameter in module.named_parameters():
        np.testing.assert_allclose(model.get_parameter(name).grad, parameter.grad, rtol=1e-3, atol=1e-4)


def test_modules_in_wrappers() -> None:
    inner = theirs.Sequential(theirs.Linear(4, 3), theirs.ReLU())
    parallel = both_ways(theirs.DataParallel(inner), torch.randn(2, 4))
    assert list(parallel.state_dict()) == ["module.0.weight", "module.0.bias"]
    fnn.from_torch(copy.deepcopy(inner).half(), torch.randn(2, 4))  # compared in float32


@pytest.mark.long
def test_a_compiled_module() -> None:
    inner = theirs.Sequential(theirs.Linear(4, 3), theirs.ReLU())
    assert list(fnn.from_torch(torch.compile(inner)).state_dict()) == ["0.weight", "0.bias"]
