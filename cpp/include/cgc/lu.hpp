// Factorisation of a square matrix, M P = L U, L unit lower triangular, P a permutation of columns.
//
// The pivot of a row is its largest entry, so that rows are finished one after the other and every loop runs
// along memory: partial pivoting, applied to the transpose [HIGHAM02, chapter 9].
#pragma once

#include "cgc/types.hpp"

namespace cgc {

// Factorises m (n x n) in place: U on and above the diagonal, L below. pivots: (n,); column i was exchanged
// with column pivots[i] when row i was finished. 2 n^3 / 3 operations.
void lu_factorise(Matrix<double> m, View<Index> pivots);

// The x with M x = b. b: (n,), overwritten; x: (n,), another place. Infinite or NaN where M is singular.
void lu_solve(Matrix<const double> m, View<const Index> pivots, View<double> b, View<double> x);

}  // namespace cgc
