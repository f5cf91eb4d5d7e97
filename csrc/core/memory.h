// Advice to the operating system about memory that a kernel is about to write.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace osf {

// Asks for huge pages behind a large output. The C library maps so much memory afresh at every
// allocation, and touching it for the first time in pages of 4 KiB takes as long as writing it.
// Advice only: nothing is changed where the system does not follow it.
inline void advise_huge_pages(void* start, std::int64_t bytes) {
#if defined(__linux__)
  constexpr std::uintptr_t kHugePage = std::uintptr_t{2} << 20;
  constexpr std::int64_t kMappedAfresh = std::int64_t{8} << 20;
  if (bytes < kMappedAfresh) return;
  const auto address = reinterpret_cast<std::uintptr_t>(start);
  const std::uintptr_t first = (address + kHugePage - 1) / kHugePage * kHugePage;
  const std::uintptr_t end = (address + static_cast<std::uintptr_t>(bytes)) / kHugePage * kHugePage;
  static_cast<void>(madvise(reinterpret_cast<void*>(first), end - first, MADV_HUGEPAGE));
#else
  static_cast<void>(start);
  static_cast<void>(bytes);
#endif
}

}  // namespace osf
