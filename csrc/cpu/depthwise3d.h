// Depthwise 3-D convolutions between zeros on channels-last videos, and the gradient of their taps,
// on the CPU.
//
//   y[p, c] = bias[c] + sum over taps k of taps[k, c] * x[p + k, c]
//   dtaps[k, c] = sum over positions p of dy[p, c] * x[p + k, c]
//
// where k runs from -(size / 2) to size / 2 on every axis. The gradient of x is the convolution of
// dy with the taps in opposite order.
// Layouts: x, y and dy [B, T, H, W, C], taps [kT kH kW, C], all dense float.
// Numerics: float arithmetic; sums over positions: within slabs of rows, then slabs in order. No
// result depends on the number of threads.
// Memory: neighbouring rows of a block of channels come from the caches.
#pragma once

#include <cstdint>

#include "core/cpu_features.h"

namespace osf {

struct Depthwise3dInput {
  const float* x;
  std::int64_t batch;
  std::int64_t channels;
  std::int64_t size[3];    // T, H, W
  std::int64_t kernel[3];  // each odd
};

struct Depthwise3dParams : Depthwise3dInput {
  const float* taps;
  const float* bias;  // or null
  float* y;
};

struct Depthwise3dTapsGradientParams : Depthwise3dInput {
  const float* dy;
  float* dtaps;
};

// Run on the instruction set in force (cpu_features.h). Throw std::invalid_argument for sizes that
// are none and for even kernels.
void depthwise3d_cpu(const Depthwise3dParams& params);
void depthwise3d_taps_gradient_cpu(const Depthwise3dTapsGradientParams& params);

// The same on a named instruction set, for tests.
void depthwise3d_cpu(const Depthwise3dParams& params, Isa isa);
void depthwise3d_taps_gradient_cpu(const Depthwise3dTapsGradientParams& params, Isa isa);

}  // namespace osf
