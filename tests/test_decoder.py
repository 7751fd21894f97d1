"""The decoder, fed by hand: any order, duplicates, stale arrivals, losses, non-finite payloads; its account
of who is expected to deliver what."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgc_fast.codes import CyclicCode, RepetitionCode
from cgc_fast.decoder import BlockComplete, DecodeCell, Decoder
from cgc_fast.errors import DecodeError, NumericalError
from cgc_fast.schedule import Cell, Schedule, Walk
from cgc_fast.schemes.cyclic import cyclic_schedule
from cgc_fast.schemes.fractional_repetition import fractional_repetition_schedule
from cgc_fast.schemes.uncoded import uncoded_schedule


def visits(schedule):
    """(worker, cell, row) of all walks."""
    return [
        (w, c, row)
        for w, walk in enumerate(schedule.walks)
        for c, row in zip(walk.cells.tolist(), walk.rows.tolist(), strict=True)
    ]


class Host:
    """Executes a decoder's instructions on exact payloads: sample i, coordinate l: (i + 1)(l + 1)."""

    def __init__(self, schedule, samples):
        self.schedule, self.samples = schedule, samples
        self.gradient = np.zeros(schedule.coordinates)
        self.blocks = []
        self.decoded = []

    def payload(self, c, row):
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
                assert len(instruction.workers) == len(instruction.rows)
                for row, a in zip(instruction.rows, instruction.vector, strict=True):
                    self.gradient[cell.start : cell.stop] += a * self.payload(instruction.cell, row)
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
        for visit in arrivals:
            assert decoder.deliver(iteration - 1, *visit) == []  # of the iteration before
            host.execute(decoder.deliver(iteration, *visit))
            assert decoder.short_cells() == []
        assert decoder.done
        host.check()
        assert not decoder.open_cells.any()
        assert all(decoder.expected_of(w) == [] for w in range(4))
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
        for worker, c, row in generator.permutation(visits(schedule)).tolist():
            decoder.deliver(1, worker, c, row)
            rows[c].add(row)
            enough = [len(rows[c]) >= cell.code.required_rows for c, cell in enumerate(schedule.cells)]
            assert decoder.open_cells.tolist() == [not e for e in enough]
            assert decoder.done == all(enough)


@pytest.mark.parametrize("name", SCHEDULES)
def test_cells_are_short_exactly_beyond_the_tolerance(name):
    schedule = SCHEDULES[name]
    for count in range(5):
        for lost in itertools.combinations(range(4), count):
            decoder = Decoder(schedule)
            decoder.start(1)
            for worker in lost:
                decoder.give_up(worker)
            short = decoder.short_cells()
            # Every worker visits one row of a cell, if any.
            for c, cell in enumerate(schedule.cells):
                left = sum(1 for w, of, _ in visits(schedule) if of == c and w not in lost)
                assert decoder.reachable(c) == left
                assert decoder.lacking(c) == max(0, cell.code.required_rows - left)
                assert (decoder.lacking(c) > 0) == (c in dict(short))
                if count <= schedule.tolerance(c):
                    assert decoder.lacking(c) == 0
            assert dict(short) == {c: decoder.lacking(c) for c, _ in short}
            # Absent from the start: the same verdict.
            absent = Decoder(schedule)
            absent.start(1, absent=lost)
            assert absent.short_cells() == short
            host = Host(schedule, samples=11)
            for worker, c, row in visits(schedule):
                if worker not in lost:
                    host.execute(decoder.deliver(1, worker, c, row))
            assert decoder.done == (not short)
            if not short:
                host.check()


def test_a_loss_after_delivery_costs_nothing():
    schedule = uncoded_schedule(3, 6)
    decoder = Decoder(schedule)
    decoder.start(1)
    decoder.deliver(1, 0, 0, 0)
    decoder.give_up(0)
    assert decoder.short_cells() == []
    decoder.deliver(1, 1, 1, 0)
    decoder.deliver(1, 2, 2, 0)
    assert decoder.done
    decoder.start(2, absent=[0])  # but in the next iteration it is missed
    assert decoder.short_cells() == [(0, 1)]
    assert decoder.unexpected(0) == [0]


def test_what_nobody_expects_any_more_still_counts():
    schedule = uncoded_schedule(2, 4)
    decoder = Decoder(schedule)
    decoder.start(1)
    decoder.give_up(0)
    assert decoder.short_cells() == [(0, 1)]
    (decode, *_) = decoder.deliver(1, 0, 0, 0)
    assert decode.workers == (0,)
    assert decoder.short_cells() == []


def test_somebody_else_is_told_to_visit_a_row():
    schedule = uncoded_schedule(2, 4)
    decoder = Decoder(schedule)
    decoder.start(1)
    decoder.give_up(0)
    decoder.expect(1, 0, 0)
    decoder.expect(1, 0, 0)  # twice is once
    assert decoder.short_cells() == []
    assert decoder.unexpected(0) == []
    assert decoder.expected_of(1) == [(0, 0), (1, 0)]
    decoder.give_up(1)
    assert decoder.short_cells() == [(0, 1), (1, 1)]
    decoder.expect(1, 0, 0)
    (decode,) = decoder.deliver(1, 1, 0, 0)
    assert decode.workers == (1,)
    assert decoder.short_cells() == [(1, 1)]


def test_a_row_expected_of_two_is_missed_when_both_are_gone():
    schedule = uncoded_schedule(3, 3)
    decoder = Decoder(schedule)
    decoder.start(1)
    decoder.expect(1, 0, 0)
    decoder.give_up(0)
    assert decoder.short_cells() == []
    decoder.give_up(1)
    assert decoder.short_cells() == [(0, 1), (1, 1)]


@pytest.mark.parametrize("workers", [(0, 1), (1, 0)])
def test_a_sum_is_as_good_as_its_rows(workers):
    schedule = fractional_repetition_schedule(4, 6, [0, 6, 0, 0])  # two groups: a cell each
    one_by_one, at_once = Decoder(schedule), Decoder(schedule)
    offsets = schedule.row_offsets
    cells = {w: walk.cells.tolist() for w, walk in enumerate(schedule.walks)}
    first, second = workers[0], workers[1] + 2  # one of each group
    for decoder in (one_by_one, at_once):
        decoder.start(3)
    for worker in (first, second):
        rows = list(zip(cells[worker], schedule.walks[worker].rows.tolist(), strict=True))
        said = [i for c, row in rows for i in one_by_one.deliver(3, worker, c, row)]
        complete = at_once.deliver_sum(worker, [int(offsets[c]) + row for c, row in rows])
        assert complete == [i for i in said if isinstance(i, BlockComplete)]
        assert (at_once.open_cells == one_by_one.open_cells).all()
        for decoder in (one_by_one, at_once):
            decoder.give_up(worker)
            decoder.give_up(worker ^ 1)
        assert at_once.short_cells() == one_by_one.short_cells()
    assert at_once.done


def test_set_aside_and_resumed():
    schedule = cyclic_schedule(4, 9, np.array([2, 3, 1, 3]))
    decoder = Decoder(schedule)
    decoder.start(1)
    decoder.expect(1, 0, 0)  # over and above its walk
    expected = decoder.expected_of(1)
    assert expected == [(0, 0), (1, 0), (4, 1), (5, 1), (6, 1)]
    decoder.set_aside(1)
    assert decoder.expected_of(1) == []
    assert not decoder.is_expecting(1)
    assert decoder.short_cells() == [(1, 1)]  # the uncoded cell of worker 1
    decoder.deliver(1, 1, 1, 0)
    decoder.deliver(1, 1, 4, 1, finite=False)  # this one will not come again by itself
    decoder.resume(1)
    assert decoder.expected_of(1) == [(0, 0), (5, 1), (6, 1)]
    assert decoder.short_cells() == []
    decoder.give_up(1)
    decoder.resume(1)  # gone for good
    assert decoder.expected_of(1) == []


def test_doubted_from_the_start():
    schedule = uncoded_schedule(2, 4)
    decoder = Decoder(schedule)
    decoder.start(1, doubted=[1])
    assert decoder.short_cells() == [(1, 1)]
    decoder.resume(1)
    assert decoder.short_cells() == []
    assert decoder.expected_of(1) == [(1, 0)]


def test_expecting_means_rows_of_open_cells():
    schedule = cyclic_schedule(2, 4, np.array([0, 4]))
    decoder = Decoder(schedule)
    decoder.start(1)
    decoder.deliver(1, 0, 0, 0)
    assert decoder.done
    assert not decoder.is_expecting(1)
    assert decoder.expected_of(1) == []


def test_non_finite_payloads_count_as_not_delivered():
    schedule = cyclic_schedule(4, 8, np.array([0, 8, 0, 0]))
    decoder = Decoder(schedule)
    decoder.start(1)
    host = Host(schedule, samples=8)
    host.execute(decoder.deliver(1, 2, 0, 2, finite=False))
    assert decoder.unexpected(0) == [2]
    assert decoder.rejected_by(0, 2) == {2}
    assert decoder.short_cells() == []
    for worker in (0, 1):
        host.execute(decoder.deliver(1, worker, 0, worker))
    assert not decoder.done
    host.execute(decoder.deliver(1, 3, 0, 3))
    host.check()
    decoder.start(2)
    assert decoder.rejected_by(0, 2) == frozenset()
    decoder.deliver(2, 1, 0, 1, finite=False)
    assert decoder.short_cells() == []
    decoder.deliver(2, 3, 0, 3, finite=False)
    assert decoder.short_cells() == [(0, 1)]
    assert decoder.unexpected(0) == [1, 3]
    host = Host(schedule, samples=8)
    for row in (0, 1, 2):  # the second try of the same row counts, whoever makes it
        host.execute(decoder.deliver(2, 2, 0, row))
    host.check()


def test_a_row_rejected_twice_is_given_up():
    schedule = uncoded_schedule(2, 4)
    decoder = Decoder(schedule)
    decoder.start(1)
    decoder.deliver(1, 0, 0, 0, finite=False)
    assert decoder.unexpected(0) == [0]
    decoder.expect(1, 0, 0)
    decoder.deliver(1, 1, 0, 0, finite=False)
    assert decoder.rejected_by(0, 0) == {0, 1}
    assert decoder.unexpected(0) == []
    assert decoder.short_cells() == [(0, 1)]
    decoder.deliver(1, 0, 0, 0)  # and still, if it comes, it counts
    assert decoder.short_cells() == []


def test_a_rejection_after_arrival_changes_nothing():
    decoder = Decoder(cyclic_schedule(3, 2, np.array([0, 2, 0])))
    decoder.start(1)
    decoder.deliver(1, 0, 0, 0)
    decoder.deliver(1, 1, 0, 0, finite=False)
    assert decoder.rejected_by(0, 0) == frozenset()
    assert decoder.reachable(0) == 3
    assert decoder.duplicates == 1


class _Shy(RepetitionCode):
    """Refuses to decode from fewer than two rows, as the numerical guard may."""

    def decoding_vector(self, rows, dtype=np.float64):
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
    assert decoder.deliver(1, 1, 0, 1) == []
    assert isinstance(decoder.refusal(0), NumericalError)
    assert decoder.short_cells() == []
    decode, block = decoder.deliver(1, 0, 0, 0)
    assert decode.rows == (0, 1)
    assert decode.workers == (0, 1)
    assert block.workers == (0, 1)


def test_after_a_refusal_a_cell_lacks_one_more_row():
    decoder = Decoder(_shy_schedule())
    decoder.start(1)
    decoder.give_up(0)
    decoder.give_up(2)
    assert decoder.short_cells() == []  # one row is enough in number
    decoder.deliver(1, 1, 0, 1)
    assert decoder.short_cells() == [(0, 1)]
    assert decoder.unexpected(0) == [0, 2]
    decoder.expect(1, 0, 2)
    assert decoder.short_cells() == []
    decode, _ = decoder.deliver(1, 1, 0, 2)
    assert decode.rows == (1, 2)
    assert decode.workers == (1, 1)
    decoder.start(2)
    assert decoder.refusal(0) is None
    assert decoder.lacking(0) == 0


def test_refused_with_all_rows_at_hand_lacks_for_ever():
    class Never(_Shy):
        def decoding_vector(self, rows, dtype=np.float64):
            raise DecodeError("scripted")

    cell = Cell(0, 3, 0.0, 1.0, Never(2))
    decoder = Decoder(Schedule(2, 3, [cell], [Walk([0], [0]), Walk([0], [1])]))
    decoder.start(1)
    decoder.deliver(1, 0, 0, 0)
    assert decoder.lacking(0) == 0
    decoder.deliver(1, 1, 0, 1)
    assert decoder.short_cells() == [(0, 1)]
    assert decoder.unexpected(0) == []


def test_rows_are_in_order_whatever_the_order_of_arrival():
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
            instructions = decoder.deliver(1, worker, 0, worker)
        assert instructions[0].rows == instructions[0].workers == (0, 1, 3)
        seen.add(instructions[0].vector.tobytes())
    assert len(seen) == 1


def test_cancelled_iterations_take_nothing():
    schedule = uncoded_schedule(2, 4)
    decoder = Decoder(schedule)
    decoder.start(1)
    decoder.deliver(1, 0, 0, 0)
    decoder.cancel()
    assert decoder.done
    assert decoder.short_cells() == []
    assert decoder.deliver(1, 1, 1, 0) == []
    decoder.give_up(1)
    assert decoder.short_cells() == []


def test_iterations_must_rise():
    decoder = Decoder(SCHEDULES["uncoded"])
    decoder.start(3)
    with pytest.raises(ValueError, match="more than 3"):
        decoder.start(3)
