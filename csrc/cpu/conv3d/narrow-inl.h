// Few outputs: every tap of every output is a column of one product, P = activated x times
// [C][taps * O], and y is a sum of shifted columns of P. A vector of outputs would be mostly empty.
// How a row of x is multiplied is a class of its own, `Rows`: see VectorRows.
//
// One unit of work is some rows of y, through all frames: a row of x is activated once, multiplied,
// and its columns are added to the rows and frames of y that they belong to. Stride 1. Included
// once per instruction set.

namespace osf::conv3d::OSF_ISA {

inline constexpr std::int64_t kNarrowRows = 16;

// Rows of pixels times the columns, in float32 on vectors. A row is padded to `columns` positions.
template <class T>
class VectorRows {
 public:
  using Value = float;
  VectorRows(const Params& params, std::int64_t columns)
      : p(params), g(params.geometry), columns_(columns) {
    channels = ceil_div(g.channels, W) * W;
    panel = panel_width(narrow_columns(g), p.plan.isa);
  }

  // What a row takes when it is activated, and the rows and columns of its product.
  std::int64_t row_values() const { return columns_ * channels; }
  std::int64_t positions() const { return columns_; }
  std::int64_t width() const { return panel * num_panels(narrow_columns(g), p.plan.isa); }

  void multiply_row(const T* image, std::int64_t row, const Activation& f, float* values,
                    float* product) const {
    fill_row(p, image, row, f, 0, g.channels, front_padding(g, 2), columns_, values, channels);
    with_panel(narrow_columns(g), p.plan.isa, [&](auto vectors) {
      constexpr int kVectors = decltype(vectors)::value;
      const float* const a[1] = {values};
      for (std::int64_t n = 0; n * panel < width(); ++n) {
        const float* const b = static_cast<const float*>(p.packed) + n * g.channels * panel;
        float* const c = product + n * panel;
        multiply<kVectors, Into::kSet>({a, 1, channels, b, g.channels, c, c, width()}, columns_);
      }
    });
  }

 private:
  const Params& p;
  const Geometry& g;
  std::int64_t columns_, channels, panel;
};

template <class T, class Rows>
class Narrow {
 public:
  explicit Narrow(const Params& params)
      : p(params), g(params.geometry), multiplied(params, p.out_size[2] + g.kernel[2] - 1) {
    for (int axis = 0; axis < 3; ++axis) front[axis] = front_padding(g, axis);
    width = multiplied.width();
    // At least two units a thread, if there are so many rows.
    const std::int64_t fair = ceil_div(p.batch * p.out_size[1], 2 * team_size());
    rows = std::clamp<std::int64_t>(fair, 1, kNarrowRows);
    blocks = ceil_div(p.out_size[1], rows);
    row_size = p.out_size[2] * g.out_channels;
    sums_size = g.kernel[0] * rows * row_size;
  }

  void run() {
    using Value = typename Rows::Value;
    const std::int64_t row_values = multiplied.row_values();
    const std::int64_t product_values = multiplied.positions() * width;
    const std::int64_t threads = team_size();
    Scratch scratch(static_cast<std::size_t>(threads) *
                    (Scratch::room<Value>(row_values) + Scratch::room<float>(product_values) +
                     Scratch::room<float>(sums_size)));
    std::vector<Room> rooms;
    for (std::int64_t i = 0; i < threads; ++i) {
      Value* const row = scratch.take<Value>(row_values);
      std::fill_n(row, row_values, Value{});
      float* const product = scratch.take<float>(product_values);
      rooms.push_back({row, product, scratch.take<float>(sums_size)});
    }
    parallel_team([&] {
      team_for(p.batch * blocks, [&](std::int64_t unit) {
        block(unit / blocks, unit % blocks * rows, rooms[static_cast<std::size_t>(team_rank())]);
      });
    });
    if (p.moments != nullptr) gather_moments(p);
  }

 private:
  // A thread's activated row, its products, and the unfinished frames of y.
  struct Room {
    typename Rows::Value* row;
    float* product;
    float* sums;
  };

  void block(std::int64_t sample, std::int64_t first, const Room& room) const {
    const std::int64_t count = std::min(rows, p.out_size[1] - first);
    const std::int64_t frame_size = p.size[1] * p.size[2] * g.channels;
    const T* const x = static_cast<const T*>(p.x) + sample * p.size[0] * frame_size;
    const Activation f = Activation::of(p, sample);
    for (std::int64_t t = 0; t < g.kernel[0]; ++t) start_frame(sums_of(t, room));
    // Past the last frame of x come those of zeros behind it, which finish frames of y.
    const std::int64_t end = p.out_size[0] + g.kernel[0] - 1 - front[0];
    for (std::int64_t frame = 0; frame < end; ++frame) {
      for (std::int64_t i = 0; frame < p.size[0] && i < count + g.kernel[1] - 1; ++i) {
        const std::int64_t row = source_of(first + i - front[1], p.size[1], g.padding);
        if (row < 0) continue;
        multiplied.multiply_row(x + frame * frame_size, row, f, room.row, room.product);
        add_row(frame, i, count, room);
      }
      const std::int64_t done = frame + front[0] - (g.kernel[0] - 1);
      if (done < 0) continue;
      finish(sample, done, first, count, sums_of(done, room));
      start_frame(sums_of(done, room));
    }
  }

  float* sums_of(std::int64_t frame, const Room& room) const {
    return room.sums + frame % g.kernel[0] * rows * row_size;
  }

  void start_frame(float* sums) const {
    for (std::int64_t i = 0; i < rows * row_size; ++i) {
      sums[i] = p.bias == nullptr ? 0.0f : p.bias[i % g.out_channels];
    }
  }

  // Adds the products of padded row `i` of the block. The first frame also stands for those before
  // it, unless these are zeros.
  void add_row(std::int64_t frame, std::int64_t i, std::int64_t count, const Room& room) const {
    const bool repeated = frame == 0 && repeats_first_frame(g.padding);
    for (std::int64_t as = repeated ? -front[0] : frame; as <= frame; ++as) {
      for (std::int64_t t = 0; t < g.kernel[0]; ++t) {
        const std::int64_t to = as + front[0] - t;
        if (to < 0 || to >= p.out_size[0]) continue;
        for (std::int64_t h = 0; h < g.kernel[1]; ++h) {
          if (i < h || i - h >= count) continue;
          const std::int64_t tap = (t * g.kernel[1] + h) * g.kernel[2];
          add_taps(room.product + tap * g.out_channels, sums_of(to, room) + (i - h) * row_size);
        }
      }
    }
  }

  // The taps of one row of the kernel.
  void add_taps(const float* product, float* sums) const {
    const std::int64_t outputs = g.out_channels, taps = g.kernel[2];
    for (std::int64_t j = 0; j < p.out_size[2]; ++j, product += width, sums += outputs) {
      for (std::int64_t o = 0; o < outputs; ++o) {
        float sum = sums[o];
        for (std::int64_t w = 0; w < taps; ++w) sum += product[w * (width + outputs) + o];
        sums[o] = sum;
      }
    }
  }

  void finish(std::int64_t sample, std::int64_t frame, std::int64_t first, std::int64_t count,
              const float* sums) const {
    const std::int64_t start =
        ((sample * p.out_size[0] + frame) * p.out_size[1] + first) * row_size;
    const V one = V::set1(1.0f), zero = V::set1(0.0f);
    Tally none;
    std::int64_t i = 0;
    for (; i + W <= count * row_size; i += W) {
      emit<T, true>(p, V::load(sums + i), one, zero, start + i, W, none);
    }
    if (const std::int64_t rest = count * row_size - i; rest > 0) {
      emit<T, false>(p, V::load_n(sums + i, rest, 0.0f), one, zero, start + i, rest, none);
    }
  }

  const Params& p;
  const Geometry& g;
  const Rows multiplied;
  std::int64_t front[3];
  std::int64_t width, rows, blocks, row_size, sums_size;
};

}  // namespace osf::conv3d::OSF_ISA
