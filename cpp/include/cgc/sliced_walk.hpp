// The walk of a worker through its visits, in slices after which it may be left and taken up again: forward
// passes over the samples of a visit that no earlier one has touched, then its derivatives.
#pragma once

#include <cstdint>
#include <vector>

#include "cgc/linear_model.hpp"
#include "cgc/types.hpp"

namespace cgc {

// One row of one cell. The ranges and coefficients are those of LinearModel::derivatives.
struct Stop {
    std::uint32_t slot = 0;
    Index start = 0, stop = 0;  // coordinates
    std::vector<Index> ranges;  // low, high, low, high, ...
    std::vector<double> coefficients;
    double* payload = nullptr;  // stop - start values and, at the end of theta, the loss
};

// Times a slice is meant to take, and within which one payload follows another at once.
struct Pace {
    double slice_s, soon_s;
};

class SlicedWalk {
  public:
    // The model and all memory outlive the walk.
    SlicedWalk(LinearModel& model, std::vector<Stop> stops, Pace pace);

    // Goes to the first visit, at theta (L).
    void begin(View<const double> theta, bool with_value);
    bool is_over() const { return made_ == static_cast<Index>(stops_.size()); }
    const Stop& at() const { return stops_[static_cast<std::size_t>(made_)]; }
    Index made() const { return made_; }  // so many visits from the first on
    // So far the visit is done, in the order of LinearModel::derivatives_part.
    Index next_coordinate() const { return next_coordinate_; }

    // Does a slice of the visit; false if nothing is left of it to do.
    bool slice();
    // Puts the loss behind its derivatives if it is asked for; whether all is finite.
    bool complete();
    // Goes on to the next visit.
    void next();
    // Whether the payload of the next visit follows at once: in one slice, and with no forward pass.
    bool is_next_soon() const;
    const Pace& pace() const { return pace_; }

  private:
    bool pass_forward();
    void enter();

    LinearModel& model_;
    std::vector<Stop> stops_;
    std::vector<Index> heights_;             // samples of each stop
    std::vector<std::vector<Index>> pairs_;  // of each stop, the numbers of its distinct ranges
    Pace pace_;
    double forward_rate_ = 1e4,
           derive_rate_ = 1e7;  // learned: samples, and samples times coordinates, a second
    bool with_value_ = false;
    std::vector<bool> passed_;  // by the number of a range
    // The visit under way.
    Index made_ = 0;
    Index next_coordinate_ = 0;
    std::size_t range_ = 0;  // whose samples are passed over
    bool in_range_ = false;  // it is entered, up to
    Index next_sample_ = 0;  // this one
};

}  // namespace cgc
