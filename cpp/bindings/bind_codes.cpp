#include "array.hpp"

namespace cgc::bindings {

void bind_codes([[maybe_unused]] py::module_& module) {}

}  // namespace cgc::bindings
