// GroupNorm, then SiLU where asked for, on the CPU.
//
//   h[b, c, s] = (x[b, c, s] - mean[b, g]) / sqrt(var[b, g] + eps) * weight[c] + bias[c]
//   y = h / (1 + exp(-h)) when silu, else h
//
// with g = c / (channels / groups), and mean and (biased) variance over the channels of the group
// and all positions s.
//
// Layouts: contiguous [B, C, S] or channels last [B, S, C], dense, x and y alike; S is the product
// of the trailing axes. x and y may be the same memory.
// Numerics: float arithmetic, moments per chunk in two passes, chunks combined in double by Chan's
// formula in a fixed order: the result does not depend on the number of threads.
// Memory: reads x twice (once more from cache), writes y once.
#pragma once

#include <cstdint>

#include "core/cpu_features.h"
#include "core/tensor.h"

namespace osf {

struct GroupNormSiluParams {
  const void* x;
  void* y;             // null: what the normalisation would be, alone
  const void* weight;  // [C]
  const void* bias;    // [C]
  float* mean;         // [B, G], written unless null
  float* rstd;         // [B, G], written unless null: 1 / sqrt(var + eps)
  float* affine;  // [3, B, C], written unless null: h = (x - affine[0]) * affine[1] + affine[2]
  std::int64_t batch;
  std::int64_t channels;
  std::int64_t spatial;
  std::int64_t groups;
  double eps;
  bool silu;
  bool channels_last;
  DType dtype;         // of x and y: float32 or bfloat16
  DType affine_dtype;  // of weight and bias: float32 or bfloat16
};

// Runs on the instruction set in force (cpu_features.h). Throws std::invalid_argument for sizes
// that do not fit together and for a dtype it does not have.
void group_norm_silu_cpu(const GroupNormSiluParams& params);

// The same on a named instruction set, for tests.
void group_norm_silu_cpu(const GroupNormSiluParams& params, Isa isa);

}  // namespace osf
