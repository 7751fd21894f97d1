#include <limits>
#include <random>
#include <vector>

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
                    cgc::weighted_sum<T>(rows, coefficients,
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

}  // namespace

int main() {
    check_weighted_sum<double>();
    check_weighted_sum<float>();
    check_all_finite<double>();
    check_all_finite<float>();
    return failures;
}
