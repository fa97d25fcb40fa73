"""Layers and losses, by PyTorch's names and in its argument order."""

from typing import Any

from fastnn import init
from fastnn.habits import no_such_name
from fastnn.nn import functional
from fastnn.nn.activations import ELU, GELU, Identity, LeakyReLU, LogSoftmax, ReLU, Sigmoid, SiLU, Softmax, Tanh
from fastnn.nn.attention import MultiheadAttention, TransformerEncoder, TransformerEncoderLayer
from fastnn.nn.containers import ModuleList, Sequential
from fastnn.nn.conv import Conv2d
from fastnn.nn.dropout import Dropout
from fastnn.nn.layer_norm import GroupNorm, LayerNorm, RMSNorm
from fastnn.nn.linear import Linear
from fastnn.nn.loss import BCELoss, BCEWithLogitsLoss, CrossEntropyLoss, MSELoss, NLLLoss
from fastnn.nn.module import Module, Parameter
from fastnn.nn.norm import BatchNorm1d, BatchNorm2d, Normalize
from fastnn.nn.pool import AdaptiveAvgPool2d, AvgPool2d, GlobalAvgPool2d, MaxPool2d
from fastnn.nn.recurrent import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell
from fastnn.nn.shaping import Flatten, Unflatten

__all__ = [
    "ELU",
    "GELU",
    "GRU",
    "LSTM",
    "RNN",
    "AdaptiveAvgPool2d",
    "AvgPool2d",
    "BCELoss",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "BatchNorm2d",
    "Conv2d",
    "CrossEntropyLoss",
    "Dropout",
    "Flatten",
    "GRUCell",
    "GlobalAvgPool2d",
    "GroupNorm",
    "Identity",
    "LSTMCell",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "MSELoss",
    "MaxPool2d",
    "Module",
    "ModuleList",
    "MultiheadAttention",
    "NLLLoss",
    "Normalize",
    "Parameter",
    "RMSNorm",
    "RNNCell",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "TransformerEncoder",
    "TransformerEncoderLayer",
    "Unflatten",
    "functional",
    "init",
]


def __getattr__(name: str) -> Any:
    raise no_such_name("fastnn.nn", name)


def __dir__() -> list[str]:
    return __all__
