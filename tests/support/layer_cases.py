"""Every layer of nn, with arguments to call it with: first dimensions are the batch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastnn import nn

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def unit(*shape: int) -> np.ndarray:
    return RNG.uniform(0.05, 0.95, shape).astype(np.float32)


def below(most: int, *shape: int) -> np.ndarray:
    return RNG.integers(0, most, shape)


X3, X4, FLAT = (4, 6, 8), (4, 6, 8, 10), (4, 6)
Layer = tuple[Callable[[], nn.Module], Callable[[], tuple[np.ndarray, ...]]]


def of(shape: tuple[int, ...], *makers: Callable[[], nn.Module]) -> list[Layer]:
    return [(make, lambda: (normal(*shape),)) for make in makers]


def pairs(*makers: Callable[[], nn.Module], target: Callable[[], np.ndarray] = lambda: unit(4, 6)) -> list[Layer]:
    return [(make, lambda: (unit(4, 6), target())) for make in makers]


def signs() -> np.ndarray:
    return np.where(RNG.random((4, 6)) > 0.5, 1, -1).astype(np.float32)


def states(*shape: int) -> tuple[np.ndarray, ...]:
    return normal(5, 3, 6), normal(*shape)


LAYERS: dict[str, list[Layer]] = {
    **{name: of(X3, getattr(nn, name)) for name in (
        "CELU", "ELU", "GELU", "GLU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh", "Identity", "LeakyReLU",
        "LogSigmoid", "Mish", "PReLU", "ReLU", "ReLU6", "SELU", "SiLU", "Sigmoid", "Softplus", "Softshrink", "Softsign",
        "Tanh", "Tanhshrink", "RReLU", "Dropout", "AlphaDropout", "Dropout1d", "Flatten",
    )},
    **{name: of(X4, getattr(nn, name)) for name in ("Dropout2d", "Softmax2d", "GlobalAvgPool2d")},
    "Dropout3d": of((4, 2, 3, 2, 2), nn.Dropout3d),
    **{name: [(lambda name=name: getattr(nn, name)(1), lambda: (normal(*X3),)),
              (lambda name=name: getattr(nn, name)(-1), lambda: (normal(*FLAT),))]
       for name in ("LogSoftmax", "Softmax", "Softmin")},
    "Threshold": of(X3, lambda: nn.Threshold(0.1, 2.0)),
    "AdaptiveAvgPool1d": of(X3, lambda: nn.AdaptiveAvgPool1d(3), lambda: nn.AdaptiveAvgPool1d(4)),
    "AdaptiveAvgPool2d": of(X4, lambda: nn.AdaptiveAvgPool2d((3, 4)), lambda: nn.AdaptiveAvgPool2d(1)),
    "AdaptiveMaxPool1d": of(X3, lambda: nn.AdaptiveMaxPool1d(3), lambda: nn.AdaptiveMaxPool1d(4)),
    "AdaptiveMaxPool2d": of(X4, lambda: nn.AdaptiveMaxPool2d((3, 4)), lambda: nn.AdaptiveMaxPool2d((4, 5))),
    "AvgPool1d": of(X3, lambda: nn.AvgPool1d(3, 2, 1), lambda: nn.AvgPool1d(3, 2, ceil_mode=True)),
    "AvgPool2d": of(X4, lambda: nn.AvgPool2d((3, 2), 2, 1, count_include_pad=False), lambda: nn.AvgPool2d(3, 2, 1)),
    "MaxPool1d": of(X3, lambda: nn.MaxPool1d(3, 2, 1), lambda: nn.MaxPool1d(2, ceil_mode=True, return_indices=True)),
    "MaxPool2d": of(X4, lambda: nn.MaxPool2d((3, 2), 2, 1), lambda: nn.MaxPool2d(2, 1, 0, 2)),
    "BatchNorm1d": [*of(X3, lambda: nn.BatchNorm1d(6)), *of(FLAT, lambda: nn.BatchNorm1d(6, affine=False))],
    "BatchNorm2d": of(X4, lambda: nn.BatchNorm2d(6)),
    "InstanceNorm1d": of(X3, lambda: nn.InstanceNorm1d(6)),
    "InstanceNorm2d": of(X4, lambda: nn.InstanceNorm2d(6, affine=True)),
    "GroupNorm": [*of(X4, lambda: nn.GroupNorm(3, 6), lambda: nn.GroupNorm(1, 6, affine=False)),
                  *of(FLAT, lambda: nn.GroupNorm(3, 6), lambda: nn.GroupNorm(1, 6))],
    "DataParallel": of(X3, lambda: nn.DataParallel(nn.Linear(8, 3))),
    "LocalResponseNorm": of(X4, lambda: nn.LocalResponseNorm(3, 0.5)),
    "LayerNorm": of(X3, lambda: nn.LayerNorm(8), lambda: nn.LayerNorm((6, 8)),
                    lambda: nn.LayerNorm(8, elementwise_affine=False)),
    "RMSNorm": of(X3, lambda: nn.RMSNorm(8), lambda: nn.RMSNorm((6, 8), elementwise_affine=False)),
    "Normalize": [*of((4, 3, 5, 5), lambda: nn.Normalize((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))),
                  (lambda: nn.Normalize(0.3, 0.4), lambda: (below(256, 4, 1, 5, 5).astype(np.uint8),))],
    "Linear": [*of(FLAT, lambda: nn.Linear(6, 5)), *of(X3, lambda: nn.Linear(8, 5, bias=False))],
    "Bilinear": [(lambda: nn.Bilinear(6, 5, 3), lambda: (normal(4, 6), normal(4, 5)))],
    "Conv1d": of(X3, lambda: nn.Conv1d(6, 4, 3, 2, 1, groups=2), lambda: nn.Conv1d(6, 4, 2, padding="same")),
    "Conv2d": of(X4, lambda: nn.Conv2d(6, 4, (3, 2), (2, 1), (1, 0), 2, groups=2),
                 lambda: nn.Conv2d(6, 12, 3, padding=1, groups=6, bias=False),
                 lambda: nn.Conv2d(6, 3, 3, padding=1, padding_mode="reflect")),
    "ConvTranspose1d": of(X3, lambda: nn.ConvTranspose1d(6, 4, 3, 2, 1, 1)),
    "ConvTranspose2d": of(X4, lambda: nn.ConvTranspose2d(6, 4, (3, 2), (2, 3), 1, (1, 0), 2, dilation=(1, 2))),
    "Embedding": [(lambda: nn.Embedding(9, 5, padding_idx=0), lambda: (below(9, 4, 6),))],
    "EmbeddingBag": [(lambda mode=mode: nn.EmbeddingBag(9, 5, mode=mode), lambda: (below(9, 4, 6),))
                     for mode in ("sum", "mean", "max")],
    "CosineSimilarity": pairs(nn.CosineSimilarity),
    "PairwiseDistance": pairs(nn.PairwiseDistance),
    **{name: [(lambda name=name, options=options: getattr(nn, name)(8, 5, 2, batch_first=True, **options),
               lambda: (normal(*X3),)) for options in ({}, {"bidirectional": True, "bias": False})]
       for name in ("GRU", "LSTM", "RNN")},
    **{name: of(FLAT, lambda name=name: getattr(nn, name)(6, 5)) for name in ("GRUCell", "LSTMCell", "RNNCell")},
    "MultiheadAttention": [(lambda: nn.MultiheadAttention(8, 2, batch_first=True),
                            lambda: (normal(4, 6, 8), normal(4, 5, 8), normal(4, 5, 8)))],
    "Transformer": [(lambda: nn.Transformer(8, 2, 1, 1, 12, batch_first=True),
                     lambda: (normal(4, 6, 8), normal(4, 5, 8)))],
    "TransformerEncoderLayer": of(X3, lambda: nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)),
    "TransformerEncoder": of(X3, lambda: nn.TransformerEncoder(
        nn.TransformerEncoderLayer(8, 2, 12, activation="gelu", batch_first=True, norm_first=True), 2)),
    "TransformerDecoderLayer": [(lambda: nn.TransformerDecoderLayer(8, 2, 12, batch_first=True),
                                 lambda: (normal(4, 6, 8), normal(4, 5, 8)))],
    "TransformerDecoder": [(lambda: nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 12, batch_first=True), 1),
                            lambda: (normal(4, 6, 8), normal(4, 5, 8)))],
    "ChannelShuffle": of(X4, lambda: nn.ChannelShuffle(3)),
    **{f"{name}{d}d": of((X3, X4)[d - 1], lambda name=name, d=d: getattr(nn, f"{name}{d}d")(2))
       for name in ("CircularPad", "ReflectionPad", "ReplicationPad", "ZeroPad") for d in (1, 2)},
    "ConstantPad1d": of(X3, lambda: nn.ConstantPad1d((1, 2), 0.5)),
    "ConstantPad2d": of(X4, lambda: nn.ConstantPad2d((1, 2, -1, 0), 0.5)),
    "Unfold": of(X4, lambda: nn.Unfold(3, 1, 1, 2)),
    "Fold": of((4, 12, 12), lambda: nn.Fold((4, 5), 2)),
    "PixelShuffle": of((4, 8, 3, 5), lambda: nn.PixelShuffle(2)),
    "PixelUnshuffle": of((4, 2, 4, 6), lambda: nn.PixelUnshuffle(2)),
    "Upsample": of(X4, lambda: nn.Upsample(scale_factor=(2, 3)), lambda: nn.Upsample((9, 13), mode="bilinear")),
    "UpsamplingBilinear2d": of(X4, lambda: nn.UpsamplingBilinear2d(scale_factor=2)),
    "UpsamplingNearest2d": of(X4, lambda: nn.UpsamplingNearest2d((5, 7))),
    "Unflatten": of(FLAT, lambda: nn.Unflatten(1, (2, 3))),
    "Sequential": of(FLAT, lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))),
    **{name: pairs(getattr(nn, name)) for name in (
        "BCELoss", "BCEWithLogitsLoss", "HuberLoss", "KLDivLoss", "L1Loss", "MSELoss", "MultiLabelSoftMarginLoss",
        "PoissonNLLLoss", "SmoothL1Loss",
    )},
    **{name: pairs(getattr(nn, name), target=signs) for name in ("HingeEmbeddingLoss", "SoftMarginLoss")},
    **{name: pairs(getattr(nn, name), target=lambda: below(6, 4)) for name in ("MultiMarginLoss", "NLLLoss")},
    "MultiLabelMarginLoss": pairs(
        nn.MultiLabelMarginLoss, target=lambda: np.where(normal(4, 6) > 1, -1, below(6, 4, 6))),
    "CrossEntropyLoss": pairs(lambda: nn.CrossEntropyLoss(label_smoothing=0.1), lambda: nn.CrossEntropyLoss(
        reduction="none"), target=lambda: below(6, 4)),
    "CosineEmbeddingLoss": [(nn.CosineEmbeddingLoss, lambda: (normal(4, 6), normal(4, 6), signs()[:, 0]))],
    "GaussianNLLLoss": [(nn.GaussianNLLLoss, lambda: (normal(4, 6), normal(4, 6), unit(4, 6)))],
    "MarginRankingLoss": [(nn.MarginRankingLoss, lambda: (normal(4, 6), normal(4, 6), signs()))],
    "MaxUnpool1d": [(lambda: nn.MaxUnpool1d(2), lambda: (normal(4, 6, 3), np.tile([0, 2, 5], (4, 6, 1))))],
    "MaxUnpool2d": [(lambda: nn.MaxUnpool2d(2), lambda: (normal(2, 3, 1, 2), np.tile([1, 6], (2, 3, 1, 1))))],
    "TripletMarginWithDistanceLoss": [
        (nn.TripletMarginWithDistanceLoss, lambda: (normal(4, 6), normal(4, 6), normal(4, 6)))
    ],
    "TripletMarginLoss": [(nn.TripletMarginLoss, lambda: (normal(4, 6), normal(4, 6), normal(4, 6)))],
}  # fmt: skip
NO_LAYERS = {
    **dict.fromkeys(("ModuleDict", "ModuleList", "ParameterDict", "ParameterList"), "holds others, without a forward"),
    "Module": "has no forward of its own",
    **dict.fromkeys(("Parameter", "UninitializedParameter"), "is a tensor"),
    "CTCLoss": "adds up paths in NumPy",
    **dict.fromkeys((name for name in dir(nn) if name.startswith("Lazy")), "is the layer without Lazy once it has run"),
}
