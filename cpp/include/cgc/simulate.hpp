// Simulated iterations of a schedule on given draws of cycle times.
#pragma once

#include "cgc/schedule.hpp"

namespace cgc {

// What workers learn from each other in an iteration; see the three classes in simulate.cpp.
enum class Feedback { none, announce, claim };

struct Draws {
    Matrix<const double> cycle_times;  // (draws, workers) seconds per cycle; infinity: never answers
    Matrix<const double> delays;       // (draws, workers) seconds; a single row holds for all draws
    double latency = 0.0;              // seconds that feedback takes
};

struct Outcome {
    View<double> runtime;         // (draws) seconds until every cell is decoded; may be infinite
    Matrix<double> decode_times;  // (draws, cells) seconds; no rows: not wanted
    Matrix<double> values_sent;   // (draws, workers) in messages that left by the end; no rows: not wanted
};

// Without feedback O(N log N + cells + visits to cells that not everybody visits) a draw where the cells that
// everybody visits cost all workers the same (up to rounding), else up to O(visits); with feedback
// O(visits log visits) a draw, and under claims O(open cells) for every request once all cells are claimed.
// The draws are shared among threads; the outcome is the same for any number of them.
void simulate(const CompiledSchedule& schedule, Feedback feedback, const CostModel& cost, const Draws& draws,
              const Outcome& outcome, Index threads = 1);

}  // namespace cgc
