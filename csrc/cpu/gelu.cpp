#include "cpu/gelu.h"

#include <algorithm>

#include "core/check.h"
#include "core/memory.h"
#include "core/parallel.h"
#include "cpu/dispatch.h"
#include "simd/vec.h"

namespace osf::gelu {

// Long rows are dealt out in pieces of this many values.
inline constexpr std::int64_t kPiece = 4096;

// 2 u = x (kLinear + kCubic x^2).
inline constexpr float kLinear = 1.5957691216057308f;
inline constexpr float kCubic = 0.0713548162726009f;

}  // namespace osf::gelu

#define OSF_FOREACH_ISA_FILE "cpu/gelu-inl.h"
#include "simd/foreach_isa.h"

namespace osf {
namespace {

constexpr IsaRow<GeluParams> kForward[] = OSF_ISA_TABLE(gelu, run_forward);
constexpr IsaRow<GeluParams> kBackward[] = OSF_ISA_TABLE(gelu, run_backward);

void prepare(const GeluParams& p, const char* op) {
  check(p.rows >= 0 && p.width >= 0, op, ": sizes rows=", p.rows, ", columns=", p.width,
        " are no sizes");
  check(is_cpu_dtype(p.dtype), op, ": the CPU kernel takes float32 and bfloat16, not ",
        dtype_name(p.dtype));
  advise_huge_pages(p.out, ((p.rows - 1) * p.out_stride + p.width) * bytes_of(p.dtype));
}

}  // namespace

void gelu_cpu(const GeluParams& p, Isa isa) {
  prepare(p, "gelu");
  run_on(isa, kForward, p, "gelu");
}

void gelu_backward_cpu(const GeluParams& p, Isa isa) {
  prepare(p, "gelu_backward");
  run_on(isa, kBackward, p, "gelu_backward");
}

void gelu_cpu(const GeluParams& p) { gelu_cpu(p, selected_isa()); }

void gelu_backward_cpu(const GeluParams& p) { gelu_backward_cpu(p, selected_isa()); }

}  // namespace osf
