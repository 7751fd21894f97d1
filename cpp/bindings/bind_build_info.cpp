#include <pybind11/typing.h>

#include "array.hpp"
#include "cgc/instruction_set.hpp"

namespace cgc::bindings {

void bind_build_info(py::module_& module) {
    instruction_set();  // an import fails if the environment asks for one that is not there
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
            py::list available;
            for (const InstructionSet set : available_instruction_sets()) available.append(name_of(set));
            info["instruction_set"] = name_of(instruction_set());
            info["available_instruction_sets"] = available;
            info["fuses_multiply_add"] = fuses_multiply_add(instruction_set());
            return info;
        },
        "How the extension module was built (version, compiler, build type, C++ standard, architecture), "
        "which instruction set the kernels run with, which this machine could run, the fastest last, and "
        "whether kernels that may round once where others multiply and add do so.");
}

}  // namespace cgc::bindings
