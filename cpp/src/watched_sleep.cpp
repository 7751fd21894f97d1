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
constexpr std::int64_t contested_look_ns = 100'000;

bool hand_over(Signal& signal, const Board& board, const WatchedVisit& visit, const OpenSum& sum) {
    if (!board.all_taken(visit.iteration, sum.cells)) return false;
    const Arrival arrival{visit.iteration, sum.slot, sum.empty ? 0u : 1u, sum.began_ns, monotonic_ns()};
    return signal.push(visit.worker, arrival, true, sum.master_fd);
}

}  // namespace

Wake sleep_while_wanted(Signal& signal, const Board& board, const WatchedVisit& visit, std::int64_t until_ns,
                        int wake_fd, int orders_fd, const OpenSum* sum) {
    for (;;) {
        const bool contested = board.claimants(visit.iteration, visit.cell) > 1;
        const std::int64_t next_ns =
            std::min(until_ns, monotonic_ns() + (contested ? contested_look_ns : look_ns));
        const Wake why = signal.sleep_until(visit.worker, visit.iteration, next_ns, wake_fd, orders_fd);
        if (why != Wake::timeout || next_ns == until_ns) return why;
        if (board.generation(visit.worker) != visit.generation) return why;
        if (!board.is_taken(visit.iteration, visit.cell)) continue;
        if (sum == nullptr || !hand_over(signal, board, visit, *sum)) return why;
        std::uint64_t next = 0;
        signal.wait_for_iteration(visit.worker, visit.iteration, wake_fd, orders_fd, next);
        return Wake::answered;
    }
}

void sleep_precisely() {
#ifdef __linux__
    ::prctl(PR_SET_TIMERSLACK, 1UL);
#endif
}

}  // namespace cgc
