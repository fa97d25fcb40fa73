"""Recurrent layers and cells: RNN, GRU, LSTM."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn import init, ops
from fastnn.checks import flag, number, whole
from fastnn.errors import ArgumentError, ShapeError
from fastnn.habits import check_options
from fastnn.nn.members import MOST_LAYERS, new_parameter
from fastnn.nn.module import Module, Parameter
from fastnn.nn.utils.rnn import PackedSequence
from fastnn.ops.common import layer_input
from fastnn.ops.recurrent import GATES, RELU, TANH, Recurrent
from fastnn.ops.recurrent import GRU as _GRU
from fastnn.ops.recurrent import LSTM as _LSTM
from fastnn.tensors import Array, Tensor

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell"]

_DOC = """Input (T, B, input_size), with batch_first (B, T, input_size), or (T, input_size) without a batch. Outputs the
    last layer's states (..., hidden_size), twice as many with `bidirectional`, and the states at the end
    (layers · directions, B, hidden_size); of packed sequences (fastnn.nn.utils.rnn) packed outputs; initial states of
    that shape, zeros unless given. `dropout` drops entries between layers in training. Weights are named
    weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0, ..., those of the other direction with _reverse, and start
    uniform on ±1/sqrt(hidden_size), as PyTorch's.
    """


class RNNBase(Module):
    """What RNN, GRU and LSTM have in common."""

    mode: int
    weight_ih_l0: Parameter

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        check_options(name, device=device, dtype=dtype)
        if flag(name, "proj_size", proj_size):
            raise ArgumentError(f"{name}: expected proj_size=0, got {proj_size!r}: put an nn.Linear behind the layer")
        self.input_size = whole(name, "input_size", input_size, 1)
        self.hidden_size = whole(name, "hidden_size", hidden_size, 1)
        self.num_layers = whole(name, "num_layers", num_layers, 1, MOST_LAYERS)
        self.bias, self.batch_first = flag(name, "bias", bias), flag(name, "batch_first", batch_first)
        self.bidirectional = flag(name, "bidirectional", bidirectional)
        self.dropout, self.proj_size = number(name, "dropout", dropout, 0, 1), 0
        rows = GATES[self.mode] * self.hidden_size
        for layer in range(self.num_layers):
            size = self.input_size if layer == 0 else self.hidden_size * self.directions
            for suffix in self._suffixes(layer):
                for part, columns in (("ih", size), ("hh", self.hidden_size)):
                    setattr(self, f"weight_{part}{suffix}", new_parameter(self, (rows, columns)))
                for part in ("ih", "hh") if self.bias else ():
                    setattr(self, f"bias_{part}{suffix}", new_parameter(self, (rows,)))
        self.reset_parameters()

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    def _suffixes(self, layer: int) -> list[str]:
        return [f"_l{layer}", f"_l{layer}_reverse"][: self.directions]

    def reset_parameters(self) -> None:
        """Fresh random weights."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def flatten_parameters(self) -> None:
        """Nothing: for PyTorch's programs."""

    @property
    def _all_weights(self) -> list[list[str]]:
        """The names of the parameters, layer by layer and direction by direction."""
        names = ["weight_ih", "weight_hh", *(["bias_ih", "bias_hh"] if self.bias else [])]
        suffixes = [suffix for layer in range(self.num_layers) for suffix in self._suffixes(layer)]
        return [[name + suffix for name in names] for suffix in suffixes]

    @property
    def all_weights(self) -> list[list[Parameter]]:
        """The parameters, in the order of `_all_weights`."""
        return [[getattr(self, name) for name in names] for names in self._all_weights]

    def forward(self, input: Any, hx: Any = None) -> Any:
        lstm = self.mode == _LSTM
        if isinstance(input, PackedSequence):
            return self._packed(input, hx)
        x = layer_input(type(self).__name__, input, self.weight_ih_l0)
        batched = x.ndim == 3
        if x.ndim not in (2, 3) or x.shape[-1] != self.input_size:
            layout = "(B, T, " if self.batch_first else "(T, B, "
            raise ShapeError(
                f"{type(self).__name__}: expected input of shape {layout}{self.input_size}), got {x.shape}"
            )
        x = x.unsqueeze(1) if not batched else x.transpose(0, 1) if self.batch_first else x
        if 0 in x.shape:
            raise ShapeError(f"{type(self).__name__}: expected a sequence with entries, got {tuple(input.shape)}")
        given = self._states(hx, batched, x)
        ends: list[list[Tensor]] = [[], []]
        for layer in range(self.num_layers):
            outputs = []
            for k, suffix in enumerate(self._suffixes(layer)):
                y, last = self._run(
                    x, suffix, [state and state[layer * self.directions + k] for state in given], k == 1
                )
                outputs.append(y)
                for end, state in zip(ends, last, strict=False):
                    end.append(state)
            x = outputs[0] if len(outputs) == 1 else ops.cat(outputs, 2)
            if self.dropout and self.training and layer < self.num_layers - 1:
                x = ops.dropout(x, self.dropout)
        states = [ops.stack(end) for end in ends[: 1 + lstm]]
        if not batched:
            x, states = x.squeeze(1), [state.squeeze(1) for state in states]
        elif self.batch_first:
            x = x.transpose(0, 1)
        return x, tuple(states) if lstm else states[0]

    def _packed(self, sequences: PackedSequence, hx: Any) -> Any:
        """All sequences of one length at a time, which need no padding."""
        lengths, order = sequences.lengths, sequences.sorted_indices
        lstm = self.mode == _LSTM
        given = () if hx is None else tuple(hx) if lstm else (hx,)
        if order is not None:
            given = tuple(state[:, order] for state in given)
        firsts = np.cumsum(sequences.batch_sizes.numpy()) - sequences.batch_sizes.numpy()
        outputs: list[Tensor] = []
        places: list[Array] = []
        ends: list[list[Tensor]] = [[], []]
        for length in dict.fromkeys(lengths.tolist()):  # the longest first, as they stand
            some = np.flatnonzero(lengths == length)
            where = firsts[:length, None] + some  # (T, B) in data
            x = sequences.data[where.T if self.batch_first else where]
            states = tuple(state[:, some] for state in given)
            y, last = self.forward(x, (states if lstm else states[0]) if given else None)
            outputs.append((y.transpose(0, 1) if self.batch_first else y).reshape(where.size, y.shape[2]))
            places.append(where.reshape(-1))
            for end, state in zip(ends, last if lstm else (last,), strict=False):
                end.append(state)
        found = [ops.cat(end, 1) for end in ends[: 1 + lstm]]
        if sequences.unsorted_indices is not None:
            found = [state[:, sequences.unsorted_indices] for state in found]
        data = ops.cat(outputs)[np.argsort(np.concatenate(places))]
        return sequences._replace(data=data), tuple(found) if lstm else found[0]

    def _run(self, x: Tensor, suffix: str, states: list[Any], reverse: bool) -> tuple[Tensor, list[Tensor]]:
        """One layer and direction: outputs, and the states at the end."""
        parts = [getattr(self, f"{name}{suffix}") for name in ("weight_ih", "weight_hh")]
        biases = [getattr(self, f"{name}{suffix}") if self.bias else None for name in ("bias_ih", "bias_hh")]
        y = Recurrent.apply(x, *parts, *biases, *states, mode=self.mode, reverse=reverse)
        times = x.shape[0]
        last = [y[0 if reverse else times - 1]]
        if self.mode == _LSTM:
            return y[:times], [*last, y[times]]
        return y, last

    def _states(self, hx: Any, batched: bool, x: Tensor) -> list[Any]:
        """h0 and c0 as lists of (B, H), one a layer and direction; None where there are none."""
        if hx is None:
            return [None, None]
        if self.mode == _LSTM and not (isinstance(hx, (tuple, list)) and len(hx) == 2):
            raise ArgumentError(f"LSTM: expected initial states (h0, c0), got {type(hx).__name__}")
        given = list(hx) if self.mode == _LSTM else [hx]
        count = self.num_layers * self.directions
        shape = (count, x.shape[1], self.hidden_size) if batched else (count, self.hidden_size)
        found = []
        for state in given:
            state = layer_input(type(self).__name__, state, self.weight_ih_l0)
            if state.shape != shape:
                raise ShapeError(
                    f"{type(self).__name__}: expected initial states of shape {shape}, got {tuple(state.shape)}"
                )
            state = state if batched else state.unsqueeze(1)
            found.append([state[i] for i in range(count)])
        return [*found, None][:2]

    def extra_repr(self) -> str:
        said = [f"{self.input_size}, {self.hidden_size}"]
        defaults = {"num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0, "bidirectional": False}
        said += [f"{name}={getattr(self, name)}" for name, value in defaults.items() if getattr(self, name) != value]
        return ", ".join(said)


class RNN(RNNBase):
    __doc__ = f"""h = tanh(W_ih x + b_ih + W_hh h + b_hh), or with nonlinearity="relu" max(·, 0). (Elman 1990.)

    {_DOC}"""
    mode = TANH

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        self.mode = _nonlinearity("RNN", nonlinearity)
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, device, dtype
        )
        self.nonlinearity = nonlinearity


class GRU(RNNBase):
    __doc__ = f"""r, z = σ(W x + b + U h + c), n = tanh(W_n x + b_n + r·(U_n h + c_n)), h = (1 - z)·n + z·h.

    The reset gate multiplies after the product, as in PyTorch. (Cho et al. 2014, https://arxiv.org/abs/1406.1078.)
    {_DOC}"""
    mode = _GRU


class LSTM(RNNBase):
    __doc__ = f"""i, f, o = σ(W x + b + U h + c), g = tanh(...), c = f·c + i·g, h = o·tanh(c).

    (Hochreiter, Schmidhuber 1997.)

    States are pairs (h, c).
    {_DOC}"""
    mode = _LSTM


class RNNCellBase(Module):
    """One step: input (B, input_size) or (input_size,), state (B, hidden_size), zeros unless given."""

    mode: int
    weight_ih_l0: Parameter
    bias_ih: Parameter | None
    bias_hh: Parameter | None

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        name = type(self).__name__
        check_options(name, device=device, dtype=dtype)
        self.input_size = whole(name, "input_size", input_size, 1)
        self.hidden_size = whole(name, "hidden_size", hidden_size, 1)
        rows = GATES[self.mode] * self.hidden_size
        self.weight_ih = new_parameter(self, (rows, self.input_size))
        self.weight_hh = new_parameter(self, (rows, self.hidden_size))
        self.bias_ih = new_parameter(self, (rows,)) if flag(type(self).__name__, "bias", bias) else None
        self.bias_hh = new_parameter(self, (rows,)) if flag(type(self).__name__, "bias", bias) else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fresh random weights."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def forward(self, input: Any, hx: Any = None) -> Any:
        name, lstm = type(self).__name__, self.mode == _LSTM
        x = layer_input(name, input, self.weight_ih)
        if x.ndim not in (1, 2) or x.shape[-1] != self.input_size:
            raise ShapeError(f"{name}: expected input of shape (B, {self.input_size}), got {x.shape}")
        given = [] if hx is None else list(hx) if lstm else [hx]
        states: list[Any] = [layer_input(name, state, self.weight_ih) for state in given]
        shape = (*x.shape[:-1], self.hidden_size)
        if any(state.shape != shape for state in states) or len(states) not in (0, 1 + lstm):
            raise ShapeError(f"{name}: expected states of shape {shape}, got {[tuple(s.shape) for s in states]}")
        if x.ndim == 1:
            states = [state.unsqueeze(0) for state in states]
        states += [None] * (2 - len(states))
        parts = self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh
        rows = x.unsqueeze(0) if x.ndim == 2 else x.reshape(1, 1, -1)
        y = Recurrent.apply(rows, *parts, *states, mode=self.mode, reverse=False)
        h, *c = (y[i] if x.ndim == 2 else y[i, 0] for i in range(1 + lstm))
        return (h, *c) if lstm else h

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias_ih is not None else ", bias=False")


class RNNCell(RNNCellBase):
    __doc__ = f"""One step of an RNN. {RNNCellBase.__doc__}"""
    mode = TANH

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        self.mode = _nonlinearity("RNNCell", nonlinearity)
        super().__init__(input_size, hidden_size, bias, device, dtype)
        self.nonlinearity = nonlinearity


class GRUCell(RNNCellBase):
    __doc__ = f"""One step of a GRU. {RNNCellBase.__doc__}"""
    mode = _GRU


class LSTMCell(RNNCellBase):
    __doc__ = f"""One step of an LSTM; takes and gives pairs (h, c). {RNNCellBase.__doc__}"""
    mode = _LSTM


def _nonlinearity(name: str, nonlinearity: str) -> int:
    if not isinstance(nonlinearity, str) or nonlinearity not in ("tanh", "relu"):
        raise ArgumentError(f"{name}: expected nonlinearity 'tanh' or 'relu', got {nonlinearity!r}")
    return TANH if nonlinearity == "tanh" else RELU
