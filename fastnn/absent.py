"""What fastnn says to names of PyTorch that it does not have; loaded when such a name is asked for.

pytorch_names.txt lists PyTorch's public names by place; docs/from_pytorch.py writes it, and FROM_PYTORCH.md from both.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

import numpy as np

from fastnn.habits import HINTS

__all__ = ["NAMES", "hint_of", "lists"]

NAMES = Path(__file__).parent / "pytorch_names.txt"

_CPU = "fastnn runs on the CPU alone: leave it out"
_TYPES = "fastnn computes in float32 and float64"
_KERNELS = "PyTorch's own kernel behind an operator: use the operator"
_SPECIAL = "scipy.special computes it on x.detach().numpy(), without a gradient"
_LINALG = "np.linalg, or scipy.linalg, computes it on x.detach().numpy(), without a gradient"
_FFT = "there are no complex numbers: np.fft computes on x.detach().numpy(), without a gradient"
_QUANTISED = "there are no quantised tensors: float32 is the smallest type"
# Patterns of names that are absent for one reason, the first that fits, and the sentence for them.
_GROUPS: list[tuple[str, str]] = [
    (r"cudnn|miopen|mkldnn|mps$|cuda|xpu|mtia|vulkan|gpu|is_meta|maia|xla|amp$|(^|_)(ipu|hpu)", _CPU),
    (r"autocast|GradScaler", f"{_TYPES}, there is nothing to cast: leave it out"),
    (r"half|float16|float8|float4|bfloat16|uint1$|uint[2-7]$|int[1-7]$|bits\d|Half|BFloat", _TYPES),
    (r"uint16|uint32|uint64", "use fnn.int32 or fnn.int64"),
    (r"quanti[sz]|qint|quint|^q_|qscheme|per_(tensor|channel)|choose_qparams|fbgemm|int_repr", _QUANTISED),
    (r"sparse|coalesce|_csr|_csc|_bsr|_bsc|ccol_|crow_|col_indices|row_indices|hspmm|smm|^values|^indices|to_dense|sspaddmm",
     "there are no sparse tensors: use dense ones"),
    (r"complex|cfloat|cdouble|chalf|conj|^real|^imag|angle|polar|resolve_neg|is_neg|view_as_real|^H$|mH$|adjoint",
     "there are no complex numbers in fastnn: keep two real tensors"),
    (r"fft|stft", _FFT),
    (r"linalg|cholesky|^qr|svd|^eig|eigh|lobpcg|^lu|inverse|det$|geqrf|orgqr|ormqr|lstsq|solve|pinverse|"
     r"pca_lowrank|matrix_power|slogdet|logdet", _LINALG),
    (r"fuse_(conv|linear)_bn|^fusion$", "fnn.compile(model, frozen=True) folds batch norm into the layer before"),
    (r"skip_init|^stateless$", "a layer has its parameters when it is made; fnn.func.functional_call takes others"),
    (r"Storage|storage|data_ptr|set_$|resize|untyped|share_memory|is_shared|as_strided|strided|layout|preserve_format|"
     r"memory_format|channels_last|contiguous_format|names$|rename|refine_names|align_|rename_",
     "a tensor's memory is its NumPy array, x.data"),
    (r"jit|script|fx|export|onnx|package|library|classes|compiler|export|_dynamo|ScriptF|torch_version|overrides|"
     r"futures|fork|wait|import_ir|parse_|merge_type|Graph|FunctionSchema|JIT|IR|LiteScript|Compilation|CallStack",
     "fnn.compile(model) compiles; fastnn has no language or graph of its own to save"),
    (r"[Dd]istributed|DataParallel|SyncBatchNorm|Rpc|multiprocessing|Join",
     "fnn.fit(..., distributed=True) trains over MPI"),
    (r"dropout|alpha_dropout", "nn.Dropout drops entries"),
    (r"Embedding|embedding", "nn.Embedding, where it is there, or a product with one-hot rows"),
    (r"Lazy", "give the number of inputs: the layer without Lazy"),
    (r"[Rr]nn|RNN|LSTM|GRU|lstm|gru", "recurrent layers are nn.RNN, nn.LSTM and nn.GRU, where they are there"),
    (r"Transformer|Multihead|attention", "build it of nn.Linear, softmax and matmul"),
    (r"3d|3D", "fastnn has one and two dimensions of space: reshape, or sum over the third"),
    (r"[Pp]ool", "MaxPool, AvgPool and their adaptive kin pool; strided slices and .amax say others"),
    (r"Pad|pad", "write into a larger tensor: fnn.zeros, fnn.cat"),
    (r"[Cc]onv", "conv1d, conv2d and their transposed kin are there"),
    (r"Norm|_norm$|norm_", "batch, layer and group norm are there; write others by .mean() and .var()"),
    (r"Loss|_loss|ctc", "write the loss with operators on tensors: gradients come by themselves"),
    (r"LR$|Scheduler|SWA|swa", "optim.lr_scheduler.LambdaLR takes any function of the epoch"),
    (r"special|erfinv|gamma|bessel|polygamma|zeta|i0|igamma|mvlgamma|sinc|ndtri", _SPECIAL),
    (r"hook|register_", "look at outputs where they arise: forward is ordinary Python"),
    (r"[Ss]ampler|[Dd]ataset|[Ll]oader|collate|pipe|functional_datapipe|worker",
     "fnn.data.Batches gives shuffled batches of arrays"),
    (r"Tensor$", "fnn.tensor(data, dtype=...)"),
    (r"[Tt]ype$", "types are NumPy's: x.dtype"),
]  # fmt: skip


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


@functools.cache
def lists() -> tuple[str, dict[str, frozenset[str]]]:
    """PyTorch's version, and its public names by place, such as "torch.nn"."""
    head, *sections = re.split(r"^\[(.*)\]$", NAMES.read_text(), flags=re.MULTILINE)
    return head.split()[1].rstrip(":"), dict(zip(sections[::2], map(_names, sections[1::2]), strict=True))


def hint_of(module: str, name: str) -> str | None:
    """What to do instead of `module.name`; None for a name that PyTorch does not have either.

    >>> hint_of("fastnn.nn", "LazyConv3d")
    'give the number of inputs: the layer without Lazy'
    >>> hint_of("fastnn", "nonsense") is None
    True
    """
    place = module.replace("fastnn", "torch", 1)
    known = lists()[1]
    if (said := HINTS.get(module, {}).get(name)) is not None:
        return said
    if name not in known.get(place, ()):
        return None
    return _elsewhere(module, name) or _by_group(module, name)


def _elsewhere(module: str, name: str) -> str | None:
    """Where else fastnn has an operator of this name, or one that the name is made of."""
    from fastnn.ops.names import FORMS

    plain = name.removesuffix("_")
    forms = FORMS[plain][1] if plain in FORMS else ""
    if not forms:
        return None
    if name != plain and "i" not in forms:
        return "nothing is written in place there: assign the result of the name without the underscore"
    if "f" in forms:
        return "it is a function, of fastnn itself"
    return "it is a method of tensors" if "m" in forms else "it is a function of fastnn.nn.functional"


def _by_group(module: str, name: str) -> str:
    if module == "fastnn.special":
        return _SPECIAL
    for pattern, said in _GROUPS:
        if re.search(pattern, name):
            return said
    if module == "fastnn.linalg":
        return _LINALG
    if module == "fastnn.optim":
        return "write it as a subclass of optim.Optimizer"
    if module.startswith("fastnn.nn"):
        return "write it with the operators of tensors, as a subclass of nn.Module"
    plain = name.removesuffix("_")
    if callable(getattr(np, plain, None)):
        return "NumPy's function of this name computes it on x.detach().numpy(), without a gradient"
    return "fastnn does without it; docs/FROM_PYTORCH.md says what there is"
