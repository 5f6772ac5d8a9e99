/* What a training step does on a CPU beside matrix products: each of these is one pass over memory, where PyTorch needs
 * several. ops.h has them; `Plain` in wikigpt/transformer.py is the same in plain PyTorch.
 *
 * Plain C with OpenMP, without headers of torch, so that a compiler needs a second for it. `threads` parts of the rows are
 * worked on at once, always the same parts, so that sums over rows come out the same each time.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

typedef int64_t i64;

/* Every function is called with threads parts of its rows. */
#define EACH_PART(rows)                                                                                                \
    _Pragma("omp parallel for num_threads(threads) schedule(static, 1)")                                              \
    for (i64 part = 0; part < threads; part++)                                                                         \
        for (i64 row = part * (rows) / threads; row < (part + 1) * (rows) / threads; row++)

static inline float from_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

static inline uint32_t to_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return bits;
}

/* e^x to about 2e-7 of itself: 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2]. Vectorised, unlike the C library's. */
static inline float exponential(float x) {
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    float n = rintf(x * 1.44269504f);
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.0f + r * (1.0f + r * (0.5f + r * (1.6666666e-1f + r * (4.1666664e-2f + r * (8.3334519e-3f + r * 1.3930436e-3f)))));
    return p * from_bits((uint32_t)((int32_t)n + 127) << 23);
}

static inline float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

/* bfloat16 is the upper half of a float32. */
static inline float widen(uint16_t x) { return from_bits((uint32_t)x << 16); }

static inline uint16_t narrow(float x) { /* to the nearest, ties to even; what is no number stays none */
    uint32_t bits = to_bits(x);
    uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return (bits & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : (uint16_t)rounded;
}

#define T uint16_t
#define LOAD(x) widen(x)
#define STORE(x) narrow(x)
#define NAME(name) name##_bfloat16
#include "ops.h"
#undef T
#undef LOAD
#undef STORE
#undef NAME

#define T float
#define LOAD(x) (x)
#define STORE(x) (x)
#define NAME(name) name##_float32
#include "ops.h"
