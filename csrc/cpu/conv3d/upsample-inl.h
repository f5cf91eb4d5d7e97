// Nearest upsampling folded into the 3x3x3 convolution behind it: exact, borders included.
//
// Along a doubled axis, with D[i] = x[i] - x[i-1] and S = w0 + w1 + w2,
//   y[2i] = S x[i] - w0 D[i]        y[2i+1] = S x[i] + w2 D[i+1]
// three products instead of six for two outputs. Past the ends x is repeated, so that D is 0 there,
// or 0. Rows, columns and (where time is doubled) frames nest: 27 products for 8 outputs instead of
// 216. In causal time the first frame stays single: y[2t + 1] of the last frame does not exist, and
// D[0] = 0 is the causal border; between zeros every frame has both. Where time is not doubled its
// three taps lie side by side in the depth of the product.
//
// One unit of work is a patch of one input frame. Included once per instruction set.

namespace osf::conv3d::OSF_ISA {

// A patch's maps fit into the cache, unless channels are so many that hardly a pixel would: every
// patch streams through all weights.
inline constexpr std::int64_t kUpsampleColumns = 64;
inline constexpr std::int64_t kUpsampleMapBytes = 1 << 20;
inline constexpr std::int64_t kUpsamplePixels = 64;

template <class T>
class Upsample {
 public:
  explicit Upsample(const Params& params) : p(params), g(params.geometry) {
    doubled = g.scale[0] == 2;
    channels = ceil_div(g.channels, W) * W;
    panel = panel_width(g.out_channels, p.plan.isa);
    patch[1] = std::min(p.size[2], kUpsampleColumns);
    const std::int64_t row_bytes =
        kMaps * (patch[1] + 1) * channels * static_cast<std::int64_t>(sizeof(float));
    const std::int64_t rows =
        std::max(kUpsampleMapBytes / row_bytes - 1, ceil_div(kUpsamplePixels, patch[1]));
    patch[0] = std::min(rows, p.size[1]);
    patches[0] = ceil_div(p.size[1], patch[0]);
    patches[1] = ceil_div(p.size[2], patch[1]);
    map_size = (patch[0] + 1) * (patch[1] + 1) * channels + kPlaneGap;
    plane_size = patch[0] * patch[1] * panel + kPlaneGap;
    zeros.assign(static_cast<std::size_t>(g.channels), T{});
    moments = Moments(p, p.size[0] * patches[0] * patches[1]);
    shortcut = Shortcut<T>(p);
  }

  void run() {
    const std::int64_t planes = doubled ? 27 : 9, threads = team_size();
    Scratch scratch(
        static_cast<std::size_t>(threads) *
        (Scratch::room<float>(kMaps * map_size) + Scratch::room<float>(planes * plane_size)));
    std::vector<float*> maps, products;
    for (std::int64_t i = 0; i < threads; ++i) {
      maps.push_back(scratch.take<float>(kMaps * map_size));
      products.push_back(scratch.take<float>(planes * plane_size));
    }
    parallel_team([&] {
      team_for(p.batch * p.size[0] * patches[0] * patches[1], [&](std::int64_t unit) {
        const auto rank = static_cast<std::size_t>(team_rank());
        run_patch(unit, maps[rank], products[rank]);
      });
    });
    moments.finish(p);
  }

 private:
  // Four maps in space (row difference or value, times column difference or value) of three frames,
  // or of the frame and its differences to the ones before and after.
  static constexpr std::int64_t kMaps = 12;

  struct Patch {
    std::int64_t unit;  // within its sample
    std::int64_t sample, frame;
    std::int64_t row, column;  // of its corner
    std::int64_t height, width;
  };

  void run_patch(std::int64_t unit, float* maps, float* products) {
    const std::int64_t column = unit % patches[1], row = unit / patches[1] % patches[0];
    const std::int64_t frame = unit / (patches[0] * patches[1]);
    const Patch at{unit % (p.size[0] * patches[0] * patches[1]),
                   frame / p.size[0],
                   frame % p.size[0],
                   row * patch[0],
                   column * patch[1],
                   std::min(patch[0], p.size[1] - row * patch[0]),
                   std::min(patch[1], p.size[2] - column * patch[1])};
    make_maps(at, maps);
    with_panel(g.out_channels, p.plan.isa, [&](auto vectors) {
      constexpr int kVectors = decltype(vectors)::value;
      for (std::int64_t n = 0; n < num_panels(g.out_channels, p.plan.isa); ++n) {
        doubled ? multiply_sets<kVectors>(at, n, maps, products)
                : multiply_taps<kVectors>(at, n, maps, products);
        finish(at, n, products);
      }
    });
  }

  // The frames that the three groups of maps come from; -1: zeros.
  std::int64_t frame_of(const Patch& at, std::int64_t k) const {
    const std::int64_t before = doubled ? 1 : front_padding(g, 0);
    return source_of(at.frame + k - before, p.size[0], g.padding);
  }

  void make_maps(const Patch& at, float* maps) const {
    const std::int64_t frame_size = p.size[1] * p.size[2] * g.channels;
    const T* const x = static_cast<const T*>(p.x) + at.sample * p.size[0] * frame_size;
    const T* frames[3];
    for (std::int64_t k = 0; k < 3; ++k) {
      const std::int64_t frame = frame_of(at, k);
      frames[k] = frame < 0 ? nullptr : x + frame * frame_size;
    }
    for (std::int64_t i = 0; i <= at.height; ++i) {
      const std::int64_t rows[2] = {source_of(at.row + i - 1, p.size[1], g.padding),
                                    source_of(at.row + i, p.size[1], g.padding)};
      for (std::int64_t j = 0; j <= at.width; ++j) {
        const std::int64_t columns[2] = {source_of(at.column + j - 1, p.size[2], g.padding),
                                         source_of(at.column + j, p.size[2], g.padding)};
        const T* pixels[12];
        for (std::int64_t k = 0; k < 12; ++k) {
          const std::int64_t row = rows[k / 2 % 2], column = columns[k % 2];
          const bool outside = frames[k / 4] == nullptr || row < 0 || column < 0;
          pixels[k] =
              outside ? zeros.data() : frames[k / 4] + (row * p.size[2] + column) * g.channels;
        }
        float* const out = maps + (i * (patch[1] + 1) + j) * channels;
        std::int64_t c = 0;
        for (; c + W <= g.channels; c += W) map_vector<true>(pixels, c, W, out + c);
        if (c < g.channels) map_vector<false>(pixels, c, g.channels - c, out + c);
      }
    }
  }

  // Of three frames the pixels above left, above, left and here.
  template <bool kFull>
  void map_vector(const T* const* pixels, std::int64_t c, std::int64_t lanes, float* out) const {
    const auto value = [&](int i) {
      const V x = load_part<T, kFull>(pixels[i] + c, lanes);
      return p.silu ? silu(x) : x;
    };
    V space[3][4];
#pragma GCC unroll 3
    for (int k = 0; k < 3; ++k) {
      const V above_left = value(4 * k), above = value(4 * k + 1);
      const V left = value(4 * k + 2), here = value(4 * k + 3);
      space[k][3] = here;
      space[k][2] = here - left;
      space[k][1] = here - above;
      space[k][0] = space[k][2] - (above - above_left);
    }
#pragma GCC unroll 4
    for (int s = 0; s < 4; ++s) {
      const V values[3] = {doubled ? space[1][s] - space[0][s] : space[0][s], space[1][s],
                           doubled ? space[2][s] - space[1][s] : space[2][s]};
      for (int k = 0; k < 3; ++k) values[k].store(out + (k * 4 + s) * map_size);
    }
  }

  // The map in space that set `set` (0 difference before, 1 value, 2 difference after, for rows and
  // columns) reads, at row `row` of the patch.
  const float* map_of(std::int64_t set, std::int64_t row, const float* maps) const {
    const std::int64_t h = set / 3, w = set % 3;
    const std::int64_t map = (h == 1 ? 2 : 0) + (w == 1 ? 1 : 0);
    return maps + map * map_size +
           ((row + (h == 2 ? 1 : 0)) * (patch[1] + 1) + (w == 2 ? 1 : 0)) * channels;
  }

  const float* weights(std::int64_t n, std::int64_t set) const {
    return static_cast<const float*>(p.packed) + (n * kUpsampleSets + set) * g.channels * panel;
  }

  template <int kVectors>
  void multiply_sets(const Patch& at, std::int64_t n, const float* maps, float* products) const {
    for (std::int64_t set = 0; set < kUpsampleSets; ++set) {
      const std::int64_t k = set / 9;
      if (!has(at, k)) continue;
      for (std::int64_t row = 0; row < at.height; ++row) {
        const float* const a[1] = {map_of(set % 9, row, maps) + k * 4 * map_size};
        float* const c = products + set * plane_size + row * patch[1] * panel;
        multiply<kVectors, Into::kSet>({a, 1, channels, weights(n, set), g.channels, c, c, panel},
                                       at.width);
      }
    }
  }

  template <int kVectors>
  void multiply_taps(const Patch& at, std::int64_t n, const float* maps, float* products) const {
    for (std::int64_t set = 0; set < 9; ++set) {
      for (std::int64_t row = 0; row < at.height; ++row) {
        const float* a[3];
        for (std::int64_t k = 0; k < 3; ++k) a[k] = map_of(set, row, maps) + k * 4 * map_size;
        float* const c = products + set * plane_size + row * patch[1] * panel;
        multiply<kVectors, Into::kSet>(
            {a, 3, channels, weights(n, 3 * set), g.channels, c, c, panel}, at.width);
      }
    }
  }

  // In causal time the difference to the frame before is 0 at the first, and y after the last does
  // not exist.
  bool has(const Patch& at, std::int64_t k) const {
    if (g.padding == Padding::kCentered) return true;
    return k == 1 || (k == 0 ? at.frame > 0 : at.frame + 1 < p.size[0]);
  }

  void finish(const Patch& at, std::int64_t n, const float* products) {
    const std::int64_t o0 = n * panel, outputs = std::min(panel, g.out_channels - o0);
    for (std::int64_t i = 0; i < at.height; ++i) {
      for (std::int64_t j = 0; j < at.width; ++j) {
        const float* const product = products + (i * patch[1] + j) * panel;
        for (std::int64_t o = 0; o < outputs; o += W) {
          const std::int64_t lanes = std::min(W, outputs - o);
          lanes == W ? finish_vector<true>(at, i, j, o0 + o, W, product + o)
                     : finish_vector<false>(at, i, j, o0 + o, lanes, product + o);
        }
      }
    }
  }

  template <bool kFull>
  void finish_vector(const Patch& at, std::int64_t i, std::int64_t j, std::int64_t channel,
                     std::int64_t lanes, const float* product) {
    Tally tally(moments, at.sample, at.unit, channel);
    const V bias = bias_of<kFull>(p, channel, lanes);
    V z[2][2];
    if (!doubled) {
      unfold(product, z);
      return write<kFull>(at, at.frame, i, j, channel, lanes, z, bias, tally);
    }
    V before[2][2], after[2][2];
    unfold(product + 9 * plane_size, z);
    if (has(at, 0)) {
      unfold(product, before);
      for (int k = 0; k < 4; ++k) before[k / 2][k % 2] = z[k / 2][k % 2] - before[k / 2][k % 2];
    }
    write<kFull>(at, 2 * at.frame, i, j, channel, lanes, has(at, 0) ? before : z, bias, tally);
    if (!has(at, 2)) return;
    unfold(product + 18 * plane_size, after);
    for (int k = 0; k < 4; ++k) after[k / 2][k % 2] = z[k / 2][k % 2] + after[k / 2][k % 2];
    write<kFull>(at, 2 * at.frame + 1, i, j, channel, lanes, after, bias, tally);
  }

  // Four outputs of the nine products of rows and columns.
  void unfold(const float* product, V (*z)[2]) const {
    V even[3], odd[3];
#pragma GCC unroll 3
    for (int h = 0; h < 3; ++h) {
      const float* const row = product + 3 * h * plane_size;
      const V value = V::load(row + plane_size);
      even[h] = value - V::load(row);
      odd[h] = value + V::load(row + 2 * plane_size);
    }
    z[0][0] = even[1] - even[0];
    z[0][1] = odd[1] - odd[0];
    z[1][0] = even[1] + even[2];
    z[1][1] = odd[1] + odd[2];
  }

  template <bool kFull>
  void write(const Patch& at, std::int64_t frame, std::int64_t i, std::int64_t j,
             std::int64_t channel, std::int64_t lanes, const V (*z)[2], V bias,
             Tally& tally) const {
    const std::int64_t pixel = shortcut.pixel_at(at.sample, at.frame, at.row + i, at.column + j);
    const std::int64_t first_phase = doubled ? frame % 2 * 4 : 0;
    for (std::int64_t k = 0; k < 4; ++k) {
      const std::int64_t row =
          (at.sample * p.out_size[0] + frame) * p.out_size[1] + 2 * (at.row + i) + k / 2;
      const std::int64_t offset =
          (row * p.out_size[2] + 2 * (at.column + j) + k % 2) * g.out_channels + channel;
      const V added = shortcut.template onto<kFull>(bias, pixel, first_phase + k, channel, lanes);
      emit<T, kFull>(p, z[k / 2][k % 2], V::set1(1.0f), added, offset, lanes, tally);
    }
  }

  const Params& p;
  const Geometry& g;
  bool doubled;
  std::int64_t channels, panel, patch[2], patches[2], map_size, plane_size;
  std::vector<T> zeros;  // a pixel outside
  Moments moments;
  Shortcut<T> shortcut;
};

}  // namespace osf::conv3d::OSF_ISA
