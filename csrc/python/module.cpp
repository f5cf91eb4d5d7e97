// The Python binding: the only file that knows pybind11. Tensors come as addresses and sizes, so
// that the extension links no framework; kernels/*/_cpu.py and _cuda.py check them first.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "core/cpu_features.h"
#include "core/tensor.h"
#include "cpu/conv3d/conv3d.h"
#include "cpu/frame_causal_attention/frame_causal_attention.h"
#include "cpu/gate_residual.h"
#include "cpu/gelu.h"
#include "cpu/glu_mb_conv.h"
#include "cpu/group_norm_silu.h"
#include "cpu/group_norm_silu_backward.h"
#include "cpu/layer_norm_modulate.h"
#include "cpu/linear_attention.h"
#include "cpu/pixel_shuffle.h"
#include "cpu/qk_norm_rope.h"
#include "cpu/rms_norm3d.h"
#ifdef OSF_HAS_CUDA
#include "cuda/common/error.h"
#include "cuda/group_norm_silu.h"
#include "cuda/group_norm_silu_conv3d.h"
#include "cuda/pixel_shuffle.h"
#include "cuda/qk_norm_rope.h"
#endif

namespace py = pybind11;

namespace {

template <class T>
T* pointer(std::uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

// The fields that the CPU's and the CUDA kernels' parameters have in common.
template <class Params>
Params group_norm_silu_params(std::uintptr_t x, std::uintptr_t y, std::uintptr_t weight,
                              std::uintptr_t bias, std::uintptr_t mean, std::uintptr_t rstd,
                              std::int64_t batch, std::int64_t channels, std::int64_t spatial,
                              std::int64_t groups, double eps, bool silu, bool channels_last,
                              std::int32_t dtype, std::int32_t affine_dtype) {
  Params params{};
  params.x = pointer<const void>(x);
  params.y = pointer<void>(y);
  params.weight = pointer<const void>(weight);
  params.bias = pointer<const void>(bias);
  params.mean = pointer<float>(mean);
  params.rstd = pointer<float>(rstd);
  params.batch = batch;
  params.channels = channels;
  params.spatial = spatial;
  params.groups = groups;
  params.eps = eps;
  params.silu = silu;
  params.channels_last = channels_last;
  params.dtype = static_cast<osf::DType>(dtype);
  params.affine_dtype = static_cast<osf::DType>(affine_dtype);
  return params;
}

template <class... Args>
void group_norm_silu_cpu(Args... args) {
  const auto params = group_norm_silu_params<osf::GroupNormSiluParams>(args...);
  const py::gil_scoped_release release;
  osf::group_norm_silu_cpu(params);
}

void group_norm_affine_cpu(std::uintptr_t x, std::uintptr_t weight, std::uintptr_t bias,
                           std::uintptr_t affine, std::int64_t batch, std::int64_t channels,
                           std::int64_t spatial, std::int64_t groups, double eps,
                           bool channels_last, std::int32_t dtype, std::int32_t affine_dtype) {
  auto params = group_norm_silu_params<osf::GroupNormSiluParams>(
      x, 0, weight, bias, 0, 0, batch, channels, spatial, groups, eps, /*silu=*/false,
      channels_last, dtype, affine_dtype);
  params.affine = pointer<float>(affine);
  const py::gil_scoped_release release;
  osf::group_norm_silu_cpu(params);
}

void group_norm_silu_backward_cpu(std::uintptr_t grad, std::uintptr_t x, std::uintptr_t weight,
                                  std::uintptr_t bias, std::uintptr_t mean, std::uintptr_t rstd,
                                  std::uintptr_t dx, std::uintptr_t dweight, std::uintptr_t dbias,
                                  std::int64_t batch, std::int64_t channels, std::int64_t spatial,
                                  std::int64_t groups, bool silu, bool channels_last,
                                  std::int32_t dtype, std::int32_t affine_dtype) {
  osf::GroupNormSiluBackwardParams params{};
  params.grad = pointer<const void>(grad);
  params.x = pointer<const void>(x);
  params.weight = pointer<const void>(weight);
  params.bias = pointer<const void>(bias);
  params.mean = pointer<const float>(mean);
  params.rstd = pointer<const float>(rstd);
  params.dx = pointer<void>(dx);
  params.dweight = pointer<float>(dweight);
  params.dbias = pointer<float>(dbias);
  params.batch = batch;
  params.channels = channels;
  params.spatial = spatial;
  params.groups = groups;
  params.silu = silu;
  params.channels_last = channels_last;
  params.dtype = static_cast<osf::DType>(dtype);
  params.affine_dtype = static_cast<osf::DType>(affine_dtype);
  const py::gil_scoped_release release;
  osf::group_norm_silu_backward_cpu(params);
}

void layer_norm_modulate_cpu(std::uintptr_t x, std::uintptr_t y, std::uintptr_t shift,
                             std::uintptr_t scale, std::int64_t batch, std::int64_t length,
                             std::int64_t width, std::int64_t sample_stride,
                             std::int64_t token_stride, double eps, std::int32_t dtype,
                             std::int32_t modulation_dtype) {
  osf::LayerNormModulateParams params{};
  params.x = pointer<const void>(x);
  params.y = pointer<void>(y);
  params.shift = pointer<const void>(shift);
  params.scale = pointer<const void>(scale);
  params.batch = batch;
  params.length = length;
  params.width = width;
  params.sample_stride = sample_stride;
  params.token_stride = token_stride;
  params.eps = eps;
  params.dtype = static_cast<osf::DType>(dtype);
  params.modulation_dtype = static_cast<osf::DType>(modulation_dtype);
  const py::gil_scoped_release release;
  osf::layer_norm_modulate_cpu(params);
}

osf::RmsNorm3dParams rms_norm3d_params(std::uintptr_t x, std::uintptr_t y, std::uintptr_t weight,
                                       std::uintptr_t bias, std::uintptr_t residual,
                                       std::int64_t batch, std::int64_t channels,
                                       std::int64_t positions, double eps, std::int32_t activation,
                                       bool channels_last, std::int32_t dtype,
                                       std::int32_t affine_dtype) {
  osf::RmsNorm3dParams params{};
  params.x = pointer<const void>(x);
  params.y = pointer<void>(y);
  params.weight = pointer<const void>(weight);
  params.bias = pointer<const void>(bias);
  params.residual = pointer<const void>(residual);
  params.batch = batch;
  params.channels = channels;
  params.positions = positions;
  params.eps = eps;
  params.activation = static_cast<osf::Activation>(activation);
  params.channels_last = channels_last;
  params.dtype = static_cast<osf::DType>(dtype);
  params.affine_dtype = static_cast<osf::DType>(affine_dtype);
  return params;
}

void rms_norm3d_cpu(std::uintptr_t x, std::uintptr_t y, std::uintptr_t weight, std::uintptr_t bias,
                    std::uintptr_t residual, std::int64_t batch, std::int64_t channels,
                    std::int64_t positions, double eps, std::int32_t activation, bool channels_last,
                    std::int32_t dtype, std::int32_t affine_dtype) {
  const osf::RmsNorm3dParams params =
      rms_norm3d_params(x, y, weight, bias, residual, batch, channels, positions, eps, activation,
                        channels_last, dtype, affine_dtype);
  const py::gil_scoped_release release;
  osf::rms_norm3d_cpu(params);
}

void rms_norm3d_backward_cpu(std::uintptr_t grad, std::uintptr_t x, std::uintptr_t weight,
                             std::uintptr_t bias, std::uintptr_t dx, std::uintptr_t dweight,
                             std::uintptr_t dbias, std::int64_t batch, std::int64_t channels,
                             std::int64_t positions, double eps, std::int32_t activation,
                             bool channels_last, std::int32_t dtype, std::int32_t affine_dtype) {
  osf::RmsNorm3dBackwardParams params{};
  params.forward = rms_norm3d_params(x, 0, weight, bias, 0, batch, channels, positions, eps,
                                     activation, channels_last, dtype, affine_dtype);
  params.grad = pointer<const void>(grad);
  params.dx = pointer<void>(dx);
  params.dweight = pointer<float>(dweight);
  params.dbias = pointer<float>(dbias);
  const py::gil_scoped_release release;
  osf::rms_norm3d_backward_cpu(params);
}

using Size3 = std::tuple<std::int64_t, std::int64_t, std::int64_t>;

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

// Address, and the distances of samples and tokens.
using Tokens = std::tuple<std::uintptr_t, std::int64_t, std::int64_t>;

osf::TokensView tokens_view(const Tokens& tokens) {
  return {pointer<const void>(std::get<0>(tokens)), std::get<1>(tokens), std::get<2>(tokens)};
}

void frame_causal_attention_cpu(const Tokens& q, const Tokens& k, const Tokens& v, std::uintptr_t y,
                                std::uintptr_t lse, std::int64_t batch, std::int64_t length,
                                std::int64_t num_frames, std::int64_t head_dim,
                                std::int32_t dtype) {
  osf::FrameCausalAttentionParams params{};
  params.q = tokens_view(q);
  params.k = tokens_view(k);
  params.v = tokens_view(v);
  params.y = pointer<void>(y);
  params.lse = pointer<float>(lse);
  params.batch = batch;
  params.length = length;
  params.num_frames = num_frames;
  params.head_dim = head_dim;
  params.dtype = static_cast<osf::DType>(dtype);
  const py::gil_scoped_release release;
  osf::frame_causal_attention_cpu(params);
}

void gate_residual_cpu(std::uintptr_t x, std::uintptr_t gate, std::uintptr_t branch,
                       std::uintptr_t y, std::int64_t batch, std::int64_t length,
                       std::int64_t width, std::int32_t dtype, std::int32_t branch_dtype) {
  osf::GateResidualParams params{};
  params.x = pointer<const void>(x);
  params.gate = pointer<const void>(gate);
  params.branch = pointer<const void>(branch);
  params.y = pointer<void>(y);
  params.batch = batch;
  params.length = length;
  params.width = width;
  params.dtype = static_cast<osf::DType>(dtype);
  params.branch_dtype = static_cast<osf::DType>(branch_dtype);
  const py::gil_scoped_release release;
  osf::gate_residual_cpu(params);
}

void gelu_cpu(std::uintptr_t x, std::uintptr_t y, std::int64_t rows, std::int64_t width,
              std::int64_t x_stride, std::int64_t y_stride, std::int32_t dtype) {
  osf::GeluParams params{};
  params.x = pointer<const void>(x);
  params.out = pointer<void>(y);
  params.rows = rows;
  params.width = width;
  params.x_stride = x_stride;
  params.out_stride = y_stride;
  params.dtype = static_cast<osf::DType>(dtype);
  const py::gil_scoped_release release;
  osf::gelu_cpu(params);
}

void gelu_backward_cpu(std::uintptr_t grad, std::uintptr_t x, std::uintptr_t dx, std::int64_t rows,
                       std::int64_t width, std::int64_t grad_stride, std::int64_t x_stride,
                       std::int32_t dtype) {
  osf::GeluParams params{};
  params.x = pointer<const void>(x);
  params.grad = pointer<const void>(grad);
  params.out = pointer<void>(dx);
  params.rows = rows;
  params.width = width;
  params.x_stride = x_stride;
  params.grad_stride = grad_stride;
  params.out_stride = width;
  params.dtype = static_cast<osf::DType>(dtype);
  const py::gil_scoped_release release;
  osf::gelu_backward_cpu(params);
}

// Address of the input, of the output and of the scale.
using Addresses = std::tuple<std::uintptr_t, std::uintptr_t, std::uintptr_t>;
// Distances of samples, tokens and heads.
using Strides = std::tuple<std::int64_t, std::int64_t, std::int64_t>;

// The CPU's and the CUDA kernels' parameters have the same fields.
template <class View>
View heads_view(const Addresses& addresses, const Strides& strides) {
  return {pointer<const void>(std::get<0>(addresses)),
          pointer<void>(std::get<1>(addresses)),
          pointer<const void>(std::get<2>(addresses)),
          std::get<0>(strides),
          std::get<1>(strides),
          std::get<2>(strides)};
}

template <class Params>
Params qk_norm_rope_params(const Addresses& q, const Addresses& k, const Strides& q_strides,
                           const Strides& k_strides, std::uintptr_t cos, std::uintptr_t sin,
                           std::int64_t batch, std::int64_t length, std::int64_t heads,
                           std::int64_t head_dim, double eps, bool interleaved,
                           bool table_per_sample, std::int32_t dtype, std::int32_t scale_dtype) {
  Params params{};
  params.q = heads_view<decltype(params.q)>(q, q_strides);
  params.k = heads_view<decltype(params.k)>(k, k_strides);
  params.cos = pointer<const float>(cos);
  params.sin = pointer<const float>(sin);
  params.batch = batch;
  params.length = length;
  params.heads = heads;
  params.head_dim = head_dim;
  params.eps = eps;
  params.interleaved = interleaved;
  params.table_per_sample = table_per_sample;
  params.dtype = static_cast<osf::DType>(dtype);
  params.scale_dtype = static_cast<osf::DType>(scale_dtype);
  return params;
}

template <class... Args>
void qk_norm_rope_cpu(Args... args) {
  const auto params = qk_norm_rope_params<osf::QkNormRopeParams>(args...);
  const py::gil_scoped_release release;
  osf::qk_norm_rope_cpu(params);
}

using Sizes = std::array<std::int64_t, 3>;

void copy_sizes(const Sizes& from, std::int64_t* to) { std::copy(from.begin(), from.end(), to); }

// Videos: the source, what is added, the result. Sizes: samples, channels of the large and of the
// small video, and T, H, W of the small one.
template <class Params>
Params pixel_shuffle_params(const std::array<std::uintptr_t, 3>& videos,
                            const std::array<std::int64_t, 6>& sizes, const Sizes& scale,
                            double factor, bool channels_last, std::int32_t dtype) {
  const auto [batch, large, small, frames, height, width] = sizes;
  const auto [source, added, result] = videos;
  return {pointer<const void>(source),
          pointer<const void>(added),
          pointer<void>(result),
          batch,
          large,
          small,
          frames,
          height,
          width,
          {scale[0], scale[1], scale[2]},
          factor,
          channels_last,
          static_cast<osf::DType>(dtype)};
}

#define OSF_PIXEL_SHUFFLE_TYPES                                                                   \
  const std::array<std::uintptr_t, 3>&, const std::array<std::int64_t, 6>&, const Sizes&, double, \
      bool, std::int32_t
#define OSF_PIXEL_SHUFFLE_ARGS                                              \
  py::arg("videos"), py::arg("sizes"), py::arg("scale"), py::arg("factor"), \
      py::arg("channels_last"), py::arg("dtype")

template <class... Args>
void pixel_shuffle_cpu(bool spread, Args... args) {
  const auto params = pixel_shuffle_params<osf::PixelShuffleParams>(args...);
  const py::gil_scoped_release release;
  spread ? osf::pixel_spread_cpu(params) : osf::pixel_gather_cpu(params);
}

// A convolution whose algorithm is chosen: what its weights are packed for.
struct Conv3d {
  osf::conv3d::Geometry geometry;
  osf::conv3d::Plan plan;

  Conv3d(std::int64_t channels, std::int64_t out_channels, const Sizes& kernel, const Sizes& stride,
         const Sizes& scale, std::int32_t padding, std::int32_t dtype, bool shortcut)
      : geometry{channels,
                 out_channels,
                 {},
                 {},
                 {},
                 static_cast<osf::conv3d::Padding>(padding),
                 static_cast<osf::DType>(dtype),
                 shortcut} {
    copy_sizes(kernel, geometry.kernel);
    copy_sizes(stride, geometry.stride);
    copy_sizes(scale, geometry.scale);
    plan = osf::conv3d::plan(geometry, osf::selected_isa());
  }

  void pack(std::uintptr_t weight, std::uintptr_t packed) const {
    const py::gil_scoped_release release;
    osf::conv3d::pack(geometry, plan, pointer<const float>(weight), pointer<void>(packed));
  }

  void run(std::uintptr_t x, std::uintptr_t y, std::uintptr_t packed, std::uintptr_t bias,
           std::uintptr_t residual, std::uintptr_t mean, std::uintptr_t scale, std::uintptr_t shift,
           bool silu, std::uintptr_t moments, std::int64_t batch, const Sizes& size,
           const Sizes& out_size) const {
    osf::conv3d::Params params{};
    params.x = pointer<const void>(x);
    params.y = pointer<void>(y);
    params.packed = pointer<const void>(packed);
    params.bias = pointer<const float>(bias);
    params.residual = pointer<const void>(residual);
    params.mean = pointer<const float>(mean);
    params.scale = pointer<const float>(scale);
    params.shift = pointer<const float>(shift);
    params.silu = silu;
    params.moments = pointer<float>(moments);
    params.batch = batch;
    copy_sizes(size, params.size);
    copy_sizes(out_size, params.out_size);
    params.geometry = geometry;
    params.plan = plan;
    const py::gil_scoped_release release;
    osf::conv3d::run(params);
  }
};

#ifdef OSF_HAS_CUDA
// The launch's cudaError_t as an exception that names the op and how it was cut up.
void check_launch(int error, const std::string& op, const std::string& config) {
  if (error == 0) return;
  throw std::runtime_error(op + ": the CUDA launch failed (" + osf::cuda::error_text(error) + "; " +
                           config + ")");
}

template <class... Args>
std::int64_t group_norm_silu_cuda_workspace(Args... args) {
  return osf::cuda::group_norm_silu_workspace_bytes(
      group_norm_silu_params<osf::cuda::GroupNormSiluParams>(args...));
}

template <class Edit, class... Args>
void launch_group_norm_silu(const Edit& edit, std::uintptr_t workspace, std::int64_t stream,
                            Args... args) {
  auto params = group_norm_silu_params<osf::cuda::GroupNormSiluParams>(args...);
  params.workspace = pointer<void>(workspace);
  edit(params);
  const py::gil_scoped_release release;
  check_launch(osf::cuda::group_norm_silu_launch(params, stream), "group_norm_silu",
               osf::cuda::group_norm_silu_config(params).describe());
}

template <class... Args>
void group_norm_silu_cuda(std::uintptr_t workspace, std::int64_t stream, Args... args) {
  launch_group_norm_silu([](auto&) {}, workspace, stream, args...);
}

template <class... Args>
void group_norm_silu_border_cuda(std::uintptr_t workspace, std::int64_t stream, std::int64_t height,
                                 std::int64_t width, Args... args) {
  const auto edit = [&](auto& params) {
    params.height = height;
    params.width = width;
  };
  launch_group_norm_silu(edit, workspace, stream, args...);
}

template <class... Args>
void group_norm_affine_cuda(std::uintptr_t workspace, std::int64_t stream, std::uintptr_t affine,
                            Args... args) {
  const auto edit = [&](auto& params) { params.affine = pointer<float>(affine); };
  launch_group_norm_silu(edit, workspace, stream, args...);
}

template <class... Args>
void qk_norm_rope_cuda(std::int64_t stream, Args... args) {
  const auto params = qk_norm_rope_params<osf::cuda::QkNormRopeParams>(args...);
  const py::gil_scoped_release release;
  check_launch(osf::cuda::qk_norm_rope_launch(params, stream), "qk_norm_rope",
               osf::cuda::qk_norm_rope_config(params).describe());
}

template <class... Args>
void pixel_shuffle_cuda(std::int64_t stream, bool spread, Args... args) {
  const auto params = pixel_shuffle_params<osf::cuda::PixelShuffleParams>(args...);
  const py::gil_scoped_release release;
  const auto launch = spread ? osf::cuda::pixel_spread_launch : osf::cuda::pixel_gather_launch;
  check_launch(launch(params, stream), "pixel_shuffle",
               osf::cuda::pixel_shuffle_config(params).describe());
}

void group_norm_silu_conv3d_cuda(std::int64_t stream, std::uintptr_t x, std::uintptr_t affine,
                                 std::uintptr_t packed, std::uintptr_t bias,
                                 std::uintptr_t residual, std::uintptr_t y, std::int64_t batch,
                                 std::int64_t channels, std::int64_t outputs, const Sizes& size) {
  osf::cuda::GroupNormSiluConv3dParams params{};
  params.x = pointer<const void>(x);
  params.scale = pointer<const float>(affine);
  params.shift = params.scale + batch * channels;
  params.packed = pointer<const void>(packed);
  params.bias = pointer<const float>(bias);
  params.residual = pointer<const void>(residual);
  params.y = pointer<void>(y);
  params.batch = batch;
  params.channels = channels;
  params.outputs = outputs;
  params.frames = size[0];
  params.height = size[1];
  params.width = size[2];
  const py::gil_scoped_release release;
  osf::cuda::GroupNormSiluConv3dConfig config{};
  const int error = osf::cuda::group_norm_silu_conv3d_launch(params, stream, &config);
  check_launch(error, "group_norm_silu_conv3d", config.describe());
}
#endif

// Instantiates a binding above for group_norm_silu_params' arguments.
using Address = std::uintptr_t;
using Size = std::int64_t;
using Code = std::int32_t;
#define OSF_GROUP_NORM_SILU_TYPES                                                             \
  Address, Address, Address, Address, Address, Address, Size, Size, Size, Size, double, bool, \
      bool, Code, Code
#define OSF_GROUP_NORM_SILU_ARGS                                                    \
  py::arg("x"), py::arg("y"), py::arg("weight"), py::arg("bias"), py::arg("mean"),  \
      py::arg("rstd"), py::arg("batch"), py::arg("channels"), py::arg("spatial"),   \
      py::arg("groups"), py::arg("eps"), py::arg("silu"), py::arg("channels_last"), \
      py::arg("dtype"), py::arg("affine_dtype")

// The same for qk_norm_rope_params' arguments.
#define OSF_QK_NORM_ROPE_TYPES                                                                    \
  Addresses, Addresses, Strides, Strides, Address, Address, Size, Size, Size, Size, double, bool, \
      bool, Code, Code
#define OSF_QK_NORM_ROPE_ARGS                                                                     \
  py::arg("q"), py::arg("k"), py::arg("q_strides"), py::arg("k_strides"), py::arg("cos"),         \
      py::arg("sin"), py::arg("batch"), py::arg("length"), py::arg("heads"), py::arg("head_dim"), \
      py::arg("eps"), py::arg("interleaved"), py::arg("table_per_sample"), py::arg("dtype"),      \
      py::arg("scale_dtype")

void bind_conv3d(py::module_& m) {
  py::class_<Conv3d>(m, "Conv3d")
      .def(py::init<std::int64_t, std::int64_t, const Sizes&, const Sizes&, const Sizes&,
                    std::int32_t, std::int32_t, bool>(),
           py::arg("channels"), py::arg("out_channels"), py::arg("kernel"), py::arg("stride"),
           py::arg("scale"), py::arg("padding"), py::arg("dtype"), py::arg("shortcut"))
      .def_property_readonly(
          "algorithm",
          [](const Conv3d& conv) { return osf::conv3d::algorithm_name(conv.plan.algorithm); })
      .def_property_readonly("packed_bytes",
                             [](const Conv3d& conv) { return conv.plan.packed_bytes; })
      .def("pack", &Conv3d::pack, py::arg("weight"), py::arg("packed"))
      .def("run", &Conv3d::run, py::arg("x"), py::arg("y"), py::arg("packed"), py::arg("bias"),
           py::arg("residual"), py::arg("mean"), py::arg("scale"), py::arg("shift"),
           py::arg("silu"), py::arg("moments"), py::arg("batch"), py::arg("size"),
           py::arg("out_size"));
}

#ifdef OSF_HAS_CUDA
void bind_cuda(py::module_& m) {
  m.attr("HAS_CUDA") = true;
  m.def("group_norm_silu_cuda_workspace",
        &group_norm_silu_cuda_workspace<OSF_GROUP_NORM_SILU_TYPES>, OSF_GROUP_NORM_SILU_ARGS);
  m.def("group_norm_silu_cuda", &group_norm_silu_cuda<OSF_GROUP_NORM_SILU_TYPES>,
        py::arg("workspace"), py::arg("stream"), OSF_GROUP_NORM_SILU_ARGS);
  m.def("group_norm_silu_border_cuda", &group_norm_silu_border_cuda<OSF_GROUP_NORM_SILU_TYPES>,
        py::arg("workspace"), py::arg("stream"), py::arg("height"), py::arg("width"),
        OSF_GROUP_NORM_SILU_ARGS);
  m.def("group_norm_affine_cuda", &group_norm_affine_cuda<OSF_GROUP_NORM_SILU_TYPES>,
        py::arg("workspace"), py::arg("stream"), py::arg("affine"), OSF_GROUP_NORM_SILU_ARGS);
  m.def("qk_norm_rope_cuda", &qk_norm_rope_cuda<OSF_QK_NORM_ROPE_TYPES>, py::arg("stream"),
        OSF_QK_NORM_ROPE_ARGS);
  m.def("pixel_shuffle_cuda", &pixel_shuffle_cuda<OSF_PIXEL_SHUFFLE_TYPES>, py::arg("stream"),
        py::arg("spread"), OSF_PIXEL_SHUFFLE_ARGS);
  m.def("group_norm_silu_conv3d_cuda", &group_norm_silu_conv3d_cuda, py::arg("stream"),
        py::arg("x"), py::arg("affine"), py::arg("packed"), py::arg("bias"), py::arg("residual"),
        py::arg("y"), py::arg("batch"), py::arg("channels"), py::arg("outputs"), py::arg("size"));
}
#endif

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "Native kernels of opensora-fast: addresses and sizes in, no tensor library inside.";

  m.attr("FLOAT32") = static_cast<int>(osf::DType::kFloat32);
  m.attr("BFLOAT16") = static_cast<int>(osf::DType::kBFloat16);
  m.attr("FLOAT16") = static_cast<int>(osf::DType::kFloat16);

  m.def(
      "cpu_isa", [] { return std::string(osf::isa_name(osf::selected_isa())); },
      "Name of the instruction set in force on the CPU.");
  m.def(
      "cpu_isas",
      [] {
        std::vector<std::string> names;
        for (const osf::Isa isa : osf::supported_isas()) names.emplace_back(osf::isa_name(isa));
        return names;
      },
      "Names of the instruction sets this processor runs, from scalar upwards.");
  m.def("group_norm_silu_cpu", &group_norm_silu_cpu<OSF_GROUP_NORM_SILU_TYPES>,
        OSF_GROUP_NORM_SILU_ARGS);

  m.def("group_norm_affine_cpu", &group_norm_affine_cpu, py::arg("x"), py::arg("weight"),
        py::arg("bias"), py::arg("affine"), py::arg("batch"), py::arg("channels"),
        py::arg("spatial"), py::arg("groups"), py::arg("eps"), py::arg("channels_last"),
        py::arg("dtype"), py::arg("affine_dtype"));

  m.def("group_norm_silu_backward_cpu", &group_norm_silu_backward_cpu, py::arg("grad"),
        py::arg("x"), py::arg("weight"), py::arg("bias"), py::arg("mean"), py::arg("rstd"),
        py::arg("dx"), py::arg("dweight"), py::arg("dbias"), py::arg("batch"), py::arg("channels"),
        py::arg("spatial"), py::arg("groups"), py::arg("silu"), py::arg("channels_last"),
        py::arg("dtype"), py::arg("affine_dtype"));

  m.def("layer_norm_modulate_cpu", &layer_norm_modulate_cpu, py::arg("x"), py::arg("y"),
        py::arg("shift"), py::arg("scale"), py::arg("batch"), py::arg("length"), py::arg("width"),
        py::arg("sample_stride"), py::arg("token_stride"), py::arg("eps"), py::arg("dtype"),
        py::arg("modulation_dtype"));
  m.def("frame_causal_attention_cpu", &frame_causal_attention_cpu, py::arg("q"), py::arg("k"),
        py::arg("v"), py::arg("y"), py::arg("lse"), py::arg("batch"), py::arg("length"),
        py::arg("num_frames"), py::arg("head_dim"), py::arg("dtype"));
  m.def("gate_residual_cpu", &gate_residual_cpu, py::arg("x"), py::arg("gate"), py::arg("branch"),
        py::arg("y"), py::arg("batch"), py::arg("length"), py::arg("width"), py::arg("dtype"),
        py::arg("branch_dtype"));
  m.def("gelu_cpu", &gelu_cpu, py::arg("x"), py::arg("y"), py::arg("rows"), py::arg("width"),
        py::arg("x_stride"), py::arg("y_stride"), py::arg("dtype"));
  m.def("gelu_backward_cpu", &gelu_backward_cpu, py::arg("grad"), py::arg("x"), py::arg("dx"),
        py::arg("rows"), py::arg("width"), py::arg("grad_stride"), py::arg("x_stride"),
        py::arg("dtype"));
  m.def("qk_norm_rope_cpu", &qk_norm_rope_cpu<OSF_QK_NORM_ROPE_TYPES>, OSF_QK_NORM_ROPE_ARGS);

  m.def("pixel_shuffle_cpu", &pixel_shuffle_cpu<OSF_PIXEL_SHUFFLE_TYPES>, py::arg("spread"),
        OSF_PIXEL_SHUFFLE_ARGS);
  m.def("rms_norm3d_cpu", &rms_norm3d_cpu, py::arg("x"), py::arg("y"), py::arg("weight"),
        py::arg("bias"), py::arg("residual"), py::arg("batch"), py::arg("channels"),
        py::arg("positions"), py::arg("eps"), py::arg("activation"), py::arg("channels_last"),
        py::arg("dtype"), py::arg("affine_dtype"));
  m.def("rms_norm3d_backward_cpu", &rms_norm3d_backward_cpu, py::arg("grad"), py::arg("x"),
        py::arg("weight"), py::arg("bias"), py::arg("dx"), py::arg("dweight"), py::arg("dbias"),
        py::arg("batch"), py::arg("channels"), py::arg("positions"), py::arg("eps"),
        py::arg("activation"), py::arg("channels_last"), py::arg("dtype"), py::arg("affine_dtype"));

  m.def("linear_attention_cpu", &linear_attention_cpu, py::arg("qkv"), py::arg("depth_weight"),
        py::arg("point_weight"), py::arg("y"), py::arg("batch"), py::arg("channels"),
        py::arg("size"), py::arg("head_dim"), py::arg("kernel"), py::arg("eps"), py::arg("dtype"));
  m.def("glu_mb_conv_cpu", &glu_mb_conv_cpu, py::arg("products"), py::arg("ring"), py::arg("gated"),
        py::arg("taps"), py::arg("inverted_bias"), py::arg("depth_bias"), py::arg("width"),
        py::arg("channels"), py::arg("num_frames"), py::arg("ring_size"), py::arg("new_frames"),
        py::arg("out_frames"), py::arg("out_rows"), py::arg("dtype"));

  bind_conv3d(m);
#ifdef OSF_HAS_CUDA
  bind_cuda(m);
#else
  m.attr("HAS_CUDA") = false;
#endif
}
