// ReLU linear attention over a video, at its own scale and at an aggregated one, on the CPU.
//
//   aggregated = point(depth(qkv)):  depth is a depthwise convolution between zeros, point mixes
//   the
//                D channels of every q, k and v
//   per head of either scale:  S = sum over positions of v k'^T,  z = sum of k'
//                              y = S q' / (z . q' + eps),  k' = max(k, 0), q' = max(q, 0)
//
// Layouts: channels last, dense. qkv [B, T, H, W, 3 C], head n's q, k and v from channel 3 n D;
// y [B, T, H, W, 2 C], the heads of qkv before those of the aggregation; depth_weight [3 C, kT, kH,
// kW]; point_weight [3 C, D].
// Parallel over tiles of every head, a few frames of a strip of rows: a tile's q, k and v go
// through a ring of kT frames in float, padded with zeros, which stays in the level-2 cache. The
// aggregated k and v never leave the caches; q waits in y, in its dtype, for the sums to be
// complete. Numerics: float arithmetic; an aggregated q is rounded to the dtype of y. Sums over
// positions: rows, then tiles in order. No result depends on the number of threads. Memory: reads
// qkv once, again around a tile, and q twice; writes y once, its second half twice.
#pragma once

#include <cstdint>

#include "core/cpu_features.h"
#include "core/tensor.h"

namespace osf {

struct LinearAttentionParams {
  const void* qkv;
  const void* depth_weight;
  const void* point_weight;
  void* y;
  std::int64_t batch;
  std::int64_t channels;  // C
  std::int64_t size[3];   // T, H, W
  std::int64_t head_dim;  // D
  std::int64_t kernel[3];
  double eps;
  DType dtype;  // of all tensors: float32 or bfloat16
};

// Runs on the instruction set in force (cpu_features.h). Throws std::invalid_argument for sizes
// that are none, channels that are no heads, an even kernel, and dtypes it does not have.
void linear_attention_cpu(const LinearAttentionParams& params);

// The same on a named instruction set, for tests.
void linear_attention_cpu(const LinearAttentionParams& params, Isa isa);

}  // namespace osf
