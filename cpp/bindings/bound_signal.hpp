// The signal as Python holds it.
#pragma once

#include <pybind11/typing.h>

#include <memory>
#include <stdexcept>
#include <string>

#include "array.hpp"
#include "cgc/signal.hpp"

namespace cgc::bindings {

// Keeps the mapped memory alive for as long as the view over it.
struct BoundSignal {
    py::buffer memory;
    Signal signal;
    std::unique_ptr<bool[]> ready;
    std::size_t ready_size = 0;
};

inline void check_worker(const Signal& signal, Index worker) {
    if (worker < 0 || worker >= signal.workers())
        throw std::invalid_argument("worker: expected 0 to " + std::to_string(signal.workers() - 1) +
                                    ", got " + std::to_string(worker));
}

using ProgressTuple = py::typing::Tuple<py::int_, py::int_, py::int_>;

inline ProgressTuple as_tuple(const Progress& progress) {
    return py::make_tuple(progress.seen_ns, progress.longest_ns, progress.iteration);
}

}  // namespace cgc::bindings
