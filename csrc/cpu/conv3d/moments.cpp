#include "cpu/conv3d/moments.h"

#include "core/parallel.h"
#include "cpu/dispatch.h"

namespace osf::conv3d {
namespace {

// What a vector may reach past the last channel.
constexpr std::int64_t kLongestVector = 16;

std::int64_t positions_of(const Params& p) { return p.out_size[0] * p.out_size[1] * p.out_size[2]; }

}  // namespace

Moments::Moments(const Params& p, std::int64_t units) : units_(units) {
  if (p.moments == nullptr) return;
  step_ = ceil_div(p.geometry.out_channels, kLongestVector) * kLongestVector;
  values_.assign(static_cast<std::size_t>(p.batch * units * kRows * step_), 0.0f);
}

void Moments::finish(const Params& p) const {
  if (!wanted()) return;
  const std::int64_t channels = p.geometry.out_channels;
  parallel_for(p.batch * channels, units_, [&](std::int64_t i) {
    const std::int64_t sample = i / channels, channel = i % channels;
    const float* unit = values_.data() + sample * units_ * kRows * step_ + channel;
    double count = 0.0, mean = 0.0, square = 0.0;
    for (std::int64_t u = 0; u < units_; ++u, unit += kRows * step_) {
      const double n = static_cast<double>(unit[kCount * step_]);
      if (n == 0.0) continue;
      const double sum = static_cast<double>(unit[kSum * step_]);
      const double apart = static_cast<double>(unit[kShift * step_]) + sum / n - mean;
      const double share = n / (count + n);
      mean += apart * share;
      square += static_cast<double>(unit[kSquare * step_]) - sum * sum / n;
      square += apart * apart * count * share;
      count += n;
    }
    p.moments[2 * sample * channels + channel] = static_cast<float>(mean);
    p.moments[(2 * sample + 1) * channels + channel] = static_cast<float>(square / count);
  });
}

void gather_moments(const Params& p) {
  const std::int64_t channels = p.geometry.out_channels, positions = positions_of(p);
  parallel_for(p.batch * channels, positions, [&](std::int64_t i) {
    const std::int64_t sample = i / channels, channel = i % channels;
    const auto value = [&](std::int64_t position) {
      const std::int64_t at = (sample * positions + position) * channels + channel;
      return static_cast<double>(value_at(p.y, p.geometry.dtype, at));
    };
    double mean = 0.0, square = 0.0;
    for (std::int64_t k = 0; k < positions; ++k) mean += value(k);
    mean /= static_cast<double>(positions);
    for (std::int64_t k = 0; k < positions; ++k) {
      square += (value(k) - mean) * (value(k) - mean);
    }
    p.moments[2 * sample * channels + channel] = static_cast<float>(mean);
    p.moments[(2 * sample + 1) * channels + channel] =
        static_cast<float>(square / static_cast<double>(positions));
  });
}

}  // namespace osf::conv3d
