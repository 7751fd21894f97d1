"""The loop of workers that send messages, on a scripted clock: what leaves together, when, what is in it."""

from __future__ import annotations

from itertools import chain, pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgc_fast.engines import remote_worker
from cgc_fast.engines.remote_worker import ALIVE_S, RemoteWorker
from cgc_fast.schemes.cyclic import cyclic_schedule
from cgc_fast.worker import STRIDE_S, visits_of
from own_problems import Quadratic

SAMPLES, CELLS, WIDTH = 12, 12, 5
COORDINATES = CELLS * WIDTH


class Timed(Quadratic):
    """A cell takes as long as the script says, a forward pass nothing, and so does everything else."""

    sliceable = True

    def with_script(self, clock, seconds):
        self.clock, self.seconds = clock, seconds
        self.bad = set()  # first coordinates of cells that are not finite, once
        return self

    def derivatives(self, start, stop, ranges, coefficients, out):
        super().derivatives(start, stop, ranges, coefficients, out)
        self.clock.now_s += self.seconds(start // WIDTH) * (stop - start) / WIDTH
        if start in self.bad:
            self.bad.remove(start)
            out[-1] = np.nan

    def value(self, ranges, coefficients):
        return float(sum(c * (high - low) for c, (low, high) in zip(coefficients, ranges, strict=True)))


class Rig:
    """A worker whose clock, mailbox and memory are here; the mailbox is this object."""

    def __init__(self, monkeypatch, seconds, cycle_time=None):
        self.now_s = 1000.0
        monkeypatch.setattr(remote_worker, "time", SimpleNamespace(monotonic=lambda: self.now_s))
        plain = Quadratic.random(SAMPLES, COORDINATES)
        self.problem = Timed(plain.weights, plain.targets).with_script(self, seconds)
        schedule = cyclic_schedule(CELLS, COORDINATES, np.full(CELLS, WIDTH))
        self.walk = visits_of(schedule, 0, SAMPLES)
        self.payloads = {}
        self.orders, self.over = [], 0
        self.cycle_time = cycle_time
        self.worker = RemoteWorker(self.problem, self.walk, self.place, self)
        self.iteration = 0

    def place(self, visit):
        loss = int(visit.stop == COORDINATES)
        self.payloads[visit.slot] = np.full(visit.stop - visit.start + loss, -1.0)
        return self.payloads[visit.slot]

    def is_over(self, iteration):
        return self.over >= iteration

    def take_orders(self, iteration):
        taken, self.orders = self.orders, []
        return taken

    def wait(self, timeout_s):
        assert timeout_s <= ALIVE_S
        self.now_s += max(timeout_s, 1e-9)

    def begin(self):
        self.iteration += 1
        theta = np.random.default_rng(self.iteration).normal(size=COORDINATES)
        theta.flags.writeable = False
        self.theta, self.began_s = theta, self.now_s
        self.worker.begin(self.iteration, theta, cycle_time=self.cycle_time, with_value=True, walk=True)

    def outputs(self):
        """What leaves, and how long after the iteration began."""
        for output in self.worker.run():
            yield output, self.now_s - self.began_s

    def iterate(self):
        """Batches of an iteration, and when they left."""
        self.begin()
        return [(output, left_s) for output, left_s in self.outputs() if output is not None]

    def check(self, delivery):
        """The payload has the bits of one call."""
        visit = delivery.visit
        expected = np.empty(visit.stop - visit.start)
        twin = Quadratic(self.problem.weights, self.problem.targets)
        twin.begin(self.theta, self.iteration)
        twin.derivatives(visit.start, visit.stop, visit.ranges, visit.coefficients, expected)
        payload = self.payloads[visit.slot]
        np.testing.assert_array_equal(payload[: len(expected)], expected)
        if visit.stop == COORDINATES:
            assert payload[-1] == self.problem.value(visit.ranges, visit.coefficients)


def slots(batches):
    return [[delivery.visit.slot for delivery in batch] for batch, _ in batches]


def test_small_cells_leave_together_in_the_order_of_the_walk(monkeypatch):
    rig = Rig(monkeypatch, lambda cell: 1e-6)
    for _ in range(20):
        batches = rig.iterate()
        assert list(chain(*slots(batches))) == [visit.slot for visit in rig.walk]
        for batch, _ in batches:
            for delivery in batch:
                assert delivery.finite
                rig.check(delivery)
    assert len(batches) == 1
    times = [(d.began_s, d.ended_s) for d in batches[0][0]]
    assert all(before[1] == after[0] for before, after in pairwise(times))
    assert times[0][0] == 0.0
    assert times[-1][1] == pytest.approx(CELLS * 1e-6)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([1e-7, 1e-5, 1e-4, 3e-4, 2e-3, 0.05]), min_size=3 * CELLS, max_size=3 * CELLS)
)
def test_nothing_complete_waits_for_more_than_a_stride_and_what_is_made_then(seconds):
    with pytest.MonkeyPatch.context() as monkeypatch:
        rig = Rig(monkeypatch, lambda cell: seconds[CELLS * (rig.iteration - 1) + cell])
        for iteration in range(3):
            batches = rig.iterate()
            assert list(chain(*slots(batches))) == [visit.slot for visit in rig.walk]
            for batch, left_s in batches:
                longest_s = max(
                    seconds[CELLS * iteration + delivery.visit.start // WIDTH] for delivery in batch
                )
                for delivery in batch:
                    rig.check(delivery)
                    assert left_s - delivery.ended_s <= STRIDE_S + longest_s + 1e-9
                # Only the last of a batch may have taken it beyond a stride.
                assert not batch[1:] or batch[-2].ended_s - batch[0].began_s <= STRIDE_S + 1e-9


def test_cells_that_take_long_leave_each_by_itself(monkeypatch):
    rig = Rig(monkeypatch, lambda cell: 0.002)
    for _ in range(3):
        batches = rig.iterate()
    assert slots(batches) == [[visit.slot] for visit in rig.walk]


def test_a_cell_that_is_not_finite_ends_its_batch_and_is_made_again_if_ordered(monkeypatch):
    rig = Rig(monkeypatch, lambda cell: 1e-6)
    for _ in range(20):
        rig.iterate()
    rig.problem.bad = {3 * WIDTH}
    rig.begin()
    outputs = rig.outputs()
    batches = [next(outputs)]
    assert [d.finite for d in batches[0][0]] == [True, True, True, False]
    rig.orders = [rig.walk[2], rig.walk[3]]  # of these only the second is made again
    batches += list(outputs)
    made = [visit.slot for visit in rig.walk]
    assert slots(batches) == [made[:4], [made[3]], *([slot] for slot in made[4:])]
    for batch, _ in batches[1:]:
        assert batch[0].finite
        rig.check(batch[0])


def test_nothing_leaves_before_it_is_due(monkeypatch):
    rig = Rig(monkeypatch, lambda cell: 1e-6, cycle_time=1e-4)
    batches = rig.iterate()
    assert slots(batches) == [[visit.slot] for visit in rig.walk]
    for (batch, left_s), visit in zip(batches, rig.walk, strict=True):
        due_s = 1e-4 * visit.arrival_cycles
        assert due_s <= left_s + 1e-9 <= due_s + 1e-3
        assert batch[0].ended_s == left_s


def test_an_iteration_that_is_over_is_left_between_two_batches(monkeypatch):
    rig = Rig(monkeypatch, lambda cell: 3e-4)
    rig.begin()
    outputs = rig.outputs()
    first, _ = next(outputs)
    rig.over = rig.iteration
    assert list(outputs) == []
    assert len(first) < CELLS
    rig.cycle_time = np.inf  # nothing is ever due; signs of life are given until it is over
    rig.begin()
    outputs = rig.outputs()
    assert next(outputs)[0] is None
    rig.over = rig.iteration
    assert list(outputs) == []
