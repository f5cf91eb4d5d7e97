// Bindings of the convolutions. The forward one is a class, because its weights are packed once and
// used many times.

#include "cpu/conv3d/conv3d.h"

#include "core/cpu_features.h"
#include "cpu/conv3d/weight_gradient.h"
#include "cpu/depthwise3d.h"
#include "python/binding.h"

namespace osf::python {
namespace {

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

void conv3d_weight_gradient_cpu(std::uintptr_t x, std::uintptr_t dy, std::uintptr_t dweight,
                                std::int64_t batch, std::int64_t channels,
                                std::int64_t out_channels, const Sizes& size, const Sizes& out_size,
                                const Sizes& kernel, const Sizes& stride, std::int32_t padding,
                                std::int32_t dtype) {
  osf::conv3d::Params params{};
  params.x = pointer<const void>(x);
  params.batch = batch;
  copy_sizes(size, params.size);
  copy_sizes(out_size, params.out_size);
  osf::conv3d::Geometry& geometry = params.geometry;
  geometry.channels = channels;
  geometry.out_channels = out_channels;
  copy_sizes(kernel, geometry.kernel);
  copy_sizes(stride, geometry.stride);
  copy_sizes({1, 1, 1}, geometry.scale);
  geometry.padding = static_cast<osf::conv3d::Padding>(padding);
  geometry.dtype = static_cast<osf::DType>(dtype);
  const py::gil_scoped_release release;
  osf::conv3d::weight_gradient(params, pointer<const void>(dy), pointer<float>(dweight),
                               osf::selected_isa());
}

template <class Params>
void set_input(std::uintptr_t x, std::int64_t batch, std::int64_t channels, const Sizes& size,
               const Sizes& kernel, Params* params) {
  params->x = pointer<const float>(x);
  params->batch = batch;
  params->channels = channels;
  copy_sizes(size, params->size);
  copy_sizes(kernel, params->kernel);
}

void depthwise3d_cpu(std::uintptr_t x, std::uintptr_t taps, std::uintptr_t bias, std::uintptr_t y,
                     std::int64_t batch, std::int64_t channels, const Sizes& size,
                     const Sizes& kernel) {
  osf::Depthwise3dParams params{};
  set_input(x, batch, channels, size, kernel, &params);
  params.taps = pointer<const float>(taps);
  params.bias = pointer<const float>(bias);
  params.y = pointer<float>(y);
  const py::gil_scoped_release release;
  osf::depthwise3d_cpu(params);
}

void depthwise3d_taps_gradient_cpu(std::uintptr_t x, std::uintptr_t dy, std::uintptr_t dtaps,
                                   std::int64_t batch, std::int64_t channels, const Sizes& size,
                                   const Sizes& kernel) {
  osf::Depthwise3dTapsGradientParams params{};
  set_input(x, batch, channels, size, kernel, &params);
  params.dy = pointer<const float>(dy);
  params.dtaps = pointer<float>(dtaps);
  const py::gil_scoped_release release;
  osf::depthwise3d_taps_gradient_cpu(params);
}

}  // namespace

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
  m.def("conv3d_weight_gradient_cpu", &conv3d_weight_gradient_cpu, py::arg("x"), py::arg("dy"),
        py::arg("dweight"), py::arg("batch"), py::arg("channels"), py::arg("out_channels"),
        py::arg("size"), py::arg("out_size"), py::arg("kernel"), py::arg("stride"),
        py::arg("padding"), py::arg("dtype"));
  m.def("depthwise3d_cpu", &depthwise3d_cpu, py::arg("x"), py::arg("taps"), py::arg("bias"),
        py::arg("y"), py::arg("batch"), py::arg("channels"), py::arg("size"), py::arg("kernel"));
  m.def("depthwise3d_taps_gradient_cpu", &depthwise3d_taps_gradient_cpu, py::arg("x"),
        py::arg("dy"), py::arg("dtaps"), py::arg("batch"), py::arg("channels"), py::arg("size"),
        py::arg("kernel"));
}

}  // namespace osf::python
