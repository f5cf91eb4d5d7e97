// What the C++ tests share: expectations that are counted, rounding of arrays, and a main that runs
// a test on the instruction set named by its only argument.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "core/cpu_features.h"
#include "core/half.h"
#include "core/parallel.h"

namespace osf::testing {

inline int failures = 0;

inline void expect(bool condition, const std::string& what) {
  if (!condition) {
    std::printf("FAILED: %s\n", what.c_str());
    ++failures;
  }
}

inline std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

template <class T>
std::vector<T> rounded(const std::vector<float>& values) {
  std::vector<T> out(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) from_float(values[i], &out[i]);
  return out;
}

template <class T>
std::vector<float> widened(const std::vector<T>& values) {
  std::vector<float> out(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) out[i] = to_float(values[i]);
  return out;
}

// Exit status: 0 passed, 1 failed, 2 wrong usage, 77 the processor lacks the instruction set.
inline int main(int argc, char** argv, void (*test)(Isa)) {
  const std::string name = argc == 2 ? argv[1] : "";
  for (const Isa isa : {Isa::kScalar, Isa::kAvx2, Isa::kAvx512}) {
    if (name != isa_name(isa)) continue;
    if (!isa_supported(isa)) {
      std::printf("skipped: this processor does not have %s\n", name.c_str());
      return 77;
    }
#ifdef _OPENMP
    omp_set_num_threads(1);
#endif
    test(isa);
    std::printf("%s: %s\n", name.c_str(), failures == 0 ? "all passed" : "failed");
    return failures == 0 ? 0 : 1;
  }
  std::printf("usage: %s scalar|avx2|avx512\n", argv[0]);
  return 2;
}

}  // namespace osf::testing
