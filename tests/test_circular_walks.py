"""Blocks walked in circles: the compiled times against their twin, against simulation, and their slopes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgc_fast import reference
from cgc_fast._core import CoverTimes
from cgc_fast.arguments import Cost
from cgc_fast.errors import ArgumentTypeError, ArgumentValueError
from cgc_fast.scheme_search.block_search import Layout, mean_runtime, runtimes
from cgc_fast.schemes import (
    fractional_repetition_schedule,
    pairs_schedule,
    shared_samples_schedule,
    walked_schedule,
)
from cgc_fast.schemes.circles import Block, circle_schedule, contiguous_groups, directions
from cgc_fast.simulation import simulate


@st.composite
def walks(draw):
    """Groups, starts and directions of any kind, with times, begins and ways around."""
    workers, levels = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    shape = (levels, workers)

    def array(values, dtype=np.float64):
        row = st.lists(values, min_size=workers, max_size=workers)
        return np.array(draw(st.lists(row, min_size=levels, max_size=levels)), dtype=dtype).reshape(shape)

    groups = array(st.integers(0, workers - 1), np.int64)
    starts = array(st.sampled_from([0.0, 0.25, 0.5, 0.7, 0.9]))
    backward = array(st.integers(0, 1), np.int64)
    begin = array(st.floats(0.0, 10.0))
    around = array(st.sampled_from([0.0, 0.5, 3.0]))
    around = np.take_along_axis(around, groups, axis=1)  # the same in a group
    times = np.array(
        draw(st.lists(st.sampled_from([0.3, 1.0, 2.0, 7.5, np.inf]), min_size=workers, max_size=workers))
    )
    return groups, starts, backward, times, begin, around


@given(walks())
def test_twin(walk):
    groups, starts, backward, times, begin, around = walk
    compiled = CoverTimes(groups=groups, starts=starts, backward=backward)
    got = compiled.run(times[None], begin, around, False)[0]
    # Distances are sums of a few numbers below 2, relative to ways of which the shortest arc is 0.1 or more;
    # the times are ratios of sums of at most six terms: a few hundred roundings at the very most.
    np.testing.assert_allclose(got, reference.cover_runtime(*walk), rtol=1e-12)


def blocks_of(workers, counts, starts, size=60):
    return [Block(size, contiguous_groups(workers, g), starts=starts) for g in counts]


@pytest.mark.parametrize("forward_cycles", [0.0, 30.0])
def test_slopes_are_those_of_the_mean(forward_cycles):
    layout = Layout(tuple(blocks_of(6, [6, 4, 2, 1], starts=3)))
    times = 1.0 + np.random.default_rng(0).exponential(1.0, (40, 6))
    cost = Cost(6, 1.0, forward_cycles)
    shares = np.array([0.2, 0.1, 0.3, 0.4])
    value, slopes = mean_runtime(layout, shares, times, 240, cost)
    assert value == pytest.approx(runtimes(layout, shares, times, 240, cost).mean(), rel=1e-14)
    step = 1e-7  # the runtime is piecewise linear: exact but for draws whose last point changes, and rounding
    for k in range(4):
        moved = shares.copy()
        moved[k] += step
        difference = (mean_runtime(layout, moved, times, 240, cost)[0] - value) / step
        assert slopes[k] == pytest.approx(difference, rel=1e-4, abs=1e-4 * abs(slopes).max())


def test_narrow_cells_approach_the_limit_from_above():
    times = 0.5 + np.random.default_rng(1).exponential(1.0, (200, 7))
    counts, cost = [7, 3, 1], Cost(9, 2.0, 5.0)
    layout = Layout(tuple(blocks_of(7, counts, starts=4)))
    limit = runtimes(layout, np.full(3, 1 / 3), times, 2400 * 3, cost)
    before = np.inf
    for cells in (1, 4, 16, 64):
        blocks = [Block(2400, b.groups, b.bounds, b.starts, cells) for b in layout.blocks]
        made = circle_schedule(7, 7200, blocks)
        got = simulate(made, times, samples=9, cycles_per_derivative=2.0, forward_cycles=5.0)
        assert (got >= limit * (1 - 1e-12)).all()
        assert got.mean() < before
        before = got.mean()
        # Late by at most one cell of the last point's worker, and that is at most the slowest at full height.
        widest = 2400 / (2 * cells)  # groups of three have two starts, the group of seven four
        assert (got <= limit + times.max(axis=1) * 9 * 2.0 * widest).all()
    assert before <= 1.02 * limit.mean()


def test_directions():
    starts, backward = directions(6, 3)
    assert starts.tolist() == [0, 0, 1 / 3, 1 / 3, 2 / 3, 2 / 3]
    assert backward.tolist() == [False, True] * 3
    starts, backward = directions(5, 9)  # no more starts than pairs, the last worker goes forward
    assert starts.tolist() == [0, 0, 1 / 3, 1 / 3, 2 / 3]
    assert backward.tolist() == [False, True, False, True, False]
    assert directions(4, 0)[0].tolist() == [0.0] * 4
    assert not directions(4, 0)[1].any()


@given(
    st.integers(1, 9),
    st.lists(
        st.tuples(st.integers(0, 30), st.integers(1, 9), st.integers(0, 5), st.integers(1, 9)),
        min_size=1,
        max_size=4,
    ),
)
def test_schedules_of_circles_keep_their_promises(workers, shapes):
    shapes[0] = (max(1, shapes[0][0]), *shapes[0][1:])
    blocks = [
        Block(size, contiguous_groups(workers, min(g, workers)), starts=starts, cells=cells)
        for size, g, starts, cells in shapes
    ]
    coordinates = sum(block.size for block in blocks)
    made = circle_schedule(workers, coordinates, [block.to_dict() for block in blocks])
    for walk in made.walks:  # every coordinate once, so L values
        assert sum(made.cells[cell].width for cell in walk.cells) == coordinates
    for index, cell in enumerate(made.cells):
        assert made.tolerance(index) == cell.code.rows - 1
        assert cell.code.required_rows == 1


def test_members_walk_around_from_their_starts():
    made = circle_schedule(5, 12, [Block(12, [range(5)], starts=3, cells=2)])
    assert [(c.start, c.stop) for c in made.cells] == [(k, k + 2) for k in range(0, 12, 2)]
    assert [walk.cells.tolist() for walk in made.walks] == [
        [0, 1, 2, 3, 4, 5],
        [5, 4, 3, 2, 1, 0],
        [2, 3, 4, 5, 0, 1],
        [1, 0, 5, 4, 3, 2],
        [4, 5, 0, 1, 2, 3],
    ]


def test_pairs_of_an_odd_number_end_with_a_group_of_three():
    made = pairs_schedule(5, 40, cells=4)
    assert {(c.low, c.high, c.code.rows) for c in made.cells} == {(0.0, 0.4, 2), (0.4, 1.0, 3)}
    assert pairs_schedule(1, 40).walks[0].cells.tolist() == [0]
    with pytest.raises(ArgumentValueError, match="groups of one to three workers"):
        pairs_schedule(4, 40, pairs=[[0, 1, 2, 3]])


def test_pairs_are_cut_where_they_are_told():
    made = pairs_schedule(4, 40, cuts=[[0.25, 0.5], [0.52]])
    assert [(c.start, c.stop) for c in made.cells] == [(0, 10), (10, 20), (20, 40), (0, 21), (21, 40)]
    assert [walk.cells.tolist() for walk in made.walks] == [[0, 1, 2], [2, 1, 0], [3, 4], [4, 3]]
    form = Block(40, [[0, 1], [2, 3]], starts=1, cuts=[[0.25, 0.5], [0.52]])
    assert Block.of(form.to_dict()) == form
    for wrong in ([[0.5]], [[0.5, 0.25], []], [[0.5], [1.0]]):
        with pytest.raises(ArgumentValueError, match="cuts: expected rising fractions"):
            pairs_schedule(4, 40, cuts=wrong)


def test_unfit_blocks_are_refused():
    with pytest.raises(ArgumentValueError, match="every worker in one group"):
        Block(3, [[0, 1], [1]])
    with pytest.raises(ArgumentValueError, match="every worker in one group"):
        Block(3, [[0], []])
    with pytest.raises(ArgumentValueError, match="bounds: expected 0 = first"):
        Block(3, [[0], [1]], [0.0, 0.6, 0.5])
    with pytest.raises(ArgumentValueError, match=r"sizes that sum to 5 \(coordinates\), got \[3\]"):
        walked_schedule(2, 5, [Block(3, [[0], [1]])])
    with pytest.raises(ArgumentValueError, match="groups of 3 workers, got 2"):
        walked_schedule(3, 3, [Block(3, [[0], [1]])])
    with pytest.raises(ArgumentTypeError, match="either block_sizes or blocks"):
        fractional_repetition_schedule(2, 3)
    with pytest.raises(ArgumentTypeError, match="either block_sizes or blocks"):
        fractional_repetition_schedule(2, 3, [3, 0], blocks=[Block(3, [[0], [1]])])


SCHEDULES = {
    "walked": walked_schedule(
        5, 60, [Block(20, contiguous_groups(5, 5)), Block(40, contiguous_groups(5, 1), starts=3, cells=3)]
    ),
    "walked, announced": walked_schedule(
        5, 60, [Block(20, contiguous_groups(5, 2), starts=2), Block(40, [range(5)], None, 3, 2)], "announce"
    ),
    "pairs": pairs_schedule(5, 60, pairs=[[4, 0], [2], [1, 3]], bounds=[0.0, 0.3, 0.5, 1.0], cells=6),
    "pairs, announced": pairs_schedule(5, 60, cells=6, feedback="announce"),
    "shared samples": shared_samples_schedule(5, 60, [[3, 0], [1, 2, 4]], pieces=7, ratio=3.0),
}


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("forward_cycles", [0.0, 20.0])
def test_simulation_of_every_scheme_is_that_of_its_twin(name, forward_cycles):
    made = SCHEDULES[name]
    times = 0.3 + np.random.default_rng(4).exponential(1.0, (25, 5))
    times[::6, 1] = np.inf
    cost = {"samples": 9.0, "cycles_per_derivative": 2.0, "forward_cycles": forward_cycles}
    delays = np.array([0.1, 0.0, 0.7, 0.2, 0.3])
    for latency in (0.0, 1.3, 40.0):
        got = simulate(made, times, **cost, delay=delays, latency=latency, details=True)
        for draw in range(len(times)):
            expected = reference.simulate(made, times[draw], delays, **cost, latency=latency)
            # No two events of these draws are as close as the few hundred roundings of a history.
            np.testing.assert_allclose(got.runtime[draw], expected[0], rtol=1e-12)
            np.testing.assert_allclose(got.decode_times[draw], expected[1], rtol=1e-12)
            np.testing.assert_array_equal(got.values_sent[draw], expected[2])
