// The vector contract (vec.h) in plain C++, one lane wide: the readable row, and the portable one.
#pragma once

#include "simd/vec.h"

namespace osf::scalar {

struct V {
  static constexpr int kWidth = 1;
  float value;

  static V set1(float f) { return {f}; }
  template <class T>
  static V load(const T* p) {
    return {to_float(*p)};
  }
  template <class T>
  static V load_n(const T* p, std::int64_t n, float fill) {
    return {n > 0 ? to_float(*p) : fill};
  }
  template <class T>
  void store(T* p) const {
    from_float(value, p);
  }
  template <class T>
  void store_n(T* p, std::int64_t n) const {
    if (n > 0) from_float(value, p);
  }
  template <class T>
  V rounded() const {
    T narrow;
    from_float(value, &narrow);
    return {to_float(narrow)};
  }
};

inline V operator+(V a, V b) { return {a.value + b.value}; }
inline V operator-(V a, V b) { return {a.value - b.value}; }
inline V operator*(V a, V b) { return {a.value * b.value}; }
inline V operator/(V a, V b) { return {a.value / b.value}; }
inline V fma(V a, V b, V c) { return {a.value * b.value + c.value}; }
inline V max(V a, V b) { return {a.value > b.value ? a.value : b.value}; }
inline V if_positive(V a, V b) { return {a.value > 0.0f ? b.value : 0.0f}; }
inline V exp(V a) { return {std::exp(a.value)}; }
// One lane has no pairs: declared for code that never calls it, and not defined.
V swap_pairs(V a);
inline double sum(V a) { return static_cast<double>(a.value); }

}  // namespace osf::scalar
