/* Packed matrix multiplication.
 *
 *   C (M, N) = A (M, K) B (K, N) + bias          all three with any row and column stride, C with unit column stride
 *
 * Goto's scheme: A is packed into panels of MR rows and B into panels of NR columns, in slices of about 8 MiB; a micro-kernel keeps an
 * MR x NR tile of C in registers while it runs down KC of two panels, a run of base/sums.h at a time. Where A is small, each thread
 * packs the panels of B that it multiplies itself. Every element of C is summed in the same order whatever the cut into tasks, so
 * results do not depend on the number of threads. Up to SMALL_M rows skip the packing: there B is read once, as it lies.
 *
 * 1024^3, 1 thread of a Zen 5: 82 % of the FMA peak by AVX-512, 89 % by AVX2. The micro-kernel alone reaches 98 %; packing takes 7 %,
 * the rest goes to the L3 cache.
 */
#ifndef FASTNN_GEMM_H
#define FASTNN_GEMM_H

#include "base/sums.h"
#include "base/threads.h"

#if VL == 16              /* AVX-512, 32 registers: 24 accumulators, 2 of B, broadcasts folded into the FMA */
enum { GEMM_MR = 12, GEMM_NV = 2 };
#elif VL == 8             /* AVX2, 16 registers: 12 accumulators, 2 of B, 2 broadcasts */
enum { GEMM_MR = 6, GEMM_NV = 2 };
#else                     /* SSE2 or NEON */
enum { GEMM_MR = 6, GEMM_NV = 2 };
#endif
enum {
    GEMM_NR = GEMM_NV * VL,
    GEMM_KC = 1024,                 /* deep: C is read and written once in so many; panels of A and B stream from L2 */
    GEMM_MC = GEMM_MR * 6,          /* an A block, MC x KC, stays in L2 beside the B panel */
    GEMM_NC = 2048,
    GEMM_SLICE = 1 << 21,           /* floats of A and of B that are packed at a time */
    GEMM_OWN = 1 << 19,             /* floats of A beside which each thread packs panels of B for itself */
    GEMM_SMALL_M = 4,
    GEMM_LONG = 16 * GEMM_KC,       /* so much of K is added to C; the sums over a longer one are joined */
};

struct gemm {
    i64 M, N, K;
    const float *a; i64 a_row, a_col;
    const float *b; i64 b_row, b_col;
    float *c; i64 c_row;
    const float *bias_row;          /* (M,) or NULL: added along rows of C, one value a row */
    const float *bias_col;          /* (N,) or NULL */
    int accumulate;                 /* C += A B; no bias then */
    /* the slices being worked on: (m_len, k_len) of A and (k_len, n_len) of B, and their packed copies */
    i64 m0, m_len, n0, n_len, k0, k_len;
    float *packed_a, *packed_b;
    i64 m_blocks, n_step;           /* cut of C into tasks: GEMM_MC rows x n_step columns */
    int failed;
};

/* tile (MR, NR) = a panel (K, MR) times b panel (K, NR), the first nv vectors of each row: what lies beyond the last column of B is
 * not worth computing */
INLINE void gemm_micro(i64 K, const float *restrict a, const float *restrict b, const int nv, vf tile[GEMM_MR][GEMM_NV]) {
    const i64 run = sum_run(K);
    for (i64 begin = 0; begin < K; begin += run) {
        vf acc[GEMM_MR][GEMM_NV];
        UNROLL for (int i = 0; i < GEMM_MR; i++) UNROLL for (int j = 0; j < nv; j++) acc[i][j] = (vf){0};
        _Pragma("GCC unroll 4") for (i64 k = i64_min(run, K - begin); k > 0; k--) {
            vf bv[GEMM_NV];
            UNROLL for (int j = 0; j < nv; j++) bv[j] = *(const vf *)(b + j * VL);
            UNROLL for (int i = 0; i < GEMM_MR; i++) {
                vf av = v_set1(a[i]);
                UNROLL for (int j = 0; j < nv; j++) acc[i][j] += av * bv[j];
            }
            a += GEMM_MR;
            b += GEMM_NR;
        }
        if (begin) UNROLL for (int i = 0; i < GEMM_MR; i++) UNROLL for (int j = 0; j < nv; j++) tile[i][j] += acc[i][j];
        else UNROLL for (int i = 0; i < GEMM_MR; i++) UNROLL for (int j = 0; j < nv; j++) tile[i][j] = acc[i][j];
    }
}

/* dst (VL, VL), rows `width` apart, from columns `lane` apart */
static __attribute__((noinline)) void pack_transposed(float *restrict dst, i64 width, const float *restrict src, i64 lane) {
    vf rows[VL];
    UNROLL for (int q = 0; q < VL; q++) rows[q] = v_load(src + q * lane);
    v_transpose(rows);
    UNROLL for (int q = 0; q < VL; q++) v_store(dst + q * width, rows[q]);
}

/* dst (K, width) panels from src: row k, lane i at src[i*lane + k*step]; lanes past `count` become zeros, up to `filled`. */
INLINE void pack_panel(float *restrict dst, const float *restrict src, i64 count, i64 filled, i64 lane, i64 step, i64 K, const int width) {
    if (count == width && lane == 1) {
        for (i64 k = 0; k < K; k++, dst += width) memcpy(dst, src + k * step, sizeof(float) * (size_t)width);
        return;
    }
    i64 k = 0;
    if (step == 1 && count == width && width % VL == 0) for (; k + VL <= K; k += VL)
        for (i64 i = 0; i < width; i += VL) pack_transposed(dst + k * width + i, width, src + i * lane + k, lane);
    /* A transpose, four rows by one cache line of 16 columns at a time: rows that are a multiple of 4 KiB apart share an L1
     * set, and more of them would evict each other before their lines are used up. */
    if (step == 1) for (; k + 16 <= K; k += 16) {
        i64 i = 0;
        for (; i + 4 <= count; i += 4) {
            UNROLL for (int q = 0; q < 16; q += 4)
                transpose_4x4(dst + (k + q) * width + i, width, src + i * lane + k + q, lane);
        }
        for (; i < filled; i++) UNROLL for (int q = 0; q < 16; q++) dst[(k + q) * width + i] = i < count ? src[i * lane + k + q] : 0;
    }
    for (; k < K; k++) {
        for (i64 i = 0; i < count; i++) dst[k * width + i] = src[i * lane + k * step];
        for (i64 i = count; i < filled; i++) dst[k * width + i] = 0;
    }
}

/* Task: pack one panel of the slice of A, MR rows, or of B, NR columns. A packed slice lies in the order in which it is used:
 * [block of KC][panel][k][row or column of the panel]. */
static void gemm_pack_a(void *context, i64 index) {
    const struct gemm *g = context;
    i64 m = index * GEMM_MR, m_padded = round_up(g->m_len, GEMM_MR);
    for (i64 k = 0; k < g->k_len; k += GEMM_KC) {
        i64 k_len = i64_min(GEMM_KC, g->k_len - k);
        pack_panel(g->packed_a + k * m_padded + m * k_len, g->a + (g->m0 + m) * g->a_row + (g->k0 + k) * g->a_col,
                   i64_min(GEMM_MR, g->m_len - m), GEMM_MR, g->a_row, g->a_col, k_len, GEMM_MR);
    }
}

/* Packs the NR columns of the slice from column n on. In `packed` the panels of a block of KC hold `block` columns together, of which
 * this one begins at column `at`. */
static __attribute__((noinline)) void gemm_pack_columns(const struct gemm *g, i64 n, float *packed, i64 at, i64 block) {
    for (i64 k = 0; k < g->k_len; k += GEMM_KC) {
        i64 k_len = i64_min(GEMM_KC, g->k_len - k);
        pack_panel(packed + k * block + at * k_len, g->b + (g->k0 + k) * g->b_row + (g->n0 + n) * g->b_col,
                   i64_min(GEMM_NR, g->n_len - n), GEMM_NR, g->b_col, g->b_row, k_len, GEMM_NR);
    }
}

static void gemm_pack_b(void *context, i64 index) {
    const struct gemm *g = context;
    gemm_pack_columns(g, index * GEMM_NR, g->packed_b, index * GEMM_NR, round_up(g->n_len, GEMM_NR));
}

/* C tile: overwritten with bias + tile in the first block of K, added to in later ones */
INLINE void gemm_store(const struct gemm *g, i64 m, i64 n, i64 rows, i64 cols, int first, vf tile[GEMM_MR][GEMM_NV]) {
    float *c = g->c + m * g->c_row + n;
    if (first && (g->bias_row || g->bias_col)) {
        vf along_n[GEMM_NV];
        for (int j = 0; j < GEMM_NV; j++) {
            i64 lanes = i64_max(0, i64_min(VL, cols - j * VL));
            along_n[j] = g->bias_col ? v_load_partial(g->bias_col + n + j * VL, lanes, 0) : (vf){0};
        }
        for (i64 i = 0; i < GEMM_MR; i++) {
            vf along_m = v_set1(g->bias_row && i < rows ? g->bias_row[m + i] : 0.0f);
            for (int j = 0; j < (cols > VL ? GEMM_NV : 1); j++) tile[i][j] += along_m + along_n[j];
        }
    }
    if (rows == GEMM_MR && cols == GEMM_NR) {
        if (first) UNROLL for (int i = 0; i < GEMM_MR; i++) UNROLL for (int j = 0; j < GEMM_NV; j++)
            v_store(c + i * g->c_row + j * VL, tile[i][j]);
        else UNROLL for (int i = 0; i < GEMM_MR; i++) UNROLL for (int j = 0; j < GEMM_NV; j++)
            v_store(c + i * g->c_row + j * VL, v_load(c + i * g->c_row + j * VL) + tile[i][j]);
        return;
    }
    for (i64 i = 0; i < rows; i++, c += g->c_row) {
        for (i64 j = 0; j * VL < cols; j++) {
            i64 lanes = i64_min(VL, cols - j * VL);
            vf old = first ? (vf){0} : v_load_lanes(c + j * VL, lanes, 0);
            v_store_lanes(c + j * VL, old + tile[i][j], lanes);
        }
    }
}

/* Rows m_begin to m_end of A's block of K at k, times one packed panel of B */
static __attribute__((noinline)) void gemm_tiles(const struct gemm *g, i64 k, i64 m_begin, i64 m_end, i64 n, i64 cols, const float *b) {
    const i64 k_len = i64_min(GEMM_KC, g->k_len - k);
    const float *a = g->packed_a + k * round_up(g->m_len, GEMM_MR);
    for (i64 m = m_begin; m < m_end; m += GEMM_MR) {
        vf tile[GEMM_MR][GEMM_NV];
        if (cols > VL) gemm_micro(k_len, a + m * k_len, b, GEMM_NV, tile);
        else gemm_micro(k_len, a + m * k_len, b, 1, tile);
        gemm_store(g, g->m0 + m, g->n0 + n, i64_min(GEMM_MR, m_end - m), cols, g->k0 + k == 0 && !g->accumulate, tile);
    }
}

/* Task: MC rows and n_step columns of the slices' product. */
static void gemm_block(void *context, i64 index) {
    const struct gemm *g = context;
    i64 m_begin = index % g->m_blocks * GEMM_MC, m_end = i64_min(m_begin + GEMM_MC, g->m_len);
    i64 n_begin = index / g->m_blocks * g->n_step, n_end = i64_min(n_begin + g->n_step, g->n_len);
    for (i64 k = 0; k < g->k_len; k += GEMM_KC) {
        const float *b = g->packed_b + k * round_up(g->n_len, GEMM_NR);
        for (i64 n = n_begin; n < n_end; n += GEMM_NR)
            gemm_tiles(g, k, m_begin, m_end, n, i64_min(GEMM_NR, n_end - n), b + n * i64_min(GEMM_KC, g->k_len - k));
    }
}

/* Task: one panel of B, packed into a buffer of the thread's own, times all of A: nothing goes from one core's cache to another's. */
static void gemm_panel(void *context, i64 index) {
    struct gemm *g = context;
    const i64 n = index * GEMM_NR, cols = i64_min(GEMM_NR, g->n_len - n);
    float *b = fastnn_scratch(SCRATCH_GEMM_B, sizeof(float) * (size_t)(GEMM_NR * g->k_len));
    if (!b) { g->failed = 1; return; }
    gemm_pack_columns(g, n, b, 0, GEMM_NR);
    for (i64 k = 0; k < g->k_len; k += GEMM_KC) gemm_tiles(g, k, 0, g->m_len, n, cols, b + k * GEMM_NR);
}

/* ---- few rows: B is read once where it lies ---- */

/* y (M <= SMALL_M, columns n .. n + 2*VL) with unit column stride in B: accumulators along N, K outermost */
INLINE void gemm_rows_axpy(const struct gemm *g, const int M, i64 n, i64 cols) {
    enum { NV = 2 };
    if (cols == NV * VL) {
        const float *b = g->b + n;
        const i64 run = sum_run(g->K);
        struct v_joined total[GEMM_SMALL_M][NV] = {0};
        for (i64 begin = 0; begin < g->K; begin += run) {
            vf acc[GEMM_SMALL_M][NV];
            UNROLL for (int m = 0; m < M; m++) UNROLL for (int j = 0; j < NV; j++) acc[m][j] = (vf){0};
            for (i64 k = begin; k < i64_min(begin + run, g->K); k++, b += g->b_row) {
                vf bv[NV];
                UNROLL for (int j = 0; j < NV; j++) bv[j] = v_load(b + j * VL);
                UNROLL for (int m = 0; m < M; m++) {
                    vf av = v_set1(g->a[m * g->a_row + k * g->a_col]);
                    UNROLL for (int j = 0; j < NV; j++) acc[m][j] += av * bv[j];
                }
            }
            UNROLL for (int m = 0; m < M; m++) UNROLL for (int j = 0; j < NV; j++) v_join(&total[m][j], acc[m][j]);
        }
        UNROLL for (int m = 0; m < M; m++) UNROLL for (int j = 0; j < NV; j++) {
            float *c = g->c + m * g->c_row + n + j * VL;
            vf bias = v_set1(g->bias_row ? g->bias_row[m] : 0.0f);
            if (g->bias_col) bias += v_load(g->bias_col + n + j * VL);
            v_store(c, v_joined_sum(total[m][j]) + bias);
        }
        return;
    }
    for (i64 j = n; j < n + cols; j++) {
        for (int m = 0; m < M; m++) {
            double sum = 0;
            for (i64 k = 0; k < g->K; k++) sum += (double)g->a[m * g->a_row + k * g->a_col] * (double)g->b[k * g->b_row + j];
            g->c[m * g->c_row + j] = (float)sum + (g->bias_row ? g->bias_row[m] : 0.0f) + (g->bias_col ? g->bias_col[j] : 0.0f);
        }
    }
}

/* y (M <= SMALL_M, 2 columns at a time) with unit row stride in A and B: dot products, accumulators along K */
INLINE void gemm_rows_dot(const struct gemm *g, const int M, i64 n, i64 cols) {
    enum { NC = 2 };
    const i64 run = sum_run(ceil_div(g->K, VL)) * VL;
    for (; cols > 0; n += NC, cols -= NC) {
        const int last = cols < NC;
        const float *b[NC];
        UNROLL for (int j = 0; j < NC; j++) b[j] = g->b + (n + (last ? 0 : j)) * g->b_col;
        struct v_joined total[GEMM_SMALL_M][NC] = {0};
        for (i64 begin = 0; begin < g->K; begin += run) {
            vf acc[GEMM_SMALL_M][NC];
            UNROLL for (int m = 0; m < M; m++) UNROLL for (int j = 0; j < NC; j++) acc[m][j] = (vf){0};
            for (i64 k = begin; k < i64_min(begin + run, g->K); k += VL) {
                i64 lanes = i64_min(VL, g->K - k);
                vf bv[NC];
                UNROLL for (int j = 0; j < NC; j++) bv[j] = lanes == VL ? v_load(b[j] + k) : v_load_partial(b[j] + k, lanes, 0);
                UNROLL for (int m = 0; m < M; m++) {
                    const float *a = g->a + m * g->a_row + k;
                    vf av = lanes == VL ? v_load(a) : v_load_partial(a, lanes, 0);
                    UNROLL for (int j = 0; j < NC; j++) acc[m][j] += av * bv[j];
                }
            }
            UNROLL for (int m = 0; m < M; m++) UNROLL for (int j = 0; j < NC; j++) v_join(&total[m][j], acc[m][j]);
        }
        for (int m = 0; m < M; m++) for (int j = 0; j < (last ? 1 : NC); j++) {
            float *c = g->c + m * g->c_row + n + j;
            *c = v_sum(v_joined_sum(total[m][j])) + (g->bias_row ? g->bias_row[m] : 0.0f) + (g->bias_col ? g->bias_col[n + j] : 0.0f);
        }
    }
}

enum { GEMM_ROWS_STEP = 64 };       /* columns a task: a multiple of every vector width */

static void gemm_rows(void *context, i64 index) {
    const struct gemm *g = context;
    i64 n0 = index * GEMM_ROWS_STEP, n1 = i64_min(n0 + GEMM_ROWS_STEP, g->N);
    if (g->b_col == 1) {
        for (i64 n = n0; n < n1; n += 2 * VL) {
            i64 cols = i64_min(2 * VL, n1 - n);
            switch (g->M) {
            case 1: gemm_rows_axpy(g, 1, n, cols); break;
            case 2: gemm_rows_axpy(g, 2, n, cols); break;
            case 3: gemm_rows_axpy(g, 3, n, cols); break;
            default: gemm_rows_axpy(g, 4, n, cols); break;
            }
        }
    } else {
        switch (g->M) {
        case 1: gemm_rows_dot(g, 1, n0, n1 - n0); break;
        case 2: gemm_rows_dot(g, 2, n0, n1 - n0); break;
        case 3: gemm_rows_dot(g, 3, n0, n1 - n0); break;
        default: gemm_rows_dot(g, 4, n0, n1 - n0); break;
        }
    }
}

/* More than few rows, K up to GEMM_LONG. 0, or -1 out of memory. */
static int gemm_packed(struct gemm *g) {
    /* deep slices first: each one reads and writes C once; then as many rows as fit */
    i64 n_slice = i64_min(round_up(g->N, GEMM_NR), GEMM_NC), k_slice = i64_min(g->K, GEMM_SLICE / i64_max(n_slice, GEMM_MC) / GEMM_KC * GEMM_KC);
    i64 m_slice = i64_min(round_up(g->M, GEMM_MR), i64_max(1, GEMM_SLICE / k_slice / GEMM_MC) * GEMM_MC);
    g->packed_a = fastnn_scratch(SCRATCH_GEMM_A, sizeof(float) * (size_t)(m_slice * k_slice));
    /* Each thread packs panels of B for itself where A stays in its cache, there are panels enough for all threads, and more is packed
     * than written: threads that take turns at C's columns share the lines between them. */
    const int own = g->M <= i64_min(m_slice, g->K) && m_slice * k_slice <= GEMM_OWN && ceil_div(n_slice, GEMM_NR) >= 8;
    if (!own) g->packed_b = fastnn_scratch(SCRATCH_GEMM_B, sizeof(float) * (size_t)(n_slice * k_slice));
    if (!g->packed_a || (!own && !g->packed_b)) return -1;
    for (g->n0 = 0; g->n0 < g->N; g->n0 += n_slice) for (g->k0 = 0; g->k0 < g->K; g->k0 += k_slice) {
        g->n_len = i64_min(n_slice, g->N - g->n0);
        g->k_len = i64_min(k_slice, g->K - g->k0);
        i64 panels = ceil_div(g->n_len, GEMM_NR);
        if (!own) fastnn_parallel(panels, 4.0 * (double)(g->n_len * g->k_len), gemm_pack_b, g);
        for (g->m0 = 0; g->m0 < g->M; g->m0 += m_slice) {
            g->m_len = i64_min(m_slice, g->M - g->m0);
            g->m_blocks = ceil_div(g->m_len, GEMM_MC);
            /* eight tasks or more, so that a few threads end together */
            g->n_step = ceil_div(panels, i64_min(panels, ceil_div(8, g->m_blocks))) * GEMM_NR;
            fastnn_parallel(ceil_div(g->m_len, GEMM_MR), 4.0 * (double)(g->m_len * g->k_len), gemm_pack_a, g);
            const double flops = 2.0 * (double)g->m_len * (double)g->n_len * (double)g->k_len;
            if (own) fastnn_parallel(panels, flops, gemm_panel, g);
            else fastnn_parallel(g->m_blocks * ceil_div(g->n_len, g->n_step), flops, gemm_block, g);
        }
    }
    return g->failed ? -1 : 0;
}

/* A long K, GEMM_LONG of it at a time */
static int gemm_long(const struct gemm *g) {
    const i64 count = g->M * g->N, runs = ceil_div(g->K, SUM_RUN);
    float *part = fastnn_scratch(SCRATCH_GEMM_C, sizeof *part * (size_t)joined_floats(count, runs));
    if (!part) return -1;
    struct joined total = joined_at(part, count, runs);
    for (i64 k = 0; k < g->K; k += GEMM_LONG) {
        struct gemm slice = *g;
        slice.K = i64_min(GEMM_LONG, g->K - k);
        slice.a += k * g->a_col, slice.b += k * g->b_row;
        slice.c = part, slice.c_row = g->N;
        slice.bias_row = slice.bias_col = NULL, slice.accumulate = 0;
        if (gemm_packed(&slice)) return -1;
        joined_flush(&total);
    }
    joined_end(&total);
    for (i64 m = 0; m < g->M; m++) for (i64 n = 0; n < g->N; n++) {
        float *c = g->c + m * g->c_row + n;
        const float bias = (g->bias_row ? g->bias_row[m] : 0.0f) + (g->bias_col ? g->bias_col[n] : 0.0f);
        *c = (g->accumulate ? *c : bias) + part[m * g->N + n];
    }
    return 0;
}

/* C is overwritten, or added to. 0, or -1 out of memory. */
KERNEL int gemm(struct gemm *g) {
    double flops = 2.0 * (double)g->M * (double)g->N * (double)g->K;
    if (g->M == 0 || g->N == 0) return 0;
    if (g->M <= GEMM_SMALL_M && !g->accumulate && (g->b_col == 1 || (g->b_row == 1 && g->a_col == 1))) {
        fastnn_parallel(ceil_div(g->N, GEMM_ROWS_STEP), flops, gemm_rows, g);
        return 0;
    }
    if (g->K == 0) {
        for (i64 m = 0; m < g->M && !g->accumulate; m++) for (i64 n = 0; n < g->N; n++)
            g->c[m * g->c_row + n] = (g->bias_row ? g->bias_row[m] : 0.0f) + (g->bias_col ? g->bias_col[n] : 0.0f);
        return 0;
    }
    return g->K > GEMM_LONG ? gemm_long(g) : gemm_packed(g);
}

/* The kernel table's entry. Strides in elements. */
KERNEL int sgemm(i64 M, i64 N, i64 K, const float *a, i64 a_row, i64 a_col, const float *b, i64 b_row, i64 b_col,
                 const float *bias, float *c) {
    struct gemm g = {.M = M, .N = N, .K = K, .a = a, .a_row = a_row, .a_col = a_col, .b = b, .b_row = b_row,
                     .b_col = b_col, .c = c, .c_row = N, .bias_col = bias};
    return gemm(&g);
}

#endif
