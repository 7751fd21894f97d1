#include "cgc/signal.hpp"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>
#include <thread>

namespace cgc {

namespace {

constexpr std::size_t line = 64;  // a cache line: what two sides write lies on different ones

#ifndef POLLRDHUP
constexpr short POLLRDHUP = 0;  // elsewhere than on Linux a closed peer is POLLHUP, which needs no asking
#endif

std::size_t rounded(std::size_t size) { return (size + line - 1) / line * line; }

void wake(int fd) {
    if (fd < 0) return;
    const std::uint64_t one = 1;
    // A full pipe or counter means that a wake-up is pending already.
    while (::write(fd, &one, sizeof one) < 0 && errno == EINTR) {
    }
}

int poll_timeout_ms(std::int64_t nanoseconds) {
    const std::int64_t ms = (nanoseconds + 999'999) / 1'000'000;
    return static_cast<int>(std::clamp<std::int64_t>(ms, 0, std::numeric_limits<int>::max()));
}

}  // namespace

struct Signal::Shared {
    alignas(line) std::atomic<std::uint64_t> published;
    std::atomic<std::int64_t> published_ns[2];  // of even and of odd iterations
    std::atomic<std::uint32_t> with_value[2];
    alignas(line) std::atomic<std::uint64_t> finished;
    std::atomic<std::uint32_t> stopped;
    alignas(line) std::atomic<std::uint32_t> master_sleeps;
};

struct Signal::Lane {
    alignas(line) std::atomic<std::uint64_t> head;  // written by the worker
    std::atomic<std::uint32_t> sleeps;
    std::atomic<std::int64_t> seen_ns;
    std::atomic<std::int64_t> longest_ns;
    std::atomic<std::uint64_t> taken_up;
    std::atomic<std::uint64_t> walks;
    alignas(line) std::atomic<std::uint64_t> tail;  // written by the master
    std::atomic<std::uint64_t> orders;
    std::atomic<double> cycle_time[2];  // of even and of odd iterations
    alignas(line) Arrival entries[1];   // capacity of them
};

static_assert(std::atomic<double>::is_always_lock_free && std::atomic<std::uint64_t>::is_always_lock_free,
              "the signal needs lock-free 64-bit atomics: a lock would not be shared between processes");

std::int64_t monotonic_ns() {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<std::int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

void drain(int fd) {
    // Called only when poll() said readable. An eventfd hands over its whole count; of a pipe, what is left
    // over costs one more round of poll().
    unsigned char buffer[512];
    while (::read(fd, buffer, sizeof buffer) < 0 && errno == EINTR) {
    }
}

std::size_t Signal::bytes(Index workers, Index capacity) {
    if (workers < 1 || capacity < 1)
        throw std::invalid_argument("Signal: expected workers >= 1 and capacity >= 1, got " +
                                    std::to_string(workers) + " and " + std::to_string(capacity));
    const std::size_t lane_bytes =
        rounded(sizeof(Lane) + sizeof(Arrival) * static_cast<std::size_t>(capacity - 1));
    return rounded(sizeof(Shared)) + static_cast<std::size_t>(workers) * lane_bytes;
}

Signal::Signal(void* memory, Index workers, Index capacity)
    : shared_(static_cast<Shared*>(memory)),
      lanes_(static_cast<unsigned char*>(memory) + rounded(sizeof(Shared))),
      workers_(workers),
      capacity_(capacity) {}

Signal::Lane& Signal::lane(Index worker) const {
    const std::size_t lane_bytes =
        rounded(sizeof(Lane) + sizeof(Arrival) * static_cast<std::size_t>(capacity_ - 1));
    return *reinterpret_cast<Lane*>(lanes_ + static_cast<std::size_t>(worker) * lane_bytes);
}

void Signal::publish(std::uint64_t iteration, View<const double> cycle_times, bool with_value,
                     View<const int> wake_fds) {
    for (Index w = 0; w < workers_; ++w)
        lane(w).cycle_time[iteration % 2].store(cycle_times[static_cast<std::size_t>(w)],
                                                std::memory_order_relaxed);
    shared_->published_ns[iteration % 2].store(monotonic_ns(), std::memory_order_relaxed);
    shared_->with_value[iteration % 2].store(with_value ? 1 : 0, std::memory_order_relaxed);
    shared_->published.store(iteration);
    for (Index w = 0; w < workers_; ++w)
        if (lane(w).sleeps.exchange(0) != 0) wake(wake_fds[static_cast<std::size_t>(w)]);
}

void Signal::finish(std::uint64_t iteration) { shared_->finished.store(iteration); }

void Signal::stop(View<const int> wake_fds) {
    shared_->stopped.store(1);
    for (int fd : wake_fds) wake(fd);
}

bool Signal::pop(Index worker, Arrival& arrival) {
    Lane& from = lane(worker);
    const std::uint64_t tail = from.tail.load(std::memory_order_relaxed);
    if (from.head.load(std::memory_order_acquire) == tail) return false;
    arrival = from.entries[tail % static_cast<std::uint64_t>(capacity_)];
    from.tail.store(tail + 1, std::memory_order_release);
    return true;
}

void Signal::announce_orders(Index worker) { lane(worker).orders.fetch_add(1); }

Progress Signal::progress(Index worker, bool reset) {
    Lane& from = lane(worker);
    const Progress found{from.seen_ns.load(std::memory_order_relaxed),
                         from.longest_ns.load(std::memory_order_relaxed),
                         from.taken_up.load(std::memory_order_relaxed)};
    // A gap that the worker stores at this very moment may be lost: it is a statistic.
    if (reset) from.longest_ns.store(0, std::memory_order_relaxed);
    return found;
}

void Signal::renew(Index worker) {
    Lane& stale = lane(worker);
    stale.sleeps.store(0);
    stale.seen_ns.store(0, std::memory_order_relaxed);
    stale.longest_ns.store(0, std::memory_order_relaxed);
}

bool Signal::has_entries() const {
    for (Index w = 0; w < workers_; ++w) {
        const Lane& from = lane(w);
        if (from.head.load() != from.tail.load(std::memory_order_relaxed)) return true;
    }
    return false;
}

bool Signal::wait(View<const int> fds, View<bool> ready, double timeout_s) {
    polled_.resize(fds.size());
    for (std::size_t i = 0; i < fds.size(); ++i) polled_[i] = {fds[i], POLLIN, 0};
    std::fill(ready.begin(), ready.end(), false);
    shared_->master_sleeps.store(1);
    int timeout_ms = -1;
    if (timeout_s >= 0)
        timeout_ms = poll_timeout_ms(static_cast<std::int64_t>(std::min(timeout_s, 1e9) * 1e9));
    if (has_entries()) timeout_ms = 0;  // still look at the sentinels, so that no flood can hide a death
    const int count = ::poll(polled_.data(), static_cast<nfds_t>(polled_.size()), timeout_ms);
    const int error = errno;
    shared_->master_sleeps.store(0);
    if (count < 0) {
        if (error == EINTR) return false;
        throw std::runtime_error(std::string("poll failed: ") + std::strerror(error));
    }
    for (std::size_t i = 0; i < fds.size(); ++i) ready[i] = polled_[i].revents != 0;
    if (ready[0]) drain(fds[0]);
    return true;
}

bool Signal::is_over(std::uint64_t iteration) const {
    return shared_->finished.load(std::memory_order_acquire) >= iteration ||
           shared_->published.load(std::memory_order_acquire) > iteration || shared_->stopped.load() != 0;
}

std::int64_t Signal::published_ns(std::uint64_t iteration) const {
    return shared_->published_ns[iteration % 2].load(std::memory_order_relaxed);
}

double Signal::cycle_time(Index worker, std::uint64_t iteration) const {
    return lane(worker).cycle_time[iteration % 2].load(std::memory_order_relaxed);
}

bool Signal::with_value(std::uint64_t iteration) const {
    return shared_->with_value[iteration % 2].load(std::memory_order_relaxed) != 0;
}

std::uint64_t Signal::published() const { return shared_->published.load(); }

std::uint64_t Signal::orders(Index worker) const { return lane(worker).orders.load(); }

std::uint64_t Signal::walks(Index worker) const { return lane(worker).walks.load(std::memory_order_relaxed); }

void Signal::count_walk(Index worker) { lane(worker).walks.fetch_add(1, std::memory_order_relaxed); }

void Signal::seen(Lane& lane, std::int64_t now_ns) {
    // Only the worker writes, but for the master's reset of the longest time.
    const std::int64_t before_ns = lane.seen_ns.load(std::memory_order_relaxed);
    if (before_ns > 0 && now_ns - before_ns > lane.longest_ns.load(std::memory_order_relaxed))
        lane.longest_ns.store(now_ns - before_ns, std::memory_order_relaxed);
    lane.seen_ns.store(now_ns, std::memory_order_relaxed);
}

Look Signal::look(Index worker, std::uint64_t iteration, std::uint64_t orders_seen) {
    Lane& mine = lane(worker);
    seen(mine, monotonic_ns());
    if (is_over(iteration)) return Look::over;
    return mine.orders.load(std::memory_order_acquire) != orders_seen ? Look::orders : Look::go_on;
}

Wake Signal::wait_for_iteration(Index worker, std::uint64_t last, int wake_fd, int orders_fd,
                                std::uint64_t& iteration) {
    Lane& mine = lane(worker);
    seen(mine, monotonic_ns());
    for (;;) {
        mine.sleeps.store(1);
        if (shared_->stopped.load() != 0) return Wake::stopped;
        const std::uint64_t published = shared_->published.load();
        if (published > last) {
            mine.sleeps.store(0);
            // The time asleep is no time at work.
            mine.seen_ns.store(monotonic_ns(), std::memory_order_relaxed);
            mine.taken_up.store(published, std::memory_order_relaxed);
            iteration = published;
            return Wake::iteration;
        }
        pollfd polled[2] = {{wake_fd, POLLIN, 0}, {orders_fd, POLLIN, 0}};
        if (::poll(polled, 2, -1) < 0) {
            if (errno == EINTR) return Wake::interrupted;
            throw std::runtime_error(std::string("poll failed: ") + std::strerror(errno));
        }
        if (polled[0].revents != 0) drain(wake_fd);
        if (polled[1].revents != 0) {
            mine.sleeps.store(0);
            mine.seen_ns.store(monotonic_ns(), std::memory_order_relaxed);
            return Wake::orders;
        }
    }
}

Wake Signal::sleep_until(Index worker, std::uint64_t iteration, std::int64_t until_ns, int wake_fd,
                         int orders_fd) {
    Lane& mine = lane(worker);
    constexpr std::int64_t forever = std::numeric_limits<std::int64_t>::max();
    seen(mine, monotonic_ns());
    // A sign of life in advance: it is meant to be silent until then.
    mine.seen_ns.store(until_ns, std::memory_order_relaxed);
    const auto awake = [&mine](Wake why) {
        mine.sleeps.store(0);
        mine.seen_ns.store(monotonic_ns(), std::memory_order_relaxed);
        return why;
    };
    for (;;) {
        mine.sleeps.store(1);
        if (shared_->stopped.load() != 0) return Wake::stopped;
        if (is_over(iteration)) return awake(Wake::finished);
        const std::int64_t left = until_ns == forever ? forever : until_ns - monotonic_ns();
        pollfd polled[2] = {{wake_fd, POLLIN, 0}, {orders_fd, POLLIN, 0}};
        // poll() counts whole milliseconds: stop short of the moment, and let nanosleep do the rest.
        constexpr std::int64_t rest = 1'500'000;
        const int timeout_ms = until_ns == forever ? -1
                               : left <= rest      ? 0
                                                   : poll_timeout_ms(left - rest - 999'999);
        const int count = ::poll(polled, 2, timeout_ms);
        if (count < 0 && errno != EINTR)
            throw std::runtime_error(std::string("poll failed: ") + std::strerror(errno));
        if (count < 0) return Wake::interrupted;
        if (polled[0].revents != 0) {
            drain(wake_fd);
            continue;
        }
        if (polled[1].revents != 0) return awake(Wake::orders);
        if (left <= rest) {
            if (left > 0) {
                const timespec pause{0, static_cast<long>(left)};
                ::nanosleep(&pause, nullptr);
            }
            return awake(is_over(iteration) ? Wake::finished : Wake::timeout);
        }
    }
}

bool Signal::push(Index worker, const Arrival& arrival, bool wake_master, int master_fd) {
    Lane& mine = lane(worker);
    const std::uint64_t head = mine.head.load(std::memory_order_relaxed);
    if (head - mine.tail.load(std::memory_order_acquire) >= static_cast<std::uint64_t>(capacity_))
        return false;
    mine.entries[head % static_cast<std::uint64_t>(capacity_)] = arrival;
    mine.head.store(head + 1);
    if (wake_master && shared_->master_sleeps.exchange(0) != 0) wake(master_fd);
    return true;
}

void leave_with(int socket_fd) {
    std::thread([socket_fd] {
        for (;;) {
            // Not POLLIN: what lies in the socket is for the worker itself.
            pollfd polled{socket_fd, POLLRDHUP, 0};
            if (::poll(&polled, 1, -1) >= 0) ::_exit(0);
        }
    }).detach();
}

}  // namespace cgc
