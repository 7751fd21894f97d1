"""A walk whose payloads leave in messages: their bits, headers, and what leaves together."""

from __future__ import annotations

import mmap
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgc_fast._core import HEADER_VALUES, MessageWalk, Signal, push_run
from cgc_fast.codes import CyclicCode, RepetitionCode
from cgc_fast.problems import LeastSquares
from cgc_fast.schemes.cyclic import cyclic_schedule
from cgc_fast.worker import SLICE_S, SOON_S, Visit, visits_of
from small_schedules import schedules

SAMPLES = 8
AT_ONCE_S = 1e9  # everything is


def problem_of(coordinates):
    generator = np.random.default_rng(0)
    return LeastSquares(generator.normal(size=(SAMPLES, coordinates)), generator.normal(size=SAMPLES))


def walk_of(coordinates=60):
    third = coordinates // 3
    return visits_of(cyclic_schedule(3, coordinates, np.array([third, third, third])), 1, SAMPLES)


class Sender:
    """A walk with its two memories; `runs` are those that `go_on` told of."""

    def __init__(self, problem, visits, slice_s=SLICE_S, soon_s=SOON_S):
        self.problem, self.visits = problem, visits
        widths = [v.stop - v.start + (v.stop == problem.coordinates) for v in visits]
        self.bounds = [0, *accumulate(HEADER_VALUES + width for width in widths)]
        self.memories = [np.full(self.bounds[-1], -1.0) for _ in range(2)]
        items = [(v.slot, v.start, v.stop, v.ranges, v.coefficients) for v in visits]
        self.walk = MessageWalk(problem.compiled_kernel(), items, *self.memories, slice_s, soon_s)

    def make(self, iteration, theta, with_value=False):
        self.walk.begin(iteration, iteration % 2, theta, with_value)
        runs = []
        while not self.walk.is_over:
            runs.append(self.walk.go_on())
        return [run for run in runs if run[1] > run[0]]

    def message(self, iteration, index):
        """Header and payload of a visit."""
        message = self.memories[iteration % 2][self.bounds[index] : self.bounds[index + 1]]
        return message[:HEADER_VALUES], message[HEADER_VALUES:]

    def expected(self, visit, theta, with_value):
        """By another object, in one call."""
        problem = self.problem.shard([(0, SAMPLES)])
        problem.begin(theta.copy())
        out = np.empty(visit.stop - visit.start)
        problem.derivatives(visit.start, visit.stop, visit.ranges, visit.coefficients, out)
        if with_value and visit.stop == problem.coordinates:
            return np.append(out, problem.value(visit.ranges, visit.coefficients))
        return out


@given(st.data(), st.booleans(), st.sampled_from([1e-9, SLICE_S]))
@settings(max_examples=40)
def test_every_payload_is_complete_once_in_the_order_of_the_walk(data, with_value, slice_s):
    codes = st.integers(1, 3).map(RepetitionCode) | st.sampled_from([CyclicCode(4, 1), CyclicCode(2, 0)])
    schedule = data.draw(schedules(codes=codes))
    visits = visits_of(schedule, data.draw(st.integers(0, schedule.workers - 1)), SAMPLES)
    sender = Sender(problem_of(schedule.coordinates), visits, slice_s)
    for iteration in (1, 2, 3):
        theta = np.random.default_rng(iteration).normal(size=schedule.coordinates)
        runs = sender.make(iteration, theta, with_value)
        assert [first for first, _, _ in runs] + [len(visits)] == [0] + [stop for _, stop, _ in runs]
        assert all(finite for _, _, finite in runs)
        before_s = 0.0
        for index, visit in enumerate(visits):
            header, payload = sender.message(iteration, index)
            assert header[:2].tolist() == [iteration, 1.0]
            assert before_s == header[2] <= header[3]  # each begins where the last has ended
            before_s = header[3]
            expected = sender.expected(visit, theta, with_value)
            np.testing.assert_array_equal(payload[: len(expected)], expected)


def test_what_follows_at_once_leaves_together_and_what_does_not_leaves_alone():
    problem, theta = problem_of(60), np.ones(60)
    pieces = [Visit(0, 0, k, 5 * k, 5 * k + 5, np.array([[3, 5]]), np.ones(1)) for k in range(12)]
    assert Sender(problem, pieces, 1e3, AT_ONCE_S).make(1, theta) == [(0, 12, True)]
    alone = [(k, k + 1, True) for k in range(12)]
    assert Sender(problem, pieces, 1e3, 0.0).make(1, theta) == alone
    assert Sender(problem, pieces, 1e-9, AT_ONCE_S).make(1, theta) == alone  # nobody waits for long
    # Every visit touches samples that no earlier one has.
    assert Sender(problem, walk_of(), 1e3, AT_ONCE_S).make(1, theta) == alone[:3]


def test_the_two_memories_do_not_touch_each_other():
    sender = Sender(problem_of(60), walk_of())
    sender.make(1, np.ones(60))
    before = sender.memories[1].copy()
    sender.make(2, np.zeros(60))
    np.testing.assert_array_equal(sender.memories[1], before)


def test_a_payload_that_is_not_finite_is_the_last_of_its_run():
    problem = problem_of(60)
    sender = Sender(problem, walk_of(), 1e3, AT_ONCE_S)
    runs = sender.make(1, np.full(60, 1e308))
    assert [(stop - first, finite) for first, stop, finite in runs] == [(1, False)] * 3
    header, _ = sender.message(1, 0)
    assert header[1] == 0.0


def test_it_can_be_left_between_slices():
    visits = walk_of()
    sender = Sender(problem_of(60), visits, slice_s=1e-9)  # a coordinate or a sample a slice
    sender.walk.begin(1, 0, np.ones(60), False)
    seen = set()
    while not sender.walk.is_over:
        first, stop, _ = sender.walk.go_on()
        assert stop - first <= 1
        seen.add((sender.walk.made, sender.walk.next_coordinate))
    assert {(0, coordinate) for coordinate in range(1, 20)} <= seen


def test_what_does_not_fit_is_refused():
    problem, visits = problem_of(60), walk_of()
    items = [(v.slot, v.start, v.stop, v.ranges, v.coefficients) for v in visits]
    with pytest.raises(ValueError, match="memory: expected length"):
        MessageWalk(problem.compiled_kernel(), items, np.empty(3), np.empty(3), SLICE_S, SOON_S)
    with pytest.raises(ValueError, match="theta: expected length 60, got 3"):
        Sender(problem, visits).walk.begin(1, 0, np.ones(3), False)
    with pytest.raises(ValueError, match="memory: expected 0 or 1, got 2"):
        Sender(problem, visits).walk.begin(1, 2, np.ones(60), False)


# --- entering them into the signal ------------------------------------------------------------------------


def signal_of(workers, capacity):
    return Signal(mmap.mmap(-1, Signal.bytes(workers, capacity)), workers, capacity)


def test_a_run_is_entered_as_its_headers_say():
    visits = walk_of()
    sender, signal = Sender(problem_of(60), visits), signal_of(2, 8)
    sender.make(5, np.ones(60))
    places, slots = np.array(sender.bounds[:-1]), np.array([visit.slot for visit in visits])
    sender.message(5, 2)[0][1] = 0.0  # the last is not finite
    push_run(signal, 1, sender.memories[1], places[1:], slots[1:], 3_000_000_000)
    found = signal.pop_all(2_000_000_000)
    expected = []
    for index in (1, 2):
        _, _, began_s, ended_s = sender.message(5, index)[0]
        expected.append((5, 1, visits[index].slot, index == 1, 1.0 + began_s, 1.0 + ended_s))
    # Moments are whole nanoseconds.
    assert [entry[:4] for entry in found] == [entry[:4] for entry in expected]
    np.testing.assert_allclose([e[4:] for e in found], [e[4:] for e in expected], rtol=0.0, atol=1.1e-9)


def test_what_is_no_run_is_not_entered():
    memory, zero, signal = np.zeros(10), np.zeros(1, dtype=np.int64), signal_of(2, 1)
    with pytest.raises(ValueError, match="worker: expected 0 to 1, got 2"):
        push_run(signal, 2, memory, zero, zero, 0)
    with pytest.raises(ValueError, match="places: expected length 2, got 1"):
        push_run(signal, 0, memory, zero, np.zeros(2, dtype=np.int64), 0)
    for place in (-1, 10 - HEADER_VALUES + 1):
        with pytest.raises(
            ValueError, match=f"places: expected headers within 10 values, got one at {place}"
        ):
            push_run(signal, 0, memory, zero + place, zero, 0)
    assert signal.pop_all(0) == []
    push_run(signal, 0, memory, zero, zero, 0)
    with pytest.raises(RuntimeError, match="worker 0: more payloads than it can have delivered"):
        push_run(signal, 0, memory, zero, zero, 0)
