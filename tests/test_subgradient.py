"""Projected stochastic subgradient iterations: twin, optimum of a linear program, independence of units."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from cgc_fast import _core, reference
from cgc_fast.subgradient import minimise_by_subgradient


def problem(seed, draws, levels):
    generator = np.random.default_rng(seed)
    times = np.sort(50 + 1000 * generator.standard_exponential((draws, levels)), axis=1)[:, ::-1]
    start = generator.random(levels) + 0.1
    return np.ascontiguousarray(times), np.arange(1.0, levels + 1), 100 * start / start.sum()


@given(st.integers(0, 2**32), st.integers(1, 8), st.integers(1, 7), st.sampled_from([0.05, 1.0]))
def test_iterations_are_the_twins(seed, levels, batch, step):
    times, work, start = problem(seed, 23, levels)
    iterations = _core.SubgradientIterations(work, start)
    history = iterations.run(times, batch, step, True)
    iterate, average, expected_history = reference.subgradient_iterations(times, work, start, batch, step)
    # A rounding of 1e-16 can only turn into another argmax on a tie, which random draws do not have.
    np.testing.assert_allclose(iterations.iterate, iterate, atol=1e-9)
    np.testing.assert_allclose(iterations.average, average, atol=1e-9)
    np.testing.assert_allclose(history, expected_history, rtol=1e-11)
    assert len(history) == 23 // batch


def test_iterates_stay_on_the_simplex():
    times, work, start = problem(1, 500, 12)
    iterations = _core.SubgradientIterations(work, start)
    np.testing.assert_array_equal(iterations.average, start)  # before the first step
    iterations.run(times, 10, 1.0, False)
    assert iterations.iterate.min() >= 0
    assert abs(iterations.iterate.sum() - 100) < 1e-10


@pytest.mark.parametrize("levels", [2, 6, 15])
def test_reaches_the_optimum_of_the_sampled_problem(levels):
    times, work, start = problem(levels, 300, levels)
    # Epigraph form: minimise the mean of z_d, z_d >= R_dk sum_{i <= k} work_i x_i.
    load = np.tril(np.ones((levels, levels))) * work
    rows = np.concatenate([np.hstack([times[:, [k]] * load[k], -np.eye(300)]) for k in range(levels)])
    answer = linprog(
        np.concatenate([np.zeros(levels), np.full(300, 1 / 300)]),
        A_ub=rows,
        b_ub=np.zeros(len(rows)),
        A_eq=[np.concatenate([np.ones(levels), np.zeros(300)])],
        b_eq=[100.0],
        method="highs",
    )
    assert answer.success
    result = minimise_by_subgradient(times, work, start, batch=20, passes=400)
    value = _core.level_runtimes(times, np.cumsum(work * result.block_sizes)).mean()
    # Nothing goes below the optimum; 6,000 steps from 0.2 L on, converging as 1/sqrt, leave about 1e-3.
    assert answer.fun * (1 - 1e-9) <= value <= answer.fun * 1.004
    assert result.history.shape == (6000,)


def test_units_do_not_matter():
    times, work, start = problem(3, 400, 9)
    plain = minimise_by_subgradient(times, work, start, passes=5).block_sizes
    # Powers of two, so that even the roundings are the same.
    np.testing.assert_array_equal(
        minimise_by_subgradient(1024 * times, work, start, passes=5).block_sizes, plain
    )
    np.testing.assert_array_equal(
        minimise_by_subgradient(times, work, start / 64, passes=5).block_sizes, plain / 64
    )


def test_one_draw_is_enough_to_run():
    times, work, start = problem(4, 1, 3)
    assert minimise_by_subgradient(times, work, start).block_sizes.sum() == pytest.approx(100)


def test_wrong_arrays_are_refused():
    times, work, start = problem(5, 10, 3)
    iterations = _core.SubgradientIterations(work, start)
    with pytest.raises(ValueError, match="times: expected 3 columns, got 2"):
        iterations.run(times[:, :2].copy(), 5, 0.1, False)
    with pytest.raises(ValueError, match="batch: expected at least 1, got 0"):
        iterations.run(times, 0, 0.1, False)
    with pytest.raises(ValueError, match="same length"):
        _core.SubgradientIterations(work[:2].copy(), start)
    with pytest.raises(ValueError, match="positive finite sum"):
        _core.SubgradientIterations(work, 0 * start)
