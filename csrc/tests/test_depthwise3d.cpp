// Depthwise convolutions and the gradient of their taps on one instruction set (the only argument)
// against the sums in double.

#include "cpu/depthwise3d.h"

#include <string>
#include <vector>

#include "tests/testing.h"

namespace {

using osf::Isa;
using osf::testing::at;
using osf::testing::Guarded;
using osf::testing::normal;

struct Case {
  std::int64_t batch, channels;
  std::int64_t size[3], kernel[3];
};

const Case kCases[] = {
    {2, 5, {3, 4, 7}, {3, 3, 3}},   {1, 64, {2, 3, 19}, {3, 3, 3}},  {1, 97, {4, 5, 2}, {3, 3, 3}},
    {1, 16, {1, 1, 1}, {3, 3, 3}},  {2, 33, {6, 7, 9}, {5, 5, 5}},   {1, 80, {2, 3, 1}, {5, 5, 5}},
    {1, 16, {1, 2, 3}, {5, 5, 5}},  {1, 20, {3, 4, 9}, {1, 3, 7}},   {1, 18, {3, 9, 4}, {3, 7, 1}},
    {1, 9, {40, 1, 12}, {3, 1, 3}}, {1, 130, {3, 33, 8}, {3, 3, 3}},
};

std::string name_of(const Case& c) {
  std::string name = std::to_string(c.channels) + " channels of";
  for (const std::int64_t size : c.size) name += " " + std::to_string(size);
  return name + ", " + std::to_string(c.kernel[0] * c.kernel[1] * c.kernel[2]) + " taps";
}

// Calls take(position of y, position of x, tap) for every product of a channel.
template <class Take>
void for_products(const Case& c, const Take& take) {
  std::int64_t to = 0;
  for (std::int64_t b = 0; b < c.batch; ++b)
    for (std::int64_t t = 0; t < c.size[0]; ++t)
      for (std::int64_t h = 0; h < c.size[1]; ++h)
        for (std::int64_t w = 0; w < c.size[2]; ++w, ++to)
          for (std::int64_t k = 0; k < c.kernel[0] * c.kernel[1] * c.kernel[2]; ++k) {
            const std::int64_t from[3] = {t + k / (c.kernel[1] * c.kernel[2]) - c.kernel[0] / 2,
                                          h + k / c.kernel[2] % c.kernel[1] - c.kernel[1] / 2,
                                          w + k % c.kernel[2] - c.kernel[2] / 2};
            bool inside = true;
            for (int axis = 0; axis < 3; ++axis) {
              inside = inside && from[axis] >= 0 && from[axis] < c.size[axis];
            }
            if (!inside) continue;
            take(to, ((b * c.size[0] + from[0]) * c.size[1] + from[1]) * c.size[2] + from[2], k);
          }
}

void run_case(const Case& c, bool with_bias, Isa isa) {
  const std::int64_t positions = c.batch * c.size[0] * c.size[1] * c.size[2];
  const std::int64_t taps = c.kernel[0] * c.kernel[1] * c.kernel[2];
  const auto x = normal<float>(positions * c.channels, 1),
             dy = normal<float>(positions * c.channels, 2);
  const auto weight = normal<float>(taps * c.channels, 3), bias = normal<float>(c.channels, 4);
  std::vector<double> y(x.size()), dtaps(weight.size());
  const auto product = [](float a, float b) {
    return static_cast<double>(a) * static_cast<double>(b);
  };
  for (std::int64_t i = 0; i < positions * c.channels; ++i) {
    y[at(i)] = with_bias ? static_cast<double>(bias[at(i % c.channels)]) : 0.0;
  }
  for_products(c, [&](std::int64_t to, std::int64_t from, std::int64_t k) {
    for (std::int64_t i = 0; i < c.channels; ++i) {
      y[at(to * c.channels + i)] +=
          product(x[at(from * c.channels + i)], weight[at(k * c.channels + i)]);
      dtaps[at(k * c.channels + i)] +=
          product(x[at(from * c.channels + i)], dy[at(to * c.channels + i)]);
    }
  });

  const auto set_input = [&](osf::Depthwise3dInput& p) {
    p.x = x.data();
    p.batch = c.batch;
    p.channels = c.channels;
    std::copy_n(c.size, 3, p.size);
    std::copy_n(c.kernel, 3, p.kernel);
  };
  Guarded<float> out(positions * c.channels), gradient(taps * c.channels);
  osf::Depthwise3dParams p{};
  set_input(p);
  p.taps = weight.data();
  p.bias = with_bias ? bias.data() : nullptr;
  p.y = out.data();
  const auto convolve = [&] { osf::depthwise3d_cpu(p, isa); };
  convolve();
  // Rounding errors are those of partial sums, which are as large as the root of their number.
  const double of_taps = std::sqrt(static_cast<double>(taps));
  osf::testing::expect_close<float>(out.values(), y, 20.0, of_taps, name_of(c));
  osf::testing::expect_same_again(convolve, out, name_of(c));

  osf::Depthwise3dTapsGradientParams g{};
  set_input(g);
  g.dy = dy.data();
  g.dtaps = gradient.data();
  const auto differentiate = [&] { osf::depthwise3d_taps_gradient_cpu(g, isa); };
  differentiate();
  const double of_positions = std::sqrt(static_cast<double>(positions));
  osf::testing::expect_close<float>(gradient.values(), dtaps, 30.0, of_positions,
                                    "the taps of " + name_of(c));
  osf::testing::expect_same_again(differentiate, gradient, "the taps of " + name_of(c));
}

void test(Isa isa) {
  for (const Case& c : kCases) {
    for (const bool with_bias : {false, true}) run_case(c, with_bias, isa);
  }
  osf::Depthwise3dParams p{};
  p.channels = 4;
  std::fill_n(p.kernel, 3, 2);
  osf::testing::expect_refused([&] { osf::depthwise3d_cpu(p, isa); }, "an even kernel");
  osf::Depthwise3dTapsGradientParams g{};
  std::fill_n(g.kernel, 3, 3);
  osf::testing::expect_refused([&] { osf::depthwise3d_taps_gradient_cpu(g, isa); },
                               "a video without channels");
}

}  // namespace

int main(int argc, char** argv) { return osf::testing::main(argc, argv, test); }
