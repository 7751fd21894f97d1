// The shared-memory signal between one master and its workers.
//
// The master publishes iterations; each worker answers with entries in a ring of its own (one producer, one
// consumer). Whoever has nothing to do says so in a flag and then sleeps in poll(), on a wake-up descriptor
// and on whatever tells it that the other side is gone; only a sleeper is woken by a write. Flags and heads
// are sequentially consistent: of "I write my entry, then read your flag" and "I set my flag, then look for
// entries" at least one sees the other, so no wake-up is lost.
//
// The memory is anonymous, zero-initialised and belongs to the caller; both sides lay the same view over it.
#pragma once

#include <poll.h>

#include <atomic>
#include <cstdint>
#include <vector>

#include "cgc/types.hpp"

namespace cgc {

struct Arrival {
    std::uint64_t iteration = 0;
    std::uint32_t visit = 0;
    std::uint32_t finite = 0;
    std::int64_t began_ns = 0;  // CLOCK_MONOTONIC
    std::int64_t ended_ns = 0;
};

enum class Wake { iteration, timeout, finished, stopped, orphaned, interrupted };

std::int64_t monotonic_ns();

// What both sides see. The layout is fixed by `workers` and `capacity` (entries per worker).
class Signal {
  public:
    static std::size_t bytes(Index workers, Index capacity);
    Signal(void* memory, Index workers, Index capacity);

    Index workers() const { return workers_; }

    // --- master -----------------------------------------------------------------------------------------
    // Starts an iteration: cycle_times[w] (NaN: not emulated) belongs to this iteration alone.
    // Sleeping workers are woken through wake_fds[w] (a negative descriptor is skipped).
    void publish(std::uint64_t iteration, View<const double> cycle_times, View<const int> wake_fds);
    // Workers still at this iteration, or at an earlier one, abandon it within a slice.
    void finish(std::uint64_t iteration);
    void stop(View<const int> wake_fds);
    bool pop(Index worker, Arrival& arrival);
    // Sleeps until an entry is there, one of fds is readable or hung up, or the timeout (< 0: none) is over.
    // fds[0] is the master's own wake-up descriptor. ready[i] says which fds fired. Returns false if a
    // signal handler of the process must run first.
    bool wait(View<const int> fds, View<bool> ready, double timeout_s);

    // --- worker -----------------------------------------------------------------------------------------
    // Sleeps until an iteration later than `last` is published.
    Wake wait_for_iteration(Index worker, std::uint64_t last, int wake_fd, int lifeline_fd,
                            std::uint64_t& iteration);
    // Sleeps until a moment (CLOCK_MONOTONIC; INT64_MAX: for ever) unless `iteration` is over before.
    Wake sleep_until(Index worker, std::uint64_t iteration, std::int64_t until_ns, int wake_fd,
                     int lifeline_fd);
    bool is_over(std::uint64_t iteration) const;
    std::int64_t published_ns(std::uint64_t iteration) const;
    double cycle_time(Index worker, std::uint64_t iteration) const;
    void push(Index worker, const Arrival& arrival, int master_fd);

  private:
    struct Shared;
    struct Lane;
    Lane& lane(Index worker) const;
    bool has_entries() const;

    Shared* shared_;
    unsigned char* lanes_;
    Index workers_;
    Index capacity_;
    std::vector<pollfd> polled_;  // of the master, kept from wait to wait
};

// Empties a wake-up descriptor (eventfd or pipe) without blocking.
void drain(int fd);

}  // namespace cgc
