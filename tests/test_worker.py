"""The worker's state machine, driven by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from cgc_fast.schemes.cyclic import cyclic_schedule
from cgc_fast.worker import Deliver, Derive, Forward, Idle, Visit, Worker, visits_of


def visit(start, stop, ranges, cycles=1.0):
    ranges = np.array(ranges, dtype=np.int64).reshape(-1, 2)
    return Visit(start, stop, ranges, np.ones(len(ranges)), cycles)


def instructions(worker, elapsed_s=0.0):
    found = []
    while not isinstance(instruction := worker.next(), Idle):
        found.append(instruction)
        worker.completed(elapsed_s)
    return found


def test_one_call_a_cell_if_the_problem_cannot_be_sliced():
    worker = Worker([visit(0, 10**6, [[0, 1000]]), visit(10**6, 10**6 + 5, [[0, 3], [5, 9]])])
    assert isinstance(worker.next(), Idle)
    worker.begin(1)
    assert instructions(worker) == [
        Derive(0, 0, 10**6),
        Deliver(0, 0.0),
        Derive(1, 10**6, 10**6 + 5),
        Deliver(1, 0.0),
    ]
    assert isinstance(worker.next(), Idle)


@pytest.mark.parametrize("speed", [1e-9, 1e-6])
def test_slices_cover_each_cell_once_and_settle_at_a_millisecond(speed):
    work = [visit(0, 3000, [[0, 50], [70, 120]]), visit(3000, 50000, [[0, 100]])]
    worker = Worker(work, sliceable=True, forward=True)
    for iteration in (1, 2):
        worker.begin(iteration)
        covered = {0: 0, 1: 3000}
        slices = []
        while not isinstance(instruction := worker.next(), Idle):
            elapsed_s = 0.0
            if isinstance(instruction, Derive):
                assert instruction.start == covered[instruction.visit]
                covered[instruction.visit] = instruction.stop
                elapsed_s = speed * 100 * (instruction.stop - instruction.start)
                if instruction.stop not in (3000, 50000):
                    slices.append(elapsed_s)
            worker.completed(elapsed_s)
        assert covered == {0: 3000, 1: 50000}
    if speed == 1e-9:
        # Converged from far below: every full slice of the second iteration lies within 30 % of 1 ms.
        assert max(slices) < 1.3e-3
    if len(slices) > 20:
        assert 0.7e-3 < slices[-1] < 1.3e-3


def test_forward_comes_first_and_once_a_range():
    work = [visit(0, 2, [[0, 4]]), visit(2, 4, [[0, 4], [4, 8]]), visit(4, 4, [[8, 9]])]
    worker = Worker(work, forward=True)
    worker.begin(1)
    kinds = [
        ("forward", i.ranges.tolist()) if isinstance(i, Forward) else type(i).__name__
        for i in instructions(worker)
    ]
    assert kinds == [
        ("forward", [[0, 4]]),
        "Derive",
        "Deliver",
        ("forward", [[4, 8]]),
        "Derive",
        "Deliver",
        "Deliver",
    ]


def test_long_forward_passes_are_sliced():
    worker = Worker([visit(0, 2, [[0, 100]])], forward=True)
    worker.begin(1)
    ranges = []
    while isinstance(instruction := worker.next(), Forward):
        ranges.append(instruction.ranges[0].tolist())
        worker.completed(1e-4 * (ranges[-1][1] - ranges[-1][0]))
    assert len(ranges) > 3
    assert ranges[0][0] == 0
    assert ranges[-1][1] == 100
    assert all(a[1] == b[0] for a, b in itertools.pairwise(ranges))


def test_due_times_follow_the_emulated_cycle_time():
    work = [visit(0, 2, [[0, 4]], 8.0), visit(2, 4, [[0, 4]], 20.0)]
    worker = Worker(work)
    worker.begin(1, 0.5)
    assert [i.due_s for i in instructions(worker) if isinstance(i, Deliver)] == [4.0, 10.0]
    worker.begin(2, math.inf)
    assert [i.due_s for i in instructions(worker) if isinstance(i, Deliver)] == [math.inf, math.inf]
    worker.begin(3)
    assert [i.due_s for i in instructions(worker) if isinstance(i, Deliver)] == [0.0, 0.0]


def test_no_work_is_due_at_once_even_from_a_worker_that_never_answers():
    worker = Worker([visit(0, 2, [[0, 0]], 0.0)])
    worker.begin(1, math.inf)
    assert [i.due_s for i in instructions(worker) if isinstance(i, Deliver)] == [0.0]


def test_abandon_in_mid_cell_then_begin_again():
    worker = Worker([visit(0, 10**6, [[0, 1000]])], sliceable=True)
    worker.begin(1)
    assert isinstance(worker.next(), Derive)
    worker.abandon()
    assert isinstance(worker.next(), Idle)
    worker.begin(2)
    first = worker.next()
    assert isinstance(first, Derive)
    assert first.start == 0


def test_visits_of_a_schedule():
    schedule = cyclic_schedule(4, 9, np.array([2, 3, 1, 3]))
    for worker in range(4):
        work = visits_of(schedule, worker, samples=10)
        walk = schedule.walks[worker]
        assert [(v.start, v.stop) for v in work] == [
            (schedule.cells[c].start, schedule.cells[c].stop) for c in walk.cells
        ]
        for v, c, row in zip(work, walk.cells, walk.rows, strict=True):
            ranges, coefficients = schedule.support(int(c), int(row), 10)
            np.testing.assert_array_equal(v.ranges, ranges)
            np.testing.assert_array_equal(v.coefficients, coefficients)
        assert (np.diff([v.arrival_cycles for v in work]) > 0).all()
