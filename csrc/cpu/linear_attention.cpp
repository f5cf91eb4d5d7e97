#include "cpu/linear_attention.h"

#include <algorithm>
#include <cstddef>
#include <vector>

#include "core/check.h"
#include "core/memory.h"
#include "core/parallel.h"
#include "core/scratch.h"
#include "cpu/dispatch.h"
#include "simd/vec.h"

// What the instruction sets share: how a video is cut.
namespace osf::linear_attention {

// Columns, and rows of a state, that go through the registers together: rows of buffers are as long
// as a multiple of it.
inline constexpr std::int64_t kBlock = 8;
// Floats of a ring: half of a level-2 cache of 2 MiB.
inline constexpr std::int64_t kRingFloats = 1 << 18;
// Frames of a tile: the ring's first frames are read again for every tile, so not too few.
inline constexpr std::int64_t kTileFrames = 8;
// Positions of a piece of the last pass.
inline constexpr std::int64_t kPiece = 128;
inline constexpr std::int64_t kPiecesOfTask = 16;

inline constexpr std::int64_t round_up(std::int64_t n, std::int64_t unit) {
  return ceil_div(n, unit) * unit;
}

// A clip cut into tiles of whole rows: by its sizes alone, so that no sum depends on the threads.
struct Tiles {
  std::int64_t frames;  // of a tile
  std::int64_t rows;    // of a tile
  std::int64_t in_time;
  std::int64_t in_height;

  explicit Tiles(const LinearAttentionParams& p) {
    frames = std::min(p.size[0], kTileFrames);
    const std::int64_t row = (p.size[2] + p.kernel[2]) * round_up(p.head_dim, 16) * p.kernel[0];
    const std::int64_t fitting = kRingFloats / row - (p.kernel[1] - 1);
    rows = std::min(p.size[1], std::max(fitting, kBlock));
    in_time = ceil_div(p.size[0], frames);
    in_height = ceil_div(p.size[1], rows);
  }

  std::int64_t count() const { return in_time * in_height; }
};

}  // namespace osf::linear_attention

#define OSF_FOREACH_ISA_FILE "cpu/linear_attention-inl.h"
#include "simd/foreach_isa.h"

namespace osf {
namespace {

constexpr IsaRow<LinearAttentionParams> kTable[] = OSF_ISA_TABLE(linear_attention, run);

}  // namespace

void linear_attention_cpu(const LinearAttentionParams& p, Isa isa) {
  constexpr const char* kOp = "linear_attention";
  check(p.batch >= 0 && p.size[0] >= 0 && p.size[1] >= 0 && p.size[2] >= 0, kOp,
        ": sizes batch=", p.batch, ", T=", p.size[0], ", H=", p.size[1], ", W=", p.size[2],
        " are no sizes");
  check(p.head_dim >= 1 && p.channels >= 1 && p.channels % p.head_dim == 0, kOp, ": ", p.channels,
        " channels are no heads of ", p.head_dim);
  for (const std::int64_t size : p.kernel) {
    check(size >= 1 && size % 2 == 1, kOp, ": a kernel of ", size, " is not odd");
  }
  check(is_cpu_dtype(p.dtype), kOp, ": the CPU kernel takes float32 and bfloat16, not ",
        dtype_name(p.dtype));
  const std::int64_t positions = p.size[0] * p.size[1] * p.size[2];
  if (p.batch * positions == 0) return;
  advise_huge_pages(p.y, p.batch * positions * 2 * p.channels * bytes_of(p.dtype));
  run_on(isa, kTable, p, kOp);
}

void linear_attention_cpu(const LinearAttentionParams& p) {
  linear_attention_cpu(p, selected_isa());
}

}  // namespace osf
