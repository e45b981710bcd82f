// RMSNorm row by row: float32 arithmetic, rounded once. Binding: kernels/norm.py.
#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "vectors.h"

namespace {

constexpr int64_t SERIAL_WORK = 1 << 17;  // elements that are not worth a second thread

template <class T>
__m512 load(const T* at, __mmask16 mask) {
    if constexpr (sizeof(T) == 2) return widen(_mm256_maskz_loadu_epi16(mask, at));
    else return _mm512_maskz_loadu_ps(mask, at);
}

template <class T>
void store(T* at, __mmask16 mask, __m512 x) {
    if constexpr (sizeof(T) == 2) _mm256_mask_storeu_epi16(at, mask, narrow(x));
    else _mm512_mask_storeu_ps(at, mask, x);
}

template <class T>
void norm(const T* x, const T* weight, float eps, T* y, int64_t D) {
    const auto mask = [&](int64_t d) {
        return static_cast<__mmask16>((1u << std::min<int64_t>(D - d, 16)) - 1);
    };
    __m512 squares = _mm512_setzero_ps();
    for (int64_t d = 0; d < D; d += 16) {
        const __m512 v = load(x + d, mask(d));
        squares = _mm512_fmadd_ps(v, v, squares);
    }
    const float mean = _mm512_reduce_add_ps(squares) / static_cast<float>(D);
    const __m512 scale = _mm512_set1_ps(1.0f / std::sqrt(mean + eps));
    for (int64_t d = 0; d < D; d += 16) {
        const __m512 scaled = _mm512_mul_ps(load(x + d, mask(d)), scale);
        store(y + d, mask(d), _mm512_mul_ps(scaled, load(weight + d, mask(d))));
    }
}

template <class T>
void rows(const T* x, const T* weight, float eps, T* y, int64_t N, int64_t D, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1 && N * D >= SERIAL_WORK)
    for (int64_t n = 0; n < N; ++n) norm(x + n * D, weight, eps, y + n * D, D);
}

}  // namespace

// x, y [N, D], weight [D], contiguous.
extern "C" void lc_rms_norm_f32(const float* x, const float* weight, float eps, float* y, int64_t N,
                                int64_t D, int threads) {
    rows(x, weight, eps, y, N, D, threads);
}

extern "C" void lc_rms_norm_bf16(const uint16_t* x, const uint16_t* weight, float eps, uint16_t* y,
                                 int64_t N, int64_t D, int threads) {
    rows(x, weight, eps, y, N, D, threads);
}
