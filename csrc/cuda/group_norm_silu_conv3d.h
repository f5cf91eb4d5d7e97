// Group norm's scale and shift, SiLU, causal 3x3x3 convolution, bias and residual in one pass, on
// CUDA devices with matrix units.
//
//   y[b,t,h,w,o] = bias[o] + residual[b,t,h,w,o]
//                + sum over c, dt, dh, dw of weight[o,c,dt,dh,dw] * a[b,t+dt-2,h+dh-1,w+dw-1,c]
//   a = bf16(silu(x * scale[b,c] + shift[b,c])), places outside taken to the nearest one inside
//
// Layouts: x, residual and y bf16, channels last, dense; weights packed (see below). Channels and
// outputs are multiples of 128; any T, H, W.
// Parallel: as many blocks as multiprocessors, each making one tile after another: 16x16 pixels of
// a frame times 128 outputs by wgmma (sm_90a), 8x16 by mma.sync (sm_80).
// Memory: a tile reads 18x18 pixels of three frames for every 128 outputs (1.27 times what it
// needs; neighbours in the grid share them in the L2 cache), and all weights of its outputs. The
// normalised video is never in memory. The activation is computed once per pixel, frame and tile
// instead of 27 times.
// Numerics: activation in float, rounded to bf16; products summed in float by the matrix units;
// bias and residual added in float; one rounding. The shift replaces subtracting the mean first,
// which costs |mean| / deviation units of float before that rounding to bf16. Deterministic.
#pragma once

#include <cstdint>
#include <string>

namespace osf::cuda {

struct GroupNormSiluConv3dParams {
  const void* x;         // [B, T, H, W, C]
  const float* scale;    // [B, C]: weight / std, 16-byte aligned as all that follow
  const float* shift;    // [B, C]: bias - mean * scale
  const void* packed;    // weights
  const float* bias;     // [O] or null
  const void* residual;  // [B, T, H, W, O] or null
  void* y;               // [B, T, H, W, O]
  std::int64_t batch;
  std::int64_t channels;
  std::int64_t outputs;
  std::int64_t frames;
  std::int64_t height;
  std::int64_t width;
};

// Channels and outputs of a tile; the packed weights of output o, input channel c, tap (dt, dh, dw)
// are element [o / 128, c / 128, dt, dh, dw, c % 128 / 64, o % 128, (c % 64 / 8) ^ (o % 8), c % 8]
// of a dense array, so that the weights of 64 channels at a tap are 16 KiB as the matrix units read
// them.
inline constexpr std::int64_t kConv3dTileChannels = 128;

// How one call is cut up: pure, so that it can be asked without a device.
struct GroupNormSiluConv3dConfig {
  bool wgmma;  // else mma.sync: on sm_80, and where the build left sm_90a out
  std::int64_t tiles;
  std::int64_t blocks;
  std::int64_t threads;
  std::int64_t shared_bytes;  // of a block

  std::string describe() const;
};

// `capability` is the device's times ten. Throws std::invalid_argument for sizes that do not fit
// together, and for a device that no kernel serves.
GroupNormSiluConv3dConfig group_norm_silu_conv3d_config(const GroupNormSiluConv3dParams& params,
                                                        int capability, int multiprocessors);

// Enqueues on the stream of the current device; returns a cudaError_t, 0 for success, and how it
// cut the call up.
int group_norm_silu_conv3d_launch(const GroupNormSiluConv3dParams& params, std::int64_t stream,
                                  GroupNormSiluConv3dConfig* config);

}  // namespace osf::cuda
