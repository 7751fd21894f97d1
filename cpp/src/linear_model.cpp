#include "cgc/linear_model.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "linear_model_kernels.hpp"

namespace cgc {

namespace {

// A tile of coordinates: few enough for their sums to stay in cache (24 KB, of more than 12 classes 2 KB a
// class) while the samples of a range stream through, and the pieces of rows that are read are long.
constexpr Index tile_size = 3072;
constexpr Index tile_classes = 64;
constexpr Index tile_features = 256;  // no fewer, unless there are no more
constexpr Index column_step = 16;     // parts end where whole registers do
// Behind each row of sums: rows of 256 would lie 2 KB apart, all in the same few sets of the first-level
// cache.
constexpr Index tile_padding = 16;

std::string show(Index low, Index high) {
    std::string text = "[";
    return text.append(std::to_string(low)).append(", ").append(std::to_string(high)).append(")");
}

// At most three rectangles of classes x features: the rest of a class, whole classes, the beginning of a
// class. visit(first coordinate, first class, classes, first feature, features).
template <class Visit>
void visit_rectangles(Index start, Index stop, Index width, Visit visit) {
    for (Index l = start; l < stop;) {
        const Index first_class = l / width, first_feature = l % width;
        const Index whole = first_feature == 0 ? (stop - l) / width : 0;
        const Index classes = std::max<Index>(whole, 1);
        const Index features = whole > 0 ? width : std::min(width - first_feature, stop - l);
        visit(l, first_class, classes, first_feature, features);
        l += classes * features;
    }
}

}  // namespace

LinearModel::LinearModel(Loss loss, Index classes, Matrix<const double> features, View<const double> targets,
                         Matrix<const Index> held)
    : loss_(loss), classes_(classes), features_(features), targets_(targets) {
    if (loss == Loss::softmax ? classes < 2 : classes != 1)
        throw std::invalid_argument("classes: expected at least 2 for softmax and 1 otherwise, got " +
                                    std::to_string(classes));
    if (features.columns < 1) throw std::invalid_argument("features: expected at least one column, got none");
    if (static_cast<Index>(targets.size()) != features.rows)
        throw std::invalid_argument("targets: expected one a row of features, that is " +
                                    std::to_string(features.rows) + ", got " +
                                    std::to_string(targets.size()));
    if (held.columns != 2)
        throw std::invalid_argument("held: expected pairs (low, high), got " + std::to_string(held.columns) +
                                    " columns");
    Index rows = 0;
    for (Index h = 0; h < held.rows; ++h) {
        const Index low = held(h, 0), high = held(h, 1);
        if (low >= high || low < 0 || (h > 0 && low <= held_.back()))
            throw std::invalid_argument("held: expected non-empty merged ascending ranges, got " +
                                        show(low, high) + " at position " + std::to_string(h));
        held_.insert(held_.end(), {low, high});
        held_rows_.push_back(rows);
        rows += high - low;
    }
    if (rows != features.rows)
        throw std::invalid_argument("held: expected ranges of " + std::to_string(features.rows) +
                                    " samples in all, got " + std::to_string(rows));
    if (loss == Loss::softmax)
        for (double target : targets)
            if (!(target >= 0 && target < static_cast<double>(classes)))
                throw std::invalid_argument("targets: expected classes 0.." + std::to_string(classes - 1) +
                                            ", got " + std::to_string(target));
    stamp_.assign(static_cast<std::size_t>(rows), 0);
    residuals_.resize(static_cast<std::size_t>(rows * classes));
    losses_.resize(static_cast<std::size_t>(rows));
    scratch_.resize(static_cast<std::size_t>(tile_classes * (tile_features + tile_padding)));
    const Index tallest = std::min(classes, tile_classes);
    packed_.resize(static_cast<std::size_t>(kernels::accumulate_scratch(features.row_stride, tallest)));
}

void LinearModel::begin(View<const double> theta) {
    if (static_cast<Index>(theta.size()) != coordinates())
        throw std::invalid_argument("theta: expected length " + std::to_string(coordinates()) + ", got " +
                                    std::to_string(theta.size()));
    theta_ = theta;
    ++iteration_;
}

void LinearModel::resolve(Matrix<const Index> ranges) {
    if (theta_.data() == nullptr)
        throw std::logic_error("begin(theta) comes before anything that needs theta");
    if (ranges.columns != 2)
        throw std::invalid_argument("ranges: expected pairs (low, high), got " +
                                    std::to_string(ranges.columns) + " columns");
    rows_.clear();
    for (Index r = 0; r < ranges.rows; ++r) {
        const Index low = ranges(r, 0), high = ranges(r, 1);
        if (low > high) throw std::invalid_argument("ranges: expected low <= high, got " + show(low, high));
        if (low == high) {
            rows_.push_back({0, 0});
            continue;
        }
        // The first bound above low is the end of the range that holds it, if one does (then at an odd
        // place).
        const auto bound = std::upper_bound(held_.begin(), held_.end(), low);
        const auto place = bound - held_.begin();
        if (place % 2 == 0 || high > *bound) {
            std::string held;
            for (std::size_t h = 0; h < held_.size() && h < 8; h += 2)
                held.append(" ").append(show(held_[h], held_[h + 1]));
            if (held_.size() > 8) held += " ...";
            throw std::invalid_argument("ranges: samples " + show(low, high) +
                                        " are not all held here; held:" + (held.empty() ? " none" : held));
        }
        const Index shift =
            held_rows_[static_cast<std::size_t>(place / 2)] - held_[static_cast<std::size_t>(place - 1)];
        rows_.push_back({low + shift, high + shift});
    }
}

void LinearModel::forward(Matrix<const Index> ranges) {
    resolve(ranges);
    for (const Rows& rows : rows_) forward_rows(rows.begin, rows.end);
}

void LinearModel::forward_rows(Index begin, Index end) {
    const auto stamp = stamp_.begin();
    while (true) {  // runs of samples that this iteration has not touched
        begin = std::find_if(stamp + begin, stamp + end, [&](Index s) { return s != iteration_; }) - stamp;
        if (begin == end) return;
        const Index stop = std::find(stamp + begin, stamp + end, iteration_) - stamp;
        kernels::logits({features_.row(begin), stop - begin, features_.columns, features_.row_stride},
                        theta_.data(), classes_, residuals_.data() + begin * classes_);
        for (Index row = begin; row < stop; ++row) apply_loss(row);
        std::fill(stamp + begin, stamp + stop, iteration_);
        begin = stop;
    }
}

// Replaces the logits of a row by its residuals. No exponential overflows and no logarithm sees 0.
void LinearModel::apply_loss(Index row) {
    double* z = residuals_.data() + row * classes_;
    const double y = targets_[static_cast<std::size_t>(row)];
    double& loss = losses_[static_cast<std::size_t>(row)];
    switch (loss_) {
        case Loss::squares: {
            z[0] -= y;
            loss = 0.5 * z[0] * z[0];
            break;
        }
        case Loss::logistic: {
            const double e = std::exp(-std::fabs(z[0]));
            loss = std::max(z[0], 0.0) + std::log1p(e) - y * z[0];
            z[0] = (z[0] >= 0 ? 1.0 : e) / (1.0 + e) - y;
            break;
        }
        case Loss::softmax: {
            const auto label = static_cast<Index>(y);
            const double largest = *std::max_element(z, z + classes_);
            const double gap = largest - z[label];
            double sum = 0.0;
            for (Index k = 0; k < classes_; ++k) sum += z[k] = std::exp(z[k] - largest);
            for (Index k = 0; k < classes_; ++k) z[k] /= sum;
            z[label] -= 1.0;
            loss = std::log(sum) + gap;
            break;
        }
    }
}

void LinearModel::derivatives(Index start, Index stop, Matrix<const Index> ranges,
                              View<const double> coefficients, View<double> out) {
    derivatives_part(start, stop, 0, stop - start, ranges, coefficients, out);
}

// The first column before which there are so many of the coordinates, rounded up to a whole number of
// registers.
Index LinearModel::column(Index start, Index stop, Index count) const {
    const Index width = features_.columns;
    if (count <= 0) return 0;
    if (count >= stop - start) return width;
    Index low = 0, high = width;  // low: too few
    while (high - low > 1) {
        const Index middle = low + (high - low) / 2;
        Index before = 0;
        visit_rectangles(start, stop, width, [&](Index, Index, Index classes, Index first, Index features) {
            before += classes * std::clamp<Index>(middle - first, 0, features);
        });
        (before < count ? low : high) = middle;
    }
    return std::min(width, (high + column_step - 1) / column_step * column_step);
}

void LinearModel::derivatives_part(Index start, Index stop, Index begin, Index end,
                                   Matrix<const Index> ranges, View<const double> coefficients,
                                   View<double> out) {
    const Index width = features_.columns;
    if (start < 0 || start > stop || stop > coordinates())
        throw std::invalid_argument("coordinates: expected a range within " + show(0, coordinates()) +
                                    ", got " + show(start, stop));
    if (static_cast<Index>(coefficients.size()) != ranges.rows)
        throw std::invalid_argument("coefficients: expected one a range, that is " +
                                    std::to_string(ranges.rows) + ", got " +
                                    std::to_string(coefficients.size()));
    if (static_cast<Index>(out.size()) != stop - start)
        throw std::invalid_argument("out: expected length " + std::to_string(stop - start) + ", got " +
                                    std::to_string(out.size()));
    if (begin < 0 || begin > end || end > stop - start)
        throw std::invalid_argument("part: expected a range within " + show(0, stop - start) + ", got " +
                                    show(begin, end));
    forward(ranges);
    const Index first = column(start, stop, begin), last = column(start, stop, end);
    visit_rectangles(start, stop, width,
                     [&](Index l, Index first_class, Index classes, Index first_feature, Index features) {
                         const Index low = std::max(first, first_feature),
                                     high = std::min(last, first_feature + features);
                         if (low >= high) return;
                         double* target = out.data() + (l - start) + (low - first_feature);
                         for (Index k = 0; k < classes; ++k) std::fill_n(target + k * width, high - low, 0.0);
                         rectangle(first_class, classes, low, high - low, coefficients, target, width);
                     });
}

void LinearModel::rectangle(Index first_class, Index classes, Index first_feature, Index features,
                            View<const double> coefficients, double* out, Index out_stride) {
    for (Index c = 0; c < classes; c += tile_classes) {
        const Index tall = std::min(tile_classes, classes - c);
        const Index most = std::max(tile_size / tall / 16 * 16, tile_features);  // whole registers
        for (Index f = 0; f < features; f += most) {
            const Index wide = std::min(most, features - f);
            for (std::size_t r = 0; r < rows_.size(); ++r) {
                const Index begin = rows_[r].begin, samples = rows_[r].end - begin;
                if (samples == 0) continue;
                const Matrix<double> sums{scratch_.data(), tall, wide, wide + tile_padding};
                std::fill_n(sums.data, tall * sums.row_stride, 0.0);
                kernels::accumulate(
                    {features_.row(begin) + first_feature + f, samples, wide, features_.row_stride},
                    {residuals_.data() + begin * classes_ + first_class + c, samples, tall, classes_}, sums,
                    packed_.data());
                for (Index k = 0; k < tall; ++k) {
                    double* target = out + (c + k) * out_stride + f;
                    const double* sum = sums.row(k);
                    for (Index j = 0; j < wide; ++j) target[j] += coefficients[r] * sum[j];
                }
            }
        }
    }
}

double LinearModel::value(Matrix<const Index> ranges, View<const double> coefficients) {
    if (static_cast<Index>(coefficients.size()) != ranges.rows)
        throw std::invalid_argument("coefficients: expected one a range, that is " +
                                    std::to_string(ranges.rows) + ", got " +
                                    std::to_string(coefficients.size()));
    forward(ranges);
    double total = 0.0;
    for (std::size_t r = 0; r < rows_.size(); ++r) {
        double sum = 0.0;
        for (Index row = rows_[r].begin; row < rows_[r].end; ++row)
            sum += losses_[static_cast<std::size_t>(row)];
        total += coefficients[r] * sum;
    }
    return total;
}

}  // namespace cgc
