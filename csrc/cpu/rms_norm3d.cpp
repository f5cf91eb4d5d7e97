#include "cpu/rms_norm3d.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "core/check.h"
#include "core/memory.h"
#include "core/parallel.h"
#include "cpu/dispatch.h"
#include "simd/vec.h"

// What the instruction sets share: types and the arithmetic that is not worth a vector.
namespace osf::rms_norm3d {

// Elements of a chunk of positions: little enough to stay in an L2 cache between two passes.
inline constexpr std::int64_t kChunkElements = 65536;
// Positions of a chunk: no more than one float may add up, or buffers on the stack hold; where they
// lie next to each other, no less than a few cache lines of a channel.
inline constexpr std::int64_t kLongestRun = 256;
inline constexpr std::int64_t kLeastRun = 64;
// Channels whose squares are added up in one float before their sum joins the others'.
inline constexpr std::int64_t kChannelBlock = 32;

// weight and bias in float, each [C].
struct Affine {
  std::vector<float> weight;
  std::vector<float> bias;

  explicit Affine(const RmsNorm3dParams& p) {
    weight.reserve(static_cast<std::size_t>(p.channels));
    bias.reserve(static_cast<std::size_t>(p.channels));
    for (std::int64_t c = 0; c < p.channels; ++c) {
      weight.push_back(value_at(p.weight, p.affine_dtype, c));
      bias.push_back(p.bias == nullptr ? 0.0f : value_at(p.bias, p.affine_dtype, c));
    }
  }
};

// How the positions of a sample are cut.
struct Chunks {
  std::int64_t length;
  std::int64_t count;

  explicit Chunks(const RmsNorm3dParams& p) {
    const std::int64_t fitting = kChunkElements / p.channels;
    length = std::clamp(fitting, p.channels_last ? 1 : kLeastRun, kLongestRun);
    count = ceil_div(p.positions, length);
  }
};

// One chunk's sums over positions, each [C]: of dz * n, then of dz.
inline void reduce(const RmsNorm3dBackwardParams& p, const std::vector<float>& sums) {
  const std::int64_t channels = p.forward.channels;
  for (std::int64_t c = 0; c < channels; ++c) {
    double dweight = 0.0, dbias = 0.0;
    for (std::size_t i = static_cast<std::size_t>(c); i < sums.size();
         i += static_cast<std::size_t>(2 * channels)) {
      dweight += static_cast<double>(sums[i]);
      dbias += static_cast<double>(sums[i + static_cast<std::size_t>(channels)]);
    }
    p.dweight[c] = static_cast<float>(dweight);
    if (p.dbias != nullptr) p.dbias[c] = static_cast<float>(dbias);
  }
}

}  // namespace osf::rms_norm3d

#define OSF_FOREACH_ISA_FILE "cpu/rms_norm3d-inl.h"
#include "simd/foreach_isa.h"

namespace osf {
namespace {

constexpr IsaRow<RmsNorm3dParams> kForward[] = OSF_ISA_TABLE(rms_norm3d, run);
constexpr IsaRow<RmsNorm3dBackwardParams> kBackward[] = OSF_ISA_TABLE(rms_norm3d, run_backward);

void check_params(const RmsNorm3dParams& p, const char* op) {
  check(p.batch >= 0 && p.channels > 0 && p.positions >= 0, op, ": sizes batch=", p.batch,
        ", channels=", p.channels, ", positions=", p.positions, " are no sizes");
  check(is_cpu_dtype(p.dtype) && is_cpu_dtype(p.affine_dtype), op,
        ": the CPU kernel takes float32 and bfloat16, not ", dtype_name(p.dtype), " and ",
        dtype_name(p.affine_dtype));
  check(p.activation == Activation::kNone || p.activation == Activation::kSilu ||
            p.activation == Activation::kRelu,
        op, ": there is no activation ", static_cast<std::int32_t>(p.activation));
}

}  // namespace

void rms_norm3d_cpu(const RmsNorm3dParams& p, Isa isa) {
  constexpr const char* kOp = "rms_norm3d";
  check_params(p, kOp);
  if (p.batch == 0 || p.positions == 0) return;
  advise_huge_pages(p.y, p.batch * p.channels * p.positions * bytes_of(p.dtype));
  run_on(isa, kForward, p, kOp);
}

void rms_norm3d_cpu(const RmsNorm3dParams& p) { rms_norm3d_cpu(p, selected_isa()); }

void rms_norm3d_backward_cpu(const RmsNorm3dBackwardParams& p, Isa isa) {
  constexpr const char* kOp = "rms_norm3d_backward";
  check_params(p.forward, kOp);
  const RmsNorm3dParams& sizes = p.forward;
  advise_huge_pages(p.dx, sizes.batch * sizes.channels * sizes.positions * bytes_of(sizes.dtype));
  run_on(isa, kBackward, p, kOp);
}

void rms_norm3d_backward_cpu(const RmsNorm3dBackwardParams& p) {
  rms_norm3d_backward_cpu(p, selected_isa());
}

}  // namespace osf
