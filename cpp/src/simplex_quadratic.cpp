#include "cgc/simplex_quadratic.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>

#include "cgc/cholesky.hpp"

namespace cgc {

namespace {

constexpr Index kMostIterations = 80;
// Share of the uniform point that moves the start away from the boundary.
constexpr double kInside = 0.01;
// Fraction of the way to the boundary that a step goes.
constexpr double kStep = 0.995;

using Vector = std::vector<double>;

double dot(const double* x, const double* y, Index length) {
    double sums[4] = {};
    Index k = 0;
    for (; k + 4 <= length; k += 4)
        for (Index lane = 0; lane < 4; ++lane) sums[lane] += x[k + lane] * y[k + lane];
    double sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    for (; k < length; ++k) sum += x[k] * y[k];
    return sum;
}

void scale_to_one(View<double> values) {
    const double sum = std::accumulate(values.begin(), values.end(), 0.0);
    for (double& value : values) value /= sum;
}

// Largest step <= 1 that keeps the values >= 0.
double step_length(View<const double> values, View<const double> change) {
    double step = 1.0;
    for (std::size_t i = 0; i < values.size(); ++i)
        if (change[i] < 0.0) step = std::min(step, -values[i] / change[i]);
    return step;
}

}  // namespace

Index minimise_on_simplex(View<const double> gradient, Matrix<const double> hessian, double accuracy,
                          View<double> y) {
    const std::size_t size = y.size();
    const Index n = static_cast<Index>(size);
    if (n == 1) {
        y[0] = 1.0;
        return 0;
    }
    scale_to_one(y);
    for (double& value : y) value = (1.0 - kInside) * value + kInside / static_cast<double>(n);

    // H y + g = nu + z, z >= 0, y z = 0.
    Vector slope(size), z(size), factor(size * size), ones(size), change(size), z_change(size),
        correction(size);
    const Matrix<double> scaled{factor.data(), n, n, n};
    const auto update_slope = [&] {
        for (Index i = 0; i < n; ++i) slope[i] = gradient[i] + dot(hessian.row(i), y.data(), n);
    };
    update_slope();
    double nu = *std::min_element(slope.begin(), slope.end());
    // Away from 0 by a small part of what the slopes differ by, or are.
    nu -= 1e-3 * std::max(1.0, std::abs(nu));
    for (Index i = 0; i < n; ++i) z[i] = slope[i] - nu;

    for (Index iteration = 0; iteration < kMostIterations; ++iteration) {
        const double complementarity = dot(y.data(), z.data(), n);
        if (complementarity < accuracy) return iteration;
        const double mu = complementarity / static_cast<double>(n);
        for (Index i = 0; i < n; ++i) {
            std::copy_n(hessian.row(i), i + 1, scaled.row(i));
            scaled(i, i) += z[i] / y[i];
        }
        if (!cholesky_factor(scaled)) {
            // Without digits left the point is as good as it gets; at the start H is to blame.
            if (iteration > 0) return iteration;
            throw std::domain_error("hessian: expected a positive semidefinite matrix");
        }
        const Matrix<const double> solver{factor.data(), n, n, n};
        std::fill(ones.begin(), ones.end(), 1.0);
        cholesky_solve(solver, ones);
        const double sum_ones = std::accumulate(ones.begin(), ones.end(), 0.0);
        std::fill(correction.begin(), correction.end(), 0.0);
        double goal = 0.0, primal = 1.0, dual = 1.0, nu_change = 0.0;
        // The predictor aims at 0, the corrector at the goal that the predictor earns.
        for (const bool corrector : {false, true}) {
            if (corrector)
                for (Index i = 0; i < n; ++i) correction[i] = change[i] * z_change[i];
            for (Index i = 0; i < n; ++i) change[i] = nu - slope[i] + (goal - correction[i]) / y[i];
            cholesky_solve(solver, change);
            nu_change = -std::accumulate(change.begin(), change.end(), 0.0) / sum_ones;
            for (Index i = 0; i < n; ++i) {
                change[i] += nu_change * ones[i];
                z_change[i] = (goal - correction[i]) / y[i] - z[i] - z[i] / y[i] * change[i];
            }
            primal = step_length(y, change);
            dual = step_length(z, z_change);
            double reached = 0.0;
            for (Index i = 0; i < n; ++i)
                reached += (y[i] + primal * change[i]) * (z[i] + dual * z_change[i]);
            const double rest = reached / complementarity;
            goal = mu * rest * rest * rest;
        }
        const double step = kStep * std::min(primal, dual);
        for (Index i = 0; i < n; ++i) {
            y[i] += step * change[i];
            z[i] += step * z_change[i];
        }
        scale_to_one(y);
        nu += step * nu_change;
        update_slope();
    }
    return kMostIterations;
}

}  // namespace cgc
