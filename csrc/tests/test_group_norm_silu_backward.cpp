// group_norm_silu_backward on one instruction set (the only argument) against the formula in
// double. mean and rstd come from the forward kernel, which has its own test.

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "core/half.h"
#include "core/parallel.h"
#include "cpu/group_norm_silu.h"
#include "cpu/group_norm_silu_backward.h"
#include "tests/testing.h"

namespace {

using osf::BFloat16;
using osf::DType;
using osf::Isa;
using osf::testing::at;
using osf::testing::expect;
using osf::testing::rounded;
using osf::testing::widened;

struct Case {
  std::int64_t batch, channels, spatial, groups;
  bool silu;
};

struct Gradients {
  std::vector<double> dx, dweight, dbias;
};

struct Inputs {
  std::vector<float> grad, x, weight, bias;
};

// The definition, in double, from the statistics of x itself.
Gradients exact(const Case& c, bool channels_last, const Inputs& in) {
  const std::int64_t width = c.channels / c.groups;
  const double n = static_cast<double>(width * c.spatial);
  Gradients out{std::vector<double>(in.x.size()), std::vector<double>(at(c.channels)),
                std::vector<double>(at(c.channels))};
  const auto each = [&](std::int64_t b, std::int64_t g, const auto& body) {
    for (std::int64_t ch = g * width; ch < (g + 1) * width; ++ch)
      for (std::int64_t s = 0; s < c.spatial; ++s)
        body(at(ch), channels_last ? at((b * c.spatial + s) * c.channels + ch)
                                   : at((b * c.channels + ch) * c.spatial + s));
  };
  for (std::int64_t b = 0; b < c.batch; ++b) {
    for (std::int64_t g = 0; g < c.groups; ++g) {
      double mean = 0.0, square = 0.0, along_mean = 0.0, along_normed = 0.0;
      each(b, g, [&](std::size_t, std::size_t i) { mean += static_cast<double>(in.x[i]) / n; });
      each(b, g, [&](std::size_t, std::size_t i) {
        square += std::pow(static_cast<double>(in.x[i]) - mean, 2.0);
      });
      const double rstd = 1.0 / std::sqrt(square / n + 1e-6);
      const auto terms = [&](std::size_t ch, std::size_t i, double& dh, double& normed) {
        normed = (static_cast<double>(in.x[i]) - mean) * rstd;
        const double h =
            normed * static_cast<double>(in.weight[ch]) + static_cast<double>(in.bias[ch]);
        const double s = 1.0 / (1.0 + std::exp(-h));
        dh = static_cast<double>(in.grad[i]) * (c.silu ? s * (1.0 + h * (1.0 - s)) : 1.0);
      };
      each(b, g, [&](std::size_t ch, std::size_t i) {
        double dh = 0.0, normed = 0.0;
        terms(ch, i, dh, normed);
        out.dbias[ch] += dh;
        out.dweight[ch] += dh * normed;
        along_mean += dh * static_cast<double>(in.weight[ch]) / n;
        along_normed += dh * normed * static_cast<double>(in.weight[ch]) / n;
      });
      each(b, g, [&](std::size_t ch, std::size_t i) {
        double dh = 0.0, normed = 0.0;
        terms(ch, i, dh, normed);
        out.dx[i] =
            rstd * (dh * static_cast<double>(in.weight[ch]) - along_mean - normed * along_normed);
      });
    }
  }
  return out;
}

// Largest error in units of `unit` * (1 + |wanted|).
double worst(const std::vector<float>& got, const std::vector<double>& want, double unit) {
  double most = 0.0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    const double error = std::abs(static_cast<double>(got[i]) - want[i]);
    if (std::isnan(error)) return std::numeric_limits<double>::infinity();
    most = std::max(most, error / (unit * (1.0 + std::abs(want[i]))));
  }
  return most;
}

template <class T>
void run_case(const Case& c, bool channels_last, Isa isa) {
  constexpr bool kHalf = sizeof(T) == 2;
  constexpr DType kDType = kHalf ? DType::kBFloat16 : DType::kFloat32;
  const std::string name = "B" + std::to_string(c.batch) + " C" + std::to_string(c.channels) +
                           " S" + std::to_string(c.spatial) + " G" + std::to_string(c.groups) +
                           (c.silu ? " silu" : "") + (channels_last ? " channels_last" : "") +
                           (kHalf ? " bfloat16" : " float32");
  std::mt19937 random(11);
  std::normal_distribution<float> normal;
  const std::size_t count = at(c.batch * c.channels * c.spatial);
  const auto draw = [&](std::size_t size, float shift) {
    std::vector<float> values(size);
    for (float& v : values) v = normal(random) + shift;
    return rounded<T>(values);
  };
  const std::vector<T> grad = draw(count, 0.0f), x = draw(count, 0.5f);
  const std::vector<T> weight = draw(at(c.channels), 1.0f), bias = draw(at(c.channels), 0.0f);
  const float poison = std::numeric_limits<float>::quiet_NaN();
  std::vector<T> y(count), dx = rounded<T>(std::vector<float>(count, poison));
  std::vector<float> mean(at(c.batch * c.groups)), rstd(mean), dweight(at(c.channels), poison),
      dbias(dweight);

  osf::GroupNormSiluParams forward{x.data(),    y.data(),      weight.data(), bias.data(),
                                   mean.data(), rstd.data(),   nullptr,       c.batch,
                                   c.channels,  c.spatial,     c.groups,      1e-6,
                                   c.silu,      channels_last, kDType,        kDType};
  osf::group_norm_silu_cpu(forward, isa);
  osf::GroupNormSiluBackwardParams params{
      grad.data(), x.data(),       weight.data(), bias.data(), mean.data(), rstd.data(),
      dx.data(),   dweight.data(), dbias.data(),  c.batch,     c.channels,  c.spatial,
      c.groups,    c.silu,         channels_last, kDType,      kDType};
  osf::group_norm_silu_backward_cpu(params, isa);

  const Gradients want =
      exact(c, channels_last, {widened(grad), widened(x), widened(weight), widened(bias)});
  const double float_unit = std::ldexp(1.0, -24);
  const double dx_unit = kHalf ? std::ldexp(1.0, -8) : float_unit;
  // dx cancels where a group holds few values and its spread is small: a few dozen roundings.
  expect(worst(widened(dx), want.dx, dx_unit) <= (kHalf ? 2.0 : 64.0),
         name + ": dx is off by " + std::to_string(worst(widened(dx), want.dx, dx_unit)));
  const double of_sums = 16.0 * std::sqrt(static_cast<double>(c.batch * c.spatial));
  expect(worst(dweight, want.dweight, float_unit) <= of_sums,
         name + ": dweight is off by " + std::to_string(worst(dweight, want.dweight, float_unit)));
  expect(worst(dbias, want.dbias, float_unit) <= of_sums,
         name + ": dbias is off by " + std::to_string(worst(dbias, want.dbias, float_unit)));

  const std::vector<float> first_dx = widened(dx), first_dweight = dweight;
#ifdef _OPENMP
  omp_set_num_threads(3);
#endif
  osf::group_norm_silu_backward_cpu(params, isa);
#ifdef _OPENMP
  omp_set_num_threads(1);
#endif
  expect(widened(dx) == first_dx && dweight == first_dweight,
         name + ": three threads give another result than one");
}

void all(Isa isa) {
  const Case cases[] = {{2, 6, 5, 3, true},      {1, 32, 63, 32, true},  {3, 17, 19, 1, false},
                        {1, 64, 1031, 32, true}, {1, 128, 640, 2, true}, {1, 2, 12345, 1, true},
                        {2, 96, 257, 32, false}};
  for (const Case& c : cases) {
    for (const bool channels_last : {false, true}) {
      run_case<float>(c, channels_last, isa);
      run_case<BFloat16>(c, channels_last, isa);
    }
  }
}

}  // namespace

int main(int argc, char** argv) { return osf::testing::main(argc, argv, all); }
