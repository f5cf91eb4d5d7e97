// A loop over the vector type V. Included once per instruction set, behind the vectors; no include
// guard.

namespace osf::OSF_ISA {

// Calls body(i, load, store) for the vectors of [0, n): load(p) and store(v, p) take p[i], ... and
// leave alone what lies past n.
template <class Body>
inline void for_vectors(std::int64_t n, const Body& body) {
  std::int64_t i = 0;
  for (; i + V::kWidth <= n; i += V::kWidth) {
    body(i, [i](const auto* p) { return V::load(p + i); }, [i](V v, auto* p) { v.store(p + i); });
  }
  if (const std::int64_t rest = n - i; rest > 0) {
    body(
        i, [i, rest](const auto* p) { return V::load_n(p + i, rest, 0.0f); },
        [i, rest](V v, auto* p) { v.store_n(p + i, rest); });
  }
}

}  // namespace osf::OSF_ISA
