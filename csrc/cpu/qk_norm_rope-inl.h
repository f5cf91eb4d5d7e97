// The algorithm of qk_norm_rope.h over the vector type V, included once per instruction set. No
// include guard.

namespace osf::qk_norm_rope::OSF_ISA {

using V = osf::OSF_ISA::V;
inline constexpr std::int64_t W = V::kWidth;

// body(first channel, channels) for the vectors of n channels; the last may be partial.
template <class Body>
inline void for_vectors(std::int64_t n, const Body& body) {
  std::int64_t i = 0;
  for (; i + W <= n; i += W) body(i, W);
  if (i < n) body(i, n - i);
}

template <class T>
inline V load_some(const T* p, std::int64_t count) {
  return count == W ? V::load(p) : V::load_n(p, count, 0.0f);
}

template <class T>
inline void store_some(V value, T* p, std::int64_t count) {
  count == W ? value.store(p) : value.store_n(p, count);
}

// Enough to hide latencies; with more, long videos are read and written in bursts, 1.3x slower.
inline constexpr std::int64_t kHeadsAtOnce = 4;

// What each of `heads` heads is multiplied by. Apart from the products, because one head's sum,
// root and quotient wait for each other, and those of several heads do not.
template <class T>
inline void reciprocal_deviations(const T* x, std::int64_t stride, std::int64_t heads,
                                  std::int64_t dim, double eps, float* out) {
  double means[kHeadsAtOnce];
  for (std::int64_t h = 0; h < heads; ++h, x += stride) {
    V squares = V::set1(0.0f);
    for_vectors(dim, [&](std::int64_t i, std::int64_t count) {
      const V v = load_some(x + i, count);
      squares = fma(v, v, squares);
    });
    means[h] = sum(squares) / static_cast<double>(dim);
  }
  for (std::int64_t h = 0; h < heads; ++h) {
    out[h] = static_cast<float>(1.0 / std::sqrt(means[h] + eps));
  }
}

// The two roundings to T are those of the released models.
template <class T>
inline void normalise(const T* x, std::int64_t dim, float factor, const float* scale, float* out) {
  const V rstd = V::set1(factor);
  for_vectors(dim, [&](std::int64_t i, std::int64_t count) {
    const V normed = (load_some(x + i, count) * rstd).template rounded<T>();
    store_some((normed * load_some(scale + i, count)).template rounded<T>(), out + i, count);
  });
}

// The angles of one token: as in the tables for halves; interleaved, cosines twice each and sines
// twice with the sign that the first of a pair needs, so that y = n cos + swapped(n) sin.
struct Angles {
  const float* cos;
  const float* sin;
};

template <class T>
inline void rotate_halves(const float* n, std::int64_t dim, const Angles& angles, T* y) {
  const std::int64_t half = dim / 2;
  for_vectors(half, [&](std::int64_t j, std::int64_t count) {
    const V first = load_some(n + j, count), second = load_some(n + half + j, count);
    const V cos = load_some(angles.cos + j, count), sin = load_some(angles.sin + j, count);
    store_some(first * cos - second * sin, y + j, count);
    store_some(second * cos + first * sin, y + half + j, count);
  });
}

template <class T>
inline void rotate_pairs(const float* n, std::int64_t dim, const Angles& angles, T* y) {
  if constexpr (W == 1) {
    for (std::int64_t i = 0; i < dim; i += 2) {
      from_float(n[i] * angles.cos[i] + n[i + 1] * angles.sin[i], y + i);
      from_float(n[i + 1] * angles.cos[i + 1] + n[i] * angles.sin[i + 1], y + i + 1);
    }
  } else {
    for_vectors(dim, [&](std::int64_t i, std::int64_t count) {
      const V v = load_some(n + i, count);
      const V cos = load_some(angles.cos + i, count), sin = load_some(angles.sin + i, count);
      store_some(v * cos + swap_pairs(v) * sin, y + i, count);
    });
  }
}

template <class T, bool kInterleaved>
void turn_heads(const QkNormRopeParams& p, const HeadsView& view, const float* scale,
                std::int64_t sample, std::int64_t token, const Angles& angles) {
  const T* x =
      static_cast<const T*>(view.x) + sample * view.sample_stride + token * view.token_stride;
  T* y = static_cast<T*>(view.y) + (sample * p.length + token) * p.heads * p.head_dim;
  float normed[kMaxHeadDim], rstd[kHeadsAtOnce];
  for (std::int64_t h = 0; h < p.heads; ++h, x += view.head_stride, y += p.head_dim) {
    const std::int64_t at = h % kHeadsAtOnce;
    if (at == 0) {
      const std::int64_t heads = std::min(kHeadsAtOnce, p.heads - h);
      reciprocal_deviations(x, view.head_stride, heads, p.head_dim, p.eps, rstd);
    }
    normalise(x, p.head_dim, rstd[at], scale, normed);
    if constexpr (kInterleaved) {
      rotate_pairs(normed, p.head_dim, angles, y);
    } else {
      rotate_halves(normed, p.head_dim, angles, y);
    }
  }
}

template <class T, bool kInterleaved>
void run_layout(const QkNormRopeParams& p) {
  const Scales scales(p);
  const std::int64_t half = p.head_dim / 2;
  parallel_for(p.batch * p.length, 2 * p.heads * p.head_dim, [&](std::int64_t i) {
    const std::int64_t sample = i / p.length, token = i % p.length;
    const std::int64_t row = (p.table_per_sample ? i : token) * half;
    float cos[kMaxHeadDim], sin[kMaxHeadDim];
    Angles angles = {p.cos + row, p.sin + row};
    if constexpr (kInterleaved) {
      for (std::int64_t j = 0; j < half; ++j) {
        cos[2 * j] = cos[2 * j + 1] = angles.cos[j];
        sin[2 * j] = -angles.sin[j];
        sin[2 * j + 1] = angles.sin[j];
      }
      angles = {cos, sin};
    }
    turn_heads<T, kInterleaved>(p, p.q, scales.q, sample, token, angles);
    turn_heads<T, kInterleaved>(p, p.k, scales.k, sample, token, angles);
  });
}

template <class T>
void run_typed(const QkNormRopeParams& p) {
  p.interleaved ? run_layout<T, true>(p) : run_layout<T, false>(p);
}

inline void run(const QkNormRopeParams& p) {
  p.dtype == DType::kBFloat16 ? run_typed<BFloat16>(p) : run_typed<float>(p);
}

}  // namespace osf::qk_norm_rope::OSF_ISA
