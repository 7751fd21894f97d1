#include "cgc/lu.hpp"

#include <algorithm>
#include <cmath>

#include "cgc/householder.hpp"

namespace cgc {

namespace {

constexpr Index group = 4;

// Takes rows k .. k+3 of U out of a row: four at a time, so that the row is read and written once for them.
void eliminate_group(const double* __restrict u, Index stride, Index k, double* __restrict row, Index n) {
    double factors[group];
    for (Index g = 0; g < group; ++g) {
        const double* pivot_row = u + (k + g) * stride;
        double value = row[k + g];
        for (Index h = 0; h < g; ++h) value -= factors[h] * u[(k + h) * stride + k + g];
        row[k + g] = factors[g] = value / pivot_row[k + g];
    }
    const double* u0 = u + k * stride;
    const double* u1 = u0 + stride;
    const double* u2 = u1 + stride;
    const double* u3 = u2 + stride;
    for (Index j = k + group; j < n; ++j)
        row[j] -= (factors[0] * u0[j] + factors[1] * u1[j]) + (factors[2] * u2[j] + factors[3] * u3[j]);
}

}  // namespace

void lu_factorise(Matrix<double> m, View<Index> pivots) {
    const Index n = m.rows;
    for (Index i = 0; i < n; ++i) {
        double* row = m.row(i);
        Index k = 0;
        for (; k + group <= i; k += group) eliminate_group(m.data, m.row_stride, k, row, n);
        for (; k < i; ++k) {
            row[k] /= m(k, k);
            add_scaled(-row[k], m.row(k) + k + 1, row + k + 1, n - k - 1);
        }
        Index pivot = i;
        for (Index j = i + 1; j < n; ++j)
            if (std::fabs(row[j]) > std::fabs(row[pivot])) pivot = j;
        pivots[static_cast<std::size_t>(i)] = pivot;
        if (pivot != i)
            for (Index r = 0; r < n; ++r) std::swap(m(r, i), m(r, pivot));
    }
}

void lu_solve(Matrix<const double> m, View<const Index> pivots, View<double> b, View<double> x) {
    const Index n = m.rows;
    for (Index i = 0; i < n; ++i) b[i] -= dot(m.row(i), b.data(), i);
    for (Index i = n - 1; i >= 0; --i)
        x[i] = (b[i] - dot(m.row(i) + i + 1, x.data() + i + 1, n - i - 1)) / m(i, i);
    for (Index i = n - 1; i >= 0; --i) std::swap(x[i], x[pivots[i]]);
}

}  // namespace cgc
