// Attention on the vectors of one instruction set. Included once per instruction set.
#include "cpu/conv3d/activate-inl.h"
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
