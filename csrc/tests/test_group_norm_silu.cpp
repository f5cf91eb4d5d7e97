// group_norm_silu on one instruction set (the only argument) against the formula in double.
//
// Outputs carry sentinels on both ends and start as NaN, so that an unwritten element or a store
// out of bounds fails.

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/half.h"
#include "core/parallel.h"
#include "cpu/group_norm_silu.h"
#include "tests/testing.h"

namespace {

using osf::BFloat16;
using osf::DType;
using osf::GroupNormSiluParams;
using osf::Isa;
using osf::testing::at;
using osf::testing::expect;
using osf::testing::rounded;
using osf::testing::widened;

struct Case {
  std::int64_t batch, channels, spatial, groups;
  float offset;  // mean of the input, in its standard deviations
  bool silu;
};

std::string describe(const Case& c, bool channels_last, bool half) {
  return "B" + std::to_string(c.batch) + " C" + std::to_string(c.channels) + " S" +
         std::to_string(c.spatial) + " G" + std::to_string(c.groups) + " offset " +
         std::to_string(c.offset) + (c.silu ? " silu" : "") +
         (channels_last ? " channels_last" : " contiguous") + (half ? " bfloat16" : " float32");
}

// The definition, in double, on the values as the kernel sees them.
std::vector<double> exact(const Case& c, bool channels_last, const std::vector<float>& x,
                          const std::vector<float>& weight, const std::vector<float>& bias) {
  std::vector<double> y(x.size());
  const std::int64_t width = c.channels / c.groups;
  const auto index = [&](std::int64_t b, std::int64_t ch, std::int64_t s) {
    return channels_last ? at((b * c.spatial + s) * c.channels + ch)
                         : at((b * c.channels + ch) * c.spatial + s);
  };
  for (std::int64_t b = 0; b < c.batch; ++b) {
    for (std::int64_t g = 0; g < c.groups; ++g) {
      double mean = 0.0, square = 0.0;
      const double n = static_cast<double>(width * c.spatial);
      for (std::int64_t ch = g * width; ch < (g + 1) * width; ++ch)
        for (std::int64_t s = 0; s < c.spatial; ++s)
          mean += static_cast<double>(x[index(b, ch, s)]);
      mean /= n;
      for (std::int64_t ch = g * width; ch < (g + 1) * width; ++ch)
        for (std::int64_t s = 0; s < c.spatial; ++s)
          square += std::pow(static_cast<double>(x[index(b, ch, s)]) - mean, 2.0);
      const double inverse = 1.0 / std::sqrt(square / n + 1e-6);
      for (std::int64_t ch = g * width; ch < (g + 1) * width; ++ch)
        for (std::int64_t s = 0; s < c.spatial; ++s) {
          const double h = (static_cast<double>(x[index(b, ch, s)]) - mean) * inverse *
                               static_cast<double>(weight[at(ch)]) +
                           static_cast<double>(bias[at(ch)]);
          y[index(b, ch, s)] = c.silu ? h / (1.0 + std::exp(-h)) : h;
        }
    }
  }
  return y;
}

template <class T>
void run_case(const Case& c, bool channels_last, Isa isa) {
  constexpr bool kHalf = sizeof(T) == 2;
  constexpr std::size_t kGuard = 64;
  const std::string name = describe(c, channels_last, kHalf);
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  const std::size_t count = at(c.batch * c.channels * c.spatial);
  std::vector<float> values(count), weights(at(c.channels)), biases(at(c.channels));
  for (float& v : values) v = normal(random) + c.offset;
  for (float& v : weights) v = 1.0f + 0.5f * normal(random);
  for (float& v : biases) v = normal(random);

  const std::vector<T> x = rounded<T>(values), weight = rounded<T>(weights),
                       bias = rounded<T>(biases);
  const float sentinel = -123.0f, poison = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> filled(count + 2 * kGuard, sentinel);
  std::fill_n(filled.begin() + kGuard, count, poison);
  std::vector<T> y = rounded<T>(filled);

  GroupNormSiluParams params{};
  params.x = x.data();
  params.y = y.data() + kGuard;
  params.weight = weight.data();
  params.bias = bias.data();
  std::vector<float> mean(at(c.batch * c.groups), poison), rstd(mean);
  params.mean = mean.data();
  params.rstd = rstd.data();
  params.batch = c.batch;
  params.channels = c.channels;
  params.spatial = c.spatial;
  params.groups = c.groups;
  params.eps = 1e-6;
  params.silu = c.silu;
  params.channels_last = channels_last;
  params.dtype = params.affine_dtype = kHalf ? DType::kBFloat16 : DType::kFloat32;
  osf::group_norm_silu_cpu(params, isa);

  const std::vector<double> want =
      exact(c, channels_last, widened(x), widened(weight), widened(bias));
  const std::vector<float> got = widened(y);
  // One rounding of the output format and six of float for the arithmetic. The input's offset
  // does not enter: it cancels before any product.
  const double unit = kHalf ? std::ldexp(1.0, -8) : std::ldexp(1.0, -24);
  double worst = 0.0;
  for (std::size_t i = 0; i < count; ++i) {
    const double error = std::abs(static_cast<double>(got[i + kGuard]) - want[i]);
    const double bound = unit * std::abs(want[i]) + std::ldexp(6.0 + 6.0 * std::abs(want[i]), -24);
    worst = std::max(worst,
                     std::isnan(error) ? std::numeric_limits<double>::infinity() : error / bound);
  }
  expect(worst <= 1.0, name + ": error " + std::to_string(worst) + " bounds");
  for (std::size_t i = 0; i < kGuard; ++i) {
    expect(got[i] == sentinel && got[count + 2 * kGuard - 1 - i] == sentinel,
           name + ": wrote out of bounds");
  }

  if (c.spatial > 0) {
    for (std::size_t i = 0; i < mean.size(); ++i) {
      expect(std::isfinite(mean[i]) && rstd[i] > 0.0f, name + ": mean or rstd is not written");
    }
  }

  // What a kernel that normalises by itself is given.
  std::vector<float> affine(at(3 * c.batch * c.channels), poison);
  params.y = nullptr;
  params.mean = params.rstd = nullptr;
  params.affine = affine.data();
  osf::group_norm_silu_cpu(params, isa);
  const std::vector<float> inputs = widened(x);
  double apart = 0.0;
  for (std::int64_t i = 0; i < c.batch * c.channels * c.spatial; ++i) {
    const std::int64_t b = i / (c.channels * c.spatial);
    const std::int64_t ch = channels_last ? i % c.channels : i / c.spatial % c.channels;
    const auto constant = [&](std::int64_t k) {
      return static_cast<double>(affine[at((k * c.batch + b) * c.channels + ch)]);
    };
    const double h = (static_cast<double>(inputs[at(i)]) - constant(0)) * constant(1) + constant(2);
    const double value = c.silu ? h / (1.0 + std::exp(-h)) : h;
    const double error = std::abs(value - want[at(i)]);
    apart = std::max(apart, error / std::ldexp(1.0 + std::abs(want[at(i)]), -24));
  }
  // Sums of float, one after the other where a vector has one lane.
  expect(apart <= 64.0, name + ": the folded normalisation is off by " + std::to_string(apart));
  params.y = y.data() + kGuard;

  const std::vector<float> first = got;
  osf::group_norm_silu_cpu(params, isa);
  expect(widened(y) == first, name + ": a second run differs");
#ifdef _OPENMP
  omp_set_num_threads(3);
  osf::group_norm_silu_cpu(params, isa);
  omp_set_num_threads(1);
  expect(widened(y) == first, name + ": three threads give another result than one");
#endif
}

void extremes(Isa isa) {
  // Without spread the normalised value is the bias: SiLU is met where exp overflows, where it
  // vanishes, and at a NaN.
  const float weight = 0.0f;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const float bias : {-200.0f, -100.0f, -88.0f, -20.0f, 0.0f, 20.0f, 88.0f, 200.0f, nan}) {
    std::vector<float> x(37, 1.0f), y(37, 5.0f);
    float mean, rstd;
    GroupNormSiluParams params{
        x.data(), y.data(), &weight, &bias, &mean, &rstd, nullptr,         1,
        1,        37,       1,       1e-6,  true,  false, DType::kFloat32, DType::kFloat32};
    osf::group_norm_silu_cpu(params, isa);
    const double want = bias / (1.0 + std::exp(-static_cast<double>(bias)));
    for (const float value : y) {
      const bool right = std::isnan(want) ? std::isnan(value)
                                          : std::abs(value - want) <= 4e-7 * std::abs(want) + 1e-37;
      expect(right, "silu(" + std::to_string(bias) + ") = " + std::to_string(value));
      if (!right) break;
    }
  }
}

template <class Call>
void expect_refused(const Call& call, const std::string& what) {
  try {
    call();
  } catch (const std::invalid_argument&) {
    return;
  }
  expect(false, what + " is accepted");
}

void refusals(Isa isa) {
  std::vector<float> data(12, 1.0f);
  GroupNormSiluParams params{data.data(),
                             data.data(),
                             data.data(),
                             data.data(),
                             data.data(),
                             data.data(),
                             nullptr,
                             1,
                             6,
                             2,
                             4,
                             1e-6,
                             true,
                             false,
                             DType::kFloat32,
                             DType::kFloat32};
  expect_refused([&] { osf::group_norm_silu_cpu(params, isa); }, "6 channels in 4 groups");
  params.groups = 3;
  params.dtype = DType::kFloat16;
  expect_refused([&] { osf::group_norm_silu_cpu(params, isa); }, "float16");
  setenv("OPENSORA_FAST_CPU_ISA", "avx1024", 1);
  expect_refused([] { osf::selected_isa(); }, "OPENSORA_FAST_CPU_ISA=avx1024");
  setenv("OPENSORA_FAST_CPU_ISA", osf::isa_name(isa), 1);
  expect(osf::selected_isa() == isa, "OPENSORA_FAST_CPU_ISA is not obeyed");
  unsetenv("OPENSORA_FAST_CPU_ISA");
}

void all(Isa isa) {
  const Case cases[] = {
      {1, 4, 1, 4, 0.0f, true},     {2, 6, 5, 3, 0.0f, true},         {1, 32, 63, 32, 3.0f, true},
      {3, 17, 19, 1, 0.0f, false},  {1, 64, 1031, 32, 0.0f, true},    {1, 128, 640, 2, -2.0f, true},
      {1, 2, 12345, 1, 0.0f, true}, {2, 96, 257, 32, 1000.0f, false}, {0, 4, 7, 2, 0.0f, true},
      {2, 4, 0, 2, 0.0f, true},
  };
  for (const Case& c : cases) {
    for (const bool channels_last : {false, true}) {
      run_case<float>(c, channels_last, isa);
      run_case<BFloat16>(c, channels_last, isa);
    }
  }
  extremes(isa);
  refusals(isa);
}

}  // namespace

int main(int argc, char** argv) { return osf::testing::main(argc, argv, all); }
