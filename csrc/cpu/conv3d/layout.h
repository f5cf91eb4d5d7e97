// Sizes that packing and the kernels must agree on.
#pragma once

#include <cstdint>

#include "cpu/conv3d/conv3d.h"
#include "cpu/dispatch.h"
#include "simd/tiles.h"

namespace osf::conv3d {

inline std::int64_t vector_width(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return 1;
    case Isa::kAvx2:
      return 8;
    case Isa::kAvx512:
    case Isa::kAvx512Bf16:
    case Isa::kAmx:
      return 16;
  }
  return 1;
}

// Columns of a panel of packed weights, in vectors of the instruction set: two, one where the
// convolution has no more outputs.
inline std::int64_t panel_vectors(std::int64_t out_channels, Isa isa) {
  return out_channels > vector_width(isa) ? 2 : 1;
}

inline std::int64_t panel_width(std::int64_t out_channels, Isa isa) {
  return panel_vectors(out_channels, isa) * vector_width(isa);
}

inline std::int64_t num_panels(std::int64_t out_channels, Isa isa) {
  return ceil_div(out_channels, panel_width(out_channels, isa));
}

inline std::int64_t num_taps(const Geometry& g) { return g.kernel[0] * g.kernel[1] * g.kernel[2]; }

inline bool pads_with_zeros(Padding padding) {
  return padding != Padding::kReplicate && padding != Padding::kReplicateRows &&
         padding != Padding::kValid;
}

// Whether the first frame stands for those before it.
inline bool repeats_first_frame(Padding padding) {
  return padding == Padding::kReplicate || padding == Padding::kReplicateRows;
}

inline bool is_centered(Padding padding) {
  return padding == Padding::kCentered || padding == Padding::kCenteredRows;
}

// Frames, rows or columns that the padding puts in front.
inline std::int64_t front_padding(const Geometry& g, int axis) {
  if (g.padding == Padding::kValid) return 0;
  const bool rows = g.padding == Padding::kCenteredRows || g.padding == Padding::kReplicateRows;
  if (rows && axis == 1) return 0;
  const bool causal = axis == 0 && !is_centered(g.padding);
  return causal ? g.kernel[0] - 1 : g.kernel[axis] / 2;
}

// Columns of the product when every tap of every output is one, and the pointwise convolution that
// it is.
inline std::int64_t narrow_columns(const Geometry& g) { return num_taps(g) * g.out_channels; }

inline Geometry narrow_product(const Geometry& g) {
  return {g.channels, narrow_columns(g), {1, 1, 1}, {1, 1, 1},
          {1, 1, 1},  g.padding,         g.dtype,   false};
}

inline bool upsamples(const Geometry& g) {
  return g.scale[0] != 1 || g.scale[1] != 1 || g.scale[2] != 1;
}

// The pixels of x that make one of the shortcut's, or the pixels of y that one of x is spread over.
inline std::int64_t shortcut_pixels(const Geometry& g) {
  std::int64_t pixels = 1;
  for (int axis = 0; axis < 3; ++axis) pixels *= g.stride[axis] * g.scale[axis];
  return pixels;
}

// Whether the shortcut averages channels, of a block of pixels where there is a stride, rather than
// repeating them.
inline bool shortcut_averages(const Geometry& g) {
  return !upsamples(g) && (shortcut_pixels(g) != 1 || g.out_channels <= g.channels);
}

// Planes of a Winograd transform F(m x m, 3 x 3) in space, and of F(2, 3) in time: none for a
// kernel that is one frame deep. In float32 the third of time, (first - middle + last) / 2, is not
// stored: it is first + last - the second, and a quarter of the memory.
inline std::int64_t winograd_planes(std::int64_t m) { return (m + 2) * (m + 2); }
inline std::int64_t winograd_time_planes(const Geometry& g, bool half) {
  if (g.kernel[0] != 3) return 1;
  return half ? 4 : 3;
}
inline std::int64_t winograd_size(Algorithm algorithm) {
  return algorithm == Algorithm::kWinograd4 ? 4 : 2;
}

// Points of F(4, 3): 0, +-a, +-b and infinity. Of sixteen pairs tried these have the smallest
// error.
inline constexpr double kPointA = 2.0 / 3.0;
inline constexpr double kPointB = 3.0 / 2.0;
inline constexpr double kNormA = 2 * kPointA * kPointA * (kPointA * kPointA - kPointB * kPointB);
inline constexpr double kNormB = 2 * kPointB * kPointB * (kPointB * kPointB - kPointA * kPointA);
// Its transform of the weights.
inline constexpr double kFilter4[6][3] = {
    {1 / (kPointA * kPointA * kPointB * kPointB), 0, 0},
    {1 / kNormA, kPointA / kNormA, kPointA * kPointA / kNormA},
    {1 / kNormA, -kPointA / kNormA, kPointA * kPointA / kNormA},
    {1 / kNormB, kPointB / kNormB, kPointB * kPointB / kNormB},
    {1 / kNormB, -kPointB / kNormB, kPointB * kPointB / kNormB},
    {0, 0, 1}};

// Sets of weights that upsampling needs per panel: three per doubled axis (difference to the one
// before, value, difference to the one after), the three taps of an axis that stays.
inline constexpr std::int64_t kUpsampleSets = 27;

// Columns of a panel on matrix tiles: two by two tiles are accumulated at once.
inline constexpr std::int64_t kTilePanel = 32;

// Numbers that bfloat16 does not hold are kept in parts, each the rounding of what those before it
// left: three for float32 inputs and weights, two for bfloat16 weights that were summed.
inline std::int64_t tile_weight_parts(const Geometry& g) {
  if (g.dtype == DType::kFloat32) return 3;
  return upsamples(g) ? 2 : 1;
}

// Output phases of an upsampling by `scale` (1 or 2 an axis) and taps of each: a doubled axis has
// two phases of two taps, one that stays has a phase of three.
struct Phases {
  std::int64_t count[3];
  std::int64_t taps[3];
  std::int64_t total() const { return count[0] * count[1] * count[2]; }
  std::int64_t total_taps() const { return taps[0] * taps[1] * taps[2]; }
};

inline Phases phases_of(const Geometry& g) {
  Phases phases{};
  for (int axis = 0; axis < 3; ++axis) {
    const bool doubled = g.scale[axis] == 2;
    phases.count[axis] = doubled ? 2 : 1;
    phases.taps[axis] = doubled ? 2 : g.kernel[axis];
  }
  return phases;
}

}  // namespace osf::conv3d
