"""Layers and losses, by PyTorch's names and in its argument order.

A file of layers is imported when one of its names is used first.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastnn import init as init
from fastnn.errors import ArgumentError
from fastnn.habits import no_such_name
from fastnn.nn import functional as functional
from fastnn.nn import ntuples as ntuples
from fastnn.nn.module import Module as Module
from fastnn.nn.module import Parameter as Parameter

if TYPE_CHECKING:
    from fastnn.nn.activations import *  # noqa: F403
    from fastnn.nn.attention import *  # noqa: F403
    from fastnn.nn.containers import *  # noqa: F403
    from fastnn.nn.conv import *  # noqa: F403
    from fastnn.nn.dropout import *  # noqa: F403
    from fastnn.nn.embedding import *  # noqa: F403
    from fastnn.nn.layer_norm import *  # noqa: F403
    from fastnn.nn.lazy import *  # noqa: F403
    from fastnn.nn.linear import *  # noqa: F403
    from fastnn.nn.loss import *  # noqa: F403
    from fastnn.nn.norm import *  # noqa: F403
    from fastnn.nn.pool import *  # noqa: F403
    from fastnn.nn.recurrent import *  # noqa: F403
    from fastnn.nn.resizing import *  # noqa: F403
    from fastnn.nn.shaping import *  # noqa: F403
    from fastnn.nn.transformer import *  # noqa: F403

_LAYERS = {  # by the file that they are in
    "activations": "CELU ELU GELU GLU Hardshrink Hardsigmoid Hardswish Hardtanh Identity LeakyReLU LogSigmoid "
    "LogSoftmax Mish PReLU RReLU ReLU ReLU6 SELU SiLU Sigmoid Softmax Softmax2d Softmin Softplus Softshrink Softsign "
    "Tanh Tanhshrink Threshold",
    "attention": "MultiheadAttention",
    "containers": "DataParallel ModuleDict ModuleList ParameterDict ParameterList Sequential",
    "conv": "Conv1d Conv2d ConvTranspose1d ConvTranspose2d",
    "dropout": "AlphaDropout Dropout Dropout1d Dropout2d Dropout3d",
    "embedding": "Bilinear CosineSimilarity Embedding EmbeddingBag PairwiseDistance",
    "layer_norm": "GroupNorm LayerNorm LocalResponseNorm RMSNorm",
    "lazy": "LazyBatchNorm1d LazyBatchNorm2d LazyConv1d LazyConv2d LazyConvTranspose1d LazyConvTranspose2d "
    "LazyInstanceNorm1d LazyInstanceNorm2d LazyLinear UninitializedParameter",
    "linear": "Linear",
    "loss": "BCELoss BCEWithLogitsLoss CTCLoss CosineEmbeddingLoss CrossEntropyLoss GaussianNLLLoss HingeEmbeddingLoss "
    "HuberLoss KLDivLoss L1Loss MSELoss MarginRankingLoss MultiLabelMarginLoss MultiLabelSoftMarginLoss "
    "MultiMarginLoss NLLLoss PoissonNLLLoss SmoothL1Loss SoftMarginLoss TripletMarginLoss "
    "TripletMarginWithDistanceLoss",
    "norm": "BatchNorm1d BatchNorm2d InstanceNorm1d InstanceNorm2d Normalize",
    "pool": "AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveMaxPool1d AdaptiveMaxPool2d AvgPool1d AvgPool2d "
    "GlobalAvgPool2d MaxPool1d MaxPool2d MaxUnpool1d MaxUnpool2d",
    "recurrent": "GRU GRUCell LSTM LSTMCell RNN RNNCell",
    "resizing": "ChannelShuffle CircularPad1d CircularPad2d ConstantPad1d ConstantPad2d Fold PixelShuffle "
    "PixelUnshuffle ReflectionPad1d ReflectionPad2d ReplicationPad1d ReplicationPad2d Unfold Upsample "
    "UpsamplingBilinear2d UpsamplingNearest2d ZeroPad1d ZeroPad2d",
    "shaping": "Flatten Unflatten",
    "transformer": "Transformer TransformerDecoder TransformerDecoderLayer TransformerEncoder TransformerEncoderLayer",
}
_FILES = {name: file for file, names in _LAYERS.items() for name in names.split()}

__all__ = sorted([*_FILES, "Module", "Parameter", "functional", "init", "utils"])


# Base classes by the names that PyTorch has for them, for isinstance and for layers of one's own.
_BASES = {
    "RNNBase": "recurrent",
    "RNNCellBase": "recurrent",
    "_AvgPoolNd": "pool",
    "_BatchNorm": "norm",
    "_ConvNd": "conv",
    "_ConvTransposeNd": "conv",
    "_DropoutNd": "dropout",
    "_InstanceNorm": "norm",
    "_Loss": "loss",
    "_MaxPoolNd": "pool",
    "_WeightedLoss": "loss",
}

# Layers that programs ask about, ``isinstance(m, (nn.Conv2d, nn.Conv3d))``, and fastnn does not have: none can be made.
_ABSENT = (
    "AdaptiveAvgPool3d AdaptiveMaxPool3d AvgPool3d BatchNorm3d Conv3d ConvTranspose3d InstanceNorm3d MaxPool3d "
    "DistributedDataParallel SyncBatchNorm"
)

# Where PyTorch has them: ``from fastnn.nn.parameter import Parameter``, ``fastnn.nn.modules.module.Module``.
modules = sys.modules[__name__]
_PLACES = (
    "parameter parallel modules modules.activation modules.adaptive modules.batchnorm modules.channelshuffle "
    "modules.container modules.conv modules.distance modules.dropout modules.flatten modules.fold modules.instancenorm "
    "modules.lazy modules.linear modules.loss modules.module modules.normalization modules.padding "
    "modules.pixelshuffle modules.pooling modules.rnn modules.sparse modules.transformer modules.upsampling"
)
for _place in _PLACES.split():
    sys.modules[f"{__name__}.{_place}"] = modules
    globals().setdefault(_place.rpartition(".")[2], modules)
sys.modules[f"{__name__}.modules.utils"] = ntuples


def _absent(name: str) -> type[Module]:
    def refuse(self: Module, *_: Any, **__: Any) -> None:
        from fastnn.absent import hint_of

        raise ArgumentError(f"nn.{name} is there for isinstance alone: {hint_of('fastnn.nn', name)}")

    return type(name, (Module,), {"__init__": refuse, "__module__": __name__, "__doc__": f"PyTorch's nn.{name}."})


def __getattr__(name: str) -> Any:
    if name == "utils":
        return import_module("fastnn.nn.utils")
    if name == "common_types":
        return import_module("fastnn.nn.common_types")
    file = _FILES.get(name) or _BASES.get(name)
    if name in _ABSENT.split():
        globals()[name] = absent = _absent(name)
        return absent
    if file is None:
        raise no_such_name("fastnn.nn", name)
    globals()[name] = value = getattr(import_module(f"fastnn.nn.{file}"), name)
    return value


def __dir__() -> list[str]:
    return __all__
