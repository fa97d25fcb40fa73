"""Probability distributions, by PyTorch's names: sample, rsample, log_prob, entropy, kl_divergence.

Parameters are tensors, arrays or numbers that broadcast; gradients flow through log_prob, entropy and rsample. In
compiled plans they run as the arithmetic that they are. Each call draws anew, from what `fnn.manual_seed` starts.
"""

import sys

from . import base, continuous, discrete, divergence
from .base import Distribution, Independent
from .continuous import Exponential, Laplace, LogNormal, MultivariateNormal, Normal, Uniform
from .discrete import Bernoulli, Categorical, OneHotCategorical, Poisson
from .divergence import kl_divergence

__all__ = [
    "Bernoulli",
    "Categorical",
    "Distribution",
    "Exponential",
    "Independent",
    "Laplace",
    "LogNormal",
    "MultivariateNormal",
    "Normal",
    "OneHotCategorical",
    "Poisson",
    "Uniform",
    "kl_divergence",
]

# Where PyTorch has them: ``from fastnn.distributions.categorical import Categorical``.
_PLACES = {
    base: "distribution independent",
    continuous: "exponential laplace log_normal multivariate_normal normal uniform",
    discrete: "bernoulli categorical one_hot_categorical poisson",
    divergence: "kl",
}
for _module, _names in _PLACES.items():
    for _name in _names.split():
        sys.modules[f"{__name__}.{_name}"] = globals()[_name] = _module
