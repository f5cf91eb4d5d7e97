// Attention block by block: what is the same whether vectors or matrix tiles form the products.
// Included once per instruction set; no include guard.
//
// Products is the class that packs k and v and multiplies, see vectors-inl.h. Each row of a block
// of queries has its largest score so far and the sum of its weights relative to that; when a block
// of keys brings a larger one, both the sum and the row of outputs shrink to it.

namespace osf::frame_causal_attention::OSF_ISA {

using V = osf::OSF_ISA::V;
inline constexpr std::int64_t W = V::kWidth;

// Between rows: at a power-of-two distance they would share one set of the cache.
inline constexpr std::int64_t kRowGap = 16;

inline constexpr std::int64_t round_up(std::int64_t a, std::int64_t b) {
  return ceil_div(a, b) * b;
}

// The channels of a token from `d` on, with zeros past the last of `head_dim`.
template <class T>
inline V load_some(const T* token, std::int64_t d, std::int64_t head_dim) {
  if (d + W <= head_dim) return V::load(token + d);
  return V::load_n(token + d, std::max<std::int64_t>(head_dim - d, 0), 0.0f);
}

// How many queries and keys meet at a time, and the distances of the rows they make.
struct Blocking {
  std::int64_t rows;
  std::int64_t keys;
  std::int64_t score_step;
  std::int64_t sum_step;
};

struct Row {
  // Not infinite, so that it can be subtracted from itself and from a score of minus infinity.
  float maximum = std::numeric_limits<float>::lowest();
  double total = 0.0;
};

// Hands the weights of `count` scores to put(i, vector), with zeros up to a multiple of `unit`;
// updates the row, and returns by what the sums so far are to be multiplied.
template <class Put>
inline float weigh(const float* scores, std::int64_t count, std::int64_t unit, float scale,
                   Row* row, const Put& put) {
  constexpr float kNothing = -std::numeric_limits<float>::infinity();
  V largest = V::set1(row->maximum);
  std::int64_t i = 0;
  for (; i + W <= count; i += W) largest = max(V::load(scores + i), largest);
  if (i < count) largest = max(V::load_n(scores + i, count - i, kNothing), largest);
  float lanes[W];
  largest.store(lanes);
  float maximum = lanes[0];
  for (const float lane : lanes) maximum = lane > maximum ? lane : maximum;
  const V origin = V::set1(maximum), factor = V::set1(scale);
  V sums = V::set1(0.0f);
  const auto add = [&](std::int64_t at, V score) {
    const V weight = exp((score - origin) * factor);
    sums = sums + weight;
    put(at, weight);
  };
  for (i = 0; i + W <= count; i += W) add(i, V::load(scores + i));
  if (i < count) {
    add(i, V::load_n(scores + i, count - i, kNothing));
    i += W;
  }
  for (; i % unit != 0; i += W) put(i, V::set1(0.0f));
  const float shrink = std::exp((row->maximum - maximum) * scale);
  row->total = row->total * static_cast<double>(shrink) + sum(sums);
  row->maximum = maximum;
  return shrink;
}

// What a thread works in.
template <class Packed>
struct Work {
  Packed* queries;
  float* scores;    // [rows][score_step]
  Packed* weights;  // as Products has it
  float* sums;      // [rows][sum_step]
  Row* rows;
};

template <class Products>
Blocking blocking_of(const FrameCausalAttentionParams& p) {
  const std::int64_t tokens = p.length / p.num_frames;
  const std::int64_t keys = std::min(Products::kMostKeys, round_up(p.length, Products::kPanel));
  // Few queries still have to occupy every thread, and the blocks of a frame are about equal.
  const std::int64_t share = ceil_div(p.batch * p.length, 2 * team_size());
  const std::int64_t most = std::min(Products::most_rows(p.head_dim), share);
  const std::int64_t rows = round_up(ceil_div(tokens, ceil_div(tokens, most)), Products::kRowUnit);
  return {rows, keys, keys + kRowGap, round_up(p.head_dim, Products::kPanel) + kRowGap};
}

template <class T, class Products>
class Attention {
 public:
  explicit Attention(const FrameCausalAttentionParams& params)
      : p(params),
        b(blocking_of<Products>(params)),
        products(params, b),
        tokens(params.length / params.num_frames),
        blocks(ceil_div(tokens, b.rows)),
        scale(static_cast<float>(1.0 / std::sqrt(static_cast<double>(params.head_dim)))) {
    const std::int64_t sample_bytes =
        (products.keys_size() + products.values_size()) * static_cast<std::int64_t>(sizeof(Packed));
    samples = std::clamp<std::int64_t>(kPackedBytes / sample_bytes, 1, p.batch);
  }

  void run() {
    const std::int64_t threads = team_size();
    const std::int64_t queries_size = products.queries_size(), score_size = b.rows * b.score_step;
    const std::int64_t weights_size = products.weights_size(), sum_size = b.rows * b.sum_step;
    Scratch scratch(Scratch::room<Packed>(samples * products.keys_size()) +
                    Scratch::room<Packed>(samples * products.values_size()) +
                    static_cast<std::size_t>(threads) *
                        (Scratch::room<Packed>(queries_size) + Scratch::room<float>(score_size) +
                         Scratch::room<Packed>(weights_size) + Scratch::room<float>(sum_size) +
                         Scratch::room<Row>(b.rows)));
    packed_keys = scratch.take<Packed>(samples * products.keys_size());
    packed_values = scratch.take<Packed>(samples * products.values_size());
    std::vector<Work<Packed>> works;
    for (std::int64_t i = 0; i < threads; ++i) {
      // In the order of their use.
      Packed* const queries = scratch.take<Packed>(queries_size);
      float* const scores = scratch.take<float>(score_size);
      Packed* const weights = scratch.take<Packed>(weights_size);
      float* const sums = scratch.take<float>(sum_size);
      works.push_back({queries, scores, weights, sums, scratch.take<Row>(b.rows)});
    }
    parallel_team([&] {
      for (std::int64_t first = 0; first < p.batch; first += samples) {
        run_samples(first, std::min(samples, p.batch - first), works);
      }
    });
  }

 private:
  using Packed = typename Products::Packed;
  static constexpr std::int64_t kPackedBytes = 256 << 20;

  static const T* tokens_of(const TokensView& view, std::int64_t sample) {
    return static_cast<const T*>(view.data) + sample * view.sample_stride;
  }

  void run_samples(std::int64_t first, std::int64_t count,
                   const std::vector<Work<Packed>>& works) const {
    const std::int64_t packs = products.num_packs();
    team_for(count * packs, [&](std::int64_t unit) {
      const std::int64_t i = unit / packs;
      products.pack(tokens_of(p.k, first + i), tokens_of(p.v, first + i), unit % packs,
                    packed_keys + i * products.keys_size(),
                    packed_values + i * products.values_size());
    });
    // Those with the most keys first, so that no thread ends alone on a long one.
    const std::int64_t units = count * p.num_frames * blocks;
    team_for(units, [&](std::int64_t unit) {
      const std::int64_t at = units - 1 - unit;
      attend(first, at / blocks % count, at / (blocks * count), at % blocks * b.rows,
             works[static_cast<std::size_t>(team_rank())]);
    });
  }

  // The queries from `first_row` on of one frame of sample `first` + i.
  void attend(std::int64_t first, std::int64_t i, std::int64_t frame, std::int64_t first_row,
              const Work<Packed>& work) const {
    [[maybe_unused]] const typename Products::Registers registers;
    const std::int64_t token = frame * tokens + first_row;
    const std::int64_t count = std::min(b.rows, tokens - first_row);
    const std::int64_t num_keys = (frame + 1) * tokens;
    products.load_queries(tokens_of(p.q, first + i) + token * p.q.token_stride, count, work);
    std::fill_n(work.rows, count, Row{});
    const Packed* const k = packed_keys + i * products.keys_size();
    const Packed* const v = packed_values + i * products.values_size();
    for (std::int64_t key = 0; key < num_keys; key += b.keys) {
      const std::int64_t some = std::min(b.keys, num_keys - key);
      products.multiply_keys(k, key, some, count, work);
      for (std::int64_t row = 0; row < count; ++row) {
        const float shrink =
            weigh(work.scores + row * b.score_step, some, Products::kPanel, scale, work.rows + row,
                  [&](std::int64_t at, V weight) { products.put_weight(weight, row, at, work); });
        if (key > 0 && shrink != 1.0f) multiply_row(work.sums + row * b.sum_step, shrink);
      }
      products.add_values(v, frame, key, some, count, work);
    }
    finish((first + i) * p.length + token, count, work);
  }

  void multiply_row(float* sums, float factor) const {
    const V by = V::set1(factor);
    for (std::int64_t d = 0; d < p.head_dim; d += W) (V::load(sums + d) * by).store(sums + d);
  }

  void finish(std::int64_t token, std::int64_t count, const Work<Packed>& work) const {
    T* y = static_cast<T*>(p.y) + token * p.head_dim;
    for (std::int64_t row = 0; row < count; ++row, y += p.head_dim) {
      const Row& state = work.rows[row];
      const float* const sums = work.sums + row * b.sum_step;
      const V inverse = V::set1(static_cast<float>(1.0 / state.total));
      std::int64_t d = 0;
      for (; d + W <= p.head_dim; d += W) (V::load(sums + d) * inverse).store(y + d);
      if (d < p.head_dim) (V::load(sums + d) * inverse).store_n(y + d, p.head_dim - d);
      p.lse[token + row] = static_cast<float>(
          static_cast<double>(state.maximum) * static_cast<double>(scale) + std::log(state.total));
    }
  }

  const FrameCausalAttentionParams& p;
  const Blocking b;
  const Products products;
  const std::int64_t tokens;  // of a frame
  const std::int64_t blocks;  // of queries in a frame
  const float scale;
  std::int64_t samples;  // packed at a time
  Packed* packed_keys = nullptr;
  Packed* packed_values = nullptr;
};

}  // namespace osf::frame_causal_attention::OSF_ISA
