// GELU in its tanh form, and its gradient, on the CPU.
//
//   y = x / 2 * (1 + tanh(u)) = x / (1 + exp(-2 u)),   u = sqrt(2 / pi) * (x + 0.044715 x^3)
//
// Layout: rows of `width` neighbouring values, rows of every tensor at a distance of its own: a
// part of the columns of a wider matrix serves as input, and one is written as output. Numerics:
// float arithmetic, rounded once; for very negative x the second form keeps the digits that 1 +
// tanh(u) cancels. Memory: reads x (and the gradient) once, writes one output.
#pragma once

#include <cstdint>

#include "core/cpu_features.h"
#include "core/tensor.h"

namespace osf {

struct GeluParams {
  const void* x;
  const void* grad;  // of y; null forwards
  void* out;         // y forwards, dx backwards
  std::int64_t rows;
  std::int64_t width;
  std::int64_t x_stride;  // from row to row, in elements
  std::int64_t grad_stride;
  std::int64_t out_stride;
  DType dtype;  // of all: float32 or bfloat16
};

// Run on the instruction set in force (cpu_features.h). Throw std::invalid_argument for sizes that
// are none and for a dtype they do not have.
void gelu_cpu(const GeluParams& params);
void gelu_backward_cpu(const GeluParams& params);

// The same on a named instruction set, for tests.
void gelu_cpu(const GeluParams& params, Isa isa);
void gelu_backward_cpu(const GeluParams& params, Isa isa);

}  // namespace osf
