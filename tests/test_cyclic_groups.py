"""Groups whose members share rows, evenly or not, and schedules that keep their promise on every set."""

from __future__ import annotations

import logging
import math
from fractions import Fraction

import numpy as np
import pytest

import cgc_fast as cgc
from cgc_fast import cyclic_matrices
from cgc_fast.codes import CyclicCode, RepetitionCode
from cgc_fast.schemes import cyclic_schedule
from cgc_fast.schemes.cyclic import _ranges
from cgc_fast.schemes.cyclic_groups import CyclicGroup, groups_by_work, sizes_of_groups, work
from small_schedules import check_every_straggler_set

ALL_GROUPS = [
    CyclicGroup(members, redundancy, rows)
    for members in range(1, 9)
    for redundancy in range(members)
    for rows in range(1, members + 1)
]


def visited_rows(group):
    """For each set of members, by bits, how many rows it visits."""
    bits = (np.arange(1 << group.members)[:, None] >> np.arange(group.members)) & 1
    visited = np.zeros(1 << group.members, dtype=int)
    for row in range(group.rows):
        mine = np.arange(group.members) * group.rows // group.members == row
        visited += bits[:, mine].any(axis=1)
    return bits, visited


def test_rows_that_missing_members_can_take():
    for group in ALL_GROUPS:
        bits, visited = visited_rows(group)
        left = visited[bits.sum(axis=1) == group.members - group.redundancy]
        assert group.rows - group.missing == left.min()
        assert (
            group.share
            == Fraction(group.missing + 1, group.rows)
            >= Fraction(group.redundancy + 1, group.members)
        )
        code = group.code(seed=3)
        if isinstance(code, RepetitionCode):
            assert group.rows == 1 or group.members == group.redundancy + 1
            assert group.row_of_member().tolist() == list(range(group.members))
        else:
            assert code == CyclicCode(group.rows, group.missing, seed=3)
            members = np.bincount(group.row_of_member(), minlength=group.rows)
            assert members.max() - members.min() <= 1
            assert (np.diff(group.row_of_member()) >= 0).all()


def test_probability_that_a_group_decodes_beside_all_sets_of_members():
    answered = np.array([0.0, 0.2, 0.71, 1.0])
    for group in ALL_GROUPS:
        bits, visited = visited_rows(group)
        here = bits.sum(axis=1)
        chance = answered[:, None] ** here * (1 - answered[:, None]) ** (group.members - here)
        expected = chance[:, visited >= group.rows - group.missing].sum(axis=1)
        # Sums of at most 256 products of at most 9 factors.
        np.testing.assert_allclose(group.decodes(answered), expected, rtol=0, atol=1e-13)


def test_groups_by_work_begin_with_the_least_and_reach_repetition():
    for members, redundancy in ((8, 4), (7, 3), (9, 8)):
        groups = groups_by_work(members, redundancy)
        shares = [group.share for group in groups]
        assert shares == sorted(shares)
        assert shares[0] == Fraction(redundancy + 1, members)
        assert shares[-1] == 1
        assert isinstance(next(group for group in groups if group.share == 1).code(), RepetitionCode)


def test_work_of_groups():
    assert work([CyclicGroup(4, 2, 4), CyclicGroup(3, 2, 1)]) == Fraction(3, 7)  # as if nobody shared
    assert work([CyclicGroup(4, 2, 1), CyclicGroup(3, 2, 1)]) == Fraction(1, 2)  # repetition
    assert work([CyclicGroup(8, 4, 3)]) == Fraction(2, 3)


def test_ranges():
    assert _ranges([2, 4, 5, 6, 9, 10]) == "2, 4-6, 9-10"


def computed(schedule, worker):
    """Samples x coordinates that a worker computes derivatives of, in a schedule of one level."""
    (visit,) = zip(schedule.walks[worker].cells.tolist(), schedule.walks[worker].rows.tolist(), strict=True)
    cell = schedule.cells[visit[0]]
    parts = cell.code.support_parts(visit[1]).size
    return (cell.high - cell.low) * parts / cell.code.parts


@pytest.mark.parametrize("payload", ["float64", "float32"])
@pytest.mark.parametrize("workers", [17, 24, 53])
def test_auto_keeps_every_promise_on_every_set(workers, payload, caplog):
    with caplog.at_level(logging.WARNING, "cgc_fast"):
        whole = cyclic_schedule(
            workers, workers, np.ones(workers, dtype=int), payload=payload, substitute=True
        )
    (record,) = caplog.records
    most, at_level = record.args[2:]
    for level in range(workers):
        sizes = np.zeros(workers, dtype=int)
        sizes[level] = 1
        made = cyclic_schedule(workers, 1, sizes, payload=payload, substitute=True)
        assert [(cell.low, cell.high, cell.code) for cell in made.cells] == [
            (cell.low, cell.high, cell.code) for cell in whole.cells if cell.start == level
        ]
        assert min(made.tolerance(index) for index in range(len(made.cells))) >= level
        shares = [computed(made, worker) for worker in range(workers)]
        # Bounds are fractions, each rounded once.
        np.testing.assert_allclose(shares, shares[0], rtol=1e-14)
        factor = shares[0] / ((level + 1) / workers)
        assert 1 - 1e-14 <= factor <= most * (1 + 1e-14)
        assert factor <= 1.1
        if level == at_level:
            assert factor == pytest.approx(most, rel=1e-14)
        for cell in made.cells:
            if isinstance(cell.code, CyclicCode):
                profile = cell.code.profile
                assert cell.code.has_few_sets
                assert profile.sets == math.comb(cell.code.workers, cell.code.redundancy)
                assert profile.worst <= cell.code.promise == 1e-9
                if payload == "float32":
                    assert profile.single <= cell.code.promise_for(np.float32) <= 1e-3


def test_auto_takes_no_more_work_than_any_other_groups_would():
    for workers, redundancy in ((53, 25), (60, 12), (31, 17)):
        made = cyclic_schedule(workers, 1, np.eye(workers, dtype=int)[redundancy], substitute=True)
        least = min(
            work(
                [
                    next(
                        group
                        for group in groups_by_work(members, redundancy)
                        if isinstance(group.code(), RepetitionCode) or group.code().has_few_sets
                    )
                    for members in sizes
                ]
            )
            for sizes in sizes_of_groups(workers, redundancy)
        )
        assert computed(made, 0) == pytest.approx(float(least), rel=1e-14)


@pytest.fixture
def few_sets(monkeypatch):
    """Hardly any code has as few sets as may be tried: rows are shared unequally by few workers, too."""
    monkeypatch.setattr(cyclic_matrices, "_MOST_SETS", 10)


@pytest.mark.parametrize("workers", range(4, 9))
def test_every_set_of_stragglers_decodes_where_rows_are_shared_unequally(workers, few_sets):
    for level in range(workers):
        made = cyclic_schedule(workers, 1, np.eye(workers, dtype=int)[level], substitute=True)
        check_every_straggler_set(made, level)


@pytest.mark.parametrize("engine", ["serial", "processes"])
def test_a_gradient_where_rows_are_shared_unequally(engine, few_sets):
    workers, coordinates, samples = 8, 30, 40
    sizes = np.array([0, 3, 4, 5, 8, 5, 5, 0])
    schedule = cyclic_schedule(workers, coordinates, sizes, substitute=True)
    members = [
        np.bincount(
            [int(walk.rows[i]) for walk in schedule.walks for i in np.flatnonzero(walk.cells == index)]
        )
        for index in range(len(schedule.cells))
    ]
    assert any(len(set(counts.tolist())) > 1 for counts in members)
    rng = np.random.default_rng(4)
    features = rng.standard_normal((samples, coordinates))
    problem = cgc.problems.LeastSquares(features, rng.standard_normal(samples))
    theta = rng.standard_normal(coordinates)
    with cgc.Cluster(schedule, problem, engine) as cluster:
        error = abs(cluster.gradient(theta) - problem.gradient(theta)).max()
    # The promise is in units of the sum of magnitudes over parts, which that over samples exceeds.
    residuals = features @ theta - problem.targets
    assert error <= 1e-9 * (abs(features) * abs(residuals)[:, None]).sum(axis=0).max()
