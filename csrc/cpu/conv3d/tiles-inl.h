// Sum over taps on bfloat16 matrix tiles. Include inside the target region, OSF_ISA = amx.
//
// Input frames are activated, padded and rounded into planes [slab of 32 channels][position][32], a
// few frames at a time. Positions count through the padded plane, so a tap is a constant shift and
// 16 consecutive ones are a matrix tile of 1 KiB; what a tile computes for padding columns is
// thrown away. A block of two tiles of positions by two of outputs is accumulated in tile registers
// over all slabs and taps: 27 C products, rounded once.
//
// Upsampling by two (an axis of rows, columns or frames) makes two output phases an axis, of two
// taps each whose weights were summed beforehand: 64 products instead of 216 for 8 outputs. The
// sums are kept in two parts, so 128 of them.
//
// Float32 inputs and weights are three parts each, a = a1 + a2 + a3, and the six products a1 b1 +
// a1 b2 + a2 b1 + a2 b2 + a1 b3 + a3 b1 stand for one: what is left out is below 2^-24 of it.

namespace osf::conv3d::OSF_ISA {

inline constexpr std::int64_t kPlanesBytes = 32 << 20;
inline constexpr std::int64_t kPatchBytes = 640 << 10;    // of input that a unit of work reads
inline constexpr std::int64_t kWeightsBytes = 896 << 10;  // of packed weights
inline constexpr std::int64_t kFillRows = 8;
inline constexpr std::int64_t kMaxTaps = 128;

using osf::amx::load_columns;
using osf::amx::multiply_add;

// What a block is summed over. The parts of the input lie `input_part` values apart, those of a
// tap's weights follow each other.
struct Block {
  const BFloat16* const* taps;  // the first position's row of each tap
  std::int64_t num_taps;
  std::int64_t num_slabs;
  std::int64_t slab_size;
  std::int64_t input_part;
  std::int64_t row_step;    // between the positions of a tile
  const BFloat16* weights;  // of the first tap
  std::int64_t slab_weights;
};

// sums [32][32], whose rows are `step` values apart, = sum over slabs and taps of two tiles of
// positions, from `first` and `second` values on, times two of outputs.
template <int kInputParts, int kWeightParts>
void multiply_block(const Block& block, std::int64_t first, std::int64_t second, float* sums,
                    std::int64_t step = kTilePanel) {
  const std::int64_t row_bytes = block.row_step * static_cast<std::int64_t>(sizeof(BFloat16));
  const auto load_rows = [&](const BFloat16* a) {
    _tile_loadd(4, a + first, row_bytes);
    _tile_loadd(5, a + second, row_bytes);
  };
  osf::amx::zero_sums();
  for (std::int64_t slab = 0; slab < block.num_slabs; ++slab) {
    const BFloat16* weights = block.weights + slab * block.slab_weights;
    for (std::int64_t tap = 0; tap < block.num_taps; ++tap) {
      const BFloat16* const a = block.taps[tap] + slab * block.slab_size;
      if constexpr (kInputParts == 3) {
        osf::amx::multiply_add_parts(
            weights, [&](std::int64_t part) { load_rows(a + part * block.input_part); });
      } else {
        load_columns(weights);
        load_rows(a);
        multiply_add();
        if constexpr (kWeightParts == 2) {
          load_columns(weights + 2 * kTileValues);
          multiply_add();
        }
      }
      weights += kWeightParts * 2 * kTileValues;
    }
  }
  const std::int64_t step_bytes = step * static_cast<std::int64_t>(sizeof(float));
  _tile_stored(0, sums, step_bytes);
  _tile_stored(1, sums + 16, step_bytes);
  _tile_stored(2, sums + 16 * step, step_bytes);
  _tile_stored(3, sums + 16 * step + 16, step_bytes);
}

template <class T>
class Tiles {
 public:
  explicit Tiles(const Params& params) : p(params), g(params.geometry), phases(phases_of(g)) {
    for (int axis = 0; axis < 3; ++axis) front[axis] = front_padding(g, axis);
    for (int axis = 1; axis < 3; ++axis) plane[axis] = p.size[axis] + 2 * front[axis];
    frames = p.plan.algorithm == Algorithm::kTilesUpsample ? p.size[0] : p.out_size[0];
    rows = p.plan.algorithm == Algorithm::kTilesUpsample ? p.size[1] : p.out_size[1];
    columns = p.plan.algorithm == Algorithm::kTilesUpsample ? p.size[2] : p.out_size[2];
    flat = g.stride[1] == 1 && g.stride[2] == 1;
    row_tiles = ceil_div(columns, kTileRows);
    num_tiles = flat ? ceil_div((rows - 1) * plane[2] + columns, kTileRows) : rows * row_tiles;
    slabs = ceil_div(g.channels, kTileDepth);
    panels = ceil_div(g.out_channels, kTilePanel);
    // The last tiles read past the plane; what they make of it is thrown away.
    slab_size = (plane[1] * plane[2] + 2 * kTileRows * g.stride[2] + 2 * plane[2]) * kTileDepth;
    part_size = slabs * slab_size;
    frame_size = kInputParts * part_size;
    const std::int64_t frame_bytes = frame_size * kBytes;
    const std::int64_t before = g.kernel[0] - 1;  // frames that a chunk shares with the last
    const std::int64_t fitting = kPlanesBytes / frame_bytes - before;
    chunk = std::clamp<std::int64_t>(fitting / g.stride[0], 1, frames);
    ring = (chunk - 1) * g.stride[0] + g.kernel[0];

    const std::int64_t tile_bytes = g.kernel[0] * kTileRows * g.stride[1] * g.stride[2] * slabs *
                                    kTileDepth * kInputParts * kBytes;
    patch = std::clamp<std::int64_t>(kPatchBytes / tile_bytes / 2 * 2, 2, num_tiles + 1);
    patches = ceil_div(num_tiles, patch);
    panel_size = tile_weight_parts(g) * phases.total_taps() * slabs * 2 * kTileValues;
    group = std::clamp<std::int64_t>(kWeightsBytes / (panel_size * kBytes), 1, panels);
    // A small image still has to occupy every thread.
    const std::int64_t units = chunk * phases.total() * patches;
    group = std::clamp<std::int64_t>(units * panels / (4 * team_size()), 1, group);
    groups = ceil_div(panels, group);
    moments = Moments(p, frames * phases.total() * patches);
    shortcut = Shortcut<T>(p);
  }

  void run() {
    const std::int64_t size = ring * frame_size;
    const std::int64_t row_size = kInputParts == 1 ? 0 : plane[2] * kTileDepth;
    const std::int64_t threads = team_size();
    Scratch scratch(Scratch::room<BFloat16>(size) +
                    static_cast<std::size_t>(threads) * Scratch::room<float>(row_size));
    planes = scratch.take<BFloat16>(size);
    for (std::int64_t i = 0; i < threads; ++i) {
      rows_in_parts.push_back(scratch.take<float>(row_size));
      std::fill_n(rows_in_parts.back(), row_size, 0.0f);
    }
    // Channels that only fill the last slab must hold numbers, or their zero weights yield NaN.
    if (g.channels % kTileDepth != 0) std::memset(planes, 0, static_cast<std::size_t>(size) * 2);
    parallel_team([&] {
      for (std::int64_t sample = 0; sample < p.batch; ++sample) run_sample(sample);
    });
    moments.finish(p);
  }

 private:
  static constexpr std::int64_t kBytes = sizeof(BFloat16);
  static constexpr int kInputParts = std::is_same_v<T, float> ? 3 : 1;

  void run_sample(std::int64_t sample) {
    std::int64_t done = 0;  // input frames that are in the ring
    for (std::int64_t t = 0; t < frames; t += chunk) {
      const std::int64_t count = std::min(chunk, frames - t);
      const std::int64_t first = std::max(done, first_frame(t));
      const std::int64_t end = std::min(last_frame(t + count - 1) + 1, p.size[0]);
      const std::int64_t strips = ceil_div(plane[1], kFillRows);
      team_for((end - first) * strips, [&](std::int64_t unit) {
        fill(sample, first + unit / strips, unit % strips * kFillRows);
      });
      done = end;
      const std::int64_t per_frame = phases.total() * patches;
      team_for(groups * count * per_frame, [&](std::int64_t unit) {
        const std::int64_t within = unit % (count * per_frame);
        multiply(sample, t + within / per_frame, within / patches % phases.total(),
                 within % patches * patch, unit / (count * per_frame) * group);
      });
    }
  }

  bool doubles_time() const { return phases.count[0] == 2; }
  std::int64_t first_frame(std::int64_t t) const {
    return std::max<std::int64_t>(doubles_time() ? t - 1 : t * g.stride[0] - front[0], 0);
  }
  std::int64_t last_frame(std::int64_t t) const {
    return doubles_time() ? t + 1 : t * g.stride[0] - front[0] + g.kernel[0] - 1;
  }

  BFloat16* frame_plane(std::int64_t frame) const { return planes + frame % ring * frame_size; }

  void fill(std::int64_t sample, std::int64_t frame, std::int64_t first) const {
    const Activation f = Activation::of(p, sample);
    const T* const image = static_cast<const T*>(p.x) +
                           (sample * p.size[0] + frame) * p.size[1] * p.size[2] * g.channels;
    const std::int64_t end = std::min(first + kFillRows, plane[1]);
    for (std::int64_t row = first; row < end; ++row) {
      const std::int64_t source = source_of(row - front[1], p.size[1], g.padding);
      for (std::int64_t slab = 0; slab < slabs; ++slab) {
        const std::int64_t channel = slab * kTileDepth;
        const std::int64_t count = std::min(kTileDepth, g.channels - channel);
        BFloat16* const out = frame_plane(frame) + slab * slab_size + row * plane[2] * kTileDepth;
        if constexpr (kInputParts == 1) {
          fill_row(p, image, source, f, channel, count, front[2], plane[2], out, kTileDepth);
        } else {
          float* const buffer = rows_in_parts[static_cast<std::size_t>(team_rank())];
          fill_row(p, image, source, f, channel, count, front[2], plane[2], buffer, kTileDepth);
          for (std::int64_t i = 0; i < plane[2] * kTileDepth; i += W) split(buffer + i, out + i);
        }
      }
    }
  }

  void split(const float* values, BFloat16* out) const {
    V rest = V::load(values);
    for (int part = 0; part < kInputParts; ++part, out += part_size) {
      rest.store(out);
      rest = rest - V::load(out);
    }
  }

  // Where the taps of a phase start: the rows of position 0, and which weights they take. Frames of
  // zeros, before the others and behind them, are left out.
  struct Taps {
    const BFloat16* starts[kMaxTaps];
    std::int64_t first = 0;  // of those that are not of zeros
    std::int64_t count = 0;
  };

  Taps taps_of(std::int64_t frame, std::int64_t phase) const {
    Taps taps;
    const std::int64_t at[3] = {phase / (phases.count[1] * phases.count[2]),
                                phase / phases.count[2] % phases.count[1], phase % phases.count[2]};
    const bool upsampled = upsamples(g);
    for (std::int64_t tap = 0; tap < phases.total_taps(); ++tap) {
      const std::int64_t k[3] = {tap / (phases.taps[1] * phases.taps[2]),
                                 tap / phases.taps[2] % phases.taps[1], tap % phases.taps[2]};
      std::int64_t t =
          doubles_time() ? frame + at[0] + k[0] - 1 : frame * g.stride[0] - front[0] + k[0];
      t = source_of(t, p.size[0], g.padding);
      // The even phase of a doubled axis meets the one before and itself, the odd one itself and
      // the one behind; position 0 of the padded plane is one before the image.
      const std::int64_t h = upsampled ? at[1] + k[1] : k[1];
      const std::int64_t w = upsampled ? at[2] + k[2] : k[2];
      if (t >= 0) {
        taps.starts[taps.count++] = frame_plane(t) + (h * plane[2] + w) * kTileDepth;
      } else if (taps.count == 0) {
        ++taps.first;
      }
    }
    return taps;
  }

  std::int64_t position_of(std::int64_t tile) const {
    if (flat) return tile * kTileRows;
    return tile / row_tiles * g.stride[1] * plane[2] + tile % row_tiles * kTileRows * g.stride[2];
  }

  // Panels [first_panel, ...) of one output phase of one frame, for the tiles of a patch.
  void multiply(std::int64_t sample, std::int64_t frame, std::int64_t phase, std::int64_t first,
                std::int64_t first_panel) {
    const std::int64_t unit = (frame * phases.total() + phase) * patches + first / patch;
    if (output_frame(frame, phase) >= p.out_size[0]) return;
    const Taps taps = taps_of(frame, phase);
    const std::int64_t tap_weights = tile_weight_parts(g) * 2 * kTileValues;
    const osf::amx::TileRegisters registers;
    alignas(64) float sums[2 * kTileRows * kTilePanel];
    const std::int64_t end = std::min(first + patch, num_tiles);
    const std::int64_t end_panel = std::min(first_panel + group, panels);
    for (std::int64_t panel = first_panel; panel < end_panel; ++panel) {
      const BFloat16* const weights = static_cast<const BFloat16*>(p.packed) +
                                      (phase * panels + panel) * panel_size +
                                      taps.first * tap_weights;
      const Block block{taps.starts, taps.count,
                        slabs,       slab_size,
                        part_size,   g.stride[2] * kTileDepth,
                        weights,     phases.total_taps() * tap_weights};
      for (std::int64_t tile = first; tile < end; tile += 2) {
        const std::int64_t position = position_of(tile) * kTileDepth;
        const std::int64_t second = tile + 1 < end ? position_of(tile + 1) * kTileDepth : position;
        if constexpr (kInputParts == 3) {
          multiply_block<3, 3>(block, position, second, sums);
        } else if (tile_weight_parts(g) == 2) {
          multiply_block<1, 2>(block, position, second, sums);
        } else {
          multiply_block<1, 1>(block, position, second, sums);
        }
        for (std::int64_t i = 0; i < 2 && tile + i < end; ++i) {
          const Places places = places_of(sample, frame, phase, tile + i);
          const float* const from = sums + i * kTileRows * kTilePanel;
          for (std::int64_t o = 0; o < kTilePanel; o += W) {
            const std::int64_t channel = panel * kTilePanel + o, lanes = g.out_channels - channel;
            if (lanes <= 0) break;
            Tally tally(moments, sample, unit, channel);
            lanes >= W ? write<true>(places, phase, from + o, channel, W, tally)
                       : write<false>(places, phase, from + o, channel, lanes, tally);
          }
        }
      }
    }
  }

  // The frame of y that a phase of a frame makes.
  std::int64_t output_frame(std::int64_t frame, std::int64_t phase) const {
    return doubles_time() ? 2 * frame + phase / (phases.count[1] * phases.count[2]) : frame;
  }

  // Which of a tile's 16 positions lie in the image, where in y their outputs start, and the pixels
  // of x that their shortcuts start from.
  struct Places {
    std::int64_t count = 0;
    std::int64_t position[kTileRows];
    std::int64_t offset[kTileRows];
    std::int64_t pixel[kTileRows];
  };

  Places places_of(std::int64_t sample, std::int64_t frame, std::int64_t phase,
                   std::int64_t tile) const {
    const std::int64_t scale_h = phases.count[1], scale_w = phases.count[2];
    const std::int64_t at_h = phase / scale_w % scale_h, at_w = phase % scale_w;
    std::int64_t row = flat ? tile * kTileRows / plane[2] : tile / row_tiles;
    std::int64_t column = flat ? tile * kTileRows % plane[2] : tile % row_tiles * kTileRows;
    const std::int64_t start =
        (sample * p.out_size[0] + output_frame(frame, phase)) * p.out_size[1];
    Places places;
    for (std::int64_t i = 0; i < kTileRows; ++i, ++column) {
      if (flat && column == plane[2]) {
        column = 0;
        ++row;
      }
      if (row >= rows) break;
      if (column >= columns) continue;
      places.position[places.count] = i;
      places.pixel[places.count] = shortcut.pixel_at(sample, frame, row, column);
      places.offset[places.count++] =
          ((start + row * scale_h + at_h) * p.out_size[2] + column * scale_w + at_w) *
          g.out_channels;
    }
    return places;
  }

  // A vector of outputs, `lanes` from `channel` on, of all places of a tile.
  template <bool kFull>
  void write(const Places& places, std::int64_t phase, const float* sums, std::int64_t channel,
             std::int64_t lanes, Tally& tally) const {
    const V one = V::set1(1.0f), bias = bias_of<kFull>(p, channel, lanes);
    for (std::int64_t i = 0; i < places.count; ++i) {
      emit<T, kFull>(p, V::load(sums + places.position[i] * kTilePanel), one,
                     shortcut.template onto<kFull>(bias, places.pixel[i], phase, channel, lanes),
                     places.offset[i] + channel, lanes, tally);
    }
  }

  const Params& p;
  const Geometry& g;
  const Phases phases;
  std::int64_t front[3], plane[3];
  std::int64_t frames, rows, columns, row_tiles, num_tiles, slabs, panels, slab_size, part_size,
      frame_size;
  std::int64_t chunk, ring, patch, patches, panel_size, group, groups;
  bool flat;
  BFloat16* planes = nullptr;
  std::vector<float*> rows_in_parts;
  Moments moments;
  Shortcut<T> shortcut;
};

}  // namespace osf::conv3d::OSF_ISA
