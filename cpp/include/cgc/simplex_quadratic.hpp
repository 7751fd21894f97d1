// Convex quadratic functions on the simplex: the model that a Newton step for block sizes minimises.
#pragma once

#include <vector>

#include "cgc/types.hpp"

namespace cgc {

// Minimises g y + y H y / 2 over {y >= 0, sum y = 1} by a primal-dual interior-point method with predictor
// and corrector [MEHROTRA92]; H (n, n) symmetric, positive semidefinite. `point` holds the start, >= 0 and
// not all 0, and receives the minimum: above the least value by at most about `accuracy`. Some fifteen
// Cholesky factorisations. Returns how many; std::domain_error if H is not positive semidefinite.
Index minimise_on_simplex(View<const double> gradient, Matrix<const double> hessian, double accuracy,
                          View<double> point);

}  // namespace cgc
