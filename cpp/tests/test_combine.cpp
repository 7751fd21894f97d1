#include <limits>
#include <random>
#include <vector>

#include "../src/dispatch.hpp"
#include "cgc/combine.hpp"
#include "check.hpp"

namespace {

using cgc::Index;
using cgc::View;

// Every length around the sizes of vectors and chunks, every count of rows around a group of eight, every
// start relative to a boundary of 16 bytes: the bits must be those of the plain loop, and the guards must
// stay.
template <class T>
void check_weighted_sum() {
    std::mt19937_64 generator(1);
    std::normal_distribution<T> normal;
    for (const Index length : {0, 1, 2, 3, 5, 8, 31, 8191, 8192, 8193, 16385})
        for (Index count = 0; count <= 17; ++count)
            for (Index start = 0; start < 4; ++start) {
                std::vector<std::vector<T>> buffers;
                std::vector<const T*> rows;
                std::vector<T> coefficients;
                for (Index i = 0; i < count; ++i) {
                    const Index offset = (start + i) % 4;
                    buffers.emplace_back(static_cast<std::size_t>(length + offset));
                    for (T& value : buffers.back()) value = normal(generator);
                    rows.push_back(buffers.back().data() + offset);
                    coefficients.push_back(normal(generator));
                }
                for (const bool accumulate : {false, true}) {
                    constexpr T guard = T(7);
                    std::vector<T> out(static_cast<std::size_t>(start + length + 1), guard);
                    cgc::weighted_sum<T, T>(rows, coefficients,
                                            View<T>(out).subspan(static_cast<std::size_t>(start),
                                                                 static_cast<std::size_t>(length)),
                                            accumulate);
                    bool same = out.back() == guard;
                    for (Index i = 0; i < start; ++i)
                        same = same && out[static_cast<std::size_t>(i)] == guard;
                    for (Index i = 0; i < length; ++i) {
                        T sum = accumulate ? guard : T(0);
                        for (Index r = 0; r < count; ++r) {
                            const T term = coefficients[static_cast<std::size_t>(r)] *
                                           rows[static_cast<std::size_t>(r)][i];
                            sum = r == 0 && !accumulate ? term : sum + term;
                        }
                        same = same && out[static_cast<std::size_t>(start + i)] == sum;
                    }
                    CHECK(same);
                }
            }
}

template <class T>
void check_all_finite() {
    using limits = std::numeric_limits<T>;
    for (const std::size_t length : {std::size_t{1}, std::size_t{15}, std::size_t{4096}, std::size_t{9001}}) {
        std::vector<T> values(length, limits::max());
        values[length / 2] = -limits::denorm_min();
        CHECK(cgc::all_finite<T>(values));
        for (const T bad : {limits::quiet_NaN(), limits::infinity(), -limits::infinity()})
            for (const std::size_t position : {std::size_t{0}, length / 3, length - 1}) {
                std::vector<T> spoilt = values;
                spoilt[position] = bad;
                CHECK(!cgc::all_finite<T>(spoilt));
            }
    }
    CHECK(cgc::all_finite<T>(View<const T>()));
}

// float rows, double sums: what widening the rows first gives.
void check_widening() {
    std::mt19937 generator(2);
    std::normal_distribution<float> normal;
    for (const Index length : {1, 7, 16, 33, 8200})
        for (const Index count : {1, 2, 6, 7, 13}) {
            std::vector<std::vector<float>> buffers(static_cast<std::size_t>(count));
            std::vector<std::vector<double>> wide;
            std::vector<const float*> rows;
            std::vector<const double*> wide_rows;
            std::vector<double> coefficients;
            for (auto& buffer : buffers) {
                buffer.resize(static_cast<std::size_t>(length));
                for (float& value : buffer) value = normal(generator);
                coefficients.push_back(normal(generator) / 3.0);
                wide.emplace_back(buffer.begin(), buffer.end());
            }
            for (std::size_t i = 0; i < buffers.size(); ++i) {
                rows.push_back(buffers[i].data());
                wide_rows.push_back(wide[i].data());
            }
            std::vector<double> got(static_cast<std::size_t>(length)), expected(got);
            cgc::weighted_sum<float, double>(rows, coefficients, got, false);
            cgc::weighted_sum<double, double>(wide_rows, coefficients, expected, false);
            CHECK(got == expected);
            cgc::plain_sum<float, double>(rows, got, true);
            cgc::plain_sum<double, double>(wide_rows, expected, true);
            CHECK(got == expected);
        }
}

// Sums larger than the caches are written past them, from any start, by several threads as by one.
void check_large_sums() {
    const std::size_t length = 2'300'003;
    const std::vector<double> row(length, 0.75), other(length, -3.0);
    const std::vector<const double*> rows{row.data(), other.data()};
    const std::vector<double> coefficients{2.0, 0.5};
    for (const std::size_t start : {0, 1, 3})
        for (const int threads : {1, 2, 3}) {
            std::vector<double> out(length + 4, 7.0);
            cgc::weighted_sum<double, double>(rows, coefficients, View<double>(out).subspan(start, length),
                                              false, threads);
            bool right = true;
            for (std::size_t i = 0; i < out.size(); ++i)
                right = right && out[i] == (i < start || i >= start + length ? 7.0 : 0.0);
            CHECK(right);
        }
}

template <class T>
void check_largest_deviation() {
    using limits = std::numeric_limits<T>;
    for (const std::size_t length : {1, 3, 4, 15, 16, 33})
        for (std::size_t position = 0; position < length; ++position) {
            std::vector<T> values(length, T(1.25));
            values[position] = T(0.5);
            CHECK(cgc::largest_deviation<T>(values, T(1)) == T(0.5));
            for (const T bad : {limits::quiet_NaN(), limits::infinity(), -limits::infinity()}) {
                values[position] = bad;
                CHECK(cgc::largest_deviation<T>(values, T(1)) == limits::infinity());
            }
        }
    CHECK(cgc::largest_deviation<T>(View<const T>(), T(1)) == T(0));
}

}  // namespace

int main() {
    for (const cgc::InstructionSet set : cgc::available_instruction_sets()) {
        cgc::use_instruction_set(set);
        check_weighted_sum<double>();
        check_weighted_sum<float>();
        check_widening();
        check_large_sums();
        check_all_finite<double>();
        check_all_finite<float>();
        check_largest_deviation<double>();
        check_largest_deviation<float>();
    }
    return failures != 0;
}
