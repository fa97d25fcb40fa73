/* Checks the kernels of one instruction set against plain loops, without Python: for CPUs that are only emulated here.
 *
 *   .ci/kernels neon            compiles it for AArch64 and runs it under qemu; .ci/kernels avx2 runs it on this CPU
 *
 * Everything is run with one thread and with three. */
#include "base/threads.h"
#include "common.h"
#include "normalisation.h"
#include "operators.h"
#include "stages.h"
#include "training.h"

#define FILL_(isa) fastnn_fill_##isa
#define FILL(isa) FILL_(isa)

int main(void) {
    static const struct { const char *name; void (*run)(const struct kernels *); } parts[] = {
        {"products", check_products},       {"convolutions", check_convolutions}, {"pooling", check_pooling},
        {"activations", check_activations}, {"softmax", check_softmax},           {"dropout", check_dropout},
        {"batch norm", check_batch_norm},   {"group norm", check_group_norm},     {"recurrent", check_recurrent},
        {"losses", check_losses},           {"updates", check_updates},           {"dense stages", check_dense_stages},
        {"chains", check_chains},
    };
    struct kernels kernels;
    memset(&kernels, 0, sizeof kernels);
    FILL(ISA)(&kernels);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        const int before = checks, failed = failures;
        for (int threads = 1; threads <= 3; threads += 2) {
            fastnn_set_threads(threads);
            seed = i + 1; /* the same arrays for each number of threads */
            parts[i].run(&kernels);
            release();
        }
        printf("%-14s %5d checks%s\n", parts[i].name, checks - before, failures > failed ? ", some failed" : "");
    }
    printf("%s: %d checks, %d failures\n", kernels.isa, checks, failures);
    return failures ? 1 : 0;
}
