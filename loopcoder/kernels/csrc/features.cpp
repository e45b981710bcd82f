// What the processor can do. Compiled without -m flags: it must run anywhere.
#include <cpuid.h>

namespace {

// AMX by CPUID leaf 7: compilers disagree on its names in __builtin_cpu_supports.
bool leaf7_edx(int bit) {
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> bit & 1);
}

}  // namespace

// Bit i is feature i of native.py's FEATURES.
extern "C" unsigned lc_features() {
    __builtin_cpu_init();
    unsigned bits = 0;
    bits |= (__builtin_cpu_supports("avx512f") ? 1u : 0u) << 0;
    bits |= (__builtin_cpu_supports("avx512bw") ? 1u : 0u) << 1;
    bits |= (__builtin_cpu_supports("avx512vl") ? 1u : 0u) << 2;
    bits |= (__builtin_cpu_supports("avx512dq") ? 1u : 0u) << 3;
    bits |= (__builtin_cpu_supports("avx512bf16") ? 1u : 0u) << 4;
    bits |= (__builtin_cpu_supports("avx512vnni") ? 1u : 0u) << 5;
    bits |= (leaf7_edx(24) && leaf7_edx(22) ? 1u : 0u) << 6;
    bits |= (leaf7_edx(24) && leaf7_edx(25) ? 1u : 0u) << 7;
    return bits;
}
