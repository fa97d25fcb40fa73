/* AVX2 and FMA, 16 registers of eight lanes. */
#define VL 8
#include "families.h"

void fastnn_fill_avx2(struct kernels *t) { fill_table(t, "avx2"); }
