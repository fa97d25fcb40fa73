/* Denormal numbers, those below 1.2e-38, taken for zero for a while.
 *
 * The gradients of a model that is sure of its answers are such numbers, and so are the moments of a weight that has had none for
 * a while; CPUs take some hundred cycles for an operation on one: a step of Adam takes 16 times as long, that of a network 70 times.
 * So the gradients of layers, which are sums of products, go without them, and so do updates. Who sets the thread's control word puts
 * the former one back: a denormal number that a model computes counts (its logarithm is -88 to -103), and so do NumPy's.
 */
#ifndef FASTNN_DENORMALS_H
#define FASTNN_DENORMALS_H

#include <stdint.h>

#ifdef __SSE__
#include <immintrin.h>
static inline uint64_t float_control(void) { return _mm_getcsr(); }
static inline void set_float_control(uint64_t word) {
    __asm__ volatile("" ::: "memory");                  /* arithmetic between loads and stores stays on its side */
    _mm_setcsr((unsigned)word);
    __asm__ volatile("" ::: "memory");
}
#define DENORMALS_ARE_ZERO 0x8040u                      /* results (FTZ) and operands (DAZ) */
#elif defined(__aarch64__)
static inline uint64_t float_control(void) {
    uint64_t word;
    __asm__ volatile("mrs %0, fpcr" : "=r"(word));
    return word;
}
static inline void set_float_control(uint64_t word) { __asm__ volatile("msr fpcr, %0" : : "r"(word) : "memory"); }
#define DENORMALS_ARE_ZERO (1u << 24)                   /* FZ: both */
#else
static inline uint64_t float_control(void) { return 0; }
static inline void set_float_control(uint64_t word) { (void)word; }
#define DENORMALS_ARE_ZERO 0u
#endif

/* From here on; returns the former word, for set_float_control. */
static inline uint64_t without_denormals(void) {
    const uint64_t before = float_control();
    set_float_control(before | DENORMALS_ARE_ZERO);
    return before;
}

#endif
