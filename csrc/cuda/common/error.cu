#include "cuda/common/error.h"

#include <cuda_runtime.h>

namespace osf::cuda {

const char* error_text(int error) { return cudaGetErrorString(static_cast<cudaError_t>(error)); }

}  // namespace osf::cuda
