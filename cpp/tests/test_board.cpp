// Claims and commitments under real concurrency: threads play workers, and a master that takes their sums and
// withdraws them at any moment.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <limits>
#include <mutex>
#include <numeric>
#include <random>
#include <thread>
#include <vector>

#include "cgc/board.hpp"
#include "cgc/watched_sleep.hpp"
#include "check.hpp"

namespace {

using cgc::Board;
using cgc::Index;

struct Memory {
    void* data;
    Memory(Index workers, Index cells) : Memory(Board::bytes(workers, cells)) {}
    explicit Memory(std::size_t needed) {
        const std::size_t size = (needed + 63) / 64 * 64;
        data = std::aligned_alloc(64, size);
        for (std::size_t i = 0; i < size; ++i) static_cast<unsigned char*>(data)[i] = 0;
    }
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;
    ~Memory() { std::free(data); }
};

void claims_go_round() {
    Memory memory(2, 3);
    Board board(memory.data, 2, 3);
    const Index forward[] = {0, 1, 2}, backward[] = {2, 1, 0};
    CHECK(board.claim_free(1, forward, 0) == 0);
    CHECK(board.claim_free(1, backward, 0) == 0);
    CHECK(board.claim_free(1, forward, 1) == 1);
    CHECK(board.claim_free(1, backward, 1) == 3);
    // All have one claimant: the first; then the others have fewer.
    CHECK(board.claim_again(1, backward) == 0);
    CHECK(board.claim_again(1, backward) == 1);
    CHECK(board.claimants(1, 0) == 1);
    CHECK(board.claimants(1, 2) == 2);
    CHECK(board.claimants(2, 2) == 0);
    CHECK(board.commit(1, 0, board.generation(0), 0));
    CHECK(board.claim_again(1, backward) == 0);
    board.announce(1, 1);
    board.announce(1, 2);
    CHECK(board.claim_again(1, backward) == -1);
    // Nothing is left of it in the next iteration, and who is late finds everything claimed.
    CHECK(board.claim_free(2, forward, 0) == 0);
    CHECK(board.claim_free(1, forward, 0) == 3);
    CHECK_THROWS(Board::bytes(0, 1), std::invalid_argument);
    CHECK_THROWS(Board::bytes(Board::most_workers + 1, 1), std::invalid_argument);
    CHECK_THROWS(Board::bytes(1, 0), std::invalid_argument);
}

void commitments_hold_until_they_are_withdrawn() {
    Memory memory(2, 2);
    Board board(memory.data, 2, 2);
    const std::uint32_t before = board.generation(0);
    CHECK(board.commit(1, 0, before, 0));
    CHECK(board.is_taken(1, 0));
    CHECK(board.committed_by(1, 0) == 0);
    CHECK(board.committed_by(2, 0) == -1);
    CHECK(board.committed_by(1, 1) == -1);
    CHECK(!board.is_announced(1, 0));
    CHECK(!board.commit(1, 1, board.generation(1), 0));
    CHECK(!board.commit(1, 0, before, 0));
    board.withdraw(0);
    CHECK(board.generation(0) != before);
    CHECK(board.committed_by(1, 0) == -1);
    CHECK(!board.is_taken(1, 0));
    CHECK(!board.commit(1, 0, before, 1));
    CHECK(board.commit(1, 1, board.generation(1), 0));
    CHECK(!board.commit(1, 0, board.generation(0), 0));
    // What is announced is decoded, whatever becomes of who did it.
    board.announce(1, 0);
    board.withdraw(1);
    CHECK(board.is_taken(1, 0));
    CHECK(!board.commit(1, 0, board.generation(0), 0));
    // The next iteration is open; the last one is not open to who is late.
    CHECK(!board.is_taken(2, 0));
    CHECK(board.commit(2, 0, board.generation(0), 0));
    CHECK(!board.commit(1, 1, board.generation(1), 0));
    CHECK(board.is_taken(1, 0));
}

// Many rounds: workers claim, commit and hand in lists; the master takes a list only if its generation is
// current, announces its cells, and withdraws workers at random. In the end every cell was taken once.
void every_cell_enters_one_sum() {
    constexpr Index workers = 4, cells = 40;
    constexpr std::uint32_t iterations = 300;
    struct Sum {
        Index worker;
        std::uint32_t iteration, generation;
        std::vector<Index> cells;
    };
    Memory memory(workers, cells);
    std::mutex mutex;  // of the letter-box only; the board needs none
    std::vector<Sum> box;
    std::atomic<std::uint32_t> iteration{1};
    std::atomic<bool> over{false};

    std::vector<std::thread> threads;
    for (Index w = 0; w < workers; ++w)
        threads.emplace_back([&, w] {
            Board board(memory.data, workers, cells);
            std::vector<Index> walk(cells);
            std::iota(walk.begin(), walk.end(), 0);
            std::rotate(walk.begin(), walk.begin() + w * cells / workers, walk.end());
            std::mt19937 random(static_cast<unsigned>(w));
            while (!over) {
                const std::uint32_t now = iteration;
                Sum sum{w, now, board.generation(w), {}};
                Index next = 0;
                for (;;) {
                    next = board.claim_free(now, walk, next);
                    const Index at = next < cells ? next : board.claim_again(now, walk);
                    if (at < 0) break;
                    if (random() % 8 == 0) std::this_thread::yield();
                    if (board.generation(w) != sum.generation)  // withdrawn: begin a new sum
                        sum = {w, now, board.generation(w), {}};
                    if (board.commit(now, w, sum.generation, walk[static_cast<std::size_t>(at)]))
                        sum.cells.push_back(walk[static_cast<std::size_t>(at)]);
                    if (random() % 16 == 0 || over) break;  // hands in early, and comes back
                }
                const std::lock_guard<std::mutex> lock(mutex);
                if (!sum.cells.empty()) box.push_back(std::move(sum));
            }
        });

    Board board(memory.data, workers, cells);
    std::mt19937 random(99);
    std::vector<int> taken(cells, 0);
    Index open = cells;
    while (iteration <= iterations) {
        std::vector<Sum> sums;
        {
            const std::lock_guard<std::mutex> lock(mutex);
            sums.swap(box);
        }
        for (const Sum& sum : sums) {
            if (sum.iteration != iteration || sum.generation != board.generation(sum.worker)) continue;
            for (const Index cell : sum.cells) {
                CHECK(++taken[static_cast<std::size_t>(cell)] == 1);
                --open;
                board.announce(iteration, cell);
            }
        }
        if (random() % 4 == 0) board.withdraw(static_cast<Index>(random() % workers));
        if (open == 0) {
            CHECK(std::all_of(taken.begin(), taken.end(), [](int count) { return count == 1; }));
            std::fill(taken.begin(), taken.end(), 0);
            open = cells;
            ++iteration;
        }
        std::this_thread::yield();
    }
    over = true;
    for (auto& thread : threads) thread.join();
}

// A sleep without end does end when somebody else is first, when what was committed is withdrawn, and when
// the iteration is over.
void a_sleep_ends_when_its_visit_is_not_wanted() {
    using cgc::Wake;
    constexpr std::int64_t forever = std::numeric_limits<std::int64_t>::max();
    Memory memory(2, 3), lanes(cgc::Signal::bytes(2, 4));
    cgc::Signal signal(lanes.data, 2, 4);
    const double times[2] = {1.0, 1.0};
    const int no_fds[2] = {-1, -1};
    signal.publish(1, times, false, no_fds);
    Board board(memory.data, 2, 3);
    const Index cells[] = {0};
    CHECK(board.claim_free(1, cells, 0) == 0);

    std::atomic<int> ended = 0;
    const std::uint32_t generation = board.generation(1);
    std::thread sleeper([&, generation] {
        cgc::Signal own(lanes.data, 2, 4);
        Board seen(memory.data, 2, 3);
        const auto sleep = [&](Index cell, std::uint32_t begun_in, std::int64_t until_ns) {
            const Wake why = cgc::sleep_while_wanted(own, seen, {1, 1, begun_in, cell}, until_ns, -1, -1);
            ++ended;
            return why;
        };
        CHECK(sleep(1, generation, cgc::monotonic_ns() + 3'000'000) == Wake::timeout);
        CHECK(!seen.is_taken(1, 1));
        CHECK(sleep(0, generation, forever) == Wake::timeout);
        CHECK(seen.is_taken(1, 0));
        CHECK(sleep(1, generation, forever) == Wake::timeout);
        CHECK(seen.generation(1) == 1);
        CHECK(sleep(2, generation + 1, forever) == Wake::finished);
    });
    const auto wait_for = [&](int count) {
        while (ended < count) std::this_thread::yield();
    };
    wait_for(1);
    CHECK(board.claim_again(1, cells) == 0);  // contested from here on
    CHECK(board.commit(1, 0, board.generation(0), 0));
    wait_for(2);
    board.withdraw(1);
    wait_for(3);
    signal.finish(1);
    sleeper.join();
}

// A sum is handed over in the sleep, once, as soon as nothing is left to visit; not while something is, nor
// if what is in it was withdrawn.
void a_sum_is_handed_over_when_nothing_is_left() {
    using cgc::Wake;
    Memory memory(2, 2), lanes(cgc::Signal::bytes(2, 4));
    cgc::Signal signal(lanes.data, 2, 4);
    const double times[2] = {1.0, 1.0};
    int ends[2];
    CHECK(::pipe(ends) == 0);
    const int wake_fds[2] = {-1, ends[1]};
    signal.publish(1, times, false, wake_fds);
    Board board(memory.data, 2, 2);
    const Index cells[] = {0, 1};
    const cgc::OpenSum sum{cells, 9, false, 5, -1};
    const auto sleep = [&](std::uint32_t generation) {
        const std::int64_t until_ns = cgc::monotonic_ns() + 1'000'000'000;
        return cgc::sleep_while_wanted(signal, board, {1, 1, generation, 0}, until_ns, ends[0], -1, &sum);
    };
    cgc::Arrival arrival;
    CHECK(board.commit(1, 0, board.generation(0), 0));
    CHECK(sleep(0) == Wake::timeout);
    CHECK(!signal.pop(1, arrival));
    board.announce(1, 1);
    board.withdraw(1);
    CHECK(sleep(0) == Wake::timeout);
    CHECK(!signal.pop(1, arrival));
    for (int i = 0; i < 4; ++i) CHECK(signal.push(1, {}, false, -1));
    CHECK(sleep(1) == Wake::timeout);  // there is no room for it
    while (signal.pop(1, arrival)) continue;
    std::thread sleeper([&] { CHECK(sleep(1) == Wake::answered); });
    while (!signal.pop(1, arrival)) std::this_thread::yield();
    CHECK(arrival.iteration == 1 && arrival.slot == 9 && arrival.finite == 1 && arrival.began_ns == 5);
    signal.publish(2, times, false, wake_fds);
    sleeper.join();
    CHECK(!signal.pop(1, arrival));
    for (const int end : ends) ::close(end);
}

}  // namespace

int main() {
    claims_go_round();
    commitments_hold_until_they_are_withdrawn();
    every_cell_enters_one_sum();
    a_sleep_ends_when_its_visit_is_not_wanted();
    a_sum_is_handed_over_when_nothing_is_left();
    return failures != 0;
}
