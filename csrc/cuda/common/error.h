// CUDA's error codes as text, for callers that do not know the CUDA headers.
#pragma once

namespace osf::cuda {

const char* error_text(int error);

}  // namespace osf::cuda
