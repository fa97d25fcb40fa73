/* AArch64 NEON, 32 registers of four lanes, always present there. */
#define VL 4
#include "families.h"

void fastnn_fill_neon(struct kernels *t) { fill_table(t, "neon"); }
