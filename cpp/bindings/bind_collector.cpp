#include <pybind11/stl.h>
#include <pybind11/typing.h>

#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "array.hpp"
#include "bound_signal.hpp"
#include "cgc/collector.hpp"

namespace cgc::bindings {

namespace {

using CellTuple = std::tuple<Index, Index, Index, Index, bool, bool, std::vector<Index>>;
using RowsTuple = py::typing::Tuple<py::int_, py::ellipsis>;
using PendingTuple = py::typing::Tuple<py::int_, RowsTuple>;
using HeardTuple = py::typing::Tuple<py::int_, py::int_>;
using RecordTuple = py::typing::Tuple<Array<Index>, Array<Index>, Array<Index>>;

const char* name_of(Collected why) {
    switch (why) {
        case Collected::done:
            return "done";
        case Collected::blocks:
            return "blocks";
        case Collected::vector:
            return "vector";
        case Collected::late:
            return "late";
        case Collected::interrupted:
            return "interrupted";
        case Collected::unusual:
            return "unusual";
    }
    throw std::logic_error("unknown Collected");
}

py::str come_back(Collected why) {
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    return name_of(why);
}

// The collector and the arrays that it views.
struct BoundCollector {
    std::vector<py::object> views;
    Collector collector;
    py::object gradient;
};

std::unique_ptr<BoundCollector> make_collector(BoundSignal& signal, const std::vector<CellTuple>& cells,
                                               const Array<Index>& blocks,
                                               const py::typing::List<Array<Index>>& byte_offsets,
                                               const py::typing::List<Array<double>>& payloads,
                                               Array<double> even_theta, Array<double> odd_theta,
                                               const Array<int>& wake_fds, const Array<int>& fds,
                                               double forget) {
    CollectorLayout layout;
    layout.forget = forget;
    layout.wake_fds = vector(wake_fds, "wake_fds");
    layout.fds = vector(fds, "fds");
    layout.workers = static_cast<Index>(payloads.size());
    const auto coordinates = static_cast<Index>(even_theta.size());
    layout.coordinates = coordinates;
    require_length(odd_theta.size(), coordinates, "odd_theta");
    layout.thetas[0] = writable_vector(even_theta, "even_theta").data();
    layout.thetas[1] = writable_vector(odd_theta, "odd_theta").data();
    const auto bounds = matrix(blocks, "blocks");
    layout.block_bounds.assign(bounds.data, bounds.data + 2 * bounds.rows);
    std::vector<Index> widths;
    for (const auto& [start, stop, rows, required, plain, empty, over] : cells) {
        layout.cells.push_back({start, stop, rows, required, plain, empty, over});
        widths.insert(widths.end(), static_cast<std::size_t>(rows),
                      stop - start + (stop == coordinates ? 1 : 0));
        for (Index block : over)
            if (block < 0 || block >= bounds.rows)
                throw std::invalid_argument("cells: expected blocks below " + std::to_string(bounds.rows) +
                                            ", got " + std::to_string(block));
    }
    require_length(static_cast<Index>(byte_offsets.size()), layout.workers, "byte_offsets");
    std::vector<py::object> views{even_theta, odd_theta, wake_fds, fds};
    for (std::size_t w = 0; w < payloads.size(); ++w) {
        const Array<double> payload = in_place(payloads[w], "payloads");
        if (!py::isinstance<Array<Index>>(byte_offsets[w]))
            throw py::type_error("byte_offsets: expected contiguous int64 arrays");
        const auto offsets = py::reinterpret_borrow<Array<Index>>(byte_offsets[w]);
        const auto places = vector(offsets, "byte_offsets");
        require_length(static_cast<Index>(places.size()), static_cast<Index>(widths.size()), "byte_offsets");
        for (std::size_t slot = 0; slot < widths.size(); ++slot)
            if (places[slot] >= 0 && places[slot] / 8 + widths[slot] > payload.size())
                throw std::invalid_argument("payloads: expected room for every row, got " +
                                            std::to_string(payload.size()) + " values");
        layout.payloads.push_back(payload.data());
        layout.byte_offsets.push_back(places);
        views.push_back(payload);
        views.push_back(offsets);
    }
    return std::unique_ptr<BoundCollector>(
        new BoundCollector{std::move(views), Collector(signal.signal, std::move(layout)), py::none()});
}

template <class T>
Array<Index> as_array(const std::vector<T>& values) {
    static_assert(sizeof(T) % sizeof(Index) == 0);
    constexpr auto columns = static_cast<py::ssize_t>(sizeof(T) / sizeof(Index));
    const auto rows = static_cast<py::ssize_t>(values.size());
    const auto* data = reinterpret_cast<const Index*>(values.data());
    if constexpr (columns == 1)
        return Array<Index>(rows, data);
    else
        return Array<Index>(std::vector<py::ssize_t>{rows, columns}, data);
}

RowsTuple as_tuple(const std::vector<Index>& values) {
    py::tuple found(values.size());
    for (std::size_t i = 0; i < values.size(); ++i) found[i] = values[i];
    return found;
}

}  // namespace

void bind_collector(py::module_& module) {
    py::class_<BoundCollector>(
        module, "Collector",
        "Receives and decodes an ordinary iteration on the master's side, without Python.")
        .def(py::init(&make_collector), py::arg("signal"), py::arg("cells"), py::arg("blocks").noconvert(),
             py::arg("byte_offsets"), py::arg("payloads"), py::arg("even_theta").noconvert(),
             py::arg("odd_theta").noconvert(), py::arg("wake_fds").noconvert(), py::arg("fds").noconvert(),
             py::arg("forget"), py::keep_alive<1, 2>(),
             "cells: (start, stop, rows, rows required, plain, empty, blocks that it lies over) each; plain: "
             "any one row\ndecodes with coefficient 1. blocks (B, 2); of each worker: byte_offsets (S,) "
             "of the payload of each\nrow in its memory, negative for nowhere; that memory; where to put "
             "theta (L,) of even and of odd iterations. "
             "wake_fds, fds: as "
             "`Signal.publish`\nand `Signal.wait` take them, read anew at every call. forget: the factor by "
             "which an earlier silence counts less.")
        .def(
            "run",
            [](BoundCollector& self, std::uint64_t last, std::int64_t within_ns, std::uint64_t iteration,
               const Array<double>& theta, Array<double> gradient, bool with_value,
               std::optional<std::int64_t> until_ns) -> std::optional<py::str> {
                Collector& collector = self.collector;
                if (!collector.all_well(last, within_ns)) return std::nullopt;
                const auto out = writable_vector(gradient, "gradient");
                const auto at = vector(theta, "theta");
                py::object before = std::exchange(self.gradient, std::move(gradient));
                bool begun = false;
                Collected why = Collected::interrupted;
                {
                    const py::gil_scoped_release release;  // everything that it views is kept alive here
                    begun = collector.begin(iteration, at, out, with_value);
                    if (begun && until_ns) why = collector.collect(*until_ns, false);
                }
                if (!begun) {
                    self.gradient = std::move(before);
                    return std::nullopt;
                }
                if (!until_ns) return py::str("begun");
                return come_back(why);
            },
            py::arg("last"), py::arg("within_ns"), py::arg("iteration"), py::arg("theta").noconvert(),
            py::arg("gradient").noconvert(), py::arg("with_value"), py::arg("until_ns"),
            "Open all cells, publish the iteration at theta (L,), and fill the gradient (L,). None, and "
            "nothing has "
            "happened,\nunless all workers took up iteration `last`, or were seen so recently, and theta is "
            "finite. "
            "Without a moment, \"begun\"\nat once, else as `collect`.")
        .def(
            "signs",
            [](const BoundCollector& self) {
                py::typing::List<ProgressTuple> found;
                for (const Progress& sign : self.collector.signs()) found.append(as_tuple(sign));
                return found;
            },
            "Signs of life as `all_well` found them, as `Signal.progress` gives them.")
        .def(
            "drop_signs", [](BoundCollector& self) { self.collector.drop_signs(); },
            "Forget the longest times so far.")
        .def(
            "collect",
            [](BoundCollector& self, std::int64_t until_ns, bool each_block) {
                Collected why;
                {
                    const py::gil_scoped_release release;  // everything that it views is kept alive here
                    why = self.collector.collect(until_ns, each_block);
                }
                return come_back(why);
            },
            py::arg("until_ns"), py::arg("each_block"),
            "Receive, decode and sleep until there is a reason to come back: \"done\", \"blocks\" (new ones "
            "are complete),\n\"vector\" (a cell is pending), \"late\" (so much time has passed since the "
            "iteration began), "
            "\"interrupted\" or\n\"unusual\". A signal handler of Python runs before the return.")
        .def(
            "take_heard",
            [](BoundCollector& self) {
                py::typing::List<HeardTuple> found;
                for (const Heard& heard : self.collector.take_heard())
                    found.append(py::make_tuple(heard.worker, heard.iteration));
                return found;
            },
            "Workers of which something has arrived since the last call, and the last iteration of it.")
        .def(
            "leave", [](BoundCollector& self) { self.collector.leave(); },
            "Zero what nothing was added to yet, for whoever goes on without the collector.")
        .def(
            "end", [](BoundCollector& self) { self.collector.end(); },
            "End the iteration, complete or not: the workers abandon it, and it is counted.")
        .def(
            "take_ended",
            [](BoundCollector& self) {
                const std::vector<std::int64_t> ended = self.collector.take_ended();
                const auto columns = 2 + 2 * static_cast<py::ssize_t>(self.collector.signs().size());
                const auto rows = static_cast<py::ssize_t>(ended.size()) / columns;
                return Array<Index>(std::vector<py::ssize_t>{rows, columns}, ended.data());
            },
            "A row for each iteration ended since the last call (E, 2 + 2 N): when it began, how long it "
            "took, "
            "how many\npayloads each worker delivered, and when it completed the last.")
        .def(
            "interrupt", [](BoundCollector& self) { self.collector.interrupt(); },
            "Make `collect` in another thread return.")
        .def(
            "pending",
            [](const BoundCollector& self) {
                const Pending& waiting = self.collector.pending();
                return PendingTuple(py::make_tuple(waiting.cell, as_tuple(waiting.rows)));
            },
            "The cell that waits for its decoding vector, and which rows that is to be of, ascending.")
        .def(
            "decode",
            [](BoundCollector& self, const Array<double>& vector_of_rows) {
                const auto view = vector(vector_of_rows, "vector");
                const py::gil_scoped_release release;
                self.collector.decode(view);
            },
            py::arg("vector").noconvert(), "Decode it.")
        .def(
            "record",
            [](const BoundCollector& self) {
                const Collector& from = self.collector;
                return RecordTuple(py::make_tuple(as_array(from.arrivals()), as_array(from.decoded_ns()),
                                                  as_array(from.blocks_ns())));
            },
            "Copies of what happened so far: arrivals (A, 6) in their order (iteration, worker, slot, "
            "finite, began_ns,\nended_ns); when each cell (C,) was decoded and each block (B,) complete, 0: "
            "not yet.")
        .def(
            "completed", [](const BoundCollector& self) { return self.collector.completed(); },
            "Complete blocks, in their order.")
        .def(
            "contributors",
            [](const BoundCollector& self, Index cell) { return self.collector.contributors(cell); },
            py::arg("cell"), "Workers whose payloads a decoded cell was made of.")
        .def_property_readonly(
            "delivered", [](const BoundCollector& self) { return self.collector.delivered(); },
            "How many payloads of the iteration each worker has delivered.")
        .def_property_readonly("iteration",
                               [](const BoundCollector& self) { return self.collector.iteration(); })
        .def_property_readonly("began_ns",
                               [](const BoundCollector& self) { return self.collector.began_ns(); })
        .def_property_readonly("elapsed_ns",
                               [](const BoundCollector& self) { return self.collector.elapsed_ns(); })
        .def_property_readonly("loss", [](const BoundCollector& self) { return self.collector.loss(); });
}

}  // namespace cgc::bindings
