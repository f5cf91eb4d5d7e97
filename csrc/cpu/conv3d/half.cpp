#include "cpu/conv3d/half.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <type_traits>
#include <vector>

#include "core/parallel.h"
#include "core/scratch.h"
#include "cpu/conv3d/layout.h"
#include "cpu/conv3d/moments.h"
#include "simd/vec.h"

#if OSF_X86
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")
#include "simd/vec_avx512.h"
#define OSF_ISA avx512
#include "simd/silu-inl.h"
#undef OSF_ISA
namespace osf::avx512_bf16 {
using osf::avx512::V;
}  // namespace osf::avx512_bf16
#define OSF_ISA avx512_bf16
#include "cpu/conv3d/activate-inl.h"
#include "cpu/conv3d/gemm-inl.h"
#include "cpu/conv3d/shortcut-inl.h"
#include "cpu/conv3d/winograd-transforms-inl.h"

namespace osf::conv3d::avx512_bf16 {

// Two values of A against two rows of B. Subnormal numbers count as zero.
template <>
struct Step<BFloat16> {
  static constexpr std::int64_t kDepth = 2;
  __m512i pairs;
  static Step load(const BFloat16* b) { return {_mm512_loadu_si512(b)}; }
  static Step broadcast(const BFloat16* a) {
    std::int32_t pair;
    std::memcpy(&pair, a, sizeof(pair));
    return {_mm512_set1_epi32(pair)};
  }
  static V multiply_add(Step a, Step b, V sum) {
    return {_mm512_dpbf16_ps(sum.value, reinterpret_cast<__m512bh>(a.pairs),
                             reinterpret_cast<__m512bh>(b.pairs))};
  }
};

}  // namespace osf::conv3d::avx512_bf16
//
#include "cpu/conv3d/winograd-inl.h"
#undef OSF_ISA
#pragma GCC pop_options

namespace osf::conv3d {
void run_half(const Params& p) { avx512_bf16::Winograd<2, BFloat16, BFloat16>(p).run(); }
}  // namespace osf::conv3d

#else

namespace osf::conv3d {
void run_half(const Params&) { check(false, "conv3d: products of bfloat16 pairs are x86's"); }
}  // namespace osf::conv3d

#endif
