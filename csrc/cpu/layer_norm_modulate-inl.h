// The algorithm of layer_norm_modulate.h over the vector type V, included once per instruction set.
// No include guard.

namespace osf::layer_norm_modulate::OSF_ISA {

using V = osf::OSF_ISA::V;
inline constexpr std::int64_t W = V::kWidth;
// 64 sums side by side: short enough for float, and independent, which hides the adder's latency.
inline constexpr std::int64_t kLanes = 64 / W;

// Sum of term(x - shift) over n values. The lanes past the end see x = shift, whose term is 0.
template <class T, class Term>
inline double sum_of(const T* x, std::int64_t n, float shift, const Term& term) {
  const V origin = V::set1(shift);
  V sums[kLanes];
  for (V& lane : sums) lane = V::set1(0.0f);
  std::int64_t i = 0;
  for (; i + kLanes * W <= n; i += kLanes * W) {
    for (std::int64_t k = 0; k < kLanes; ++k) {
      sums[k] = term(V::load(x + i + k * W) - origin, sums[k]);
    }
  }
  for (std::int64_t k = 0; i + W <= n; i += W, ++k) {
    sums[k] = term(V::load(x + i) - origin, sums[k]);
  }
  if (i < n) sums[kLanes - 1] = term(V::load_n(x + i, n - i, shift) - origin, sums[kLanes - 1]);
  for (std::int64_t half = kLanes / 2; half > 0; half /= 2) {
    for (std::int64_t k = 0; k < half; ++k) sums[k] = sums[k] + sums[k + half];
  }
  return sum(sums[0]);
}

template <class T>
void normalise_token(const T* x, T* y, std::int64_t n, double eps, const float* gain,
                     const float* shift) {
  const auto add = [](V d, V total) { return total + d; };
  const auto add_square = [](V d, V total) { return fma(d, d, total); };
  const double count = static_cast<double>(n);
  // The mean in two steps: what the first loses to rounding, the second finds.
  const double rough = sum_of(x, n, 0.0f, add) / count;
  const float origin = static_cast<float>(rough);
  const double apart = sum_of(x, n, origin, add) / count;
  const double square = sum_of(x, n, origin, add_square) / count;
  const double inverse = 1.0 / std::sqrt(square - apart * apart + eps);

  // (x - origin) * inverse + offset
  const V center = V::set1(origin), rstd = V::set1(static_cast<float>(inverse));
  const V offset = V::set1(static_cast<float>(-apart * inverse));
  std::int64_t i = 0;
  for (; i + W <= n; i += W) {
    const V normed = fma(V::load(x + i) - center, rstd, offset);
    fma(normed, V::load(gain + i), V::load(shift + i)).store(y + i);
  }
  if (const std::int64_t rest = n - i; rest > 0) {
    const V normed = fma(V::load_n(x + i, rest, 0.0f) - center, rstd, offset);
    fma(normed, V::load_n(gain + i, rest, 0.0f), V::load_n(shift + i, rest, 0.0f))
        .store_n(y + i, rest);
  }
}

template <class T>
void run_typed(const LayerNormModulateParams& p) {
  const Modulation modulation(p);
  parallel_for(p.batch * p.length, p.width, [&](std::int64_t token) {
    const std::int64_t sample = token / p.length;
    const T* const x =
        static_cast<const T*>(p.x) + sample * p.sample_stride + token % p.length * p.token_stride;
    normalise_token(x, static_cast<T*>(p.y) + token * p.width, p.width, p.eps,
                    modulation.gain.data() + sample * p.width,
                    modulation.shift.data() + sample * p.width);
  });
}

inline void run(const LayerNormModulateParams& p) {
  p.dtype == DType::kBFloat16 ? run_typed<BFloat16>(p) : run_typed<float>(p);
}

}  // namespace osf::layer_norm_modulate::OSF_ISA
