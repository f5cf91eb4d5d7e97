#include "cpu/layer_norm_modulate.h"

#include <cmath>
#include <cstddef>
#include <vector>

#include "core/check.h"
#include "core/memory.h"
#include "core/parallel.h"
#include "cpu/dispatch.h"
#include "simd/vec.h"

namespace osf::layer_norm_modulate {

// 1 + scale and shift of all samples in float, each [B, M].
struct Modulation {
  std::vector<float> gain;
  std::vector<float> shift;

  explicit Modulation(const LayerNormModulateParams& p) {
    const std::int64_t count = p.batch * p.width;
    gain.reserve(static_cast<std::size_t>(count));
    shift.reserve(static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < count; ++i) {
      gain.push_back(1.0f + value_at(p.scale, p.modulation_dtype, i));
      shift.push_back(value_at(p.shift, p.modulation_dtype, i));
    }
  }
};

}  // namespace osf::layer_norm_modulate

#define OSF_FOREACH_ISA_FILE "cpu/layer_norm_modulate-inl.h"
#include "simd/foreach_isa.h"

namespace osf {
namespace {

constexpr IsaRow<LayerNormModulateParams> kTable[] = OSF_ISA_TABLE(layer_norm_modulate, run);

}  // namespace

void layer_norm_modulate_cpu(const LayerNormModulateParams& p, Isa isa) {
  constexpr const char* kOp = "layer_norm_modulate";
  check(p.batch >= 0 && p.length >= 0 && p.width > 0, kOp, ": sizes batch=", p.batch,
        ", tokens=", p.length, ", channels=", p.width, " are no sizes");
  check(is_cpu_dtype(p.dtype) && is_cpu_dtype(p.modulation_dtype), kOp,
        ": the CPU kernel takes float32 and bfloat16, not ", dtype_name(p.dtype), " and ",
        dtype_name(p.modulation_dtype));
  if (p.batch == 0 || p.length == 0) return;
  advise_huge_pages(p.y, p.batch * p.length * p.width * bytes_of(p.dtype));
  run_on(isa, kTable, p, kOp);
}

void layer_norm_modulate_cpu(const LayerNormModulateParams& p) {
  layer_norm_modulate_cpu(p, selected_isa());
}

}  // namespace osf
