// What the files of the binding share. They are the only ones that know pybind11.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <tuple>

namespace osf::python {

namespace py = pybind11;

template <class T>
T* pointer(std::uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

using Sizes = std::array<std::int64_t, 3>;
using Size3 = std::tuple<std::int64_t, std::int64_t, std::int64_t>;

inline void copy_sizes(const Sizes& from, std::int64_t* to) {
  std::copy(from.begin(), from.end(), to);
}

void bind_conv3d(py::module_& m);
void bind_glu_mb_conv(py::module_& m);
void bind_linear_attention(py::module_& m);

}  // namespace osf::python
