// The CUDA kernels of group_norm_silu_conv3d in an emulation (cuda_emulation.h) against the formula
// in double: tiles cut off by the frame, the causal start, several tiles, samples and channel
// pieces a block, with and without bias and residual; copies early and late.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/cuda_emulation.h"
//
#include "cuda/group_norm_silu_conv3d-inl.cuh"
#include "tests/testing.h"

namespace {

namespace emulation = osf::cuda::emulation;
namespace halo = osf::cuda::halo_conv3d;
using osf::BFloat16;
using osf::testing::at;
using osf::testing::expect;
using osf::testing::Guarded;
using osf::testing::normal;

struct Case {
  std::int64_t batch, frames, height, width, channels, outputs;
  bool bias, residual;
  unsigned blocks;
};

struct Inputs {
  std::vector<BFloat16> x, weight, residual;
  std::vector<float> scale, shift, bias;

  explicit Inputs(const Case& c) {
    const std::int64_t pixels = c.batch * c.frames * c.height * c.width;
    const float deviation = 1.0f / std::sqrt(27.0f * static_cast<float>(c.channels));
    x = normal<BFloat16>(pixels * c.channels, 1, 0.5f);
    weight = normal<BFloat16>(c.outputs * c.channels * 27, 2, 0.0f, deviation);
    residual = normal<BFloat16>(pixels * c.outputs, 3);
    scale = normal<float>(c.batch * c.channels, 4, 1.0f, 0.2f);
    shift = normal<float>(c.batch * c.channels, 5);
    bias = normal<float>(c.outputs, 6);
  }
};

// [o, c, 27] in the order that group_norm_silu_conv3d.h states.
std::vector<BFloat16> packed(const Case& c, const std::vector<BFloat16>& weight) {
  std::vector<BFloat16> out(weight.size());
  for (std::int64_t o = 0; o < c.outputs; ++o) {
    for (std::int64_t i = 0; i < c.channels; ++i) {
      for (std::int64_t tap = 0; tap < 27; ++tap) {
        std::int64_t place = o / 128;
        place = place * (c.channels / 128) + i / 128;
        place = place * 27 + tap;
        place = place * 2 + i % 128 / 64;
        place = place * 128 + o % 128;
        place = place * 8 + ((i % 64 / 8) ^ (o % 8));
        out[at(place * 8 + i % 8)] = weight[at((o * c.channels + i) * 27 + tap)];
      }
    }
  }
  return out;
}

std::vector<double> activated(const Case& c, const Inputs& in) {
  std::vector<double> out(in.x.size());
  const std::int64_t pixels = c.frames * c.height * c.width;
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(out.size()); ++i) {
    const std::size_t channel = at(i / (pixels * c.channels) * c.channels + i % c.channels);
    const double h =
        static_cast<double>(to_float(in.x[at(i)])) * static_cast<double>(in.scale[channel]) +
        static_cast<double>(in.shift[channel]);
    const double a = h / (1.0 + std::exp(-h));
    out[at(i)] = static_cast<double>(to_float(osf::to_bfloat16(static_cast<float>(a))));
  }
  return out;
}

// What the pixel (frame, y, x) of a sample, an index of pixels, is to have as output o.
double pixel(const Case& c, const Inputs& in, const std::vector<double>& a, std::int64_t sample,
             std::array<std::int64_t, 3> where, std::int64_t o) {
  double sum = 0.0;
  for (std::int64_t tap = 0; tap < 27; ++tap) {
    const std::int64_t frame = std::max<std::int64_t>(where[0] + tap / 9 - 2, 0);
    const std::int64_t y = std::clamp<std::int64_t>(where[1] + tap / 3 % 3 - 1, 0, c.height - 1);
    const std::int64_t x = std::clamp<std::int64_t>(where[2] + tap % 3 - 1, 0, c.width - 1);
    const std::int64_t start =
        (((sample * c.frames + frame) * c.height + y) * c.width + x) * c.channels;
    for (std::int64_t i = 0; i < c.channels; ++i) {
      sum += a[at(start + i)] *
             static_cast<double>(to_float(in.weight[at((o * c.channels + i) * 27 + tap)]));
    }
  }
  return sum;
}

std::vector<double> convolved(const Case& c, const Inputs& in) {
  const std::vector<double> a = activated(c, in);
  std::vector<double> out(in.residual.size());
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(out.size()); ++i) {
    const std::int64_t o = i % c.outputs, place = i / c.outputs;
    const std::int64_t x = place % c.width, y = place / c.width % c.height;
    const std::int64_t frame = place / (c.width * c.height) % c.frames;
    const std::int64_t sample = place / (c.width * c.height * c.frames);
    double value = pixel(c, in, a, sample, {frame, y, x}, o);
    if (c.bias) value += static_cast<double>(in.bias[at(o)]);
    if (c.residual) value += static_cast<double>(to_float(in.residual[at(i)]));
    out[at(i)] = value;
  }
  return out;
}

halo::Problem problem_of(const Case& c, const Inputs& in, const std::vector<BFloat16>& weight,
                         BFloat16* y, std::int64_t rows) {
  const auto words = [](const BFloat16* p) { return reinterpret_cast<const std::uint16_t*>(p); };
  const auto up = [](std::int64_t n, std::int64_t by) {
    return static_cast<unsigned>((n + by - 1) / by);
  };
  halo::Problem p{};
  p.x = words(in.x.data());
  p.scale = in.scale.data();
  p.shift = in.shift.data();
  p.weight = words(weight.data());
  p.bias = c.bias ? in.bias.data() : nullptr;
  p.residual = c.residual ? words(in.residual.data()) : nullptr;
  p.y = reinterpret_cast<std::uint16_t*>(y);
  p.channels = static_cast<int>(c.channels);
  p.outputs = static_cast<int>(c.outputs);
  p.frames = static_cast<int>(c.frames);
  p.height = static_cast<int>(c.height);
  p.width = static_cast<int>(c.width);
  p.tiles_of_outputs = up(c.outputs, halo::kTileOutputs);
  p.tiles_across = up(c.width, halo::kTileWidth);
  p.tiles_down = up(c.height, rows);
  p.tiles = static_cast<unsigned>(c.batch * c.frames) * p.tiles_of_outputs * p.tiles_across *
            p.tiles_down;
  return p;
}

void run_case(const Case& c, bool wgmma, const emulation::Schedule& schedule) {
  const std::string name = std::to_string(c.batch) + "x" + std::to_string(c.frames) + "x" +
                           std::to_string(c.height) + "x" + std::to_string(c.width) + " " +
                           std::to_string(c.channels) + "->" + std::to_string(c.outputs) +
                           (wgmma ? " wgmma" : " mma") +
                           (schedule.late_copies ? ", late copies" : "") +
                           (schedule.late_products ? ", late products" : "");
  const Inputs in(c);
  const std::vector<BFloat16> weight = packed(c, in.weight);
  Guarded<BFloat16> y(static_cast<std::int64_t>(in.residual.size()));
  const halo::Problem p = problem_of(c, in, weight, y.data(), wgmma ? 16 : 8);
  osf::cuda::gridDim.x = std::min(c.blocks, p.tiles);
  for (unsigned i = 0; i < osf::cuda::gridDim.x; ++i) {
    osf::cuda::blockIdx.x = i;
    const unsigned threads = wgmma ? halo::kThreadsWgmma : halo::kThreads;
    emulation::Block block(
        threads, wgmma ? halo::Layout<16>::kSharedBytes : halo::Layout<8>::kSharedBytes, schedule);
    try {
      block.run(
          [&] { wgmma ? halo::run_wgmma(p, block.shared()) : halo::run_mma(p, block.shared()); });
    } catch (const std::runtime_error& error) {
      expect(false, name + ": " + error.what());
    }
  }
  // Beside the output's rounding: an activated value here and there is rounded the other way.
  osf::testing::expect_close<BFloat16>(y.values(), convolved(c, in), 4096.0, 1.0, name);
  expect(y.intact(), name + ": wrote out of bounds");
  std::printf("%s: %u tiles\n", name.c_str(), p.tiles);
}

// The activation keeps more digits than bf16 has, in its tail too.
void activation() {
  double worst = 0.0;
  for (float h = -80.0f; h < 80.0f; h += 0.0625f) {
    const double wide = static_cast<double>(h), want = wide / (1.0 + std::exp(-wide));
    const double got = static_cast<double>(halo::silu(h));
    if (h != 0.0f) worst = std::max(worst, std::abs(got - want) / std::abs(want));
  }
  expect(worst < 1e-5, "silu: relative error " + std::to_string(worst));
}

}  // namespace

int main() {
  activation();
  const emulation::Schedule late_copies = {/*backwards=*/true, true, false};
  const emulation::Schedule late_products = {/*backwards=*/false, false, true};
  const emulation::Schedule both_late = {/*backwards=*/false, true, true};
  const Case down = {1, 2, 17, 3, 128, 128, true, true, 1};
  const Case across = {1, 1, 2, 17, 128, 256, false, true, 3};
  const Case pieces = {2, 1, 1, 1, 256, 128, true, false, 1};
  run_case(down, true, late_copies);
  run_case(across, true, late_products);
  run_case(pieces, true, both_late);
  run_case({1, 2, 9, 3, 128, 128, true, true, 1}, false, late_copies);
  run_case(pieces, false, late_products);
  std::printf("%s\n", osf::testing::failures == 0 ? "all passed" : "failed");
  return osf::testing::failures == 0 ? 0 : 1;
}
