#include "cuda/qk_norm_rope.h"

#include <algorithm>
#include <sstream>

#include "core/check.h"
#include "cuda/common/launch.cuh"
#include "cuda/common/vec.cuh"
#include "cuda/qk_norm_rope-inl.cuh"

namespace osf::cuda {
namespace {

using qk_norm_rope::kSinglePieces;
using qk_norm_rope::kThreads;
using qk_norm_rope::Problem;

// Teams are given fewer heads each until there are about twice the threads that large devices run
// at a time.
constexpr std::int64_t kEnoughThreads = std::int64_t{1} << 19;

template <class T, int kVec, int kPieces, bool kNeighbours>
__global__ void __launch_bounds__(kThreads) qk_norm_rope_kernel(const Problem p) {
  qk_norm_rope::run<T, kVec, kPieces, kNeighbours>(p);
}

bool aligned(const void* p) { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0; }

bool fits_vectors(const HeadsView& view, std::int64_t vec) {
  return aligned(view.x) && aligned(view.y) && view.sample_stride % vec == 0 &&
         view.token_stride % vec == 0 && view.head_stride % vec == 0;
}

Problem problem_of(const QkNormRopeParams& params, const QkNormRopeConfig& config) {
  Problem p{};
  p.q = params.q;
  p.k = params.k;
  p.cos = params.cos;
  p.sin = params.sin;
  p.heads = params.heads;
  p.heads_per_team = config.heads_per_team;
  p.length = static_cast<unsigned>(params.length);
  p.chunks = static_cast<unsigned>(ceil_div(params.heads, config.heads_per_team));
  p.teams = static_cast<unsigned>(config.teams);
  p.half = static_cast<int>(params.head_dim / 2);
  p.lanes = config.lanes;
  p.eps = static_cast<float>(params.eps);
  p.interleaved = params.interleaved;
  p.table_per_sample = params.table_per_sample;
  p.scale_float = params.scale_dtype == DType::kFloat32;
  return p;
}

template <class T, int kVec, int kPieces, bool kNeighbours>
int launch(const QkNormRopeParams& params, const QkNormRopeConfig& config, cudaStream_t stream) {
  qk_norm_rope_kernel<T, kVec, kPieces, kNeighbours>
      <<<static_cast<unsigned>(config.blocks), kThreads, 0, stream>>>(problem_of(params, config));
  return static_cast<int>(cudaGetLastError());
}

template <class T>
int launch_typed(const QkNormRopeParams& params, const QkNormRopeConfig& config,
                 cudaStream_t stream) {
  constexpr int kWide = kVecWidth<T>;
  if (config.vec == kWide) {
    return params.interleaved ? launch<T, kWide, 1, true>(params, config, stream)
                              : launch<T, kWide, 1, false>(params, config, stream);
  }
  return launch<T, 1, kSinglePieces, false>(params, config, stream);
}

}  // namespace

std::string QkNormRopeConfig::describe() const {
  std::ostringstream text;
  text << "vec=" << vec << ", lanes=" << lanes << ", heads_per_team=" << heads_per_team
       << ", teams=" << teams << ", blocks=" << blocks << ", threads=" << kThreads;
  return text.str();
}

QkNormRopeConfig qk_norm_rope_config(const QkNormRopeParams& p) {
  check(p.batch >= 0 && p.length >= 0 && p.heads >= 0, "qk_norm_rope: sizes batch=", p.batch,
        ", length=", p.length, ", heads=", p.heads, " are no sizes");
  check(p.head_dim > 0 && p.head_dim % 2 == 0 && p.head_dim <= kQkNormRopeMaxHeadDim,
        "qk_norm_rope: ", p.head_dim, " channels in a head: the kernel takes even numbers up to ",
        kQkNormRopeMaxHeadDim);
  check(p.scale_dtype == p.dtype || p.scale_dtype == DType::kFloat32,
        "qk_norm_rope: scales must be float32 or ", dtype_name(p.dtype), ", not ",
        dtype_name(p.scale_dtype));
  const std::int64_t half = p.head_dim / 2, wide = p.dtype == DType::kFloat32 ? 4 : 8;
  const bool vectors = half % wide == 0 && fits_vectors(p.q, wide) && fits_vectors(p.k, wide);
  QkNormRopeConfig config{};
  config.vec = vectors ? static_cast<int>(wide) : 1;
  const std::int64_t vecs = ceil_div(half, config.vec * (vectors ? 1 : kSinglePieces));
  for (config.lanes = 1; config.lanes < vecs;) config.lanes *= 2;
  const std::int64_t most = 2 * p.batch * p.length;  // teams, were each to take all heads
  const std::int64_t shares =
      ceil_div(kEnoughThreads, std::max<std::int64_t>(1, most) * config.lanes);
  const std::int64_t heads = std::max<std::int64_t>(1, p.heads);
  config.heads_per_team = ceil_div(heads, std::min(heads, shares));
  config.teams = most * ceil_div(p.heads, config.heads_per_team);
  config.blocks = ceil_div(config.teams, kThreads / config.lanes);
  check(config.teams <= kMaxBlocks, "qk_norm_rope: ", config.teams,
        " teams are more than the kernel counts");
  return config;
}

int qk_norm_rope_launch(const QkNormRopeParams& params, std::int64_t stream) {
  const QkNormRopeConfig config = qk_norm_rope_config(params);
  if (config.teams == 0) return static_cast<int>(cudaSuccess);
  switch (params.dtype) {
    case DType::kFloat32:
      return launch_typed<float>(params, config, as_stream(stream));
    case DType::kBFloat16:
      return launch_typed<__nv_bfloat16>(params, config, as_stream(stream));
    case DType::kFloat16:
      return launch_typed<__half>(params, config, as_stream(stream));
  }
  check(false, "qk_norm_rope: no kernel for ", dtype_name(params.dtype));
  return static_cast<int>(cudaErrorInvalidValue);
}

}  // namespace osf::cuda
