// Weighted sums of rows that lie in separate buffers: what decoding a block costs.
#pragma once

#include "cgc/types.hpp"

namespace cgc {

// out (+)= sum_i coefficients[i] * rows[i], for rows of out.size() values that do not overlap out.
//
// Every value is summed in the order of the rows, one rounding an operation, however the memory is blocked:
// the bits do not depend on the length, on alignment or on the instruction set. No row leaves zero (or out as
// it is). Instantiated for double and float.
template <class T>
void weighted_sum(View<const T* const> rows, View<const T> coefficients, View<T> out, bool accumulate);

// Whether no value is NaN or infinite. Instantiated for double and float.
template <class T>
bool all_finite(View<const T> values);

}  // namespace cgc
