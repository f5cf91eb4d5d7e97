// Groups of unshuffled channels gathered to their sum, and spread again, on the CPU: forwards and
// backwards pixel_unshuffle_average3d and channel_duplicate_shuffle3d.
//
// A large video L of D channels has blocks of sT x sH x sW pixels, a small one S of C channels has
// a pixel for every block. Pixel (i, j, k) of a block of channel d is unshuffled channel
// u = ((d * sT + i) * sH + j) * sW + k, and group = D * sT * sH * sW / C of them in a row belong to
// channel u / group of the small video.
//
//   gather:  S[c] = factor * sum of L[u], u in [c * group, (c + 1) * group), + added[c]
//   spread:  L[u] = factor * S[u / group] + added[u]
//
// Layouts: dense [B, C, T, H, W] or, channels last, [B, T, H, W, C]; all tensors of a call alike.
// Numerics: sums in float in a fixed order, rounded once.
// Memory: every tensor once; nothing is repeated, stacked or moved in memory.
#pragma once

#include <cstdint>

#include "core/cpu_features.h"
#include "core/tensor.h"

namespace osf {

struct PixelShuffleParams {
  const void* source;
  const void* added;  // of the result's shape; null: nothing
  void* result;
  std::int64_t batch;
  std::int64_t large_channels;
  std::int64_t small_channels;
  std::int64_t frames;  // of the small video, like height and width
  std::int64_t height;
  std::int64_t width;
  std::int64_t scale[3];
  double factor;
  bool channels_last;
  DType dtype;  // of all tensors: float32 or bfloat16
};

// Run on the instruction set in force (cpu_features.h). Throw std::invalid_argument for sizes that
// are none or do not make groups, and for a dtype they do not have.
void pixel_gather_cpu(const PixelShuffleParams& params);
void pixel_spread_cpu(const PixelShuffleParams& params);

// The same on a given instruction set, for tests.
void pixel_gather_cpu(const PixelShuffleParams& params, Isa isa);
void pixel_spread_cpu(const PixelShuffleParams& params, Isa isa);

}  // namespace osf
