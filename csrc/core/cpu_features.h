// Which instruction set the CPU kernels use: the best the processor has, or the one that the
// environment variable OPENSORA_FAST_CPU_ISA forces (scalar, avx2, avx512, avx512_bf16 or amx).
// Each includes those before it; avx512_bf16 adds products of bfloat16 pairs, amx bfloat16 matrix
// tiles.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace osf {

enum class Isa { kScalar = 0, kAvx2 = 1, kAvx512 = 2, kAvx512Bf16 = 3, kAmx = 4 };

const char* isa_name(Isa isa);

// Whether this processor and operating system run the instruction set.
bool isa_supported(Isa isa);

// The supported ones, from scalar upwards.
std::vector<Isa> supported_isas();

// The instruction set in force. Reads the environment at every call, so that a test can change it;
// throws std::invalid_argument for an unknown name or one that the processor does not have.
Isa selected_isa();

// Bytes of the level-2 cache of a core; a common size where the system does not say.
std::int64_t l2_cache_bytes();

}  // namespace osf
