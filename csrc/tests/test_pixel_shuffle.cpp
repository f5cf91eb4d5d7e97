// Gathering and spreading groups of unshuffled channels on one instruction set (the only argument)
// against the definition in double.

#include "cpu/pixel_shuffle.h"

#include <string>
#include <vector>

#include "tests/testing.h"

namespace {

using osf::BFloat16;
using osf::DType;
using osf::Isa;
using osf::PixelShuffleParams;
using osf::testing::at;
using osf::testing::Guarded;
using osf::testing::normal;
using osf::testing::widened;

struct Case {
  std::int64_t batch, large, small, frames, height, width;  // channels, then the small video's size
  std::int64_t times, rows, columns;
};

std::int64_t pixels(const Case& c) { return c.times * c.rows * c.columns; }
std::int64_t positions(const Case& c) { return c.batch * c.frames * c.height * c.width; }

// Calls visit(small index, large index) for every pixel of the large video.
template <class Visit>
void for_pairs(const Case& c, bool last, const Visit& visit) {
  const auto index = [last](std::int64_t b, std::int64_t channel, std::int64_t t, std::int64_t h,
                            std::int64_t w, std::int64_t channels, std::int64_t frames,
                            std::int64_t height, std::int64_t width) {
    return at(last ? (((b * frames + t) * height + h) * width + w) * channels + channel
                   : (((b * channels + channel) * frames + t) * height + h) * width + w);
  };
  const std::int64_t frames = c.frames * c.times, height = c.height * c.rows;
  const std::int64_t width = c.width * c.columns, group = c.large * pixels(c) / c.small;
  for (std::int64_t b = 0; b < c.batch; ++b) {
    for (std::int64_t d = 0; d < c.large; ++d) {
      for (std::int64_t t = 0; t < frames; ++t) {
        for (std::int64_t h = 0; h < height; ++h) {
          for (std::int64_t w = 0; w < width; ++w) {
            const std::int64_t u =
                ((d * c.times + t % c.times) * c.rows + h % c.rows) * c.columns + w % c.columns;
            visit(index(b, u / group, t / c.times, h / c.rows, w / c.columns, c.small, c.frames,
                        c.height, c.width),
                  index(b, d, t, h, w, c.large, frames, height, width));
          }
        }
      }
    }
  }
}

template <class T>
PixelShuffleParams params_of(const Case& c, bool last, const std::vector<T>& source,
                             const std::vector<T>& added, bool with_added, double factor,
                             Guarded<T>& result) {
  PixelShuffleParams p{};
  p.source = source.data();
  p.added = with_added ? added.data() : nullptr;
  p.result = result.data();
  p.batch = c.batch;
  p.large_channels = c.large;
  p.small_channels = c.small;
  p.frames = c.frames;
  p.height = c.height;
  p.width = c.width;
  p.scale[0] = c.times;
  p.scale[1] = c.rows;
  p.scale[2] = c.columns;
  p.factor = factor;
  p.channels_last = last;
  p.dtype = sizeof(T) == 2 ? DType::kBFloat16 : DType::kFloat32;
  return p;
}

template <class T>
void run_case(const Case& c, bool last, bool with_added, Isa isa) {
  const std::string name = std::to_string(c.large) + " to " + std::to_string(c.small) +
                           " channels, blocks of " + std::to_string(c.times) + "x" +
                           std::to_string(c.rows) + "x" + std::to_string(c.columns) +
                           (last ? ", channels last" : "") + (with_added ? ", added" : "") +
                           (sizeof(T) == 2 ? ", bfloat16" : ", float32");
  const std::int64_t large_count = positions(c) * pixels(c) * c.large;
  const std::int64_t small_count = positions(c) * c.small;
  const std::vector<T> large = normal<T>(large_count, 1), small = normal<T>(small_count, 2);
  const double factor = with_added ? 0.25 : 1.0;
  const auto start = [with_added](const std::vector<T>& added) {
    const std::vector<float> values = widened(added);
    std::vector<double> out(values.begin(), values.end());
    if (!with_added) out.assign(values.size(), 0.0);
    return out;
  };

  std::vector<double> sums = start(small), copies = start(large);
  const std::vector<float> large_values = widened(large), small_values = widened(small);
  for_pairs(c, last, [&](std::size_t s, std::size_t l) {
    sums[s] += factor * static_cast<double>(large_values[l]);
    copies[l] += factor * static_cast<double>(small_values[s]);
  });

  Guarded<T> gathered(small_count), dealt(large_count);
  const PixelShuffleParams to_small =
      params_of(c, last, large, small, with_added, factor, gathered);
  const PixelShuffleParams to_large = params_of(c, last, small, large, with_added, factor, dealt);
  const auto gather = [&] { osf::pixel_gather_cpu(to_small, isa); };
  const auto spread = [&] { osf::pixel_spread_cpu(to_large, isa); };
  gather();
  osf::testing::expect_close<T>(gathered.values(), sums, 32.0, 1.0, name + ", gathered");
  osf::testing::expect_same_again(gather, gathered, name + ", gathered");
  spread();
  osf::testing::expect_close<T>(dealt.values(), copies, 2.0, 1.0, name + ", spread");
  osf::testing::expect_same_again(spread, dealt, name + ", spread");
}

void refusals(Isa isa) {
  const std::vector<float> data(64, 1.0f);
  Guarded<float> out(64);
  const Case c{1, 2, 4, 1, 1, 2, 1, 2, 2};
  const auto with = [&](auto change) {
    PixelShuffleParams p = params_of(c, true, data, data, true, 1.0, out);
    change(p);
    return p;
  };
  const auto refused = [&](auto change, const std::string& what) {
    const PixelShuffleParams p = with(change);
    osf::testing::expect_refused([&] { osf::pixel_gather_cpu(p, isa); }, what + " to gather");
    osf::testing::expect_refused([&] { osf::pixel_spread_cpu(p, isa); }, what + " to spread");
  };
  refused([](PixelShuffleParams& p) { p.small_channels = 3; }, "unequal groups");
  refused([](PixelShuffleParams& p) { p.small_channels = 0; }, "no channel");
  refused([](PixelShuffleParams& p) { p.scale[1] = 0; }, "a block without pixels");
  refused([](PixelShuffleParams& p) { p.frames = -1; }, "a negative size");
  refused([](PixelShuffleParams& p) { p.dtype = DType::kFloat16; }, "float16");
}

void all(Isa isa) {
  const Case cases[] = {
      {2, 24, 48, 2, 3, 5, 1, 2, 2},     // two runs of two pixels a block
      {1, 35, 35, 2, 2, 9, 1, 2, 2},     // a group is a block
      {1, 33, 66, 2, 1, 19, 2, 2, 2},    // two runs of four
      {2, 19, 19, 1, 3, 4, 2, 2, 2},     // a group is a block of eight
      {1, 136, 17, 2, 3, 3, 1, 1, 1},    // channels alone
      {1, 12, 3, 1, 2, 3, 1, 2, 2},      // four channels of blocks
      {2, 5, 40, 1, 2, 3, 2, 2, 2},      // every pixel a channel
      {1, 3, 2, 2, 3, 2, 1, 2, 2},       // groups that cut blocks
      {1, 4, 5, 1, 2, 2, 3, 1, 5},       // and uneven ones
      {2, 7, 7, 2, 2, 3, 1, 1, 1},       // nothing but a copy
      {1, 6, 3, 2, 1, 3, 2, 1, 1},       // frames alone
      {1, 4, 8, 0, 2, 2, 1, 2, 2},       // no frame
      {0, 4, 8, 2, 2, 2, 1, 2, 2},       // no sample
      {1, 128, 256, 2, 8, 16, 1, 2, 2},  // enough for several threads
  };
  for (const Case& c : cases) {
    for (const bool last : {false, true}) {
      for (const bool added : {false, true}) {
        run_case<float>(c, last, added, isa);
        run_case<BFloat16>(c, last, added, isa);
      }
    }
  }
  refusals(isa);
}

}  // namespace

int main(int argc, char** argv) { return osf::testing::main(argc, argv, all); }
