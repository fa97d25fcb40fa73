/* any x86-64 (SSE2), or any CPU at all: four lanes. */
#define VL 4
#include "families.h"

void fastnn_fill_baseline(struct kernels *t) { fill_table(t, "baseline"); }
