"""PyTorch's torch.special: special functions of single entries, most of them operators by another name.

All have derivatives, and theirs; scipy.special has those that are not here.
"""

from __future__ import annotations

import math
from typing import Any

from fastnn.habits import no_such_name
from fastnn.ops.activations import log_softmax, sigmoid, softmax
from fastnn.ops.arithmetic import common_type
from fastnn.ops.common import floating
from fastnn.ops.elementwise import erf, erfc, exp2, expm1, i0, i1, log1p, logit, round
from fastnn.ops.gamma import digamma, lgamma, mvlgamma, polygamma
from fastnn.ops.inverse_erf import erfinv
from fastnn.ops.joining import where
from fastnn.ops.logic import eq, lt
from fastnn.ops.outputs import with_out
from fastnn.ops.products import logsumexp
from fastnn.ops.special import sinc, xlogy
from fastnn.tensors import Tensor

__all__ = [
    "digamma", "entr", "erf", "erfc", "erfinv", "exp2", "expit", "expm1", "gammaln", "i0", "i1", "log1p",
    "log_softmax", "logit", "logsumexp", "multigammaln", "ndtr", "ndtri", "polygamma", "psi", "round", "sinc",
    "softmax", "xlog1py", "xlogy",
]  # fmt: skip

expit, gammaln, multigammaln, psi = sigmoid, lgamma, mvlgamma, digamma


def entr(input: Any) -> Tensor:
    """The summands of an entropy, -x·log(x): 0 at 0, and -inf for what is negative.

    >>> import fastnn as fnn
    >>> fnn.special.entr(fnn.tensor([-1.0, 0.0, 0.5]))
    Tensor([     -inf, 0.       , 0.3465736])
    """
    x = floating(input)
    negative = lt(x, 0)
    x = where(negative, 1.0, x)
    return where(negative, -math.inf, xlogy(-x, x))


def xlog1py(input: Any, other: Any) -> Tensor:
    """input · log(1 + other), and 0 where the input is 0, unless other is NaN.

    >>> import fastnn as fnn
    >>> fnn.special.xlog1py(fnn.tensor([0.0, 2.0]), fnn.tensor([-1.0, 1.0]))
    Tensor([0.       , 1.3862944])
    """
    a, b = common_type((input, other))
    a, b = floating(a), floating(b)
    nothing = eq(a, 0) & (lt(b, -1) | eq(b, -1) | eq(b, math.inf))
    return where(nothing, 0.0, a * log1p(where(nothing, 0.0, b)))


def ndtr(input: Any) -> Tensor:
    """The share of a standard normal variable's values that are less than each entry.

    >>> import fastnn as fnn
    >>> fnn.special.ndtr(fnn.tensor([-1.0, 0.0]))
    Tensor([0.15865526, 0.5       ])
    """
    return 0.5 * erfc(floating(input) * -math.sqrt(0.5))


def ndtri(input: Any) -> Tensor:
    """The inverse of `ndtr`: the number that a standard normal variable exceeds with the probability 1 - input."""
    return erfinv(2 * floating(input) - 1) * math.sqrt(2)


for _name in set(__all__) - {"log_softmax", "softmax"}:
    globals()[_name] = with_out(globals()[_name])


def __getattr__(name: str) -> Any:
    raise no_such_name(__name__, name)
