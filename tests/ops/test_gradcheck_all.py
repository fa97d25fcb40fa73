"""gradcheck of everything there is: every operator, method, module and Function has a case, passes, and fails if wrong.

The cases are compared with what fastnn offers: whoever adds an operator or a layer is told here to add a case.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import numpy as np
import pytest
from choice_cases import SINGLE
from choice_cases import inputs as choice_inputs

import fastnn as fnn
from fastnn import nn, ops
from fastnn.insight.gradients import GradientError
from fastnn.tape import computed
from fastnn.tensors import Cast

RNG = np.random.default_rng(7)
ROWS, IMAGES = RNG.normal(size=(5, 4)), RNG.normal(size=(2, 4, 6, 5))
POSITIVE, SHARES = RNG.uniform(0.5, 2, (5, 4)), RNG.uniform(0.1, 0.9, (5, 4))
SEQUENCES, LABELS = IMAGES[:, :, 0], np.array([0, 3, 1, 1, 2])
SIGNS, SIGN = np.where(SHARES > 0.4, 1, -1), np.array([1, -1, 1, -1, 1])
MATRIX, VECTOR, KERNELS = RNG.normal(size=(3, 4)), RNG.normal(size=4), RNG.normal(size=(6, 2, 3, 2))
SEQUENCE, STATES = RNG.normal(size=(3, 2, 4)), RNG.normal(size=(1, 2, 3))
SQUARE = ROWS[:4] + np.eye(4)
MEAN, VARIANCE = RNG.normal(size=4), RNG.uniform(0.5, 2, 4)

Case = tuple[Any, tuple[Any, ...]]  # what is checked, and on what
OPERATORS: dict[str, Case] = {
    "adaptive_avg_pool1d": (lambda x: ops.adaptive_avg_pool1d(x, 4), (SEQUENCES,)),
    "adaptive_avg_pool2d": (lambda x: ops.adaptive_avg_pool2d(x, (3, 2)), (IMAGES,)),
    "adaptive_max_pool1d": (lambda x: ops.adaptive_max_pool1d(x, 3), (SEQUENCES,)),
    "adaptive_max_pool2d": (lambda x: ops.adaptive_max_pool2d(x, (4, 1)), (IMAGES,)),
    "alpha_dropout": (lambda x: ops.alpha_dropout(x, 0.4, True), (ROWS,)),
    "avg_pool1d": (lambda x: ops.avg_pool1d(x, 3, 2, 1, True), (SEQUENCES,)),
    "avg_pool2d": (lambda x: ops.avg_pool2d(x, 3, 2, 1), (IMAGES,)),
    "batch_norm": (lambda x, w, b: ops.batch_norm(x, MEAN, VARIANCE, w, b), (IMAGES, VECTOR, VARIANCE)),
    "batch_norm_training": (ops.batch_norm_training, (IMAGES, VECTOR, VARIANCE)),
    "bernoulli": (lambda x: x * ops.bernoulli(SHARES), (ROWS,)),
    "bilinear": (ops.bilinear, (ROWS, POSITIVE, RNG.normal(size=(3, 4, 4)), MATRIX[:, 0])),
    "binary_cross_entropy": (ops.binary_cross_entropy, (SHARES, SHARES[::-1])),
    "binary_cross_entropy_with_logits": (
        lambda z, t: ops.binary_cross_entropy_with_logits(z, t, pos_weight=VARIANCE), (ROWS, SHARES)),
    "cat": (lambda x, y: ops.cat([x, y, x], 1), (ROWS, POSITIVE[:, :2])),
    "channel_shuffle": (lambda x: ops.channel_shuffle(x, 2), (IMAGES,)),
    "conv1d": (lambda x, w, b: ops.conv1d(x, w, b, 2, 1, groups=2), (SEQUENCES, KERNELS[:, :, 0], KERNELS[:, 0, 0, 0])),
    "conv2d": (lambda x, w, b: ops.conv2d(x, w, b, (2, 1), 1, groups=2), (IMAGES, KERNELS, KERNELS[:, 0, 0, 0])),
    "conv_transpose1d": (lambda x, w: ops.conv_transpose1d(x, w, stride=2), (SEQUENCES, KERNELS[:4, :, 0])),
    "conv_transpose2d": (lambda x, w, b: ops.conv_transpose2d(x, w, b, 2, 1, (1, 0), 2), (IMAGES, KERNELS[:4], VECTOR)),
    "cosine_embedding_loss": (lambda x, y: ops.cosine_embedding_loss(x, y, SIGN, -1.0), (ROWS, POSITIVE)),
    "cosine_similarity": (ops.cosine_similarity, (ROWS, POSITIVE)),
    "cross_entropy": (lambda z: ops.cross_entropy(z, LABELS, VARIANCE, None, 1, label_smoothing=0.1), (ROWS,)),
    "dropout": (lambda x: ops.dropout(x, 0.4), (ROWS,)),
    "dropout1d": (lambda x: ops.dropout1d(x, 0.4), (SEQUENCES,)),
    "dropout2d": (lambda x: ops.dropout2d(x, 0.4), (IMAGES,)),
    "dropout3d": (lambda x: ops.dropout3d(x, 0.4), (IMAGES,)),
    "elu": (lambda x: ops.elu(x, 0.7), (ROWS,)),
    "embedding": (lambda w: ops.embedding(LABELS, w), (ROWS,)),
    "embedding_bag": (lambda w: ops.embedding_bag(LABELS[:, None], w), (ROWS,)),
    "flatten": (lambda x: ops.flatten(x, 1), (IMAGES,)),
    "fold": (lambda x: ops.fold(x, (3, 5), 2), (RNG.normal(size=(2, 4, 8)),)),
    "gaussian_nll_loss": (ops.gaussian_nll_loss, (ROWS, ROWS[::-1], POSITIVE)),
    "gelu": (ops.gelu, (ROWS,)),
    "global_avg_pool2d": (ops.global_avg_pool2d, (IMAGES,)),
    "glu": (ops.glu, (ROWS,)),
    "group_norm": (lambda x, w, b: ops.group_norm(x, 2, w, b), (IMAGES, VECTOR, VARIANCE)),
    "gumbel_softmax": (lambda x: ops.gumbel_softmax(x, 0.7), (ROWS,)),
    **{name: (getattr(ops, name), (ROWS,)) for name in ("hardshrink", "hardsigmoid", "hardswish", "tanhshrink")},
    "hardtanh": (ops.hardtanh, (ROWS,)),
    "hinge_embedding_loss": (lambda x: ops.hinge_embedding_loss(x, SIGNS), (ROWS,)),
    "huber_loss": (ops.huber_loss, (ROWS, ROWS[::-1])),
    "instance_norm": (lambda x, w, b: ops.instance_norm(x, None, None, w, b), (IMAGES, VECTOR, VARIANCE)),
    "interpolate": (lambda x: ops.interpolate(x, (8, 5)) + ops.interpolate(x, (8, 5), mode="bilinear"), (IMAGES,)),
    "kl_div": (ops.kl_div, (ROWS, SHARES)),
    "l1_loss": (ops.l1_loss, (ROWS, POSITIVE)),
    "layer_norm": (lambda x, w, b: ops.layer_norm(x, [4], w, b), (ROWS, VECTOR, VARIANCE)),
    "leaky_relu": (lambda x: ops.leaky_relu(x, 0.2), (ROWS,)),
    "linear": (ops.linear, (ROWS, MATRIX, MATRIX[:, 0])),
    "log_softmax": (ops.log_softmax, (ROWS,)),
    "logsigmoid": (ops.logsigmoid, (ROWS,)),
    "margin_ranking_loss": (lambda x, y: ops.margin_ranking_loss(x, y, SIGNS), (ROWS, POSITIVE)),
    "matmul": (ops.matmul, (ROWS, MATRIX.T)),
    "max_pool1d": (lambda x: ops.max_pool1d(x, 3, 2, 1), (SEQUENCES,)),
    "max_pool2d": (lambda x: ops.max_pool2d(x, 2), (IMAGES,)),
    "mish": (ops.mish, (ROWS,)),
    "mse_loss": (ops.mse_loss, (ROWS, POSITIVE)),
    "multi_margin_loss": (lambda x: ops.multi_margin_loss(x, LABELS, 2), (ROWS,)),
    "multilabel_margin_loss": (lambda x: ops.multilabel_margin_loss(x, LABELS[:, None] - np.arange(4)), (ROWS,)),
    "multilabel_soft_margin_loss": (ops.multilabel_soft_margin_loss, (ROWS, SHARES)),
    "nll_loss": (lambda x: ops.nll_loss(x, LABELS, VARIANCE, None, 1), (ROWS,)),
    "normalize_channels": (lambda x: ops.normalize_channels(x, MEAN, VARIANCE), (IMAGES,)),
    "pad": (lambda x: ops.pad(x, (1, -1, 2, 0), value=3) + ops.pad(x, (1, -1, 2, 0), "reflect"), (IMAGES,)),
    "pairwise_distance": (ops.pairwise_distance, (ROWS, POSITIVE)),
    "pixel_shuffle": (lambda x: ops.pixel_shuffle(x, 2), (IMAGES,)),
    "pixel_unshuffle": (lambda x: ops.pixel_unshuffle(x[..., :4], 2), (IMAGES,)),
    "poisson_nll_loss": (ops.poisson_nll_loss, (ROWS, POSITIVE)),
    "prelu": (ops.prelu, (IMAGES, VECTOR)),
    "rand_like": (lambda x: x * ops.rand_like(x), (ROWS,)),
    "randn_like": (lambda x: x * ops.randn_like(x), (ROWS,)),
    "relu": (ops.relu, (ROWS,)),
    "rms_norm": (lambda x, w: ops.rms_norm(x, [4], w), (ROWS, VECTOR)),
    "scaled_dot_product_attention": (ops.scaled_dot_product_attention, (ROWS, MATRIX, MATRIX)),
    "selu": (ops.selu, (ROWS,)),
    "sigmoid": (ops.sigmoid, (ROWS,)),
    "silu": (ops.silu, (ROWS,)),
    "smooth_l1_loss": (ops.smooth_l1_loss, (ROWS, POSITIVE)),
    "soft_margin_loss": (lambda x: ops.soft_margin_loss(x, SIGNS), (ROWS,)),
    "softmax": (lambda x: ops.softmax(x, 0), (ROWS,)),
    "softplus": (ops.softplus, (ROWS,)),
    "softshrink": (ops.softshrink, (ROWS,)),
    "stack": (lambda x, y: ops.stack([x, y], 1), (ROWS, POSITIVE)),
    "tanh": (ops.tanh, (ROWS,)),
    "threshold": (lambda x: ops.threshold(x, 0.1, 3), (ROWS,)),
    "triplet_margin_loss": (lambda x, y: ops.triplet_margin_loss(x, y, x[::-1], 2.0), (ROWS, POSITIVE)),
    "unfold": (lambda x: ops.unfold(x, 2, 1, 1, 2), (IMAGES,)),
    "upsample": (lambda x: ops.upsample(x, scale_factor=2), (IMAGES,)),
    "where": (lambda x, y: ops.where(SHARES > 0.5, x, y), (ROWS, VECTOR)),
    **{name: (getattr(ops, name), (ROWS,)) for name in ("celu", "pdist", "relu6", "rrelu", "softmin", "softsign")},
}  # fmt: skip

METHODS: dict[str, Case] = {
    "T": (lambda x: x.T, (ROWS,)),
    "cholesky": (lambda x: (x.T @ x).cholesky(), (ROWS,)),
    "cholesky_inverse": (lambda x: x.cholesky_inverse(), (SQUARE,)),
    "cholesky_solve": (lambda x, y: x.cholesky_solve(y), (MATRIX.T, SQUARE)),
    "cross": (lambda x, y: x.cross(y), (MATRIX, MATRIX[::-1].copy())),
    "det": (lambda x: x.det(), (SQUARE,)),
    "eigh": (lambda x: fnn.linalg.eigvalsh(x.T @ x), (ROWS,)),
    "inverse": (lambda x: x.inverse(), (SQUARE,)),
    "logdet": (lambda x: (x.T @ x).logdet(), (ROWS,)),
    "matrix_power": (lambda x: x.matrix_power(3), (SQUARE,)),
    "matrix_exp": (lambda x: x.matrix_exp() @ x.lu().LU, (SQUARE,)),
    "pinverse": (lambda x: x.pinverse(), (ROWS,)),
    "qr": (lambda x: x.qr().R, (ROWS,)),
    "slogdet": (lambda x: x.slogdet().logabsdet, (SQUARE,)),
    "solve": (fnn.linalg.solve, (SQUARE, MATRIX.T)),
    "svd": (lambda x: x.svd().S, (ROWS,)),
    "__pos__": (lambda x: +x, (ROWS,)),
    "logaddexp": (lambda x, y: x.logaddexp(y), (ROWS, VECTOR)),
    "mT": (lambda x: x.mT, (IMAGES,)),
    "i1": (lambda x: ops.i1(x) + ops.vander(x[:, 0], 4), (ROWS,)),
    "nanmean": (lambda x: x.nanmean(1), (ROWS,)),
    "nansum": (lambda x: x.nansum(1), (ROWS,)),
    "std_mean": (lambda x: sum(ops.std_mean(x)), (ROWS,)),
    "__abs__": (abs, (ROWS,)),
    "__add__": (lambda x, y: x + y, (ROWS, VECTOR)),
    "__getitem__": (lambda x: x[[0, 2, 2], 1:], (ROWS,)),
    "__iter__": (lambda x: sum(row * i for i, row in enumerate(x)), (ROWS,)),
    "__matmul__": (lambda x, y: x @ y, (np.stack([ROWS, -ROWS]), MATRIX.T)),
    "__mod__": (lambda x, y: x % y, (ROWS, POSITIVE)),
    "__mul__": (lambda x, y: x * y, (ROWS, VECTOR)),
    "__neg__": (lambda x: -x, (ROWS,)),
    "__pow__": (lambda x, y: x**y, (POSITIVE, VECTOR)),
    "__radd__": (lambda x: VECTOR + x, (ROWS,)),
    "__rmatmul__": (lambda x: MATRIX @ x, (ROWS.T,)),
    "__rmod__": (lambda x: ROWS % x, (POSITIVE,)),
    "__rmul__": (lambda x: VECTOR * x, (ROWS,)),
    "__rpow__": (lambda x: VARIANCE**x, (ROWS,)),
    "__rsub__": (lambda x: VECTOR - x, (ROWS,)),
    "__rtruediv__": (lambda x: VECTOR / x, (POSITIVE,)),
    "__sub__": (lambda x, y: x - y, (ROWS, VECTOR)),
    "__truediv__": (lambda x, y: x / y, (ROWS, POSITIVE)),
    "abs": (lambda x: x.abs(), (ROWS,)),
    "acos": (lambda x: x.acos(), (SHARES,)),
    "acosh": (lambda x: (x + 1).acosh(), (POSITIVE,)),
    "add": (lambda x, y: x.add(y), (ROWS, VECTOR)),
    "addcdiv": (lambda x, y, z: x.addcdiv(y, z, value=0.5), (ROWS, VECTOR, POSITIVE)),
    "addcmul": (lambda x, y, z: x.addcmul(y, z, value=0.5), (ROWS, VECTOR, POSITIVE)),
    "amax": (lambda x: x.amax((0, 2)), (IMAGES,)),
    "amin": (lambda x: x.amin(1, keepdim=True), (ROWS,)),
    "aminmax": (lambda x: x.aminmax(dim=0).max - x.aminmax().min, (ROWS,)),
    "asin": (lambda x: x.asin(), (SHARES,)),
    "asinh": (lambda x: x.asinh(), (ROWS,)),
    "atan": (lambda x: x.atan(), (ROWS,)),
    "atan2": (lambda x, y: x.atan2(y), (ROWS, VECTOR)),
    "atanh": (lambda x: x.atanh(), (SHARES,)),
    "ceil": (lambda x: x.ceil(), (SHARES,)),
    "clamp": (lambda x, y: x.clamp(-0.5, 0.5) + x.clamp(y - 1, y), (ROWS, POSITIVE)),
    "clamp_max": (lambda x, y: x.clamp_max(y), (ROWS, VECTOR)),
    "clamp_min": (lambda x, y: x.clamp_min(y), (ROWS, VECTOR)),
    "cos": (lambda x: x.cos(), (ROWS,)),
    "cosh": (lambda x: x.cosh(), (ROWS,)),
    "digamma": (lambda x: x.digamma(), (POSITIVE,)),
    "div": (lambda x, y: x.div(y), (ROWS, POSITIVE)),
    "erf": (lambda x: x.erf(), (ROWS,)),
    "erfc": (lambda x: x.erfc(), (ROWS,)),
    "exp": (lambda x: x.exp(), (ROWS,)),
    "expand": (lambda x: x.expand(2, -1, -1), (ROWS,)),
    "exp2": (lambda x: x.exp2(), (ROWS,)),
    "expm1": (lambda x: x.expm1(), (ROWS,)),
    "flatten": (lambda x: x.flatten(), (IMAGES,)),
    "floor": (lambda x: x.floor(), (SHARES,)),
    "fmod": (lambda x, y: x.fmod(y), (ROWS, POSITIVE)),
    "frac": (lambda x: x.frac(), (SHARES,)),
    "lgamma": (lambda x: x.lgamma(), (POSITIVE,)),
    "lerp": (lambda x, y, z: x.lerp(y, z) + x.lerp(x + 1, 0.3), (ROWS, VECTOR, SHARES)),
    "log": (lambda x: x.log(), (POSITIVE,)),
    "log10": (lambda x: x.log10(), (POSITIVE,)),
    "log1p": (lambda x: x.log1p(), (POSITIVE,)),
    "log2": (lambda x: x.log2(), (POSITIVE,)),
    "log_softmax": (lambda x: x.log_softmax(), (ROWS,)),
    "logit": (lambda x: x.logit(), (SHARES,)),
    "matmul": (lambda x, y: x.matmul(y), (ROWS, VECTOR)),
    "max": (lambda x: x.max(0)[0] + x.max(), (ROWS,)),
    "maximum": (lambda x, y: x.maximum(y), (ROWS, VECTOR)),
    "mean": (lambda x: x.mean((0, 2)), (IMAGES,)),
    "median": (lambda x: x.median(0).values + x.median(), (ROWS,)),
    "min": (lambda x: x.min(0, keepdim=True)[0] * x.min(), (ROWS,)),
    "minimum": (lambda x, y: x.minimum(y), (ROWS, VECTOR)),
    "mul": (lambda x, y: x.mul(y), (ROWS, VECTOR)),
    "nan_to_num": (lambda x: x.nan_to_num(), (ROWS,)),
    "neg": (lambda x: x.neg(), (ROWS,)),
    "permute": (lambda x: x.permute(2, 0, 3, 1), (IMAGES,)),
    "pow": (lambda x: x.pow(3), (ROWS,)),
    "prod": (lambda x: x.prod(1) + x.prod(), (ROWS,)),
    "reciprocal": (lambda x: x.reciprocal(), (POSITIVE,)),
    "relu": (lambda x: x.relu(), (ROWS,)),
    "remainder": (lambda x, y: x.remainder(y), (ROWS, POSITIVE)),
    "reshape": (lambda x: x.reshape(2, -1), (ROWS,)),
    "rint": (lambda x: ops.rint(x), (SHARES,)),
    "round": (lambda x: x.round(), (SHARES,)),
    "rsqrt": (lambda x: x.rsqrt(), (POSITIVE,)),
    "sigmoid": (lambda x: x.sigmoid(), (ROWS,)),
    "sign": (lambda x: x.sign(), (SHARES,)),
    "sin": (lambda x: x.sin(), (ROWS,)),
    "sinh": (lambda x: x.sinh(), (ROWS,)),
    "softmax": (lambda x: x.softmax(), (ROWS,)),
    "sqrt": (lambda x: x.sqrt(), (POSITIVE,)),
    "square": (lambda x: x.square(), (ROWS,)),
    "squeeze": (lambda x: x[:, :1].squeeze(1), (ROWS,)),
    "std": (lambda x: x.std(1), (ROWS,)),
    "sub": (lambda x, y: x.sub(y), (ROWS, VECTOR)),
    "sum": (lambda x: x.sum(1), (ROWS,)),
    "t": (lambda x: x.t(), (ROWS,)),
    "tan": (lambda x: x.tan(), (SHARES,)),
    "tanh": (lambda x: x.tanh(), (ROWS,)),
    "transpose": (lambda x: x.transpose(1, 2), (IMAGES,)),
    "true_divide": (lambda x, y: x.true_divide(y), (ROWS, POSITIVE)),
    "trunc": (lambda x: x.trunc(), (SHARES,)),
    "unsqueeze": (lambda x: x.unsqueeze(1), (ROWS,)),
    "var": (lambda x: x.var(0), (ROWS,)),
    "var_mean": (lambda x: sum(ops.var_mean(x)), (ROWS,)),
    "view": (lambda x: x.view(-1), (ROWS,)),
}
WITHOUT_GRADIENT = {"__floordiv__", "__rfloordiv__", "__index__", *ops.logic.SPECIAL, *ops.names.of("windows")}
WITHOUT_GRADIENT |= {"all", "any", "argmax", "argmin", "count_nonzero", "floor_divide", "is_cpu", "itemsize", "nbytes"}
WITHOUT_GRADIENT |= {n for n, (file, _) in ops.names.FORMS.items() if file in ("casting", "creation", "draws", "logic")}
IN_PLACE = {n for n in ops._SPECIAL if n[:3] == "__i" and n[3:] not in ("ndex__", "nvert__", "ter__")}  # as __add__
NO_OPERATORS = {"__getattr__", "__array_function__", "__array_ufunc__", "__len__", "__setitem__", "size", "where"}


def part_of(module: nn.Module, place: int) -> Callable[..., Any]:
    """One of several outputs, in float64."""
    module.double()
    return lambda *inputs: module(*inputs)[place]


MODULES: dict[str, Callable[[], Case]] = {
    "AdaptiveAvgPool1d": lambda: (nn.AdaptiveAvgPool1d(2), (SEQUENCES,)),
    "AdaptiveAvgPool2d": lambda: (nn.AdaptiveAvgPool2d(1), (IMAGES,)),
    "AdaptiveMaxPool1d": lambda: (nn.AdaptiveMaxPool1d(2), (SEQUENCES,)),
    "AdaptiveMaxPool2d": lambda: (nn.AdaptiveMaxPool2d((2, None)), (IMAGES,)),
    "AlphaDropout": lambda: (nn.AlphaDropout(), (ROWS,)),
    "AvgPool1d": lambda: (nn.AvgPool1d(2), (SEQUENCES,)),
    "AvgPool2d": lambda: (nn.AvgPool2d(2), (IMAGES,)),
    "BCELoss": lambda: (lambda p: nn.BCELoss()(p, SHARES[::-1]), (SHARES,)),
    "BCEWithLogitsLoss": lambda: (lambda z: nn.BCEWithLogitsLoss()(z, SHARES), (ROWS,)),
    "BatchNorm1d": lambda: (nn.BatchNorm1d(4), (ROWS,)),
    "BatchNorm2d": lambda: (nn.BatchNorm2d(4), (IMAGES,)),
    "Bilinear": lambda: (nn.Bilinear(4, 4, 3), (ROWS, POSITIVE)),
    "CELU": lambda: (nn.CELU(), (ROWS,)),
    "ChannelShuffle": lambda: (nn.ChannelShuffle(2), (IMAGES,)),
    "CircularPad1d": lambda: (nn.CircularPad1d(2), (SEQUENCES,)),
    "CircularPad2d": lambda: (nn.CircularPad2d((1, 2, 0, 3)), (IMAGES,)),
    "ConstantPad1d": lambda: (nn.ConstantPad1d(2, 1.5), (SEQUENCES,)),
    "ConstantPad2d": lambda: (nn.ConstantPad2d((1, 2, -1, 3), 1.5), (IMAGES,)),
    "Conv1d": lambda: (nn.Conv1d(4, 6, 2, padding="same", padding_mode="circular"), (SEQUENCES,)),
    "Conv2d": lambda: (nn.Conv2d(4, 6, 3, padding="same", dilation=2, groups=2), (IMAGES,)),
    "ConvTranspose1d": lambda: (nn.ConvTranspose1d(4, 6, 3, 2, 1, 1, 2), (SEQUENCES,)),
    "ConvTranspose2d": lambda: (nn.ConvTranspose2d(4, 6, (3, 2), 2, bias=False), (IMAGES,)),
    "CosineEmbeddingLoss": lambda: (lambda x, y: nn.CosineEmbeddingLoss()(x, y, SIGN), (ROWS, POSITIVE)),
    "CosineSimilarity": lambda: (nn.CosineSimilarity(), (ROWS, POSITIVE)),
    "CrossEntropyLoss": lambda: (nn.CrossEntropyLoss(), (ROWS, LABELS)),
    "Dropout": lambda: (nn.Dropout(0.3), (ROWS,)),
    "Dropout1d": lambda: (nn.Dropout1d(), (SEQUENCES,)),
    "Dropout2d": lambda: (nn.Dropout2d(), (IMAGES,)),
    "Dropout3d": lambda: (nn.Dropout3d(), (IMAGES,)),
    "ELU": lambda: (nn.ELU(), (ROWS,)),
    "Embedding": lambda: (lambda x: x @ nn.Embedding(4, 3)(LABELS[:4]), (ROWS,)),
    "EmbeddingBag": lambda: (lambda x: x @ nn.EmbeddingBag(4, 3)(LABELS[:4, None]), (ROWS,)),
    "Flatten": lambda: (nn.Flatten(), (IMAGES,)),
    "Fold": lambda: (nn.Fold((6, 5), 1), (IMAGES.reshape(2, 4, 30),)),
    "GELU": lambda: (nn.GELU(), (ROWS,)),
    "GLU": lambda: (nn.GLU(), (ROWS,)),
    "GRU": lambda: (part_of(nn.GRU(4, 3), 0), (SEQUENCE, STATES)),
    "GRUCell": lambda: (nn.GRUCell(4, 3), (ROWS,)),
    "GaussianNLLLoss": lambda: (nn.GaussianNLLLoss(), (ROWS, ROWS[::-1], POSITIVE)),
    "GlobalAvgPool2d": lambda: (nn.GlobalAvgPool2d(), (IMAGES,)),
    "GroupNorm": lambda: (nn.GroupNorm(2, 4), (IMAGES,)),
    "Hardshrink": lambda: (nn.Hardshrink(), (ROWS,)),
    "Hardsigmoid": lambda: (nn.Hardsigmoid(), (ROWS,)),
    "Hardswish": lambda: (nn.Hardswish(), (ROWS,)),
    "Hardtanh": lambda: (nn.Hardtanh(), (ROWS,)),
    "HingeEmbeddingLoss": lambda: (lambda x: nn.HingeEmbeddingLoss()(x, SIGNS), (ROWS,)),
    "HuberLoss": lambda: (lambda x: nn.HuberLoss(delta=0.3)(x, POSITIVE), (ROWS,)),  # the kernel
    "Identity": lambda: (nn.Identity(), (ROWS,)),
    "InstanceNorm1d": lambda: (nn.InstanceNorm1d(4, affine=True), (SEQUENCES,)),
    "InstanceNorm2d": lambda: (nn.InstanceNorm2d(4), (IMAGES,)),
    "KLDivLoss": lambda: (nn.KLDivLoss(reduction="batchmean"), (ROWS, SHARES)),
    "L1Loss": lambda: (nn.L1Loss(), (ROWS, POSITIVE)),
    "LSTM": lambda: (part_of(nn.LSTM(4, 3, bidirectional=True), 0), (SEQUENCE,)),
    "LSTMCell": lambda: (part_of(nn.LSTMCell(4, 3), 1), (ROWS,)),
    "LayerNorm": lambda: (nn.LayerNorm(4), (ROWS,)),
    "LeakyReLU": lambda: (nn.LeakyReLU(), (ROWS,)),
    "Linear": lambda: (nn.Linear(4, 3), (ROWS,)),
    "LogSigmoid": lambda: (nn.LogSigmoid(), (ROWS,)),
    "LogSoftmax": lambda: (nn.LogSoftmax(), (ROWS,)),
    "MSELoss": lambda: (lambda x: nn.MSELoss()(x, POSITIVE), (ROWS,)),  # the kernel
    "MarginRankingLoss": lambda: (lambda x, y: nn.MarginRankingLoss()(x, y, SIGNS), (ROWS, POSITIVE)),
    "MaxPool1d": lambda: (nn.MaxPool1d(2), (SEQUENCES,)),
    "MaxPool2d": lambda: (nn.MaxPool2d(3, 2, 1), (IMAGES,)),
    "Mish": lambda: (nn.Mish(), (ROWS,)),
    "MultiLabelSoftMarginLoss": lambda: (nn.MultiLabelSoftMarginLoss(VARIANCE), (ROWS, SHARES)),
    "MultiLabelMarginLoss": lambda: (lambda x: nn.MultiLabelMarginLoss()(x, LABELS[:, None] - np.arange(4)), (ROWS,)),
    "MultiMarginLoss": lambda: (lambda x: nn.MultiMarginLoss()(x, LABELS), (ROWS,)),
    "MultiheadAttention": lambda: (part_of(nn.MultiheadAttention(4, 2), 0), (SEQUENCE, SEQUENCE[::-1], -SEQUENCE)),
    "NLLLoss": lambda: (lambda x: nn.NLLLoss()(x, LABELS), (ROWS,)),
    "Normalize": lambda: (nn.Normalize(0.3, 2.0), (IMAGES,)),
    "PReLU": lambda: (nn.PReLU(), (ROWS,)),
    "PairwiseDistance": lambda: (nn.PairwiseDistance(), (ROWS, POSITIVE)),
    "PixelShuffle": lambda: (nn.PixelShuffle(2), (IMAGES,)),
    "PixelUnshuffle": lambda: (nn.PixelUnshuffle(3), (IMAGES[..., :3],)),
    "PoissonNLLLoss": lambda: (nn.PoissonNLLLoss(full=True), (ROWS, POSITIVE)),
    "RReLU": lambda: (nn.RReLU().eval(), (ROWS,)),
    "RMSNorm": lambda: (nn.RMSNorm(4), (ROWS,)),
    "RNN": lambda: (part_of(nn.RNN(4, 3), 0), (SEQUENCE,)),
    "RNNCell": lambda: (nn.RNNCell(4, 3), (ROWS,)),
    "ReLU": lambda: (nn.ReLU(), (ROWS,)),
    "ReLU6": lambda: (nn.ReLU6(), (ROWS,)),
    "ReflectionPad1d": lambda: (nn.ReflectionPad1d(2), (SEQUENCES,)),
    "ReflectionPad2d": lambda: (nn.ReflectionPad2d((1, 2, 0, 3)), (IMAGES,)),
    "ReplicationPad1d": lambda: (nn.ReplicationPad1d(2), (SEQUENCES,)),
    "ReplicationPad2d": lambda: (nn.ReplicationPad2d((1, 2, 0, 3)), (IMAGES,)),
    "SELU": lambda: (nn.SELU(), (ROWS,)),
    "Sequential": lambda: (nn.Sequential(nn.Linear(4, 3), nn.Tanh()), (ROWS,)),
    "SiLU": lambda: (nn.SiLU(), (ROWS,)),
    "Sigmoid": lambda: (nn.Sigmoid(), (ROWS,)),
    "SmoothL1Loss": lambda: (lambda x: nn.SmoothL1Loss()(x, POSITIVE), (ROWS,)),  # the kernel
    "SoftMarginLoss": lambda: (lambda x: nn.SoftMarginLoss()(x, SIGNS), (ROWS,)),
    "Softmax": lambda: (nn.Softmax(), (ROWS,)),
    "Softmax2d": lambda: (nn.Softmax2d(), (IMAGES,)),
    "Softmin": lambda: (nn.Softmin(), (ROWS,)),
    "Softplus": lambda: (nn.Softplus(), (ROWS,)),
    "Softshrink": lambda: (nn.Softshrink(), (ROWS,)),
    "Softsign": lambda: (nn.Softsign(), (ROWS,)),
    "Tanh": lambda: (nn.Tanh(), (ROWS,)),
    "Tanhshrink": lambda: (nn.Tanhshrink(), (ROWS,)),
    "Threshold": lambda: (nn.Threshold(0.1, 3), (ROWS,)),
    "Transformer": lambda: (nn.Transformer(4, 2, 1, 1, 5), (SEQUENCE, SEQUENCE)),
    "TransformerDecoder": lambda: (nn.TransformerDecoder(nn.TransformerDecoderLayer(4, 2, 5), 1), (SEQUENCE, SEQUENCE)),
    "TransformerDecoderLayer": lambda: (nn.TransformerDecoderLayer(4, 2, 5), (SEQUENCE, SEQUENCE)),
    "TransformerEncoder": lambda: (nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 5), 1), (SEQUENCE,)),
    "TransformerEncoderLayer": lambda: (nn.TransformerEncoderLayer(4, 2, 5), (SEQUENCE,)),
    "TripletMarginLoss": lambda: (nn.TripletMarginLoss(), (ROWS, POSITIVE, POSITIVE[::-1])),
    "Unflatten": lambda: (nn.Unflatten(1, (2, 2)), (ROWS,)),
    "Unfold": lambda: (nn.Unfold(2), (IMAGES,)),
    "Upsample": lambda: (nn.Upsample((3, 9), mode="bicubic"), (IMAGES,)),
    "UpsamplingBilinear2d": lambda: (nn.UpsamplingBilinear2d(scale_factor=2), (IMAGES,)),
    "UpsamplingNearest2d": lambda: (nn.UpsamplingNearest2d(scale_factor=2), (IMAGES,)),
    "ZeroPad1d": lambda: (nn.ZeroPad1d(2), (SEQUENCES,)),
    "ZeroPad2d": lambda: (nn.ZeroPad2d((1, 2, 0, 3)), (IMAGES,)),
}
WITHOUT_FORWARD = {"Module", "ModuleDict", "ModuleList", "ParameterDict", "ParameterList"}

# What joins, chooses, moves, sorts and multiplies: the expressions that are compared with PyTorch, too.
CHOICES: dict[str, Case] = {
    name: (lambda *x, each=each: each(fnn, ops, *x), tuple(choice_inputs().values())) for name, each in SINGLE.items()
}
IN_CHOICES = {
    name
    for name, (file, _) in ops.names.FORMS.items()
    if file in "arranging elimination joining moving places products similarity sorting special writing".split()  # noqa: SIM905
}
IN_CHOICES |= {"max_unpool1d", "max_unpool2d", "mvlgamma", "pca_lowrank", "polygamma", "svd_lowrank"}  # and tests of
IN_CHOICES |= {"triplet_margin_with_distance_loss"}  # their own
IN_CHOICES |= {"affine_grid", "ctc_loss", "erfinv", "grid_sample", "i0", "local_response_norm", "mode", "nanmedian"}

CASES: dict[str, Callable[[], Case]] = {
    **{f"choice: {name}": (lambda case=case: case) for name, case in CHOICES.items()},
    **{f"ops.{name}": (lambda case=case: case) for name, case in OPERATORS.items()},
    **{f"Tensor.{name}": (lambda case=case: case) for name, case in METHODS.items()},
    **{f"nn.{name}": make for name, make in MODULES.items()},
}


def test_nothing_is_forgotten() -> None:
    """Add a case above for what is named here."""
    modules = {name for name in nn.__all__ if isinstance(getattr(nn, name), type)} - {
        "Parameter",
        "UninitializedParameter",
    }
    operators = {*ops.names.FORMS, *ops._SPECIAL} - set(ops.names.ALIASES)
    assert operators - set(OPERATORS) - set(METHODS) - WITHOUT_GRADIENT - IN_PLACE - NO_OPERATORS - IN_CHOICES == set()
    of_others = ("CTC", "DataParallel", "Lazy", "LocalResponse", "MaxUnpool", "TripletMarginWith")
    assert modules - set(MODULES) - WITHOUT_FORWARD - {name for name in modules if name.startswith(of_others)} == set()
    used = {function for name in CASES for function in functions_of(*CASES[name]())}
    assert {function.__name__ for function in functions() - used} == set()


def functions() -> set[type[fnn.Function]]:
    """Every Function of fastnn.ops that has a gradient, but of gamma draws', which fixed seeds do not show."""
    families = [import_module(f"fastnn.ops.{family.name}") for family in iter_modules(ops.__path__)]
    found = {f for family in families for _, f in inspect.getmembers(family, inspect.isclass)}
    others = {fnn.Function, ops.shaping.View, ops.gamma.StandardGamma, ops.gamma.StandardDirichlet}
    return {f for f in found if issubclass(f, fnn.Function) and f not in others and f.differentiable}


def functions_of(call: Any, inputs: tuple[Any, ...]) -> set[type[fnn.Function]]:
    output = call(*(fnn.Tensor(x, requires_grad=True) if x.dtype.kind == "f" else x for x in inputs))
    return {node.function for _, node in computed(output)}


@pytest.mark.parametrize("name", CASES)
def test_every_gradient_is_right(name: str) -> None:
    fnn.manual_seed(0)
    assert fnn.gradcheck(*CASES[name]())


def _case_of(function: type[fnn.Function]) -> Case:
    """The shortest case that uses it."""
    return min((made for made, used in _used() if function in used), key=lambda made: len(functions_of(*made)))


@functools.cache
def _used() -> list[tuple[Case, set[type[fnn.Function]]]]:
    made = [make() for make in CASES.values()]
    return [(case, functions_of(*case)) for case in made]


FLAT = {"Ceil", "Floor", "Rint", "Sign", "Trunc"}  # their gradients are 0, in which no factor shows


@pytest.mark.parametrize(
    "function",
    sorted((f for f in functions() if f.__name__ not in FLAT), key=lambda f: f.__name__),
    ids=lambda f: f.__name__,
)
def test_an_error_in_it_is_found(function: type[fnn.Function], monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundredth too much, or the sign of one entry."""
    fnn.manual_seed(0)
    call, inputs = _case_of(function)
    right = function.backward

    def planted(change: Callable[[np.ndarray], np.ndarray]) -> Any:
        def backward(ctx: Any, grad: np.ndarray) -> Any:
            results = right(ctx, grad)
            results = results if isinstance(results, tuple) else (results,)
            return tuple(None if result is None else change(np.array(result)) for result in results)

        return staticmethod(backward)

    def one_sign(gradient: np.ndarray) -> np.ndarray:
        largest = np.unravel_index(np.abs(gradient).argmax(), gradient.shape)
        gradient[largest] *= -1
        return gradient

    assert fnn.gradcheck(call, inputs)
    for change in (lambda gradient: 1.01 * gradient, one_sign):
        monkeypatch.setattr(function, "backward", planted(change))
        with pytest.raises(GradientError, match="finite differences give"):
            fnn.gradcheck(call, inputs)


def test_a_cast_is_one() -> None:
    """float32 and back: finite differences see only rounding, so it is compared by hand."""
    x = fnn.Tensor(np.array([1.0, 2.0]), requires_grad=True)
    y = x.float()
    assert y.node is not None
    assert y.node.function is Cast
    (y * np.float32(3)).sum().backward()
    assert x.grad.dtype == np.float64
    assert x.grad.tolist() == [3, 3]


def test_the_softmax_jacobian() -> None:
    """ds_i/dx_k = s_i(δ_ik - s_k), row by row."""
    x = np.array([[0.5, -1.0, 2.0, 0.0]])
    s = np.exp(x[0]) / np.exp(x[0]).sum()
    for i in range(4):
        given = fnn.Tensor(x, requires_grad=True)
        ops.softmax(given)[0, i].backward()
        np.testing.assert_allclose(given.grad[0], s[i] * (np.eye(4)[i] - s), rtol=1e-13)
