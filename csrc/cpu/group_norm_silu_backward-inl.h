// The algorithm of group_norm_silu_backward.h over the vector type V, included once per instruction
// set, inside a target region and with OSF_ISA naming the namespace. No include guard.

namespace osf::group_norm_silu_backward::OSF_ISA {

using V = osf::OSF_ISA::V;
inline constexpr std::int64_t W = V::kWidth;

// One vector of channel constants, or one channel's in every lane.
struct Constants {
  V mean, rstd, weight, bias;

  static Constants broadcast(const Channel& c) {
    return {V::set1(c.mean), V::set1(c.rstd), V::set1(c.weight), V::set1(c.bias)};
  }
};

struct Gradient {
  V dh;
  V normed;
};

template <bool kSilu>
inline Gradient gradient(V grad, V x, const Constants& c) {
  const V normed = (x - c.mean) * c.rstd;
  if constexpr (!kSilu) return {grad, normed};
  const V one = V::set1(1.0f);
  const V h = fma(normed, c.weight, c.bias);
  // 1 / (1 + exp(-h)) and h * (1 - s) = h / (1 + exp(h)): neither loses digits for large |h|.
  const V s = one / (one + exp(V::set1(0.0f) - h));
  const V slope = fma(h, one / (one + exp(h)), one);
  return {grad * (s * slope), normed};
}

template <bool kSilu>
inline V input_gradient(V grad, V x, const Constants& c, V along_mean, V along_normed) {
  const Gradient g = gradient<kSilu>(grad, x, c);
  return c.rstd * ((g.dh * c.weight - along_mean) - g.normed * along_normed);
}

// Sums of one channel's run of n values.
template <class T, bool kSilu>
Sums sums_of_run(const T* grad, const T* x, std::int64_t n, const Channel& channel) {
  const Constants c = Constants::broadcast(channel);
  V dh = V::set1(0.0f), dh_normed = V::set1(0.0f);
  const auto add = [&](V grad_vector, V x_vector) {
    const Gradient g = gradient<kSilu>(grad_vector, x_vector, c);
    dh = dh + g.dh;
    dh_normed = fma(g.dh, g.normed, dh_normed);
  };
  std::int64_t i = 0;
  for (; i + W <= n; i += W) add(V::load(grad + i), V::load(x + i));
  // Where grad is 0 so is dh, whatever x: the lanes past the end add nothing.
  if (i < n) add(V::load_n(grad + i, n - i, 0.0f), V::load_n(x + i, n - i, channel.mean));
  return {sum(dh), sum(dh_normed)};
}

template <class T, bool kSilu>
void apply_run(const T* grad, const T* x, T* dx, std::int64_t n, const Channel& channel) {
  const Constants c = Constants::broadcast(channel);
  const V along_mean = V::set1(channel.along_mean), along_normed = V::set1(channel.along_normed);
  std::int64_t i = 0;
  for (; i + W <= n; i += W) {
    input_gradient<kSilu>(V::load(grad + i), V::load(x + i), c, along_mean, along_normed)
        .store(dx + i);
  }
  if (const std::int64_t rest = n - i; rest > 0) {
    input_gradient<kSilu>(V::load_n(grad + i, rest, 0.0f), V::load_n(x + i, rest, channel.mean), c,
                          along_mean, along_normed)
        .store_n(dx + i, rest);
  }
}

// `count` <= W neighbouring channels' constants, transposed into vectors; the other lanes get the
// first channel's, which keeps them finite.
struct Lanes {
  Constants constants;
  V along_mean, along_normed;

  Lanes(const Channel* channels, std::int64_t count) {
    float lanes[6][V::kWidth];
    for (std::int64_t i = 0; i < W; ++i) {
      const Channel& c = channels[i < count ? i : 0];
      const float values[6] = {c.mean, c.rstd, c.weight, c.bias, c.along_mean, c.along_normed};
      for (int k = 0; k < 6; ++k) lanes[k][i] = values[k];
    }
    constants = {V::load(lanes[0]), V::load(lanes[1]), V::load(lanes[2]), V::load(lanes[3])};
    along_mean = V::load(lanes[4]);
    along_normed = V::load(lanes[5]);
  }
};

template <class T>
inline V load_some(const T* p, std::int64_t count) {
  return count == W ? V::load(p) : V::load_n(p, count, 0.0f);
}

// Sums of every channel over a channels-last block of rows.
template <class T, bool kSilu>
void sums_of_block(const T* grad, const T* x, std::int64_t rows, std::int64_t channels,
                   const Channel* constants, Sums* sums) {
  for (std::int64_t c = 0; c < channels; c += W) {
    const std::int64_t count = std::min(W, channels - c);
    const Lanes lanes(constants + c, count);
    V dh = V::set1(0.0f), dh_normed = V::set1(0.0f);
    for (std::int64_t at = c; at < rows * channels; at += channels) {
      const Gradient g =
          gradient<kSilu>(load_some(grad + at, count), load_some(x + at, count), lanes.constants);
      dh = dh + g.dh;
      dh_normed = fma(g.dh, g.normed, dh_normed);
    }
    float linear[V::kWidth], normed[V::kWidth];
    dh.store(linear);
    dh_normed.store(normed);
    for (std::int64_t i = 0; i < count; ++i) {
      sums[c + i] = {static_cast<double>(linear[i]), static_cast<double>(normed[i])};
    }
  }
}

template <class T, bool kSilu>
void apply_block(const T* grad, const T* x, T* dx, std::int64_t rows, std::int64_t channels,
                 const Channel* constants) {
  for (std::int64_t c = 0; c < channels; c += W) {
    const std::int64_t count = std::min(W, channels - c);
    const Lanes lanes(constants + c, count);
    for (std::int64_t at = c; at < rows * channels; at += channels) {
      const V d = input_gradient<kSilu>(load_some(grad + at, count), load_some(x + at, count),
                                        lanes.constants, lanes.along_mean, lanes.along_normed);
      count == W ? d.store(dx + at) : d.store_n(dx + at, count);
    }
  }
}

template <class T, bool kSilu>
void run_contiguous(const GroupNormSiluBackwardParams& p) {
  const T* const grad = static_cast<const T*>(p.grad);
  const T* const x = static_cast<const T*>(p.x);
  T* const dx = static_cast<T*>(p.dx);
  std::vector<Channel> channels = channel_constants(p);
  const std::int64_t pieces = ceil_div(p.spatial, kRunChunk);
  const std::int64_t cost = std::min(kRunChunk, p.spatial);
  const auto length_of = [&](std::int64_t i) {
    return std::min(kRunChunk, p.spatial - i % pieces * kRunChunk);
  };
  const auto offset_of = [&](std::int64_t i) {
    return i / pieces * p.spatial + i % pieces * kRunChunk;
  };
  const auto channel_of = [&](std::int64_t i) -> const Channel& {
    return channels[static_cast<std::size_t>(i / pieces)];
  };
  std::vector<Sums> sums(static_cast<std::size_t>(p.batch * p.channels * pieces));
  parallel_for(p.batch * p.channels * pieces, cost, [&](std::int64_t i) {
    sums[static_cast<std::size_t>(i)] =
        sums_of_run<T, kSilu>(grad + offset_of(i), x + offset_of(i), length_of(i), channel_of(i));
  });
  reduce(p, sums, {pieces, /*chunk_step=*/1, /*channel_step=*/pieces}, channels);
  parallel_for(p.batch * p.channels * pieces, cost, [&](std::int64_t i) {
    apply_run<T, kSilu>(grad + offset_of(i), x + offset_of(i), dx + offset_of(i), length_of(i),
                        channel_of(i));
  });
}

template <class T, bool kSilu>
void run_channels_last(const GroupNormSiluBackwardParams& p) {
  const T* const grad = static_cast<const T*>(p.grad);
  const T* const x = static_cast<const T*>(p.x);
  T* const dx = static_cast<T*>(p.dx);
  std::vector<Channel> channels = channel_constants(p);
  const std::int64_t block = std::clamp<std::int64_t>(kBlockElements / p.channels, 1, 256);
  const std::int64_t blocks = ceil_div(p.spatial, block);
  const auto rows_of = [&](std::int64_t i) {
    return std::min(block, p.spatial - i % blocks * block);
  };
  const auto offset_of = [&](std::int64_t i) {
    return (i / blocks * p.spatial + i % blocks * block) * p.channels;
  };
  const auto constants_of = [&](std::int64_t i) {
    return channels.data() + i / blocks * p.channels;
  };
  std::vector<Sums> sums(static_cast<std::size_t>(p.batch * blocks * p.channels));
  parallel_for(p.batch * blocks, block * p.channels, [&](std::int64_t i) {
    sums_of_block<T, kSilu>(grad + offset_of(i), x + offset_of(i), rows_of(i), p.channels,
                            constants_of(i), sums.data() + i * p.channels);
  });
  reduce(p, sums, {blocks, /*chunk_step=*/p.channels, /*channel_step=*/1}, channels);
  parallel_for(p.batch * blocks, block * p.channels, [&](std::int64_t i) {
    apply_block<T, kSilu>(grad + offset_of(i), x + offset_of(i), dx + offset_of(i), rows_of(i),
                          p.channels, constants_of(i));
  });
}

template <class T>
void run_typed(const GroupNormSiluBackwardParams& p) {
  if (p.channels_last) {
    p.silu ? run_channels_last<T, true>(p) : run_channels_last<T, false>(p);
  } else {
    p.silu ? run_contiguous<T, true>(p) : run_contiguous<T, false>(p);
  }
}

inline void run(const GroupNormSiluBackwardParams& p) {
  p.dtype == DType::kBFloat16 ? run_typed<BFloat16>(p) : run_typed<float>(p);
}

}  // namespace osf::group_norm_silu_backward::OSF_ISA
