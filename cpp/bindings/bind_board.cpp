#include <memory>
#include <string>
#include <utility>

#include "bound_board.hpp"

namespace cgc::bindings {

namespace {

std::unique_ptr<BoundBoard> make_board(py::buffer memory, Index workers, Index cells) {
    const py::buffer_info info = memory.request(/*writable=*/true);
    const std::size_t needed = Board::bytes(workers, cells);
    const std::size_t got = static_cast<std::size_t>(info.size * info.itemsize);
    if (got < needed)
        throw std::invalid_argument("Board: expected a buffer of at least " + std::to_string(needed) +
                                    " bytes, got " + std::to_string(got));
    return std::unique_ptr<BoundBoard>(new BoundBoard{std::move(memory), Board(info.ptr, workers, cells)});
}

}  // namespace

void bind_board(py::module_& module) {
    py::class_<BoundBoard>(module, "Board",
                           "What workers learn of each other during an iteration, laid over shared memory: "
                           "which cells are announced, claimed, committed.")
        .def(py::init(&make_board), py::arg("memory"), py::arg("workers"), py::arg("cells"))
        .def_static("bytes", &Board::bytes, py::arg("workers"), py::arg("cells"))
        .def(
            "announce",
            [](BoundBoard& self, std::uint32_t iteration, Index cell) {
                self.board.announce(iteration, self.cell(cell));
            },
            py::arg("iteration"), py::arg("cell"), "Say that a cell is decoded.")
        .def(
            "withdraw", [](BoundBoard& self, Index worker) { self.board.withdraw(self.worker(worker)); },
            py::arg("worker"), "End the worker's generation: what it committed does not hold any longer.")
        .def(
            "generation",
            [](BoundBoard& self, Index worker) { return self.board.generation(self.worker(worker)); },
            py::arg("worker"))
        .def(
            "is_announced",
            [](BoundBoard& self, std::uint32_t iteration, Index cell) {
                return self.board.is_announced(iteration, self.cell(cell));
            },
            py::arg("iteration"), py::arg("cell"))
        .def(
            "is_taken",
            [](BoundBoard& self, std::uint32_t iteration, Index cell) {
                return self.board.is_taken(iteration, self.cell(cell));
            },
            py::arg("iteration"), py::arg("cell"), "Whether a cell is announced, or committed and it holds.")
        .def(
            "all_taken",
            [](BoundBoard& self, std::uint32_t iteration, const Array<Index>& cells) {
                return self.board.all_taken(iteration, self.cells(cells));
            },
            py::arg("iteration"), py::arg("cells").noconvert(), "Whether that is so of all these cells.")
        .def(
            "claimants",
            [](BoundBoard& self, std::uint32_t iteration, Index cell) {
                return self.board.claimants(iteration, self.cell(cell));
            },
            py::arg("iteration"), py::arg("cell"), "How many have claimed a cell.")
        .def(
            "committed_by",
            [](BoundBoard& self, std::uint32_t iteration, Index cell) {
                return self.board.committed_by(iteration, self.cell(cell));
            },
            py::arg("iteration"), py::arg("cell"), "Whose commitment of a cell holds: a worker, or -1.")
        .def(
            "claim_free",
            [](BoundBoard& self, std::uint32_t iteration, const Array<Index>& cells, Index begin) {
                if (begin < 0)
                    throw std::invalid_argument("begin: expected >= 0, got " + std::to_string(begin));
                return self.board.claim_free(iteration, self.cells(cells), begin);
            },
            py::arg("iteration"), py::arg("cells").noconvert(), py::arg("begin"),
            "Claim the first of cells[begin:] that nobody has claimed: its index, or len(cells).")
        .def(
            "claim_again",
            [](BoundBoard& self, std::uint32_t iteration, const Array<Index>& cells) {
                return self.board.claim_again(iteration, self.cells(cells));
            },
            py::arg("iteration"), py::arg("cells").noconvert(),
            "Claim the cell with the fewest claimants among those not taken: its index, or -1.")
        .def(
            "commit",
            [](BoundBoard& self, std::uint32_t iteration, Index worker, std::uint32_t generation,
               Index cell) {
                return self.board.commit(iteration, self.worker(worker), generation, self.cell(cell));
            },
            py::arg("iteration"), py::arg("worker"), py::arg("generation"), py::arg("cell"),
            "Whether the cell may enter the worker's sum of this generation.");
}

}  // namespace cgc::bindings
