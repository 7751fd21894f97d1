// The mean over draws of the largest of several linear functions: the sample average of the runtime.
#pragma once

#include "cgc/types.hpp"

namespace cgc {

// (1/D) sum over the draws d of max_k times(d, k) * cycles[k], over the levels k with cycles[k] > 0; at least
// one, and D >= 1. The maximum is taken at the first such level on ties.
//   times  (D, K): the time statistic of level k in draw d, finite, >= 0
//   cycles (K,):   cycles until level k is done; 0 leaves the level out, whatever its times
//   mass   (K,):   receives (1/D) sum of times(d, k) over the draws whose maximum is at k
// So the value is mass . cycles, and mass is a subgradient of it with respect to cycles. O(D K), no
// allocation.
double mean_maximum(Matrix<const double> times, View<const double> cycles, View<double> mass);

}  // namespace cgc
