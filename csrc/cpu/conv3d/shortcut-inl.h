// The shortcut around a convolution between zeros: no parameters, from x as it comes in. Included
// once per instruction set; no include guard.
//
// Averaging: the channels of a block of stride[0] x stride[1] x stride[2] pixels are unshuffled,
// channel by channel, c * pixels + pixel, and output o is the mean of as many consecutive ones as
// come to an output. Repeating: channels are repeated, r times each, and output o at phase p within
// the copies of a pixel is number o * phases + p, of channel (o * phases + p) / r. Either way an
// output is a mean of a few values at fixed offsets from a pixel of x.

namespace osf::conv3d::OSF_ISA {

template <class T>
class Shortcut {
 public:
  Shortcut() = default;
  explicit Shortcut(const Params& params) : p(&params) {
    if (!p->geometry.shortcut) return;
    shortcut_averages(p->geometry) ? average() : repeat();
    const std::int64_t outputs = p->geometry.out_channels;
    in_order = true;
    for (std::size_t i = 0; i < offsets.size(); ++i) {
      const bool starts = static_cast<std::int64_t>(i) % outputs == 0;
      in_order = in_order && (starts || offsets[i] == offsets[i - 1] + 1);
    }
  }

  // The pixel of x that stands at a position of a convolution with the stride.
  std::int64_t pixel_at(std::int64_t sample, std::int64_t frame, std::int64_t row,
                        std::int64_t column) const {
    const std::int64_t* const stride = p->geometry.stride;
    return ((sample * p->size[0] + frame * stride[0]) * p->size[1] + row * stride[1]) * p->size[2] +
           column * stride[2];
  }

  // `value` with the shortcut of `lanes` channels from `channel` on, if there is one, at a phase of
  // the copies of a pixel (0: it has none).
  template <bool kFull>
  V onto(V value, std::int64_t pixel, std::int64_t phase, std::int64_t channel,
         std::int64_t lanes) const {
    if (offsets.empty()) return value;
    const std::int64_t outputs = p->geometry.out_channels;
    const T* const x = static_cast<const T*>(p->x) + pixel * p->geometry.channels;
    const std::int64_t* from = offsets.data() + phase * sources * outputs + channel;
    V sum = V::set1(0.0f);
    for (std::int64_t i = 0; i < sources; ++i, from += outputs) {
      sum =
          sum + (in_order ? load_part<T, kFull>(x + *from, lanes) : gather<kFull>(x, from, lanes));
    }
    return fma(sum, V::set1(share), value);
  }

 private:
  template <bool kFull>
  static V gather(const T* x, const std::int64_t* offsets, std::int64_t lanes) {
    float values[W];
    for (std::int64_t i = 0; i < W; ++i)
      values[i] = kFull || i < lanes ? to_float(x[offsets[i]]) : 0;
    return V::load(values);
  }

  void average() {
    const Geometry& g = p->geometry;
    const std::int64_t pixels = shortcut_pixels(g);
    sources = g.channels * pixels / g.out_channels;
    share = 1.0f / static_cast<float>(sources);
    for (std::int64_t i = 0; i < sources; ++i) {
      for (std::int64_t o = 0; o < g.out_channels; ++o) {
        const std::int64_t unshuffled = o * sources + i, at = unshuffled % pixels;
        const std::int64_t frame = at / (g.stride[1] * g.stride[2]);
        const std::int64_t row = at / g.stride[2] % g.stride[1], column = at % g.stride[2];
        const std::int64_t pixel = (frame * p->size[1] + row) * p->size[2] + column;
        offsets.push_back(pixel * g.channels + unshuffled / pixels);
      }
    }
  }

  void repeat() {
    const Geometry& g = p->geometry;
    const std::int64_t phases = shortcut_pixels(g), repeats = g.out_channels * phases / g.channels;
    for (std::int64_t phase = 0; phase < phases; ++phase) {
      for (std::int64_t o = 0; o < g.out_channels; ++o) {
        offsets.push_back((o * phases + phase) / repeats);
      }
    }
  }

  const Params* p = nullptr;
  // Of the values of x that make an output, from its pixel on: [phase][source][output].
  std::vector<std::int64_t> offsets;
  std::int64_t sources = 1;
  float share = 1.0f;
  bool in_order = false;  // whether outputs that follow each other come from such channels
};

}  // namespace osf::conv3d::OSF_ISA
