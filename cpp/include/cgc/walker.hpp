// The worker's loop over ordinary iterations: wait, pass forward, derive slice by slice, deliver, wait again.
//
// It does what the Python `Worker` and its host do, with the same slices, signs of life and wake-ups, as long
// as nothing else comes up: then it says where it stands, and they go on from there.
#pragma once

#include <cstdint>

#include "cgc/signal.hpp"
#include "cgc/sliced_walk.hpp"
#include "cgc/types.hpp"

namespace cgc {

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
    // theta of even and of odd iterations (L). Signal and all memory outlive the walker.
    Walker(Signal& signal, SlicedWalk walk, Index worker, View<const double> even_theta,
           View<const double> odd_theta, int wake_fd, int orders_fd, int master_fd);

    // Serves every iteration later than `last` until something else than an ordinary one comes up.
    Standing serve(std::uint64_t last, std::uint64_t orders_seen);

  private:
    enum class Step { go_on, over, orders, delivery };

    void begin(std::uint64_t iteration);
    Step go_through();
    Step deliver();
    Step look();
    Standing left(Left why);

    Signal& signal_;
    SlicedWalk walk_;
    Index worker_;
    View<const double> thetas_[2];
    int wake_fd_, orders_fd_, master_fd_;
    // The iteration under way.
    Standing standing_;
    std::uint64_t orders_seen_ = 0;
};

}  // namespace cgc
