// Projection, runtimes and subgradient iterations on cases that can be worked out by hand.
#include <limits>
#include <stdexcept>
#include <vector>

#include "cgc/partition.hpp"
#include "cgc/runtime.hpp"
#include "cgc/subgradient.hpp"
#include "check.hpp"

using cgc::Index;
using Vector = std::vector<double>;

static void test_projection() {
    Vector scratch(3), x(3);
    cgc::project_onto_simplex(Vector{0.5, 0.25, 0.25}, 1.0, x, scratch);  // already there
    CHECK_CLOSE(x[0], 0.5, 0.0);
    CHECK_CLOSE(x[1], 0.25, 0.0);
    cgc::project_onto_simplex(Vector{2.0, 1.5, -7.0}, 1.0, x, scratch);  // threshold (3.5 - 1) / 2
    CHECK_CLOSE(x[0], 0.75, 0.0);
    CHECK_CLOSE(x[1], 0.25, 0.0);
    CHECK_CLOSE(x[2], 0.0, 0.0);
    Vector in_place{-5.0, -5.0, -5.0};  // all negative: the total is shared
    cgc::project_onto_simplex(in_place, 6.0, in_place, scratch);
    for (double value : in_place) CHECK_CLOSE(value, 2.0, 0.0);
}

static void test_runtimes() {
    const double never = std::numeric_limits<double>::infinity();
    const Vector times{never, 2.0, 1.0, 4.0, 3.0, 1.0};  // two draws, three levels
    Vector out(2);
    cgc::level_runtimes({times.data(), 2, 3, 3}, Vector{0.0, 5.0, 8.0}, out);
    CHECK_CLOSE(out[0], 10.0, 0.0);  // the level that never comes is empty
    CHECK_CLOSE(out[1], 15.0, 0.0);
    cgc::level_runtimes({times.data(), 2, 3, 3}, Vector{1.0, 5.0, 8.0}, out);
    CHECK(out[0] == never);
}

static void test_groups() {
    const Vector times{3.0, 1.0, 4.0, 1.5, 5.0};  // one draw, five workers
    const std::vector<Index> groups{1, 2, 5, 2};
    Vector cycles(20, 1.0);
    for (Index w = 0; w < 5; ++w) cycles[15 + w] = 0.0;  // an empty level
    Vector out(4);
    cgc::group_times({times.data(), 1, 5, 5}, groups, {cycles.data(), 4, 5, 5}, {out.data(), 1, 4, 4});
    CHECK_CLOSE(out[0], 1.0, 0.0);
    CHECK_CLOSE(out[1], 1.5, 0.0);  // groups {0, 1, 2} and {3, 4}
    CHECK_CLOSE(out[2], 5.0, 0.0);
    CHECK_CLOSE(out[3], 0.0, 0.0);
}

static void test_subgradient() {
    // One draw, R = (2, 1), work (1, 2), total 1: f(x) = max(2 x_0, x_0 + 2 x_1), least 4/3 at x = (2/3,
    // 1/3).
    const Vector draw{2.0, 1.0};
    Vector times;
    for (int repeat = 0; repeat < 20000; ++repeat) times.insert(times.end(), draw.begin(), draw.end());
    cgc::SubgradientIterations iterations(Vector{1.0, 2.0}, Vector{0.0, 1.0}, 0.5, 0.75);
    Vector history(20000);
    iterations.run({times.data(), 20000, 2, 2}, 1, false, history);
    CHECK_CLOSE(history[0], 2.0, 0.0);
    iterations.run({times.data(), 20000, 2, 2}, 1, true, history);
    Vector x(2);
    iterations.average(x);
    // f_0 = 2 and |centred g| <= sqrt(2): the iterate stays within a step, 0.25 sqrt(2) / 20000^0.75 = 2e-4.
    CHECK_CLOSE(x[0], 2.0 / 3.0, 5e-4);
    CHECK_CLOSE(iterations.iterate()[0], 2.0 / 3.0, 5e-4);
    CHECK_CLOSE(x[0] + x[1], 1.0, 1e-12);
    Vector short_history(3);
    CHECK_THROWS(iterations.run({times.data(), 4, 2, 2}, 1, false, short_history), std::invalid_argument);
    CHECK_THROWS(cgc::SubgradientIterations(Vector{1.0}, Vector{0.0}, 0.5, 0.75), std::invalid_argument);
    CHECK_THROWS(cgc::SubgradientIterations(Vector{1.0}, Vector{1.0}, 0.0, 0.75), std::invalid_argument);
    CHECK_THROWS(cgc::SubgradientIterations(Vector{1.0}, Vector{1.0}, 0.5, 0.5), std::invalid_argument);
}

int main() {
    test_projection();
    test_runtimes();
    test_groups();
    test_subgradient();
    return failures != 0;
}
