#include <string>

#include "array.hpp"
#include "bound_linear_model.hpp"

namespace cgc::bindings {

void bind_linear_model(py::module_& module) {
    py::class_<BoundLinearModel>(
        module, "LinearModel",
        "Partial derivatives of a generalised linear model over the samples of the ranges held.\n\n"
        "Keeps references to features (n, D), targets (n,) and, from one begin to the next, theta (classes * "
        "D,)\n"
        "and reads them in place: they must not change. Not thread-safe; releases the GIL.")
        .def(
            py::init<const std::string&, Index, Array<double>, Array<double>, const Array<Index>&>(),
            py::arg("loss"), py::arg("classes"), py::arg("features").noconvert(),
            py::arg("targets").noconvert(), py::arg("held").noconvert(),
            "loss: squares, logistic or softmax; held: int64 (H, 2), merged sample ranges, n samples in all.")
        .def("begin", &BoundLinearModel::begin, py::arg("theta").noconvert(),
             "Start an iteration at theta; forget all residuals.")
        .def("forward", &BoundLinearModel::forward, py::arg("ranges").noconvert(),
             "Compute the residuals of these samples that this iteration does not have yet.")
        .def("derivatives", &BoundLinearModel::derivatives, py::arg("start"), py::arg("stop"),
             py::arg("ranges").noconvert(), py::arg("coefficients").noconvert(), py::arg("out").noconvert(),
             "out[k] = sum_r coefficients[r] * sum_{i in ranges[r]} d f_i / d theta_{start+k}.")
        .def("derivatives_part", &BoundLinearModel::derivatives_part, py::arg("start"), py::arg("stop"),
             py::arg("begin"), py::arg("end"), py::arg("ranges").noconvert(),
             py::arg("coefficients").noconvert(), py::arg("out").noconvert(),
             "Part [begin, end) of what `derivatives` writes into out (stop - start,), counted in columns of "
             "features; calls for consecutive parts complete it.")
        .def("value", &BoundLinearModel::value, py::arg("ranges").noconvert(),
             py::arg("coefficients").noconvert(), "sum_r coefficients[r] * sum_{i in ranges[r]} f_i(theta).");
}

}  // namespace cgc::bindings
