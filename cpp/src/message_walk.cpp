#include "cgc/message_walk.hpp"

#include <cstring>
#include <utility>

#include "cgc/signal.hpp"

namespace cgc {

MessageWalk::MessageWalk(SlicedWalk first, SlicedWalk second) : walks_{std::move(first), std::move(second)} {}

void MessageWalk::begin(std::uint64_t iteration, int memory, View<const double> theta, bool with_value) {
    iteration_ = iteration;
    memory_ = memory;
    began_ns_ = monotonic_ns();
    visit_began_s_ = 0.0;
    now().begin(theta, with_value);
}

Run MessageWalk::go_on() {
    SlicedWalk& walk = now();
    // A second slice only if this much is left of the first, so that nobody waits for long.
    const auto until_ns = monotonic_ns() + static_cast<std::int64_t>(0.5e9 * walk.pace().slice_s);
    Run run{walk.made(), walk.made(), true};
    while (!walk.is_over()) {
        if (walk.slice()) {
            if (monotonic_ns() < until_ns) continue;
            if (walk.next_coordinate() < walk.at().stop) return run;
        }
        run.finite = complete();
        const bool soon = run.finite && walk.is_next_soon() && monotonic_ns() < until_ns;
        walk.next();
        ++run.stop;
        if (!soon) return run;
    }
    return run;
}

// Writes the header of a payload; whether it is finite.
bool MessageWalk::complete() {
    const bool finite = now().complete();
    const double now_s = 1e-9 * static_cast<double>(monotonic_ns() - began_ns_);
    const PayloadHeader header{static_cast<double>(iteration_), finite ? 1.0 : 0.0, visit_began_s_, now_s};
    std::memcpy(now().at().payload - header_values, &header, sizeof header);
    visit_began_s_ = now_s;
    return finite;
}

}  // namespace cgc
