// Sums over a warp and over a block, in a fixed order: the same inputs give the same bits.
#pragma once

namespace osf::cuda {

inline constexpr int kWarp = 32;

// Every lane returns the sum.
__device__ __forceinline__ float warp_sum(float v) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) v += __shfl_xor_sync(0xffffffffu, v, step);
  return v;
}

// Every thread returns the sum; kThreads a multiple of 32. `scratch` holds kThreads / 32 floats and
// may be used again after the call.
template <int kThreads>
__device__ __forceinline__ float block_sum(float v, float* scratch) {
  constexpr int kWarps = kThreads / kWarp;
  v = warp_sum(v);
  if (threadIdx.x % kWarp == 0) scratch[threadIdx.x / kWarp] = v;
  __syncthreads();
  v = scratch[0];
#pragma unroll
  for (int i = 1; i < kWarps; ++i) v += scratch[i];
  __syncthreads();
  return v;
}

}  // namespace osf::cuda
