// glu_mb_conv's slabs on one instruction set (the only argument) against the formulas in double.

#include "cpu/glu_mb_conv.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "tests/testing.h"

namespace {

using osf::BFloat16;
using osf::DType;
using osf::GluMbConvParams;
using osf::Isa;
using osf::testing::at;
using osf::testing::Guarded;
using osf::testing::normal;
using osf::testing::widened;

// A clip of one strip, in slabs of `slab` frames; the chunk is `channels` from `first` of `width`.
struct Case {
  std::int64_t frames, rows, columns, slab;
  std::int64_t width, first, channels;
};

double silu(double x) { return x / (1.0 + std::exp(-x)); }

struct Weights {
  std::vector<float> depth, inverted_bias, depth_bias;  // [2 M, 27], [2 M], [2 M]

  explicit Weights(std::int64_t width)
      : depth(normal<float>(2 * width * 27, 2, 0.0f, 0.2f)),
        inverted_bias(normal<float>(2 * width, 3)),
        depth_bias(normal<float>(2 * width, 4)) {}

  // [2, panels, 27, 16].
  std::vector<float> taps(std::int64_t width) const {
    const std::int64_t panels = (width + 15) / 16;
    std::vector<float> out(at(2 * panels * 27 * 16));
    for (std::int64_t i = 0; i < 2 * width * 27; ++i) {
      const std::int64_t half = i / 27 / width, c = i / 27 % width, tap = i % 27;
      out[at(((half * panels + c / 16) * 27 + tap) * 16 + c % 16)] = depth[at(i)];
    }
    return out;
  }
};

// gated [T, H, W, m] from products [2, T, H, W, m].
template <class T>
std::vector<double> exact(const Case& c, const Weights& weights, const std::vector<T>& products) {
  const std::int64_t plane = c.rows * c.columns * c.channels, half = c.frames * plane;
  std::vector<double> active(products.size()), out(at(half));
  for (std::int64_t i = 0; i < 2 * half; ++i) {
    const std::int64_t channel = i / half * c.width + c.first + i % c.channels;
    active[at(i)] = silu(static_cast<double>(osf::to_float(products[at(i)])) +
                         static_cast<double>(weights.inverted_bias[at(channel)]));
  }
  for (std::int64_t i = 0; i < half; ++i) {
    double sums[2];
    for (std::int64_t which = 0; which < 2; ++which) {
      const std::int64_t channel = which * c.width + c.first + i % c.channels;
      sums[which] = static_cast<double>(weights.depth_bias[at(channel)]);
      const std::int64_t place = i / c.channels, w = place % c.columns;
      const std::int64_t h = place / c.columns % c.rows, t = place / c.columns / c.rows;
      for (std::int64_t tap = 0; tap < 27; ++tap) {
        const std::int64_t dt = tap / 9 - 1, dh = tap / 3 % 3 - 1, dw = tap % 3 - 1;
        if (t + dt < 0 || t + dt >= c.frames || h + dh < 0 || h + dh >= c.rows || w + dw < 0 ||
            w + dw >= c.columns) {
          continue;
        }
        const std::int64_t from =
            which * half + i + ((dt * c.rows + dh) * c.columns + dw) * c.channels;
        sums[which] +=
            static_cast<double>(weights.depth[at(channel * 27 + tap)]) * active[at(from)];
      }
    }
    out[at(i)] = sums[0] * silu(sums[1]);
  }
  return out;
}

template <class T>
void run_case(const Case& c, Isa isa) {
  const std::string name = "T" + std::to_string(c.frames) + " H" + std::to_string(c.rows) + " W" +
                           std::to_string(c.columns) + " m" + std::to_string(c.channels) +
                           " slabs of " + std::to_string(c.slab) +
                           (sizeof(T) == 2 ? " bfloat16" : " float32");
  const std::int64_t plane = c.rows * c.columns * c.channels, half = c.frames * plane;
  const Weights weights(c.width);
  const std::vector<float> taps = weights.taps(c.width);
  const std::vector<T> products = normal<T>(2 * half, 1);
  const std::int64_t places = std::max(2 * c.slab, c.slab + 2);
  std::vector<T> slab(at(2 * c.slab * plane));
  std::vector<float> ring(at(2 * places * plane));

  // The first row stays out, where there are more: a strip's edge is read and not given out.
  const std::int64_t first_row = c.rows > 1 ? 1 : 0, num_rows = c.rows - first_row;
  Guarded<T> gated(c.frames * num_rows * c.columns * c.channels);
  GluMbConvParams params{};
  params.products = slab.data();
  params.ring = ring.data();
  params.taps = taps.data();
  params.inverted_bias = weights.inverted_bias.data();
  params.depth_bias = weights.depth_bias.data();
  params.width = c.width;
  params.first_channel = c.first;
  params.channels = params.gated_stride = c.channels;
  params.num_frames = c.frames;
  params.ring_frames = places;
  params.rows = c.rows;
  params.columns = c.columns;
  params.first_row = first_row;
  params.num_rows = num_rows;
  params.dtype = sizeof(T) == 2 ? DType::kBFloat16 : DType::kFloat32;
  const auto run = [&] {
    std::int64_t done = 0;
    for (std::int64_t first = 0; first < c.frames; first += c.slab) {
      const std::int64_t end = std::min(first + c.slab, c.frames);
      for (std::int64_t which = 0; which < 2; ++which) {
        std::copy_n(products.begin() + which * half + first * plane, (end - first) * plane,
                    slab.begin() + which * (end - first) * plane);
      }
      params.first_new = first;
      params.num_new = end - first;
      params.first_out = done;
      params.num_out = (end == c.frames ? end : end - 1) - done;
      params.gated = gated.data() + done * num_rows * c.columns * c.channels;
      osf::glu_mb_conv_cpu(params, isa);
      done += params.num_out;
    }
  };
  run();
  std::vector<double> want;
  const std::vector<double> whole = exact(c, weights, products);
  for (std::int64_t i = 0; i < half; ++i) {
    if (i / c.columns / c.channels % c.rows >= first_row) want.push_back(whole[at(i)]);
  }
  osf::testing::expect_close<T>(gated.values(), want, 64.0, 1.0, name);
  osf::testing::expect_same_again(run, gated, name);
}

void refusals(Isa isa) {
  std::vector<float> data(1024, 1.0f);
  GluMbConvParams params{};
  params.products = params.gated = params.ring = data.data();
  params.taps = params.inverted_bias = params.depth_bias = data.data();
  params.width = params.channels = params.gated_stride = 4;
  params.num_frames = params.num_new = params.num_out = 3;
  params.ring_frames = params.rows = params.columns = params.num_rows = 1;
  const auto refused = [&](const char* what) {
    osf::testing::expect_refused([&] { osf::glu_mb_conv_cpu(params, isa); }, what);
  };
  refused("a ring too small");
  params.ring_frames = 3;
  params.first_channel = 4;
  refused("a chunk past the end");
  params.first_channel = 0;
  params.first_row = 1;
  refused("a row past the end");
  params.first_row = 0;
  params.dtype = DType::kFloat16;
  refused("float16");
}

void all(Isa isa) {
  const Case cases[] = {
      {1, 1, 1, 1, 1, 0, 1},    {3, 4, 5, 3, 16, 0, 16},  {5, 3, 9, 1, 40, 16, 24},
      {6, 2, 17, 2, 37, 32, 5}, {7, 3, 24, 3, 64, 0, 64}, {2, 5, 8, 4, 33, 0, 33},
  };
  for (const Case& c : cases) {
    run_case<float>(c, isa);
    run_case<BFloat16>(c, isa);
  }
  refusals(isa);
}

}  // namespace

int main(int argc, char** argv) { return osf::testing::main(argc, argv, all); }
