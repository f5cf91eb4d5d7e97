// rms_norm3d and its gradients on one instruction set (the only argument) against the formulas in
// double.

#include "cpu/rms_norm3d.h"

#include <cmath>
#include <string>
#include <vector>

#include "tests/testing.h"

namespace {

using osf::Activation;
using osf::BFloat16;
using osf::DType;
using osf::Isa;
using osf::RmsNorm3dBackwardParams;
using osf::RmsNorm3dParams;
using osf::testing::at;
using osf::testing::Guarded;
using osf::testing::normal;
using osf::testing::widened;

constexpr double kEps = 1e-5;

struct Case {
  std::int64_t batch, channels, positions;
  Activation activation;
  bool channels_last;
  bool bias;
  bool residual = false;
};

struct Exact {
  std::vector<double> y, dx, dweight, dbias;
};

double activated(double z, Activation activation) {
  if (activation == Activation::kSilu) return z / (1.0 + std::exp(-z));
  return activation == Activation::kRelu ? std::max(z, 0.0) : z;
}

double slope(double z, Activation activation) {
  const double s = 1.0 / (1.0 + std::exp(-z));
  if (activation == Activation::kSilu) return s * (1.0 + z * (1.0 - s));
  return activation == Activation::kRelu && z <= 0.0 ? 0.0 : 1.0;
}

// The definition, in double, on the values as the kernel sees them.
Exact exact(const Case& c, const std::vector<float>& x, const std::vector<float>& dy,
            const std::vector<float>& weight, const std::vector<float>& bias,
            const std::vector<float>& residual) {
  Exact out;
  out.y.resize(x.size());
  out.dx.resize(x.size());
  out.dweight.resize(at(c.channels));
  out.dbias.resize(at(c.channels));
  const double count = static_cast<double>(c.channels);
  for (std::int64_t p = 0; p < c.batch * c.positions; ++p) {
    const auto index = [&](std::int64_t channel) {
      return at(c.channels_last
                    ? p * c.channels + channel
                    : (p / c.positions * c.channels + channel) * c.positions + p % c.positions);
    };
    double square = 0.0, along = 0.0;
    for (std::int64_t i = 0; i < c.channels; ++i) {
      square += std::pow(static_cast<double>(x[index(i)]), 2.0);
    }
    const double inverse = 1.0 / std::sqrt(square / count + kEps);
    std::vector<double> dn;
    for (std::int64_t i = 0; i < c.channels; ++i) {
      const double w = static_cast<double>(weight[at(i)]);
      const double n = static_cast<double>(x[index(i)]) * inverse;
      const double z = n * w + (c.bias ? static_cast<double>(bias[at(i)]) : 0.0);
      const double dz = static_cast<double>(dy[index(i)]) * slope(z, c.activation);
      out.y[index(i)] =
          activated(z, c.activation) + (c.residual ? static_cast<double>(residual[index(i)]) : 0.0);
      out.dweight[at(i)] += dz * n;
      out.dbias[at(i)] += dz;
      dn.push_back(dz * w);
      along += dz * w * n;
    }
    for (std::int64_t i = 0; i < c.channels; ++i) {
      const double n = static_cast<double>(x[index(i)]) * inverse;
      out.dx[index(i)] = (dn[at(i)] - n * along / count) * inverse;
    }
  }
  return out;
}

template <class T>
constexpr DType dtype_of() {
  return sizeof(T) == 2 ? DType::kBFloat16 : DType::kFloat32;
}

template <class T, class Affine>
void run_case(const Case& c, Isa isa) {
  const std::string name = "B" + std::to_string(c.batch) + " C" + std::to_string(c.channels) +
                           " P" + std::to_string(c.positions) + " activation " +
                           std::to_string(static_cast<int>(c.activation)) +
                           (c.channels_last ? " channels last" : "") + (c.bias ? "" : " no bias") +
                           (c.residual ? " residual" : "") +
                           (sizeof(T) == 2 ? " bfloat16" : " float32");
  const std::int64_t count = c.batch * c.channels * c.positions;
  const std::vector<T> x = normal<T>(count, 1, 0.5f), dy = normal<T>(count, 2);
  const std::vector<Affine> weight = normal<Affine>(c.channels, 3, 1.0f);
  const std::vector<Affine> bias = normal<Affine>(c.channels, 4);
  const std::vector<T> residual = normal<T>(count, 5);
  const Exact want =
      exact(c, widened(x), widened(dy), widened(weight), widened(bias), widened(residual));

  Guarded<T> y(count), dx(count);
  Guarded<float> dweight(c.channels), dbias(c.channels);
  RmsNorm3dBackwardParams params{};
  RmsNorm3dParams& forward = params.forward;
  forward.x = x.data();
  forward.y = y.data();
  forward.weight = weight.data();
  forward.bias = c.bias ? bias.data() : nullptr;
  forward.residual = c.residual ? residual.data() : nullptr;
  forward.batch = c.batch;
  forward.channels = c.channels;
  forward.positions = c.positions;
  forward.eps = kEps;
  forward.activation = c.activation;
  forward.channels_last = c.channels_last;
  forward.dtype = dtype_of<T>();
  forward.affine_dtype = dtype_of<Affine>();
  params.grad = dy.data();
  params.dx = dx.data();
  params.dweight = dweight.data();
  params.dbias = c.bias ? dbias.data() : nullptr;

  const auto run_forward = [&] { osf::rms_norm3d_cpu(forward, isa); };
  run_forward();
  // What a residual cancels keeps its error: terms of magnitude 2 to 4.
  osf::testing::expect_close<T>(y.values(), want.y, 8.0, c.residual ? 4.0 : 1.0, name);
  osf::testing::expect_same_again(run_forward, y, name);

  const auto run_backward = [&] { osf::rms_norm3d_backward_cpu(params, isa); };
  run_backward();
  // The sums run over all positions: their terms are of magnitude 1 to 2.
  const double terms = 2.0 * std::sqrt(static_cast<double>(c.batch * c.positions) + 1.0);
  osf::testing::expect_close<T>(dx.values(), want.dx, 16.0, 1.0, name + " dx");
  osf::testing::expect_close<float>(dweight.values(), want.dweight, 16.0, terms, name + " dweight");
  if (c.bias) {
    osf::testing::expect_close<float>(dbias.values(), want.dbias, 16.0, terms, name + " dbias");
  }
  osf::testing::expect_same_again(run_backward, dx, name + " dx");
  osf::testing::expect_same_again(run_backward, dweight, name + " dweight");
}

void refusals(Isa isa) {
  std::vector<float> data(8, 1.0f);
  RmsNorm3dParams params{};
  params.x = params.weight = params.bias = data.data();
  params.y = data.data();
  params.batch = 1;
  params.positions = 2;
  osf::testing::expect_refused([&] { osf::rms_norm3d_cpu(params, isa); }, "no channel");
  params.channels = 4;
  params.affine_dtype = DType::kFloat16;
  osf::testing::expect_refused([&] { osf::rms_norm3d_cpu(params, isa); }, "float16");
  params.affine_dtype = DType::kFloat32;
  params.activation = static_cast<Activation>(7);
  osf::testing::expect_refused([&] { osf::rms_norm3d_cpu(params, isa); }, "activation 7");
}

void all(Isa isa) {
  const Activation activations[] = {Activation::kNone, Activation::kSilu, Activation::kRelu};
  for (const Activation activation : activations) {
    for (const bool last : {false, true}) {
      const Case cases[] = {
          {1, 1, 1, activation, last, true},     {2, 5, 7, activation, last, true},
          {1, 67, 130, activation, last, true},  {2, 128, 600, activation, last, false},
          {1, 1024, 65, activation, last, true}, {0, 3, 8, activation, last, true},
          {2, 3, 0, activation, last, true},     {2, 37, 70, activation, last, true, true},
      };
      for (const Case& c : cases) {
        run_case<float, float>(c, isa);
        run_case<BFloat16, BFloat16>(c, isa);
        run_case<BFloat16, float>(c, isa);
      }
    }
  }
  refusals(isa);
}

}  // namespace

int main(int argc, char** argv) { return osf::testing::main(argc, argv, all); }
