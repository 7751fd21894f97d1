#include <pybind11/typing.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "array.hpp"
#include "bound_linear_model.hpp"
#include "bound_signal.hpp"
#include "bound_stops.hpp"
#include "cgc/walker.hpp"

namespace cgc::bindings {

namespace {

using StandingTuple = py::typing::Tuple<py::str, py::int_, py::int_, py::int_, py::int_, py::bool_, py::int_>;

const char* name_of(Left left) {
    switch (left) {
        case Left::stopped:
            return "stopped";
        case Left::iteration:
            return "iteration";
        case Left::orders:
            return "orders";
        case Left::interrupted:
            return "interrupted";
        case Left::delivery:
            return "delivery";
    }
    throw std::logic_error("unknown Left");
}

// The walker and the arrays that it views.
struct BoundWalker {
    std::vector<py::object> views;
    Walker walker;
};

std::unique_ptr<BoundWalker> make_walker(BoundSignal& signal, BoundLinearModel& model, Index worker,
                                         const Array<double>& even_theta, const Array<double>& odd_theta,
                                         const py::typing::List<VisitTuple>& visits,
                                         const py::typing::List<Array<double>>& payloads, double slice_s,
                                         double soon_s, int wake_fd, int orders_fd, int master_fd) {
    if (worker < 0 || worker >= signal.signal.workers())
        throw std::invalid_argument("worker: expected 0 to " + std::to_string(signal.signal.workers() - 1) +
                                    ", got " + std::to_string(worker));
    std::vector<py::object> views{even_theta, odd_theta};
    std::vector<Stop> stops = stops_of(visits);
    require_length(static_cast<Index>(payloads.size()), static_cast<Index>(stops.size()), "payloads");
    for (std::size_t i = 0; i < stops.size(); ++i) {
        Array<double> memory = in_place(payloads[i], "payload");
        const auto values = writable_vector(memory, "payload");
        require_length(static_cast<Index>(values.size()),
                       payload_width(stops[i], model.model().coordinates()), "payload");
        stops[i].payload = values.data();
        views.push_back(std::move(memory));
    }
    SlicedWalk walk(model.model(), std::move(stops), {slice_s, soon_s});
    return std::unique_ptr<BoundWalker>(new BoundWalker{
        std::move(views), Walker(signal.signal, std::move(walk), worker, vector(even_theta, "even_theta"),
                                 vector(odd_theta, "odd_theta"), wake_fd, orders_fd, master_fd)});
}

}  // namespace

void bind_walker(py::module_& module) {
    py::class_<BoundWalker>(module, "Walker",
                            "A worker's loop over ordinary iterations of a linear model, without Python.")
        .def(py::init(&make_walker), py::arg("signal"), py::arg("model"), py::arg("worker"),
             py::arg("even_theta").noconvert(), py::arg("odd_theta").noconvert(), py::arg("visits"),
             py::arg("payloads"), py::arg("slice_s"), py::arg("soon_s"), py::arg("wake_fd"),
             py::arg("orders_fd"), py::arg("master_fd"), py::keep_alive<1, 2>(), py::keep_alive<1, 3>(),
             "visits: (slot, start, stop, ranges, coefficients) each, in the order of the walk; payloads: "
             "where the "
             "values of each\ngo.")
        .def(
            "serve",
            [](BoundWalker& self, std::uint64_t last, std::uint64_t orders_seen) {
                Standing standing;
                {
                    const py::gil_scoped_release release;  // everything that it views is kept alive here
                    standing = self.walker.serve(last, orders_seen);
                }
                if (PyErr_CheckSignals() != 0) throw py::error_already_set();
                return StandingTuple(py::make_tuple(name_of(standing.why), standing.published, standing.begun,
                                                    standing.delivered, standing.next_coordinate,
                                                    standing.over, standing.visit_began_ns));
            },
            py::arg("last"), py::arg("orders_seen"),
            "Serve iterations later than `last` until something else than an ordinary one comes up: (why, "
            "the last\niteration published, the last one begun here (0: none), of which so many visits are "
            "delivered and the\nnext is computed up to this coordinate, whether it is over, when that visit "
            "began).\n\nwhy: \"stopped\", \"iteration\" (one with emulated cycle times), \"orders\", "
            "\"interrupted\", or \"delivery\" (a\npayload is complete that is not finite, or that the ring "
            "has no room for).");
}

}  // namespace cgc::bindings
