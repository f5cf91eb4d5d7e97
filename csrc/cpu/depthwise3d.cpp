#include "cpu/depthwise3d.h"

#include <algorithm>

#include "core/check.h"
#include "core/parallel.h"
#include "core/scratch.h"
#include "cpu/dispatch.h"
#include "simd/vec.h"

// What the instruction sets share.
namespace osf::depthwise3d {

// Columns that go through the registers together.
inline constexpr std::int64_t kBlock = 8;
// Channels of a unit of work: the rows that its taps meet stay in the cache.
inline constexpr std::int64_t kChannels = 64;
// Units that the gradient of the taps is cut into, if there are rows enough.
inline constexpr std::int64_t kUnits = 64;

}  // namespace osf::depthwise3d

#define OSF_FOREACH_ISA_FILE "cpu/depthwise3d-inl.h"
#include "simd/foreach_isa.h"

namespace osf {
namespace {

constexpr IsaRow<Depthwise3dParams> kTable[] = OSF_ISA_TABLE(depthwise3d, run);
constexpr IsaRow<Depthwise3dTapsGradientParams> kGradientTable[] =
    OSF_ISA_TABLE(depthwise3d, run_taps_gradient);

void check_sizes(const Depthwise3dInput& p, const char* op) {
  check(p.batch >= 0 && p.channels >= 1, op, ": batch=", p.batch, ", channels=", p.channels,
        " are no sizes");
  for (int axis = 0; axis < 3; ++axis) {
    check(p.size[axis] >= 0, op, ": an axis of ", p.size[axis], " is no size");
    check(p.kernel[axis] >= 1 && p.kernel[axis] % 2 == 1, op, ": a kernel of ", p.kernel[axis],
          " is not odd");
  }
}

}  // namespace

void depthwise3d_cpu(const Depthwise3dParams& p, Isa isa) {
  constexpr const char* kOp = "depthwise3d";
  check_sizes(p, kOp);
  run_on(isa, kTable, p, kOp);
}

void depthwise3d_taps_gradient_cpu(const Depthwise3dTapsGradientParams& p, Isa isa) {
  constexpr const char* kOp = "depthwise3d_taps_gradient";
  check_sizes(p, kOp);
  run_on(isa, kGradientTable, p, kOp);
}

void depthwise3d_cpu(const Depthwise3dParams& p) { depthwise3d_cpu(p, selected_isa()); }

void depthwise3d_taps_gradient_cpu(const Depthwise3dTapsGradientParams& p) {
  depthwise3d_taps_gradient_cpu(p, selected_isa());
}

}  // namespace osf
