// A plain view of a tensor: pointer, sizes, strides in elements and element type. Owns nothing.
#pragma once

#include <cstdint>

namespace osf {

// The codes are part of the binary's interface: kernels/native.py maps torch's types to them.
enum class DType : std::int32_t { kFloat32 = 0, kBFloat16 = 1, kFloat16 = 2 };

inline const char* dtype_name(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return "float32";
    case DType::kBFloat16:
      return "bfloat16";
    case DType::kFloat16:
      return "float16";
  }
  return "an unknown dtype";
}

inline constexpr int kMaxRank = 5;

struct TensorView {
  void* data = nullptr;
  std::int64_t sizes[kMaxRank] = {};
  std::int64_t strides[kMaxRank] = {};  // in elements
  int rank = 0;
  DType dtype = DType::kFloat32;
};

}  // namespace osf
