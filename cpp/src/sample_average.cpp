#include "cgc/sample_average.hpp"

#include <algorithm>

namespace cgc {

double mean_maximum(Matrix<const double> times, View<const double> cycles, View<double> mass) {
    std::fill(mass.begin(), mass.end(), 0.0);
    for (Index d = 0; d < times.rows; ++d) {
        const double* row = times.row(d);
        // -1 is below every product of a level that counts.
        double latest = -1.0;
        Index argmax = 0;
        for (Index k = 0; k < times.columns; ++k) {
            const double time = cycles[k] > 0.0 ? row[k] * cycles[k] : -1.0;
            if (time > latest) {
                latest = time;
                argmax = k;
            }
        }
        mass[argmax] += row[argmax];
    }
    double value = 0.0;
    for (Index k = 0; k < times.columns; ++k) {
        mass[k] /= static_cast<double>(times.rows);
        value += mass[k] * cycles[k];
    }
    return value;
}

}  // namespace cgc
