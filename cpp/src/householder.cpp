#include "cgc/householder.hpp"

#include <algorithm>
#include <cmath>

namespace cgc {

double dot(const double* x, const double* y, Index n) {
    constexpr Index lanes = 8;
    double sums[lanes] = {};
    Index i = 0;
    for (; i + lanes <= n; i += lanes)
        for (Index lane = 0; lane < lanes; ++lane) sums[lane] += x[i + lane] * y[i + lane];
    double tail = 0.0;
    for (; i < n; ++i) tail += x[i] * y[i];
    return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7])) + tail;
}

void add_scaled(double a, const double* __restrict x, double* __restrict y, Index n) {
    for (Index i = 0; i < n; ++i) y[i] += a * x[i];
}

void lq_factorise(Matrix<double> m, View<double> scales) {
    for (Index j = 0; j < m.rows; ++j) {
        // Reflector I - scale v v' with v = (1, tail), which maps row j, from column j on, to (diagonal, 0,
        // ...).
        double* tail = m.row(j) + j + 1;
        const Index length = m.columns - j - 1;
        double& diagonal = m(j, j);
        const double tail_norm2 = dot(tail, tail, length);
        if (tail_norm2 == 0.0) {
            scales[j] = 0.0;
            continue;
        }
        const double image = -std::copysign(std::sqrt(diagonal * diagonal + tail_norm2), diagonal);
        scales[j] = (image - diagonal) / image;
        const double inverse = 1.0 / (diagonal - image);
        for (Index i = 0; i < length; ++i) tail[i] *= inverse;
        diagonal = image;
        for (Index i = j + 1; i < m.rows; ++i) {
            double* row = m.row(i) + j;
            const double along = scales[j] * (row[0] + dot(tail, row + 1, length));
            row[0] -= along;
            add_scaled(-along, tail, row + 1, length);
        }
    }
}

void lq_rotate(Matrix<const double> m, View<const double> scales, View<double> x) {
    for (Index j = m.rows - 1; j >= 0; --j) {
        const double* tail = m.row(j) + j + 1;
        const Index length = m.columns - j - 1;
        double* part = x.data() + j;
        const double along = scales[j] * (part[0] + dot(tail, part + 1, length));
        part[0] -= along;
        add_scaled(-along, tail, part + 1, length);
    }
}

void lq_solve_lower(Matrix<const double> m, View<double> y) {
    for (Index i = 0; i < m.rows; ++i) y[i] = (y[i] - dot(m.row(i), y.data(), i)) / m(i, i);
}

void lq_least_norm(Matrix<const double> m, View<const double> scales, View<double> b, View<double> x) {
    lq_solve_lower(m, b);
    std::copy(b.begin(), b.begin() + m.rows, x.begin());
    std::fill(x.begin() + m.rows, x.end(), 0.0);
    lq_rotate(m, scales, x);
}

}  // namespace cgc
