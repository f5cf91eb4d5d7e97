// The middle of the gated bottleneck: SiLU, depthwise 3x3x3, gate; a slab of frames at a time, on
// the CPU. The products before and after it are matrix products of the caller's.
//
//   h = silu(product + bias),   d = depth_bias + sum over 27 taps of depth_weight * h
//   gated = d[value] * silu(d[gate])
//
// Layouts: products [2, num_new, rows, columns, m] are those of the new frames of a strip of rows,
// a chunk of m channels of value and gate. The ring, [2, ring_frames, rows, columns, m], holds h of
// the last frames, frame t in place t % ring_frames. Outside the strip and the clip are zeros.
// gated [frames_out, rows_out, columns, ...], the chunk's m channels out of gated_stride.
// taps [2, ceil(M / 16), 27, 16] and biases [2, M] are in float and whole; the chunk begins at
// first_channel of M, a multiple of 16.
// Numerics: float arithmetic, h included: rounded once, at the end. No result depends on the number
// of threads.
// Memory: products are read once; h is written once, and read from the caches for three frames out.
#pragma once

#include <cstdint>

#include "core/cpu_features.h"
#include "core/tensor.h"

namespace osf {

struct GluMbConvParams {
  const void* products;
  float* ring;
  void* gated;
  const float* taps;
  const float* inverted_bias;
  const float* depth_bias;
  std::int64_t width;  // M
  std::int64_t first_channel;
  std::int64_t channels;  // m
  std::int64_t gated_stride;
  std::int64_t num_frames;  // of the clip
  std::int64_t ring_frames;
  std::int64_t rows;  // of the strip
  std::int64_t columns;
  std::int64_t first_new, num_new;   // frames to activate
  std::int64_t first_out, num_out;   // frames to give out; their neighbours are in the ring
  std::int64_t first_row, num_rows;  // rows of the strip to give out
  DType dtype;                       // of products and gated: float32 or bfloat16
};

// Runs on the instruction set in force (cpu_features.h). Throws std::invalid_argument for sizes
// that do not fit each other and for dtypes it does not have.
void glu_mb_conv_cpu(const GluMbConvParams& params);

// The same on a named instruction set, for tests.
void glu_mb_conv_cpu(const GluMbConvParams& params, Isa isa);

}  // namespace osf
