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
// Parallel: one unit of work is a block of queries of one frame, which stays in the cache while the
// keys go by in blocks. What lies behind the frame's last key is never weighed, so no mask exists.
// Memory: packs k and v once per call (of as many samples as fill 256 MB, at least one), then reads
// them once per block of queries; reads q and writes y and lse once.
//
// Numerics: products and sums in float, in which a bfloat16 q, k or v is exact; y rounded once at
// the end. The weights stay in float, but for bfloat16 on matrix tiles (amx), where they are
// rounded to bfloat16; their sum is not. float32 with many channels goes through tiles in three
// bfloat16 parts: what is left out is below 2^-24 of a product, and an infinite input yields NaN.
// Relative L2 error against exact arithmetic on normal inputs, 1280 tokens, D = 512: float32 5e-7,
// bfloat16 1.7e-3 on vectors and 2.3e-3 on tiles, of which 1.7e-3 is the rounding of y; lse within
// 1e-6. The error of a score, which D roundings make, is the relative error of its weight, and
// grows with the scores. The result does not depend on the number of threads, nor a frame's on a
// later one.
//
// A maximum and a sum that are corrected from block to block: Milakov and Gimelshein, 2018.
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
