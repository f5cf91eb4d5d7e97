#include "cpu/gate_residual.h"

#include "core/check.h"
#include "core/memory.h"
#include "core/parallel.h"
#include "cpu/dispatch.h"
#include "simd/vec.h"

#define OSF_FOREACH_ISA_FILE "cpu/gate_residual-inl.h"
#include "simd/foreach_isa.h"

namespace osf {
namespace {

constexpr IsaRow<GateResidualParams> kTable[] = OSF_ISA_TABLE(gate_residual, run);

}  // namespace

void gate_residual_cpu(const GateResidualParams& p, Isa isa) {
  constexpr const char* kOp = "gate_residual";
  check(p.batch >= 0 && p.length >= 0 && p.width >= 0, kOp, ": sizes batch=", p.batch,
        ", tokens=", p.length, ", channels=", p.width, " are no sizes");
  check(is_cpu_dtype(p.dtype), kOp, ": the CPU kernel takes float32 and bfloat16, not ",
        dtype_name(p.dtype));
  check(p.branch_dtype == p.dtype || p.branch_dtype == DType::kBFloat16, kOp, ": a branch of ",
        dtype_name(p.branch_dtype), " on a stream of ", dtype_name(p.dtype));
  if (p.batch * p.length * p.width == 0) return;
  advise_huge_pages(p.y, p.batch * p.length * p.width * bytes_of(p.dtype));
  run_on(isa, kTable, p, kOp);
}

void gate_residual_cpu(const GateResidualParams& p) { gate_residual_cpu(p, selected_isa()); }

}  // namespace osf
