#include "cuda/pixel_shuffle.h"

#include <sstream>

#include "core/check.h"
#include "cuda/common/launch.cuh"
#include "cuda/common/vec.cuh"
#include "cuda/pixel_shuffle-inl.cuh"

namespace osf::cuda {
namespace {

using pixel_shuffle::kThreads;
using pixel_shuffle::Problem;

template <class T, int kPixels, int kRuns>
__global__ void __launch_bounds__(kThreads) pixel_gather_kernel(const Problem p) {
  pixel_shuffle::gather<T, kVecWidth<T>, kPixels, kRuns>(p);
}

template <class T, int kPixels, int kRuns>
__global__ void __launch_bounds__(kThreads) pixel_spread_kernel(const Problem p) {
  pixel_shuffle::spread<T, kVecWidth<T>, kPixels, kRuns>(p);
}

template <class T, int kPixels, int kRuns>
void launch(const Problem& p, std::int64_t blocks, bool is_spread, cudaStream_t stream) {
  const auto kernel =
      is_spread ? pixel_spread_kernel<T, kPixels, kRuns> : pixel_gather_kernel<T, kPixels, kRuns>;
  kernel<<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(p);
}

template <class T>
void launch_typed(const Problem& p, const PixelShuffleConfig& config, bool is_spread,
                  cudaStream_t stream) {
  if (config.pixels == 4) {
    config.runs == 1 ? launch<T, 4, 1>(p, config.blocks, is_spread, stream)
                     : launch<T, 4, 2>(p, config.blocks, is_spread, stream);
  } else {
    config.runs == 1 ? launch<T, 8, 1>(p, config.blocks, is_spread, stream)
                     : launch<T, 8, 2>(p, config.blocks, is_spread, stream);
  }
}

int launch_any(const PixelShuffleParams& params, bool is_spread, std::int64_t stream) {
  const PixelShuffleConfig config = pixel_shuffle_config(params);
  if (config.pieces == 0) return static_cast<int>(cudaSuccess);
  const Problem problem = pixel_shuffle::problem_of(params, config);
  switch (params.dtype) {
    case DType::kFloat32:
      launch_typed<float>(problem, config, is_spread, as_stream(stream));
      break;
    case DType::kBFloat16:
      launch_typed<__nv_bfloat16>(problem, config, is_spread, as_stream(stream));
      break;
    case DType::kFloat16:
      launch_typed<__half>(problem, config, is_spread, as_stream(stream));
      break;
  }
  return static_cast<int>(cudaGetLastError());
}

}  // namespace

std::string PixelShuffleConfig::describe() const {
  std::ostringstream text;
  text << "vec=" << vec << ", pixels=" << pixels << ", runs=" << runs << ", pieces=" << pieces
       << ", blocks=" << blocks << ", threads=" << kThreads;
  return text.str();
}

PixelShuffleConfig pixel_shuffle_config(const PixelShuffleParams& p) {
  constexpr const char* kOp = "pixel_shuffle";
  check(p.batch >= 0 && p.frames >= 0 && p.height >= 0 && p.width >= 0, kOp,
        ": sizes batch=", p.batch, ", frames=", p.frames, ", height=", p.height,
        ", width=", p.width, " are no sizes");
  check(p.channels_last, kOp, ": the kernel takes channels-last videos");
  const std::int64_t pixels = p.scale[0] * p.scale[1] * p.scale[2];
  check(p.scale[0] > 0 && p.scale[1] > 0 && p.scale[2] > 0 && (pixels == 4 || pixels == 8), kOp,
        ": blocks of ", p.scale[0], " x ", p.scale[1], " x ", p.scale[2],
        " pixels: the kernel takes four or eight");
  PixelShuffleConfig config{};
  config.vec = p.dtype == DType::kFloat32 ? 4 : 8;
  check(p.large_channels > 0 && p.large_channels % config.vec == 0, kOp, ": ", p.large_channels,
        " channels are no multiple of ", config.vec);
  check(p.small_channels == p.large_channels || p.small_channels == 2 * p.large_channels, kOp, ": ",
        p.small_channels, " small channels for ", p.large_channels,
        " large ones: the kernel takes as many or twice as many");
  config.pixels = static_cast<int>(pixels);
  config.runs = static_cast<int>(p.small_channels / p.large_channels);
  config.pieces = p.batch * p.frames * p.height * p.width * (p.large_channels / config.vec);
  config.blocks = ceil_div(config.pieces, kThreads);
  check(config.pieces <= kMaxBlocks, kOp, ": ", config.pieces,
        " pieces are more than the kernel counts");
  return config;
}

int pixel_gather_launch(const PixelShuffleParams& params, std::int64_t stream) {
  return launch_any(params, false, stream);
}

int pixel_spread_launch(const PixelShuffleParams& params, std::int64_t stream) {
  return launch_any(params, true, stream);
}

}  // namespace osf::cuda
