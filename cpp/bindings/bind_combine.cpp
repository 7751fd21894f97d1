#include <vector>

#include "array.hpp"
#include "cgc/combine.hpp"

namespace cgc::bindings {

namespace {

template <class T>
constexpr const char* dtype_name = sizeof(T) == 8 ? "float64" : "float32";

std::string describe(py::handle object) {
    if (!py::isinstance<py::array>(object)) return Py_TYPE(object.ptr())->tp_name;
    return std::string(py::str(object.attr("dtype"))) + " array of shape " +
           std::string(py::str(object.attr("shape")));
}

// `object` as an array of T in contiguous, aligned memory; `name()` is called for an error only.
template <class T, class Name>
py::array require_contiguous(py::handle object, const Name& name) {
    if (!py::isinstance<py::array_t<T>>(object))
        throw py::type_error(name() + ": expected a " + dtype_name<T> + " array, got " + describe(object));
    auto array = py::reinterpret_borrow<py::array>(object);
    if (!(array.flags() & py::array::c_style))
        throw std::invalid_argument(name() + ": expected contiguous memory, got strides " +
                                    std::string(py::str(array.attr("strides"))) + " in bytes");
    if (!(array.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_))
        throw std::invalid_argument(name() + ": expected memory aligned to its data type");
    return array;
}

template <class T, class Name>
View<const T> require_vector(py::handle object, const Name& name) {
    const py::array array = require_contiguous<T>(object, name);
    if (array.ndim() != 1)
        throw std::invalid_argument(name() + ": expected one dimension, got " + std::to_string(array.ndim()));
    return {static_cast<const T*>(array.data()), static_cast<std::size_t>(array.size())};
}

template <class T>
void weighted_sum_as(const py::object& rows, py::handle coefficients, py::handle out, bool accumulate) {
    const View<const T> target = require_vector<T>(out, [] { return std::string("out"); });
    const auto length = static_cast<Index>(target.size());
    if (!py::reinterpret_borrow<py::array>(out).writeable())
        throw std::invalid_argument("out: expected a writable array, got a read-only one");
    T* const y = const_cast<T*>(target.data());

    // A list or tuple as it is, any other sequence as a list: below, no code of the caller's runs.
    const auto items =
        py::reinterpret_steal<py::object>(PySequence_Fast(rows.ptr(), "rows: expected a sequence of arrays"));
    if (!items) throw py::error_already_set();
    const auto count = static_cast<std::size_t>(PySequence_Fast_GET_SIZE(items.ptr()));
    const auto a = require_vector<double>(coefficients, [] { return std::string("coefficients"); });
    require_length(static_cast<Index>(a.size()), static_cast<Index>(count), "coefficients");

    // They grow to the most rows that this thread has seen, so that a call allocates nothing.
    static thread_local std::vector<const T*> data;
    static thread_local std::vector<T> factors;
    data.resize(count);
    factors.resize(count);
    for (std::size_t i = 0; i < count; ++i) {
        const auto name = [i] { return "rows[" + std::to_string(i) + "]"; };
        const View<const T> row =
            require_vector<T>(PySequence_Fast_GET_ITEM(items.ptr(), static_cast<py::ssize_t>(i)), name);
        if (row.size() != target.size())
            require_length(static_cast<Index>(row.size()), length, name().c_str());
        if (row.data() < y + length && y < row.data() + length)
            throw std::invalid_argument(name() + ": expected memory apart from out, got an overlap");
        data[i] = row.data();
        factors[i] = static_cast<T>(a[i]);
    }
    const View<const T* const> row_data(data);
    const View<const T> row_factors(factors);
    // The caller's frame keeps the arrays alive; no Python object is touched below.
    py::gil_scoped_release release;
    weighted_sum<T>(row_data, row_factors, View<T>(y, target.size()), accumulate);
}

template <class T>
bool all_finite_of(py::handle values) {
    const py::array array = require_contiguous<T>(values, [] { return std::string("values"); });
    const View<const T> view(static_cast<const T*>(array.data()), static_cast<std::size_t>(array.size()));
    py::gil_scoped_release release;
    return all_finite<T>(view);
}

}  // namespace

void bind_combine(py::module_& module) {
    module.def(
        "weighted_sum",
        [](const py::object& rows, const py::object& coefficients, const py::object& out, bool accumulate) {
            if (py::isinstance<py::array_t<double>>(out))
                weighted_sum_as<double>(rows, coefficients, out, accumulate);
            else if (py::isinstance<py::array_t<float>>(out))
                weighted_sum_as<float>(rows, coefficients, out, accumulate);
            else
                throw py::type_error("out: expected a float64 or float32 array, got " + describe(out));
        },
        py::arg("rows"), py::arg("coefficients"), py::arg("out"), py::arg("accumulate") = false,
        "out (+)= sum_i coefficients[i] * rows[i]; see cgc_fast.combine.");
    module.def(
        "all_finite",
        [](const py::object& values) {
            if (py::isinstance<py::array_t<double>>(values)) return all_finite_of<double>(values);
            if (py::isinstance<py::array_t<float>>(values)) return all_finite_of<float>(values);
            throw py::type_error("values: expected a float64 or float32 array, got " + describe(values));
        },
        py::arg("values"), "Whether no value of a contiguous float64 or float32 array is NaN or infinite.");
}

}  // namespace cgc::bindings
