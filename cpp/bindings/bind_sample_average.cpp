#include "array.hpp"
#include "cgc/sample_average.hpp"

namespace cgc::bindings {

namespace {

double mean_of_maxima(const Array<double>& times, const Array<double>& cycles, Array<double> mass) {
    const auto statistics = matrix(times, "times");
    const auto spent = vector(cycles, "cycles");
    const auto result = writable_vector(mass, "mass");
    require_length(static_cast<Index>(spent.size()), statistics.columns, "cycles");
    require_length(static_cast<Index>(result.size()), statistics.columns, "mass");
    if (statistics.rows < 1) throw std::invalid_argument("times: expected at least one row, got none");
    bool any = false;
    for (const double cycle : spent) any = any || cycle > 0.0;
    if (!any) throw std::invalid_argument("cycles: expected a positive entry, got none");
    py::gil_scoped_release release;  // only views of arrays that the caller's references keep alive
    return mean_maximum(statistics, spent, result);
}

}  // namespace

void bind_sample_average(py::module_& module) {
    module.def(
        "mean_maximum", &mean_of_maxima, py::arg("times").noconvert(), py::arg("cycles").noconvert(),
        py::arg("mass").noconvert(),
        "Mean over the draws of max_k times[:, k] * cycles[k], times (D, K) finite, levels with cycles 0 "
        "left out; mass (K,) receives the mean of times where the maximum is at k, a subgradient with "
        "respect to cycles. O(D K).");
}

}  // namespace cgc::bindings
