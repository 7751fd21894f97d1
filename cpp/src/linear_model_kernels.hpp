// The inner loops of generalised linear models. Each returns the same bits however its work is cut, but not
// on every instruction set: multiply and add are fused where that is one instruction.
#pragma once

#include "cgc/types.hpp"

namespace cgc::kernels {

// out[i * classes + k] = sum_j features(i, j) * theta[k * D + j].
void logits(Matrix<const double> features, const double* theta, Index classes, double* out);

// sums(k, j) += sum_i residuals(i, k) * features(i, j), i in ascending order.
void accumulate(Matrix<const double> features, Matrix<const double> residuals, Matrix<double> sums);

}  // namespace cgc::kernels
