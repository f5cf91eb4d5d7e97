// What every launch needs: the caller's stream, error codes, sizes that fit a grid.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace osf::cuda {

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// Grids are flattened on x, the only axis that counts further than 65535.
inline constexpr std::int64_t kMaxBlocks = 0x7fffffff;

inline cudaStream_t as_stream(std::int64_t stream) {
  return reinterpret_cast<cudaStream_t>(static_cast<std::uintptr_t>(stream));
}

}  // namespace osf::cuda
