#include "cgc/subgradient.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>
#include <string>

#include "cgc/partition.hpp"

namespace cgc {

SubgradientIterations::SubgradientIterations(View<const double> work, View<const double> start, double step,
                                             double power)
    : work_(work.begin(), work.end()),
      iterate_(start.begin(), start.end()),
      sum_(start.size(), 0.0),
      total_(std::accumulate(start.begin(), start.end(), 0.0)),
      step_(step),
      power_(power),
      loads_(start.size()),
      gradient_(start.size()),
      scratch_(start.size()) {
    if (work.size() != start.size() || start.empty())
        throw std::invalid_argument("work, start: expected the same length, at least 1, got " +
                                    std::to_string(work.size()) + " and " + std::to_string(start.size()));
    if (!(total_ > 0.0) || !std::isfinite(total_))
        throw std::invalid_argument("start: expected a positive finite sum, got " + std::to_string(total_));
    if (!(step > 0.0) || !std::isfinite(step))
        throw std::invalid_argument("step: expected a positive finite number, got " + std::to_string(step));
    if (!(power > 0.5 && power <= 1.0))
        throw std::invalid_argument("power: expected a number in (1/2, 1], got " + std::to_string(power));
}

void SubgradientIterations::run(Matrix<const double> times, Index batch, bool averaging,
                                View<double> history) {
    const auto levels = static_cast<Index>(iterate_.size());
    if (times.columns != levels)
        throw std::invalid_argument("times: expected " + std::to_string(levels) + " columns, got " +
                                    std::to_string(times.columns));
    if (batch < 1) throw std::invalid_argument("batch: expected at least 1, got " + std::to_string(batch));
    const Index iterations = times.rows / batch;
    if (static_cast<Index>(history.size()) < iterations)
        throw std::invalid_argument("history: expected at least " + std::to_string(iterations) +
                                    " entries, got " + std::to_string(history.size()));
    const double scale = 1.0 / static_cast<double>(batch);
    for (Index iteration = 0; iteration < iterations; ++iteration) {
        double load = 0.0;
        for (Index k = 0; k < levels; ++k) loads_[k] = load += work_[k] * iterate_[k];

        std::fill(gradient_.begin(), gradient_.end(), 0.0);
        double runtime = 0.0;
        for (Index d = iteration * batch; d < (iteration + 1) * batch; ++d) {
            const double* row = times.row(d);
            Index argmax = 0;
            double latest = row[0] * loads_[0];
            for (Index k = 1; k < levels; ++k) {
                const double time = row[k] * loads_[k];
                if (time > latest) {
                    latest = time;
                    argmax = k;
                }
            }
            runtime += latest;
            gradient_[argmax] += row[argmax];
        }
        history[iteration] = runtime * scale;

        if (done_ == 0) first_step_ = step_ * total_ * total_ / history[iteration];
        const double length = first_step_ / std::pow(static_cast<double>(++done_), power_);

        // From "sum of R over the draws whose argmax is k" to the subgradient: suffix sums times the work.
        double suffix = 0.0;
        for (Index k = levels - 1; k >= 0; --k) {
            suffix += gradient_[k] * scale;
            iterate_[k] -= length * (work_[k] * suffix);
        }
        project_onto_simplex(iterate_, total_, iterate_, scratch_);
        if (averaging) {
            ++averaged_;
            for (Index k = 0; k < levels; ++k) sum_[k] += iterate_[k];
        }
    }
}

void SubgradientIterations::average(View<double> out) const {
    for (std::size_t k = 0; k < iterate_.size(); ++k)
        out[k] = averaged_ ? sum_[k] / static_cast<double>(averaged_) : iterate_[k];
}

}  // namespace cgc
