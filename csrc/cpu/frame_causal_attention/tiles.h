// The attention on bfloat16 matrix tiles (AMX), see tiles-inl.h.
#pragma once

#include "cpu/frame_causal_attention/frame_causal_attention.h"

namespace osf::frame_causal_attention {

// Throws std::invalid_argument where the compiler had no matrix tiles.
void run_tiles(const FrameCausalAttentionParams& params);

}  // namespace osf::frame_causal_attention
