// y = x W^T for few rows x and a W of 8 or 4 bits, each `group` inputs of an output with one scale.
//
// Rows of x are quantised to 8 bits over every 32 inputs, the products are summed as integers
// (vpdpbusd, exact), and each sum of 32 enters a float32 accumulator by the two scales. A row's
// result does not depend on the others in the call.
//
// W lies packed in tiles of 16 outputs, the lanes of a vector. A tile is a run of blocks of 32
// inputs; vector j of a block holds inputs 4 j .. 4 j + 3 of every output, offset to be unsigned.
// With 4 bits, vector j has step j in its low and step j + 4 in its high nibbles. Scales: [tile,
// group, 16].
#include <immintrin.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

namespace {

constexpr int TILE = 16;    // outputs
constexpr int BLOCK = 32;   // inputs
constexpr int STEPS = 8;    // vectors of 4 inputs in a block
constexpr int MAX_ROWS = 64;  // rows of x in one pass over W

enum Float { BF16 = 0, F16 = 1, F32 = 2 };

struct Matrix {
    const uint8_t* packed;
    const void* scale;
    Float scale_type;
    size_t M, K, group;
    size_t blocks() const { return K / BLOCK; }
    size_t tiles() const { return (M + TILE - 1) / TILE; }
};

// 32 inputs of one row of x.
struct XBlock {
    int32_t step[STEPS];
    float scale;
    int32_t correction;  // takes the offset of W's values out of the integer sum
};

template <int BITS>
constexpr int OFFSET = BITS == 8 ? 128 : 8;
template <int BITS>
constexpr int BLOCK_BYTES = TILE * BLOCK * BITS / 8;

// How far ahead W is asked for. With few rows the processor's own prefetching keeps up, and asking
// for more than it does slows it down; with more rows it stops between bursts of arithmetic.
template <int BITS>
size_t bytes_ahead(int N) {
    return N <= (BITS == 8 ? 2 : 1) ? 1024 : 8192;
}

inline __m512 load16(const void* from, size_t at, Float type) {
    if (type == F32) return _mm512_loadu_ps(static_cast<const float*>(from) + at);
    const __m256i half =
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(static_cast<const uint16_t*>(from) + at));
    if (type == F16) return _mm512_cvtph_ps(half);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

inline __m256i to_bf16(__m512 value) {
    const __m512i bits = _mm512_castps_si512(value);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
    const __mmask16 nan = _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
    return _mm512_cvtepi32_epi16(
        _mm512_srli_epi32(_mm512_mask_mov_epi32(rounded, nan, quiet), 16));
}

inline void store16(void* to, size_t at, Float type, __m512 value, __mmask16 mask) {
    if (type == F32)
        _mm512_mask_storeu_ps(static_cast<float*>(to) + at, mask, value);
    else
        _mm256_mask_storeu_epi16(static_cast<uint16_t*>(to) + at, mask, to_bf16(value));
}

// The scale is NaN where an input is not finite, so that the row's outputs are NaN.
inline XBlock quantize(const void* x, size_t at, Float type, int offset) {
    const __m512 a = load16(x, at, type), b = load16(x, at + 16, type);
    // Magnitudes compare as integers, NaN above everything.
    const uint32_t bits = _mm512_reduce_max_epu32(
        _mm512_max_epu32(_mm512_castps_si512(_mm512_abs_ps(a)), _mm512_castps_si512(_mm512_abs_ps(b))));
    XBlock out{};
    float largest;
    __builtin_memcpy(&largest, &bits, 4);
    if (bits >= 0x7f800000u) out.scale = __builtin_nanf("");
    if (bits >= 0x7f800000u || largest < 1e-30f) return out;
    const __m512 inverse = _mm512_set1_ps(127.0f / largest);
    const __m512i qa = _mm512_cvtps_epi32(_mm512_mul_ps(a, inverse));
    const __m512i qb = _mm512_cvtps_epi32(_mm512_mul_ps(b, inverse));
    auto* steps = reinterpret_cast<__m128i*>(out.step);
    _mm_storeu_si128(steps, _mm512_cvtsepi32_epi8(qa));
    _mm_storeu_si128(steps + 1, _mm512_cvtsepi32_epi8(qb));
    out.scale = largest / 127.0f;
    out.correction = -offset * _mm512_reduce_add_epi32(_mm512_add_epi32(qa, qb));
    return out;
}

// The 8 steps of a block as unsigned bytes.
template <int BITS>
inline void unpack(const uint8_t* block, __m512i (&w)[STEPS]) {
    constexpr int VECTORS = STEPS * BITS / 8;
    const __m512i low = _mm512_set1_epi8(15);
#pragma GCC unroll 8
    for (int j = 0; j < VECTORS; ++j) {
        const __m512i v = _mm512_loadu_si512(block + 64 * j);
        w[j] = BITS == 8 ? v : _mm512_and_si512(v, low);
        if (BITS == 4) w[j + VECTORS] = _mm512_and_si512(_mm512_srli_epi16(v, 4), low);
    }
}

// x: [blocks, N]. Tiles `first` .. `last` - 1 of y [N, M].
template <int BITS>
void outputs(const Matrix& W, const XBlock* x, void* y, Float y_type, int N, size_t first,
             size_t last) {
    const size_t blocks = W.blocks(), per_group = W.group / BLOCK, groups = W.K / W.group;
    const size_t ahead = bytes_ahead<BITS>(N);
    __m512 sum[MAX_ROWS];
    for (size_t tile = first; tile < last; ++tile) {
        const uint8_t* block = W.packed + tile * blocks * BLOCK_BYTES<BITS>;
        std::fill_n(sum, N, _mm512_setzero_ps());
        const XBlock* row = x;
        for (size_t g = 0; g < groups; ++g) {
            const __m512 w_scale = load16(W.scale, (tile * groups + g) * TILE, W.scale_type);
            for (size_t b = 0; b < per_group; ++b, block += BLOCK_BYTES<BITS>) {
                for (int line = 0; line < BLOCK_BYTES<BITS>; line += 64)
                    _mm_prefetch(block + ahead + line, _MM_HINT_T1);
                __m512i w[STEPS];
                unpack<BITS>(block, w);
                for (int n = 0; n < N; ++n, ++row) {
                    __m512i dot = _mm512_set1_epi32(row->correction);
#pragma GCC unroll 8
                    for (int j = 0; j < STEPS; ++j)
                        dot = _mm512_dpbusd_epi32(dot, w[j], _mm512_set1_epi32(row->step[j]));
                    const __m512 scale = _mm512_mul_ps(w_scale, _mm512_set1_ps(row->scale));
                    sum[n] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), scale, sum[n]);
                }
            }
        }
        const size_t stored = std::min<size_t>(TILE, W.M - tile * TILE);
        for (int n = 0; n < N; ++n)
            store16(y, n * W.M + tile * TILE, y_type, sum[n],
                    static_cast<__mmask16>((1u << stored) - 1));
    }
}

template <int BITS>
void linear(const Matrix& W, const void* x, Float x_type, void* y, int N, int threads) {
    const size_t blocks = W.blocks(), tiles = W.tiles();
    const std::unique_ptr<XBlock[]> quantized(new XBlock[blocks * N]);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
#pragma omp for schedule(static)
        for (size_t b = 0; b < blocks; ++b)
            for (int n = 0; n < N; ++n)
                quantized[b * N + n] = quantize(x, n * W.K + b * BLOCK, x_type, OFFSET<BITS>);
#pragma omp for schedule(static)
        for (int part = 0; part < threads; ++part)
            outputs<BITS>(W, quantized.get(), y, x_type, N, tiles * part / threads,
                          tiles * (part + 1) / threads);
    }
}

// The 16 bytes of outputs i, i + 4, i + 8, i + 12 at steps 0 .. 3, as the four quarters of bytes[i].
inline void by_output(const __m512i* step, __m512i* bytes) {
    const __m512i a = _mm512_unpacklo_epi32(step[0], step[1]);
    const __m512i b = _mm512_unpacklo_epi32(step[2], step[3]);
    const __m512i c = _mm512_unpackhi_epi32(step[0], step[1]);
    const __m512i d = _mm512_unpackhi_epi32(step[2], step[3]);
    bytes[0] = _mm512_unpacklo_epi64(a, b);
    bytes[1] = _mm512_unpackhi_epi64(a, b);
    bytes[2] = _mm512_unpacklo_epi64(c, d);
    bytes[3] = _mm512_unpackhi_epi64(c, d);
}

// The outputs of tile `tile` as rows of `out_type`.
template <int BITS>
void expand_tile(const Matrix& W, size_t tile, void* out, Float out_type) {
    const size_t blocks = W.blocks(), groups = W.K / W.group;
    const int outputs = static_cast<int>(std::min<size_t>(TILE, W.M - tile * TILE));
    const uint8_t* block = W.packed + tile * blocks * BLOCK_BYTES<BITS>;
    const __m512i offset = _mm512_set1_epi32(OFFSET<BITS>);
    alignas(64) uint8_t bytes[2][4][4][16];  // [half of the block, o % 4, o / 4, input]
    alignas(64) float scales[TILE];
    for (size_t b = 0; b < blocks; ++b, block += BLOCK_BYTES<BITS>) {
        __m512i w[STEPS];
        unpack<BITS>(block, w);
        by_output(w, reinterpret_cast<__m512i*>(bytes[0]));
        by_output(w + 4, reinterpret_cast<__m512i*>(bytes[1]));
        const size_t group = b * BLOCK / W.group;
        _mm512_store_ps(scales, load16(W.scale, (tile * groups + group) * TILE, W.scale_type));
        for (int o = 0; o < outputs; ++o)
            for (int half = 0; half < 2; ++half) {
                const auto* from = reinterpret_cast<const __m128i*>(bytes[half][o % 4][o / 4]);
                const __m512i value =
                    _mm512_sub_epi32(_mm512_cvtepu8_epi32(_mm_load_si128(from)), offset);
                store16(out, o * W.K + b * BLOCK + 16 * half, out_type,
                        _mm512_mul_ps(_mm512_cvtepi32_ps(value), _mm512_set1_ps(scales[o])),
                        0xffff);
            }
    }
}

}  // namespace

// x [N, K] and y [N, M] of `x_type`, contiguous; K a multiple of `group`, `group` of 32.
extern "C" void lc_linear_grouped(const void* x, const void* packed, const void* scale, void* y,
                                  int bits, int x_type, int scale_type, int N, size_t M, size_t K,
                                  size_t group, int threads) {
    const Matrix W{static_cast<const uint8_t*>(packed), scale, static_cast<Float>(scale_type), M, K,
                   group};
    const auto run = bits == 8 ? linear<8> : linear<4>;
    const size_t bytes = x_type == F32 ? 4 : 2;
    for (int n = 0; n < N; n += MAX_ROWS)
        run(W, static_cast<const char*>(x) + n * K * bytes, static_cast<Float>(x_type),
            static_cast<char*>(y) + n * M * bytes, std::min(MAX_ROWS, N - n), threads);
}

// Outputs 16 `first_tile` .. of W into `out` [outputs, K] of `out_type`, `tiles` of them.
extern "C" void lc_expand_grouped(const void* packed, const void* scale, void* out, int bits,
                                  int scale_type, int out_type, size_t M, size_t K, size_t group,
                                  size_t first_tile, size_t tiles, int threads) {
    const Matrix W{static_cast<const uint8_t*>(packed), scale, static_cast<Float>(scale_type), M, K,
                   group};
    const auto run = bits == 8 ? expand_tile<8> : expand_tile<4>;
    const size_t row_bytes = K * (out_type == F32 ? 4 : 2);
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (size_t t = 0; t < tiles; ++t)
        run(W, first_tile + t, static_cast<char*>(out) + t * TILE * row_bytes,
            static_cast<Float>(out_type));
}
