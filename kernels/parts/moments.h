/* Mean and squares about it, of images with channels in the lanes, that batch norm takes of a batch.
 *
 * Those of an image are sums about a shift, its block's mean so far (at first the mean of a row), and are joined to the block's by Chan,
 * Golub and LeVeque's formula.
 */
#ifndef FASTNN_MOMENTS_H
#define FASTNN_MOMENTS_H

#include "base/sums.h"

/* Joins an image's x (pixels, VL) to mean and squares about it of `seen` values a lane; W: pixels that a first shift is made of */
INLINE void v_moments(i64 seen, i64 pixels, i64 W, const float *x, struct v_joined *mean, struct v_joined *squares) {
    const i64 run = 4 * sum_run(ceil_div(pixels, 4));
    struct v_joined sums = {}, products = {};
    vf shift = mean->sum;
    if (seen == 0) {
        shift = (vf){0};
        for (i64 i = 0; i < W; i++) shift += v_load(x + i * VL);
        shift /= (float)W;
    }
    for (i64 i = 0, end; i < pixels; i = end) {
        vf a[4] = {{0}}, b[4] = {{0}};
        end = i64_min(pixels, i + run);
        for (; i + 4 <= end; i += 4) UNROLL for (int k = 0; k < 4; k++) {
            const vf v = v_load(x + (i + k) * VL) - shift;
            a[k] += v;
            b[k] += v * v;
        }
        for (; i < end; i++) {
            const vf v = v_load(x + i * VL) - shift;
            a[0] += v;
            b[0] += v * v;
        }
        v_join(&sums, (a[0] + a[1]) + (a[2] + a[3]));
        v_join(&products, (b[0] + b[1]) + (b[2] + b[3]));
    }
    const vf sum = v_joined_sum(sums), square = v_joined_sum(products), share = sum / (float)pixels;
    if (seen == 0) {
        *mean = (struct v_joined){shift + share, {0}};
        *squares = (struct v_joined){square - sum * share, {0}};
    } else {
        const float weight = (float)pixels / (float)(seen + pixels);
        v_join(mean, share * weight);       /* share is also how far this image's mean is from the shift */
        v_join(squares, square - sum * share + share * share * (weight * (float)seen));
    }
}

#endif
