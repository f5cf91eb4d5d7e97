// Attention on the vectors of one instruction set. Included once per instruction set.

// What the products of the convolution are written in; its own way in is not needed here.
namespace osf::conv3d::OSF_ISA {
using V = osf::OSF_ISA::V;
inline constexpr std::int64_t W = V::kWidth;
}  // namespace osf::conv3d::OSF_ISA

#include "cpu/conv3d/gemm-inl.h"
//
#include "cpu/frame_causal_attention/blocks-inl.h"
#include "cpu/frame_causal_attention/vectors-inl.h"

namespace osf::frame_causal_attention::OSF_ISA {

template <class T>
void run_typed(const FrameCausalAttentionParams& p) {
  Attention<T, VectorProducts<T>>(p).run();
}

inline void run(const FrameCausalAttentionParams& p) {
  p.dtype == DType::kBFloat16 ? run_typed<BFloat16>(p) : run_typed<float>(p);
}

}  // namespace osf::frame_causal_attention::OSF_ISA
