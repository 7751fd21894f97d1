"""The process engine: one process a worker on this machine, payloads in anonymous shared memory.

    master                                              worker w
    ------                                              --------
    theta segment      --- written once an iteration --> mapped read-only, double-buffered
    signal segment     --- publish, finish, stop ------> looked at between slices
                       <-- ring of completed visits ---- one entry a payload
    payload segment w  <-- partial derivatives --------- written by the kernels, decoded in place
    wake descriptor w  --- only if worker w sleeps ----> poll
    own wake descriptor<-- only if the master sleeps --- write
    socket w           --- orders: visit these too ----> poll
                       <-- traceback of a failure ------
                       --- its end: the master is gone -> the process leaves
    sentinel w         <-- process w is gone

Every payload segment has a place for every row of every cell: pages that nobody writes take no memory, and so
any worker may deliver any row. Each worker writes to its own segment only.

Processes are started from scratch, never forked: the child runs a fresh interpreter that is given the
descriptors it needs and nothing else. The script of the master is not imported again, so it needs no
`if __name__ == "__main__"` guard; what a worker runs must come from an importable module.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgc_fast._core import Collector, Signal, monotonic_ns
from cgc_fast.engines.base import (
    CellOutline,
    Delivered,
    Event,
    Job,
    Lost,
    Presence,
    Ready,
    Summed,
    WithoutFeedback,
)
from cgc_fast.engines.collecting import WithCollector
from cgc_fast.engines.launch import WorkerHandle, launch, pickled_for_worker, wake_descriptors
from cgc_fast.engines.worker_process import (
    LENGTH_BYTES,
    REPLANNED,
    Announcement,
    NewPlan,
    WorkerConfiguration,
    payload_offsets,
)
from cgc_fast.errors import ClusterClosed, WorkerDied
from cgc_fast.interrupts import interrupts_postponed
from cgc_fast.memory import Segment
from cgc_fast.supervisor import FORGET, SignOfLife
from cgc_fast.worker import Visit

__all__ = ["ProcessEngine"]

_LEAVE_S = 2.0  # how long a worker may take to leave when asked before it is killed


class ProcessEngine(WithCollector, WithoutFeedback):
    """Start the workers; see the module's picture. The constructor returns when all of them are ready."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._workers = len(job.walks)
        self._coordinates = int(job.problem.coordinates)
        self._closed = False
        self._handles: list[WorkerHandle | None] = [None] * self._workers
        self._starting: set[int] = set()
        self._starters: list[threading.Thread] = []
        self._started: deque[tuple[int, WorkerHandle | BaseException]] = deque()
        self._ready_early: set[int] = set()  # ready before its handle was here
        self._outdated: set[int] = set()  # who has not taken up the new plan yet
        self._waiting = threading.RLock()  # held while a thread waits for events or takes them in
        self._descriptors: list[int] = []
        self._segments: list[Segment] = []
        self._early: list[Event] = []
        self._owner = os.getpid()
        self._iteration = 0
        self._began_ns = 0
        starting_ns = monotonic_ns()
        _alive.add(self)
        # Refused before any start; what one worker can take, all can.
        first = pickled_for_worker(job, 0)
        try:
            self._lay_out(job)
            for worker in range(self._workers):
                with interrupts_postponed():
                    self._adopt(worker, launch(self._configuration(worker, first if worker == 0 else None)))
            self._wait_until_ready()
            self.start_s = (monotonic_ns() - starting_ns) * 1e-9
        except BaseException:
            self.close()
            raise

    def _lay_out(self, job: Job) -> None:
        # Leftovers of one iteration, all of the next, and the word that the worker is ready. Whoever is
        # ordered to do more waits until the master has looked.
        self._capacity = 2 * max(len(walk) for walk in job.walks) + 2
        self._control = Segment(Signal.bytes(self._workers, self._capacity), label="signal")
        self._theta = Segment(16 * self._coordinates, label="theta")
        self._segments += [self._control, self._theta]
        self._signal = Signal(self._control.memory, self._workers, self._capacity)
        self._thetas = [
            self._theta.array(self._coordinates, 8 * self._coordinates * parity) for parity in (0, 1)
        ]
        self._payload_segments: list[Segment] = []
        self._lay_out_payloads(job)
        self._master_read, self._master_write = wake_descriptors()
        self._descriptors += [self._master_read, self._master_write]
        self._wake_fds = np.full(self._workers, -1, dtype=np.int32)
        self._poll_fds = np.full(1 + self._workers, -1, dtype=np.int32)
        self._poll_fds[0] = self._master_read
        self._as_fast_as_it_can = np.full(self._workers, np.nan)

    def _lay_out_payloads(self, job: Job) -> None:
        """Make room for what the workers deliver, in the place of what there was."""
        for segment in self._payload_segments:
            segment.close()
            self._segments.remove(segment)
        self._offsets = payload_offsets(job.slot_widths, job.payload)
        self._payload_segments = []
        self._payloads: dict[tuple[int, int], NDArray[Any]] = {}
        self._read_only: list[Segment] = []
        for _ in range(self._workers):
            segment = Segment(int(self._offsets[-1]), label="payload")
            self._segments.append(segment)
            self._payload_segments.append(segment)
            view = segment.view(writable=False)
            view.close()  # the mapping stays
            self._read_only.append(view)
        self._collector = None  # its memory is gone

    def _configuration(self, worker: int, problem: bytes | None = None) -> WorkerConfiguration:
        segment = self._payload_segments[worker]
        return WorkerConfiguration(
            worker=worker,
            workers=self._workers,
            capacity=self._capacity,
            walk=list(self._job.walks[worker]),
            coordinates=self._coordinates,
            slot_widths=self._job.slot_widths,
            payload=self._job.payload,
            problem=pickled_for_worker(self._job, worker) if problem is None else problem,
            signal_descriptor=self._control.descriptor,
            signal_size=self._control.size,
            theta_descriptor=self._theta.descriptor,
            payload_descriptor=segment.descriptor,
            payload_size=segment.size,
            wake_descriptor=-1,
            socket_descriptor=-1,
            master_descriptor=self._master_write,
        )

    def _adopt(self, worker: int, handle: WorkerHandle) -> None:
        self._handles[worker] = handle
        self._wake_fds[worker] = handle.wake_descriptor
        self._poll_fds[1 + worker] = handle.sentinel

    def _wait_until_ready(self) -> None:
        waiting = set(range(self._workers))
        while waiting:
            for event in self._collect(-1.0):
                if isinstance(event, Ready):
                    waiting.discard(event.worker)
                elif isinstance(event, Lost) and event.worker in waiting:
                    raise WorkerDied(
                        f"worker {event.worker} ended with exit code {event.exit_code} before it was ready"
                        + (f":\n{event.traceback}" if event.traceback else ""),
                        event.worker,
                        event.exit_code,
                        event.traceback,
                    )
                else:
                    self._early.append(event)

    def _collect(self, timeout_s: float) -> list[Event]:
        with self._waiting:
            if not self._closed:
                fired = self._signal.wait(self._poll_fds, timeout_s)
            if self._closed:  # by another thread, or by a signal handler
                raise ClusterClosed("the cluster was closed while an iteration was under way")
            return self._take_in(fired)

    def _take_in(self, fired: Sequence[int]) -> list[Event]:
        events: list[Event] = []
        # Arrivals first: what a worker delivered before it died counts.
        for arrival in self._signal.pop_all(self._began_ns):
            events += self._events_of(Delivered._make(arrival))
        events += [self._bury(index - 1) for index in fired]
        while self._started:
            with interrupts_postponed():
                worker, handle = self._started.popleft()
                if isinstance(handle, WorkerHandle):
                    self._adopt(worker, handle)
                    if worker in self._ready_early:
                        self._starting.discard(worker)
                        events.append(Ready(worker))
                else:
                    self._starting.discard(worker)
                    events.append(Lost(worker, None, f"it could not be started again: {handle}"))
                self._ready_early.discard(worker)
        return events

    def _events_of(self, arrival: Delivered) -> list[Event]:
        worker = arrival.worker
        if arrival.iteration > 0:
            return [arrival]
        if arrival.slot == REPLANNED:
            self._outdated.discard(worker)
            return []
        if self._handles[worker] is None:
            self._ready_early.add(worker)
            return []
        self._starting.discard(worker)
        return [Ready(worker)]

    def _bury(self, worker: int) -> Lost:
        with interrupts_postponed():
            handle = self._handles[worker]
            assert handle is not None
            self._handles[worker] = None
            self._wake_fds[worker] = -1
            self._poll_fds[1 + worker] = -1  # poll() skips it
            exit_code, report = handle.bury()
            self._signal.renew(worker)
            self._starting.discard(worker)
            return Lost(worker, exit_code, report)

    def start(
        self,
        iteration: int,
        theta: NDArray[np.float64],
        cycle_times: NDArray[np.float64] | None,
        open_cells: NDArray[np.bool_],
        with_value: bool,
    ) -> None:
        """Write theta and publish the iteration."""
        self._iteration = iteration
        self._thetas[iteration % 2][:] = theta
        if cycle_times is None:
            cycle_times = self._as_fast_as_it_can
        self._began_ns = monotonic_ns()
        self._signal.publish(
            iteration, np.ascontiguousarray(cycle_times, dtype=np.float64), with_value, self._wake_fds
        )

    def wait(self, timeout_s: float | None = None) -> list[Event]:
        """Sleep until payloads arrive, a worker is gone or its successor there."""
        if self._early:
            events, self._early = self._early, []
            return events
        return self._collect(-1.0 if timeout_s is None else timeout_s)

    def is_idle(self) -> bool:
        """Whether no process is there or being started."""
        return not self._early and not self._starting and all(h is None for h in self._handles)

    def order(self, worker: int, visits: Sequence[Visit]) -> None:
        """Send the visits through the worker's socket."""
        handle = self._handles[worker]
        if handle is None:  # its loss is noticed at the next wait
            return
        if handle.send(_message((self._iteration, list(visits)))):
            self._signal.announce_orders(worker)
        else:
            # It has not read for megabytes: it hangs. A message in parts would be worse than none.
            handle.process.kill()

    def replan(self, job: Job, patience_s: Sequence[float]) -> None:
        """Make new payload segments and hand them to the workers with their new walks."""
        with interrupts_postponed():
            for thread in self._starters:
                thread.join()
            with self._waiting:
                self._early += self._take_in([])
            restarted = list(self._starting)  # by the old plan
            for worker in restarted:
                self.kill(worker)
                self._bury(worker)
            self._early = [e for e in self._early if not isinstance(e, Delivered | Summed)]
            self._job = job
            self._replace_segments(job)
            for worker in restarted:
                self.replace(worker)
            self._outdated = {w for w, h in enumerate(self._handles) if h is not None}
            for worker in list(self._outdated):
                self._send_plan(worker)
            began_s = self.clock_s()
            while self._outdated:
                left_s = [began_s + patience_s[w] - self.clock_s() for w in self._outdated]
                for worker, left in zip(list(self._outdated), left_s, strict=True):
                    if left <= 0:
                        self.kill(worker)
                events = self._collect(max(0.01, min(left_s)))
                self._outdated -= {event.worker for event in events if isinstance(event, Lost)}
                # What was handed over late belongs to the old plan.
                self._early += [e for e in events if not isinstance(e, Delivered | Summed)]

    def _replace_segments(self, job: Job) -> None:
        self._lay_out_payloads(job)

    def _plan_descriptors(self, worker: int) -> list[int]:
        return [self._payload_segments[worker].descriptor]

    def _send_plan(self, worker: int) -> None:
        handle = self._handles[worker]
        assert handle is not None
        configuration = self._configuration(worker, b"")
        plan = NewPlan(
            configuration.walk,
            configuration.slot_widths,
            configuration.payload,
            configuration.payload_size,
            configuration.feedback,
        )
        content = pickle.dumps(plan, protocol=pickle.HIGHEST_PROTOCOL)
        memory = Segment(len(content), label="plan")
        try:
            memory.memory.write(content)
            descriptors = [memory.descriptor, *self._plan_descriptors(worker)]
            message = _message(Announcement(len(content), len(descriptors)))
            if handle.send_with(message, descriptors):
                self._signal.announce_orders(worker)
            else:
                handle.process.kill()
        finally:
            memory.close()

    def replace(self, worker: int) -> None:
        """Start a successor in a thread: it may take a while to pack its samples."""
        self._starting.add(worker)

        def start() -> None:
            found: WorkerHandle | BaseException
            try:
                found = launch(self._configuration(worker))
            except BaseException as error:
                found = error
            self._started.append((worker, found))
            self.interrupt()

        thread = threading.Thread(target=start, name=f"cgc_fast start of worker {worker}", daemon=True)
        self._starters = [t for t in self._starters if t.is_alive()]
        self._starters.append(thread)
        thread.start()

    def kill(self, worker: int) -> None:
        """End a worker that hangs; `Lost` follows."""
        handle = self._handles[worker]
        if handle is not None:
            handle.process.kill()

    def signs_of_life(self, *, reset: bool = False) -> Sequence[SignOfLife] | None:
        """As the workers leave them between slices."""
        signs = _signs(self._signal.progress(reset))
        if reset and self._collector is not None:
            signs = [
                dataclasses.replace(sign, longest_s=max(sign.longest_s, earlier.longest_s))
                for sign, earlier in zip(signs, _signs(self._collector.signs()), strict=True)
            ]
            self._collector.drop_signs()
        return signs

    # --- ordinary iterations in the compiled core -----------------------------------------------------

    def lay_out_collector(self, cells: Sequence[CellOutline], blocks: NDArray[np.int64]) -> None:
        """Make the collector over the workers' memory."""
        values = self._payload_segments[0].size // 8
        self._collector = Collector(
            self._signal,
            list(cells),
            blocks,
            [self._offsets[:-1].astype(np.int64)] * len(self._read_only),
            [segment.array(values) for segment in self._read_only],
            self._thetas[0],
            self._thetas[1],
            self._wake_fds,
            self._poll_fds,
            FORGET,
        )

    def start_collecting(
        self,
        iteration: int,
        theta: NDArray[np.float64],
        gradient: NDArray[np.float64],
        with_value: bool,
        seen_within_s: float,
        until_s: float | None,
    ) -> str | None:
        """Begin an iteration if every process is there and was seen a moment ago."""
        until_ns = None if until_s is None else int(1e9 * until_s)
        within_ns = int(1e9 * seen_within_s)
        with self._waiting:
            collector = self.running_collector()
            if self._early or self._started or self._starting:
                return None
            try:
                why = collector.run(
                    self._iteration, within_ns, iteration, theta, gradient, with_value, until_ns
                )
            finally:  # Ctrl-C comes out of it too
                if collector.iteration == iteration:
                    self._iteration = iteration
                    self._began_ns = collector.began_ns
            if self._closed:  # by another thread, or by a signal handler
                raise ClusterClosed("the cluster was closed while an iteration was under way")
        return why

    def collect(self, until_s: float, each_block: bool) -> str:
        """Work, without the interpreter, until something is to be done in it."""
        with self._waiting:
            why = self.running_collector().collect(int(until_s * 1e9), each_block)
            if self._closed:  # by another thread, or by a signal handler
                raise ClusterClosed("the cluster was closed while an iteration was under way")
        return why

    def end_collecting(self, iteration: int) -> bool:
        """Let late workers abandon the iteration."""
        collector = self._collector
        if self._closed or collector is None:  # the workers may be another process's, of which this is a fork
            return False
        if collector.iteration != iteration:
            return False
        collector.end()
        return True

    def collected_events(self) -> list[Event]:
        """Arrivals of the iteration so far."""
        return [event for each in self._collected_arrivals() for event in self._events_of(each)]

    def signs_at_start(self) -> Sequence[SignOfLife]:
        """As they were when `start_collecting` looked."""
        collector = self.running_collector()
        signs = _signs(collector.signs())
        collector.drop_signs()
        return signs

    def presence(self) -> Sequence[Presence]:
        """Whether each worker is there."""
        return [
            "starting" if worker in self._starting else "gone" if handle is None else "there"
            for worker, handle in enumerate(self._handles)
        ]

    def payload(self, worker: int, slot: int) -> NDArray[Any]:
        """Read-only view into the memory that the worker wrote."""
        payload = self._payloads.get((worker, slot))
        if payload is None:
            width = int(self._job.slot_widths[slot])
            payload = self._read_only[worker].array(width, int(self._offsets[slot]), self._job.payload)
            self._payloads[worker, slot] = payload
        return payload

    def clock_s(self) -> float:
        """CLOCK_MONOTONIC."""
        return monotonic_ns() * 1e-9

    def elapsed_s(self) -> float:
        """Seconds since `start` was called."""
        return (monotonic_ns() - self._began_ns) * 1e-9

    def finish(self, iteration: int) -> None:
        """Let late workers abandon the iteration."""
        if not self._closed:  # they may be another process's, of which this is a fork
            self._signal.finish(iteration)

    def interrupt(self) -> None:
        """Make a `wait` in another thread return now."""
        collector = self._collector
        if collector is not None:
            collector.interrupt()
        if self._descriptors:  # else the number may be somebody else's by now
            with contextlib.suppress(OSError):
                os.write(self._master_write, (1).to_bytes(8, "little"))

    def process_ids(self) -> Sequence[int | None]:
        """Operating system ids of the workers; None where none is there."""
        return [None if handle is None else handle.process.pid for handle in self._handles]

    def close(self) -> None:
        """Ask the workers to leave, kill those that do not, release everything."""
        with interrupts_postponed():
            if self._closed or os.getpid() != self._owner:
                return
            self._closed = True
            _alive.discard(self)
            self.interrupt()
            with self._waiting:  # whoever waited has left
                pass
            for thread in self._starters:
                thread.join()
            for worker, handle in self._started:
                if isinstance(handle, WorkerHandle):
                    self._handles[worker] = handle
            handles = [handle for handle in self._handles if handle is not None]
            if handles:
                self._signal.stop(self._wake_fds)
            deadline = time.monotonic() + _LEAVE_S
            for handle in handles:
                handle.leave(max(0.0, deadline - time.monotonic()))
            self._release()

    def _release(self) -> None:
        for descriptor in self._descriptors:
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._descriptors.clear()
        for segment in self._segments:
            segment.close()
        # The mappings go with what looks into them.
        self._segments.clear()
        self._collector = None
        for name in (
            "_signal",
            "_control",
            "_theta",
            "_thetas",
            "_payloads",
            "_payload_segments",
            "_read_only",
        ):
            self.__dict__.pop(name, None)

    def disown(self) -> None:
        """In a child of the master made by fork: drop what would keep the workers alive, touch nothing else.

        The workers belong to the master, and end when it does; a descriptor held here would hide that.
        """
        self._closed = True
        started = [handle for _, handle in self._started if isinstance(handle, WorkerHandle)]
        for handle in [*self._handles, *started]:
            if handle is not None:
                handle.disown()
        self._release()


def _signs(progress: Sequence[tuple[int, int, int]]) -> list[SignOfLife]:
    return [
        SignOfLife(seen_ns * 1e-9, longest_ns * 1e-9, iteration)
        for seen_ns, longest_ns, iteration in progress
    ]


def _message(content: object) -> bytes:
    """As a worker reads it."""
    pickled = pickle.dumps(content, protocol=pickle.HIGHEST_PROTOCOL)
    return len(pickled).to_bytes(LENGTH_BYTES, "little") + pickled


_alive: weakref.WeakSet[ProcessEngine] = weakref.WeakSet()


def _after_fork() -> None:
    for engine in list(_alive):
        engine.disown()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
