#include "cgc/sliced_walk.hpp"

#include <algorithm>
#include <map>
#include <utility>

#include "cgc/combine.hpp"
#include "cgc/signal.hpp"

namespace cgc {

namespace {

Matrix<const Index> as_matrix(const std::vector<Index>& ranges) {
    return {ranges.data(), static_cast<Index>(ranges.size() / 2), 2, 2};
}

// Half old, half new: follows a machine that changes speed, and forgives one hiccup.
void learn(double& rate, Index work, std::int64_t elapsed_ns) {
    if (elapsed_ns > 0)
        rate = 0.5 * rate + 0.5 * static_cast<double>(work) / (1e-9 * static_cast<double>(elapsed_ns));
}

Index affordable(double rate, double seconds, Index height) {
    const double work = std::min(rate * seconds, 1e15) / static_cast<double>(height);
    return std::max<Index>(1, static_cast<Index>(work));
}

}  // namespace

SlicedWalk::SlicedWalk(LinearModel& model, std::vector<Stop> stops, Pace pace)
    : model_(model), stops_(std::move(stops)), pace_(pace) {
    std::map<std::pair<Index, Index>, Index> numbers;
    for (const Stop& stop : stops_) {
        Index height = 0;
        std::vector<Index> mine;
        for (std::size_t i = 0; i + 1 < stop.ranges.size(); i += 2) {
            const std::pair<Index, Index> pair{stop.ranges[i], stop.ranges[i + 1]};
            height += pair.second - pair.first;
            mine.push_back(numbers.emplace(pair, static_cast<Index>(numbers.size())).first->second);
        }
        heights_.push_back(height);
        pairs_.push_back(std::move(mine));
    }
    passed_.resize(numbers.size());
}

void SlicedWalk::begin(View<const double> theta, bool with_value) {
    model_.begin(theta);
    with_value_ = with_value;
    std::fill(passed_.begin(), passed_.end(), false);
    made_ = 0;
    enter();
}

void SlicedWalk::next() {
    ++made_;
    enter();
}

void SlicedWalk::enter() {
    next_coordinate_ = is_over() ? 0 : at().start;
    range_ = 0;
    in_range_ = false;
}

bool SlicedWalk::slice() {
    const Stop& visit = at();
    if (next_coordinate_ == visit.stop) return false;
    if (pass_forward()) return true;
    const Index height = heights_[static_cast<std::size_t>(made_)];
    const Index start = next_coordinate_;
    Index stop = visit.stop;
    if (height > 0) stop = std::min(stop, start + affordable(derive_rate_, pace_.slice_s, height));
    const View<double> out{visit.payload, static_cast<std::size_t>(visit.stop - visit.start)};
    const std::int64_t began_ns = monotonic_ns();
    model_.derivatives_part(visit.start, visit.stop, start - visit.start, stop - visit.start,
                            as_matrix(visit.ranges), visit.coefficients, out);
    if (height > 0) learn(derive_rate_, (stop - start) * height, monotonic_ns() - began_ns);
    next_coordinate_ = stop;
    return true;
}

// A slice of the samples that no earlier visit has touched; false if there are none left.
bool SlicedWalk::pass_forward() {
    const Stop& visit = at();
    const std::vector<Index>& pairs = pairs_[static_cast<std::size_t>(made_)];
    for (; range_ < pairs.size(); ++range_, in_range_ = false) {
        if (!in_range_) {
            const auto number = static_cast<std::size_t>(pairs[range_]);
            if (passed_[number]) continue;
            passed_[number] = in_range_ = true;
            next_sample_ = visit.ranges[2 * range_];
        }
        const Index low = next_sample_, end = visit.ranges[2 * range_ + 1];
        if (low == end) continue;
        const Index range[2] = {low, std::min(end, low + affordable(forward_rate_, pace_.slice_s, 1))};
        const std::int64_t began_ns = monotonic_ns();
        model_.forward({range, 1, 2, 2});
        learn(forward_rate_, range[1] - low, monotonic_ns() - began_ns);
        next_sample_ = range[1];
        return true;
    }
    return false;
}

bool SlicedWalk::complete() {
    const Stop& visit = at();
    auto width = static_cast<std::size_t>(visit.stop - visit.start);
    if (with_value_ && visit.stop == model_.coordinates()) {
        visit.payload[width] = model_.value(as_matrix(visit.ranges), visit.coefficients);
        ++width;
    }
    return all_finite<double>({visit.payload, width});
}

bool SlicedWalk::is_next_soon() const {
    const auto next = static_cast<std::size_t>(made_) + 1;
    if (next >= stops_.size()) return false;
    for (Index pair : pairs_[next])
        if (!passed_[static_cast<std::size_t>(pair)]) return false;
    const auto work = static_cast<double>(heights_[next] * (stops_[next].stop - stops_[next].start));
    return work < derive_rate_ * pace_.soon_s;
}

}  // namespace cgc
