// The CUDA kernels that gather and spread pixels in an emulation (cuda_emulation.h) against the
// definition in double: blocks of four and eight pixels, one and two small channels a large one.

#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/cuda_emulation.h"
//
#include "cuda/pixel_shuffle-inl.cuh"
#include "tests/testing.h"

namespace {

namespace emulation = osf::cuda::emulation;
namespace kernel = osf::cuda::pixel_shuffle;
using osf::BFloat16;
using osf::to_float;
using osf::testing::at;
using osf::testing::expect;
using osf::testing::Guarded;
using osf::testing::normal;

struct Case {
  std::int64_t batch, channels, frames, height, width;  // of the large video; the small one's size
  std::int64_t times, rows, columns;
};

template <class T>
osf::cuda::PixelShuffleParams params_of(const Case& c, std::int64_t small_channels,
                                        const std::vector<T>& source, const std::vector<T>& added,
                                        bool with_added, Guarded<T>& result) {
  osf::cuda::PixelShuffleParams p{};
  p.source = source.data();
  p.added = with_added ? added.data() : nullptr;
  p.result = result.data();
  p.batch = c.batch;
  p.large_channels = c.channels;
  p.small_channels = small_channels;
  p.frames = c.frames;
  p.height = c.height;
  p.width = c.width;
  p.scale[0] = c.times;
  p.scale[1] = c.rows;
  p.scale[2] = c.columns;
  p.factor = 0.5;
  p.channels_last = true;
  return p;
}

template <class Body>
void run_blocks(const kernel::Problem& problem, const std::string& name, const Body& body) {
  const unsigned blocks = (problem.pieces + kernel::kThreads - 1) / kernel::kThreads;
  for (unsigned i = 0; i < blocks; ++i) {
    osf::cuda::blockIdx.x = i;
    try {
      emulation::Block(kernel::kThreads, 0, {}).run([&] { body(problem); });
    } catch (const std::runtime_error& error) {
      expect(false, name + ": " + error.what());
    }
  }
}

template <class T, int kPixels, int kRuns>
void run_case(const Case& c, bool with_added) {
  constexpr int kVec = osf::cuda::kVecWidth<T>;
  const std::string name = std::to_string(c.channels) + " channels, blocks of " +
                           std::to_string(kPixels) + ", runs " + std::to_string(kRuns) +
                           (with_added ? ", added" : "") +
                           (sizeof(T) == 2 ? ", bfloat16" : ", float32");
  const std::int64_t small_channels = kRuns * c.channels;
  const std::int64_t positions = c.batch * c.frames * c.height * c.width;
  // Both start as what is added.
  const std::vector<T> large = normal<T>(positions * kPixels * c.channels, 1);
  const std::vector<T> small = normal<T>(positions * small_channels, 2);
  std::vector<double> sums(small.size()), copies(large.size());
  for (std::size_t i = 0; i < small.size() && with_added; ++i) sums[i] = to_float(small[i]);
  for (std::size_t i = 0; i < large.size() && with_added; ++i) copies[i] = to_float(large[i]);
  const std::int64_t frames = c.frames * c.times, height = c.height * c.rows;
  const std::int64_t width = c.width * c.columns;
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(large.size()); ++i) {
    const std::int64_t d = i % c.channels, pixel = i / c.channels;
    const std::int64_t x = pixel % width, y = pixel / width % height;
    const std::int64_t t = pixel / width / height % frames, b = pixel / width / height / frames;
    const std::int64_t u =
        ((d * c.times + t % c.times) * c.rows + y % c.rows) * c.columns + x % c.columns;
    const std::int64_t row = (b * c.frames + t / c.times) * c.height + y / c.rows;
    const std::int64_t s = (row * c.width + x / c.columns) * small_channels + u / (kPixels / kRuns);
    sums[at(s)] += 0.5 * static_cast<double>(to_float(large[at(i)]));
    copies[at(i)] += 0.5 * static_cast<double>(to_float(small[at(s)]));
  }

  osf::cuda::PixelShuffleConfig config{};
  config.vec = kVec;
  config.pixels = kPixels;
  config.runs = kRuns;
  config.pieces = positions * c.channels / kVec;
  Guarded<T> gathered(positions * small_channels), dealt(positions * kPixels * c.channels);
  const auto to_small = params_of(c, small_channels, large, small, with_added, gathered);
  run_blocks(kernel::problem_of(to_small, config), name + ", gathered",
             [](const auto& p) { kernel::gather<T, kVec, kPixels, kRuns>(p); });
  osf::testing::expect_close<T>(gathered.values(), sums, 32.0, 1.0, name + ", gathered");
  const auto to_large = params_of(c, small_channels, small, large, with_added, dealt);
  run_blocks(kernel::problem_of(to_large, config), name + ", spread",
             [](const auto& p) { kernel::spread<T, kVec, kPixels, kRuns>(p); });
  osf::testing::expect_close<T>(dealt.values(), copies, 2.0, 1.0, name + ", spread");
  expect(gathered.intact() && dealt.intact(), name + ": wrote out of bounds");
}

}  // namespace

int main() {
  for (const bool added : {false, true}) {
    run_case<BFloat16, 4, 2>({2, 16, 2, 3, 5, 1, 2, 2}, added);
    run_case<BFloat16, 4, 1>({1, 136, 1, 2, 11, 1, 2, 2}, added);
    run_case<BFloat16, 8, 2>({1, 8, 2, 3, 7, 2, 2, 2}, added);
    run_case<float, 8, 1>({2, 12, 1, 2, 3, 2, 2, 2}, added);
    run_case<float, 4, 2>({1, 4, 3, 2, 5, 2, 1, 2}, added);
    run_case<float, 8, 2>({1, 20, 1, 3, 2, 2, 1, 4}, added);
  }
  std::printf("%s\n", osf::testing::failures == 0 ? "all passed" : "failed");
  return osf::testing::failures == 0 ? 0 : 1;
}
