// Sum over taps: any kernel and stride. One unit of work is some rows of one output frame: their
// input rows are activated and padded into a strip, then every panel of outputs is accumulated over
// the taps, as many at a time as keep their weights in the cache. Included once per instruction
// set.

namespace osf::conv3d::OSF_ISA {

inline constexpr std::int64_t kDirectStripBytes = 1 << 20;
inline constexpr std::int64_t kDirectWeightBytes = 256 << 10;
inline constexpr std::int64_t kDirectMaxSegments = 32;
inline constexpr std::int64_t kDirectMaxPixels = 512;

template <class T>
class Direct {
 public:
  explicit Direct(const Params& params) : p(params), g(params.geometry) {
    for (int axis = 0; axis < 3; ++axis) front[axis] = front_padding(g, axis);
    columns = (p.out_size[2] - 1) * g.stride[2] + g.kernel[2];
    // Without padding, activation and conversion the strip is x itself.
    in_place = std::is_same_v<T, float> && p.mean == nullptr && !p.silu && front[0] == 0 &&
               front[1] == 0 && front[2] == 0;
    pixel = in_place ? g.channels : ceil_div(g.channels, W) * W;
    const std::int64_t row_bytes =
        g.kernel[0] * g.stride[1] * columns * pixel * static_cast<std::int64_t>(sizeof(float));
    rows = std::clamp<std::int64_t>(kDirectStripBytes / row_bytes, 1, p.out_size[1]);
    rows = std::min(rows, std::max<std::int64_t>(1, kDirectMaxPixels / p.out_size[2]));
    blocks = ceil_div(p.out_size[1], rows);
    in_rows = (rows - 1) * g.stride[1] + g.kernel[1];
    panel = panel_width(g.out_channels, p.plan.isa);
    moments = Moments(p, p.out_size[0] * blocks);
    shortcut = Shortcut<T>(p);
  }

  void run() {
    const std::int64_t strip_size = in_place ? 0 : g.kernel[0] * in_rows * columns * pixel;
    const std::int64_t sums_size = rows * p.out_size[2] * panel;
    const std::int64_t threads = team_size();
    Scratch scratch(static_cast<std::size_t>(threads) *
                    (Scratch::room<float>(strip_size) + Scratch::room<float>(sums_size)));
    std::vector<float*> strips, sums;
    for (std::int64_t i = 0; i < threads; ++i) {
      strips.push_back(scratch.take<float>(strip_size));
      sums.push_back(scratch.take<float>(sums_size));
    }
    parallel_team([&] {
      team_for(p.batch * p.out_size[0] * blocks, [&](std::int64_t unit) {
        const auto rank = static_cast<std::size_t>(team_rank());
        block(unit, strips[rank], sums[rank]);
      });
    });
    moments.finish(p);
  }

 private:
  void block(std::int64_t unit, float* strip, float* sums) {
    const std::int64_t sample = unit / (p.out_size[0] * blocks);
    const std::int64_t frame = unit / blocks % p.out_size[0];
    const std::int64_t first = unit % blocks * rows;
    const std::int64_t count = std::min(rows, p.out_size[1] - first);
    const std::int64_t frame_size = p.size[1] * p.size[2] * g.channels;
    const T* const x = static_cast<const T*>(p.x) + sample * p.size[0] * frame_size;
    // Offsets within the strip; in place they are those of x.
    std::int64_t row_size = columns * pixel, plane_size = in_rows * row_size;
    const float* input = strip;
    if (in_place) {
      row_size = p.size[2] * pixel;
      plane_size = frame_size;
      if constexpr (std::is_same_v<T, float>) {
        input = x + frame * g.stride[0] * frame_size + first * g.stride[1] * row_size;
      }
    } else {
      fill(x, sample, frame * g.stride[0] - front[0], first * g.stride[1] - front[1],
           (count - 1) * g.stride[1] + g.kernel[1], strip);
    }
    with_panel(g.out_channels, p.plan.isa, [&](auto vectors) {
      constexpr int kVectors = decltype(vectors)::value;
      for (std::int64_t n = 0; n < num_panels(g.out_channels, p.plan.isa); ++n) {
        accumulate<kVectors>(n, input, row_size, plane_size, count, sums);
        finish(n, sample, frame, first, count, sums);
      }
    });
  }

  void fill(const T* x, std::int64_t sample, std::int64_t frame, std::int64_t row,
            std::int64_t count, float* strip) const {
    const Activation f = Activation::of(p, sample);
    for (std::int64_t t = 0; t < g.kernel[0]; ++t) {
      const std::int64_t source = source_of(frame + t, p.size[0], g.padding);
      for (std::int64_t i = 0; i < count; ++i) {
        const std::int64_t from = source_of(row + i, p.size[1], g.padding);
        fill_row(p, x + std::max<std::int64_t>(source, 0) * p.size[1] * p.size[2] * g.channels,
                 source < 0 ? -1 : from, f, 0, g.channels, front[2], columns,
                 strip + (t * in_rows + i) * columns * pixel, pixel);
      }
    }
  }

  // sums [count * out columns][panel] = the products of panel n over all taps.
  template <int kVectors>
  void accumulate(std::int64_t n, const float* input, std::int64_t row_size,
                  std::int64_t plane_size, std::int64_t count, float* sums) const {
    const std::int64_t taps = num_taps(g), tap_size = g.channels * panel;
    const std::int64_t weight_bytes = tap_size * static_cast<std::int64_t>(sizeof(float));
    const std::int64_t at_once =
        std::clamp<std::int64_t>(kDirectWeightBytes / weight_bytes, 1, kDirectMaxSegments);
    const float* const b = static_cast<const float*>(p.packed) + n * taps * tap_size;
    // A pointwise convolution in place has no gap between its rows.
    const bool flat = in_place && taps == 1 && g.stride[1] == 1 && g.stride[2] == 1;
    const std::int64_t runs = flat ? 1 : count;
    const std::int64_t run = flat ? count * p.out_size[2] : p.out_size[2];
    for (std::int64_t tap = 0; tap < taps; tap += at_once) {
      const std::int64_t segments = std::min(at_once, taps - tap);
      for (std::int64_t row = 0; row < runs; ++row) {
        const float* a[kDirectMaxSegments];
        for (std::int64_t s = 0; s < segments; ++s) {
          const std::int64_t t = (tap + s) / (g.kernel[1] * g.kernel[2]);
          const std::int64_t h = (tap + s) / g.kernel[2] % g.kernel[1];
          const std::int64_t w = (tap + s) % g.kernel[2];
          a[s] = input + t * plane_size + (row * g.stride[1] + h) * row_size + w * pixel;
        }
        float* const c = sums + row * run * panel;
        const Product product{a, segments, g.stride[2] * pixel, b + tap * tap_size, g.channels, c,
                              c, panel};
        tap == 0 ? multiply<kVectors, Into::kSet>(product, run)
                 : multiply<kVectors, Into::kAdd>(product, run);
      }
    }
  }

  void finish(std::int64_t n, std::int64_t sample, std::int64_t frame, std::int64_t first,
              std::int64_t count, const float* sums) {
    const std::int64_t o0 = n * panel, outputs = std::min(panel, g.out_channels - o0);
    const std::int64_t start =
        ((sample * p.out_size[0] + frame) * p.out_size[1] + first) * p.out_size[2];
    for (std::int64_t o = 0; o < outputs; o += W) {
      const std::int64_t lanes = std::min(W, outputs - o);
      const V bias = lanes == W ? bias_of<true>(p, o0 + o, W) : bias_of<false>(p, o0 + o, lanes);
      Tally tally(moments, sample, frame * blocks + first / rows, o0 + o);
      for (std::int64_t i = 0; i < count * p.out_size[2]; ++i) {
        const std::int64_t at = (start + i) * g.out_channels + o0 + o;
        const V sum = V::load(sums + i * panel + o);
        const std::int64_t pixel =
            g.shortcut
                ? shortcut.pixel_at(sample, frame, first + i / p.out_size[2], i % p.out_size[2])
                : 0;
        lanes == W ? put<true>(sum, bias, pixel, o0 + o, W, at, tally)
                   : put<false>(sum, bias, pixel, o0 + o, lanes, at, tally);
      }
    }
  }

  template <bool kFull>
  void put(V sum, V bias, std::int64_t pixel, std::int64_t channel, std::int64_t lanes,
           std::int64_t at, Tally& tally) const {
    const V added = shortcut.template onto<kFull>(bias, pixel, 0, channel, lanes);
    emit<T, kFull>(p, sum, V::set1(1.0f), added, at, lanes, tally);
  }

  const Params& p;
  const Geometry& g;
  std::int64_t front[3];
  std::int64_t columns, pixel, rows, blocks, in_rows, panel;
  bool in_place;
  Moments moments;
  Shortcut<T> shortcut;
};

}  // namespace osf::conv3d::OSF_ISA
