"""The worker's state machine, driven by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from cgc_fast.schemes.cyclic import cyclic_schedule
from cgc_fast.worker import Deliver, Derive, Forward, Idle, Visit, Worker, visits_of


def visit(slot, start, stop, ranges, cycles=1.0, arrival_cycles=None, forward_cycles=0.0):
    """Row 0 of cell `slot`; `cycles` of work of its own."""
    ranges = np.array(ranges, dtype=np.int64).reshape(-1, 2)
    arrival_cycles = cycles if arrival_cycles is None else arrival_cycles
    return Visit(
        slot, 0, slot, start, stop, ranges, np.ones(len(ranges)), cycles, forward_cycles, arrival_cycles
    )


def deliveries(worker):
    return [(i.visit.slot, i.due_s) for i in instructions(worker) if isinstance(i, Deliver)]


def instructions(worker, elapsed_s=0.0):
    found = []
    while not isinstance(instruction := worker.next(), Idle):
        found.append(instruction)
        worker.completed(elapsed_s)
    return found


def test_one_call_a_cell_if_the_problem_cannot_be_sliced():
    first, second = visit(0, 0, 10**6, [[0, 1000]]), visit(1, 10**6, 10**6 + 5, [[0, 3], [5, 9]])
    worker = Worker([first, second])
    assert isinstance(worker.next(), Idle)
    worker.begin(1)
    assert instructions(worker) == [
        Derive(first, 0, 10**6),
        Deliver(first, 0.0),
        Derive(second, 10**6, 10**6 + 5),
        Deliver(second, 0.0),
    ]
    assert isinstance(worker.next(), Idle)


@pytest.mark.parametrize("speed", [1e-9, 1e-6])
def test_slices_cover_each_cell_once_and_settle_at_a_millisecond(speed):
    work = [visit(0, 0, 3000, [[0, 50], [70, 120]]), visit(1, 3000, 50000, [[0, 100]])]
    worker = Worker(work, sliceable=True, forward=True)
    for iteration in (1, 2):
        worker.begin(iteration)
        covered = {0: 0, 1: 3000}
        slices = []
        while not isinstance(instruction := worker.next(), Idle):
            elapsed_s = 0.0
            if isinstance(instruction, Derive):
                assert instruction.start == covered[instruction.visit.slot]
                covered[instruction.visit.slot] = instruction.stop
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
    work = [visit(0, 0, 2, [[0, 4]]), visit(1, 2, 4, [[0, 4], [4, 8]]), visit(2, 4, 4, [[8, 9]])]
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
    worker = Worker([visit(0, 0, 2, [[0, 100]])], forward=True)
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
    worker = Worker([visit(0, 0, 2, [[0, 4]], 8.0), visit(1, 2, 4, [[0, 4]], 12.0, 20.0)])
    worker.begin(1, 0.5)
    assert deliveries(worker) == [(0, 4.0), (1, 10.0)]
    worker.begin(2, math.inf)
    assert deliveries(worker) == [(0, math.inf), (1, math.inf)]
    worker.begin(3)
    assert deliveries(worker) == [(0, 0.0), (1, 0.0)]


def test_no_work_is_due_at_once_even_from_a_worker_that_never_answers():
    worker = Worker([visit(0, 0, 2, [[0, 0]], 0.0)])
    worker.begin(1, math.inf)
    assert deliveries(worker) == [(0, 0.0)]


def test_orders_come_before_the_rest_of_the_walk():
    worker = Worker([visit(k, k, k + 1, [[0, 4]]) for k in range(3)])
    worker.begin(1)
    assert isinstance(worker.next(), Derive)  # the visit under way is finished first
    worker.order([visit(7, 7, 8, [[0, 4]]), visit(8, 8, 9, [[0, 4]])])
    assert [slot for slot, _ in deliveries(worker)] == [0, 7, 8, 1, 2]
    worker.order([visit(9, 9, 10, [[0, 4]])])  # after the end of the walk too
    assert [slot for slot, _ in deliveries(worker)] == [9]
    worker.order([visit(6, 6, 7, [[0, 4]])])
    worker.begin(2)  # orders are of one iteration
    assert [slot for slot, _ in deliveries(worker)] == [0, 1, 2]


def test_a_successor_does_only_what_is_ordered():
    worker = Worker([visit(k, k, k + 1, [[0, 4]]) for k in range(3)])
    worker.begin(4, walk=False)
    assert worker.iteration == 4
    assert isinstance(worker.next(), Idle)
    worker.order([worker.visits[1]])
    assert [slot for slot, _ in deliveries(worker)] == [1]
    worker.begin(5)
    assert [slot for slot, _ in deliveries(worker)] == [0, 1, 2]


def test_orders_are_forgotten_when_the_iteration_is_abandoned():
    worker = Worker([visit(0, 0, 1, [[0, 4]])])
    worker.begin(1)
    worker.order([visit(1, 1, 2, [[0, 4]])])
    worker.abandon()
    worker.order([visit(2, 2, 3, [[0, 4]])])
    assert isinstance(worker.next(), Idle)


def test_no_payload_is_written_again_once_it_was_delivered():
    work = [visit(k, k, k + 1, [[0, 4]]) for k in range(3)]
    worker = Worker(work)
    worker.begin(1)
    worker.order([work[2]])
    assert [slot for slot, _ in deliveries(worker)] == [2, 0, 1]  # the walk passes over what was ordered
    worker.order([work[0], visit(5, 5, 6, [[0, 4]]), visit(5, 5, 6, [[0, 4]])])
    assert [slot for slot, _ in deliveries(worker)] == [5]
    worker.begin(2)
    assert [slot for slot, _ in deliveries(worker)] == [0, 1, 2]


def test_a_payload_that_was_not_finite_is_computed_again_if_ordered():
    work = [visit(k, k, k + 1, [[0, 4]]) for k in range(2)]
    worker = Worker(work)
    worker.begin(1)
    assert isinstance(worker.next(), Derive)
    assert isinstance(worker.next(), Deliver)
    worker.rejected(work[0])
    assert [slot for slot, _ in deliveries(worker)] == [1]  # not by itself
    worker.order([work[0], work[1]])
    assert [slot for slot, _ in deliveries(worker)] == [0]
    worker.order([work[0]])  # finite this time
    assert deliveries(worker) == []


def test_orders_delay_the_rest_of_the_walk_on_the_emulated_clock():
    work = [visit(0, 0, 2, [[0, 4]], 8.0), visit(1, 2, 4, [[0, 4]], 12.0, 20.0)]
    worker = Worker(work)
    worker.begin(1, 0.5)
    worker.order([visit(2, 4, 6, [[4, 8]], 4.0, 0.0)], now_s=1.0)
    # Ordered at 1 s, though nothing was done before: 1 + 0.5 x 4; the walk comes 3 s later than without.
    assert deliveries(worker) == [(2, 3.0), (0, 7.0), (1, 13.0)]
    # At the end of the walk: from the moment of the order, or when the walk is done, whichever is later.
    worker.order([visit(3, 6, 7, [[4, 8]], 4.0, 0.0)], now_s=11.0)
    worker.order([visit(4, 7, 8, [[4, 8]], 4.0, 0.0)], now_s=20.0)
    assert deliveries(worker) == [(3, 15.0), (4, 22.0)]


def test_orders_pay_for_samples_that_were_not_touched_before():
    worker = Worker([visit(0, 0, 2, [[0, 4]], 8.0)], forward=True)
    worker.begin(1, 1.0)
    assert deliveries(worker) == [(0, 8.0)]
    ordered = visit(1, 2, 4, [[0, 4], [4, 12]], 10.0, 0.0, forward_cycles=6.0)
    worker.order([ordered], now_s=0.0)
    # Two thirds of its samples are new: 8 + 10 + 6 x 8 / 12.
    assert deliveries(worker) == [(1, 22.0)]


def test_soon_is_said_only_if_the_next_payload_follows_at_once():
    small = [visit(k, 2 * k, 2 * k + 2, [[0, 4]]) for k in range(3)]
    large = visit(3, 6, 10**7, [[0, 1000]])

    def soon(worker, **begin):
        worker.begin(1, **begin)
        return [i.soon for i in instructions(worker) if isinstance(i, Deliver)]

    assert soon(Worker([*small, large], sliceable=True)) == [True, True, False, False]
    assert soon(Worker([*small, large])) == [False] * 4  # nobody knows how long a call takes
    assert soon(Worker(small, sliceable=True), cycle_time=1.0) == [False] * 3
    apart = [visit(k, 2 * k, 2 * k + 2, [[4 * k, 4 * k + 4]]) for k in range(3)]
    assert soon(Worker(apart, sliceable=True, forward=True)) == [False] * 3
    # What is passed over does not follow: the master would not be woken.
    worker = Worker(small, sliceable=True)
    worker.begin(1)
    worker.order(small[1:])
    found = [(i.visit.slot, i.soon) for i in instructions(worker) if isinstance(i, Deliver)]
    assert found == [(1, False), (2, True), (0, False)]


def test_abandon_in_mid_cell_then_begin_again():
    worker = Worker([visit(0, 0, 10**6, [[0, 1000]])], sliceable=True)
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
            assert (v.cell, v.row, v.slot) == (c, row, schedule.row_offsets[c] + row)
            ranges, coefficients = schedule.support(int(c), int(row), 10)
            np.testing.assert_array_equal(v.ranges, ranges)
            np.testing.assert_array_equal(v.coefficients, coefficients)
        assert (np.diff([v.arrival_cycles for v in work]) > 0).all()


@pytest.mark.parametrize("forward_cycles", [0.0, 3.0])
def test_own_cycles_of_visits_add_up_to_arrival_cycles(forward_cycles):
    schedule = cyclic_schedule(4, 9, np.array([2, 3, 1, 3]))
    for worker in range(4):
        work = visits_of(schedule, worker, 12, 2.0, forward_cycles)
        # Walks rise in redundancy, so that the last visit touches all samples that any visit does.
        total = sum(v.cycles for v in work) + work[-1].forward_cycles
        assert total == pytest.approx(work[-1].arrival_cycles, rel=1e-14)  # a dozen roundings


def fast_worker(work):
    """A worker that has learned that a unit of work takes a nanosecond, a sample of a forward pass 1 us."""
    worker = Worker(work, sliceable=True, forward=True)
    for _ in range(60):
        worker.begin(1)
        while not isinstance(instruction := worker.next(), Idle):
            if isinstance(instruction, Forward):
                worker.completed(1e-6 * np.diff(instruction.ranges).sum())
            elif isinstance(instruction, Derive):
                worker.completed(1e-9 * instruction.visit.height * (instruction.stop - instruction.start))
    return worker


def test_a_stride_is_as_many_visits_as_fit_into_half_a_slice():
    # 0.11 ms each, and 0.05 ms for samples that are touched for the first time.
    samples = [[0, 50], [0, 50], [0, 50], [50, 100], [50, 100], [50, 100]]
    work = [visit(k, 2200 * k, 2200 * (k + 1), [ranges]) for k, ranges in enumerate(samples)]
    worker = fast_worker(work)
    worker.begin(2)
    assert [v.slot for v in worker.stride().visits] == [0, 1, 2]
    forwards = [None if new is None else new.tolist() for new in worker.stride().forwards]
    assert forwards == [[[0, 50]], None, None]
    worker.strode(work[:3], 5e-5, 3.3e-4)
    stride = worker.stride()
    assert [v.slot for v in stride.visits] == [3, 4, 5]
    assert [None if new is None else new.tolist() for new in stride.forwards] == [[[50, 100]], None, None]
    worker.strode(work[3:4], 5e-5, 1.1e-4)  # the host stopped behind the first
    assert [v.slot for v in worker.stride().visits] == [4, 5]
    # The machine goes on where the stride ended, and knows what was passed over.
    kinds = instructions(worker)
    assert [k.visit.slot for k in kinds if isinstance(k, Deliver)] == [4, 5]
    assert not any(isinstance(k, Forward) for k in kinds)
    assert worker.stride() is None


def test_no_stride_where_the_machine_has_to_be_asked():
    work = [visit(k, 10 * k, 10 * (k + 1), [[0, 3]]) for k in range(4)]
    worker = fast_worker(work)
    assert worker.stride() is None  # nothing is left
    worker.begin(2, cycle_time=1.0)
    assert worker.stride() is None
    worker.begin(3)
    worker.order([work[2]])
    assert worker.stride() is None
    assert [slot for slot, _ in deliveries(worker)] == [2, 0, 1, 3]
    worker.begin(4)
    worker.abandon()
    assert worker.stride() is None
    large = Worker([visit(0, 0, 10**6, [[0, 100]])], sliceable=True)
    large.begin(1)
    assert large.stride() is None
    whole = Worker([visit(0, 0, 10, [[0, 1]])])  # of a problem that cannot be sliced nothing is known
    whole.begin(1)
    assert whole.stride() is None


def test_what_is_not_finite_in_a_stride_may_be_ordered_again():
    work = [visit(k, 10 * k, 10 * (k + 1), [[0, 3]]) for k in range(3)]
    worker = fast_worker(work)
    worker.begin(2)
    assert len(worker.stride().visits) == 3
    worker.strode(work[:2], 0.0, 1e-8)
    worker.rejected(work[1])
    worker.order([work[0], work[1]])
    assert [slot for slot, _ in deliveries(worker)] == [1, 2]
