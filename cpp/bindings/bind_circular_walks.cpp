#include <pybind11/typing.h>

#include <memory>

#include "array.hpp"
#include "cgc/circular_walks.hpp"

namespace cgc::bindings {

namespace {

std::unique_ptr<CoverTimes> make(const Array<Index>& groups, const Array<double>& starts,
                                 const Array<Index>& backward) {
    return std::make_unique<CoverTimes>(
        CircularWalks{matrix(groups, "groups"), matrix(starts, "starts"), matrix(backward, "backward")});
}

using Arrays = py::typing::Tuple<Array<double>, Array<double>, Array<double>>;

Arrays cover_times(const CoverTimes& self, const Array<double>& times, const Array<double>& begin,
                   const Array<double>& around, bool slopes) {
    const auto draws = matrix(times, "times");
    const auto begins = matrix(begin, "begin");
    const auto arounds = matrix(around, "around");
    require_length(draws.columns, self.workers(), "times: columns");
    require_length(begins.rows, self.levels(), "begin: rows");
    require_length(begins.columns, self.workers(), "begin: columns");
    require_length(arounds.rows, self.levels(), "around: rows");
    require_length(arounds.columns, self.workers(), "around: columns");
    Array<double> runtime(draws.rows);
    Array<double> begin_slopes({slopes ? self.levels() : 0, self.workers()});
    Array<double> around_slopes({slopes ? self.levels() : 0, self.workers()});
    const auto out = writable_vector(runtime, "runtime");
    const auto by_begin = writable_matrix(begin_slopes, "begin_slopes");
    const auto by_around = writable_matrix(around_slopes, "around_slopes");
    {
        const py::gil_scoped_release released;
        self.run(draws, begins, arounds, out, by_begin, by_around);
    }
    return py::make_tuple(runtime, begin_slopes, around_slopes);
}

}  // namespace

void bind_circular_walks(py::module_& module) {
    py::class_<CoverTimes>(module, "CoverTimes",
                           "When groups of workers have walked around their blocks, without feedback; "
                           "immutable.")
        .def(py::init(&make), py::kw_only(), py::arg("groups").noconvert(), py::arg("starts").noconvert(),
             py::arg("backward").noconvert(),
             "Group, start in [0, 1) and direction (not 0: backward) of every worker at every level (K, N).")
        .def("run", &cover_times, py::arg("times").noconvert(), py::arg("begin").noconvert(),
             py::arg("around").noconvert(), py::arg("slopes"),
             "Runtime (S,) of times (S, N) when workers set out after `begin` (K, N) cycles and go around in "
             "`around` (K, N) more; sums over the draws of its derivatives by these two (K, N), without rows "
             "unless `slopes`.");
}

}  // namespace cgc::bindings
