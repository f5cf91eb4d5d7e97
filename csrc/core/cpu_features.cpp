#include "core/cpu_features.h"

#include <cstdlib>

#if defined(__linux__)
#include <unistd.h>
#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#endif
#endif

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
bool has_avx512_bf16() { return has_avx512() && __builtin_cpu_supports("avx512bf16"); }
#else
bool has_avx2() { return false; }
bool has_avx512() { return false; }
bool has_avx512_bf16() { return false; }
#endif

#if defined(__x86_64__) && defined(__linux__)
// Linux hands the tiles' state out on request, once for the process and all its threads.
bool tiles_granted() {
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;               // XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
bool find_amx() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!has_avx512_bf16() || __get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  constexpr unsigned kAmxBf16 = 1u << 22, kAmxTile = 1u << 24;
  if ((d & kAmxBf16) == 0 || (d & kAmxTile) == 0) return false;
  return tiles_granted();
}
bool has_amx() {
  // Asked once: in a virtual machine cpuid takes microseconds, and every call of a kernel asks.
  static const bool found = find_amx();
  return found;
}
#else
bool has_amx() { return false; }
#endif

const IsaEntry kIsas[] = {
    {Isa::kScalar, "scalar", [] { return true; }},
    {Isa::kAvx2, "avx2", has_avx2},
    {Isa::kAvx512, "avx512", has_avx512},
    {Isa::kAvx512Bf16, "avx512_bf16", has_avx512_bf16},
    {Isa::kAmx, "amx", has_amx},
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
  check(false, "OPENSORA_FAST_CPU_ISA=", forced,
        ": not one of scalar, avx2, avx512, avx512_bf16, amx");
  return best;
}

std::int64_t l2_cache_bytes() {
  constexpr std::int64_t kCommon = 1 << 20;
#if defined(_SC_LEVEL2_CACHE_SIZE)
  static const std::int64_t reported = sysconf(_SC_LEVEL2_CACHE_SIZE);
  if (reported > 0) return reported;
#endif
  return kCommon;
}

}  // namespace osf
