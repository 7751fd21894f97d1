// The master's side of an ordinary iteration: receive, count, decode, and sleep in between.
//
// While everybody delivers what its walk says there is little to decide about an arrival, and the collector
// decides it as the Python `Decoder` does. It hands back whatever else comes up. It is no second account of
// who is expected to deliver what: all arrivals are recorded in their order, and whoever goes on from there
// feeds the record to the `Decoder`.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "cgc/signal.hpp"
#include "cgc/types.hpp"

namespace cgc {

// What the collector knows of a schedule. Slots number the rows of all cells, cell by cell.
struct CollectorCell {
    Index start = 0, stop = 0;  // coordinates
    Index rows = 0;
    Index required = 0;         // rows that any decoding needs
    bool plain = false;         // any one row decodes, with coefficient 1
    bool empty = false;         // decoded from the start
    std::vector<Index> blocks;  // that it lies over
};

struct CollectorLayout {
    Index workers = 0;
    std::vector<CollectorCell> cells;
    std::vector<Index> block_bounds;      // start, stop, start, stop, ...
    std::vector<const double*> payloads;  // the memory of each worker
    // Of each worker: where in it the payload of each slot lies, in bytes; negative: nowhere.
    std::vector<View<const Index>> byte_offsets;
    double* thetas[2] = {nullptr, nullptr};  // of even and of odd iterations
    Index coordinates = 0;
    double forget = 1.0;  // by which factor a silence of before counts for less, an iteration later
    // Read at every call, so that the caller may change them in between: see Signal::publish and
    // Signal::wait.
    View<const int> wake_fds, fds;
};

struct CollectedArrival {
    std::int64_t iteration, worker, slot, finite, began_ns, ended_ns;
};

// A worker of which something has arrived, and the last iteration of it.
struct Heard {
    Index worker;
    std::uint64_t iteration;
};

// Rows that decode a cell, with a vector yet to be found.
struct Pending {
    Index cell = 0;
    std::vector<Index> rows;     // ascending
    std::vector<Index> workers;  // whose payloads they are
};

// Why `collect` returned.
enum class Collected {
    done,         // every cell is decoded
    blocks,       // some block is complete (if they were asked for)
    vector,       // a cell waits for its decoding vector
    late,         // the moment has come
    interrupted,  // by another thread, or a signal handler of the process must run
    unusual       // somebody is gone, a payload is not finite, a sum overflows, a successor is there
};

class Collector {
  public:
    Collector(Signal& signal, CollectorLayout layout);

    // Whether all workers took up iteration `last`, or have been seen less than `within_ns` ago. Takes down
    // their signs of life.
    bool all_well(std::uint64_t last, std::int64_t within_ns);
    // As all_well found them, with the longest silence of the iterations since `drop_signs`.
    const std::vector<Progress>& signs() const { return signs_; }
    void drop_signs();

    // Opens all cells and publishes the iteration at theta (L); `gradient` (L) is filled. False, and nothing
    // has happened, if theta is not finite.
    bool begin(std::uint64_t iteration, View<const double> theta, View<double> gradient, bool with_value);
    // Works until one of the reasons above; each_block: return for complete blocks too. The moment is counted
    // from the beginning of the iteration; the largest number: there is none.
    Collected collect(std::int64_t until_ns, bool each_block);
    // Zeroes what nothing was added to yet, for whoever goes on without the collector.
    void leave();
    // Ends the iteration, complete or not: workers abandon it, and it is counted.
    void end();
    // Makes `collect` in another thread return.
    void interrupt() { interrupted_.store(true); }
    // Of what has arrived since the last call.
    std::vector<Heard> take_heard();
    // The cell that waits for its vector; the caller decodes it before anything else is received, or goes on
    // without the collector. Entries of `vector` belong to its rows.
    const Pending& pending() const { return pending_; }
    void decode(View<const double> vector);

    // --- the record ---------------------------------------------------------------------------------------
    const std::vector<CollectedArrival>& arrivals() const { return arrivals_; }
    const std::vector<std::int64_t>& decoded_ns() const { return decoded_ns_; }  // of each cell; 0: not yet
    const std::vector<std::int64_t>& blocks_ns() const { return blocks_ns_; }
    const std::vector<Index>& completed() const { return completed_; }  // blocks, in their order
    const std::vector<Index>& contributors(Index cell) const;           // workers whose payloads were used
    std::uint64_t iteration() const { return iteration_; }
    std::int64_t began_ns() const { return began_ns_; }
    std::int64_t elapsed_ns() const { return elapsed_ns_; }  // until `end`
    double loss() const { return loss_; }
    // How many payloads of the iteration each worker has delivered.
    const std::vector<std::int64_t>& delivered() const { return delivered_; }

    // All iterations that were ended since the last call; of each, in a row: when it began, how long it took,
    // `delivered` and `last_ended_ns` of every worker.
    std::vector<std::int64_t> take_ended();

  private:
    void take(Index worker, const Arrival& arrival);
    void add(Index cell, View<const double* const> rows, View<const double> coefficients);
    const double* payload(Index worker, Index slot) const;
    bool is_first(const CollectorCell& cell);
    View<double> block(Index index) const;

    Signal& signal_;
    CollectorLayout layout_;
    std::vector<Index> first_slot_;
    std::vector<Index> cell_of_slot_;
    std::vector<Index> cells_over_;  // of each block
    std::vector<Progress> signs_;
    std::vector<std::uint64_t> heard_;
    bool was_heard_ = false;
    std::vector<double> not_emulated_;  // cycle times
    std::unique_ptr<bool[]> ready_;     // which of the descriptors fired
    std::atomic<bool> interrupted_{false};
    // The iteration under way.
    std::uint64_t iteration_ = 0;
    std::int64_t began_ns_ = 0, elapsed_ns_ = 0;
    View<double> gradient_;
    bool with_value_ = false, unusual_ = false, is_pending_ = false;
    Index open_count_ = 0, told_ = 0;
    double loss_ = 0.0;
    std::vector<unsigned char> open_;  // of each cell: 1 if rows are wanted
    std::vector<Index> arrived_;       // of each slot: whose payload counts; -1: none
    std::vector<Index> rows_here_;     // of each cell
    std::vector<Index> open_in_block_;
    std::vector<unsigned char> filled_;  // of each block: whether something was written to it
    Pending pending_;
    std::vector<CollectedArrival> arrivals_;
    std::vector<std::int64_t> decoded_ns_, blocks_ns_, delivered_, last_ended_ns_;
    std::vector<Index> completed_;
    std::vector<std::vector<Index>> contributors_;
    std::vector<const double*> rows_;
    std::vector<double> coefficients_;
    std::vector<std::int64_t> ended_;
};

}  // namespace cgc
