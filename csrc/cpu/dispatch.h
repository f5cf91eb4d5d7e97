// What the kernels for the CPU share around their vectors: the table of instruction sets, the
// dtypes they take, and small arithmetic.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/check.h"
#include "core/cpu_features.h"
#include "core/half.h"
#include "core/tensor.h"
#include "simd/vec.h"

namespace osf {

inline constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

inline bool is_cpu_dtype(DType dtype) {
  return dtype == DType::kFloat32 || dtype == DType::kBFloat16;
}

inline std::int64_t bytes_of(DType dtype) { return dtype == DType::kFloat32 ? 4 : 2; }

// One value of a float32 or bfloat16 array, where a vector is not worth it.
inline float value_at(const void* values, DType dtype, std::int64_t i) {
  return dtype == DType::kBFloat16 ? to_float(static_cast<const BFloat16*>(values)[i])
                                   : static_cast<const float*>(values)[i];
}

// One row of an op's table.
template <class Params>
struct IsaRow {
  Isa isa;
  void (*run)(const Params&);
};

// The table of a kernel that simd/foreach_isa.h compiled as op::<isa>::function.
// clang-format off
#if OSF_X86
#define OSF_ISA_TABLE(op, function)               \
  {{::osf::Isa::kScalar, op::scalar::function},   \
   {::osf::Isa::kAvx2, op::avx2::function},       \
   {::osf::Isa::kAvx512, op::avx512::function}}
#else
#define OSF_ISA_TABLE(op, function) {{::osf::Isa::kScalar, op::scalar::function}}
#endif
// clang-format on

// Runs the best row that the instruction set includes; ends in an error, never in silence. Rows go
// from the least to the greatest.
template <class Params, std::size_t kRows>
void run_on(Isa isa, const IsaRow<Params> (&table)[kRows], const Params& params, const char* op) {
  check(isa_supported(isa), op, ": this processor does not have ", isa_name(isa));
  for (std::size_t i = kRows; i-- > 0;) {
    if (table[i].isa <= isa) return table[i].run(params);
  }
  check(false, op, ": no kernel for ", isa_name(isa));
}

}  // namespace osf
