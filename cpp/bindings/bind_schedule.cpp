#include <pybind11/typing.h>

#include <memory>

#include "array.hpp"
#include "cgc/schedule.hpp"
#include "cgc/simulate.hpp"

namespace cgc::bindings {

namespace {

Feedback feedback_of(const std::string& name) {
    if (name == "none") return Feedback::none;
    if (name == "announce") return Feedback::announce;
    if (name == "claim") return Feedback::claim;
    throw std::invalid_argument("feedback: expected none, announce or claim, got " + name);
}

std::unique_ptr<CompiledSchedule> compile(const Array<Index>& offsets, const Array<Index>& cells,
                                          const Array<Index>& rows, const Array<double>& fractions,
                                          const Array<Index>& interval_offsets, const Array<double>& lows,
                                          const Array<double>& highs, const Array<Index>& widths,
                                          const Array<Index>& ranges, const Array<Index>& required_rows) {
    const Walks walks{vector(offsets, "offsets"),
                      vector(cells, "cells"),
                      vector(rows, "rows"),
                      vector(fractions, "fractions"),
                      vector(interval_offsets, "interval_offsets"),
                      vector(lows, "lows"),
                      vector(highs, "highs")};
    const CellTable table{vector(widths, "widths"), vector(ranges, "ranges"),
                          vector(required_rows, "required_rows")};
    const py::gil_scoped_release released;  // the views stay valid: the caller holds the arrays
    return std::make_unique<CompiledSchedule>(walks, table);
}

Array<double> arrival_cycles(const CompiledSchedule& schedule, double samples, double cycles_per_derivative,
                             double forward_cycles) {
    Array<double> out(schedule.visits());
    const View<double> view = writable_vector(out, "out");
    {
        const py::gil_scoped_release released;
        schedule.arrival_cycles({samples, cycles_per_derivative, forward_cycles}, view);
    }
    return out;
}

using Arrays = py::typing::Tuple<Array<double>, Array<double>, Array<double>>;

Arrays simulate_draws(const CompiledSchedule& schedule, const std::string& feedback, double samples,
                      double cycles_per_derivative, double forward_cycles, const Array<double>& cycle_times,
                      const Array<double>& delays, double latency, bool details, Index threads) {
    const Feedback kind = feedback_of(feedback);
    const Draws draws{matrix(cycle_times, "cycle_times"), matrix(delays, "delays"), latency};
    const Index count = draws.cycle_times.rows;
    Array<double> runtime(count);
    Array<double> decode_times({details ? count : 0, schedule.cells()});
    Array<double> values_sent({details ? count : 0, schedule.workers()});
    const Outcome outcome{writable_vector(runtime, "runtime"), writable_matrix(decode_times, "decode_times"),
                          writable_matrix(values_sent, "values_sent")};
    {
        const py::gil_scoped_release released;
        simulate(schedule, kind, {samples, cycles_per_derivative, forward_cycles}, draws, outcome, threads);
    }
    return py::make_tuple(runtime, decode_times, values_sent);
}

}  // namespace

void bind_schedule(py::module_& module) {
    py::class_<CompiledSchedule>(module, "CompiledSchedule", "A schedule as flat arrays; immutable.")
        .def(py::init(&compile), py::kw_only(), py::arg("offsets").noconvert(), py::arg("cells").noconvert(),
             py::arg("rows").noconvert(), py::arg("fractions").noconvert(),
             py::arg("interval_offsets").noconvert(), py::arg("lows").noconvert(),
             py::arg("highs").noconvert(), py::arg("widths").noconvert(), py::arg("ranges").noconvert(),
             py::arg("required_rows").noconvert(),
             "Visits (V,) of all walks, worker after worker, with the sample intervals of their rows, and "
             "the table of cells (C,). Copies what it needs.")
        .def("arrival_cycles", &arrival_cycles, py::arg("samples"), py::arg("cycles_per_derivative"),
             py::arg("forward_cycles"),
             "Cumulative cycles (V,) of each worker at the end of each of its visits, nothing skipped.")
        .def("simulate", &simulate_draws, py::arg("feedback"), py::arg("samples"),
             py::arg("cycles_per_derivative"), py::arg("forward_cycles"), py::arg("cycle_times").noconvert(),
             py::arg("delays").noconvert(), py::arg("latency"), py::arg("details"), py::arg("threads") = 1,
             "Runtime (S,), decode times (S, cells) and values sent (S, workers) of draws (S, workers); "
             "the last two have no rows unless `details`.");
}

}  // namespace cgc::bindings
