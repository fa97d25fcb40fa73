"""RNN, GRU and LSTM."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.errors import ShapeError
from fastnn.interop.onnx.operators.registry import Call, known, op, reads, tensor
from fastnn.ops.recurrent import GRU, LSTM, RELU, TANH, Recurrent
from fastnn.tensors import Tensor

_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
_DEFAULTS = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}
# The order of fastnn's gates, in ONNX's: GRU z r h -> r z n, LSTM i o f c -> i f g o.
_ORDER = {"RNN": [0], "GRU": [1, 0, 2], "LSTM": [0, 2, 3, 1]}


@reads("RNN", "GRU", "LSTM")
def recurrent(call: Call, x: Any, w: Any, r: Any, b: Any = None, lengths: Any = None, h0: Any = None,
              c0: Any = None, p: Any = None) -> tuple[Any, ...]:  # fmt: skip
    """All states, those at the end, and of an LSTM the cells' at the end."""
    x, w, r = tensor(x), tensor(w), tensor(r)
    batch_first = bool(call.get("layout", 0))
    x = x.transpose(0, 1) if batch_first else x
    if x.ndim != 3 or w.ndim != 3:
        raise ShapeError(f"expected input (T, B, I) and weights (directions, G·H, I), got {x.shape} and {w.shape}")
    directions, batch = w.shape[0], x.shape[1]
    size = r.shape[2]
    states = [None if each is None else _batched(call, tensor(each), batch_first, batch) for each in (h0, c0)]
    kinds = _activations(call, directions)
    ends: list[list[Tensor]] = [[], []]
    outputs = []
    for k in range(directions):
        reverse = call.get("direction", "forward") == "reverse" or k == 1
        own = [None if s is None else s[k] for s in states]
        bias = None if b is None else tensor(b)[k]
        if _is_plain(call, kinds[k], lengths, p):
            y, last = _by_kernel(call, x, w[k], r[k], bias, own, reverse)
        else:
            peep = None if p is None else tensor(p)[k]
            y, last = _by_steps(call, x, w[k], r[k], bias, own, peep, lengths, reverse, kinds[k], size)
        outputs.append(y)
        for end, state in zip(ends, last, strict=False):
            end.append(state)
    y = op("stack")(outputs, 1)  # (T, directions, B, H)
    found = [op("stack")(end, 0) for end in ends if end]
    if batch_first:
        y, found = y.permute(2, 0, 1, 3), [end.transpose(0, 1) for end in found]
    return (y, *found)


def _batched(call: Call, state: Tensor, batch_first: bool, batch: int) -> Any:
    """An initial state (directions, B, H), that of one sample for all of them in a file for another batch."""
    state = state.transpose(0, 1) if batch_first else state
    if state.shape[1] == batch or (state.shape[1] != 1 and call.batch is None):
        return state
    return state[:, :1].expand(state.shape[0], batch, state.shape[2])


def _activations(call: Call, directions: int) -> list[list[Callable[[Tensor], Tensor]]]:
    """The functions of each direction."""
    count = len(_DEFAULTS[call.operator])
    wanted = call.get("activations") or _DEFAULTS[call.operator] * directions
    if len(wanted) != count * directions:
        raise ShapeError(f"expected {count * directions} activations, got {wanted}")
    numbers = {name: iter(call.get(f"activation_{name}") or []) for name in ("alpha", "beta")}
    return [[_function(call, name, numbers) for name in wanted[k * count : (k + 1) * count]] for k in range(directions)]


def _function(call: Call, name: str, numbers: dict[str, Any]) -> Callable[[Tensor], Tensor]:
    plain = {"sigmoid": "sigmoid", "tanh": "tanh", "relu": "relu", "softsign": "softsign", "softplus": "softplus"}
    if name.lower() in plain:
        function = op(plain[name.lower()])
        return lambda x: function(x)
    alpha = next(numbers["alpha"], None)
    if name.lower() in ("leakyrelu", "elu"):
        function = op("elu" if name.lower() == "elu" else "leaky_relu")
        start = 1.0 if name.lower() == "elu" else 0.01
        return lambda x: function(x, start if alpha is None else alpha)
    if name.lower() == "hardsigmoid":
        beta = next(numbers["beta"], None)
        return lambda x: (x * (0.2 if alpha is None else alpha) + (0.5 if beta is None else beta)).clamp(0, 1)
    raise call.refuse(f"the activation {name!r}")


def _is_plain(call: Call, kinds: list[Any], lengths: Any, peep: Any) -> bool:
    """Whether fastnn's recurrent kernels compute this."""
    usual = [name.lower() for name in _DEFAULTS[call.operator]]
    wanted = [name.lower() for name in call.get("activations") or usual][: len(kinds)]
    if wanted != usual and (call.operator, wanted) != ("RNN", ["relu"]):
        return False
    if call.operator == "GRU" and not call.get("linear_before_reset", 0):
        return False
    return lengths is None and peep is None and not call.get("clip") and not call.get("input_forget", 0)


def _by_kernel(
    call: Call, x: Tensor, w: Tensor, r: Tensor, bias: Tensor | None, states: list[Tensor | None], reverse: bool
) -> tuple[Tensor, list[Tensor]]:
    size = r.shape[1]

    def ordered(matrix: Tensor) -> Tensor:
        order = _ORDER[call.operator]
        if order == [0]:
            return matrix
        return op("cat")([matrix[g * size : (g + 1) * size] for g in order], 0)

    count = w.shape[0]
    biases = (None, None) if bias is None else (ordered(bias[:count]), ordered(bias[count:]))
    relu = [name.lower() for name in call.get("activations") or []][:1] == ["relu"]
    mode = {"RNN": RELU if relu else TANH, "GRU": GRU, "LSTM": LSTM}[call.operator]
    y = Recurrent.apply(x, ordered(w), ordered(r), *biases, *states, mode=mode, reverse=reverse)
    if mode == LSTM:
        y, c = y[: x.shape[0]], y[x.shape[0]]
        return y, [y[0 if reverse else -1], c]
    return y, [y[0 if reverse else -1]]


def _by_steps(
    call: Call, x: Tensor, w: Tensor, r: Tensor, bias: Tensor | None, states: list[Tensor | None],
    peep: Tensor | None, lengths: Any, reverse: bool, kinds: list[Callable[[Tensor], Tensor]], size: int,
) -> tuple[Tensor, list[Tensor]]:  # fmt: skip
    """Step by step, with all of ONNX's options."""
    times, batch, _ = x.shape
    zeros = Tensor(np.zeros((batch, size), x.dtype))
    h, c = (zeros if s is None else s for s in states)
    w_bias, r_bias = (None, None) if bias is None else (bias[: w.shape[0]], bias[w.shape[0] :])
    limit = call.get("clip")
    counts = None if lengths is None else known(lengths)

    def clipped(value: Tensor) -> Tensor:
        return value if not limit else value.clamp(-limit, limit)

    def gates(value: Tensor) -> list[Tensor]:
        return [value[:, g * size : (g + 1) * size] for g in range(_GATES[call.operator])]

    linear, where = op("linear"), op("where")
    outputs: list[Any] = [None] * times
    for t in range(times - 1, -1, -1) if reverse else range(times):
        from_x = linear(x[t], w, w_bias)
        if call.operator == "GRU":
            f, g = kinds
            zx, rx, nx = gates(from_x)
            zh, rh, nh = gates(linear(h, r, r_bias))
            z, reset = f(clipped(zx + zh)), f(clipped(rx + rh))
            if not call.get("linear_before_reset", 0):
                own = None if r_bias is None else r_bias[2 * size :]
                inner = nx + linear(reset * h, r[2 * size :], own)
            else:
                inner = nx + reset * nh
            new_h, new_c = (1 - z) * g(clipped(inner)) + z * h, c
        elif call.operator == "LSTM":
            f, g, last = kinds
            i, o, forget, cell = gates(from_x + linear(h, r, r_bias))
            p_i, p_o, p_f = (None,) * 3 if peep is None else (peep[k * size : (k + 1) * size] for k in range(3))
            into = f(clipped(i if p_i is None else i + p_i * c))
            kept = 1 - into if call.get("input_forget", 0) else f(clipped(forget if p_f is None else forget + p_f * c))
            new_c = kept * c + into * g(clipped(cell))
            new_h = f(clipped(o if p_o is None else o + p_o * new_c)) * last(new_c)
        else:
            new_h, new_c = kinds[0](clipped(from_x + linear(h, r, r_bias))), c
        if counts is None:
            h, c, outputs[t] = new_h, new_c, new_h
        else:
            on = Tensor((t < counts)[:, None])
            h, c, outputs[t] = where(on, new_h, h), where(on, new_c, c), where(on, new_h, 0.0)
    return op("stack")(outputs, 0), [h, c] if call.operator == "LSTM" else [h]
