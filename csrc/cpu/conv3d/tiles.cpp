#include "cpu/conv3d/tiles.h"

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
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,amx-tile,amx-bf16")
#include "simd/vec_amx.h"
#define OSF_ISA avx512
#include "simd/silu-inl.h"
#undef OSF_ISA
#define OSF_ISA amx
#include "cpu/conv3d/activate-inl.h"
#include "cpu/conv3d/gemm-inl.h"
#include "cpu/conv3d/shortcut-inl.h"
//
#include "cpu/conv3d/narrow-inl.h"
#include "cpu/conv3d/tiles-inl.h"
//
#include "cpu/conv3d/tiles-narrow-inl.h"
#undef OSF_ISA
#pragma GCC pop_options

namespace osf::conv3d {
void run_tiles(const Params& p) {
  if (p.plan.algorithm == Algorithm::kTilesNarrow) {
    return amx::Narrow<BFloat16, amx::TileRows<BFloat16>>(p).run();
  }
  p.geometry.dtype == DType::kFloat32 ? amx::Tiles<float>(p).run() : amx::Tiles<BFloat16>(p).run();
}
}  // namespace osf::conv3d

#else

namespace osf::conv3d {
void run_tiles(const Params&) { check(false, "conv3d: matrix tiles are x86's"); }
}  // namespace osf::conv3d

#endif
