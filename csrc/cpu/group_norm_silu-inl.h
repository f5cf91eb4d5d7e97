// The algorithm of group_norm_silu.h over the vector type V, included once per instruction set by
// group_norm_silu.cpp, inside a target region and with OSF_ISA naming the namespace. No include
// guard: it is meant to be read several times.
//
// Parallel over chunks: a contiguous group is cut into runs, a channels-last sample into blocks of
// rows, so that few groups still occupy every thread.

namespace osf::group_norm_silu::OSF_ISA {

using V = osf::OSF_ISA::V;

inline constexpr std::int64_t W = V::kWidth;
inline constexpr std::int64_t kLanes = 4;  // independent accumulators hide the adder's latency

// Sum of x[0], x[stride], ... over `rows` rows of `count` <= W neighbouring values each, kept apart
// per lane: the shape of both layouts' reductions. Rows past the last full four go to accumulator
// 0.
struct Sums {
  V linear;
  V square;
};

template <class T, bool kFull>
inline V load_row(const T* p, std::int64_t count, V fill) {
  if constexpr (kFull) return V::load(p);
  float first[V::kWidth];
  fill.store(first);
  return V::load_n(p, count, first[0]);
}

// Per-lane sums of (x - shift) and (x - shift)^2; lanes past `count` hold rubbish.
template <class T, bool kFull>
inline Sums shifted_sums(const T* x, std::int64_t rows, std::int64_t stride, std::int64_t count,
                         V shift) {
  V linear[kLanes], square[kLanes];
  for (std::int64_t k = 0; k < kLanes; ++k) linear[k] = square[k] = V::set1(0.0f);
  std::int64_t row = 0;
  for (; row + kLanes <= rows; row += kLanes) {
    for (std::int64_t k = 0; k < kLanes; ++k) {
      const V d = load_row<T, kFull>(x + (row + k) * stride, count, shift) - shift;
      linear[k] = linear[k] + d;
      square[k] = fma(d, d, square[k]);
    }
  }
  for (; row < rows; ++row) {
    const V d = load_row<T, kFull>(x + row * stride, count, shift) - shift;
    linear[0] = linear[0] + d;
    square[0] = fma(d, d, square[0]);
  }
  return {(linear[0] + linear[1]) + (linear[2] + linear[3]),
          (square[0] + square[1]) + (square[2] + square[3])};
}

// Mean and sum of squared deviations of a run of n values, in two passes over memory that the first
// pass brings into cache; the second also corrects what the first mean lost to rounding.
template <class T>
Moments moments_of_run(const T* x, std::int64_t n) {
  const std::int64_t rows = n / W;
  const std::int64_t rest = n - rows * W;
  const T* tail = x + rows * W;
  const V zero = V::set1(0.0f);

  double total = sum(shifted_sums<T, true>(x, rows, W, W, zero).linear);
  if (rest > 0) total += sum(V::load_n(tail, rest, 0.0f));
  const float shift = static_cast<float>(total / static_cast<double>(n));

  const Sums sums = shifted_sums<T, true>(x, rows, W, W, V::set1(shift));
  double linear = sum(sums.linear);
  double square = sum(sums.square);
  if (rest > 0) {
    const V d = V::load_n(tail, rest, shift) - V::set1(shift);
    linear += sum(d);
    square += sum(d * d);
  }
  const double correction = linear / static_cast<double>(n);
  return {static_cast<double>(shift) + correction, square - linear * correction};
}

// The same for every one of `count` <= W neighbouring channels over `rows` rows of a channels-last
// block; writes count means and count sums of squared deviations.
template <class T, bool kFull>
inline void moments_of_channels(const T* x, std::int64_t rows, std::int64_t stride,
                                std::int64_t count, double* means, double* squares) {
  const double n = static_cast<double>(rows);
  float shift[V::kWidth], linear[V::kWidth], square[V::kWidth];
  shifted_sums<T, kFull>(x, rows, stride, count, V::set1(0.0f)).linear.store(shift);
  for (float& value : shift) value = static_cast<float>(static_cast<double>(value) / n);
  const Sums sums = shifted_sums<T, kFull>(x, rows, stride, count, V::load(shift));
  sums.linear.store(linear);
  sums.square.store(square);
  for (std::int64_t i = 0; i < count; ++i) {
    const double correction = static_cast<double>(linear[i]) / n;
    means[i] = static_cast<double>(shift[i]) + correction;
    squares[i] = static_cast<double>(square[i]) - static_cast<double>(linear[i]) * correction;
  }
}

// Moments of every group over a block of `rows` rows of `channels` values.
template <class T>
void moments_of_block(const T* x, std::int64_t rows, std::int64_t channels, std::int64_t groups,
                      Moments* moments) {
  std::vector<double> buffer(static_cast<std::size_t>(2 * channels));
  double* const means = buffer.data();
  double* const squares = means + channels;
  std::int64_t c = 0;
  for (; c + W <= channels; c += W) {
    moments_of_channels<T, true>(x + c, rows, channels, W, means + c, squares + c);
  }
  if (c < channels) {
    moments_of_channels<T, false>(x + c, rows, channels, channels - c, means + c, squares + c);
  }
  const std::int64_t width = channels / groups;
  for (std::int64_t g = 0; g < groups; ++g) {
    double mean = 0.0;
    for (std::int64_t i = g * width; i < (g + 1) * width; ++i) mean += means[i];
    mean /= static_cast<double>(width);
    double square = 0.0;
    for (std::int64_t i = g * width; i < (g + 1) * width; ++i) {
      const double apart = means[i] - mean;
      square += squares[i] + static_cast<double>(rows) * apart * apart;
    }
    moments[g] = {mean, square};
  }
}

template <bool kSilu>
inline V activated(V x, V mean, V scale, V shift) {
  const V h = fma(x - mean, scale, shift);
  if constexpr (!kSilu) return h;
  return silu(h);
}

// One channel's run of n values.
template <class T, bool kSilu>
void apply_run(const T* x, T* y, std::int64_t n, V mean, V scale, V shift) {
  std::int64_t i = 0;
  for (; i + W <= n; i += W) activated<kSilu>(V::load(x + i), mean, scale, shift).store(y + i);
  if (i < n) {
    activated<kSilu>(V::load_n(x + i, n - i, 0.0f), mean, scale, shift).store_n(y + i, n - i);
  }
}

// A channels-last block; means, scales and shifts hold one value per channel.
template <class T, bool kSilu>
void apply_block(const T* x, T* y, std::int64_t rows, std::int64_t channels, const float* means,
                 const float* scales, const float* shifts) {
  for (std::int64_t row = 0; row < rows; ++row, x += channels, y += channels) {
    std::int64_t c = 0;
    for (; c + W <= channels; c += W) {
      activated<kSilu>(V::load(x + c), V::load(means + c), V::load(scales + c), V::load(shifts + c))
          .store(y + c);
    }
    if (const std::int64_t rest = channels - c; rest > 0) {
      activated<kSilu>(V::load_n(x + c, rest, 0.0f), V::load_n(means + c, rest, 0.0f),
                       V::load_n(scales + c, rest, 0.0f), V::load_n(shifts + c, rest, 0.0f))
          .store_n(y + c, rest);
    }
  }
}

template <class T, bool kSilu>
void run_contiguous(const GroupNormSiluParams& p) {
  const T* const x = static_cast<const T*>(p.x);
  T* const y = static_cast<T*>(p.y);
  const std::int64_t group_size = p.channels / p.groups * p.spatial;
  const std::int64_t chunks = ceil_div(group_size, kRunChunk);
  std::vector<Moments> moments(static_cast<std::size_t>(p.batch * p.groups * chunks));
  parallel_for(p.batch * p.groups * chunks, kRunChunk, [&](std::int64_t i) {
    const std::int64_t start = i % chunks * kRunChunk;
    moments[static_cast<std::size_t>(i)] = moments_of_run(x + i / chunks * group_size + start,
                                                          std::min(kRunChunk, group_size - start));
  });

  const Affine affine =
      fold(p, moments, {chunks, /*chunk_step=*/1, /*group_step=*/chunks, kRunChunk, group_size});
  if (y == nullptr) return;
  const std::int64_t pieces = ceil_div(p.spatial, kRunChunk);
  const std::int64_t piece_cost = std::min(kRunChunk, p.spatial);
  parallel_for(p.batch * p.channels * pieces, piece_cost, [&](std::int64_t i) {
    const std::int64_t channel = i / pieces;
    const std::int64_t start = i % pieces * kRunChunk;
    const std::int64_t offset = channel * p.spatial + start;
    apply_run<T, kSilu>(x + offset, y + offset, std::min(kRunChunk, p.spatial - start),
                        V::set1(affine.mean[channel]), V::set1(affine.scale[channel]),
                        V::set1(affine.shift[channel]));
  });
}

template <class T, bool kSilu>
void run_channels_last(const GroupNormSiluParams& p) {
  const T* const x = static_cast<const T*>(p.x);
  T* const y = static_cast<T*>(p.y);
  const std::int64_t block = std::clamp<std::int64_t>(kBlockElements / p.channels, 1, 256);
  const std::int64_t blocks = ceil_div(p.spatial, block);
  const std::int64_t sample = p.channels * p.spatial;
  const auto rows_of = [&](std::int64_t i) {
    return std::min(block, p.spatial - i % blocks * block);
  };
  const auto offset_of = [&](std::int64_t i) {
    return i / blocks * sample + i % blocks * block * p.channels;
  };
  std::vector<Moments> moments(static_cast<std::size_t>(p.batch * blocks * p.groups));
  parallel_for(p.batch * blocks, block * p.channels, [&](std::int64_t i) {
    moments_of_block(x + offset_of(i), rows_of(i), p.channels, p.groups,
                     moments.data() + i * p.groups);
  });

  const std::int64_t width = p.channels / p.groups;
  const Affine affine =
      fold(p, moments,
           {blocks, /*chunk_step=*/p.groups, /*group_step=*/1, block * width, p.spatial * width});
  if (y == nullptr) return;
  parallel_for(p.batch * blocks, block * p.channels, [&](std::int64_t i) {
    const std::int64_t first = i / blocks * p.channels;
    apply_block<T, kSilu>(x + offset_of(i), y + offset_of(i), rows_of(i), p.channels,
                          affine.mean + first, affine.scale + first, affine.shift + first);
  });
}

template <class T>
void run_typed(const GroupNormSiluParams& p) {
  if (p.channels_last) {
    p.silu ? run_channels_last<T, true>(p) : run_channels_last<T, false>(p);
  } else {
    p.silu ? run_contiguous<T, true>(p) : run_contiguous<T, false>(p);
  }
}

inline void run(const GroupNormSiluParams& p) {
  p.dtype == DType::kBFloat16 ? run_typed<BFloat16>(p) : run_typed<float>(p);
}

}  // namespace osf::group_norm_silu::OSF_ISA
