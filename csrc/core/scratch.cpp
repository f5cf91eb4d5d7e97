#include "core/scratch.h"

#include <cstdlib>
#include <new>

#include "core/memory.h"

namespace osf {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;
// More than this is given back after the call.
constexpr std::size_t kKept = std::size_t{256} << 20;

struct Block {
  char* base = nullptr;
  std::size_t size = 0;
  ~Block() { std::free(base); }
};

thread_local Block kept;

char* allocate(std::size_t size) {
  void* memory = std::aligned_alloc(kHugePage, size);
  if (memory == nullptr) throw std::bad_alloc();
  advise_huge_pages(memory, static_cast<std::int64_t>(size), /*least=*/0);
  return static_cast<char*>(memory);
}

}  // namespace

Scratch::Scratch(std::size_t bytes) : size_((bytes + kHugePage - 1) / kHugePage * kHugePage) {
  if (kept.size >= size_) {
    base_ = kept.base;
    size_ = kept.size;
  } else {
    std::free(kept.base);
    kept.base = nullptr;
    kept.size = 0;
    base_ = allocate(size_);
  }
  // Taken out, so that a call within a call gets memory of its own.
  kept.base = nullptr;
  kept.size = 0;
}

Scratch::~Scratch() {
  if (size_ > kKept || size_ < kept.size) {
    std::free(base_);
    return;
  }
  std::free(kept.base);
  kept.base = base_;
  kept.size = size_;
}

void* Scratch::take_bytes(std::size_t bytes) {
  char* const start = base_ + used_;
  used_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
  if (used_ > size_) throw std::bad_alloc();
  return start;
}

}  // namespace osf
