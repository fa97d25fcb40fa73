/* Elementary functions on vectors of floats, without branches: every lane takes the same road.
 *
 * Polynomials are minimax fits (Lawson's reweighted least squares in 30 digits). Largest errors, measured over samples of all
 * floats, with and without FMA: exp 1.0 ulp, expm1 1.4, tanh 1.7, log 0.9, log1p 1.2, sigmoid 2.0, GELU 3.4. NaN gives
 * NaN; overflow and gradual underflow are right.
 */
#ifndef FASTNN_VMATH_H
#define FASTNN_VMATH_H

#include "base/lanes.h"

INLINE vf v_abs(vf x) { return (vf)((vi)x & 0x7fffffff); }
/* magnitude, which is not negative, with the sign of the other */
INLINE vf v_copysign(vf magnitude, vf sign) { return (vf)((vi)magnitude | ((vi)sign & ~0x7fffffff)); }

#define EXP_MAGIC 0x1.8p23f                         /* adding it rounds to an integer, which the low bits then hold */

/* x = n ln 2 + r with an integer n and |r| <= ln(2)/2, for |x| < 2^21; *t: n, with EXP_MAGIC added */
INLINE vf exp_reduce(vf x, vf *t) {
    *t = x * 1.44269504f + EXP_MAGIC;
    const vf whole = *t - EXP_MAGIC;
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

INLINE vi exp_whole(vf t) { return (vi)t - (vi)v_set1(EXP_MAGIC); }
INLINE vf v_power_of_2(vi n) { return (vf)((n + 127) << 23); }

/* v 2^n, rounded once, for n as exp_reduce gives it */
INLINE vf v_scale(vf v, vf t) {
#if VL == 16 && defined(__AVX512F__)
    return (vf)_mm512_scalef_ps((__m512)v, (__m512)(t - EXP_MAGIC));
#else
    const vi n = exp_whole(t), half = n >> 1;       /* in two steps, because 2^n may not be a float where the result is */
    return v * v_power_of_2(half) * v_power_of_2(n - half);
#endif
}

/* exp(x + low) as 1 + p and a power of 2 for v_scale, for a |low| that is small beside 1 */
INLINE vf v_exp_parts(vf x, vf low, vf *t) {
    x = v_min(v_set1(90.0f), v_max(v_set1(-130.0f), x)); /* infinity and zero come out of the scaling */
    return expm1_reduced(exp_reduce(x, t) + low);
}

INLINE vf v_exp(vf x) {
    vf t, p = v_exp_parts(x, v_set1(-0.0f), &t);    /* r + -0 is r: nothing is added */
    return v_scale(1.0f + p, t);
}

/* exp(x) - 1 for x <= 80 */
INLINE vf v_expm1(vf x) {
    vf t, r = exp_reduce(v_max(v_set1(-30.0f), x), &t), scale = v_power_of_2(exp_whole(t));
    return expm1_reduced(r) * scale + (scale - 1.0f);
}

/* 1 / v for a normal v with a normal inverse, within an ulp: where division is slow, a step of Newton's on an estimate */
INLINE vf v_inverse(vf v) {
#if VL == 16 && defined(__AVX512F__)
    const vf estimate = (vf)_mm512_rcp14_ps((__m512)v);
    return estimate + estimate * (1.0f - v * estimate);
#else
    return 1.0f / v;
#endif
}

/* x + x^3 p(x^2) near zero, else 1 - 2 / (exp(2 |x|) + 1), where that keeps the digits even of a rough exp: its polynomial is in
 * r = |x| - n ln(2)/2. */
INLINE vf v_tanh(vf x) {
    const vf a = v_min(v_set1(10.0f), v_abs(x)), t = a * 2.88539008f + EXP_MAGIC, r = a - (t - EXP_MAGIC) * 0.346573590f, z = a * a;
    vf e = r * 0.265289803f + 0.670367623f, q = z * 1.64375745e-2f - 5.26718101e-2f;
    e = e * r + 1.33341093f;
    q = q * z + 0.133207250f;
    e = e * r + 1.99996597f;
    q = q * z - 0.333329466f;
    e = e * r + 1.99999941f;
    e = (e * r + 1.0f) * v_power_of_2(exp_whole(t));
    return v_copysign(v_select(a < v_set1(0.55f), a + a * z * q, 1.0f - 2.0f * v_inverse(e + 1.0f)), x);
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

/* 1 / (1 + exp(-|x|)), and 1 minus it as small 2^n for v_scale */
INLINE vf v_sigmoid_parts(vf x, vf *small, vf *t) {
    const vf p = v_exp_parts(-v_abs(x), v_set1(-0.0f), t);
    const vf large = v_inverse(1.0f + v_scale(1.0f + p, *t));
    *small = large + large * p;
    return large;
}

/* 1 / (1 + exp(-x)), and in *other 1 minus it, without cancellation */
INLINE vf v_sigmoid(vf x, vf *other) {
    vf small, t, large = v_sigmoid_parts(x, &small, &t);
    small = v_scale(small, t);
    vi positive = x >= (vf){0};
    *other = v_select(positive, small, large);
    return v_select(positive, large, small);
}

/* The normal distribution's Phi(-t), and in *bell exp(-t^2 / 2), for t >= 0, to full precision in the tail, both less a power of 2 for
 * v_scale: Mills' ratio Phi(-t) / exp(-t^2/2) is smooth in t / (t + 2.5), and t^2 is kept in two parts. */
INLINE vf v_normal_tail(vf t, vf *bell, vf *power) {
    t = v_min(v_set1(15.0f), t);
    vf high = (vf)((vi)t & ~0xfff);                 /* 12 bits: its square is exact */
    const vf p = v_exp_parts(-0.5f * high * high, -0.5f * (t - high) * (t + high), power);
    vf inverse = v_inverse(t + 2.5f), w = t * inverse;
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
    q *= inverse;
    *bell = 1.0f + p;
    return q + q * p;
}

#endif
