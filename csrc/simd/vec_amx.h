// The vectors of AVX-512 and, beside them, products of bfloat16 matrix tiles (AMX): tiles 0 to 3
// are sums, 4 and 5 two tiles of rows, 6 and 7 two of columns. Include inside a target region.
#pragma once

#include "simd/tiles.h"
#include "simd/vec_avx512.h"

namespace osf::amx {

using osf::avx512::V;

// The tile registers, configured while it lives.
class TileRegisters {
 public:
  TileRegisters() {
    const TileConfig config;
    _tile_loadconfig(&config);
  }
  ~TileRegisters() { _tile_release(); }
  TileRegisters(const TileRegisters&) = delete;
  TileRegisters& operator=(const TileRegisters&) = delete;
};

inline void zero_sums() {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
}

inline void load_columns(const BFloat16* b) {
  _tile_loadd(6, b, 64);
  _tile_loadd(7, b + kTileValues, 64);
}

inline void multiply_add() {
  _tile_dpbf16ps(0, 4, 6);
  _tile_dpbf16ps(1, 4, 7);
  _tile_dpbf16ps(2, 5, 6);
  _tile_dpbf16ps(3, 5, 7);
}

// The six products that stand for one of float32, whose numbers are three parts each: columns and
// load_rows(part) of a part follow each other. The smallest first, and what is loaded serves twice
// where it can.
template <class LoadRows>
inline void multiply_add_parts(const BFloat16* columns, const LoadRows& load_rows) {
  constexpr std::int64_t kPart = 2 * kTileValues;
  load_columns(columns);
  load_rows(2);
  multiply_add();
  load_rows(0);
  multiply_add();
  load_rows(1);
  multiply_add();
  load_columns(columns + kPart);
  multiply_add();
  load_rows(0);
  multiply_add();
  load_columns(columns + 2 * kPart);
  multiply_add();
}

}  // namespace osf::amx
