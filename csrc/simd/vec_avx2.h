// The vector contract (vec.h) for AVX2 with FMA: 8 lanes. Include inside a target region.
#pragma once

#include "simd/vec.h"

namespace osf::avx2 {

struct V {
  static constexpr int kWidth = 8;
  __m256 value;

  static V set1(float f) { return {_mm256_set1_ps(f)}; }

  static V load(const float* p) { return {_mm256_loadu_ps(p)}; }
  static V load(const BFloat16* p) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16))};
  }
  template <class T>
  static V load_n(const T* p, std::int64_t n, float fill) {
    float lanes[kWidth];
    for (int i = 0; i < kWidth; ++i) lanes[i] = i < n ? to_float(p[i]) : fill;
    return load(lanes);
  }

  void store(float* p) const { _mm256_storeu_ps(p, value); }
  void store(BFloat16* p) const {
    const __m256i bits = upper_half();
    _mm_storeu_si128(
        reinterpret_cast<__m128i*>(p),
        _mm_packus_epi32(_mm256_castsi256_si128(bits), _mm256_extracti128_si256(bits, 1)));
  }
  template <class T>
  V rounded() const {
    if constexpr (sizeof(T) == sizeof(float)) {
      return *this;
    } else {
      return {_mm256_castsi256_ps(_mm256_slli_epi32(upper_half(), 16))};
    }
  }
  template <class T>
  void store_n(T* p, std::int64_t n) const {
    float lanes[kWidth];
    store(lanes);
    for (int i = 0; i < kWidth && i < n; ++i) from_float(lanes[i], p + i);
  }

 private:
  // The bits of the nearest bfloat16, in the lower half of each lane.
  __m256i upper_half() const {
    const __m256i bits = _mm256_castps_si256(value);
    const __m256i upper = _mm256_srli_epi32(bits, 16);
    const __m256i odd = _mm256_and_si256(upper, _mm256_set1_epi32(1));
    const __m256i carry = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
    const __m256i nearest = _mm256_srli_epi32(_mm256_add_epi32(bits, carry), 16);
    const __m256i quiet_nan = _mm256_or_si256(upper, _mm256_set1_epi32(0x40));
    const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(value, value, _CMP_UNORD_Q));
    return _mm256_blendv_epi8(nearest, quiet_nan, is_nan);
  }
};

inline V operator+(V a, V b) { return {_mm256_add_ps(a.value, b.value)}; }
inline V operator-(V a, V b) { return {_mm256_sub_ps(a.value, b.value)}; }
inline V operator*(V a, V b) { return {_mm256_mul_ps(a.value, b.value)}; }
inline V operator/(V a, V b) { return {_mm256_div_ps(a.value, b.value)}; }
inline V fma(V a, V b, V c) { return {_mm256_fmadd_ps(a.value, b.value, c.value)}; }
inline V max(V a, V b) { return {_mm256_max_ps(a.value, b.value)}; }
inline V if_positive(V a, V b) {
  const __m256 positive = _mm256_cmp_ps(a.value, _mm256_setzero_ps(), _CMP_GT_OQ);
  return {_mm256_and_ps(positive, b.value)};
}

inline V swap_pairs(V a) { return {_mm256_permute_ps(a.value, 0xb1)}; }

// 2^n for |n| <= 126, built in the exponent bits.
inline __m256 power_of_two(__m256i n) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}

inline V exp(V a) {
  using namespace exp_constants;
  // The second operand comes back when one of the two is a NaN, so that a NaN passes through.
  const __m256 x =
      _mm256_min_ps(_mm256_set1_ps(kHighest), _mm256_max_ps(_mm256_set1_ps(kLowest), a.value));
  const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(kInverseLn2)),
                                   _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m256 high = _mm256_fnmadd_ps(n, _mm256_set1_ps(kLn2High), x);
  const __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(kLn2Low), high);
  __m256 p = _mm256_set1_ps(kP0);
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(kP1));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(kP2));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(kP3));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(kP4));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(kP5));
  p = _mm256_fmadd_ps(p, _mm256_mul_ps(r, r), _mm256_add_ps(r, _mm256_set1_ps(1.0f)));
  // n reaches past the exponents of normal numbers: scale in two steps.
  const __m256i exponent = _mm256_cvtps_epi32(n);
  const __m256i half = _mm256_srai_epi32(exponent, 1);
  p = _mm256_mul_ps(p, power_of_two(half));
  return {_mm256_mul_ps(p, power_of_two(_mm256_sub_epi32(exponent, half)))};
}

inline double sum(V a) {
  const __m256d four = _mm256_add_pd(_mm256_cvtps_pd(_mm256_castps256_ps128(a.value)),
                                     _mm256_cvtps_pd(_mm256_extractf128_ps(a.value, 1)));
  const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
  return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

}  // namespace osf::avx2
