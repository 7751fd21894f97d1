// The cyclic gradient code [TANDON17]: N rows over N parts, row w on parts w, w+1, ..., w+s (mod N).
#pragma once

#include "cgc/types.hpp"

namespace cgc {

// The encoding coefficients that h determines. h: (s, N), s < N, each row summing to zero, any s columns
// independent (Gaussian: with probability 1). coefficients: (N, s + 1); entry (w, i) is the coefficient of
// row w for part (w + i) mod N. Row w is the unit vector on its parts in the null space of h, with a
// coefficient >= 0 for part w. As N - s rows span that null space, which holds the all-ones row, they decode.
// O(N s^3) operations.
void cyclic_coefficients(Matrix<const double> h, Matrix<double> coefficients);

}  // namespace cgc
