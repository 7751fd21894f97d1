// Coded partial derivatives of generalised linear models.
#pragma once

#include <vector>

#include "cgc/types.hpp"

namespace cgc {

enum class Loss { squares, logistic, softmax };

// f(theta) = sum_i f_i(theta), where f_i depends on theta only through the K logits z_i = Theta x_i; Theta is
// theta read as K rows of D features, so coordinate l = class * D + feature.
//   squares   K = 1   f_i = (z - y)^2 / 2                  target y
//   logistic  K = 1   f_i = log(1 + e^z) - y z             target y in {0, 1}
//   softmax   K >= 2  f_i = log(sum_k e^{z_k}) - z_y       target y in {0 .. K-1}
// The partial derivative is  d f_i / d theta_l = r_{i,class} * x_{i,feature}  with residuals r_i = d f_i / d
// z.
//
// Only the samples of the `held` ranges are present, as consecutive rows; callers still name samples by their
// index in the whole problem. Features, targets and theta are views: whoever makes a model keeps them alive
// and unchanged, theta from one begin() to the next.
//
// Bits: a logit is a dot product in a fixed order, and the sum over a range is taken in the order of its
// samples, one rounded product and one rounded addition at a time. So a sum over a range has the same bits on
// every worker, whatever else it computes (its rounding error cancels in decoding like the sum itself), and a
// coordinate has the same bits wherever slices are cut and whichever instruction set runs the kernels.
//
// Not thread-safe: one model, one thread.
class LinearModel {
  public:
    // features (n, D), targets (n); held (H, 2): non-empty ascending ranges that do not touch, n samples in
    // all.
    LinearModel(Loss loss, Index classes, Matrix<const double> features, View<const double> targets,
                Matrix<const Index> held);

    Index coordinates() const { return classes_ * features_.columns; }

    // Starts an iteration at theta (L); forgets all residuals. O(1).
    void begin(View<const double> theta);

    // Computes the residuals of these samples, unless this iteration already has them. O(L) a sample.
    void forward(Matrix<const Index> ranges);

    // out[k] = sum_r coefficients[r] * sum_{i in ranges[r]} d f_i / d theta_{start+k}. O(stop - start) a
    // sample, and the forward pass of samples that are touched for the first time.
    void derivatives(Index start, Index stop, Matrix<const Index> ranges, View<const double> coefficients,
                     View<double> out);

    // The part [begin, end) of the coordinates [start, stop), counted in the order of their features: whole
    // columns of features for all classes at once, because reading the features once a class takes several
    // times as long. Calls for consecutive parts, from 0 to stop - start, complete out (stop - start); each
    // writes its own columns only, with the same bits as `derivatives`.
    void derivatives_part(Index start, Index stop, Index begin, Index end, Matrix<const Index> ranges,
                          View<const double> coefficients, View<double> out);

    // sum_r coefficients[r] * sum_{i in ranges[r]} f_i(theta).
    double value(Matrix<const Index> ranges, View<const double> coefficients);

  private:
    struct Rows {  // [begin, end) of the rows held
        Index begin, end;
    };

    void resolve(Matrix<const Index> ranges);
    void forward_rows(Index begin, Index end);
    void apply_loss(Index row);
    Index column(Index start, Index stop, Index count) const;
    void rectangle(Index first_class, Index classes, Index first_feature, Index features,
                   View<const double> coefficients, double* out, Index out_stride);

    Loss loss_;
    Index classes_;
    Matrix<const double> features_;
    View<const double> targets_;
    std::vector<Index> held_;       // bounds of the held ranges: low, high, low, high, ...
    std::vector<Index> held_rows_;  // row of each held range's first sample
    View<const double> theta_;
    Index iteration_ = 0;            // counts begin()
    std::vector<Index> stamp_;       // (n) iteration of a row's residuals
    std::vector<double> residuals_;  // (n, K); logits until apply_loss
    std::vector<double> losses_;     // (n)
    std::vector<Rows> rows_;         // of the ranges of the present call
    std::vector<double> scratch_;    // sums over one range, for one tile of coordinates
    std::vector<double> packed_;     // what a pass of many classes reads
};

}  // namespace cgc
