"""Probability distributions, by PyTorch's names: sample, rsample, log_prob, entropy, kl_divergence.

Parameters are tensors, arrays or numbers that broadcast; gradients flow through log_prob, entropy and rsample. In
compiled plans they run as the arithmetic that they are; lgamma, digamma and draws of gamma variables and counts stay in
Python there. Each call draws anew, from what `fnn.manual_seed` starts.
"""

import sys

from . import (
    base,
    constraints,
    continuous,
    directional,
    discrete,
    divergence,
    gamma,
    lifetimes,
    mixture,
    multivariate,
    transformed,
    transforms,
    utils,
)  # fmt: skip
from .base import Distribution, Independent
from .continuous import (
    Cauchy,
    Exponential,
    Gumbel,
    HalfCauchy,
    HalfNormal,
    Laplace,
    LogNormal,
    Normal,
    Uniform,
)  # fmt: skip
from .directional import VonMises
from .discrete import (
    Bernoulli,
    Binomial,
    Categorical,
    Geometric,
    Multinomial,
    NegativeBinomial,
    OneHotCategorical,
    OneHotCategoricalStraightThrough,
    Poisson,
)  # fmt: skip
from .divergence import kl_divergence, register_kl
from .gamma import Beta, Chi2, Dirichlet, Gamma, StudentT
from .lifetimes import Pareto, Weibull
from .mixture import MixtureSameFamily
from .multivariate import MultivariateNormal
from .transformed import RelaxedBernoulli, RelaxedOneHotCategorical, TransformedDistribution
from .transforms import (
    AbsTransform,
    AffineTransform,
    ComposeTransform,
    ExpTransform,
    IndependentTransform,
    PowerTransform,
    SigmoidTransform,
    SoftplusTransform,
    TanhTransform,
    Transform,
    identity_transform,
)  # fmt: skip

__all__ = [
    "AbsTransform", "AffineTransform", "Bernoulli", "Beta", "Binomial", "Categorical", "Cauchy", "Chi2",
    "ComposeTransform", "Dirichlet", "Distribution", "ExpTransform", "Exponential", "Gamma", "Geometric", "Gumbel",
    "HalfCauchy", "HalfNormal", "Independent", "IndependentTransform", "Laplace", "LogNormal",
    "MixtureSameFamily", "Multinomial", "MultivariateNormal", "NegativeBinomial", "Normal", "OneHotCategorical",
    "OneHotCategoricalStraightThrough", "Pareto", "Poisson", "PowerTransform", "RelaxedBernoulli",
    "RelaxedOneHotCategorical", "SigmoidTransform", "SoftplusTransform", "StudentT", "TanhTransform", "Transform",
    "TransformedDistribution", "Uniform", "VonMises", "Weibull", "constraints", "identity_transform",
    "kl_divergence", "register_kl", "transforms", "utils",
]  # fmt: skip

# Where PyTorch has them: ``from fastnn.distributions.categorical import Categorical``.
_PLACES = {
    base: "distribution independent",
    continuous: "cauchy exponential gumbel half_cauchy half_normal laplace log_normal normal uniform",
    directional: "von_mises",
    discrete: "bernoulli binomial categorical geometric multinomial negative_binomial one_hot_categorical poisson",
    divergence: "kl",
    gamma: "beta chi2 dirichlet gamma studentT",
    lifetimes: "pareto weibull",
    mixture: "mixture_same_family",
    multivariate: "multivariate_normal",
    transformed: "relaxed_bernoulli relaxed_categorical transformed_distribution",
}
for _module, _names in _PLACES.items():
    for _name in _names.split():
        sys.modules[f"{__name__}.{_name}"] = globals()[_name] = _module
