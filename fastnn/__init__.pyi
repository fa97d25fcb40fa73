# fastnn's names with their types, for mypy and editors: __init__.py finds most of them only when they are first used.
from typing import Any, Final

import numpy as np

from fastnn import accelerator as accelerator
from fastnn import amp as amp
from fastnn import autograd as autograd
from fastnn import backends as backends
from fastnn import compiler as compiler
from fastnn import cuda as cuda
from fastnn import data as data
from fastnn import distributed as distributed
from fastnn import distributions as distributions
from fastnn import errors as errors
from fastnn import func as func
from fastnn import hub as hub
from fastnn import init as init
from fastnn import insight as insight
from fastnn import interop as interop
from fastnn import jit as jit
from fastnn import linalg as linalg
from fastnn import metrics as metrics
from fastnn import multiprocessing as multiprocessing
from fastnn import nn as nn
from fastnn import ops as ops
from fastnn import optim as optim
from fastnn import plan as plan
from fastnn import random as random
from fastnn import recipes as recipes
from fastnn import special as special
from fastnn import train as train
from fastnn import utils as utils
from fastnn import weights as weights
from fastnn.amp import GradScaler as GradScaler
from fastnn.amp import autocast as autocast
from fastnn.backends import get_num_threads as get_num_threads
from fastnn.backends import set_num_threads as set_num_threads
from fastnn.config import show_config as show_config
from fastnn.devices import device as device
from fastnn.dtypes import get_default_dtype as get_default_dtype
from fastnn.dtypes import set_default_dtype as set_default_dtype
from fastnn.errors import FastnnError as FastnnError
from fastnn.func import vmap as vmap
from fastnn.insight import landscape as landscape
from fastnn.insight.compare import compare_optimizers as compare_optimizers
from fastnn.insight.diagnosis import diagnose as diagnose
from fastnn.insight.gradients import gradcheck as gradcheck
from fastnn.insight.gradients import gradgradcheck as gradgradcheck
from fastnn.insight.gradients import numeric_gradient as numeric_gradient
from fastnn.insight.graph import graph as graph
from fastnn.insight.signals import signal_report as signal_report
from fastnn.interop import onnx as onnx
from fastnn.interop.torch import from_torch as from_torch
from fastnn.interop.torch import to_torch as to_torch
from fastnn.ops import *  # noqa: F403
from fastnn.own import elementwise as elementwise
from fastnn.plan.compile import compile as compile
from fastnn.plan.release import release_memory as release_memory
from fastnn.random import initial_seed as initial_seed
from fastnn.random import manual_seed as manual_seed
from fastnn.random import seed as seed
from fastnn.recipes import load_run as load_run
from fastnn.recording import enable_grad as enable_grad
from fastnn.recording import inference_mode as inference_mode
from fastnn.recording import is_grad_enabled as is_grad_enabled
from fastnn.recording import is_inference_mode_enabled as is_inference_mode_enabled
from fastnn.recording import no_grad as no_grad
from fastnn.recording import set_grad_enabled as set_grad_enabled
from fastnn.saving import load as load
from fastnn.saving import save as save
from fastnn.settings import *  # noqa: F403
from fastnn.tensors import Function as Function
from fastnn.tensors import Size as Size
from fastnn.tensors import Tensor as Tensor
from fastnn.train.evaluate import evaluate as evaluate
from fastnn.train.fit import fit as fit
from fastnn.train.history import History as History
from fastnn.train.predict import predict as predict
from fastnn.train.predict import predict_proba as predict_proba

__version__: str

# types of entries
float32: Final[np.dtype[Any]]
float64: Final[np.dtype[Any]]
double: Final[np.dtype[Any]]
int8: Final[np.dtype[Any]]
int16: Final[np.dtype[Any]]
short: Final[np.dtype[Any]]
int32: Final[np.dtype[Any]]
int64: Final[np.dtype[Any]]
long: Final[np.dtype[Any]]
uint8: Final[np.dtype[Any]]
bool: Final[np.dtype[Any]]
float: Final[np.dtype[Any]]
int: Final[np.dtype[Any]]

# types of tensors by their old names
BoolTensor: Any
ByteTensor: Any
DoubleTensor: Any
FloatTensor: Any
IntTensor: Any
LongTensor: Any

def __getattr__(name: str) -> Any: ...  # what writes in place: fnn.exp_(x)
