// One head of attention in which a frame sees itself and the past, on the CPU.
//
//   y[b, i] = sum over j with frame(j) <= frame(i) of w[i, j] v[b, j]
//   w[i, j] = exp(s[i, j] - lse[b, i]),   s[i, j] = q[b, i] . k[b, j] / sqrt(D)
//   lse[b, i] = log(sum over the same j of exp(s[i, j]))
//
// with frame(i) = i / (L / F).
//
// Layouts: the channels of a token lie next to each other; tokens and samples of q, k and v at any
// distance. y [B, L, D] and lse [B, L] are dense.
// Parallel: one unit of work is a block of queries of one frame. The keys go by in blocks that stay
// in the cache with it; what comes behind the frame's last key is never weighed, so no mask exists.
// Numerics: products and sums in float; a bfloat16 q, k or v is exact in them. Vectors keep the
// weights in float. Matrix tiles (amx) round them to bfloat16 for bfloat16 values; float32 goes
// through tiles in three bfloat16 parts, of which products below 2^-24 are left out, and an
// infinite input yields NaN. The error of y is that of rounding the D products of a score and the
// weighted sums in float, and one rounding to the dtype at the end. The result does not depend on
// the number of threads, nor a frame's on any later one.
// Memory: packs k and v once per call (of samples that fill 256 MB together, or one), then reads
// them once per block of queries; reads q and writes y and lse once.
// The maximum and sum that are corrected from block to block: Milakov and Gimelshein, 2018.
#pragma once

#include <cstdint>

#include "core/cpu_features.h"
#include "core/tensor.h"

namespace osf {

// Tokens of samples, and the distances of both in elements.
struct TokensView {
  const void* data;
  std::int64_t sample_stride;
  std::int64_t token_stride;
};

struct FrameCausalAttentionParams {
  TokensView q;
  TokensView k;
  TokensView v;
  void* y;
  float* lse;
  std::int64_t batch;
  std::int64_t length;
  std::int64_t num_frames;  // divides length
  std::int64_t head_dim;
  DType dtype;  // of q, k, v and y: float32 or bfloat16
};

// Runs on the instruction set in force (cpu_features.h). Throws std::invalid_argument for sizes
// that are none and for a dtype it does not have.
void frame_causal_attention_cpu(const FrameCausalAttentionParams& params);

// The same on a named instruction set, for tests.
void frame_causal_attention_cpu(const FrameCausalAttentionParams& params, Isa isa);

}  // namespace osf
