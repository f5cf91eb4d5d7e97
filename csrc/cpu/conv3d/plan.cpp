#include "cpu/conv3d/layout.h"

namespace osf::conv3d {
namespace {

// Below these a transform, or a matrix tile, is mostly padding.
constexpr std::int64_t kMinWinogradChannels = 8;
constexpr std::int64_t kMinTileChannels = 16;
// F(4x4) packs 4 times the weights in float32, F(2x2) 1.8 times: bfloat16 layers, whose weights are
// half as large, take the smaller one where they are wide, and a model's weights lie there; packed
// in bfloat16 that is 2.4 times the weights instead of 3.6 times.
constexpr std::int64_t kMaxHalfWinograd4Weights = 131072;

bool is_cube(const Geometry& g, std::int64_t depth) {
  return g.kernel[0] == depth && g.kernel[1] == 3 && g.kernel[2] == 3;
}

bool has_unit_stride(const Geometry& g) {
  return g.stride[0] == 1 && g.stride[1] == 1 && g.stride[2] == 1;
}

bool takes_winograd(const Geometry& g) {
  if (!has_unit_stride(g) || g.channels < kMinWinogradChannels ||
      g.out_channels < kMinWinogradChannels) {
    return false;
  }
  const bool timed = repeats_first_frame(g.padding) || is_centered(g.padding);
  return (is_cube(g, 3) && timed) || (is_cube(g, 1) && g.padding != Padding::kValid);
}

// Its vectors are not of channels, which a shortcut's are.
bool is_narrow(const Geometry& g) {
  return has_unit_stride(g) && num_taps(g) > 1 && g.out_channels < kMinWinogradChannels &&
         !g.shortcut;
}

// Float32 on tiles takes six products for one: faster than a sum over taps, not than a product that
// is read once or than fewer taps.
Algorithm choose(const Geometry& g, Isa isa) {
  const bool tiles = isa == Isa::kAmx && g.channels >= kMinTileChannels;
  const bool half = g.dtype == DType::kBFloat16;
  if (upsamples(g)) return tiles && half ? Algorithm::kTilesUpsample : Algorithm::kUpsample;
  if (half && tiles) {
    return is_narrow(g) && is_centered(g.padding) ? Algorithm::kTilesNarrow : Algorithm::kTiles;
  }
  if (is_narrow(g)) return Algorithm::kNarrow;
  if (!takes_winograd(g)) {
    return tiles && num_taps(g) > 1 ? Algorithm::kTiles : Algorithm::kDirect;
  }
  if (!half || g.channels * g.out_channels <= kMaxHalfWinograd4Weights) {
    return Algorithm::kWinograd4;
  }
  return isa >= Isa::kAvx512Bf16 ? Algorithm::kWinogradHalf : Algorithm::kWinograd2;
}

std::int64_t packed_bytes(const Geometry& g, Algorithm algorithm, Isa isa) {
  const std::int64_t floats =
      g.channels * num_panels(g.out_channels, isa) * panel_width(g.out_channels, isa);
  const std::int64_t bytes = static_cast<std::int64_t>(sizeof(float)) * floats;
  switch (algorithm) {
    case Algorithm::kDirect:
      return bytes * num_taps(g);
    case Algorithm::kWinograd2:
    case Algorithm::kWinograd4:
      return bytes * winograd_planes(winograd_size(algorithm)) * winograd_time_planes(g, false);
    case Algorithm::kWinogradHalf:
      return floats / g.channels * ceil_div(g.channels, 2) * 2 * winograd_planes(2) *
             winograd_time_planes(g, true) * static_cast<std::int64_t>(sizeof(BFloat16));
    case Algorithm::kUpsample:
      return bytes * kUpsampleSets;
    case Algorithm::kNarrow:
      return static_cast<std::int64_t>(sizeof(float)) * g.channels *
             num_panels(narrow_columns(g), isa) * panel_width(narrow_columns(g), isa);
    case Algorithm::kTilesNarrow:
      return packed_bytes(narrow_product(g), Algorithm::kTiles, isa);
    case Algorithm::kTiles:
    case Algorithm::kTilesUpsample:
      break;
  }
  const Phases phases = phases_of(g);
  return tile_weight_parts(g) * phases.total() * phases.total_taps() *
         ceil_div(g.channels, kTileDepth) * kTileDepth * ceil_div(g.out_channels, kTilePanel) *
         kTilePanel * static_cast<std::int64_t>(sizeof(BFloat16));
}

void check_upsampling(const Geometry& g) {
  const bool doubles = (g.scale[0] == 1 || g.scale[0] == 2) && g.scale[1] == 2 && g.scale[2] == 2;
  const bool continued = g.padding == Padding::kReplicate || g.padding == Padding::kCentered;
  check(doubles && is_cube(g, 3) && has_unit_stride(g) && continued,
        "conv3d: upsampling is folded into 3x3x3 convolutions of stride 1 with replicated borders "
        "or zeros on both sides and scales (1, 2, 2) and (2, 2, 2), not ",
        g.scale[0], ", ", g.scale[1], ", ", g.scale[2]);
}

void check_shortcut(const Geometry& g) {
  const bool odd = g.kernel[0] % 2 == 1 && g.kernel[1] % 2 == 1 && g.kernel[2] % 2 == 1;
  check(odd && g.padding == Padding::kCentered,
        "conv3d: a shortcut needs an odd kernel and zeros on both sides");
  const std::int64_t pixels = shortcut_pixels(g);
  check(shortcut_averages(g) ? g.channels * pixels % g.out_channels == 0
                             : g.out_channels * pixels % g.channels == 0,
        "conv3d: a shortcut from ", g.channels, " to ", g.out_channels,
        " channels leaves unequal groups");
}

}  // namespace

const char* algorithm_name(Algorithm algorithm) {
  switch (algorithm) {
    case Algorithm::kDirect:
      return "direct";
    case Algorithm::kWinograd2:
      return "winograd 2x2";
    case Algorithm::kWinograd4:
      return "winograd 4x4";
    case Algorithm::kUpsample:
      return "upsample";
    case Algorithm::kTiles:
      return "tiles";
    case Algorithm::kTilesUpsample:
      return "tiles upsample";
    case Algorithm::kNarrow:
      return "narrow";
    case Algorithm::kWinogradHalf:
      return "winograd 2x2 in bfloat16";
    case Algorithm::kTilesNarrow:
      return "tiles narrow";
  }
  return "an unknown algorithm";
}

Plan plan(const Geometry& g, Isa isa) {
  check(is_cpu_dtype(g.dtype), "conv3d: the CPU kernels take float32 and bfloat16, not ",
        dtype_name(g.dtype));
  check(g.channels > 0 && g.out_channels > 0, "conv3d: ", g.channels, " input and ", g.out_channels,
        " output channels are no sizes");
  check(isa_supported(isa), "conv3d: this processor does not have ", isa_name(isa));
  if (upsamples(g)) check_upsampling(g);
  if (g.shortcut) check_shortcut(g);
  const Algorithm algorithm = choose(g, isa);
  return {algorithm, isa, packed_bytes(g, algorithm, isa)};
}

}  // namespace osf::conv3d
