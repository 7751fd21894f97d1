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

// The sum that a worker has under claim, maybe empty, and where it would go on: `slot` stands for the sum in
// the ring of the worker.
struct OpenSum {
    View<const Index> cells;
    std::uint32_t slot;
    bool empty;
    std::int64_t began_ns;
    int master_fd;
};

// Signal::sleep_until that looks at the board meanwhile. Wake::timeout also before `until_ns`, if the cell is
// taken or what the worker committed is withdrawn. If then none of the cells of `sum` is left to visit, it is
// handed over at once, and the worker sleeps on until it is ordered to do more or another iteration begins,
// Wake::answered: at the end all workers find that out at the same moment, and the master needs a core.
Wake sleep_while_wanted(Signal& signal, const Board& board, const WatchedVisit& visit, std::int64_t until_ns,
                        int wake_fd, int orders_fd, const OpenSum* sum = nullptr);

// Sleeps of this thread end as soon after their moment as the system can; by default Linux lets them last up
// to 50 microseconds longer, to wake several sleepers at once.
void sleep_precisely();

}  // namespace cgc
