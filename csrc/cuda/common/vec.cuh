// Vectors of 16 bytes (or single values, where the alignment does not allow them) of float, bf16
// and fp16, widened to float in registers.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace osf::cuda {

__device__ __forceinline__ float to_float(float v) { return v; }
__device__ __forceinline__ float to_float(__nv_bfloat16 v) { return __bfloat162float(v); }
__device__ __forceinline__ float to_float(__half v) { return __half2float(v); }

template <class T>
__device__ __forceinline__ T from_float(float v);
template <>
__device__ __forceinline__ float from_float<float>(float v) {
  return v;
}
template <>
__device__ __forceinline__ __nv_bfloat16 from_float<__nv_bfloat16>(float v) {
  return __float2bfloat16_rn(v);
}
template <>
__device__ __forceinline__ __half from_float<__half>(float v) {
  return __float2half_rn(v);
}

// Values of T in one vector when the vectors are as wide as the memory system likes.
template <class T>
inline constexpr int kVecWidth = 16 / sizeof(T);

template <class T, int kWidth>
struct alignas(sizeof(T) * kWidth) Packed {
  T values[kWidth];
};

template <int kWidth, class T>
__device__ __forceinline__ void load_vec(const T* p, float (&out)[kWidth]) {
  const Packed<T, kWidth> packed = *reinterpret_cast<const Packed<T, kWidth>*>(p);
#pragma unroll
  for (int i = 0; i < kWidth; ++i) out[i] = to_float(packed.values[i]);
}

template <int kWidth, class T>
__device__ __forceinline__ void store_vec(T* p, const float (&in)[kWidth]) {
  Packed<T, kWidth> packed;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) packed.values[i] = from_float<T>(in[i]);
  *reinterpret_cast<Packed<T, kWidth>*>(p) = packed;
}

}  // namespace osf::cuda
