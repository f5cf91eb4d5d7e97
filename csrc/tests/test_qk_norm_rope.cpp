// qk_norm_rope on one instruction set (the only argument) against the formula in double.

#include "cpu/qk_norm_rope.h"

#include <cmath>
#include <string>
#include <vector>

#include "tests/testing.h"

namespace {

using osf::BFloat16;
using osf::DType;
using osf::Isa;
using osf::QkNormRopeParams;
using osf::testing::at;
using osf::testing::Guarded;
using osf::testing::normal;
using osf::testing::widened;

struct Case {
  std::int64_t batch, length, heads, dim;
  bool interleaved;
  bool table_per_sample;
};

template <class T>
double rounded_to(double value) {
  T narrow;
  osf::from_float(static_cast<float>(value), &narrow);
  return static_cast<double>(osf::to_float(narrow));
}

// The definition, in double with the two inner roundings, for `part` of a projection that holds
// q, k and v side by side.
template <class T>
std::vector<double> exact(const Case& c, const std::vector<float>& qkv, std::int64_t part,
                          const std::vector<float>& scale, const std::vector<float>& cos,
                          const std::vector<float>& sin) {
  std::vector<double> y(at(c.batch * c.length * c.heads * c.dim));
  std::vector<double> n(at(c.dim));
  for (std::int64_t i = 0; i < c.batch * c.length * c.heads; ++i) {
    const std::int64_t row = i / c.heads;
    const float* const x = qkv.data() + ((row * 3 + part) * c.heads + i % c.heads) * c.dim;
    double square = 0.0;
    for (std::int64_t d = 0; d < c.dim; ++d) square += std::pow(static_cast<double>(x[d]), 2.0);
    const double rstd = 1.0 / std::sqrt(square / static_cast<double>(c.dim) + 1e-6);
    for (std::int64_t d = 0; d < c.dim; ++d) {
      const double normed = rounded_to<T>(static_cast<double>(x[d]) * rstd);
      n[at(d)] = rounded_to<T>(normed * static_cast<double>(scale[at(d)]));
    }
    const std::int64_t table = (c.table_per_sample ? row : row % c.length) * c.dim / 2;
    for (std::int64_t j = 0; j < c.dim / 2; ++j) {
      const std::size_t a = at(c.interleaved ? 2 * j : j);
      const std::size_t b = at(c.interleaved ? 2 * j + 1 : j + c.dim / 2);
      const double cosine = static_cast<double>(cos[at(table + j)]);
      const double sine = static_cast<double>(sin[at(table + j)]);
      y[at(i * c.dim) + a] = n[a] * cosine - n[b] * sine;
      y[at(i * c.dim) + b] = n[b] * cosine + n[a] * sine;
    }
  }
  return y;
}

template <class T>
void run_case(const Case& c, Isa isa) {
  const std::string name = "B" + std::to_string(c.batch) + " L" + std::to_string(c.length) + " N" +
                           std::to_string(c.heads) + " D" + std::to_string(c.dim) +
                           (c.interleaved ? " interleaved" : " half") +
                           (c.table_per_sample ? " per sample" : "") +
                           (sizeof(T) == 2 ? " bfloat16" : " float32");
  const std::int64_t size = c.heads * c.dim, count = c.batch * c.length * size;
  const std::vector<T> qkv = normal<T>(3 * count, 1);
  const std::vector<T> q_scale = normal<T>(c.dim, 2, 1.0f, 0.3f), k_scale = normal<T>(c.dim, 3);
  std::vector<float> cos, sin;
  const std::int64_t tables = (c.table_per_sample ? c.batch : 1) * c.length * c.dim / 2;
  for (const float angle : normal<float>(tables, 4, 0.0f, 3.0f)) {
    cos.push_back(std::cos(angle));
    sin.push_back(std::sin(angle));
  }
  Guarded<T> q(count), k(count);
  QkNormRopeParams params{};
  params.q = {qkv.data(), q.data(), q_scale.data(), 3 * size * c.length, 3 * size, c.dim};
  params.k = {qkv.data() + size, k.data(), k_scale.data(), 3 * size * c.length, 3 * size, c.dim};
  params.cos = cos.data();
  params.sin = sin.data();
  params.batch = c.batch;
  params.length = c.length;
  params.heads = c.heads;
  params.head_dim = c.dim;
  params.eps = 1e-6;
  params.interleaved = c.interleaved;
  params.table_per_sample = c.table_per_sample;
  params.dtype = params.scale_dtype = sizeof(T) == 2 ? DType::kBFloat16 : DType::kFloat32;
  const auto call = [&] { osf::qk_norm_rope_cpu(params, isa); };
  call();
  // In bfloat16 an inner rounding that falls the other way costs a unit of either product.
  const double units = sizeof(T) == 2 ? std::ldexp(1.0, 18) : 8.0;
  osf::testing::expect_close<T>(
      q.values(), exact<T>(c, widened(qkv), 0, widened(q_scale), cos, sin), units, 1.0, name);
  osf::testing::expect_close<T>(
      k.values(), exact<T>(c, widened(qkv), 1, widened(k_scale), cos, sin), units, 1.0, name);
  osf::testing::expect_same_again(call, q, name);
  osf::testing::expect_same_again(call, k, name);
}

void refusals(Isa isa) {
  std::vector<float> data(16, 1.0f);
  QkNormRopeParams params{};
  params.batch = params.length = params.heads = 1;
  params.head_dim = 5;
  osf::testing::expect_refused([&] { osf::qk_norm_rope_cpu(params, isa); }, "an odd head");
  params.head_dim = 2 * osf::kQkNormRopeMaxHeadDim;
  osf::testing::expect_refused([&] { osf::qk_norm_rope_cpu(params, isa); }, "a head too wide");
  params.head_dim = 4;
  params.scale_dtype = DType::kFloat16;
  osf::testing::expect_refused([&] { osf::qk_norm_rope_cpu(params, isa); }, "float16");
}

void all(Isa isa) {
  const Case cases[] = {
      {1, 1, 1, 2, false, false},  {2, 7, 3, 16, false, false}, {2, 5, 2, 10, true, false},
      {2, 5, 2, 70, false, true},  {2, 3, 2, 70, true, true},   {1, 9, 4, 128, false, false},
      {1, 9, 4, 128, true, false}, {0, 4, 2, 8, false, false},  {1, 2, 1, 512, true, false},
  };
  for (const Case& c : cases) {
    run_case<float>(c, isa);
    run_case<BFloat16>(c, isa);
  }
  refusals(isa);
}

}  // namespace

int main(int argc, char** argv) { return osf::testing::main(argc, argv, all); }
