#include <chrono>
#include <cstdint>
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

// Whether nothing is to be checked or converted before `object` is read as a vector of this length.
bool is_vector(py::handle object, py::ssize_t length) {
    if (!py::isinstance<Array<double>>(object)) return false;
    const auto array = py::reinterpret_borrow<py::array>(object);
    return array.ndim() == 1 && array.size() == length &&
           (array.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) != 0;
}

bool are_vectors(py::handle theta, py::handle gradient, py::ssize_t length) {
    // What a subclass of ndarray would do in the problem of a user, nobody knows.
    if (Py_TYPE(theta.ptr()) != py::detail::npy_api::get().PyArray_Type_) return false;
    if (!is_vector(theta, length) || !is_vector(gradient, length)) return false;
    const auto from = py::reinterpret_borrow<py::array>(theta),
               to = py::reinterpret_borrow<py::array>(gradient);
    const auto begin = reinterpret_cast<std::uintptr_t>(from.data()),
               other = reinterpret_cast<std::uintptr_t>(to.data());
    const std::uintptr_t bytes = sizeof(double) * static_cast<std::uintptr_t>(length);
    return to.writeable() && (begin + bytes <= other || other + bytes <= begin);
}

// The checked operands of a sum of X values in Y. They are kept by a thread and grow to the most rows that it
// has seen, so that a call allocates nothing.
template <class X, class Y>
struct Operands {
    std::vector<const X*> rows;
    std::vector<Y> coefficients;
    View<Y> out;
};

template <class X, class Y>
Operands<X, Y>& require_operands(py::handle rows, py::handle coefficients, py::handle out) {
    static thread_local Operands<X, Y> operands;
    const View<const Y> target = require_vector<Y>(out, [] { return std::string("out"); });
    const auto length = static_cast<Index>(target.size());
    if (!py::reinterpret_borrow<py::array>(out).writeable())
        throw std::invalid_argument("out: expected a writable array, got a read-only one");
    operands.out = {const_cast<Y*>(target.data()), target.size()};
    const auto count = static_cast<std::size_t>(PySequence_Fast_GET_SIZE(rows.ptr()));
    operands.rows.resize(count);
    operands.coefficients.resize(count);
    if (!coefficients.is_none()) {
        const auto a = require_vector<double>(coefficients, [] { return std::string("coefficients"); });
        require_length(static_cast<Index>(a.size()), static_cast<Index>(count), "coefficients");
        for (std::size_t i = 0; i < count; ++i) operands.coefficients[i] = static_cast<Y>(a[i]);
    }
    const auto begin = reinterpret_cast<std::uintptr_t>(target.data());
    for (std::size_t i = 0; i < count; ++i) {
        const auto name = [i] { return "rows[" + std::to_string(i) + "]"; };
        const View<const X> row =
            require_vector<X>(PySequence_Fast_GET_ITEM(rows.ptr(), static_cast<py::ssize_t>(i)), name);
        if (row.size() != target.size())
            require_length(static_cast<Index>(row.size()), length, name().c_str());
        const auto start = reinterpret_cast<std::uintptr_t>(row.data());
        if (start < begin + target.size_bytes() && begin < start + row.size_bytes())
            throw std::invalid_argument(name() + ": expected memory apart from out, got an overlap");
        operands.rows[i] = row.data();
    }
    return operands;
}

// work(operands) with the types of `out` and of the first row; without the GIL. coefficients: None for a
// plain sum.
template <class Work>
auto with_operands(const py::object& rows, const py::object& coefficients, const py::object& out,
                   const Work& work) {
    // A list or tuple as it is, any other sequence as a list: below, no code of the caller's runs.
    const auto items =
        py::reinterpret_steal<py::object>(PySequence_Fast(rows.ptr(), "rows: expected a sequence of arrays"));
    if (!items) throw py::error_already_set();
    const auto run = [&](auto& operands) {
        // The caller's frame keeps the arrays alive; no Python object is touched below.
        py::gil_scoped_release release;
        return work(operands);
    };
    if (py::isinstance<py::array_t<float>>(out))
        return run(require_operands<float, float>(items, coefficients, out));
    if (!py::isinstance<py::array_t<double>>(out))
        throw py::type_error("out: expected a float64 or float32 array, got " + describe(out));
    if (PySequence_Fast_GET_SIZE(items.ptr()) > 0 &&
        py::isinstance<py::array_t<float>>(PySequence_Fast_GET_ITEM(items.ptr(), 0)))
        return run(require_operands<float, double>(items, coefficients, out));
    return run(require_operands<double, double>(items, coefficients, out));
}

int checked_threads(int threads) {
    if (threads < 0)
        throw std::invalid_argument("threads: expected at least 1, or 0 for one a core, got " +
                                    std::to_string(threads));
    return threads;
}

template <class X, class Y>
void weigh(const Operands<X, Y>& operands, bool accumulate, int threads) {
    weighted_sum<X, Y>(View<const X* const>(operands.rows), View<const Y>(operands.coefficients),
                       operands.out, accumulate, threads);
}

template <class T>
bool all_finite_of(py::handle values) {
    const py::array array = require_contiguous<T>(values, [] { return std::string("values"); });
    const View<const T> view(static_cast<const T*>(array.data()), static_cast<std::size_t>(array.size()));
    py::gil_scoped_release release;
    return all_finite<T>(view);
}

template <class T>
double largest_deviation_of(py::handle values, double expected) {
    const py::array array = require_contiguous<T>(values, [] { return std::string("values"); });
    const View<const T> view(static_cast<const T*>(array.data()), static_cast<std::size_t>(array.size()));
    py::gil_scoped_release release;
    return static_cast<double>(largest_deviation<T>(view, static_cast<T>(expected)));
}

}  // namespace

void bind_combine(py::module_& module) {
    module.def("are_vectors", &are_vectors, py::arg("theta"), py::arg("gradient"), py::arg("length"),
               "Whether both are contiguous, aligned arrays of float64 (length,), theta of no subclass, the "
               "gradient writable, and they lie apart.");
    module.def(
        "weighted_sum",
        [](const py::object& rows, const py::object& coefficients, const py::object& out, bool accumulate,
           int threads) {
            checked_threads(threads);
            if (coefficients.is_none())
                throw py::type_error("coefficients: expected a float64 array, got NoneType");
            with_operands(rows, coefficients, out,
                          [&](const auto& operands) { weigh(operands, accumulate, threads); });
        },
        py::arg("rows"), py::arg("coefficients"), py::arg("out"), py::arg("accumulate") = false,
        py::arg("threads") = 1, "out (+)= sum_i coefficients[i] * rows[i]; see cgc_fast.combine.");
    module.def(
        "plain_sum",
        [](const py::object& rows, const py::object& out, bool accumulate, int threads) {
            checked_threads(threads);
            with_operands(rows, py::none(), out, [&]<class X, class Y>(const Operands<X, Y>& operands) {
                plain_sum<X, Y>(View<const X* const>(operands.rows), operands.out, accumulate, threads);
            });
        },
        py::arg("rows"), py::arg("out"), py::arg("accumulate") = false, py::arg("threads") = 1,
        "out (+)= sum_i rows[i]; see cgc_fast.combine.");
    module.def(
        "seconds_per_weighted_sum",
        [](const py::object& rows, const py::object& coefficients, const py::object& out, Index repeats) {
            if (repeats < 1)
                throw std::invalid_argument("repeats: expected at least 1, got " + std::to_string(repeats));
            return with_operands(rows, coefficients, out, [&](const auto& operands) {
                const auto start = std::chrono::steady_clock::now();
                for (Index i = 0; i < repeats; ++i) weigh(operands, false, 1);
                const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
                return elapsed.count() / static_cast<double>(repeats);
            });
        },
        py::arg("rows"), py::arg("coefficients"), py::arg("out"), py::arg("repeats"),
        "Seconds that one of `repeats` weighted sums takes in here, without what the call from Python "
        "costs.");
    module.def(
        "all_finite",
        [](const py::object& values) {
            if (py::isinstance<py::array_t<double>>(values)) return all_finite_of<double>(values);
            if (py::isinstance<py::array_t<float>>(values)) return all_finite_of<float>(values);
            throw py::type_error("values: expected a float64 or float32 array, got " + describe(values));
        },
        py::arg("values"), "Whether no value of a contiguous float64 or float32 array is NaN or infinite.");
    module.def(
        "largest_deviation",
        [](const py::object& values, double expected) {
            if (py::isinstance<py::array_t<double>>(values))
                return largest_deviation_of<double>(values, expected);
            if (py::isinstance<py::array_t<float>>(values))
                return largest_deviation_of<float>(values, expected);
            throw py::type_error("values: expected a float64 or float32 array, got " + describe(values));
        },
        py::arg("values"), py::arg("expected"), "max |values - expected|; see cgc_fast.combine.");
}

}  // namespace cgc::bindings
