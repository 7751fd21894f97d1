#include "cgc/cholesky.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "dispatch.hpp"

namespace cgc {

namespace {

constexpr Index kLanes = 4;
typedef double Lanes __attribute__((vector_size(kLanes * sizeof(double))));

// Columns factored together, and terms of a dot product between two visits of a block: 32 rows of 256 terms
// stay in the cache while all rows below pass by.
constexpr Index kColumns = 32;
constexpr Index kTerms = 256;

// matrix(i + s, j + c) -= the dot product of rows i + s and j + c over `length` terms from `first`.
template <Index S, Index C>
CGC_INLINE void subtract_dots(Matrix<double> matrix, Index i, Index j, Index first, Index length) {
    Lanes sums[S][C] = {};
    Index k = first;
    for (; k + kLanes <= first + length; k += kLanes) {
        Lanes x[S], y[C];
        for (Index s = 0; s < S; ++s) std::memcpy(&x[s], matrix.row(i + s) + k, sizeof(Lanes));
        for (Index c = 0; c < C; ++c) std::memcpy(&y[c], matrix.row(j + c) + k, sizeof(Lanes));
        for (Index s = 0; s < S; ++s)
            for (Index c = 0; c < C; ++c) sums[s][c] += x[s] * y[c];
    }
    for (Index s = 0; s < S; ++s)
        for (Index c = 0; c < C; ++c) {
            const Lanes& sum = sums[s][c];
            double dot = (sum[0] + sum[1]) + (sum[2] + sum[3]);
            for (Index rest = k; rest < first + length; ++rest)
                dot += matrix(i + s, rest) * matrix(j + c, rest);
            matrix(i + s, j + c) -= dot;
        }
}

// The columns [begin, end) of all rows from `begin` less what the columns before them explain.
CGC_INLINE void subtract_explained(Matrix<double> matrix, Index begin, Index end) {
    const Index rows = matrix.rows;
    for (Index first = 0; first < begin; first += kTerms) {
        const Index length = std::min(kTerms, begin - first);
        Index i = begin;
        for (; i + 4 <= rows; i += 4) {
            Index j = begin;
            for (; j + 2 <= end; j += 2) subtract_dots<4, 2>(matrix, i, j, first, length);
            if (j < end) subtract_dots<4, 1>(matrix, i, j, first, length);
        }
        for (; i < rows; ++i)
            for (Index j = begin; j < end; ++j) subtract_dots<1, 1>(matrix, i, j, first, length);
    }
}

CGC_INLINE bool factor(Matrix<double> matrix) {
    for (Index begin = 0; begin < matrix.rows; begin += kColumns) {
        const Index end = std::min(begin + kColumns, matrix.rows);
        subtract_explained(matrix, begin, end);
        for (Index j = begin; j < end; ++j) {
            subtract_dots<1, 1>(matrix, j, j, begin, j - begin);
            const double pivot = matrix(j, j);
            if (!(pivot > 0.0)) return false;
            const double root = std::sqrt(pivot);
            matrix(j, j) = root;
            Index i = j + 1;
            for (; i + 4 <= matrix.rows; i += 4) subtract_dots<4, 1>(matrix, i, j, begin, j - begin);
            for (; i < matrix.rows; ++i) subtract_dots<1, 1>(matrix, i, j, begin, j - begin);
            for (i = j + 1; i < matrix.rows; ++i) matrix(i, j) /= root;
        }
    }
    return true;
}

struct Factor {
    template <int Bytes>
    CGC_INLINE static bool run(const Matrix<double>& matrix) {
        return factor(matrix);
    }
};

}  // namespace

bool cholesky_factor(Matrix<double> matrix) {
    return Versions<Factor, bool(const Matrix<double>&)>::run(matrix);
}

void cholesky_solve(Matrix<const double> factor, View<double> b) {
    const Index n = factor.rows;
    for (Index i = 0; i < n; ++i) {
        const double* row = factor.row(i);
        double sums[kLanes] = {};
        Index k = 0;
        for (; k + kLanes <= i; k += kLanes)
            for (Index lane = 0; lane < kLanes; ++lane) sums[lane] += row[k + lane] * b[k + lane];
        double dot = (sums[0] + sums[1]) + (sums[2] + sums[3]);
        for (; k < i; ++k) dot += row[k] * b[k];
        b[i] = (b[i] - dot) / row[i];
    }
    for (Index i = n - 1; i >= 0; --i) {
        const double* row = factor.row(i);
        const double x = b[i] /= row[i];
        for (Index k = 0; k < i; ++k) b[k] -= x * row[k];
    }
}

}  // namespace cgc
