// The sleep of a worker whose visit others may make superfluous at any moment.
#pragma once

#include <cstdint>

#include "cgc/board.hpp"
#include "cgc/signal.hpp"

namespace cgc {

// A visit under way: to a cell, in an iteration, by a worker in one of its generations.
struct WatchedVisit {
    Index worker;
    std::uint32_t iteration;
    std::uint32_t generation;
    Index cell;
};

// Signal::sleep_until that looks at the board meanwhile. Wake::timeout also before `until_ns`, if the cell is
// taken or what the worker committed is withdrawn.
Wake sleep_while_wanted(Signal& signal, const Board& board, const WatchedVisit& visit, std::int64_t until_ns,
                        int wake_fd, int orders_fd);

// Sleeps of this thread end as soon after their moment as the system can; by default Linux lets them last up
// to 50 microseconds longer, to wake several sleepers at once.
void sleep_precisely();

}  // namespace cgc
