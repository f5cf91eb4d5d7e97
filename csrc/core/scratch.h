// Working memory of a kernel: taken at the start of a call, kept for the thread's next call, so
// that its pages are mapped once. Aligned to huge pages, which the transforms' many streams need.
#pragma once

#include <cstddef>
#include <cstdint>

namespace osf {

class Scratch {
 public:
  // Room for `bytes` in all, what take() loses to alignment (at most kAlignment each) included.
  explicit Scratch(std::size_t bytes);
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  // The next `count` values, at a cache line's start; not initialised.
  template <class T>
  T* take(std::int64_t count) {
    return static_cast<T*>(take_bytes(static_cast<std::size_t>(count) * sizeof(T)));
  }

  // What a buffer of `count` values counts for in the constructor's argument.
  template <class T>
  static std::size_t room(std::int64_t count) {
    return static_cast<std::size_t>(count) * sizeof(T) + kAlignment;
  }

 private:
  static constexpr std::size_t kAlignment = 64;
  void* take_bytes(std::size_t bytes);

  char* base_;
  std::size_t size_;
  std::size_t used_ = 0;
};

}  // namespace osf
