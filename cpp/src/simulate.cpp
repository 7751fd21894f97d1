#include "cgc/simulate.hpp"

#include <algorithm>
#include <cstdint>
#include <exception>
#include <limits>
#include <memory>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace cgc {

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr Index nobody = -1;

// One draw: what goes in and what comes out; null pointers are not wanted.
struct Iteration {
    const double* cycle_times;
    const double* delays;
    double* decode_times;
    double* values_sent;
};

// Every worker does its whole walk, so visits arrive at T_w * cycles + delay whatever the others do, and a
// cell is decoded at an order statistic of its rows' earliest arrivals.
class WithoutFeedback {
  public:
    WithoutFeedback(const CompiledSchedule& schedule, const CostModel& cost, double /*latency*/)
        : schedule_(schedule), cycles_(schedule.visits()), values_(schedule.visits()) {
        schedule.arrival_cycles(cost, cycles_);
        for (Index worker = 0; worker < schedule.workers(); ++worker) {
            double values = 0.0;
            for (Index visit = schedule.walk_begin(worker); visit < schedule.walk_end(worker); ++visit)
                values_[visit] = values += static_cast<double>(schedule.width(schedule.cell_of(visit)));
        }
        std::size_t most_arrivals = schedule.workers();
        for (Index cell = 0; cell < schedule.cells(); ++cell) {
            const auto visits = schedule.visits_to(cell);
            most_arrivals = std::max(most_arrivals, visits.size());
            if (schedule.required_rows(cell) == 0) continue;
            if (schedule.each_worker_has_its_own_row(cell) &&
                static_cast<Index>(visits.size()) == schedule.workers())
                add_shared(cell);
            else
                others_.push_back(cell);
        }
        arrivals_.reserve(most_arrivals);
        ranking_.resize(schedule.workers());
    }

    double run(const Iteration& draw) {
        if (draw.decode_times) std::fill_n(draw.decode_times, schedule_.cells(), 0.0);
        double runtime = 0.0;
        for (const Index cell : others_)
            if (draw.decode_times || !decoded_by(cell, runtime, draw))
                runtime = std::max(runtime, decode(cell, draw));
        if (!shared_.empty()) runtime = decode_shared(runtime, draw);
        if (draw.values_sent) count_values(runtime, draw);
        return runtime;
    }

  private:
    // A cell that every worker visits, each at its own row. The costs of its visits are equal, or nearly so
    // by rounding, wherever the code treats all workers alike; then the ranking of the cycle times, made
    // once a draw, is nearly that of the arrivals.
    struct Shared {
        Index cell;
        double least, most;  // cycles of its visits
    };
    struct Ranked {
        double cycle_time;
        Index worker;
    };

    void add_shared(Index cell) {
        const std::size_t begin = shared_cycles_.size();
        shared_cycles_.resize(begin + schedule_.workers());
        for (const Index visit : schedule_.visits_to(cell))
            shared_cycles_[begin + schedule_.worker_of(visit)] = cycles_[visit];
        const auto [least, most] = std::minmax_element(shared_cycles_.begin() + begin, shared_cycles_.end());
        shared_.push_back({cell, *least, *most});
    }

    double decode_shared(double runtime, const Iteration& draw) {
        const Index workers = schedule_.workers();
        for (Index worker = 0; worker < workers; ++worker)
            ranking_[worker] = {draw.cycle_times[worker], worker};
        std::sort(ranking_.begin(), ranking_.end(),
                  [](const Ranked& a, const Ranked& b) { return a.cycle_time < b.cycle_time; });
        const auto [shortest, longest] = std::minmax_element(draw.delays, draw.delays + workers);

        const double* cycles = shared_cycles_.data();
        for (const Shared& shared : shared_) {
            const auto at_least = [&](Index rank) {
                return seconds(ranking_[rank].cycle_time, shared.least) + *shortest;
            };
            const auto at_most = [&](Index rank) {
                return seconds(ranking_[rank].cycle_time, shared.most) + *longest;
            };
            // The k-th arrival is no earlier than at_least(k), no later than at_most(k): ranks whose own
            // bounds lie outside are before it or after it, and it is found among the few that are left.
            const Index kth = schedule_.required_rows(shared.cell) - 1;
            if (draw.decode_times || at_most(kth) > runtime) {
                Index first = kth, last = kth + 1;
                while (first > 0 && at_most(first - 1) >= at_least(kth)) --first;
                while (last < workers && at_least(last) <= at_most(kth)) ++last;
                arrivals_.clear();
                for (Index rank = first; rank < last; ++rank) {
                    const auto [cycle_time, worker] = ranking_[rank];
                    arrivals_.push_back(seconds(cycle_time, cycles[worker]) + draw.delays[worker]);
                }
                runtime = std::max(runtime, select(shared.cell, kth - first, draw));
            }
            cycles += workers;
        }
        return runtime;
    }

    // Whether any one row decodes the cell and one has arrived by then: most cells do not need more. Whoever
    // was there in time in the last cell most likely is in the next one.
    bool decoded_by(Index cell, double time, const Iteration& draw) {
        if (schedule_.required_rows(cell) > 1) return false;
        const auto visits = schedule_.visits_to(cell);
        const auto in_time = [&](Index visit) {
            const Index worker = schedule_.worker_of(visit);
            return seconds(draw.cycle_times[worker], cycles_[visit]) + draw.delays[worker] <= time;
        };
        if (likely_ < visits.size() && in_time(visits[likely_])) return true;
        const auto found = std::find_if(visits.begin(), visits.end(), in_time);
        if (found == visits.end()) return false;
        likely_ = found - visits.begin();
        return true;
    }

    double decode(Index cell, const Iteration& draw) {
        arrivals_.clear();
        Index slot = nobody;
        for (const Index visit : schedule_.visits_to(cell)) {
            const Index worker = schedule_.worker_of(visit);
            const double arrival = seconds(draw.cycle_times[worker], cycles_[visit]) + draw.delays[worker];
            if (schedule_.slot_of(visit) == slot)
                arrivals_.back() = std::min(arrivals_.back(), arrival);  // the same row from another worker
            else
                arrivals_.push_back(arrival);
            slot = schedule_.slot_of(visit);
        }
        return select(cell, schedule_.required_rows(cell) - 1, draw);
    }

    double select(Index cell, Index index, const Iteration& draw) {
        const auto nth = arrivals_.begin() + index;
        std::nth_element(arrivals_.begin(), nth, arrivals_.end());
        if (draw.decode_times) draw.decode_times[cell] = *nth;
        return *nth;
    }

    void count_values(double runtime, const Iteration& draw) const {
        for (Index worker = 0; worker < schedule_.workers(); ++worker) {
            const auto begin = cycles_.begin() + schedule_.walk_begin(worker);
            const auto end = cycles_.begin() + schedule_.walk_end(worker);
            const auto sent = std::partition_point(begin, end, [&](double cycles) {
                const double finish = seconds(draw.cycle_times[worker], cycles);
                return finish < infinity && finish <= runtime;
            });
            draw.values_sent[worker] = sent == begin ? 0.0 : values_[sent - cycles_.begin() - 1];
        }
    }

    const CompiledSchedule& schedule_;
    std::vector<double> cycles_, values_;  // by visit, cumulative along each walk
    std::vector<Shared> shared_;
    std::vector<double> shared_cycles_;  // (shared, workers)
    std::vector<Ranked> ranking_;
    std::vector<Index> others_;
    std::vector<double> arrivals_;
    std::size_t likely_ = 0;  // among the visits to a cell
};

// Events in the order of time; at one instant in the order of `kind`, then of `index`, so that the outcome
// of a tie does not depend on how a heap is laid out.
struct Event {
    double time;
    int kind;
    Index index;
    Index generation;  // of the worker's current visit; an event of an earlier one is void
};

class EventQueue {
  public:
    void clear() { heap_.clear(); }
    bool empty() const { return heap_.empty(); }
    void push(const Event& event) {
        if (event.time == infinity) return;  // never happens
        heap_.push_back(event);
        std::push_heap(heap_.begin(), heap_.end(), later);
    }
    Event pop() {
        std::pop_heap(heap_.begin(), heap_.end(), later);
        const Event event = heap_.back();
        heap_.pop_back();
        return event;
    }

  private:
    static bool later(const Event& a, const Event& b) {
        if (a.time != b.time) return a.time > b.time;
        if (a.kind != b.kind) return a.kind > b.kind;
        return a.index > b.index;
    }
    std::vector<Event> heap_;
};

// The visit that a worker is in: forward pass over new samples first, then the partial derivatives.
class VisitUnderWay {
  public:
    explicit VisitUnderWay(double cycle_time = 0.0) : cycle_time_(cycle_time) {}

    // Seconds that it will take.
    double start(const CompiledSchedule& schedule, Index visit, const CostModel& cost,
                 CompiledSchedule::Touched& touched, double now) {
        visit_ = visit;
        started_ = now;
        const double derivatives = schedule.derivative_cycles(visit, cost);
        if (cost.forward_cycles == 0.0) return seconds(cycle_time_, derivatives);
        return seconds(cycle_time_,
                       derivatives + cost.forward_cycles * (touched.untouched(visit) * cost.samples));
    }
    void finish(const CostModel& cost, CompiledSchedule::Touched& touched) const {
        if (cost.forward_cycles > 0.0) touched.touch(visit_);
    }
    // The forward pass counts as far as it went.
    void abandon(const CostModel& cost, CompiledSchedule::Touched& touched, double now) const {
        if (cost.forward_cycles == 0.0 || now <= started_) return;
        touched.touch(visit_, (now - started_) / cycle_time_ / (cost.forward_cycles * cost.samples));
    }

  private:
    double cycle_time_;
    Index visit_ = nobody;
    double started_ = 0.0;
};

// The master announces every cell that it decodes; `latency` later the workers know. They skip such a cell
// when they come to it and abandon it where they are in it, then go on at that very moment.
class WithAnnouncements {
  public:
    WithAnnouncements(const CompiledSchedule& schedule, const CostModel& cost, double latency)
        : schedule_(schedule),
          cost_(cost),
          latency_(latency),
          touched_(schedule),
          workers_(schedule.workers()),
          missing_(schedule.cells()),
          announced_(schedule.cells()),
          arrived_(schedule.slots()) {
        for (Index cell = 0; cell < schedule.cells(); ++cell)
            open_at_start_ += schedule.required_rows(cell) > 0;
    }

    double run(const Iteration& draw) {
        begin(draw);
        double runtime = open_ == 0 ? 0.0 : infinity;
        while (!events_.empty()) {
            const Event event = events_.pop();
            if (event.time > runtime) break;
            switch (event.kind) {
                case arrival:
                    if (receive(event.index, event.time, draw) && --open_ == 0) runtime = event.time;
                    break;
                case announcement:
                    announce(event.index, event.time);
                    break;
                case finish:
                    finish_visit(event, draw);
                    break;
            }
        }
        return runtime;
    }

  private:
    enum Kind { arrival, announcement, finish };  // in the order in which they happen at one instant

    void begin(const Iteration& draw) {
        events_.clear();
        touched_.clear();
        std::fill(announced_.begin(), announced_.end(), false);
        std::fill(arrived_.begin(), arrived_.end(), false);
        open_ = open_at_start_;
        for (Index cell = 0; cell < schedule_.cells(); ++cell) {
            missing_[cell] = schedule_.required_rows(cell);
            if (draw.decode_times) draw.decode_times[cell] = missing_[cell] == 0 ? 0.0 : infinity;
        }
        for (Index worker = 0; worker < schedule_.workers(); ++worker) {
            workers_[worker] = {schedule_.walk_begin(worker), 0, false,
                                VisitUnderWay(draw.cycle_times[worker])};
            if (draw.values_sent) draw.values_sent[worker] = 0.0;
            go_on(worker, 0.0);
        }
    }

    struct Worker {
        Index visit;       // under way or next
        Index generation;  // counts what it started and what it abandoned
        bool busy;
        VisitUnderWay under_way;
    };

    void go_on(Index index, double now) {
        Worker& worker = workers_[index];
        ++worker.generation;
        while (worker.visit < schedule_.walk_end(index) && announced_[schedule_.cell_of(worker.visit)])
            ++worker.visit;
        worker.busy = worker.visit < schedule_.walk_end(index);
        if (!worker.busy) return;
        const double duration = worker.under_way.start(schedule_, worker.visit, cost_, touched_, now);
        events_.push({now + duration, finish, index, worker.generation});
    }

    void finish_visit(const Event& event, const Iteration& draw) {
        Worker& worker = workers_[event.index];
        if (event.generation != worker.generation) return;  // abandoned
        worker.under_way.finish(cost_, touched_);
        const Index visit = worker.visit++;
        if (draw.values_sent)
            draw.values_sent[event.index] += static_cast<double>(schedule_.width(schedule_.cell_of(visit)));
        events_.push({event.time + draw.delays[event.index], arrival, visit, 0});
        go_on(event.index, event.time);
    }

    // Whether this row was the last that its cell was missing.
    bool receive(Index visit, double now, const Iteration& draw) {
        const Index cell = schedule_.cell_of(visit);
        if (missing_[cell] == 0 || arrived_[schedule_.slot_of(visit)]) return false;
        arrived_[schedule_.slot_of(visit)] = true;
        if (--missing_[cell] > 0) return false;
        if (draw.decode_times) draw.decode_times[cell] = now;
        events_.push({now + latency_, announcement, cell, 0});
        return true;
    }

    void announce(Index cell, double now) {
        announced_[cell] = true;
        for (const Index visit : schedule_.visits_to(cell)) {
            const Index index = schedule_.worker_of(visit);
            const Worker& worker = workers_[index];
            if (!worker.busy || worker.visit != visit) continue;
            worker.under_way.abandon(cost_, touched_, now);
            go_on(index, now);
        }
    }

    const CompiledSchedule& schedule_;
    const CostModel cost_;
    const double latency_;
    CompiledSchedule::Touched touched_;
    EventQueue events_;
    std::vector<Worker> workers_;
    std::vector<Index> missing_;                     // rows by cell
    std::vector<std::uint8_t> announced_, arrived_;  // by cell, by slot
    Index open_ = 0, open_at_start_ = 0;             // cells not decoded
};

// The first cell of a walk is its worker's own from the start (of several workers with the same first cell,
// the lowest number has it). A worker asks for more so early that the answer, which takes `latency`, comes
// when it has done what it holds, and for so much that this lasts until the answer to the next request can be
// there: the first cells of its walk that nobody has claimed, which are then claimed at once. When all are
// claimed it is given the uncommitted one, among those that it does not hold itself, with the fewest
// claimants (the first such in its walk): this is how the claims of dead and slow workers are made good.
// Whoever finishes a cell first commits it, and `latency` later the other claimants know and drop it, done or
// not. `latency` after all cells of its walk are committed a worker knows that too and sends the sum of those
// that it committed; they are decoded when that one message arrives. Any one row decodes.
class WithClaims {
  public:
    WithClaims(const CompiledSchedule& schedule, const CostModel& cost, double latency)
        : schedule_(schedule),
          cost_(cost),
          latency_(latency),
          touched_(schedule),
          workers_(schedule.workers()),
          sent_at_(schedule.workers()),
          claimants_(schedule.cells()),
          committed_by_(schedule.cells()),
          committed_at_(schedule.cells()),
          known_(schedule.cells()),
          counted_for_(schedule.ranges()) {
        for (Index cell = 0; cell < schedule.cells(); ++cell)
            if (schedule.required_rows(cell) > 1)
                throw std::invalid_argument("claim: expected cells of which any one row decodes");
        for (Index worker = 0; worker < schedule.workers(); ++worker) {
            const std::size_t visits = schedule.walk_end(worker) - schedule.walk_begin(worker);
            workers_[worker].held.reserve(visits);
            workers_[worker].open.reserve(visits);
        }
    }

    double run(const Iteration& draw) {
        begin(draw);
        while (!events_.empty()) {
            const Event event = events_.pop();
            switch (event.kind) {
                case notice:
                    learn(event.index, event.time, draw);
                    break;
                case grant:
                    receive(event.index, event.time, draw);
                    break;
                case finish:
                    if (event.generation == workers_[event.index].generation)
                        finish_visit(event.index, event.time, draw);
                    break;
                case request:
                    if (event.generation == workers_[event.index].wish) ask(event.index, event.time, draw);
                    break;
            }
        }
        double runtime = 0.0;
        for (Index cell = 0; cell < schedule_.cells(); ++cell) {
            double decoded = 0.0;
            if (schedule_.required_rows(cell) > 0) {
                const Index worker = committed_by_[cell];
                decoded = worker == nobody ? infinity : sent_at_[worker] + draw.delays[worker];
            }
            if (draw.decode_times) draw.decode_times[cell] = decoded;
            runtime = std::max(runtime, decoded);
        }
        if (draw.values_sent) count_values(runtime, draw);
        return runtime;
    }

  private:
    enum Kind { notice, grant, finish, request };  // in the order in which they happen at one instant

    struct Worker {
        std::vector<Index> held;  // claimed visits; [0, granted) are known to it, [0, next) started
        std::size_t next = 0, granted = 0;
        std::vector<Index> open;  // once all is claimed: its visits to cells that may not be committed
        Index unclaimed = 0;      // the first visit of its walk that may be
        Index generation = 0;     // counts what it started and what it dropped
        Index wish = 0;           // counts the requests that it meant to make
        bool busy = false, waiting = false, all_claimed = false;
        double finish = 0.0;       // of the visit under way
        double last_commit = 0.0;  // among the cells of its walk, that it found out
        VisitUnderWay under_way;
    };

    void begin(const Iteration& draw) {
        events_.clear();
        touched_.clear();
        std::fill(sent_at_.begin(), sent_at_.end(), infinity);
        std::fill(claimants_.begin(), claimants_.end(), 0);
        std::fill(committed_by_.begin(), committed_by_.end(), nobody);
        std::fill(known_.begin(), known_.end(), false);
        for (Index index = 0; index < schedule_.workers(); ++index) {
            Worker& worker = workers_[index];
            worker.held.clear();
            worker.open.clear();
            worker.next = worker.granted = 0;
            worker.unclaimed = schedule_.walk_begin(index);
            worker.generation = worker.wish = 0;
            worker.busy = worker.waiting = worker.all_claimed = false;
            worker.last_commit = 0.0;
            worker.under_way = VisitUnderWay(draw.cycle_times[index]);
            const Index first = schedule_.walk_begin(index);
            if (first == schedule_.walk_end(index) || claimants_[schedule_.cell_of(first)] > 0) continue;
            claim(worker, first);
            worker.granted = 1;
        }
        for (Index index = 0; index < schedule_.workers(); ++index) go_on(index, 0.0, draw);
    }

    void claim(Worker& worker, Index visit) {
        ++claimants_[schedule_.cell_of(visit)];
        worker.held.push_back(visit);
    }

    // Starts the next visit that it holds, if it is free, and sees when to ask for more.
    void go_on(Index index, double now, const Iteration& draw) {
        Worker& worker = workers_[index];
        while (!worker.busy && worker.next < worker.granted) {
            const Index visit = worker.held[worker.next++];
            if (known_[schedule_.cell_of(visit)]) continue;
            worker.busy = true;
            worker.finish = now + worker.under_way.start(schedule_, visit, cost_, touched_, now);
            events_.push({worker.finish, finish, index, ++worker.generation});
        }
        if (worker.waiting) return;
        double ask_at = now;
        if (worker.busy) {
            double done = worker.finish;
            for (std::size_t i = worker.next; i < worker.granted; ++i)
                if (!known_[schedule_.cell_of(worker.held[i])]) done += expected(index, worker.held[i], draw);
            ask_at = std::max(now, done - latency_);
        }
        events_.push({ask_at, request, index, ++worker.wish});
    }

    // Seconds, if it touches all samples for the first time.
    double expected(Index worker, Index visit, const Iteration& draw) const {
        return seconds(draw.cycle_times[worker], schedule_.most_cycles(visit, cost_));
    }

    void ask(Index index, double now, const Iteration& draw) {
        Worker& worker = workers_[index];
        const std::size_t before = worker.held.size();
        double lasts = 0.0;
        do {
            const Index visit = unclaimed_visit(index);
            if (visit == nobody) break;
            claim(worker, visit);
            lasts += expected(index, visit, draw);
        } while (lasts < latency_);
        if (worker.held.size() == before) {
            const Index visit = uncommitted_visit(index);
            if (visit != nobody) claim(worker, visit);
        }
        if (worker.held.size() > before) {
            worker.waiting = true;
            events_.push({now + latency_, grant, index, 0});
        } else if (!worker.busy && worker.open.empty()) {
            sent_at_[index] = std::max(now, worker.last_commit + latency_);
        }
    }

    void receive(Index index, double now, const Iteration& draw) {
        Worker& worker = workers_[index];
        worker.waiting = false;
        worker.granted = worker.held.size();
        go_on(index, now, draw);
    }

    Index unclaimed_visit(Index index) {
        Index& visit = workers_[index].unclaimed;  // no claim is ever given back
        while (visit < schedule_.walk_end(index) && claimants_[schedule_.cell_of(visit)] > 0) ++visit;
        return visit < schedule_.walk_end(index) ? visit : nobody;
    }

    Index uncommitted_visit(Index index) {
        Worker& worker = workers_[index];
        if (!worker.all_claimed) {
            worker.all_claimed = true;
            for (Index visit = schedule_.walk_begin(index); visit < schedule_.walk_end(index); ++visit)
                worker.open.push_back(visit);
        }
        const auto committed = [&](Index visit) {
            const Index cell = schedule_.cell_of(visit);
            if (committed_by_[cell] == nobody) return false;
            worker.last_commit = std::max(worker.last_commit, committed_at_[cell]);
            return true;
        };
        std::erase_if(worker.open, committed);
        Index best = nobody;
        for (const Index visit : worker.open) {
            const Index cell = schedule_.cell_of(visit);
            if (best != nobody && claimants_[cell] >= claimants_[schedule_.cell_of(best)]) continue;
            if (std::find(worker.held.begin(), worker.held.end(), visit) == worker.held.end()) best = visit;
        }
        return best;
    }

    void finish_visit(Index index, double now, const Iteration& draw) {
        Worker& worker = workers_[index];
        const Index cell = schedule_.cell_of(worker.held[worker.next - 1]);
        worker.under_way.finish(cost_, touched_);
        worker.busy = false;
        if (committed_by_[cell] == nobody) {
            committed_by_[cell] = index;
            committed_at_[cell] = now;
            if (claimants_[cell] > 1) events_.push({now + latency_, notice, cell, 0});
        }
        go_on(index, now, draw);
    }

    void learn(Index cell, double now, const Iteration& draw) {
        known_[cell] = true;
        for (const Index visit : schedule_.visits_to(cell)) {
            const Index index = schedule_.worker_of(visit);
            Worker& worker = workers_[index];
            if (!worker.busy) continue;
            const bool in_it = worker.held[worker.next - 1] == visit;
            if (in_it) {
                worker.under_way.abandon(cost_, touched_, now);
                worker.busy = false;
                ++worker.generation;
            } else if (std::find(worker.held.begin() + worker.next, worker.held.end(), visit) ==
                       worker.held.end()) {
                continue;
            }
            go_on(index, now, draw);
        }
    }

    // One sum holds one value for every coordinate that the worker committed cells over.
    void count_values(double runtime, const Iteration& draw) {
        std::fill(counted_for_.begin(), counted_for_.end(), nobody);
        for (Index worker = 0; worker < schedule_.workers(); ++worker) {
            double values = 0.0;
            for (Index visit = schedule_.walk_begin(worker); visit < schedule_.walk_end(worker); ++visit) {
                const Index cell = schedule_.cell_of(visit);
                if (committed_by_[cell] != worker || counted_for_[schedule_.range(cell)] == worker) continue;
                counted_for_[schedule_.range(cell)] = worker;
                values += static_cast<double>(schedule_.width(cell));
            }
            const bool sent = sent_at_[worker] < infinity && sent_at_[worker] <= runtime;
            draw.values_sent[worker] = sent ? values : 0.0;
        }
    }

    const CompiledSchedule& schedule_;
    const CostModel cost_;
    const double latency_;
    CompiledSchedule::Touched touched_;
    EventQueue events_;
    std::vector<Worker> workers_;
    std::vector<double> sent_at_;      // by worker
    std::vector<Index> claimants_;     // by cell; how many ever claimed it
    std::vector<Index> committed_by_;  // worker, by cell
    std::vector<double> committed_at_;
    std::vector<std::uint8_t> known_;  // by cell: its claimants know that it is committed
    std::vector<Index> counted_for_;   // worker, by coordinate range
};

template <class Simulation>
void simulate_range(Simulation& simulation, const Draws& draws, const Outcome& outcome, Index begin,
                    Index end) {
    for (Index draw = begin; draw < end; ++draw) {
        outcome.runtime[draw] =
            simulation.run({draws.cycle_times.row(draw), draws.delays.row(draws.delays.rows == 1 ? 0 : draw),
                            outcome.decode_times.rows == 0 ? nullptr : outcome.decode_times.row(draw),
                            outcome.values_sent.rows == 0 ? nullptr : outcome.values_sent.row(draw)});
    }
}

// Every draw is simulated on its own, so that the outcome does not depend on who does it.
template <class Simulation>
void simulate_with(const CompiledSchedule& schedule, const CostModel& cost, const Draws& draws,
                   const Outcome& outcome, Index threads) {
    const Index count = draws.cycle_times.rows;
    threads = std::clamp<Index>(threads, 1, std::max<Index>(count, 1));
    // Memory for all first. What may still throw in a thread (a heap that grows) is rethrown here.
    std::vector<std::unique_ptr<Simulation>> simulations;
    for (Index i = 0; i < threads; ++i)
        simulations.push_back(std::make_unique<Simulation>(schedule, cost, draws.latency));
    std::vector<std::exception_ptr> errors(threads);
    const auto run = [&](Index i) {
        try {
            simulate_range(*simulations[i], draws, outcome, count * i / threads, count * (i + 1) / threads);
        } catch (...) {
            errors[i] = std::current_exception();
        }
    };
    std::vector<std::thread> others;
    others.reserve(threads - 1);
    Index started = 1;
    try {
        for (; started < threads; ++started) others.emplace_back(run, started);
    } catch (const std::system_error&) {
        // No more threads to be had: their share is done here.
    }
    run(0);
    for (Index i = started; i < threads; ++i) run(i);
    for (std::thread& other : others) other.join();
    for (const std::exception_ptr& error : errors)
        if (error) std::rethrow_exception(error);
}

}  // namespace

void simulate(const CompiledSchedule& schedule, Feedback feedback, const CostModel& cost, const Draws& draws,
              const Outcome& outcome, Index threads) {
    const Index count = draws.cycle_times.rows;
    const auto has_shape = [](const auto& matrix, Index rows, Index columns) {
        return matrix.rows == rows && matrix.columns == columns;
    };
    if (!has_shape(draws.cycle_times, count, schedule.workers()))
        throw std::invalid_argument("cycle_times: expected one column a worker");
    if (!has_shape(draws.delays, 1, schedule.workers()) &&
        !has_shape(draws.delays, count, schedule.workers()))
        throw std::invalid_argument("delays: expected one row, or one a draw, and one column a worker");
    if (static_cast<Index>(outcome.runtime.size()) != count ||
        (outcome.decode_times.rows != 0 && !has_shape(outcome.decode_times, count, schedule.cells())) ||
        (outcome.values_sent.rows != 0 && !has_shape(outcome.values_sent, count, schedule.workers())))
        throw std::invalid_argument("outcome: expected one row a draw");
    switch (feedback) {
        case Feedback::none:
            return simulate_with<WithoutFeedback>(schedule, cost, draws, outcome, threads);
        case Feedback::announce:
            return simulate_with<WithAnnouncements>(schedule, cost, draws, outcome, threads);
        case Feedback::claim:
            return simulate_with<WithClaims>(schedule, cost, draws, outcome, threads);
    }
}

}  // namespace cgc
