// Parallel loops over OpenMP, which is also torch's pool: torch.set_num_threads() governs both.
#pragma once

#include <algorithm>
#include <cstdint>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace osf {

// Runs body(i) for every i in [0, count). `cost` is the work of one i, in elements: a loop with
// less than a grain of work for every thread uses fewer threads. The body must not throw. Which
// thread runs which i never changes a result: every i writes its own outputs only.
template <class Body>
void parallel_for(std::int64_t count, std::int64_t cost, const Body& body) {
  constexpr std::int64_t kGrain = 16384;
#ifdef _OPENMP
  const std::int64_t useful =
      std::max<std::int64_t>(count * std::max<std::int64_t>(cost, 1) / kGrain, 1);
  const int threads =
      static_cast<int>(std::min({useful, count, static_cast<std::int64_t>(omp_get_max_threads())}));
  if (threads > 1 && !omp_in_parallel()) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (std::int64_t i = 0; i < count; ++i) body(i);
    return;
  }
#endif
  for (std::int64_t i = 0; i < count; ++i) body(i);
}

// A team of threads that works through several loops together: parallel_team(body) runs body() on
// every thread, and within it team_for(count, body) deals the numbers [0, count) out one by one and
// waits until all are done. Within another parallel region the team is the caller alone.
template <class Body>
void parallel_team(const Body& body) {
#pragma omp parallel if (!omp_in_parallel())
  body();
}

template <class Body>
void team_for(std::int64_t count, const Body& body) {
#pragma omp for schedule(dynamic, 1)
  for (std::int64_t i = 0; i < count; ++i) body(i);
}

// Which of the team's threads this one is, and how many a team has.
inline std::int64_t team_rank() {
#ifdef _OPENMP
  return omp_get_thread_num();
#else
  return 0;
#endif
}

inline std::int64_t team_size() {
#ifdef _OPENMP
  return omp_in_parallel() ? 1 : omp_get_max_threads();
#else
  return 1;
#endif
}

}  // namespace osf
