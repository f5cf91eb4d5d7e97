// The algorithm of weight_gradient.h for one instruction set. Included once per instruction set.
//
// x becomes planes of positions by input channels, dy planes of positions by outputs, and every
// pair of planes and every tap in time is a product over positions, added to sums that stay. With
// the transforms (Winograd backwards) a plane is one of the 36 values of a tile:
//
//   x: V = B' d B of tiles of 6x6,   dy: D = A d A' of tiles of 4x4,   dweight = G' (sum of V D) G
//
// Without them a plane of x is what one tap of space meets, and dy is a plane as it is.
//
// The team goes through a block of rows at a time, frame by frame; the planes of the last kT frames
// of x wait in a ring. Sums of too many outputs for the cache are taken a part of the outputs at a
// time. Parallel over products: each has its own sums, whoever computes it.
#include "cpu/conv3d/activate-inl.h"
#include "cpu/conv3d/gemm-inl.h"
#include "cpu/conv3d/winograd-transforms-inl.h"

namespace osf::conv3d::OSF_ISA {

// Input channels that lie together, [position][channel]: two vectors.
inline constexpr std::int64_t kChannelPanel = 2 * W;
// Sums of a part of the outputs, 32 MiB.
inline constexpr std::int64_t kMostSums = 1 << 23;
// A block has about so many positions, and one more for so many bytes of sums, which every
// block reads and writes.
inline constexpr std::int64_t kLeastPositions = 64;
inline constexpr std::int64_t kSumBytesPerPosition = 256 << 10;
// Outputs of a unit of work.
inline constexpr std::int64_t kUnitOutputs = 4 * kRows;

// Positions of a plane of x and of a plane of dy: `runs` runs of `count`, `step` values apart.
struct Positions {
  const float* x;
  std::int64_t x_step, x_run;
  const float* dy;
  std::int64_t dy_step, dy_run;
  std::int64_t count, runs;
};

// sums[output][channel] += over all positions dy[output] * x[channel], for kOutputs outputs.
template <int kOutputs>
inline void add_outer(const Positions& p, float* sums) {
  V sum[kOutputs][2];
#pragma GCC unroll 14
  for (int o = 0; o < kOutputs; ++o) sum[o][0] = sum[o][1] = V::set1(0.0f);
  for (std::int64_t run = 0; run < p.runs; ++run) {
    const float* x = p.x + run * p.x_run;
    const float* dy = p.dy + run * p.dy_run;
    for (std::int64_t i = 0; i < p.count; ++i, x += p.x_step, dy += p.dy_step) {
      const V first = V::load(x), second = V::load(x + W);
#pragma GCC unroll 14
      for (int o = 0; o < kOutputs; ++o) {
        const V value = V::set1(dy[o]);
        sum[o][0] = fma(value, first, sum[o][0]);
        sum[o][1] = fma(value, second, sum[o][1]);
      }
    }
  }
#pragma GCC unroll 14
  for (int o = 0; o < kOutputs; ++o) {
    float* const to = sums + o * kChannelPanel;
    (V::load(to) + sum[o][0]).store(to);
    (V::load(to + W) + sum[o][1]).store(to + W);
  }
}

template <int kMost>
inline void add_some_outer(const Positions& p, std::int64_t outputs, float* sums) {
  if constexpr (kMost > 0) {
    if (outputs == kMost) {
      add_outer<kMost>(p, sums);
    } else {
      add_some_outer<kMost - 1>(p, outputs, sums);
    }
  }
}

template <class T, bool kTransformed>
class WeightGradient {
 public:
  explicit WeightGradient(const WeightGradientParams& params)
      : p(params.forward),
        g(params.forward.geometry),
        dy(static_cast<const T*>(params.dy)),
        dweight(params.dweight) {
    planes = kTransformed ? kSize * kSize : g.kernel[1] * g.kernel[2];
    panels = ceil_div(g.channels, kChannelPanel);
    columns = ceil_div(p.out_size[2], m);
    all_rows = ceil_div(p.out_size[1], m);
    const std::int64_t sums_of_one = planes * g.kernel[0] * panels * kChannelPanel;
    const std::int64_t fitting = std::max<std::int64_t>(kMostSums / sums_of_one, kRows);
    const std::int64_t parts = ceil_div(g.out_channels, std::min(fitting, g.out_channels));
    outputs = ceil_div(ceil_div(g.out_channels, parts), W) * W;
    num_sums = sums_of_one * outputs;
    const std::int64_t bytes = num_sums * static_cast<std::int64_t>(sizeof(float));
    const std::int64_t most = std::max(kLeastPositions, bytes / kSumBytesPerPosition);
    const std::int64_t most_rows = std::clamp<std::int64_t>(most / columns, 1, all_rows);
    rows = ceil_div(all_rows, ceil_div(all_rows, most_rows));
    strip_columns = kTransformed ? columns * m + 2 : (columns - 1) * g.stride[2] + g.kernel[2];
    const std::int64_t strip_rows =
        kTransformed ? rows * m + 2 : (rows - 1) * g.stride[1] + g.kernel[1];
    strip = strip_rows * strip_columns * kChannelPanel;
    const std::int64_t positions = rows * columns;
    x_panel = kTransformed ? positions * kChannelPanel : strip;
    x_plane = panels * x_panel + kPlaneGap;
    dy_plane = positions * outputs + kPlaneGap;
  }

  void run() {
    const std::int64_t x_floats = g.kernel[0] * (kTransformed ? planes : 1) * x_plane;
    const std::int64_t dy_floats = (kTransformed ? planes : 1) * dy_plane;
    const std::int64_t threads = team_size(), own_strips = kTransformed ? threads : 0;
    Scratch scratch(Scratch::room<float>(x_floats) + Scratch::room<float>(dy_floats) +
                    Scratch::room<float>(num_sums) +
                    static_cast<std::size_t>(own_strips) * Scratch::room<float>(strip));
    x_planes = scratch.take<float>(x_floats);
    dy_planes = scratch.take<float>(dy_floats);
    sums = scratch.take<float>(num_sums);
    for (std::int64_t i = 0; i < own_strips; ++i) strips.push_back(scratch.take<float>(strip));
    // Channels past the last fill up a panel; their sums are never read.
    fill_zeros(x_planes, x_floats);
    for (first_output = 0; first_output < g.out_channels; first_output += outputs) {
      count = std::min(outputs, g.out_channels - first_output);
      fill_zeros(sums, num_sums);
      parallel_team([&] {
        for (std::int64_t sample = 0; sample < p.batch; ++sample) {
          for (std::int64_t row = 0; row < all_rows; row += rows) {
            run_block(sample, {row, std::min(rows, all_rows - row)});
          }
        }
      });
      parallel_for(count * panels, planes * g.kernel[0] * kChannelPanel,
                   [&](std::int64_t i) { write(i / panels, i % panels); });
    }
  }

 private:
  static constexpr std::int64_t m = kTransformed ? 4 : 1;  // rows and columns of a position
  static constexpr int kSize = 6;

  struct Rows {
    std::int64_t first;
    std::int64_t count;
  };

  static void fill_zeros(float* values, std::int64_t size) {
    constexpr std::int64_t kPart = 1 << 16;
    parallel_for(ceil_div(size, kPart), kPart, [&](std::int64_t i) {
      std::fill_n(values + i * kPart, std::min(kPart, size - i * kPart), 0.0f);
    });
  }

  void run_block(std::int64_t sample, const Rows& block) const {
    const std::int64_t chunks = ceil_div(count, kUnitOutputs), vectors = ceil_div(count, W);
    std::int64_t done = 0;
    for (std::int64_t t = 0; t < p.out_size[0]; ++t) {
      const std::int64_t past = t * g.stride[0] - front_padding(g, 0);
      const std::int64_t begin = std::max({done, past, std::int64_t{0}});
      done = std::max(begin, std::min(past + g.kernel[0], p.size[0]));
      const std::int64_t of_x = (done - begin) * panels;
      team_for(of_x + vectors, [&](std::int64_t i) {
        if (i < of_x) {
          take_x(sample, begin + i / panels, i % panels, block);
        } else {
          take_dy(sample, t, (i - of_x) * W, block);
        }
      });
      team_for(planes * g.kernel[0] * panels * chunks, [&](std::int64_t i) {
        const std::int64_t plane = i / chunks / panels / g.kernel[0];
        const std::int64_t tap = i / chunks / panels % g.kernel[0];
        const std::int64_t frame = source_of(past + tap, p.size[0], g.padding);
        if (frame >= 0) {
          multiply_positions(plane, tap, frame, i / chunks % panels, i % chunks * kUnitOutputs,
                             block);
        }
      });
    }
  }

  float* slot(std::int64_t frame) const {
    return x_planes + frame % g.kernel[0] * (kTransformed ? planes : 1) * x_plane;
  }

  // The planes of one panel of channels of a frame of x.
  void take_x(std::int64_t sample, std::int64_t frame, std::int64_t panel,
              const Rows& block) const {
    const std::int64_t first = panel * kChannelPanel;
    const std::int64_t channels = std::min(kChannelPanel, g.channels - first);
    const T* const image = static_cast<const T*>(p.x) +
                           (sample * p.size[0] + frame) * p.size[1] * p.size[2] * g.channels;
    const Activation f = Activation::of(p, sample);
    const std::int64_t row_size = strip_columns * kChannelPanel;
    float* const planes_of_panel = slot(frame) + panel * x_panel;
    float* const to =
        kTransformed ? strips[static_cast<std::size_t>(team_rank())] : planes_of_panel;
    const std::int64_t strip_rows =
        kTransformed ? block.count * m + 2 : (block.count - 1) * g.stride[1] + g.kernel[1];
    for (std::int64_t r = 0; r < strip_rows; ++r) {
      const std::int64_t row =
          source_of(block.first * m * g.stride[1] + r - front_padding(g, 1), p.size[1], g.padding);
      fill_row(p, image, row, f, first, channels, front_padding(g, 2), strip_columns,
               to + r * row_size, kChannelPanel);
    }
    if constexpr (kTransformed) {
      for (std::int64_t i = 0; i < block.count; ++i) {
        for (std::int64_t j = 0; j < columns; ++j) {
          const float* const tile = to + i * m * row_size + j * m * kChannelPanel;
          float* const out = planes_of_panel + (i * columns + j) * kChannelPanel;
          for (std::int64_t c = 0; c < channels; c += W) transform_x(tile + c, row_size, out + c);
        }
      }
    }
  }

  void transform_x(const float* tile, std::int64_t row_size, float* out) const {
    V z[kSize][kSize];
#pragma GCC unroll 6
    for (int j = 0; j < kSize; ++j) {
      V d[kSize], column[kSize];
#pragma GCC unroll 6
      for (int i = 0; i < kSize; ++i) d[i] = V::load(tile + i * row_size + j * kChannelPanel);
      Transform<4>::input(d, column);
#pragma GCC unroll 6
      for (int i = 0; i < kSize; ++i) z[i][j] = column[i];
    }
#pragma GCC unroll 6
    for (int i = 0; i < kSize; ++i) {
      V row[kSize];
      Transform<4>::input(z[i], row);
#pragma GCC unroll 6
      for (int j = 0; j < kSize; ++j) row[j].store(out + (i * kSize + j) * x_plane);
    }
  }

  // The planes of one vector of outputs of a frame of dy; what lies outside is zero.
  void take_dy(std::int64_t sample, std::int64_t t, std::int64_t o, const Rows& block) const {
    const std::int64_t lanes = std::min(W, count - o);
    const T* const image =
        dy + (sample * p.out_size[0] + t) * p.out_size[1] * p.out_size[2] * g.out_channels +
        first_output + o;
    const auto at = [&](std::int64_t row, std::int64_t column) {
      if (row >= p.out_size[1] || column >= p.out_size[2]) return V::set1(0.0f);
      const T* const from = image + (row * p.out_size[2] + column) * g.out_channels;
      return lanes < W ? V::load_n(from, lanes, 0.0f) : V::load(from);
    };
    for (std::int64_t i = 0; i < block.count; ++i) {
      for (std::int64_t j = 0; j < columns; ++j) {
        float* const out = dy_planes + (i * columns + j) * outputs + o;
        if constexpr (kTransformed) {
          transform_dy(
              [&](int row, int column) { return at((block.first + i) * m + row, j * m + column); },
              out);
        } else {
          at(block.first + i, j).store(out);
        }
      }
    }
  }

  template <class At>
  void transform_dy(const At& at, float* out) const {
    V z[kSize][m];
#pragma GCC unroll 4
    for (int j = 0; j < m; ++j) {
      V d[m], column[kSize];
#pragma GCC unroll 4
      for (int i = 0; i < m; ++i) d[i] = at(i, j);
      Transform<4>::spread(d, column);
#pragma GCC unroll 6
      for (int i = 0; i < kSize; ++i) z[i][j] = column[i];
    }
#pragma GCC unroll 6
    for (int i = 0; i < kSize; ++i) {
      V row[kSize];
      Transform<4>::spread(z[i], row);
#pragma GCC unroll 6
      for (int j = 0; j < kSize; ++j) row[j].store(out + (i * kSize + j) * dy_plane);
    }
  }

  float* sums_of(std::int64_t plane, std::int64_t tap, std::int64_t panel) const {
    return sums + ((plane * g.kernel[0] + tap) * panels + panel) * outputs * kChannelPanel;
  }

  void multiply_positions(std::int64_t plane, std::int64_t tap, std::int64_t frame,
                          std::int64_t panel, std::int64_t first, const Rows& block) const {
    Positions at{};
    at.dy_step = outputs;
    if constexpr (kTransformed) {
      at.x = slot(frame) + plane * x_plane + panel * x_panel;
      at.x_step = kChannelPanel;
      at.dy = dy_planes + plane * dy_plane;
      at.count = block.count * columns;
      at.runs = 1;
    } else {
      const std::int64_t row = plane / g.kernel[2], column = plane % g.kernel[2];
      at.x = slot(frame) + panel * x_panel + (row * strip_columns + column) * kChannelPanel;
      at.x_step = g.stride[2] * kChannelPanel;
      at.x_run = g.stride[1] * strip_columns * kChannelPanel;
      at.dy = dy_planes;
      at.dy_run = columns * outputs;
      at.count = columns;
      at.runs = block.count;
    }
    const std::int64_t last = std::min(first + kUnitOutputs, count);
    const std::int64_t height = ceil_div(last - first, ceil_div(last - first, kRows));
    float* const to = sums_of(plane, tap, panel);
    const float* const dy_of_plane = at.dy;
    for (std::int64_t o = first; o < last; o += height) {
      at.dy = dy_of_plane + o;
      add_some_outer<kRows>(at, std::min(height, last - o), to + o * kChannelPanel);
    }
  }

  // One output's weights of a panel of input channels, from its sums.
  void write(std::int64_t o, std::int64_t panel) const {
    const std::int64_t taps = num_taps(g), in_space = g.kernel[1] * g.kernel[2];
    const std::int64_t first = panel * kChannelPanel;
    const std::int64_t channels = std::min(kChannelPanel, g.channels - first);
    float* const to = dweight + ((first_output + o) * g.channels + first) * taps;
    for (std::int64_t tap = 0; tap < g.kernel[0]; ++tap) {
      const auto sum = [&](std::int64_t plane) {
        return sums_of(plane, tap, panel) + o * kChannelPanel;
      };
      if constexpr (kTransformed) {
        float values[9][kChannelPanel];
        for (std::int64_t c = 0; c < kChannelPanel; c += W) {
          inverse([&](int plane) { return V::load(sum(plane) + c); },
                  [&](int i, V value) { value.store(values[i] + c); });
        }
        for (std::int64_t c = 0; c < channels; ++c) {
          for (std::int64_t i = 0; i < 9; ++i) to[c * taps + tap * 9 + i] = values[i][c];
        }
      } else {
        for (std::int64_t i = 0; i < in_space; ++i) {
          const float* const from = sum(i);
          for (std::int64_t c = 0; c < channels; ++c) to[c * taps + tap * in_space + i] = from[c];
        }
      }
    }
  }

  // G' S G.
  template <class Load, class Store>
  static void inverse(const Load& load, const Store& store) {
    V z[3][kSize];
#pragma GCC unroll 6
    for (int j = 0; j < kSize; ++j) {
      V d[kSize], column[3];
#pragma GCC unroll 6
      for (int i = 0; i < kSize; ++i) d[i] = load(i * kSize + j);
      Transform<4>::taps(d, column);
#pragma GCC unroll 3
      for (int i = 0; i < 3; ++i) z[i][j] = column[i];
    }
#pragma GCC unroll 3
    for (int i = 0; i < 3; ++i) {
      V row[3];
      Transform<4>::taps(z[i], row);
#pragma GCC unroll 3
      for (int j = 0; j < 3; ++j) store(i * 3 + j, row[j]);
    }
  }

  const Params& p;
  const Geometry& g;
  const T* dy;
  float* dweight;
  std::int64_t planes, panels, columns, all_rows, rows;
  std::int64_t outputs, num_sums;  // outputs whose sums are taken together
  std::int64_t strip_columns, strip;
  std::int64_t x_panel, x_plane, dy_plane;
  std::int64_t first_output = 0, count = 0;
  float* x_planes = nullptr;
  float* dy_planes = nullptr;
  float* sums = nullptr;
  std::vector<float*> strips;
};

template <class T>
void run_weight_gradient_typed(const WeightGradientParams& p) {
  p.transformed ? WeightGradient<T, true>(p).run() : WeightGradient<T, false>(p).run();
}

inline void run_weight_gradient(const WeightGradientParams& p) {
  p.forward.geometry.dtype == DType::kBFloat16 ? run_weight_gradient_typed<BFloat16>(p)
                                               : run_weight_gradient_typed<float>(p);
}

}  // namespace osf::conv3d::OSF_ISA
