// Groups of unshuffled channels gathered to their sum, and spread again, on CUDA devices. The
// formulas are cpu/pixel_shuffle.h's.
//
// Layouts: dense, channels last. Blocks have four or eight pixels, and a small video as many
// channels as the large one or twice as many, so that a group lies in one channel's block.
// Parallel: a thread takes sixteen bytes of neighbouring channels of every pixel of one block.
// Memory: reads and writes every tensor once, sixteen bytes at a time.
// Numerics: sums in float in a fixed order, rounded once.
#pragma once

#include <cstdint>
#include <string>

#include "core/tensor.h"

namespace osf::cuda {

struct PixelShuffleParams {
  const void* source;
  const void* added;  // of the result's shape; null: nothing
  void* result;
  std::int64_t batch;
  std::int64_t large_channels;
  std::int64_t small_channels;
  std::int64_t frames;  // of the small video, like height and width
  std::int64_t height;
  std::int64_t width;
  std::int64_t scale[3];
  double factor;
  bool channels_last;
  DType dtype;  // of all tensors
};

// How one call is cut up: pure, so that it can be asked without a device.
struct PixelShuffleConfig {
  int vec;     // channels of a thread
  int pixels;  // of a block
  int runs;    // small channels for a large one
  std::int64_t pieces;
  std::int64_t blocks;

  std::string describe() const;
};

// Throws std::invalid_argument for sizes that do not fit together or that no kernel takes.
PixelShuffleConfig pixel_shuffle_config(const PixelShuffleParams& params);

// Enqueue on the stream of the current device; return a cudaError_t, 0 for success.
int pixel_gather_launch(const PixelShuffleParams& params, std::int64_t stream);
int pixel_spread_launch(const PixelShuffleParams& params, std::int64_t stream);

}  // namespace osf::cuda
