// The products of attention on bfloat16 matrix tiles. Include inside the target region, OSF_ISA =
// amx.
//
// Left factors (queries, weights) lie as blocks of 32 rows, each [slab of 32 terms][part][2
// tiles][16 rows][32 terms]; right factors as panels of 32 columns, each [slab of 32 terms][part][2
// tiles][16 pairs of terms][16 columns][2]. Keys are columns in the first product and terms in the
// second. A slab of values that a frame ends within is kept once more for that frame, with zeros
// for the later keys: a weight of zero would not silence a NaN.
//
// bfloat16 is one part. Float32 is three, a = a1 + a2 + a3, each the rounding of what those before
// it left, and the six products a1 b1 + a1 b2 + a2 b1 + a2 b2 + a1 b3 + a3 b1 stand for one: what
// is left out is below 2^-24 of it.

namespace osf::frame_causal_attention::OSF_ISA {

inline constexpr std::int64_t kSlab = kTileDepth;  // terms

using osf::amx::load_columns;
using osf::amx::multiply_add;

// A block of rows times a panel of columns.
struct TileProduct {
  const BFloat16* a;
  const BFloat16* b;
  std::int64_t slabs;
  float* c;
  std::int64_t c_step;
};

inline void load_rows(const BFloat16* a) {
  _tile_loadd(4, a, 64);
  _tile_loadd(5, a + kTileValues, 64);
}

// c [32][32] = the product, or += it.
template <int kParts>
inline void multiply(const TileProduct& p, bool add) {
  const std::int64_t step = p.c_step * static_cast<std::int64_t>(sizeof(float));
  float* const below = p.c + kTileRows * p.c_step;
  if (add) {
    _tile_loadd(0, p.c, step);
    _tile_loadd(1, p.c + 16, step);
    _tile_loadd(2, below, step);
    _tile_loadd(3, below + 16, step);
  } else {
    osf::amx::zero_sums();
  }
  const BFloat16 *a = p.a, *b = p.b;
  constexpr std::int64_t kPart = 2 * kTileValues;
  for (std::int64_t s = 0; s < p.slabs; ++s, a += kParts * kPart, b += kParts * kPart) {
    if constexpr (kParts == 3) {
      osf::amx::multiply_add_parts(b, [&](std::int64_t part) { load_rows(a + part * kPart); });
    } else {
      load_columns(b);
      load_rows(a);
      multiply_add();
    }
  }
  _tile_stored(0, p.c, step);
  _tile_stored(1, p.c + 16, step);
  _tile_stored(2, below, step);
  _tile_stored(3, below + 16, step);
}

template <class T>
class TileProducts {
 public:
  using Packed = BFloat16;
  static constexpr int kParts = std::is_same_v<T, float> ? 3 : 1;
  static constexpr std::int64_t kPanel = kSlab;
  static constexpr std::int64_t kRowUnit = 2 * kTileRows;

  using Registers = osf::amx::TileRegisters;

  TileProducts(const FrameCausalAttentionParams& params, const Blocking& blocking)
      : p(params),
        b(blocking),
        tokens(params.length / params.num_frames),
        key_slabs(ceil_div(params.length, kSlab)),
        channel_slabs(ceil_div(params.head_dim, kSlab)),
        num_tails(tokens % kSlab == 0 ? 0 : params.num_frames) {}

  // A block's queries, scores, weights and sums stay in the cache, keys and values pass through it.
  static constexpr std::int64_t kMostKeys = kParts == 1 ? 512 : 256;
  static std::int64_t most_rows(std::int64_t head_dim) {
    return std::clamp<std::int64_t>(65536 / head_dim, 32, 128) / 32 * 32;
  }

  std::int64_t keys_size() const { return key_slabs * channel_slabs * kSlabSize; }
  std::int64_t values_size() const { return (key_slabs + num_tails) * channel_slabs * kSlabSize; }
  std::int64_t queries_size() const { return kParts * channel_slabs * b.rows * kSlab; }
  std::int64_t weights_size() const { return kParts * b.keys * b.rows; }

  // A unit of packing is a slab of keys and its values, or the last values of a frame.
  std::int64_t num_packs() const { return key_slabs + num_tails; }
  void pack(const T* k, const T* v, std::int64_t unit, BFloat16* keys, BFloat16* values) const {
    if (unit >= key_slabs) {
      const std::int64_t end = (unit - key_slabs + 1) * tokens, first = end / kSlab * kSlab;
      return pack_values(v, first, end - first, 1, tail_of(values, unit - key_slabs));
    }
    const std::int64_t first = unit * kSlab, count = std::min(kSlab, p.length - first);
    pack_keys(k + first * p.k.token_stride, count, keys + unit * channel_slabs * kSlabSize);
    pack_values(v, first, count, key_slabs, values + unit * kSlabSize);
  }

  void load_queries(const T* q, std::int64_t count, const Work<BFloat16>& work) const {
    for (std::int64_t row = 0; row < count; ++row, q += p.q.token_stride) {
      for (std::int64_t d = 0; d < channel_slabs * kSlab; d += W) {
        put(load_some(q, d, p.head_dim), row, d, channel_slabs, work.queries);
      }
    }
  }

  // scores [count][some] = queries times the keys from `key` on.
  void multiply_keys(const BFloat16* keys, std::int64_t key, std::int64_t some, std::int64_t count,
                     const Work<BFloat16>& work) const {
    for (std::int64_t n = 0; n < some; n += kPanel) {
      const BFloat16* const panel = keys + (key + n) / kSlab * channel_slabs * kSlabSize;
      for (std::int64_t row = 0; row < count; row += kRowUnit) {
        const BFloat16* const rows = work.queries + row / kRowUnit * channel_slabs * kSlabSize;
        float* const c = work.scores + row * b.score_step + n;
        multiply<kParts>({rows, panel, channel_slabs, c, b.score_step}, false);
      }
    }
  }

  void put_weight(V weight, std::int64_t row, std::int64_t at, const Work<BFloat16>& work) const {
    put(weight, row, at, b.keys / kSlab, work.weights);
  }

  // sums [count][D] = (for the first keys) or += weights times the values from `key` on.
  void add_values(const BFloat16* values, std::int64_t frame, std::int64_t key, std::int64_t some,
                  std::int64_t count, const Work<BFloat16>& work) const {
    const std::int64_t whole = some / kSlab;
    const BFloat16* const tail = tail_of(values, frame);
    for (std::int64_t n = 0; n < channel_slabs; ++n) {
      const BFloat16* const panel = values + (n * key_slabs + key / kSlab) * kSlabSize;
      for (std::int64_t row = 0; row < count; row += kRowUnit) {
        const BFloat16* const rows = work.weights + row / kRowUnit * (b.keys / kSlab) * kSlabSize;
        float* const c = work.sums + row * b.sum_step + n * kPanel;
        if (whole > 0) multiply<kParts>({rows, panel, whole, c, b.sum_step}, key > 0);
        if (whole * kSlab == some) continue;
        multiply<kParts>({rows + whole * kSlabSize, tail + n * kSlabSize, 1, c, b.sum_step},
                         key > 0 || whole > 0);
      }
    }
  }

 private:
  static constexpr std::int64_t kSlabSize = kParts * 2 * kTileValues;

  template <class Values>
  Values* tail_of(Values* values, std::int64_t frame) const {
    return values + (key_slabs + frame) * channel_slabs * kSlabSize;
  }

  // One vector of a row of a left factor of `all_slabs`, from term `at` on, in its parts.
  void put(V value, std::int64_t row, std::int64_t at, std::int64_t all_slabs,
           BFloat16* factor) const {
    const std::int64_t slab = row / kRowUnit * all_slabs + at / kSlab;
    BFloat16* to = factor + slab * kSlabSize + row % kRowUnit * kSlab + at % kSlab;
    value.store(to);
    for (int part = 1; part < kParts; ++part) {
      value = value - value.template rounded<BFloat16>();
      to += 2 * kTileValues;
      value.store(to);
    }
  }

  // One row of a tile of a right factor: two terms of 16 columns, in their parts.
  static void put_pairs(V even, V odd, BFloat16* to) {
    for (int part = 0; part < kParts; ++part, to += 2 * kTileValues) {
      const V even_part = even.template rounded<BFloat16>();
      const V odd_part = odd.template rounded<BFloat16>();
      const __m512i low = _mm512_srli_epi32(_mm512_castps_si512(even_part.value), 16);
      _mm512_storeu_si512(to, _mm512_or_si512(low, _mm512_castps_si512(odd_part.value)));
      even = even - even_part;
      odd = odd - odd_part;
    }
  }

  // `count` keys as the columns of a panel.
  void pack_keys(const T* k, std::int64_t count, BFloat16* panel) const {
    const __m512i rows =
        _mm512_mullo_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
                           _mm512_set1_epi32(kSlab));
    alignas(64) float square[kSlab * kSlab] = {};
    for (std::int64_t slab = 0; slab < channel_slabs; ++slab, panel += kSlabSize) {
      for (std::int64_t j = 0; j < count; ++j) {
        for (std::int64_t d = 0; d < kSlab; d += W) {
          load_some(k + j * p.k.token_stride, slab * kSlab + d, p.head_dim)
              .store(square + j * kSlab + d);
        }
      }
      for (std::int64_t tile = 0; tile < 2; ++tile) {
        const float* const from = square + tile * kTileValues;
        for (std::int64_t pair = 0; pair < kTileRows; ++pair) {
          put_pairs({_mm512_i32gather_ps(rows, from + 2 * pair, sizeof(float))},
                    {_mm512_i32gather_ps(rows, from + 2 * pair + 1, sizeof(float))},
                    panel + tile * kTileValues + pair * kSlab);
        }
      }
    }
  }

  // A slab of `count` keys' values as terms, at its place in panels of `slabs` slabs.
  void pack_values(const T* v, std::int64_t first, std::int64_t count, std::int64_t slabs,
                   BFloat16* to) const {
    const V zero = V::set1(0.0f);
    for (std::int64_t n = 0; n < channel_slabs; ++n, to += slabs * kSlabSize) {
      for (std::int64_t pair = 0; pair < kTileRows; ++pair) {
        const T* const token = v + (first + 2 * pair) * p.v.token_stride;
        for (std::int64_t tile = 0; tile < 2; ++tile) {
          const std::int64_t d = n * kPanel + tile * kTileRows;
          const V even = 2 * pair < count ? load_some(token, d, p.head_dim) : zero;
          const V odd =
              2 * pair + 1 < count ? load_some(token + p.v.token_stride, d, p.head_dim) : zero;
          put_pairs(even, odd, to + tile * kTileValues + pair * kSlab);
        }
      }
    }
  }

  const FrameCausalAttentionParams& p;
  const Blocking& b;
  const std::int64_t tokens, key_slabs, channel_slabs;
  const std::int64_t num_tails;  // slabs that a frame ends within
};

}  // namespace osf::frame_causal_attention::OSF_ISA
