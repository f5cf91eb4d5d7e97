#include "cpu/group_norm_silu.h"

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
namespace osf::group_norm_silu {

// Small enough that the second pass over a chunk finds it in the innermost cache.
inline constexpr std::int64_t kRunChunk = 4096;
// Enough rows for a block's channels to amortise the merge of their moments, within one L2 cache.
inline constexpr std::int64_t kBlockElements = 32768;

// Mean, and sum of squared deviations from it.
struct Moments {
  double mean;
  double square;
};

// h = (x - mean) * scale + shift: one value per sample and channel each.
struct Affine {
  std::vector<float> values;
  float* mean;
  float* scale;
  float* shift;

  Affine(const Affine&) = delete;
  Affine(Affine&&) = default;
  // In the memory of the caller who wants to keep it, else in its own.
  explicit Affine(const GroupNormSiluParams& p) {
    const auto count = static_cast<std::size_t>(p.batch * p.channels);
    if (p.affine == nullptr) values.resize(3 * count);
    mean = p.affine == nullptr ? values.data() : p.affine;
    scale = mean + count;
    shift = scale + count;
  }
};

// Where the moments of one group's chunks lie, and how many values they stand for.
struct ChunkLayout {
  std::int64_t chunks;
  std::int64_t chunk_step;
  std::int64_t group_step;
  std::int64_t chunk_size;  // of every chunk but the last
  std::int64_t group_size;
};

// Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for computing sample variances.
inline Moments combined(const Moments* moments, const ChunkLayout& layout) {
  Moments all = moments[0];
  double count = static_cast<double>(std::min(layout.chunk_size, layout.group_size));
  for (std::int64_t k = 1; k < layout.chunks; ++k) {
    const Moments& chunk = moments[k * layout.chunk_step];
    const double n =
        static_cast<double>(std::min(layout.chunk_size, layout.group_size - k * layout.chunk_size));
    const double apart = chunk.mean - all.mean;
    const double share = n / (count + n);
    all.mean += apart * share;
    all.square += chunk.square + apart * apart * count * share;
    count += n;
  }
  return all;
}

// Combines the chunks, writes mean and rstd, and folds the normalisation with weight and bias, per
// sample and channel. What the mean loses in float goes into the shift.
inline Affine fold(const GroupNormSiluParams& p, const std::vector<Moments>& moments,
                   const ChunkLayout& layout) {
  const std::int64_t width = p.channels / p.groups;
  const std::int64_t per_sample = p.groups * layout.chunks;
  Affine affine(p);
  for (std::int64_t b = 0; b < p.batch; ++b) {
    for (std::int64_t g = 0; g < p.groups; ++g) {
      const Moments group =
          combined(moments.data() + b * per_sample + g * layout.group_step, layout);
      const double variance = group.square / static_cast<double>(layout.group_size);
      const double inverse = 1.0 / std::sqrt(variance + p.eps);
      const float mean = static_cast<float>(group.mean);
      if (p.mean != nullptr) p.mean[b * p.groups + g] = mean;
      if (p.rstd != nullptr) p.rstd[b * p.groups + g] = static_cast<float>(inverse);
      for (std::int64_t c = g * width; c < (g + 1) * width; ++c) {
        const double scale = inverse * value_at(p.weight, p.affine_dtype, c);
        const double shift =
            value_at(p.bias, p.affine_dtype, c) - (group.mean - static_cast<double>(mean)) * scale;
        affine.mean[b * p.channels + c] = mean;
        affine.scale[b * p.channels + c] = static_cast<float>(scale);
        affine.shift[b * p.channels + c] = static_cast<float>(shift);
      }
    }
  }
  return affine;
}

}  // namespace osf::group_norm_silu

#define OSF_FOREACH_ISA_FILE "cpu/group_norm_silu-inl.h"
#include "simd/foreach_isa.h"

namespace osf {
namespace {

constexpr IsaRow<GroupNormSiluParams> kTable[] = OSF_ISA_TABLE(group_norm_silu, run);

}  // namespace

void group_norm_silu_cpu(const GroupNormSiluParams& p, Isa isa) {
  check(p.batch >= 0 && p.channels > 0 && p.spatial >= 0, "group_norm_silu: sizes batch=", p.batch,
        ", channels=", p.channels, ", positions=", p.spatial, " are no sizes");
  check(p.groups > 0 && p.channels % p.groups == 0, "group_norm_silu: ", p.channels,
        " channels do not divide into ", p.groups, " groups");
  check(is_cpu_dtype(p.dtype), "group_norm_silu: the CPU kernel takes float32 and bfloat16, not ",
        dtype_name(p.dtype));
  check(is_cpu_dtype(p.affine_dtype),
        "group_norm_silu: weight and bias must be float32 or bfloat16, not ",
        dtype_name(p.affine_dtype));
  if (p.batch == 0 || p.spatial == 0) return;
  if (p.y != nullptr) {
    advise_huge_pages(p.y, p.batch * p.channels * p.spatial * bytes_of(p.dtype));
  }
  run_on(isa, kTable, p, "group_norm_silu");
}

void group_norm_silu_cpu(const GroupNormSiluParams& p) { group_norm_silu_cpu(p, selected_isa()); }

}  // namespace osf
