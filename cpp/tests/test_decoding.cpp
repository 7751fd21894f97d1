#include <algorithm>
#include <numeric>
#include <random>
#include <vector>

#include "cgc/cyclic_code.hpp"
#include "cgc/decoding.hpp"
#include "check.hpp"

namespace {

using cgc::Index;
using cgc::Matrix;
using cgc::View;

std::size_t size(Index n) { return static_cast<std::size_t>(n); }

struct Drawn {
    Index workers, redundancy;
    std::vector<double> h, coefficients;

    Drawn(Index n, Index s, unsigned seed)
        : workers(n), redundancy(s), h(size(s * n)), coefficients(size(n * (s + 1))) {
        std::mt19937_64 generator(seed);
        std::normal_distribution<double> normal;
        for (Index i = 0; i < s; ++i) {
            double sum = 0.0;
            for (Index j = 0; j + 1 < n; ++j)
                sum += h[size(i * n + j)] = std::ldexp(std::rint(std::ldexp(normal(generator), 32)), -32);
            h[size(i * n + n - 1)] = -sum;
        }
        cgc::cyclic_coefficients(h_view(), {coefficients.data(), n, s + 1, s + 1});
    }

    Matrix<const double> h_view() const { return {h.data(), redundancy, workers, workers}; }
    Matrix<const double> view() const {
        return {coefficients.data(), workers, redundancy + 1, redundancy + 1};
    }
};

double residual(const Drawn& code, View<const Index> rows, View<const double> vector) {
    std::vector<double> sums(size(code.workers), -1.0);
    for (std::size_t m = 0; m < rows.size(); ++m)
        for (Index i = 0; i <= code.redundancy; ++i)
            sums[size((rows[m] + i) % code.workers)] += vector[m] * code.view()(rows[m], i);
    double largest = 0.0;
    for (const double sum : sums) largest = std::max(largest, std::fabs(sum));
    return largest;
}

// All levels, all sets of rows that may decode, given by the bits of a mask: the residual is within the
// prediction, and the prediction within what N <= 7 gives (amplifications below 1e4 or so).
void check_all_sets() {
    for (Index n = 1; n <= 7; ++n)
        for (Index s = 0; s < n; ++s) {
            const Drawn code(n, s, 7);
            const cgc::CyclicDecoder decoder(code.h_view(), code.view());
            cgc::CyclicDecoder::Workspace workspace(n);
            for (unsigned mask = 0; mask < 1U << n; ++mask) {
                std::vector<Index> rows;
                for (Index w = 0; w < n; ++w)
                    if (mask >> w & 1U) rows.push_back(w);
                if (static_cast<Index>(rows.size()) < n - s) continue;
                std::vector<double> vector(rows.size());
                decoder.decoding_vector(rows, vector, workspace);
                const double predicted = decoder.predicted_error(rows, vector, workspace);
                CHECK(predicted < 1e-10);
                CHECK(residual(code, rows, vector) <= predicted);
            }
        }
}

void check_profile() {
    const Index n = 13, s = 5, sets = 40;
    const Drawn code(n, s, 11);
    const cgc::CyclicDecoder decoder(code.h_view(), code.view());
    std::mt19937_64 generator(3);
    std::vector<Index> stragglers, order(size(n));
    std::iota(order.begin(), order.end(), Index{0});
    for (Index set = 0; set < sets; ++set) {
        std::shuffle(order.begin(), order.end(), generator);
        stragglers.insert(stragglers.end(), order.begin(), order.begin() + s);
    }
    std::vector<double> one(size(sets)), two(size(sets));
    decoder.profile({stragglers.data(), sets, s, s}, one, 1);
    decoder.profile({stragglers.data(), sets, s, s}, two, 2);
    CHECK(one == two);

    std::vector<Index> rows;
    for (Index w = 0; w < n; ++w)
        if (std::find(stragglers.end() - s, stragglers.end(), w) == stragglers.end()) rows.push_back(w);
    std::vector<double> vector(rows.size());
    cgc::CyclicDecoder::Workspace workspace(n);
    decoder.decoding_vector(rows, vector, workspace);
    CHECK(decoder.predicted_error(rows, vector, workspace) == one.back());
    for (double& value : vector) value *= 2.0;
    CHECK_CLOSE(decoder.predicted_error(rows, vector, workspace), 1.0, 1e-9);
    vector[0] = std::nan("");
    CHECK(std::isinf(decoder.predicted_error(rows, vector, workspace)));
}

// All levels for one order of arrival are, to the bit, each level by itself.
void check_order() {
    const Index n = 11;
    std::vector<Drawn> drawn;
    for (Index s = 0; s < n; ++s) drawn.emplace_back(n, s, 5);
    std::vector<cgc::CyclicDecoder> decoders;
    std::vector<const cgc::CyclicDecoder*> codes;
    decoders.reserve(size(n));
    Index total = 0;
    for (const Drawn& code : drawn) {
        decoders.emplace_back(code.h_view(), code.view());
        codes.push_back(&decoders.back());
        total += n - code.redundancy;
    }
    std::vector<Index> order(size(n)), rows(size(total));
    std::iota(order.begin(), order.end(), Index{0});
    std::shuffle(order.begin(), order.end(), std::mt19937_64(2));
    std::vector<double> vectors(size(total)), errors(size(n));
    cgc::CyclicDecoder::decode_in_order(codes, order, rows, vectors, errors);

    cgc::CyclicDecoder::Workspace workspace(n);
    std::size_t offset = 0;
    for (Index s = 0; s < n; ++s) {
        std::vector<Index> expected(order.begin(), order.end() - s);
        std::sort(expected.begin(), expected.end());
        std::vector<double> vector(expected.size());
        decoders[size(s)].decoding_vector(expected, vector, workspace);
        CHECK(std::equal(expected.begin(), expected.end(), rows.begin() + static_cast<Index>(offset)));
        CHECK(std::equal(vector.begin(), vector.end(), vectors.begin() + static_cast<Index>(offset)));
        CHECK(decoders[size(s)].predicted_error(expected, vector, workspace) == errors[size(s)]);
        const double single = decoders[size(s)].predicted_error(expected, vector, workspace, true);
        CHECK(single > 1e8 * errors[size(s)] && single < 1e9 * errors[size(s)]);
        offset += expected.size();
    }
}

void check_extreme_levels() {
    const Drawn identity(4, 0, 1);
    CHECK(identity.coefficients == std::vector<double>(4, 1.0));
    const Drawn full(4, 3, 1);
    CHECK(full.coefficients == std::vector<double>(16, 0.5));
}

}  // namespace

int main() {
    check_all_sets();
    check_profile();
    check_order();
    check_extreme_levels();
    return failures != 0;
}
