// Probability that uniform order statistics stay below a rising boundary, and its derivatives.
#pragma once

#include <vector>

#include "cgc/types.hpp"

namespace cgc {

// U_(1) <= ... <= U_(N): N independent uniforms on [0, 1], sorted. Of a boundary b_1 <= ... <= b_N, given as
// `bounds` and, because 1 - b loses digits, as `complements` 1 - b_k,
//
//     P = P[U_(k) <= b_k for k = 1..N]
//
// by the forward recursion of [MOSCOVICH17]: count the points of a Poisson process of rate N up to b_1, b_2,
// ..., drop the paths with fewer than k points at b_k, and condition on N points in the end. Every term is a
// sum of products of nonnegative numbers, so nothing cancels, and neither does it in the failure probability
//
//     1 - P = sum_k dropped_k Poisson(N - k + 1; N (1 - b_k)) / Poisson(N; N),
//
// where dropped_k is the probability that the boundary is first missed at k (then exactly k - 1 points are
// there). The derivative is dP/db_k = N dropped_k onward_k, onward_k the probability of staying below the
// rest of the boundary and ending with N points, from k points at b_k, divided by Poisson(N; N).
//
// Counts are followed in a band: above the boundary's least concave majorant (the likeliest path that stays
// below the boundary) by at most ten standard deviations; and, unless `tail` asks for the relative accuracy
// of a tiny failure probability, not further than that below N b_k.
//
// One object, one thread at a time. Its buffers grow to what the largest call needs and are used again.
// O(N (sqrt(N) + w) sqrt(N)) with w the largest count of points between two neighbouring bounds.
class BoundaryCrossing {
  public:
    // N >= 1 points.
    explicit BoundaryCrossing(Index points);

    Index points() const { return points_; }

    // All arrays have shape (N,); `dropped` is always filled, `onward` and `beyond` only if `onward` is not
    // empty. `beyond` is what `onward` is, from k + 1 points at b_k.
    struct Probabilities {
        double inside;   // P
        double failure;  // 1 - P
    };
    Probabilities evaluate(View<const double> bounds, View<const double> complements, bool tail,
                           View<double> dropped, View<double> onward, View<double> beyond = {});

    // P and its derivatives dP/db_k (N,) and d2P / db_j db_k (N, N) with respect to the bounds, the failure
    // probability to its relative accuracy. An allowed path with k - 1 points at b_k had them at b_{k-1}
    // already, so that dropped_k falls as exp(-N b_k), and d2P/db_k^2 = -N^2 dropped_k beyond_k. The mixed
    // ones are those of `add_coupling`, with its few digits. Where neighbouring bounds are equal, derivatives
    // are those towards b_k < b_{k+1}.
    Probabilities second_order(View<const double> bounds, View<const double> complements,
                               View<double> gradient, Matrix<double> hessian);

    // total(j, k) += weight * scale_j scale_k d2P / db_j db_k / N^2 for j < k, after `evaluate` gave
    // `dropped` and `onward`. d2P / db_j db_k = N^2 dropped_j G_jk onward_k, G_jk the probability of going
    // from j points at b_j to k - 1 points just before b_k without missing a bound between. All ways there,
    // A_jk = Poisson(k - 1 - j; N (b_k - b_j)), split by the first bound missed: A = G B, B_ik = Poisson(k -
    // i; N (b_k
    // - b_i)). Solving that loses digits, which a Newton step can spare. O(N^3 / 6), by rows.
    void add_coupling(View<const double> bounds, View<const double> dropped, View<const double> onward,
                      View<const double> scale, double weight, Matrix<double> total);

  private:
    struct Step {
        Index low, high;           // counts kept at b_k, after the drop
        Index row, first, length;  // Poisson weights of first.. first + length - 1 points, at rows_[row]
    };

    void majorant(View<const double> bounds);
    void poisson_row(double mean, double tilted, Step& step);

    Index points_;
    double normalisation_;         // 1 / Poisson(N; N)
    std::vector<double> highest_;  // majorant at b_k, in points
    std::vector<Index> hull_;
    std::vector<Step> steps_;
    std::vector<double> rows_;
    std::vector<double> visits_, paths_, logarithms_;       // of the coupling
    std::vector<double> dropped_, onward_, beyond_, ones_;  // of the second order
    std::vector<double> mass_, next_;  // by count, with room for the blocks of four on both sides
};

// exp(-mean) mean^count / count!, to a few units in the last place times sqrt(|log|) or so.
double poisson_probability(Index count, double mean);

}  // namespace cgc
