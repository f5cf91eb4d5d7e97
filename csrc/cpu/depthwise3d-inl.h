// The algorithms of depthwise3d.h over the vector type V, included once per instruction set. No
// include guard.

namespace osf::depthwise3d::OSF_ISA {

using V = osf::OSF_ISA::V;
inline constexpr std::int64_t W = V::kWidth;
using Input = Depthwise3dInput;
using Params = Depthwise3dParams;
using TapsGradientParams = Depthwise3dTapsGradientParams;

// Rows of taps whose sums stay in registers together.
inline constexpr int kRowsOfTaps = W == 16 ? 5 : 2;

template <bool kWhole>
inline V load(const float* from, std::int64_t rest) {
  if constexpr (kWhole) return V::load(from);
  return V::load_n(from, rest, 0.0f);
}

// A row of an output, by its number among all rows, and the taps that meet the video from there.
struct Row {
  std::int64_t sample, frame, row;
  std::int64_t first_frame, end_frame;  // taps in T
  std::int64_t first_row, end_row;      // taps in H

  Row(const Input& p, std::int64_t number)
      : sample(number / p.size[1] / p.size[0]),
        frame(number / p.size[1] % p.size[0]),
        row(number % p.size[1]),
        first_frame(std::max<std::int64_t>(0, p.kernel[0] / 2 - frame)),
        end_frame(std::min(p.kernel[0], p.size[0] + p.kernel[0] / 2 - frame)),
        first_row(std::max<std::int64_t>(0, p.kernel[1] / 2 - row)),
        end_row(std::min(p.kernel[1], p.size[1] + p.kernel[1] / 2 - row)) {}

  // Where the row of x that a row of taps meets begins.
  const float* meets(const Input& p, std::int64_t tap_frame, std::int64_t tap_row) const {
    const std::int64_t t = frame + tap_frame - p.kernel[0] / 2;
    const std::int64_t h = row + tap_row - p.kernel[1] / 2;
    return p.x + ((sample * p.size[0] + t) * p.size[1] + h) * p.size[2] * p.channels;
  }
};

// Adds a row of taps to kBlock neighbouring results, the first of them at `column`. kColumns taps;
// 0 stands for any number. At an edge columns outside count as zero.
template <int kColumns, bool kEdge, bool kWhole>
inline void add_taps(const Input& p, const float* row, std::int64_t column, std::int64_t rest,
                     const float* taps, V (&sums)[kBlock]) {
  const std::int64_t count = kColumns == 0 ? p.kernel[2] : kColumns, reach = count / 2;
  if constexpr (kColumns == 0) {
    for (std::int64_t k = 0; k < count; ++k) {
      const V tap = load<kWhole>(taps + k * p.channels, rest);
      for (std::int64_t j = 0; j < kBlock; ++j) {
        const std::int64_t from = column + j + k - reach;
        if (kEdge && (from < 0 || from >= p.size[2])) continue;
        sums[j] = fma(load<kWhole>(row + from * p.channels, rest), tap, sums[j]);
      }
    }
  } else {
    V tap[kColumns];
    for (int k = 0; k < kColumns; ++k) tap[k] = load<kWhole>(taps + k * p.channels, rest);
#pragma GCC unroll 16
    for (int i = 0; i < kBlock + kColumns - 1; ++i) {
      const std::int64_t from = column + i - kColumns / 2;
      if (kEdge && (from < 0 || from >= p.size[2])) continue;
      const V value = load<kWhole>(row + from * p.channels, rest);
#pragma GCC unroll 5
      for (int k = 0; k < kColumns; ++k) {
        if (i - k >= 0 && i - k < kBlock) sums[i - k] = fma(value, tap[k], sums[i - k]);
      }
    }
  }
}

template <int kColumns, bool kEdge, bool kWhole>
inline void convolve_block(const Params& p, const Row& at, std::int64_t column, std::int64_t c,
                           float* y) {
  const std::int64_t rest = p.channels - c;
  V sums[kBlock];
  const V bias = p.bias == nullptr ? V::set1(0.0f) : load<kWhole>(p.bias + c, rest);
  for (V& sum : sums) sum = bias;
  for (std::int64_t t = at.first_frame; t < at.end_frame; ++t) {
    for (std::int64_t h = at.first_row; h < at.end_row; ++h) {
      const float* const taps = p.taps + (t * p.kernel[1] + h) * p.kernel[2] * p.channels + c;
      add_taps<kColumns, kEdge, kWhole>(p, at.meets(p, t, h) + c, column, rest, taps, sums);
    }
  }
  const std::int64_t columns = kEdge ? std::min(kBlock, p.size[2] - column) : kBlock;
  for (std::int64_t j = 0; j < columns; ++j) {
    float* const to = y + (column + j) * p.channels + c;
    kWhole ? sums[j].store(to) : sums[j].store_n(to, rest);
  }
}

// One row of y, channels [first, end).
template <int kColumns>
void convolve_row(const Params& p, std::int64_t number, std::int64_t first, std::int64_t end) {
  const Row at(p, number);
  float* const y = p.y + number * p.size[2] * p.channels;
  const std::int64_t reach = p.kernel[2] / 2;
  for (std::int64_t c = first; c < end; c += W) {
    for (std::int64_t column = 0; column < p.size[2]; column += kBlock) {
      const bool edge = column < reach || column + kBlock + reach > p.size[2];
      if (p.channels - c < W) {
        convolve_block<kColumns, true, false>(p, at, column, c, y);
      } else if (edge) {
        convolve_block<kColumns, true, true>(p, at, column, c, y);
      } else {
        convolve_block<kColumns, false, true>(p, at, column, c, y);
      }
    }
  }
}

inline void run(const Params& p) {
  const std::int64_t rows = p.batch * p.size[0] * p.size[1];
  const std::int64_t blocks = ceil_div(p.channels, kChannels);
  const std::int64_t taps = p.kernel[0] * p.kernel[1] * p.kernel[2];
  parallel_for(blocks * rows, taps * p.size[2] * std::min(kChannels, p.channels),
               [&](std::int64_t i) {
                 const std::int64_t first = i / rows * kChannels;
                 const std::int64_t end = std::min(first + kChannels, p.channels);
                 if (p.kernel[2] == 3) {
                   convolve_row<3>(p, i % rows, first, end);
                 } else if (p.kernel[2] == 5) {
                   convolve_row<5>(p, i % rows, first, end);
                 } else {
                   convolve_row<0>(p, i % rows, first, end);
                 }
               });
}

// Adds a row of dy times the rows of x that kRows rows of taps meet, to their sums: to[(r kColumns
// + k) * channels]. x[r] begins where dy does.
template <int kRows, int kColumns, bool kWhole>
inline void add_products(const Input& p, const float* dy, const float* const* x, std::int64_t rest,
                         float* to) {
  V sums[kRows][kColumns];
#pragma GCC unroll 5
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 5
    for (int k = 0; k < kColumns; ++k) {
      sums[r][k] = load<kWhole>(to + (r * kColumns + k) * p.channels, rest);
    }
  }
  constexpr std::int64_t kReach = kColumns / 2;
  const auto edge = [&](std::int64_t column) {
    const V grad = load<kWhole>(dy + column * p.channels, rest);
#pragma GCC unroll 5
    for (int k = 0; k < kColumns; ++k) {
      const std::int64_t from = column + k - kReach;
      if (from < 0 || from >= p.size[2]) continue;
#pragma GCC unroll 5
      for (int r = 0; r < kRows; ++r) {
        sums[r][k] = fma(grad, load<kWhole>(x[r] + from * p.channels, rest), sums[r][k]);
      }
    }
  };
  const std::int64_t inner = std::max(kReach, p.size[2] - kReach);
  for (std::int64_t column = 0; column < std::min(kReach, p.size[2]); ++column) edge(column);
  for (std::int64_t column = kReach; column < inner; ++column) {
    const V grad = load<kWhole>(dy + column * p.channels, rest);
#pragma GCC unroll 5
    for (int r = 0; r < kRows; ++r) {
      const float* const from = x[r] + (column - kReach) * p.channels;
#pragma GCC unroll 5
      for (int k = 0; k < kColumns; ++k) {
        sums[r][k] = fma(grad, load<kWhole>(from + k * p.channels, rest), sums[r][k]);
      }
    }
  }
  for (std::int64_t column = inner; column < p.size[2]; ++column) edge(column);
#pragma GCC unroll 5
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 5
    for (int k = 0; k < kColumns; ++k) {
      float* const sum = to + (r * kColumns + k) * p.channels;
      kWhole ? sums[r][k].store(sum) : sums[r][k].store_n(sum, rest);
    }
  }
}

// The same for any number of taps, one at a time.
template <bool kWhole>
inline void add_products_of_taps(const Input& p, const float* dy, const float* x, std::int64_t rest,
                                 float* to) {
  for (std::int64_t k = 0; k < p.kernel[2]; ++k) {
    const std::int64_t shift = k - p.kernel[2] / 2;
    const std::int64_t begin = std::max<std::int64_t>(0, -shift);
    const std::int64_t end = std::min(p.size[2], p.size[2] - shift);
    V sum = load<kWhole>(to + k * p.channels, rest);
    for (std::int64_t column = begin; column < end; ++column) {
      sum = fma(load<kWhole>(dy + column * p.channels, rest),
                load<kWhole>(x + (column + shift) * p.channels, rest), sum);
    }
    kWhole ? sum.store(to + k * p.channels) : sum.store_n(to + k * p.channels, rest);
  }
}

template <int kMost, int kColumns, bool kWhole>
inline void add_some_products(const Input& p, std::int64_t rows, const float* dy,
                              const float* const* x, std::int64_t rest, float* to) {
  if constexpr (kMost > 0) {
    if (rows == kMost) {
      add_products<kMost, kColumns, kWhole>(p, dy, x, rest, to);
    } else {
      add_some_products<kMost - 1, kColumns, kWhole>(p, rows, dy, x, rest, to);
    }
  }
}

// One row of dy for one vector of channels; sums are [taps, channels].
template <int kColumns, bool kWhole>
void add_row(const TapsGradientParams& p, std::int64_t number, std::int64_t c, float* sums) {
  const Row at(p, number);
  const float* const dy = p.dy + number * p.size[2] * p.channels + c;
  const std::int64_t rest = p.channels - c;
  for (std::int64_t t = at.first_frame; t < at.end_frame; ++t) {
    for (std::int64_t h = at.first_row; h < at.end_row;) {
      float* const to = sums + (t * p.kernel[1] + h) * p.kernel[2] * p.channels + c;
      if constexpr (kColumns == 0) {
        add_products_of_taps<kWhole>(p, dy, at.meets(p, t, h) + c, rest, to);
        ++h;
      } else {
        const std::int64_t rows = std::min<std::int64_t>(kRowsOfTaps, at.end_row - h);
        const float* x[kRowsOfTaps];
        for (std::int64_t r = 0; r < rows; ++r) x[r] = at.meets(p, t, h + r) + c;
        add_some_products<kRowsOfTaps, kColumns, kWhole>(p, rows, dy, x, rest, to);
        h += rows;
      }
    }
  }
}

template <int kColumns>
void add_rows(const TapsGradientParams& p, std::int64_t begin, std::int64_t end, std::int64_t first,
              float* sums) {
  const std::int64_t last = std::min(first + kChannels, p.channels);
  for (std::int64_t number = begin; number < end; ++number) {
    for (std::int64_t c = first; c < last; c += W) {
      p.channels - c < W ? add_row<kColumns, false>(p, number, c, sums)
                         : add_row<kColumns, true>(p, number, c, sums);
    }
  }
}

inline void run_taps_gradient(const TapsGradientParams& p) {
  const std::int64_t rows = p.batch * p.size[0] * p.size[1];
  const std::int64_t blocks = ceil_div(p.channels, kChannels);
  const std::int64_t slabs =
      std::clamp<std::int64_t>(kUnits / blocks, 1, std::max<std::int64_t>(rows, 1));
  const std::int64_t values = p.kernel[0] * p.kernel[1] * p.kernel[2] * p.channels;
  Scratch scratch(Scratch::room<float>(slabs * values));
  float* const partial = scratch.take<float>(slabs * values);
  std::fill_n(partial, slabs * values, 0.0f);
  parallel_for(slabs * blocks, values / blocks * rows / slabs * p.size[2], [&](std::int64_t i) {
    const std::int64_t slab = i % slabs, first = i / slabs * kChannels;
    const std::int64_t begin = rows * slab / slabs, end = rows * (slab + 1) / slabs;
    float* const sums = partial + slab * values;
    if (p.kernel[2] == 3) {
      add_rows<3>(p, begin, end, first, sums);
    } else if (p.kernel[2] == 5) {
      add_rows<5>(p, begin, end, first, sums);
    } else {
      add_rows<0>(p, begin, end, first, sums);
    }
  });
  for (std::int64_t i = 0; i < values; ++i) {
    float sum = 0.0f;
    for (std::int64_t slab = 0; slab < slabs; ++slab) sum += partial[slab * values + i];
    p.dtaps[i] = sum;
  }
}

}  // namespace osf::depthwise3d::OSF_ISA
