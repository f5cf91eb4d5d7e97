// RMS norm over the channels of every position of a video, then an activation, plus a residual;
// gradients; on the CPU.
//
//   n[b, c, p] = x[b, c, p] / sqrt(mean_c(x[b, c, p]^2) + eps),   z = n * weight[c] + bias[c]
//   y = z, z / (1 + exp(-z)) or max(z, 0),   plus residual[b, c, p] if there is one
//
//   dz = dy * activation'(z),   dbias[c] = sum of dz,   dweight[c] = sum of dz * n
//   dx = (weight * dz - n * mean_c(weight * dz * n)) / sqrt(mean_c(x^2) + eps)
//   the gradient of the residual is dy
//
// Layouts: dense [B, C, P] or, channels last, [B, P, C]; all tensors of a call alike.
// Numerics: float arithmetic; sums over channels and positions are short in float and added up in
// double or in blocks. Gradients of the parameters: chunks in a fixed order. No result depends on
// the number of threads.
// Memory: x is read once from memory and again from the caches, the residual once, y written once;
// backwards also dy.
#pragma once

#include <cstdint>

#include "core/cpu_features.h"
#include "core/tensor.h"

namespace osf {

// The numbers are the binding's.
enum class Activation : std::int32_t { kNone = 0, kSilu = 1, kRelu = 2 };

struct RmsNorm3dParams {
  const void* x;
  void* y;
  const void* weight;    // [C]
  const void* bias;      // [C]; null: none
  const void* residual;  // null: none
  std::int64_t batch;
  std::int64_t channels;
  std::int64_t positions;
  double eps;
  Activation activation;
  bool channels_last;
  DType dtype;         // of x, residual and y: float32 or bfloat16
  DType affine_dtype;  // of weight and bias: float32 or bfloat16
};

struct RmsNorm3dBackwardParams {
  RmsNorm3dParams forward;  // its y and residual are not used
  const void* grad;
  void* dx;
  float* dweight;  // [C]
  float* dbias;    // [C]; null: not wanted
};

// Run on the instruction set in force (cpu_features.h). Throw std::invalid_argument for sizes that
// are none, an unknown activation, and a dtype they do not have.
void rms_norm3d_cpu(const RmsNorm3dParams& params);
void rms_norm3d_backward_cpu(const RmsNorm3dBackwardParams& params);

// The same on a named instruction set, for tests.
void rms_norm3d_cpu(const RmsNorm3dParams& params, Isa isa);
void rms_norm3d_backward_cpu(const RmsNorm3dBackwardParams& params, Isa isa);

}  // namespace osf
