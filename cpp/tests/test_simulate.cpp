// Small schedules whose iterations can be followed by hand.
#include <stdexcept>
#include <utility>
#include <vector>

#include "cgc/simulate.hpp"
#include "check.hpp"

using namespace cgc;

namespace {

// Every worker visits whole cells over all samples, one coordinate each, in the given order.
struct Example {
    std::vector<Index> offsets{0}, cells, rows, interval_offsets{0};
    std::vector<double> fractions, lows, highs;
    std::vector<Index> widths, ranges, required_rows;

    explicit Example(std::vector<Index> required) : required_rows(std::move(required)) {
        for (std::size_t cell = 0; cell < required_rows.size(); ++cell) {
            widths.push_back(1);
            ranges.push_back(static_cast<Index>(cell));
        }
    }
    void walk(const std::vector<Index>& order) {
        const Index row = static_cast<Index>(offsets.size()) - 1;
        for (const Index cell : order) {
            cells.push_back(cell);
            rows.push_back(row);
            fractions.push_back(1.0);
            lows.push_back(0.0);
            highs.push_back(1.0);
            interval_offsets.push_back(static_cast<Index>(lows.size()));
        }
        offsets.push_back(static_cast<Index>(cells.size()));
    }
    CompiledSchedule compile() const {
        return {{offsets, cells, rows, fractions, interval_offsets, lows, highs},
                {widths, ranges, required_rows}};
    }
};

struct Result {
    std::vector<double> runtime, decode_times, values_sent;
};

Result run(const Example& example, Feedback feedback, std::vector<double> cycle_times, double delay,
           double latency) {
    const CompiledSchedule schedule = example.compile();
    const Index workers = schedule.workers(), cells = schedule.cells();
    const std::vector<double> delays(workers, delay);
    Result result{std::vector<double>(1), std::vector<double>(cells), std::vector<double>(workers)};
    simulate(schedule, feedback, {},
             {{cycle_times.data(), 1, workers, workers}, {delays.data(), 1, workers, workers}, latency},
             {result.runtime,
              {result.decode_times.data(), 1, cells, cells},
              {result.values_sent.data(), 1, workers, workers}});
    return result;
}

void test_without_feedback_everything_is_visited() {
    Example example({1, 2, 1});
    example.walk({0, 1, 2});
    example.walk({0, 1, 2});
    const Result result = run(example, Feedback::none, {1.0, 5.0}, 0.5, 0.0);
    CHECK(result.decode_times == std::vector<double>({1.5, 10.5, 3.5}));
    CHECK(result.runtime[0] == 10.5);
    CHECK(result.values_sent == std::vector<double>({3.0, 2.0}));

    const Result dead = run(example, Feedback::none, {1.0, INFINITY}, 0.5, 0.0);
    CHECK(dead.decode_times == std::vector<double>({1.5, INFINITY, 3.5}));
    CHECK(dead.runtime[0] == INFINITY);
    CHECK(dead.values_sent == std::vector<double>({3.0, 0.0}));
}

// Two workers walk six cells towards each other. The fast one does the first five; the slow one does the
// last, and the iteration ends while it is in the one before.
void test_a_pair_meets() {
    Example example({1, 1, 1, 1, 1, 1});
    example.walk({0, 1, 2, 3, 4, 5});
    example.walk({5, 4, 3, 2, 1, 0});
    const Result result = run(example, Feedback::announce, {1.0, 3.5}, 0.0, 0.25);
    CHECK(result.decode_times == std::vector<double>({1.0, 2.0, 3.0, 4.0, 5.0, 3.5}));
    CHECK(result.runtime[0] == 5.0);
    CHECK(result.values_sent == std::vector<double>({5.0, 1.0}));
}

// The slow worker is in its first cell when it hears, at 3.5, that this is done, and starts its second then.
void test_an_announcement_ends_the_visit_under_way() {
    Example example({1, 1, 1, 2});
    example.walk({0, 1, 2, 3});
    example.walk({2, 3});
    const Result result = run(example, Feedback::announce, {1.0, 5.0}, 0.0, 0.5);
    CHECK(result.decode_times == std::vector<double>({1.0, 2.0, 3.0, 8.5}));
    CHECK(result.values_sent == std::vector<double>({4.0, 1.0}));
}

// Claims: 0 takes a, 1 takes b; 0 takes c at 1 and is done at 2. Then 0 claims b again, which 1 would finish
// only at 9, has it at 3 and sends the sum of all three cells.
void test_an_outstanding_cell_is_claimed_again() {
    Example example({1, 1, 1});
    example.walk({0, 1, 2});
    example.walk({0, 1, 2});
    for (const double slow : {9.0, HUGE_VAL}) {
        const Result result = run(example, Feedback::claim, {1.0, slow}, 0.5, 0.0);
        CHECK(result.decode_times == std::vector<double>({3.5, 3.5, 3.5}));
        CHECK(result.values_sent == std::vector<double>({3.0, 0.0}));
    }
    // With a latency of 1/4 worker 1 waits for b; 0 asks ahead, and only the word that nothing is left is
    // late.
    const Result late = run(example, Feedback::claim, {1.0, 9.0}, 0.0, 0.25);
    CHECK(late.runtime[0] == 3 * 1.0 + 0.25);

    Example coded({2});
    coded.walk({0});
    coded.walk({0});
    CHECK_THROWS(run(coded, Feedback::claim, {1.0, 1.0}, 0.0, 0.0), std::invalid_argument);
}

void test_threads_share_the_draws() {
    Example example({1, 1, 1, 1});
    example.walk({0, 1, 2, 3});
    example.walk({3, 2, 1, 0});
    example.walk({1, 3, 0, 2});
    const CompiledSchedule schedule = example.compile();
    const Index draws = 57, workers = 3, cells = 4;
    std::vector<double> times, delays(workers, 0.25);
    for (Index i = 0; i < draws * workers; ++i) times.push_back(1.0 + static_cast<double>(i * 37 % 101));
    for (const Feedback feedback : {Feedback::none, Feedback::announce, Feedback::claim}) {
        std::vector<Result> results;
        for (const Index threads : {1, 2, 5, 100}) {
            results.push_back({std::vector<double>(draws), std::vector<double>(draws * cells),
                               std::vector<double>(draws * workers)});
            Result& result = results.back();
            simulate(schedule, feedback, {},
                     {{times.data(), draws, workers, workers}, {delays.data(), 1, workers, workers}, 0.5},
                     {result.runtime,
                      {result.decode_times.data(), draws, cells, cells},
                      {result.values_sent.data(), draws, workers, workers}},
                     threads);
        }
        for (const Result& result : results) {
            CHECK(result.runtime == results[0].runtime);
            CHECK(result.decode_times == results[0].decode_times);
            CHECK(result.values_sent == results[0].values_sent);
        }
        CHECK(results[0].runtime[0] > 0.0);
    }
}

}  // namespace

int main() {
    test_threads_share_the_draws();
    test_without_feedback_everything_is_visited();
    test_a_pair_meets();
    test_an_announcement_ends_the_visit_under_way();
    test_an_outstanding_cell_is_claimed_again();
    return failures != 0;
}
