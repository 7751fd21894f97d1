// One text of each kernel, compiled for the baseline and, on x86-64, for AVX2. The order of operations on
// every element is written out, so all versions return the same bits.
#include "linear_model_kernels.hpp"

#include <cstring>
#include <iterator>

namespace cgc::kernels {

namespace {

// A text takes on the instruction set of the function that it is inlined into.
#define CGC_INLINE [[gnu::always_inline]] inline

// Four partial sums of a dot product: lane j holds the terms j, j+4, j+8, ...
constexpr Index lanes = 4;
typedef double Lanes __attribute__((vector_size(lanes * sizeof(double))));

// Dot products of S samples with C classes; every loaded value serves S or C of them.
template <Index S, Index C>
CGC_INLINE void dots(const double* features, Index stride, const double* theta, Index length, double* out,
                     Index out_stride) {
    Lanes sums[S][C] = {};
    Index j = 0;
    for (; j + lanes <= length; j += lanes) {
        Lanes x[S], t[C];
        for (Index s = 0; s < S; ++s) std::memcpy(&x[s], features + s * stride + j, sizeof(Lanes));
        for (Index c = 0; c < C; ++c) std::memcpy(&t[c], theta + c * length + j, sizeof(Lanes));
        for (Index s = 0; s < S; ++s)
            for (Index c = 0; c < C; ++c) sums[s][c] += x[s] * t[c];
    }
    for (Index s = 0; s < S; ++s)
        for (Index c = 0; c < C; ++c) {
            const Lanes& sum = sums[s][c];
            double dot = (sum[0] + sum[1]) + (sum[2] + sum[3]);
            for (Index i = j; i < length; ++i) dot += features[s * stride + i] * theta[c * length + i];
            out[s * out_stride + c] = dot;
        }
}

template <Index S>
CGC_INLINE void logits_of(const double* features, Index stride, const double* theta, Index length,
                          Index classes, double* out) {
    Index c = 0;
    for (; c + 2 <= classes; c += 2)
        dots<S, 2>(features, stride, theta + c * length, length, out + c, classes);
    if (c < classes) dots<S, 1>(features, stride, theta + c * length, length, out + c, classes);
}

CGC_INLINE void logits(Matrix<const double> features, const double* theta, Index classes, double* out) {
    Index i = 0;
    for (; i + 2 <= features.rows; i += 2)
        logits_of<2>(features.row(i), features.row_stride, theta, features.columns, classes,
                     out + i * classes);
    if (i < features.rows)
        logits_of<1>(features.row(i), features.row_stride, theta, features.columns, classes,
                     out + i * classes);
}

// Four samples a pass, so that a sum is loaded and stored once for four of its terms.
CGC_INLINE void accumulate(Matrix<const double> features, Matrix<const double> residuals,
                           Matrix<double> sums) {
    Index i = 0;
    for (; i + 4 <= features.rows; i += 4) {
        const double* __restrict x0 = features.row(i);
        const double* __restrict x1 = features.row(i + 1);
        const double* __restrict x2 = features.row(i + 2);
        const double* __restrict x3 = features.row(i + 3);
        for (Index k = 0; k < sums.rows; ++k) {
            const double r0 = residuals(i, k), r1 = residuals(i + 1, k);
            const double r2 = residuals(i + 2, k), r3 = residuals(i + 3, k);
            double* __restrict sum = sums.row(k);
            for (Index j = 0; j < sums.columns; ++j)
                sum[j] = (((sum[j] + r0 * x0[j]) + r1 * x1[j]) + r2 * x2[j]) + r3 * x3[j];
        }
    }
    for (; i < features.rows; ++i) {
        const double* __restrict x = features.row(i);
        for (Index k = 0; k < sums.rows; ++k) {
            const double r = residuals(i, k);
            double* __restrict sum = sums.row(k);
            for (Index j = 0; j < sums.columns; ++j) sum[j] += r * x[j];
        }
    }
}

void logits_base(Matrix<const double> features, const double* theta, Index classes, double* out) {
    logits(features, theta, classes, out);
}

void accumulate_base(Matrix<const double> features, Matrix<const double> residuals, Matrix<double> sums) {
    accumulate(features, residuals, sums);
}

#if defined(__x86_64__)
[[gnu::target("avx2")]] void logits_avx2(Matrix<const double> features, const double* theta, Index classes,
                                         double* out) {
    logits(features, theta, classes, out);
}

[[gnu::target("avx2")]] void accumulate_avx2(Matrix<const double> features, Matrix<const double> residuals,
                                             Matrix<double> sums) {
    accumulate(features, residuals, sums);
}
#endif

constexpr LinearModelKernels versions[] = {
    {"baseline", logits_base, accumulate_base},
#if defined(__x86_64__)
    {"avx2", logits_avx2, accumulate_avx2},
#endif
};

std::size_t count_supported() {
#if defined(__x86_64__)
    if (!__builtin_cpu_supports("avx2")) return 1;
#endif
    return std::size(versions);
}

}  // namespace

View<const LinearModelKernels> linear_model_kernels() {
    static const std::size_t supported = count_supported();
    return {versions, supported};
}

}  // namespace cgc::kernels
