// 3-D convolution on channels-last videos, with what surrounds it in an autoencoder.
//
//   y = conv(upsampled(silu((x - mean) * scale + shift))) + bias + residual + shortcut(x)
//
// Every part but the convolution is optional; silu(x) serves without the affine map, too. The
// shortcut has no parameters, see shortcut-inl.h. Layout: x [B, T, H, W, C], y and residual
// [B, T', H', W', O], dense, float32 or bfloat16. Neither the normalised nor the padded nor the
// upsampled video ever exists as a whole.
//
// A plan says which algorithm serves a convolution; its weights are packed once and used many
// times. Relative L2 error against exact arithmetic, float32: direct, narrow, upsampling and tiles
// 5e-7, Winograd 2 x 2 7e-7, Winograd 4 x 4 3e-6. bfloat16: the rounding of the result, and, on
// tiles, of the activated input, in half-precision Winograd of transformed input and weights.
#pragma once

#include <cstdint>

#include "core/cpu_features.h"
#include "core/tensor.h"

namespace osf::conv3d {

// kReplicate and kZeros are causal: all of time's padding lies in front, and the first frame stays
// single in an upsampling. kCentered is k / 2 zeros on both sides of every axis, and an upsampling
// repeats every frame. kCenteredRows and kReplicateRows are kCentered and kReplicate without
// padding above and below: x is a slab of rows with the neighbours that its outputs look at.
enum class Padding : std::int32_t {
  kReplicate = 0,
  kZeros = 1,
  kValid = 2,
  kCentered = 3,
  kCenteredRows = 4,
  kReplicateRows = 5
};

enum class Algorithm : std::int32_t {
  kDirect = 0,         // sum over taps, float32 arithmetic; any kernel and stride
  kWinograd2 = 1,      // F(2x2, 3x3), and F(2, 3) in time
  kWinograd4 = 2,      // F(4x4, 3x3), and F(2, 3) in time
  kUpsample = 3,       // nearest upsampling folded in: 27 products for the 8 outputs of a voxel
  kTiles = 4,          // sum over taps on bfloat16 matrix tiles
  kTilesUpsample = 5,  // the same with every output phase's taps summed beforehand
  kNarrow = 6,         // few outputs: taps are columns of one product; stride 1
  kWinogradHalf = 7,   // kWinograd2 with products of bfloat16
  kTilesNarrow = 8,    // kNarrow with its product on bfloat16 matrix tiles
};

const char* algorithm_name(Algorithm algorithm);

// What the choice of an algorithm and the packed weights depend on.
struct Geometry {
  std::int64_t channels;
  std::int64_t out_channels;
  std::int64_t kernel[3];
  std::int64_t stride[3];
  std::int64_t scale[3];  // of the upsampling before the convolution; 1 1 1: none
  Padding padding;
  DType dtype;    // of x and y
  bool shortcut;  // added to y; kCentered
};

struct Plan {
  Algorithm algorithm;
  Isa isa;
  std::int64_t packed_bytes;
};

struct Params {
  const void* x;
  void* y;
  const void* packed;    // what pack() wrote for this geometry and plan
  const float* bias;     // [O] or null
  const void* residual;  // like y, or null
  const float* mean;     // [B, C] each, or null: x is not normalised
  const float* scale;
  const float* shift;
  bool silu;       // of x itself, where there is no mean
  float* moments;  // [B, 2, O], written: mean and variance of every channel of y; or null
  std::int64_t batch;
  std::int64_t size[3];      // T, H, W of x
  std::int64_t out_size[3];  // of y
  Geometry geometry;
  Plan plan;
};

// The fastest algorithm that `isa` has for a convolution; throws std::invalid_argument for an
// upsampling or dtype that no algorithm has.
Plan plan(const Geometry& geometry, Isa isa);

// Packs weight [O, C, kT, kH, kW] float32 into plan.packed_bytes bytes.
void pack(const Geometry& geometry, const Plan& plan, const float* weight, void* packed);

void run(const Params& params);

}  // namespace osf::conv3d
