// The algorithm of linear_attention.h over the vector type V, included once per instruction set. No
// include guard.
//
// A row of positions is an array [columns][width] of floats, width channels of which the first D
// count; what lies past them, and past the last column, is zero or ignored.

namespace osf::linear_attention::OSF_ISA {

using V = osf::OSF_ISA::V;
inline constexpr std::int64_t W = V::kWidth;

// Sizes of a call that follow from the width of a vector.
struct Sizes {
  std::int64_t width;    // D, rounded up to vectors and blocks
  std::int64_t columns;  // W, rounded up to blocks
  std::int64_t state;    // floats of S and z of one head of one scale: [width + 1][width]
  Tiles tiles;

  explicit Sizes(const LinearAttentionParams& p)
      : width(round_up(p.head_dim, std::max<std::int64_t>(W, kBlock))),
        columns(round_up(p.size[2], kBlock)),
        state((width + 1) * width),
        tiles(p) {}
};

inline V relu(V a) {
  // A NaN is the second operand, which comes back.
  return max(V::set1(0.0f), a);
}

// Loads the D channels of n positions, `stride` apart, as a row.
template <bool kRelu, class T>
void load_row(const T* from, std::int64_t stride, std::int64_t n, std::int64_t channels,
              std::int64_t width, float* to) {
  for (; n > 0; --n, from += stride, to += width) {
    for (std::int64_t c = 0; c < channels; c += W) {
      const std::int64_t rest = channels - c;
      const V value = rest < W ? V::load_n(from + c, rest, 0.0f) : V::load(from + c);
      (kRelu ? relu(value) : value).store(to + c);
    }
  }
}

template <class T>
void store_row(const float* from, std::int64_t width, std::int64_t n, std::int64_t channels, T* to,
               std::int64_t stride) {
  for (; n > 0; --n, from += width, to += stride) {
    for (std::int64_t c = 0; c < channels; c += W) {
      const std::int64_t rest = channels - c;
      rest < W ? V::load(from + c).store_n(to + c, rest) : V::load(from + c).store(to + c);
    }
  }
}

// The weights of one q, k or v in float.
template <class T>
void load_weights(const LinearAttentionParams& p, std::int64_t first, std::int64_t width,
                  float* taps, float* mixing) {
  const std::int64_t count = p.kernel[0] * p.kernel[1] * p.kernel[2], d = p.head_dim;
  const T* const depth = static_cast<const T*>(p.depth_weight) + first * count;
  const T* const point = static_cast<const T*>(p.point_weight) + first * d;
  // taps [vectors][tap][W], mixing [input][width].
  std::fill_n(taps, count * width, 0.0f);
  std::fill_n(mixing, d * width, 0.0f);
  for (std::int64_t c = 0; c < d; ++c) {
    float* const own = taps + c / W * count * W + c % W;
    for (std::int64_t tap = 0; tap < count; ++tap) own[tap * W] = to_float(depth[c * count + tap]);
    for (std::int64_t i = 0; i < d; ++i) mixing[i * width + c] = to_float(point[c * d + i]);
  }
}

// The last kT frames of a strip of rows of one q, k or v, each [rows + kH - 1][columns + kW - 1],
// with zeros around the video, by vectors of channels: [vectors][kT][row][column][W].
template <class T>
class Ring {
 public:
  Ring(const LinearAttentionParams& p, const Sizes& sizes, std::int64_t first_row,
       std::int64_t num_rows, float* data)
      : p_(p),
        first_row_(first_row),
        height_(num_rows + p.kernel[1] - 1),
        breadth_(sizes.columns + p.kernel[2] - 1),
        width_(sizes.width),
        data_(data) {
    std::fill_n(data, floats(p, sizes, num_rows), 0.0f);
  }

  static std::int64_t floats(const LinearAttentionParams& p, const Sizes& sizes,
                             std::int64_t num_rows) {
    return sizes.width * p.kernel[0] * (num_rows + p.kernel[1] - 1) *
           (sizes.columns + p.kernel[2] - 1);
  }

  // The place of a column of a row (counted from the strip's first, less kH / 2) of a frame.
  float* at(std::int64_t vector, std::int64_t frame, std::int64_t row, std::int64_t column) const {
    return data_ +
           (((vector * p_.kernel[0] + frame % p_.kernel[0]) * height_ + row) * breadth_ + column) *
               W;
  }

  // Takes a frame in; `from` is the first channel of its first position. Rows outside the video
  // stay zero: no tile ever fills them.
  void fill(std::int64_t frame, const T* from) const {
    const std::int64_t stride = 3 * p_.channels, above = first_row_ - p_.kernel[1] / 2;
    for (std::int64_t row = std::max<std::int64_t>(0, -above);
         row < std::min(height_, p_.size[1] - above); ++row) {
      const T* position = from + (above + row) * p_.size[2] * stride;
      for (std::int64_t column = 0; column < p_.size[2]; ++column, position += stride) {
        for (std::int64_t c = 0; c < p_.head_dim; c += W) {
          const std::int64_t rest = p_.head_dim - c;
          const V value = rest < W ? V::load_n(position + c, rest, 0.0f) : V::load(position + c);
          value.store(at(c / W, frame, row, column + p_.kernel[2] / 2));
        }
      }
    }
  }

  std::int64_t vectors() const { return width_ / W; }

 private:
  const LinearAttentionParams& p_;
  std::int64_t first_row_, height_, breadth_, width_;
  float* data_;
};

// Adds kColumns taps of a row to kBlock neighbouring results; 0 stands for any number.
template <int kColumns>
inline void add_taps(const float* row, const float* taps, std::int64_t count, V (&sums)[kBlock]) {
  if constexpr (kColumns == 0) {
    for (std::int64_t j = 0; j < count; ++j) {
      const V tap = V::load(taps + j * W);
      for (std::int64_t i = 0; i < kBlock; ++i) {
        sums[i] = fma(V::load(row + (i + j) * W), tap, sums[i]);
      }
    }
  } else {
    V tap[kColumns];
    for (int j = 0; j < kColumns; ++j) tap[j] = V::load(taps + j * W);
#pragma GCC unroll 16
    for (int c = 0; c < kBlock + kColumns - 1; ++c) {
      const V value = V::load(row + c * W);
#pragma GCC unroll 8
      for (int j = 0; j < kColumns; ++j) {
        const int i = c - j;
        if (i >= 0 && i < kBlock) sums[i] = fma(value, tap[j], sums[i]);
      }
    }
  }
}

// One row of the depthwise convolution: row `row` of the strip, of a frame.
template <int kColumns, class T>
void convolve_row(const LinearAttentionParams& p, const Sizes& sizes, const Ring<T>& ring,
                  const float* taps, std::int64_t frame, std::int64_t row, float* to) {
  const std::int64_t reach = p.kernel[0] / 2;
  const std::int64_t first = std::max<std::int64_t>(0, reach - frame);
  const std::int64_t end = std::min(p.kernel[0], p.size[0] + reach - frame);
  for (std::int64_t v = 0; v < ring.vectors(); ++v) {
    for (std::int64_t column = 0; column < sizes.columns; column += kBlock) {
      V sums[kBlock];
      for (V& sum : sums) sum = V::set1(0.0f);
      for (std::int64_t t = first; t < end; ++t) {
        const float* tap = taps + (v * p.kernel[0] + t) * p.kernel[1] * p.kernel[2] * W;
        for (std::int64_t h = 0; h < p.kernel[1]; ++h, tap += p.kernel[2] * W) {
          add_taps<kColumns>(ring.at(v, frame + t - reach, row + h, column), tap, p.kernel[2],
                             sums);
        }
      }
      for (std::int64_t i = 0; i < kBlock; ++i) {
        sums[i].store(to + (column + i) * sizes.width + v * W);
      }
    }
  }
}

// sums[i] = the products of a row's position i, `count` values, with a column of W: matrix
// [count][stride].
inline void multiply(const float* row, std::int64_t width, const float* matrix, std::int64_t stride,
                     std::int64_t count, V (&sums)[kBlock]) {
  for (V& sum : sums) sum = V::set1(0.0f);
  for (std::int64_t j = 0; j < count; ++j) {
    const V column = V::load(matrix + j * stride);
    for (std::int64_t i = 0; i < kBlock; ++i) {
      sums[i] = fma(V::set1(row[i * width + j]), column, sums[i]);
    }
  }
}

template <bool kRelu>
void mix_row(const LinearAttentionParams& p, const Sizes& sizes, const float* from,
             const float* mixing, float* to) {
  for (std::int64_t column = 0; column < sizes.columns; column += kBlock) {
    for (std::int64_t c = 0; c < sizes.width; c += W) {
      V sums[kBlock];
      multiply(from + column * sizes.width, sizes.width, mixing + c, sizes.width, p.head_dim, sums);
      for (std::int64_t i = 0; i < kBlock; ++i) {
        (kRelu ? relu(sums[i]) : sums[i]).store(to + (column + i) * sizes.width + c);
      }
    }
  }
}

// state += sum over n positions of v k^T, its last row += sum of k. k is after ReLU.
inline void accumulate(const float* k, const float* v, std::int64_t n, std::int64_t width,
                       float* state) {
  for (std::int64_t j = 0; j < width; j += W) {
    for (std::int64_t i = 0; i < width; i += kBlock) {
      V sums[kBlock];
      for (V& sum : sums) sum = V::set1(0.0f);
      for (std::int64_t at = 0; at < n * width; at += width) {
        const V key = V::load(k + at + j);
        for (std::int64_t a = 0; a < kBlock; ++a) {
          sums[a] = fma(V::set1(v[at + i + a]), key, sums[a]);
        }
      }
      for (std::int64_t a = 0; a < kBlock; ++a) {
        float* const to = state + (i + a) * width + j;
        (V::load(to) + sums[a]).store(to);
      }
    }
    V sum = V::set1(0.0f);
    for (std::int64_t at = 0; at < n * width; at += width) sum = sum + V::load(k + at + j);
    float* const to = state + width * width + j;
    (V::load(to) + sum).store(to);
  }
}

// One tile of one head: the sums of both scales, and the aggregated q into y.
template <class T>
class Tile {
 public:
  Tile(const LinearAttentionParams& p, const Sizes& sizes, std::int64_t task, float* states)
      : p_(p),
        sizes_(sizes),
        heads_(p.channels / p.head_dim),
        head_(task / sizes.tiles.count() % heads_),
        batch_(task / sizes.tiles.count() / heads_),
        first_frame_(task % sizes.tiles.in_time * sizes.tiles.frames),
        frames_(std::min(sizes.tiles.frames, p.size[0] - first_frame_)),
        first_row_(task / sizes.tiles.in_time % sizes.tiles.in_height * sizes.tiles.rows),
        rows_(std::min(sizes.tiles.rows, p.size[1] - first_row_)),
        base_(states + task * 2 * sizes.state),
        aggregated_(base_ + sizes.state) {}

  void run() const {
    const std::int64_t row = sizes_.columns * sizes_.width, d = p_.head_dim;
    const std::int64_t ring = Ring<T>::floats(p_, sizes_, rows_), keys = frames_ * rows_ * row;
    const std::int64_t taps = p_.kernel[0] * p_.kernel[1] * p_.kernel[2] * sizes_.width;
    const std::int64_t mixing = d * sizes_.width;
    Scratch scratch(Scratch::room<float>(ring) + Scratch::room<float>(keys) +
                    Scratch::room<float>(taps) + Scratch::room<float>(mixing) +
                    4 * Scratch::room<float>(row));
    Buffers buffers;
    buffers.ring = scratch.take<float>(ring);
    buffers.keys = scratch.take<float>(keys);
    buffers.taps = scratch.take<float>(taps);
    buffers.mixing = scratch.take<float>(mixing);
    for (float*& one : buffers.rows) {
      one = scratch.take<float>(row);
      std::fill_n(one, row, 0.0f);
    }
    std::fill_n(base_, 2 * sizes_.state, 0.0f);

    walk<true>(1, buffers, [&](std::int64_t frame, std::int64_t r, const float* k) {
      std::copy_n(k, row, buffers.keys + (frame * rows_ + r) * row);
    });
    walk<false>(2, buffers, [&](std::int64_t frame, std::int64_t r, const float* v) {
      accumulate(buffers.keys + (frame * rows_ + r) * row, v, p_.size[2], sizes_.width,
                 aggregated_);
      float* const raw_k = buffers.rows[2];
      float* const raw_v = buffers.rows[3];
      load_row<true>(position(1, frame, r), 3 * p_.channels, p_.size[2], d, sizes_.width, raw_k);
      load_row<false>(position(2, frame, r), 3 * p_.channels, p_.size[2], d, sizes_.width, raw_v);
      accumulate(raw_k, raw_v, p_.size[2], sizes_.width, base_);
    });
    T* const y = static_cast<T*>(p_.y) + p_.channels + head_ * d;
    walk<true>(0, buffers, [&](std::int64_t frame, std::int64_t r, const float* q) {
      store_row(q, sizes_.width, p_.size[2], d, y + place(frame, r) * 2 * p_.channels,
                2 * p_.channels);
    });
  }

 private:
  struct Buffers {
    float* ring;
    float* keys;
    float* taps;
    float* mixing;
    float* rows[4];
  };

  // The number of a row's first position; frame and row are the tile's.
  std::int64_t place(std::int64_t frame, std::int64_t row) const {
    return ((batch_ * p_.size[0] + first_frame_ + frame) * p_.size[1] + first_row_ + row) *
           p_.size[2];
  }

  // Where a row's q (part 0), k (1) or v (2) begins.
  const T* position(std::int64_t part, std::int64_t frame, std::int64_t row) const {
    return static_cast<const T*>(p_.qkv) + place(frame, row) * 3 * p_.channels +
           (3 * head_ + part) * p_.head_dim;
  }

  // Aggregates one part of the tile, and hands on every row.
  template <bool kRelu, class Take>
  void walk(std::int64_t part, const Buffers& buffers, const Take& take) const {
    load_weights<T>(p_, (3 * head_ + part) * p_.head_dim, sizes_.width, buffers.taps,
                    buffers.mixing);
    const Ring<T> ring(p_, sizes_, first_row_, rows_, buffers.ring);
    const std::int64_t reach = p_.kernel[0] / 2;
    std::int64_t next = std::max<std::int64_t>(0, first_frame_ - reach);
    for (std::int64_t frame = first_frame_; frame < first_frame_ + frames_; ++frame) {
      for (; next <= std::min(frame + reach, p_.size[0] - 1); ++next) {
        ring.fill(next, position(part, next - first_frame_, -first_row_));
      }
      for (std::int64_t row = 0; row < rows_; ++row) {
        p_.kernel[2] == 5
            ? convolve_row<5>(p_, sizes_, ring, buffers.taps, frame, row, buffers.rows[0])
            : convolve_row<0>(p_, sizes_, ring, buffers.taps, frame, row, buffers.rows[0]);
        mix_row<kRelu>(p_, sizes_, buffers.rows[0], buffers.mixing, buffers.rows[1]);
        take(frame - first_frame_, row, buffers.rows[1]);
      }
    }
  }

  const LinearAttentionParams& p_;
  const Sizes& sizes_;
  std::int64_t heads_, head_, batch_, first_frame_, frames_, first_row_, rows_;
  float* base_;
  float* aggregated_;
};

// Adds up the tiles' sums of one head of one scale, and turns them round: [D][width + W], a row the
// products of one q with every v, then z, W times.
inline void reduce(const LinearAttentionParams& p, const Sizes& sizes, const float* states,
                   float* to) {
  const std::int64_t tiles = sizes.tiles.count(), width = sizes.width;
  std::vector<float> total(static_cast<std::size_t>(sizes.state));
  for (std::int64_t tile = 0; tile < tiles; ++tile) {
    for (std::int64_t i = 0; i < sizes.state; i += W) {
      (V::load(total.data() + i) + V::load(states + tile * 2 * sizes.state + i))
          .store(total.data() + i);
    }
  }
  for (std::int64_t j = 0; j < p.head_dim; ++j) {
    float* const row = to + j * (width + W);
    for (std::int64_t i = 0; i < width; ++i) {
      row[i] = total[static_cast<std::size_t>(i * width + j)];
    }
    std::fill_n(row + width, W, total[static_cast<std::size_t>(width * width + j)]);
  }
}

// The outputs of n positions, no more than kPiece, of one head.
template <class T>
void apply(const LinearAttentionParams& p, const Sizes& sizes, const T* q, std::int64_t q_stride,
           std::int64_t n, const float* state, T* y, float* row) {
  const std::int64_t width = sizes.width, stride = width + W;
  load_row<true>(q, q_stride, n, p.head_dim, width, row);
  const V eps = V::set1(static_cast<float>(p.eps));
  for (std::int64_t first = 0; first < n; first += kBlock) {
    V denominators[kBlock];
    multiply(row + first * width, width, state + width, stride, p.head_dim, denominators);
    for (std::int64_t c = 0; c < p.head_dim; c += W) {
      V sums[kBlock];
      multiply(row + first * width, width, state + c, stride, p.head_dim, sums);
      const std::int64_t rest = p.head_dim - c;
      for (std::int64_t i = 0; i < std::min(kBlock, n - first); ++i) {
        const V out = sums[i] / (denominators[i] + eps);
        T* const to = y + (first + i) * 2 * p.channels + c;
        rest < W ? out.store_n(to, rest) : out.store(to);
      }
    }
  }
}

template <class T>
void run_typed(const LinearAttentionParams& p) {
  const Sizes sizes(p);
  const std::int64_t heads = p.batch * (p.channels / p.head_dim), tiles = sizes.tiles.count();
  const std::int64_t positions = p.size[0] * p.size[1] * p.size[2];
  const std::int64_t turned = p.head_dim * (sizes.width + W);
  Scratch scratch(Scratch::room<float>(heads * tiles * 2 * sizes.state) +
                  Scratch::room<float>(heads * 2 * turned));
  float* const states = scratch.take<float>(heads * tiles * 2 * sizes.state);
  float* const sums = scratch.take<float>(heads * 2 * turned);
  const std::int64_t taps = p.kernel[0] * p.kernel[1] * p.kernel[2] + p.head_dim;
  parallel_for(heads * tiles, ceil_div(positions, tiles) * 3 * p.head_dim * taps,
               [&](std::int64_t task) { Tile<T>(p, sizes, task, states).run(); });
  parallel_for(heads * 2, tiles * sizes.state, [&](std::int64_t i) {
    const float* const own = states + (i / 2 * tiles * 2 + i % 2) * sizes.state;
    reduce(p, sizes, own, sums + i * turned);
  });

  const std::int64_t task_length = kPiece * kPiecesOfTask;
  const std::int64_t tasks = ceil_div(positions, task_length);
  parallel_for(heads * 2 * tasks, task_length * p.head_dim * p.head_dim, [&](std::int64_t task) {
    const std::int64_t i = task / tasks, scale = i % 2;
    const std::int64_t head = i / 2 % (p.channels / p.head_dim);
    const std::int64_t batch = i / 2 / (p.channels / p.head_dim);
    std::vector<float> row(static_cast<std::size_t>(kPiece * sizes.width));
    const std::int64_t begin = task % tasks * task_length;
    for (std::int64_t first = begin; first < std::min(begin + task_length, positions);
         first += kPiece) {
      const std::int64_t at = batch * positions + first;
      T* const y =
          static_cast<T*>(p.y) + at * 2 * p.channels + scale * p.channels + head * p.head_dim;
      const T* const raw =
          static_cast<const T*>(p.qkv) + at * 3 * p.channels + 3 * head * p.head_dim;
      apply(p, sizes, scale == 0 ? raw : y, (scale == 0 ? 3 : 2) * p.channels,
            std::min(kPiece, positions - first), sums + i * turned, y, row.data());
    }
  });
}

inline void run(const LinearAttentionParams& p) {
  p.dtype == DType::kBFloat16 ? run_typed<BFloat16>(p) : run_typed<float>(p);
}

}  // namespace osf::linear_attention::OSF_ISA
