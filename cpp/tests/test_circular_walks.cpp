// Walks around circles that can be followed by hand.
#include <limits>
#include <stdexcept>
#include <vector>

#include "cgc/circular_walks.hpp"
#include "check.hpp"

using namespace cgc;
using Vector = std::vector<double>;
using Indices = std::vector<Index>;

namespace {

struct Example {
    Indices groups, backward;
    Vector starts;
    Index workers;

    CoverTimes compile() const {
        const Index levels = static_cast<Index>(groups.size()) / workers;
        return CoverTimes({{groups.data(), levels, workers, workers},
                           {starts.data(), levels, workers, workers},
                           {backward.data(), levels, workers, workers}});
    }
};

struct Result {
    double runtime;
    Vector begin_slopes, around_slopes;
};

Result run(const Example& example, const Vector& times, const Vector& begin, const Vector& around) {
    const CoverTimes compiled = example.compile();
    const Index levels = compiled.levels(), workers = compiled.workers();
    Result result{0.0, Vector(begin.size()), Vector(begin.size())};
    compiled.run({times.data(), 1, workers, workers}, {begin.data(), levels, workers, workers},
                 {around.data(), levels, workers, workers}, {&result.runtime, 1},
                 {result.begin_slopes.data(), levels, workers, workers},
                 {result.around_slopes.data(), levels, workers, workers});
    return result;
}

// One forward and one backward from the same point: 12 cycles at rates 1 and 1/3, after 3 cycles each.
void test_a_pair_meets() {
    const Example pair{{0, 0}, {0, 1}, {0.0, 0.0}, 2};
    const Result result = run(pair, {1.0, 3.0}, {3.0, 3.0}, {12.0, 12.0});
    CHECK_CLOSE(result.runtime, (12.0 + 3.0 + 3.0) / (1.0 + 1.0 / 3.0), 1e-12);
    CHECK_CLOSE(result.begin_slopes[0], 0.75, 1e-12);
    CHECK_CLOSE(result.begin_slopes[1], 0.75, 1e-12);
    CHECK_CLOSE(result.around_slopes[0], 0.75, 1e-12);
    // If one never answers the other goes all the way around.
    const double never = std::numeric_limits<double>::infinity();
    CHECK_CLOSE(run(pair, {never, 3.0}, {3.0, 3.0}, {12.0, 12.0}).runtime, 45.0, 1e-12);
    CHECK(run(pair, {never, never}, {3.0, 3.0}, {12.0, 12.0}).runtime == never);
    CHECK(run(pair, {0.0, never}, {3.0, 3.0}, {12.0, 12.0}).runtime == 0.0);
}

// Both forward, half a circle apart: the slow one's half is done when the fast one comes around, or before.
void test_a_fast_worker_walks_on() {
    const Example chase{{0, 0}, {0, 0}, {0.0, 0.5}, 2};
    CHECK_CLOSE(run(chase, {1.0, 1.5}, {0.0, 0.0}, {8.0, 8.0}).runtime, 6.0, 1e-12);
    CHECK_CLOSE(run(chase, {1.0, 9.0}, {0.0, 0.0}, {8.0, 8.0}).runtime, 8.0, 1e-12);
}

void test_the_last_level_counts_and_empty_ones_do_not() {
    const Example two{{0, 1, 0, 0}, {0, 0, 0, 1}, {0.0, 0.0, 0.0, 0.0}, 2};
    CHECK_CLOSE(run(two, {1.0, 3.0}, {0.0, 0.0, 4.0, 4.0}, {4.0, 4.0, 8.0, 8.0}).runtime, 12.0, 1e-12);
    CHECK_CLOSE(run(two, {1.0, 3.0}, {0.0, 0.0, 4.0, 4.0}, {0.0, 0.0, 8.0, 8.0}).runtime, 12.0, 1e-12);
    CHECK_CLOSE(run(two, {1.0, 3.0}, {0.0, 0.0, 4.0, 4.0}, {4.0, 4.0, 0.0, 0.0}).runtime, 12.0, 1e-12);
    const Result small = run(two, {1.0, 3.0}, {0.0, 0.0, 4.0, 4.0}, {4.0, 4.0, 8e-12, 8e-12});
    CHECK_CLOSE(small.runtime, 12.0, 1e-12);
    CHECK_CLOSE(run(two, {1.0, 1.0}, {0.0, 0.0, 4.0, 4.0}, {0.0, 0.0, 1e-300, 1e-300}).runtime, 4.0, 1e-12);
}

void test_numbers_out_of_range_are_refused() {
    CHECK_THROWS((Example{{0, 2}, {0, 0}, {0.0, 0.0}, 2}.compile()), std::invalid_argument);
    CHECK_THROWS((Example{{0, 0}, {0, 0}, {0.0, 1.0}, 2}.compile()), std::invalid_argument);
}

}  // namespace

int main() {
    test_a_pair_meets();
    test_a_fast_worker_walks_on();
    test_the_last_level_counts_and_empty_ones_do_not();
    test_numbers_out_of_range_are_refused();
    return failures != 0;
}
