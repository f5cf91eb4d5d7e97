// The transforms of Winograd's F(m, 3) on vectors, V = B' d and y = A' M, and the transposes that
// gradients take. Points of F(4, 3) in layout.h. Included once per instruction set; no include
// guard.

namespace osf::conv3d::OSF_ISA {

template <int m>
struct Transform;

template <>
struct Transform<2> {
  static void input(const V* d, V* out) {
    out[0] = d[0] - d[2];
    out[1] = d[1] + d[2];
    out[2] = d[2] - d[1];
    out[3] = d[1] - d[3];
  }
  static void output(const V* in, V* y) {
    y[0] = in[0] + in[1] + in[2];
    y[1] = in[1] - in[2] - in[3];
  }
};

template <>
struct Transform<4> {
  static constexpr float kA = static_cast<float>(kPointA), kB = static_cast<float>(kPointB);
  static constexpr float kA2 = static_cast<float>(kPointA * kPointA);
  static constexpr float kB2 = static_cast<float>(kPointB * kPointB);
  static constexpr float kA3 = static_cast<float>(kPointA * kPointA * kPointA);
  static constexpr float kB3 = static_cast<float>(kPointB * kPointB * kPointB);
  static constexpr float kSum = static_cast<float>(kPointA * kPointA + kPointB * kPointB);
  static constexpr float kProduct = static_cast<float>(kPointA * kPointA * kPointB * kPointB);

  static void input(const V* d, V* out) {
    const V sum = V::set1(-kSum), product = V::set1(kProduct);
    out[0] = fma(product, d[0], fma(sum, d[2], d[4]));
    out[5] = fma(product, d[1], fma(sum, d[3], d[5]));
    pair(V::set1(kA), V::set1(-kB2), d, out + 1);
    pair(V::set1(kB), V::set1(-kA2), d, out + 3);
  }
  static void output(const V* in, V* y) {
    const V sum_a = in[1] + in[2], sum_b = in[3] + in[4];
    const V odd_a = in[1] - in[2], odd_b = in[3] - in[4];
    y[0] = in[0] + (sum_a + sum_b);
    y[1] = fma(V::set1(kA), odd_a, V::set1(kB) * odd_b);
    y[2] = fma(V::set1(kA2), sum_a, V::set1(kB2) * sum_b);
    y[3] = fma(V::set1(kA3), odd_a, fma(V::set1(kB3), odd_b, in[5]));
  }
  // The transpose of output().
  static void spread(const V* y, V* out) {
    out[0] = y[0];
    out[5] = y[3];
    powers(V::set1(kA), V::set1(kA2), V::set1(kA3), y, out + 1);
    powers(V::set1(kB), V::set1(kB2), V::set1(kB3), y, out + 3);
  }
  // The transpose of the weights' transform.
  static void taps(const V* in, V* w) {
    constexpr float kFirst = static_cast<float>(kFilter4[0][0]);
    constexpr float kA0 = static_cast<float>(kFilter4[1][0]);
    constexpr float kA1 = static_cast<float>(kFilter4[1][1]);
    constexpr float kASquare = static_cast<float>(kFilter4[1][2]);
    constexpr float kB0 = static_cast<float>(kFilter4[3][0]);
    constexpr float kB1 = static_cast<float>(kFilter4[3][1]);
    constexpr float kBSquare = static_cast<float>(kFilter4[3][2]);
    const V sum_a = in[1] + in[2], sum_b = in[3] + in[4];
    const V odd_a = in[1] - in[2], odd_b = in[3] - in[4];
    w[0] = fma(V::set1(kFirst), in[0], fma(V::set1(kA0), sum_a, V::set1(kB0) * sum_b));
    w[1] = fma(V::set1(kA1), odd_a, V::set1(kB1) * odd_b);
    w[2] = fma(V::set1(kASquare), sum_a, fma(V::set1(kBSquare), sum_b, in[5]));
  }

 private:
  static void powers(V point, V square, V cube, const V* y, V* out) {
    const V even = fma(square, y[2], y[0]);
    const V odd = fma(cube, y[3], point * y[1]);
    out[0] = even + odd;
    out[1] = even - odd;
  }

  // The rows of +point and -point share their even and odd halves.
  static void pair(V point, V minus_other_squared, const V* d, V* out) {
    const V even = fma(minus_other_squared, d[2], d[4]);
    const V odd = point * fma(minus_other_squared, d[1], d[3]);
    out[0] = even + odd;
    out[1] = even - odd;
  }
};

}  // namespace osf::conv3d::OSF_ISA
