import pickle
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgc_fast import reference, schedule
from cgc_fast.codes import CyclicCode, RepetitionCode
from cgc_fast.errors import ArgumentTypeError, ArgumentValueError
from cgc_fast.schedule import Cell, Schedule, Walk, sample_index
from cgc_fast.schemes import cyclic_schedule, fractional_repetition_schedule, uncoded_schedule
from small_schedules import ListedCode, costs, schedules

ALONE = RepetitionCode(1)


def one_worker(*cells, coordinates=4):
    """Schedule of one worker that visits row 0 of every cell that is not empty."""
    visited = [index for index, cell in enumerate(cells) if not cell.is_empty]
    return Schedule(1, coordinates, cells, [Walk(visited, [0] * len(visited))])


class TestCell:
    def test_width_and_emptiness(self):
        assert Cell(2, 5, 0.0, 1.0, ALONE).width == 3
        assert not Cell(2, 5, 0.0, 1.0, ALONE).is_empty
        assert Cell(2, 2, 0.0, 1.0, ALONE).is_empty
        assert Cell(2, 5, 0.5, 0.5, ALONE).is_empty

    @pytest.mark.parametrize(
        ("start", "stop", "low", "high", "message"),
        [
            (-1, 2, 0.0, 1.0, "0 <= start <= stop"),
            (3, 2, 0.0, 1.0, "0 <= start <= stop"),
            (0, 2, -0.1, 1.0, "0 <= low <= high <= 1"),
            (0, 2, 0.5, 0.4, "0 <= low <= high <= 1"),
            (0, 2, 0.0, 1.1, "0 <= low <= high <= 1"),
            (0, 2, 0.0, float("nan"), "0 <= low <= high <= 1"),
        ],
    )
    def test_impossible_bounds(self, start, stop, low, high, message):
        with pytest.raises(ArgumentValueError, match=message):
            Cell(start, stop, low, high, ALONE)

    def test_wrong_types(self):
        with pytest.raises(ArgumentTypeError, match="start"):
            Cell(0.5, 2, 0.0, 1.0, ALONE)
        with pytest.raises(ArgumentTypeError, match="low"):
            Cell(0, 2, "zero", 1.0, ALONE)
        with pytest.raises(ArgumentTypeError, match="Code"):
            Cell(0, 2, 0.0, 1.0, 3)


class TestWalk:
    def test_arrays_are_copied_and_read_only(self):
        cells = np.array([0, 1])
        walk = Walk(cells, [0, 0])
        cells[0] = 5
        assert walk.cells.tolist() == [0, 1]
        assert walk.cells.dtype == walk.rows.dtype == np.int64
        with pytest.raises(ValueError, match="read-only"):
            walk.rows[0] = 1

    def test_refused(self):
        with pytest.raises(ArgumentValueError, match="as many rows as cells"):
            Walk([0, 1], [0])
        with pytest.raises(ArgumentValueError, match="one dimension"):
            Walk([[0]], [[0]])
        with pytest.raises(ArgumentTypeError, match="integers"):
            Walk([0.0], [0])


class TestTiling:
    def test_gap_is_located(self):
        with pytest.raises(ArgumentValueError, match=r"gap at coordinate 1, sample fraction 0\.5"):
            one_worker(Cell(0, 4, 0, 0.5, ALONE), Cell(0, 1, 0.5, 1, ALONE), Cell(2, 4, 0.5, 1, ALONE))

    def test_gap_at_the_end(self):
        with pytest.raises(ArgumentValueError, match=r"gap at coordinate 3, sample fraction 0\.0"):
            one_worker(Cell(0, 3, 0, 1, ALONE))

    def test_overlap_is_located(self):
        with pytest.raises(ArgumentValueError, match=r"overlap at coordinate 2, sample fraction 0\.25.*0, 2"):
            one_worker(Cell(0, 4, 0, 0.5, ALONE), Cell(0, 4, 0.5, 1, ALONE), Cell(2, 3, 0.25, 0.75, ALONE))

    def test_beyond_the_coordinates(self):
        with pytest.raises(ArgumentValueError, match=r"below 4; cell 0 has \[0, 5\)"):
            one_worker(Cell(0, 5, 0, 1, ALONE))

    def test_gap_and_overlap_of_equal_area_do_not_cancel(self):
        with pytest.raises(ArgumentValueError, match="gap at coordinate 0"):
            one_worker(Cell(1, 4, 0, 1, ALONE), Cell(1, 2, 0, 1, ALONE))

    def test_an_ulp_is_a_gap(self):
        with pytest.raises(ArgumentValueError, match="gap at coordinate 0"):
            one_worker(Cell(0, 4, 0, 0.1 + 0.2, ALONE), Cell(0, 4, np.nextafter(0.1 + 0.2, 1), 1, ALONE))

    @pytest.mark.parametrize("groups", [3, 7, 49, 97])
    def test_thirds_and_the_like_meet_exactly(self, groups):
        left = [Cell(0, 1, k / groups, (k + 1) / groups, ALONE) for k in range(groups)]
        right = [Cell(1, 4, k / 10, (k + 1) / 10, ALONE) for k in range(10)]
        one_worker(*left, *right)

    @given(schedules(), st.data())
    def test_a_missing_or_a_doubled_cell_is_refused(self, made, data):
        chosen = data.draw(st.sampled_from([cell for cell in made.cells if not cell.is_empty]))
        rest = list(made.cells)
        rest.remove(chosen)
        empty_walks = [Walk([], [])] * made.workers
        where = f"at coordinate {chosen.start}, sample fraction {chosen.low}"
        with pytest.raises(ArgumentValueError, match=f"gap {where}"):
            Schedule(made.workers, made.coordinates, rest, empty_walks)
        with pytest.raises(ArgumentValueError, match=f"overlap {where}"):
            Schedule(made.workers, made.coordinates, [*made.cells, chosen], empty_walks)


class TestVisits:
    WHOLE = Cell(0, 4, 0, 1, CyclicCode(3, 1))

    def make(self, *walks, cells=(WHOLE,), feedback="none"):
        return Schedule(len(walks), 4, cells, [Walk(*walk) for walk in walks], feedback)

    def test_valid(self):
        self.make(([0], [0]), ([0], [2]))
        self.make(([0, 0], [0, 1]))

    def test_refused(self):
        with pytest.raises(ArgumentValueError, match=r"visit 0 of worker 1.*expected cells 0 to 0"):
            self.make(([0], [0]), ([1], [0]))
        with pytest.raises(ArgumentValueError, match=r"to row 3 of cell 0.*does not have that row"):
            self.make(([0], [3]))
        with pytest.raises(ArgumentValueError, match="to row -1"):
            self.make(([0], [-1]))
        with pytest.raises(ArgumentValueError, match=r"visit 2 of worker 0.*been there before"):
            self.make(([0, 0, 0], [1, 2, 1]))
        with pytest.raises(ArgumentValueError, match=r"visit 1 of worker 0.*cell is empty"):
            self.make(([0, 1], [0, 0]), ([0], [1]), cells=(self.WHOLE, Cell(0, 4, 1, 1, ALONE)))
        with pytest.raises(ArgumentValueError, match=r"cell 0 cannot be decoded.*at least 2.*got 1"):
            self.make(([0], [1]), ([0], [1]), ([], []))

    def test_arguments(self):
        cells = [Cell(0, 4, 0, 1, ALONE)]
        with pytest.raises(ArgumentValueError, match="one a worker"):
            Schedule(2, 4, cells, [Walk([0], [0])])
        with pytest.raises(ArgumentValueError, match=r"feedback.*announce, claim, none.*'telepathy'"):
            Schedule(1, 4, cells, [Walk([0], [0])], "telepathy")
        with pytest.raises(ArgumentValueError, match="workers: expected an integer >= 1, got 0"):
            Schedule(0, 4, cells, [])
        with pytest.raises(ArgumentValueError, match="coordinates: expected an integer >= 1, got 0"):
            Schedule(1, 0, cells, [Walk([0], [0])])
        with pytest.raises(ArgumentTypeError, match="walks: expected Walk"):
            Schedule(1, 4, cells, [([0], [0])])

    def test_claims_need_plain_sums(self):
        with pytest.raises(ArgumentValueError, match=r"claim.*CyclicCode in cell 0"):
            self.make(([0, 0], [0, 1]), feedback="claim")


def smallest_fatal_set(made, cell):
    """By trying all sets of workers."""
    for size in range(made.workers + 1):
        for dead in combinations(range(made.workers), size):
            rows = set()
            for worker, walk in enumerate(made.walks):
                if worker not in dead:
                    rows |= set(walk.rows[walk.cells == cell].tolist())
            if len(rows) < made.cells[cell].code.required_rows:
                return size
    return made.workers + 1


class TestTolerance:
    @given(schedules())
    def test_exact_on_small_schedules(self, made):
        for index, cell in enumerate(made.cells):
            expected = made.workers if cell.is_empty else smallest_fatal_set(made, index) - 1
            assert made.tolerance(index) == expected

    @given(schedules())
    def test_safe_without_search(self, made):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(schedule, "_EXHAUSTIVE_SETS", 0)
            for index, cell in enumerate(made.cells):
                if not cell.is_empty:
                    assert 0 <= made.tolerance(index) <= smallest_fatal_set(made, index) - 1

    def test_mixed_visits_beyond_search_have_a_bound(self):
        # 60 workers hold rows w and w + 1 (mod 60) of 60, of which 30 are needed: a fatal set must empty 31
        # rows, 62 pairs, at most 2 a worker. (A run of 32 neighbours is fatal: the bound is one short.)
        workers = np.arange(60)
        walks = [Walk([0, 0], [w, (w + 1) % 60]) for w in workers]
        made = Schedule(60, 4, [Cell(0, 4, 0, 1, CyclicCode(60, 30))], walks)
        assert made.tolerance(0) == 30

    def test_schemes(self):
        cyclic = cyclic_schedule(5, 50, [10, 10, 10, 10, 10])
        assert [cyclic.tolerance(i) for i in range(len(cyclic.cells))] == [0] * 5 + [1, 2, 3, 4]
        repetition = fractional_repetition_schedule(5, 50, [10, 10, 10, 10, 10])
        assert [repetition.tolerance(i) for i in range(len(repetition.cells))] == [0] * 5 + [2, 1, 4]

    def test_unknown_cell(self):
        with pytest.raises(ArgumentValueError, match="cell: expected 0 to 0, got 1"):
            one_worker(Cell(0, 4, 0, 1, ALONE)).tolerance(1)


class TestBlocks:
    def test_boundaries_of_filled_cells(self):
        made = one_worker(
            Cell(0, 4, 0, 0.5, ALONE),
            Cell(0, 1, 0.5, 1, ALONE),
            Cell(3, 3, 0, 1, ALONE),
            Cell(1, 4, 0.5, 1, ALONE),
        )
        assert made.blocks == ((0, 1), (1, 4))
        assert [made.cell_blocks(i) for i in range(4)] == [range(2), range(1), range(0), range(1, 2)]

    @given(schedules())
    def test_every_block_is_covered_once(self, made):
        assert [start for start, _ in made.blocks] == [0, *(stop for _, stop in made.blocks[:-1])]
        assert made.blocks[-1][1] == made.coordinates
        heights = np.zeros(len(made.blocks))
        for index, cell in enumerate(made.cells):
            covered = made.cell_blocks(index)
            heights[covered] += cell.high - cell.low
            assert sum(made.blocks[b][1] - made.blocks[b][0] for b in covered) == (
                0 if cell.is_empty else cell.width
            )
        assert (heights == 1.0).all()  # dyadic: exact


class TestSamples:
    @pytest.mark.parametrize(
        ("fraction", "samples", "index"),
        [(0.0, 7, 0), (1.0, 7, 7), (0.5, 7, 4), (1 / 8, 1437, 180), (0.4, 1, 0)],
    )
    def test_rounding(self, fraction, samples, index):
        assert sample_index(fraction, samples) == index

    @given(schedules(), st.integers(1, 40))
    def test_supports_sum_every_sample_of_the_parts(self, made, samples):
        for index, cell in enumerate(made.cells):
            for row in range(cell.code.rows):
                ranges, coefficients = made.support(index, row, samples)
                assert ranges.dtype == np.int64
                assert (ranges[:, 0] < ranges[:, 1]).all()
                got = np.zeros(samples)
                for (first, last), coefficient in zip(ranges, coefficients, strict=True):
                    got[first:last] += coefficient
                expected = np.zeros(samples)
                for part, coefficient in zip(*cell.code.support(row), strict=True):
                    bound = [
                        cell.low + (cell.high - cell.low) * (part + end) / cell.code.parts for end in (0, 1)
                    ]
                    expected[slice(*(sample_index(fraction, samples) for fraction in bound))] += coefficient
                np.testing.assert_array_equal(got, expected)

    @pytest.mark.parametrize(("workers", "samples"), [(8, 1437), (7, 5), (1, 1), (97, 1000)])
    def test_parts_share_out_all_samples(self, workers, samples):
        bounds = schedule._part_bound(0.0, 1.0, workers, np.arange(workers + 1))
        assert bounds.tolist() == [part / workers for part in range(workers + 1)]
        made = uncoded_schedule(workers, 3)
        counts = np.zeros(samples, dtype=int)
        for cell in range(workers):
            for first, last in made.support(cell, 0, samples)[0]:
                counts[first:last] += 1
        assert (counts == 1).all()

    def test_the_end_of_the_last_part_is_the_end_of_the_cell(self):
        # 1/3 + (2/3 - 1/3) is not 2/3 in binary; the cells of a scheme must meet all the same.
        for groups in range(1, 200):
            bounds = np.arange(groups + 1) / groups
            ends = schedule._part_bound(bounds[:-1], bounds[1:], np.int64(1), np.int64(1))
            np.testing.assert_array_equal(ends, bounds[1:])

    @given(schedules(), st.integers(1, 40))
    def test_sample_ranges_are_the_union_of_the_supports(self, made, samples):
        for worker, walk in enumerate(made.walks):
            expected = np.zeros(samples, dtype=bool)
            for cell, row in zip(walk.cells, walk.rows, strict=True):
                for first, last in made.support(cell, row, samples)[0]:
                    expected[first:last] = True
            ranges = made.sample_ranges(worker, samples)
            got = np.zeros(samples, dtype=bool)
            for first, last in ranges:
                got[first:last] = True
            np.testing.assert_array_equal(got, expected)
            assert (ranges[:, 0] < ranges[:, 1]).all()
            assert (ranges[1:, 0] > ranges[:-1, 1]).all()

    def test_refused(self):
        made = one_worker(Cell(0, 4, 0, 1, ALONE))
        with pytest.raises(ArgumentValueError, match="row: expected 0 to 0 in cell 0, got 1"):
            made.support(0, 1, 5)
        with pytest.raises(ArgumentValueError, match="samples: expected an integer >= 1"):
            made.support(0, 0, 0)
        with pytest.raises(ArgumentValueError, match="worker: expected 0 to 0, got 1"):
            made.sample_ranges(1, 5)


class TestArrivalCycles:
    def test_by_hand(self):
        # Worker 1 of 4: its part over 10 coordinates, then parts 1-2 over 5, then everything over 1.
        made = cyclic_schedule(4, 16, [10, 5, 0, 1])
        cycles = made.arrival_cycles(8, cycles_per_derivative=3.0, forward_cycles=100.0)[1]
        derivatives = np.cumsum([8 * 3 * 10 / 4, 8 * 3 * 5 * 2 / 4, 8 * 3 * 1])
        np.testing.assert_array_equal(cycles, derivatives + 100 * np.array([2, 4, 8]))

    @given(schedules(), costs)
    def test_twin(self, made, cost):
        got = made.arrival_cycles(**cost)
        assert len(got) == made.workers
        for mine, twin in zip(got, reference.arrival_cycles(made, **cost), strict=True):
            np.testing.assert_array_equal(mine, twin)  # dyadic: exact

    @pytest.mark.parametrize("make", [cyclic_schedule, fractional_repetition_schedule])
    def test_twin_on_fractions_that_round(self, make):
        made = make(11, 110, [20, 0, 30, 10, 10, 0, 10, 10, 0, 0, 20])
        for mine, twin in zip(
            made.arrival_cycles(13, 2.0, 70.0), reference.arrival_cycles(made, 13, 2.0, 70.0), strict=True
        ):
            # Heights k/g - j/g of at least 1/11 from fractions below 1, off by 2^-53 each: 22 x 2^-53
            # relative; sums of about ten such terms and products add a few units more.
            np.testing.assert_allclose(mine, twin, rtol=64 * 2.0**-53)

    def test_refused(self):
        made = one_worker(Cell(0, 4, 0, 1, ALONE))
        with pytest.raises(ArgumentValueError, match="forward_cycles: expected a finite number >= 0"):
            made.arrival_cycles(1, 1.0, -1.0)
        with pytest.raises(ArgumentValueError, match="cycles_per_derivative"):
            made.arrival_cycles(1, float("inf"))
        with pytest.raises(ArgumentTypeError, match="samples: expected a finite number > 0"):
            made.arrival_cycles("many")


@given(schedules(codes=st.builds(RepetitionCode, st.integers(1, 3))), costs)
@settings(max_examples=20)
def test_pickles(made, cost):
    before = made.arrival_cycles(**cost)
    again = pickle.loads(pickle.dumps(made))
    assert again.cells == made.cells
    assert again.feedback == made.feedback
    for mine, other in zip(before, again.arrival_cycles(**cost), strict=True):
        np.testing.assert_array_equal(mine, other)


def test_is_immutable():
    made = one_worker(Cell(0, 4, 0, 1, ALONE))
    with pytest.raises(AttributeError):
        made.workers = 2
    with pytest.raises(ValueError, match="read-only"):
        made.arrival_cycles(1)[0][0] = 1.0


def test_supports_of_unknown_codes_may_have_holes():
    code = ListedCode([{0, 2}, {1, 3}], parts=4)
    made = Schedule(1, 4, [Cell(0, 4, 0, 1, code)], [Walk([0, 0], [0, 1])])
    assert made.sample_ranges(0, 8).tolist() == [[0, 8]]
    assert made.support(0, 1, 8)[0].tolist() == [[2, 4], [6, 8]]
    assert made.arrival_cycles(8, 1.0, 10.0)[0].tolist() == [4 * 4 + 40, 8 * 4 + 80]
