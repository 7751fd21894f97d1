#include "array.hpp"
#include "cgc/partition.hpp"
#include "cgc/runtime.hpp"
#include "cgc/subgradient.hpp"

namespace cgc::bindings {

namespace {

Array<double> project(const Array<double>& point, double total) {
    const auto values = vector(point, "point");
    if (values.empty()) throw std::invalid_argument("point: expected at least one entry, got none");
    if (!(total > 0.0)) throw std::invalid_argument("total: expected > 0, got " + std::to_string(total));
    Array<double> projected(point.size()), scratch(point.size());
    project_onto_simplex(values, total, writable_vector(projected, "projected"),
                         writable_vector(scratch, "scratch"));
    return projected;
}

Array<double> runtimes(const Array<double>& times, const Array<double>& cycles) {
    const auto statistics = matrix(times, "times");
    const auto spent = vector(cycles, "cycles");
    require_length(static_cast<Index>(spent.size()), statistics.columns, "cycles");
    Array<double> out(statistics.rows);
    const auto result = writable_vector(out, "out");
    {
        py::gil_scoped_release release;  // only views of arrays that the caller's references keep alive
        level_runtimes(statistics, spent, result);
    }
    return out;
}

Array<double> grouped(const Array<double>& times, const Array<Index>& groups, const Array<double>& cycles) {
    const auto draws = matrix(times, "times");
    const auto counts = vector(groups, "groups");
    const auto spent = matrix(cycles, "cycles");
    require_length(spent.columns, draws.columns, "cycles: columns");
    require_length(spent.rows, static_cast<Index>(counts.size()), "cycles: rows");
    for (const Index count : counts)
        if (count < 1 || count > draws.columns)
            throw std::invalid_argument("groups: expected 1 to " + std::to_string(draws.columns) + ", got " +
                                        std::to_string(count));
    Array<double> out({draws.rows, spent.rows});
    const auto result = writable_matrix(out, "out");
    {
        py::gil_scoped_release release;
        group_times(draws, counts, spent, result);
    }
    return out;
}

Array<double> run_batches(SubgradientIterations& self, const Array<double>& times, Index batch,
                          bool averaging) {
    const auto statistics = matrix(times, "times");
    if (batch < 1) throw std::invalid_argument("batch: expected at least 1, got " + std::to_string(batch));
    Array<double> history(statistics.rows / batch);
    const auto values = writable_vector(history, "history");
    {
        py::gil_scoped_release release;
        self.run(statistics, batch, averaging, values);
    }
    return history;
}

Array<double> copy(View<const double> values) {
    return Array<double>(static_cast<py::ssize_t>(values.size()), values.data());
}

}  // namespace

void bind_partition(py::module_& module) {
    module.def("project_onto_simplex", &project, py::arg("point").noconvert(), py::arg("total"),
               "Euclidean projection of point (K,) on {x >= 0, sum x = total}; O(K log K).");
    module.def("level_runtimes", &runtimes, py::arg("times").noconvert(), py::arg("cycles").noconvert(),
               "max_k times[:, k] * cycles[k] (D,), levels with cycles 0 left out; O(D K).");
    module.def("group_times", &grouped, py::arg("times").noconvert(), py::arg("groups").noconvert(),
               py::arg("cycles").noconvert(),
               "Per draw and level (D, K), the slowest group's fastest member: times (D, N), groups (K,), "
               "cycles (K, N); worker w is in group floor(w g / N). O(D K N).");

    py::class_<SubgradientIterations>(module, "SubgradientIterations",
                                      "Projected stochastic subgradient iterations for the expected runtime "
                                      "[WANG22]; one thread at a time.")
        .def(py::init([](const Array<double>& work, const Array<double>& start, double step, double power) {
                 return SubgradientIterations(vector(work, "work"), vector(start, "start"), step, power);
             }),
             py::arg("work").noconvert(), py::arg("start").noconvert(), py::arg("step"), py::arg("power"))
        .def("run", &run_batches, py::arg("times").noconvert(), py::arg("batch"), py::arg("averaging"),
             "One pass over times (D, K) in batches; returns the batch means of the runtime (D // batch,).")
        .def_property_readonly(
            "iterate", [](const SubgradientIterations& self) { return copy(self.iterate()); },
            "The current iterate (K,), a copy.")
        .def_property_readonly(
            "average",
            [](const SubgradientIterations& self) {
                Array<double> out(static_cast<py::ssize_t>(self.iterate().size()));
                self.average(writable_vector(out, "out"));
                return out;
            },
            "Mean of the averaged iterates (K,), or the iterate itself if there are none.");
}

}  // namespace cgc::bindings
