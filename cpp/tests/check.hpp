// A check that reports where it failed and lets the rest of the test run; main() fails if any has.
#pragma once

#include <cmath>
#include <cstdio>

inline int failures = 0;

#define CHECK(condition)                                                                 \
    do {                                                                                 \
        if (!(condition)) {                                                              \
            ++failures;                                                                  \
            std::fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition); \
        }                                                                                \
    } while (false)

#define CHECK_CLOSE(got, expected, tolerance)                                                                \
    do {                                                                                                     \
        const double got_value = (got), expected_value = (expected);                                         \
        if (!(std::fabs(got_value - expected_value) <= (tolerance))) {                                       \
            ++failures;                                                                                      \
            std::fprintf(stderr, "%s:%d: %s = %.17g, expected %.17g\n", __FILE__, __LINE__, #got, got_value, \
                         expected_value);                                                                    \
        }                                                                                                    \
    } while (false)

#define CHECK_THROWS(expression, exception)                                                              \
    do {                                                                                                 \
        bool thrown = false;                                                                             \
        try {                                                                                            \
            (void)(expression);                                                                          \
        } catch (const exception&) {                                                                     \
            thrown = true;                                                                               \
        }                                                                                                \
        if (!thrown) {                                                                                   \
            ++failures;                                                                                  \
            std::fprintf(stderr, "%s:%d: no %s from %s\n", __FILE__, __LINE__, #exception, #expression); \
        }                                                                                                \
    } while (false)
