#include "array.hpp"

namespace cgc::bindings {

void bind_combine([[maybe_unused]] py::module_& module) {}

}  // namespace cgc::bindings
