#include "cpu/frame_causal_attention/tiles.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <type_traits>
#include <vector>

#include "core/parallel.h"
#include "core/scratch.h"
#include "cpu/dispatch.h"
#include "simd/vec.h"

#if OSF_X86
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,amx-tile,amx-bf16")
#include "simd/vec_amx.h"
#define OSF_ISA amx
#include "cpu/frame_causal_attention/blocks-inl.h"
//
#include "cpu/frame_causal_attention/tiles-inl.h"
#undef OSF_ISA
#pragma GCC pop_options

namespace osf::frame_causal_attention {
void run_tiles(const FrameCausalAttentionParams& p) {
  p.dtype == DType::kFloat32 ? amx::Attention<float, amx::TileProducts<float>>(p).run()
                             : amx::Attention<BFloat16, amx::TileProducts<BFloat16>>(p).run();
}
}  // namespace osf::frame_causal_attention

#else

namespace osf::frame_causal_attention {
void run_tiles(const FrameCausalAttentionParams&) {
  check(false, "frame_causal_attention: matrix tiles are x86's");
}
}  // namespace osf::frame_causal_attention

#endif
