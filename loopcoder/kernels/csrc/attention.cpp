// Attention of few queries over keys and values in pages, AVX-512. Binding: kernels/paged.py.
//
// A unit of work is one block of a group's rows, one key/value head and one chunk of keys; all the
// queries of a unit share every key that is read. Chunks begin at fixed token numbers, so that
// neither the thread count nor what else is in the call changes a row's sums. Within a unit keys go
// in tiles of 64 tokens: scores, softmax, weighted sums, while the next tile is fetched.
//
// Two arithmetics: pairs of bfloat16 (queries and pool bfloat16, a processor with AVX512_BF16), and
// float32, to which bfloat16 is converted as it is read. Sums are float32 in both.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <vector>

#include "attention_unit.h"

namespace {

constexpr int QUERY_BLOCK = 64;  // queries of a unit at most, unless one row has more heads
constexpr int64_t SERIAL_WORK = 1 << 21;  // multiply-adds that are not worth a second thread

// Add up the chunks of one block and head, in order; those past a row's end hold nothing of it.
void merge(const Call& c, const Block& block, int head, float* partial) {
    std::vector<float> y(size_t(c.K));
    for (int i = 0; i < block.rows * c.share; i++) {
        const int chunks = (block.length[i / c.share] + CHUNK - 1) / CHUNK;
        const auto row = [&](int chunk) {
            return partial_row(c, Unit{&block, head, chunk}, partial, i);
        };
        float top = -INFINITY, total = 0.0f;
        for (int chunk = 0; chunk < chunks; chunk++) top = std::max(top, row(chunk)[0]);
        std::fill(y.begin(), y.end(), 0.0f);
        for (int chunk = 0; chunk < chunks; chunk++) {
            const float* from = row(chunk);
            const float weight = std::exp2(from[0] - top);
            total += weight * from[1];
            for (int d = 0; d < c.K; d++) y[d] += weight * from[2 + d];
        }
        write_row(c, query_offset(c, Unit{&block, head, 0}, i, c.queries.out_stride), y.data(),
                  total);
    }
}

// ---- The call ------------------------------------------------------------------------------------

// Whether every index points at something.
bool valid(const Call& c) {
    const lc_paged_rows& r = c.rows;
    for (int64_t g = 0; g < r.groups; g++) {
        const int32_t begin = r.offsets[g], end = r.offsets[g + 1];
        if (begin < 0 || end < begin || end > r.rows) return false;
        if (r.group_table[g] < 0 || r.group_table[g] >= r.table_rows) return false;
        int32_t longest = 0;
        for (int32_t m = begin; m < end; m++) {
            if (r.order[m] < 0 || r.order[m] >= c.queries.rows || r.length[m] < 1) return false;
            longest = std::max(longest, r.length[m]);
        }
        const int64_t pages = (longest + c.pool.page_tokens - 1) / c.pool.page_tokens;
        if (pages > r.table_width) return false;
        const int32_t* table = r.table + r.group_table[g] * r.table_stride;
        for (int64_t i = 0; i < pages; i++)
            if (table[i] < 0 || table[i] >= c.pool.pages) return false;
    }
    return true;
}

// Cut groups into blocks; returns the floats that their unfinished sums take.
size_t cut(const Call& c, std::vector<Block>& blocks) {
    const lc_paged_rows& r = c.rows;
    const int most = std::max(1, QUERY_BLOCK / c.share);
    size_t partial = 0;
    blocks.clear();
    for (int64_t g = 0; g < r.groups; g++) {
        for (int m = r.offsets[g], some; m < r.offsets[g + 1]; m += some) {
            some = fair_share(r.offsets[g + 1] - m, most);
            const int longest = *std::max_element(r.length + m, r.length + m + some);
            const int chunks = (longest + CHUNK - 1) / CHUNK;
            blocks.push_back({r.table + r.group_table[g] * r.table_stride, r.order + m,
                              r.length + m, some, longest, chunks, partial});
            if (chunks > 1)
                partial += size_t(c.pool.heads) * chunks * some * c.share * partial_size(c);
        }
    }
    return partial;
}

void run(const Call& c, int threads) {
    static thread_local std::vector<Block> kept_blocks;
    static thread_local std::vector<Unit> kept_units;
    static thread_local Memory kept_partial;
    auto& blocks = kept_blocks;  // the caller's own, in every thread below
    auto& units = kept_units;
    const size_t size = cut(c, blocks);
    auto* partial = reinterpret_cast<float*>(kept_partial.get(size));
    units.clear();
    int64_t work = 0;
    for (const Block& block : blocks) {
        work += 2 * int64_t(block.rows) * c.queries.heads * block.longest * c.K;
        for (int chunk = 0; chunk < block.chunks; chunk++)
            for (int head = 0; head < c.pool.heads; head++) units.push_back({&block, head, chunk});
    }
    const int heads = static_cast<int>(c.pool.heads);
    const int merges = size > 0 ? static_cast<int>(blocks.size()) * heads : 0;
    std::atomic<size_t> turn{0};
    if (work < SERIAL_WORK) threads = 1;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        // Each thread takes units as it goes, always one ahead of its work, to fetch its keys.
        size_t now = turn++;
        while (now < units.size()) {
            const size_t then = turn++;
            RUN_UNIT[c.arithmetic](c, units[now], then < units.size() ? &units[then] : nullptr,
                                   partial);
            now = then;
        }
#pragma omp barrier
#pragma omp for schedule(dynamic, 1)
        for (int i = 0; i < merges; i++)
            if (blocks[i / heads].chunks > 1) merge(c, blocks[i / heads], i % heads, partial);
    }
}

}  // namespace

// Returns 0, or 1 if an index points outside and nothing was done. The head dim must be a multiple
// of 16; `dot` asks for bfloat16 pairs and needs AVX512_BF16 and bfloat16 queries and pool.
extern "C" int lc_paged_attention(const lc_paged_rows* rows, const void* q, int64_t q_stride,
                                  void* out, int64_t out_stride, int64_t query_rows,
                                  int64_t heads, int queries_bf16, const void* k, const void* v,
                                  int64_t pages, int64_t page_tokens, int64_t kv_heads,
                                  int64_t head_dim, int pool_bf16, int dot, int threads) {
    const int K = static_cast<int>(head_dim);
    const std::vector<uint32_t> zeros(head_dim);
    const Call call{*rows,
                    {q, q_stride, out, out_stride, query_rows, heads, queries_bf16 != 0},
                    {k, v, pages, page_tokens, kv_heads, pool_bf16 != 0},
                    K,
                    static_cast<int>(heads / kv_heads),
                    (K + 31) / 32 * 32,
                    dot ? PAIRS : pool_bf16 ? WIDENED : FLOATS,
                    1.44269504f / std::sqrt(static_cast<float>(K)),  // log2(e)
                    zeros.data()};
    if (!valid(call)) return 1;
    run(call, threads);
    return 0;
}
