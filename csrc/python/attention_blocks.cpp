// Bindings of the two ops of a block of linear attention.

#include "core/tensor.h"
#include "cpu/glu_mb_conv.h"
#include "cpu/linear_attention.h"
#include "python/binding.h"

namespace osf::python {
namespace {

void linear_attention_cpu(std::uintptr_t qkv, std::uintptr_t depth_weight,
                          std::uintptr_t point_weight, std::uintptr_t y, std::int64_t batch,
                          std::int64_t channels, const Size3& size, std::int64_t head_dim,
                          const Size3& kernel, double eps, std::int32_t dtype) {
  osf::LinearAttentionParams params{};
  params.qkv = pointer<const void>(qkv);
  params.depth_weight = pointer<const void>(depth_weight);
  params.point_weight = pointer<const void>(point_weight);
  params.y = pointer<void>(y);
  params.batch = batch;
  params.channels = channels;
  std::tie(params.size[0], params.size[1], params.size[2]) = size;
  params.head_dim = head_dim;
  std::tie(params.kernel[0], params.kernel[1], params.kernel[2]) = kernel;
  params.eps = eps;
  params.dtype = static_cast<osf::DType>(dtype);
  const py::gil_scoped_release release;
  osf::linear_attention_cpu(params);
}

// First, and how many.
using Span = std::tuple<std::int64_t, std::int64_t>;

void glu_mb_conv_cpu(std::uintptr_t products, std::uintptr_t ring, std::uintptr_t gated,
                     std::uintptr_t taps, std::uintptr_t inverted_bias, std::uintptr_t depth_bias,
                     std::int64_t width, const Span& channels, std::int64_t num_frames,
                     const Size3& ring_size, const Span& new_frames, const Span& out_frames,
                     const Span& out_rows, std::int32_t dtype) {
  osf::GluMbConvParams params{};
  params.products = pointer<const void>(products);
  params.ring = pointer<float>(ring);
  params.gated = pointer<void>(gated);
  params.taps = pointer<const float>(taps);
  params.inverted_bias = pointer<const float>(inverted_bias);
  params.depth_bias = pointer<const float>(depth_bias);
  params.width = params.gated_stride = width;
  std::tie(params.first_channel, params.channels) = channels;
  params.num_frames = num_frames;
  std::tie(params.ring_frames, params.rows, params.columns) = ring_size;
  std::tie(params.first_new, params.num_new) = new_frames;
  std::tie(params.first_out, params.num_out) = out_frames;
  std::tie(params.first_row, params.num_rows) = out_rows;
  params.dtype = static_cast<osf::DType>(dtype);
  const py::gil_scoped_release release;
  osf::glu_mb_conv_cpu(params);
}

}  // namespace

void bind_linear_attention(py::module_& m) {
  m.def("linear_attention_cpu", &linear_attention_cpu, py::arg("qkv"), py::arg("depth_weight"),
        py::arg("point_weight"), py::arg("y"), py::arg("batch"), py::arg("channels"),
        py::arg("size"), py::arg("head_dim"), py::arg("kernel"), py::arg("eps"), py::arg("dtype"));
}

void bind_glu_mb_conv(py::module_& m) {
  m.def("glu_mb_conv_cpu", &glu_mb_conv_cpu, py::arg("products"), py::arg("ring"), py::arg("gated"),
        py::arg("taps"), py::arg("inverted_bias"), py::arg("depth_bias"), py::arg("width"),
        py::arg("channels"), py::arg("num_frames"), py::arg("ring_size"), py::arg("new_frames"),
        py::arg("out_frames"), py::arg("out_rows"), py::arg("dtype"));
}

}  // namespace osf::python
