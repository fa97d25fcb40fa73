"""Sequences of several lengths, padded and packed, and recurrent layers of them, against PyTorch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn
from fastnn.errors import ShapeError
from fastnn.nn.utils import rnn

LENGTHS = [4, 6, 4, 1, 2]
rng = np.random.default_rng(0)
ROWS, STATES = rng.normal(size=(5, 6, 3)), rng.normal(size=(4, 5, 4))


def results(package: Any, of_lengths: Any, layer: Any, x: np.ndarray, states: np.ndarray | None) -> list[np.ndarray]:
    """Outputs, states at the end, and gradients of input, initial states and parameters."""
    x, first = package.tensor(x), bool(layer.batch_first)
    x.requires_grad_()
    given = None if states is None else package.tensor(states).requires_grad_()
    hx = (given, given * 2) if given is not None and type(layer).__name__ == "LSTM" else given
    packed = of_lengths.pack_padded_sequence(x, LENGTHS, batch_first=first, enforce_sorted=False)
    outputs, ends = layer(packed, hx)
    y, lengths = of_lengths.pad_packed_sequence(outputs, batch_first=first)
    ends = ends if isinstance(ends, tuple) else (ends,)
    ((y**2).sum() + sum((end**3).sum() for end in ends)).backward()
    leaves = [x, *layer.parameters(), *([] if given is None else [given])]
    found = [y, lengths, outputs.data, outputs.batch_sizes, *ends]
    return [each.detach().numpy() for each in found] + [np.asarray(leaf.grad) for leaf in leaves]


@pytest.mark.parametrize("given", [False, True], ids=["from zero", "from states"])
@pytest.mark.parametrize(
    "options", [{}, {"bidirectional": True}, {"batch_first": True, "bidirectional": True}], ids=str
)
@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_packed_sequences_run_as_pytorchs(kind: str, options: dict[str, bool], given: bool) -> None:
    torch = pytest.importorskip("torch")
    twin = getattr(torch.nn, kind)(3, 4, num_layers=2, **options).double()
    layer = getattr(nn, kind)(3, 4, num_layers=2, **options).double()
    layer.load_state_dict({name: value.detach().numpy() for name, value in twin.state_dict().items()})
    x = ROWS if options.get("batch_first") else ROWS.transpose(1, 0, 2)
    states = STATES[: 4 if options.get("bidirectional") else 2] if given else None
    mine = results(fnn, rnn, layer, x, states)
    for own, other in zip(mine, results(torch, torch.nn.utils.rnn, twin, x, states), strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-10, atol=1e-12)


def test_each_sequence_as_if_it_were_alone() -> None:
    fnn.manual_seed(0)
    layer = nn.GRU(3, 4, bidirectional=True).double()
    sequences = [fnn.Tensor(ROWS[i, :length]) for i, length in enumerate(LENGTHS)]
    outputs, _ = layer(rnn.pack_sequence(sequences, enforce_sorted=False))
    padded, lengths = rnn.pad_packed_sequence(outputs, padding_value=9.0)
    assert lengths.tolist() == LENGTHS
    for i, sequence in enumerate(sequences):
        np.testing.assert_allclose(padded.numpy()[: len(sequence), i], layer(sequence)[0].numpy(), rtol=1e-12)
        assert (padded.numpy()[len(sequence) :, i] == 9).all()


def test_padding_and_back() -> None:
    sequences = [fnn.arange(n) + 1.0 for n in (2, 4, 1)]
    assert rnn.pad_sequence(sequences).tolist() == [[1, 1, 1], [2, 2, 0], [0, 3, 0], [0, 4, 0]]
    left = rnn.pad_sequence(sequences, True, -1.0, "left")
    assert left.tolist() == [[-1, -1, 1, 2], [1, 2, 3, 4], [-1, -1, -1, 1]]
    back = rnn.unpad_sequence(rnn.pad_sequence(sequences, True), [2, 4, 1], True)
    assert [each.tolist() for each in back] == [each.tolist() for each in sequences]
    packed = rnn.unpack_sequence(rnn.pack_sequence(sequences, enforce_sorted=False))
    assert [each.tolist() for each in packed] == [each.tolist() for each in sequences]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rnn.pad_sequence([fnn.ones(2, 3), fnn.ones(2, 4)]), "differ in their length alone"),
        (lambda: rnn.pack_padded_sequence(fnn.ones(4, 2), [3, 5]), "lengths from 1 to 4"),
        (lambda: rnn.pack_padded_sequence(fnn.ones(4, 2), [3, 3, 3]), "lengths from 1 to 4"),
        (lambda: rnn.pack_padded_sequence(fnn.ones(4, 2), [2, 3]), "longest sequence first.*enforce_sorted=False"),
    ],
)
def test_lengths_that_do_not_fit(call: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        call()


def test_weights_by_name() -> None:
    """As programs find an LSTM's forget gates, to start their biases at 1."""
    layer = nn.LSTM(2, 3, num_layers=2, bidirectional=True)
    assert [name for names in layer._all_weights for name in names] == [name for name, _ in layer.named_parameters()]
    assert layer.all_weights[3][2] is layer.bias_ih_l1_reverse
    assert nn.GRU(2, 3, bias=False)._all_weights == [["weight_ih_l0", "weight_hh_l0"]]
