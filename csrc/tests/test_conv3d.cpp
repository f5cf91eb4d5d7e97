// conv3d on one instruction set (the only argument) against the sum over taps in double.

#include "cpu/conv3d/conv3d.h"

#include <string>
#include <vector>

#include "tests/testing.h"

namespace {

using osf::BFloat16;
using osf::DType;
using osf::Isa;
using osf::conv3d::Geometry;
using osf::conv3d::Padding;
using osf::conv3d::Params;
using osf::conv3d::Plan;
using osf::testing::at;
using osf::testing::Guarded;
using osf::testing::normal;
using osf::testing::widened;

struct Case {
  std::string name;
  std::int64_t batch, channels, out_channels;
  std::int64_t size[3];
  std::int64_t kernel[3] = {3, 3, 3};
  std::int64_t stride[3] = {1, 1, 1};
  std::int64_t scale[3] = {1, 1, 1};
  Padding padding = Padding::kReplicate;
  // By activation (affine unless upsampled), bias and residual; kCentered: by SiLU and a shortcut.
  bool surrounded = true;
};

const Case kCases[] = {
    {"3x3x3", 2, 20, 35, {4, 5, 7}},
    {"3x3x3 of one frame", 1, 16, 17, {1, 9, 4}},
    {"3x3x3 of one pixel", 1, 8, 8, {5, 1, 1}},
    {"wide 3x3x3", 1, 363, 362, {3, 1, 2}},
    {"narrow", 1, 3, 16, {3, 6, 6}},
    {"to pixels", 1, 32, 3, {2, 5, 10}},
    {"strided", 1, 18, 33, {4, 7, 8}, {3, 3, 3}, {2, 2, 2}},
    {"pointwise", 2, 24, 20, {3, 5, 6}, {1, 1, 1}},
    {"plain pointwise",
     2,
     24,
     20,
     {3, 5, 6},
     {1, 1, 1},
     {1, 1, 1},
     {1, 1, 1},
     Padding::kReplicate,
     false},
    {"image of zeros around",
     1,
     16,
     20,
     {3, 5, 36},
     {1, 3, 3},
     {1, 1, 1},
     {1, 1, 1},
     Padding::kZeros},
    {"zeros around", 1, 16, 20, {3, 4, 6}, {3, 3, 3}, {1, 1, 1}, {1, 1, 1}, Padding::kZeros},
    {"unpadded", 1, 17, 9, {4, 5, 6}, {3, 3, 3}, {1, 2, 1}, {1, 1, 1}, Padding::kValid},
    {"odd kernel", 1, 5, 6, {4, 5, 6}, {2, 1, 5}},
    {"few outputs, zeros around",
     2,
     9,
     3,
     {3, 4, 6},
     {3, 3, 3},
     {1, 1, 1},
     {1, 1, 1},
     Padding::kZeros},
    {"few outputs, unpadded",
     1,
     17,
     5,
     {4, 5, 6},
     {3, 3, 3},
     {1, 1, 1},
     {1, 1, 1},
     Padding::kValid},
    {"upsampled", 1, 20, 34, {3, 2, 4}, {3, 3, 3}, {1, 1, 1}, {2, 2, 2}},
    {"upsampled in space", 2, 16, 5, {3, 3, 67}, {3, 3, 3}, {1, 1, 1}, {1, 2, 2}},
    {"upsampled frame", 1, 16, 16, {1, 1, 1}, {3, 3, 3}, {1, 1, 1}, {2, 2, 2}},
};

constexpr std::int64_t kOne[3] = {1, 1, 1}, kSpace[3] = {1, 2, 2}, kTime[3] = {2, 2, 2};

// Between zeros. With a shortcut channels are averaged or repeated, so their numbers fit.
Case centered(const char* name, std::int64_t channels, std::int64_t out_channels,
              const std::int64_t (&size)[3], bool surrounded,
              const std::int64_t (&stride)[3] = kOne, const std::int64_t (&scale)[3] = kOne,
              std::int64_t kernel = 3) {
  Case c{name, 2, channels, out_channels, {}};
  for (int axis = 0; axis < 3; ++axis) {
    c.size[axis] = size[axis];
    c.kernel[axis] = kernel;
    c.stride[axis] = stride[axis];
    c.scale[axis] = scale[axis];
  }
  c.padding = Padding::kCentered;
  c.surrounded = surrounded;
  return c;
}

Case rows_of(Case c) {
  c.padding = c.padding == Padding::kCentered ? Padding::kCenteredRows : Padding::kReplicateRows;
  return c;
}

bool is_centered(const Case& c) {
  return c.padding == Padding::kCentered || c.padding == Padding::kCenteredRows;
}

const Case kCenteredCases[] = {
    centered("centered", 20, 35, {4, 5, 7}, false),
    centered("centered, an odd number of frames", 34, 17, {5, 9, 4}, true),
    centered("centered, one frame", 16, 32, {1, 5, 6}, true),
    centered("centered, two frames", 18, 18, {2, 3, 5}, true),
    centered("wide, centered", 362, 362, {3, 1, 2}, true),
    centered("to pixels, centered", 32, 3, {3, 5, 10}, false),
    centered("one frame to pixels, centered", 9, 3, {1, 4, 6}, false),
    centered("few outputs and a shortcut", 16, 4, {3, 4, 5}, true),
    centered("even kernel, centered", 9, 10, {3, 4, 5}, false, kOne, kOne, 2),
    centered("few outputs, even kernel, centered", 9, 3, {3, 4, 5}, false, kOne, kOne, 4),
    centered("pointwise, centered", 24, 48, {3, 5, 6}, true, kOne, kOne, 1),
    centered("five taps, centered", 16, 16, {2, 3, 4}, true, kOne, kOne, 5),
    centered("down in space", 18, 36, {3, 4, 6}, true, kSpace),
    centered("down", 17, 34, {4, 6, 4}, true, kTime),
    centered("down to single channels", 20, 160, {2, 2, 4}, true, kTime),
    centered("down to as many channels", 33, 33, {4, 2, 4}, true, kTime),
    centered("down, odd", 18, 33, {5, 7, 7}, false, kTime),
    centered("up in space", 34, 17, {3, 3, 5}, true, kOne, kSpace),
    centered("up in space, to more channels", 16, 48, {2, 2, 3}, true, kOne, kSpace),
    centered("up", 68, 34, {3, 2, 4}, true, kOne, kTime),
    centered("up to as many channels", 20, 20, {2, 2, 67}, true, kOne, kTime),
    centered("up, one frame", 16, 16, {1, 1, 1}, true, kOne, kTime),
    centered("up, plain", 17, 33, {2, 3, 4}, false, kOne, kTime),
    centered("up in space, plain", 16, 5, {1, 3, 4}, false, kOne, kSpace),
    rows_of(centered("rows", 20, 35, {4, 7, 7}, true)),
    rows_of(centered("many rows", 34, 17, {3, 14, 5}, true)),
    rows_of(centered("one row", 16, 32, {1, 3, 6}, true)),
    rows_of(centered("rows to pixels", 32, 3, {3, 6, 10}, false)),
    rows_of(centered("rows to pixels, activated", 40, 3, {3, 6, 35}, true)),
    rows_of(centered("rows, down", 18, 36, {4, 7, 6}, true, kTime)),
    rows_of(centered("rows, pointwise", 24, 48, {3, 5, 6}, true, kOne, kOne, 1)),
};

// Between repeated borders, without those above and below.
const Case kReplicateRowsCases[] = {
    rows_of({"causal rows", 2, 20, 35, {4, 7, 7}}),
    rows_of({"many causal rows", 1, 34, 17, {3, 14, 5}}),
    rows_of({"one causal row, one frame", 1, 16, 17, {1, 3, 6}}),
    rows_of({"wide causal rows", 1, 363, 362, {3, 3, 2}}),
    rows_of({"causal rows to pixels", 1, 32, 3, {3, 6, 10}}),
    rows_of({"causal rows of pixels", 1, 3, 16, {3, 6, 6}}),
    rows_of({"causal rows, down", 1, 18, 33, {4, 7, 8}, {3, 3, 3}, {2, 2, 2}}),
    rows_of({"causal rows, pointwise", 2, 24, 20, {3, 5, 6}, {1, 1, 1}}),
};

// Whether an axis looks back only, and repeats its first position once.
bool is_causal(const Case& c, int axis) { return axis == 0 && !is_centered(c); }

bool is_bare(const Case& c, int axis) {
  const bool rows = c.padding == Padding::kCenteredRows || c.padding == Padding::kReplicateRows;
  return c.padding == Padding::kValid || (rows && axis == 1);
}

// Front padding and output size of an axis of `large` positions (after upsampling).
std::int64_t front(const Case& c, int axis) {
  if (is_bare(c, axis)) return 0;
  return is_causal(c, axis) ? c.kernel[axis] - 1 : c.kernel[axis] / 2;
}

std::int64_t large_size(const Case& c, int axis) {
  return c.scale[axis] * c.size[axis] - (is_causal(c, axis) ? c.scale[axis] - 1 : 0);
}

std::int64_t out_size(const Case& c, int axis) {
  const bool none = is_bare(c, axis) || is_causal(c, axis);
  const std::int64_t back = none ? 0 : c.kernel[axis] / 2;
  return (large_size(c, axis) + front(c, axis) + back - c.kernel[axis]) / c.stride[axis] + 1;
}

// The position of x that a padded and upsampled one shows, or -1 for a zero.
std::int64_t source(const Case& c, int axis, std::int64_t i) {
  const std::int64_t large = large_size(c, axis);
  if (i < 0 || i >= large) {
    if (c.padding == Padding::kZeros || is_centered(c)) return -1;
    i = i < 0 ? 0 : large - 1;
  }
  return (i + (is_causal(c, axis) ? c.scale[axis] - 1 : 0)) / c.scale[axis];
}

struct Inputs {
  std::vector<float> x, weight, bias, residual, mean, scale, shift;
  bool silu;
};

double activated(const Case& c, const Inputs& in, std::int64_t b, std::int64_t channel, double x) {
  if (in.mean.empty()) return in.silu ? x / (1.0 + std::exp(-x)) : x;
  const std::size_t i = at(b * c.channels + channel);
  const double h = (x - static_cast<double>(in.mean[i])) * static_cast<double>(in.scale[i]) +
                   static_cast<double>(in.shift[i]);
  return h / (1.0 + std::exp(-h));
}

bool has_shortcut(const Case& c) { return c.surrounded && c.padding == Padding::kCentered; }

// Channel `o` of the shortcut at a position of y.
double shortcut(const Case& c, const Inputs& in, std::int64_t b, const std::int64_t (&position)[3],
                std::int64_t o) {
  const auto x = [&](std::int64_t t, std::int64_t h, std::int64_t w, std::int64_t channel) {
    const std::int64_t pixel = ((b * c.size[0] + t) * c.size[1] + h) * c.size[2] + w;
    return static_cast<double>(in.x[at(pixel * c.channels + channel)]);
  };
  const std::int64_t (&s)[3] = c.stride;
  const std::int64_t (&f)[3] = c.scale;
  const std::int64_t (&i)[3] = position;
  const std::int64_t down = s[0] * s[1] * s[2], up = f[0] * f[1] * f[2];
  if (down == 1 && (up > 1 || c.out_channels > c.channels)) {
    const std::int64_t phase = (i[0] % f[0] * f[1] + i[1] % f[1]) * f[2] + i[2] % f[2];
    const std::int64_t repeats = c.out_channels * up / c.channels;
    return x(i[0] / f[0], i[1] / f[1], i[2] / f[2], (o * up + phase) / repeats);
  }
  const std::int64_t group = c.channels * down / c.out_channels;
  double sum = 0.0;
  for (std::int64_t u = o * group; u < (o + 1) * group; ++u) {
    sum += x(i[0] * s[0] + u / (s[1] * s[2]) % s[0], i[1] * s[1] + u / s[2] % s[1],
             i[2] * s[2] + u % s[2], u / down);
  }
  return sum / static_cast<double>(group);
}

std::vector<double> expected(const Case& c, const Inputs& in) {
  std::vector<double> y;
  const std::int64_t taps = c.kernel[0] * c.kernel[1] * c.kernel[2];
  for (std::int64_t b = 0; b < c.batch; ++b)
    for (std::int64_t t = 0; t < out_size(c, 0); ++t)
      for (std::int64_t h = 0; h < out_size(c, 1); ++h)
        for (std::int64_t w = 0; w < out_size(c, 2); ++w)
          for (std::int64_t o = 0; o < c.out_channels; ++o) {
            double sum = in.bias.empty() ? 0.0 : static_cast<double>(in.bias[at(o)]);
            for (std::int64_t k = 0; k < taps; ++k) {
              const std::int64_t from[3] = {
                  source(c, 0, t * c.stride[0] - front(c, 0) + k / (c.kernel[1] * c.kernel[2])),
                  source(c, 1, h * c.stride[1] - front(c, 1) + k / c.kernel[2] % c.kernel[1]),
                  source(c, 2, w * c.stride[2] - front(c, 2) + k % c.kernel[2])};
              if (from[0] < 0 || from[1] < 0 || from[2] < 0) continue;
              const std::int64_t pixel =
                  ((b * c.size[0] + from[0]) * c.size[1] + from[1]) * c.size[2] + from[2];
              for (std::int64_t i = 0; i < c.channels; ++i) {
                const double x = static_cast<double>(in.x[at(pixel * c.channels + i)]);
                sum += activated(c, in, b, i, x) *
                       static_cast<double>(in.weight[at((o * c.channels + i) * taps + k)]);
              }
            }
            if (has_shortcut(c)) sum += shortcut(c, in, b, {t, h, w}, o);
            if (!in.residual.empty()) sum += static_cast<double>(in.residual[y.size()]);
            y.push_back(sum);
          }
  return y;
}

// Mean and variance of every channel, from the result itself.
std::vector<double> moments_of(const Case& c, const std::vector<float>& values) {
  const std::int64_t positions = out_size(c, 0) * out_size(c, 1) * out_size(c, 2);
  std::vector<double> moments(at(c.batch * 2 * c.out_channels));
  for (std::int64_t b = 0; b < c.batch; ++b)
    for (std::int64_t o = 0; o < c.out_channels; ++o) {
      const auto value = [&](std::int64_t i) {
        return static_cast<double>(values[at((b * positions + i) * c.out_channels + o)]);
      };
      double mean = 0.0, square = 0.0;
      for (std::int64_t i = 0; i < positions; ++i) mean += value(i);
      mean /= static_cast<double>(positions);
      for (std::int64_t i = 0; i < positions; ++i) square += std::pow(value(i) - mean, 2);
      moments[at(2 * b * c.out_channels + o)] = mean;
      moments[at((2 * b + 1) * c.out_channels + o)] = square / static_cast<double>(positions);
    }
  return moments;
}

Geometry geometry_of(const Case& c, DType dtype) {
  Geometry g{};
  g.channels = c.channels;
  g.out_channels = c.out_channels;
  for (int axis = 0; axis < 3; ++axis) {
    g.kernel[axis] = c.kernel[axis];
    g.stride[axis] = c.stride[axis];
    g.scale[axis] = c.scale[axis];
  }
  g.padding = c.padding;
  g.dtype = dtype;
  g.shortcut = has_shortcut(c);
  return g;
}

// Transforms of the size of Winograd's lose a few bits of values of unit variance; on tiles a
// bfloat16 result also knows its activated input in bfloat16 only, in half-precision Winograd all
// transformed values.
double allowed_units(const Geometry& g, const Plan& plan, bool activates) {
  using osf::conv3d::Algorithm;
  if (plan.algorithm == Algorithm::kWinogradHalf) return std::ldexp(2.0, 17);
  const bool tiles = plan.algorithm == Algorithm::kTiles ||
                     plan.algorithm == Algorithm::kTilesUpsample ||
                     plan.algorithm == Algorithm::kTilesNarrow;
  return tiles && g.dtype == DType::kBFloat16 && activates ? std::ldexp(1.5, 17) : 300.0;
}

template <class T>
void run_case(const Case& c, Isa isa) {
  const bool silu = c.surrounded && is_centered(c);
  const bool normalises = c.surrounded && !silu && c.scale[1] == 1;
  const std::int64_t taps = c.kernel[0] * c.kernel[1] * c.kernel[2];
  const std::int64_t pixels = c.batch * c.size[0] * c.size[1] * c.size[2];
  const std::int64_t outputs =
      c.batch * out_size(c, 0) * out_size(c, 1) * out_size(c, 2) * c.out_channels;
  const float deviation = 1.0f / std::sqrt(static_cast<float>(c.channels * taps));
  const std::vector<T> x = normal<T>(pixels * c.channels, 1);
  const std::vector<T> weight = normal<T>(c.out_channels * c.channels * taps, 2, 0.0f, deviation);
  const std::vector<T> residual = normal<T>(c.surrounded && !silu ? outputs : 0, 3);
  Inputs in{widened(x), widened(weight), {}, widened(residual), {}, {}, {}, silu};
  if (c.surrounded) in.bias = normal<float>(c.out_channels, 4);
  if (normalises) {
    in.mean = normal<float>(c.batch * c.channels, 5);
    in.scale = normal<float>(c.batch * c.channels, 6, 1.0f, 0.2f);
    in.shift = normal<float>(c.batch * c.channels, 7);
  }

  const Geometry g = geometry_of(c, sizeof(T) == 2 ? DType::kBFloat16 : DType::kFloat32);
  Params params{};
  for (int axis = 0; axis < 3; ++axis) {
    params.size[axis] = c.size[axis];
    params.out_size[axis] = out_size(c, axis);
  }
  const Plan plan = osf::conv3d::plan(g, isa);
  const std::string name =
      c.name + (sizeof(T) == 2 ? " bfloat16, " : " float32, ") + algorithm_name(plan.algorithm);
  Guarded<float> packed((plan.packed_bytes + 3) / 4);
  osf::conv3d::pack(g, plan, in.weight.data(), packed.data());
  osf::testing::expect(packed.intact(), name + ": packing wrote out of bounds");

  Guarded<T> y(outputs);
  const auto address = [](const std::vector<float>& v) { return v.empty() ? nullptr : v.data(); };
  params.x = x.data();
  params.y = y.data();
  params.packed = packed.data();
  params.bias = address(in.bias);
  params.residual = residual.empty() ? nullptr : residual.data();
  params.mean = address(in.mean);
  params.scale = address(in.scale);
  params.shift = address(in.shift);
  params.silu = silu;
  params.batch = c.batch;
  params.geometry = g;
  params.plan = plan;
  Guarded<float> moments(c.batch * 2 * c.out_channels);
  params.moments = moments.data();
  const auto call = [&] { osf::conv3d::run(params); };
  call();
  const std::vector<float> same = y.values();
  const double units = allowed_units(g, plan, silu || normalises);
  osf::testing::expect_close<T>(y.values(), expected(c, in), units, 1.0, name);
  const std::vector<float> first = moments.values();
  // With another number of threads, too, and then without moments.
  osf::testing::expect_same_again(call, y, name);
  osf::testing::expect(moments.values() == first, name + ": other moments in a second run");
  params.moments = nullptr;
  call();
  osf::testing::expect(y.values() == same, name + ": moments change the result");
  // They are taken before the last rounding, which is all that they may differ by.
  osf::testing::expect_close<float>(first, moments_of(c, same),
                                    sizeof(T) == 2 ? std::ldexp(1.0, 17) : 64.0, 1.0,
                                    name + ", moments");
  osf::testing::expect(moments.intact(), name + ": moments were written out of bounds");
}

void refusals(Isa isa) {
  Geometry g{8, 8, {3, 3, 3}, {1, 1, 1}, {1, 1, 1}, Padding::kReplicate, DType::kFloat16, false};
  osf::testing::expect_refused([&] { osf::conv3d::plan(g, isa); }, "float16");
  g.dtype = DType::kFloat32;
  g.scale[1] = 3;
  osf::testing::expect_refused([&] { osf::conv3d::plan(g, isa); }, "an upsampling by three");
  g.scale[1] = 1;
  g.shortcut = true;
  osf::testing::expect_refused([&] { osf::conv3d::plan(g, isa); }, "a causal shortcut");
  g.padding = Padding::kCentered;
  g.out_channels = 12;
  osf::testing::expect_refused([&] { osf::conv3d::plan(g, isa); }, "a shortcut of unequal groups");
  g.shortcut = false;
  g.channels = 0;
  osf::testing::expect_refused([&] { osf::conv3d::plan(g, isa); }, "no channels");
}

void test(Isa isa) {
  for (const Case& c : kCases) {
    run_case<float>(c, isa);
    run_case<BFloat16>(c, isa);
  }
  for (const Case& c : kCenteredCases) {
    run_case<float>(c, isa);
    run_case<BFloat16>(c, isa);
  }
  for (const Case& c : kReplicateRowsCases) {
    run_case<float>(c, isa);
    run_case<BFloat16>(c, isa);
  }
  refusals(isa);
}

}  // namespace

int main(int argc, char** argv) { return osf::testing::main(argc, argv, test); }
