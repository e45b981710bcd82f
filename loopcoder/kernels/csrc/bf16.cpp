// y = x W^T for few rows x: W is read from memory once, in its own row-major layout.
//
// Every (row of x, row of W) pair has one vector accumulator that walks the inputs in order, however
// many rows there are: a row's result does not depend on the others in the call. Up to FEW rows of x
// stream through W in the order of its addresses; more share blocks of it that stay in the cache.
#include <immintrin.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace {

using bf16 = uint16_t;

constexpr int W_ROWS = 4;         // rows of W that are read side by side
constexpr int X_ROWS = 4;         // rows of x whose accumulators fit into registers with them
constexpr int STEP = 32;          // inputs in one vector
constexpr int BLOCK = 32 * STEP;  // inputs of W that stay in the first cache for all rows of x
constexpr int GROUPS = 4;         // times W_ROWS share a block of x while it is there
constexpr int MAX_ROWS = 64;
constexpr int FEW = 4;            // rows of x that are streamed
constexpr int STRIP = 8;          // rows of W that are streamed side by side
constexpr int LINE = 64 / 2;      // values in a line of the cache

// The four vectors' sums.
inline __m128 reduce(const __m512* v) {
    const __m512 v01 = _mm512_add_ps(_mm512_unpacklo_ps(v[0], v[1]), _mm512_unpackhi_ps(v[0], v[1]));
    const __m512 v23 = _mm512_add_ps(_mm512_unpacklo_ps(v[2], v[3]), _mm512_unpackhi_ps(v[2], v[3]));
    const __m512d a = _mm512_castps_pd(v01), b = _mm512_castps_pd(v23);
    const __m512 each = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)),
                                      _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
    const __m256 half =
        _mm256_add_ps(_mm512_castps512_ps256(each), _mm512_extractf32x8_ps(each, 1));
    return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

// To nearest, ties to even; NaN stays NaN.
inline void store(bf16* at, __m128 value, __mmask8 mask) {
    const __m128i bits = _mm_castps_si128(value);
    const __m128i odd = _mm_and_si128(_mm_srli_epi32(bits, 16), _mm_set1_epi32(1));
    const __m128i rounded = _mm_add_epi32(bits, _mm_add_epi32(odd, _mm_set1_epi32(0x7fff)));
    const __m128i quiet = _mm_or_si128(bits, _mm_set1_epi32(0x400000));
    const __mmask8 nan = _mm_cmp_ps_mask(value, value, _CMP_UNORD_Q);
    const __m128i high = _mm_srli_epi32(_mm_mask_mov_epi32(rounded, nan, quiet), 16);
    _mm_mask_cvtepi32_storeu_epi16(at, mask, high);
}

// sum[n][m] += x[n] . w[m] over one vector of inputs, as `load_step` gives it. A masked load costs
// more than a plain one, so whole vectors are not masked.
template <int N, int M, class Load>
__attribute__((always_inline)) inline void step(__m512 (&sum)[N][M], const bf16* x, size_t K,
                                                const bf16* const* w, size_t k,
                                                const Load& load_step) {
    __m512bh w_step[M];
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) w_step[m] = load_step(w[m] + k);
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) {
        const __m512bh x_step = load_step(x + n * K + k);
#pragma GCC unroll 8
        for (int m = 0; m < M; ++m) sum[n][m] = _mm512_dpbf16_ps(sum[n][m], x_step, w_step[m]);
    }
}

constexpr auto whole = [](const bf16* at) { return (__m512bh)_mm512_loadu_si512(at); };

inline auto first_of(size_t inputs) {
    const __mmask32 mask = (1u << inputs) - 1;
    return [mask](const bf16* at) { return (__m512bh)_mm512_maskz_loadu_epi16(mask, at); };
}

// acc[n][m] += x[n] . w[m] over `inputs` inputs; asks for as many bytes of `ahead`'s first rows.
template <int N, int AHEAD>
void accumulate(__m512 (*acc)[W_ROWS], const bf16* x, size_t K, const bf16* const* w_rows,
                const bf16* const* ahead, int inputs) {
    const bf16* w[W_ROWS];
    __m512 sum[N][W_ROWS];
#pragma GCC unroll 8
    for (int m = 0; m < W_ROWS; ++m) w[m] = w_rows[m];
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n)
#pragma GCC unroll 8
        for (int m = 0; m < W_ROWS; ++m) sum[n][m] = acc[n][m];
    int k = 0;
    for (; k + STEP <= inputs; k += STEP) {
#pragma GCC unroll 8
        for (int m = 0; m < AHEAD; ++m) _mm_prefetch(ahead[m] + k, _MM_HINT_T1);
        step(sum, x, K, w, k, whole);
    }
    if (k < inputs) step(sum, x, K, w, k, first_of(inputs - k));
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n)
#pragma GCC unroll 8
        for (int m = 0; m < W_ROWS; ++m) acc[n][m] = sum[n][m];
}

template <int AHEAD>
void accumulate(int rows, __m512 (*acc)[W_ROWS], const bf16* x, size_t K, const bf16* const* w,
                const bf16* const* ahead, int inputs) {
    switch (rows) {
        case 1: return accumulate<1, AHEAD>(acc, x, K, w, ahead, inputs);
        case 2: return accumulate<2, AHEAD>(acc, x, K, w, ahead, inputs);
        case 3: return accumulate<3, AHEAD>(acc, x, K, w, ahead, inputs);
        default: return accumulate<X_ROWS, AHEAD>(acc, x, K, w, ahead, inputs);
    }
}

// One block of W against all rows of x, X_ROWS at a time; each pass asks for its share of `ahead`,
// the block to come.
void block(int N, __m512 (*acc)[W_ROWS], const bf16* x, size_t K, const bf16* const* w,
           const bf16* const* ahead, int inputs) {
    for (int n = 0, asked = 0; n < N; n += X_ROWS) {
        const int rows = std::min(X_ROWS, N - n), passes = (N - n + X_ROWS - 1) / X_ROWS;
        const int share = (W_ROWS - asked + passes - 1) / passes;
        const auto run = share == 4   ? accumulate<4>
                         : share == 2 ? accumulate<2>
                         : share == 1 ? accumulate<1>
                                      : accumulate<0>;
        run(rows, acc + n, x + n * K, K, w, ahead + asked, inputs);
        asked += share;
    }
}

// Outputs `first` .. `last` - 1 of all N rows.
void outputs(const bf16* x, const bf16* w, bf16* y, int N, size_t M, size_t K, size_t first,
             size_t last) {
    __m512 acc[GROUPS][MAX_ROWS][W_ROWS];
    // Past the end the last row is read again, and its results are not stored.
    const auto row = [&](size_t m) { return w + std::min(m, last - 1) * K; };
    for (size_t m0 = first; m0 < last; m0 += GROUPS * W_ROWS) {
        for (auto& group : acc) std::memset(static_cast<void*>(group), 0, sizeof(group[0]) * N);
        for (size_t k = 0; k < K; k += BLOCK) {
            const int inputs = static_cast<int>(std::min<size_t>(BLOCK, K - k));
            for (int g = 0; g < GROUPS; ++g) {
                const bf16 *rows[W_ROWS], *ahead[W_ROWS];
                for (int i = 0; i < W_ROWS; ++i) {
                    const size_t m = m0 + g * W_ROWS + i;
                    rows[i] = row(m) + k;
                    ahead[i] = k + BLOCK < K ? rows[i] + BLOCK : row(m + GROUPS * W_ROWS);
                }
                block(N, acc[g], x + k, K, rows, ahead, inputs);
            }
        }
        for (int g = 0; g < GROUPS; ++g) {
            const size_t m = m0 + g * W_ROWS;
            if (m >= last) break;
            const auto stored = static_cast<int>(std::min<size_t>(W_ROWS, last - m));
            for (int n = 0; n < N; ++n)
                store(y + n * M + m, reduce(acc[g][n]), static_cast<__mmask8>((1 << stored) - 1));
        }
    }
}

// STRIP rows of W against N <= FEW rows of x, while the strip to come is fetched line after line, in
// the order in which it lies in memory: that is what memory is fastest at.
template <int N>
void strip(const bf16* x, const bf16* const* w_rows, const bf16* ahead, size_t K, bf16* y, size_t M,
           int stored) {
    const bf16* w[STRIP];
    __m512 sum[N][STRIP];
#pragma GCC unroll 8
    for (int m = 0; m < STRIP; ++m) w[m] = w_rows[m];
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n)
#pragma GCC unroll 8
        for (int m = 0; m < STRIP; ++m) sum[n][m] = _mm512_setzero_ps();
    size_t k = 0;
    for (; k + STEP <= K; k += STEP) {
#pragma GCC unroll 8
        for (int line = 0; line < STRIP; ++line) _mm_prefetch(ahead + line * LINE, _MM_HINT_T1);
        ahead += STRIP * LINE;
        step(sum, x, K, w, k, whole);
    }
    if (k < K) step(sum, x, K, w, k, first_of(K - k));
    for (int n = 0; n < N; ++n)
        for (int m = 0; m < stored; m += W_ROWS)
            store(y + n * M + m, reduce(sum[n] + m),
                  static_cast<__mmask8>((1 << std::min(W_ROWS, stored - m)) - 1));
}

template <int N>
void stream(const bf16* x, const bf16* w, bf16* y, size_t M, size_t K, size_t first, size_t last) {
    for (size_t m0 = first; m0 < last; m0 += STRIP) {
        const bf16* rows[STRIP];
        // Past the end the last row is read again, and its results are not stored.
        for (int i = 0; i < STRIP; ++i) rows[i] = w + std::min(m0 + i, last - 1) * K;
        const auto stored = static_cast<int>(std::min<size_t>(STRIP, last - m0));
        strip<N>(x, rows, w + (m0 + STRIP) * K, K, y + m0, M, stored);
    }
}

void part(const bf16* x, const bf16* w, bf16* y, int N, size_t M, size_t K, size_t first,
          size_t last) {
    switch (N) {
        case 1: return stream<1>(x, w, y, M, K, first, last);
        case 2: return stream<2>(x, w, y, M, K, first, last);
        case 3: return stream<3>(x, w, y, M, K, first, last);
        case FEW: return stream<FEW>(x, w, y, M, K, first, last);
        default: return outputs(x, w, y, N, M, K, first, last);
    }
}

}  // namespace

// x [N, K], w [M, K], y [N, M], all contiguous bfloat16; N <= 64.
extern "C" void lc_linear_bf16(const bf16* x, const bf16* w, bf16* y, int N, size_t M, size_t K,
                               int threads) {
    if (threads == 1) return part(x, w, y, N, M, K, 0, M);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int t = 0; t < threads; ++t)
        part(x, w, y, N, M, K, M * t / threads, M * (t + 1) / threads);
}
