// layer_norm_modulate on one instruction set (the only argument) against the formula in double.

#include "cpu/layer_norm_modulate.h"

#include <cmath>
#include <string>
#include <vector>

#include "tests/testing.h"

namespace {

using osf::BFloat16;
using osf::DType;
using osf::Isa;
using osf::LayerNormModulateParams;
using osf::testing::at;
using osf::testing::Guarded;
using osf::testing::normal;
using osf::testing::widened;

struct Case {
  std::int64_t batch, length, width;
  std::int64_t gap;  // elements between tokens of x
  float mean;
};

// The definition, in double, on the values as the kernel sees them.
std::vector<double> exact(const Case& c, const std::vector<float>& x,
                          const std::vector<float>& shift, const std::vector<float>& scale) {
  std::vector<double> y;
  for (std::int64_t token = 0; token < c.batch * c.length; ++token) {
    const float* const row = x.data() + token * (c.width + c.gap);
    const std::int64_t sample = token / c.length;
    double mean = 0.0, square = 0.0;
    for (std::int64_t i = 0; i < c.width; ++i) mean += static_cast<double>(row[i]);
    mean /= static_cast<double>(c.width);
    for (std::int64_t i = 0; i < c.width; ++i) {
      square += std::pow(static_cast<double>(row[i]) - mean, 2.0);
    }
    const double inverse = 1.0 / std::sqrt(square / static_cast<double>(c.width) + 1e-6);
    for (std::int64_t i = 0; i < c.width; ++i) {
      const std::size_t m = at(sample * c.width + i);
      y.push_back((static_cast<double>(row[i]) - mean) * inverse *
                      (1.0 + static_cast<double>(scale[m])) +
                  static_cast<double>(shift[m]));
    }
  }
  return y;
}

template <class T, class Modulation>
void run_case(const Case& c, Isa isa) {
  const std::string name = "B" + std::to_string(c.batch) + " L" + std::to_string(c.length) + " M" +
                           std::to_string(c.width) + " gap " + std::to_string(c.gap) + " mean " +
                           std::to_string(c.mean) + (sizeof(T) == 2 ? " bfloat16" : " float32");
  const std::int64_t step = c.width + c.gap;
  const std::vector<T> x = normal<T>(c.batch * c.length * step, 1, c.mean);
  const std::vector<Modulation> shift = normal<Modulation>(c.batch * c.width, 2);
  const std::vector<Modulation> scale = normal<Modulation>(c.batch * c.width, 3);
  Guarded<T> y(c.batch * c.length * c.width);
  LayerNormModulateParams params{};
  params.x = x.data();
  params.y = y.data();
  params.shift = shift.data();
  params.scale = scale.data();
  params.batch = c.batch;
  params.length = c.length;
  params.width = c.width;
  params.sample_stride = c.length * step;
  params.token_stride = step;
  params.eps = 1e-6;
  params.dtype = sizeof(T) == 2 ? DType::kBFloat16 : DType::kFloat32;
  params.modulation_dtype = sizeof(Modulation) == 2 ? DType::kBFloat16 : DType::kFloat32;
  const auto call = [&] { osf::layer_norm_modulate_cpu(params, isa); };
  call();
  // The mean's share of the input cancels before any product.
  osf::testing::expect_close<T>(y.values(), exact(c, widened(x), widened(shift), widened(scale)),
                                8.0, 1.0, name);
  osf::testing::expect_same_again(call, y, name);
}

void refusals(Isa isa) {
  std::vector<float> data(8, 1.0f);
  LayerNormModulateParams params{
      data.data(), data.data(), data.data(),     data.data(),    1, 2, 0, 4,
      4,           1e-6,        DType::kFloat32, DType::kFloat32};
  osf::testing::expect_refused([&] { osf::layer_norm_modulate_cpu(params, isa); }, "no channel");
  params.width = 4;
  params.modulation_dtype = DType::kFloat16;
  osf::testing::expect_refused([&] { osf::layer_norm_modulate_cpu(params, isa); }, "float16");
}

void all(Isa isa) {
  const Case cases[] = {
      {1, 1, 1, 0, 0.0f},   {2, 3, 5, 0, 0.0f},     {3, 7, 48, 16, 0.0f}, {1, 5, 67, 1, 1000.0f},
      {2, 4, 256, 0, 3.0f}, {1, 9, 3072, 0, -2.0f}, {0, 3, 8, 0, 0.0f},   {2, 0, 8, 0, 0.0f},
  };
  for (const Case& c : cases) {
    run_case<float, float>(c, isa);
    run_case<BFloat16, BFloat16>(c, isa);
    run_case<BFloat16, float>(c, isa);
  }
  refusals(isa);
}

}  // namespace

int main(int argc, char** argv) { return osf::testing::main(argc, argv, all); }
