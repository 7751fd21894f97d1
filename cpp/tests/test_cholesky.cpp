// Factors and solutions against their definitions, across the edges of blocks and vectors.
#include <cmath>
#include <vector>

#include "cgc/cholesky.hpp"
#include "check.hpp"

using cgc::Index;
using Vector = std::vector<double>;

// 1 / (1 + |i - j|) and n on the diagonal: positive definite, since dominated by it.
static Vector example(Index n) {
    Vector entries(n * n);
    for (Index i = 0; i < n; ++i)
        for (Index j = 0; j < n; ++j)
            entries[i * n + j] = i == j ? static_cast<double>(n) : 1.0 / (1.0 + std::fabs(i - j));
    return entries;
}

static void test_solves(Index n) {
    const Vector entries = example(n);
    Vector factor = entries, x(n);
    CHECK(cgc::cholesky_factor({factor.data(), n, n, n}));
    for (Index i = 0; i < n; ++i) {
        x[i] = 0.0;
        for (Index j = 0; j < n; ++j) x[i] += entries[i * n + j] * (1.0 + j % 7);
    }
    cgc::cholesky_solve({factor.data(), n, n, n}, x);
    // The condition number is about 2, so some n units in the last place of 7.
    for (Index i = 0; i < n; ++i) CHECK_CLOSE(x[i], 1.0 + i % 7, 1e-15 * 7 * n);
}

static void test_rows_may_be_far_apart() {
    const Index n = 5, stride = 9;
    const Vector entries = example(n);
    Vector spread(n * stride, -7.0), factor = entries;
    for (Index i = 0; i < n; ++i)
        for (Index j = 0; j < n; ++j) spread[i * stride + j] = entries[i * n + j];
    CHECK(cgc::cholesky_factor({spread.data(), n, n, stride}));
    CHECK(cgc::cholesky_factor({factor.data(), n, n, n}));
    for (Index i = 0; i < n; ++i) {
        for (Index j = 0; j <= i; ++j) CHECK_CLOSE(spread[i * stride + j], factor[i * n + j], 0.0);
        for (Index j = n; j < stride; ++j) CHECK_CLOSE(spread[i * stride + j], -7.0, 0.0);
    }
}

static void test_indefinite_matrices_are_told() {
    Vector entries{1.0, 2.0, 2.0, 1.0};
    CHECK(!cgc::cholesky_factor({entries.data(), 2, 2, 2}));
    entries = {std::nan(""), 0.0, 0.0, 1.0};
    CHECK(!cgc::cholesky_factor({entries.data(), 2, 2, 2}));
}

int main() {
    for (const Index n : {1, 2, 3, 5, 31, 32, 33, 64, 100, 257, 330}) test_solves(n);
    test_rows_may_be_far_apart();
    test_indefinite_matrices_are_told();
    return failures != 0;
}
