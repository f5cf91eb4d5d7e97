#include "core/cpu_features.h"

#include <cstdlib>

#include "core/check.h"

namespace osf {
namespace {

struct IsaEntry {
  Isa isa;
  const char* name;
  bool (*supported)();
};

// __builtin_cpu_supports asks cpuid and also whether the operating system saves the registers.
#if defined(__x86_64__)
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c");
}
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#else
bool has_avx2() { return false; }
bool has_avx512() { return false; }
#endif

const IsaEntry kIsas[] = {
    {Isa::kScalar, "scalar", [] { return true; }},
    {Isa::kAvx2, "avx2", has_avx2},
    {Isa::kAvx512, "avx512", has_avx512},
};

const IsaEntry& entry(Isa isa) { return kIsas[static_cast<int>(isa)]; }

}  // namespace

const char* isa_name(Isa isa) { return entry(isa).name; }

bool isa_supported(Isa isa) { return entry(isa).supported(); }

std::vector<Isa> supported_isas() {
  std::vector<Isa> isas;
  for (const IsaEntry& candidate : kIsas) {
    if (candidate.supported()) isas.push_back(candidate.isa);
  }
  return isas;
}

Isa selected_isa() {
  static const Isa best = supported_isas().back();
  const char* forced = std::getenv("OPENSORA_FAST_CPU_ISA");
  if (forced == nullptr || *forced == '\0') return best;
  for (const IsaEntry& candidate : kIsas) {
    if (std::string(forced) != candidate.name) continue;
    check(candidate.supported(), "OPENSORA_FAST_CPU_ISA=", forced,
          ": this processor does not have it; the best it has is ", isa_name(best));
    return candidate.isa;
  }
  check(false, "OPENSORA_FAST_CPU_ISA=", forced, ": not one of scalar, avx2, avx512");
  return best;
}

}  // namespace osf
