// Advice to the operating system about memory that a kernel is about to write.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace osf {

// Results smaller than this come from memory that the C library keeps.
inline constexpr std::int64_t kMappedAfresh = std::int64_t{8} << 20;

// Asks for huge pages behind `bytes` bytes, unless they are fewer than `least`. The C library maps
// large results afresh at every allocation, and touching them for the first time in pages of 4 KiB
// takes as long as writing them. Advice only: nothing is changed where the system does not follow
// it.
inline void advise_huge_pages(void* start, std::int64_t bytes, std::int64_t least = kMappedAfresh) {
#if defined(__linux__)
  constexpr std::uintptr_t kHugePage = std::uintptr_t{2} << 20;
  if (bytes < least) return;
  const auto address = reinterpret_cast<std::uintptr_t>(start);
  const std::uintptr_t first = (address + kHugePage - 1) / kHugePage * kHugePage;
  const std::uintptr_t end = (address + static_cast<std::uintptr_t>(bytes)) / kHugePage * kHugePage;
  if (end <= first) return;
  static_cast<void>(madvise(reinterpret_cast<void*>(first), end - first, MADV_HUGEPAGE));
#else
  static_cast<void>(start);
  static_cast<void>(bytes);
  static_cast<void>(least);
#endif
}

}  // namespace osf
