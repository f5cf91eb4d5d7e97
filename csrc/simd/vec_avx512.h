// The vector contract (vec.h) for AVX-512 F, BW, DQ and VL: 16 lanes. Include inside a target
// region.
#pragma once

#include "simd/vec.h"

namespace osf::avx512 {

struct V {
  static constexpr int kWidth = 16;
  __m512 value;

  static V set1(float f) { return {_mm512_set1_ps(f)}; }

  static __mmask16 first(std::int64_t n) { return static_cast<__mmask16>((1u << n) - 1u); }

  static V load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static V load_n(const float* p, std::int64_t n, float fill) {
    return {_mm512_mask_loadu_ps(_mm512_set1_ps(fill), first(n), p)};
  }
  static V load(const BFloat16* p) {
    return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static V load_n(const BFloat16* p, std::int64_t n, float fill) {
    const V loaded = widen(_mm256_maskz_loadu_epi16(first(n), p));
    return {_mm512_mask_mov_ps(_mm512_set1_ps(fill), first(n), loaded.value)};
  }

  void store(float* p) const { _mm512_storeu_ps(p, value); }
  void store_n(float* p, std::int64_t n) const { _mm512_mask_storeu_ps(p, first(n), value); }
  void store(BFloat16* p) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow()); }
  void store_n(BFloat16* p, std::int64_t n) const {
    _mm256_mask_storeu_epi16(p, first(n), narrow());
  }
  template <class T>
  V rounded() const {
    if constexpr (sizeof(T) == sizeof(float)) {
      return *this;
    } else {
      const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
      return {_mm512_castsi512_ps(_mm512_and_si512(nearest(), upper))};
    }
  }

 private:
  static V widen(__m256i bits) {
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16))};
  }
  // The bits with the nearest BF16 value in their upper half; the lower half is of no meaning.
  // Integer rounding rather than the BF16 extension's: that one flushes denormal numbers.
  __m512i nearest() const {
    const __m512i bits = _mm512_castps_si512(value);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i carry = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
    const __mmask16 is_nan = _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
    return _mm512_mask_or_epi32(_mm512_add_epi32(bits, carry), is_nan, bits,
                                _mm512_set1_epi32(0x400000));
  }
  __m256i narrow() const { return _mm512_cvtepi32_epi16(_mm512_srli_epi32(nearest(), 16)); }
};

inline V operator+(V a, V b) { return {_mm512_add_ps(a.value, b.value)}; }
inline V operator-(V a, V b) { return {_mm512_sub_ps(a.value, b.value)}; }
inline V operator*(V a, V b) { return {_mm512_mul_ps(a.value, b.value)}; }
inline V operator/(V a, V b) { return {_mm512_div_ps(a.value, b.value)}; }
inline V fma(V a, V b, V c) { return {_mm512_fmadd_ps(a.value, b.value, c.value)}; }
inline V max(V a, V b) { return {_mm512_max_ps(a.value, b.value)}; }
inline V if_positive(V a, V b) {
  const __mmask16 positive = _mm512_cmp_ps_mask(a.value, _mm512_setzero_ps(), _CMP_GT_OQ);
  return {_mm512_maskz_mov_ps(positive, b.value)};
}

inline V swap_pairs(V a) { return {_mm512_permute_ps(a.value, 0xb1)}; }

inline V exp(V a) {
  using namespace exp_constants;
  // The second operand comes back when one of the two is a NaN, so that a NaN passes through.
  const __m512 x =
      _mm512_min_ps(_mm512_set1_ps(kHighest), _mm512_max_ps(_mm512_set1_ps(kLowest), a.value));
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(kInverseLn2)),
                                        _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 high = _mm512_fnmadd_ps(n, _mm512_set1_ps(kLn2High), x);
  const __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(kLn2Low), high);
  __m512 p = _mm512_set1_ps(kP0);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(kP1));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(kP2));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(kP3));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(kP4));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(kP5));
  p = _mm512_fmadd_ps(p, _mm512_mul_ps(r, r), _mm512_add_ps(r, _mm512_set1_ps(1.0f)));
  return {_mm512_scalef_ps(p, n)};
}

inline double sum(V a) {
  const __m256 upper = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(a.value), 1));
  return _mm512_reduce_add_pd(
      _mm512_add_pd(_mm512_cvtps_pd(_mm512_castps512_ps256(a.value)), _mm512_cvtps_pd(upper)));
}

}  // namespace osf::avx512
