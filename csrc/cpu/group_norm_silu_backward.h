// Gradients of group_norm_silu (group_norm_silu.h), on the CPU.
//
//   n = (x - mean) * rstd,   h = n * weight + bias
//   dh = grad * s * (1 + h * (1 - s)), s = 1 / (1 + exp(-h)), when silu; else dh = grad
//   dbias[c] = sum of dh,   dweight[c] = sum of dh * n,   over samples and positions
//   dx = rstd * (weight * dh - mean_g(weight * dh) - n * mean_g(weight * dh * n))
//
// Layouts as in the forward; grad, x and dx alike. dx may be grad's memory.
// Numerics: float per chunk, chunks summed in double in a fixed order: independent of the threads.
// Memory: reads grad and x twice, writes dx once; h is computed again rather than stored.
#pragma once

#include <cstdint>

#include "core/cpu_features.h"
#include "core/tensor.h"

namespace osf {

struct GroupNormSiluBackwardParams {
  const void* grad;
  const void* x;
  const void* weight;  // [C]
  const void* bias;    // [C]
  const float* mean;   // [B, G], from the forward
  const float* rstd;   // [B, G]
  void* dx;
  float* dweight;  // [C]
  float* dbias;    // [C]
  std::int64_t batch;
  std::int64_t channels;
  std::int64_t spatial;
  std::int64_t groups;
  bool silu;
  bool channels_last;
  DType dtype;         // of grad, x and dx: float32 or bfloat16
  DType affine_dtype;  // of weight and bias: float32 or bfloat16
};

// Throws std::invalid_argument for sizes that do not fit together and for a dtype it does not have.
void group_norm_silu_backward_cpu(const GroupNormSiluBackwardParams& params);

// The same on a named instruction set, for tests.
void group_norm_silu_backward_cpu(const GroupNormSiluBackwardParams& params, Isa isa);

}  // namespace osf
