// A schedule as flat arrays, and the one cost function of planner, simulator and emulator.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "cgc/types.hpp"

namespace cgc {

// What a visit costs, in cycles: partial derivatives at `cycles_per_derivative` each, plus a forward pass of
// `forward_cycles` for every sample that its worker touches for the first time in the iteration.
struct CostModel {
    double samples = 1.0;
    double cycles_per_derivative = 1.0;
    double forward_cycles = 0.0;
};

// All walks, worker after worker. Visit v is to row `rows[v]` of cell `cells[v]`; the samples that this row
// sums are the disjoint intervals [lows[i], highs[i]), i in [interval_offsets[v], interval_offsets[v + 1]),
// together the fraction `fractions[v]` of all samples.
struct Walks {
    View<const Index> offsets;  // (workers + 1)
    View<const Index> cells;    // (visits)
    View<const Index> rows;     // (visits)
    View<const double> fractions;
    View<const Index> interval_offsets;  // (visits + 1)
    View<const double> lows;             // (intervals)
    View<const double> highs;            // (intervals)
};

struct CellTable {
    View<const Index> widths;         // (cells) coordinates
    View<const Index> ranges;         // (cells) cells over the same coordinates have the same number
    View<const Index> required_rows;  // (cells) 0: decoded from the start
};

class CompiledSchedule {
  public:
    // Copies what it needs. Throws std::invalid_argument where an array contradicts another.
    CompiledSchedule(const Walks& walks, const CellTable& cells);

    Index workers() const { return static_cast<Index>(walk_offsets_.size()) - 1; }
    Index cells() const { return static_cast<Index>(widths_.size()); }
    Index visits() const { return static_cast<Index>(visit_cells_.size()); }

    // Visits of worker w: [walk_begin(w), walk_end(w)).
    Index walk_begin(Index worker) const { return walk_offsets_[worker]; }
    Index walk_end(Index worker) const { return walk_offsets_[worker + 1]; }
    Index worker_of(Index visit) const { return visit_workers_[visit]; }
    Index cell_of(Index visit) const { return visit_cells_[visit]; }
    // Numbers the visited (cell, row) pairs; visits to the same pair share a slot.
    Index slot_of(Index visit) const { return visit_slots_[visit]; }
    Index slots() const { return slot_count_; }

    // Visits to a cell, those to the same row side by side.
    View<const Index> visits_to(Index cell) const {
        return View<const Index>(visits_by_cell_)
            .subspan(cell_offsets_[cell], cell_offsets_[cell + 1] - cell_offsets_[cell]);
    }
    bool each_worker_has_its_own_row(Index cell) const { return own_rows_[cell] != 0; }

    Index width(Index cell) const { return widths_[cell]; }
    Index range(Index cell) const { return ranges_[cell]; }
    Index ranges() const { return range_count_; }
    Index required_rows(Index cell) const { return required_rows_[cell]; }

    // Cumulative cycles of its worker at the end of each visit when nothing is skipped, (visits,).
    // O(visits + intervals), amortised by the union-find of `Touched`.
    void arrival_cycles(const CostModel& cost, View<double> out) const;

    // The samples that each worker has touched in the iteration under way. Every worker's walk cuts [0, 1)
    // into segments at the ends of its intervals; a union-find leaps over segments touched before. Of a
    // segment only how much of it is untouched matters: every visit sums all of it or nothing.
    class Touched {
      public:
        explicit Touched(const CompiledSchedule& schedule);
        void clear();
        // The fraction of all samples that the visit would touch first.
        double untouched(Index visit);
        // Touches these, in their order, up to `most` of all samples; returns the fraction that was new.
        double touch(Index visit, double most = std::numeric_limits<double>::infinity());

      private:
        Index find(Index segment);
        const CompiledSchedule& schedule_;
        std::vector<Index> next_;   // next_[i] == i: not wholly touched yet
        std::vector<double> left_;  // of each segment that is not
    };

    // Cycles of one visit: its partial derivatives and, before these, the forward pass of new samples.
    double derivative_cycles(Index visit, const CostModel& cost) const {
        return cost.samples * fractions_[visit] * cost.cycles_per_derivative *
               static_cast<double>(widths_[visit_cells_[visit]]);
    }
    // When nothing that it sums has been touched before.
    double most_cycles(Index visit, const CostModel& cost) const {
        return derivative_cycles(visit, cost) + cost.forward_cycles * (cost.samples * fractions_[visit]);
    }

  private:
    void index_visits_by_cell(View<const Index> rows);
    void cut_segments(const Walks& walks);

    struct SegmentRange {
        Index first, last;
    };

    std::vector<Index> walk_offsets_, visit_workers_, visit_cells_, visit_slots_;
    std::vector<double> fractions_;
    std::vector<Index> cell_offsets_, visits_by_cell_;
    std::vector<std::uint8_t> own_rows_;
    std::vector<Index> widths_, ranges_, required_rows_;
    Index slot_count_ = 0, range_count_ = 0;
    std::vector<Index> interval_offsets_;
    std::vector<SegmentRange> interval_segments_;
    std::vector<double> segment_lengths_;  // one zero segment behind each worker's last: where leaps end
};

// Seconds that `cycles` take at `cycle_time` seconds each; no work takes no time, even at infinity.
inline double seconds(double cycle_time, double cycles) { return cycles == 0.0 ? 0.0 : cycle_time * cycles; }

}  // namespace cgc
