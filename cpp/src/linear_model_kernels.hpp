// The inner loops of generalised linear models, one version for each instruction set.
#pragma once

#include "cgc/types.hpp"

namespace cgc::kernels {

struct LinearModelKernels {
    const char* instructions;

    // out[i * classes + k] = sum_j features(i, j) * theta[k * D + j].
    void (*logits)(Matrix<const double> features, const double* theta, Index classes, double* out);

    // sums(k, j) += sum_i residuals(i, k) * features(i, j), i in ascending order.
    void (*accumulate)(Matrix<const double> features, Matrix<const double> residuals, Matrix<double> sums);
};

// The versions that this machine can run, the fastest last. All return the same bits.
View<const LinearModelKernels> linear_model_kernels();

}  // namespace cgc::kernels
