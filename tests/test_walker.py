"""The worker's loop in the compiled core against the pure `Worker`, and the hand-over between the two."""

from __future__ import annotations

import mmap
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgc_fast._core import Signal, Walker
from cgc_fast.codes import CyclicCode, RepetitionCode
from cgc_fast.problems import LeastSquares, LogisticRegression, SoftmaxRegression
from cgc_fast.schemes.cyclic import cyclic_schedule
from cgc_fast.worker import SLICE_S, SOON_S, Deliver, Derive, Forward, Idle, Worker, visits_of
from small_schedules import schedules

SAMPLES = 8


def problem_of(coordinates, kind=LeastSquares, seed=0):
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(SAMPLES, coordinates))
    if kind is LeastSquares:
        return LeastSquares(features, generator.normal(size=SAMPLES))
    return kind(features, generator.integers(0, 2, size=SAMPLES))


class Lane:
    """One worker on a signal of its own; orders are a byte in a pipe, which also ends a `serve`."""

    def __init__(self, problem, visits, capacity=100, slice_s=SLICE_S):
        self.problem, self.visits = problem, visits
        self.signal = Signal(mmap.mmap(-1, Signal.bytes(1, capacity)), 1, capacity)
        self.thetas = np.random.default_rng(1).normal(size=(2, problem.coordinates))
        self.payloads = {
            v.slot: np.full(v.stop - v.start + (v.stop == problem.coordinates), np.nan) for v in visits
        }
        self.pipes = [os.pipe() for _ in range(3)]
        for read, _ in self.pipes:
            os.set_blocking(read, False)
        (wake, self.wake), (orders, self.orders), (_, master) = self.pipes
        items = [(v.slot, v.start, v.stop, v.ranges, v.coefficients) for v in visits]
        payloads = [self.payloads[v.slot] for v in visits]
        kernel = problem.compiled_kernel()
        self.walker = Walker(
            self.signal, kernel, 0, *self.thetas, items, payloads, slice_s, SOON_S, wake, orders, master
        )
        os.write(self.orders, b"!")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for pipe in self.pipes:
            for end in pipe:
                os.close(end)

    def publish(self, iteration, cycle_time=np.nan, with_value=False):
        self.signal.publish(iteration, np.array([cycle_time]), with_value, np.array([-1], dtype=np.int32))

    def serve(self, last=0, orders_seen=0):
        return self.walker.serve(last, orders_seen)

    def delivered(self):
        return [(iteration, slot, finite) for iteration, _, slot, finite, _, _ in self.signal.pop_all(0)]

    def expected(self, visit, iteration, with_value=False):
        """The payload of a visit, in one call and by another object."""
        problem = self.problem.shard([(0, SAMPLES)])
        problem.begin(self.thetas[iteration % 2].copy())
        out = np.empty(visit.stop - visit.start)
        problem.derivatives(visit.start, visit.stop, visit.ranges, visit.coefficients, out)
        if with_value and visit.stop == problem.coordinates:
            return np.append(out, problem.value(visit.ranges, visit.coefficients))
        return out

    def check(self, visits, iteration, with_value=False):
        for visit in visits:
            expected = self.expected(visit, iteration, with_value)
            np.testing.assert_array_equal(self.payloads[visit.slot][: len(expected)], expected)

    def go_on(self, standing):
        """Let a `Worker` take over, and carry out what it says; slots in the order of their delivery."""
        _, _, begun, delivered, next_coordinate, _, _ = standing
        worker = Worker(self.visits, sliceable=True, forward=True)
        worker.resume(begun, delivered, next_coordinate)
        slots, derived = [], 0
        while not isinstance(instruction := worker.next(), Idle):
            if isinstance(instruction, Forward):
                self.problem.forward(instruction.ranges)
            elif isinstance(instruction, Derive):
                visit, start, stop = instruction
                out = self.payloads[visit.slot][start - visit.start : stop - visit.start]
                self.problem.derivatives(start, stop, visit.ranges, visit.coefficients, out)
                derived += stop - start
            else:
                assert isinstance(instruction, Deliver)
                slots.append(instruction.visit.slot)
        return slots, derived


@given(st.data(), st.sampled_from([LeastSquares, LogisticRegression]), st.booleans())
@settings(max_examples=40)
def test_a_walk_has_the_bits_and_the_order_of_the_worker(data, kind, with_value):
    codes = st.integers(1, 3).map(RepetitionCode) | st.sampled_from([CyclicCode(4, 1), CyclicCode(2, 0)])
    schedule = data.draw(schedules(codes=codes))
    visits = visits_of(schedule, data.draw(st.integers(0, schedule.workers - 1)), SAMPLES)
    with Lane(problem_of(schedule.coordinates, kind), visits, slice_s=1e-9) as lane:
        for iteration in (1, 2):
            lane.publish(iteration, with_value=with_value)
            why, published, begun, delivered, _, over, _ = lane.serve(iteration - 1)
            assert (why, published, begun, delivered) == ("orders", iteration, iteration, len(visits))
            assert not over
            assert lane.delivered() == [(iteration, visit.slot, True) for visit in visits]
            lane.check(visits, iteration, with_value)
        assert lane.signal.walks(0) == 2


def test_softmax_too():
    visits = visits_of(cyclic_schedule(3, 12, np.array([4, 4, 4])), 1, SAMPLES)
    generator = np.random.default_rng(0)
    problem = SoftmaxRegression(generator.normal(size=(SAMPLES, 4)), np.arange(SAMPLES) % 3)
    with Lane(problem, visits) as lane:
        lane.publish(1, with_value=True)
        lane.serve()
        lane.check(visits, 1, with_value=True)


def walk_of(coordinates=60):
    third = coordinates // 3
    return visits_of(cyclic_schedule(3, coordinates, np.array([third, third, third])), 1, SAMPLES)


def test_orders_are_seen_after_a_slice_and_the_worker_goes_on_from_there():
    visits = walk_of()
    with Lane(problem_of(60), visits, slice_s=1e-9) as lane:  # a coordinate or a sample a slice
        lane.publish(1)
        lane.signal.announce_orders(0)
        # After the first slice, and then, as often as it is asked again, by the Worker.
        standing = lane.serve(orders_seen=0)
        assert standing[0] == "orders"
        assert standing[3] == 0
        slots, derived = lane.go_on(standing)
        assert slots == [visit.slot for visit in visits]
        assert derived == sum(v.stop - v.start for v in visits) - (standing[4] - visits[0].start)
        assert lane.delivered() == []
        lane.check(visits, 1)


def test_a_payload_that_is_not_finite_is_left_to_the_worker():
    visits = walk_of()
    with Lane(problem_of(60), visits) as lane:
        lane.thetas[1, 0] = np.nan
        lane.publish(1)
        standing = lane.serve()
        why, _, begun, delivered, next_coordinate, over, _ = standing
        assert (why, begun, delivered, next_coordinate, over) == ("delivery", 1, 0, visits[0].stop, False)
        assert lane.delivered() == []
        slots, derived = lane.go_on(standing)
        assert slots == [visit.slot for visit in visits]
        assert derived == sum(v.stop - v.start for v in visits[1:])


def test_a_ring_without_room_is_left_to_the_worker():
    visits = walk_of()
    with Lane(problem_of(60), visits, capacity=1) as lane:
        lane.publish(1)
        standing = lane.serve()
        assert standing[0] == "delivery"
        assert standing[3] == 1
        assert lane.go_on(standing) == (
            [visit.slot for visit in visits[1:]],
            sum(v.stop - v.start for v in visits[2:]),
        )
        lane.check(visits, 1)


def test_an_iteration_that_is_over_is_abandoned():
    visits = walk_of()
    with Lane(problem_of(60), visits) as lane:
        lane.publish(1)
        lane.signal.finish(1)
        why, published, begun, delivered, _, over, _ = lane.serve()
        assert (why, published, begun, over) == ("orders", 1, 1, True)
        assert delivered == 0
        assert lane.delivered() == []


def test_emulated_cycle_times_are_left_to_the_worker():
    with Lane(problem_of(60), walk_of()) as lane:
        lane.publish(1, cycle_time=1e-6)
        assert lane.serve()[:3] == ("iteration", 1, 0)
        assert lane.signal.walks(0) == 0


def test_stop_ends_it():
    with Lane(problem_of(60), walk_of()) as lane:
        lane.publish(1)
        lane.signal.stop(np.array([-1], dtype=np.int32))
        assert lane.serve()[0] == "stopped"


class Mine(LeastSquares):
    """May compute anything."""


def test_only_the_built_in_problems_have_a_compiled_kernel():
    generator = np.random.default_rng(0)
    features, targets = generator.normal(size=(4, 3)), generator.normal(size=4)
    problem = LeastSquares(features, targets)
    assert problem.compiled_kernel() is problem.compiled_kernel()
    assert LogisticRegression(features, targets > 0).compiled_kernel() is not None
    assert Mine(features, targets).compiled_kernel() is None


def test_what_does_not_fit_is_refused():
    problem, visits = problem_of(60), walk_of()
    with Lane(problem, visits) as lane:
        v = visits[0]

        def make(*, worker=0, payload=lane.payloads[v.slot], coefficients=v.coefficients):
            item = (v.slot, v.start, v.stop, v.ranges, coefficients)
            kernel = problem.compiled_kernel()
            return Walker(
                lane.signal, kernel, worker, *lane.thetas, [item], [payload], 1e-3, 1e-5, -1, -1, -1
            )

        make()
        with pytest.raises(ValueError, match="worker: expected 0 to 0, got 1"):
            make(worker=1)
        with pytest.raises(ValueError, match="payload: expected length"):
            make(payload=np.empty(3))
        with pytest.raises(ValueError, match="coefficients: expected length"):
            make(coefficients=np.empty(7))
