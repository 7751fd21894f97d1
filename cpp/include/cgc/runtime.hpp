// The overall runtime of an iteration, for many draws of the workers' cycle times at once.
#pragma once

#include "cgc/types.hpp"

namespace cgc {

// out[d] = max_k times(d, k) * cycles[k], 0 * infinity = 0.
//   times  (D, K): the time statistic of level k in draw d, seconds per cycle (cyclic codes: T_(N-n))
//   cycles (K,):   cycles that a worker has spent when it is done with level k; 0 if the level is empty
void level_runtimes(Matrix<const double> times, View<const double> cycles, View<double> out);

// out(d, k) = max over the groups of level k of min over the group's workers w of times(d, w) * cycles(k, w):
// when every group has one member that is done with its part of block k.
//   times  (D, N): cycle times; cycles (K, N): 0 for all workers of a level means an empty level, done at 0
//   groups (K,):   number of groups, 1..N; worker w is in group floor(w g / N)
void group_times(Matrix<const double> times, View<const Index> groups, Matrix<const double> cycles,
                 Matrix<double> out);

}  // namespace cgc
