// The convolution on bfloat16 matrix tiles (AMX), see tiles-inl.h.
#pragma once

#include "cpu/conv3d/conv3d.h"

namespace osf::conv3d {

// Runs the algorithms kTiles and kTilesUpsample; throws std::invalid_argument where the compiler
// had no matrix tiles.
void run_tiles(const Params& params);

}  // namespace osf::conv3d
