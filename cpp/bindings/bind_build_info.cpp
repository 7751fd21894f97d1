#include <pybind11/typing.h>

#include "array.hpp"

namespace cgc::bindings {

void bind_build_info(py::module_& module) {
    module.def(
        "build_info",
        [] {
            py::typing::Dict<py::str, py::object> info;
            info["version"] = CGC_VERSION;
            info["compiler"] = __VERSION__;
            info["build_type"] = CGC_BUILD_TYPE;
            info["cxx_standard"] = static_cast<long>(__cplusplus);
#if defined(__x86_64__)
            info["architecture"] = "x86-64";
#elif defined(__aarch64__)
            info["architecture"] = "aarch64";
#else
            info["architecture"] = "other";
#endif
            return info;
        },
        "How the extension module was built: version, compiler, build type, C++ standard, architecture.");
}

}  // namespace cgc::bindings
