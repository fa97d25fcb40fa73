"""Layer, group and RMS normalisation, and recurrent layers over a whole sequence.

Norms take x (N, C, P) whose C channels are normalised in groups: layer norm is one group with P = 1. (Ba et al. 2016,
https://arxiv.org/abs/1607.06450; Wu, He 2018, https://arxiv.org/abs/1803.08494; Zhang, Sennrich 2019,
https://arxiv.org/abs/1910.07467.) Recurrent layers are PyTorch's, with one product of all times' inputs made before.
"""

from __future__ import annotations

import numpy as np

from fastnn.backends.checks import Array, empty
from fastnn.backends.sums import total

TANH, RELU, GRU, LSTM = range(4)  # modes, as enum recurrent_mode of kernels/table.h


def group_norm_forward(
    x: Array, weight: Array | None, bias: Array | None, groups: int, eps: float, centred: bool
) -> tuple[Array, Array]:
    """(x - mean) / sqrt(var + eps) * weight + bias, and statistics (N, groups, 2): mean and 1 / sqrt(var + eps).

    x (N, C, P); weight, bias (C,) or None. Not centred, mean is 0 and var the mean of the squares.
    """
    rows = x.reshape(len(x), groups, -1)
    statistics = empty((len(x), groups, 2), x.dtype)
    statistics[..., 0] = total(rows, 2) / rows.shape[2] if centred else 0
    deviations = rows - statistics[..., :1]
    statistics[..., 1] = 1 / np.sqrt(total(deviations * deviations, 2) / rows.shape[2] + eps)
    y = (deviations * statistics[..., 1:]).reshape(x.shape)
    if weight is not None:
        y = y * weight[:, None]
    return y if bias is None else y + bias[:, None], statistics


def group_norm_backward(
    grad: Array, x: Array, statistics: Array, weight: Array | None, groups: int, centred: bool
) -> tuple[Array, Array, Array]:
    """Gradients of x, weight and bias, the latter (C,): sums of grad * normalised, and of grad.

    With g = grad * weight, x's is (g - mean(g), if centred, - normalised * mean(g * normalised)) / sqrt(var + eps).
    """
    normalised = _normalised(x, statistics)
    g = (grad if weight is None else grad * weight[:, None]).reshape(normalised.shape)
    through_mean = g.mean(2, keepdims=True) if centred else 0
    through_var = normalised * (g * normalised).mean(2, keepdims=True)
    grad_x = ((g - through_mean - through_var) * statistics[..., 1:]).reshape(x.shape)
    return grad_x, total(grad * normalised.reshape(x.shape), (0, 2)), total(grad, (0, 2))


def _normalised(x: Array, statistics: Array) -> Array:
    return (x.reshape(*statistics.shape[:2], -1) - statistics[..., :1]) * statistics[..., 1:]


def recurrent_forward(
    gates: Array,
    y: Array,
    extra: Array | None,
    weight: Array,
    bias: Array | None,
    h0: Array | None,
    c0: Array | None,
    mode: int,
    reverse: bool,
) -> None:
    """One layer and direction. gates (T, B, G·H) hold the input's part and biases; weight (G·H, H); h0, c0 (B, H).

    TANH, RELU: h = f(x + W h). GRU: r, z = σ, n = tanh(x_n + r·(W_n h + bias)), h = n + z·(h - n). LSTM: i, f, g, o,
    c = f·c + i·g, h = o·tanh(c). Of GRU and LSTM, gates become the gates' values; y (T, B, H) is written, of LSTM with
    the last c behind it, and extra (T, B, H): W_n h + bias of GRU, c of LSTM.
    """
    times, batch, size = len(gates), gates.shape[1], weight.shape[1]
    zeros = np.zeros((batch, size), gates.dtype)
    h, c = (zeros if state is None else state for state in (h0, c0))
    for t in _order(times, reverse):
        g, product = np.split(gates[t], len(weight) // size, 1), np.split(h @ weight.T, len(weight) // size, 1)
        if mode in (TANH, RELU):
            h = np.tanh(g[0] + product[0]) if mode == TANH else np.maximum(g[0] + product[0], 0)
        elif mode == GRU:
            r, z = _sigmoid(g[0] + product[0]), _sigmoid(g[1] + product[1])
            hn = product[2] if bias is None else product[2] + bias
            n = np.tanh(g[2] + r * hn)
            h = n + z * (h - n)
            gates[t], extra[t] = np.concatenate([r, z, n], 1), hn  # type: ignore[index]
        else:
            i, f, o = (_sigmoid(g[k] + product[k]) for k in (0, 1, 3))
            n = np.tanh(g[2] + product[2])
            c = f * c + i * n
            h = o * np.tanh(c)
            gates[t], extra[t] = np.concatenate([i, f, n, o], 1), c  # type: ignore[index]
        y[t] = h
    if mode == LSTM:
        y[times] = c


def recurrent_backward(
    grad_gates: Array,
    grad_extra: Array | None,
    grad_h0: Array | None,
    grad_c0: Array | None,
    grad: Array,
    gates: Array,
    y: Array,
    extra: Array | None,
    weight: Array,
    h0: Array | None,
    c0: Array | None,
    mode: int,
    reverse: bool,
) -> None:
    """From the gradient of y those before the gates' functions, of GRU's W_n h + bias (grad_extra), of h0 and c0.

    grad_gates may be gates; grad_h0 and grad_c0 are None where they are not wanted.
    """
    times, batch, size = len(gates), gates.shape[1], weight.shape[1]
    zeros = np.zeros((batch, size), gates.dtype)
    dh, dc = zeros, grad[times] if mode == LSTM else zeros
    order = list(_order(times, reverse))
    for step in range(times - 1, -1, -1):
        t, before = order[step], order[step - 1] if step else None
        dh = dh + grad[t]
        g = np.split(gates[t], len(weight) // size, 1)
        rest = zeros
        if mode in (TANH, RELU):
            d = passed = dh * (1 - y[t] ** 2) if mode == TANH else np.where(y[t] > 0, dh, 0)
        elif mode == GRU:
            h = y[before] if before is not None else zeros if h0 is None else h0
            r, z, n = g
            dn = dh * (1 - z) * (1 - n * n)
            dr, dz = dn * extra[t] * r * (1 - r), dh * (h - n) * z * (1 - z)  # type: ignore[index]
            d, passed, rest = np.concatenate([dr, dz, dn], 1), np.concatenate([dr, dz, dn * r], 1), dh * z
            grad_extra[t] = dn * r  # type: ignore[index]
        else:
            assert extra is not None
            c = extra[before] if before is not None else zeros if c0 is None else c0
            i, f, n, o = g
            tanh_c = np.tanh(extra[t])
            cell = dc + dh * o * (1 - tanh_c**2)
            parts = [cell * n * i * (1 - i), cell * c * f * (1 - f), cell * i * (1 - n * n), dh * tanh_c * o * (1 - o)]
            d = passed = np.concatenate(parts, 1)
            dc = cell * f
        grad_gates[t] = d
        dh = rest + passed @ weight
    if grad_h0 is not None:
        grad_h0[...] = dh
    if grad_c0 is not None:
        grad_c0[...] = dc


def _order(times: int, reverse: bool) -> range:
    return range(times - 1, -1, -1) if reverse else range(times)


def _sigmoid(x: Array) -> Array:
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * x), x.dtype)
