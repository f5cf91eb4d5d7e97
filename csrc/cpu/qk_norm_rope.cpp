#include "cpu/qk_norm_rope.h"

#include <algorithm>
#include <cmath>

#include "core/check.h"
#include "core/memory.h"
#include "core/parallel.h"
#include "cpu/dispatch.h"
#include "simd/vec.h"

namespace osf::qk_norm_rope {

inline constexpr std::int64_t kMaxHeadDim = kQkNormRopeMaxHeadDim;

// The scales of q and k in float.
struct Scales {
  float q[kMaxHeadDim];
  float k[kMaxHeadDim];

  explicit Scales(const QkNormRopeParams& p) {
    for (std::int64_t i = 0; i < p.head_dim; ++i) {
      q[i] = value_at(p.q.scale, p.scale_dtype, i);
      k[i] = value_at(p.k.scale, p.scale_dtype, i);
    }
  }
};

}  // namespace osf::qk_norm_rope

#define OSF_FOREACH_ISA_FILE "cpu/qk_norm_rope-inl.h"
#include "simd/foreach_isa.h"

namespace osf {
namespace {

constexpr IsaRow<QkNormRopeParams> kTable[] = OSF_ISA_TABLE(qk_norm_rope, run);

}  // namespace

void qk_norm_rope_cpu(const QkNormRopeParams& p, Isa isa) {
  constexpr const char* kOp = "qk_norm_rope";
  check(p.batch >= 0 && p.length >= 0 && p.heads >= 0, kOp, ": sizes batch=", p.batch,
        ", tokens=", p.length, ", heads=", p.heads, " are no sizes");
  check(p.head_dim > 0 && p.head_dim % 2 == 0 && p.head_dim <= kQkNormRopeMaxHeadDim, kOp,
        ": heads of ", p.head_dim, " channels, the CPU kernel takes even numbers up to ",
        kQkNormRopeMaxHeadDim);
  check(is_cpu_dtype(p.dtype) && is_cpu_dtype(p.scale_dtype), kOp,
        ": the CPU kernel takes float32 and bfloat16, not ", dtype_name(p.dtype), " and ",
        dtype_name(p.scale_dtype));
  if (p.batch * p.length * p.heads == 0) return;
  const std::int64_t bytes = p.batch * p.length * p.heads * p.head_dim * bytes_of(p.dtype);
  advise_huge_pages(p.q.y, bytes);
  advise_huge_pages(p.k.y, bytes);
  run_on(isa, kTable, p, kOp);
}

void qk_norm_rope_cpu(const QkNormRopeParams& p) { qk_norm_rope_cpu(p, selected_isa()); }

}  // namespace osf
