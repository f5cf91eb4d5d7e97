// Matrix products over packed panels, on the vectors of one instruction set. Included once per
// instruction set; no include guard.
//
// A micro-tile of kRows rows by kVectors vectors is accumulated in registers over the whole depth:
// a value of A is broadcast against a row of the panel.

namespace osf::conv3d::OSF_ISA {

// Rows of a micro-tile, at most: with the widest panel this leaves registers for a row of B and a
// value of A.
inline constexpr int kRows = W == 1 ? 4 : W == 8 ? 6 : 14;

// Between planes: at a power-of-two distance they would share one set of the cache.
inline constexpr std::int64_t kPlaneGap = 16;

// What becomes of a product: it is written to c, added to c, written to c and d, added to c and
// subtracted from d, or subtracted from d. The last three make F(2, 3) of four products.
enum class Into { kSet, kAdd, kSetBoth, kAddSubtract, kSubtract };

// A is `segments` matrices side by side (pointers a[s], row stride lda, `depth` columns each), B
// the panel below them: segments * depth rows of kVectors vectors. In bfloat16 two rows of B lie
// side by side, value by value, and the depth is even.
template <class E>
struct ProductOf {
  const E* const* a;
  std::int64_t segments;
  std::int64_t lda;
  const E* b;
  std::int64_t depth;
  float* c;
  float* d;
  std::int64_t ldc;
};
using Product = ProductOf<float>;

// What a step of a product over E takes: a vector of kDepth rows of B, kDepth values of A.
template <class E>
struct Step;

template <>
struct Step<float> {
  static constexpr std::int64_t kDepth = 1;
  V value;
  static Step load(const float* b) { return {V::load(b)}; }
  static Step broadcast(const float* a) { return {V::set1(*a)}; }
  static V multiply_add(Step a, Step b, V sum) { return fma(a.value, b.value, sum); }
};

template <Into kInto>
inline void put(V value, float* c, float* d) {
  if constexpr (kInto == Into::kSet || kInto == Into::kSetBoth) value.store(c);
  if constexpr (kInto == Into::kAdd || kInto == Into::kAddSubtract) (V::load(c) + value).store(c);
  if constexpr (kInto == Into::kSetBoth) value.store(d);
  if constexpr (kInto == Into::kAddSubtract || kInto == Into::kSubtract) {
    (V::load(d) - value).store(d);
  }
}

template <int kTileRowCount, int kVectors, Into kInto, class E>
inline void micro_tile(const ProductOf<E>& p, std::int64_t row) {
  using S = Step<E>;
  V sum[kTileRowCount][kVectors];
#pragma GCC unroll 14
  for (int r = 0; r < kTileRowCount; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) sum[r][v] = V::set1(0.0f);
  }
  const E* b = p.b;
  for (std::int64_t s = 0; s < p.segments; ++s) {
    const E* const a = p.a[s] + row * p.lda;
#pragma GCC unroll 2
    for (std::int64_t k = 0; k < p.depth; k += S::kDepth, b += kVectors * W * S::kDepth) {
      S column[kVectors];
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) column[v] = S::load(b + v * W * S::kDepth);
#pragma GCC unroll 14
      for (int r = 0; r < kTileRowCount; ++r) {
        const S value = S::broadcast(a + r * p.lda + k);
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) {
          sum[r][v] = S::multiply_add(value, column[v], sum[r][v]);
        }
      }
    }
  }
#pragma GCC unroll 14
  for (int r = 0; r < kTileRowCount; ++r) {
    const std::int64_t offset = (row + r) * p.ldc;
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      put<kInto>(sum[r][v], p.c + offset + v * W, p.d + offset + v * W);
    }
  }
}

template <int kMostRows, int kVectors, Into kInto, class E>
inline void some_rows(const ProductOf<E>& p, std::int64_t row, std::int64_t rows) {
  if constexpr (kMostRows > 0) {
    if (rows == kMostRows) {
      micro_tile<kMostRows, kVectors, kInto>(p, row);
    } else {
      some_rows<kMostRows - 1, kVectors, kInto>(p, row, rows);
    }
  }
}

// The product for `rows` rows of A, in micro-tiles of nearly the same height: a low one would waste
// the loads of B.
template <int kVectors, Into kInto, class E = float>
inline void multiply(const ProductOf<E>& p, std::int64_t rows) {
  const std::int64_t height = ceil_div(rows, ceil_div(rows, kRows));
  for (std::int64_t row = 0; row < rows; row += height) {
    some_rows<kRows, kVectors, kInto>(p, row, std::min(height, rows - row));
  }
}

// Calls body(std::integral_constant<int, vectors>{}) for the panel width of the convolution.
template <class Body>
inline void with_panel(std::int64_t out_channels, Isa isa, const Body& body) {
  if (panel_vectors(out_channels, isa) == 1) return body(std::integral_constant<int, 1>{});
  body(std::integral_constant<int, 2>{});
}

}  // namespace osf::conv3d::OSF_ISA
