// Minima that can be worked out by hand.
#include <stdexcept>
#include <vector>

#include "cgc/simplex_quadratic.hpp"
#include "check.hpp"

using Vector = std::vector<double>;

static void test_inside() {
    // y1^2 + y2^2 / 2 + y3^2 / 3 on the simplex: y = (1, 2, 3) / 6.
    const Vector gradient{0.0, 0.0, 0.0}, hessian{2.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 2.0 / 3.0};
    Vector y{1.0, 0.0, 0.0};
    CHECK(cgc::minimise_on_simplex(gradient, {hessian.data(), 3, 3, 3}, 1e-14, y) > 0);
    // Values within 1e-14 of the least, curvature 1 or so: 1e-7.
    for (int i = 0; i < 3; ++i) CHECK_CLOSE(y[i], (i + 1) / 6.0, 1e-7);
}

static void test_at_the_boundary() {
    // Level 2 costs more than it can be worth.
    const Vector gradient{0.0, 0.0, 5.0}, hessian{1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0};
    Vector y{1.0, 1.0, 8.0};
    cgc::minimise_on_simplex(gradient, {hessian.data(), 3, 3, 3}, 1e-13, y);
    CHECK_CLOSE(y[0], 0.5, 1e-6);
    CHECK_CLOSE(y[1], 0.5, 1e-6);
    CHECK_CLOSE(y[2], 0.0, 1e-13);
}

static void test_linear_and_single() {
    const Vector gradient{3.0, 2.0}, hessian(4, 0.0);
    Vector y{0.5, 0.5};
    cgc::minimise_on_simplex(gradient, {hessian.data(), 2, 2, 2}, 1e-12, y);
    CHECK_CLOSE(y[1], 1.0, 1e-12);
    Vector one{0.3};
    CHECK(cgc::minimise_on_simplex(Vector{1.0}, {hessian.data(), 1, 1, 1}, 1e-12, one) == 0);
    CHECK_CLOSE(one[0], 1.0, 0.0);
}

static void test_concave_is_refused() {
    const Vector gradient{0.0, 0.0}, hessian{-1e3, 0.0, 0.0, -1e3};
    Vector y{0.5, 0.5};
    CHECK_THROWS(cgc::minimise_on_simplex(gradient, {hessian.data(), 2, 2, 2}, 1e-12, y), std::domain_error);
}

int main() {
    test_inside();
    test_at_the_boundary();
    test_linear_and_single();
    test_concave_is_refused();
    return failures != 0;
}
