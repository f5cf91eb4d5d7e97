// GroupNorm, then SiLU where asked for, on CUDA devices. The formula is cpu/group_norm_silu.h's.
//
// Layouts: contiguous [B, C, S] or channels last [B, S, C], dense, x and y alike; or, of channels
// last frames, S = T H W, y with the border of every frame repeated once, [B, T, H + 2, W + 2, C],
// for convolutions whose taps are then shifts. Without y only the statistics are written.
// Parallel: one block per chunk of a group (contiguous) or of a sample's rows (channels last), so
// that one sample with few groups fills the device. Three launches: moments per chunk, combination,
// normalisation.
// Memory: reads x twice, writes y once; the moments are 8 bytes per chunk of several thousand
// values. Numerics: float; per chunk, mean and squared deviations from it in two passes over
// registers; chunks combined in double by Chan's formula in a fixed order. Deterministic, no
// atomics.
#pragma once

#include <cstdint>
#include <string>

#include "core/tensor.h"

namespace osf::cuda {

struct GroupNormSiluParams {
  const void* x;
  void* y;             // or null
  const void* weight;  // [C]
  const void* bias;    // [C]
  float* mean;         // [B, G], written
  float* rstd;         // [B, G], written: 1 / sqrt(var + eps)
  float* affine;       // [2, B, C] or null; written: the norm is x * affine[0] + affine[1]
  void* workspace;     // group_norm_silu_workspace_bytes(params), 8-byte aligned
  std::int64_t batch;
  std::int64_t channels;
  std::int64_t spatial;
  std::int64_t groups;
  std::int64_t height;  // of a frame, where y has a border; else 0
  std::int64_t width;   // likewise
  double eps;
  bool silu;
  bool channels_last;
  DType dtype;         // of x and y
  DType affine_dtype;  // of weight and bias: dtype, or float32
};

// How one call is cut up: pure, so that it can be asked without a device.
struct GroupNormSiluConfig {
  int vec;              // values a thread loads at once
  std::int64_t block;   // values of a group's run (contiguous) or rows (channels last) per chunk
  std::int64_t chunks;  // chunks per group (contiguous) or per sample (channels last)
  std::int64_t pieces;  // of y: blocks per channel (contiguous) or per sample (channels last)

  std::string describe() const;
};

// Throws std::invalid_argument for sizes that do not fit together or that no kernel takes.
GroupNormSiluConfig group_norm_silu_config(const GroupNormSiluParams& params);

std::int64_t group_norm_silu_workspace_bytes(const GroupNormSiluParams& params);

// Enqueues on the stream of the current device; returns a cudaError_t, 0 for success.
int group_norm_silu_launch(const GroupNormSiluParams& params, std::int64_t stream);

}  // namespace osf::cuda
