#include "cpu/pixel_shuffle.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "core/memory.h"
#include "core/parallel.h"
#include "cpu/dispatch.h"

namespace osf::pixel_shuffle {

// How `period` neighbouring unshuffled channels (the pixels of a block, or those of one of its
// rows) and groups overlap: `joined` of them in a row, aligned, always lie in one group. A run of
// so many is summed first; there are `runs` of them in a period, and `terms` in a group.
struct Overlap {
  std::int64_t joined;
  std::int64_t runs;
  std::int64_t terms;

  Overlap(std::int64_t period, std::int64_t group)
      : joined(std::gcd(period, group)), runs(period / joined), terms(group / joined) {}
};

inline std::int64_t pixels_of(const PixelShuffleParams& p) {
  return p.scale[0] * p.scale[1] * p.scale[2];
}

inline std::int64_t group_of(const PixelShuffleParams& p) {
  return p.large_channels * pixels_of(p) / p.small_channels;
}

// Where the pixels of a block lie in a channels-last large video, in elements from its first one.
inline std::vector<std::int64_t> offsets_of(const PixelShuffleParams& p) {
  std::vector<std::int64_t> offsets;
  const std::int64_t height = p.height * p.scale[1], width = p.width * p.scale[2];
  for (std::int64_t i = 0; i < p.scale[0]; ++i) {
    for (std::int64_t j = 0; j < p.scale[1]; ++j) {
      for (std::int64_t k = 0; k < p.scale[2]; ++k) {
        offsets.push_back(((i * height + j) * width + k) * p.large_channels);
      }
    }
  }
  return offsets;
}

// The first element of the row of blocks (b, t, h) = row of a channels-last large video.
inline std::int64_t row_of_blocks(const PixelShuffleParams& p, std::int64_t row) {
  const std::int64_t plane = p.width * p.scale[2] * p.large_channels;
  const std::int64_t frame = row / p.height, h = row % p.height;
  return (frame * p.scale[0] * p.height + h) * p.scale[1] * plane;
}

inline std::vector<float> buffer_of(std::int64_t count) {
  return std::vector<float>(static_cast<std::size_t>(count));
}

}  // namespace osf::pixel_shuffle

#define OSF_FOREACH_ISA_FILE "cpu/pixel_shuffle-inl.h"
#include "simd/foreach_isa.h"

namespace osf {
namespace {

constexpr IsaRow<PixelShuffleParams> kGather[] = OSF_ISA_TABLE(pixel_shuffle, gather);
constexpr IsaRow<PixelShuffleParams> kSpread[] = OSF_ISA_TABLE(pixel_shuffle, spread);

void check_params(const PixelShuffleParams& p, const char* op) {
  check(p.batch >= 0 && p.frames >= 0 && p.height >= 0 && p.width >= 0, op,
        ": sizes batch=", p.batch, ", frames=", p.frames, ", height=", p.height,
        ", width=", p.width, " are no sizes");
  check(p.scale[0] > 0 && p.scale[1] > 0 && p.scale[2] > 0, op, ": a block of ", p.scale[0], " x ",
        p.scale[1], " x ", p.scale[2], " pixels has none");
  check(p.large_channels > 0 && p.small_channels > 0 &&
            p.large_channels * pixel_shuffle::pixels_of(p) % p.small_channels == 0,
        op, ": ", p.large_channels, " channels of blocks of ", pixel_shuffle::pixels_of(p),
        " pixels do not make ", p.small_channels, " equal groups");
  check(is_cpu_dtype(p.dtype), op, ": the CPU kernel takes float32 and bfloat16, not ",
        dtype_name(p.dtype));
}

bool is_empty(const PixelShuffleParams& p) {
  return p.batch == 0 || p.frames == 0 || p.height == 0 || p.width == 0;
}

}  // namespace

void pixel_gather_cpu(const PixelShuffleParams& p, Isa isa) {
  constexpr const char* kOp = "pixel_gather";
  check_params(p, kOp);
  if (is_empty(p)) return;
  const std::int64_t positions = p.batch * p.frames * p.height * p.width;
  advise_huge_pages(p.result, positions * p.small_channels * bytes_of(p.dtype));
  run_on(isa, kGather, p, kOp);
}

void pixel_gather_cpu(const PixelShuffleParams& p) { pixel_gather_cpu(p, selected_isa()); }

void pixel_spread_cpu(const PixelShuffleParams& p, Isa isa) {
  constexpr const char* kOp = "pixel_spread";
  check_params(p, kOp);
  if (is_empty(p)) return;
  const std::int64_t positions = p.batch * p.frames * p.height * p.width;
  advise_huge_pages(p.result,
                    positions * pixel_shuffle::pixels_of(p) * p.large_channels * bytes_of(p.dtype));
  run_on(isa, kSpread, p, kOp);
}

void pixel_spread_cpu(const PixelShuffleParams& p) { pixel_spread_cpu(p, selected_isa()); }

}  // namespace osf
