#include <pybind11/typing.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "array.hpp"
#include "bound_linear_model.hpp"
#include "bound_signal.hpp"
#include "bound_stops.hpp"
#include "cgc/message_walk.hpp"

namespace cgc::bindings {

namespace {

using RunTuple = py::typing::Tuple<py::int_, py::int_, py::bool_>;

// The walk and the arrays that it views.
struct BoundMessageWalk {
    std::vector<py::object> views;
    MessageWalk walk;
    py::object theta;
};

// Lays payloads one after the other into a memory, each behind its header.
SlicedWalk laid_out(BoundLinearModel& model, std::vector<Stop> stops, Array<double> memory, Pace pace) {
    const auto values = writable_vector(memory, "memory");
    Index end = 0;
    for (Stop& stop : stops) {
        stop.payload = values.data() + end + header_values;
        end += header_values + payload_width(stop, model.model().coordinates());
    }
    require_length(static_cast<Index>(values.size()), end, "memory");
    return SlicedWalk(model.model(), std::move(stops), pace);
}

std::unique_ptr<BoundMessageWalk> make_walk(BoundLinearModel& model,
                                            const py::typing::List<VisitTuple>& visits,
                                            const Array<double>& first_memory,
                                            const Array<double>& second_memory, double slice_s,
                                            double soon_s) {
    const std::vector<Stop> stops = stops_of(visits);
    MessageWalk walk(laid_out(model, stops, first_memory, {slice_s, soon_s}),
                     laid_out(model, stops, second_memory, {slice_s, soon_s}));
    return std::unique_ptr<BoundMessageWalk>(
        new BoundMessageWalk{{first_memory, second_memory}, std::move(walk), py::none()});
}

}  // namespace

void bind_message_walk(py::module_& module) {
    module.attr("HEADER_VALUES") = header_values;
    module.def(
        "push_run",
        [](BoundSignal& signal, Index worker, const Array<double>& memory, const Array<Index>& places,
           const Array<Index>& slots, std::int64_t began_ns) {
            check_worker(signal.signal, worker);
            const auto values = vector(memory, "memory");
            const auto headers = vector(places, "places"), which = vector(slots, "slots");
            require_length(static_cast<Index>(headers.size()), static_cast<Index>(which.size()), "places");
            for (Index place : headers)
                if (place < 0 || place + header_values > static_cast<Index>(values.size()))
                    throw std::invalid_argument("places: expected headers within " +
                                                std::to_string(values.size()) + " values, got one at " +
                                                std::to_string(place));
            push_run(signal.signal, worker, values.data(), headers, which, began_ns);
        },
        py::arg("signal"), py::arg("worker"), py::arg("memory").noconvert(), py::arg("places").noconvert(),
        py::arg("slots").noconvert(), py::arg("began_ns"),
        "Enter payloads of these slots into the signal. Their headers lie in `memory` at `places`, in "
        "values; their seconds\ncount from `began_ns`.");
    py::class_<BoundMessageWalk>(module, "MessageWalk",
                                 "A worker's walk through an ordinary iteration of a linear model whose "
                                 "payloads lie behind headers, ready to be sent.")
        .def(py::init(&make_walk), py::arg("model"), py::arg("visits"), py::arg("first_memory").noconvert(),
             py::arg("second_memory").noconvert(), py::arg("slice_s"), py::arg("soon_s"),
             py::keep_alive<1, 2>(),
             "visits: (slot, start, stop, ranges, coefficients) each, in the order of the walk. Two memories "
             "that "
             "payloads go to:\none after the other, each behind a header of HEADER_VALUES values: iteration, "
             "whether it is finite, when it was\nbegun and ended, in seconds since `begin`.")
        .def(
            "begin",
            [](BoundMessageWalk& self, std::uint64_t iteration, int memory, Array<double> theta,
               bool with_value) {
                if (memory != 0 && memory != 1)
                    throw std::invalid_argument("memory: expected 0 or 1, got " + std::to_string(memory));
                self.walk.begin(iteration, memory, vector(theta, "theta"), with_value);
                self.theta = std::move(theta);
            },
            py::arg("iteration"), py::arg("memory"), py::arg("theta").noconvert(), py::arg("with_value"),
            "Take an iteration up, at theta (L,), which is viewed until the next; its payloads go to the "
            "first "
            "memory (0) or the\nsecond (1).")
        .def(
            "go_on",
            [](BoundMessageWalk& self) {
                Run run;
                {
                    const py::gil_scoped_release release;  // everything that it views is kept alive here
                    run = self.walk.go_on();
                }
                return RunTuple(py::make_tuple(run.first, run.stop, run.finite));
            },
            "Work until payloads are to be sent, or about a slice is over: those of the visits [first, "
            "stop), "
            "maybe none;\nwhether the last of them is finite, as all others are.")
        .def_property_readonly(
            "is_over", [](const BoundMessageWalk& self) { return self.walk.is_over(); },
            "Whether every visit has been made.")
        .def_property_readonly(
            "made", [](const BoundMessageWalk& self) { return self.walk.made(); },
            "How many visits have been made, from the first on.")
        .def_property_readonly(
            "next_coordinate", [](const BoundMessageWalk& self) { return self.walk.next_coordinate(); },
            "Up to where the payload of the visit under way is computed.")
        .def_property_readonly(
            "visit_began_s", [](const BoundMessageWalk& self) { return self.walk.visit_began_s(); },
            "When that visit was begun, in seconds since `begin`.");
}

}  // namespace cgc::bindings
