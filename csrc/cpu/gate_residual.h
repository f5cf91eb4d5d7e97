// A branch, scaled by each sample's gate, added to its residual stream, on the CPU.
//
//   y[b, l, m] = x[b, l, m] + gate[b, m] * branch[b, l, m]
//
// Layouts: x, branch and y [B, L, M], dense; y and x may be the same memory.
// Numerics: one fused multiply-add in float where the instruction set has it, rounded once.
// Memory: reads x and branch once, writes y once.
#pragma once

#include <cstdint>

#include "core/cpu_features.h"
#include "core/tensor.h"

namespace osf {

struct GateResidualParams {
  const void* x;
  const void* gate;  // [B, M]
  const void* branch;
  void* y;
  std::int64_t batch;
  std::int64_t length;
  std::int64_t width;
  DType dtype;         // of x, gate and y: float32 or bfloat16
  DType branch_dtype;  // that of x, or bfloat16
};

// Runs on the instruction set in force (cpu_features.h). Throws std::invalid_argument for sizes
// that are none and for dtypes it does not have.
void gate_residual_cpu(const GateResidualParams& params);

// The same on a named instruction set, for tests.
void gate_residual_cpu(const GateResidualParams& params, Isa isa);

}  // namespace osf
