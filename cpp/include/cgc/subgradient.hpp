// Projected stochastic subgradient iterations for the expected runtime [WANG22].
#pragma once

#include <vector>

#include "cgc/types.hpp"

namespace cgc {

// Minimises E[max_k R_k W_k], W_k = sum_{i <= k} work_i x_i, over {x >= 0, sum x = total}, from draws of the
// level statistics R (for cyclic codes R_n = T_(N-n), work_n = n + 1).
//
// Iteration k = 0, 1, ... takes a batch of draws. The subgradient g is the mean over the batch of
// R_k (work_1, ..., work_k, 0, ..., 0), k = argmax R_k W_k (the first on ties). Then
//     x <- projection of x - step * (total^2 / f_0) / (k + 1)^power * g,
// f_0 > 0 the batch mean of max_k R_k W_k in iteration 0. The rule has no unit: scaling total or R changes
// nothing but the scale of x. An iteration costs O(batch * K + K log K) and allocates nothing.
class SubgradientIterations {
  public:
    // start (K,), on the simplex: also fixes K and the total. With power in (1/2, 1] the steps diminish as
    // the method asks for: their sum is infinite, that of their squares finite.
    SubgradientIterations(View<const double> work, View<const double> start, double step, double power);

    // One pass over the rows of `times` (D, K), all finite, in batches of `batch` rows; a last incomplete
    // batch is left out. history (>= D / batch) receives the batch mean of the runtime at the iterate
    // *before* each step, per cycle. With `averaging` the iterates after each step enter the average.
    void run(Matrix<const double> times, Index batch, bool averaging, View<double> history);

    View<const double> iterate() const { return iterate_; }
    // Mean of the iterates averaged so far; the iterate itself if there are none. (K,) into `out`.
    void average(View<double> out) const;

  private:
    std::vector<double> work_, iterate_, sum_;
    double total_ = 0.0;
    double step_, power_;
    double first_step_ = 0.0;  // step * total^2 / f_0
    Index done_ = 0, averaged_ = 0;
    std::vector<double> loads_, gradient_, scratch_;  // of one iteration
};

}  // namespace cgc
