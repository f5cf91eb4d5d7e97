// The algorithm of pixel_shuffle.h over the vector type V, included once per instruction set. No
// include guard.
//
// Parallel over rows of the small video; contiguous over channels of the result. Sums pass through
// buffers of a pixel's channels, or of a row's pixels, that stay in the first cache.

namespace osf::pixel_shuffle::OSF_ISA {

using osf::OSF_ISA::for_vectors;
using V = osf::OSF_ISA::V;

// out[i * kPeriod + j] = in[j * n + i]: planes side by side. A known period is vectorised.
template <std::int64_t kPeriod>
inline void interleave(const float* in, std::int64_t n, float* out) {
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < kPeriod; ++j) out[i * kPeriod + j] = in[j * n + i];
  }
}

inline void interleave(const float* in, std::int64_t n, std::int64_t period, float* out) {
  if (period == 1) return interleave<1>(in, n, out);
  if (period == 2) return interleave<2>(in, n, out);
  if (period == 4) return interleave<4>(in, n, out);
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < period; ++j) out[i * period + j] = in[j * n + i];
  }
}

// out[j * n + i] = in[i * kPeriod + j]: the planes apart.
template <std::int64_t kPeriod>
inline void deinterleave(const float* in, std::int64_t n, float* out) {
  for (std::int64_t j = 0; j < kPeriod; ++j) {
    for (std::int64_t i = 0; i < n; ++i) out[j * n + i] = in[i * kPeriod + j];
  }
}

inline void deinterleave(const float* in, std::int64_t n, std::int64_t period, float* out) {
  if (period == 1) return deinterleave<1>(in, n, out);
  if (period == 2) return deinterleave<2>(in, n, out);
  if (period == 4) return deinterleave<4>(in, n, out);
  for (std::int64_t j = 0; j < period; ++j) {
    for (std::int64_t i = 0; i < n; ++i) out[j * n + i] = in[i * period + j];
  }
}

// out = factor * values + added.
template <class T>
inline void finish(const float* values, float factor, const T* added, std::int64_t n, T* out) {
  const V by = V::set1(factor);
  for_vectors(n, [&](std::int64_t, const auto& load, const auto& store) {
    const V scaled = load(values) * by;
    store(added == nullptr ? scaled : scaled + load(added), out);
  });
}

template <class T>
inline const T* moved(const T* p, std::int64_t by) {
  return p == nullptr ? nullptr : p + by;
}

// --- channels last: a pixel's channels are neighbours
// ---------------------------------------------

template <class T>
void gather_rows_last(const PixelShuffleParams& p) {
  const Overlap o(pixels_of(p), group_of(p));
  const std::int64_t large = p.large_channels, small = p.small_channels;
  const std::vector<std::int64_t> offsets = offsets_of(p);
  const std::int64_t cost = p.width * large * pixels_of(p);
  parallel_for(p.batch * p.frames * p.height, cost, [&](std::int64_t row) {
    std::vector<float> planes = buffer_of(large * o.runs), runs = buffer_of(large * o.runs);
    std::vector<float> sums = buffer_of(small);
    const T* block = static_cast<const T*>(p.source) + row_of_blocks(p, row);
    const T* added = moved(static_cast<const T*>(p.added), row * p.width * small);
    T* out = static_cast<T*>(p.result) + row * p.width * small;
    for (std::int64_t w = 0; w < p.width; ++w) {
      for (std::int64_t j = 0; j < o.runs; ++j) {
        const std::int64_t* const at = offsets.data() + j * o.joined;
        for_vectors(large, [&](std::int64_t, const auto& load, const auto& store) {
          V sum = load(block + at[0]);
          for (std::int64_t i = 1; i < o.joined; ++i) sum = sum + load(block + at[i]);
          store(sum, planes.data() + j * large);
        });
      }
      const float* terms = planes.data();
      if (o.runs > 1) {
        interleave(planes.data(), large, o.runs, runs.data());
        terms = runs.data();
      }
      if (o.terms > 1) {
        for (std::int64_t c = 0; c < small; ++c) {
          float sum = terms[c * o.terms];
          for (std::int64_t i = 1; i < o.terms; ++i) sum += terms[c * o.terms + i];
          sums[static_cast<std::size_t>(c)] = sum;
        }
        terms = sums.data();
      }
      finish(terms, static_cast<float>(p.factor), moved(added, w * small), small, out + w * small);
      block += p.scale[2] * large;
    }
  });
}

template <class T>
void spread_rows_last(const PixelShuffleParams& p) {
  const Overlap o(pixels_of(p), group_of(p));
  const std::int64_t large = p.large_channels, small = p.small_channels;
  const std::vector<std::int64_t> offsets = offsets_of(p);
  const std::int64_t cost = p.width * large * pixels_of(p);
  parallel_for(p.batch * p.frames * p.height, cost, [&](std::int64_t row) {
    std::vector<float> values = buffer_of(small);
    std::vector<float> runs = buffer_of(large * o.runs), planes = buffer_of(large * o.runs);
    const T* const source = static_cast<const T*>(p.source) + row * p.width * small;
    std::int64_t block = row_of_blocks(p, row);
    for (std::int64_t w = 0; w < p.width; ++w) {
      for_vectors(small, [&](std::int64_t, const auto& load, const auto& store) {
        store(load(source + w * small), values.data());
      });
      const float* wanted = values.data();
      if (o.terms > 1) {
        for (std::int64_t c = 0; c < small; ++c) {
          std::fill_n(runs.data() + c * o.terms, o.terms, wanted[c]);
        }
        wanted = runs.data();
      }
      if (o.runs > 1) {
        deinterleave(wanted, large, o.runs, planes.data());
        wanted = planes.data();
      }
      for (std::int64_t j = 0; j < o.runs; ++j) {
        for (std::int64_t i = 0; i < o.joined; ++i) {
          const std::int64_t at = block + offsets[static_cast<std::size_t>(j * o.joined + i)];
          finish(wanted + j * large, static_cast<float>(p.factor),
                 moved(static_cast<const T*>(p.added), at), large, static_cast<T*>(p.result) + at);
        }
      }
      block += p.scale[2] * large;
    }
  });
}

// --- contiguous: a row's pixels are neighbours
// ----------------------------------------------------

// Row v of the blocks (b, t, h): of channel v / (sT * sH), frame and line within the blocks.
inline std::int64_t line_of(const PixelShuffleParams& p, std::int64_t b, std::int64_t t,
                            std::int64_t h, std::int64_t v) {
  const std::int64_t j = v % p.scale[1], i = v / p.scale[1] % p.scale[0];
  const std::int64_t channel = b * p.large_channels + v / (p.scale[0] * p.scale[1]);
  const std::int64_t frame = (channel * p.frames + t) * p.scale[0] + i;
  return ((frame * p.height + h) * p.scale[1] + j) * p.width * p.scale[2];
}

// sums[w] += line[w * step] + ... + line[w * step + joined - 1]; a known step is vectorised.
template <std::int64_t kStep>
inline void add_runs(const float* line, std::int64_t n, float* sums) {
  for (std::int64_t w = 0; w < n; ++w) {
    float sum = line[w * kStep];
    for (std::int64_t i = 1; i < kStep; ++i) sum += line[w * kStep + i];
    sums[w] += sum;
  }
}

inline void add_runs(const float* line, std::int64_t n, std::int64_t step, std::int64_t joined,
                     float* sums) {
  if (step == 1) return add_runs<1>(line, n, sums);
  if (step == 2 && joined == 2) return add_runs<2>(line, n, sums);
  for (std::int64_t w = 0; w < n; ++w) {
    for (std::int64_t i = 0; i < joined; ++i) sums[w] += line[w * step + i];
  }
}

template <class T>
void gather_rows(const PixelShuffleParams& p) {
  const std::int64_t step = p.scale[2], group = group_of(p), width = p.width * step;
  const std::int64_t rows = p.frames * p.height;
  const Overlap o(step, group);
  const T* const source = static_cast<const T*>(p.source);
  parallel_for(p.batch * p.small_channels, rows * p.width * group, [&](std::int64_t channel) {
    const std::int64_t b = channel / p.small_channels, c = channel % p.small_channels;
    std::vector<float> line = buffer_of(width), sums = buffer_of(p.width);
    for (std::int64_t row = 0; row < rows; ++row) {
      std::fill(sums.begin(), sums.end(), 0.0f);
      // Where a group holds whole lines these are added first, and their pixels once.
      for (std::int64_t r = c * o.terms; r < (c + 1) * o.terms; ++r) {
        const T* const from = source + line_of(p, b, row / p.height, row % p.height, r / o.runs);
        const bool more = o.runs == 1 && r > c * o.terms;
        for_vectors(width, [&](std::int64_t, const auto& load, const auto& store) {
          store(more ? load(line.data()) + load(from) : load(from), line.data());
        });
        if (o.runs == 1 && r + 1 < (c + 1) * o.terms) continue;
        add_runs(line.data() + r % o.runs * o.joined, p.width, step, o.joined, sums.data());
      }
      const std::int64_t at = (channel * rows + row) * p.width;
      finish(sums.data(), static_cast<float>(p.factor), moved(static_cast<const T*>(p.added), at),
             p.width, static_cast<T*>(p.result) + at);
    }
  });
}

template <class T>
void spread_rows(const PixelShuffleParams& p) {
  const std::int64_t step = p.scale[2], group = group_of(p), width = p.width * step;
  const std::int64_t rows = p.frames * p.height, lines = p.scale[0] * p.scale[1];
  const T* const source = static_cast<const T*>(p.source);
  const std::int64_t cost = rows * lines * width;
  parallel_for(p.batch * p.large_channels, cost, [&](std::int64_t channel) {
    const std::int64_t b = channel / p.large_channels;
    std::vector<float> planes = buffer_of(width), line = buffer_of(width);
    for (std::int64_t i = 0; i < rows * lines; ++i) {
      const std::int64_t row = i / lines;
      const std::int64_t v = channel % p.large_channels * lines + i % lines;
      for (std::int64_t k = 0; k < step; ++k) {
        const std::int64_t c = b * p.small_channels + (v * step + k) / group;
        const T* const from = source + (c * rows + row) * p.width;
        for_vectors(p.width, [&](std::int64_t, const auto& load, const auto& store) {
          store(load(from), planes.data() + k * p.width);
        });
      }
      interleave(planes.data(), p.width, step, line.data());
      const std::int64_t at = line_of(p, b, row / p.height, row % p.height, v);
      finish(line.data(), static_cast<float>(p.factor), moved(static_cast<const T*>(p.added), at),
             width, static_cast<T*>(p.result) + at);
    }
  });
}

template <class T>
void gather_typed(const PixelShuffleParams& p) {
  p.channels_last ? gather_rows_last<T>(p) : gather_rows<T>(p);
}

template <class T>
void spread_typed(const PixelShuffleParams& p) {
  p.channels_last ? spread_rows_last<T>(p) : spread_rows<T>(p);
}

inline void gather(const PixelShuffleParams& p) {
  p.dtype == DType::kBFloat16 ? gather_typed<BFloat16>(p) : gather_typed<float>(p);
}

inline void spread(const PixelShuffleParams& p) {
  p.dtype == DType::kBFloat16 ? spread_typed<BFloat16>(p) : spread_typed<float>(p);
}

}  // namespace osf::pixel_shuffle::OSF_ISA
