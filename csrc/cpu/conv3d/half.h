// Winograd convolution with products of bfloat16 pairs (AVX512-BF16).
#pragma once

#include "cpu/conv3d/conv3d.h"

namespace osf::conv3d {

// Runs the algorithm kWinogradHalf; throws std::invalid_argument where the compiler had no such
// products.
void run_half(const Params& params);

}  // namespace osf::conv3d
