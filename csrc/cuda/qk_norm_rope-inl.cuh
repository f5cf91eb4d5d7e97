// The algorithm of qk_norm_rope.h, free of CUDA's headers: qk_norm_rope.cu includes it after
// common/vec.cuh, the test on the CPU after an emulation.
#pragma once

#include <cstdint>

#include "cuda/qk_norm_rope.h"

namespace osf::cuda::qk_norm_rope {

inline constexpr int kThreads = 256;
// Vectors that a lane holds of each half of a head, where they are single values.
inline constexpr int kSinglePieces = 4;

struct Problem {
  HeadsView q;
  HeadsView k;
  const float* cos;
  const float* sin;
  std::int64_t heads;
  std::int64_t heads_per_team;
  unsigned length;
  unsigned chunks;  // of the heads, a team each
  unsigned teams;
  int half;  // of a head
  int lanes;
  float eps;
  bool interleaved;
  bool table_per_sample;
  bool scale_float;
};

// What a team works on.
struct Place {
  bool inside;
  HeadsView view;
  unsigned sample;
  unsigned token;
  std::int64_t first_head;
};

__device__ __forceinline__ Place place_of(const Problem& p) {
  const unsigned per_block = kThreads / static_cast<unsigned>(p.lanes);
  const unsigned index = blockIdx.x * per_block + threadIdx.x / static_cast<unsigned>(p.lanes);
  Place place;
  place.inside = index < p.teams;
  // A team too many repeats the last one without storing: its lanes take part in exchanges.
  const unsigned team = place.inside ? index : p.teams - 1;
  // q and k of one token side by side: they share its angles.
  place.view = team % 2 == 0 ? p.q : p.k;
  place.first_head = static_cast<std::int64_t>(team / 2 % p.chunks) * p.heads_per_team;
  const unsigned row = team / 2 / p.chunks;
  place.token = row % p.length;
  place.sample = row / p.length;
  return place;
}

// The channels of a lane: kPieces vectors of each half of a head. Of single values, interleaved
// ones are taken in pairs instead: then low is a pair's first and high its second.
template <int kVec, int kPieces>
struct Channels {
  int low[kPieces];
  int high[kPieces];
  int angle[kPieces];  // the first in the tables
  bool there[kPieces];

  __device__ __forceinline__ explicit Channels(const Problem& p) {
    const int lane = static_cast<int>(threadIdx.x) % p.lanes;
    const bool pairs = kVec == 1 && p.interleaved;
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      const int first = (i * p.lanes + lane) * kVec;
      there[i] = first < p.half;
      low[i] = pairs ? 2 * first : first;
      high[i] = pairs ? 2 * first + 1 : p.half + first;
      angle[i] = first;
    }
  }
};

template <class T, int kVec>
__device__ __forceinline__ void load_scale(const Problem& p, const void* scale, int at,
                                           float (&out)[kVec]) {
#pragma unroll
  for (int j = 0; j < kVec; ++j) {
    out[j] = p.scale_float ? static_cast<const float*>(scale)[at + j]
                           : to_float(static_cast<const T*>(scale)[at + j]);
  }
}

// Cosines or sines of a lane: of the pairs of its low and high values, as many as a vector holds;
// or, where neighbours within a vector are pairs, of those of its low vector, then of its high one.
template <int kVec, bool kNeighbours>
__device__ __forceinline__ void load_angles(const float* table, int half, int at,
                                            float (&out)[kVec]) {
#pragma unroll
  for (int j = 0; j < kVec; ++j) {
    if constexpr (kNeighbours) {
      out[j] = j < kVec / 2 ? table[at / 2 + j] : table[(half + at) / 2 + j - kVec / 2];
    } else {
      out[j] = table[at + j];
    }
  }
}

__device__ __forceinline__ void turn(float& a, float& b, float cos, float sin) {
  const float first = a;
  a = first * cos - b * sin;
  b = b * cos + first * sin;
}

template <int kVec, bool kNeighbours>
__device__ __forceinline__ void rotate(float (&low)[kVec], float (&high)[kVec],
                                       const float (&cos)[kVec], const float (&sin)[kVec]) {
  if constexpr (kNeighbours) {
#pragma unroll
    for (int j = 0; j < kVec / 2; ++j) {
      turn(low[2 * j], low[2 * j + 1], cos[j], sin[j]);
      turn(high[2 * j], high[2 * j + 1], cos[kVec / 2 + j], sin[kVec / 2 + j]);
    }
  } else {
#pragma unroll
    for (int j = 0; j < kVec; ++j) turn(low[j], high[j], cos[j], sin[j]);
  }
}

template <class T>
__device__ __forceinline__ float rounded(float v) {
  return to_float(from_float<T>(v));
}

// One head's channels of a lane, in both halves.
template <int kVec, int kPieces>
struct Head {
  float low[kPieces][kVec];
  float high[kPieces][kVec];

  template <class T>
  __device__ __forceinline__ void load(const T* x, const Channels<kVec, kPieces>& at, bool wanted) {
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      if (wanted && at.there[i]) {
        load_vec(x + at.low[i], low[i]);
        load_vec(x + at.high[i], high[i]);
      } else {
#pragma unroll
        for (int j = 0; j < kVec; ++j) low[i][j] = high[i][j] = 0.0f;
      }
    }
  }

  template <class T>
  __device__ __forceinline__ void store(T* y, const Channels<kVec, kPieces>& at) const {
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      if (at.there[i]) {
        store_vec(y + at.low[i], low[i]);
        store_vec(y + at.high[i], high[i]);
      }
    }
  }

  __device__ __forceinline__ float square() const {
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
#pragma unroll
      for (int j = 0; j < kVec; ++j) {
        sum = fmaf(low[i][j], low[i][j], sum);
        sum = fmaf(high[i][j], high[i][j], sum);
      }
    }
    return sum;
  }

  // The two roundings to T are those of the released models.
  template <class T>
  __device__ __forceinline__ void normalise(float rstd, const Head& scale) {
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
#pragma unroll
      for (int j = 0; j < kVec; ++j) {
        low[i][j] = rounded<T>(rounded<T>(low[i][j] * rstd) * scale.low[i][j]);
        high[i][j] = rounded<T>(rounded<T>(high[i][j] * rstd) * scale.high[i][j]);
      }
    }
  }
};

// Block of kThreads threads: kThreads / lanes teams.
template <class T, int kVec, int kPieces, bool kNeighbours>
__device__ __forceinline__ void run(const Problem& p) {
  // Heads at a time: two, so that a lane has 64 bytes on their way.
  constexpr int kAtOnce = kPieces == 1 ? 2 : 1;
  using LaneHead = Head<kVec, kPieces>;
  const Place place = place_of(p);
  const Channels<kVec, kPieces> channels(p);
  const std::int64_t token = place.token, sample = place.sample;
  const std::int64_t row = (p.table_per_sample ? sample * p.length : 0) + token;
  LaneHead scale;
  float cos[kPieces][kVec], sin[kPieces][kVec];
#pragma unroll
  for (int i = 0; i < kPieces; ++i) {
    if (!channels.there[i]) continue;
    load_scale<T>(p, place.view.scale, channels.low[i], scale.low[i]);
    load_scale<T>(p, place.view.scale, channels.high[i], scale.high[i]);
    load_angles<kVec, kNeighbours>(p.cos + row * p.half, p.half, channels.angle[i], cos[i]);
    load_angles<kVec, kNeighbours>(p.sin + row * p.half, p.half, channels.angle[i], sin[i]);
  }
  const T* const x = static_cast<const T*>(place.view.x) + sample * place.view.sample_stride +
                     token * place.view.token_stride;
  T* const y = static_cast<T*>(place.view.y) +
               (sample * p.length + token) * p.heads * (2 * static_cast<std::int64_t>(p.half));
  const float share = 0.5f / static_cast<float>(p.half);

  for (std::int64_t next = 0; next < p.heads_per_team; next += kAtOnce) {
    LaneHead heads[kAtOnce];
    float square[kAtOnce];
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) {
      const std::int64_t head = place.first_head + next + u;
      const bool wanted = next + u < p.heads_per_team && head < p.heads;
      heads[u].load(x + head * place.view.head_stride, channels, wanted);
      square[u] = heads[u].square();
    }
    for (int step = p.lanes / 2; step > 0; step /= 2) {
#pragma unroll
      for (int u = 0; u < kAtOnce; ++u) {
        square[u] += __shfl_xor_sync(0xffffffffu, square[u], step);
      }
    }
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) {
      const std::int64_t head = place.first_head + next + u;
      if (!place.inside || next + u >= p.heads_per_team || head >= p.heads) continue;
      heads[u].template normalise<T>(1.0f / sqrtf(fmaf(square[u], share, p.eps)), scale);
#pragma unroll
      for (int i = 0; i < kPieces; ++i) {
        rotate<kVec, kNeighbours>(heads[u].low[i], heads[u].high[i], cos[i], sin[i]);
      }
      heads[u].store(y + head * 2 * p.half, channels);
    }
  }
}

}  // namespace osf::cuda::qk_norm_rope
