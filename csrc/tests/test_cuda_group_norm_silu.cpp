// The CUDA kernels of group_norm_silu in an emulation (cuda_emulation.h) against the formula in
// double: both layouts, vectors and single values, several chunks, the border, the affine form.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/cuda_emulation.h"
//
#include "cuda/common/reduce.cuh"
#include "cuda/group_norm_silu-inl.cuh"
#include "tests/testing.h"

namespace {

namespace kernel = osf::cuda::group_norm_silu;
using osf::BFloat16;
using osf::to_float;
using osf::testing::at;
using osf::testing::expect;
using osf::testing::Guarded;
using osf::testing::normal;

struct Case {
  std::int64_t batch, channels, groups, frames, height, width;
  bool channels_last, border;

  std::int64_t spatial() const { return frames * height * width; }
  std::int64_t places() const { return border ? frames * (height + 2) * (width + 2) : spatial(); }
  // Of channel c at position s of sample b, in x.
  std::int64_t index(std::int64_t b, std::int64_t c, std::int64_t s) const {
    return channels_last ? (b * spatial() + s) * channels + c : (b * channels + c) * spatial() + s;
  }
  // The position in x of a place of y.
  std::int64_t source(std::int64_t place) const {
    if (!border) return place;
    const std::int64_t w = place % (width + 2) - 1, line = place / (width + 2);
    const std::int64_t h = line % (height + 2) - 1, frame = line / (height + 2);
    return (frame * height + std::clamp<std::int64_t>(h, 0, height - 1)) * width +
           std::clamp<std::int64_t>(w, 0, width - 1);
  }
};

void launch(std::int64_t blocks, const std::string& name, const std::function<void()>& body) {
  for (std::int64_t i = 0; i < blocks; ++i) {
    osf::cuda::blockIdx.x = static_cast<unsigned>(i);
    try {
      osf::cuda::emulation::Block(kernel::kThreads, 0, {}).run(body);
    } catch (const std::runtime_error& error) {
      expect(false, name + ": " + error.what());
    }
  }
}

// The three launches of group_norm_silu.cu, cut up in the same way.
template <class T, int kVec>
void run_kernels(const Case& c, kernel::Problem p, const std::string& name) {
  const std::int64_t width = c.channels / c.groups;
  const auto up = [](std::int64_t n, std::int64_t by) { return (n + by - 1) / by; };
  std::int64_t moments = c.batch, outputs = c.batch;
  if (c.channels_last) {
    p.block = kernel::kThreads / (c.channels / kVec) * (kernel::kHeld / kVec);
    moments *= p.chunks = up(c.spatial(), p.block);
    outputs *= p.pieces = up(c.places(), p.block);
  } else {
    p.block = kernel::kThreads * kernel::kHeld;
    moments *= c.groups * (p.chunks = up(p.group_size, p.block));
    outputs *= c.channels * (p.pieces = up(c.spatial(), p.block));
  }
  std::vector<kernel::Moments> partial(at(c.batch * c.groups * p.chunks));
  p.partial = partial.data();
  launch(moments, name, [&] {
    c.channels_last ? kernel::moments_channels_last<T, kVec>(p)
                    : kernel::moments_contiguous<T, kVec>(p);
  });
  launch(c.batch * c.groups, name,
         [&] { kernel::combine_moments<T>(p, c.channels_last ? p.block * width : p.block); });
  launch(outputs, name, [&] {
    c.border          ? kernel::normalise_bordered<T, kVec>(p)
    : c.channels_last ? kernel::normalise_channels_last<T, kVec>(p)
                      : kernel::normalise_contiguous<T, kVec>(p);
  });
}

template <class T>
struct Tensors {
  std::vector<T> x, weight, bias;
  Guarded<T> y;
  std::vector<float> mean, rstd, affine;

  explicit Tensors(const Case& c)
      : x(normal<T>(c.batch * c.channels * c.spatial(), 1, 3.0f)),
        weight(normal<T>(c.channels, 2, 1.0f, 0.3f)),
        bias(normal<T>(c.channels, 3)),
        y(c.batch * c.channels * c.places()),
        mean(at(c.batch * c.groups)),
        rstd(mean),
        affine(at(2 * c.batch * c.channels)) {}

  kernel::Problem problem(const Case& c) {
    kernel::Problem p{};
    p.x = x.data();
    p.y = y.data();
    p.weight = weight.data();
    p.bias = bias.data();
    p.mean = mean.data();
    p.rstd = rstd.data();
    p.affine = affine.data();
    p.batch = c.batch;
    p.channels = c.channels;
    p.spatial = c.spatial();
    p.groups = c.groups;
    p.height = c.border ? c.height : 0;
    p.width = c.border ? c.width : 0;
    p.group_size = c.channels / c.groups * c.spatial();
    p.eps = 1e-6;
    p.silu = true;
    p.affine_float = sizeof(T) == 4;
    return p;
  }
};

// What y and the affine form are to be.
template <class T>
void expect_right(const Case& c, Tensors<T>& t, const std::string& name) {
  std::vector<double> want(at(c.batch * c.channels * c.places())), affine(t.affine.size());
  const std::int64_t width = c.channels / c.groups;
  for (std::int64_t b = 0; b < c.batch; ++b) {
    for (std::int64_t ch = 0; ch < c.channels; ++ch) {
      const auto value = [&](std::int64_t channel, std::int64_t s) {
        return static_cast<double>(to_float(t.x[at(c.index(b, channel, s))]));
      };
      double mean = 0.0, square = 0.0;
      const double count = static_cast<double>(width * c.spatial());
      const std::int64_t first = ch / width * width;
      for (std::int64_t i = 0; i < width * c.spatial(); ++i) {
        mean += value(first + i % width, i / width) / count;
      }
      for (std::int64_t i = 0; i < width * c.spatial(); ++i) {
        square += std::pow(value(first + i % width, i / width) - mean, 2) / count;
      }
      const double scale =
          static_cast<double>(to_float(t.weight[at(ch)])) / std::sqrt(square + 1e-6);
      const double shift = static_cast<double>(to_float(t.bias[at(ch)])) - mean * scale;
      affine[at(b * c.channels + ch)] = scale;
      affine[at((c.batch + b) * c.channels + ch)] = shift;
      for (std::int64_t place = 0; place < c.places(); ++place) {
        const double h = value(ch, c.source(place)) * scale + shift;
        const std::int64_t to = c.channels_last ? (b * c.places() + place) * c.channels + ch
                                                : (b * c.channels + ch) * c.places() + place;
        want[at(to)] = h / (1.0 + std::exp(-h));
      }
    }
  }
  osf::testing::expect_close<T>(t.y.values(), want, 64.0, 1.0, name);
  osf::testing::expect_close<float>(t.affine, affine, 64.0, 1.0, name + " affine");
  expect(t.y.intact(), name + ": wrote out of bounds");
}

template <class T, int kVec>
void run_case(const Case& c) {
  const std::string name =
      std::to_string(c.batch) + "x" + std::to_string(c.channels) + "x" + std::to_string(c.frames) +
      "x" + std::to_string(c.height) + "x" + std::to_string(c.width) +
      (c.border          ? " border"
       : c.channels_last ? " channels last"
                         : " contiguous") +
      ", vectors of " + std::to_string(kVec) + (sizeof(T) == 2 ? " bfloat16" : " float32");
  Tensors<T> tensors(c);
  run_kernels<T, kVec>(c, tensors.problem(c), name);
  expect_right(c, tensors, name);
}

}  // namespace

int main() {
  run_case<BFloat16, 8>({1, 32, 2, 3, 7, 9, true, true});  // more threads on rows than a line
  run_case<BFloat16, 8>({2, 128, 32, 2, 5, 9, true, true});
  run_case<float, 1>({1, 6, 3, 2, 1, 5, true, true});
  run_case<float, 4>({2, 48, 4, 2, 3, 5, true, false});
  run_case<BFloat16, 1>({1, 6, 2, 3, 5, 7, true, false});
  run_case<float, 4>({1, 4, 1, 3, 32, 24, false, false});  // two chunks of a group
  run_case<BFloat16, 1>({2, 6, 3, 1, 3, 5, false, false});
  std::printf("%s\n", osf::testing::failures == 0 ? "all passed" : "failed");
  return osf::testing::failures == 0 ? 0 : 1;
}
