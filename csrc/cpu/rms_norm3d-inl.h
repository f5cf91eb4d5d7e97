// The algorithm of rms_norm3d.h over the vector type V, included once per instruction set. No
// include guard.
//
// Parallel over chunks of a sample's positions. Channels last, a position is a row of its own;
// else a chunk is C runs of neighbouring positions, with the positions' sums in small buffers.

namespace osf::rms_norm3d::OSF_ISA {

using osf::OSF_ISA::for_vectors;
using V = osf::OSF_ISA::V;
inline constexpr std::int64_t W = V::kWidth;
// 64 sums side by side: short enough for float, and independent, which hides the adder's latency.
inline constexpr std::int64_t kLanes = 64 / W;

template <Activation kActivation>
inline V activated(V z) {
  if constexpr (kActivation == Activation::kSilu) return silu(z);
  // A NaN is the second operand, which comes back.
  if constexpr (kActivation == Activation::kRelu) return max(V::set1(0.0f), z);
  return z;
}

// dy * activation'(z).
template <Activation kActivation>
inline V through(V dy, V z) {
  if constexpr (kActivation == Activation::kSilu) {
    const V one = V::set1(1.0f);
    const V s = one / (one + exp(V::set1(0.0f) - z));
    return dy * s * fma(z, one - s, one);
  }
  if constexpr (kActivation == Activation::kRelu) return if_positive(z, dy);
  return dy;
}

inline double total(V (&sums)[kLanes]) {
  for (std::int64_t half = kLanes / 2; half > 0; half /= 2) {
    for (std::int64_t k = 0; k < half; ++k) sums[k] = sums[k] + sums[k + half];
  }
  return sum(sums[0]);
}

inline float inverse_root(double square, const RmsNorm3dParams& p) {
  return static_cast<float>(1.0 / std::sqrt(square / static_cast<double>(p.channels) + p.eps));
}

// 1 / root mean square of a position whose channels lie next to each other.
template <class T>
inline float inverse_of_row(const T* x, const RmsNorm3dParams& p) {
  V sums[kLanes];
  for (V& lane : sums) lane = V::set1(0.0f);
  for_vectors(p.channels, [&](std::int64_t i, const auto& load, const auto&) {
    const V value = load(x);
    V& lane = sums[i / W % kLanes];
    lane = fma(value, value, lane);
  });
  return inverse_root(total(sums), p);
}

// The same for n positions next to each other, whose channels lie p.positions apart.
template <class T>
inline void inverse_of_run(const T* x, std::int64_t n, const RmsNorm3dParams& p, float* inverse) {
  float square[kLongestRun], block[kLongestRun];
  std::fill_n(square, n, 0.0f);
  for (std::int64_t first = 0; first < p.channels; first += kChannelBlock) {
    std::fill_n(block, n, 0.0f);
    for (std::int64_t c = first; c < std::min(first + kChannelBlock, p.channels); ++c) {
      const T* const row = x + c * p.positions;
      for_vectors(n, [&](std::int64_t, const auto& load, const auto& store) {
        const V value = load(row);
        store(fma(value, value, load(block)), block);
      });
    }
    for_vectors(n, [&](std::int64_t, const auto& load, const auto& store) {
      store(load(square) + load(block), square);
    });
  }
  for (std::int64_t i = 0; i < n; ++i) {
    inverse[i] = inverse_root(static_cast<double>(square[i]), p);
  }
}

// Positions whose channels lie next to each other, from `first` on.
template <class T, Activation kActivation>
void normalise_rows(std::int64_t first, std::int64_t n, const RmsNorm3dParams& p,
                    const Affine& affine) {
  for (std::int64_t row = 0; row < n; ++row, first += p.channels) {
    const T* const x = static_cast<const T*>(p.x) + first;
    const V inverse = V::set1(inverse_of_row(x, p));
    for_vectors(p.channels, [&](std::int64_t, const auto& load, const auto& store) {
      const V z = fma(load(x) * inverse, load(affine.weight.data()), load(affine.bias.data()));
      V y = activated<kActivation>(z);
      if (p.residual != nullptr) y = y + load(static_cast<const T*>(p.residual) + first);
      store(y, static_cast<T*>(p.y) + first);
    });
  }
}

// The same for n positions next to each other, whose channels lie p.positions apart.
template <class T, Activation kActivation>
void normalise_run(std::int64_t first, std::int64_t n, const RmsNorm3dParams& p,
                   const Affine& affine) {
  float inverse[kLongestRun];
  inverse_of_run(static_cast<const T*>(p.x) + first, n, p, inverse);
  for (std::int64_t c = 0; c < p.channels; ++c, first += p.positions) {
    const V weight = V::set1(affine.weight[static_cast<std::size_t>(c)]);
    const V bias = V::set1(affine.bias[static_cast<std::size_t>(c)]);
    for_vectors(n, [&](std::int64_t, const auto& load, const auto& store) {
      const V z = fma(load(static_cast<const T*>(p.x) + first) * load(inverse), weight, bias);
      V y = activated<kActivation>(z);
      if (p.residual != nullptr) y = y + load(static_cast<const T*>(p.residual) + first);
      store(y, static_cast<T*>(p.y) + first);
    });
  }
}

// Gradients of a chunk of rows; adds to sums [2, C], which are zero.
template <class T, Activation kActivation>
void backward_rows(const T* dy, const T* x, T* dx, std::int64_t n, const RmsNorm3dParams& p,
                   const Affine& affine, float* sums) {
  const float* const weight = affine.weight.data();
  float* const dbias = sums + p.channels;
  std::vector<float> buffer(static_cast<std::size_t>(p.channels));
  float* const dn = buffer.data();
  for (std::int64_t row = 0; row < n; ++row) {
    const float rstd = inverse_of_row(x, p);
    const V inverse = V::set1(rstd);
    V along[kLanes];
    for (V& lane : along) lane = V::set1(0.0f);
    for_vectors(p.channels, [&](std::int64_t i, const auto& load, const auto& store) {
      const V normed = load(x) * inverse;
      const V dz =
          through<kActivation>(load(dy), fma(normed, load(weight), load(affine.bias.data())));
      const V g = dz * load(weight);
      store(g, dn);
      store(fma(dz, normed, load(sums)), sums);
      store(load(dbias) + dz, dbias);
      V& lane = along[i / W % kLanes];
      lane = fma(g, normed, lane);
    });
    const double mean = total(along) / static_cast<double>(p.channels);
    const V share = V::set1(static_cast<float>(mean * static_cast<double>(rstd)));
    for_vectors(p.channels, [&](std::int64_t, const auto& load, const auto& store) {
      store((load(dn) - load(x) * share) * inverse, dx);
    });
    dy += p.channels, x += p.channels, dx += p.channels;
  }
}

// Gradients of a run; writes sums [2, C].
template <class T, Activation kActivation>
void backward_run(const T* dy, const T* x, T* dx, std::int64_t n, const RmsNorm3dParams& p,
                  const Affine& affine, float* sums) {
  float inverse[kLongestRun], along[kLongestRun], block[kLongestRun];
  inverse_of_run(x, n, p, inverse);
  std::fill_n(along, n, 0.0f);
  const auto dz_of = [&](V normed, V grad, std::int64_t c) {
    const V weight = V::set1(affine.weight[static_cast<std::size_t>(c)]);
    const V bias = V::set1(affine.bias[static_cast<std::size_t>(c)]);
    return through<kActivation>(grad, fma(normed, weight, bias));
  };
  for (std::int64_t first = 0; first < p.channels; first += kChannelBlock) {
    std::fill_n(block, n, 0.0f);
    for (std::int64_t c = first; c < std::min(first + kChannelBlock, p.channels); ++c) {
      const T* const x_row = x + c * p.positions;
      const T* const dy_row = dy + c * p.positions;
      const V weight = V::set1(affine.weight[static_cast<std::size_t>(c)]);
      V dweight = V::set1(0.0f), dbias = V::set1(0.0f);
      for_vectors(n, [&](std::int64_t, const auto& load, const auto& store) {
        const V normed = load(x_row) * load(inverse);
        const V dz = dz_of(normed, load(dy_row), c);
        dweight = fma(dz, normed, dweight);
        dbias = dbias + dz;
        store(fma(dz * weight, normed, load(block)), block);
      });
      sums[c] = static_cast<float>(sum(dweight));
      sums[p.channels + c] = static_cast<float>(sum(dbias));
    }
    for_vectors(n, [&](std::int64_t, const auto& load, const auto& store) {
      store(load(along) + load(block), along);
    });
  }
  const V share = V::set1(1.0f / static_cast<float>(p.channels));
  for (std::int64_t c = 0; c < p.channels; ++c) {
    const std::int64_t at = c * p.positions;
    const V weight = V::set1(affine.weight[static_cast<std::size_t>(c)]);
    for_vectors(n, [&](std::int64_t, const auto& load, const auto& store) {
      const V normed = load(x + at) * load(inverse);
      const V dz = dz_of(normed, load(dy + at), c);
      store((dz * weight - normed * (load(along) * share)) * load(inverse), dx + at);
    });
  }
}

template <class T, Activation kActivation>
void run_typed(const RmsNorm3dParams& p) {
  const Affine affine(p);
  const Chunks chunks(p);
  const std::int64_t step = p.channels_last ? p.channels : 1;
  parallel_for(p.batch * chunks.count, chunks.length * p.channels, [&](std::int64_t i) {
    const std::int64_t first = i % chunks.count * chunks.length;
    const std::int64_t n = std::min(chunks.length, p.positions - first);
    const std::int64_t at = i / chunks.count * p.channels * p.positions + first * step;
    p.channels_last ? normalise_rows<T, kActivation>(at, n, p, affine)
                    : normalise_run<T, kActivation>(at, n, p, affine);
  });
}

template <class T, Activation kActivation>
void run_backward_typed(const RmsNorm3dBackwardParams& params) {
  const RmsNorm3dParams& p = params.forward;
  const Affine affine(p);
  const Chunks chunks(p);
  const std::int64_t step = p.channels_last ? p.channels : 1;
  std::vector<float> sums(static_cast<std::size_t>(p.batch * chunks.count * 2 * p.channels));
  parallel_for(p.batch * chunks.count, chunks.length * p.channels, [&](std::int64_t i) {
    const std::int64_t first = i % chunks.count * chunks.length;
    const std::int64_t n = std::min(chunks.length, p.positions - first);
    const std::int64_t at = i / chunks.count * p.channels * p.positions + first * step;
    const T* const dy = static_cast<const T*>(params.grad) + at;
    const T* const x = static_cast<const T*>(p.x) + at;
    T* const dx = static_cast<T*>(params.dx) + at;
    float* const own = sums.data() + i * 2 * p.channels;
    p.channels_last ? backward_rows<T, kActivation>(dy, x, dx, n, p, affine, own)
                    : backward_run<T, kActivation>(dy, x, dx, n, p, affine, own);
  });
  reduce(params, sums);
}

// Calls run(T, activation) with types for the values of p.
template <class Run>
inline void typed(const RmsNorm3dParams& p, const Run& run) {
  const auto with = [&](auto zero) {
    switch (p.activation) {
      case Activation::kNone:
        return run.template operator()<decltype(zero), Activation::kNone>();
      case Activation::kSilu:
        return run.template operator()<decltype(zero), Activation::kSilu>();
      case Activation::kRelu:
        return run.template operator()<decltype(zero), Activation::kRelu>();
    }
  };
  p.dtype == DType::kBFloat16 ? with(BFloat16{}) : with(float{});
}

struct Forward {
  const RmsNorm3dParams& params;
  template <class T, Activation kActivation>
  void operator()() const {
    run_typed<T, kActivation>(params);
  }
};

struct Backward {
  const RmsNorm3dBackwardParams& params;
  template <class T, Activation kActivation>
  void operator()() const {
    run_backward_typed<T, kActivation>(params);
  }
};

inline void run(const RmsNorm3dParams& p) { typed(p, Forward{p}); }
inline void run_backward(const RmsNorm3dBackwardParams& p) { typed(p.forward, Backward{p}); }

}  // namespace osf::rms_norm3d::OSF_ISA
