// frame_causal_attention on one instruction set (the only argument) against the formula in double.

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "cpu/frame_causal_attention/frame_causal_attention.h"
#include "tests/testing.h"

namespace {

using osf::BFloat16;
using osf::DType;
using osf::FrameCausalAttentionParams;
using osf::Isa;
using osf::testing::at;
using osf::testing::Guarded;
using osf::testing::normal;
using osf::testing::widened;

struct Case {
  std::int64_t batch, frames, tokens, head_dim;
  std::int64_t gap;  // elements between tokens of q, k and v
  float deviation;   // of q: large ones make one weight outweigh the others
};

struct Outputs {
  std::vector<double> y;
  std::vector<double> lse;
};

// The definition, in double, on the values as the kernel sees them.
Outputs exact(const Case& c, const std::vector<float>& q, const std::vector<float>& k,
              const std::vector<float>& v) {
  const std::int64_t length = c.frames * c.tokens, step = c.head_dim + c.gap;
  Outputs out;
  for (std::int64_t i = 0; i < c.batch * length; ++i) {
    const std::int64_t first = i / length * length;
    const std::int64_t end = first + (i % length / c.tokens + 1) * c.tokens;
    std::vector<double> scores;
    for (std::int64_t j = first; j < end; ++j) {
      double score = 0.0;
      for (std::int64_t d = 0; d < c.head_dim; ++d) {
        score +=
            static_cast<double>(q[at(i * step + d)]) * static_cast<double>(k[at(j * step + d)]);
      }
      scores.push_back(score / std::sqrt(static_cast<double>(c.head_dim)));
    }
    const double largest = *std::max_element(scores.begin(), scores.end());
    double total = 0.0;
    for (double& score : scores) total += score = std::exp(score - largest);
    for (std::int64_t d = 0; d < c.head_dim; ++d) {
      double sum = 0.0;
      for (std::int64_t j = first; j < end; ++j) {
        sum += scores[at(j - first)] * static_cast<double>(v[at(j * step + d)]);
      }
      out.y.push_back(sum / total);
    }
    out.lse.push_back(largest + std::log(total));
  }
  return out;
}

template <class T>
FrameCausalAttentionParams params_of(const Case& c, const std::vector<T>& q,
                                     const std::vector<T>& k, const std::vector<T>& v) {
  const std::int64_t length = c.frames * c.tokens, step = c.head_dim + c.gap;
  FrameCausalAttentionParams params{};
  params.q = {q.data(), length * step, step};
  params.k = {k.data(), length * step, step};
  params.v = {v.data(), length * step, step};
  params.batch = c.batch;
  params.length = length;
  params.num_frames = c.frames;
  params.head_dim = c.head_dim;
  params.dtype = sizeof(T) == 2 ? DType::kBFloat16 : DType::kFloat32;
  return params;
}

template <class T>
void run_case(const Case& c, Isa isa) {
  const std::string name = "B" + std::to_string(c.batch) + " F" + std::to_string(c.frames) + " P" +
                           std::to_string(c.tokens) + " D" + std::to_string(c.head_dim) +
                           (sizeof(T) == 2 ? " bfloat16" : " float32");
  const std::int64_t length = c.frames * c.tokens, count = c.batch * length;
  const std::int64_t size = count * (c.head_dim + c.gap);
  const std::vector<T> q = normal<T>(size, 1, 0.0f, c.deviation);
  const std::vector<T> k = normal<T>(size, 2), v = normal<T>(size, 3);
  Guarded<T> y(count * c.head_dim);
  Guarded<float> lse(count);
  FrameCausalAttentionParams params = params_of(c, q, k, v);
  params.y = y.data();
  params.lse = lse.data();
  const auto call = [&] { osf::frame_causal_attention_cpu(params, isa); };
  call();
  const Outputs want = exact(c, widened(q), widened(k), widened(v));
  // What D roundings make of a score is the relative error of its weight.
  const double units =
      8.0 + 2.0 * static_cast<double>(c.deviation) * std::sqrt(static_cast<double>(c.head_dim));
  // On tiles the weights are rounded to bfloat16 as y is.
  const double rounded_weights = isa == Isa::kAmx && sizeof(T) == 2 ? std::ldexp(1.0, 16) : 0.0;
  osf::testing::expect_close<T>(y.values(), want.y, units + rounded_weights, 1.0, name);
  osf::testing::expect_close<float>(lse.values(), want.lse, units, 1.0, name + " log-sum-exp");
  osf::testing::expect_same_again(call, y, name);
  osf::testing::expect_same_again(call, lse, name + " log-sum-exp");
}

// What a later frame holds changes no bit, not even where it is no number.
template <class T>
void future(Isa isa) {
  const Case c{1, 3, 37, 136, 0, 1.0f};
  const std::int64_t size = c.frames * c.tokens * c.head_dim, seen = size / c.frames * 2;
  std::vector<T> q = normal<T>(size, 1), k = normal<T>(size, 2), v = normal<T>(size, 3);
  std::vector<std::vector<float>> results;
  for (int run = 0; run < 2; ++run) {
    Guarded<T> y(size);
    Guarded<float> lse(c.frames * c.tokens);
    FrameCausalAttentionParams params = params_of(c, q, k, v);
    params.y = y.data();
    params.lse = lse.data();
    osf::frame_causal_attention_cpu(params, isa);
    std::vector<float> values = y.values();
    values.resize(at(seen));
    results.push_back(values);
    for (std::vector<T>* x : {&q, &k, &v}) {
      for (std::size_t i = at(seen); i < x->size(); ++i) {
        osf::from_float(std::numeric_limits<float>::quiet_NaN(), &(*x)[i]);
      }
    }
  }
  osf::testing::expect(results[0] == results[1], "a later frame changes an earlier one");
}

void refusals(Isa isa) {
  std::vector<float> data(64, 1.0f);
  const osf::TokensView view{data.data(), 16, 4};
  FrameCausalAttentionParams params{view, view, view, data.data(), data.data(),
                                    1,    4,    2,    4,           DType::kFloat32};
  const auto call = [&] { osf::frame_causal_attention_cpu(params, isa); };
  params.num_frames = 3;
  osf::testing::expect_refused(call, "a third of four tokens");
  params.num_frames = 2;
  params.head_dim = 0;
  osf::testing::expect_refused(call, "no channel");
  params.head_dim = 4;
  params.dtype = DType::kFloat16;
  osf::testing::expect_refused(call, "float16");
}

void all(Isa isa) {
  const Case cases[] = {
      {1, 1, 1, 1, 0, 1.0f},     {2, 3, 7, 16, 0, 1.0f},   {1, 2, 33, 32, 3, 1.0f},
      {3, 5, 1, 8, 0, 1.0f},     {1, 3, 50, 67, 1, 8.0f},  {1, 2, 150, 24, 0, 1.0f},
      {1, 2, 150, 136, 0, 1.0f}, {1, 2, 280, 40, 8, 1.0f}, {1, 2, 72, 512, 0, 1.0f},
      {1, 1, 40, 1100, 0, 4.0f}, {0, 2, 3, 8, 0, 1.0f},    {1, 3, 0, 8, 0, 1.0f},
  };
  for (const Case& c : cases) {
    run_case<float>(c, isa);
    run_case<BFloat16>(c, isa);
  }
  future<float>(isa);
  future<BFloat16>(isa);
  refusals(isa);
}

}  // namespace

int main(int argc, char** argv) { return osf::testing::main(argc, argv, all); }
