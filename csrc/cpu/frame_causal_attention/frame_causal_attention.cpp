#include "cpu/frame_causal_attention/frame_causal_attention.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <type_traits>
#include <vector>

#include "core/memory.h"
#include "core/parallel.h"
#include "core/scratch.h"
#include "cpu/conv3d/layout.h"
#include "cpu/dispatch.h"
#include "cpu/frame_causal_attention/tiles.h"

#define OSF_FOREACH_ISA_FILE "cpu/frame_causal_attention/engine-inl.h"
#include "simd/foreach_isa.h"

namespace osf {
namespace {

// Below this many channels the six products that stand for one in float32 cost more than they save.
constexpr std::int64_t kMinFloatTileChannels = 128;

bool takes_tiles(const FrameCausalAttentionParams& p, Isa isa) {
  return isa == Isa::kAmx && (p.dtype == DType::kBFloat16 || p.head_dim >= kMinFloatTileChannels);
}

constexpr IsaRow<FrameCausalAttentionParams> kTable[] = OSF_ISA_TABLE(frame_causal_attention, run);

}  // namespace

void frame_causal_attention_cpu(const FrameCausalAttentionParams& p, Isa isa) {
  constexpr const char* kOp = "frame_causal_attention";
  check(p.batch >= 0 && p.length >= 0 && p.head_dim > 0, kOp, ": sizes batch=", p.batch,
        ", tokens=", p.length, ", channels=", p.head_dim, " are no sizes");
  check(p.num_frames > 0 && p.length % p.num_frames == 0, kOp, ": ", p.length,
        " tokens cannot be split into ", p.num_frames, " equal frames");
  check(is_cpu_dtype(p.dtype), kOp, ": the CPU kernel takes float32 and bfloat16, not ",
        dtype_name(p.dtype));
  if (p.batch == 0 || p.length == 0) return;
  advise_huge_pages(p.y, p.batch * p.length * p.head_dim * bytes_of(p.dtype));
  if (!takes_tiles(p, isa)) return run_on(isa, kTable, p, kOp);
  check(isa_supported(isa), kOp, ": this processor does not have ", isa_name(isa));
  frame_causal_attention::run_tiles(p);
}

void frame_causal_attention_cpu(const FrameCausalAttentionParams& p) {
  frame_causal_attention_cpu(p, selected_isa());
}

}  // namespace osf
