// Blocks that groups of workers walk around from several starts: when all of it is done, without feedback.
#pragma once

#include <vector>

#include "cgc/types.hpp"

namespace cgc {

// Level k: the workers form groups, each with samples of its own, and the coordinates of the level's block
// are a circle of length 1 for each group. Worker w starts at starts(k, w) in [0, 1), walks forward or, where
// backward(k, w) is not 0, backward, and goes around once.
struct CircularWalks {
    Matrix<const Index> groups;    // (levels, workers) numbers in [0, workers)
    Matrix<const double> starts;   // (levels, workers)
    Matrix<const Index> backward;  // (levels, workers)
};

// The limit of infinitely narrow cells: a point of a circle is done when the first member of its group gets
// there, a level when all points of all its circles are.
class CoverTimes {
  public:
    // Throws std::invalid_argument where numbers are out of range.
    explicit CoverTimes(const CircularWalks& walks);

    Index levels() const { return levels_; }
    Index workers() const { return workers_; }

    // Worker w sets out at level k after begin(k, w) >= 0 cycles and takes around(k, w) >= 0 more to go
    // around; these are equal for all members of a group, and 0 where it has nothing to do. runtime (draws)
    // is when the last level is done, of times (draws, workers) in seconds per cycle. If they have rows,
    // begin_slopes and around_slopes (levels, workers) become the sums over the draws of the derivatives of
    // the runtime, those by the common `around` of a group in the entry of one of its members; draws that
    // are never done are left out.
    // O(draws x sum over groups of starts x members), a few times where it is the slowest.
    void run(Matrix<const double> times, Matrix<const double> begin, Matrix<const double> around,
             View<double> runtime, Matrix<double> begin_slopes, Matrix<double> around_slopes) const;

  private:
    struct Member {
        Index worker;
        double distance;  // from its start to the end of the arc where it comes in
    };
    // Between neighbouring starts of a group: some members come in forward, the others backward.
    struct Arc {
        Index level, first_member, first_backward, end;
        double length;
    };
    struct Reach {
        double covered;  // by both sides together; may exceed the length
        Index forward, backward;
    };
    Reach reach(const Arc& arc, double time, const double* rates, const double* begin, double around) const;

    Index levels_, workers_;
    std::vector<Arc> arcs_;
    std::vector<Member> members_;
};

}  // namespace cgc
