#include "cuda/group_norm_silu.h"

#include <algorithm>
#include <sstream>

#include "core/check.h"
#include "cuda/common/launch.cuh"
#include "cuda/common/reduce.cuh"
#include "cuda/common/vec.cuh"
#include "cuda/group_norm_silu-inl.cuh"

namespace osf::cuda {
namespace {

using namespace group_norm_silu;

bool aligned(const void* p) { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0; }

std::int64_t dtype_bytes(DType dtype) { return dtype == DType::kFloat32 ? 4 : 2; }

Problem problem_of(const GroupNormSiluParams& params, const GroupNormSiluConfig& config) {
  Problem p{};
  p.x = params.x;
  p.y = params.y;
  p.weight = params.weight;
  p.bias = params.bias;
  p.mean = params.mean;
  p.rstd = params.rstd;
  p.affine = params.affine;
  p.partial = static_cast<Moments*>(params.workspace);
  p.batch = params.batch;
  p.channels = params.channels;
  p.spatial = params.spatial;
  p.groups = params.groups;
  p.height = params.height;
  p.width = params.width;
  p.block = config.block;
  p.chunks = config.chunks;
  p.pieces = config.pieces;
  p.group_size = params.channels / params.groups * params.spatial;
  p.eps = params.eps;
  p.silu = params.silu;
  p.affine_float = params.affine_dtype == DType::kFloat32;
  return p;
}

template <class T, int kVec>
int launch(const GroupNormSiluParams& params, const GroupNormSiluConfig& config,
           cudaStream_t stream) {
  static_assert(kHeld % kVec == 0);
  const Problem p = problem_of(params, config);
  const unsigned groups = static_cast<unsigned>(params.batch * params.groups);
  const std::int64_t width = params.channels / params.groups;
  if (params.channels_last) {
    const unsigned chunks = static_cast<unsigned>(params.batch * config.chunks);
    const unsigned pieces = static_cast<unsigned>(params.batch * config.pieces);
    moments_channels_last<T, kVec><<<chunks, kThreads, 0, stream>>>(p);
    combine_moments<T><<<groups, kThreads, 0, stream>>>(p, config.block * width);
    if (params.y != nullptr) {
      const auto normalise =
          params.height > 0 ? normalise_bordered<T, kVec> : normalise_channels_last<T, kVec>;
      normalise<<<pieces, kThreads, 0, stream>>>(p);
    }
  } else {
    const unsigned pieces = static_cast<unsigned>(params.batch * params.channels * config.pieces);
    moments_contiguous<T, kVec>
        <<<static_cast<unsigned>(groups * config.chunks), kThreads, 0, stream>>>(p);
    combine_moments<T><<<groups, kThreads, 0, stream>>>(p, config.block);
    if (params.y != nullptr) normalise_contiguous<T, kVec><<<pieces, kThreads, 0, stream>>>(p);
  }
  return static_cast<int>(cudaGetLastError());
}

template <class T>
int launch_typed(const GroupNormSiluParams& params, const GroupNormSiluConfig& config,
                 cudaStream_t stream) {
  return config.vec == 1 ? launch<T, 1>(params, config, stream)
                         : launch<T, kVecWidth<T>>(params, config, stream);
}

}  // namespace

std::string GroupNormSiluConfig::describe() const {
  std::ostringstream text;
  text << "vec=" << vec << ", block=" << block << ", chunks=" << chunks << ", pieces=" << pieces
       << ", threads=" << kThreads;
  return text.str();
}

GroupNormSiluConfig group_norm_silu_config(const GroupNormSiluParams& p) {
  check(p.batch >= 0 && p.channels > 0 && p.spatial >= 0, "group_norm_silu: sizes batch=", p.batch,
        ", channels=", p.channels, ", positions=", p.spatial, " are no sizes");
  check(p.groups > 0 && p.channels % p.groups == 0, "group_norm_silu: ", p.channels,
        " channels do not divide into ", p.groups, " groups");
  check(p.affine_dtype == p.dtype || p.affine_dtype == DType::kFloat32,
        "group_norm_silu: weight and bias must be float32 or ", dtype_name(p.dtype), ", not ",
        dtype_name(p.affine_dtype));
  check((p.height > 0) == (p.width > 0) && p.height >= 0 && p.height < kMaxBlocks - 1 &&
            p.width < kMaxBlocks - 1,
        "group_norm_silu: frames of ", p.height, "x", p.width, " have no border");
  check(p.height == 0 || (p.channels_last && p.spatial % (p.height * p.width) == 0),
        "group_norm_silu: a border needs channels_last and whole frames of ", p.height, "x",
        p.width, ", not ", p.spatial, " positions");
  const int wide = static_cast<int>(16 / dtype_bytes(p.dtype));
  // A vector never crosses a channel (contiguous) or a row (channels last).
  const std::int64_t unit = p.channels_last ? p.channels : p.spatial;
  const bool vectors = unit % wide == 0 && aligned(p.x) && aligned(p.y);
  GroupNormSiluConfig config{};
  config.vec = vectors ? wide : 1;
  if (p.channels_last) {
    const std::int64_t vecs = p.channels / config.vec;
    check(vecs <= kThreads, "group_norm_silu: channels_last takes at most ", kThreads * config.vec,
          " channels here, not ", p.channels);
    check(p.groups <= kMaxGroups, "group_norm_silu: channels_last takes at most ", kMaxGroups,
          " groups, not ", p.groups);
    config.block = kThreads / vecs * (kHeld / config.vec);
    config.chunks = ceil_div(p.spatial, config.block);
    config.pieces = config.chunks;
    if (p.height > 0) {
      const std::int64_t frames = p.spatial / (p.height * p.width);
      config.pieces = ceil_div(frames * (p.height + 2) * (p.width + 2), config.block);
    }
  } else {
    config.block = kThreads * kHeld;
    config.chunks = ceil_div(p.channels / p.groups * p.spatial, config.block);
    config.pieces = ceil_div(p.spatial, kThreads * kHeld);
  }
  const std::int64_t blocks =
      p.batch * std::max({p.groups, p.channels_last ? config.chunks : p.groups * config.chunks,
                          p.channels_last ? config.pieces : p.channels * config.pieces});
  check(blocks <= kMaxBlocks, "group_norm_silu: ", blocks, " blocks are more than a grid takes");
  return config;
}

std::int64_t group_norm_silu_workspace_bytes(const GroupNormSiluParams& params) {
  const GroupNormSiluConfig config = group_norm_silu_config(params);
  return params.batch * params.groups * config.chunks * static_cast<std::int64_t>(sizeof(Moments));
}

int group_norm_silu_launch(const GroupNormSiluParams& params, std::int64_t stream) {
  const GroupNormSiluConfig config = group_norm_silu_config(params);
  if (params.batch == 0 || params.spatial == 0) return static_cast<int>(cudaSuccess);
  switch (params.dtype) {
    case DType::kFloat32:
      return launch_typed<float>(params, config, as_stream(stream));
    case DType::kBFloat16:
      return launch_typed<__nv_bfloat16>(params, config, as_stream(stream));
    case DType::kFloat16:
      return launch_typed<__half>(params, config, as_stream(stream));
  }
  check(false, "group_norm_silu: no kernel for ", dtype_name(params.dtype));
  return static_cast<int>(cudaErrorInvalidValue);
}

}  // namespace osf::cuda
