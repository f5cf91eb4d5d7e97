// LayerNorm of every token without weights of its own, then its sample's scale and shift, on the
// CPU.
//
//   y[b, l, m] = (x[b, l, m] - mean[b, l]) / sqrt(var[b, l] + eps) * (1 + scale[b, m]) + shift[b,
//   m]
//
// with mean and (biased) variance over the channels m.
//
// Layouts: the channels of a token lie next to each other; tokens and samples of x at any distance.
// y [B, L, M] is dense.
// Numerics: float arithmetic, two-pass moments summed in double at the end; the result does not
// depend on the number of threads.
// Memory: reads x once (twice more from the innermost cache), writes y once.
#pragma once

#include <cstdint>

#include "core/cpu_features.h"
#include "core/tensor.h"

namespace osf {

struct LayerNormModulateParams {
  const void* x;
  void* y;
  const void* shift;  // [B, M]
  const void* scale;  // [B, M]
  std::int64_t batch;
  std::int64_t length;
  std::int64_t width;
  std::int64_t sample_stride;  // of x, in elements
  std::int64_t token_stride;   // of x, in elements
  double eps;
  DType dtype;             // of x and y: float32 or bfloat16
  DType modulation_dtype;  // of shift and scale: float32 or bfloat16
};

// Runs on the instruction set in force (cpu_features.h). Throws std::invalid_argument for sizes
// that are none and for a dtype it does not have.
void layer_norm_modulate_cpu(const LayerNormModulateParams& params);

// The same on a named instruction set, for tests.
void layer_norm_modulate_cpu(const LayerNormModulateParams& params, Isa isa);

}  // namespace osf
