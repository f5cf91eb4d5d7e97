// RMSNorm of every head's queries and keys, then rotary position embedding, on the CPU.
//
//   n = round(round(x / sqrt(mean(x^2) + eps)) * scale),  rounded to the dtype of q and k
//   y_a = n_a cos_j - n_b sin_j,   y_b = n_b cos_j + n_a sin_j
//
// where pair j is the channels (j, j + D/2), or (2j, 2j + 1) when interleaved.
//
// Layouts: the channels of a head lie next to each other; heads, tokens and samples of q and of k
// at any distance, so that parts of a fused projection serve as they are. Outputs [B, L, N, D] are
// dense; cos and sin [L, D/2] or [B, L, D/2], dense float32.
// Numerics: sums of squares in float, added up in double; rotation in float.
// Memory: reads q and k once, writes the outputs once.
#pragma once

#include <cstdint>

#include "core/cpu_features.h"
#include "core/tensor.h"

namespace osf {

// One of q and k, with distances in elements.
struct HeadsView {
  const void* x;
  void* y;
  const void* scale;  // [D]
  std::int64_t sample_stride;
  std::int64_t token_stride;
  std::int64_t head_stride;
};

struct QkNormRopeParams {
  HeadsView q;
  HeadsView k;
  const float* cos;
  const float* sin;
  std::int64_t batch;
  std::int64_t length;
  std::int64_t heads;
  std::int64_t head_dim;
  double eps;
  bool interleaved;
  bool table_per_sample;
  DType dtype;        // of q, k and the outputs: float32 or bfloat16
  DType scale_dtype;  // of both scales: float32 or bfloat16
};

// Channels of a head that the kernel has room for.
inline constexpr std::int64_t kQkNormRopeMaxHeadDim = 512;

// Runs on the instruction set in force (cpu_features.h). Throws std::invalid_argument for sizes
// that do not fit and for a dtype it does not have.
void qk_norm_rope_cpu(const QkNormRopeParams& params);

// The same on a named instruction set, for tests.
void qk_norm_rope_cpu(const QkNormRopeParams& params, Isa isa);

}  // namespace osf
