// The one home of index and view aliases.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace cgc {

using Index = std::int64_t;

template <class T>
using View = std::span<T>;  // contiguous, not owned

// A matrix view with contiguous rows; not owned.
template <class T>
struct Matrix {
    T* data = nullptr;
    Index rows = 0;
    Index columns = 0;
    Index row_stride = 0;  // in elements, >= columns

    T* row(Index i) const { return data + i * row_stride; }
    View<T> row_view(Index i) const { return {row(i), static_cast<std::size_t>(columns)}; }
    T& operator()(Index i, Index j) const { return data[i * row_stride + j]; }
};

}  // namespace cgc
