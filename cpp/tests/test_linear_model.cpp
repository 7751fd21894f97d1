#include <algorithm>
#include <cmath>
#include <random>
#include <stdexcept>
#include <vector>

#include "../src/dispatch.hpp"
#include "../src/linear_model_kernels.hpp"
#include "cgc/linear_model.hpp"
#include "check.hpp"

using namespace cgc;

namespace {

using Vector = std::vector<double>;

struct Data {
    Index samples, width, classes;
    Vector features, targets, theta;

    Data(Loss loss, Index samples, Index width, Index classes, unsigned seed)
        : samples(samples), width(width), classes(classes) {
        std::mt19937 random(seed);
        std::normal_distribution<double> normal;
        features.resize(samples * width);
        targets.resize(samples);
        theta.resize(classes * width);
        for (double& x : features) x = normal(random);
        for (double& t : theta) t = 0.3 * normal(random);
        for (double& y : targets)
            y = loss == Loss::squares ? normal(random)
                                      : static_cast<double>(random() % std::max<Index>(classes, 2));
    }

    Matrix<const double> matrix() const { return {features.data(), samples, width, width}; }
};

Matrix<const Index> pairs(const std::vector<Index>& bounds) {
    return {bounds.data(), static_cast<Index>(bounds.size() / 2), 2, 2};
}

void gradient_is_the_slope_of_the_value(Loss loss, Index classes) {
    Data data(loss, 23, 7, classes, 1);
    const std::vector<Index> all{0, 23}, ranges{2, 5, 5, 5, 11, 23};
    const Vector coefficients{-1.5, 4.0, 0.25};
    LinearModel model(loss, classes, data.matrix(), data.targets, pairs(all));
    Vector gradient(model.coordinates());
    model.begin(data.theta);
    model.derivatives(0, model.coordinates(), pairs(ranges), coefficients, gradient);
    // Central differences: error h^2 * third derivative (< 1e3 here) plus eps * value / h: below 1e-6 at h =
    // 1e-5.
    const double h = 1e-5;
    for (Index l = 0; l < model.coordinates(); ++l) {
        Vector moved = data.theta;
        moved[l] += h;
        model.begin(moved);
        const double above = model.value(pairs(ranges), coefficients);
        moved[l] -= 2 * h;
        model.begin(moved);
        const double below = model.value(pairs(ranges), coefficients);
        CHECK_CLOSE(gradient[l], (above - below) / (2 * h), 1e-6);
    }
}

// Every cut into slices returns the bits of the whole.
void slices_have_the_same_bits(Loss loss, Index classes, Index width) {
    Data data(loss, 11, width, classes, 2);
    const std::vector<Index> all{0, 11}, ranges{0, 6, 7, 11};
    const Vector coefficients{0.7, -1.3};
    LinearModel model(loss, classes, data.matrix(), data.targets, pairs(all));
    model.begin(data.theta);
    Vector whole(model.coordinates()), sliced(model.coordinates());
    model.derivatives(0, model.coordinates(), pairs(ranges), coefficients, whole);
    for (Index slice : {1, 7, 255, 299, 300, 301, 900, 3100, 5001}) {
        std::fill(sliced.begin(), sliced.end(), 0.0);
        for (Index start = 0; start < model.coordinates(); start += slice) {
            const Index stop = std::min(start + slice, model.coordinates());
            model.derivatives(start, stop, pairs(ranges), coefficients,
                              View<double>(sliced).subspan(start, stop - start));
        }
        CHECK(sliced == whole);
    }
    // Also in the order of the features, of any range of coordinates, which may begin and end within a class.
    const Index length = model.coordinates();
    for (const Index begin : {Index{0}, length / 3, std::min(width - 1, length)})
        for (const Index end : {length, length - length / 4, std::min(begin + 5, length)}) {
            if (end < begin) continue;
            const Vector expected(whole.begin() + begin, whole.begin() + end);
            for (Index part : {1, 7, 300, 301, 3100, 100'000}) {
                Vector parts(expected.size(), 1e300);
                for (Index from = 0; from < end - begin; from += part)
                    model.derivatives_part(begin, end, from, std::min(from + part, end - begin),
                                           pairs(ranges), coefficients, parts);
                CHECK(parts == expected);
            }
        }
}

// A shard returns the bits of the whole problem, also when it does other forward passes first.
void shards_have_the_same_bits() {
    Data data(Loss::softmax, 20, 9, 3, 3);
    const std::vector<Index> all{0, 20}, held{3, 8, 12, 20}, ranges{4, 7, 12, 19}, some{13, 14, 3, 5};
    const Vector coefficients{2.0, -3.0};
    Vector features, targets;
    for (std::size_t h = 0; h < held.size(); h += 2) {
        features.insert(features.end(), data.features.begin() + held[h] * 9,
                        data.features.begin() + held[h + 1] * 9);
        targets.insert(targets.end(), data.targets.begin() + held[h], data.targets.begin() + held[h + 1]);
    }
    LinearModel model(Loss::softmax, 3, data.matrix(), data.targets, pairs(all));
    LinearModel shard(Loss::softmax, 3, {features.data(), 13, 9, 9}, targets, pairs(held));
    Vector expected(27), got(27);
    model.begin(data.theta);
    model.derivatives(0, 27, pairs(ranges), coefficients, expected);
    shard.begin(data.theta);
    shard.forward(pairs(some));
    shard.derivatives(0, 27, pairs(ranges), coefficients, got);
    CHECK(got == expected);
    CHECK(shard.value(pairs(ranges), coefficients) == model.value(pairs(ranges), coefficients));

    for (const auto& absent :
         {std::vector<Index>{2, 4}, {7, 9}, {7, 13}, {8, 12}, {0, 1}, {20, 21}, {19, 21}})
        CHECK_THROWS(shard.forward(pairs(absent)), std::invalid_argument);
}

void begin_forgets() {
    Data data(Loss::squares, 5, 4, 1, 4);
    const std::vector<Index> all{0, 5};
    const Vector one{1.0}, other(4, 0.0);
    LinearModel model(Loss::squares, 1, data.matrix(), data.targets, pairs(all));
    CHECK_THROWS(model.forward(pairs(all)), std::logic_error);
    model.begin(data.theta);
    const double before = model.value(pairs(all), one);
    model.begin(other);
    double squares = 0.0;  // at theta = 0 the loss is the sum of y^2 / 2
    for (double y : data.targets) squares += 0.5 * (0.0 - y) * (0.0 - y);
    CHECK(model.value(pairs(all), one) == squares);
    CHECK(before != squares);
}

void extreme_logits_stay_finite() {
    const Vector features{1e4, -1e4}, targets{0.0, 1.0};
    const std::vector<Index> all{0, 2};
    const Vector one{1.0};
    LinearModel logistic(Loss::logistic, 1, {features.data(), 2, 1, 1}, targets, pairs(all));
    LinearModel softmax(Loss::softmax, 2, {features.data(), 2, 1, 1}, targets, pairs(all));
    const Vector up{1.0}, apart{0.0, 1.0};
    Vector out(1), outs(2);
    logistic.begin(up);
    logistic.derivatives(0, 1, pairs(all), one, out);
    CHECK(out[0] == 2e4);  // both samples are wrong by a whole unit
    CHECK(logistic.value(pairs(all), one) == 2e4);
    softmax.begin(apart);
    softmax.derivatives(0, 2, pairs(all), one, outs);
    CHECK((outs == Vector{-2e4, 2e4}));
    CHECK(softmax.value(pairs(all), one) == 2e4);
}

// What the kernels do on an instruction set, one element at a time: sums in the order that is promised.
struct Plain {
    bool fused;

    explicit Plain(InstructionSet set) : fused(fuses_multiply_add(set)) {}

    void add(double& sum, double a, double b) const { sum = fused ? std::fma(a, b, sum) : sum + a * b; }

    double dot(const double* a, const double* b, Index length) const {
        double lanes[4] = {};
        const Index whole = length / 4 * 4;
        for (Index j = 0; j < whole; ++j) add(lanes[j % 4], a[j], b[j]);
        double sum = (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
        for (Index j = whole; j < length; ++j) add(sum, a[j], b[j]);
        return sum;
    }
};

void every_instruction_set_returns_the_bits_of_the_plain_loops(Index samples, Index width, Index classes) {
    const InstructionSet before = instruction_set();
    Data data(Loss::softmax, samples, width, classes, 5);
    Vector residuals(samples * classes), scratch(kernels::accumulate_scratch(width, classes));
    std::mt19937 random(6);
    for (double& r : residuals) r = std::normal_distribution<double>()(random);
    for (const InstructionSet set : available_instruction_sets()) {
        const Plain plain(set);
        Vector logits(samples * classes), expected_logits(samples * classes);
        Vector sums(width * classes, 0.5), expected(sums);
        for (Index i = 0; i < samples; ++i)
            for (Index k = 0; k < classes; ++k) {
                const double* x = data.features.data() + i * width;
                expected_logits[i * classes + k] = plain.dot(x, &data.theta[k * width], width);
                for (Index j = 0; j < width; ++j)
                    plain.add(expected[k * width + j], residuals[i * classes + k], x[j]);
            }
        use_instruction_set(set);
        kernels::logits(data.matrix(), data.theta.data(), classes, logits.data());
        kernels::accumulate(data.matrix(), {residuals.data(), samples, classes, classes},
                            {sums.data(), classes, width, width}, scratch.data());
        CHECK(logits == expected_logits);
        CHECK(sums == expected);
    }
    use_instruction_set(before);
}

void every_instruction_set_returns_the_bits_of_the_plain_loops() {
    for (Index samples : {0, 1, 2, 3, 5, 9, 16, 17, 33, 128, 150})
        for (Index width : {1, 3, 4, 7, 15, 16, 17, 64, 129})
            for (Index classes : {1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 16, 19, 64})
                every_instruction_set_returns_the_bits_of_the_plain_loops(samples, width, classes);
    // Copied first: several passes and tiles of columns, and every rest of the classes.
    CHECK(kernels::is_packed(256, 8) && kernels::is_packed(70, 40) && !kernels::is_packed(70, 39));
    for (Index samples : {1, 7, 191, 192, 193, 400}) {
        for (Index classes : {40, 41, 42, 43, 44, 45, 50})
            every_instruction_set_returns_the_bits_of_the_plain_loops(samples, 85, classes);
        for (Index classes : {8, 11})
            every_instruction_set_returns_the_bits_of_the_plain_loops(samples, 256, classes);
    }
}

// Rows of features, residuals and sums that are parts of longer ones, from any start: the bits of the plain
// loops, and what lies behind the sums stays.
void parts_of_matrices_are_summed() {
    const InstructionSet before = instruction_set();
    std::mt19937 random(7);
    std::normal_distribution<double> normal;
    constexpr Index samples = 35, width = 37, stride = 53, guard = 3;
    Vector features(samples * stride + guard), residuals(samples * stride + guard);
    for (double& x : features) x = normal(random);
    for (double& r : residuals) r = normal(random);
    for (const InstructionSet set : available_instruction_sets()) {
        use_instruction_set(set);
        for (Index start : {0, 1, 2, 3})
            for (Index classes : {1, 13, 44}) {
                const Matrix<const double> x{features.data() + start, samples, width, stride};
                const Matrix<const double> r{residuals.data() + guard - start, samples, classes, stride};
                Vector sums(classes * stride + guard, 0.25), plain(sums);
                for (Index k = 0; k < classes; ++k)
                    for (Index j = 0; j < width; ++j)
                        for (Index i = 0; i < samples; ++i)
                            Plain(set).add(plain[start + k * stride + j], r(i, k), x(i, j));
                Vector scratch(kernels::accumulate_scratch(stride, classes));
                kernels::accumulate(x, r, {sums.data() + start, classes, width, stride}, scratch.data());
                CHECK(sums == plain);
            }
    }
    use_instruction_set(before);
}

void bad_arguments_are_refused() {
    Data data(Loss::softmax, 6, 2, 3, 6);
    const std::vector<Index> all{0, 6}, touching{0, 3, 3, 6}, few{0, 5}, backwards{4, 2};
    const auto make = [&](Loss loss, Index classes, const std::vector<Index>& held) {
        return LinearModel(loss, classes, data.matrix(), data.targets, pairs(held));
    };
    CHECK_THROWS(make(Loss::softmax, 1, all), std::invalid_argument);
    CHECK_THROWS(make(Loss::squares, 2, all), std::invalid_argument);
    CHECK_THROWS(make(Loss::softmax, 2, all), std::invalid_argument);  // a target of class 2
    CHECK_THROWS(make(Loss::softmax, 3, touching), std::invalid_argument);
    CHECK_THROWS(make(Loss::softmax, 3, few), std::invalid_argument);
    LinearModel model = make(Loss::softmax, 3, all);
    CHECK_THROWS(model.begin(View<const double>(data.theta).first(5)), std::invalid_argument);
    model.begin(data.theta);
    const Vector one{1.0}, two{1.0, 1.0};
    Vector out(6);
    CHECK_THROWS(model.forward(pairs(backwards)), std::invalid_argument);
    CHECK_THROWS(model.derivatives(0, 7, pairs(all), one, out), std::invalid_argument);
    CHECK_THROWS(model.derivatives_part(0, 6, 3, 7, pairs(all), one, out), std::invalid_argument);
    CHECK_THROWS(model.derivatives_part(0, 6, 4, 3, pairs(all), one, out), std::invalid_argument);
    CHECK_THROWS(model.derivatives_part(0, 6, -1, 3, pairs(all), one, out), std::invalid_argument);
    CHECK_THROWS(model.derivatives(4, 3, pairs(all), one, out), std::invalid_argument);
    CHECK_THROWS(model.derivatives(0, 5, pairs(all), one, out), std::invalid_argument);
    CHECK_THROWS(model.derivatives(0, 6, pairs(all), two, out), std::invalid_argument);
    CHECK_THROWS(model.value(pairs(all), two), std::invalid_argument);
}

}  // namespace

int main() {
    gradient_is_the_slope_of_the_value(Loss::squares, 1);
    gradient_is_the_slope_of_the_value(Loss::logistic, 1);
    gradient_is_the_slope_of_the_value(Loss::softmax, 3);
    slices_have_the_same_bits(Loss::softmax, 19, 300);  // more coordinates than a tile has, and more classes
    slices_have_the_same_bits(Loss::softmax, 37, 300);
    slices_have_the_same_bits(Loss::logistic, 1, 3200);
    shards_have_the_same_bits();
    begin_forgets();
    extreme_logits_stay_finite();
    every_instruction_set_returns_the_bits_of_the_plain_loops();
    parts_of_matrices_are_summed();
    bad_arguments_are_refused();
    return failures != 0;
}
