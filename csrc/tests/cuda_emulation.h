// A block of a CUDA kernel on the CPU: its threads are fibers that run one at a time and change
// over where a real one would wait; the functions of cuda/common/*.cuh have stand-ins here.
//
// A warp runs as far as it can before the next one does; products of wgmma read shared memory at
// the wait for them, they and copies at once or when nothing else can happen, by choice. So a wait
// that is missing, or memory used again too early, changes the result. Waiting for what nobody will
// do is reported. Not modelled: fences between the memory's views, registers handed over, speed.
#pragma once

#include <ucontext.h>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/half.h"

#define __device__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static  // one block runs at a time

namespace osf::cuda {

struct Index {
  unsigned x;
};

// Of the fiber that runs.
inline Index threadIdx = {0};
inline Index blockIdx = {0};
inline Index gridDim = {1};

namespace emulation {

inline constexpr unsigned kLanes = 32;
inline constexpr std::size_t kStackBytes = std::size_t{64} << 10;

struct Schedule {
  bool backwards = false;      // the last thread comes first
  bool late_copies = false;    // of mbarriers: when all wait, not when they are asked for
  bool late_products = false;  // of wgmma: when all wait and copies are done
};

// Threads that wait for each other: of a warp, of some warps, of the block.
struct Meeting {
  unsigned arrived = 0;
  unsigned round = 0;
};

struct Copy {
  unsigned char* to;
  const void* from;
  std::size_t bytes;
};

// An mbarrier.
struct Barrier {
  unsigned arrivals;  // that the phase still waits for
  unsigned arrivals_of_a_phase;
  std::int64_t bytes = 0;
  unsigned phase = 0;
  std::vector<Copy> late = {};
};

inline void do_copy(const Copy& copy) { std::memcpy(copy.to, copy.from, copy.bytes); }

inline void settle(Barrier& barrier) {
  if (barrier.arrivals > 0 || barrier.bytes > 0) return;
  barrier.arrivals = barrier.arrivals_of_a_phase;
  ++barrier.phase;
}

// A wgmma that was not waited for: a lane's part.
struct Product {
  float (*sums)[4];
  std::array<std::uint32_t, 4> a;
  std::uint64_t b;
};

struct Fiber {
  ucontext_t context;
  std::unique_ptr<unsigned char[]> stack;
  bool done = false;
  const unsigned* watched = nullptr;  // it waits while this is `seen`
  unsigned seen = 0;
  unsigned turn = 0;  // of the two buffers of its warp
  std::vector<std::vector<Copy>> groups = std::vector<std::vector<Copy>>(1);  // the last is open
  std::vector<Product> products = {};
};

struct Warp {
  Meeting meeting;
  std::uint32_t words[2][kLanes][6];
  std::vector<std::array<float, 16 * 128>> sums;
};

class Block {
 public:
  Block(unsigned threads, std::size_t shared_bytes, const Schedule& schedule)
      : schedule_(schedule),
        fibers_(threads),
        warps_(threads / kLanes),
        memory_(shared_bytes + 1024, 0xff) {  // NaNs
    void* start = memory_.data();
    std::size_t space = memory_.size();
    shared_ = static_cast<unsigned char*>(std::align(1024, shared_bytes, start, space));
    end_ = shared_ + shared_bytes;
  }

  // Runs body as every thread. Throws what a thread throws, and std::runtime_error where some wait
  // for ever.
  void run(const std::function<void()>& body);

  unsigned char* shared() { return shared_; }
  unsigned char* at(std::uint32_t address, std::size_t bytes) {
    if (address + bytes > static_cast<std::size_t>(end_ - shared_)) {
      throw std::runtime_error("shared memory: " + std::to_string(address) + " is outside");
    }
    return shared_ + address;
  }

  const Schedule& schedule() const { return schedule_; }
  Fiber& fiber() { return fibers_[threadIdx.x]; }
  Warp& warp() { return warps_[threadIdx.x / kLanes]; }
  std::map<std::uint32_t, Barrier>& barriers() { return barriers_; }
  unsigned threads() const { return static_cast<unsigned>(fibers_.size()); }

  void wait_while(const unsigned& value, unsigned seen) {
    Fiber& mine = fiber();
    mine.watched = &value;
    mine.seen = seen;
    const unsigned thread = threadIdx.x;
    swapcontext(&mine.context, &scheduler_);
    threadIdx.x = thread;
  }

  void meet(Meeting& meeting, unsigned threads) {
    const unsigned round = meeting.round;
    if (++meeting.arrived < threads) {
      wait_while(meeting.round, round);
    } else {
      meeting.arrived = 0;
      ++meeting.round;
    }
  }
  void meet_some(int number, unsigned threads) { meet(meetings_[number], threads); }

  void wait_for_products() {
    if (!schedule_.late_products) return;
    ++waiting_for_products_;
    wait_while(products_done_, products_done_);
  }

  // Lanes show each other words: the buffer to write, and after meet_warp to read.
  std::uint32_t (*words())[6] { return warp().words[fiber().turn % 2]; }
  void meet_warp() { meet(warp().meeting, kLanes); }
  void next_words() { ++fiber().turn; }

 private:
  static void enter();
  bool step_warp(unsigned first);
  bool deliver();
  bool finish_products();

  Schedule schedule_;
  std::vector<Fiber> fibers_;
  std::vector<Warp> warps_;
  std::map<int, Meeting> meetings_;
  std::map<std::uint32_t, Barrier> barriers_;
  std::vector<unsigned char> memory_;
  unsigned char* shared_ = nullptr;
  unsigned char* end_ = nullptr;
  unsigned waiting_for_products_ = 0;
  unsigned products_done_ = 0;
  ucontext_t scheduler_;
  const std::function<void()>* body_ = nullptr;
  std::exception_ptr error_;
};

inline Block* block = nullptr;  // that runs

inline void Block::enter() {
  try {
    (*block->body_)();
  } catch (...) {
    block->error_ = std::current_exception();
  }
  block->fiber().done = true;
}

inline void Block::run(const std::function<void()>& body) {
  block = this;
  body_ = &body;
  for (Fiber& fiber : fibers_) {
    fiber.stack = std::make_unique<unsigned char[]>(kStackBytes);
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = kStackBytes;
    fiber.context.uc_link = &scheduler_;
    makecontext(&fiber.context, &Block::enter, 0);
  }
  for (bool waits = true; waits;) {
    bool moved = false;
    waits = false;
    for (unsigned i = 0; i < threads(); i += kLanes) {
      const unsigned first = schedule_.backwards ? threads() - kLanes - i : i;
      while (step_warp(first)) moved = true;
      for (unsigned lane = 0; lane < kLanes; ++lane) waits = waits || !fibers_[first + lane].done;
    }
    if (waits && !moved && !deliver() && !finish_products())
      throw std::runtime_error("all threads wait for each other");
  }
}

// Does the late copies of one barrier; whether there were any.
inline bool Block::deliver() {
  for (auto& [address, barrier] : barriers_) {
    if (barrier.late.empty()) continue;
    for (const Copy& copy : barrier.late) {
      do_copy(copy);
      barrier.bytes -= static_cast<std::int64_t>(copy.bytes);
    }
    barrier.late.clear();
    settle(barrier);
    return true;
  }
  return false;
}

// Lets those go on that wait for products; whether there were any.
inline bool Block::finish_products() {
  const bool some = waiting_for_products_ > 0;
  waiting_for_products_ = 0;
  ++products_done_;
  return some;
}

// Gives every lane that can go on a turn; whether any could.
inline bool Block::step_warp(unsigned first) {
  bool moved = false;
  for (unsigned i = 0; i < kLanes; ++i) {
    threadIdx.x = first + (schedule_.backwards ? kLanes - 1 - i : i);
    Fiber& next = fiber();
    if (next.done || (next.watched != nullptr && *next.watched == next.seen)) continue;
    moved = true;
    swapcontext(&scheduler_, &next.context);
    if (error_ != nullptr) std::rethrow_exception(error_);
  }
  return moved;
}

inline float bf16_of(std::uint32_t word, unsigned half) {
  return to_float(BFloat16{static_cast<std::uint16_t>(word >> (16 * half))});
}

// Element (row, k) of a 16x16 fragment that a warp's lanes hold: mma.cuh says where.
inline float a_element(std::uint32_t (*words)[6], unsigned row, unsigned k) {
  return bf16_of(words[row % 8 * 4 + k % 8 / 2][row / 8 + 2 * (k / 8)], k % 2);
}

// Element (k, n) of B by a wgmma descriptor: K-major, 128-byte swizzle, which exchanges
// sixteen-byte chunks by the bits of the address above them.
inline float b_element(std::uint64_t descriptor, unsigned k, unsigned n) {
  if (descriptor >> 62 != 1) throw std::runtime_error("descriptor: not the 128-byte swizzle");
  const std::uint32_t start = static_cast<std::uint32_t>(descriptor & 0x3fff) << 4;
  const std::uint32_t group = static_cast<std::uint32_t>(descriptor >> 32 & 0x3fff) << 4;
  const std::uint32_t flat = start + n / 8 * group + n % 8 * 128 + 2 * k;
  std::uint16_t bits;
  std::memcpy(&bits, block->at(flat ^ (flat >> 7 & 7) << 4, 2), 2);
  return to_float(BFloat16{bits});
}

// The sums of one product of this warp, from the fragments that its lanes show.
inline void multiply_warp(std::uint32_t (*words)[6], std::uint64_t b,
                          std::array<float, 16 * 128>& sums) {
  float columns[128][16];
  for (unsigned n = 0; n < 128; ++n) {
    for (unsigned k = 0; k < 16; ++k) columns[n][k] = b_element(b, k, n);
  }
  for (unsigned row = 0; row < 16; ++row) {
    float a[16];
    for (unsigned k = 0; k < 16; ++k) a[k] = a_element(words, row, k);
    for (unsigned n = 0; n < 128; ++n) {
      float sum = 0.0f;
      for (unsigned k = 0; k < 16; ++k) sum += a[k] * columns[n][k];
      sums[row * 128 + n] = sum;
    }
  }
}

}  // namespace emulation

inline std::uint32_t shared_address(const void* p) {
  return static_cast<std::uint32_t>(static_cast<const unsigned char*>(p) -
                                    emulation::block->shared());
}

template <class T>
T from_float(float v) {
  T out;
  osf::from_float(v, &out);
  return out;
}
template <class T>
inline constexpr int kVecWidth = 16 / sizeof(T);

// Vectors must lie as a device's loads need them.
template <int kWidth, class T>
void load_vec(const T* p, float (&out)[kWidth]) {
  if (reinterpret_cast<std::uintptr_t>(p) % (kWidth * sizeof(T)) != 0) {
    throw std::runtime_error("a vector is misaligned");
  }
  for (int i = 0; i < kWidth; ++i) out[i] = to_float(p[i]);
}
template <int kWidth, class T>
void store_vec(T* p, const float (&in)[kWidth]) {
  if (reinterpret_cast<std::uintptr_t>(p) % (kWidth * sizeof(T)) != 0) {
    throw std::runtime_error("a vector is misaligned");
  }
  for (int i = 0; i < kWidth; ++i) osf::from_float(in[i], p + i);
}

inline float as_float(std::uint32_t bits) { return bits_float(bits); }
inline float exp2_approx(float v) { return std::exp2(v); }
inline float reciprocal_approx(float v) { return 1.0f / v; }
inline std::uint32_t pack_bf16(float low, float high) {
  return static_cast<std::uint32_t>(to_bfloat16(high).bits) << 16 | to_bfloat16(low).bits;
}
template <class T>
T min(T a, T b) {
  return a < b ? a : b;
}
template <class T>
T max(T a, T b) {
  return a < b ? b : a;
}
inline float fmaf(float a, float b, float c) { return std::fma(a, b, c); }

inline void __syncwarp() { emulation::block->meet_warp(); }
inline float __shfl_xor_sync(unsigned, float v, int step) {
  emulation::Block& block = *emulation::block;
  const unsigned lane = threadIdx.x % emulation::kLanes;
  auto* const words = block.words();
  words[lane][0] = float_bits(v);
  block.meet_warp();
  block.next_words();
  return bits_float(words[lane ^ static_cast<unsigned>(step)][0]);
}
inline void __syncthreads() { emulation::block->meet_some(0, emulation::block->threads()); }
template <int kBarrier, int kThreads>
void sync_some() {
  emulation::block->meet_some(kBarrier, kThreads);
}

inline void copy_async_16(std::uint32_t to, const void* from) {
  emulation::Block& block = *emulation::block;
  block.fiber().groups.back().push_back({block.at(to, 16), from, 16});
}
inline void copy_commit() {
  emulation::Block& block = *emulation::block;
  if (!block.schedule().late_copies) {
    for (const emulation::Copy& copy : block.fiber().groups.back()) do_copy(copy);
    block.fiber().groups.back().clear();
  }
  block.fiber().groups.emplace_back();
}
template <int kPending>
void copy_wait() {
  auto& groups = emulation::block->fiber().groups;
  while (groups.size() > kPending + 1) {
    for (const emulation::Copy& copy : groups.front()) do_copy(copy);
    groups.erase(groups.begin());
  }
}

inline void barrier_init(std::uint32_t barrier, std::uint32_t arrivals) {
  emulation::block->barriers()[barrier] = {arrivals, arrivals};
}
inline void barrier_init_fence() {}
inline void barrier_arrive_expecting(std::uint32_t barrier, std::uint32_t bytes) {
  emulation::Barrier& b = emulation::block->barriers().at(barrier);
  if (b.arrivals == 0) throw std::runtime_error("mbarrier: more arrivals than expected");
  b.bytes += bytes;
  --b.arrivals;
  settle(b);
}
inline void barrier_arrive(std::uint32_t barrier) { barrier_arrive_expecting(barrier, 0); }
inline void barrier_wait(std::uint32_t barrier, std::uint32_t parity) {
  emulation::Barrier& b = emulation::block->barriers().at(barrier);
  while (b.phase % 2 == parity) {
    const unsigned phase = b.phase;
    emulation::block->wait_while(b.phase, phase);
  }
}
inline void bulk_copy(std::uint32_t to, const void* from, std::uint32_t bytes,
                      std::uint32_t barrier) {
  emulation::Block& block = *emulation::block;
  emulation::Barrier& b = block.barriers().at(barrier);
  const emulation::Copy copy = {block.at(to, bytes), from, bytes};
  if (block.schedule().late_copies) {
    b.late.push_back(copy);
    return;
  }
  do_copy(copy);
  b.bytes -= bytes;
  settle(b);
}
template <int>
void give_registers() {}
template <int>
void take_registers() {}

inline void load_matrices(std::uint32_t (&r)[4], std::uint32_t address) {
  emulation::Block& block = *emulation::block;
  const unsigned lane = threadIdx.x % emulation::kLanes;
  auto* const words = block.words();
  words[lane][0] = address;
  block.meet_warp();
  for (unsigned m = 0; m < 4; ++m) {
    std::memcpy(&r[m], block.at(words[m * 8 + lane / 4][0] + lane % 4 * 4, 4), 4);
  }
  block.next_words();
}

inline void mma_16x8x16(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                        std::uint32_t b1) {
  emulation::Block& block = *emulation::block;
  const unsigned lane = threadIdx.x % emulation::kLanes;
  auto* const words = block.words();
  for (unsigned i = 0; i < 4; ++i) words[lane][i] = a[i];
  words[lane][4] = b0;
  words[lane][5] = b1;
  block.meet_warp();
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
    float sum = 0.0f;
    for (unsigned k = 0; k < 16; ++k) {
      sum += emulation::a_element(words, row, k) *
             emulation::bf16_of(words[column * 4 + k % 8 / 2][4 + k / 8], k % 2);
    }
    c[i] += sum;
  }
  block.next_words();
}

inline void wgmma_64x128x16(float (&c)[16][4], const std::uint32_t (&a)[4], std::uint64_t b) {
  emulation::block->fiber().products.push_back({c, {a[0], a[1], a[2], a[3]}, b});
}
inline void wgmma_fence() {}
inline void wgmma_commit() {}
inline void wgmma_wait_all() {
  emulation::Block& block = *emulation::block;
  emulation::Warp& warp = block.warp();
  const unsigned lane = threadIdx.x % emulation::kLanes;
  block.wait_for_products();
  for (const emulation::Product& product : block.fiber().products) {
    auto* const words = block.words();
    for (unsigned i = 0; i < 4; ++i) words[lane][i] = product.a[i];
    block.meet_warp();
    warp.sums.resize(1);
    if (lane == 0) emulation::multiply_warp(words, product.b, warp.sums[0]);
    block.meet_warp();
    for (unsigned j = 0; j < 16; ++j) {
      for (unsigned i = 0; i < 4; ++i) {
        const unsigned row = lane / 4 + i / 2 * 8, column = j * 8 + lane % 4 * 2 + i % 2;
        product.sums[j][i] += warp.sums[0][row * 128 + column];
      }
    }
    block.next_words();
  }
  block.fiber().products.clear();
}
template <class Sums>
void wgmma_sums_ready(Sums&) {}

}  // namespace osf::cuda
