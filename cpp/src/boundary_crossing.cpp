#include "cgc/boundary_crossing.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <stdexcept>
#include <string>

#include "dispatch.hpp"

namespace cgc {

namespace {

// Poisson weights are added in blocks of four, which read up to three entries beside the band.
constexpr Index kBlock = 4;
constexpr Index kMargin = kBlock;

// Weights below this fraction of the largest do not matter to anything that follows.
constexpr double kNegligible = 1e-18;
constexpr double kDeviations = 10.0, kSlack = 20.0;

// Above this mean, exp(-mean) leaves the normal numbers.
constexpr double kLargestExponent = 690.0;
constexpr double kSmallest = 1e-290;

// log(n!) - (n log n - n + log(2 pi n) / 2), n >= 1: the error of Stirling's formula.
double stirling_error(Index n) {
    const double x = static_cast<double>(n);
    if (n < 16) {
        double factorial = 1.0;
        for (Index i = 2; i <= n; ++i) factorial *= static_cast<double>(i);
        return std::log(factorial) - (x * std::log(x) - x + 0.5 * std::log(2.0 * std::numbers::pi * x));
    }
    const double y = 1.0 / (x * x);
    return (1.0 / 12.0 - y * (1.0 / 360.0 - y * (1.0 / 1260.0 - y / 1680.0))) / x;
}

// out[i] += sum_r row[r] in[i - r] for i = 0..count-1 with r a multiple of four and three more.
void add_convolution(const double* in, Index states, const double* row, Index length, double* out,
                     Index count) {
    for (Index r = 0; r < length; r += kBlock) {
        const double p0 = row[r], p1 = row[r + 1], p2 = row[r + 2], p3 = row[r + 3];
        const Index stop = std::min(states + kBlock - 1, count - r);
        double* to = out + r;
        for (Index i = 0; i < stop; ++i)
            to[i] += (p0 * in[i] + p1 * in[i - 1]) + (p2 * in[i - 2] + p3 * in[i - 3]);
    }
}

// out[i] += sum_r row[r] in[i + r] for i = 0..count-1; in has `states` entries.
void add_correlation(const double* in, Index states, const double* row, Index length, double* out,
                     Index count) {
    for (Index r = 0; r < length; r += kBlock) {
        const double p0 = row[r], p1 = row[r + 1], p2 = row[r + 2], p3 = row[r + 3];
        const Index stop = std::min(count, states - r);
        const double* from = in + r;
        for (Index i = 0; i < stop; ++i)
            out[i] += (p0 * from[i] + p1 * from[i + 1]) + (p2 * from[i + 2] + p3 * from[i + 3]);
    }
}

// Rows of the coupling computed together, so that every loaded visit serves so many.
constexpr Index kStarts = 4;
// A difference of probabilities of about 1 has no digits below this.
constexpr double kNoise = 1e-13;

// Each of the rows of `paths` (kStarts, n): the probability of reaching k, less the ways there that missed a
// bound i before.
CGC_INLINE void first_misses(const double* visits, double* paths, Index begin, Index n) {
    double* __restrict row0 = paths;
    double* __restrict row1 = paths + n;
    double* __restrict row2 = paths + 2 * n;
    double* __restrict row3 = paths + 3 * n;
    for (Index i = begin; i < n; ++i) {
        const double p0 = row0[i] > kNoise ? row0[i] : 0.0, p1 = row1[i] > kNoise ? row1[i] : 0.0;
        const double p2 = row2[i] > kNoise ? row2[i] : 0.0, p3 = row3[i] > kNoise ? row3[i] : 0.0;
        if (p0 + p1 + p2 + p3 == 0.0) continue;
        const double* __restrict from = visits + i * n;
        for (Index k = i + 1; k < n; ++k) {
            const double visit = from[k];
            row0[k] -= p0 * visit;
            row1[k] -= p1 * visit;
            row2[k] -= p2 * visit;
            row3[k] -= p3 * visit;
        }
    }
}

struct FirstMisses {
    template <int Bytes>
    CGC_INLINE static void run(const double* visits, double* paths, Index begin, Index n) {
        first_misses(visits, paths, begin, n);
    }
};

}  // namespace

double poisson_probability(Index count, double mean) {
    if (count < 0) return 0.0;
    if (mean <= 0.0) return count == 0 ? 1.0 : 0.0;
    if (count == 0) return std::exp(-mean);
    // Around the count, where n log n, n and log n! nearly cancel, only their difference is computed.
    const double n = static_cast<double>(count);
    const double excess = (mean - n) / n;
    const double deviance =
        std::abs(excess) < 0.5 ? n * (std::log1p(excess) - excess) : n * std::log(mean / n) - (mean - n);
    return std::exp(deviance - stirling_error(count)) / std::sqrt(2.0 * std::numbers::pi * n);
}

BoundaryCrossing::BoundaryCrossing(Index points) : points_(points) {
    if (points < 1) throw std::invalid_argument("points: expected at least 1, got " + std::to_string(points));
    const double n = static_cast<double>(points);
    normalisation_ = std::sqrt(2.0 * std::numbers::pi * n) * std::exp(stirling_error(points));
    const auto size = static_cast<std::size_t>(points);
    highest_.resize(size);
    hull_.resize(size + 2);
    steps_.resize(size);
    rows_.reserve(32 * size);
    mass_.assign(size + 1 + 3 * kMargin, 0.0);
    next_.assign(size + 1 + 3 * kMargin, 0.0);
}

// Least concave function with m(0) = 0, m(1) = N and m(b_k) >= k.
void BoundaryCrossing::majorant(View<const double> bounds) {
    const Index last = points_ + 1;
    const auto at = [&](Index k) { return k == 0 ? 0.0 : k == last ? 1.0 : bounds[k - 1]; };
    const auto height = [&](Index k) { return static_cast<double>(std::min(k, points_)); };
    Index depth = 0;
    for (Index k = 0; k <= last; ++k) {
        while (depth > 0 && at(hull_[depth - 1]) == at(k) && k < last) --depth;  // the highest of equal ones
        while (depth > 1) {
            const Index a = hull_[depth - 2], b = hull_[depth - 1];
            if ((height(b) - height(a)) * (at(k) - at(b)) > (height(k) - height(b)) * (at(b) - at(a))) break;
            --depth;
        }
        hull_[depth++] = k;
    }
    for (Index k = 1, piece = 0; k <= points_; ++k) {
        while (piece + 1 < depth && at(hull_[piece]) < at(k)) ++piece;
        const Index b = hull_[piece], a = piece > 0 ? hull_[piece - 1] : b;
        const double width = at(b) - at(a);
        const double share = width > 0.0 ? std::clamp((at(k) - at(a)) / width, 0.0, 1.0) : 1.0;
        highest_[k - 1] = std::max(height(k), height(a) + share * (height(b) - height(a)));
    }
}

// Weights of a Poisson variable, from the first that counts to where they are negligible for the mean
// `tilted` as well, which paths that stay below the boundary have; padded with zeros to whole blocks.
void BoundaryCrossing::poisson_row(double mean, double tilted, Step& step) {
    step.row = static_cast<Index>(rows_.size());
    step.first = 0;
    const double centre = std::max(mean, tilted);
    const Index most =
        std::min(points_, static_cast<Index>(std::ceil(centre + kDeviations * std::sqrt(centre) + kSlack)));
    if (mean <= kLargestExponent) {
        double weight = std::exp(-mean), largest = weight, tilted_weight = 1.0, tilted_largest = 1.0;
        rows_.push_back(weight);
        for (Index r = 1; r <= most; ++r) {
            weight *= mean / static_cast<double>(r);
            tilted_weight *= centre / static_cast<double>(r);
            largest = std::max(largest, weight);
            tilted_largest = std::max(tilted_largest, tilted_weight);
            const bool beyond = static_cast<double>(r) > centre;
            if (weight<kSmallest&& static_cast<double>(r)> mean) break;
            if (beyond && tilted_weight < kNegligible * tilted_largest) break;
            rows_.push_back(weight);
        }
    } else {
        const Index mode = std::min(static_cast<Index>(mean), points_);
        const double peak = poisson_probability(mode, mean);
        Index low = mode;
        double weight = peak;
        while (low > 0 && weight > kSmallest) weight *= static_cast<double>(low--) / mean;
        step.first = low;
        rows_.resize(rows_.size() + static_cast<std::size_t>(most - low + 1), 0.0);
        double* row = rows_.data() + step.row;
        row[mode - low] = weight = peak;
        for (Index r = mode; r > low; --r) row[r - 1 - low] = weight *= static_cast<double>(r) / mean;
        weight = peak;
        for (Index r = mode + 1; r <= most; ++r) row[r - low] = weight *= mean / static_cast<double>(r);
    }
    step.length = static_cast<Index>(rows_.size()) - step.row;
    while (step.length % kBlock) {
        rows_.push_back(0.0);
        ++step.length;
    }
}

BoundaryCrossing::Probabilities BoundaryCrossing::evaluate(View<const double> bounds,
                                                           View<const double> complements, bool tail,
                                                           View<double> dropped, View<double> onward,
                                                           View<double> beyond) {
    const double n = static_cast<double>(points_);
    majorant(bounds);
    rows_.clear();
    // Entry `kMargin + j` stands for the count j.
    std::fill(mass_.begin(), mass_.end(), 0.0);
    std::fill(next_.begin(), next_.end(), 0.0);
    double* mass = mass_.data() + kMargin;
    double* next = next_.data() + kMargin;
    mass[0] = 1.0;
    Index low = 0, high = 0;
    double failure = 0.0, previous = 0.0, previous_complement = 1.0, previous_highest = 0.0;
    double crowding = 1.0;  // most points to come, of those that may, in units of how many are expected
    for (Index k = 1; k <= points_; ++k) {
        const double bound = bounds[k - 1], complement = complements[k - 1], top = highest_[k - 1];
        Step& step = steps_[k - 1];
        const double mean =
            n * std::max(0.0, bound < 0.5 ? bound - previous : previous_complement - complement);
        if (mean > 0.0) {
            // Close to 1 bounds cannot be told apart, and all points that are missing may come at once. For
            // the derivatives of a tiny failure probability, so may those that are late when a bound is just
            // met.
            double jump = complement < 1e-8 ? static_cast<double>(points_ - k + 1) : 0.0;
            if (tail && !onward.empty())
                jump = std::max(jump, std::min(mean * crowding, static_cast<double>(points_ - k + 1)));
            poisson_row(mean, std::max(top - previous_highest, jump), step);
            const double share = std::min(top / n, 1.0);
            const double upper = top + kDeviations * std::sqrt(n * share * (1.0 - share)) + kSlack;
            Index new_high = std::min(points_, high + step.first + step.length - 1);
            if (upper < static_cast<double>(new_high)) new_high = static_cast<Index>(upper);
            const Index start = low + step.first;
            new_high = std::max(new_high, k);
            if (start <= new_high) {
                add_convolution(mass + low, high - low + 1, rows_.data() + step.row, step.length,
                                next + start, new_high - start + 1);
            }
            std::fill(mass + low, mass + high + 1, 0.0);
            std::swap(mass, next);
            low = std::min(start, new_high);
            high = new_high;
        } else {
            step.row = static_cast<Index>(rows_.size());
            step.first = 0;
            step.length = kBlock;
            rows_.insert(rows_.end(), {1.0, 0.0, 0.0, 0.0});
        }
        // No path had fewer than k - 1 points, so those that are dropped have just as many.
        const double lost = low <= k - 1 ? mass[k - 1] : 0.0;
        dropped[k - 1] = lost;
        if (lost > 0.0) failure += lost * poisson_probability(points_ - k + 1, n * complement);
        double least = static_cast<double>(k);
        if (!tail)
            least = std::max(least, n * bound - kDeviations * std::sqrt(n * bound * complement) - kSlack);
        const Index new_low = std::min(static_cast<Index>(least), points_);
        for (Index j = low; j < new_low && j <= high; ++j) mass[j] = 0.0;
        low = std::max(low, new_low);
        if (high < low) high = low;  // nothing is left: zeros from here on
        step.low = low;
        step.high = high;
        crowding = std::max(crowding, static_cast<double>(points_ - k + 1) / (n * complement));
        previous = bound;
        previous_complement = complement;
        previous_highest = top;
    }
    const double last = std::exp(-n * previous_complement) * normalisation_;
    const double inside = mass[points_] * last;
    if (!onward.empty()) {
        std::fill(mass_.begin(), mass_.end(), 0.0);
        std::fill(next_.begin(), next_.end(), 0.0);
        mass[points_] = last;
        for (Index k = points_; k >= 1; --k) {
            const Step& step = steps_[k - 1];
            onward[k - 1] = step.low == k ? mass[k] : 0.0;
            if (!beyond.empty()) beyond[k - 1] = step.low <= k + 1 && k + 1 <= step.high ? mass[k + 1] : 0.0;
            if (k == 1) break;
            const Step& before = steps_[k - 2];
            const Index start = before.low + step.first;
            if (start <= step.high)
                add_correlation(mass + start, step.high - start + 1, rows_.data() + step.row, step.length,
                                next + before.low, before.high - before.low + 1);
            std::fill(mass + step.low, mass + step.high + 1, 0.0);
            std::swap(mass, next);
        }
    }
    return {std::min(1.0, inside), std::min(1.0, failure * normalisation_)};
}

BoundaryCrossing::Probabilities BoundaryCrossing::second_order(View<const double> bounds,
                                                               View<const double> complements,
                                                               View<double> gradient,
                                                               Matrix<double> hessian) {
    const auto size = static_cast<std::size_t>(points_);
    for (auto* buffer : {&dropped_, &onward_, &beyond_}) buffer->resize(size);
    ones_.assign(size, 1.0);
    const auto found = evaluate(bounds, complements, true, dropped_, onward_, beyond_);
    const double n = static_cast<double>(points_);
    for (Index j = 0; j < points_; ++j) std::fill_n(&hessian(j, 0), points_, 0.0);
    add_coupling(bounds, dropped_, onward_, ones_, n * n, hessian);
    for (Index k = 0; k < points_; ++k) {
        gradient[k] = n * dropped_[k] * onward_[k];
        hessian(k, k) = -n * n * dropped_[k] * beyond_[k];
        for (Index j = 0; j < k; ++j) hessian(k, j) = hessian(j, k);
    }
    return found;
}

void BoundaryCrossing::add_coupling(View<const double> bounds, View<const double> dropped,
                                    View<const double> onward, View<const double> scale, double weight,
                                    Matrix<double> total) {
    const Index n = total.rows;
    visits_.resize(static_cast<std::size_t>(n * n));
    paths_.resize(static_cast<std::size_t>(kStarts * n));
    if (logarithms_.empty()) {  // log r!
        logarithms_.assign(static_cast<std::size_t>(points_ + 1), 0.0);
        for (Index r = 2; r <= points_; ++r)
            logarithms_[r] = logarithms_[r - 1] + std::log(static_cast<double>(r));
    }
    const double rate = static_cast<double>(points_);
    for (Index i = 0; i < n; ++i)
        for (Index k = i + 1; k < n; ++k) {
            const double mean = rate * (bounds[k] - bounds[i]), count = static_cast<double>(k - i);
            visits_[i * n + k] =
                mean > 0.0 ? std::exp(count * std::log(mean) - mean - logarithms_[k - i]) : 0.0;
        }
    for (Index first = 0; first < n; first += kStarts) {
        double here[kStarts] = {};
        for (Index s = 0; s < kStarts; ++s) {
            const Index j = first + s;
            double* paths = paths_.data() + s * n;
            std::fill(paths, paths + n, 0.0);
            if (j >= n) continue;
            here[s] = weight * dropped[j] * scale[j];
            if (!(here[s] > 0.0)) continue;
            for (Index k = j + 1; k < n; ++k) {
                const double mean = rate * (bounds[k] - bounds[j]);
                paths[k] = mean > 0.0 ? visits_[j * n + k] * static_cast<double>(k - j) / mean
                                      : (k == j + 1 ? 1.0 : 0.0);
            }
        }
        Versions<FirstMisses, void(const double*, double*, Index, Index)>::run(visits_.data(), paths_.data(),
                                                                               first + 1, n);
        for (Index s = 0; s < kStarts && first + s < n; ++s)
            for (Index i = first + s + 1; i < n; ++i) {
                const double path = paths_[s * n + i];
                if (path > kNoise) total(first + s, i) += here[s] * path * onward[i] * scale[i];
            }
    }
}

}  // namespace cgc
