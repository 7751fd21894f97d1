import contextlib
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgc_fast.codes import CyclicCode, RepetitionCode
from cgc_fast.errors import ArgumentTypeError, ArgumentValueError
from cgc_fast.schedule import Cell
from cgc_fast.schemes import (
    SCHEMES,
    cyclic_schedule,
    fractional_repetition_schedule,
    scheme,
    single_level_schedule,
    uncoded_schedule,
)
from cgc_fast.schemes.circles import contiguous_groups
from cgc_fast.schemes.cyclic_groups import CyclicGroup, cyclic_groups, expected_answers
from cgc_fast.schemes.pairs import pairs_schedule
from cgc_fast.schemes.walked import walked_schedule
from cgc_fast.simulation import simulate
from small_schedules import check_every_straggler_set


@st.composite
def block_sizes(draw):
    workers = draw(st.integers(1, 9))
    sizes = draw(st.lists(st.integers(0, 4), min_size=workers, max_size=workers))
    sizes[draw(st.integers(0, workers - 1))] += 1
    return sizes


def same(one, other):
    walks = [[(walk.cells.tolist(), walk.rows.tolist()) for walk in made.walks] for made in (one, other)]
    return one.cells == other.cells and walks[0] == walks[1]


def test_uncoded():
    made = uncoded_schedule(3, 5)
    assert made.cells == tuple(Cell(0, 5, w / 3, (w + 1) / 3, RepetitionCode(1)) for w in range(3))
    assert [walk.cells.tolist() for walk in made.walks] == [[0], [1], [2]]


class TestCyclic:
    def test_levels_in_ascending_order(self):
        made = cyclic_schedule(4, 10, [3, 0, 5, 2], seed=7)
        parts = tuple(Cell(0, 3, w / 4, (w + 1) / 4, RepetitionCode(1)) for w in range(4))
        coded = Cell(3, 8, 0.0, 1.0, CyclicCode(4, 2, seed=7))
        assert made.cells == (*parts, coded, Cell(8, 10, 0.0, 1.0, RepetitionCode(4)))
        for w, walk in enumerate(made.walks):
            assert walk.cells.tolist() == [w, 4, 5]
            assert walk.rows.tolist() == [0, w, w]

    def test_one_worker(self):
        assert cyclic_schedule(1, 3, [3]).cells == (Cell(0, 3, 0.0, 1.0, RepetitionCode(1)),)

    @given(block_sizes())
    def test_each_coordinate_tolerates_its_level(self, sizes):
        made = cyclic_schedule(len(sizes), sum(sizes), sizes)
        redundancy = np.repeat(np.arange(len(sizes)), sizes)
        for index, cell in enumerate(made.cells):
            assert made.tolerance(index) == redundancy[cell.start]
            assert (redundancy[cell.start : cell.stop] == redundancy[cell.start]).all()


def partitions(total, terms, most=None):
    """Non-increasing sequences of so many terms >= 0 with this sum."""
    if terms == 0:
        if total == 0:
            yield ()
        return
    for first in range(total if most is None else min(total, most), -1, -1):
        for rest in partitions(total - first, terms - 1, first):
            yield (first, *rest)


class TestCyclicInGroups:
    def test_groups_take_as_many_parts_as_they_have_members(self):
        # floor(7 / (n + 1)) = 7, 3, 2, 1 groups.
        made = cyclic_schedule(7, 16, [1, 2, 4, 9, 0, 0, 0], seed=5, grouped=True)
        assert made.cells[7:] == (
            Cell(1, 3, 0.0, 3 / 7, CyclicCode(3, 1, seed=5)),
            Cell(1, 3, 3 / 7, 5 / 7, RepetitionCode(2)),
            Cell(1, 3, 5 / 7, 1.0, RepetitionCode(2)),
            Cell(3, 7, 0.0, 4 / 7, CyclicCode(4, 2, seed=5)),
            Cell(3, 7, 4 / 7, 1.0, RepetitionCode(3)),
            Cell(7, 16, 0.0, 1.0, CyclicCode(7, 3, seed=5)),
        )
        cells = [walk.cells.tolist() for walk in made.walks]
        assert cells == [[w, 7 + w * 3 // 7, 10 + w * 2 // 7, 12] for w in range(7)]
        rows = [walk.rows.tolist() for walk in made.walks]
        assert rows == [[0, w - (0, 3, 5)[w * 3 // 7], w % 4, w] for w in range(7)]

    def test_neighbours_share_a_row_where_groups_and_levels_have_a_common_divisor(self):
        # Ten workers, three of whom may be missing: six in three pairs, one of which may be, and four.
        made = cyclic_schedule(10, 1, [0, 0, 0, 1, 0, 0, 0, 0, 0, 0], seed=5, grouped=True)
        assert made.cells == (
            Cell(0, 1, 0.0, 6 / 10, CyclicCode(3, 1, seed=5)),
            Cell(0, 1, 6 / 10, 1.0, RepetitionCode(4)),
        )
        assert [walk.rows.tolist() for walk in made.walks] == [[w // 2] for w in range(6)] + [
            [w] for w in range(4)
        ]
        assert [made.tolerance(cell) for cell in (0, 1)] == [3, 3]

    @pytest.mark.parametrize(
        ("workers", "redundancy"), [(5, 2), (7, 1), (9, 2), (9, 5), (10, 3), (12, 7), (13, 3)]
    )
    def test_expected_answers(self, workers, redundancy):
        """Beside counting: 4,000 orders of arrival; six standard errors of the mean, which may be 0."""
        groups = cyclic_groups(workers, redundancy)
        made = cyclic_schedule(workers, 1, np.eye(workers, dtype=int)[redundancy], grouped=True)
        orders = np.random.default_rng(1).permuted(np.tile(np.arange(workers), (4_000, 1)), axis=1)
        row = [int(walk.rows[0]) for walk in made.walks]
        cell = [int(walk.cells[0]) for walk in made.walks]
        answers = []
        for order in orders.tolist():
            here = [set() for _ in groups]
            for count, worker in enumerate(order, 1):
                here[cell[worker]].add(row[worker])
                if all(len(h) >= c.code.required_rows for h, c in zip(here, made.cells, strict=True)):
                    answers.append(count)
                    break
        error = np.std(answers) / np.sqrt(len(answers))
        assert abs(expected_answers(groups) - np.mean(answers)) <= 6 * error + 1e-12 * workers

    def test_sizes_decode_soonest(self):
        """Beside all sizes: nine times of ten the best are found, and missed by a twentieth at most."""
        ratios = []
        for workers in (10, 20, 50):
            for redundancy in range(1, workers):
                groups, left_over = divmod(workers, redundancy + 1)
                every = [
                    tuple(CyclicGroup.of_fewest_rows(redundancy + 1 + more, redundancy) for more in extra)
                    for extra in itertools.islice(partitions(left_over, groups), 2_000)
                ]
                best = min(map(expected_answers, every))
                chosen = cyclic_groups(workers, redundancy)
                assert len(chosen) == groups
                assert sum(group.members for group in chosen) == workers
                ratios.append(expected_answers(chosen) / best)
        assert min(ratios) >= 1 - 1e-12
        assert max(ratios) <= 1.05
        assert np.mean(np.array(ratios) <= 1 + 1e-12) >= 0.9

    def test_equal_groups_of_the_least_size_are_fractional_repetition(self):
        sizes = [1, 2, 3, 0, 0, 4]  # 1, 2, 3 and 6 divide 6
        assert same(cyclic_schedule(6, 10, sizes, grouped=True), fractional_repetition_schedule(6, 10, sizes))

    @given(block_sizes(), st.integers(0, 2**32 - 1))
    def test_same_work_and_tolerance_and_never_later(self, sizes, seed):
        workers, coordinates = len(sizes), sum(sizes)
        made = cyclic_schedule(workers, coordinates, sizes, grouped=True)
        cyclic = cyclic_schedule(workers, coordinates, sizes)
        redundancy = np.repeat(np.arange(workers), sizes)
        for index, cell in enumerate(made.cells):
            assert made.tolerance(index) == redundancy[cell.start]
        for own, other in zip(made.arrival_cycles(60), cyclic.arrival_cycles(60), strict=True):
            np.testing.assert_allclose(own, other, rtol=1e-14)  # sums of at most 9 terms, each rounded twice
        times = np.random.default_rng(seed).exponential(size=(50, workers))
        times[::7, : workers // 3] = np.inf
        own, other = (simulate(of, times, samples=60) for of in (made, cyclic))
        assert (own <= other * (1.0 + 1e-14)).all()

    @pytest.mark.parametrize("workers", range(1, 9))
    def test_every_set_of_stragglers_of_every_level_decodes(self, workers):
        for level in range(workers):
            sizes = np.zeros(workers, dtype=np.int64)
            sizes[level] = 1
            made = cyclic_schedule(workers, 1, sizes, grouped=True)
            check_every_straggler_set(made, level)


def test_single_level_is_a_cyclic_schedule_with_one_block():
    assert same(single_level_schedule(4, 10, 2, seed=3), cyclic_schedule(4, 10, [0, 0, 10, 0], seed=3))
    assert same(single_level_schedule(4, 10, 0), uncoded_schedule(4, 10))


class TestFractionalRepetition:
    def test_levels_with_equally_many_groups_are_one_block(self):
        # floor(7 / (n + 1)) = 7, 3, 2, 1, 1, 1, 1 groups.
        made = fractional_repetition_schedule(7, 28, [1, 2, 3, 4, 5, 6, 7])
        assert [(cell.start, cell.stop) for cell in made.cells] == (
            [(0, 1)] * 7 + [(1, 3)] * 3 + [(3, 6)] * 2 + [(6, 28)]
        )
        assert [cell.code.rows for cell in made.cells] == [1] * 7 + [3, 2, 2] + [4, 3] + [7]
        assert [(cell.low, cell.high) for cell in made.cells[7:10]] == [
            (0, 1 / 3),
            (1 / 3, 2 / 3),
            (2 / 3, 1),
        ]
        assert [walk.cells.tolist() for walk in made.walks] == [
            [w, 7 + w * 3 // 7, 10 + w * 2 // 7, 12] for w in range(7)
        ]

    @given(block_sizes())
    def test_groups_repeat_and_levels_are_kept(self, sizes):
        workers = len(sizes)
        made = fractional_repetition_schedule(workers, sum(sizes), sizes)
        redundancy = np.repeat(np.arange(workers), sizes)
        for index, cell in enumerate(made.cells):
            groups = workers // (redundancy[cell.start] + 1)
            members = [w for w, walk in enumerate(made.walks) if index in walk.cells]
            assert members == [w for w in range(workers) if w * groups // workers == round(cell.low * groups)]
            assert made.tolerance(index) == len(members) - 1 >= workers // groups - 1
            # Merged levels differ, but not in the number of groups.
            assert (workers // (redundancy[cell.start : cell.stop] + 1) == groups).all()
        starts = [[made.cells[cell].start for cell in walk.cells] for walk in made.walks]
        assert starts == [sorted(of) for of in starts]


class TestRefused:
    @pytest.mark.parametrize("make", [cyclic_schedule, fractional_repetition_schedule])
    @pytest.mark.parametrize(
        ("sizes", "error", "message"),
        [
            ([5, 5], ArgumentValueError, r"expected shape \(3,\).*got \(2,\)"),
            ([[5, 5, 0]], ArgumentValueError, r"expected shape \(3,\)"),
            ([5, 6, -1], ArgumentValueError, "expected numbers >= 0, got -1 at level 2"),
            ([5, 4, 0], ArgumentValueError, "expected the sum 10.*got 9"),
            ([5.5, 4.5, 0.0], ArgumentValueError, "expected whole numbers"),
        ],
    )
    def test_block_sizes(self, make, sizes, error, message):
        with pytest.raises(error, match=message):
            make(3, 10, sizes)

    @pytest.mark.parametrize(
        "make", [uncoded_schedule, lambda workers, width: single_level_schedule(workers, width, 0)]
    )
    def test_sizes(self, make):
        with pytest.raises(ArgumentValueError, match="workers: expected an integer >= 1, got 0"):
            make(0, 5)
        with pytest.raises(ArgumentValueError, match="coordinates: expected an integer >= 1, got -5"):
            make(2, -5)
        with pytest.raises(ArgumentTypeError, match="coordinates: expected an integer"):
            make(2, 5.0)

    def test_level(self):
        with pytest.raises(ArgumentValueError, match=r"level: expected an integer in 0..3, got 4"):
            single_level_schedule(4, 10, 4)


def test_registry():
    assert sorted(SCHEMES) == [
        "cyclic",
        "fractional_repetition",
        "load_balancing",
        "pairs",
        "shared_samples",
        "single_level",
        "uncoded",
        "walked",
    ]
    assert same(scheme("cyclic", 3, 6, [1, 2, 3], seed=1), cyclic_schedule(3, 6, [1, 2, 3], seed=1))
    with pytest.raises(ArgumentValueError, match=r"scheme: expected one of cyclic, .*; got 'polynomial'"):
        scheme("polynomial", 3, 6)


def values_sent(made):
    """Most values (N,) that each worker may send."""
    return [sum(made.cells[cell].width for cell in walk.cells) for walk in made.walks]


class TestShortWays:
    def test_pairs_stop_on_their_way(self):
        made = pairs_schedule(4, 100, cells=20, max_values_sent=0.6)
        assert values_sent(made) == [60] * 4
        assert [made.cells[cell].start for cell in made.walks[0].cells] == list(range(0, 60, 5))
        assert [made.cells[cell].stop for cell in made.walks[1].cells] == list(range(100, 40, -5))
        for cell, tile in enumerate(made.cells):
            assert made.tolerance(cell) == int(40 <= tile.start < 60)

    @given(st.integers(2, 9), st.floats(0.05, 1.0), st.integers(1, 6))
    def test_nobody_sends_more_and_nothing_is_missing(self, workers, most, cells):
        blocks = [
            {"size": 7, "groups": contiguous_groups(workers, min(2, workers))},
            {"size": 53, "groups": [range(workers)], "starts": workers // 2, "cells": cells},
        ]
        # From both ends of an arc half of it is walked, and a cell that does not fit in may be lost, whose
        # width is rounded up, as is the way down.
        arcs = workers // 2
        enough = 7 + 53 * (1 / (2 * arcs) + 1 / (arcs * cells)) + 2
        if most * 60 < enough:
            with contextlib.suppress(ArgumentValueError):
                made = walked_schedule(workers, 60, blocks, max_values_sent=most)
                assert max(values_sent(made)) <= most * 60 + 1e-9
            return
        made = walked_schedule(workers, 60, blocks, max_values_sent=most)
        assert max(values_sent(made)) <= most * 60 + 1e-9
        assert min(map(made.tolerance, range(len(made.cells)))) >= 0
        whole = walked_schedule(workers, 60, blocks)
        for short, full in zip(made.walks, whole.walks, strict=True):
            kept = [(made.cells[c].start, made.cells[c].stop) for c in short.cells]
            everything = [(whole.cells[c].start, whole.cells[c].stop) for c in full.cells]
            assert [cut for cut in everything if cut in kept] == kept

    def test_what_nobody_would_come_to_is_refused(self):
        with pytest.raises(ArgumentValueError, match=r"nobody of the group \[0, 1\] comes to .* 40\.\.45"):
            pairs_schedule(4, 100, cells=20, max_values_sent=0.4)
        blocks = [{"size": 20, "groups": [[0], [1]]}, {"size": 60, "groups": [[0, 1]], "starts": 1}]
        with pytest.raises(ArgumentValueError, match=r"expected at least 0\.25, because so many"):
            walked_schedule(2, 80, blocks, max_values_sent=0.2)
        for most in (0.0, 1.5, -1.0):
            with pytest.raises(ArgumentValueError, match="max_values_sent: expected"):
                pairs_schedule(4, 100, max_values_sent=most)


def test_fewer_coordinates_than_workers():
    made = cyclic_schedule(6, 2, [1, 0, 0, 0, 1, 0])
    assert [cell.width for cell in made.cells] == [1] * 7


def test_a_thousand_workers_with_a_thousand_levels():
    made = cyclic_schedule(1000, 2000, [2] * 1000)
    assert len(made.cells) == 1999
    assert sum(map(len, made.walks)) == 1_000_000
    cycles = made.arrival_cycles(1, forward_cycles=3.0)
    # Worker 0 last: W = 2 (1 + ... + 1000) / 1000 coordinates of all samples, which it has all touched. A
    # thousand terms, each of relative error at most a few 1000 x 2^-53 (differences of fractions below 1).
    assert cycles[0][-1] == pytest.approx(1001.0 + 3.0, rel=1e-12)
