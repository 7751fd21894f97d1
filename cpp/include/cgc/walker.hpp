// The worker's loop over ordinary iterations: wait, pass forward, derive slice by slice, deliver, wait again.
//
// It does what the Python `Worker` and its host do, with the same slices, signs of life and wake-ups, as long
// as nothing else comes up: then it says where it stands, and they go on from there.
#pragma once

#include <cstdint>
#include <vector>

#include "cgc/linear_model.hpp"
#include "cgc/signal.hpp"
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

// Why the loop was left.
enum class Left {
    stopped,      // the worker is to leave
    iteration,    // an iteration with emulated cycle times was published
    orders,       // orders lie in the socket
    interrupted,  // a signal handler of the process must run
    delivery,     // a payload is complete but cannot be delivered as usual: not finite, or the ring is full
};

// Where the walk stands.
struct Standing {
    Left why = Left::interrupted;
    std::uint64_t published = 0;  // the last iteration that was looked at
    std::uint64_t begun = 0;      // the last one that was walked through here; 0: none
    Index delivered = 0;          // of it: so many visits from the first on
    Index next_coordinate = 0;    // of the visit under way
    bool over = false;            // it has ended meanwhile
    std::int64_t visit_began_ns = 0;
};

class Walker {
  public:
    // Times a slice is meant to take, and within which one payload leaves it to the next to wake the master.
    struct Pace {
        double slice_s, soon_s;
    };
    // theta of even and of odd iterations (L). Signal, model and all memory outlive the walker.
    Walker(Signal& signal, LinearModel& model, Index worker, View<const double> even_theta,
           View<const double> odd_theta, std::vector<Stop> stops, Pace pace, int wake_fd, int orders_fd,
           int master_fd);

    // Serves every iteration later than `last` until something else than an ordinary one comes up.
    Standing serve(std::uint64_t last, std::uint64_t orders_seen);

  private:
    enum class Step { go_on, over, orders, delivery };

    void begin(std::uint64_t iteration);
    Step walk();
    Step forward(const Stop& at);
    Step derive(const Stop& at);
    Step deliver(const Stop& at);
    Step look();
    bool is_next_soon() const;

    Signal& signal_;
    LinearModel& model_;
    Index worker_;
    View<const double> thetas_[2];
    std::vector<Stop> stops_;
    std::vector<Index> heights_;             // samples of each stop
    std::vector<std::vector<Index>> pairs_;  // of each stop, the numbers of its distinct ranges
    Pace pace_;
    int wake_fd_, orders_fd_, master_fd_;
    double forward_rate_ = 1e4,
           derive_rate_ = 1e7;  // learned: samples, and samples times coordinates, a second
    // The iteration under way.
    Standing standing_;
    std::uint64_t orders_seen_ = 0;
    bool with_value_ = false;
    std::vector<bool> passed_;  // by the number of a range
};

}  // namespace cgc
