// The gradient of a convolution's weight on one instruction set (the only argument) against the sum
// over positions in double.

#include "cpu/conv3d/weight_gradient.h"

#include <string>
#include <vector>

#include "tests/testing.h"

namespace {

using osf::BFloat16;
using osf::DType;
using osf::Isa;
using osf::conv3d::Padding;
using osf::conv3d::Params;
using osf::testing::at;
using osf::testing::Guarded;
using osf::testing::normal;
using osf::testing::widened;

struct Case {
  std::string name;
  std::int64_t batch, channels, out_channels;
  std::int64_t size[3];
  Padding padding;
  std::int64_t kernel[3] = {3, 3, 3};
  std::int64_t stride[3] = {1, 1, 1};
};

const Case kCases[] = {
    {"causal", 2, 20, 35, {4, 5, 7}, Padding::kReplicate},
    {"causal, one frame", 1, 16, 17, {1, 9, 4}, Padding::kReplicate},
    {"causal, one pixel", 1, 8, 8, {5, 1, 1}, Padding::kReplicate},
    {"causal between zeros", 1, 33, 9, {3, 4, 6}, Padding::kZeros},
    {"causal rows", 1, 17, 40, {4, 7, 9}, Padding::kReplicateRows},
    {"unpadded", 1, 17, 9, {4, 6, 7}, Padding::kValid},
    {"centered", 2, 34, 61, {4, 5, 33}, Padding::kCentered},
    {"centered, one frame", 1, 16, 16, {1, 5, 6}, Padding::kCentered},
    {"centered, one pixel", 1, 8, 9, {2, 1, 1}, Padding::kCentered},
    {"centered rows", 1, 9, 16, {2, 8, 5}, Padding::kCenteredRows},
    {"image", 2, 12, 20, {3, 6, 6}, Padding::kCentered, {1, 3, 3}},
    {"strided in time", 1, 12, 20, {6, 5, 6}, Padding::kCentered, {3, 3, 3}, {2, 1, 1}},
    {"strided far in time", 1, 8, 8, {9, 3, 3}, Padding::kReplicate, {2, 3, 3}, {4, 1, 1}},
    {"more sums than fit", 1, 608, 300, {1, 2, 5}, Padding::kCentered},
    {"strided", 1, 18, 33, {5, 7, 8}, Padding::kReplicate, {3, 3, 3}, {2, 2, 2}},
    {"strided, centered", 2, 16, 33, {4, 6, 9}, Padding::kCentered, {3, 3, 3}, {1, 2, 2}},
    {"pointwise", 2, 24, 20, {3, 5, 6}, Padding::kCentered, {1, 1, 1}},
    {"of pixels", 1, 3, 16, {3, 6, 6}, Padding::kReplicate},
    {"to pixels", 1, 32, 3, {3, 5, 10}, Padding::kCentered},
    {"odd kernel", 1, 5, 6, {4, 5, 6}, Padding::kReplicate, {2, 1, 5}},
};

bool is_causal(const Case& c) {
  return c.padding != Padding::kCentered && c.padding != Padding::kCenteredRows;
}

bool is_bare(const Case& c, int axis) {
  const bool rows = c.padding == Padding::kCenteredRows || c.padding == Padding::kReplicateRows;
  return c.padding == Padding::kValid || (rows && axis == 1);
}

std::int64_t front(const Case& c, int axis) {
  if (is_bare(c, axis)) return 0;
  return axis == 0 && is_causal(c) ? c.kernel[0] - 1 : c.kernel[axis] / 2;
}

std::int64_t out_size(const Case& c, int axis) {
  const bool none = is_bare(c, axis) || (axis == 0 && is_causal(c));
  const std::int64_t behind = none ? 0 : c.kernel[axis] / 2;
  return (c.size[axis] + front(c, axis) + behind - c.kernel[axis]) / c.stride[axis] + 1;
}

// The position of x that a padded one shows, or -1 for a zero.
std::int64_t source(const Case& c, int axis, std::int64_t i) {
  if (i >= 0 && i < c.size[axis]) return i;
  const bool repeats = c.padding == Padding::kReplicate || c.padding == Padding::kReplicateRows;
  if (!repeats) return -1;
  return i < 0 ? 0 : c.size[axis] - 1;
}

std::vector<double> expected(const Case& c, const std::vector<float>& x,
                             const std::vector<float>& dy) {
  const std::int64_t taps = c.kernel[0] * c.kernel[1] * c.kernel[2];
  std::vector<double> out(at(c.out_channels * c.channels * taps));
  std::int64_t output = 0;
  for (std::int64_t b = 0; b < c.batch; ++b)
    for (std::int64_t t = 0; t < out_size(c, 0); ++t)
      for (std::int64_t h = 0; h < out_size(c, 1); ++h)
        for (std::int64_t w = 0; w < out_size(c, 2); ++w, ++output)
          for (std::int64_t k = 0; k < taps; ++k) {
            const std::int64_t from[3] = {
                source(c, 0, t * c.stride[0] - front(c, 0) + k / (c.kernel[1] * c.kernel[2])),
                source(c, 1, h * c.stride[1] - front(c, 1) + k / c.kernel[2] % c.kernel[1]),
                source(c, 2, w * c.stride[2] - front(c, 2) + k % c.kernel[2])};
            if (from[0] < 0 || from[1] < 0 || from[2] < 0) continue;
            const std::int64_t pixel =
                ((b * c.size[0] + from[0]) * c.size[1] + from[1]) * c.size[2] + from[2];
            for (std::int64_t o = 0; o < c.out_channels; ++o)
              for (std::int64_t i = 0; i < c.channels; ++i) {
                out[at((o * c.channels + i) * taps + k)] +=
                    static_cast<double>(dy[at(output * c.out_channels + o)]) *
                    static_cast<double>(x[at(pixel * c.channels + i)]);
              }
          }
  return out;
}

template <class T>
void run_case(const Case& c, Isa isa) {
  const std::string what = c.name + (sizeof(T) == 2 ? " in bfloat16" : " in float");
  const std::int64_t taps = c.kernel[0] * c.kernel[1] * c.kernel[2];
  const std::int64_t outputs = c.batch * out_size(c, 0) * out_size(c, 1) * out_size(c, 2);
  const auto x = normal<T>(c.batch * c.size[0] * c.size[1] * c.size[2] * c.channels, 1, 0.3f);
  const auto dy = normal<T>(outputs * c.out_channels, 2);
  Guarded<float> dweight(c.out_channels * c.channels * taps);
  Params p{};
  p.x = x.data();
  p.batch = c.batch;
  p.geometry = {c.channels,
                c.out_channels,
                {},
                {},
                {1, 1, 1},
                c.padding,
                sizeof(T) == 2 ? DType::kBFloat16 : DType::kFloat32,
                false};
  for (int axis = 0; axis < 3; ++axis) {
    p.size[axis] = c.size[axis];
    p.out_size[axis] = out_size(c, axis);
    p.geometry.kernel[axis] = c.kernel[axis];
    p.geometry.stride[axis] = c.stride[axis];
  }
  const auto call = [&] { osf::conv3d::weight_gradient(p, dy.data(), dweight.data(), isa); };
  call();
  const auto want = expected(c, widened(x), widened(dy));
  const auto got = dweight.values();
  double error = 0.0, size = 0.0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    error += std::pow(static_cast<double>(got[i]) - want[i], 2);
    size += want[i] * want[i];
  }
  const double relative = std::sqrt(error / size);
  osf::testing::expect(relative < 3e-6,
                       what + ": relative error " + std::to_string(relative * 1e6) + "e-6");
  osf::testing::expect_same_again(call, dweight, what);
}

void test(Isa isa) {
  for (const Case& c : kCases) {
    run_case<float>(c, isa);
    run_case<BFloat16>(c, isa);
  }
  Params p{};
  p.geometry = {4, 4, {3, 3, 3}, {1, 1, 1}, {1, 1, 1}, Padding::kCentered, DType::kFloat16, false};
  p.batch = p.size[0] = p.size[1] = p.size[2] = 1;
  p.out_size[0] = p.out_size[1] = p.out_size[2] = 1;
  const auto call = [&] { osf::conv3d::weight_gradient(p, nullptr, nullptr, isa); };
  osf::testing::expect_refused(call, "float16");
  p.geometry.dtype = DType::kFloat32;
  p.geometry.scale[1] = 2;
  osf::testing::expect_refused(call, "an upsampling");
  p.geometry.scale[1] = 1;
  p.out_size[2] = 0;
  osf::testing::expect_refused(call, "an empty axis");
}

}  // namespace

int main(int argc, char** argv) { return osf::testing::main(argc, argv, test); }
