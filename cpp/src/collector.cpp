#include "cgc/collector.hpp"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>

#include "cgc/combine.hpp"

namespace cgc {

namespace {

constexpr double one[1] = {1.0};
constexpr std::size_t chunk = 2048;  // 16 KB

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

}  // namespace

Collector::Collector(Signal& signal, CollectorLayout layout) : signal_(signal), layout_(std::move(layout)) {
    if (layout_.workers != signal.workers() || layout_.payloads.size() != at(layout_.workers) ||
        layout_.byte_offsets.size() != at(layout_.workers))
        throw std::invalid_argument("Collector: expected one payload memory for each of " +
                                    std::to_string(signal.workers()) + " workers");
    cells_over_.assign(layout_.block_bounds.size() / 2, 0);
    for (std::size_t c = 0; c < layout_.cells.size(); ++c) {
        const CollectorCell& cell = layout_.cells[c];
        first_slot_.push_back(static_cast<Index>(cell_of_slot_.size()));
        cell_of_slot_.insert(cell_of_slot_.end(), at(cell.rows), static_cast<Index>(c));
        if (!cell.empty)
            for (Index block : cell.blocks) ++cells_over_[at(block)];
    }
    for (const View<const Index> offsets : layout_.byte_offsets)
        if (offsets.size() != cell_of_slot_.size())
            throw std::invalid_argument("Collector: expected one offset for each of " +
                                        std::to_string(cell_of_slot_.size()) + " rows, got " +
                                        std::to_string(offsets.size()));
    if (layout_.wake_fds.size() != at(layout_.workers) || layout_.fds.empty())
        throw std::invalid_argument("Collector: expected a wake-up descriptor for each of " +
                                    std::to_string(layout_.workers) + " workers, got " +
                                    std::to_string(layout_.wake_fds.size()) +
                                    ", and the master's own before those to be looked at");
    ready_ = std::make_unique<bool[]>(layout_.fds.size());
    signs_.resize(at(layout_.workers));
    heard_.assign(at(layout_.workers), 0);
    not_emulated_.assign(at(layout_.workers), std::numeric_limits<double>::quiet_NaN());
    contributors_.resize(layout_.cells.size());
    arrivals_.reserve(2 * cell_of_slot_.size());
}

bool Collector::all_well(std::uint64_t last, std::int64_t within_ns) {
    const std::int64_t now_ns = monotonic_ns();
    bool well = true;
    for (Index w = 0; w < layout_.workers; ++w) {
        Progress& sign = signs_[at(w)];
        const auto before_ns =
            static_cast<std::int64_t>(layout_.forget * static_cast<double>(sign.longest_ns));
        sign = signal_.progress(w, true);
        sign.longest_ns = std::max(sign.longest_ns, before_ns);
        const bool recent = sign.seen_ns <= now_ns && now_ns - sign.seen_ns < within_ns;
        well = well && (sign.iteration >= last || recent);
    }
    return well;
}

void Collector::drop_signs() { signs_.assign(signs_.size(), {}); }

bool Collector::begin(std::uint64_t iteration, View<const double> theta, View<double> gradient,
                      bool with_value) {
    for (const std::size_t size : {theta.size(), gradient.size()})
        if (static_cast<Index>(size) != layout_.coordinates)
            throw std::invalid_argument("theta, gradient: expected length " +
                                        std::to_string(layout_.coordinates) + ", got " +
                                        std::to_string(size));
    const std::int64_t began_ns = monotonic_ns();
    double* const published = layout_.thetas[iteration % 2];
    for (std::size_t from = 0; from < theta.size(); from += chunk) {  // looked at and copied while in cache
        const View<const double> piece = theta.subspan(from, std::min(chunk, theta.size() - from));
        if (!all_finite<double>(piece)) return false;
        std::copy(piece.begin(), piece.end(), published + from);
    }
    signal_.publish(iteration, not_emulated_, with_value, layout_.wake_fds);
    // The workers are at it while the accounts are opened.
    iteration_ = iteration;
    began_ns_ = began_ns;
    elapsed_ns_ = 0;
    gradient_ = gradient;
    with_value_ = with_value;
    unusual_ = false;
    told_ = 0;
    loss_ = 0.0;
    const std::size_t cells = layout_.cells.size(), blocks = cells_over_.size();
    open_.assign(cells, 1);
    for (std::size_t c = 0; c < cells; ++c)
        if (layout_.cells[c].empty) open_[c] = 0;
    open_count_ = std::count(open_.begin(), open_.end(), 1);
    arrived_.assign(cell_of_slot_.size(), -1);
    rows_here_.assign(cells, 0);
    open_in_block_ = cells_over_;
    is_pending_ = false;
    arrivals_.clear();
    decoded_ns_.assign(cells, 0);
    blocks_ns_.assign(blocks, 0);
    delivered_.assign(at(layout_.workers), 0);
    last_ended_ns_.assign(at(layout_.workers), 0);
    completed_.clear();
    filled_.assign(blocks, 0);
    return true;
}

std::vector<Heard> Collector::take_heard() {
    std::vector<Heard> found;
    if (!std::exchange(was_heard_, false)) return found;
    for (Index w = 0; w < layout_.workers; ++w)
        if (const std::uint64_t iteration = std::exchange(heard_[at(w)], 0)) found.push_back({w, iteration});
    return found;
}

Collected Collector::collect(std::int64_t until_ns, bool each_block) {
    constexpr std::int64_t never = std::numeric_limits<std::int64_t>::max();
    const View<const int> fds = layout_.fds;
    if (until_ns < never - began_ns_)
        until_ns += began_ns_;
    else
        until_ns = never;
    bool fired = false, late = false;
    for (;;) {
        // Arrivals first: what a worker delivered before it was gone counts.
        Arrival arrival;
        for (Index w = 0; w < layout_.workers; ++w)
            while (!unusual_ && !is_pending_ && signal_.pop(w, arrival)) take(w, arrival);
        if (is_pending_) return Collected::vector;
        if (open_count_ == 0 && !unusual_) return Collected::done;
        if (unusual_ || fired) return Collected::unusual;
        if (each_block && told_ < static_cast<Index>(completed_.size())) {
            told_ = static_cast<Index>(completed_.size());
            return Collected::blocks;
        }
        if (interrupted_.exchange(false)) return Collected::interrupted;
        if (late) return Collected::late;
        double timeout_s = -1.0;
        if (until_ns != never)
            timeout_s = 1e-9 * static_cast<double>(std::max<std::int64_t>(0, until_ns - monotonic_ns()));
        if (!signal_.wait(fds, {ready_.get(), fds.size()}, timeout_s)) return Collected::interrupted;
        fired = std::any_of(ready_.get() + 1, ready_.get() + fds.size(), [](bool is) { return is; });
        late = until_ns != never && monotonic_ns() >= until_ns;
    }
}

void Collector::leave() {
    for (std::size_t b = 0; b < filled_.size(); ++b)
        if (filled_[b] == 0) {
            const View<double> values = block(static_cast<Index>(b));
            std::fill(values.begin(), values.end(), 0.0);
            filled_[b] = 1;
        }
}

void Collector::end() {
    signal_.finish(iteration_);
    elapsed_ns_ = monotonic_ns() - began_ns_;
    ended_.insert(ended_.end(), {began_ns_, elapsed_ns_});
    ended_.insert(ended_.end(), delivered_.begin(), delivered_.end());
    ended_.insert(ended_.end(), last_ended_ns_.begin(), last_ended_ns_.end());
}

std::vector<std::int64_t> Collector::take_ended() { return std::exchange(ended_, {}); }

void Collector::take(Index worker, const Arrival& arrival) {
    arrivals_.push_back({static_cast<std::int64_t>(arrival.iteration), worker,
                         static_cast<std::int64_t>(arrival.slot), static_cast<std::int64_t>(arrival.finite),
                         arrival.began_ns, arrival.ended_ns});
    heard_[at(worker)] = std::max(heard_[at(worker)], arrival.iteration);
    was_heard_ = true;
    if (arrival.iteration != iteration_) {
        unusual_ = arrival.iteration == 0;  // a successor is ready
        return;
    }
    ++delivered_[at(worker)];
    last_ended_ns_[at(worker)] = arrival.ended_ns;
    const Index slot = arrival.slot, c = cell_of_slot_[at(slot)];
    if (arrival.finite == 0) {
        unusual_ = true;
        return;
    }
    if (!open_[at(c)] || arrived_[at(slot)] >= 0) return;
    if (layout_.byte_offsets[at(worker)][at(slot)] < 0) {  // not of its walk
        unusual_ = true;
        return;
    }
    arrived_[at(slot)] = worker;
    const CollectorCell& cell = layout_.cells[at(c)];
    if (++rows_here_[at(c)] < cell.required) return;
    open_[at(c)] = 0;
    if (cell.plain) {
        contributors_[at(c)].assign(1, worker);
        const double* const row[1] = {payload(worker, slot)};
        add(c, row, one);
        return;
    }
    is_pending_ = true;
    pending_ = {c, {}, {}};
    for (Index row = 0; row < cell.rows; ++row)
        if (const Index from = arrived_[at(first_slot_[at(c)] + row)]; from >= 0) {
            pending_.rows.push_back(row);
            pending_.workers.push_back(from);
        }
}

void Collector::decode(View<const double> vector) {
    if (!is_pending_) throw std::logic_error("decode: no cell waits for a vector");
    if (vector.size() != pending_.rows.size())
        throw std::invalid_argument("vector: expected one entry for each of " +
                                    std::to_string(pending_.rows.size()) + " rows, got " +
                                    std::to_string(vector.size()));
    is_pending_ = false;
    const Index c = pending_.cell;
    rows_.clear();
    coefficients_.clear();
    std::vector<Index>& used = contributors_[at(c)];
    used.clear();
    for (std::size_t i = 0; i < vector.size(); ++i)
        if (vector[i] != 0.0 || vector.size() == 1) {
            rows_.push_back(payload(pending_.workers[i], first_slot_[at(c)] + pending_.rows[i]));
            coefficients_.push_back(vector[i]);
            used.push_back(pending_.workers[i]);
        }
    add(c, rows_, coefficients_);
}

void Collector::add(Index c, View<const double* const> rows, View<const double> coefficients) {
    const CollectorCell& cell = layout_.cells[at(c)];
    const auto width = at(cell.stop - cell.start);
    weighted_sum<double, double>(rows, coefficients, gradient_.subspan(at(cell.start), width),
                                 !is_first(cell));
    if (with_value_ && cell.stop == layout_.coordinates) {
        double loss = 0.0;
        for (std::size_t i = 0; i < rows.size(); ++i) loss += coefficients[i] * rows[i][width];
        loss_ += loss;
    }
    const std::int64_t now_ns = monotonic_ns();
    decoded_ns_[at(c)] = now_ns;
    --open_count_;
    for (Index b : cell.blocks) {
        if (--open_in_block_[at(b)] > 0) continue;
        if (!all_finite<double>(block(b))) {
            unusual_ = true;
            continue;
        }
        blocks_ns_[at(b)] = monotonic_ns();
        completed_.push_back(b);
    }
}

// Whether nothing was added to any coordinate of the cell; where that holds for some of them, these are
// zeroed.
bool Collector::is_first(const CollectorCell& cell) {
    bool first = true;
    for (Index b : cell.blocks) first = first && filled_[at(b)] == 0;
    for (Index b : cell.blocks) {
        if (!first && filled_[at(b)] == 0) {
            const View<double> values = block(b);
            std::fill(values.begin(), values.end(), 0.0);
        }
        filled_[at(b)] = 1;
    }
    return first;
}

View<double> Collector::block(Index index) const {
    const Index start = layout_.block_bounds[at(2 * index)], stop = layout_.block_bounds[at(2 * index + 1)];
    return gradient_.subspan(at(start), at(stop - start));
}

const double* Collector::payload(Index worker, Index slot) const {
    constexpr auto size = static_cast<Index>(sizeof(double));
    return layout_.payloads[at(worker)] + layout_.byte_offsets[at(worker)][at(slot)] / size;
}

const std::vector<Index>& Collector::contributors(Index cell) const { return contributors_.at(at(cell)); }

}  // namespace cgc
