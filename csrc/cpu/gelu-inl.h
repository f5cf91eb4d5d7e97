// The algorithm of gelu.h over the vector type V, included once per instruction set. No include
// guard.

namespace osf::gelu::OSF_ISA {

using V = osf::OSF_ISA::V;
inline constexpr std::int64_t W = V::kWidth;

inline V gelu(V x) {
  const V twice_u = x * fma(x * x, V::set1(kCubic), V::set1(kLinear));
  return x / (V::set1(1.0f) + exp(V::set1(0.0f) - twice_u));
}

// dy/dx = s + x s (1 - s) (2 u)', with s = 1 / (1 + exp(-2 u)) and 1 - s = 1 / (1 + exp(2 u)):
// neither loses digits for large |x|.
inline V gelu_slope(V x) {
  const V one = V::set1(1.0f);
  const V square = x * x;
  const V twice_u = x * fma(square, V::set1(kCubic), V::set1(kLinear));
  const V slope_of_u = fma(square, V::set1(3.0f * kCubic), V::set1(kLinear));
  const V s = one / (one + exp(V::set1(0.0f) - twice_u));
  const V rest = one / (one + exp(twice_u));
  return s * fma(x * rest, slope_of_u, one);
}

// body(offset of x, of the gradient, of the output; number of values) for every piece of every row.
template <class Body>
void for_pieces(const GeluParams& p, const Body& body) {
  const std::int64_t pieces = ceil_div(p.width, kPiece);
  parallel_for(p.rows * pieces, std::min(p.width, kPiece), [&](std::int64_t i) {
    const std::int64_t row = i / pieces, start = i % pieces * kPiece;
    body(row * p.x_stride + start, row * p.grad_stride + start, row * p.out_stride + start,
         std::min(kPiece, p.width - start));
  });
}

template <class T>
void forward(const GeluParams& p) {
  for_pieces(p, [&](std::int64_t x_at, std::int64_t, std::int64_t out_at, std::int64_t n) {
    const T* const x = static_cast<const T*>(p.x) + x_at;
    T* const y = static_cast<T*>(p.out) + out_at;
    std::int64_t i = 0;
    for (; i + W <= n; i += W) gelu(V::load(x + i)).store(y + i);
    if (i < n) gelu(V::load_n(x + i, n - i, 0.0f)).store_n(y + i, n - i);
  });
}

template <class T>
void backward(const GeluParams& p) {
  for_pieces(p, [&](std::int64_t x_at, std::int64_t grad_at, std::int64_t out_at, std::int64_t n) {
    const T* const x = static_cast<const T*>(p.x) + x_at;
    const T* const grad = static_cast<const T*>(p.grad) + grad_at;
    T* const dx = static_cast<T*>(p.out) + out_at;
    std::int64_t i = 0;
    for (; i + W <= n; i += W) (V::load(grad + i) * gelu_slope(V::load(x + i))).store(dx + i);
    if (const std::int64_t rest = n - i; rest > 0) {
      (V::load_n(grad + i, rest, 0.0f) * gelu_slope(V::load_n(x + i, rest, 0.0f)))
          .store_n(dx + i, rest);
    }
  });
}

inline void run_forward(const GeluParams& p) {
  p.dtype == DType::kBFloat16 ? forward<BFloat16>(p) : forward<float>(p);
}

inline void run_backward(const GeluParams& p) {
  p.dtype == DType::kBFloat16 ? backward<BFloat16>(p) : backward<float>(p);
}

}  // namespace osf::gelu::OSF_ISA
