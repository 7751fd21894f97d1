// What workers learn of each other during an iteration, in shared memory: which cells are announced as
// decoded, claimed, and committed. Nobody waits for anybody, and the master is not in the path.
//
// A cell is *committed* by one compare-and-swap of its owner word, (iteration, generation, worker), and the
// commitment holds as long as its worker's generation is that. So all commitments of a worker are withdrawn
// by counting its generation up: one step, at any moment, whatever the worker is doing or has done to the
// table before it was killed. Why no cell can enter two sums that count:
//
// - A word is replaced only by somebody who saw that it does not hold: it is of an earlier iteration, or of a
//   generation that has passed. Neither ever becomes current again, so what was seen stays true until the
//   swap, and the swap fails if somebody else came first.
// - The master takes a sum only while its generation is current, and announces its cells before it may count
//   that generation up. Whoever finds that a generation has passed looks at the announcement only then, so it
//   finds one if there was a sum.
//
// Claims are advice, which spares work; losing or doubling one costs time, never exactness.
//
// All words carry the iteration, counted from 1, so that nothing is reset and a worker that is late by an
// iteration finds everything taken. The memory is zero-initialised and belongs to the caller; all sides lay
// the same view over it.
#pragma once

#include <cstdint>

#include "cgc/types.hpp"

namespace cgc {

class Board {
  public:
    static constexpr Index most_workers = 0xffff;

    static std::size_t bytes(Index workers, Index cells);
    Board(void* memory, Index workers, Index cells);

    Index workers() const { return workers_; }
    Index cells() const { return cells_; }

    // --- master -----------------------------------------------------------------------------------------
    void announce(std::uint32_t iteration, Index cell);
    // Nothing that the worker has committed and that is not announced holds any longer.
    void withdraw(Index worker);

    // --- both -------------------------------------------------------------------------------------------
    std::uint32_t generation(Index worker) const;
    bool is_announced(std::uint32_t iteration, Index cell) const;
    // Announced, or committed by somebody whose commitments hold; for a late worker: anything.
    bool is_taken(std::uint32_t iteration, Index cell) const;
    bool all_taken(std::uint32_t iteration, View<const Index> cells) const;
    // How many have claimed the cell.
    Index claimants(std::uint32_t iteration, Index cell) const;
    // Whose commitment of the cell holds: a worker, or -1.
    Index committed_by(std::uint32_t iteration, Index cell) const;

    // --- worker -----------------------------------------------------------------------------------------
    // Claims the first of cells[begin:] that nobody has claimed: its index, or that of the end.
    Index claim_free(std::uint32_t iteration, View<const Index> cells, Index begin);
    // Claims the cell that has the fewest claimants among those not taken, the first of several: its index,
    // or -1 if all are taken.
    Index claim_again(std::uint32_t iteration, View<const Index> cells);
    // Whether the cell may enter the worker's sum of this generation.
    bool commit(std::uint32_t iteration, Index worker, std::uint32_t generation, Index cell);

  private:
    struct CellWords;
    CellWords& words(Index cell) const;
    struct WorkerWord;
    WorkerWord& word(Index worker) const;
    bool holds(std::uint32_t iteration, std::uint64_t owner) const;

    unsigned char* memory_;
    Index workers_;
    Index cells_;
};

}  // namespace cgc
