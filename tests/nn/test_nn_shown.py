"""What layers print of themselves is what PyTorch prints, and what they hold is found under PyTorch's private names."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

import fastnn as fnn
from fastnn import nn
from fastnn.errors import ArgumentError

ARGUMENTS: dict[str, Any] = {
    "kernel_size": 3, "normalized_shape": 4, "num_groups": 2, "num_heads": 2, "upscale_factor": 2,
    "downscale_factor": 2, "groups": 2, "padding": 1, "dim": 1, "unflattened_size": (2, 2), "threshold": 0.1,
    "value": 0.2,
}  # fmt: skip
# Their default of `dim` is -1, they say a pair where PyTorch says the number, or hold a layer of a class of its own.
OTHERS = {"Fold", "LogSoftmax", "MultiheadAttention", "Softmax", "Softmin", "Unfold"}
OTHERS |= {
    "TripletMarginWithDistanceLoss",
    "Transformer",
    "TransformerDecoderLayer",
    "TransformerEncoderLayer",
    "DataParallel",
}
SIZES = ("features", "channels", "size", "embeddings", "dim", "parameters")


def made(package: Any, name: str, signature: inspect.Signature) -> Any:
    """The layer of such arguments as have no default; None where one is a layer, or the signature does not say."""
    given = []
    if any(p.kind is p.VAR_POSITIONAL for p in signature.parameters.values()):
        return None
    for p in signature.parameters.values():
        if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD:
            size = 4 if p.name.endswith(SIZES) else None
            given.append(ARGUMENTS.get(p.name, size))
    return None if None in given else getattr(package.nn, name)(*given)


def test_layers_print_as_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    compared = 0
    for name in sorted(nn.__all__):
        theirs = getattr(torch.nn, name, None)
        if not (isinstance(theirs, type) and issubclass(theirs, torch.nn.Module)) or name in OTHERS:
            continue
        signature = inspect.signature(theirs)
        if (other := made(torch, name, signature)) is None:
            continue
        # From 2.13 on PyTorch says of norms whether they have a bias.
        text = re.sub(r"(affine=\w+), bias=\w+", r"\1", repr(other))
        assert repr(made(fnn, name, signature)) == text
        compared += 1
    assert compared > 90


def test_neighbours_that_look_the_same_are_printed_once() -> None:
    layers = nn.ModuleList([nn.Linear(1, 2), nn.Linear(1, 2), nn.Sequential(nn.ReLU()), nn.Sequential(nn.ReLU())])
    assert repr(layers).splitlines() == [
        "ModuleList(",
        "  (0-1): 2 x Linear(in_features=1, out_features=2, bias=True)",
        "  (2-3): 2 x Sequential(",
        "    (0): ReLU()",
        "  )",
        ")",
    ]


def test_modules_and_parameters_by_pytorchs_private_names() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    assert list(model._modules) == ["0", "1"]
    assert dict(model[0]._parameters) == {"weight": model[0].weight, "bias": model[0].bias}
    model._modules["1"] = tanh = nn.Tanh()
    assert model[1] is tanh
    del model._modules["0"]
    assert [name for name, _ in model.named_children()] == ["1"]
    with pytest.raises(KeyError):
        del model._modules["training"]


def test_a_buffer_that_is_registered_again_keeps_its_place() -> None:
    module = nn.Module()
    for name in ("first", "second", "first"):
        module.register_buffer(name, fnn.ones(1))
    assert [name for name, _ in module.named_buffers()] == list(module.state_dict()) == ["first", "second"]


@pytest.mark.parametrize("name", ["Conv3d", "BatchNorm3d", "SyncBatchNorm"])
def test_layers_that_are_absent_can_be_asked_about_and_not_made(name: str) -> None:
    absent = getattr(nn, name)
    assert not isinstance(nn.Conv2d(1, 1, 1), absent)
    with pytest.raises(ArgumentError, match=rf"^nn.{name} is there for isinstance alone: \S+ \S+"):
        absent(1, 2, 3)
