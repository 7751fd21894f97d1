// The shared-memory signal between one master and its workers.
//
// The master publishes iterations; each worker answers with entries in a ring of its own (one producer, one
// consumer). Whoever has nothing to do says so in a flag and then sleeps in poll(), on a wake-up descriptor
// and on whatever tells it that the other side is gone; only a sleeper is woken by a write. Flags and heads
// are sequentially consistent: of "I write my entry, then read your flag" and "I set my flag, then look for
// entries" at least one sees the other, so no wake-up is lost. Orders to a worker (visit these rows too) lie
// in a socket of its own; here is only their number.
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
    std::uint32_t slot = 0;  // which row of which cell
    std::uint32_t finite = 0;
    std::int64_t began_ns = 0;  // CLOCK_MONOTONIC
    std::int64_t ended_ns = 0;
};

enum class Wake { iteration, timeout, finished, stopped, orders, interrupted, answered };

// What a worker finds when it looks up between two slices.
enum class Look { go_on, over, orders };

// A worker's signs of life, as its master reads them. Moments are of CLOCK_MONOTONIC.
struct Progress {
    std::int64_t seen_ns = 0;     // when it last looked up, or until when it told that it sleeps
    std::int64_t longest_ns = 0;  // longest time between two looks since the last reset
    std::uint64_t iteration = 0;  // the last one that it took up
};

std::int64_t monotonic_ns();

// What both sides see. The layout is fixed by `workers` and `capacity` (entries per worker).
class Signal {
  public:
    static std::size_t bytes(Index workers, Index capacity);
    Signal(void* memory, Index workers, Index capacity);

    Index workers() const { return workers_; }

    // --- master -----------------------------------------------------------------------------------------
    // Starts an iteration: cycle_times[w] (NaN: not emulated) and `with_value` (the loss is asked for too)
    // belong to this iteration alone. Sleeping workers are woken through wake_fds[w] (a negative descriptor
    // is skipped).
    void publish(std::uint64_t iteration, View<const double> cycle_times, bool with_value,
                 View<const int> wake_fds);
    // Workers still at this iteration, or at an earlier one, abandon it within a slice.
    void finish(std::uint64_t iteration);
    void stop(View<const int> wake_fds);
    bool pop(Index worker, Arrival& arrival);
    // Tells a worker that orders lie in its socket; one that sleeps sees the socket itself.
    void announce_orders(Index worker);
    // Reads a worker's signs of life; `reset` begins a new longest time.
    Progress progress(Index worker, bool reset);
    // How many iterations a worker has begun in a Walker.
    std::uint64_t walks(Index worker) const;
    // Makes a lane ready for the successor of a worker that is gone.
    void renew(Index worker);
    // Sleeps until an entry is there, one of fds is readable or hung up, or the timeout (< 0: none) is over.
    // fds[0] is the master's own wake-up descriptor. ready[i] says which fds fired. Returns false if a
    // signal handler of the process must run first.
    bool wait(View<const int> fds, View<bool> ready, double timeout_s);

    // --- worker -----------------------------------------------------------------------------------------
    // Sleeps until an iteration later than `last` is published or orders_fd is readable.
    Wake wait_for_iteration(Index worker, std::uint64_t last, int wake_fd, int orders_fd,
                            std::uint64_t& iteration);
    // Sleeps until a moment (CLOCK_MONOTONIC; INT64_MAX: for ever) unless `iteration` is over, or orders
    // come, before.
    Wake sleep_until(Index worker, std::uint64_t iteration, std::int64_t until_ns, int wake_fd,
                     int orders_fd);
    // Looks up between two slices, and leaves a sign of life. `orders_seen` is how many were read.
    Look look(Index worker, std::uint64_t iteration, std::uint64_t orders_seen);
    std::uint64_t orders(Index worker) const;
    void count_walk(Index worker);
    bool is_over(std::uint64_t iteration) const;
    std::uint64_t published() const;
    std::int64_t published_ns(std::uint64_t iteration) const;
    double cycle_time(Index worker, std::uint64_t iteration) const;
    bool with_value(std::uint64_t iteration) const;
    // Hands an entry over. Without `wake` a sleeping master is not woken: another entry follows at once.
    // False: the ring is full, because the master has not looked for a long time; try again later.
    bool push(Index worker, const Arrival& arrival, bool wake, int master_fd);

  private:
    struct Shared;
    struct Lane;
    Lane& lane(Index worker) const;
    bool has_entries() const;
    static void seen(Lane& lane, std::int64_t now_ns);

    Shared* shared_;
    unsigned char* lanes_;
    Index workers_;
    Index capacity_;
    std::vector<pollfd> polled_;  // of the master, kept from wait to wait
};

// Empties a wake-up descriptor (eventfd or pipe) without blocking.
void drain(int fd);

// Ends this process, whatever it is doing, as soon as the other end of a socket is closed: only the master
// holds it, so the master is gone. A thread of its own waits, which needs nothing of the interpreter.
void leave_with(int socket_fd);

}  // namespace cgc
