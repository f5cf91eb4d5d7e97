// SiLU over the vector type V. Included once per instruction set, behind the vectors; no include
// guard.

namespace osf::OSF_ISA {

// a / (1 + exp(-a)). The division costs nothing: it runs beside the exponential's arithmetic (an
// estimate with a step of Newton's instead was no faster).
inline V silu(V a) { return a / (V::set1(1.0f) + exp(V::set1(0.0f) - a)); }

}  // namespace osf::OSF_ISA
