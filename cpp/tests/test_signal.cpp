// The signal under real concurrency: threads play the master and its workers.
#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <memory>
#include <thread>
#include <vector>

#include "cgc/signal.hpp"
#include "check.hpp"

namespace {

struct Pipe {
    int read = -1, write = -1;
    Pipe() {
        int ends[2];
        if (::pipe(ends) != 0) std::abort();
        read = ends[0];
        write = ends[1];
        ::fcntl(read, F_SETFL, O_NONBLOCK);
        ::fcntl(write, F_SETFL, O_NONBLOCK);
    }
    Pipe(const Pipe&) = delete;
    Pipe& operator=(const Pipe&) = delete;
    ~Pipe() {
        ::close(read);
        if (write >= 0) ::close(write);
    }
    void hang_up() {
        ::close(write);
        write = -1;
    }
};

struct Memory {
    void* data;
    Memory(cgc::Index workers, cgc::Index capacity) {
        const std::size_t size = (cgc::Signal::bytes(workers, capacity) + 63) / 64 * 64;
        data = std::aligned_alloc(64, size);
        for (std::size_t i = 0; i < size; ++i) static_cast<unsigned char*>(data)[i] = 0;
    }
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;
    ~Memory() { std::free(data); }
};

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

// Many short iterations: every worker answers every visit; nothing is lost, doubled or out of order.
void many_iterations() {
    constexpr cgc::Index workers = 3, visits = 5;
    constexpr std::uint64_t iterations = 2000;
    Memory memory(workers, 2 * visits + 2);
    Pipe master, lifeline;
    std::vector<std::unique_ptr<Pipe>> wakes;
    std::vector<int> wake_fds;
    for (cgc::Index w = 0; w < workers; ++w) {
        wakes.push_back(std::make_unique<Pipe>());
        wake_fds.push_back(wakes.back()->write);
    }
    std::vector<std::thread> threads;
    for (cgc::Index w = 0; w < workers; ++w)
        threads.emplace_back([&, w] {
            cgc::Signal signal(memory.data, workers, 2 * visits + 2);
            std::uint64_t last = 0;
            while (signal.wait_for_iteration(w, last, wakes[static_cast<std::size_t>(w)]->read, lifeline.read,
                                             last) == cgc::Wake::iteration)
                for (std::uint32_t v = 0; v < visits; ++v)
                    // Every other entry leaves it to the next one to wake the master.
                    CHECK(signal.push(w, {last, v, 1, 0, static_cast<std::int64_t>(w)}, v % 2 == 0,
                                      master.write));
        });
    cgc::Signal signal(memory.data, workers, 2 * visits + 2);
    const std::vector<double> times(workers, nan);
    const int fds[2] = {master.read, lifeline.read};
    bool ready[2];
    for (std::uint64_t i = 1; i <= iterations; ++i) {
        signal.publish(i, times, false, wake_fds);
        std::uint32_t next[workers] = {};
        cgc::Index arrived = 0;
        while (arrived < workers * visits) {
            cgc::Arrival arrival;
            for (cgc::Index w = 0; w < workers; ++w)
                while (signal.pop(w, arrival)) {
                    CHECK(arrival.iteration == i);
                    CHECK(arrival.slot == next[w]++);
                    CHECK(arrival.ended_ns == w);
                    ++arrived;
                }
            if (arrived < workers * visits) CHECK(signal.wait(fds, ready, 10.0));
        }
        signal.finish(i);
    }
    signal.stop(wake_fds);
    for (auto& thread : threads) thread.join();
    cgc::Arrival arrival;
    for (cgc::Index w = 0; w < workers; ++w) CHECK(!signal.pop(w, arrival));
}

void sleeps_end() {
    Memory memory(1, 4);
    Pipe master, lifeline, wake;
    cgc::Signal signal(memory.data, 1, 4);
    const int wake_fds[1] = {wake.write};
    const double times[1] = {2.5};
    signal.publish(1, times, true, wake_fds);
    CHECK(signal.cycle_time(0, 1) == 2.5);
    CHECK(!signal.is_over(1));
    CHECK(signal.with_value(1));
    CHECK(signal.published() == 1);

    const std::int64_t until = cgc::monotonic_ns() + 3'000'000;
    CHECK(signal.sleep_until(0, 1, until, wake.read, lifeline.read) == cgc::Wake::timeout);
    CHECK(cgc::monotonic_ns() >= until);

    // A sleep without end is ended by the next iteration ...
    std::thread publisher([&] { signal.publish(2, times, false, wake_fds); });
    CHECK(signal.sleep_until(0, 1, std::numeric_limits<std::int64_t>::max(), wake.read, lifeline.read) ==
          cgc::Wake::finished);
    publisher.join();
    // ... by the end of its own iteration, if that is known before it begins ...
    signal.finish(2);
    CHECK(signal.is_over(2));
    CHECK(signal.sleep_until(0, 2, std::numeric_limits<std::int64_t>::max(), wake.read, lifeline.read) ==
          cgc::Wake::finished);
    // ... and by orders, which the death of the master, an end of file, looks like.
    std::uint64_t iteration = 0;
    lifeline.hang_up();
    CHECK(signal.sleep_until(0, 3, std::numeric_limits<std::int64_t>::max(), wake.read, lifeline.read) ==
          cgc::Wake::orders);
    CHECK(signal.wait_for_iteration(0, 2, wake.read, lifeline.read, iteration) == cgc::Wake::orders);
}

void wait_sees_what_happened() {
    Memory memory(1, 4);
    Pipe master, sentinel;
    cgc::Signal signal(memory.data, 1, 4);
    const int fds[2] = {master.read, sentinel.read};
    bool ready[2];
    CHECK(signal.wait(fds, ready, 0.0));
    CHECK(!ready[1]);
    // An entry that came while the master was awake wrote no wake-up, and yet the wait returns at once.
    CHECK(signal.push(0, {1, 0, 1, 0, 0}, true, master.write));
    CHECK(signal.wait(fds, ready, -1.0));
    cgc::Arrival arrival;
    CHECK(signal.pop(0, arrival));
    sentinel.hang_up();
    CHECK(signal.wait(fds, ready, -1.0));
    CHECK(ready[1]);
}

void ring_is_bounded() {
    Memory memory(1, 2);
    Pipe master;
    cgc::Signal signal(memory.data, 1, 2);
    CHECK(signal.push(0, {1, 0, 1, 0, 0}, true, master.write));
    CHECK(signal.push(0, {1, 1, 1, 0, 0}, true, master.write));
    CHECK(!signal.push(0, {1, 2, 1, 0, 0}, true, master.write));
    CHECK_THROWS(cgc::Signal::bytes(0, 1), std::invalid_argument);
}

void signs_of_life() {
    Memory memory(2, 2);
    Pipe wake, orders;
    cgc::Signal signal(memory.data, 2, 2);
    const int wake_fds[2] = {wake.write, wake.write};
    const double times[2] = {nan, nan};
    signal.publish(1, times, false, wake_fds);
    CHECK(signal.progress(0, true).seen_ns == 0);
    CHECK(signal.look(0, 1, 0) == cgc::Look::go_on);
    const std::int64_t first = signal.progress(0, false).seen_ns;
    CHECK(first > 0);
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    signal.announce_orders(0);
    CHECK(signal.look(0, 1, 0) == cgc::Look::orders);
    CHECK(signal.look(0, 1, signal.orders(0)) == cgc::Look::go_on);
    const cgc::Progress then = signal.progress(0, true);
    CHECK(then.seen_ns >= first + 2'000'000);
    CHECK(then.longest_ns >= 2'000'000);
    CHECK(signal.progress(0, false).longest_ns == 0);
    CHECK(signal.progress(1, false).seen_ns == 0);
    // Whoever sleeps by intent has been seen in advance, and its sleep is no gap.
    const std::int64_t until = cgc::monotonic_ns() + 100'000'000;
    CHECK(signal.sleep_until(0, 1, until, wake.read, orders.read) == cgc::Wake::timeout);
    CHECK(signal.progress(0, false).longest_ns < 90'000'000);
    CHECK(signal.progress(0, false).iteration == 0);
    std::uint64_t iteration = 0;
    CHECK(signal.wait_for_iteration(0, 0, wake.read, orders.read, iteration) == cgc::Wake::iteration);
    CHECK(signal.progress(0, false).iteration == 1);
    signal.finish(1);
    CHECK(signal.look(0, 1, signal.orders(0)) == cgc::Look::over);
    signal.renew(0);
    CHECK(signal.progress(0, false).seen_ns == 0);
}

}  // namespace

int main() {
    signs_of_life();
    many_iterations();
    sleeps_end();
    wait_sees_what_happened();
    ring_is_bounded();
    return failures != 0;
}
