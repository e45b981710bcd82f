// A plain read of memory, the yardstick of every kernel that is bound by reading weights.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

// The sum of `bytes` / 8 integers, each of `threads` threads reading a region of its own.
extern "C" uint64_t lc_read(const void* data, size_t bytes, int threads) {
    const size_t lines = bytes / 64;
    uint64_t total = 0;
#pragma omp parallel for num_threads(threads) schedule(static) reduction(+ : total)
    for (int part = 0; part < threads; ++part) {
        const size_t begin = lines * part / threads, end = lines * (part + 1) / threads;
        const char* line = static_cast<const char*>(data) + begin * 64;
        __m512i sum[4] = {};
        size_t i = begin;
        for (; i + 4 <= end; i += 4, line += 256)
            for (int j = 0; j < 4; ++j) {
                _mm_prefetch(line + 64 * j + 4096, _MM_HINT_T0);
                sum[j] = _mm512_add_epi64(sum[j], _mm512_loadu_si512(line + 64 * j));
            }
        for (; i < end; ++i, line += 64)
            sum[0] = _mm512_add_epi64(sum[0], _mm512_loadu_si512(line));
        sum[0] = _mm512_add_epi64(_mm512_add_epi64(sum[0], sum[1]),
                                  _mm512_add_epi64(sum[2], sum[3]));
        total += static_cast<uint64_t>(_mm512_reduce_add_epi64(sum[0]));
    }
    return total;
}
