#include "cpu/conv3d/weight_gradient.h"

#include <algorithm>
#include <cstddef>
#include <type_traits>
#include <vector>

#include "core/parallel.h"
#include "core/scratch.h"
#include "cpu/conv3d/layout.h"
#include "cpu/conv3d/moments.h"

namespace osf::conv3d {
namespace {

// Below these a transform is mostly padding.
constexpr std::int64_t kMinTransformed = 8;

bool takes_transforms(const Geometry& g) {
  return g.kernel[1] == 3 && g.kernel[2] == 3 && g.stride[1] == 1 && g.stride[2] == 1 &&
         g.channels >= kMinTransformed && g.out_channels >= kMinTransformed;
}

}  // namespace

// What the instruction sets' kernels take.
struct WeightGradientParams {
  Params forward;
  const void* dy;
  float* dweight;
  bool transformed;
};

}  // namespace osf::conv3d

#define OSF_FOREACH_ISA_FILE "cpu/conv3d/weight_gradient-inl.h"
#include "simd/foreach_isa.h"

namespace osf::conv3d {
namespace {

constexpr IsaRow<WeightGradientParams> kTable[] = OSF_ISA_TABLE(conv3d, run_weight_gradient);

}  // namespace

void weight_gradient(const Params& forward, const void* dy, float* dweight, Isa isa) {
  constexpr const char* kOp = "conv3d_weight_gradient";
  const Geometry& g = forward.geometry;
  check(is_cpu_dtype(g.dtype), kOp, ": the CPU kernels take float32 and bfloat16, not ",
        dtype_name(g.dtype));
  check(g.channels > 0 && g.out_channels > 0, kOp, ": ", g.channels, " input and ", g.out_channels,
        " output channels are no sizes");
  check(!upsamples(g) && !g.shortcut, kOp, ": an upsampling and a shortcut are not folded in");
  for (int axis = 0; axis < 3; ++axis) {
    check(forward.size[axis] > 0 && forward.out_size[axis] > 0, kOp, ": an axis is empty");
  }
  run_on(isa, kTable, WeightGradientParams{forward, dy, dweight, takes_transforms(g)}, kOp);
}

}  // namespace osf::conv3d
