#include <cmath>

#include "array.hpp"
#include "cgc/simplex_quadratic.hpp"

namespace cgc::bindings {

namespace {

Index minimise(const Array<double>& gradient, const Array<double>& hessian, double accuracy,
               Array<double> point) {
    const auto slope = vector(gradient, "gradient");
    const auto curvature = matrix(hessian, "hessian");
    const auto result = writable_vector(point, "point");
    const Index n = static_cast<Index>(slope.size());
    if (n < 1) throw std::invalid_argument("gradient: expected at least one entry, got none");
    if (!(accuracy > 0.0))
        throw std::invalid_argument("accuracy: expected a positive number, got " + std::to_string(accuracy));
    require_length(curvature.rows, n, "hessian: rows");
    require_length(curvature.columns, n, "hessian: columns");
    require_length(static_cast<Index>(result.size()), n, "point");
    double sum = 0.0;
    for (const double value : result) {
        if (!(value >= 0.0))
            throw std::invalid_argument("point: expected numbers >= 0, got " + std::to_string(value));
        sum += value;
    }
    if (!(sum > 0.0 && std::isfinite(sum)))
        throw std::invalid_argument("point: expected a positive, finite sum, got " + std::to_string(sum));
    py::gil_scoped_release release;  // only views of arrays that the caller's references keep alive
    return minimise_on_simplex(slope, curvature, accuracy, result);
}

}  // namespace

void bind_simplex_quadratic(py::module_& module) {
    module.def("minimise_on_simplex", &minimise, py::arg("gradient").noconvert(),
               py::arg("hessian").noconvert(), py::arg("accuracy"), py::arg("point").noconvert(),
               "Minimise gradient @ y + y @ hessian @ y / 2 over {y >= 0, sum y = 1}; hessian (n, n) "
               "symmetric, positive semidefinite; point (n,) holds the start, scaled to the sum 1, and "
               "receives y, above the least value by about `accuracy` at most. Returns the number of "
               "interior-point steps; O(n^3) each, in one thread.");
}

}  // namespace cgc::bindings
