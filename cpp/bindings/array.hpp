// Arrays across the boundary: checked once, never copied silently.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <stdexcept>
#include <string>

#include "cgc/types.hpp"

namespace cgc::bindings {

namespace py = pybind11;

template <class T>
using Array = py::array_t<T, py::array::c_style>;  // bind arguments with .noconvert()

template <class T>
View<const T> vector(const Array<T>& array, const char* name) {
    if (array.ndim() != 1)
        throw std::invalid_argument(std::string(name) + ": expected one dimension, got " +
                                    std::to_string(array.ndim()));
    return {array.data(), static_cast<std::size_t>(array.size())};
}

template <class T>
View<T> writable_vector(Array<T>& array, const char* name) {
    if (array.ndim() != 1)
        throw std::invalid_argument(std::string(name) + ": expected one dimension, got " +
                                    std::to_string(array.ndim()));
    return {array.mutable_data(), static_cast<std::size_t>(array.size())};  // throws if read-only
}

template <class T>
Matrix<const T> matrix(const Array<T>& array, const char* name) {
    if (array.ndim() != 2)
        throw std::invalid_argument(std::string(name) + ": expected two dimensions, got " +
                                    std::to_string(array.ndim()));
    return {array.data(), array.shape(0), array.shape(1), array.shape(1)};
}

template <class T>
Matrix<T> writable_matrix(Array<T>& array, const char* name) {
    if (array.ndim() != 2)
        throw std::invalid_argument(std::string(name) + ": expected two dimensions, got " +
                                    std::to_string(array.ndim()));
    return {array.mutable_data(), array.shape(0), array.shape(1), array.shape(1)};
}

// A float64 array as it is: one that had to be converted would be a copy.
inline Array<double> in_place(py::handle object, const char* name) {
    if (!py::isinstance<Array<double>>(object))
        throw py::type_error(std::string(name) + ": expected a contiguous float64 array, got " +
                             std::string(py::str(py::type::of(object))));
    return py::reinterpret_borrow<Array<double>>(object);
}

inline void require_length(Index got, Index expected, const char* name) {
    if (got != expected)
        throw std::invalid_argument(std::string(name) + ": expected length " + std::to_string(expected) +
                                    ", got " + std::to_string(got));
}

}  // namespace cgc::bindings
