// The products of attention on vectors, in float. Included once per instruction set.
//
// Keys are packed as panels [kPanel keys], each [D][kPanel]; values as panels [kPanel channels],
// each [L][kPanel]. Weights take the place of their scores.

namespace osf::frame_causal_attention::OSF_ISA {

namespace gemm = osf::conv3d::OSF_ISA;

template <class T>
class VectorProducts {
 public:
  using Packed = float;
  struct Registers {};
  static constexpr std::int64_t kPanel = 2 * W;
  static constexpr std::int64_t kRowUnit = gemm::kRows;

  VectorProducts(const FrameCausalAttentionParams& params, const Blocking& blocking)
      : p(params),
        b(blocking),
        key_panels(ceil_div(params.length, kPanel)),
        value_panels(ceil_div(params.head_dim, kPanel)),
        query_step(params.head_dim + kRowGap) {}

  // A block's queries, scores and sums stay in the cache, keys and values pass through it.
  static constexpr std::int64_t kMostKeys = 256;
  static std::int64_t most_rows(std::int64_t head_dim) {
    return std::clamp<std::int64_t>(32768 / head_dim, 24, 66);
  }

  std::int64_t keys_size() const { return key_panels * p.head_dim * kPanel; }
  std::int64_t values_size() const { return value_panels * p.length * kPanel; }
  std::int64_t queries_size() const { return b.rows * query_step; }
  std::int64_t weights_size() const { return 0; }

  // A unit of packing is one panel of keys, and its values.
  std::int64_t num_packs() const { return key_panels; }
  void pack(const T* k, const T* v, std::int64_t unit, float* keys, float* values) const {
    const std::int64_t first = unit * kPanel, count = std::min(kPanel, p.length - first);
    float* const panel = keys + unit * p.head_dim * kPanel;
    for (std::int64_t j = 0; j < kPanel; ++j) {
      const T* const from = k + (first + j) * p.k.token_stride;
      for (std::int64_t d = 0; d < p.head_dim; ++d) {
        panel[d * kPanel + j] = j < count ? to_float(from[d]) : 0.0f;
      }
    }
    for (std::int64_t n = 0; n < value_panels; ++n) {
      float* to = values + (n * p.length + first) * kPanel;
      for (std::int64_t j = 0; j < count; ++j) {
        const T* const from = v + (first + j) * p.v.token_stride;
        for (std::int64_t d = n * kPanel; d < (n + 1) * kPanel; d += W, to += W) {
          load_some(from, d).store(to);
        }
      }
    }
  }

  void load_queries(const T* q, std::int64_t count, const Work<float>& work) const {
    for (std::int64_t row = 0; row < count; ++row, q += p.q.token_stride) {
      float* const to = work.queries + row * query_step;
      std::int64_t d = 0;
      for (; d + W <= p.head_dim; d += W) V::load(q + d).store(to + d);
      for (; d < p.head_dim; ++d) to[d] = to_float(q[d]);
    }
  }

  // scores [count][some] = queries times the keys from `key` on.
  void multiply_keys(const float* keys, std::int64_t key, std::int64_t some, std::int64_t count,
                     const Work<float>& work) const {
    for (std::int64_t n = 0; n < some; n += kPanel) {
      const float* const panel = keys + (key + n) * p.head_dim;
      // A slice of the panel stays in the innermost cache for all rows.
      for (std::int64_t d = 0; d < p.head_dim; d += kSlice) {
        const float* const a = work.queries + d;
        float* const c = work.scores + n;
        const gemm::Product product{
            &a, 1, query_step,  panel + d * kPanel, std::min(kSlice, p.head_dim - d),
            c,  c, b.score_step};
        d == 0 ? gemm::multiply<2, gemm::Into::kSet>(product, count)
               : gemm::multiply<2, gemm::Into::kAdd>(product, count);
      }
    }
  }

  void put_weight(V weight, std::int64_t row, std::int64_t at, const Work<float>& work) const {
    weight.store(work.scores + row * b.score_step + at);
  }

  // sums [count][D] = (for the first keys) or += weights times the values from `key` on.
  void add_values(const float* values, std::int64_t, std::int64_t key, std::int64_t some,
                  std::int64_t count, const Work<float>& work) const {
    const float* const a = work.scores;
    for (std::int64_t n = 0; n < value_panels; ++n) {
      float* const c = work.sums + n * kPanel;
      const gemm::Product product{&a, 1, b.score_step, values + (n * p.length + key) * kPanel, some,
                                  c,  c, b.sum_step};
      key == 0 ? gemm::multiply<2, gemm::Into::kSet>(product, count)
               : gemm::multiply<2, gemm::Into::kAdd>(product, count);
    }
  }

 private:
  static constexpr std::int64_t kSlice = 256;

  V load_some(const T* token, std::int64_t d) const {
    if (d + W <= p.head_dim) return V::load(token + d);
    return V::load_n(token + d, std::max<std::int64_t>(p.head_dim - d, 0), 0.0f);
  }

  const FrameCausalAttentionParams& p;
  const Blocking& b;
  const std::int64_t key_panels, value_panels, query_step;
};

}  // namespace osf::frame_causal_attention::OSF_ISA
