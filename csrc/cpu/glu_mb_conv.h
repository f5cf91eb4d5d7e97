// The middle of the gated bottleneck: SiLU, depthwise 3x3x3, gate; a slab of frames at a time, on
// the CPU. The products before and after it are matrix products of the caller's.
//
//   h = silu(product + bias),   d = depth_bias + sum over 27 taps of depth_weight * h
//   gated = d[value] * silu(d[gate])
//
// Layouts: the ring holds the last frames of a strip of rows of a chunk of m channels, value and
// gate: [2, ring_frames, rows, columns, m]; frame t lies in place t % ring_frames. New frames come
// in as products and are activated in place. Outside the strip and the clip are zeros.
// gated [frames_out, rows_out, columns, ...], the chunk's m channels out of gated_stride.
// taps [2, ceil(M / 16), 27, 16] and biases [2, M] are in float and whole; the chunk begins at
// first_channel of M, a multiple of 16.
// Numerics: float arithmetic; h and the result are rounded to the dtype. No result depends on the
// number of threads.
// Memory: new frames are read and written once, and all read once more for three frames out.
#pragma once

#include <cstdint>

#include "core/cpu_features.h"
#include "core/tensor.h"

namespace osf {

struct GluMbConvParams {
  void* ring;
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
  DType dtype;                       // of ring and gated: float32 or bfloat16
};

// Runs on the instruction set in force (cpu_features.h). Throws std::invalid_argument for sizes
// that do not fit each other and for dtypes it does not have.
void glu_mb_conv_cpu(const GluMbConvParams& params);

// The same on a named instruction set, for tests.
void glu_mb_conv_cpu(const GluMbConvParams& params, Isa isa);

}  // namespace osf
