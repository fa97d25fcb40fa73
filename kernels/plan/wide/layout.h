/* How the wide chain lays out one image's activations, and the copies in and out of that layout.
 *
 * Blocked: [CB][rows][cols][VL], blocks of VL channels, CB = ceil(C / VL); unused lanes of the last block are zero. A border of
 * zeros (the next convolution's padding, and what Winograd tiles read past the edge) is part of rows and cols. The network's
 * input alone is planar: [C][rows][cols].
 */
#ifndef FASTNN_WIDE_LAYOUT_H
#define FASTNN_WIDE_LAYOUT_H

#include "base/lanes.h"
#include "plan/stages.h"
#include "ops/wide_conv.h"

/* Activations of C channels, H x W pixels, whose pixel (0, 0) is at (top, left) of the rows x cols plane. lanes: VL, or 1 where planar. */
struct wide_place { i64 C, H, W, rows, cols, top, left, lanes; };

INLINE i64 wide_place_planes(const struct wide_place *p) { return ceil_div(p->C, p->lanes); }
INLINE i64 wide_place_plane(const struct wide_place *p) { return round_up(p->rows * p->cols * p->lanes, 16); }
INLINE i64 wide_place_floats(const struct wide_place *p) { return wide_place_planes(p) * wide_place_plane(p); }

/* The plane from its border on (what a convolution reads), and from pixel (0, 0) on (what the layer before writes). */
INLINE struct wide_view wide_bordered(const struct wide_place *p, float *at) {
    return (struct wide_view){at, wide_place_plane(p), p->cols * p->lanes};
}
INLINE struct wide_view wide_interior(const struct wide_place *p, float *at) {
    return wide_bordered(p, at + (p->top * p->cols + p->left) * p->lanes);
}

KERNEL void wide_clear_border(const struct wide_place *p, float *at) {
    struct wide_view v = wide_bordered(p, at);
    i64 right = p->cols - p->left - p->W;
    if (p->rows == p->H && p->cols == p->W) return;
    for (i64 c = 0; c < wide_place_planes(p); c++) {
        float *plane = v.at + c * v.plane;
        memset(plane, 0, (size_t)(p->top * v.row) * sizeof(float));
        memset(plane + (p->top + p->H) * v.row, 0, (size_t)((p->rows - p->top - p->H) * v.row) * sizeof(float));
        for (i64 h = p->top; h < p->top + p->H && p->cols > p->W; h++) {
            memset(plane + h * v.row, 0, (size_t)(p->left * p->lanes) * sizeof(float));
            memset(plane + h * v.row + (p->left + p->W) * p->lanes, 0, (size_t)(right * p->lanes) * sizeof(float));
        }
    }
}

/* Image n of the batch (C, H, W) into planes: floats, or bytes through table[c * 256 + value] */
KERNEL void wide_load_image(const struct wide_place *p, const void *input, const float *table, i64 n, float *at) {
    struct wide_view v = wide_interior(p, at);
    for (i64 c = 0; c < p->C; c++)
        for (i64 h = 0; h < p->H; h++) {
            float *row = v.at + c * v.plane + h * v.row;
            i64 first = ((n * p->C + c) * p->H + h) * p->W;
            if (table) {
                const uint8_t *x = (const uint8_t *)input + first;
                for (i64 w = 0; w < p->W; w++) row[w] = table[c * 256 + x[w]];
            } else {
                memcpy(row, (const float *)input + first, (size_t)p->W * sizeof(float));
            }
        }
}

#endif
