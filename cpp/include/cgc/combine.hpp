// Weighted sums of rows that lie in separate buffers: what decoding a block costs.
#pragma once

#include "cgc/types.hpp"

namespace cgc {

// out (+)= sum_i coefficients[i] * rows[i], for rows of out.size() values that do not overlap out.
//
// Every value is summed in the order of the rows, one rounding an operation, however the memory is blocked:
// the bits do not depend on the length, on alignment, on threads or on the instruction set. No row leaves
// zero (or out as it is). threads: at most so many, this one included; 0 for one a core. Rows that are
// shorter than out are widened first and summed in double. Instantiated for (float, float), (double, double)
// and (float, double).
template <class X, class Y>
void weighted_sum(View<const X* const> rows, View<const Y> coefficients, View<Y> out, bool accumulate,
                  int threads = 1);

// The same with all coefficients 1, and the same bits.
template <class X, class Y>
void plain_sum(View<const X* const> rows, View<Y> out, bool accumulate, int threads = 1);

// Whether no value is NaN or infinite. Instantiated for double and float.
template <class T>
bool all_finite(View<const T> values);

// max_i |values[i] - expected|, infinity if one of them is not finite, 0 without values. Instantiated for
// double and float.
template <class T>
T largest_deviation(View<const T> values, T expected);

}  // namespace cgc
