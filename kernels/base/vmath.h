/* Elementary functions on vectors of floats, without branches: every lane takes the same road.
 *
 * Polynomials are minimax fits (Lawson's reweighted least squares in 30 digits). Largest errors, measured over samples of all
 * floats, with and without FMA: exp 1.0 ulp, expm1 1.4, tanh 2.4, log 0.9, log1p 1.2, sigmoid 2.7, normal_tail 3.8. NaN gives
 * NaN; overflow and gradual underflow are right.
 */
#ifndef FASTNN_VMATH_H
#define FASTNN_VMATH_H

#include "base/lanes.h"

INLINE vf v_abs(vf x) { return (vf)((vi)x & 0x7fffffff); }
INLINE vf v_copysign(vf magnitude, vf sign) { return (vf)(((vi)magnitude & 0x7fffffff) | ((vi)sign & ~0x7fffffff)); }

/* x = n ln 2 + r with an integer n and |r| <= ln(2)/2, for |x| < 2^21 */
INLINE vf exp_reduce(vf x, vi *n) {
    const vf magic = v_set1(0x1.8p23f);             /* adding it rounds to an integer, which its low bits then hold */
    vf t = x * 1.44269504f + magic, whole = t - magic;
    *n = (vi)t - (vi)magic;
    return x - whole * 0x1.63p-1f - whole * -2.12194440e-4f; /* ln 2 in two parts; the first product is exact */
}

/* exp(r) - 1 for |r| <= ln(2)/2 */
INLINE vf expm1_reduced(vf r) {
    vf q = r * 1.3814389e-3f + 8.3688172e-3f;
    q = q * r + 4.1668396e-2f;
    q = q * r + 1.6666520e-1f;
    q = q * r + 4.9999994e-1f;
    return r + r * r * q;
}

INLINE vf v_power_of_2(vi n) { return (vf)((n + 127) << 23); }

/* exp(x + low) for a |low| that is small beside 1 */
INLINE vf v_exp_sum(vf x, vf low) {
    vi n;
    x = v_min(v_set1(90.0f), v_max(v_set1(-106.0f), x)); /* infinity and zero come out of the scaling */
    vf r = exp_reduce(x, &n) + low;
    vi half = n >> 1;                               /* in two steps, because 2^n may not be a float where the result is */
    return (1.0f + expm1_reduced(r)) * v_power_of_2(half) * v_power_of_2(n - half);
}

INLINE vf v_exp(vf x) { return v_exp_sum(x, v_set1(-0.0f)); } /* r + -0 is r: nothing is added */

/* exp(x) - 1 for x <= 80 */
INLINE vf v_expm1(vf x) {
    vi n;
    vf r = exp_reduce(v_max(v_set1(-30.0f), x), &n), scale = v_power_of_2(n);
    return expm1_reduced(r) * scale + (scale - 1.0f);
}

INLINE vf v_tanh(vf x) {
    vf e = v_expm1(2.0f * v_min(v_set1(10.0f), v_abs(x)));
    return v_copysign(e / (e + 2.0f), x);
}

/* log(1 + f) for -0.3 <= f <= 1, as 2 artanh(f / (2 + f)): the leading terms are arranged so that f itself is added last
 * (FreeBSD's s_log1p.c has this arrangement) */
INLINE vf v_log1p(vf f) {
    vf s = f / (2.0f + f), z = s * s, half_square = 0.5f * f * f;
    vf q = z * 2.8024465e-1f + 2.7999139e-1f;
    q = q * z + 4.0021700e-1f;
    q = q * z + 6.6666412e-1f;
    return f - (half_square - s * (half_square + z * q));
}

/* log(x) for a positive normal x, or NaN */
INLINE vf v_log(vf x) {
    vi n = ((vi)x - 0x3f3504f3) >> 23;              /* x = 2^n m, m between sqrt(1/2) and sqrt(2) */
    vf whole = __builtin_convertvector(n, vf), m = (vf)((vi)x - (n << 23));
    return whole * 0x1.63p-1f + (v_log1p(m - 1.0f) + whole * -2.12194440e-4f) + (x - x); /* NaN - NaN */
}

/* 1 / (1 + exp(-x)), and in *other 1 minus it, without cancellation */
INLINE vf v_sigmoid(vf x, vf *other) {
    vf e = v_exp(-v_abs(x)), large = 1.0f / (1.0f + e), small = e * large;
    vi positive = x >= (vf){0};
    *other = v_select(positive, small, large);
    return v_select(positive, large, small);
}

/* The normal distribution's Phi(-t), and in *bell exp(-t^2 / 2), for t >= 0, to full precision in the tail: Mills' ratio
 * Phi(-t) / exp(-t^2/2) is smooth in t / (t + 2.5), and t^2 is kept in two parts. */
INLINE vf v_normal_tail(vf t, vf *bell) {
    t = v_min(v_set1(15.0f), t);
    vf high = (vf)((vi)t & ~0xfff);                 /* 12 bits: its square is exact */
    *bell = v_exp_sum(-0.5f * high * high, -0.5f * (t - high) * (t + high));
    vf inverse = 1.0f / (t + 2.5f), w = t * inverse;
    vf q = w * -2.21848570e-2f + 1.49857025e-2f;
    q = q * w + 1.07718015e-1f;
    q = q * w + -1.40765517e-1f;
    q = q * w + 3.36247690e-2f;
    q = q * w + -1.10884974e-1f;
    q = q * w + 4.73196815e-2f;
    q = q * w + 2.92963752e-1f;
    q = q * w + 1.69541410e-1f;
    q = q * w + -1.24339106f;
    q = q * w + 1.25f;
    return q * inverse * *bell;
}

#endif
