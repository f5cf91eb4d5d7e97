// What the C++ tests share: expectations that are counted, rounding of arrays, and a main that runs
// a test on the instruction set named by its only argument.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <random>
#include <stdexcept>
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

// Normal values, the same for the same seed, rounded to T.
template <class T>
std::vector<T> normal(std::int64_t count, unsigned seed, float mean = 0.0f,
                      float deviation = 1.0f) {
  std::mt19937 random(seed);
  std::normal_distribution<float> distribution(mean, deviation);
  std::vector<float> values(at(count));
  for (float& value : values) value = distribution(random);
  return rounded<T>(values);
}

// An output that starts as NaN between sentinels, so that an element left out or a store out of
// bounds is found.
template <class T>
class Guarded {
 public:
  explicit Guarded(std::int64_t count)
      : buffer_(rounded<T>(std::vector<float>(at(count) + 2 * kMargin, kSentinel))) {
    for (std::size_t i = 0; i < at(count); ++i) {
      from_float(std::numeric_limits<float>::quiet_NaN(), &buffer_[kMargin + i]);
    }
  }

  T* data() { return buffer_.data() + kMargin; }

  std::vector<float> values() const {
    const std::vector<float> all = widened(buffer_);
    return {all.begin() + kMargin, all.end() - kMargin};
  }

  bool intact() const {
    bool same = true;
    for (std::size_t i = 0; i < kMargin; ++i) {
      same = same && to_float(buffer_[i]) == kSentinel &&
             to_float(buffer_[buffer_.size() - 1 - i]) == kSentinel;
    }
    return same;
  }

 private:
  static constexpr std::size_t kMargin = 64;
  static constexpr float kSentinel = -123.0f;
  std::vector<T> buffer_;
};

// Every element within one rounding to T and `units` of float of what is wanted (and of `scale`).
template <class T>
void expect_close(const std::vector<float>& got, const std::vector<double>& want, double units,
                  double scale, const std::string& what) {
  const double unit = sizeof(T) == 2 ? std::ldexp(1.0, -8) : std::ldexp(1.0, -24);
  double worst = got.size() == want.size() ? 0.0 : std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < want.size() && i < got.size(); ++i) {
    const double error = std::abs(static_cast<double>(got[i]) - want[i]);
    const double bound =
        unit * std::abs(want[i]) + units * std::ldexp(scale + std::abs(want[i]), -24);
    worst = std::max(worst,
                     std::isnan(error) ? std::numeric_limits<double>::infinity() : error / bound);
  }
  expect(worst <= 1.0, what + ": error " + std::to_string(worst) + " bounds");
}

// Calls, and expects std::invalid_argument.
template <class Call>
void expect_refused(const Call& call, const std::string& what) {
  try {
    call();
  } catch (const std::invalid_argument&) {
    return;
  }
  expect(false, what + " is accepted");
}

// Runs the kernel again, alone and with three threads, and expects the same output.
template <class T, class Call>
void expect_same_again(const Call& call, const Guarded<T>& out, const std::string& what) {
  const std::vector<float> first = out.values();
  call();
  expect(out.values() == first, what + ": a second run differs");
#ifdef _OPENMP
  omp_set_num_threads(3);
  call();
  omp_set_num_threads(1);
  expect(out.values() == first, what + ": three threads give another result than one");
#endif
  expect(out.intact(), what + ": wrote out of bounds");
}

// Exit status: 0 passed, 1 failed, 2 wrong usage, 77 the processor lacks the instruction set.
inline int main(int argc, char** argv, void (*test)(Isa)) {
  const std::string name = argc == 2 ? argv[1] : "";
  for (const Isa isa : {Isa::kScalar, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16, Isa::kAmx}) {
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
  std::printf("usage: %s scalar|avx2|avx512|avx512_bf16|amx\n", argv[0]);
  return 2;
}

}  // namespace osf::testing
