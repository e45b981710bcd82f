// The inner loops of attention.cpp: scores of 16 tokens, weighted sums of values.
//
// Both loops take a block of queries whose sums stay in registers while keys and values stream by,
// each rearranged in registers: a line of memory is touched once or a few times in close succession.
// Tokens lie far apart (all heads of one are side by side), often at the same place in few sets of
// the first cache, so that nothing is expected to stay there.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "vectors.h"

namespace {

constexpr int TILE = 64;          // tokens scored before they are weighed
constexpr int MOST_QUERIES = 12;  // queries of one register block

// What is multiplied: pairs of bfloat16; float32; bfloat16 that becomes float32 on the way.
enum Arithmetic { PAIRS, FLOATS, WIDENED };

// Or the sums of a loop over queries would live in memory.
#define LC_UNROLL _Pragma("GCC unroll 16")

// Tokens in memory, and those after them, which are fetched meanwhile.
using Tokens = const uint32_t* const*;

// A row of bfloat16 as floats.
void widen_row(const void* bf16, int head_dim, float* out) {
    const auto* from = static_cast<const __m256i*>(bf16);
    for (int d = 0; d < head_dim; d += 16)
        _mm512_store_ps(out + d, widen(_mm256_loadu_si256(from + d / 16)));
}

// ---- Scores --------------------------------------------------------------------------------------

template <Arithmetic A>
inline __m512 multiply_add(__m512 sum, __m512i a, __m512i b) {
    if constexpr (A == PAIRS) return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
    return _mm512_fmadd_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), sum);
}

// Four dwords at `offset` of 16 tokens, as four vectors with one token a lane.
inline void transpose(Tokens token, int64_t offset, __m512i out[4]) {
    __m512i z[4];
LC_UNROLL
    for (int i = 0; i < 4; i++) {
        const auto part = [&](int t) {
            return _mm_loadu_si128(reinterpret_cast<const __m128i *>(token[t] + offset));
        };
        z[i] = _mm512_castsi128_si512(part(i));
        z[i] = _mm512_inserti32x4(z[i], part(i + 4), 1);
        z[i] = _mm512_inserti32x4(z[i], part(i + 8), 2);
        z[i] = _mm512_inserti32x4(z[i], part(i + 12), 3);
    }
    const __m512i a = _mm512_unpacklo_epi32(z[0], z[1]), b = _mm512_unpackhi_epi32(z[0], z[1]);
    const __m512i c = _mm512_unpacklo_epi32(z[2], z[3]), d = _mm512_unpackhi_epi32(z[2], z[3]);
    out[0] = _mm512_unpacklo_epi64(a, c);
    out[1] = _mm512_unpackhi_epi64(a, c);
    out[2] = _mm512_unpacklo_epi64(b, d);
    out[3] = _mm512_unpackhi_epi64(b, d);
}

// Products of four dwords of 16 keys and the same of Q queries; `part` 0 and 1 are the even and odd
// dims where a dword holds two.
template <Arithmetic A, int Q>
inline void score_step(const __m512i key[4], const uint32_t* q, int stride, int part, __m512* sum) {
LC_UNROLL
    for (int j = 0; j < 4; j++) {
        __m512i x = key[j];
        int at = j;
        if constexpr (A == WIDENED) {
            const __m512i high = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
            x = part ? _mm512_and_si512(x, high) : _mm512_slli_epi32(x, 16);
            at = 2 * j + part;
        }
LC_UNROLL
        for (int i = 0; i < Q; i++) {
            const __m512i query = _mm512_set1_epi32(static_cast<int>(q[i * stride + at]));
            sum[i] = multiply_add<A>(sum[i], x, query);
        }
    }
}

// Scores of Q queries (dwords `stride` apart) and 16 keys of `dwords` dwords, to rows of a tile.
template <Arithmetic A, int Q>
void score(const uint32_t* q, int stride, Tokens token, Tokens ahead, int dwords, float* s) {
    __m512 sum[Q];
LC_UNROLL
    for (int i = 0; i < Q; i++) sum[i] = _mm512_setzero_ps();
    for (int d = 0; d < dwords; d += 4) {
        for (int t = d % 16; t < d % 16 + 4; t++)
            _mm_prefetch(reinterpret_cast<const char*>(ahead[t] + d), _MM_HINT_T1);
        __m512i key[4];
        transpose(token, d, key);
        constexpr int parts = A == WIDENED ? 2 : 1;
LC_UNROLL
        for (int part = 0; part < parts; part++)
            score_step<A, Q>(key, q + parts * d, stride, part, sum);
    }
LC_UNROLL
    for (int i = 0; i < Q; i++) _mm512_store_ps(s + i * TILE, sum[i]);
}

// ---- Weighted sums -------------------------------------------------------------------------------

// 32 dims from dword `at`: of two tokens interleaved (dims 0-3 8-11 16-19 24-27, then the rest), or
// of one.
template <Arithmetic A>
inline void values(Tokens token, int t, int at, __mmask16 low, __mmask16 high, __m512i x[2]) {
    if constexpr (A == PAIRS) {
        const __m512i a = _mm512_maskz_loadu_epi32(low, token[2 * t] + at);
        const __m512i b = _mm512_maskz_loadu_epi32(low, token[2 * t + 1] + at);
        x[0] = _mm512_unpacklo_epi16(a, b);
        x[1] = _mm512_unpackhi_epi16(a, b);
    } else if constexpr (A == FLOATS) {
        x[0] = _mm512_loadu_si512(token[t] + at);
        x[1] = _mm512_maskz_loadu_epi32(high, token[t] + at + 16);
    } else {
        const __m512i a = _mm512_maskz_loadu_epi32(low, token[t] + at);
        x[0] = _mm512_castps_si512(widen(_mm512_castsi512_si256(a)));
        x[1] = _mm512_castps_si512(widen(_mm512_extracti64x4_epi64(a, 1)));
    }
}

// Weighted values of `count` tokens (or pairs) added to 32 sums of each of Q queries, which shrink
// by `rescale` first. `dims` (16 or more) are left in the row.
template <Arithmetic A, int Q>
void weigh(const uint32_t* p, Tokens token, Tokens ahead, int at, int dims, int count,
           const float* rescale, float* y, int stride) {
    const __mmask16 low = dims >= 32 ? 0xffff : 0x00ff, high = dims >= 32 ? 0xffff : 0;
    __m512 sum[Q][2];
LC_UNROLL
    for (int i = 0; i < Q; i++)
LC_UNROLL
        for (int d = 0; d < 2; d++)
            sum[i][d] = _mm512_mul_ps(_mm512_load_ps(y + i * stride + d * 16),
                                      _mm512_set1_ps(rescale[i]));
    for (int t = 0; t < count; t++) {
        constexpr int tokens = A == PAIRS ? 2 : 1;
LC_UNROLL
        for (int j = 0; j < tokens; j++)
            _mm_prefetch(reinterpret_cast<const char*>(ahead[tokens * t + j] + at), _MM_HINT_T1);
        __m512i value[2];
        values<A>(token, t, at, low, high, value);
LC_UNROLL
        for (int i = 0; i < Q; i++) {
            const __m512i weight = _mm512_set1_epi32(static_cast<int>(p[i * TILE + t]));
LC_UNROLL
            for (int d = 0; d < 2; d++)
                sum[i][d] = multiply_add<A>(sum[i][d], value[d], weight);
        }
    }
LC_UNROLL
    for (int i = 0; i < Q; i++)
LC_UNROLL
        for (int d = 0; d < 2; d++) _mm512_store_ps(y + i * stride + d * 16, sum[i][d]);
}

// Undo the order of `pack_value_pair` in a row of sums.
void unpack_order(float* row, int padded) {
    const __m512i first =
        _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
    const __m512i second =
        _mm512_setr_epi32(8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
    for (int d = 0; d < padded; d += 32) {
        const __m512 a = _mm512_load_ps(row + d), b = _mm512_load_ps(row + d + 16);
        _mm512_store_ps(row + d, _mm512_permutex2var_ps(a, first, b));
        _mm512_store_ps(row + d + 16, _mm512_permutex2var_ps(a, second, b));
    }
}

// ---- By number of queries ------------------------------------------------------------------------

using Score = void (*)(const uint32_t*, int, Tokens, Tokens, int, float*);
using Weigh = void (*)(const uint32_t*, Tokens, Tokens, int, int, int, const float*, float*, int);

#define LC_BY_QUERIES(f) \
    {f<A, 1>, f<A, 2>, f<A, 3>, f<A, 4>, f<A, 5>, f<A, 6>, \
     f<A, 7>, f<A, 8>, f<A, 9>, f<A, 10>, f<A, 11>, f<A, 12>}

template <Arithmetic A>
constexpr Score SCORE[MOST_QUERIES] = LC_BY_QUERIES(score);
template <Arithmetic A>
constexpr Weigh WEIGH[MOST_QUERIES] = LC_BY_QUERIES(weigh);

#undef LC_BY_QUERIES

}  // namespace
