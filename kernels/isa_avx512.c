/* AVX-512 F/VL/DQ/BW, 32 registers of sixteen lanes. */
#define VL 16
#include "families.h"

void fastnn_fill_avx512(struct kernels *t) { fill_table(t, "avx512"); }
