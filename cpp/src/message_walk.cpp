#include "cgc/message_walk.hpp"

#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

namespace cgc {

void push_run(Signal& signal, Index worker, const double* memory, View<const Index> places,
              View<const Index> slots, std::int64_t began_ns) {
    constexpr double second_ns = 1e9;
    for (std::size_t i = 0; i < slots.size(); ++i) {
        PayloadHeader header;
        std::memcpy(&header, memory + places[i], sizeof header);
        const Arrival arrival{static_cast<std::uint64_t>(header.iteration),
                              static_cast<std::uint32_t>(slots[i]), header.finite != 0.0 ? 1u : 0u,
                              began_ns + static_cast<std::int64_t>(second_ns * header.began_s),
                              began_ns + static_cast<std::int64_t>(second_ns * header.ended_s)};
        if (!signal.push(worker, arrival, false, -1))
            throw std::runtime_error("worker " + std::to_string(worker) +
                                     ": more payloads than it can have delivered");
    }
}

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
