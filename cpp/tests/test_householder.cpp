#include <random>
#include <vector>

#include "cgc/householder.hpp"
#include "check.hpp"

namespace {

using cgc::Index;
using cgc::Matrix;
using cgc::View;

std::size_t size(Index n) { return static_cast<std::size_t>(n); }

// Householder factorisations are backward stable: errors are a modest multiple of u times dimension and norm.
// The entries here are of order one and the dimensions below 40.
constexpr double tolerance = 1e-12;

void check_factorisation(Index q, Index p) {
    std::mt19937_64 generator(static_cast<unsigned>(100 * q + p));
    std::normal_distribution<double> normal;
    std::vector<double> original(size(q * p));
    for (double& value : original) value = normal(generator);
    std::vector<double> values = original, scales(size(q));
    cgc::lq_factorise({values.data(), q, p, p}, scales);
    const Matrix<const double> factors{values.data(), q, p, p};

    // The columns of Q are orthonormal, M Q = [L 0].
    std::vector<std::vector<double>> columns;
    for (Index i = 0; i < p; ++i) {
        std::vector<double> column(size(p), 0.0);
        column[size(i)] = 1.0;
        cgc::lq_rotate(factors, scales, column);
        columns.push_back(column);
    }
    for (Index i = 0; i < p; ++i) {
        for (Index j = 0; j < p; ++j)
            CHECK_CLOSE(cgc::dot(columns[size(i)].data(), columns[size(j)].data(), p), i == j ? 1.0 : 0.0,
                        tolerance);
        for (Index j = 0; j < q; ++j)
            CHECK_CLOSE(cgc::dot(original.data() + j * p, columns[size(i)].data(), p),
                        i <= j ? factors(j, i) : 0.0, tolerance);
    }

    // Least norm: M x = b, and x has no component in the null space of M.
    std::vector<double> b(size(q)), x(size(p));
    for (double& value : b) value = normal(generator);
    std::vector<double> right = b;
    cgc::lq_least_norm(factors, scales, right, x);
    double length = 0.0;
    for (const double value : x) length = std::fmax(length, std::fabs(value));
    for (Index j = 0; j < q; ++j)
        CHECK_CLOSE(cgc::dot(original.data() + j * p, x.data(), p), b[size(j)], tolerance * (1 + length));
    for (Index i = q; i < p; ++i)
        CHECK_CLOSE(cgc::dot(columns[size(i)].data(), x.data(), p), 0.0, tolerance * (1 + length));
}

}  // namespace

int main() {
    for (const Index p : {1, 2, 3, 8, 17, 33})
        for (Index q = 0; q <= p; q = q < 3 ? q + 1 : q + 5) check_factorisation(q, p);

    // A row that is already triangular needs no reflector.
    std::vector<double> diagonal{2.0, 0.0, 0.0, -3.0}, scales(2);
    cgc::lq_factorise({diagonal.data(), 2, 2, 2}, scales);
    CHECK(diagonal[0] == 2.0 && std::fabs(diagonal[3]) == 3.0 && scales[0] == 0.0);

    // A matrix without full rank has no solution: never a finite wrong one.
    std::vector<double> deficient{1.0, 0.0, 0.0, 0.0}, right{1.0, 1.0}, x(2);
    cgc::lq_factorise({deficient.data(), 2, 2, 2}, scales);
    cgc::lq_least_norm({deficient.data(), 2, 2, 2}, scales, right, x);
    CHECK(!std::isfinite(x[0]) || !std::isfinite(x[1]));
    return failures != 0;
}
