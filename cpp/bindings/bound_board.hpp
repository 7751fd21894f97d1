// The board as Python holds it.
#pragma once

#include <string>

#include "array.hpp"
#include "cgc/board.hpp"

namespace cgc::bindings {

// Keeps the mapped memory alive for as long as the view over it.
struct BoundBoard {
    py::buffer memory;
    Board board;

    Index worker(Index index) const {
        if (index < 0 || index >= board.workers())
            throw std::invalid_argument("worker: expected 0 to " + std::to_string(board.workers() - 1) +
                                        ", got " + std::to_string(index));
        return index;
    }
    Index cell(Index index) const {
        if (index < 0 || index >= board.cells())
            throw std::invalid_argument("cell: expected 0 to " + std::to_string(board.cells() - 1) +
                                        ", got " + std::to_string(index));
        return index;
    }
    View<const Index> cells(const Array<Index>& array) const {
        const auto found = vector(array, "cells");
        for (const Index index : found) cell(index);
        return found;
    }
};

}  // namespace cgc::bindings
