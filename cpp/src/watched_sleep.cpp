#include "cgc/watched_sleep.hpp"

#ifdef __linux__
#include <sys/prctl.h>
#endif

#include <algorithm>

namespace cgc {

namespace {

// From one look at the board to the next. Where another has claimed the cell, too, the end is near: what it
// takes to notice that the other was first is added to the iteration.
constexpr std::int64_t look_ns = 500'000;
constexpr std::int64_t contested_look_ns = 200'000;

}  // namespace

Wake sleep_while_wanted(Signal& signal, const Board& board, const WatchedVisit& visit, std::int64_t until_ns,
                        int wake_fd, int orders_fd) {
    for (;;) {
        const bool contested = board.claimants(visit.iteration, visit.cell) > 1;
        const std::int64_t next_ns =
            std::min(until_ns, monotonic_ns() + (contested ? contested_look_ns : look_ns));
        const Wake why = signal.sleep_until(visit.worker, visit.iteration, next_ns, wake_fd, orders_fd);
        if (why != Wake::timeout || next_ns == until_ns) return why;
        if (board.generation(visit.worker) != visit.generation || board.is_taken(visit.iteration, visit.cell))
            return why;
    }
}

void sleep_precisely() {
#ifdef __linux__
    ::prctl(PR_SET_TIMERSLACK, 1UL);
#endif
}

}  // namespace cgc
