// Boundary crossings that can be worked out by hand.
#include <cmath>
#include <stdexcept>
#include <vector>

#include "cgc/boundary_crossing.hpp"
#include "check.hpp"

using cgc::Index;
using Vector = std::vector<double>;

static void test_two_points() {
    // P[U_(1) <= a, U_(2) <= b] = b^2 - (b - a)^2 = 2ab - a^2.
    cgc::BoundaryCrossing crossing(2);
    const double a = 0.25, b = 0.75;
    Vector dropped(2), onward(2);
    const auto found = crossing.evaluate(Vector{a, b}, Vector{1 - a, 1 - b}, true, dropped, onward);
    CHECK_CLOSE(found.inside, 2 * a * b - a * a, 1e-15);
    CHECK_CLOSE(found.failure, 1 - 2 * a * b + a * a, 1e-15);
    CHECK_CLOSE(2 * dropped[0] * onward[0], 2 * b - 2 * a, 1e-14);
    CHECK_CLOSE(2 * dropped[1] * onward[1], 2 * a, 1e-14);
    // The only mixed derivative is 2, and N^2 = 4.
    Vector total(4, 0.0);
    crossing.add_coupling(Vector{a, b}, dropped, onward, Vector{1.0, 1.0}, 1.0, {total.data(), 2, 2, 2});
    CHECK_CLOSE(4 * total[1], 2.0, 1e-14);
}

static void test_second_derivatives_of_two_points() {
    cgc::BoundaryCrossing crossing(2);
    const double a = 0.25, b = 0.75;
    Vector gradient(2), hessian(4);
    crossing.second_order(Vector{a, b}, Vector{1 - a, 1 - b}, gradient, {hessian.data(), 2, 2, 2});
    const Vector first{2 * b - 2 * a, 2 * a}, second{-2.0, 2.0, 2.0, 0.0};
    for (int i = 0; i < 2; ++i) CHECK_CLOSE(gradient[i], first[i], 1e-14);
    for (int i = 0; i < 4; ++i) CHECK_CLOSE(hessian[i], second[i], 1e-14);
}

static void test_many_points_below_one_bound() {
    const Index points = 2000;  // means beyond where exp(-mean) is a number
    cgc::BoundaryCrossing crossing(points);
    const double bound = 0.999;
    Vector dropped(points);
    const auto found = crossing.evaluate(Vector(points, bound), Vector(points, 1 - bound), true, dropped, {});
    CHECK_CLOSE(found.inside, std::pow(bound, 2000.0), 1e-12);
    CHECK_CLOSE(found.failure, 1 - std::pow(bound, 2000.0), 1e-12);
}

static void test_poisson_probability() {
    CHECK_CLOSE(cgc::poisson_probability(0, 0.0), 1.0, 0.0);
    CHECK_CLOSE(cgc::poisson_probability(3, 0.0), 0.0, 0.0);
    CHECK_CLOSE(cgc::poisson_probability(3, 2.0), std::exp(-2.0) * 8.0 / 6.0, 1e-15);
}

int main() {
    test_two_points();
    test_second_derivatives_of_two_points();
    test_many_points_below_one_bound();
    test_poisson_probability();
    CHECK_THROWS(cgc::BoundaryCrossing(0), std::invalid_argument);
    return failures != 0;
}
