// Projected stochastic subgradient iterations for the expected runtime [WANG22].
#pragma once

#include <vector>

#include "cgc/types.hpp"

namespace cgc {

// Minimises E[max_k R_k W_k], W_k = sum_{i <= k} work_i x_i, over {x >= 0, sum x = total}, from draws of the
// level statistics R (for cyclic codes R_n = T_(N-n), work_n = n + 1).
//
// One iteration takes a batch of draws. The subgradient g is the mean over the batch of
// R_k (work_1, ..., work_k, 0, ..., 0), k = argmax R_k W_k (the first on ties). Then
//     x <- projection of x - step * total * g / sqrt(sum of |centred g|^2 over all iterations so far),
// where centring (subtracting the mean of the entries) takes off the component normal to the simplex, which
// the projection ignores. The rule has no unit: scaling total or R changes nothing but the scale of x. An
// iteration costs O(batch * K + K log K) and allocates nothing.
class SubgradientIterations {
  public:
    // start (K,), on the simplex: also fixes K and the total.
    SubgradientIterations(View<const double> work, View<const double> start);

    // One pass over the rows of `times` (D, K), all finite, in batches of `batch` rows; a last incomplete
    // batch is left out. history (>= D / batch) receives the batch mean of the runtime at the iterate
    // *before* each step, per cycle. With `averaging` the iterates after each step enter the average.
    void run(Matrix<const double> times, Index batch, double step, bool averaging, View<double> history);

    View<const double> iterate() const { return iterate_; }
    // Mean of the iterates averaged so far; the iterate itself if there are none. (K,) into `out`.
    void average(View<double> out) const;

  private:
    std::vector<double> work_, iterate_, sum_;
    double total_ = 0.0;
    double squared_norms_ = 0.0;
    Index averaged_ = 0;
    std::vector<double> loads_, gradient_, scratch_;  // of one iteration
};

}  // namespace cgc
