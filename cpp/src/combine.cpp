#include "cgc/combine.hpp"

namespace cgc {

namespace baseline {
#include "combine_kernel.inl"
}  // namespace baseline

template <class T>
void weighted_sum(View<const T* const> rows, View<const T> coefficients, View<T> out, bool accumulate) {
    baseline::weighted_sum(rows.data(), coefficients.data(), static_cast<Index>(rows.size()), out.data(),
                           static_cast<Index>(out.size()), accumulate);
}

template <class T>
bool all_finite(View<const T> values) {
    return baseline::all_finite(values.data(), static_cast<Index>(values.size()));
}

template void weighted_sum(View<const double* const>, View<const double>, View<double>, bool);
template void weighted_sum(View<const float* const>, View<const float>, View<float>, bool);
template bool all_finite(View<const double>);
template bool all_finite(View<const float>);

}  // namespace cgc
