// Table of contents of the extension module: one bind_<concept> per file.
#include <pybind11/pybind11.h>

namespace cgc::bindings {
void bind_build_info(pybind11::module_& module);
void bind_partition(pybind11::module_& module);
void bind_codes(pybind11::module_& module);
void bind_combine(pybind11::module_& module);
void bind_linear_model(pybind11::module_& module);
void bind_schedule(pybind11::module_& module);
void bind_signal(pybind11::module_& module);
}  // namespace cgc::bindings

PYBIND11_MODULE(_core, module) {
    using namespace cgc::bindings;
    module.doc() = "Compiled core of cgc_fast.";
    bind_build_info(module);
    bind_partition(module);     // block sizes: projection, rounding, runtimes, subgradient iterations
    bind_codes(module);         // cyclic encoding matrices and decoding vectors
    bind_combine(module);       // weighted sums of rows
    bind_linear_model(module);  // coded partial derivatives of generalised linear models
    bind_schedule(module);      // costs of visits, simulation
    bind_signal(module);        // the shared-memory signal between master and workers
}
