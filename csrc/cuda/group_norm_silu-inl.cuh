// The algorithm of group_norm_silu.h, free of CUDA's headers: group_norm_silu.cu includes it after
// common/*.cuh, the test on the CPU after an emulation of them.
#pragma once

#include <cstdint>

#include "cuda/group_norm_silu.h"

namespace osf::cuda::group_norm_silu {

inline constexpr int kThreads = 256;
inline constexpr int kWarps = kThreads / kWarp;
// Values a thread keeps in registers between the two passes over a chunk.
inline constexpr int kHeld = 32;
inline constexpr int kMaxGroups = 256;

// Mean, and sum of squared deviations from it.
struct alignas(8) Moments {
  float mean;
  float square;
};

// Device view of a call. The moments of chunk k of group g of sample b lie at
// (b * groups + g) * chunks + k in both layouts.
struct Problem {
  const void* x;
  void* y;
  const void* weight;
  const void* bias;
  float* mean;
  float* rstd;
  float* affine;
  Moments* partial;
  std::int64_t batch;
  std::int64_t channels;
  std::int64_t spatial;
  std::int64_t groups;
  std::int64_t height;
  std::int64_t width;
  std::int64_t block;
  std::int64_t chunks;
  std::int64_t pieces;
  std::int64_t group_size;
  double eps;
  bool silu;
  bool affine_float;
};

// Moments of several chunks together: in double, since the number of chunks has no bound, and few
// threads do this.
struct Merged {
  double mean;
  double square;
  double count;
};

// Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for computing sample variances.
__device__ __forceinline__ void merge(Merged& all, const Merged& more) {
  if (more.count == 0.0) return;
  const double apart = more.mean - all.mean;
  const double share = more.count / (all.count + more.count);
  all.mean += apart * share;
  all.square += more.square + apart * apart * all.count * share;
  all.count += more.count;
}

template <class T>
__device__ __forceinline__ float affine_value(const Problem& p, const void* values,
                                              std::int64_t i) {
  return p.affine_float ? static_cast<const float*>(values)[i]
                        : to_float(static_cast<const T*>(values)[i]);
}

__device__ __forceinline__ float activated(float h, bool silu) {
  // expf, not __expf: its error of two units keeps fp32 within the accuracy of the definition, and
  // memory bounds the kernel either way.
  return silu ? h / (1.0f + expf(-h)) : h;
}

// Block (b, g, k): chunk k, `block` values, of group g's run of sample b.
template <class T, int kVec>
__global__ void __launch_bounds__(kThreads) moments_contiguous(const Problem p) {
  constexpr int kVecs = kHeld / kVec;
  __shared__ float scratch[kWarps];
  const std::int64_t index = blockIdx.x;
  const std::int64_t start = index % p.chunks * p.block;
  const T* const x = static_cast<const T*>(p.x) + index / p.chunks * p.group_size + start;
  // kVec divides the group's size, so that a vector is inside or outside as a whole.
  const int count = static_cast<int>(min(p.block, p.group_size - start));

  float held[kVecs][kVec];
  float total = 0.0f;
#pragma unroll
  for (int i = 0; i < kVecs; ++i) {
    const int at = (i * kThreads + static_cast<int>(threadIdx.x)) * kVec;
    if (at < count) {
      load_vec(x + at, held[i]);
#pragma unroll
      for (int j = 0; j < kVec; ++j) total += held[i][j];
    }
  }
  const float mean = block_sum<kThreads>(total, scratch) / static_cast<float>(count);
  float square = 0.0f;
#pragma unroll
  for (int i = 0; i < kVecs; ++i) {
    const int at = (i * kThreads + static_cast<int>(threadIdx.x)) * kVec;
    if (at < count) {
#pragma unroll
      for (int j = 0; j < kVec; ++j) {
        const float apart = held[i][j] - mean;
        square = fmaf(apart, apart, square);
      }
    }
  }
  square = block_sum<kThreads>(square, scratch);
  if (threadIdx.x == 0) p.partial[index] = {mean, square};
}

// Adds up, for every group, what the threads left per channel in `sums` [slots][channels]; a warp
// takes a group at a time.
__device__ __forceinline__ void group_sums(const float* sums, int slots, int channels, int groups,
                                           float factor, float* out) {
  const int width = channels / groups;
  const int warp = static_cast<int>(threadIdx.x) / kWarp,
            lane = static_cast<int>(threadIdx.x) % kWarp;
  for (int g = warp; g < groups; g += kWarps) {
    float total = 0.0f;
    for (int i = lane; i < slots * width; i += kWarp) {
      total += sums[i / width * channels + g * width + i % width];
    }
    total = warp_sum(total);
    if (lane == 0) out[g] = total * factor;
  }
}

// Block (b, k): chunk k, `block` rows of all channels, of sample b. A thread owns kVec channels and
// every slots-th row; slots * channels is at most kThreads * kVec.
template <class T, int kVec>
__global__ void __launch_bounds__(kThreads) moments_channels_last(const Problem p) {
  constexpr int kRows = kHeld / kVec;
  __shared__ float sums[kThreads * kVec];
  __shared__ float means[kMaxGroups];
  __shared__ float squares[kMaxGroups];
  const std::int64_t sample = blockIdx.x / p.chunks, chunk = blockIdx.x % p.chunks;
  const int channels = static_cast<int>(p.channels), groups = static_cast<int>(p.groups);
  const int width = channels / groups;
  const int vecs = channels / kVec;
  const int slots = kThreads / vecs;
  const int slot = static_cast<int>(threadIdx.x) / vecs;
  const int c = static_cast<int>(threadIdx.x) % vecs * kVec;
  const int rows = static_cast<int>(min(p.block, p.spatial - chunk * p.block));
  const T* const x =
      static_cast<const T*>(p.x) + (sample * p.spatial + chunk * p.block) * p.channels + c;

  float held[kRows][kVec];
  float total[kVec] = {};
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
    const int row = i * slots + slot;
    if (slot < slots && row < rows) {
      load_vec(x + static_cast<std::int64_t>(row) * channels, held[i]);
#pragma unroll
      for (int j = 0; j < kVec; ++j) total[j] += held[i][j];
    }
  }
  if (slot < slots) {
#pragma unroll
    for (int j = 0; j < kVec; ++j) sums[slot * channels + c + j] = total[j];
  }
  __syncthreads();
  group_sums(sums, slots, channels, groups,
             1.0f / (static_cast<float>(rows) * static_cast<float>(width)), means);
  __syncthreads();

  float square[kVec] = {};
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
    const int row = i * slots + slot;
    if (slot < slots && row < rows) {
#pragma unroll
      for (int j = 0; j < kVec; ++j) {
        const float apart = held[i][j] - means[(c + j) / width];
        square[j] = fmaf(apart, apart, square[j]);
      }
    }
  }
  if (slot < slots) {
#pragma unroll
    for (int j = 0; j < kVec; ++j) sums[slot * channels + c + j] = square[j];
  }
  __syncthreads();
  group_sums(sums, slots, channels, groups, 1.0f, squares);
  __syncthreads();
  for (int g = static_cast<int>(threadIdx.x); g < groups; g += kThreads) {
    p.partial[(sample * groups + g) * p.chunks + chunk] = {means[g], squares[g]};
  }
}

// Block (b, g): the group's chunks, `chunk_size` values each but the last, into mean and inverse
// standard deviation, and what they make of its channels' weight and bias.
template <class T>
__global__ void __launch_bounds__(kThreads)
    combine_moments(const Problem p, const std::int64_t chunk_size) {
  __shared__ Merged merged[kThreads];
  __shared__ float mean, rstd;
  const Moments* const partial = p.partial + static_cast<std::int64_t>(blockIdx.x) * p.chunks;
  Merged all = {0.0, 0.0, 0.0};
  for (std::int64_t k = threadIdx.x; k < p.chunks; k += kThreads) {
    const std::int64_t count = min(chunk_size, p.group_size - k * chunk_size);
    merge(all, {partial[k].mean, partial[k].square, static_cast<double>(count)});
  }
  const int thread = static_cast<int>(threadIdx.x);
  merged[thread] = all;
  for (int step = kThreads / 2; step > 0; step /= 2) {
    __syncthreads();
    if (thread < step) merge(merged[thread], merged[thread + step]);
  }
  if (thread == 0) {
    const double variance = merged[0].square / static_cast<double>(p.group_size);
    p.mean[blockIdx.x] = mean = static_cast<float>(merged[0].mean);
    p.rstd[blockIdx.x] = rstd = static_cast<float>(1.0 / sqrt(variance + p.eps));
  }
  if (p.affine == nullptr) return;
  __syncthreads();
  const std::int64_t width = p.channels / p.groups, first = blockIdx.x % p.groups * width;
  float* const affine = p.affine + blockIdx.x / p.groups * p.channels;
  for (std::int64_t c = first + thread; c < first + width; c += kThreads) {
    const float scale = rstd * affine_value<T>(p, p.weight, c);
    affine[c] = scale;
    affine[p.batch * p.channels + c] = fmaf(-mean, scale, affine_value<T>(p, p.bias, c));
  }
}

// Block (b, c, k): chunk k, kThreads * kHeld values, of channel c's run.
template <class T, int kVec>
__global__ void __launch_bounds__(kThreads) normalise_contiguous(const Problem p) {
  const std::int64_t row = blockIdx.x / p.pieces;
  const std::int64_t start = blockIdx.x % p.pieces * (kThreads * kHeld);
  const std::int64_t c = row % p.channels;
  const std::int64_t group = row / (p.channels / p.groups);
  const float mean = p.mean[group];
  const float scale = p.rstd[group] * affine_value<T>(p, p.weight, c);
  const float shift = affine_value<T>(p, p.bias, c);
  const T* const x = static_cast<const T*>(p.x) + row * p.spatial + start;
  T* const y = static_cast<T*>(p.y) + row * p.spatial + start;
  const int count =
      static_cast<int>(min(static_cast<std::int64_t>(kThreads * kHeld), p.spatial - start));
#pragma unroll 4
  for (int at = static_cast<int>(threadIdx.x) * kVec; at < count; at += kThreads * kVec) {
    float v[kVec];
    load_vec(x + at, v);
#pragma unroll
    for (int j = 0; j < kVec; ++j) v[j] = activated(fmaf(v[j] - mean, scale, shift), p.silu);
    store_vec(y + at, v);
  }
}

// What a thread of a block on channels-last rows works on: kVec channels of every slots-th row.
template <class T, int kVec>
struct Lane {
  int slots;
  int slot;  // past `slots`: the thread has nothing to do
  int channel;
  float mean[kVec], scale[kVec], shift[kVec];

  __device__ __forceinline__ Lane(const Problem& p, std::int64_t sample) {
    const int vecs = static_cast<int>(p.channels) / kVec;
    const int width = static_cast<int>(p.channels / p.groups);
    slots = kThreads / vecs;
    slot = static_cast<int>(threadIdx.x) / vecs;
    channel = static_cast<int>(threadIdx.x) % vecs * kVec;
#pragma unroll
    for (int j = 0; j < kVec; ++j) {
      const std::int64_t group = sample * p.groups + (channel + j) / width;
      mean[j] = p.mean[group];
      scale[j] = p.rstd[group] * affine_value<T>(p, p.weight, channel + j);
      shift[j] = affine_value<T>(p, p.bias, channel + j);
    }
  }

  __device__ __forceinline__ void normalise(const T* x, T* y, bool silu) const {
    float v[kVec];
    load_vec(x, v);
#pragma unroll
    for (int j = 0; j < kVec; ++j) v[j] = activated(fmaf(v[j] - mean[j], scale[j], shift[j]), silu);
    store_vec(y, v);
  }
};

// Block (b, k): the rows of moments_channels_last, each thread the same channels again.
template <class T, int kVec>
__global__ void __launch_bounds__(kThreads) normalise_channels_last(const Problem p) {
  const std::int64_t sample = blockIdx.x / p.pieces, chunk = blockIdx.x % p.pieces;
  const Lane<T, kVec> lane(p, sample);
  if (lane.slot >= lane.slots) return;
  const int rows = static_cast<int>(min(p.block, p.spatial - chunk * p.block));
  const std::int64_t offset = (sample * p.spatial + chunk * p.block) * p.channels + lane.channel;
  const T* const x = static_cast<const T*>(p.x) + offset;
  T* const y = static_cast<T*>(p.y) + offset;
#pragma unroll 4
  for (int row = lane.slot; row < rows; row += lane.slots) {
    const std::int64_t at = row * p.channels;
    lane.normalise(x + at, y + at, p.silu);
  }
}

// Block (b, k): chunk k, `block` rows, of the frames with their border; a row of the border is
// computed again from the row of x that it repeats.
template <class T, int kVec>
__global__ void __launch_bounds__(kThreads) normalise_bordered(const Problem p) {
  const std::int64_t sample = blockIdx.x / p.pieces, chunk = blockIdx.x % p.pieces;
  const Lane<T, kVec> lane(p, sample);
  if (lane.slot >= lane.slots) return;
  const int height = static_cast<int>(p.height), width = static_cast<int>(p.width);
  const std::int64_t places = p.spatial / (p.height * p.width) * (p.height + 2) * (p.width + 2);
  const int rows = static_cast<int>(min(p.block, places - chunk * p.block));
  const std::int64_t first = chunk * p.block + lane.slot, line = first / (width + 2);
  int w = static_cast<int>(first % (width + 2)) - 1, h = static_cast<int>(line % (height + 2)) - 1;
  const T* x = static_cast<const T*>(p.x) + lane.channel +
               (sample * p.spatial + line / (height + 2) * height * width) * p.channels;
  T* y = static_cast<T*>(p.y) + (sample * places + first) * p.channels + lane.channel;
  for (int row = lane.slot; row < rows; row += lane.slots, y += lane.slots * p.channels) {
    const std::int64_t at = static_cast<std::int64_t>(min(max(h, 0), height - 1)) * width;
    lane.normalise(x + (at + min(max(w, 0), width - 1)) * p.channels, y, p.silu);
    for (w += lane.slots; w > width; w -= width + 2) {
      if (++h > height) {
        h = -1;
        x += p.height * p.width * p.channels;
      }
    }
  }
}

}  // namespace osf::cuda::group_norm_silu
