/* The product of small matrices that rows.h is made of, for operands that lie in L1 or L2 as they are:
 *
 *   c (M, N) = from + a (M, K) b (K, N)           a[m * am + k * ak], b[k * bk + n], c[m * cm + n], from[m * from_step + n]
 *
 * N is a multiple of VL: lanes run along the columns of b, the entries of a are broadcast. from: NULL for zero, a bias with from_step 0,
 * or c itself, which is added to. A tile is MR rows by up to PRODUCT_NV vectors of sums in registers; panels of columns are as equal as
 * can be. Sums of more than SUM_SHORT terms are made in runs.
 *
 * Cost: 2 M N K FLOPs; a vector operation needs one load of b a row of the tile and one broadcast a vector of it.
 */
#ifndef FASTNN_ROWS_PRODUCT_H
#define FASTNN_ROWS_PRODUCT_H

#include "base/sums.h"

#if VL == 16 || (VL == 4 && defined(__aarch64__))     /* 32 registers */
enum { PRODUCT_NV = 4, PRODUCT_ROWS = 8, PRODUCT_ROWS_WIDE = 6 };
#else                                                   /* 16 registers */
enum { PRODUCT_NV = 3, PRODUCT_ROWS = 6, PRODUCT_ROWS_WIDE = 4 };
#endif
enum { PRODUCT_FITS = 1 << 15 };                        /* floats of b that strips of rows may each go through */

struct product {
    i64 M, N, K;
    const float *a;
    i64 am, ak;
    const float *b;
    i64 bk;
    const float *from;
    i64 from_step;
    float *c;
    i64 cm;
};

INLINE void product_tile(const int MR, const int NV, const struct product *p, i64 K, const float *a, const float *b, const float *from,
                         i64 from_step, float *c) {
    const i64 am = p->am, ak = p->ak, bk = p->bk, cm = p->cm;
    vf acc[PRODUCT_ROWS][PRODUCT_NV];
    UNROLL for (int i = 0; i < MR; i++) UNROLL for (int j = 0; j < NV; j++)
        acc[i][j] = from ? v_load(from + i * from_step + j * VL) : (vf){0};
    for (i64 k = 0; k < K; k++, a += ak, b += bk) {
        vf bv[PRODUCT_NV];
        UNROLL for (int j = 0; j < NV; j++) bv[j] = v_load(b + j * VL);
        UNROLL for (int i = 0; i < MR; i++) {
            const vf av = v_set1(a[i * am]);
            UNROLL for (int j = 0; j < NV; j++) acc[i][j] += av * bv[j];
        }
    }
    UNROLL for (int i = 0; i < MR; i++) UNROLL for (int j = 0; j < NV; j++) v_store(c + i * cm + j * VL, acc[i][j]);
}

/* MR rows, columns n .. end in panels of NV vectors */
INLINE void product_strip(const int MR, const int NV, const struct product *p, i64 m, i64 n, i64 end) {
    const i64 run = sum_run(p->K);
    for (; n < end; n += NV * VL) {
        float *const c = p->c + m * p->cm + n;
        for (i64 k = 0; k < p->K; k += run) {
            const float *a = p->a + m * p->am + k * p->ak, *b = p->b + k * p->bk + n;
            const float *from = k ? c : p->from ? p->from + m * p->from_step + n : NULL;
            const i64 step = k ? p->cm : p->from_step, count = i64_min(run, p->K - k), vectors = i64_min(NV, (end - n) / VL);
            if (vectors == NV) product_tile(MR, NV, p, count, a, b, from, step, c);
            else if (NV > 1 && vectors == NV - 1) product_tile(MR, NV - 1, p, count, a, b, from, step, c);
            else for (i64 j = 0; j < vectors * VL; j += VL) product_tile(MR, 1, p, count, a, b + j, from ? from + j : NULL, step, c + j);
        }
    }
}

/* Rows m0 .. m1: MR at a time, then fewer; all panels of as many columns as leave b room in L2, or one that leaves it room in L1. */
INLINE void product_panels(const int MR, const int NV, const struct product *p, i64 m0, i64 m1) {
    const i64 width = p->N * p->K <= PRODUCT_FITS ? p->N : NV * VL;
    for (i64 n = 0; n < p->N; n += width) {
        const i64 end = i64_min(n + width, p->N);
        i64 m = m0;
        for (; m + MR <= m1; m += MR) product_strip(MR, NV, p, m, n, end);
        if (m + 4 <= m1 && MR > 4) product_strip(4, NV, p, m, n, end), m += 4;
        if (m + 2 <= m1) product_strip(2, NV, p, m, n, end), m += 2;
        if (m < m1) product_strip(1, NV, p, m, n, end);
    }
}

/* y[m * y_step] = bias + the sum of x[m * x_step + k] w[k], m < rows, k < K, of rows padded to vectors: for outputs so few that most lanes of a
 * tile would be padding. Lanes run along k; DOT_ROWS rows share a load of w, and VL rows are added up at once. */
enum { DOT_ROWS = VL < 8 ? VL : 8 };

static void product_dots(i64 rows, i64 K, const float *x, i64 x_step, const float *w, float bias, float *y, i64 y_step) {
    for (i64 m = 0; m < rows; m += VL) {
        vf sum[VL];
        UNROLL for (int i = 0; i < VL; i += DOT_ROWS) {
            const float *row[DOT_ROWS];
            UNROLL for (int j = 0; j < DOT_ROWS; j++) row[j] = x + i64_min(m + i + j, rows - 1) * x_step;
            UNROLL for (int j = 0; j < DOT_ROWS; j++) sum[i + j] = (vf){0};
            i64 k = 0;
            for (; k + VL <= K; k += VL) {
                const vf wv = v_load(w + k);
                UNROLL for (int j = 0; j < DOT_ROWS; j++) sum[i + j] += v_load(row[j] + k) * wv;
            }
            if (k < K) { /* the padding of x may be NaN, where its layer's input is infinite */
                const vf wv = v_load(w + k);
                UNROLL for (int j = 0; j < DOT_ROWS; j++) sum[i + j] += v_load_lanes(row[j] + k, K - k, 0) * wv;
            }
        }
        UNROLL for (int count = VL / 2; count; count /= 2) /* neighbouring lanes, and two vectors into one */
            UNROLL for (int i = 0; i < count; i++) sum[i] = V_EVEN(sum[2 * i], sum[2 * i + 1]) + V_ODD(sum[2 * i], sum[2 * i + 1]);
        const vf total = sum[0] + v_set1(bias);
        const i64 count = i64_min(VL, rows - m);
        if (y_step == 1) v_store_lanes(y + m, total, count);
        else for (i64 j = 0; j < count; j++) y[(m + j) * y_step] = total[j];
    }
}

/* Rows m0 .. m1 of c; K > 0 */
KERNEL void product_rows(const struct product *p, i64 m0, i64 m1) {
    const i64 vectors = p->N / VL;
    switch (ceil_div(vectors, ceil_div(vectors, PRODUCT_NV))) { /* of a panel */
    case 1: product_panels(PRODUCT_ROWS, 1, p, m0, m1); break;
    case 2: product_panels(PRODUCT_ROWS, 2, p, m0, m1); break;
    case 3: product_panels(PRODUCT_NV == 3 ? PRODUCT_ROWS_WIDE : PRODUCT_ROWS, 3, p, m0, m1); break;
    default: product_panels(PRODUCT_ROWS_WIDE, PRODUCT_NV, p, m0, m1);
    }
}

#endif
