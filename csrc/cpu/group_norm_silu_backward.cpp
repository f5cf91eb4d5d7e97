#include "cpu/group_norm_silu_backward.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "core/check.h"
#include "core/parallel.h"
#include "cpu/dispatch.h"
#include "simd/vec.h"

// What the instruction sets share: types and the arithmetic that is not worth a vector.
namespace osf::group_norm_silu_backward {

// Short chunks keep the float sums accurate; a block of rows fills most of an L2 cache.
inline constexpr std::int64_t kRunChunk = 4096;
inline constexpr std::int64_t kBlockElements = 16384;

// Sums over positions: of dh and of dh * n.
struct Sums {
  double dh;
  double dh_normed;
};

// What one channel of one sample needs. The last two are its group's means of weight * dh and of
// weight * dh * n, known after the first pass.
struct Channel {
  float mean, rstd, weight, bias;
  float along_mean, along_normed;
};

// Where the sums of one channel's chunks lie within a sample's.
struct ChunkLayout {
  std::int64_t chunks;
  std::int64_t chunk_step;
  std::int64_t channel_step;
};

inline std::vector<Channel> channel_constants(const GroupNormSiluBackwardParams& p) {
  const std::int64_t width = p.channels / p.groups;
  std::vector<Channel> channels;
  channels.reserve(static_cast<std::size_t>(p.batch * p.channels));
  for (std::int64_t b = 0; b < p.batch; ++b) {
    for (std::int64_t c = 0; c < p.channels; ++c) {
      const std::int64_t group = b * p.groups + c / width;
      channels.push_back({p.mean[group], p.rstd[group], value_at(p.weight, p.affine_dtype, c),
                          value_at(p.bias, p.affine_dtype, c), 0.0f, 0.0f});
    }
  }
  return channels;
}

// Adds the chunks up, into dweight, dbias and the groups' means.
inline void reduce(const GroupNormSiluBackwardParams& p, const std::vector<Sums>& sums,
                   const ChunkLayout& layout, std::vector<Channel>& channels) {
  const std::int64_t width = p.channels / p.groups;
  const double group_size = static_cast<double>(width * p.spatial);
  std::vector<Sums> affine(static_cast<std::size_t>(p.channels), Sums{0.0, 0.0});
  for (std::int64_t b = 0; b < p.batch; ++b) {
    const Sums* const sample = sums.data() + b * p.channels * layout.chunks;
    for (std::int64_t g = 0; g < p.groups; ++g) {
      Sums group = {0.0, 0.0};
      for (std::int64_t c = g * width; c < (g + 1) * width; ++c) {
        Sums channel = {0.0, 0.0};
        for (std::int64_t k = 0; k < layout.chunks; ++k) {
          const Sums& chunk = sample[k * layout.chunk_step + c * layout.channel_step];
          channel.dh += chunk.dh;
          channel.dh_normed += chunk.dh_normed;
        }
        Sums& all = affine[static_cast<std::size_t>(c)];
        all.dh += channel.dh;
        all.dh_normed += channel.dh_normed;
        const double weight = static_cast<double>(value_at(p.weight, p.affine_dtype, c));
        group.dh += weight * channel.dh;
        group.dh_normed += weight * channel.dh_normed;
      }
      for (std::int64_t c = g * width; c < (g + 1) * width; ++c) {
        Channel& channel = channels[static_cast<std::size_t>(b * p.channels + c)];
        channel.along_mean = static_cast<float>(group.dh / group_size);
        channel.along_normed = static_cast<float>(group.dh_normed / group_size);
      }
    }
  }
  for (std::int64_t c = 0; c < p.channels; ++c) {
    p.dbias[c] = static_cast<float>(affine[static_cast<std::size_t>(c)].dh);
    p.dweight[c] = static_cast<float>(affine[static_cast<std::size_t>(c)].dh_normed);
  }
}

}  // namespace osf::group_norm_silu_backward

#define OSF_FOREACH_ISA_FILE "cpu/group_norm_silu_backward-inl.h"
#include "simd/foreach_isa.h"

namespace osf {
namespace {

constexpr IsaRow<GroupNormSiluBackwardParams> kTable[] =
    OSF_ISA_TABLE(group_norm_silu_backward, run);

}  // namespace

void group_norm_silu_backward_cpu(const GroupNormSiluBackwardParams& p, Isa isa) {
  constexpr const char* kOp = "group_norm_silu_backward";
  check(p.batch > 0 && p.channels > 0 && p.spatial > 0, kOp, ": sizes batch=", p.batch,
        ", channels=", p.channels, ", positions=", p.spatial, " hold nothing");
  check(p.groups > 0 && p.channels % p.groups == 0, kOp, ": ", p.channels,
        " channels do not divide into ", p.groups, " groups");
  check(is_cpu_dtype(p.dtype) && is_cpu_dtype(p.affine_dtype), kOp,
        ": the CPU kernel takes float32 and bfloat16, not ", dtype_name(p.dtype), " and ",
        dtype_name(p.affine_dtype));
  run_on(isa, kTable, p, kOp);
}

void group_norm_silu_backward_cpu(const GroupNormSiluBackwardParams& p) {
  group_norm_silu_backward_cpu(p, selected_isa());
}

}  // namespace osf
