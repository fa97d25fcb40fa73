"""Which operator there is, in which file, and in which forms: the one table.

`fastnn`, `fastnn.nn.functional`, `fastnn.ops` and Tensor's methods take their names from here. An operator is written
once, as a function whose first argument is the tensor; its file is imported when a name of it is used first.
"""

from __future__ import annotations

import functools
from importlib import import_module
from typing import Any

__all__ = ["ALIASES", "FORMS", "TABLE", "find", "function", "having", "in_place", "method", "methods", "of"]

# File of fastnn.ops -> forms -> names. The forms, in this order:
#   f  a function of fastnn                            fnn.exp(x)
#   F  a function of fastnn.nn.functional              F.relu(x)
#   m  a method of tensors                             x.exp()
#   i  what writes the result into x itself            x.exp_(), and with f or F fnn.exp_(x), F.relu_(x)
#   o  what writes the result where one says           fnn.exp(x, out=y)
# No form at all ("") stands for what only fastnn.ops has.
TABLE: dict[str, dict[str, str]] = {
    "activations": {
        "fFmio": "sigmoid tanh",
        "fFmi": "relu",
        "fFmo": "log_softmax softmax",
        "fF": "dropout",
        "Fi": "elu leaky_relu",
        "F": "gelu hardswish mish relu6 silu softplus",
    },
    "arithmetic": {"fmio": "abs add exp log mul neg pow sqrt sub true_divide"},
    "arranging": {
        "f": "block_diag broadcast_shapes combinations cumulative_trapezoid gradient trapezoid unravel_index vander",
        "fm": "diagflat dsplit hsplit vsplit",
    },
    "attention": {"F": "scaled_dot_product_attention"},
    "casting": {
        "f": "clone detach",
        "fm": "is_complex is_floating_point is_nonzero is_signed numel",
        "m": "bool byte char contiguous data_ptr element_size get_device int is_contiguous is_pinned is_shared "
        "ndimension nelement pin_memory share_memory_ short stride type type_as view_as",
    },
    "conv": {"fF": "conv1d conv2d conv_transpose1d conv_transpose2d"},
    "creation": {
        "fo": "arange empty eye full linspace logspace normal ones rand randint randn randperm zeros",
        "f": "as_tensor empty_like from_numpy full_like ones_like randint_like tensor zeros_like",
        "m": "new new_empty new_full new_ones new_tensor new_zeros",
    },
    "dense": {"fmo": "matmul", "F": "linear"},
    "draws": {"f": "Generator poisson rand_like randn_like", "fmo": "multinomial", "fmio": "bernoulli"},
    "elementwise": {
        "fmio": "acos acosh addcdiv addcmul asin asinh atan atan2 atanh ceil clamp clamp_max clamp_min cos cosh div "
        "erf erfc exp2 expm1 floor floor_divide fmod frac i0 lerp log10 log1p log2 logit nan_to_num reciprocal "
        "remainder round rsqrt sign sin sinh square tan trunc",
        "fmo": "logaddexp maximum minimum",
        "": "i1 rint",
    },
    "elimination": {"fo": "lu_unpack", "fmo": "lu lu_solve"},
    "gamma": {"fmio": "digamma lgamma mvlgamma polygamma"},
    "inverse_erf": {"fmio": "erfinv"},
    "joining": {"fo": "cat column_stack dstack hstack stack vstack where", "f": "atleast_1d atleast_2d atleast_3d"},
    "logic": {
        "fmio": "bitwise_and bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor eq ge gt le "
        "logical_and logical_not logical_or logical_xor lt ne",
        "fo": "isin",
        "fmo": "isneginf isposinf",
        "fm": "allclose equal isclose isfinite isinf isnan isreal",
    },
    "lookup": {"F": "embedding embedding_bag"},
    "loss": {"F": "binary_cross_entropy binary_cross_entropy_with_logits cross_entropy nll_loss"},
    "loss_entries": {"F": "gaussian_nll_loss huber_loss kl_div l1_loss mse_loss poisson_nll_loss smooth_l1_loss"},
    "loss_margins": {
        "F": "cosine_embedding_loss hinge_embedding_loss margin_ranking_loss multi_margin_loss "
        "multilabel_margin_loss multilabel_soft_margin_loss soft_margin_loss triplet_margin_loss "
        "triplet_margin_with_distance_loss",
    },
    "loss_sequences": {"F": "ctc_loss"},
    "matrices": {
        "fmo": "cholesky cholesky_inverse cholesky_solve cross inverse matrix_power qr slogdet svd",
        "f": "pca_lowrank svd_lowrank",
        "fm": "det logdet matrix_exp pinverse",
    },
    "moving": {
        "f": "broadcast_tensors cartesian_prod meshgrid tril_indices triu_indices",
        "fmo": "diag",
        "fm": "broadcast_to chunk diag_embed diagonal flip fliplr flipud movedim narrow ravel repeat_interleave roll "
        "rot90 select split split_with_sizes tensor_split tile unbind unflatten",
        "fmio": "tril triu",
        "m": "expand_as repeat",
    },
    "nonlinear": {
        "fFio": "threshold",
        "fFi": "celu rrelu selu",
        "fFm": "prelu",
        "fF": "alpha_dropout",
        "Fi": "hardtanh",
        "F": "dropout1d dropout2d dropout3d glu gumbel_softmax hardshrink hardsigmoid logsigmoid softmin "
        "softshrink softsign tanhshrink",
    },
    "norms": {"fF": "batch_norm", "F": "instance_norm", "": "batch_norm_training normalize_channels"},
    "padding": {"F": "pad"},
    "places": {
        "fmo": "gather index_select masked_select nonzero take take_along_dim",
        "fm": "argwhere",
        "fmio": "index_add index_copy scatter scatter_add scatter_reduce",
        "fmi": "index_fill index_put masked_fill masked_scatter",
    },
    "pool": {
        "fF": "adaptive_avg_pool1d avg_pool1d max_pool1d max_pool2d",
        "F": "adaptive_avg_pool2d adaptive_max_pool1d adaptive_max_pool2d avg_pool2d max_unpool1d max_unpool2d",
        "": "global_avg_pool2d",
    },
    "products": {
        "fo": "chain_matmul tensordot",
        "f": "cdist einsum",
        "fmo": "bmm dot ger inner kron logsumexp mm mv norm outer vdot",
        "fm": "dist trace",
        "fmio": "addbmm addmm addmv addr baddbmm",
        "F": "normalize",
        "fF": "pdist",
    },
    "reductions": {
        "fo": "std_mean var_mean",
        "fmo": "all amax amin aminmax any argmax argmin max mean median min mode nanmean nanmedian nansum prod std "
        "sum var",
        "fm": "count_nonzero",
    },
    "resizing": {
        "fF": "channel_shuffle pixel_shuffle pixel_unshuffle",
        "F": "fold interpolate unfold upsample",
    },
    "sample_norm": {"F": "local_response_norm", "fF": "group_norm layer_norm rms_norm"},
    "sampling": {"F": "affine_grid grid_sample"},
    "shaping": {"fm": "flatten permute reshape squeeze t transpose unsqueeze", "m": "expand view"},
    "similarity": {"fm": "corrcoef cov", "fF": "bilinear cosine_similarity pairwise_distance"},
    "sorting": {
        "fo": "bucketize searchsorted",
        "fmo": "argsort cummax cummin diff histc kthvalue logcumsumexp msort quantile sort topk",
        "fm": "bincount histogram unique unique_consecutive",
        "fmio": "cumprod cumsum",
        "F": "one_hot",
    },
    "special": {
        "fmo": "fmax fmin logaddexp2 signbit",
        "fmio": "copysign deg2rad float_power heaviside hypot rad2deg sinc xlogy",
    },
    "windows": {"f": "bartlett_window blackman_window hamming_window hann_window kaiser_window"},
    "writing": {
        "m": "apply_ copy_ detach_ exponential_ fill_ fill_diagonal_ geometric_ log_normal_ normal_ random_ "
        "resize_ resize_as_ squeeze_ t_ transpose_ uniform_ unsqueeze_ zero_",
    },
}
# Second names for the same function, in the same forms.
ALIASES = {
    "absolute": "abs",
    "arccos": "acos",
    "arccosh": "acosh",
    "arcsin": "asin",
    "arcsinh": "asinh",
    "arctan": "atan",
    "arctan2": "atan2",
    "arctanh": "atanh",
    "clip": "clamp",
    "concat": "cat",
    "concatenate": "cat",
    "divide": "div",
    "fix": "trunc",
    "greater": "gt",
    "greater_equal": "ge",
    "less": "lt",
    "less_equal": "le",
    "moveaxis": "movedim",
    "multiply": "mul",
    "negative": "neg",
    "not_equal": "ne",
    "row_stack": "vstack",
    "spmm": "mm",
    "subtract": "sub",
    "sgn": "sign",
    "asarray": "as_tensor",
    "reshape_as": "view_as",
    "swapaxes": "transpose",
    "trapz": "trapezoid",
    "swapdims": "transpose",
}

FORMS: dict[str, tuple[str, str]] = {  # name -> file and forms
    name: (file, forms) for file, rows in TABLE.items() for forms, names in rows.items() for name in names.split()
}
FORMS |= {alias: FORMS[name] for alias, name in ALIASES.items()}


def having(*forms: str) -> list[str]:
    """The names that have one of these forms, sorted.

    >>> "exp" in having("f", "F"), "view" in having("f", "F")
    (True, False)
    """
    return sorted(name for name, (_, found) in FORMS.items() if any(form in found for form in forms))


def of(file: str) -> list[str]:
    """The names in a file: what it offers.

    >>> of("dense")
    ['linear', 'matmul']
    """
    return sorted(name for names in TABLE[file].values() for name in names.split())


def find(name: str) -> Any:
    """The operator of this name; imports its file."""
    return _by_axis(getattr(import_module(f"fastnn.ops.{FORMS[name][0]}"), ALIASES.get(name, name)))


def method(name: str) -> Any:
    """The function behind `name`: an operator, or the form of one that writes in place (`exp_`)."""
    if name in FORMS:
        return find(name)
    from fastnn.ops.in_place import written

    return written(name, find(name[:-1]))


def function(name: str) -> Any:
    """What fastnn itself has by that name: the function behind it, with ``out=`` where the table says so."""
    if "o" not in FORMS.get(name, ("", ""))[1]:
        return method(name)
    from fastnn.ops.outputs import with_out

    return with_out(find(name))


_SPELLINGS = (("axis", "dim"), ("keepdims", "keepdim"), ("split_size", "split_size_or_sections"))


@functools.cache
def _by_axis(function: Any) -> Any:
    """An operator along one dimension, that takes its arguments by their other names, too: `axis` for `dim`."""
    code = getattr(getattr(function, "__wrapped__", function), "__code__", None)
    if code is None or "dim" not in code.co_varnames[: code.co_argcount] or hasattr(function, "takes_axis"):
        return function

    @functools.wraps(function)
    def called(*args: Any, **options: Any) -> Any:
        for name, own in _SPELLINGS if options else ():
            if name in options:
                options[own] = options.pop(name)
        return function(*args, **options)

    return called


def in_place(form: str) -> list[str]:
    """The names that write in place, of operators with this form: methods ("m"), or functions."""
    return [f"{name}_" for name in having("i") if form in FORMS[name][1]]


def methods() -> list[str]:
    """The names of all methods that operators give to tensors."""
    return sorted([*having("m"), *in_place("m")])
