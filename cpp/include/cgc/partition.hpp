// Block sizes as points of the simplex {x >= 0, sum x = total}.
#pragma once

#include "cgc/types.hpp"

namespace cgc {

// Euclidean projection of `point` (K,) on {x >= 0, sum x = total}, total > 0, into `projected` (K,).
// `scratch` (K,) is overwritten; `projected` may be `point` itself. Exact up to rounding: one sort, O(K log
// K) (Held, Wolfe, Crowder 1974).
void project_onto_simplex(View<const double> point, double total, View<double> projected,
                          View<double> scratch);

}  // namespace cgc
