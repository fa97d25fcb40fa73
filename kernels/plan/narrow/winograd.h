/* Winograd's convolution of a block of images and its gradients, lanes = images: tiles of 6x6 inputs for 5x5 kernels (2x2 outputs)
 * and 3x3 kernels (4x4 outputs), 2.8 and 4 times fewer multiplications than the direct ones.
 *
 *   forward, of a tile:   out[o] = A^T (sum over c of U[o][c] * V[c]) A,  U = G w G^T,  V = B^T x B      * entry by entry, 36 of them
 *   backward:             Y[o] = A dy[o] A^T,  dw = G^T (sum over tiles and lanes of Y[o] * V[c]) G,
 *                         dx[c] = B (sum over o of U[o][c] * Y[o]) B^T, added where tiles overlap
 *
 * Points 0, 1, -1, 2, -2, infinity. Entry f = 6*j + i is column j and row i. Here are the transforms, the products of entries and
 * forward, which takes NARROW_GROUP tiles at a time through all entries; backward is in narrow/winograd_grad.h. LeNet-5's second layer:
 * the products run at the FMA peak and are 60 % of the time, the transforms of its 6 + 16 channels the rest.
 */
#ifndef FASTNN_NARROW_WINOGRAD_H
#define FASTNN_NARROW_WINOGRAD_H

#include "plan/narrow/conv.h"

#if VL == 16
enum { NARROW_GROUP = 5, NARROW_ROWS = 4, NARROW_PAIR_O = 4 };
#else
enum { NARROW_GROUP = 4, NARROW_ROWS = 3, NARROW_PAIR_O = 3 };
#endif

INLINE i64 narrow_tiles(const struct chain_layer *l, i64 m) { return round_up(narrow_tiles_h(l, m) * narrow_tiles_w(l, m), NARROW_GROUP); }

/* The first channel of tile i, when `count` are cut into equal tiles of at most NARROW_ROWS */
INLINE i64 narrow_cut(i64 count, i64 i) { return count * i / ceil_div(count, NARROW_ROWS); }

/* ---- one-dimensional transforms ---- */

/* t = B^T d */
INLINE void narrow_bt(const vf *d, vf *t) {
    vf a = d[4] - 4.0f * d[2], b = d[3] - 4.0f * d[1], e = d[4] - d[2], f = 2.0f * (d[3] - d[1]);
    t[0] = 4.0f * d[0] - 5.0f * d[2] + d[4];
    t[1] = a + b;
    t[2] = a - b;
    t[3] = e + f;
    t[4] = e - f;
    t[5] = 4.0f * d[1] - 5.0f * d[3] + d[5];
}

/* Entry j of B^T d, d[k] at p[k] + i */
INLINE vf narrow_bt_entry(const int j, const float *const *p, i64 i) {
#define D(k) v_load(p[k] + i)
    switch (j) {
    case 0: return 4.0f * D(0) - 5.0f * D(2) + D(4);
    case 1: return (D(4) - 4.0f * D(2)) + (D(3) - 4.0f * D(1));
    case 2: return (D(4) - 4.0f * D(2)) - (D(3) - 4.0f * D(1));
    case 3: return (D(4) - D(2)) + 2.0f * (D(3) - D(1));
    case 4: return (D(4) - D(2)) - 2.0f * (D(3) - D(1));
    default: return 4.0f * D(1) - 5.0f * D(3) + D(5);
    }
#undef D
}

/* d = B t */
INLINE void narrow_b(const vf *t, vf *d) {
    vf a = t[1] - t[2], b = t[1] + t[2], e = t[3] - t[4], f = t[3] + t[4];
    d[0] = 4.0f * t[0];
    d[1] = 4.0f * (t[5] - a) - 2.0f * e;
    d[2] = -5.0f * t[0] - 4.0f * b - f;
    d[3] = a + 2.0f * e - 5.0f * t[5];
    d[4] = t[0] + b + f;
    d[5] = t[5];
}

/* y = A^T t: m outputs */
INLINE void narrow_at(const int m, const vf *t, vf *y) {
    vf a = t[1] + t[2], b = t[1] - t[2], e = t[3] + t[4], f = t[3] - t[4];
    y[0] = t[0] + a + e;
    if (m == 2) {
        y[1] = b + 2.0f * f + t[5];
    } else {
        y[1] = b + 2.0f * f;
        y[2] = a + 4.0f * e;
        y[3] = b + 8.0f * f + t[5];
    }
}

/* Entry j of A y, y[k] at p + k * step, k < m */
INLINE vf narrow_a_entry(const int m, const int j, const float *p, i64 step) {
    static const float point[6] = {0, 1, -1, 2, -2, 0};
    if (j == 0) return v_load(p);
    if (j == 5) return v_load(p + (m - 1) * step);
    vf v = v_load(p + (m - 1) * step);
    UNROLL for (int k = m - 2; k >= 0; k--) v = v_load(p + k * step) + point[j] * v;
    return v;
}

/* g[j][k]: entry j of G w is the sum over k < n of g[j][k] * w[k] */
INLINE void narrow_g(i64 n, float g[6][5]) {
    static const float point[6] = {0, 1, -1, 2, -2, 0}, scale[6] = {4, -6, -6, 24, 24, 1};
    for (int j = 0; j < 6; j++) {
        float power = 1;
        for (i64 k = 0; k < n; k++, power *= point[j]) g[j][k] = j == 5 ? k == n - 1 : power / scale[j];
    }
}

/* ---- the kernel's transform, lanes = pairs (o, c) ---- */

/* to[j][i][VL] = sum over k < n of a[j][k] * from[k][i][VL], j < rows, i < cols */
INLINE void narrow_matrix(i64 rows, i64 n, i64 cols, const float *a, i64 a_row, i64 a_col, const float *from, float *to) {
    for (i64 j = 0; j < rows; j++) for (i64 i = 0; i < cols; i++) {
        vf sum = {0};
        for (i64 k = 0; k < n; k++) sum += a[j * a_row + k * a_col] * v_load(from + (k * cols + i) * VL);
        v_store(to + (j * cols + i) * VL, sum);
    }
}

/* to[j][i] = from[i][j] */
INLINE void narrow_swap(i64 rows, i64 cols, const float *from, float *to) {
    for (i64 i = 0; i < rows; i++) for (i64 j = 0; j < cols; j++) v_store(to + (j * rows + i) * VL, v_load(from + (i * cols + j) * VL));
}

/* packed [36][K][A] in tiles of A (narrow_cut), of weight (O, C, n, n). Forward A = O, K = C; for the input gradient A = C, K = O. */
KERNEL void narrow_winograd_pack(i64 n, i64 O, i64 C, const float *weight, int input_gradient, float *packed) {
    const i64 A = input_gradient ? C : O, K = input_gradient ? O : C, tiles = ceil_div(A, NARROW_ROWS);
    float g[6][5], w[25 * VL], t[36 * VL], u[36 * VL];
    narrow_g(n, g);
    for (i64 first = 0; first < O * C; first += VL) {
        i64 lanes = i64_min(VL, O * C - first);
        for (i64 i = 0; i < VL; i++) for (i64 k = 0; k < n * n; k++) w[k * VL + i] = weight[(first + i64_min(i, lanes - 1)) * n * n + k];
        narrow_matrix(6, n, n, g[0], 5, 1, w, t);       /* rows */
        narrow_swap(6, n, t, u);
        narrow_matrix(6, n, 6, g[0], 5, 1, u, t);       /* columns: [j][i] */
        for (i64 i = 0; i < lanes; i++) {
            i64 o = (first + i) / C, c = (first + i) % C, a = input_gradient ? c : o, k = input_gradient ? o : c;
            i64 tile = ceil_div((a + 1) * tiles, A) - 1, begin = narrow_cut(A, tile), AT = narrow_cut(A, tile + 1) - begin;
            float *to = packed + begin * K + k * AT + a - begin;
            for (i64 f = 0; f < 36; f++) to[f * O * C] = t[f * VL + i];
        }
    }
}

/* grad_weight (pairs, n*n) = G^T s G, s [36][pairs] */
KERNEL void narrow_winograd_unpack(i64 n, i64 pairs, const float *s, float *grad_weight) {
    float g[6][5], t[36 * VL], u[36 * VL];
    narrow_g(n, g);
    for (i64 first = 0; first < pairs; first += VL) {
        i64 lanes = i64_min(VL, pairs - first);
        for (i64 f = 0; f < 36; f++) v_store(u + f * VL, v_load_lanes(s + f * pairs + first, lanes, 0));
        narrow_matrix(n, 6, 6, g[0], 1, 5, u, t);       /* columns: [k][i] */
        narrow_swap(n, 6, t, u);
        narrow_matrix(n, 6, n, g[0], 1, 5, u, t);       /* rows: [r][k] */
        for (i64 i = 0; i < lanes; i++) for (i64 k = 0; k < n * n; k++) grad_weight[(first + i) * n * n + k] = t[k * VL + i];
    }
}

/* ---- products ---- */

/* out[a][g] = sum over k < K of u[k][a] * v[k][g], a < AT, g < NARROW_GROUP; steps in floats */
INLINE void narrow_multiply(const int AT, i64 K, const float *u, const float *v, i64 v_step, float *out, i64 out_step) {
    vf acc[NARROW_ROWS * NARROW_GROUP];
    UNROLL for (int i = 0; i < AT * NARROW_GROUP; i++) acc[i] = (vf){0};
    for (i64 k = 0; k < K; k++, u += AT, v += v_step) {
        vf b[NARROW_GROUP];
        UNROLL for (int g = 0; g < NARROW_GROUP; g++) b[g] = v_load(v + g * VL);
        UNROLL for (int a = 0; a < AT; a++) {
            vf w = v_set1(u[a]);
            UNROLL for (int g = 0; g < NARROW_GROUP; g++) acc[a * NARROW_GROUP + g] += w * b[g];
        }
    }
    UNROLL for (int i = 0; i < AT * NARROW_GROUP; i++) v_store(out + i / NARROW_GROUP * out_step + i % NARROW_GROUP * VL, acc[i]);
}

KERNEL void narrow_any_multiply(i64 AT, i64 K, const float *u, const float *v, i64 v_step, float *out, i64 out_step) {
    switch (AT) {
#if VL == 16
    case 4: narrow_multiply(4, K, u, v, v_step, out, out_step); break;
#endif
    case 3: narrow_multiply(3, K, u, v, v_step, out, out_step); break;
    case 2: narrow_multiply(2, K, u, v, v_step, out, out_step); break;
    default: narrow_multiply(1, K, u, v, v_step, out, out_step);
    }
}

/* Tiles of a run: as many runs as tiles in a run, where there are many. The transforms round more than a run of 256. */
INLINE i64 narrow_pairs_run(i64 T) {
    i64 run = 256;
    while (run * run < T) run *= 2;
    return run;
}

/* out[o][c] = sum over t < T of y[o][t] * v[c][t], o < OT, c < CT, lane by lane; steps in floats */
INLINE void narrow_pairs(const int OT, const int CT, i64 T, const float *y, i64 y_step, const float *v, float *out, i64 out_step) {
    const i64 run = narrow_pairs_run(T);
    for (i64 first = 0; first < T; first += run) {
        vf acc[NARROW_PAIR_O * NARROW_TILE];
        UNROLL for (int i = 0; i < OT * CT; i++) acc[i] = (vf){0};
        for (i64 t = first * VL; t < i64_min(T, first + run) * VL; t += VL) {
            vf b[NARROW_TILE];
            UNROLL for (int c = 0; c < CT; c++) b[c] = v_load(v + c * T * VL + t);
            UNROLL for (int o = 0; o < OT; o++) {
                vf a = v_load(y + o * y_step + t);
                UNROLL for (int c = 0; c < CT; c++) acc[o * CT + c] += a * b[c];
            }
        }
        UNROLL for (int i = 0; i < OT * CT; i++) {
            float *const to = out + i / CT * out_step + i % CT * VL;
            v_store(to, first ? v_load(to) + acc[i] : acc[i]);
        }
    }
}

INLINE void narrow_pairs_c(const int OT, int CT, i64 T, const float *y, i64 y_step, const float *v, float *out, i64 out_step) {
    switch (CT) {
#if VL == 16
    case 6: narrow_pairs(OT, 6, T, y, y_step, v, out, out_step); break;
    case 4: narrow_pairs(OT, 4, T, y, y_step, v, out, out_step); break;
#else
    case 3: narrow_pairs(OT, 3, T, y, y_step, v, out, out_step); break;
#endif
    case 2: narrow_pairs(OT, 2, T, y, y_step, v, out, out_step); break;
    default: narrow_pairs(OT, 1, T, y, y_step, v, out, out_step);
    }
}

/* out [O][C][VL] of y [O][T][VL], channels y_step floats apart, and v [C][T][VL] */
KERNEL void narrow_all_pairs(i64 O, i64 C, i64 T, const float *y, i64 y_step, const float *v, float *out) {
    for (i64 c = 0, CT; c < C; c += CT) {
        CT = narrow_tile(C - c);
        for (i64 o = 0, OT; o < O; o += OT) {
            const float *a = y + o * y_step, *b = v + c * T * VL;
            float *to = out + (o * C + c) * VL;
            OT = i64_min(NARROW_PAIR_O, O - o);
            switch (OT) {
#if VL == 16
            case 4: narrow_pairs_c(4, (int)CT, T, a, y_step, b, to, C * VL); break;
#endif
            case 3: narrow_pairs_c(3, (int)CT, T, a, y_step, b, to, C * VL); break;
            case 2: narrow_pairs_c(2, (int)CT, T, a, y_step, b, to, C * VL); break;
            default: narrow_pairs_c(1, (int)CT, T, a, y_step, b, to, C * VL);
            }
        }
    }
}

/* ---- forward ---- */

INLINE i64 narrow_winograd_forward_floats(const struct chain_layer *l, i64 m) {
    return NARROW_GROUP * VL * (36 * l->C + 6 * m * l->O + 6 * NARROW_ROWS);
}

/* v [36][C][group][VL] of tile g of the group, x at the tile's first input */
INLINE void narrow_transform_input(i64 C, const float *x, i64 plane, i64 row, float *v) {
    for (i64 c = 0; c < C; c++, x += plane, v += NARROW_GROUP * VL) {
        float t[36 * VL];
        UNROLL for (int r = 0; r < 6; r++) {
            vf d[6], e[6];
            UNROLL for (int k = 0; k < 6; k++) d[k] = v_load(x + r * row + k * VL);
            narrow_bt(d, e);
            UNROLL for (int j = 0; j < 6; j++) v_store(t + (j * 6 + r) * VL, e[j]);
        }
        for (int j = 0; j < 6; j++) {
            vf d[6], e[6];
            UNROLL for (int k = 0; k < 6; k++) d[k] = v_load(t + (j * 6 + k) * VL);
            narrow_bt(d, e);
            UNROLL for (int i = 0; i < 6; i++) v_store(v + (j * 6 + i) * C * NARROW_GROUP * VL, e[i]);
        }
    }
}

/* The outputs of tile (h, w) of channel o, from half [m][6][VL]: columns are still to be transformed */
INLINE void narrow_winograd_tile(const int m, const int pool, const struct narrow_conv *t, i64 o, i64 h, i64 w, const float *half) {
    const i64 PH = t->H / pool, PW = t->W / pool;
    vf bias = v_set1(t->bias ? t->bias[o] : 0.0f), out[16];
    UNROLL for (int r = 0; r < m; r++) {
        vf d[6];
        UNROLL for (int j = 0; j < 6; j++) d[j] = v_load(half + (r * 6 + j) * VL);
        narrow_at(m, d, out + r * m);
        UNROLL for (int k = 0; k < m; k++) out[r * m + k] += bias;
    }
    UNROLL for (int i = 0; i < m / pool; i++) UNROLL for (int k = 0; k < m / pool; k++) {
        i64 ph = h * (m / pool) + i, pw = w * (m / pool) + k;
        if (ph >= PH || pw >= PW) continue;
        vf v[4];
        UNROLL for (int p = 0; p < pool * pool; p++) v[p] = out[(i * pool + p / pool) * m + k * pool + p % pool];
        narrow_pool(pool * pool, v, t->relu, t->y.at + o * t->y.plane + ph * t->y.row + pw * VL,
                    t->where ? t->where + ((o * PH + ph) * PW + pw) * VL : NULL);
    }
}

/* weight as narrow_winograd_pack() has it */
INLINE void narrow_winograd_forward_m(const int m, const struct narrow_conv *t, float *work) {
    const i64 TH = ceil_div(t->H, m), TW = ceil_div(t->W, m), C = t->C, O = t->O, step = NARROW_GROUP * VL;
    const i64 tiles = ceil_div(O, NARROW_ROWS);
    float *v = work, *half = v + 36 * C * step, *full = half + 6 * m * O * step;
    for (i64 first = 0; first < TH * TW; first += NARROW_GROUP) {
        for (i64 g = 0; g < NARROW_GROUP; g++) {
            i64 at = i64_min(first + g, TH * TW - 1);
            narrow_transform_input(C, t->x.at + at / TW * m * t->x.row + at % TW * m * VL, t->x.plane, t->x.row, v + g * VL);
        }
        for (i64 j = 0; j < 6; j++)
            for (i64 tile = 0; tile < tiles; tile++) {
                i64 o = narrow_cut(O, tile), OT = narrow_cut(O, tile + 1) - o;
                for (i64 i = 0, f = 6 * j; i < 6; i++, f++)
                    narrow_any_multiply(OT, C, t->weight + (f * O + o) * C, v + f * C * step, step, full + i * OT * step, step);
                for (i64 k = 0; k < OT * NARROW_GROUP; k++) {
                    vf d[6], e[4];
                    UNROLL for (int i = 0; i < 6; i++) d[i] = v_load(full + i * OT * step + k * VL);
                    narrow_at(m, d, e);
                    UNROLL for (int r = 0; r < m; r++) v_store(half + ((o * NARROW_GROUP + k) * m + r) * 6 * VL + j * VL, e[r]);
                }
            }
        for (i64 o = 0; o < O; o++)
            for (i64 g = 0; g < NARROW_GROUP && first + g < TH * TW; g++) {
                i64 h = (first + g) / TW, w = (first + g) % TW;
                const float *from = half + (o * NARROW_GROUP + g) * m * 6 * VL;
                if (t->pool == 2) narrow_winograd_tile(m, 2, t, o, h, w, from);
                else narrow_winograd_tile(m, 1, t, o, h, w, from);
            }
    }
}
KERNEL void narrow_winograd_forward(i64 m, const struct narrow_conv *t, float *work) {
    if (m == 2) narrow_winograd_forward_m(2, t, work);
    else narrow_winograd_forward_m(4, t, work);
}

#endif
