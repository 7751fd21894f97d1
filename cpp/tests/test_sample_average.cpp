// Means of maxima on a case that can be worked out by hand.
#include <limits>
#include <vector>

#include "cgc/sample_average.hpp"
#include "check.hpp"

using Vector = std::vector<double>;

static void test_value_and_subgradient() {
    const Vector times{4.0, 2.0, 1.0, 2.0, 2.0, 1.0};  // two draws, three levels
    Vector mass(3);
    // Draw 0: max(4, 6, 4) at level 1; draw 1: max(2, 6, 4) at level 1.
    CHECK_CLOSE(cgc::mean_maximum({times.data(), 2, 3, 3}, Vector{1.0, 3.0, 4.0}, mass), 6.0, 0.0);
    CHECK_CLOSE(mass[0], 0.0, 0.0);
    CHECK_CLOSE(mass[1], 2.0, 0.0);
    // Without level 1: max(4, 4), the first on ties, and max(2, 4).
    CHECK_CLOSE(cgc::mean_maximum({times.data(), 2, 3, 3}, Vector{1.0, 0.0, 4.0}, mass), 4.0, 0.0);
    CHECK_CLOSE(mass[0], 2.0, 0.0);
    CHECK_CLOSE(mass[1], 0.0, 0.0);
    CHECK_CLOSE(mass[2], 0.5, 0.0);
}

static void test_levels_left_out_may_never_come() {
    const double never = std::numeric_limits<double>::infinity();
    const Vector times{never, 2.0, never, 3.0};
    Vector mass(2);
    CHECK_CLOSE(cgc::mean_maximum({times.data(), 2, 2, 2}, Vector{0.0, 2.0}, mass), 5.0, 0.0);
    CHECK_CLOSE(mass[0], 0.0, 0.0);
    CHECK_CLOSE(mass[1], 2.5, 0.0);
}

int main() {
    test_value_and_subgradient();
    test_levels_left_out_may_never_come();
    return failures != 0;
}
