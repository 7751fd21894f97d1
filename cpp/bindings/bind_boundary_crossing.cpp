#include <pybind11/typing.h>

#include <algorithm>

#include "array.hpp"
#include "cgc/boundary_crossing.hpp"

namespace cgc::bindings {

namespace {

using Batch = py::typing::Tuple<Array<double>, Array<double>, Array<double>, Array<double>>;

void require_boundary(View<const double> below, View<const double> above, Index row) {
    for (std::size_t k = 0; k < below.size(); ++k)
        if (!(below[k] >= (k ? below[k - 1] : 0.0) && below[k] <= 1.0 && above[k] >= 0.0 &&
              above[k] <= (k ? above[k - 1] : 1.0)))
            throw std::invalid_argument(
                "bounds: expected rising numbers in [0, 1] with falling complements, got " +
                std::to_string(below[k]) + " at row " + std::to_string(row) + ", entry " + std::to_string(k));
}

Batch evaluate(BoundaryCrossing& self, const Array<double>& bounds, const Array<double>& complements,
               bool tail, bool derivatives) {
    const auto below = matrix(bounds, "bounds");
    const auto above = matrix(complements, "complements");
    require_length(below.columns, self.points(), "bounds: columns");
    require_length(above.columns, self.points(), "complements: columns");
    require_length(above.rows, below.rows, "complements: rows");
    for (Index row = 0; row < below.rows; ++row)
        require_boundary(below.row_view(row), above.row_view(row), row);
    Array<double> inside(below.rows), failure(below.rows), dropped({below.rows, below.columns}),
        onward({derivatives ? below.rows : 0, below.columns});
    const auto p = writable_vector(inside, "inside"), q = writable_vector(failure, "failure");
    const auto lost = writable_matrix(dropped, "dropped"), rest = writable_matrix(onward, "onward");
    {
        py::gil_scoped_release release;  // only views of arrays that the caller's references keep alive
        for (Index row = 0; row < below.rows; ++row) {
            const auto result =
                self.evaluate(below.row_view(row), above.row_view(row), tail, lost.row_view(row),
                              derivatives ? rest.row_view(row) : View<double>());
            p[row] = result.inside;
            q[row] = result.failure;
        }
    }
    return py::make_tuple(inside, failure, dropped, onward);
}

using SecondOrder = py::typing::Tuple<double, double, Array<double>, Array<double>>;

SecondOrder second_order(BoundaryCrossing& self, const Array<double>& bounds,
                         const Array<double>& complements) {
    const auto below = vector(bounds, "bounds"), above = vector(complements, "complements");
    require_length(static_cast<Index>(below.size()), self.points(), "bounds");
    require_length(static_cast<Index>(above.size()), self.points(), "complements");
    require_boundary(below, above, 0);
    Array<double> gradient(self.points()), hessian({self.points(), self.points()});
    const auto first = writable_vector(gradient, "gradient");
    const auto second = writable_matrix(hessian, "hessian");
    BoundaryCrossing::Probabilities found;
    {
        py::gil_scoped_release release;
        found = self.second_order(below, above, first, second);
    }
    return py::make_tuple(found.inside, found.failure, gradient, hessian);
}

Array<double> coupling(BoundaryCrossing& self, const Array<double>& bounds, const Array<double>& dropped,
                       const Array<double>& onward, const Array<double>& scale, const Array<double>& weights,
                       Index used) {
    const auto below = matrix(bounds, "bounds"), lost = matrix(dropped, "dropped"),
               rest = matrix(onward, "onward"), slope = matrix(scale, "scale");
    const auto weight = vector(weights, "weights");
    if (used < 1 || used > self.points())
        throw std::invalid_argument("used: expected 1 to " + std::to_string(self.points()) + ", got " +
                                    std::to_string(used));
    for (const auto& each : {below, lost, rest, slope}) {
        require_length(each.columns, self.points(), "bounds, dropped, onward, scale: columns");
        require_length(each.rows, static_cast<Index>(weight.size()), "bounds, dropped, onward, scale: rows");
    }
    Array<double> total({used, used});
    const auto sum = writable_matrix(total, "total");
    std::fill(sum.data, sum.data + used * used, 0.0);
    {
        py::gil_scoped_release release;
        for (Index row = 0; row < below.rows; ++row)
            self.add_coupling(below.row_view(row), lost.row_view(row), rest.row_view(row),
                              slope.row_view(row), weight[row], sum);
    }
    return total;
}

}  // namespace

void bind_boundary_crossing(py::module_& module) {
    py::class_<BoundaryCrossing>(module, "BoundaryCrossing",
                                 "Probability that N sorted uniforms stay below rising bounds [MOSCOVICH17]; "
                                 "one thread at a time.")
        .def(py::init<Index>(), py::arg("points"))
        .def(
            "evaluate", &evaluate, py::arg("bounds").noconvert(), py::arg("complements").noconvert(),
            py::arg("tail") = false, py::arg("derivatives") = false,
            "For every row of bounds (B, N), rising, and complements 1 - bounds: P[U_(k) <= b_k for all k] "
            "(B,), 1 - P (B,), the probability dropped_k (B, N) of missing b_k first, in the Poisson process "
            "of rate N, and, with derivatives, onward_k (B, N), so that dP/db_k = N dropped_k onward_k. "
            "`tail`: 1 - P to relative accuracy however small it is. About O(B N^1.5).")
        .def("second_order", &second_order, py::arg("bounds").noconvert(), py::arg("complements").noconvert(),
             "For one boundary (N,): P, 1 - P to relative accuracy, dP/db_k (N,), and d2P/db_j db_k (N, N) "
             "to the few digits that a Newton step needs; about O(N^3).")
        .def("coupling", &coupling, py::arg("bounds").noconvert(), py::arg("dropped").noconvert(),
             py::arg("onward").noconvert(), py::arg("scale").noconvert(), py::arg("weights").noconvert(),
             py::arg("used"),
             "Sum over the rows of weights[row] scale_j scale_k d2P/db_j db_k / N^2 for the bounds j < k < "
             "used (used, used), to the few digits that a Newton step needs; O(B used^3).");
}

}  // namespace cgc::bindings
