// Visits of a worker as Python hands them over.
#pragma once

#include <pybind11/typing.h>

#include <string>
#include <vector>

#include "array.hpp"
#include "cgc/sliced_walk.hpp"

namespace cgc::bindings {

using VisitTuple = py::typing::Tuple<py::int_, py::int_, py::int_, Array<Index>, Array<double>>;

// How many values a payload has; `coordinates` of the model.
inline Index payload_width(const Stop& stop, Index coordinates) {
    return stop.stop - stop.start + (stop.stop == coordinates ? 1 : 0);
}

// The stops of visits (slot, start, stop, ranges, coefficients); their payloads have no place yet.
inline std::vector<Stop> stops_of(const py::typing::List<VisitTuple>& visits) {
    std::vector<Stop> stops;
    for (const py::handle item : visits) {
        const auto visit = py::cast<py::tuple>(item);
        if (visit.size() != 5)
            throw std::invalid_argument("visits: expected tuples of 5, got one of " +
                                        std::to_string(visit.size()));
        const auto slot = py::cast<std::uint32_t>(visit[0]);
        const auto start = py::cast<Index>(visit[1]), stop = py::cast<Index>(visit[2]);
        const auto ranges = py::cast<Array<Index>>(visit[3]);
        const Array<double> coefficients = in_place(visit[4], "coefficients");
        const auto pairs = matrix(ranges, "ranges");
        const auto factors = vector(coefficients, "coefficients");
        if (pairs.columns != 2 && pairs.rows > 0)
            throw std::invalid_argument("ranges: expected pairs (low, high), got " +
                                        std::to_string(pairs.columns) + " columns");
        require_length(static_cast<Index>(factors.size()), pairs.rows, "coefficients");
        stops.push_back({slot,
                         start,
                         stop,
                         {pairs.data, pairs.data + 2 * pairs.rows},
                         {factors.begin(), factors.end()},
                         nullptr});
    }
    return stops;
}

}  // namespace cgc::bindings
