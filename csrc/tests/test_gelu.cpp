// gelu and its gradient on one instruction set (the only argument) against the formulas in double.

#include "cpu/gelu.h"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "tests/testing.h"

namespace {

using osf::BFloat16;
using osf::DType;
using osf::GeluParams;
using osf::Isa;
using osf::testing::at;
using osf::testing::expect;
using osf::testing::Guarded;
using osf::testing::normal;
using osf::testing::widened;

constexpr double kLinear = 1.5957691216057307118;  // 2 sqrt(2 / pi)

double gelu(double x) { return x / (1.0 + std::exp(-kLinear * (x + 0.044715 * x * x * x))); }

double slope(double x) {
  const double s = 1.0 / (1.0 + std::exp(-kLinear * (x + 0.044715 * x * x * x)));
  return s + x * s * (1.0 - s) * kLinear * (1.0 + 3.0 * 0.044715 * x * x);
}

struct Case {
  std::int64_t rows, width;
  std::int64_t gap;  // elements between the rows of every tensor
};

template <class T>
void run_case(const Case& c, bool backward, Isa isa) {
  const std::string name = std::to_string(c.rows) + " rows of " + std::to_string(c.width) +
                           " gap " + std::to_string(c.gap) +
                           (sizeof(T) == 2 ? " bfloat16" : " float32") +
                           (backward ? " backward" : "");
  const std::int64_t step = c.width + c.gap, count = c.rows * step;
  const std::vector<T> x = normal<T>(count, 1, 0.0f, 3.0f), grad = normal<T>(count, 2);
  Guarded<T> out(count);
  GeluParams params{};
  params.x = x.data();
  params.grad = backward ? grad.data() : nullptr;
  params.out = out.data();
  params.rows = c.rows;
  params.width = c.width;
  params.x_stride = params.grad_stride = params.out_stride = step;
  params.dtype = sizeof(T) == 2 ? DType::kBFloat16 : DType::kFloat32;
  const auto call = [&] {
    backward ? osf::gelu_backward_cpu(params, isa) : osf::gelu_cpu(params, isa);
  };
  call();

  const std::vector<float> xs = widened(x), grads = widened(grad), all = out.values();
  std::vector<float> got;
  std::vector<double> want;
  bool gaps_untouched = true;
  for (std::int64_t i = 0; i < count; ++i) {
    if (i % step >= c.width) {
      gaps_untouched = gaps_untouched && std::isnan(all[at(i)]);
      continue;
    }
    const double value = static_cast<double>(xs[at(i)]);
    want.push_back(backward ? static_cast<double>(grads[at(i)]) * slope(value) : gelu(value));
    got.push_back(all[at(i)]);
  }
  expect(gaps_untouched, name + ": wrote between the rows");
  // The exponent's error is relative to it, and it reaches 88 before exp overflows.
  osf::testing::expect_close<T>(got, want, 60.0, 0.1, name);
  if (c.gap == 0) osf::testing::expect_same_again(call, out, name);
  expect(out.intact(), name + ": wrote out of bounds");
}

void extremes(Isa isa) {
  const float infinity = std::numeric_limits<float>::infinity();
  std::vector<float> x = {
      0.0f, 1e30f, infinity, -8.0f, -1e30f, 1e-30f, std::numeric_limits<float>::quiet_NaN()};
  Guarded<float> y(static_cast<std::int64_t>(x.size()));
  GeluParams params{};
  params.x = x.data();
  params.out = y.data();
  params.rows = 1;
  params.width = static_cast<std::int64_t>(x.size());
  params.dtype = DType::kFloat32;
  osf::gelu_cpu(params, isa);
  const std::vector<float> got = y.values();
  expect(got[0] == 0.0f && got[1] == 1e30f && got[2] == infinity, "gelu of 0 and large values");
  expect(std::abs(static_cast<double>(got[3]) - gelu(-8.0)) <= 1e-5 * std::abs(gelu(-8.0)),
         "gelu(-8) keeps its digits");
  expect(got[4] == 0.0f && got[5] == 0.5e-30f && std::isnan(got[6]),
         "gelu of -1e30, 1e-30 and a NaN");
}

void refusals(Isa isa) {
  GeluParams params{};
  params.dtype = DType::kFloat16;
  osf::testing::expect_refused([&] { osf::gelu_cpu(params, isa); }, "float16");
  osf::testing::expect_refused([&] { osf::gelu_backward_cpu(params, isa); }, "float16");
  params.dtype = DType::kFloat32;
  params.rows = -1;
  osf::testing::expect_refused([&] { osf::gelu_cpu(params, isa); }, "-1 rows");
}

void all(Isa isa) {
  for (const Case& c : {Case{1, 1, 0}, Case{1, 12345, 0}, Case{7, 48, 0}, Case{5, 31, 18},
                        Case{3, 4099, 5}, Case{0, 8, 0}, Case{3, 0, 2}}) {
    for (const bool backward : {false, true}) {
      run_case<float>(c, backward, isa);
      run_case<BFloat16>(c, backward, isa);
    }
  }
  extremes(isa);
  refusals(isa);
}

}  // namespace

int main(int argc, char** argv) { return osf::testing::main(argc, argv, all); }
