// The vector contract that a CPU kernel is written against, and what its instances need.
//
// vec_scalar.h, vec_avx2.h and vec_avx512.h each define, in namespace osf::<isa>, one type V:
//
// clang-format off
//   V::kWidth                 floats in a vector
//   V::set1(f)                every lane f
//   V::load(p), v.store(p)    kWidth values at p (float or BFloat16), any alignment; a store to
//                             BFloat16 rounds to nearest, ties to even
//   V::load_n(p, n, fill)     n < kWidth values, `fill` in the other lanes; reads n values only
//   v.store_n(p, n)           writes n values only
//   v.rounded<T>()            what a store to T and a load from it give
//   a + b, a - b, a * b, a / b    correctly rounded
//   fma(a, b, c)              a * b + c, rounded once where the instruction set has it
//   exp(a)                    within 2 units in the last place; 0 and infinity past the ends, NaN
//                             for NaN
//   max(a, b)                 the greater; b where either is a NaN
//   if_positive(a, b)         b where a > 0, else 0
//   swap_pairs(a)             lanes 1, 0, 3, 2, ...; absent where kWidth is 1
//   sum(a)                    the lanes added up in double
// clang-format on
//
// A kernel includes this file outside, and the instances inside, the region that sets the target,
// so that no standard header is ever compiled for an instruction set the processor may lack.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/half.h"

#if defined(__x86_64__)
#define OSF_X86 1
#include <immintrin.h>
#else
#define OSF_X86 0
#endif

namespace osf::exp_constants {

// exp(x) = 2^n exp(r), n = round(x / ln 2), |r| <= ln 2 / 2; ln 2 is split so that n * kLn2High is
// exact. exp(r) = 1 + r + r^2 P(r), P after the Cephes library's expf: 1.7e-7 relative.
inline constexpr float kInverseLn2 = 1.44269504088896341f;
inline constexpr float kLn2High = 0.693359375f;
inline constexpr float kLn2Low = -2.12194440e-4f;
inline constexpr float kP0 = 1.9875691500e-4f;
inline constexpr float kP1 = 1.3981999507e-3f;
inline constexpr float kP2 = 8.3334519073e-3f;
inline constexpr float kP3 = 4.1665795894e-2f;
inline constexpr float kP4 = 1.6666665459e-1f;
inline constexpr float kP5 = 5.0000001201e-1f;
// Past these exp is 0 or infinity in float whatever the rounding.
inline constexpr float kLowest = -110.0f;
inline constexpr float kHighest = 100.0f;

}  // namespace osf::exp_constants
