// Cholesky factorisation in one thread: a plan must not slow down because other threads want the cores.
#pragma once

#include "cgc/types.hpp"

namespace cgc {

// Replaces the lower triangle of a symmetric matrix A (n, n), of which only that is read, by L with A = L
// L^T. The upper triangle is used as scratch. False if A is not positive definite to working precision; then
// the matrix is spoilt. n^3 / 3 operations, by blocks of columns; the same bits with every instruction set.
[[nodiscard]] bool cholesky_factor(Matrix<double> matrix);

// Replaces b by the solution of L L^T x = b.
void cholesky_solve(Matrix<const double> factor, View<double> b);

}  // namespace cgc
