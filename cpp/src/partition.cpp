#include "cgc/partition.hpp"

#include <algorithm>
#include <functional>

namespace cgc {

void project_onto_simplex(View<const double> point, double total, View<double> projected,
                          View<double> scratch) {
    std::copy(point.begin(), point.end(), scratch.begin());
    std::sort(scratch.begin(), scratch.end(), std::greater<>());
    // x_i = max(0, v_i - threshold), where the threshold leaves the largest possible set positive.
    double sum = 0.0, threshold = 0.0;
    for (std::size_t k = 0; k < scratch.size(); ++k) {
        sum += scratch[k];
        const double candidate = (sum - total) / static_cast<double>(k + 1);
        if (!(scratch[k] > candidate)) break;
        threshold = candidate;
    }
    for (std::size_t i = 0; i < point.size(); ++i) projected[i] = std::max(0.0, point[i] - threshold);
}

}  // namespace cgc
