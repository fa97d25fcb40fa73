/* Elementary functions that maps alone need, on vectors; polynomials of Cephes' single precision (S. L. Moshier 1989), within 2 ulp
 * where the result is not near a zero of a periodic function. Large arguments of these go to the C library.
 */
#ifndef FASTNN_OPERATOR_FUNCTIONS_H
#define FASTNN_OPERATOR_FUNCTIONS_H

#include <math.h>

#include "base/vmath.h"

/* Sine and cosine of x for |x| < 8192: the quadrant n, and both of what is left, between -pi/4 and pi/4 */
INLINE vi sine_parts(vf x, vf *sine, vf *cosine) {
    const vf t = x * 0.636619772f + EXP_MAGIC, whole = t - EXP_MAGIC;
    const vf r = x - whole * 1.5703125f - whole * 4.837512969970703125e-4f - whole * 7.54978995489188216e-8f, z = r * r;
    *sine = r + r * z * ((z * -1.9515295891e-4f + 8.3321608736e-3f) * z - 1.6666654611e-1f);
    *cosine = 1.0f - 0.5f * z + z * z * ((z * 2.443315711809948e-5f - 1.388731625493765e-3f) * z + 4.166664568298827e-2f);
    return exp_whole(t);
}

INLINE vf v_sin(vf x) {
    vf s, c;
    const vi n = sine_parts(x, &s, &c);
    const vf y = v_select((n & 1) != 0, c, s);
    return v_select(v_abs(x) < v_set1(0x1p-12f), x, (vf)((vi)y ^ ((n & 2) << 30)));
}

INLINE vf v_cos(vf x) {
    vf s, c;
    const vi n = sine_parts(x, &s, &c);
    const vf y = v_select((n & 1) != 0, s, c);
    return (vf)((vi)y ^ (((n + 1) & 2) << 30));
}

INLINE vf v_tan(vf x) {
    vf s, c;
    const vi odd = (sine_parts(x, &s, &c) & 1) != 0;
    return v_select(v_abs(x) < v_set1(0x1p-12f), x, v_select(odd, -c, s) / v_select(odd, s, c));
}

INLINE vi beyond_sines(vf x) { return ~(v_abs(x) < v_set1(8192.0f)); } /* NaN, too */

INLINE vf v_atan(vf x) {
    const vf a = v_abs(x);
    const vi large = a > v_set1(2.414213562f), middle = a > v_set1(0.4142135624f);
    const vf r = v_select(large, -1.0f / a, v_select(middle, (a - 1.0f) / (a + 1.0f), a)), z = r * r;
    const vf start = v_select(large, v_set1(1.57079637f), v_select(middle, v_set1(0.785398185f), (vf){0}));
    const vf q = ((z * 8.05374449538e-2f - 1.38776856032e-1f) * z + 1.99777106478e-1f) * z - 3.33329491539e-1f;
    return v_copysign(start + (r + r * z * q), x);
}

/* Its power series near 0, else by the normal distribution's tail */
INLINE vf v_erf(vf x) {
    const vf a = v_abs(x), z = x * x;
    vf bell, power, q = z * -7.57575758e-4f + 4.62962963e-3f;
    const vf tail = v_normal_tail(a * 1.41421356f, &bell, &power);
    q = q * z - 2.38095238e-2f;
    q = q * z + 0.1f;
    q = q * z - 0.333333333f;
    const vf linear = x * 1.12837917f, small = v_select(a < v_set1(0x1p-12f), linear, linear + linear * z * q);
    return v_select(a < v_set1(0.5f), small, v_copysign(1.0f - 2.0f * v_scale(tail, power), x));
}

INLINE vf v_expm1_any(vf x) {
    const vf y = v_expm1(v_min(v_set1(80.0f), x));
    return v_select(x > v_set1(80.0f), v_exp(x), v_select(v_abs(x) < v_set1(0x1p-100f), x, y));
}

INLINE vf v_exp2(vf x) {
    const vf within = v_min(v_set1(129.0f), v_max(v_set1(-160.0f), x)), t = within + EXP_MAGIC;
    return v_scale(1.0f + expm1_reduced((within - (t - EXP_MAGIC)) * 0.693147181f), t);
}

#endif
