// gate_residual on one instruction set (the only argument) against the formula in double.

#include "cpu/gate_residual.h"

#include <string>
#include <vector>

#include "tests/testing.h"

namespace {

using osf::BFloat16;
using osf::DType;
using osf::GateResidualParams;
using osf::Isa;
using osf::testing::at;
using osf::testing::Guarded;
using osf::testing::normal;
using osf::testing::widened;

struct Case {
  std::int64_t batch, length, width;
};

template <class T, class Branch>
void run_case(const Case& c, Isa isa) {
  const std::string name = "B" + std::to_string(c.batch) + " L" + std::to_string(c.length) + " M" +
                           std::to_string(c.width) + (sizeof(T) == 2 ? " bfloat16" : " float32") +
                           (sizeof(Branch) == sizeof(T) ? "" : ", narrower branch");
  const std::int64_t count = c.batch * c.length * c.width;
  const std::vector<T> x = normal<T>(count, 1), gate = normal<T>(c.batch * c.width, 2);
  const std::vector<Branch> branch = normal<Branch>(count, 3);
  Guarded<T> y(count);
  GateResidualParams params{};
  params.x = x.data();
  params.gate = gate.data();
  params.branch = branch.data();
  params.y = y.data();
  params.batch = c.batch;
  params.length = c.length;
  params.width = c.width;
  params.dtype = sizeof(T) == 2 ? DType::kBFloat16 : DType::kFloat32;
  params.branch_dtype = sizeof(Branch) == 2 ? DType::kBFloat16 : DType::kFloat32;
  const auto call = [&] { osf::gate_residual_cpu(params, isa); };
  call();

  const std::vector<float> xs = widened(x), gates = widened(gate), branches = widened(branch);
  std::vector<double> want;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t channel = i / (c.length * c.width) * c.width + i % c.width;
    want.push_back(static_cast<double>(xs[at(i)]) +
                   static_cast<double>(gates[at(channel)]) * static_cast<double>(branches[at(i)]));
  }
  // Without a fused instruction the product is rounded too: products reach about 10.
  osf::testing::expect_close<T>(y.values(), want, 1.0, 10.0, name);
  osf::testing::expect_same_again(call, y, name);
}

void refusals(Isa isa) {
  std::vector<float> data(8, 1.0f);
  GateResidualParams params{data.data(), data.data(), data.data(),      data.data(),    1,
                            2,           4,           DType::kBFloat16, DType::kFloat32};
  osf::testing::expect_refused([&] { osf::gate_residual_cpu(params, isa); }, "a wider branch");
  params.dtype = DType::kFloat16;
  osf::testing::expect_refused([&] { osf::gate_residual_cpu(params, isa); }, "float16");
}

void all(Isa isa) {
  for (const Case& c : {Case{1, 1, 1}, Case{3, 7, 48}, Case{2, 5, 31}, Case{1, 6, 3072},
                        Case{0, 3, 8}, Case{2, 0, 8}}) {
    run_case<float, float>(c, isa);
    run_case<float, BFloat16>(c, isa);
    run_case<BFloat16, BFloat16>(c, isa);
  }
  refusals(isa);
}

}  // namespace

int main(int argc, char** argv) { return osf::testing::main(argc, argv, all); }
