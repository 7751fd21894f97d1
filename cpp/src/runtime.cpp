#include "cgc/runtime.hpp"

#include <algorithm>
#include <limits>

namespace cgc {

void level_runtimes(Matrix<const double> times, View<const double> cycles, View<double> out) {
    for (Index d = 0; d < times.rows; ++d) {
        const double* row = times.row(d);
        double latest = 0.0;
        for (Index k = 0; k < times.columns; ++k)
            if (cycles[k] > 0.0) latest = std::max(latest, row[k] * cycles[k]);
        out[d] = latest;
    }
}

void group_times(Matrix<const double> times, View<const Index> groups, Matrix<const double> cycles,
                 Matrix<double> out) {
    const Index workers = times.columns;
    for (Index d = 0; d < times.rows; ++d) {
        const double* row = times.row(d);
        for (Index k = 0; k < cycles.rows; ++k) {
            const double* spent = cycles.row(k);
            double slowest = 0.0;
            for (Index group = 0, worker = 0; group < groups[k]; ++group) {
                // floor(w g / N) = group  <=>  w < ceil((group + 1) N / g), given the earlier groups are
                // done.
                const Index stop = ((group + 1) * workers + groups[k] - 1) / groups[k];
                double fastest = std::numeric_limits<double>::infinity();
                for (; worker < stop; ++worker)
                    fastest = std::min(fastest, spent[worker] > 0.0 ? row[worker] * spent[worker] : 0.0);
                slowest = std::max(slowest, fastest);
            }
            out(d, k) = slowest;
        }
    }
}

}  // namespace cgc
