// The algorithm of group_norm_silu_conv3d.h, free of CUDA's headers: group_norm_silu_conv3d.cu
// includes it after common/*.cuh, the test on the CPU after an emulation of them.
//
// A block makes tiles of 16x16 pixels (8x16 with mma.sync) of a frame times 128 outputs, one after
// another. It walks through *fills*: for every 128 input channels and each of the three frames, the
// tile's pixels and a border of one, activated, in shared memory. A fill serves nine taps of two
// *stages* each, a stage being 64 input channels. ldmatrix takes a row's address from every lane,
// so that a tap is a shift of rows and nothing is stored twice; while the stages of a fill are
// multiplied, the next fill (of the next tile, after the last) goes into the other buffer, a few
// pixels a stage. Pixels outside the frame repeat its border, frames before the first repeat it.
//
// Shared memory: the ring of weights, whose stages lie at multiples of 1024 bytes for the swizzle
// (the 16-byte chunk c of row n is at c ^ n % 8, in the halos too, which frees ldmatrix of bank
// conflicts); two halos; the ring's barriers. The epilogue turns sums into rows of pixels in the
// halo that was multiplied last.
#pragma once

#include <cstddef>
#include <cstdint>

namespace osf::cuda::halo_conv3d {

inline constexpr int kFillChannels = 128;
inline constexpr int kStageChannels = 64;
inline constexpr int kTileOutputs = 128;
inline constexpr int kTileWidth = 16;  // the rows of a fragment: one row of pixels
inline constexpr int kHaloWidth = kTileWidth + 2;
inline constexpr int kFrames = 3;
inline constexpr int kTaps = 9;
inline constexpr int kHalves = kFillChannels / kStageChannels;
inline constexpr int kFillStages = kTaps * kHalves;
inline constexpr int kPixelBytes = kFillChannels * 2;
inline constexpr int kChunks = kPixelBytes / 16;  // of a pixel
inline constexpr int kWeightBytes = kTileOutputs * kStageChannels * 2;
inline constexpr int kRing = 3;
inline constexpr int kWarpSize = 32;
inline constexpr int kThreads = 256;  // that multiply and fill
inline constexpr int kWarps = kThreads / kWarpSize;
inline constexpr int kFillPixels = kThreads / kChunks;  // filled at a time

struct alignas(16) Chunk {
  std::uint32_t words[4];
};

struct alignas(16) Floats {
  float values[4];
};

// Device view of a call; the distances are those of dense channels-last videos.
struct Problem {
  const std::uint16_t* x;
  const float* scale;  // [B, C], of x where it is read
  const float* shift;  // [B, C]
  const std::uint16_t* weight;
  const float* bias;              // [O] or null
  const std::uint16_t* residual;  // as y, or null
  std::uint16_t* y;
  int channels;
  int outputs;
  int frames;
  int height;
  int width;
  unsigned tiles;
  unsigned tiles_of_outputs;
  unsigned tiles_across;
  unsigned tiles_down;
};

template <int kTileRows>
struct Layout {
  static constexpr int kHaloPixels = (kTileRows + 2) * kHaloWidth;
  static constexpr int kHaloBytes = kHaloPixels * kPixelBytes;
  static constexpr int kHalos = kRing * kWeightBytes;
  static constexpr int kBarriers = kHalos + 2 * kHaloBytes;
  static constexpr int kSharedBytes = kBarriers + 2 * kRing * 8;
  static constexpr int kSteps = (kHaloPixels + kFillPixels - 1) / kFillPixels;
  static constexpr int kStageSteps = (kSteps + kFillStages - 1) / kFillStages;
};

struct Tile {
  int sample;
  int frame;
  int top;
  int left;
  int output;
};

// Outputs first, so that blocks at work together share halos, then across, then in time: a row of
// tiles finds the two frames before it in the cache.
template <int kTileRows>
__device__ __forceinline__ Tile tile_at(const Problem& p, unsigned index) {
  Tile tile;
  tile.output = static_cast<int>(index % p.tiles_of_outputs) * kTileOutputs;
  index /= p.tiles_of_outputs;
  tile.left = static_cast<int>(index % p.tiles_across) * kTileWidth;
  index /= p.tiles_across;
  tile.frame = static_cast<int>(index % static_cast<unsigned>(p.frames));
  index /= static_cast<unsigned>(p.frames);
  tile.top = static_cast<int>(index % p.tiles_down) * kTileRows;
  tile.sample = static_cast<int>(index / p.tiles_down);
  return tile;
}

// Where a thread's part of a fill comes from: eight channels of every 16th pixel of the halo.
struct Source {
  const std::uint16_t* pixels;  // of the frame's first pixel
  const float* scale;
  const float* shift;
  int top;
  int left;
};

__device__ __forceinline__ Source source_of(const Problem& p, const Tile& tile, int fill) {
  const int earlier = kFrames - 1 - fill % kFrames;
  const int frame = tile.frame > earlier ? tile.frame - earlier : 0;
  const int channel = fill / kFrames * kFillChannels + static_cast<int>(threadIdx.x) % kChunks * 8;
  const std::int64_t image = static_cast<std::int64_t>(tile.sample) * p.frames + frame;
  const std::int64_t coefficient = static_cast<std::int64_t>(tile.sample) * p.channels + channel;
  return {p.x + image * p.height * p.width * p.channels + channel, p.scale + coefficient,
          p.shift + coefficient, tile.top - 1, tile.left - 1};
}

__device__ __forceinline__ int clamped(int v, int size) {
  return v < 0 ? 0 : (v < size ? v : size - 1);
}

__device__ __forceinline__ int halo_pixel(int step) {
  return step * kFillPixels + static_cast<int>(threadIdx.x) / kChunks;
}

__device__ __forceinline__ Chunk load_pixel(const Problem& p, const Source& from, int pixel) {
  const int row = clamped(from.top + pixel / kHaloWidth, p.height);
  const int column = clamped(from.left + pixel % kHaloWidth, p.width);
  const std::int64_t place = static_cast<std::int64_t>(row) * p.width + column;
  return *reinterpret_cast<const Chunk*>(from.pixels + place * p.channels);
}

__device__ __forceinline__ float bf16_low(std::uint32_t word) { return as_float(word << 16); }
__device__ __forceinline__ float bf16_high(std::uint32_t word) {
  return as_float(word & 0xffff0000u);
}

__device__ __forceinline__ float silu(float h) {
  // Not by tanh.approx, one instruction less: its error is half a unit of bf16 near 1 and many
  // units in the tail on the left, and would be summed 27 times the channels.
  constexpr float kLog2E = 1.4426950408889634f;
  return h * reciprocal_approx(1.0f + exp2_approx(-kLog2E * h));
}

// Activates eight channels of a pixel and puts them into a halo.
__device__ __forceinline__ void store_pixel(const Source& from, unsigned char* halo, int pixel,
                                            const Chunk& chunk) {
  const int place = static_cast<int>(threadIdx.x) % kChunks;
  Chunk out;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const Floats scale = reinterpret_cast<const Floats*>(from.scale)[half];
    const Floats shift = reinterpret_cast<const Floats*>(from.shift)[half];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const std::uint32_t word = chunk.words[2 * half + i];
      const float low = fmaf(bf16_low(word), scale.values[2 * i], shift.values[2 * i]);
      const float high = fmaf(bf16_high(word), scale.values[2 * i + 1], shift.values[2 * i + 1]);
      out.words[2 * half + i] = pack_bf16(silu(low), silu(high));
    }
  }
  *reinterpret_cast<Chunk*>(halo + pixel * kPixelBytes + ((place ^ (pixel & 7)) << 4)) = out;
}

// The first fill of a block, which nothing hides.
template <int kTileRows>
__device__ __forceinline__ void fill_whole(const Problem& p, const Source& from,
                                           unsigned char* halo) {
#pragma unroll 4
  for (int step = 0; step < Layout<kTileRows>::kSteps; ++step) {
    const int pixel = halo_pixel(step);
    if (pixel < Layout<kTileRows>::kHaloPixels) {
      store_pixel(from, halo, pixel, load_pixel(p, from, pixel));
    }
  }
}

// The part of the next fill that goes with a stage: asked for before its products, activated
// behind them.
template <int kTileRows>
struct FillPart {
  static constexpr int kParts = Layout<kTileRows>::kStageSteps;
  Chunk chunks[kParts];

  __device__ __forceinline__ static int pixel_of(int stage, int part) {
    return halo_pixel(stage + part * kFillStages);
  }

  __device__ __forceinline__ void load(const Problem& p, const Source& from, int stage) {
#pragma unroll
    for (int i = 0; i < kParts; ++i) {
      const int pixel = pixel_of(stage, i);
      if (pixel < Layout<kTileRows>::kHaloPixels) chunks[i] = load_pixel(p, from, pixel);
    }
  }

  __device__ __forceinline__ void store(const Source& from, unsigned char* halo, int stage) const {
#pragma unroll
    for (int i = 0; i < kParts; ++i) {
      const int pixel = pixel_of(stage, i);
      if (pixel < Layout<kTileRows>::kHaloPixels) store_pixel(from, halo, pixel, chunks[i]);
    }
  }
};

// Address of this lane's row of the fragment of A for a row of pixels, at a tap, 16 channels `k`
// on: the pixels of a fragment's rows are neighbours in the halo.
__device__ __forceinline__ std::uint32_t fragment_address(std::uint32_t halo, int row, int stage,
                                                          int k) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int tap = stage / kHalves, half = stage % kHalves;
  const int pixel = (row + tap / 3) * kHaloWidth + lane % 16 + tap % 3;
  const int chunk = half * (kChunks / kHalves) + 2 * k + lane / 16;
  return halo + static_cast<std::uint32_t>(pixel * kPixelBytes + ((chunk ^ (pixel & 7)) << 4));
}

// Floats of a warp's memory in store_row: rows are eight longer, so that those of one store lie in
// different banks.
template <int kColumns>
inline constexpr int kRowsOfSums = kTileWidth * (kColumns + 8);
static_assert(kWarps * kRowsOfSums<kTileOutputs> * 4 <= Layout<16>::kHaloBytes);
static_assert(kWarps * kRowsOfSums<kTileOutputs / 2> * 4 <= Layout<8>::kHaloBytes);

// Adds bias and residual to the sums of a row of pixels times kColumns outputs, rounds, and writes
// sixteen bytes a lane. `rows` is this warp's own memory, kRowsOfSums<kColumns> floats.
template <int kColumns>
__device__ __forceinline__ void store_row(const Problem& p, const Tile& tile, int row, int column,
                                          const float (&c)[kColumns / 8][4], float* rows) {
  constexpr int kStride = kColumns + 8;
  constexpr int kLanes = kColumns / 8;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
#pragma unroll
  for (int j = 0; j < kColumns / 8; ++j) {
    float* const at = rows + lane / 4 * kStride + 8 * j + lane % 4 * 2;
    at[0] = c[j][0];
    at[1] = c[j][1];
    at[8 * kStride] = c[j][2];
    at[8 * kStride + 1] = c[j][3];
  }
  __syncwarp();
  const int y = tile.top + row, output = tile.output + column + lane % kLanes * 8;
  const std::int64_t image = static_cast<std::int64_t>(tile.sample) * p.frames + tile.frame;
  for (int pixel = lane / kLanes; pixel < kTileWidth; pixel += kWarpSize / kLanes) {
    const int x = tile.left + pixel;
    if (y >= p.height || x >= p.width) continue;
    const std::int64_t at = ((image * p.height + y) * p.width + x) * p.outputs + output;
    Chunk added = {};
    if (p.residual != nullptr) added = *reinterpret_cast<const Chunk*>(p.residual + at);
    Chunk out;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float* const sums = rows + pixel * kStride + lane % kLanes * 8 + 4 * half;
      const Floats sum = *reinterpret_cast<const Floats*>(sums);
      Floats bias = {};
      if (p.bias != nullptr) bias = *reinterpret_cast<const Floats*>(p.bias + output + 4 * half);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const std::uint32_t word = added.words[2 * half + i];
        out.words[2 * half + i] =
            pack_bf16(sum.values[2 * i] + bias.values[2 * i] + bf16_low(word),
                      sum.values[2 * i + 1] + bias.values[2 * i + 1] + bf16_high(word));
      }
    }
    *reinterpret_cast<Chunk*>(p.y + at) = out;
  }
  __syncwarp();
}

// The next fill after `fill` of the tile `index`; none after the last of the block's last tile.
template <int kTileRows>
__device__ __forceinline__ bool next_source(const Problem& p, const Tile& tile, unsigned index,
                                            int fill, Source& next) {
  const int fills = p.channels / kFillChannels * kFrames;
  if (fill + 1 < fills) {
    next = source_of(p, tile, fill + 1);
    return true;
  }
  if (index + gridDim.x >= p.tiles) return false;
  next = source_of(p, tile_at<kTileRows>(p, index + gridDim.x), 0);
  return true;
}

// The weights of a tile: its stages one after another, as they lie in shared memory.
__device__ __forceinline__ const unsigned char* weights_of(const Problem& p, unsigned index) {
  const int stages = p.channels / kFillChannels * kFrames * kFillStages;
  const std::int64_t tile = index % p.tiles_of_outputs;
  return reinterpret_cast<const unsigned char*>(p.weight) + tile * stages * kWeightBytes;
}

// Products by wgmma: a third group of four warps copies weights; only fills keep the two others in
// step. A multiprocessor has 65536 registers.
inline constexpr int kWarpgroup = 4 * kWarpSize;
inline constexpr int kThreadsWgmma = kThreads + kWarpgroup;
inline constexpr int kCopyRegisters = 40;
inline constexpr int kRegisters = 232;
static_assert(kThreads * kRegisters + kWarpgroup * kCopyRegisters <= 65536);

#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)

// Place in the ring, and the parity of its barriers' phase.
struct RingPlace {
  unsigned slot = 0;
  unsigned parity = 0;

  __device__ __forceinline__ void advance() {
    if (++slot == kRing) {
      slot = 0;
      parity ^= 1u;
    }
  }
};

// One lane copies the stages of all tiles, each as soon as all warps have left its slot.
__device__ __forceinline__ void copy_weights(const Problem& p, std::uint32_t ring,
                                             std::uint32_t full, std::uint32_t empty) {
  const int stages = p.channels / kFillChannels * kFrames * kFillStages;
  RingPlace place;
  for (unsigned index = blockIdx.x; index < p.tiles; index += gridDim.x) {
    const unsigned char* from = weights_of(p, index);
    for (int stage = 0; stage < stages; ++stage, from += kWeightBytes) {
      barrier_wait(empty + 8 * place.slot, place.parity ^ 1u);
      barrier_arrive_expecting(full + 8 * place.slot, kWeightBytes);
      bulk_copy(ring + place.slot * kWeightBytes, from, kWeightBytes, full + 8 * place.slot);
      place.advance();
    }
  }
}

// B as wgmma wants it told: 128 rows n of 128 bytes, k contiguous, the 128-byte swizzle (1 in bits
// 62 to 63), groups of eight rows 1024 bytes apart (bits 32 to 45, in 16 bytes).
__device__ __forceinline__ std::uint64_t weight_descriptor(std::uint32_t address) {
  return static_cast<std::uint64_t>((address & 0x3ffffu) >> 4) | (std::uint64_t{1} << 16) |
         (std::uint64_t{64} << 32) | (std::uint64_t{1} << 62);
}

// Row of pixels of fragment i of this warp: a group of four warps has the rows of one product.
__device__ __forceinline__ int wgmma_row(int i) {
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  return warp / 4 * 8 + i * 4 + warp % 4;
}

__device__ __forceinline__ void multiply_wgmma(float (&c)[2][16][4], std::uint32_t halo,
                                               std::uint32_t weights, int stage) {
  std::uint32_t a[kStageChannels / 16][2][4];
#pragma unroll
  for (int k = 0; k < kStageChannels / 16; ++k) {
#pragma unroll
    for (int i = 0; i < 2; ++i)
      load_matrices(a[k][i], fragment_address(halo, wgmma_row(i), stage, k));
  }
  wgmma_fence();
#pragma unroll
  for (int k = 0; k < kStageChannels / 16; ++k) {
    const std::uint64_t b = weight_descriptor(weights + 32 * static_cast<unsigned>(k));
    wgmma_64x128x16(c[0], a[k][0], b);
    wgmma_64x128x16(c[1], a[k][1], b);
  }
  wgmma_commit();
}

__device__ __forceinline__ void make_tiles_wgmma(const Problem& p, unsigned char* shared,
                                                 std::uint32_t full, std::uint32_t empty) {
  using L = Layout<16>;
  const std::uint32_t ring = shared_address(shared);
  const int fills = p.channels / kFillChannels * kFrames;
  unsigned char* halo = shared + L::kHalos;
  unsigned char* other = halo + L::kHaloBytes;
  fill_whole<16>(p, source_of(p, tile_at<16>(p, blockIdx.x), 0), halo);
  RingPlace place;
  for (unsigned index = blockIdx.x; index < p.tiles; index += gridDim.x) {
    const Tile tile = tile_at<16>(p, index);
    float c[2][16][4] = {};
#pragma unroll 1
    for (int fill = 0; fill < fills; ++fill) {
      Source next = {};
      const bool more = next_source<16>(p, tile, index, fill, next);
      // This halo is complete, and all have left the other one.
      sync_some<1, kThreads>();
#pragma unroll 1
      for (int stage = 0; stage < kFillStages; ++stage) {
        FillPart<16> part;
        if (more) part.load(p, next, stage);
        barrier_wait(full + 8 * place.slot, place.parity);
        multiply_wgmma(c, shared_address(halo), ring + place.slot * kWeightBytes, stage);
        if (more) part.store(next, other, stage);
        wgmma_wait_all();
        if (threadIdx.x % kWarpSize == 0) barrier_arrive(empty + 8 * place.slot);
        place.advance();
      }
      unsigned char* const left = halo;
      halo = other;
      other = left;
    }
    wgmma_sums_ready(c[0]);
    wgmma_sums_ready(c[1]);
    sync_some<1, kThreads>();  // all have left the halo multiplied last, now `other`
    float* const rows =
        reinterpret_cast<float*>(other) + threadIdx.x / kWarpSize * kRowsOfSums<kTileOutputs>;
#pragma unroll
    for (int i = 0; i < 2; ++i) store_row<kTileOutputs>(p, tile, wgmma_row(i), 0, c[i], rows);
  }
}

// Block of kThreadsWgmma threads with Layout<16>::kSharedBytes at `shared`, aligned to 1024.
__device__ __forceinline__ void run_wgmma(const Problem& p, unsigned char* shared) {
  const std::uint32_t full = shared_address(shared) + Layout<16>::kBarriers;
  const std::uint32_t empty = full + 8 * kRing;
  if (threadIdx.x == 0) {
    for (unsigned slot = 0; slot < kRing; ++slot) {
      barrier_init(full + 8 * slot, 1);
      barrier_init(empty + 8 * slot, kWarps);
    }
    barrier_init_fence();
  }
  __syncthreads();
  if (threadIdx.x >= kThreads) {
    give_registers<kCopyRegisters>();
    if (threadIdx.x == kThreads) copy_weights(p, shared_address(shared), full, empty);
  } else {
    take_registers<kRegisters>();
    make_tiles_wgmma(p, shared, full, empty);
  }
}

#endif

// Products by mma.sync: all threads copy weights, in step stage by stage.

// The stages of all tiles in order, each thread its sixteen bytes of every 4096.
struct WeightCopy {
  const unsigned char* from;
  std::uint32_t to;  // of this thread, in the ring's first slot
  unsigned index;
  int stage = 0;
  unsigned slot = 0;

  __device__ __forceinline__ void next(const Problem& p) {
    if (index < p.tiles) {
#pragma unroll
      for (int at = 0; at < kWeightBytes; at += 16 * kThreads) {
        copy_async_16(to + slot * kWeightBytes + static_cast<unsigned>(at), from + at);
      }
      from += kWeightBytes;
      slot = slot + 1 == kRing ? 0 : slot + 1;
      if (++stage == p.channels / kFillChannels * kFrames * kFillStages) {
        stage = 0;
        index += gridDim.x;
        from = weights_of(p, index) + threadIdx.x * 16;
      }
    }
    copy_commit();  // an empty group too: waits count groups
  }
};

// Warp w has two rows of pixels, of w % 4, and 64 outputs, of w / 4.
__device__ __forceinline__ void multiply_mma(float (&c)[2][8][4], std::uint32_t halo,
                                             std::uint32_t weights, int stage) {
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
#pragma unroll
  for (int k = 0; k < kStageChannels / 16; ++k) {
    std::uint32_t a[2][4];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      load_matrices(a[i], fragment_address(halo, warp % 4 * 2 + i, stage, k));
    }
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int n = warp / 4 * 64 + j * 16 + lane / 16 * 8 + lane % 8;
      const int chunk = 2 * k + lane / 8 % 2;
      std::uint32_t b[4];
      load_matrices(b, weights + static_cast<unsigned>(n * 128 + ((chunk ^ (n & 7)) << 4)));
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        mma_16x8x16(c[i][2 * j], a[i], b[0], b[1]);
        mma_16x8x16(c[i][2 * j + 1], a[i], b[2], b[3]);
      }
    }
  }
}

// Block of kThreads threads with Layout<8>::kSharedBytes at `shared`, aligned to 16.
__device__ __forceinline__ void run_mma(const Problem& p, unsigned char* shared) {
  using L = Layout<8>;
  const std::uint32_t ring = shared_address(shared);
  const int fills = p.channels / kFillChannels * kFrames;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  WeightCopy copy = {weights_of(p, blockIdx.x) + threadIdx.x * 16, ring + threadIdx.x * 16,
                     blockIdx.x};
  copy.next(p);
  copy.next(p);
  unsigned char* halo = shared + L::kHalos;
  unsigned char* other = halo + L::kHaloBytes;
  fill_whole<8>(p, source_of(p, tile_at<8>(p, blockIdx.x), 0), halo);
  unsigned slot = 0;
  for (unsigned index = blockIdx.x; index < p.tiles; index += gridDim.x) {
    const Tile tile = tile_at<8>(p, index);
    float c[2][8][4] = {};
#pragma unroll 1
    for (int fill = 0; fill < fills; ++fill) {
      Source next = {};
      const bool more = next_source<8>(p, tile, index, fill, next);
#pragma unroll 1
      for (int stage = 0; stage < kFillStages; ++stage) {
        copy_wait<1>();
        // This stage's weights are there and, at a fill's first, its halo; all have left the stage
        // before, whose slot is the next to be written.
        __syncthreads();
        copy.next(p);
        FillPart<8> part;
        if (more) part.load(p, next, stage);
        multiply_mma(c, shared_address(halo), ring + slot * kWeightBytes, stage);
        if (more) part.store(next, other, stage);
        slot = slot + 1 == kRing ? 0 : slot + 1;
      }
      unsigned char* const left = halo;
      halo = other;
      other = left;
    }
    __syncthreads();  // all have left the halo multiplied last, now `other`
    float* const rows = reinterpret_cast<float*>(other) + warp * kRowsOfSums<kTileOutputs / 2>;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      store_row<kTileOutputs / 2>(p, tile, warp % 4 * 2 + i, warp / 4 * 64, c[i], rows);
    }
  }
}

}  // namespace osf::cuda::halo_conv3d
