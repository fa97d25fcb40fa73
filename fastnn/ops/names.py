"""Which operator there is, in which file, and in which forms: the one table.

`fastnn`, `fastnn.nn.functional`, `fastnn.ops` and Tensor's methods take their names from here. An operator is written
once, as a function whose first argument is the tensor; its file is imported when a name of it is used first.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["ALIASES", "FORMS", "TABLE", "find", "having", "method"]

# File of fastnn.ops -> forms -> names. The forms, in this order:
#   f  a function of fastnn                            fnn.exp(x)
#   F  a function of fastnn.nn.functional              F.relu(x)
#   m  a method of tensors                             x.exp()
#   i  a method that writes the result into x itself   x.exp_()
# No form at all ("") stands for what only fastnn.ops has.
TABLE: dict[str, dict[str, str]] = {
    "activations": {
        "fFmi": "relu sigmoid tanh",
        "fFm": "log_softmax softmax",
        "fF": "dropout",
        "F": "elu gelu leaky_relu silu",
    },
    "arithmetic": {"fmi": "abs add exp log mul neg pow sqrt sub true_divide"},
    "casting": {
        "fm": "is_floating_point numel",
        "m": "bool byte contiguous data_ptr element_size get_device int is_contiguous is_pinned ndimension nelement "
        "pin_memory short stride type type_as view_as",
    },
    "conv": {"fF": "conv2d"},
    "creation": {
        "f": "arange as_tensor empty empty_like eye from_numpy full full_like linspace logspace normal ones ones_like "
        "rand randint randint_like randn randperm tensor zeros zeros_like",
        "m": "new_empty new_full new_ones new_tensor new_zeros",
    },
    "dense": {"fm": "matmul", "F": "linear"},
    "draws": {"f": "Generator rand_like randn_like", "fmi": "bernoulli"},
    "elementwise": {
        "fmi": "acos acosh addcdiv addcmul asin asinh atan atan2 atanh ceil clamp clamp_max clamp_min cos cosh deg2rad "
        "div erf erfc exp2 expm1 floor floor_divide fmod frac lerp log10 log1p log2 logit nan_to_num rad2deg "
        "reciprocal remainder round rsqrt sign sin sinh square tan trunc",
        "fm": "maximum minimum",
        "": "rint",
    },
    "joining": {
        "f": "atleast_1d atleast_2d atleast_3d cat column_stack dstack hstack stack vstack where",
    },
    "logic": {
        "fmi": "bitwise_and bitwise_not bitwise_or bitwise_xor eq ge gt le logical_and logical_not logical_or "
        "logical_xor lt ne",
        "fm": "allclose equal isclose isfinite isinf isnan isneginf isposinf signbit",
    },
    "loss": {"F": "binary_cross_entropy binary_cross_entropy_with_logits cross_entropy mse_loss nll_loss"},
    "moving": {
        "f": "broadcast_tensors cartesian_prod meshgrid tril_indices triu_indices",
        "fm": "broadcast_to chunk diag diag_embed diagonal flip fliplr flipud movedim narrow ravel "
        "repeat_interleave roll rot90 select split split_with_sizes tensor_split tile unbind unflatten",
        "fmi": "tril triu",
        "m": "expand_as repeat unfold",
    },
    "norm": {"fF": "batch_norm", "": "batch_norm_training normalize_channels"},
    "places": {
        "fm": "argwhere gather index_select masked_select nonzero take take_along_dim",
        "fmi": "index_add index_copy index_fill index_put masked_fill masked_scatter scatter scatter_add "
        "scatter_reduce",
    },
    "pool": {"F": "avg_pool2d max_pool2d", "": "global_avg_pool2d"},
    "products": {
        "f": "cdist chain_matmul einsum tensordot",
        "fm": "bmm dist dot ger inner kron logsumexp mm mv norm outer trace vdot",
        "fmi": "addbmm addmm addmv addr baddbmm",
        "F": "normalize",
    },
    "reductions": {
        "f": "std_mean var_mean",
        "fm": "all amax amin aminmax any argmax argmin count_nonzero max mean median min nanmean nansum prod std sum "
        "var",
    },
    "shaping": {"fm": "flatten permute reshape squeeze t transpose unsqueeze", "m": "expand view"},
    "sorting": {
        "f": "bucketize searchsorted unique_consecutive",
        "fm": "argsort bincount diff histc kthvalue logcumsumexp msort sort topk unique",
        "fmi": "cumprod cumsum",
        "F": "one_hot",
    },
    "writing": {
        "m": "copy_ detach_ exponential_ fill_ fill_diagonal_ geometric_ log_normal_ normal_ random_ squeeze_ t_ "
        "transpose_ uniform_ unsqueeze_ zero_",
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
    "subtract": "sub",
    "sgn": "sign",
    "swapaxes": "transpose",
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


def find(name: str) -> Any:
    """The operator of this name; imports its file."""
    return getattr(import_module(f"fastnn.ops.{FORMS[name][0]}"), ALIASES.get(name, name))


def method(name: str) -> Any:
    """The function behind the tensor's method `name`: an operator, or the form of one that writes in place (`exp_`)."""
    if name in FORMS:
        return find(name)
    from fastnn.ops.in_place import in_place

    return in_place(name, find(name[:-1]))


def methods() -> list[str]:
    """The names of all methods that operators give to tensors."""
    return sorted([*having("m"), *(f"{name}_" for name in having("i"))])
