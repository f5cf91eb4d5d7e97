// Weights in the order in which the kernels read them. Sums are taken in double and rounded once.
//
// kDirect       [panel][tap][c][column]
// kWinograd2/4  [plane][panel][time plane][c][column]
// kWinogradHalf [plane][panel][time plane][c / 2][column][c % 2], bfloat16
// kUpsample     [panel][set][c][column]
// kNarrow       [panel][c][column], columns [tap][o]
// kTilesNarrow  as kTiles of a pointwise convolution to columns [tap][o]
// kTiles*       [phase][panel][c / 32][tap][part][column / 16][c / 2 % 16][column % 16][c % 2],
//               bfloat16
#include <algorithm>
#include <cstring>
#include <vector>

#include "core/half.h"
#include "core/memory.h"
#include "core/parallel.h"
#include "cpu/conv3d/layout.h"

namespace osf::conv3d {
namespace {

constexpr std::int64_t kMaxColumns = 32;
using Columns = double[kMaxColumns];

// One tap of one input channel for the columns of a panel; columns past the last output are 0.
struct Source {
  const float* weight;
  std::int64_t channels;
  std::int64_t out_channels;
  std::int64_t taps;

  void read(std::int64_t first, std::int64_t width, std::int64_t channel, std::int64_t tap,
            double* columns) const {
    for (std::int64_t j = 0; j < width; ++j) {
      const std::int64_t o = first + j;
      columns[j] = o < out_channels
                       ? static_cast<double>(weight[(o * channels + channel) * taps + tap])
                       : 0.0;
    }
  }
};

void write(const double* columns, std::int64_t width, float* out) {
  for (std::int64_t j = 0; j < width; ++j) out[j] = static_cast<float>(columns[j]);
}

// out[i] = sum over j of matrix[i][j] * in[j * step], for the columns of a panel each.
template <int kRows>
void apply(const double (&matrix)[kRows][3], const Columns* in, std::int64_t step, Columns* out,
           std::int64_t out_step, std::int64_t width) {
  for (std::int64_t i = 0; i < kRows; ++i) {
    const double* const row = matrix[i];
    for (std::int64_t j = 0; j < width; ++j) {
      out[i * out_step][j] = row[0] * in[0][j] + row[1] * in[step][j] + row[2] * in[2 * step][j];
    }
  }
}

constexpr double kFilter2[4][3] = {{1, 0, 0}, {0.5, 0.5, 0.5}, {0.5, -0.5, 0.5}, {0, 0, 1}};

// The weight of x and of its differences to the neighbours before and after, see upsample-inl.h.
constexpr double kDifference[3][3] = {{1, 0, 0}, {1, 1, 1}, {0, 0, 1}};

void pack_direct(const Source& source, Isa isa, float* packed) {
  const std::int64_t width = panel_width(source.out_channels, isa);
  parallel_for(num_panels(source.out_channels, isa) * source.taps, source.channels * width,
               [&](std::int64_t i) {
                 const std::int64_t first = i / source.taps * width;
                 float* out = packed + i * source.channels * width;
                 Columns columns;
                 for (std::int64_t c = 0; c < source.channels; ++c, out += width) {
                   source.read(first, width, c, i % source.taps, columns);
                   write(columns, width, out);
                 }
               });
}

void pack_narrow(const Source& source, const Geometry& g, Isa isa, float* packed) {
  const std::int64_t width = panel_width(narrow_columns(g), isa);
  parallel_for(num_panels(narrow_columns(g), isa), source.channels * width, [&](std::int64_t n) {
    float* out = packed + n * source.channels * width;
    for (std::int64_t c = 0; c < source.channels; ++c, out += width) {
      for (std::int64_t j = 0; j < width; ++j) {
        const std::int64_t column = n * width + j;
        const std::int64_t tap = column / source.out_channels, o = column % source.out_channels;
        out[j] =
            tap < source.taps ? source.weight[(o * source.channels + c) * source.taps + tap] : 0.0f;
      }
    }
  });
}

// One input channel in a panel of a product over float, or over bfloat16.
void write_row(const double* columns, std::int64_t width, std::int64_t c, float* panel) {
  write(columns, width, panel + c * width);
}

void write_row(const double* columns, std::int64_t width, std::int64_t c, BFloat16* panel) {
  BFloat16* const row = panel + c / 2 * 2 * width + c % 2;
  for (std::int64_t j = 0; j < width; ++j) {
    row[2 * j] = to_bfloat16(static_cast<float>(columns[j]));
  }
}

template <int kSize, class E>
void pack_winograd(const Source& source, const Geometry& g, Isa isa,
                   const double (&filter)[kSize][3], E* packed) {
  constexpr bool kHalf = sizeof(E) == sizeof(BFloat16);
  const std::int64_t width = panel_width(source.out_channels, isa);
  const std::int64_t panels = num_panels(source.out_channels, isa);
  const std::int64_t depth = source.taps / 9;
  // All rows of F(2, 3), or all but the third.
  const std::int64_t time_planes = winograd_time_planes(g, kHalf);
  const std::int64_t rows_of_b = kHalf ? ceil_div(source.channels, 2) * 2 : source.channels;
  constexpr std::int64_t kPlanes = kSize * kSize;
  parallel_for(panels * source.channels, kPlanes * time_planes * width, [&](std::int64_t i) {
    const std::int64_t panel = i / source.channels, c = i % source.channels;
    std::vector<double> buffer((27 + 3 * 3 * kSize + (3 + 4) * kPlanes) * kMaxColumns);
    Columns* const taps = reinterpret_cast<Columns*>(buffer.data());
    Columns* const rows = taps + 27;
    Columns* const planes = rows + 3 * 3 * kSize;
    Columns* const timed = planes + 3 * kPlanes;
    for (std::int64_t tap = 0; tap < source.taps; ++tap) {
      source.read(panel * width, width, c, tap, taps[tap]);
    }
    for (std::int64_t t = 0; t < depth; ++t) {
      for (std::int64_t k = 0; k < 3; ++k) {
        apply(filter, taps + t * 9 + k, 3, rows + t * 3 * kSize + k, 3, width);
      }
      for (std::int64_t j = 0; j < kSize; ++j) {
        apply(filter, rows + (t * kSize + j) * 3, 1, planes + t * kPlanes + j * kSize, 1, width);
      }
    }
    if (depth == 3) {
      for (std::int64_t p = 0; p < kPlanes; ++p) {
        apply(kFilter2, planes + p, kPlanes, timed + p, kPlanes, width);
      }
    }
    const Columns* const result = depth == 3 ? timed : planes;
    const double zeros[kMaxColumns] = {};
    for (std::int64_t p = 0; p < kPlanes; ++p) {
      for (std::int64_t t = 0; t < time_planes; ++t) {
        const std::int64_t row = time_planes == 3 && t == 2 ? 3 : t;
        E* const out = packed + ((p * panels + panel) * time_planes + t) * rows_of_b * width;
        write_row(result[row * kPlanes + p], width, c, out);
        if (c + 1 == source.channels && c + 1 < rows_of_b) write_row(zeros, width, c + 1, out);
      }
    }
  });
}

void pack_upsample(const Source& source, bool time_doubled, Isa isa, float* packed) {
  const std::int64_t width = panel_width(source.out_channels, isa);
  parallel_for(num_panels(source.out_channels, isa) * source.channels, kUpsampleSets * width,
               [&](std::int64_t i) {
                 const std::int64_t panel = i / source.channels, c = i % source.channels;
                 Columns taps[27], columns[27], rows[27];
                 for (std::int64_t tap = 0; tap < 27; ++tap) {
                   source.read(panel * width, width, c, tap, taps[tap]);
                 }
                 for (std::int64_t k = 0; k < 9; ++k) {
                   apply(kDifference, taps + k * 3, 1, columns + k * 3, 1, width);
                 }
                 for (std::int64_t k = 0; k < 9; ++k) {
                   const std::int64_t corner = k / 3 * 9 + k % 3;
                   apply(kDifference, columns + corner, 3, rows + corner, 3, width);
                 }
                 if (time_doubled) {
                   for (std::int64_t k = 0; k < 9; ++k) {
                     apply(kDifference, rows + k, 9, taps + k, 9, width);
                   }
                 }
                 for (std::int64_t set = 0; set < kUpsampleSets; ++set) {
                   // A time axis that stays has its three taps as consecutive sets.
                   const std::int64_t plane = time_doubled ? set : set % 3 * 9 + set / 3;
                   write(time_doubled ? taps[plane] : rows[plane], width,
                         packed + ((panel * kUpsampleSets + set) * source.channels + c) * width);
                 }
               });
}

// The taps of the kernel that phase `phase` of an axis sums into its tap `tap`.
struct Span {
  std::int64_t first;
  std::int64_t last;
};

Span span_of(bool doubled, std::int64_t phase, std::int64_t tap) {
  if (!doubled) return {tap, tap};
  if (phase == 0) return tap == 0 ? Span{0, 0} : Span{1, 2};
  return tap == 0 ? Span{0, 1} : Span{2, 2};
}

void pack_tiles(const Source& source, const Geometry& g, BFloat16* packed) {
  const Phases phases = phases_of(g);
  const std::int64_t taps = phases.total_taps();
  const std::int64_t panels = ceil_div(source.out_channels, kTilePanel);
  const std::int64_t slabs = ceil_div(source.channels, kTileDepth);
  const std::int64_t kernel_row = g.kernel[2], kernel_plane = g.kernel[1] * g.kernel[2];
  parallel_for(
      phases.total() * panels * slabs, taps * kTileDepth * kTilePanel, [&](std::int64_t i) {
        const std::int64_t phase = i / (panels * slabs), panel = i / slabs % panels,
                           slab = i % slabs;
        const std::int64_t at[3] = {phase / (phases.count[1] * phases.count[2]),
                                    phase / phases.count[2] % phases.count[1],
                                    phase % phases.count[2]};
        const std::int64_t parts = tile_weight_parts(g), size = kTileDepth * kTilePanel;
        BFloat16* out = packed + i * taps * parts * size;
        for (std::int64_t tap = 0; tap < taps; ++tap, out += parts * size) {
          const Span t = span_of(g.scale[0] == 2, at[0], tap / (phases.taps[1] * phases.taps[2]));
          const Span h = span_of(g.scale[1] == 2, at[1], tap / phases.taps[2] % phases.taps[1]);
          const Span w = span_of(g.scale[2] == 2, at[2], tap % phases.taps[2]);
          for (std::int64_t k = 0; k < kTileDepth; ++k) {
            const std::int64_t c = slab * kTileDepth + k;
            Columns sum = {}, one;
            for (std::int64_t a = t.first; c < source.channels && a <= t.last; ++a) {
              for (std::int64_t b = h.first; b <= h.last; ++b) {
                for (std::int64_t d = w.first; d <= w.last; ++d) {
                  source.read(panel * kTilePanel, kTilePanel, c,
                              a * kernel_plane + b * kernel_row + d, one);
                  for (std::int64_t j = 0; j < kTilePanel; ++j) sum[j] += one[j];
                }
              }
            }
            for (std::int64_t part = 0; part < parts; ++part) {
              for (std::int64_t j = 0; j < kTilePanel; ++j) {
                const BFloat16 value = to_bfloat16(static_cast<float>(sum[j]));
                out[part * size + ((j / 16 * 16 + k / 2) * 16 + j % 16) * 2 + k % 2] = value;
                sum[j] -= static_cast<double>(to_float(value));
              }
            }
          }
        }
      });
}

void pack_tiles_narrow(const Source& source, const Geometry& g, BFloat16* packed) {
  std::vector<float> columns(static_cast<std::size_t>(narrow_columns(g) * g.channels));
  float* out = columns.data();
  for (std::int64_t tap = 0; tap < source.taps; ++tap) {
    for (std::int64_t o = 0; o < g.out_channels; ++o) {
      for (std::int64_t c = 0; c < g.channels; ++c) {
        *out++ = source.weight[(o * g.channels + c) * source.taps + tap];
      }
    }
  }
  const Geometry product = narrow_product(g);
  pack_tiles({columns.data(), g.channels, product.out_channels, 1}, product, packed);
}

}  // namespace

void pack(const Geometry& g, const Plan& plan, const float* weight, void* packed) {
  const Source source{weight, g.channels, g.out_channels, num_taps(g)};
  float* const floats = static_cast<float*>(packed);
  advise_huge_pages(packed, plan.packed_bytes);
  switch (plan.algorithm) {
    case Algorithm::kDirect:
      return pack_direct(source, plan.isa, floats);
    case Algorithm::kWinograd2:
      return pack_winograd(source, g, plan.isa, kFilter2, floats);
    case Algorithm::kWinograd4:
      return pack_winograd(source, g, plan.isa, kFilter4, floats);
    case Algorithm::kWinogradHalf:
      return pack_winograd(source, g, plan.isa, kFilter2, static_cast<BFloat16*>(packed));
    case Algorithm::kUpsample:
      return pack_upsample(source, g.scale[0] == 2, plan.isa, floats);
    case Algorithm::kNarrow:
      return pack_narrow(source, g, plan.isa, floats);
    case Algorithm::kTilesNarrow:
      return pack_tiles_narrow(source, g, static_cast<BFloat16*>(packed));
    case Algorithm::kTiles:
    case Algorithm::kTilesUpsample:
      return pack_tiles(source, g, static_cast<BFloat16*>(packed));
  }
}

}  // namespace osf::conv3d
