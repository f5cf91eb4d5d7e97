// The way into a convolution: rows of pixels, normalised, activated and continued past the border.
// Included once per instruction set; no include guard.

namespace osf::conv3d::OSF_ISA {

using V = osf::OSF_ISA::V;
inline constexpr std::int64_t W = V::kWidth;

// silu((x - mean) * scale + shift) for the channels from `first` on; without a mean silu(x) or x.
struct Activation {
  const float* mean;
  const float* scale;
  const float* shift;
  bool silu;

  static Activation of(const Params& p, std::int64_t sample) {
    if (p.mean == nullptr) return {nullptr, nullptr, nullptr, p.silu};
    const std::int64_t offset = sample * p.geometry.channels;
    return {p.mean + offset, p.scale + offset, p.shift + offset, true};
  }
};

template <class T, bool kFull>
inline V load_part(const T* p, std::int64_t count) {
  if constexpr (kFull) return V::load(p);
  return V::load_n(p, count, 0.0f);
}

// One vector of channels of `pixels` pixels: x[i * step] -> out[i * out_step].
template <class T, bool kFull, class U>
inline void activate_vector(const T* x, std::int64_t step, std::int64_t pixels, std::int64_t count,
                            const Activation& f, std::int64_t channel, U* out,
                            std::int64_t out_step) {
  if (f.mean == nullptr) {
    for (std::int64_t i = 0; i < pixels; ++i) {
      const V h = load_part<T, kFull>(x + i * step, count);
      (f.silu ? silu(h) : h).store(out + i * out_step);
    }
    return;
  }
  const V mean = load_part<float, kFull>(f.mean + channel, count);
  const V scale = load_part<float, kFull>(f.scale + channel, count);
  const V shift = load_part<float, kFull>(f.shift + channel, count);
  for (std::int64_t i = 0; i < pixels; ++i) {
    const V h = fma(load_part<T, kFull>(x + i * step, count) - mean, scale, shift);
    silu(h).store(out + i * out_step);
  }
}

// Channels [first, first + count) of a row of `width` pixels to out[i * out_step + c]; writes whole
// vectors, with 0 (of no importance to a sum) past `count`.
template <class T, class U>
inline void activate_row(const T* row, std::int64_t channels, std::int64_t width,
                         const Activation& f, std::int64_t first, std::int64_t count, U* out,
                         std::int64_t out_step) {
  std::int64_t c = 0;
  for (; c + W <= count; c += W) {
    activate_vector<T, true>(row + first + c, channels, width, W, f, first + c, out + c, out_step);
  }
  if (c < count) {
    activate_vector<T, false>(row + first + c, channels, width, count - c, f, first + c, out + c,
                              out_step);
  }
}

// Where a padded row or column lies in the image: clamped, or -1 for one of zeros.
inline std::int64_t source_of(std::int64_t i, std::int64_t size, Padding padding) {
  if (i >= 0 && i < size) return i;
  if (pads_with_zeros(padding)) return -1;
  return i < 0 ? 0 : size - 1;
}

// A row with `left` columns in front and as many behind as make `total`, `count` channels (rounded
// up to vectors) each `step` values after the last. `row` < 0 is a row of zeros.
template <class T, class U>
inline void fill_row(const Params& p, const T* image, std::int64_t row, const Activation& f,
                     std::int64_t first, std::int64_t count, std::int64_t left, std::int64_t total,
                     U* out, std::int64_t step) {
  const std::int64_t width = p.size[2], channels = p.geometry.channels;
  const std::int64_t values = ceil_div(count, W) * W;
  const U zero{};
  const auto set_zero = [&](std::int64_t i) {
    std::fill(out + i * step, out + i * step + values, zero);
  };
  if (row < 0) {
    for (std::int64_t i = 0; i < total; ++i) set_zero(i);
    return;
  }
  const std::int64_t inside = std::min(width, total - left);
  activate_row(image + row * width * channels, channels, inside, f, first, count, out + left * step,
               step);
  const auto border = [&](std::int64_t i, std::int64_t from) {
    if (pads_with_zeros(p.geometry.padding)) return set_zero(i);
    std::copy(out + from * step, out + from * step + values, out + i * step);
  };
  for (std::int64_t i = 0; i < left; ++i) border(i, left);
  for (std::int64_t i = left + inside; i < total; ++i) border(i, left + inside - 1);
}

// The biases of `count` channels from `channel` on, or zeros.
template <bool kFull>
inline V bias_of(const Params& p, std::int64_t channel, std::int64_t count) {
  if (p.bias == nullptr) return V::set1(0.0f);
  return load_part<float, kFull>(p.bias + channel, count);
}

// The sums of moments.h of one vector of channels of a unit of work, in registers while it lives.
class Tally {
 public:
  Tally() = default;
  Tally(Moments& moments, std::int64_t sample, std::int64_t unit, std::int64_t channel) {
    if (!moments.wanted()) return;
    rows_ = moments.at(sample, unit, channel);
    step_ = moments.step();
    count_ = static_cast<std::int64_t>(rows_[Moments::kCount * step_]);
    shift_ = V::load(rows_ + Moments::kShift * step_);
    sum_ = V::load(rows_ + Moments::kSum * step_);
    square_ = V::load(rows_ + Moments::kSquare * step_);
  }
  Tally(const Tally&) = delete;
  Tally& operator=(const Tally&) = delete;
  ~Tally() {
    if (rows_ == nullptr) return;
    V::set1(static_cast<float>(count_)).store(rows_ + Moments::kCount * step_);
    shift_.store(rows_ + Moments::kShift * step_);
    sum_.store(rows_ + Moments::kSum * step_);
    square_.store(rows_ + Moments::kSquare * step_);
  }

  bool is_on() const { return rows_ != nullptr; }
  void add(V value) {
    if (count_++ == 0) shift_ = value;
    const V apart = value - shift_;
    sum_ = sum_ + apart;
    square_ = fma(apart, apart, square_);
  }

 private:
  float* rows_ = nullptr;
  std::int64_t step_ = 0;
  std::int64_t count_ = 0;
  V shift_, sum_, square_;
};

// The way out: one vector, scaled, with bias and residual, to the values of y from `at` on.
template <class T, bool kFull>
inline void emit(const Params& p, V value, V factor, V bias, std::int64_t at, std::int64_t count,
                 Tally& tally) {
  V out = fma(value, factor, bias);
  if (p.residual != nullptr) {
    out = out + load_part<T, kFull>(static_cast<const T*>(p.residual) + at, count);
  }
  T* const y = static_cast<T*>(p.y) + at;
  if constexpr (kFull) {
    out.store(y);
  } else {
    out.store_n(y, count);
  }
  if (tally.is_on()) tally.add(out);
}

}  // namespace osf::conv3d::OSF_ISA
