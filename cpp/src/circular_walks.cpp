#include "cgc/circular_walks.hpp"

#include <algorithm>
#include <limits>
#include <stdexcept>

namespace cgc {

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr Index nobody = -1;

double distance(double from, double to) { return to >= from ? to - from : to - from + 1.0; }

}  // namespace

CoverTimes::CoverTimes(const CircularWalks& walks)
    : levels_(walks.groups.rows), workers_(walks.groups.columns) {
    for (const auto& [rows, columns] : {std::pair{walks.starts.rows, walks.starts.columns},
                                        std::pair{walks.backward.rows, walks.backward.columns}})
        if (rows != levels_ || columns != workers_)
            throw std::invalid_argument("starts, backward: expected the shape of groups");
    std::vector<double> starts;
    for (Index level = 0; level < levels_; ++level) {
        for (Index worker = 0; worker < workers_; ++worker) {
            if (walks.groups(level, worker) < 0 || walks.groups(level, worker) >= workers_)
                throw std::invalid_argument("groups: expected numbers in 0..workers-1");
            if (!(walks.starts(level, worker) >= 0.0 && walks.starts(level, worker) < 1.0))
                throw std::invalid_argument("starts: expected numbers in [0, 1)");
        }
        for (Index group = 0; group < workers_; ++group) {
            starts.clear();
            for (Index worker = 0; worker < workers_; ++worker)
                if (walks.groups(level, worker) == group) starts.push_back(walks.starts(level, worker));
            std::sort(starts.begin(), starts.end());
            starts.erase(std::unique(starts.begin(), starts.end()), starts.end());
            for (std::size_t i = 0; i < starts.size(); ++i) {
                const double low = starts[i], high = starts[(i + 1) % starts.size()];
                Arc arc{level, static_cast<Index>(members_.size()), 0, 0,
                        starts.size() == 1 ? 1.0 : distance(low, high)};
                for (const bool backward : {false, true}) {
                    if (backward) arc.first_backward = static_cast<Index>(members_.size());
                    for (Index worker = 0; worker < workers_; ++worker) {
                        if (walks.groups(level, worker) != group ||
                            (walks.backward(level, worker) != 0) != backward)
                            continue;
                        const double start = walks.starts(level, worker);
                        members_.push_back({worker, backward ? distance(high, start) : distance(start, low)});
                    }
                }
                arc.end = static_cast<Index>(members_.size());
                arcs_.push_back(arc);
            }
        }
    }
}

CoverTimes::Reach CoverTimes::reach(const Arc& arc, double time, const double* rates, const double* begin,
                                    double around) const {
    const auto furthest = [&](Index from, Index to) {
        std::pair best{0.0, nobody};
        for (Index i = from; i < to; ++i) {
            const auto [worker, passed] = members_[i];
            const double covered = (time * rates[worker] - begin[worker]) - passed * around;
            if (covered > best.first) best = {covered, worker};
        }
        return best;
    };
    const auto forward = furthest(arc.first_member, arc.first_backward);
    const auto backward = furthest(arc.first_backward, arc.end);
    return {forward.first + backward.first, forward.second, backward.second};
}

void CoverTimes::run(Matrix<const double> times, Matrix<const double> begin, Matrix<const double> around,
                     View<double> runtime, Matrix<double> begin_slopes, Matrix<double> around_slopes) const {
    for (Matrix<double>* slopes : {&begin_slopes, &around_slopes})
        for (Index level = 0; level < slopes->rows; ++level)
            std::fill_n(slopes->row(level), slopes->columns, 0.0);
    std::vector<double> rates(workers_);
    for (Index draw = 0; draw < times.rows; ++draw) {
        const double* cycle_times = times.row(draw);
        for (Index worker = 0; worker < workers_; ++worker) rates[worker] = 1.0 / cycle_times[worker];
        double latest = 0.0;
        const Arc* last = nullptr;
        Reach pair{};
        for (const Arc& arc : arcs_) {
            const double* began = begin.row(arc.level);
            const double circle = around(arc.level, members_[arc.first_member].worker);
            const double length = circle * arc.length;
            if (circle == 0.0 ||
                (latest > 0.0 && reach(arc, latest, rates.data(), began, circle).covered >= length))
                continue;
            // What both sides have covered is convex in time and piecewise linear: from a time when all is,
            // Newton's method comes down to the root in finitely many steps.
            double time = infinity;
            Reach first{0.0, nobody, nobody};  // who alone would be there at that time
            for (Index i = arc.first_member; i < arc.end; ++i) {
                const auto [worker, passed] = members_[i];
                const double alone = cycle_times[worker] * (began[worker] + passed * circle + length);
                if (!(alone < time)) continue;
                time = alone;
                first = i < arc.first_backward ? Reach{0.0, worker, nobody} : Reach{0.0, nobody, worker};
            }
            if (time == 0.0 || time <= latest) continue;
            last = &arc;
            pair = first;
            if (time == infinity) {
                latest = infinity;
                break;
            }
            for (Reach before{0.0, nobody, nobody};;) {
                const Reach now = reach(arc, time, rates.data(), began, circle);
                // The same pair again: solved. Nobody at all: by rounding, where the arc is tiny.
                if (now.forward == before.forward && now.backward == before.backward) break;
                if (now.forward == nobody && now.backward == nobody) break;
                double rate = 0.0;
                for (const Index worker : {now.forward, now.backward})
                    if (worker != nobody) rate += rates[worker];
                pair = before = now;
                const double earlier = time - (now.covered - length) / rate;
                if (!(earlier < time)) break;
                time = earlier;
            }
            latest = time;
        }
        runtime[draw] = latest;
        if (begin_slopes.rows == 0 || last == nullptr || latest == infinity) continue;
        // latest x (sum of the rates) = sum of begin + around x (distances + length) over the pair.
        double rate = 0.0, way = last->length;
        for (Index i = last->first_member; i < last->end; ++i) {
            const auto [worker, passed] = members_[i];
            if (worker != (i < last->first_backward ? pair.forward : pair.backward)) continue;
            rate += rates[worker];
            way += passed;
        }
        for (const Index worker : {pair.forward, pair.backward})
            if (worker != nobody) begin_slopes(last->level, worker) += 1.0 / rate;
        const Index heir = pair.forward != nobody ? pair.forward : pair.backward;
        around_slopes(last->level, heir) += way / rate;
    }
}

}  // namespace cgc
