"""What runs inside a worker process: the loop around the pure `Worker`.

Imports NumPy, the compiled core and the problem, nothing else. The process leaves when the master says so or
when the lifeline, a pipe that only the master holds open, ends. A failure is reported as a traceback through
the report pipe, and the process exits with status 1.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from cgc_fast._core import Signal, all_finite, monotonic_ns
from cgc_fast.memory import Segment
from cgc_fast.problems import Problem, check_problem
from cgc_fast.worker import Deliver, Derive, Forward, Idle, Visit, Worker

__all__ = ["WorkerConfiguration", "main", "payload_offsets"]

FOREVER_NS = np.iinfo(np.int64).max


@dataclass(frozen=True)
class WorkerConfiguration:
    """Everything a worker is told at its start; descriptors are inherited ones."""

    worker: int
    workers: int
    capacity: int
    visits: list[Visit]
    coordinates: int
    problem: bytes  # pickled: a shard, or (factory, sample ranges)
    signal_descriptor: int
    signal_size: int
    theta_descriptor: int
    payload_descriptor: int
    payload_size: int
    wake_descriptor: int
    lifeline_descriptor: int
    report_descriptor: int
    master_descriptor: int


def payload_offsets(visits: list[Visit]) -> tuple[list[int], int]:
    """Byte offsets of the payloads of a walk, each on its own cache line, and their total size."""
    offsets, total = [], 0
    for visit in visits:
        offsets.append(total)
        total += -(-8 * (visit.stop - visit.start) // 64) * 64
    return offsets, total


def load_problem(pickled: bytes) -> Problem:
    """Unpickle a shard, or call the factory with the sample ranges."""
    content: Any = pickle.loads(pickled)
    if isinstance(content, tuple):
        factory: Callable[[NDArray[np.int64]], Problem] = content[0]
        return factory(content[1])
    problem: Problem = content
    return problem


def main(configuration_file: BinaryIO) -> None:
    """Run a worker until the master is done with it."""
    # Ctrl-C reaches the whole foreground process group; the master decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable()
    with configuration_file:
        configuration: WorkerConfiguration = pickle.load(configuration_file)
    for descriptor in (
        configuration.signal_descriptor,
        configuration.theta_descriptor,
        configuration.payload_descriptor,
        configuration.wake_descriptor,
        configuration.lifeline_descriptor,
        configuration.report_descriptor,
        configuration.master_descriptor,
    ):
        os.set_inheritable(descriptor, False)  # not for what the user's problem may start
    try:
        run(configuration)
    except BaseException:
        text = traceback.format_exc()
        with contextlib.suppress(OSError):  # the master may be gone already
            os.write(configuration.report_descriptor, text.encode(errors="replace")[-60_000:])
        sys.exit(1)


def run(configuration: WorkerConfiguration) -> None:
    """Serve iterations until told to stop."""
    index = configuration.worker
    problem = load_problem(configuration.problem)
    derivatives = problem.derivatives
    traits = check_problem(problem)  # a factory may return anything
    forward = getattr(problem, "forward", None)
    worker = Worker(configuration.visits, sliceable=traits.sliceable, forward=traits.has_forward)
    control = Segment(configuration.signal_size, descriptor=configuration.signal_descriptor)
    channel = Signal(control.memory, configuration.workers, configuration.capacity)
    theta_segment = Segment(
        16 * configuration.coordinates, descriptor=configuration.theta_descriptor, writable=False
    )
    thetas = [
        theta_segment.array(configuration.coordinates, 8 * configuration.coordinates * parity)
        for parity in (0, 1)
    ]
    payload_segment = Segment(configuration.payload_size, descriptor=configuration.payload_descriptor)
    offsets, _ = payload_offsets(configuration.visits)
    payloads = [
        payload_segment.array(visit.stop - visit.start, offset)
        for visit, offset in zip(configuration.visits, offsets, strict=True)
    ]
    wake, lifeline = configuration.wake_descriptor, configuration.lifeline_descriptor
    master = configuration.master_descriptor

    channel.push(index, 0, 0, True, 0, monotonic_ns(), master)  # ready
    iteration = 0
    began_ns = 0
    while True:
        instruction = worker.next()
        if isinstance(instruction, Idle):
            why, iteration = channel.wait_for_iteration(index, iteration, wake, lifeline)
            if why in ("stopped", "orphaned"):
                return
            if why == "iteration":
                began_ns = channel.published_ns(iteration)
                cycle_time = channel.cycle_time(index, iteration)
                problem.begin(thetas[iteration % 2], iteration)
                worker.begin(iteration, None if np.isnan(cycle_time) else cycle_time)
                visit_began_ns = monotonic_ns()
            continue
        if isinstance(instruction, Deliver):
            if instruction.due_s > 0:
                until_ns = (
                    FOREVER_NS if np.isinf(instruction.due_s) else began_ns + int(instruction.due_s * 1e9)
                )
                why = "interrupted"
                while why == "interrupted":
                    why = channel.sleep_until(index, iteration, until_ns, wake, lifeline)
                if why == "orphaned":
                    return
                if why != "timeout":
                    worker.abandon()
                    continue
            finite = all_finite(payloads[instruction.visit])
            ended_ns = monotonic_ns()
            channel.push(index, iteration, instruction.visit, finite, visit_began_ns, ended_ns, master)
            visit_began_ns = ended_ns
        else:
            slice_began_ns = monotonic_ns()
            if isinstance(instruction, Forward):
                assert forward is not None
                forward(instruction.ranges)
            elif isinstance(instruction, Derive):
                visit = configuration.visits[instruction.visit]
                start, stop = instruction.start, instruction.stop
                out = payloads[instruction.visit][start - visit.start : stop - visit.start]
                derivatives(start, stop, visit.ranges, visit.coefficients, out)
            worker.completed((monotonic_ns() - slice_began_ns) * 1e-9)
        if channel.is_over(iteration):
            worker.abandon()
