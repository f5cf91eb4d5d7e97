// The algorithm of pixel_shuffle.h, free of CUDA's headers: pixel_shuffle.cu includes it after
// common/vec.cuh, the test on the CPU after an emulation.
#pragma once

#include <cstdint>

#include "cuda/pixel_shuffle.h"

namespace osf::cuda::pixel_shuffle {

inline constexpr int kThreads = 256;
inline constexpr int kMostPixels = 8;

struct Problem {
  const void* source;
  const void* added;
  void* result;
  // In elements of the large video: a block's pixels from its first one, and the next block's.
  std::int64_t pixel_offset[kMostPixels];
  std::int64_t frame_step;
  std::int64_t row_step;
  std::int64_t column_step;
  unsigned vectors;  // of a pixel of the large video
  unsigned width;
  unsigned height;
  unsigned pieces;
  float factor;
};

inline Problem problem_of(const PixelShuffleParams& params, const PixelShuffleConfig& config) {
  Problem p{};
  p.source = params.source;
  p.added = params.added;
  p.result = params.result;
  const std::int64_t column = params.large_channels;
  const std::int64_t row = column * params.width * params.scale[2];
  const std::int64_t frame = row * params.height * params.scale[1];
  for (std::int64_t k = 0; k < config.pixels; ++k) {
    const std::int64_t j = k / params.scale[2] % params.scale[1];
    const std::int64_t i = k / params.scale[2] / params.scale[1];
    p.pixel_offset[k] = i * frame + j * row + k % params.scale[2] * column;
  }
  p.frame_step = frame * params.scale[0];
  p.row_step = row * params.scale[1];
  p.column_step = column * params.scale[2];
  p.vectors = static_cast<unsigned>(params.large_channels / config.vec);
  p.width = static_cast<unsigned>(params.width);
  p.height = static_cast<unsigned>(params.height);
  p.pieces = static_cast<unsigned>(config.pieces);
  p.factor = static_cast<float>(params.factor);
  return p;
}

// Where a thread's channels lie: in the first pixel of its block, and in the small video.
struct Place {
  bool inside;
  std::int64_t large;
  std::int64_t small;
};

template <int kVec, int kRuns>
__device__ __forceinline__ Place place_of(const Problem& p) {
  const unsigned piece = blockIdx.x * kThreads + threadIdx.x;
  const unsigned position = piece / p.vectors;
  const std::int64_t channel = static_cast<std::int64_t>(piece % p.vectors) * kVec;
  const unsigned w = position % p.width, row = position / p.width;
  const unsigned h = row % p.height, frame = row / p.height;
  const std::int64_t channels = static_cast<std::int64_t>(p.vectors) * kVec;
  return {piece < p.pieces, frame * p.frame_step + h * p.row_step + w * p.column_step + channel,
          (position * channels + channel) * kRuns};
}

template <class T, int kVec>
__device__ __forceinline__ void finish(const Problem& p, std::int64_t at, float (&values)[kVec]) {
  if (p.added != nullptr) {
    float added[kVec];
    load_vec(static_cast<const T*>(p.added) + at, added);
#pragma unroll
    for (int j = 0; j < kVec; ++j) values[j] += added[j];
  }
  store_vec(static_cast<T*>(p.result) + at, values);
}

// Of kRuns runs of pixels each gives a large channel one small one: neighbours there.
template <class T, int kVec, int kPixels, int kRuns>
__device__ __forceinline__ void gather(const Problem& p) {
  const Place place = place_of<kVec, kRuns>(p);
  if (!place.inside) return;
  float sums[kRuns][kVec] = {};
#pragma unroll
  for (int k = 0; k < kPixels; ++k) {
    float pixel[kVec];
    load_vec(static_cast<const T*>(p.source) + place.large + p.pixel_offset[k], pixel);
#pragma unroll
    for (int j = 0; j < kVec; ++j) sums[k * kRuns / kPixels][j] += pixel[j];
  }
#pragma unroll
  for (int r = 0; r < kRuns; ++r) {
    float out[kVec];
#pragma unroll
    for (int j = 0; j < kVec; ++j) {
      const int c = r * kVec + j;
      out[j] = sums[c % kRuns][c / kRuns] * p.factor;
    }
    finish<T>(p, place.small + r * kVec, out);
  }
}

template <class T, int kVec, int kPixels, int kRuns>
__device__ __forceinline__ void spread(const Problem& p) {
  const Place place = place_of<kVec, kRuns>(p);
  if (!place.inside) return;
  float values[kRuns][kVec];
#pragma unroll
  for (int r = 0; r < kRuns; ++r) {
    float in[kVec];
    load_vec(static_cast<const T*>(p.source) + place.small + r * kVec, in);
#pragma unroll
    for (int j = 0; j < kVec; ++j) {
      const int c = r * kVec + j;
      values[c % kRuns][c / kRuns] = in[j] * p.factor;
    }
  }
#pragma unroll
  for (int k = 0; k < kPixels; ++k) {
    float out[kVec];
#pragma unroll
    for (int j = 0; j < kVec; ++j) out[j] = values[k * kRuns / kPixels][j];
    finish<T>(p, place.large + p.pixel_offset[k], out);
  }
}

}  // namespace osf::cuda::pixel_shuffle
