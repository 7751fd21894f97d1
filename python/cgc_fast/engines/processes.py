"""The process engine: one process a worker on this machine, payloads in anonymous shared memory.

    master                                              worker w
    ------                                              --------
    theta segment      --- written once an iteration --> mapped read-only, double-buffered
    signal segment     --- publish, finish, stop ------> looked at between slices
                       <-- ring of completed visits ---- one entry a payload
    payload segment w  <-- partial derivatives --------- written by the kernels, decoded in place
    wake descriptor w  --- only if worker w sleeps ----> poll
    own wake descriptor<-- only if the master sleeps --- write
    sentinel w         <-- process w is gone
    report pipe w      <-- traceback of a failure
    lifeline pipe      --- its end: the master is gone -> poll

Processes are started from scratch, never forked: the child runs a fresh interpreter that is given the
descriptors it needs and nothing else. The script of the master is not imported again, so it needs no
`if __name__ == "__main__"` guard; what a worker runs must come from an importable module.
"""

from __future__ import annotations

import contextlib
import multiprocessing.spawn
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cgc_fast._core import Signal, monotonic_ns
from cgc_fast.engines.base import Delivered, Event, Job, Lost
from cgc_fast.engines.worker_process import WorkerConfiguration, payload_offsets
from cgc_fast.errors import ArgumentValueError, WorkerDied
from cgc_fast.memory import Segment
from cgc_fast.worker import Visit

__all__ = ["ProcessEngine"]

_BOOTSTRAP = (
    "import os, pickle, sys; file = os.fdopen(int(sys.argv[1]), 'rb'); sys.path[:] = pickle.load(file); "
    "from cgc_fast.engines.worker_process import main; main(file)"
)
# One thread a worker: N workers with a thread pool each would fight over the same cores.
_ONE_THREAD = dict.fromkeys(
    (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "BLIS_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
        "NUMEXPR_NUM_THREADS",
    ),
    "1",
)
_LEAVE_S = 2.0  # how long a worker may take to leave when asked before it is killed


def _wake_descriptors() -> tuple[int, int]:
    """Read end and write end of a wake-up descriptor: the same eventfd twice, or a pipe."""
    if hasattr(os, "eventfd"):
        descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        return descriptor, os.dup(descriptor)
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    return read, write


def _close_all(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    descriptors.clear()


def pickled_for_worker(job: Job, worker: int) -> bytes:
    """Pickle the shard, or the factory call, of one worker; refuse what it could not unpickle."""
    ranges = job.sample_ranges[worker]
    source: object = job.factory if job.factory is not None else job.problem
    home = getattr(source, "__module__", None) if job.factory is not None else type(source).__module__
    what = "factory" if job.factory is not None else f"problem of type {type(source).__name__}"
    if home == "__main__":
        raise ArgumentValueError(
            f"{what}: expected something that a worker process can import, got a definition in __main__ "
            "(the script itself, or a notebook). Move it into a module of its own, say my_problem.py, and "
            "import it from there; or use engine='serial'."
        )
    content = (job.factory, ranges) if job.factory is not None else job.problem.shard(ranges)
    try:
        return pickle.dumps(content, protocol=pickle.HIGHEST_PROTOCOL)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ArgumentValueError(
            f"{what}: expected something that can be pickled and sent to a worker process, got: {error}. "
            "Define it at the top level of an importable module, or pass factory=."
        ) from error


class ProcessEngine:
    """Start the workers; see the module's picture. The constructor returns when all of them are ready."""

    def __init__(self, job: Job) -> None:
        count = len(job.visits)
        first = pickled_for_worker(job, 0)  # refused before any start; what one worker can take, all can
        visits = [list(walk) for walk in job.visits]
        self._workers = count
        self._closed = False
        self._processes: list[subprocess.Popen[bytes]] = []
        self._descriptors: list[int] = []
        self._segments: list[Segment] = []
        self._gone: set[int] = set()
        self._unseen_losses: list[Lost] = []
        self._owner = os.getpid()
        try:
            self._lay_out(job, visits)
            self._launch(job, visits, first)
            self._wait_until_ready()
        except BaseException:
            self.close()
            raise

    def _lay_out(self, job: Job, visits: list[list[Visit]]) -> None:
        count = self._workers
        self._coordinates = int(job.problem.coordinates)
        # Leftovers of one iteration, all of the next, and the word that the worker is ready.
        self._capacity = 2 * max(len(walk) for walk in visits) + 2
        self._control = Segment(Signal.bytes(count, self._capacity), label="signal")
        self._theta = Segment(16 * self._coordinates, label="theta")
        self._segments += [self._control, self._theta]
        self._signal = Signal(self._control.memory, count, self._capacity)
        self._thetas = [
            self._theta.array(self._coordinates, 8 * self._coordinates * parity) for parity in (0, 1)
        ]
        self._payload_segments: list[Segment] = []
        self._payloads: list[list[NDArray[np.float64]]] = []
        for walk in job.visits:
            offsets, size = payload_offsets(list(walk))
            segment = Segment(size, label="payload")
            self._segments.append(segment)
            self._payload_segments.append(segment)
            read_only = segment.view(writable=False)
            self._payloads.append(
                [
                    read_only.array(visit.stop - visit.start, offset)
                    for visit, offset in zip(walk, offsets, strict=True)
                ]
            )
            read_only.close()
        self._master_read, self._master_write = _wake_descriptors()
        lifeline_read, self._lifeline_write = os.pipe()
        self._lifeline_read = lifeline_read
        self._descriptors += [self._master_read, self._master_write, lifeline_read, self._lifeline_write]

    def _launch(self, job: Job, visits: list[list[Visit]], first: bytes) -> None:
        self._wake_fds = np.full(self._workers, -1, dtype=np.int32)
        self._poll_fds = np.full(1 + self._workers, -1, dtype=np.int32)
        self._poll_fds[0] = self._master_read
        self._reports: list[int] = []
        environment = {**os.environ, **_ONE_THREAD}
        for worker in range(self._workers):
            problem = first if worker == 0 else pickled_for_worker(job, worker)
            wake_read, wake_write = _wake_descriptors()
            report_read, report_write = os.pipe()
            os.set_blocking(report_read, False)
            self._descriptors += [wake_write, report_read]
            self._reports.append(report_read)
            self._wake_fds[worker] = wake_write
            segment = self._payload_segments[worker]
            configuration = WorkerConfiguration(
                worker=worker,
                workers=self._workers,
                capacity=self._capacity,
                visits=visits[worker],
                coordinates=self._coordinates,
                problem=problem,
                signal_descriptor=self._control.descriptor,
                signal_size=self._control.size,
                theta_descriptor=self._theta.descriptor,
                payload_descriptor=segment.descriptor,
                payload_size=segment.size,
                wake_descriptor=wake_read,
                lifeline_descriptor=self._lifeline_read,
                report_descriptor=report_write,
                master_descriptor=self._master_write,
            )
            content = pickle.dumps(sys.path) + pickle.dumps(configuration)
            file = Segment(len(content), label="configuration")
            file.memory.write(content)
            try:
                process = subprocess.Popen(
                    [multiprocessing.spawn.get_executable(), "-c", _BOOTSTRAP, str(file.descriptor)],
                    stdin=subprocess.DEVNULL,
                    env=environment,
                    pass_fds=(
                        file.descriptor,
                        self._control.descriptor,
                        self._theta.descriptor,
                        segment.descriptor,
                        wake_read,
                        self._lifeline_read,
                        report_write,
                        self._master_write,
                    ),
                )
            finally:
                os.close(wake_read)
                os.close(report_write)
                file.close()
            self._processes.append(process)
            self._poll_fds[1 + worker] = self._sentinel(process, report_read)

    def _sentinel(self, process: subprocess.Popen[bytes], report_read: int) -> int:
        """Return a descriptor that becomes readable when the process is gone."""
        if not hasattr(os, "pidfd_open"):
            return report_read  # its other end closes with the process
        descriptor = os.pidfd_open(process.pid)
        self._descriptors.append(descriptor)
        return descriptor

    def _wait_until_ready(self) -> None:
        waiting = set(range(self._workers))
        while waiting:
            gone = self._wait_for_signal()
            for worker, iteration, *_ in self._signal.pop_all():
                if iteration == 0:
                    waiting.discard(worker)
            for lost in gone:
                if lost.worker in waiting:
                    raise WorkerDied(
                        f"worker {lost.worker} ended with exit code {lost.exit_code} before it was ready"
                        + (f":\n{lost.traceback}" if lost.traceback else ""),
                        lost.worker,
                        lost.exit_code,
                        lost.traceback,
                    )
                self._unseen_losses.append(lost)

    def _wait_for_signal(self) -> list[Lost]:
        fired = self._signal.wait(self._poll_fds)
        return [self._bury(index - 1) for index in fired if index - 1 not in self._gone]

    def _bury(self, worker: int) -> Lost:
        exit_code = self._processes[worker].wait()
        self._gone.add(worker)
        self._poll_fds[1 + worker] = -1  # poll() skips it
        pieces = []
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(self._reports[worker], 65536):
                pieces.append(piece)
        return Lost(worker, exit_code, b"".join(pieces).decode(errors="replace"))

    def start(
        self,
        iteration: int,
        theta: NDArray[np.float64],
        cycle_times: NDArray[np.float64] | None,
        open_cell_of_visit: Callable[[int, int], bool],
    ) -> None:
        """Write theta and publish the iteration."""
        self._began_ns = monotonic_ns()
        self._signal.pop_all()  # leftovers of workers that were late; their place in the rings is needed
        self._thetas[iteration % 2][:] = theta
        if cycle_times is None:
            cycle_times = np.full(self._workers, np.nan)
        self._signal.publish(iteration, np.ascontiguousarray(cycle_times, dtype=np.float64), self._wake_fds)

    def wait(self) -> list[Event]:
        """Sleep until payloads arrive or a worker is gone."""
        events: list[Event] = []
        while not events:
            if self._unseen_losses:
                losses, self._unseen_losses = self._unseen_losses, []
            elif len(self._gone) == self._workers:
                return []
            else:
                losses = self._wait_for_signal()
            # Arrivals first: what a worker delivered before it died counts.
            for worker, iteration, visit, finite, began_ns, ended_ns in self._signal.pop_all():
                began_s = (began_ns - self._began_ns) * 1e-9
                ended_s = (ended_ns - self._began_ns) * 1e-9
                events.append(Delivered(iteration, worker, visit, finite, began_s, ended_s))
            events += losses
        return events

    def payload(self, worker: int, visit: int) -> NDArray[np.float64]:
        """Read-only view into the memory that the worker wrote."""
        return self._payloads[worker][visit]

    def elapsed_s(self) -> float:
        """Seconds since `start` was called."""
        return (monotonic_ns() - self._began_ns) * 1e-9

    def finish(self, iteration: int) -> None:
        """Let late workers abandon the iteration."""
        self._signal.finish(iteration)

    @property
    def process_ids(self) -> list[int]:
        """Operating system ids of the workers, the gone ones included."""
        return [process.pid for process in self._processes]

    def close(self) -> None:
        """Ask the workers to leave, kill those that do not, release everything."""
        if self._closed:
            return
        self._closed = True
        if os.getpid() == self._owner:
            if self._processes:
                self._signal.stop(self._wake_fds)
            deadline = time.monotonic() + _LEAVE_S
            for process in self._processes:
                try:
                    process.wait(max(0.0, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        _close_all(self._descriptors)
        for segment in self._segments:
            segment.close()
