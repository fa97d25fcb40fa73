"""Formulas in which every operator stands, with shapes to test them on, and how a plan is compared with eager."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fastnn as fnn
from fastnn import nn, ops
from fastnn.ops.recurrent import Recurrent

Shape = tuple[int, ...]


class Formula(nn.Module):
    """A formula of the input and of parameters of these shapes."""

    def __init__(self, formula: Callable[..., fnn.Tensor], shapes: list[Shape], low: float, high: float) -> None:
        super().__init__()
        rng = np.random.default_rng(len(shapes))
        self.formula = formula
        for i, shape in enumerate(shapes):
            setattr(self, f"p{i}", nn.Parameter(rng.uniform(low, high, shape).astype(np.float32)))

    def forward(self, x: fnn.Tensor) -> fnn.Tensor:
        outputs = self.formula(x, *self.parameters())
        return outputs if outputs.ndim else outputs.reshape(1)


# Name, formula of the input and parameters, the input's shape, the parameters' shapes, the range of all numbers.
Case = tuple[str, Callable[..., Any], Shape, list[Shape], tuple[float, float]]
ANY, POSITIVE, UNIT = (-2.0, 2.0), (0.2, 3.0), (0.05, 0.95)
CASES: list[Case] = [
    ("add", lambda x, p: p + x, (3, 5, 7), [(3, 5, 7)], ANY),
    ("add, broadcast", lambda x, p, q: (p + x) + (q + p), (4, 1, 6), [(5, 1), (1, 5, 6)], ANY),
    ("add, many short rows", lambda x, p: p + x, (5, 90, 7), [(7,)], ANY),
    ("add, large rows", lambda x, p: p + x, (3, 2000), [(3, 1)], ANY),
    ("sub", lambda x, p, q: (p - x) - q, (4, 5), [(5,), (4, 1)], ANY),
    ("mul", lambda x, p, q: p * x * q, (2, 3, 4), [(3, 1), (1,)], ANY),
    ("mul by itself", lambda x, p: p * p * x + p, (2, 3), [(2, 3)], ANY),
    ("div", lambda x, p, q: p / x / q, (4, 1, 5), [(3, 5), (4, 3, 1)], POSITIVE),
    ("numbers", lambda x, p: 2 * p + 1 - p / 3 + 1 / p + x, (3, 4), [(3, 4)], POSITIVE),
    ("pow", lambda x, p, q: p**x + x**q, (4, 5), [(5,), (4, 1)], POSITIVE),
    ("pow, numbers", lambda x, p: (p * x) ** 2 + p**0.5 + p**-1.5 + p**1 + p**0, (4, 5), [(5,)], POSITIVE),
    ("pow, of negative", lambda x, p: (p * x) ** 2 + p**3, (4, 5), [(5,)], ANY),
    ("neg", lambda x, p: -p * x, (7,), [(7,)], ANY),
    ("abs", lambda x, p: abs(p - x), (5, 9), [(9,)], ANY),
    ("exp", lambda x, p: (p * x).exp(), (5, 9), [(9,)], ANY),
    ("log", lambda x, p: (p * x).log(), (5, 9), [(9,)], POSITIVE),
    ("sqrt", lambda x, p: (p * x).sqrt(), (5, 9), [(9,)], POSITIVE),
    ("clamp", lambda x, p: (p * x).clamp(-0.5, 1.5) + (p + x).clamp(max=0.2) + (p - x).clamp(0), (5, 9), [(9,)], ANY),
    ("clamp, tensors", lambda x, p, q: (p * x).clamp(q - 1, q) + x.clamp_min(p) + (x * q).clamp_max(p),
     (4, 6), [(6,), (4, 1)], ANY),
    *((name, lambda x, p, name=name: getattr(fnn, name)(p * x), (5, 9), [(9,)], ANY)
      for name in ("asinh", "atan", "ceil", "cos", "cosh", "erf", "exp2", "expm1", "floor", "frac", "round", "sign",
                   "sin", "sinh", "square", "trunc")),
    *((name, lambda x, p, name=name: getattr(fnn, name)(p * x), (5, 9), [(9,)], UNIT)
      for name in ("acos", "asin", "atanh", "log10", "log1p", "log2", "logit", "reciprocal", "rsqrt", "tan")),
    ("acosh", lambda x, p: (p * x + 1).acosh(), (5, 9), [(9,)], POSITIVE),
    ("atan2", lambda x, p, q: fnn.atan2(p * x, q) + fnn.atan2(x, p), (4, 6), [(6,), (4, 1)], ANY),
    ("fmod", lambda x, p, q: (p * x).fmod(q) + (p * x) % q + (p * x) // q, (4, 6), [(6,), (4, 1)], POSITIVE),
    ("remainder", lambda x, p: (x * 3) % p + (x * 3) % -1.5 - (x * 3).fmod(p), (4, 6), [(6,)], ANY),
    ("minimum", lambda x, p, q: fnn.minimum(p * x, q) * fnn.maximum(x, p) + fnn.maximum(p, p) + fnn.minimum(p, p),
     (4, 6), [(6,), (4, 1)], ANY),
    ("mixed", lambda x, p, q: fnn.lerp(p, q, x).addcmul(p, x, value=0.5).addcdiv(x, q + 3, value=2), (4, 6),
     [(6,), (4, 1)], ANY),
    ("truths", lambda x, p: sum(fnn.where(c, p, x) for c in ((x > 0) & (p > 0), (x > 0) | (p > 0), (x > 0) ^ (p > 0),
     ~(x > 0), fnn.logical_not(p > 0), fnn.isnan(x), fnn.isfinite(x), fnn.isinf(p))), (4, 6), [(6,)], ANY),
    ("where", lambda x, p, q: fnn.where(x > p, p * x, q), (4, 1, 6), [(5, 1), (6,)], ANY),
    ("comparisons", lambda x, p: sum(fnn.where(c, p, -p) for c in (x < p, x <= 0.5, x >= p, p > 0, x == x, x != p)),
     (4, 6), [(4, 6)], ANY),
    ("sum", lambda x, p: (p * x).sum() + (p * x).sum(1) + (p + x).sum((0, 2)).sum(0), (3, 4, 5), [(4, 5)], ANY),
    ("sum, kept", lambda x, p: (p * x) / (p * p + x * x).sum((0, 2), keepdim=True), (3, 4, 5), [(3, 4, 5)], POSITIVE),
    ("sum, many terms", lambda x, p: (p * x).sum(0) * (p + x).sum(), (9000, 5), [(5,)], ANY),
    ("sum, long rows", lambda x, p: (p * x).sum(1), (3, 7001), [(7001,)], ANY),
    ("sum, of one", lambda x, p: (p * x).sum(1) + p.sum(0), (4, 1, 3), [(1, 3)], ANY),
    ("sum, transposed", lambda x, p: ((p * x).transpose(0, 2) + 0.0).sum(1), (3, 4, 5), [(4, 5)], ANY),
    ("mean", lambda x, p: (p * x).mean() + (p * x).mean(0), (6, 5), [(6, 5)], ANY),
    ("var", lambda x, p: (p * x).var(1).sum() + (p * x).std() + (p + x).std(0), (6, 5), [(6, 5)], ANY),
    ("std of equal", lambda x, p: (p - p).std(0) + (p * x).sum(0), (6, 5), [(6, 5)], ANY),
    ("max", lambda x, p: (p * x).max() + (p * x).max(1)[0].sum() + (p + x).max(0, keepdim=True)[0],
     (6, 5), [(6, 5)], ANY),
    ("min", lambda x, p: (p * x).min() + (p * x).min(0)[0], (6, 5, 3), [(5, 1)], ANY),
    ("amax", lambda x, p: (p * x).amax((0, 2)) + (p - x).amin(1).sum() + (p + x).amax(1, keepdim=True)[0, 0, 0]
     + (p - p).amax(1).sum(), (3, 4, 5), [(4, 5)], ANY),
    ("prod", lambda x, p: (p * x).prod(0) + (p + x).prod() * 1e-3 + (p * x)[:3].prod(1).sum(), (5, 3), [(3,)], ANY),
    ("truth", lambda x, p: fnn.where((x > p).any(0), p, -p) + fnn.where((x > p).all(), p, x) +
     fnn.where((x > 0).all(1, keepdim=True), p, x), (5, 3), [(3,)], ANY),
    ("moments", lambda x, p: sum(fnn.var_mean(p * x, 1)).sum() + sum(fnn.var_mean(p * x)), (5, 3), [(3,)], ANY),
    ("reshape", lambda x, p: (p * x).reshape(5, -1) + (p * x).flatten()[:12], (4, 5, 3), [(5, 3)], ANY),
    ("reshape, of transposed", lambda x, p: (p * x).T.reshape(-1) * p.reshape(-1), (4, 5), [(4, 5)], ANY),
    ("views of the input", lambda x, p: x.T.reshape(4, 5) * p + x.flatten()[3:7].unsqueeze(1), (4, 5), [(4, 5)], ANY),
    ("permute", lambda x, p: (p * x).permute(2, 0, 1) * p.T.reshape(5, 1, 4), (3, 4, 5), [(4, 5)], ANY),
    ("squeeze", lambda x, p: (p * x).unsqueeze(1).squeeze(1) * p.unsqueeze(0), (3, 5), [(5,)], ANY),
    ("index", lambda x, p: (p * x)[1:, ::2] * p[None, 1::2] + p[0] - (x * p)[..., -1:][0], (3, 6), [(6,)], ANY),
    ("index, reversed", lambda x, p: (p * x)[::-1, 1] + (p * x)[:, None, 2].sum(), (3, 6), [(6,)], ANY),
    ("slices", lambda x, p: sum((p * x)[:, i : i + 2] * (i + 1) for i in range(0, 6, 2)), (3, 6), [(6,)], ANY),
    ("iterated", lambda x, p: sum(row * i for i, row in enumerate(p * x)), (3, 6), [(6,)], ANY),
    ("cat", lambda x, p, q: fnn.cat([p * x, q, x[:, :2]], 1) * 2, (3, 6), [(6,), (3, 4)], ANY),
    ("stack", lambda x, p, q: fnn.stack([p * x, q + x, x], 1).T, (3, 6), [(6,), (3, 6)], ANY),
    ("detach", lambda x, p: (p * x).detach() * p, (3, 6), [(6,)], ANY),
    ("cast", lambda x, p: fnn.where((x * 3).astype(np.int64).astype(np.float32) > 0, p, x) + (p > 0).astype(np.float32),
     (3, 6), [(6,)], ANY),
    ("argmax", lambda x, p: p * x.argmax(1, keepdim=True).astype(np.float32) + x.argmax().astype(np.float32),
     (3, 6), [(6,)], ANY),
    ("gather, of one", lambda x, p: fnn.gather(p * x, 2, x.argmax(2, keepdim=True)) + (x * p).topk(2, 2)[0],
     (4, 1, 5), [(5,)], ANY),
    ("matmul", lambda x, p: (x @ p).T @ x, (4, 6), [(6, 3)], ANY),
    ("matmul, vectors", lambda x, p: (x @ p) * (p @ p), (4, 6), [(6,)], ANY),
    ("matmul, stacked", lambda x, p, q: (x @ p) @ q, (2, 1, 4, 6), [(3, 6, 2), (2, 5)], ANY),
    ("matmul, transposed", lambda x, p: p.permute(1, 2, 0) @ x, (3, 4), [(3, 2, 5)], ANY),
    ("attention", lambda x, p: (ops.softmax((x @ p) @ x.transpose(1, 2), -1) @ x).tanh(), (2, 5, 6), [(6, 6)], ANY),
    ("linear", lambda x, p, q: ops.linear(x[:, 1:], p, q), (4, 7), [(3, 6), (3,)], ANY),
    ("linear, of a parameter", lambda x, p, q: ops.linear(p, q) + x, (4, 3), [(4, 6), (3, 6)], ANY),
    ("relu", lambda x, p: ops.relu(p * x) + ops.relu(x.T).T, (5, 9), [(9,)], ANY),
    ("leaky_relu", lambda x, p: ops.leaky_relu(p * x, 0.1), (5, 9), [(9,)], ANY),
    ("elu", lambda x, p: ops.elu(p * x, 1.5), (5, 9), [(9,)], ANY),
    ("sigmoid", lambda x, p: ops.sigmoid(p * x), (5, 9), [(9,)], ANY),
    ("tanh", lambda x, p: ops.tanh((p * x).T), (5, 9), [(9,)], ANY),
    ("gelu", lambda x, p: ops.gelu(p * x), (5, 9), [(9,)], ANY),
    ("silu", lambda x, p: ops.silu(p * x), (5, 9), [(9,)], ANY),
    ("relu6", lambda x, p: ops.relu6(3 * p * x), (5, 9), [(9,)], ANY),
    ("hardswish", lambda x, p: ops.hardswish((2 * p * x).T), (5, 9), [(9,)], ANY),
    ("softplus", lambda x, p: ops.softplus(p * x) * ops.softplus(x * p, 2, 3), (5, 9), [(9,)], ANY),
    ("mish", lambda x, p: ops.mish(p * x), (5, 9), [(9,)], ANY),
    ("shrinking", lambda x, p: ops.softshrink(p * x) + ops.hardshrink(p * x) * ops.hardtanh(p + x),
     (5, 9), [(9,)], ANY),
    ("prelu", lambda x, p, q: ops.prelu(x * p, q) + ops.gelu(p * x, "tanh"), (5, 3, 4), [(4,), (3,)], ANY),
    ("glu", lambda x, p: ops.glu(p * x) * ops.selu(x[..., :2]), (5, 3, 4), [(4,)], ANY),
    ("dropout2d of nothing", lambda x, p: ops.dropout2d(p * x, 1.0) + p, (2, 3, 4, 5), [(5,)], ANY),
    ("embedding", lambda x, p: ops.embedding(INDEX, p, 1) * x, (3, 4, 5), [(6, 5)], ANY),
    ("embedding of the input", lambda x, p: ops.embedding((x * 3).astype(np.int64), p), (3, 4), [(6, 5)], UNIT),
    ("interpolate, nearest", lambda x, p: ops.interpolate(p * x, scale_factor=(2, 3)) + ops.interpolate(x, (6, 12)),
     (2, 3, 3, 4), [(4,)], ANY),
    ("interpolate, bilinear", lambda x, p: ops.interpolate(p * x, (5, 7), mode="bilinear"), (2, 3, 3, 4), [(4,)], ANY),
    ("pixels", lambda x, p: ops.pixel_unshuffle(ops.pixel_shuffle(p * x, 2), 4), (2, 8, 4, 6), [(6,)], ANY),
    ("unfold", lambda x, p: ops.fold(ops.unfold(p * x, 2, 1, 1, 2), (4, 6), 2, 1, 1, 2), (2, 3, 4, 6), [(6,)], ANY),
    ("instance_norm", lambda x, p: ops.instance_norm(x * x, None, None, p, p), (2, 3, 4), [(3,)], ANY),
    ("similarity", lambda x, p: ops.cosine_similarity(p * x, x) + ops.pairwise_distance(x, p), (5, 9), [(9,)], ANY),
    ("softmax", lambda x, p: ops.softmax(p * x, 1) * x + ops.softmax(p * x, 0), (5, 9), [(9,)], ANY),
    ("log_softmax", lambda x, p: ops.log_softmax(p * x, 1) + ops.log_softmax(p * x, 0), (5, 9), [(9,)], ANY),
    ("conv2d, stride and groups", lambda x, p, q: ops.conv2d(x, p, q, stride=2, padding=1, groups=2),
     (2, 4, 7, 6), [(6, 2, 3, 3), (6,)], ANY),
    ("conv2d, dilation", lambda x, p, q: ops.conv2d(ops.conv2d(x, p, dilation=(2, 1)), q, stride=9), (2, 3, 9, 8),
     [(5, 3, 3, 2), (4, 5, 1, 2)], ANY),
    ("conv2d, transposed input", lambda x, p: ops.conv2d(x.transpose(2, 3), p, stride=2) * 2,
     (2, 3, 9, 8), [(5, 3, 3, 2)], ANY),
    ("conv1d", lambda x, p, q, r: ops.conv1d(ops.relu(ops.conv1d(x, p, q, 2, 1)), r, padding="same", groups=2),
     (2, 4, 15), [(6, 4, 3), (6,), (2, 3, 4)], ANY),
    ("conv_transpose2d", lambda x, p, q: ops.conv_transpose2d(x, p, q, (2, 3), 1, (1, 0), 2, (1, 2)),
     (2, 4, 7, 6), [(4, 3, 3, 2), (6,)], ANY),
    ("conv_transpose1d", lambda x, p, q: ops.conv_transpose1d(x, p, q, 2) + ops.conv_transpose1d(q * x, p, stride=2),
     (2, 4, 7), [(4, 1, 3), (1,)], ANY),
    ("pad", lambda x, p: ops.pad(p * x, (1, 2, -1, 1), value=2) * ops.pad(x, (1, 2, -1, 1), "replicate"),
     (2, 3, 4, 5), [(3, 4, 5)], ANY),
    ("pad, reflect and circular", lambda x, p: ops.pad(p * x, (3, 2), "reflect") * ops.pad(x * p, (0, 5), "circular"),
     (2, 3, 5), [(3, 5)], ANY),
    ("pools of sequences", lambda x, p: ops.max_pool1d(p * x, 3, 2, 1) * ops.avg_pool1d(p + x, 2, 2),
     (2, 3, 8), [(3, 8)], ANY),
    ("pools, ceil_mode", lambda x, p: ops.max_pool2d(p * x, 3, 2, 0, 1, True) + ops.avg_pool2d(p * x, 3, 2, 0, True),
     (2, 3, 8, 6), [(3, 8, 6)], ANY),
    ("max_pool2d, dilation", lambda x, p: ops.max_pool2d(p * x, 2, 1, 1, 2), (2, 3, 8, 6), [(3, 8, 6)], ANY),
    ("adaptive pools", lambda x, p: ops.adaptive_avg_pool2d(p * x, (3, 4)) * ops.adaptive_max_pool2d(p * x, (3, 4)),
     (2, 3, 8, 6), [(3, 8, 6)], ANY),
    ("max_pool2d", lambda x, p: ops.max_pool2d(p * x, 3, 2, 1), (2, 3, 7, 6), [(3, 7, 6)], ANY),
    ("avg_pool2d", lambda x, p: ops.avg_pool2d(p * x, (3, 2), 2, 1, count_include_pad=False) * ops.avg_pool2d(x,
     (3, 2), 2, 1),
     (2, 3, 7, 6), [(3, 7, 6)], ANY),
    ("global_avg_pool2d", lambda x, p: ops.global_avg_pool2d(p * x) * x, (2, 3, 7, 6), [(3, 7, 6)], ANY),
    ("normalize", lambda x, p: ops.normalize_channels(p * x, MEAN, STD) * ops.normalize_channels(x, MEAN, STD),
     (2, 3, 4), [(3, 4)], ANY),
    ("batch_norm, by itself", lambda x, p, q, r: ops.batch_norm(r * x, None, None, p, q, True),
     (8, 3), [(3,), (3,), (3,)], ANY),
    ("batch_norm, images", lambda x, p, q: ops.batch_norm(x * x, None, None, p, q, True),
     (4, 3, 5, 6), [(3,), (3,)], ANY),
    ("batch_norm, sequences", lambda x, p, q: ops.batch_norm(x * x, None, None, p, q, True),
     (4, 3, 5), [(3,), (3,)], ANY),
    ("batch_norm, by constants", lambda x, p, q: ops.batch_norm(p * x, MEAN, STD, p, q), (4, 3), [(3,), (3,)], ANY),
    ("layer_norm", lambda x, p, q: ops.layer_norm(x * x, [6], p, q), (4, 3, 6), [(6,), (6,)], ANY),
    ("gru", lambda x, *p: Recurrent.apply(x, *p, None, None, None, None, mode=2, reverse=True),
     (4, 3, 5), [(6, 5), (6, 2)], ANY),
    ("one_hot", lambda x, p: ops.one_hot((p * x).argmax(1), 9) * x * p, (5, 9), [(9,)], ANY),
    ("dropout of nothing", lambda x, p: ops.dropout(p * x, 1.0) + p, (5, 9), [(9,)], ANY),
    ("mse, not reduced", lambda x, p: ops.mse_loss(p * x, x.detach(), reduction="none"), (5, 9), [(9,)], ANY),
    ("mse", lambda x, p: ops.mse_loss(p * x, x) * 3 + ops.mse_loss(p + x, x, reduction="sum"), (5, 9), [(9,)], ANY),
    ("bce", lambda x, p: ops.binary_cross_entropy(p * x, x), (5, 9), [(9,)], UNIT),
    ("bce, not reduced", lambda x, p: ops.binary_cross_entropy(p * x, x, reduction="none") * x, (5, 9), [(9,)], UNIT),
    ("losses of two pieces", lambda x, p: ops.huber_loss(p * x, x.detach(), delta=0.5)
     + ops.smooth_l1_loss(p + x, x.detach(), beta=0.7, reduction="none").sum(), (5, 9), [(9,)], ANY),
    ("bce_with_logits", lambda x, p: ops.binary_cross_entropy_with_logits(p * x, x, reduction="sum"),
     (5, 9), [(9,)], UNIT),
    ("nll", lambda x, p: ops.nll_loss(p * x, LABELS) + ops.nll_loss(p + x, LABELS, reduction="none") * x[:, 0],
     (5, 9), [(9,)], ANY),
    ("cross_entropy", lambda x, p: ops.cross_entropy(p * x, LABELS, label_smoothing=0.1, reduction="none") * x[:, 0],
     (5, 9), [(9,)], ANY),
    ("cross_entropy, soft", lambda x, p: ops.cross_entropy(p * x, ops.softmax(x), reduction="sum"),
     (5, 9), [(9,)], ANY),
]  # fmt: skip
MEAN, STD = np.array([0.1, -0.2, 0.3], np.float32), np.array([0.5, 1.5, 1.0], np.float32)
LABELS = np.array([0, 8, 3, 3, 1])
INDEX = np.array([[0, 5, 1, 1], [2, 2, 2, 0], [1, 4, 3, 5]])


def drawn(case: Case) -> tuple[Formula, np.ndarray, np.ndarray]:
    """The model, an input, and weights of its outputs."""
    _, formula, shape, shapes, (low, high) = case
    rng = np.random.default_rng(7)
    model = Formula(formula, shapes, low, high)
    x = rng.uniform(low, high, shape).astype(np.float32)
    with fnn.no_grad():
        weights = rng.uniform(0.5, 2, model(fnn.Tensor(x)).shape).astype(np.float32)
    return model, x, weights


def weighted(outputs: fnn.Tensor, weights: Any) -> fnn.Tensor:
    return (outputs * weights).sum()


def eager(model: nn.Module, loss_fn: Any, x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    """Outputs, loss and gradients."""
    model.zero_grad()
    outputs = model(fnn.Tensor(x))
    loss = loss_fn(outputs, fnn.Tensor(y))
    loss.backward()
    return [outputs.numpy(), loss.numpy(), *(np.array(p.grad) for p in model.parameters() if p.grad is not None)]


def compiled(model: nn.Module, loss_fn: Any, x: np.ndarray, y: np.ndarray, **options: Any) -> list[np.ndarray]:
    model.zero_grad()
    step = fnn.compile(model, loss_fn, **options)
    loss = step(x, y)
    return [
        step.outputs.copy(),
        np.float32(loss),
        *(np.array(p.grad) for p in model.parameters() if p.grad is not None),
    ]


def assert_alike(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-6 * max(1.0, float(np.abs(other).max(initial=0))))


def interpreted(plan: Any) -> list[str]:
    """What runs in Python in the plan that ran last."""
    return [f"{when}: {how}" for part in plan._last.parts if part.program is None for _, when, how in part.names]
