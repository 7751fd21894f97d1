#include "cgc/walker.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "cgc/combine.hpp"

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

Walker::Walker(Signal& signal, LinearModel& model, Index worker, View<const double> even_theta,
               View<const double> odd_theta, std::vector<Stop> stops, Pace pace, int wake_fd, int orders_fd,
               int master_fd)
    : signal_(signal),
      model_(model),
      worker_(worker),
      thetas_{even_theta, odd_theta},
      stops_(std::move(stops)),
      pace_(pace),
      wake_fd_(wake_fd),
      orders_fd_(orders_fd),
      master_fd_(master_fd) {
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

Standing Walker::serve(std::uint64_t last, std::uint64_t orders_seen) {
    standing_ = {};
    standing_.published = last;
    orders_seen_ = orders_seen;
    for (;;) {
        std::uint64_t iteration = 0;
        const Wake wake =
            signal_.wait_for_iteration(worker_, standing_.published, wake_fd_, orders_fd_, iteration);
        if (wake != Wake::iteration) {
            standing_.why = wake == Wake::stopped  ? Left::stopped
                            : wake == Wake::orders ? Left::orders
                                                   : Left::interrupted;
            return standing_;
        }
        standing_.published = iteration;
        if (!std::isnan(signal_.cycle_time(worker_, iteration))) {
            standing_.why = Left::iteration;
            return standing_;
        }
        begin(iteration);
        const Step step = walk();
        standing_.over = step == Step::over;
        if (step == Step::orders || step == Step::delivery) {
            standing_.why = step == Step::orders ? Left::orders : Left::delivery;
            return standing_;
        }
    }
}

void Walker::begin(std::uint64_t iteration) {
    model_.begin(thetas_[iteration % 2]);
    with_value_ = signal_.with_value(iteration);
    std::fill(passed_.begin(), passed_.end(), false);
    standing_.begun = iteration;
    standing_.delivered = 0;
    standing_.next_coordinate = stops_.empty() ? 0 : stops_[0].start;
    standing_.visit_began_ns = monotonic_ns();
    signal_.count_walk(worker_);
}

Walker::Step Walker::look() {
    switch (signal_.look(worker_, standing_.begun, orders_seen_)) {
        case Look::over:
            return Step::over;
        case Look::orders:
            return Step::orders;
        case Look::go_on:
            break;
    }
    return Step::go_on;
}

Walker::Step Walker::walk() {
    while (standing_.delivered < static_cast<Index>(stops_.size())) {
        const Stop& at = stops_[static_cast<std::size_t>(standing_.delivered)];
        standing_.next_coordinate = at.start;
        Step step = forward(at);
        while (step == Step::go_on && standing_.next_coordinate < at.stop) step = derive(at);
        if (step == Step::go_on) step = deliver(at);
        if (step != Step::go_on) return step;
    }
    return Step::go_on;
}

// The samples of the visit that no earlier one has touched.
Walker::Step Walker::forward(const Stop& at) {
    if (at.start == at.stop) return Step::go_on;
    const std::vector<Index>& pairs = pairs_[static_cast<std::size_t>(standing_.delivered)];
    for (std::size_t i = 0; i < pairs.size(); ++i) {
        if (passed_[static_cast<std::size_t>(pairs[i])]) continue;
        passed_[static_cast<std::size_t>(pairs[i])] = true;
        for (Index low = at.ranges[2 * i], high = at.ranges[2 * i + 1]; low < high;) {
            const Index range[2] = {low, std::min(high, low + affordable(forward_rate_, pace_.slice_s, 1))};
            const std::int64_t began_ns = monotonic_ns();
            model_.forward({range, 1, 2, 2});
            learn(forward_rate_, range[1] - low, monotonic_ns() - began_ns);
            low = range[1];
            if (const Step step = look(); step != Step::go_on) return step;
        }
    }
    return Step::go_on;
}

Walker::Step Walker::derive(const Stop& at) {
    const Index height = heights_[static_cast<std::size_t>(standing_.delivered)];
    const Index start = standing_.next_coordinate;
    Index stop = at.stop;
    if (height > 0) stop = std::min(stop, start + affordable(derive_rate_, pace_.slice_s, height));
    const View<double> out{at.payload + (start - at.start), static_cast<std::size_t>(stop - start)};
    const std::int64_t began_ns = monotonic_ns();
    model_.derivatives(start, stop, as_matrix(at.ranges), at.coefficients, out);
    if (height > 0) learn(derive_rate_, (stop - start) * height, monotonic_ns() - began_ns);
    standing_.next_coordinate = stop;
    return look();
}

Walker::Step Walker::deliver(const Stop& at) {
    auto width = static_cast<std::size_t>(at.stop - at.start);
    if (with_value_ && at.stop == model_.coordinates()) {
        at.payload[width] = model_.value(as_matrix(at.ranges), at.coefficients);
        ++width;
    }
    if (!all_finite<double>({at.payload, width})) return Step::delivery;
    const std::int64_t now_ns = monotonic_ns();
    const Arrival arrival{standing_.begun, at.slot, 1, standing_.visit_began_ns, now_ns};
    if (!signal_.push(worker_, arrival, !is_next_soon(), master_fd_)) return Step::delivery;
    standing_.visit_began_ns = now_ns;
    ++standing_.delivered;
    return look();
}

// Whether the next payload follows at once: in one slice, and with no forward pass.
bool Walker::is_next_soon() const {
    const auto next = static_cast<std::size_t>(standing_.delivered) + 1;
    if (next >= stops_.size()) return false;
    for (Index pair : pairs_[next])
        if (!passed_[static_cast<std::size_t>(pair)]) return false;
    const auto work = static_cast<double>(heights_[next] * (stops_[next].stop - stops_[next].start));
    return work < derive_rate_ * pace_.soon_s;
}

}  // namespace cgc
