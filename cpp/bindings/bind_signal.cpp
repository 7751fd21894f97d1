#include <pybind11/stl.h>
#include <pybind11/typing.h>

#include <memory>
#include <optional>
#include <vector>

#include "array.hpp"
#include "bound_board.hpp"
#include "bound_signal.hpp"
#include "cgc/signal.hpp"
#include "cgc/watched_sleep.hpp"

namespace cgc::bindings {

namespace {

using ArrivalTuple = py::typing::Tuple<py::int_, py::int_, py::int_, py::bool_, py::float_, py::float_>;

std::unique_ptr<BoundSignal> make_signal(py::buffer memory, Index workers, Index capacity) {
    const py::buffer_info info = memory.request(/*writable=*/true);
    const std::size_t needed = Signal::bytes(workers, capacity);
    const std::size_t got = static_cast<std::size_t>(info.size * info.itemsize);
    if (got < needed)
        throw std::invalid_argument("Signal: expected a buffer of at least " + std::to_string(needed) +
                                    " bytes, got " + std::to_string(got));
    return std::unique_ptr<BoundSignal>(
        new BoundSignal{std::move(memory), Signal(info.ptr, workers, capacity), nullptr, 0});
}

const char* name_of(Wake wake) {
    switch (wake) {
        case Wake::iteration:
            return "iteration";
        case Wake::timeout:
            return "timeout";
        case Wake::finished:
            return "finished";
        case Wake::stopped:
            return "stopped";
        case Wake::orders:
            return "orders";
        case Wake::interrupted:
            return "interrupted";
        case Wake::answered:
            return "answered";
    }
    throw std::logic_error("unknown Wake");
}

const char* name_of(Look look) {
    switch (look) {
        case Look::go_on:
            return "go on";
        case Look::over:
            return "over";
        case Look::orders:
            return "orders";
    }
    throw std::logic_error("unknown Look");
}

}  // namespace

void bind_signal(py::module_& module) {
    module.def("monotonic_ns", &monotonic_ns, "CLOCK_MONOTONIC in nanoseconds, the same in every process.");

    py::class_<BoundSignal>(module, "Signal",
                            "The signal between one master and its workers, laid over shared memory.")
        .def(py::init(&make_signal), py::arg("memory"), py::arg("workers"), py::arg("capacity"))
        .def_static("bytes", &Signal::bytes, py::arg("workers"), py::arg("capacity"))
        .def(
            "publish",
            [](BoundSignal& self, std::uint64_t iteration, const Array<double>& cycle_times, bool with_value,
               const Array<int>& wake_fds) {
                const auto times = vector(cycle_times, "cycle_times");
                const auto fds = vector(wake_fds, "wake_fds");
                require_length(static_cast<Index>(times.size()), self.signal.workers(), "cycle_times");
                require_length(static_cast<Index>(fds.size()), self.signal.workers(), "wake_fds");
                self.signal.publish(iteration, times, with_value, fds);
            },
            py::arg("iteration"), py::arg("cycle_times").noconvert(), py::arg("with_value"),
            py::arg("wake_fds").noconvert(), "Start an iteration and wake the workers that sleep.")
        .def(
            "finish", [](BoundSignal& self, std::uint64_t iteration) { self.signal.finish(iteration); },
            py::arg("iteration"), "Tell the workers that this iteration, and all before, are over.")
        .def(
            "stop",
            [](BoundSignal& self, const Array<int>& wake_fds) {
                self.signal.stop(vector(wake_fds, "wake_fds"));
            },
            py::arg("wake_fds").noconvert(), "Tell the workers to leave.")
        .def(
            "pop_all",
            [](BoundSignal& self, std::int64_t origin_ns) {
                const auto seconds = [origin_ns](std::int64_t moment_ns) {
                    return 1e-9 * static_cast<double>(moment_ns - origin_ns);
                };
                py::typing::List<ArrivalTuple> arrivals;
                Arrival arrival;
                for (Index w = 0; w < self.signal.workers(); ++w)
                    while (self.signal.pop(w, arrival))
                        arrivals.append(py::make_tuple(arrival.iteration, w, arrival.slot,
                                                       arrival.finite != 0, seconds(arrival.began_ns),
                                                       seconds(arrival.ended_ns)));
                return arrivals;
            },
            py::arg("origin_ns"),
            "Everything that arrived: (iteration, worker, slot, finite, began, ended), seconds since the "
            "origin.")
        .def(
            "announce_orders",
            [](BoundSignal& self, Index worker) {
                check_worker(self.signal, worker);
                self.signal.announce_orders(worker);
            },
            py::arg("worker"), "Tell a worker that orders lie in its socket.")
        .def(
            "progress",
            [](BoundSignal& self, bool reset) {
                py::typing::List<ProgressTuple> found;
                for (Index w = 0; w < self.signal.workers(); ++w)
                    found.append(as_tuple(self.signal.progress(w, reset)));
                return found;
            },
            py::arg("reset"),
            "Signs of life of each worker: when it was last seen (or until when it said that it sleeps), "
            "the longest time between two of them since the last reset, and the last iteration that it took "
            "up.")
        .def(
            "walks",
            [](const BoundSignal& self, Index worker) {
                check_worker(self.signal, worker);
                return self.signal.walks(worker);
            },
            py::arg("worker"), "How many iterations a worker has begun in the compiled core.")
        .def(
            "renew",
            [](BoundSignal& self, Index worker) {
                check_worker(self.signal, worker);
                self.signal.renew(worker);
            },
            py::arg("worker"), "Make a lane ready for the successor of a worker that is gone.")
        .def(
            "wait",
            [](BoundSignal& self, const Array<int>& fds, double timeout_s) {
                const auto view = vector(fds, "fds");
                if (view.empty()) throw std::invalid_argument("fds: expected the master's descriptor first");
                if (self.ready_size < view.size()) {
                    self.ready = std::make_unique<bool[]>(view.size());
                    self.ready_size = view.size();
                }
                const View<bool> ready{self.ready.get(), view.size()};
                bool waited;
                {
                    py::gil_scoped_release release;  // touches only views that this frame keeps alive
                    waited = self.signal.wait(view, ready, timeout_s);
                }
                if (!waited && PyErr_CheckSignals() != 0) throw py::error_already_set();
                py::typing::List<py::int_> fired;
                for (std::size_t i = 1; i < view.size(); ++i)
                    if (ready[i]) fired.append(i);
                return fired;
            },
            py::arg("fds").noconvert(), py::arg("timeout_s") = -1.0,
            "Sleep until something arrives or one of fds[1:] fires; their indices come back. A signal "
            "handler "
            "of Python runs before the return.")
        .def(
            "wait_for_iteration",
            [](BoundSignal& self, Index worker, std::uint64_t last, int wake_fd, int orders_fd) {
                check_worker(self.signal, worker);
                std::uint64_t iteration = last;
                Wake wake;
                {
                    py::gil_scoped_release release;
                    wake = self.signal.wait_for_iteration(worker, last, wake_fd, orders_fd, iteration);
                }
                if (PyErr_CheckSignals() != 0) throw py::error_already_set();
                return py::typing::Tuple<py::str, py::int_>(py::make_tuple(name_of(wake), iteration));
            },
            py::arg("worker"), py::arg("last"), py::arg("wake_fd"), py::arg("orders_fd"),
            "Sleep until an iteration later than `last` is published: (why, iteration).")
        .def(
            "sleep_until",
            [](BoundSignal& self, Index worker, std::uint64_t iteration, std::int64_t until_ns, int wake_fd,
               int orders_fd) {
                check_worker(self.signal, worker);
                Wake wake;
                {
                    py::gil_scoped_release release;
                    wake = self.signal.sleep_until(worker, iteration, until_ns, wake_fd, orders_fd);
                }
                if (PyErr_CheckSignals() != 0) throw py::error_already_set();
                return name_of(wake);
            },
            py::arg("worker"), py::arg("iteration"), py::arg("until_ns"), py::arg("wake_fd"),
            py::arg("orders_fd"), "Sleep until a moment, or until the iteration is over: why it ended.")
        .def(
            "sleep_while_wanted",
            [](BoundSignal& self, const BoundBoard& board, Index worker, std::uint32_t iteration,
               std::uint32_t generation, Index cell, std::int64_t until_ns, int wake_fd, int orders_fd,
               const std::optional<Array<Index>>& cells, std::uint32_t slot, bool empty,
               std::int64_t began_ns, int master_fd) {
                check_worker(self.signal, worker);
                const WatchedVisit visit{board.worker(worker), iteration, generation, board.cell(cell)};
                OpenSum sum{{}, slot, empty, began_ns, master_fd};
                if (cells) sum.cells = board.cells(*cells);
                Wake wake;
                {
                    py::gil_scoped_release release;
                    wake = sleep_while_wanted(self.signal, board.board, visit, until_ns, wake_fd, orders_fd,
                                              cells ? &sum : nullptr);
                }
                if (PyErr_CheckSignals() != 0) throw py::error_already_set();
                return name_of(wake);
            },
            py::arg("board"), py::arg("worker"), py::arg("iteration"), py::arg("generation"), py::arg("cell"),
            py::arg("until_ns"), py::arg("wake_fd"), py::arg("orders_fd"),
            py::arg("cells").noconvert() = py::none(), py::arg("slot") = 0, py::arg("empty") = true,
            py::arg("began_ns") = 0, py::arg("master_fd") = -1,
            "The same, also until the cell of the visit under way is taken, or the generation that it was "
            "begun in has passed. If it is taken and so are all `cells`, a sum is pushed as `slot`: "
            "\"answered\".")
        .def(
            "is_over",
            [](BoundSignal& self, std::uint64_t iteration) { return self.signal.is_over(iteration); },
            py::arg("iteration"))
        .def(
            "published_ns",
            [](BoundSignal& self, std::uint64_t iteration) { return self.signal.published_ns(iteration); },
            py::arg("iteration"))
        .def(
            "cycle_time",
            [](BoundSignal& self, Index worker, std::uint64_t iteration) {
                check_worker(self.signal, worker);
                return self.signal.cycle_time(worker, iteration);
            },
            py::arg("worker"), py::arg("iteration"))
        .def(
            "with_value",
            [](BoundSignal& self, std::uint64_t iteration) { return self.signal.with_value(iteration); },
            py::arg("iteration"), "Whether the loss is asked for too.")
        .def("published", [](BoundSignal& self) { return self.signal.published(); })
        .def(
            "orders",
            [](BoundSignal& self, Index worker) {
                check_worker(self.signal, worker);
                return self.signal.orders(worker);
            },
            py::arg("worker"), "How many times orders were announced to a worker.")
        .def(
            "look",
            [](BoundSignal& self, Index worker, std::uint64_t iteration, std::uint64_t orders_seen) {
                check_worker(self.signal, worker);
                return name_of(self.signal.look(worker, iteration, orders_seen));
            },
            py::arg("worker"), py::arg("iteration"), py::arg("orders_seen"),
            "Look up between two slices: \"go on\", \"over\" or \"orders\".")
        .def(
            "push",
            [](BoundSignal& self, Index worker, std::uint64_t iteration, std::uint32_t slot, bool finite,
               std::int64_t began_ns, std::int64_t ended_ns, bool wake, int master_fd) {
                check_worker(self.signal, worker);
                return self.signal.push(worker, {iteration, slot, finite ? 1u : 0u, began_ns, ended_ns}, wake,
                                        master_fd);
            },
            py::arg("worker"), py::arg("iteration"), py::arg("slot"), py::arg("finite"), py::arg("began_ns"),
            py::arg("ended_ns"), py::arg("wake"), py::arg("master_fd"),
            "Say that a payload is complete, and wake the master if it sleeps and `wake`. False: the ring is "
            "full.");

    module.def("sleep_precisely", &sleep_precisely,
               "Sleeps of this thread end as soon after their moment as the system can.");
    module.def("leave_with", &leave_with, py::arg("socket_fd"),
               "End this process as soon as the other end of the socket is closed.");
}

}  // namespace cgc::bindings
