// Mean and variance of every channel of y, gathered while it is written: the norm behind a
// convolution need not read y for them.
//
// Every unit of work keeps, per channel, a count, its first value as shift, and the sums of
// (y - shift) and of (y - shift)^2 in float. finish() combines the units in double by Chan's
// formula, in their order: the result does not depend on the number of threads.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/conv3d/conv3d.h"

namespace osf::conv3d {

class Moments {
 public:
  // The rows that a unit keeps, step() values apart.
  enum Row : std::int64_t { kCount, kShift, kSum, kSquare, kRows };

  Moments() = default;
  // Room for `units` units of work of every sample; none if p does not ask for moments.
  Moments(const Params& p, std::int64_t units);

  bool wanted() const { return !values_.empty(); }
  std::int64_t step() const { return step_; }
  // The first row of a unit, at `channel`; whole vectors may be written there.
  float* at(std::int64_t sample, std::int64_t unit, std::int64_t channel) {
    return values_.data() + (sample * units_ + unit) * kRows * step_ + channel;
  }

  // Writes p.moments.
  void finish(const Params& p) const;

 private:
  std::int64_t units_ = 0;
  std::int64_t step_ = 0;
  std::vector<float> values_;
};

// The same from y itself, for the algorithm whose vectors are not of channels.
void gather_moments(const Params& p);

}  // namespace osf::conv3d
