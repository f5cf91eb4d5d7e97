// RMSNorm of every head's queries and keys, then rotary position embedding, on CUDA devices. The
// formula is cpu/qk_norm_rope.h's.
//
// Layouts: the channels of a head lie next to each other; heads, tokens and samples of q and of k
// at any distance. Outputs [B, L, N, D] dense; cos and sin [L, D/2] or [B, L, D/2], dense float32.
// Parallel: a team of up to 32 lanes takes some heads of one token of q or of k, one or two at a
// time; its angles and scales stay in registers. A lane holds the same channels of both halves of a
// head, so that halves are rotated without an exchange, and neighbours within either half too.
// Memory: reads q and k once and writes the outputs once, sixteen bytes at a time where the
// addresses allow it.
// Numerics: sums of squares and rotation in float, rounded to the dtype of q after the
// normalisation, after the scale, and at the end. Deterministic.
#pragma once

#include <cstdint>
#include <string>

#include "core/tensor.h"

namespace osf::cuda {

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
  DType dtype;        // of q, k and the outputs
  DType scale_dtype;  // of both scales: dtype, or float32
};

// Channels of a head that a team has registers for.
inline constexpr std::int64_t kQkNormRopeMaxHeadDim = 256;

// How one call is cut up: pure, so that it can be asked without a device.
struct QkNormRopeConfig {
  int vec;    // values a lane loads at once
  int lanes;  // of a team
  std::int64_t heads_per_team;
  std::int64_t teams;
  std::int64_t blocks;

  std::string describe() const;
};

// Throws std::invalid_argument for sizes that do not fit together or that no kernel takes.
QkNormRopeConfig qk_norm_rope_config(const QkNormRopeParams& params);

// Enqueues on the stream of the current device; returns a cudaError_t, 0 for success.
int qk_norm_rope_launch(const QkNormRopeParams& params, std::int64_t stream);

}  // namespace osf::cuda
