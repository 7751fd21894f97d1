#include "cgc/walker.hpp"

#include <cmath>
#include <utility>

namespace cgc {

Walker::Walker(Signal& signal, SlicedWalk walk, Index worker, View<const double> even_theta,
               View<const double> odd_theta, int wake_fd, int orders_fd, int master_fd)
    : signal_(signal),
      walk_(std::move(walk)),
      worker_(worker),
      thetas_{even_theta, odd_theta},
      wake_fd_(wake_fd),
      orders_fd_(orders_fd),
      master_fd_(master_fd) {}

Standing Walker::serve(std::uint64_t last, std::uint64_t orders_seen) {
    standing_ = {};
    standing_.published = last;
    orders_seen_ = orders_seen;
    for (;;) {
        std::uint64_t iteration = 0;
        const Wake wake =
            signal_.wait_for_iteration(worker_, standing_.published, wake_fd_, orders_fd_, iteration);
        if (wake != Wake::iteration)
            return left(wake == Wake::stopped  ? Left::stopped
                        : wake == Wake::orders ? Left::orders
                                               : Left::interrupted);
        standing_.published = iteration;
        if (!std::isnan(signal_.cycle_time(worker_, iteration))) return left(Left::iteration);
        begin(iteration);
        const Step step = go_through();
        standing_.over = step == Step::over;
        if (step == Step::orders) return left(Left::orders);
        if (step == Step::delivery) return left(Left::delivery);
    }
}

Standing Walker::left(Left why) {
    standing_.why = why;
    if (standing_.begun > 0) {
        standing_.delivered = walk_.made();
        standing_.next_coordinate = walk_.next_coordinate();
    }
    return standing_;
}

void Walker::begin(std::uint64_t iteration) {
    walk_.begin(thetas_[iteration % 2], signal_.with_value(iteration));
    standing_.begun = iteration;
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

Walker::Step Walker::go_through() {
    while (!walk_.is_over()) {
        Step step = Step::go_on;
        while (step == Step::go_on && walk_.slice()) step = look();
        if (step == Step::go_on) step = deliver();
        if (step != Step::go_on) return step;
    }
    return Step::go_on;
}

Walker::Step Walker::deliver() {
    if (!walk_.complete()) return Step::delivery;
    const std::int64_t now_ns = monotonic_ns();
    const Arrival arrival{standing_.begun, walk_.at().slot, 1, standing_.visit_began_ns, now_ns};
    // A payload that is followed by another at once leaves it to that one to wake the master.
    if (!signal_.push(worker_, arrival, !walk_.is_next_soon(), master_fd_)) return Step::delivery;
    standing_.visit_began_ns = now_ns;
    walk_.next();
    return look();
}

}  // namespace cgc
