// Winograd convolution, 3x3 in space as F(m x m, 3 x 3), three frames in time as F(2, 3).
//
// In space, per frame: V = B' d B of every tile d of (m + 2) x (m + 2) activated values, (m + 2)^2
// planes [tile][channel]. In time, for the frames t and t + 1 and every plane: the products of
// {V[t-2] - V[t], V[t-1] + V[t], V[t] - V[t-1], V[t-1] - V[t+1]} with the four time planes of the
// weights (three of them packed, the third made from these on the way) are summed to M[t] = m0 + m1
// + m2 and M[t+1] = m1 - m2 - m3. Then y = A' M A. On frame 0, which stands for its own past, the
// second product alone remains: M[0] = 2 m1(V[0]). Between zeros, where y[t] looks one frame ahead,
// all of this happens to the frames one later, and a frame outside is a plane of zeros.
//
// The team goes through a block of tile rows at a time, so that V of four frames and M of two stay
// in the cache: transform | product | inverse transform, with all threads at each. Lavin and Gray,
// Fast Algorithms for Convolutional Neural Networks (2015); points of F(4, 3) in layout.h. Included
// once per instruction set.

namespace osf::conv3d::OSF_ISA {

// A block has about so many tiles, and one more for so many bytes of weights, which every block
// streams through; blocks are of nearly the same height.
inline constexpr std::int64_t kWinogradTiles = 64;
inline constexpr std::int64_t kWinogradWeightBytesPerTile = 256 << 10;
inline constexpr std::int64_t kWinogradChannels = 32;  // activated at a time

// Products in E: in bfloat16 the transformed input is rounded once, behind the transform in time,
// and all four time planes of the weights are packed.
template <int m, class T, class E = float>
class Winograd {
 public:
  explicit Winograd(const Params& params) : p(params), g(params.geometry) {
    timed = g.kernel[0] == 3;
    first_alone = timed && repeats_first_frame(g.padding);
    ahead = g.kernel[0] - 1 - front_padding(g, 0);
    above = front_padding(g, 1);
    tile_columns = ceil_div(p.size[2], m);
    all_rows = ceil_div(p.out_size[1], m);
    const std::int64_t most_tiles =
        std::max(kWinogradTiles, p.plan.packed_bytes / kWinogradWeightBytesPerTile);
    const std::int64_t most_rows = std::clamp<std::int64_t>(most_tiles / tile_columns, 1, all_rows);
    tile_rows = ceil_div(all_rows, ceil_div(all_rows, most_rows));
    blocks = ceil_div(all_rows, tile_rows);
    channels = ceil_div(g.channels, W) * W;
    depth = ceil_div(g.channels, Step<E>::kDepth) * Step<E>::kDepth;
    panel = panel_width(g.out_channels, p.plan.isa);
    panels = num_panels(g.out_channels, p.plan.isa);
    const std::int64_t tiles = tile_rows * tile_columns;
    in_plane = tiles * channels + kPlaneGap;
    out_plane = tiles * panel * panels + kPlaneGap;
    strip_columns = tile_columns * m + 2;
    const std::int64_t row_bytes = 4 * channels * static_cast<std::int64_t>(sizeof(E));
    // The timed planes of so many tiles take half of a core's cache, and all weights pass them.
    timed_rows = std::clamp<std::int64_t>(l2_cache_bytes() / 2 / row_bytes / kRows * kRows,
                                          2 * kRows, std::max<std::int64_t>(tiles, 2 * kRows));
    moments = Moments(p, p.size[0] * all_rows);
    shortcut = Shortcut<T>(p);
  }

  void run() {
    const std::int64_t ring = timed ? 4 : 1, frames = timed ? 2 : 1;
    const std::int64_t strip_size = (tile_rows * m + 2) * strip_columns * kWinogradChannels;
    const std::int64_t made = timed ? 4 : kHalf ? 1 : 0;  // planes that products read, if not V
    const std::int64_t timed_size = made * (timed_rows * channels + kPlaneGap);
    const std::int64_t third_size = timed && !kHalf ? depth * panel : 0;
    const std::int64_t zeros_size = timed && !first_alone ? timed_rows * channels : 0;
    const std::int64_t threads = team_size();
    Scratch scratch(Scratch::room<float>(ring * kPlanes * in_plane) +
                    Scratch::room<float>(frames * kPlanes * out_plane) +
                    Scratch::room<float>(zeros_size) +
                    static_cast<std::size_t>(threads) *
                        (Scratch::room<float>(strip_size) + Scratch::room<E>(timed_size) +
                         Scratch::room<float>(third_size)));
    transformed = scratch.take<float>(ring * kPlanes * in_plane);
    products = scratch.take<float>(frames * kPlanes * out_plane);
    zeros = scratch.take<float>(zeros_size);
    std::fill_n(zeros, zeros_size, 0.0f);
    for (std::int64_t i = 0; i < threads; ++i) {
      strips.push_back(scratch.take<float>(strip_size));
      timed_planes.push_back(scratch.take<E>(timed_size));
      third_planes.push_back(scratch.take<float>(third_size));
    }
    parallel_team([&] {
      for (std::int64_t sample = 0; sample < p.batch; ++sample) {
        for (std::int64_t block = 0; block < blocks; ++block) run_block(sample, block);
      }
    });
    moments.finish(p);
  }

 private:
  static constexpr std::int64_t kSize = m + 2;
  static constexpr std::int64_t kPlanes = kSize * kSize;
  static constexpr bool kHalf = std::is_same_v<E, BFloat16>;

  // The rows of tiles of one block, and its first.
  struct Rows {
    std::int64_t first;
    std::int64_t count;
  };

  void run_block(std::int64_t sample, std::int64_t block) {
    const std::int64_t first = block * tile_rows;
    const Rows rows{first, std::min(tile_rows, all_rows - first)};
    const std::int64_t num_frames = p.size[0];
    const std::int64_t slices = ceil_div(g.channels, kWinogradChannels);
    std::int64_t done = 0;  // frames of x that are transformed
    for (std::int64_t t = 0, end; t < num_frames; t = end) {
      const bool single = !timed || (first_alone && t == 0);
      end = single ? t + 1 : std::min(t + 2, num_frames);
      const std::int64_t needed = std::min(end + ahead, num_frames);
      team_for((needed - done) * slices, [&](std::int64_t unit) {
        transform(sample, done + unit / slices, unit % slices * kWinogradChannels, rows);
      });
      done = needed;
      const std::int64_t tiles = rows.count * tile_columns;
      const std::int64_t parts = ceil_div(tiles, timed_rows);
      with_panel(g.out_channels, p.plan.isa, [&](auto vectors) {
        constexpr int kVectors = decltype(vectors)::value;
        team_for(kPlanes * parts, [&](std::int64_t unit) {
          const std::int64_t from = unit % parts * timed_rows;
          const std::int64_t count = std::min(timed_rows, tiles - from);
          if (single) {
            single_frame<kVectors>(unit / parts, from, count);
          } else {
            frame_pair<kVectors>(unit / parts, t, end - t, from, count);
          }
        });
      });
      team_for((end - t) * rows.count, [&](std::int64_t unit) {
        inverse(sample, t, t + unit / rows.count, rows.first, unit % rows.count);
      });
    }
  }

  float* slot(std::int64_t frame) const {
    return transformed + (timed ? frame % 4 : 0) * kPlanes * in_plane;
  }

  // V of channels [first, ...) of one frame.
  void transform(std::int64_t sample, std::int64_t frame, std::int64_t first,
                 const Rows& rows) const {
    const std::int64_t count = std::min(kWinogradChannels, g.channels - first);
    const T* const image = static_cast<const T*>(p.x) +
                           (sample * p.size[0] + frame) * p.size[1] * p.size[2] * g.channels;
    float* const strip = strips[static_cast<std::size_t>(team_rank())];
    const Activation f = Activation::of(p, sample);
    const std::int64_t row_size = strip_columns * kWinogradChannels;
    for (std::int64_t r = 0; r < rows.count * m + 2; ++r) {
      const std::int64_t row = source_of(rows.first * m + r - above, p.size[1], g.padding);
      fill_row(p, image, row, f, first, count, 1, strip_columns, strip + r * row_size,
               kWinogradChannels);
    }
    float* const planes = slot(frame) + first;
    for (std::int64_t i = 0; i < rows.count; ++i) {
      for (std::int64_t j = 0; j < tile_columns; ++j) {
        const float* const tile = strip + i * m * row_size + j * m * kWinogradChannels;
        float* const out = planes + (i * tile_columns + j) * channels;
        for (std::int64_t c = 0; c < count; c += W) transform_tile(tile + c, row_size, out + c);
      }
    }
  }

  void transform_tile(const float* tile, std::int64_t row_size, float* out) const {
    V z[kSize][kSize];
#pragma GCC unroll 6
    for (int j = 0; j < kSize; ++j) {
      V d[kSize], column[kSize];
#pragma GCC unroll 6
      for (int i = 0; i < kSize; ++i) d[i] = V::load(tile + i * row_size + j * kWinogradChannels);
      Transform<m>::input(d, column);
#pragma GCC unroll 6
      for (int i = 0; i < kSize; ++i) z[i][j] = column[i];
    }
#pragma GCC unroll 6
    for (int i = 0; i < kSize; ++i) {
      V row[kSize];
      Transform<m>::input(z[i], row);
#pragma GCC unroll 6
      for (int j = 0; j < kSize; ++j) row[j].store(out + (i * kSize + j) * in_plane);
    }
  }

  // Packed are, of time, the planes 0 (the first tap), 1 (half the sum of all), in bfloat16 also 2
  // (the same with the middle tap subtracted), and the last tap.
  const E* weights(std::int64_t plane, std::int64_t n, std::int64_t time_plane) const {
    const std::int64_t set = (plane * panels + n) * winograd_time_planes(g, kHalf) + time_plane;
    return static_cast<const E*>(p.packed) + set * depth * panel;
  }

  // M of a frame that needs one product: a kernel of one frame, or frame 0.
  template <int kVectors>
  void single_frame(std::int64_t plane, std::int64_t first, std::int64_t count) const {
    const float* const in = slot(0) + plane * in_plane + first * channels;
    const E* a;
    if constexpr (kHalf) {
      E* const rounded = timed_planes[static_cast<std::size_t>(team_rank())];
      for (std::int64_t i = 0; i < count * channels; i += W) V::load(in + i).store(rounded + i);
      a = rounded;
    } else {
      a = in;
    }
    for (std::int64_t n = 0; n < panels; ++n) {
      float* const c = products + plane * out_plane + first * panel * panels + n * panel;
      const E* const w = weights(plane, n, timed ? 1 : 0);
      multiply<kVectors, Into::kSet>(ProductOf<E>{&a, 1, channels, w, depth, c, c, panel * panels},
                                     count);
    }
  }

  // M of the frames t and, unless it is the last, t + 1, for `count` tiles from `first` on.
  template <int kVectors>
  void frame_pair(std::int64_t plane, std::int64_t t, std::int64_t frames, std::int64_t first,
                  std::int64_t count) const {
    const float* d[4];
    for (std::int64_t k = 0; k < 4; ++k) {
      const std::int64_t frame = source_of(t - front_padding(g, 0) + k, p.size[0], g.padding);
      d[k] = frame < 0 ? zeros : slot(frame) + plane * in_plane + first * channels;
    }
    const std::int64_t step = timed_rows * channels + kPlaneGap;
    E* const out = timed_planes[static_cast<std::size_t>(team_rank())];
    transform_time(d, count * channels, step, out);
    const E* const planes[4] = {out, out + step, out + 2 * step, out + 3 * step};
    for (std::int64_t n = 0; n < panels; ++n) {
      float* const c = products + plane * out_plane + first * panel * panels + n * panel;
      float* const next = c + kPlanes * out_plane;
      const E* const w0 = weights(plane, n, 0);
      const E* const w1 = weights(plane, n, 1);
      const E* const w3 = weights(plane, n, kHalf ? 3 : 2);
      const auto product = [&](int k, const E* w) {
        return ProductOf<E>{planes + k, 1, channels, w, depth, c, next, panel * panels};
      };
      frames == 2 ? multiply<kVectors, Into::kSetBoth>(product(1, w1), count)
                  : multiply<kVectors, Into::kSet>(product(1, w1), count);
      const E* w2;
      if constexpr (kHalf) {
        w2 = weights(plane, n, 2);
      } else {
        w2 = third_plane(w0, w1, w3);
      }
      frames == 2 ? multiply<kVectors, Into::kAddSubtract>(product(2, w2), count)
                  : multiply<kVectors, Into::kAdd>(product(2, w2), count);
      // Of a frame between zeros on both sides this difference is zero.
      if (d[0] != d[2]) multiply<kVectors, Into::kAdd>(product(0, w0), count);
      if (frames == 2) multiply<kVectors, Into::kSubtract>(product(3, w3), count);
    }
  }

  static void transform_time(const float* const* d, std::int64_t size, std::int64_t step, E* out) {
    for (std::int64_t i = 0; i < size; i += W) {
      const V first = V::load(d[0] + i), second = V::load(d[1] + i);
      const V third = V::load(d[2] + i), last = V::load(d[3] + i);
      (first - third).store(out + i);
      (second + third).store(out + step + i);
      (third - second).store(out + 2 * step + i);
      (second - last).store(out + 3 * step + i);
    }
  }

  const float* third_plane(const float* w0, const float* w1, const float* w3) const {
    float* const out = third_planes[static_cast<std::size_t>(team_rank())];
    for (std::int64_t i = 0; i < depth * panel; i += W) {
      (V::load(w0 + i) + V::load(w3 + i) - V::load(w1 + i)).store(out + i);
    }
    return out;
  }

  // Row `row` of tiles of one frame: y = A' M A, masked at the border.
  void inverse(std::int64_t sample, std::int64_t t, std::int64_t frame, std::int64_t first,
               std::int64_t row) {
    const float* const planes = products + (frame - t) * kPlanes * out_plane;
    const V factor = V::set1(first_alone && frame == 0 ? 2.0f : 1.0f);
    const std::int64_t h = (first + row) * m, height = std::min<std::int64_t>(m, p.out_size[1] - h);
    const std::int64_t start = ((sample * p.size[0] + frame) * p.out_size[1] + h) * p.size[2];
    const std::int64_t unit = frame * all_rows + first + row;
    for (std::int64_t j = 0; j < tile_columns; ++j) {
      const std::int64_t width = std::min<std::int64_t>(m, p.size[2] - j * m);
      const std::int64_t pixel = start + j * m;
      const float* const tile = planes + (row * tile_columns + j) * panel * panels;
      std::int64_t o = 0;
      for (; o + W <= g.out_channels; o += W) {
        Tally tally(moments, sample, unit, o);
        inverse_tile<true>(tile + o, o, W, pixel, height, width, factor, tally);
      }
      if (o < g.out_channels) {
        Tally tally(moments, sample, unit, o);
        inverse_tile<false>(tile + o, o, g.out_channels - o, pixel, height, width, factor, tally);
      }
    }
  }

  // The pixels of y, and of x, from `first` on.
  template <bool kFull>
  void inverse_tile(const float* tile, std::int64_t channel, std::int64_t lanes, std::int64_t first,
                    std::int64_t height, std::int64_t width, V factor, Tally& tally) const {
    V z[m][kSize];
#pragma GCC unroll 6
    for (int j = 0; j < kSize; ++j) {
      V d[kSize], column[m];
#pragma GCC unroll 6
      for (int i = 0; i < kSize; ++i) d[i] = V::load(tile + (i * kSize + j) * out_plane);
      Transform<m>::output(d, column);
#pragma GCC unroll 4
      for (int i = 0; i < m; ++i) z[i][j] = column[i];
    }
    const V bias = bias_of<kFull>(p, channel, lanes);
#pragma GCC unroll 4
    for (int i = 0; i < m; ++i) {
      if (i >= height) break;
      V row[m];
      Transform<m>::output(z[i], row);
#pragma GCC unroll 4
      for (int j = 0; j < m; ++j) {
        if (j >= width) break;
        const std::int64_t pixel = first + i * p.size[2] + j;
        const V added = shortcut.template onto<kFull>(bias, pixel, 0, channel, lanes);
        emit<T, kFull>(p, row[j], factor, added, pixel * g.out_channels + channel, lanes, tally);
      }
    }
  }

  const Params& p;
  const Geometry& g;
  bool timed, first_alone;
  std::int64_t ahead;  // frames that y[t] looks into the future
  std::int64_t above;  // rows that the padding puts in front
  std::int64_t all_rows, tile_columns, tile_rows, blocks, channels, depth, panel, panels;
  std::int64_t in_plane, out_plane, strip_columns, timed_rows;
  float* transformed = nullptr;
  float* products = nullptr;
  float* zeros = nullptr;
  std::vector<float*> strips, third_planes;
  std::vector<E*> timed_planes;
  Moments moments;
  Shortcut<T> shortcut;
};

}  // namespace osf::conv3d::OSF_ISA
