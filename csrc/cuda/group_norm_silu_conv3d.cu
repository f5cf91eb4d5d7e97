#include "cuda/group_norm_silu_conv3d.h"

#include <algorithm>
#include <sstream>

#include "core/check.h"
#include "cuda/common/async.cuh"
#include "cuda/common/launch.cuh"
#include "cuda/common/math.cuh"
#include "cuda/common/mma.cuh"
#include "cuda/group_norm_silu_conv3d-inl.cuh"

namespace osf::cuda {
namespace {

#ifdef OSF_HAS_SM90A
constexpr bool kHasWgmma = true;
#else
constexpr bool kHasWgmma = false;
#endif

using halo_conv3d::Layout;
using halo_conv3d::Problem;

// What one block may have of the shared memory of a multiprocessor.
static_assert(Layout<16>::kSharedBytes <= 232448, "more than sm_90 has");
static_assert(Layout<8>::kSharedBytes <= 166912, "more than sm_80 has");
static_assert(kConv3dTileChannels == halo_conv3d::kFillChannels &&
              kConv3dTileChannels == halo_conv3d::kTileOutputs);

// Compiled for a generation whose code can hold it, and empty in the others: the launch asks for
// the one that fits the device.
__global__ void __launch_bounds__(halo_conv3d::kThreadsWgmma, 1) conv3d_wgmma(const Problem p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) unsigned char shared[];
  halo_conv3d::run_wgmma(p, shared);
#endif
}

__global__ void __launch_bounds__(halo_conv3d::kThreads, 1) conv3d_mma(const Problem p) {
#if !defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) unsigned char shared[];
  halo_conv3d::run_mma(p, shared);
#endif
}

Problem problem_of(const GroupNormSiluConv3dParams& params, const GroupNormSiluConv3dConfig& c) {
  Problem p{};
  p.x = static_cast<const std::uint16_t*>(params.x);
  p.scale = params.scale;
  p.shift = params.shift;
  p.weight = static_cast<const std::uint16_t*>(params.packed);
  p.bias = params.bias;
  p.residual = static_cast<const std::uint16_t*>(params.residual);
  p.y = static_cast<std::uint16_t*>(params.y);
  p.channels = static_cast<int>(params.channels);
  p.outputs = static_cast<int>(params.outputs);
  p.frames = static_cast<int>(params.frames);
  p.height = static_cast<int>(params.height);
  p.width = static_cast<int>(params.width);
  p.tiles = static_cast<unsigned>(c.tiles);
  p.tiles_of_outputs = static_cast<unsigned>(params.outputs / kConv3dTileChannels);
  p.tiles_across = static_cast<unsigned>(ceil_div(params.width, halo_conv3d::kTileWidth));
  p.tiles_down = static_cast<unsigned>(ceil_div(params.height, c.wgmma ? 16 : 8));
  return p;
}

}  // namespace

std::string GroupNormSiluConv3dConfig::describe() const {
  std::ostringstream text;
  text << (wgmma ? "wgmma, tile=16x16x128" : "mma.sync, tile=8x16x128") << ", tiles=" << tiles
       << ", blocks=" << blocks << ", threads=" << threads << ", shared=" << shared_bytes;
  return text.str();
}

GroupNormSiluConv3dConfig group_norm_silu_conv3d_config(const GroupNormSiluConv3dParams& p,
                                                        int capability, int multiprocessors) {
  check(p.batch >= 0 && p.frames >= 0 && p.height >= 0 && p.width >= 0,
        "group_norm_silu_conv3d: sizes batch=", p.batch, ", frames=", p.frames,
        ", height=", p.height, ", width=", p.width, " are no sizes");
  check(p.channels > 0 && p.channels % kConv3dTileChannels == 0 && p.outputs > 0 &&
            p.outputs % kConv3dTileChannels == 0,
        "group_norm_silu_conv3d: ", p.channels, " channels and ", p.outputs,
        " outputs are not both multiples of ", kConv3dTileChannels);
  check(capability == 80 || capability == 90, "group_norm_silu_conv3d: no kernel for capability ",
        capability / 10, ".", capability % 10);
  GroupNormSiluConv3dConfig config{};
  config.wgmma = kHasWgmma && capability == 90;
  const std::int64_t rows = config.wgmma ? 16 : 8;
  config.tiles = p.batch * p.frames * ceil_div(p.height, rows) *
                 ceil_div(p.width, halo_conv3d::kTileWidth) * (p.outputs / kConv3dTileChannels);
  check(config.tiles <= kMaxBlocks && p.height <= kMaxBlocks && p.width <= kMaxBlocks,
        "group_norm_silu_conv3d: ", config.tiles, " tiles are more than the kernel counts");
  config.blocks = std::min<std::int64_t>(config.tiles, multiprocessors);
  config.threads = config.wgmma ? halo_conv3d::kThreadsWgmma : halo_conv3d::kThreads;
  config.shared_bytes = config.wgmma ? Layout<16>::kSharedBytes : Layout<8>::kSharedBytes;
  return config;
}

int group_norm_silu_conv3d_launch(const GroupNormSiluConv3dParams& params, std::int64_t stream,
                                  GroupNormSiluConv3dConfig* config) {
  int device = 0, major = 0, minor = 0, multiprocessors = 0;
  cudaError_t error = cudaGetDevice(&device);
  const auto ask = [&](int* value, cudaDeviceAttr attribute) {
    if (error == cudaSuccess) error = cudaDeviceGetAttribute(value, attribute, device);
  };
  ask(&major, cudaDevAttrComputeCapabilityMajor);
  ask(&minor, cudaDevAttrComputeCapabilityMinor);
  ask(&multiprocessors, cudaDevAttrMultiProcessorCount);
  if (error != cudaSuccess) return static_cast<int>(error);
  *config = group_norm_silu_conv3d_config(params, 10 * major + minor, multiprocessors);
  if (config->tiles == 0) return static_cast<int>(cudaSuccess);
  const auto kernel = config->wgmma ? conv3d_wgmma : conv3d_mma;
  const int shared_bytes = static_cast<int>(config->shared_bytes);
  error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes);
  if (error != cudaSuccess) return static_cast<int>(error);
  kernel<<<static_cast<unsigned>(config->blocks), static_cast<unsigned>(config->threads),
           config->shared_bytes, as_stream(stream)>>>(problem_of(params, *config));
  return static_cast<int>(cudaGetLastError());
}

}  // namespace osf::cuda
