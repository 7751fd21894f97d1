#include "array.hpp"

namespace cgc::bindings {

void bind_linear_model([[maybe_unused]] py::module_& module) {}

}  // namespace cgc::bindings
