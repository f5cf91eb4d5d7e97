// The algorithm of layer_norm_modulate.h over the vector type V, included once per instruction set.
// No include guard.

namespace osf::layer_norm_modulate::OSF_ISA {

using V = osf::OSF_ISA::V;
inline constexpr std::int64_t W = V::kWidth;
// 64 sums side by side: short enough for float, and independent, which hides the adder's latency.
inline constexpr std::int64_t kLanes = 64 / W;

struct Sums {
  double value, square;
};

// Sums of x - shift over n values and, where asked for, of its square. The lanes past the end see x
// = shift, which adds nothing.
template <bool kSquares, class T>
inline Sums sums_of(const T* x, std::int64_t n, float shift) {
  const V origin = V::set1(shift);
  V values[kLanes], squares[kLanes];
  for (std::int64_t k = 0; k < kLanes; ++k) values[k] = squares[k] = V::set1(0.0f);
  const auto add = [&](std::int64_t k, V apart) {
    values[k] = values[k] + apart;
    if constexpr (kSquares) squares[k] = fma(apart, apart, squares[k]);
  };
  std::int64_t i = 0;
  for (; i + kLanes * W <= n; i += kLanes * W) {
    for (std::int64_t k = 0; k < kLanes; ++k) add(k, V::load(x + i + k * W) - origin);
  }
  for (std::int64_t k = 0; i + W <= n; i += W, ++k) add(k, V::load(x + i) - origin);
  if (i < n) add(kLanes - 1, V::load_n(x + i, n - i, shift) - origin);
  for (std::int64_t half = kLanes / 2; half > 0; half /= 2) {
    for (std::int64_t k = 0; k < half; ++k) {
      values[k] = values[k] + values[k + half];
      if constexpr (kSquares) squares[k] = squares[k] + squares[k + half];
    }
  }
  return {sum(values[0]), kSquares ? sum(squares[0]) : 0.0};
}

template <class T>
void normalise_token(const T* x, T* y, std::int64_t n, double eps, const float* gain,
                     const float* shift) {
  const double count = static_cast<double>(n);
  // The mean in two steps: what the first loses to rounding, the second finds.
  const float origin = static_cast<float>(sums_of<false>(x, n, 0.0f).value / count);
  const Sums sums = sums_of<true>(x, n, origin);
  const double apart = sums.value / count;
  const double inverse = 1.0 / std::sqrt(sums.square / count - apart * apart + eps);

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
