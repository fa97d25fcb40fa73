"""The error function for arrays, which NumPy lacks.

The rational approximations of FreeBSD's s_erf.c (Sun Microsystems 1993, https://www.netlib.org/fdlibm/s_erf.c:
"Permission to use, copy, modify, and distribute this software is freely granted, provided that this notice is
preserved.").
"""

from __future__ import annotations

import numpy as np

from fastnn.backends.shapes import Array

_ERF_ONE = 8.45062911510467529297e-01  # erf(1), rounded to single precision

# Numerators and denominators by interval of |x|, lowest power first.
_BELOW_084 = (
    (1.28379167095512558561e-01, -3.25042107247001499370e-01, -2.84817495755985104766e-02,
     -5.77027029648944159157e-03, -2.37630166566501626084e-05),
    (1.0, 3.97917223959155352819e-01, 6.50222499887672944485e-02, 5.08130628187576562776e-03,
     1.32494738004321644526e-04, -3.96022827877536812320e-06),
)  # fmt: skip
_BELOW_125 = (
    (-2.36211856075265944077e-03, 4.14856118683748331666e-01, -3.72207876035701323847e-01, 3.18346619901161753674e-01,
     -1.10894694282396677476e-01, 3.54783043256182359371e-02, -2.16637559486879084300e-03),
    (1.0, 1.06420880400844228286e-01, 5.40397917702171048937e-01, 7.18286544141962662868e-02,
     1.26171219808761642112e-01, 1.36370839120290507362e-02, 1.19844998467991074170e-02),
)  # fmt: skip
_BELOW_286 = (
    (-9.86494403484714822705e-03, -6.93858572707181764372e-01, -1.05586262253232909814e+01,
     -6.23753324503260060396e+01, -1.62396669462573470355e+02, -1.84605092906711035994e+02,
     -8.12874355063065934246e+01, -9.81432934416914548592e+00),
    (1.0, 1.96512716674392571292e+01, 1.37657754143519042600e+02, 4.34565877475229228821e+02,
     6.45387271733267880336e+02, 4.29008140027567833386e+02, 1.08635005541779435134e+02, 6.57024977031928170135e+00,
     -6.04244152148580987438e-02),
)  # fmt: skip
_BELOW_6 = (
    (-9.86494292470009928597e-03, -7.99283237680523006574e-01, -1.77579549177547519889e+01,
     -1.60636384855821916062e+02, -6.37566443368389627722e+02, -1.02509513161107724954e+03,
     -4.83519191608651397019e+02),
    (1.0, 3.03380607434824582924e+01, 3.25792512996573918826e+02, 1.53672958608443695994e+03,
     3.19985821950859553908e+03, 2.55305040643316442583e+03, 4.74528541206955367215e+02, -2.24409524465858183362e+01),
)  # fmt: skip


def erf(x: Array) -> Array:
    """2/sqrt(pi) times the integral of exp(-t^2) from 0 to x, elementwise, in the dtype of x; to 1e-15 in float64.

    >>> float(erf(np.array(0.5)))
    0.5204998778130465
    """
    x = np.asarray(x)
    a = np.abs(x)
    y = np.asarray(np.sign(x))  # right beyond 6, and keeps NaN
    near = a < 0.84375
    y[near] = x[near] + x[near] * _rational(x[near] ** 2, _BELOW_084)
    middle = (a >= 0.84375) & (a < 1.25)
    y[middle] *= _ERF_ONE + _rational(np.abs(x[middle]) - 1, _BELOW_125)
    far = (a >= 1.25) & (a < 6)
    y[far] *= 1 - erfc_tail(a[far])
    return y


def erfc_tail(x: Array) -> Array:
    """1 - erf(x) for x from 1.25 to 28, with all its digits."""
    inverse = 1 / (x * x)
    terms = np.where(x < 1 / 0.35, _rational(inverse, _BELOW_286), _rational(inverse, _BELOW_6))
    return np.exp(-x * x - 0.5625 + terms) / x


def _rational(x: Array, coefficients: tuple[tuple[float, ...], tuple[float, ...]]) -> Array:
    numerator, denominator = (np.polynomial.polynomial.polyval(x, c) for c in coefficients)
    return numerator / denominator
