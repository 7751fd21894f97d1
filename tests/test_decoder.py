"""The decoder, fed by hand: any order, duplicates, stale arrivals, losses, non-finite payloads."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgc_fast.codes import CyclicCode, RepetitionCode
from cgc_fast.decoder import BlockComplete, DecodeCell, Decoder
from cgc_fast.errors import NumericalError
from cgc_fast.schedule import Cell, Schedule, Walk
from cgc_fast.schemes.cyclic import cyclic_schedule
from cgc_fast.schemes.fractional_repetition import fractional_repetition_schedule
from cgc_fast.schemes.uncoded import uncoded_schedule


def visits(schedule):
    return [(w, v) for w, walk in enumerate(schedule.walks) for v in range(len(walk.cells))]


class Host:
    """Executes a decoder's instructions on exact payloads: sample i, coordinate l: (i + 1)(l + 1)."""

    def __init__(self, schedule, samples):
        self.schedule, self.samples = schedule, samples
        self.gradient = np.zeros(schedule.coordinates)
        self.blocks = []
        self.decoded = []

    def payload(self, worker, visit):
        walk = self.schedule.walks[worker]
        c, row = int(walk.cells[visit]), int(walk.rows[visit])
        cell = self.schedule.cells[c]
        ranges, coefficients = self.schedule.support(c, row, self.samples)
        height = 0.0
        for (low, high), coefficient in zip(ranges.tolist(), coefficients, strict=True):
            height += coefficient * sum(range(low + 1, high + 1))
        return height * np.arange(cell.start + 1.0, cell.stop + 1.0)

    def execute(self, instructions):
        for instruction in instructions:
            if isinstance(instruction, DecodeCell):
                cell = self.schedule.cells[instruction.cell]
                self.decoded.append(instruction.cell)
                for (worker, visit), a in zip(instruction.sources, instruction.vector, strict=True):
                    self.gradient[cell.start : cell.stop] += a * self.payload(worker, visit)
            else:
                assert isinstance(instruction, BlockComplete)
                self.blocks.append(instruction.block)

    def check(self):
        total = self.samples * (self.samples + 1) / 2
        expected = total * np.arange(1.0, self.schedule.coordinates + 1)
        # Every payload is exact up to a few roundings; the promise of the codes is the bound.
        assert np.abs(self.gradient - expected).max() <= 1e-9 * expected.max()
        assert sorted(self.blocks) == list(range(len(self.schedule.blocks)))
        assert len(set(self.decoded)) == len(self.decoded)


SCHEDULES = {
    "uncoded": uncoded_schedule(4, 9),
    "cyclic": cyclic_schedule(4, 9, np.array([2, 3, 1, 3])),
    "one level": cyclic_schedule(4, 9, np.array([0, 0, 9, 0])),
    "repetition": fractional_repetition_schedule(4, 9, np.array([2, 4, 0, 3])),
}


@pytest.mark.parametrize("name", SCHEDULES)
@given(data=st.data())
def test_any_order_with_duplicates_and_stale_arrivals(name, data):
    schedule = SCHEDULES[name]
    decoder = Decoder(schedule)
    for iteration in (1, 2):
        decoder.start(iteration)
        host = Host(schedule, samples=11)
        arrivals = data.draw(st.permutations(visits(schedule) * 2))
        for worker, visit in arrivals:
            assert decoder.deliver(iteration - 1, worker, visit) == []  # of the iteration before
            host.execute(decoder.deliver(iteration, worker, visit))
            assert decoder.failure is None
        assert decoder.done
        host.check()
        assert not decoder.open_cells.any()
    assert decoder.stale == 4 * len(visits(schedule))
    assert decoder.duplicates > 0


@pytest.mark.parametrize("name", SCHEDULES)
def test_done_exactly_when_every_cell_has_enough_rows(name):
    schedule = SCHEDULES[name]
    generator = np.random.default_rng(5)
    for _ in range(20):
        decoder = Decoder(schedule)
        decoder.start(1)
        rows = {c: set() for c in range(len(schedule.cells))}
        for worker, visit in generator.permutation(visits(schedule)):
            decoder.deliver(1, int(worker), int(visit))
            walk = schedule.walks[worker]
            rows[int(walk.cells[visit])].add(int(walk.rows[visit]))
            enough = [len(rows[c]) >= cell.code.required_rows for c, cell in enumerate(schedule.cells)]
            assert decoder.open_cells.tolist() == [not e for e in enough]
            assert decoder.done == all(enough)


@pytest.mark.parametrize("name", SCHEDULES)
def test_losses_fail_exactly_beyond_the_tolerance(name):
    schedule = SCHEDULES[name]
    weakest = min(schedule.tolerance(c) for c in range(len(schedule.cells)))
    for count in range(5):
        for lost in itertools.combinations(range(4), count):
            decoder = Decoder(schedule)
            decoder.start(1)
            for worker in lost:
                decoder.lose(worker)
            if count <= weakest:
                assert decoder.failure is None
                host = Host(schedule, samples=11)
                for worker, visit in visits(schedule):
                    if worker not in lost:
                        host.execute(decoder.deliver(1, worker, visit))
                host.check()
            # Lost before the iteration starts, or known to be silent: the same verdict.
            again = Decoder(schedule)
            for worker in lost:
                again.lose(worker)
            again.start(1)
            silent = Decoder(schedule)
            silent.start(1, silent=lost)
            assert (decoder.failure is None) == (again.failure is None) == (silent.failure is None)
            if decoder.failure is not None:
                assert count > weakest
                assert set(decoder.failure.lost) <= set(lost)
                assert decoder.failure.available_rows < decoder.failure.required_rows


def test_a_loss_after_delivery_costs_nothing():
    schedule = uncoded_schedule(3, 6)
    decoder = Decoder(schedule)
    decoder.start(1)
    decoder.deliver(1, 0, 0)
    decoder.lose(0)
    assert decoder.failure is None
    decoder.deliver(1, 1, 0)
    decoder.deliver(1, 2, 0)
    assert decoder.done
    decoder.start(2)  # but in the next iteration it is missed
    assert decoder.failure is not None
    assert decoder.failure.lost == (0,)


def test_non_finite_payloads_count_as_not_delivered():
    schedule = cyclic_schedule(4, 8, np.array([0, 8, 0, 0]))
    decoder = Decoder(schedule)
    decoder.start(1)
    host = Host(schedule, samples=8)
    host.execute(decoder.deliver(1, 2, 0, finite=False))
    host.execute(decoder.deliver(1, 2, 0))  # a second try of the same visit changes nothing
    for worker in (0, 1):
        host.execute(decoder.deliver(1, worker, 0))
    assert not decoder.done
    host.execute(decoder.deliver(1, 3, 0))
    host.check()
    decoder.start(2)
    decoder.deliver(2, 1, 0, finite=False)
    assert decoder.failure is None
    decoder.deliver(2, 3, 0, finite=False)
    assert decoder.failure is not None
    assert decoder.failure.rejected == (1, 3)
    assert decoder.failure.lost == ()


class _Shy(RepetitionCode):
    """Refuses to decode from fewer than two rows, as the numerical guard may."""

    def decoding_vector(self, rows):
        if len(rows) < 2:
            raise NumericalError("scripted: one more row is needed")
        return np.array([0.5] * len(rows)) * 2 / len(rows)


def _shy_schedule():
    cell = Cell(0, 3, 0.0, 1.0, _Shy(3))
    walks = [Walk(np.array([0]), np.array([row])) for row in range(3)]
    return Schedule(3, 3, [cell], walks)


def test_the_guard_waits_for_one_more_row():
    decoder = Decoder(_shy_schedule())
    decoder.start(1)
    assert decoder.deliver(1, 1, 0) == []
    assert decoder.failure is None
    decode, block = decoder.deliver(1, 0, 0)
    assert decode.rows == (0, 1)
    assert decode.sources == ((0, 0), (1, 0))
    assert block.workers == (0, 1)


def test_the_guard_fails_when_no_row_can_come():
    decoder = Decoder(_shy_schedule())
    decoder.start(1)
    decoder.lose(0)
    decoder.deliver(1, 1, 0)
    assert decoder.failure is None
    decoder.lose(2)
    assert decoder.failure is not None
    assert isinstance(decoder.failure.refused, NumericalError)
    decoder.start(2)
    decoder.deliver(2, 1, 0)
    assert isinstance(decoder.failure.refused, NumericalError)


def test_sources_are_in_the_order_of_rows_whatever_the_order_of_arrival():
    schedule = Schedule(
        4,
        5,
        [Cell(0, 5, 0.0, 1.0, CyclicCode(4, 1))],
        [Walk(np.array([0]), np.array([row])) for row in range(4)],
    )
    seen = set()
    for order in itertools.permutations([0, 1, 3]):
        decoder = Decoder(schedule)
        decoder.start(1)
        for worker in order:
            instructions = decoder.deliver(1, worker, 0)
        assert instructions[0].rows == (0, 1, 3)
        seen.add(instructions[0].vector.tobytes())
    assert len(seen) == 1


def test_iterations_must_rise():
    decoder = Decoder(SCHEDULES["uncoded"])
    decoder.start(3)
    with pytest.raises(ValueError, match="more than 3"):
        decoder.start(3)
