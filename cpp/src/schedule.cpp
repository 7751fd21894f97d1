#include "cgc/schedule.hpp"

#include <algorithm>
#include <numeric>
#include <stdexcept>
#include <string>

namespace cgc {

namespace {

std::vector<Index> copy(View<const Index> view) { return {view.begin(), view.end()}; }

void require(bool holds, const char* message) {
    if (!holds) throw std::invalid_argument(message);
}

void require_offsets(View<const Index> offsets, std::size_t end, const char* message) {
    require(!offsets.empty() && offsets.front() == 0 && offsets.back() == static_cast<Index>(end) &&
                std::is_sorted(offsets.begin(), offsets.end()),
            message);
}

}  // namespace

CompiledSchedule::CompiledSchedule(const Walks& walks, const CellTable& cells)
    : walk_offsets_(copy(walks.offsets)),
      visit_cells_(copy(walks.cells)),
      fractions_(walks.fractions.begin(), walks.fractions.end()),
      widths_(copy(cells.widths)),
      ranges_(copy(cells.ranges)),
      required_rows_(copy(cells.required_rows)),
      interval_offsets_(copy(walks.interval_offsets)) {
    const std::size_t visit_count = walks.cells.size();
    require_offsets(walks.offsets, visit_count, "walk offsets: expected 0 = first <= ... <= last = visits");
    require(walks.rows.size() == visit_count && walks.fractions.size() == visit_count &&
                walks.interval_offsets.size() == visit_count + 1,
            "walks: expected cells, rows and fractions of one length, interval offsets one longer");
    require(walks.lows.size() == walks.highs.size(), "intervals: expected as many lows as highs");
    require_offsets(walks.interval_offsets, walks.lows.size(),
                    "interval offsets: expected 0 = first <= ... <= last = intervals");
    require(ranges_.size() == widths_.size() && required_rows_.size() == widths_.size(),
            "cells: expected widths, ranges and required rows of one length");
    for (const Index cell : visit_cells_)
        if (cell < 0 || cell >= this->cells())
            throw std::invalid_argument("visits: expected cells below " + std::to_string(this->cells()) +
                                        ", got " + std::to_string(cell));
    for (const Index range : ranges_) {
        require(range >= 0, "ranges: expected numbers >= 0");
        range_count_ = std::max(range_count_, range + 1);
    }

    visit_workers_.resize(visit_count);
    for (Index worker = 0; worker < workers(); ++worker)
        std::fill(visit_workers_.begin() + walk_begin(worker), visit_workers_.begin() + walk_end(worker),
                  worker);
    index_visits_by_cell(walks.rows);
    cut_segments(walks);
}

void CompiledSchedule::index_visits_by_cell(View<const Index> rows) {
    cell_offsets_.assign(cells() + 1, 0);
    for (const Index cell : visit_cells_) ++cell_offsets_[cell + 1];
    std::partial_sum(cell_offsets_.begin(), cell_offsets_.end(), cell_offsets_.begin());

    visits_by_cell_.resize(visits());
    std::vector<Index> fill(cell_offsets_.begin(), cell_offsets_.end() - 1);
    for (Index visit = 0; visit < visits(); ++visit) visits_by_cell_[fill[visit_cells_[visit]]++] = visit;

    visit_slots_.resize(visits());
    own_rows_.assign(cells(), 1);
    for (Index cell = 0; cell < cells(); ++cell) {
        const auto begin = visits_by_cell_.begin() + cell_offsets_[cell];
        const auto end = visits_by_cell_.begin() + cell_offsets_[cell + 1];
        for (auto it = begin; it != end; ++it)  // still in the order of the workers
            if (it != begin && worker_of(*it) == worker_of(*(it - 1))) own_rows_[cell] = 0;
        std::stable_sort(begin, end, [&](Index a, Index b) { return rows[a] < rows[b]; });
        for (auto it = begin; it != end; ++it) {
            const bool same_row = it != begin && rows[*it] == rows[*(it - 1)];
            if (same_row) own_rows_[cell] = 0;
            visit_slots_[*it] = same_row ? slot_count_ - 1 : slot_count_++;
        }
    }
}

void CompiledSchedule::cut_segments(const Walks& walks) {
    interval_segments_.resize(walks.lows.size());
    std::vector<double> cuts;
    for (Index worker = 0; worker < workers(); ++worker) {
        const Index begin = interval_offsets_[walk_begin(worker)];
        const Index end = interval_offsets_[walk_end(worker)];
        cuts.assign(walks.lows.begin() + begin, walks.lows.begin() + end);
        cuts.insert(cuts.end(), walks.highs.begin() + begin, walks.highs.begin() + end);
        std::sort(cuts.begin(), cuts.end());
        cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());

        const Index base = static_cast<Index>(segment_lengths_.size());
        const auto segment = [&](double bound) {
            return base + (std::lower_bound(cuts.begin(), cuts.end(), bound) - cuts.begin());
        };
        for (Index i = begin; i < end; ++i)
            interval_segments_[i] = {segment(walks.lows[i]), segment(walks.highs[i])};
        for (std::size_t i = 1; i < cuts.size(); ++i) segment_lengths_.push_back(cuts[i] - cuts[i - 1]);
        segment_lengths_.push_back(0.0);
    }
}

CompiledSchedule::Touched::Touched(const CompiledSchedule& schedule)
    : schedule_(schedule), next_(schedule.segment_lengths_.size()), left_(next_.size()) {
    clear();
}

void CompiledSchedule::Touched::clear() {
    std::iota(next_.begin(), next_.end(), Index{0});
    left_ = schedule_.segment_lengths_;
}

Index CompiledSchedule::Touched::find(Index segment) {
    while (next_[segment] != segment) {
        next_[segment] = next_[next_[segment]];  // path halving
        segment = next_[segment];
    }
    return segment;
}

double CompiledSchedule::Touched::untouched(Index visit) {
    double fraction = 0.0;
    for (Index i = schedule_.interval_offsets_[visit]; i < schedule_.interval_offsets_[visit + 1]; ++i) {
        const auto [first, last] = schedule_.interval_segments_[i];
        for (Index segment = find(first); segment < last; segment = find(segment + 1))
            fraction += left_[segment];
    }
    return fraction;
}

double CompiledSchedule::Touched::touch(Index visit, double most) {
    double fraction = 0.0;
    for (Index i = schedule_.interval_offsets_[visit]; i < schedule_.interval_offsets_[visit + 1]; ++i) {
        const auto [first, last] = schedule_.interval_segments_[i];
        for (Index segment = find(first); segment < last; segment = find(segment)) {
            const double room = most - fraction;
            if (left_[segment] > room) {
                left_[segment] -= room;
                return most;
            }
            fraction += left_[segment];
            next_[segment] = segment + 1;
        }
    }
    return fraction;
}

void CompiledSchedule::arrival_cycles(const CostModel& cost, View<double> out) const {
    require(static_cast<Index>(out.size()) == visits(), "out: expected one value a visit");
    Touched touched(*this);
    for (Index worker = 0; worker < workers(); ++worker) {
        double cycles = 0.0;
        for (Index visit = walk_begin(worker); visit < walk_end(worker); ++visit) {
            cycles += derivative_cycles(visit, cost);
            if (cost.forward_cycles > 0.0)
                cycles += cost.forward_cycles * (touched.touch(visit) * cost.samples);
            out[visit] = cycles;
        }
    }
}

}  // namespace cgc
