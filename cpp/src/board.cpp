#include "cgc/board.hpp"

#include <algorithm>
#include <atomic>
#include <limits>
#include <stdexcept>
#include <string>

namespace cgc {

namespace {

constexpr std::size_t line = 64;  // a cache line

// Owner: iteration (32 bits), generation (its last 16 bits), worker + 1 (16 bits); 0: nobody. Generations
// would have to go round once within an iteration to be mistaken.
std::uint64_t owner_word(std::uint32_t iteration, Index worker, std::uint32_t generation) {
    return static_cast<std::uint64_t>(iteration) << 32 |
           static_cast<std::uint64_t>(generation & 0xffffu) << 16 | static_cast<std::uint64_t>(worker + 1);
}

std::uint32_t iteration_of(std::uint64_t word) { return static_cast<std::uint32_t>(word >> 32); }

}  // namespace

// All accesses are sequentially consistent: the order of announcement and generation matters.
struct Board::CellWords {
    std::atomic<std::uint64_t> owner;
    std::atomic<std::uint64_t> claims;  // iteration, number of claimants
    std::atomic<std::uint32_t> announced;
    std::uint32_t unused;
};

struct Board::WorkerWord {
    alignas(line) std::atomic<std::uint32_t> generation;
};

std::size_t Board::bytes(Index workers, Index cells) {
    if (workers < 1 || workers > most_workers || cells < 1)
        throw std::invalid_argument("Board: expected workers in 1.." + std::to_string(most_workers) +
                                    " and cells >= 1, got " + std::to_string(workers) + " and " +
                                    std::to_string(cells));
    return static_cast<std::size_t>(workers) * sizeof(WorkerWord) +
           static_cast<std::size_t>(cells) * sizeof(CellWords);
}

Board::Board(void* memory, Index workers, Index cells)
    : memory_(static_cast<unsigned char*>(memory)), workers_(workers), cells_(cells) {}

Board::WorkerWord& Board::word(Index worker) const { return reinterpret_cast<WorkerWord*>(memory_)[worker]; }

Board::CellWords& Board::words(Index cell) const {
    return reinterpret_cast<CellWords*>(memory_ +
                                        static_cast<std::size_t>(workers_) * sizeof(WorkerWord))[cell];
}

void Board::announce(std::uint32_t iteration, Index cell) { words(cell).announced.store(iteration); }

void Board::withdraw(Index worker) { word(worker).generation.fetch_add(1); }

std::uint32_t Board::generation(Index worker) const { return word(worker).generation.load(); }

bool Board::is_announced(std::uint32_t iteration, Index cell) const {
    return words(cell).announced.load() >= iteration;
}

bool Board::holds(std::uint32_t iteration, std::uint64_t owner) const {
    if (iteration_of(owner) != iteration) return iteration_of(owner) > iteration;
    const Index worker = static_cast<Index>(owner & 0xffffu) - 1;
    return owner_word(iteration, worker, generation(worker)) == owner;
}

bool Board::is_taken(std::uint32_t iteration, Index cell) const {
    // In this order: see above.
    return holds(iteration, words(cell).owner.load()) || is_announced(iteration, cell);
}

bool Board::all_taken(std::uint32_t iteration, View<const Index> cells) const {
    return std::all_of(cells.begin(), cells.end(), [&](Index cell) { return is_taken(iteration, cell); });
}

Index Board::claimants(std::uint32_t iteration, Index cell) const {
    const std::uint64_t claims = words(cell).claims.load();
    return iteration_of(claims) == iteration ? static_cast<Index>(claims & 0xffffffffu) : 0;
}

Index Board::committed_by(std::uint32_t iteration, Index cell) const {
    const std::uint64_t owner = words(cell).owner.load();
    if (iteration_of(owner) != iteration || !holds(iteration, owner)) return -1;
    return static_cast<Index>(owner & 0xffffu) - 1;
}

Index Board::claim_free(std::uint32_t iteration, View<const Index> cells, Index begin) {
    const Index count = static_cast<Index>(cells.size());
    const std::uint64_t first = static_cast<std::uint64_t>(iteration) << 32 | 1;
    for (Index i = begin; i < count; ++i) {
        auto& claims = words(cells[i]).claims;
        std::uint64_t found = claims.load();
        // Whoever comes in between claimed it in this iteration, or a later one.
        if (iteration_of(found) < iteration && claims.compare_exchange_strong(found, first)) return i;
    }
    return count;
}

Index Board::claim_again(std::uint32_t iteration, View<const Index> cells) {
    Index best = -1;
    Index fewest = std::numeric_limits<Index>::max();
    for (std::size_t i = 0; i < cells.size(); ++i) {
        const Index count = claimants(iteration, cells[i]);
        if (count >= fewest || is_taken(iteration, cells[i])) continue;
        fewest = count;
        best = static_cast<Index>(i);
    }
    if (best < 0) return best;
    auto& claims = words(cells[static_cast<std::size_t>(best)]).claims;
    std::uint64_t found = claims.load();
    while (iteration_of(found) <= iteration) {
        const std::uint64_t one_more =
            iteration_of(found) == iteration ? found + 1 : static_cast<std::uint64_t>(iteration) << 32 | 1;
        if (claims.compare_exchange_weak(found, one_more)) break;
    }
    return best;
}

bool Board::commit(std::uint32_t iteration, Index worker, std::uint32_t generation, Index cell) {
    if (this->generation(worker) != generation) return false;
    auto& owner = words(cell).owner;
    std::uint64_t found = owner.load();
    // In this order: see above.
    if (holds(iteration, found) || is_announced(iteration, cell)) return false;
    return owner.compare_exchange_strong(found, owner_word(iteration, worker, generation));
}

}  // namespace cgc
