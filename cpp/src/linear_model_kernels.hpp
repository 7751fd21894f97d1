// The inner loops of generalised linear models. Each returns the same bits however its work is cut, but not
// on every instruction set: multiply and add are fused where that is one instruction.
#pragma once

#include "cgc/types.hpp"

namespace cgc::kernels {

// out[i * classes + k] = sum_j features(i, j) * theta[k * D + j].
void logits(Matrix<const double> features, const double* theta, Index classes, double* out);

// sums(k, j) += sum_i residuals(i, k) * features(i, j), i in ascending order. scratch: accumulate_scratch().
void accumulate(Matrix<const double> features, Matrix<const double> residuals, Matrix<double> sums,
                double* scratch);

constexpr Index packed_samples = 192;  // of a pass; a panel of their columns stays in the first-level cache
constexpr Index packed_columns = 64;   // at once

// Whether what a pass reads is copied first: that pays for many classes, and for rows that are a multiple of
// 2 KB apart, all in the same few sets of the caches, also for fewer.
constexpr bool is_packed(Index row_stride, Index classes) {
    return classes >= 40 || (classes >= 8 && row_stride % 256 == 0);
}

constexpr Index accumulate_scratch(Index row_stride, Index classes) {
    return is_packed(row_stride, classes) ? packed_samples * (packed_columns + classes) : 0;
}

}  // namespace cgc::kernels
