#include "cpu/glu_mb_conv.h"

#include <algorithm>

#include "core/check.h"
#include "core/parallel.h"
#include "cpu/dispatch.h"
#include "simd/vec.h"

// What the instruction sets share.
namespace osf::glu_mb_conv {

// Channels whose taps lie together: a multiple of every vector.
inline constexpr std::int64_t kPanel = 16;
inline constexpr std::int64_t kTaps = 27;
// Columns that go through the registers together.
inline constexpr std::int64_t kBlock = 8;

}  // namespace osf::glu_mb_conv

#define OSF_FOREACH_ISA_FILE "cpu/glu_mb_conv-inl.h"
#include "simd/foreach_isa.h"

namespace osf {
namespace {

constexpr IsaRow<GluMbConvParams> kTable[] = OSF_ISA_TABLE(glu_mb_conv, run);

}  // namespace

void glu_mb_conv_cpu(const GluMbConvParams& p, Isa isa) {
  constexpr const char* kOp = "glu_mb_conv";
  check(p.channels >= 1 && p.first_channel % glu_mb_conv::kPanel == 0 && p.first_channel >= 0 &&
            p.first_channel + p.channels <= p.width && p.channels <= p.gated_stride,
        kOp, ": channels ", p.first_channel, " and ", p.channels, " more are no chunk of ",
        p.width);
  check(p.rows >= 1 && p.columns >= 1 && p.first_row >= 0 && p.num_rows >= 0 &&
            p.first_row + p.num_rows <= p.rows,
        kOp, ": rows ", p.first_row, " and ", p.num_rows, " more are not in a strip of ", p.rows);
  check(p.first_new >= 0 && p.num_new >= 0 && p.first_new + p.num_new <= p.num_frames &&
            p.num_new <= p.ring_frames,
        kOp, ": frames ", p.first_new, " and ", p.num_new, " more are not new in a ring of ",
        p.ring_frames);
  const std::int64_t first = std::max<std::int64_t>(p.first_out - 1, 0);
  const std::int64_t end = std::min(p.first_out + p.num_out + 1, p.num_frames);
  check(p.first_out >= 0 && p.num_out >= 0 && p.first_out + p.num_out <= p.num_frames &&
            (p.num_out == 0 || end - first <= p.ring_frames),
        kOp, ": frames ", p.first_out, " and ", p.num_out, " more do not come out of a ring of ",
        p.ring_frames);
  check(is_cpu_dtype(p.dtype), kOp, ": the CPU kernel takes float32 and bfloat16, not ",
        dtype_name(p.dtype));
  run_on(isa, kTable, p, kOp);
}

void glu_mb_conv_cpu(const GluMbConvParams& p) { glu_mb_conv_cpu(p, selected_isa()); }

}  // namespace osf
