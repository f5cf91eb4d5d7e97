// The algorithms in float32 arithmetic for one instruction set. Included once per instruction set.
#include "cpu/conv3d/activate-inl.h"
#include "cpu/conv3d/gemm-inl.h"
#include "cpu/conv3d/shortcut-inl.h"
#include "cpu/conv3d/winograd-transforms-inl.h"
//
#include "cpu/conv3d/direct-inl.h"
#include "cpu/conv3d/narrow-inl.h"
#include "cpu/conv3d/upsample-inl.h"
#include "cpu/conv3d/winograd-inl.h"

namespace osf::conv3d::OSF_ISA {

template <class T>
void run_typed(const Params& p) {
  switch (p.plan.algorithm) {
    case Algorithm::kWinograd2:
      return Winograd<2, T>(p).run();
    case Algorithm::kWinograd4:
      return Winograd<4, T>(p).run();
    case Algorithm::kUpsample:
      return Upsample<T>(p).run();
    case Algorithm::kNarrow:
      return Narrow<T, VectorRows<T>>(p).run();
    default:
      return Direct<T>(p).run();
  }
}

inline void run(const Params& p) {
  p.geometry.dtype == DType::kBFloat16 ? run_typed<BFloat16>(p) : run_typed<float>(p);
}

}  // namespace osf::conv3d::OSF_ISA
