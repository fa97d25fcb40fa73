/* Asks the CPU, once. The table starts as the baseline's and each better instruction set that the CPU has overrides it. */
#include "table.h"

#include <string.h>

struct kernels fastnn_kernels;

const char *const fastnn_isa_names[] = {
    "baseline",
#if defined(__x86_64__)
    "avx2",
    "avx512",
#elif defined(__aarch64__)
    "neon",
#endif
    NULL,
};

int fastnn_isa_supported(const char *isa) {
    if (!strcmp(isa, "baseline")) return 1;
#if defined(__x86_64__)
    __builtin_cpu_init(); /* reads cpuid and XCR0: the operating system must save the registers too */
    if (!strcmp(isa, "avx2")) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (!strcmp(isa, "avx512"))
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("fma");
#elif defined(__aarch64__)
    if (!strcmp(isa, "neon")) return 1;
#endif
    return 0;
}

static void fill(const char *isa) {
    struct kernels table; /* in one go: another thread may be about to call a kernel */
    fastnn_fill_baseline(&table);
#if defined(__x86_64__)
    if (!strcmp(isa, "avx2")) fastnn_fill_avx2(&table);
    if (!strcmp(isa, "avx512")) fastnn_fill_avx512(&table);
#elif defined(__aarch64__)
    if (!strcmp(isa, "neon")) fastnn_fill_neon(&table);
#endif
    fastnn_kernels = table;
}

int fastnn_select_isa(const char *isa) {
    const char *chosen = NULL;
    for (int i = 0; fastnn_isa_names[i]; i++) {
        int eligible = !isa || !strcmp(isa, fastnn_isa_names[i]);
        if (eligible && fastnn_isa_supported(fastnn_isa_names[i])) chosen = fastnn_isa_names[i];
    }
    if (!chosen) return -1;
    fill(chosen);
    return 0;
}
