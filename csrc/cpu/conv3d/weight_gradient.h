// The gradient of a 3-D convolution's weight, on channels-last videos.
//
//   dweight[o, c, i, j, k] = sum over samples and outputs (t, h, w) of
//                            dy[t, h, w, o] * p[sT t + i, sH h + j, sW w + k, c]
//
// where p is x, or silu(x), with its padding: x [B, T, H, W, C] and dy [B, T', H', W', O] are
// dense, float32 or bfloat16; dweight [O, C, kT, kH, kW] is float32.
//
// 3x3 taps of unit stride in space go through Winograd's F(4x4, 3x3) backwards, four times fewer
// products: relative L2 error 3e-6 against exact arithmetic. All others are sums over positions:
// 1e-6. bfloat16 is computed in float32 and rounded by the caller alone. No result depends on the
// number of threads.
#pragma once

#include <cstdint>

#include "core/cpu_features.h"
#include "cpu/conv3d/conv3d.h"

namespace osf::conv3d {

// Of `forward` count x, silu, batch, sizes, and of its geometry all but scale and shortcut.
void weight_gradient(const Params& forward, const void* dy, float* dweight, Isa isa);

}  // namespace osf::conv3d
