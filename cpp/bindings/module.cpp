// Table of contents of the extension module: one bind_<concept> per file.
#include <pybind11/pybind11.h>

#include <exception>
#include <stdexcept>

namespace cgc::bindings {
void bind_board(pybind11::module_& module);
void bind_boundary_crossing(pybind11::module_& module);
void bind_build_info(pybind11::module_& module);
void bind_circular_walks(pybind11::module_& module);
void bind_message_walk(pybind11::module_& module);
void bind_partition(pybind11::module_& module);
void bind_sample_average(pybind11::module_& module);
void bind_codes(pybind11::module_& module);
void bind_collector(pybind11::module_& module);
void bind_combine(pybind11::module_& module);
void bind_linear_model(pybind11::module_& module);
void bind_schedule(pybind11::module_& module);
void bind_signal(pybind11::module_& module);
void bind_simplex_quadratic(pybind11::module_& module);
void bind_walker(pybind11::module_& module);
}  // namespace cgc::bindings

PYBIND11_MODULE(_core, module) {
    using namespace cgc::bindings;
    // A caller's mistake is an ArgumentValueError: a ValueError that is also one of the package's own.
    pybind11::register_local_exception_translator([](std::exception_ptr pointer) {
        try {
            if (pointer) std::rethrow_exception(pointer);
        } catch (const std::invalid_argument& error) {
            pybind11::set_error(pybind11::module_::import("cgc_fast.errors").attr("ArgumentValueError"),
                                error.what());
        }
    });
    module.doc() = "Compiled core of cgc_fast.";
    bind_build_info(module);
    bind_partition(module);          // block sizes: projection, rounding, runtimes, subgradient iterations
    bind_boundary_crossing(module);  // exact probabilities for sorted cycle times
    bind_simplex_quadratic(module);  // the model that a Newton step minimises
    bind_sample_average(module);     // means of maxima over draws, with their subgradients
    bind_codes(module);              // cyclic encoding matrices and decoding vectors
    bind_combine(module);            // weighted sums of rows
    bind_linear_model(module);       // coded partial derivatives of generalised linear models
    bind_schedule(module);           // costs of visits, simulation
    bind_circular_walks(module);     // blocks walked around from several starts
    bind_board(module);              // what workers learn of each other: announced, claimed, committed cells
    bind_signal(module);             // the shared-memory signal between master and workers
    bind_collector(module);          // the master's side of an ordinary iteration
    bind_walker(module);             // a worker's side of it
    bind_message_walk(module);       // the same where payloads may leave in messages
}
