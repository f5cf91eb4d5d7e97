// Bits as numbers and back, and single instructions of arithmetic less accurate than C++'s.
#pragma once

#include <cstdint>

namespace osf::cuda {

__device__ __forceinline__ float as_float(std::uint32_t bits) { return __uint_as_float(bits); }

// 2^v within 2^-22 of it; results below the normal numbers are zero.
__device__ __forceinline__ float exp2_approx(float v) {
  float out;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(v));
  return out;
}

// 1 / v within one unit in the last place; 0 for infinity.
__device__ __forceinline__ float reciprocal_approx(float v) {
  float out;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(v));
  return out;
}

// Two floats rounded to bf16 in one word, the first in its lower half.
__device__ __forceinline__ std::uint32_t pack_bf16(float low, float high) {
  std::uint32_t out;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
  return out;
}

}  // namespace osf::cuda
