// The CUDA kernel of qk_norm_rope in an emulation (cuda_emulation.h) against the formula in double:
// vectors and single values, both layouts, teams with idle lanes, heads shared out, any strides.

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/cuda_emulation.h"
//
#include "cuda/qk_norm_rope-inl.cuh"
#include "tests/testing.h"

namespace {

namespace emulation = osf::cuda::emulation;
namespace kernel = osf::cuda::qk_norm_rope;
using osf::BFloat16;
using osf::to_float;
using osf::testing::at;
using osf::testing::expect;
using osf::testing::Guarded;
using osf::testing::normal;

struct Case {
  std::int64_t batch, length, heads, dim;
  std::int64_t heads_per_team;
  int lanes;
  bool interleaved, per_sample, float_scale;
};

template <class T>
struct Side {
  std::vector<T> x, scale;
  std::vector<float> wide_scale;
  Guarded<T> y;

  Side(const Case& c, unsigned seed)
      : x(normal<T>(2 * c.batch * c.length * c.heads * c.dim, seed, 0.3f)),
        scale(normal<T>(c.dim, seed + 1, 1.0f, 0.3f)),
        wide_scale(normal<float>(c.dim, seed + 1, 1.0f, 0.3f)),
        y(c.batch * c.length * c.heads * c.dim) {}

  // Every other head of a tensor of twice as many.
  osf::cuda::HeadsView view(const Case& c) {
    const std::int64_t head = 2 * c.dim;
    const void* const scales =
        c.float_scale ? static_cast<const void*>(wide_scale.data()) : scale.data();
    return {x.data(), y.data(), scales, c.length * c.heads * head, c.heads * head, head};
  }
};

template <class T>
double twice_rounded(double v, double scale) {
  T out;
  osf::from_float(static_cast<float>(v), &out);
  osf::from_float(static_cast<float>(static_cast<double>(to_float(out)) * scale), &out);
  return static_cast<double>(to_float(out));
}

template <class T>
std::vector<double> expected(const Case& c, const Side<T>& side, const std::vector<float>& cos,
                             const std::vector<float>& sin) {
  std::vector<double> out(at(c.batch * c.length * c.heads * c.dim));
  const std::int64_t half = c.dim / 2;
  for (std::int64_t row = 0; row < c.batch * c.length * c.heads; ++row) {
    const T* const x = side.x.data() + 2 * row * c.dim;
    double square = 0.0;
    for (std::int64_t i = 0; i < c.dim; ++i) square += std::pow(to_float(x[i]), 2);
    const double rstd = 1.0 / std::sqrt(square / static_cast<double>(c.dim) + 1e-6);
    const auto normed = [&](std::int64_t i) {
      const double scale =
          static_cast<double>(c.float_scale ? side.wide_scale[at(i)] : to_float(side.scale[at(i)]));
      return twice_rounded<T>(static_cast<double>(to_float(x[i])) * rstd, scale);
    };
    const std::int64_t token = row / c.heads;
    const std::int64_t table = (c.per_sample ? token : token % c.length) * half;
    for (std::int64_t j = 0; j < half; ++j) {
      const std::int64_t a = c.interleaved ? 2 * j : j, b = c.interleaved ? 2 * j + 1 : half + j;
      const double turn = static_cast<double>(cos[at(table + j)]);
      const double by = static_cast<double>(sin[at(table + j)]);
      out[at(row * c.dim + a)] = normed(a) * turn - normed(b) * by;
      out[at(row * c.dim + b)] = normed(b) * turn + normed(a) * by;
    }
  }
  return out;
}

template <class T>
kernel::Problem problem_of(const Case& c, Side<T>& q, Side<T>& k, const std::vector<float>& cos,
                           const std::vector<float>& sin) {
  kernel::Problem p{};
  p.q = q.view(c);
  p.k = k.view(c);
  p.cos = cos.data();
  p.sin = sin.data();
  p.heads = c.heads;
  p.heads_per_team = c.heads_per_team;
  p.length = static_cast<unsigned>(c.length);
  p.chunks = static_cast<unsigned>((c.heads + c.heads_per_team - 1) / c.heads_per_team);
  p.teams = 2 * static_cast<unsigned>(c.batch * c.length) * p.chunks;
  p.half = static_cast<int>(c.dim / 2);
  p.lanes = c.lanes;
  p.eps = 1e-6f;
  p.interleaved = c.interleaved;
  p.table_per_sample = c.per_sample;
  p.scale_float = c.float_scale;
  return p;
}

template <class T, int kVec>
void run_kernel(const kernel::Problem& p) {
  if constexpr (kVec == 1) {
    kernel::run<T, 1, kernel::kSinglePieces, false>(p);
  } else {
    p.interleaved ? kernel::run<T, kVec, 1, true>(p) : kernel::run<T, kVec, 1, false>(p);
  }
}

template <class T, int kVec>
void run_case(const Case& c) {
  const std::string name = std::to_string(c.batch) + "x" + std::to_string(c.length) + "x" +
                           std::to_string(c.heads) + "x" + std::to_string(c.dim) +
                           (c.interleaved ? " interleaved" : " half") + ", vectors of " +
                           std::to_string(kVec) + (sizeof(T) == 2 ? " bfloat16" : " float32");
  Side<T> q(c, 1), k(c, 11);
  const std::int64_t angles = (c.per_sample ? c.batch : 1) * c.length * c.dim / 2;
  std::vector<float> cos = normal<float>(angles, 21, 0.0f, 3.0f), sin = cos;
  for (float& v : cos) v = std::cos(v);
  for (float& v : sin) v = std::sin(v);
  const kernel::Problem p = problem_of(c, q, k, cos, sin);
  const unsigned teams = kernel::kThreads / static_cast<unsigned>(c.lanes);
  for (unsigned i = 0; i < (p.teams + teams - 1) / teams; ++i) {
    osf::cuda::blockIdx.x = i;
    try {
      emulation::Block(kernel::kThreads, 0, {}).run([&] { run_kernel<T, kVec>(p); });
    } catch (const std::runtime_error& error) {
      expect(false, name + ": " + error.what());
    }
  }
  // A value between two roundings may be rounded the other way, and then turned.
  const double units = sizeof(T) == 2 ? 0x1p18 : 16.0;
  for (Side<T>* side : {&q, &k}) {
    const std::vector<double> want = expected(c, *side, cos, sin);
    osf::testing::expect_close<T>(side->y.values(), want, units, 1.0, name);
    expect(side->y.intact(), name + ": wrote out of bounds");
  }
}

}  // namespace

int main() {
  run_case<BFloat16, 8>({2, 3, 5, 128, 3, 8, false, true, false});
  run_case<BFloat16, 8>({1, 5, 3, 128, 2, 8, true, false, true});
  run_case<BFloat16, 8>({1, 2, 3, 96, 3, 8, true, true, false});  // two lanes of a team idle
  run_case<BFloat16, 1>({1, 3, 2, 72, 1, 16, false, false, false});
  run_case<float, 4>({1, 3, 4, 64, 4, 8, true, false, false});
  run_case<float, 4>({1, 2, 1, 256, 1, 32, false, false, false});
  run_case<float, 1>({2, 2, 3, 10, 2, 2, true, true, false});  // pairs across the middle
  run_case<float, 1>({1, 3, 1, 2, 1, 1, false, false, true});
  std::printf("%s\n", osf::testing::failures == 0 ? "all passed" : "failed");
  return osf::testing::failures == 0 ? 0 : 1;
}
