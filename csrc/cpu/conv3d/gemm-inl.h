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
// the panel below them: segments * depth rows of kVectors vectors.
struct Product {
  const float* const* a;
  std::int64_t segments;
  std::int64_t lda;
  const float* b;
  std::int64_t depth;
  float* c;
  float* d;
  std::int64_t ldc;
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

template <int kTileRowCount, int kVectors, Into kInto>
inline void micro_tile(const Product& p, std::int64_t row) {
  V sum[kTileRowCount][kVectors];
#pragma GCC unroll 14
  for (int r = 0; r < kTileRowCount; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) sum[r][v] = V::set1(0.0f);
  }
  const float* b = p.b;
  for (std::int64_t s = 0; s < p.segments; ++s) {
    const float* const a = p.a[s] + row * p.lda;
#pragma GCC unroll 2
    for (std::int64_t k = 0; k < p.depth; ++k, b += kVectors * W) {
      V column[kVectors];
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) column[v] = V::load(b + v * W);
#pragma GCC unroll 14
      for (int r = 0; r < kTileRowCount; ++r) {
        const V value = V::set1(a[r * p.lda + k]);
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) sum[r][v] = fma(value, column[v], sum[r][v]);
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

template <int kMostRows, int kVectors, Into kInto>
inline void some_rows(const Product& p, std::int64_t row, std::int64_t rows) {
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
template <int kVectors, Into kInto>
inline void multiply(const Product& p, std::int64_t rows) {
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
