#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "cgc/lu.hpp"
#include "check.hpp"

namespace {

using cgc::Index;
using cgc::Matrix;

std::size_t size(Index n) { return static_cast<std::size_t>(n); }

// L U is the matrix with its columns exchanged, and x solves it: every size around the group of four.
void check_random(Index n, Index stride) {
    std::mt19937_64 generator(static_cast<unsigned>(n));
    std::normal_distribution<double> normal;
    std::vector<double> original(size(n * stride));
    for (double& value : original) value = normal(generator);
    std::vector<double> factors = original;
    const Matrix<double> m{factors.data(), n, n, stride};
    std::vector<Index> pivots(size(n));
    cgc::lu_factorise(m, pivots);

    // Backward stable: |L U - A P| <= gamma_n |L| |U|, |l| of a pivoted column at most 1.
    const double unit_roundoff = std::numeric_limits<double>::epsilon() / 2;
    std::vector<Index> column(size(n));
    for (Index j = 0; j < n; ++j) column[size(j)] = j;
    for (Index i = 0; i < n; ++i) std::swap(column[size(i)], column[size(pivots[size(i)])]);
    for (Index i = 0; i < n; ++i)
        for (Index j = 0; j < n; ++j) {
            double product = 0.0, magnitude = 0.0;
            for (Index k = 0; k <= std::min(i, j); ++k) {
                const double term = (k == i ? 1.0 : m(i, k)) * m(k, j);
                product += term;
                magnitude += std::fabs(term);
            }
            const double expected = original[size(i * stride + column[size(j)])];
            CHECK_CLOSE(product, expected, 2.0 * static_cast<double>(n + 2) * unit_roundoff * magnitude);
            if (j > i) CHECK(std::fabs(m(i, j)) <= std::fabs(m(i, i)));
        }

    std::vector<double> solution(size(n)), right(size(n), 0.0), found(size(n));
    for (double& value : solution) value = normal(generator);
    for (Index i = 0; i < n; ++i)
        for (Index j = 0; j < n; ++j) right[size(i)] += original[size(i * stride + j)] * solution[size(j)];
    cgc::lu_solve({factors.data(), n, n, stride}, pivots, right, found);
    // Condition numbers of these Gaussian matrices stay below 1e5.
    for (Index i = 0; i < n; ++i) CHECK_CLOSE(found[size(i)], solution[size(i)], 1e-9);
}

void check_singular() {
    std::vector<double> values{1.0, 2.0, 2.0, 4.0};
    std::vector<Index> pivots(2);
    cgc::lu_factorise({values.data(), 2, 2, 2}, pivots);
    std::vector<double> right{1.0, 1.0}, found(2);
    cgc::lu_solve({values.data(), 2, 2, 2}, pivots, right, found);
    CHECK(!std::isfinite(found[0]) || !std::isfinite(found[1]));
}

}  // namespace

int main() {
    for (Index n = 1; n <= 23; ++n) check_random(n, n + n % 3);
    check_singular();
    return failures != 0;
}
