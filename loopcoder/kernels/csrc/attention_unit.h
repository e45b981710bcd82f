// One unit of attention.cpp's work: some rows of a group, one key/value head, one chunk of keys.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "attention_tile.h"

extern "C" {

struct lc_paged_rows {
    const int32_t *table, *order, *offsets, *group_table, *length;
    int64_t table_stride, table_rows, table_width, groups, rows;
};
}

namespace {

constexpr int CHUNK = 512;       // tokens of a unit; part of the definition of the result

struct Queries {
    const void* q;
    int64_t q_stride;
    void* out;
    int64_t out_stride, rows, heads;
    bool bf16;
};

struct Pool {
    const void *k, *v;
    int64_t pages, page_tokens, heads;
    bool bf16;
};

struct Call {
    const lc_paged_rows& rows;
    Queries queries;
    Pool pool;
    int K;        // head dim
    int share;    // query heads of one key/value head
    int padded;   // K up to a multiple of 32
    Arithmetic arithmetic;
    float scale;  // log2(e) / sqrt(K)
    const uint32_t* zeros;  // K dwords, in place of a token

    int dwords() const { return pool.bf16 ? K / 2 : K; }  // of one key
};

// Some rows of one group, the queries of a unit.
struct Block {
    const int32_t *table, *order, *length;
    int rows, longest, chunks;
    size_t partial;  // where its unfinished sums begin, if there are several chunks
};

struct Unit {
    const Block* block;
    int head, chunk;

    int begin() const { return chunk * CHUNK; }
    int end() const { return std::min(block->longest, begin() + CHUNK); }
};

// Where the keys and values of 64 tokens are; a row of zeros where there is none.
struct Tile {
    const uint32_t *k[TILE], *v[TILE];
    int tokens = 0;

    void fill(const uint32_t* zeros) {
        std::fill(k + tokens, k + TILE, zeros);
        std::fill(v + tokens, v + TILE, zeros);
    }
};

// Memory that a thread keeps from call to call.
class Memory {
  public:
    ~Memory() { free(data_); }
    uint32_t* get(size_t dwords) {
        if (dwords > size_) {
            free(data_);
            size_ = (dwords + 1023) / 1024 * 1024;
            data_ = static_cast<uint32_t*>(aligned_alloc(4096, size_ * 4));
            if (data_ == nullptr) abort();
        }
        return data_;
    }

  private:
    uint32_t* data_ = nullptr;
    size_t size_ = 0;
};

// What a unit works on, of `count` queries: the queries, scores, weights, and per query the sums, the
// largest score so far, the weights' total by lane and the last rescaling.
struct Workspace {
    uint32_t *q, *p;
    float *s, *y, *top, *total, *rescale;
    int* length;
    int count;

    Workspace(Memory& memory, int queries, int padded) : count(queries) {
        const size_t rows = queries * size_t(padded);
        const size_t scores = queries * size_t(TILE), each = (size_t(queries) + 15) / 16 * 16;
        uint32_t* at = memory.get(2 * rows + 2 * scores + 19 * each);
        const auto take = [&](size_t dwords) { return std::exchange(at, at + dwords); };
        const auto floats = [&](size_t n) { return reinterpret_cast<float*>(take(n)); };
        q = take(rows), p = take(scores);
        y = floats(rows), s = floats(scores), total = floats(16 * each), top = floats(each);
        rescale = floats(each), length = reinterpret_cast<int*>(take(each));
        memset(y, 0, 4 * rows);
        memset(total, 0, 4 * 16 * size_t(queries));
        std::fill(top, top + queries, -INFINITY);
    }
};

// Row and head of the unit's i-th query, as an index of [N, H, K] memory.
inline int64_t query_offset(const Call& c, const Unit& u, int i, int64_t stride) {
    return u.block->order[i / c.share] * stride + (int64_t(u.head) * c.share + i % c.share) * c.K;
}

// Split `rest` into parts of `most` at the most that are as equal as can be: the first part.
inline int fair_share(int rest, int most) {
    const int parts = (rest + most - 1) / most;
    return (rest + parts - 1) / parts;
}

void load_queries(const Call& c, const Unit& u, Workspace& w) {
    for (int i = 0; i < w.count; i++) {
        w.length[i] = u.block->length[i / c.share];
        const int64_t at = query_offset(c, u, i, c.queries.q_stride);
        uint32_t* to = w.q + size_t(i) * c.padded;
        if (!c.queries.bf16)
            memcpy(to, static_cast<const float*>(c.queries.q) + at, 4 * size_t(c.K));
        else if (c.arithmetic == PAIRS)
            memcpy(to, static_cast<const uint16_t*>(c.queries.q) + at, 2 * size_t(c.K));
        else
            widen_row(static_cast<const uint16_t*>(c.queries.q) + at, c.K,
                      reinterpret_cast<float*>(to));
    }
}

// The tokens of a unit from `first` on.
void find_tokens(const Call& c, const Unit& u, int first, Tile& tile) {
    const int64_t p = c.pool.page_tokens, size = c.pool.bf16 ? 2 : 4;
    const int64_t token_bytes = c.pool.heads * c.K * size, head_bytes = u.head * c.K * size;
    const auto at = [](const void* pool, int64_t offset) {
        return reinterpret_cast<const uint32_t*>(static_cast<const char*>(pool) + offset);
    };
    tile.tokens = std::min(u.end() - first, TILE);
    int64_t page = first / p, slot = first % p;
    for (int t = 0; t < tile.tokens; t++) {
        const int64_t offset = (u.block->table[page] * p + slot) * token_bytes + head_bytes;
        tile.k[t] = at(c.pool.k, offset);
        tile.v[t] = at(c.pool.v, offset);
        if (++slot == p) page++, slot = 0;
    }
    tile.fill(c.zeros);
}

// What to fetch beside a part of the tile's work for the queries from `i` on: each part of the next
// tile once, in turns, so that memory is asked evenly; else what is here already.
const Tile& fetched(const Tile& tile, const Tile& next, const Workspace& w, int i, int part) {
    const int blocks = (w.count + MOST_QUERIES - 1) / MOST_QUERIES;
    return part % blocks == i * blocks / w.count ? next : tile;
}

template <Arithmetic A>
void score_tile(const Call& c, const Tile& tile, const Tile& next, Workspace& w) {
    for (int i = 0, some; i < w.count; i += some) {
        some = fair_share(w.count - i, MOST_QUERIES);
        for (int t = 0; t < tile.tokens; t += 16)
            SCORE<A>[some - 1](w.q + size_t(i) * c.padded, c.padded, tile.k + t,
                               fetched(tile, next, w, i, t / 16).k + t, c.dwords(),
                               w.s + i * TILE + t);
    }
}

// Scores to weights 2^(s - top), in place or as bfloat16; and what earlier sums must shrink by.
template <Arithmetic A>
void softmax_tile(const Call& c, int first, int tokens, Workspace& w, int i) {
    const int seen = std::min(w.length[i] - first, tokens), blocks = (tokens + 15) / 16;
    float* s = w.s + i * TILE;
    __m512 scaled[TILE / 16], largest = _mm512_set1_ps(-INFINITY);
    __mmask16 visible[TILE / 16];
    for (int b = 0; b < blocks; b++) {
        const int some = std::clamp(seen - b * 16, 0, 16);
        visible[b] = static_cast<__mmask16>((1u << some) - 1);
        scaled[b] = _mm512_mul_ps(_mm512_load_ps(s + b * 16), _mm512_set1_ps(c.scale));
        largest = _mm512_mask_max_ps(largest, visible[b], largest, scaled[b]);
    }
    const float top = std::max(w.top[i], _mm512_reduce_max_ps(largest));
    w.rescale[i] = w.top[i] == top ? 1.0f : std::exp2(w.top[i] - top);
    w.top[i] = top;
    __m512 total = _mm512_mul_ps(_mm512_load_ps(w.total + i * 16), _mm512_set1_ps(w.rescale[i]));
    for (int b = 0; b < blocks; b++) {
        // One rounding: where scores are large, so are the errors of their products alone.
        const __m512 power = exp2(_mm512_fmsub_ps(_mm512_load_ps(s + b * 16),
                                                  _mm512_set1_ps(c.scale), _mm512_set1_ps(top)));
        const __m512 weight = _mm512_maskz_mov_ps(visible[b], power);
        total = _mm512_add_ps(total, weight);
        if constexpr (A == PAIRS)
            _mm256_store_si256(reinterpret_cast<__m256i*>(w.p + i * TILE + b * 8),
                               (__m256i)_mm512_cvtneps_pbh(weight));
        else
            _mm512_store_ps(reinterpret_cast<float*>(w.p + i * TILE + b * 16), weight);
    }
    _mm512_store_ps(w.total + i * 16, total);
}

template <Arithmetic A>
void weigh_tile(const Call& c, const Tile& tile, const Tile& next, Workspace& w) {
    const int count = A == PAIRS ? (tile.tokens + 1) / 2 : tile.tokens;
    for (int i = 0, some; i < w.count; i += some) {
        some = fair_share(w.count - i, MOST_QUERIES);
        for (int d = 0; d < c.K; d += 32)
            WEIGH<A>[some - 1](w.p + i * TILE, tile.v, fetched(tile, next, w, i, d / 32).v,
                               A == FLOATS ? d : d / 2, c.K - d, count, w.rescale + i,
                               w.y + size_t(i) * c.padded + d, c.padded);
    }
}

// A finished row to the result's memory.
void write_row(const Call& c, int64_t at, const float* y, float total) {
    const __m512 scale = _mm512_set1_ps(1.0f / total);
    for (int d = 0; d < c.K; d += 16) {
        const __m512 x = _mm512_mul_ps(_mm512_loadu_ps(y + d), scale);
        if (c.queries.bf16)
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(
                                    static_cast<uint16_t*>(c.queries.out) + at + d),
                                narrow(x));
        else
            _mm512_storeu_ps(static_cast<float*>(c.queries.out) + at + d, x);
    }
}

// Floats of one query's unfinished sums: its largest score, the weights' total, K sums.
inline size_t partial_size(const Call& c) { return size_t(c.K) + 2; }

float* partial_row(const Call& c, const Unit& u, float* partial, int i) {
    const size_t queries = size_t(u.block->rows) * c.share;
    const size_t unit = size_t(u.head) * u.block->chunks + u.chunk;
    return partial + u.block->partial + (unit * queries + i) * partial_size(c);
}

void finish(const Call& c, const Unit& u, Workspace& w, float* partial) {
    for (int i = 0; i < w.count; i++) {
        float* y = w.y + size_t(i) * c.padded;
        if (c.arithmetic == PAIRS) unpack_order(y, c.padded);
        const float total = _mm512_reduce_add_ps(_mm512_load_ps(w.total + i * 16));
        if (u.block->chunks == 1) {
            write_row(c, query_offset(c, u, i, c.queries.out_stride), y, total);
            continue;
        }
        float* row = partial_row(c, u, partial, i);
        row[0] = w.top[i], row[1] = total;
        memcpy(row + 2, y, 4 * size_t(c.K));
    }
}

// Where to go on after the tile that begins at `first`: in this unit or in the thread's next one.
void find_next(const Call& c, const Unit& u, const Unit* later, int first, Tile& tile) {
    if (first + TILE < u.end()) {
        find_tokens(c, u, first + TILE, tile);
    } else if (later != nullptr) {
        find_tokens(c, *later, later->begin(), tile);
    } else {
        tile.tokens = 0;
        tile.fill(c.zeros);
    }
}

template <Arithmetic A>
void run_unit(const Call& c, const Unit& u, const Unit* later, float* partial) {
    static thread_local Memory memory;
    Workspace w(memory, u.block->rows * c.share, c.padded);
    load_queries(c, u, w);
    Tile tiles[2];
    find_tokens(c, u, u.begin(), tiles[0]);
    for (int first = u.begin(), turn = 0; first < u.end(); first += TILE, turn ^= 1) {
        const Tile &tile = tiles[turn], &next = tiles[turn ^ 1];
        find_next(c, u, later, first, tiles[turn ^ 1]);
        score_tile<A>(c, tile, next, w);
        for (int i = 0; i < w.count; i++) softmax_tile<A>(c, first, tile.tokens, w, i);
        weigh_tile<A>(c, tile, next, w);
    }
    finish(c, u, w, partial);
}

constexpr decltype(&run_unit<PAIRS>) RUN_UNIT[] = {run_unit<PAIRS>, run_unit<FLOATS>,
                                                    run_unit<WIDENED>};

}  // namespace
