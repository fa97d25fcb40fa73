"""nn.utils.prune against PyTorch's: masks, names in state dicts, pruning again, removing, and training."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn, optim
from fastnn.errors import ArgumentError, FastnnError, ShapeError
from fastnn.nn.utils import prune

RNG = np.random.default_rng(2)
X, Y = RNG.normal(size=(8, 5)).astype(np.float32), np.arange(8) % 3


def network(package: Any) -> Any:
    return package.Sequential(package.Linear(5, 6), package.ReLU(), package.Linear(6, 3))


# What is done to a network, with the package's prune and its tensor.
CALLS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "l1": lambda p, m, t: p.l1_unstructured(m[0], "weight", 0.3),
    "l1, a number, of the bias": lambda p, m, t: p.l1_unstructured(m[0], name="bias", amount=2),
    "l1, again": lambda p, m, t: [p.l1_unstructured(m[0], "weight", 0.3) for _ in range(3)],
    "l1, scores": lambda p, m, t: p.l1_unstructured(m[0], "weight", 7, t(SCORES)),
    "ln": lambda p, m, t: p.ln_structured(m[0], "weight", 0.5, n=2, dim=0),
    "ln, columns": lambda p, m, t: p.ln_structured(m[0], "weight", amount=2, n=1, dim=-1),
    "ln, largest": lambda p, m, t: p.ln_structured(m[0], "weight", 2, float("inf"), 1),
    "ln, again": lambda p, m, t: [p.ln_structured(m[0], "weight", 0.3, 2, dim=dim) for dim in (0, 0, 1)],
    "mixed": lambda p, m, t: [p.l1_unstructured(m[0], "weight", 9), p.ln_structured(m[0], "weight", 2, 2, 0)],
    "mask": lambda p, m, t: p.custom_from_mask(m[0], "weight", t(SCORES > 0)),
    "identity": lambda p, m, t: p.identity(m[2], "weight"),
    "global": lambda p, m, t: p.global_unstructured(
        [(m[0], "weight"), (m[2], "weight")], pruning_method=p.L1Unstructured, amount=0.4),
    "global, again": lambda p, m, t: [
        p.l1_unstructured(m[0], "weight", 5),
        p.global_unstructured([(m[0], "weight"), (m[2], "weight")], p.L1Unstructured, amount=11)],
    "global, scores": lambda p, m, t: p.global_unstructured(
        [(m[0], "weight"), (m[2], "weight")], p.L1Unstructured, {(m[0], "weight"): t(SCORES)}, amount=20),
    "removed": lambda p, m, t: [p.l1_unstructured(m[0], "weight", 0.3), p.remove(m[0], "weight")],
}  # fmt: skip
SCORES = RNG.normal(size=(6, 5)).astype(np.float32)


@pytest.mark.parametrize("name", CALLS)
def test_masks_are_pytorchs(name: str) -> None:
    torch, torchs = pytest.importorskip("torch"), pytest.importorskip("torch.nn.utils.prune")
    theirs = network(torch.nn)
    mine = network(nn)
    mine.load_state_dict(theirs.state_dict())
    CALLS[name](torchs, theirs, torch.tensor)
    CALLS[name](prune, mine, fnn.tensor)
    expected, found = theirs.state_dict(), mine.state_dict()
    assert sorted(found) == sorted(expected)
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value.numpy(), err_msg=key)
    assert prune.is_pruned(mine) == torchs.is_pruned(theirs) == (name != "removed")
    np.testing.assert_allclose(mine(X).data, theirs(torch.tensor(X)).detach().numpy(), atol=1e-6)


def test_pruned_networks_train_compiled_as_eagerly() -> None:
    """What is pruned stays 0; an optimiser that was made before pruning goes on."""
    fnn.manual_seed(1)
    start = network(nn)
    found = []
    for compiled in (True, False):
        model = copy.deepcopy(start)
        optimizer = optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
        prune.l1_unstructured(model[0], "weight", 0.5)
        step = fnn.compile(model, nn.CrossEntropyLoss(), optimizer) if compiled else None
        losses = []
        for i in range(6):
            if i == 3:
                prune.ln_structured(model[2], "weight", 1, n=1, dim=0)
            if step is not None:
                losses.append(step(X, Y))
            else:
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(X), Y)
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
        assert int((model[0].weight == 0).sum()) == 15
        assert int((model[2].weight.abs().sum(1) == 0).sum()) == 1
        found.append(losses)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)


def test_what_is_drawn_is_as_much_as_was_asked_for() -> None:
    fnn.manual_seed(4)
    masks = []
    for _ in range(2):
        layer = prune.random_unstructured(nn.Linear(5, 6), "weight", 0.4)
        masks.append(layer.weight_mask.copy())
        assert masks[-1].sum() == 18
    assert (masks[0] != masks[1]).any()
    layer = prune.random_structured(nn.Linear(5, 6), "weight", 2, dim=1)
    assert sorted(layer.weight_mask.sum(0).tolist()) == [0, 0, 6, 6, 6]
    prune.random_structured(layer, "weight", 1, dim=1)
    assert sorted(layer.weight_mask.sum(0).tolist()) == [0, 0, 0, 6, 6]


def test_removing_keeps_the_parameter_and_loading_needs_the_mask() -> None:
    layer = nn.Linear(5, 6)
    weight = layer.weight
    prune.l1_unstructured(layer, "weight", 0.5)
    other = prune.identity(nn.Linear(5, 6), "weight")
    other.load_state_dict(layer.state_dict())
    np.testing.assert_array_equal(other.weight.data, layer.weight.data)
    np.testing.assert_array_equal(copy.deepcopy(layer)(X).data, layer(X).data)
    prune.remove(layer, "weight")
    assert layer.weight is weight
    assert type(layer) is nn.Linear
    assert int((layer.weight == 0).sum()) == 15
    assert not dict(layer.named_buffers())


def test_methods_prune_tensors() -> None:
    x = fnn.tensor([[3.0, -1.0], [0.5, 2.0]], requires_grad=True)
    y = prune.L1Unstructured(2).prune(x, default_mask=fnn.tensor([[0.0, 1.0], [1.0, 1.0]]))
    assert y.tolist() == [[0, 0], [0, 2]]
    y.sum().backward()
    assert x.grad.tolist() == [[0, 0], [0, 1]]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: prune.l1_unstructured(m, "weight", 1.5), ArgumentError, "amount"),
        (lambda m: prune.l1_unstructured(m, "weight", -1), ArgumentError, "amount"),
        (lambda m: prune.l1_unstructured(m, "weight", 31), ArgumentError, "L1Unstructured: expected amount"),
        (lambda m: prune.l1_unstructured(m, "weights", 1), ArgumentError, "got 'weights'; it has weight, bias"),
        (
            lambda m: prune.l1_unstructured(m, "weight", 1, np.ones(3)),
            ShapeError,
            r"importance_scores of shape \(6, 5\)",
        ),
        (lambda m: prune.custom_from_mask(m, "weight", np.ones(5)), ShapeError, r"a mask of shape \(6, 5\)"),
        (lambda m: prune.ln_structured(m, "weight", 1, 2, 2), ShapeError, "dimension from -2 to 1"),
        (lambda m: prune.remove(m, "weight"), ArgumentError, "is not pruned"),
        (lambda m: prune.global_unstructured([m], prune.L1Unstructured, amount=1), ArgumentError, "expected pairs"),
        (
            lambda m: prune.global_unstructured([(m, "weight")], prune.LnStructured),
            ArgumentError,
            "LnStructured, which",
        ),
    ],
)
def test_what_makes_no_sense_changes_nothing(
    call: Callable[[nn.Module], Any], error: type[FastnnError], message: str
) -> None:
    layer = nn.Linear(5, 6)
    with pytest.raises(error, match=message):
        call(layer)
    assert list(layer.state_dict()) == ["weight", "bias"]
    with pytest.raises(NotImplementedError, match="compute_mask"):
        prune.BasePruningMethod.apply(layer, "weight")


def test_nothing_is_left_of_nothing() -> None:
    assert prune.LnStructured(0, 2).prune(np.zeros((0, 3), np.float32)).shape == (0, 3)
