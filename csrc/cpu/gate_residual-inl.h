// The algorithm of gate_residual.h over the vector type V, included once per instruction set. No
// include guard.

namespace osf::gate_residual::OSF_ISA {

using V = osf::OSF_ISA::V;
inline constexpr std::int64_t W = V::kWidth;

template <class T, class Branch>
void add_token(const T* x, const T* gate, const Branch* branch, T* y, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + W <= n; i += W) {
    fma(V::load(gate + i), V::load(branch + i), V::load(x + i)).store(y + i);
  }
  if (const std::int64_t rest = n - i; rest > 0) {
    fma(V::load_n(gate + i, rest, 0.0f), V::load_n(branch + i, rest, 0.0f),
        V::load_n(x + i, rest, 0.0f))
        .store_n(y + i, rest);
  }
}

template <class T, class Branch>
void run_typed(const GateResidualParams& p) {
  parallel_for(p.batch * p.length, p.width, [&](std::int64_t token) {
    const std::int64_t offset = token * p.width;
    add_token(static_cast<const T*>(p.x) + offset,
              static_cast<const T*>(p.gate) + token / p.length * p.width,
              static_cast<const Branch*>(p.branch) + offset, static_cast<T*>(p.y) + offset,
              p.width);
  });
}

inline void run(const GateResidualParams& p) {
  if (p.dtype == DType::kBFloat16) {
    run_typed<BFloat16, BFloat16>(p);
  } else if (p.branch_dtype == DType::kBFloat16) {
    run_typed<float, BFloat16>(p);
  } else {
    run_typed<float, float>(p);
  }
}

}  // namespace osf::gate_residual::OSF_ISA
