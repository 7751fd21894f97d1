// A walk whose payloads may leave in messages: those that follow one another at once leave together.
//
// The payloads of a walk lie one after the other, each behind its header, so any run of them is one piece of
// memory.
#pragma once

#include <cstdint>

#include "cgc/signal.hpp"
#include "cgc/sliced_walk.hpp"
#include "cgc/types.hpp"

namespace cgc {

// What lies before a payload. Seconds since its worker took the iteration up, as the clocks of other hosts
// mean nothing.
struct PayloadHeader {
    double iteration, finite, began_s, ended_s;
};

constexpr Index header_values = sizeof(PayloadHeader) / sizeof(double);

// Enters payloads of a worker into the signal that lie in a memory, each behind its header: the headers of
// these slots are at `places`. Their seconds count from `began_ns`.
void push_run(Signal& signal, Index worker, const double* memory, View<const Index> places,
              View<const Index> slots, std::int64_t began_ns);

// Visits [first, stop) whose payloads are complete and not sent yet; only the last may not be finite.
struct Run {
    Index first = 0, stop = 0;
    bool finite = true;
};

class MessageWalk {
  public:
    // The same stops, with payloads in two memories: one may be in use while what the other holds is sent.
    MessageWalk(SlicedWalk first, SlicedWalk second);

    void begin(std::uint64_t iteration, int memory, View<const double> theta, bool with_value);
    // Works until payloads are to be sent or about a slice is over, or nothing is left to do.
    Run go_on();
    bool is_over() const { return now().is_over(); }
    Index made() const { return now().made(); }
    Index next_coordinate() const { return now().next_coordinate(); }
    double visit_began_s() const { return visit_began_s_; }

  private:
    bool complete();

    const SlicedWalk& now() const { return walks_[memory_]; }
    SlicedWalk& now() { return walks_[memory_]; }

    SlicedWalk walks_[2];
    int memory_ = 0;
    std::uint64_t iteration_ = 0;
    std::int64_t began_ns_ = 0;
    double visit_began_s_ = 0.0;
};

}  // namespace cgc
