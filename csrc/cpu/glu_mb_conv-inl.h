// The algorithm of glu_mb_conv.h over the vector type V, included once per instruction set. No
// include guard.

namespace osf::glu_mb_conv::OSF_ISA {

using V = osf::OSF_ISA::V;
inline constexpr std::int64_t W = V::kWidth;

template <class T>
inline V load(const T* from, std::int64_t rest) {
  return rest < W ? V::load_n(from, rest, 0.0f) : V::load(from);
}

template <class T>
inline void store(V value, T* to, std::int64_t rest) {
  rest < W ? value.store_n(to, rest) : value.store(to);
}

// One row of one half of a frame of the ring.
inline float* row_of(const GluMbConvParams& p, std::int64_t half, std::int64_t frame,
                     std::int64_t row) {
  const std::int64_t place = half * p.ring_frames + frame % p.ring_frames;
  return p.ring + (place * p.rows + row) * p.columns * p.channels;
}

template <class T>
void activate_row(const GluMbConvParams& p, std::int64_t half, const T* from, float* to) {
  const float* const bias = p.inverted_bias + half * p.width + p.first_channel;
  for (std::int64_t column = 0; column < p.columns; ++column) {
    for (std::int64_t c = 0; c < p.channels; c += W) {
      const std::int64_t rest = p.channels - c;
      store(silu(load(from + c, rest) + load(bias + c, rest)), to + c, rest);
    }
    from += p.channels, to += p.channels;
  }
}

// Adds three taps of a row of the input to kBlock neighbouring results, the first of them at
// `column`; `at` is that column's vector of channels. At an edge columns outside count as zero.
template <bool kEdge, bool kWhole>
inline void add_taps(const GluMbConvParams& p, const float* at, std::int64_t column,
                     std::int64_t rest, const float* taps, V (&sums)[kBlock]) {
  const V left = V::load(taps), here = V::load(taps + kPanel), right = V::load(taps + 2 * kPanel);
#pragma GCC unroll 16
  for (std::int64_t i = -1; i <= kBlock; ++i) {
    if (kEdge && (column + i < 0 || column + i >= p.columns)) continue;
    const V value =
        kWhole ? V::load(at + i * p.channels) : V::load_n(at + i * p.channels, rest, 0.0f);
    if (i + 1 < kBlock) sums[i + 1] = fma(value, left, sums[i + 1]);
    if (i >= 0 && i < kBlock) sums[i] = fma(value, here, sums[i]);
    if (i >= 1) sums[i - 1] = fma(value, right, sums[i - 1]);
  }
}

// The depthwise convolution of one half at kBlock columns, for the vector of channels from c.
template <bool kEdge, bool kWhole>
inline void convolve(const GluMbConvParams& p, std::int64_t half, std::int64_t frame,
                     std::int64_t row, std::int64_t column, std::int64_t c, V (&sums)[kBlock]) {
  const std::int64_t channel = p.first_channel + c, rest = p.channels - c;
  const std::int64_t panels = (p.width + kPanel - 1) / kPanel;
  const float* const taps =
      p.taps + (half * panels + channel / kPanel) * kTaps * kPanel + channel % kPanel;
  const float* const bias = p.depth_bias + half * p.width + channel;
  for (V& sum : sums) sum = kWhole ? V::load(bias) : V::load_n(bias, rest, 0.0f);
  for (std::int64_t t = -1; t <= 1; ++t) {
    if (frame + t < 0 || frame + t >= p.num_frames) continue;
    for (std::int64_t h = -1; h <= 1; ++h) {
      if (row + h < 0 || row + h >= p.rows) continue;
      const float* const at = row_of(p, half, frame + t, row + h) + column * p.channels + c;
      add_taps<kEdge, kWhole>(p, at, column, rest, taps + ((t + 1) * 3 + h + 1) * 3 * kPanel, sums);
    }
  }
}

// Up to kBlock columns of the result.
template <bool kEdge, bool kWhole, class T>
void gate_block(const GluMbConvParams& p, std::int64_t frame, std::int64_t row, std::int64_t column,
                std::int64_t c, T* to) {
  V value[kBlock], gate[kBlock];
  convolve<kEdge, kWhole>(p, 0, frame, row, column, c, value);
  convolve<kEdge, kWhole>(p, 1, frame, row, column, c, gate);
  const std::int64_t columns = kEdge ? std::min(kBlock, p.columns - column) : kBlock;
  for (std::int64_t i = 0; i < columns; ++i) {
    store(value[i] * silu(gate[i]), to + i * p.gated_stride, kWhole ? W : p.channels - c);
  }
}

template <class T>
void gate_row(const GluMbConvParams& p, std::int64_t frame, std::int64_t row, T* to) {
  for (std::int64_t c = 0; c < p.channels; c += W) {
    const bool whole = p.channels - c >= W;
    for (std::int64_t column = 0; column < p.columns; column += kBlock) {
      const bool edge = column == 0 || column + kBlock >= p.columns;
      T* const at = to + column * p.gated_stride + c;
      if (!whole) {
        gate_block<true, false>(p, frame, row, column, c, at);
      } else if (edge) {
        gate_block<true, true>(p, frame, row, column, c, at);
      } else {
        gate_block<false, true>(p, frame, row, column, c, at);
      }
    }
  }
}

template <class T>
void run_typed(const GluMbConvParams& p) {
  const std::int64_t cost = p.columns * p.channels;
  const T* const products = static_cast<const T*>(p.products);
  parallel_for(2 * p.num_new * p.rows, 4 * cost, [&](std::int64_t i) {
    const std::int64_t row = i % p.rows, frame = i / p.rows % p.num_new;
    const std::int64_t half = i / p.rows / p.num_new;
    activate_row(p, half, products + i * cost, row_of(p, half, p.first_new + frame, row));
  });
  parallel_for(p.num_out * p.num_rows, 2 * kTaps * cost, [&](std::int64_t i) {
    gate_row(p, p.first_out + i / p.num_rows, p.first_row + i % p.num_rows,
             static_cast<T*>(p.gated) + i * p.columns * p.gated_stride);
  });
}

inline void run(const GluMbConvParams& p) {
  p.dtype == DType::kBFloat16 ? run_typed<BFloat16>(p) : run_typed<float>(p);
}

}  // namespace osf::glu_mb_conv::OSF_ISA
