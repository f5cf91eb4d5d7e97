// linear_attention on one instruction set (the only argument) against the formulas in double.

#include "cpu/linear_attention.h"

#include <algorithm>
#include <string>
#include <vector>

#include "tests/testing.h"

namespace {

using osf::BFloat16;
using osf::DType;
using osf::Isa;
using osf::LinearAttentionParams;
using osf::testing::at;
using osf::testing::Guarded;
using osf::testing::normal;
using osf::testing::widened;

constexpr double kEps = 1e-15;

struct Case {
  std::int64_t batch, heads, head_dim;
  std::int64_t size[3];
  std::int64_t kernel[3];

  std::int64_t channels() const { return heads * head_dim; }
  std::int64_t positions() const { return size[0] * size[1] * size[2]; }
  std::int64_t taps() const { return kernel[0] * kernel[1] * kernel[2]; }
};

// The aggregation [B, P, 3 C], in double.
std::vector<double> aggregate(const Case& c, const std::vector<float>& qkv,
                              const std::vector<float>& depth, const std::vector<float>& point) {
  const std::int64_t width = 3 * c.channels(), d = c.head_dim;
  std::vector<double> middle(qkv.size()), out(qkv.size());
  for (std::int64_t i = 0; i < c.batch * c.positions() * width; ++i) {
    const std::int64_t channel = i % width, place = i / width;
    const std::int64_t w = place % c.size[2], h = place / c.size[2] % c.size[1];
    const std::int64_t t = place / c.size[2] / c.size[1] % c.size[0];
    for (std::int64_t tap = 0; tap < c.taps(); ++tap) {
      const std::int64_t dt = tap / c.kernel[1] / c.kernel[2] - c.kernel[0] / 2;
      const std::int64_t dh = tap / c.kernel[2] % c.kernel[1] - c.kernel[1] / 2;
      const std::int64_t dw = tap % c.kernel[2] - c.kernel[2] / 2;
      if (t + dt < 0 || t + dt >= c.size[0] || h + dh < 0 || h + dh >= c.size[1] || w + dw < 0 ||
          w + dw >= c.size[2]) {
        continue;
      }
      const std::int64_t from = i + ((dt * c.size[1] + dh) * c.size[2] + dw) * width;
      middle[at(i)] += static_cast<double>(depth[at(channel * c.taps() + tap)]) *
                       static_cast<double>(qkv[at(from)]);
    }
  }
  for (std::int64_t i = 0; i < c.batch * c.positions() * width; ++i) {
    const std::int64_t channel = i % width, first = i / d * d;
    for (std::int64_t j = 0; j < d; ++j) {
      out[at(i)] += static_cast<double>(point[at(channel * d + j)]) * middle[at(first + j)];
    }
  }
  return out;
}

// One scale's heads into the channels of y [B, P, 2 C] from `first` on.
void attend(const Case& c, const std::vector<double>& qkv, std::int64_t first,
            std::vector<double>& y) {
  const std::int64_t d = c.head_dim, width = 3 * c.channels();
  const auto relu = [](double value) { return std::max(value, 0.0); };
  for (std::int64_t head = 0; head < c.batch * c.heads; ++head) {
    const std::int64_t b = head / c.heads, n = head % c.heads;
    const double* const begin = qkv.data() + b * c.positions() * width + 3 * n * d;
    std::vector<double> state(at(d * d)), total(at(d));
    for (std::int64_t p = 0; p < c.positions(); ++p) {
      const double* const q = begin + p * width;
      for (std::int64_t j = 0; j < d; ++j) {
        const double k = relu(q[d + j]);
        total[at(j)] += k;
        for (std::int64_t i = 0; i < d; ++i) state[at(i * d + j)] += q[2 * d + i] * k;
      }
    }
    for (std::int64_t p = 0; p < c.positions(); ++p) {
      const double* const q = begin + p * width;
      double denominator = kEps;
      for (std::int64_t j = 0; j < d; ++j) denominator += total[at(j)] * relu(q[j]);
      for (std::int64_t i = 0; i < d; ++i) {
        double sum = 0.0;
        for (std::int64_t j = 0; j < d; ++j) sum += state[at(i * d + j)] * relu(q[j]);
        y[at((b * c.positions() + p) * 2 * c.channels() + first + n * d + i)] = sum / denominator;
      }
    }
  }
}

template <class T>
void run_case(const Case& c, Isa isa) {
  const std::string name = "B" + std::to_string(c.batch) + " " + std::to_string(c.heads) +
                           " heads of " + std::to_string(c.head_dim) + " T" +
                           std::to_string(c.size[0]) + " H" + std::to_string(c.size[1]) + " W" +
                           std::to_string(c.size[2]) + (sizeof(T) == 2 ? " bfloat16" : " float32");
  const std::int64_t width = 3 * c.channels(), count = c.batch * c.positions() * width;
  // Means above zero keep the denominators away from it.
  const std::vector<T> qkv = normal<T>(count, 1, 0.5f);
  const std::vector<T> depth =
      normal<T>(width * c.taps(), 2, 0.0f, 1.0f / static_cast<float>(c.taps()));
  const std::vector<T> point = normal<T>(width * c.head_dim, 3, 0.2f);
  std::vector<double> want(at(c.batch * c.positions() * 2 * c.channels()));
  const std::vector<float> wide = widened(qkv);
  attend(c, std::vector<double>(wide.begin(), wide.end()), 0, want);
  attend(c, aggregate(c, wide, widened(depth), widened(point)), c.channels(), want);

  Guarded<T> y(static_cast<std::int64_t>(want.size()));
  LinearAttentionParams params{};
  params.qkv = qkv.data();
  params.depth_weight = depth.data();
  params.point_weight = point.data();
  params.y = y.data();
  params.batch = c.batch;
  params.channels = c.channels();
  std::copy_n(c.size, 3, params.size);
  params.head_dim = c.head_dim;
  std::copy_n(c.kernel, 3, params.kernel);
  params.eps = kEps;
  params.dtype = sizeof(T) == 2 ? DType::kBFloat16 : DType::kFloat32;

  const auto run = [&] { osf::linear_attention_cpu(params, isa); };
  run();
  // An aggregated q in bfloat16 is off by half a unit of its own: twice that of the result.
  const double units = sizeof(T) == 2 ? 131072.0 : 256.0;
  osf::testing::expect_close<T>(y.values(), want, units, 0.25, name);
  osf::testing::expect_same_again(run, y, name);
}

void refusals(Isa isa) {
  std::vector<float> data(8, 1.0f);
  LinearAttentionParams params{};
  params.qkv = params.depth_weight = params.point_weight = data.data();
  params.y = data.data();
  params.batch = params.head_dim = 1;
  std::fill_n(params.size, 3, 1);
  std::fill_n(params.kernel, 3, 1);
  params.channels = 0;
  osf::testing::expect_refused([&] { osf::linear_attention_cpu(params, isa); }, "no channel");
  params.channels = 1;
  params.kernel[1] = 2;
  osf::testing::expect_refused([&] { osf::linear_attention_cpu(params, isa); }, "an even kernel");
  params.kernel[1] = 1;
  params.dtype = DType::kFloat16;
  osf::testing::expect_refused([&] { osf::linear_attention_cpu(params, isa); }, "float16");
}

void all(Isa isa) {
  const Case cases[] = {
      {1, 1, 1, {1, 1, 1}, {1, 1, 1}},
      {2, 2, 32, {3, 5, 9}, {5, 5, 5}},
      {1, 1, 5, {11, 3, 4}, {3, 1, 7}},
      // Several tiles in time, and several strips.
      {1, 1, 32, {19, 4, 3}, {5, 5, 5}},
      {1, 1, 16, {1, 11, 900}, {5, 5, 5}},
      {1, 1, 48, {2, 2, 17}, {1, 3, 5}},
      {0, 1, 32, {2, 2, 2}, {5, 5, 5}},
  };
  for (const Case& c : cases) {
    run_case<float>(c, isa);
    run_case<BFloat16>(c, isa);
  }
  refusals(isa);
}

}  // namespace

int main(int argc, char** argv) { return osf::testing::main(argc, argv, all); }
