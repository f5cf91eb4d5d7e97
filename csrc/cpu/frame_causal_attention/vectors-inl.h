// The products of attention on vectors, in float. Included once per instruction set.
//
// Keys are packed as panels [kPanel keys], each [D][kPanel]; values as panels [kPanel channels],
// each [L][kPanel]. Weights take the place of their scores.

namespace osf::frame_causal_attention::OSF_ISA {

namespace gemm = osf::conv3d::OSF_ISA;

// Packed factors that are needed next: fetched a piece at a time while the last ones are
// multiplied, since they come from memory once for each block of queries.
class Ahead {
 public:
  Ahead(const float* start, std::int64_t count, std::int64_t pieces)
      : at(reinterpret_cast<const char*>(start)),
        end(reinterpret_cast<const char*>(start + count)),
        piece(ceil_div(end - at, pieces)) {}

  void fetch() {
    constexpr std::int64_t kLine = 64;
    for (const char* const stop = at + std::min(piece, end - at); at < stop; at += kLine) {
      __builtin_prefetch(at, 0, 2);
    }
  }

 private:
  const char* at;
  const char* end;
  std::int64_t piece;
};

template <class T>
class VectorProducts {
 public:
  using Packed = float;
  struct Registers {};
  static constexpr std::int64_t kPanel = 2 * W;
  static constexpr std::int64_t kRowUnit = 1;

  VectorProducts(const FrameCausalAttentionParams& params, const Blocking& blocking)
      : p(params),
        b(blocking),
        key_panels(ceil_div(params.length, kPanel)),
        value_panels(ceil_div(params.head_dim, kPanel)),
        query_step(params.head_dim + kRowGap) {}

  // A block's queries, scores and sums stay in the cache, keys and values pass through it.
  static constexpr std::int64_t kMostKeys = 256;
  static std::int64_t most_rows(std::int64_t head_dim) {
    return std::clamp<std::int64_t>(65536 / head_dim, 24, 128);
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
          load_some(from, d, p.head_dim).store(to);
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
        const std::int64_t depth = std::min(kSlice, p.head_dim - d);
        const float* const slice = panel + d * kPanel;
        const bool last = n + kPanel >= some && d + depth == p.head_dim;
        multiply({work.queries + d, query_step, slice, depth, work.scores + n, b.score_step}, count,
                 d > 0, slice + depth * kPanel, last ? 0 : depth * kPanel);
      }
    }
  }

  void put_weight(V weight, std::int64_t row, std::int64_t at, const Work<float>& work) const {
    weight.store(work.scores + row * b.score_step + at);
  }

  // sums [count][D] = (for the first keys) or += weights times the values from `key` on.
  void add_values(const float* values, std::int64_t, std::int64_t key, std::int64_t some,
                  std::int64_t count, const Work<float>& work) const {
    for (std::int64_t n = 0; n < value_panels; ++n) {
      const float* const panel = values + (n * p.length + key) * kPanel;
      multiply({work.scores, b.score_step, panel, some, work.sums + n * kPanel, b.sum_step}, count,
               key > 0, panel + p.length * kPanel, n + 1 < value_panels ? some * kPanel : 0);
    }
  }

 private:
  static constexpr std::int64_t kSlice = 256;

  struct Factors {
    const float* a;
    std::int64_t a_step;
    const float* panel;
    std::int64_t depth;
    float* c;
    std::int64_t c_step;
  };

  // c [rows][kPanel] = a times the panel, or += it; `ahead` of `next` is fetched meanwhile.
  static void multiply(const Factors& f, std::int64_t rows, bool add, const float* next,
                       std::int64_t ahead) {
    Ahead fetching(next, ahead, ceil_div(rows, gemm::kRows));
    for (std::int64_t row = 0; row < rows; row += gemm::kRows) {
      const std::int64_t some = std::min<std::int64_t>(gemm::kRows, rows - row);
      const float* const a = f.a + row * f.a_step;
      float* const c = f.c + row * f.c_step;
      const gemm::Product product{&a, 1, f.a_step, f.panel, f.depth, c, c, f.c_step};
      fetching.fetch();
      add ? gemm::multiply<2, gemm::Into::kAdd>(product, some)
          : gemm::multiply<2, gemm::Into::kSet>(product, some);
    }
  }

  const FrameCausalAttentionParams& p;
  const Blocking& b;
  const std::int64_t key_panels, value_panels, query_step;
};

}  // namespace osf::frame_causal_attention::OSF_ISA
