"""Ordinary iterations in the compiled core against the state machines, on a scripted engine.

The same arrivals go through the collector and through the decoder; the gradients must have the same bits, the
reports must say the same, and so must the supervisor, wherever in between the core is left.
"""

from __future__ import annotations

import mmap
import os
from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgc_fast import master
from cgc_fast._core import Collector, Signal
from cgc_fast.arguments import Cost
from cgc_fast.codes import CyclicCode, RepetitionCode
from cgc_fast.decoder import DecodeCell, Decoder
from cgc_fast.engines import Delivered, Lost, Ready
from cgc_fast.engines.worker_process import payload_offsets
from cgc_fast.errors import ArgumentValueError, NonFiniteGradient, NumericalError
from cgc_fast.master import Master, slot_widths
from cgc_fast.schedule import Cell, Schedule, Walk
from cgc_fast.schemes.cyclic import cyclic_schedule
from cgc_fast.schemes.uncoded import uncoded_schedule
from cgc_fast.supervisor import SignOfLife
from cgc_fast.worker import visits_of
from small_schedules import schedules

SAMPLES = 8
PLAIN = st.integers(1, 3).map(RepetitionCode)
CODED = st.sampled_from([CyclicCode(parts, s) for parts in (2, 4) for s in range(parts)])


def payload_of(schedule, seed=0):
    """Of each slot: any numbers, the same from whoever delivers them, and the loss at the end of theta."""
    generator = np.random.default_rng(seed)
    return [generator.normal(size=width) for width in slot_widths(schedule)]


class Plain:
    """An engine that plays a script, event by event, then carries out what was asked for."""

    start_s = 0.0

    def __init__(self, schedule, payloads):
        self.schedule, self.payloads = schedule, payloads
        self.script = deque()
        self.asked = []
        self.iteration = 0
        self.now_s = 0.0

    def start(self, iteration, *_):
        self.iteration = iteration

    def wait(self, timeout_s=None):
        if timeout_s == 0.0:
            return []
        if self.script:
            return [self.script.popleft()]
        assert self.asked, "waits for ever"
        what, worker, *slots = self.asked.pop(0)
        if what == "replace":
            return [Ready(worker)]
        return [self.delivered(worker, slot) for slot in slots]

    def delivered(self, worker, slot, finite=True, iteration=None):
        return Delivered(self.iteration if iteration is None else iteration, worker, slot, finite, 0.0, 0.0)

    def is_idle(self):
        return False

    def order(self, worker, visits):
        self.asked.append(("order", worker, *(visit.slot for visit in visits)))

    def replace(self, worker):
        self.asked.append(("replace", worker))

    def kill(self, worker):
        raise AssertionError("nobody is to be killed")

    def signs_of_life(self, reset=False):
        return [SignOfLife(self.now_s, 0.0, self.iteration)] * self.schedule.workers

    def presence(self):
        return ["there"] * self.schedule.workers

    def process_ids(self):
        return [None] * self.schedule.workers

    def payload(self, worker, slot):
        return self.payloads[slot]

    def clock_s(self):
        return self.now_s

    def elapsed_s(self):
        return 0.0

    def finish(self, iteration):
        pass


class Collecting(Plain):
    """The same, but deliveries go through a collector, as far as that is asked."""

    def __init__(self, schedule, payloads):
        super().__init__(schedule, payloads)
        workers = schedule.workers
        self.batch = 1  # arrivals that the collector finds at once
        self.signal = Signal(mmap.mmap(-1, Signal.bytes(workers, 1000)), workers, 1000)
        self.offsets = payload_offsets(slot_widths(schedule), np.dtype(np.float64))
        memory = np.zeros(int(self.offsets[-1]) // 8)
        for slot, payload in enumerate(payloads):
            first = int(self.offsets[slot]) // 8
            memory[first : first + len(payload)] = payload
        self.memories = [memory.copy() for _ in range(workers)]
        self.thetas = np.empty((2, schedule.coordinates))
        self.read, self.write = os.pipe()
        os.set_blocking(self.read, False)
        self.fds = np.array([self.read], dtype=np.int32)
        self.wake_fds = np.full(workers, -1, dtype=np.int32)
        self.well = True

    def close(self):
        os.close(self.read)
        os.close(self.write)

    def lay_out_collector(self, cells, blocks):
        offsets = self.offsets[:-1].astype(np.int64)
        self.collector = Collector(
            self.signal,
            list(cells),
            blocks,
            [offsets] * len(self.memories),
            self.memories,
            *self.thetas,
            self.wake_fds,
            self.fds,
            0.5,
        )

    def running_collector(self):
        return self.collector

    def start_collecting(self, iteration, theta, gradient, with_value, seen_within_s, until_s):
        if not self.well:
            return None
        gradient[:] = np.nan  # whoever forgets to fill it is seen
        within_ns = int(1e9 * seen_within_s)
        why = self.collector.run(0, within_ns, iteration, theta, gradient, with_value, None)
        if why is None:
            return None
        assert why == "begun"
        self.iteration = iteration
        np.testing.assert_array_equal(self.thetas[iteration % 2], theta)
        return why if until_s is None else self.collect(until_s, False)

    def end_collecting(self, iteration):
        assert self.collector.iteration == iteration
        self.collector.end()
        return True

    def take_ended(self):
        return self.collector.take_ended()

    def collect(self, until_s, each_block):
        while (why := self.collector.collect(0, each_block)) == "late":
            if not (self.script and isinstance(self.script[0], Delivered)):
                return "unusual"
            for _ in range(self.batch):
                if self.script and isinstance(self.script[0], Delivered):
                    event = self.script.popleft()
                    self.signal.push(
                        event.worker, event.iteration, event.slot, event.finite, 0, 0, False, self.write
                    )
        return why

    def collected_events(self):
        return [
            Delivered(iteration, worker, slot, bool(finite), 0.0, 0.0)
            for iteration, worker, slot, finite, _, _ in self.collector.record()[0].tolist()
        ]

    def signs_at_start(self):
        return [SignOfLife(self.now_s, 0.0, self.iteration)] * self.schedule.workers

    def record(self, *, at_once):
        return (*self.collector.record(), self.collector.began_ns)


class Run:
    """A master on one of these engines, carried to the end of an iteration."""

    def __init__(self, kind, schedule, seed=0):
        self.schedule = schedule
        self.engine = kind(schedule, payload_of(schedule, seed))
        walks = [visits_of(schedule, w, SAMPLES) for w in range(schedule.workers)]
        everything = np.array([[0, SAMPLES]])
        held = [everything] * schedule.workers
        self.master = Master(schedule, self.engine, walks, held, Cost(SAMPLES, 1.0, 0.0))
        self.gradient = np.empty(schedule.coordinates)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if isinstance(self.engine, Collecting):
            self.engine.close()

    def begin(self, script, with_value=False):
        """Script: ("deliver", worker, slot), ("nan", worker, slot), ("stale", worker, slot), ("lost", w)."""
        theta = np.arange(float(self.schedule.coordinates))
        self.master.begin(theta, self.gradient, None, with_value=with_value)
        self.engine.script.clear()
        for what, worker, *slots in script:
            if what == "lost":
                self.engine.script.append(Lost(worker, 1, ""))
            else:
                iteration = 10_000 if what == "stale" else None
                self.engine.script.append(
                    self.engine.delivered(worker, slots[0], finite=what != "nan", iteration=iteration)
                )

    def end(self, each_block=True):
        blocks = []
        while not self.master.done:
            blocks += self.master.step(each_block=each_block)
        self.master.finish()
        return blocks

    def said(self):
        report = self.master.report
        deliveries = [(d.worker, d.cell, d.row, d.finite) for d in report.deliveries]
        records = [(r.state, r.deaths, r.suspicions) for r in self.master._supervisor.records]
        health = [(w.delivered, w.abandoned, w.non_finite) for w in self.master.health().workers]
        events = [(e.worker, e.what, e.rows) for e in report.events]
        return deliveries, set(report.decoded_s), set(report.blocks_s), events, records, health


@st.composite
def arrivals(draw, schedule):
    """All walks, interleaved in any way; some stale arrivals between them."""
    offsets = schedule.row_offsets
    left = [deque((offsets[walk.cells] + walk.rows).tolist()) for walk in schedule.walks]
    script = []
    while any(left):
        worker = draw(st.sampled_from([w for w, slots in enumerate(left) if slots]))
        if draw(st.integers(0, 9)) == 0:
            script.append(("stale", worker, left[worker][0]))
        script.append(("deliver", worker, left[worker].popleft()))
    return script


def in_worker_order(script):
    """What a collector that finds everything at once sees."""
    return sorted(script, key=lambda event: event[1])


def lose(script, worker, place):
    """The same script with the worker lost after so many events."""
    rest = [event for event in script[place:] if event[1] != worker]
    return [*script[:place], ("lost", worker), *rest]


@given(st.data())
@settings(max_examples=40)
def test_the_core_and_the_state_machines_agree(data):
    schedule = data.draw(schedules(codes=PLAIN | CODED))
    script = data.draw(arrivals(schedule))
    with_value, each_block = data.draw(st.booleans()), data.draw(st.booleans())
    batch = data.draw(st.sampled_from([1, 1000]))
    with Run(Plain, schedule) as plain, Run(Collecting, schedule) as core:
        core.engine.batch = batch
        for run, events in ((plain, script if batch == 1 else in_worker_order(script)), (core, script)):
            run.begin(events, with_value)
        blocks = plain.end()
        collected = core.end(each_block)
        assert core.master.report.compiled
        assert not plain.master.report.compiled
        np.testing.assert_array_equal(core.gradient, plain.gradient)
        assert core.master.loss == plain.master.loss
        if batch == 1:
            assert core.said() == plain.said()
        if each_block:
            assert [(b.coordinates, b.workers) for b in collected] == [
                (b.coordinates, b.workers) for b in blocks
            ]


@given(st.data())
@settings(max_examples=40)
def test_whoever_goes_on_in_the_middle_arrives_at_the_same(data):
    schedule = data.draw(schedules(codes=PLAIN | CODED))
    script = data.draw(arrivals(schedule))
    place = data.draw(st.integers(0, len(script)))
    if place < len(script) and data.draw(st.booleans()):
        _, worker, slot = script[place]
        script[place] = ("nan", worker, slot)
    else:
        script = lose(script, data.draw(st.integers(0, schedule.workers - 1)), place)
    with Run(Plain, schedule) as plain, Run(Collecting, schedule) as core:
        for run in (plain, core):
            run.begin(script, with_value=True)
        blocks, collected = plain.end(), core.end()
        np.testing.assert_array_equal(core.gradient, plain.gradient)
        assert core.master.loss == plain.master.loss
        if not core.master.report.compiled:  # it may have been over before
            assert core.said() == plain.said()
        assert [(b.coordinates, b.workers) for b in collected] == [(b.coordinates, b.workers) for b in blocks]


def test_every_prefix_of_an_iteration_can_be_gone_on_with():
    schedule = cyclic_schedule(4, 6, np.array([0, 3, 2, 1]))
    offsets = schedule.row_offsets
    script = [
        ("deliver", worker, int(offsets[cell]) + worker)
        for cell in range(len(schedule.cells))
        for worker in (2, 0, 3, 1)
        if not schedule.cells[cell].is_empty
    ]
    left = 0
    for place in range(len(script)):
        for worker in range(4):
            with Run(Plain, schedule) as plain, Run(Collecting, schedule) as core:
                for run in (plain, core):
                    run.begin(lose(script, worker, place))
                    run.end()
                np.testing.assert_array_equal(core.gradient, plain.gradient)
                if not core.master.report.compiled:
                    left += 1
                    assert core.said() == plain.said()
    assert left > 20


def test_the_core_comes_back_when_all_is_well_again():
    schedule = uncoded_schedule(2, 4)
    with Run(Collecting, schedule) as core:
        everybody = [("deliver", 0, 0), ("deliver", 1, 1)]
        core.begin([("deliver", 0, 0), ("lost", 1)])
        core.end()
        assert not core.master.report.compiled
        assert [event.what for event in core.master.report.events] == ["lost", "rescue", "ready"]
        for compiled in (False, True):  # not before the successor has delivered
            core.begin(everybody)
            core.end()
            assert core.master.report.compiled == compiled
        core.engine.well = False
        core.begin(everybody)
        core.end()
        assert not core.master.report.compiled


def test_a_vector_that_is_refused_waits_for_one_more_row(monkeypatch):
    schedule = cyclic_schedule(3, 3, np.array([0, 3, 0]))
    slots = [0, 1, 2]
    code = schedule.cells[0].code
    found = code.decoding_vector

    def refusing(self, rows, *args):
        if len(rows) < 3:
            raise NumericalError("not these two")
        return found(rows, *args)

    monkeypatch.setattr(type(code), "decoding_vector", refusing)
    with Run(Plain, schedule) as plain, Run(Collecting, schedule) as core:
        for run in (plain, core):
            run.begin([("deliver", worker, slots[worker]) for worker in (2, 0, 1)])
            run.end()
        assert not core.master.report.compiled
        np.testing.assert_array_equal(core.gradient, plain.gradient)
        assert core.said() == plain.said()


def test_a_sum_that_overflows_is_told_and_leaves_the_rest_alone():
    schedule = uncoded_schedule(2, 2)
    with Run(Collecting, schedule) as core:
        for memory in core.engine.memories:
            memory[:] = 1e308
        core.engine.payloads = [np.full(3, 1e308)] * 2
        core.begin([("deliver", 0, 0), ("deliver", 1, 1)])
        with pytest.raises(NonFiniteGradient, match="overflow"):
            core.end()


def test_an_iteration_that_is_left_unfinished_is_no_obstacle():
    schedule = cyclic_schedule(3, 6, np.array([0, 4, 2]))
    offsets = schedule.row_offsets
    script = [("deliver", w, int(offsets[c]) + w) for c in range(2) for w in range(3)]
    with Run(Plain, schedule) as plain, Run(Collecting, schedule) as core:
        core.begin(script[:3])
        core.engine.script.append(core.engine.delivered(0, int(offsets[0]), iteration=77))
        assert not core.master.done
        core.master.finish()
        assert not core.master.report.complete
        for run in (plain, core):
            run.begin(script)
            run.end()
        assert core.master.report.compiled
        np.testing.assert_array_equal(core.gradient, plain.gradient)


def test_the_collector_counts_what_the_decoder_counts():
    """Also where the walks say nothing: any worker delivers any row, several times."""
    generator = np.random.default_rng(5)
    cells = [
        Cell(0, 2, 0.0, 0.5, RepetitionCode(2)),
        Cell(2, 5, 0.0, 0.5, CyclicCode(3, 1)),
        Cell(0, 5, 0.5, 1.0, RepetitionCode(3)),
    ]
    visits = [(c, r) for c, cell in enumerate(cells) for r in range(cell.code.rows)]
    walks = [Walk(*np.array(visits).T)] * 3
    schedule = Schedule(3, 5, cells, walks)
    payloads = payload_of(schedule)
    for _ in range(50):
        with Run(Collecting, schedule) as core:
            decoder = Decoder(schedule)
            decoder.start(1)
            core.begin([])
            gradient, used = np.zeros(5), {}
            while not decoder.done:
                worker, (cell, row) = int(generator.integers(3)), visits[generator.integers(len(visits))]
                slot = int(schedule.row_offsets[cell]) + row
                for instruction in decoder.deliver(1, worker, cell, row):
                    if isinstance(instruction, DecodeCell):
                        tile = cells[instruction.cell]
                        first = int(schedule.row_offsets[instruction.cell])
                        rows = [payloads[first + r][: tile.width] for r in instruction.rows]
                        for a, payload in zip(instruction.vector, rows, strict=True):
                            gradient[tile.start : tile.stop] += a * payload
                        used[instruction.cell] = instruction.workers
                core.engine.script.append(core.engine.delivered(worker, slot))
            core.end()
            assert core.master.report.compiled
            np.testing.assert_array_equal(core.gradient, gradient)
            assert used == {c: tuple(core.engine.collector.contributors(c)) for c in range(3)}


def test_books_are_kept_over_more_iterations_than_the_core_keeps():
    schedule = cyclic_schedule(3, 6, np.array([0, 4, 2]))
    offsets = schedule.row_offsets
    script = [("deliver", w, int(offsets[c]) + w) for c in range(2) for w in range(3)]
    count = master._MOST_SKIPPED + 40
    with Run(Plain, schedule) as plain, Run(Collecting, schedule) as core:
        for run in (plain, core):
            for _ in range(count):
                run.begin(script)
                run.end()
        assert core.master.report.compiled
        assert core.said() == plain.said()
        assert [w.delivered + w.abandoned for w in core.master.health().workers] == [2 * count] * 3
        assert core.master.measured()[0].shape == (count, 3)


def test_a_report_is_the_same_whenever_it_was_asked_for():
    schedule = uncoded_schedule(2, 4)
    script = [("deliver", 0, 0), ("deliver", 1, 1)]
    with Run(Collecting, schedule) as core:
        core.begin(script)
        under_way = core.master.report
        assert not under_way.complete
        assert under_way.deliveries == []
        core.end()
        assert core.master.report is under_way
        assert under_way.complete
        core.begin(script)
        core.end()
        after = core.master.report
        assert core.master.report is after
        assert (under_way.iteration, after.iteration) == (1, 2)
        core.begin([])
        assert core.master.report.deliveries == []
        core.master.finish()
        for report in (under_way, after):
            assert [(d.worker, d.cell, d.row) for d in report.deliveries] == [(0, 0, 0), (1, 1, 0)]
            assert set(report.blocks_s) == {0}


def test_theta_that_is_not_finite_takes_up_no_iteration():
    schedule = uncoded_schedule(2, 4)
    with Run(Collecting, schedule) as core:
        for _ in range(2):
            with pytest.raises(
                ArgumentValueError, match="theta: expected finite values, got nan at coordinate 2"
            ):
                core.master.begin(np.array([0.0, 1.0, np.nan, 2.0]), core.gradient, None)
            assert core.master.report is None
        core.begin([("deliver", 0, 0), ("deliver", 1, 1)])
        core.end()
        assert core.master.report.compiled
        assert core.master.report.iteration == 1
