"""C code of the operators: formulas of one entry, and functions of whole arrays.

A function's first comment gives the shapes. `WEIGHT` stands for the type of weights, float or signed char; those of
eight bits have a scale for each channel.
"""

from __future__ import annotations

__all__ = ["FORMULAS", "FUNCTIONS"]

# By the names of kernels/plan/operators.h and of activations: a, b, c are the inputs' entries, p and q the parameters.
FORMULAS = {
    "copy": "a",
    "add": "a + b",
    "sub": "a - b",
    "mul": "a * b",
    "div": "a / b",
    "pow": "powf(a, b)",
    "neg": "-a",
    "abs": "fabsf(a)",
    "exp": "expf(a)",
    "log": "logf(a)",
    "sqrt": "sqrtf(a)",
    "clamp": "a < p ? p : a > q ? q : a",
    "where": "a != 0 ? b : c",
    "equal": "a == b",
    "not_equal": "a != b",
    "less": "a < b",
    "less_equal": "a <= b",
    "greater": "a > b",
    "greater_equal": "a >= b",
    "truth": "a != 0",
    "normalize": "(a / p - b) / c",
    "sign": "(float)((a > 0) - (a < 0))",
    "round": "rintf(a)",
    "remainder": "a - b * floorf(a / b)",
    "minimum": "a <= b || a != a ? a : b",
    "maximum": "a >= b || a != a ? a : b",
    **{
        name: f"{name}f(a)"
        for name in (
            "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh", "expm1", "log1p",
            "exp2", "log2", "log10", "erf", "floor", "ceil", "trunc",
        )
    },
    "atan2": "atan2f(a, b)",
    "fmod": "fmodf(a, b)",
    "relu": "a > 0 ? a : 0",
    "leaky_relu": "a > 0 ? a : p * a",
    "elu": "a > 0 ? a : p * expm1f(a)",
    "sigmoid": "1 / (1 + expf(-a))",
    "tanh": "tanhf(a)",
    "gelu": "0.5f * a * (1 + erff(a * 0.707106781f))",
    "silu": "a / (1 + expf(-a))",
    "relu6": "a < 0 ? 0 : a > 6 ? 6 : a",
    "hardswish": "a <= -3 ? 0 : a >= 3 ? a : a * (a + 3) / 6",
    "softplus": "a > 20 ? a : fmaxf(a, 0) + log1pf(expf(-fabsf(a)))",
    "mish": "a * tanhf(a > 20 ? a : log1pf(expf(a)))",
}  # fmt: skip

FUNCTIONS = {
    "conv2d": """
/* y (O, OH, OW): cross-correlation of x (C, H, W) with w (O, C / G, KH, KW), plus b (O) or 0 */
static void conv2d(float *restrict y, const float *restrict x, const WEIGHT *restrict w, const float *restrict scale,
                   const float *restrict b, int C, int H, int W, int O, int KH, int KW, int OH, int OW,
                   int SH, int SW, int PH, int PW, int DH, int DW, int G) {
    for (int o = 0; o < O; o++, y += OH * OW) {
        for (int i = 0; i < OH * OW; i++) y[i] = 0;
        for (int c = 0; c < C / G; c++) {
            const float *plane = x + (o / (O / G) * (C / G) + c) * H * W;
            for (int kh = 0; kh < KH; kh++) {
                for (int kw = 0; kw < KW; kw++) {
                    const float v = *w++;
                    const int left = kw * DW - PW; /* the column of x for the first of y */
                    const int first = left < 0 ? (SW - 1 - left) / SW : 0;
                    const int end = W <= left ? 0 : (W - left + SW - 1) / SW < OW ? (W - left + SW - 1) / SW : OW;
                    for (int oh = 0; oh < OH; oh++) {
                        const int h = oh * SH + kh * DH - PH;
                        float *out = y + oh * OW;
                        if (h < 0 || h >= H || first >= end) continue;
                        const float *in = plane + h * W + first * SW + left;
                        if (SW == 1) for (int i = 0; i < end - first; i++) out[first + i] += v * in[i];
                        else for (int i = 0; i < end - first; i++) out[first + i] += v * in[i * SW];
                    }
                }
            }
        }
        for (int i = 0; i < OH * OW; i++) y[i] = y[i] * (scale ? scale[o] : 1) + (b ? b[o] : 0);
    }
}
""",
    "conv2d_blocks": """
/* The same, eight filters and columns at a time: w (O / 8, C / G, KH, KW, 8), O / G a multiple of 8 */
static void conv2d_blocks(float *restrict y, const float *restrict x, const WEIGHT *restrict w,
                          const float *restrict scale, const float *restrict b, int C, int H, int W, int O, int KH,
                          int KW, int OH, int OW, int SH, int SW, int PH, int PW, int DH, int DW, int G) {
    for (int o = 0; o < O; o += 8, w += 8 * (C / G) * KH * KW) {
        const float *group = x + o / (O / G) * (C / G) * H * W;
        for (int oh = 0; oh < OH; oh++) {
            for (int ow = 0; ow < OW; ow += 8) {
                const int columns = OW - ow < 8 ? OW - ow : 8;
                float s[8][8] = {{0}};
                for (int i = 0; i < C / G * KH; i++) {
                    const int h = oh * SH + i % KH * DH - PH;
                    if (h < 0 || h >= H) continue;
                    const float *row = group + (i / KH * H + h) * W;
                    const WEIGHT *v = w + i * KW * 8;
                    for (int kw = 0; kw < KW; kw++, v += 8) {
                        for (int p = 0; p < columns; p++) {
                            const int k = (ow + p) * SW + kw * DW - PW;
                            if (k < 0 || k >= W) continue;
                            const float in = row[k];
                            for (int j = 0; j < 8; j++) s[p][j] += in * v[j];
                        }
                    }
                }
                for (int p = 0; p < columns; p++)
                    for (int j = o; j < o + 8; j++)
                        y[(j * OH + oh) * OW + ow + p] = s[p][j - o] * (scale ? scale[j] : 1) + (b ? b[j] : 0);
            }
        }
    }
}
""",
    "conv_transpose2d": """
/* y (C, H, W): the transpose of conv2d on x (O, OH, OW), with w (O, C / G, KH, KW) */
static void conv_transpose2d(float *restrict y, const float *restrict x, const float *restrict w, int C, int H, int W,
                             int O, int KH, int KW, int OH, int OW, int SH, int SW, int PH, int PW, int DH, int DW,
                             int G) {
    for (int i = 0; i < C * H * W; i++) y[i] = 0;
    for (int o = 0; o < O; o++, x += OH * OW) {
        for (int c = 0; c < C / G; c++) {
            float *plane = y + (o / (O / G) * (C / G) + c) * H * W;
            for (int kh = 0; kh < KH; kh++) {
                for (int kw = 0; kw < KW; kw++, w++) {
                    for (int oh = 0; oh < OH; oh++) {
                        const int h = oh * SH + kh * DH - PH;
                        for (int ow = 0; h >= 0 && h < H && ow < OW; ow++) {
                            const int k = ow * SW + kw * DW - PW;
                            if (k >= 0 && k < W) plane[h * W + k] += *w * x[oh * OW + ow];
                        }
                    }
                }
            }
        }
    }
}
""",
    "dense": """
/* y (M, N) = x (M, K) w (N, K)^T + b (N) or 0; eight sums at a time */
static void dense(float *restrict y, const float *restrict x, const WEIGHT *restrict w, const float *restrict scale,
                  const float *restrict b, int M, int N, int K) {
    for (int m = 0; m < M; m++, x += K) {
        for (int n = 0; n < N; n++) {
            const WEIGHT *row = w + n * K;
            const int whole = K / 8 * 8;
            float s[8] = {0}, sum = 0;
            for (int k = 0; k < whole; k += 8)
                for (int i = 0; i < 8; i++) s[i] += x[k + i] * row[k + i];
            for (int k = whole; k < K; k++) sum += x[k] * row[k];
            for (int i = 0; i < 8; i++) sum += s[i];
            *y++ = sum * (scale ? scale[n] : 1) + (b ? b[n] : 0);
        }
    }
}
""",
    "matmul": """
/* y (M, N) = a (M, K) b (K, N) + bias (N) or 0; AM, AK, BK, BN are the strides */
static void matmul(float *restrict y, const float *restrict a, const float *restrict b, const float *restrict bias,
                   int M, int N, int K, int AM, int AK, int BK, int BN) {
    for (int m = 0; m < M; m++, y += N) {
        for (int n = 0; n < N; n++) y[n] = bias ? bias[n] : 0;
        for (int k = 0; k < K; k++)
            for (int n = 0; n < N; n++) y[n] += a[m * AM + k * AK] * b[k * BK + n * BN];
    }
}
""",
    "max_pool2d": """
/* y (P, OH, OW): the largest of each window of x (P, H, W) */
static void max_pool2d(float *restrict y, const float *restrict x, int P, int H, int W, int KH, int KW, int OH, int OW,
                       int SH, int SW, int PH, int PW) {
    for (int p = 0; p < P; p++, x += H * W) {
        for (int oh = 0; oh < OH; oh++) {
            for (int ow = 0; ow < OW; ow++) {
                float best = -INFINITY;
                for (int h = oh * SH - PH; h < oh * SH - PH + KH; h++)
                    for (int k = ow * SW - PW; k < ow * SW - PW + KW; k++)
                        if (h >= 0 && h < H && k >= 0 && k < W && !(x[h * W + k] <= best)) best = x[h * W + k];
                *y++ = best;
            }
        }
    }
}
""",
    "avg_pool2d": """
/* y (P, OH, OW): the mean of each window of x (P, H, W), padding counted or not */
static void avg_pool2d(float *restrict y, const float *restrict x, int P, int H, int W, int KH, int KW, int OH, int OW,
                       int SH, int SW, int PH, int PW, int padded) {
    for (int p = 0; p < P; p++, x += H * W) {
        for (int oh = 0; oh < OH; oh++) {
            for (int ow = 0; ow < OW; ow++) {
                float sum = 0;
                int count = 0;
                for (int h = oh * SH - PH; h < oh * SH - PH + KH; h++)
                    for (int k = ow * SW - PW; k < ow * SW - PW + KW; k++)
                        if (h >= 0 && h < H && k >= 0 && k < W) sum += x[h * W + k], count++;
                *y++ = sum / (padded ? KH * KW : count);
            }
        }
    }
}
""",
    "average": """
/* y (P): the means of the rows of x (P, N) */
static void average(float *restrict y, const float *restrict x, int P, int N) {
    for (int p = 0; p < P; p++, x += N) {
        float sum = 0;
        for (int i = 0; i < N; i++) sum += x[i];
        y[p] = sum / N;
    }
}
""",
    "scale_shift": """
/* y (C, P) = x (C, P) * scale (C) + shift (C); y may be x */
static void scale_shift(float *y, const float *x, const float *scale, const float *shift, int C, int P) {
    for (int c = 0; c < C; c++)
        for (int i = c * P; i < (c + 1) * P; i++) y[i] = x[i] * scale[c] + shift[c];
}
""",
    "group_norm": """
/* y (C, P): x (C, P) normalised in groups of channels, times weight (C), plus bias (C); y may be x */
static void group_norm(float *y, const float *x, const float *weight, const float *bias, int C, int P, int groups,
                       int centred, float eps) {
    const int size = C / groups * P;
    for (int g = 0; g < groups; g++) {
        float mean = 0, var = 0;
        for (int i = g * size; centred && i < (g + 1) * size; i++) mean += x[i];
        mean /= (float)size;
        for (int i = g * size; i < (g + 1) * size; i++) var += (x[i] - mean) * (x[i] - mean);
        const float factor = 1 / sqrtf(var / (float)size + eps);
        for (int i = g * size; i < (g + 1) * size; i++)
            y[i] = (x[i] - mean) * factor * (weight ? weight[i / P] : 1) + (bias ? bias[i / P] : 0);
    }
}
""",
    "softmax": """
/* The probabilities of each row of x (M, N), or with `logs` their logarithms; y may be x */
static void softmax(float *y, const float *x, int M, int N, int logs) {
    for (int m = 0; m < M; m++, x += N, y += N) {
        float most = x[0], sum = 0;
        for (int i = 1; i < N; i++) most = x[i] > most ? x[i] : most;
        for (int i = 0; i < N; i++) sum += expf(x[i] - most);
        for (int i = 0; i < N; i++) y[i] = logs ? x[i] - most - logf(sum) : expf(x[i] - most) / sum;
    }
}
""",
    "extremum": """
/* values and where (A, C), each or 0: the largest (or least) of x (A, B, C) along B, the first of equals */
static void extremum(float *values, float *where, const float *x, int A, int B, int C, int least) {
    for (int i = 0; i < A * C; i++) {
        const float *column = x + i / C * B * C + i % C;
        int best = 0;
        for (int b = 1; b < B; b++)
            if (least ? column[b * C] < column[best * C] : column[b * C] > column[best * C]) best = b;
        if (values) values[i] = column[best * C];
        if (where) where[i] = (float)best;
    }
}
""",
    "cumsum": """
/* y: the sums of x (A, B, C) up to each place along B */
static void cumsum(float *y, const float *x, int A, int B, int C) {
    for (int i = 0; i < A * C; i++) {
        float sum = 0;
        for (int b = 0, at = i / C * B * C + i % C; b < B; b++, at += C) y[at] = sum += x[at];
    }
}
""",
    "recurrent": """
/* A recurrent layer: y (T, B, H), of LSTM with the last c behind it; g (T, B, G * H) is the input's part, w (G * H, H),
 * c (T, B, H) LSTM's cells, h0 and c0 (B, H) or 0. mode: 0 tanh, 1 ReLU, 2 GRU, with b (H) or 0 as n's hidden bias,
 * 3 LSTM */
static void recurrent(float *restrict y, const float *g, float *c, const float *w, const float *b, const float *h0,
                      const float *c0, int T, int B, int H, int mode, int reverse) {
    const int G = mode == 3 ? 4 : mode == 2 ? 3 : 1;
    for (int i = 0; i < T * B; i++) {
        const int r = i % B, at = (reverse ? T - 1 - i / B : i / B) * B + r, before = reverse ? at + B : at - B;
        const float *h = i >= B ? y + before * H : h0 ? h0 + r * H : 0;
        const float *cell = mode == 3 && i >= B ? c + before * H : c0 ? c0 + r * H : 0;
        for (int j = 0; j < H; j++) {
            float u[4] = {0};
            for (int k = 0; k < G; k++) {
                for (int l = 0; h && l < H; l++) u[k] += w[(k * H + j) * H + l] * h[l];
                if (mode != 2 || k < 2) u[k] += g[(at * G + k) * H + j];
            }
            float v = mode == 0 ? tanhf(u[0]) : u[0] > 0 ? u[0] : 0;
            if (mode >= 2) u[0] = 1 / (1 + expf(-u[0])), u[1] = 1 / (1 + expf(-u[1]));
            if (mode == 2) {
                v = tanhf(g[(at * 3 + 2) * H + j] + u[0] * (u[2] + (b ? b[j] : 0)));
                v += u[1] * ((h ? h[j] : 0) - v);
            }
            if (mode == 3) {
                c[at * H + j] = u[1] * (cell ? cell[j] : 0) + u[0] * tanhf(u[2]);
                v = tanhf(c[at * H + j]) / (1 + expf(-u[3]));
                if (i >= (T - 1) * B) y[(T * B + r) * H + j] = c[at * H + j];
            }
            y[at * H + j] = v;
        }
    }
}
""",
}
