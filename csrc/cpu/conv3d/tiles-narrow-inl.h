// Rows of pixels times the columns of a convolution to few outputs (narrow-inl.h) on bfloat16
// matrix tiles: 27 taps of 3 outputs fill three panels, where as outputs they would leave 29 of 32
// columns of a panel empty, 27 times over. Include inside the target region, OSF_ISA = amx.

namespace osf::conv3d::OSF_ISA {

template <class T>
class TileRows {
 public:
  using Value = BFloat16;
  TileRows(const Params& params, std::int64_t columns)
      : p(params), g(params.geometry), columns_(columns) {
    slabs = ceil_div(g.channels, kTileDepth);
    panels = ceil_div(narrow_columns(g), kTilePanel);
  }

  // Two tiles of positions are multiplied at once.
  std::int64_t positions() const { return ceil_div(columns_, 2 * kTileRows) * 2 * kTileRows; }
  std::int64_t row_values() const { return slabs * slab_size(); }
  std::int64_t width() const { return panels * kTilePanel; }

  void multiply_row(const T* image, std::int64_t row, const Activation& f, BFloat16* values,
                    float* product) const {
    for (std::int64_t slab = 0; slab < slabs; ++slab) {
      const std::int64_t channel = slab * kTileDepth;
      fill_row(p, image, row, f, channel, std::min(kTileDepth, g.channels - channel),
               front_padding(g, 2), columns_, values + slab * slab_size(), kTileDepth);
    }
    const osf::amx::TileRegisters registers;
    const std::int64_t panel_weights = slabs * 2 * kTileValues;
    for (std::int64_t panel = 0; panel < panels; ++panel) {
      const BFloat16* const starts[1] = {values};
      const Block block{starts,
                        1,
                        slabs,
                        slab_size(),
                        0,
                        kTileDepth,
                        static_cast<const BFloat16*>(p.packed) + panel * panel_weights,
                        2 * kTileValues};
      for (std::int64_t first = 0; first < columns_; first += 2 * kTileRows) {
        multiply_block<1, 1>(block, first * kTileDepth, (first + kTileRows) * kTileDepth,
                             product + first * width() + panel * kTilePanel, width());
      }
    }
  }

 private:
  std::int64_t slab_size() const { return positions() * kTileDepth; }

  const Params& p;
  const Geometry& g;
  std::int64_t columns_, slabs, panels;
};

}  // namespace osf::conv3d::OSF_ISA
