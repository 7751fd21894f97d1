"""Projected stochastic subgradient iterations: twin, optimum of a linear program, independence of units."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import linprog

import cgc_fast as cgc
from cgc_fast import _core, reference
from cgc_fast.subgradient import minimise_by_subgradient

POWERS = st.sampled_from([0.51, 0.75, 1.0])


def problem(seed, draws, levels):
    generator = np.random.default_rng(seed)
    times = np.sort(50 + 1000 * generator.standard_exponential((draws, levels)), axis=1)[:, ::-1]
    start = generator.random(levels) + 0.1
    return np.ascontiguousarray(times), np.arange(1.0, levels + 1), 100 * start / start.sum()


@given(st.integers(0, 2**32), st.integers(1, 8), st.integers(1, 7), st.sampled_from([0.05, 1.0]), POWERS)
def test_iterations_are_the_twins(seed, levels, batch, step, power):
    times, work, start = problem(seed, 23, levels)
    iterations = _core.SubgradientIterations(work, start, step, power)
    history = iterations.run(times, batch, True)
    expected = reference.subgradient_iterations(times, work, start, batch, step, power)
    iterate, average, expected_history = expected
    # A rounding of 1e-16 can only turn into another argmax on a tie, which random draws do not have.
    np.testing.assert_allclose(iterations.iterate, iterate, atol=1e-9)
    np.testing.assert_allclose(iterations.average, average, atol=1e-9)
    np.testing.assert_allclose(history, expected_history, rtol=1e-11)
    assert len(history) == 23 // batch


def test_iterates_stay_on_the_simplex():
    times, work, start = problem(1, 500, 12)
    iterations = _core.SubgradientIterations(work, start, 1.0, 0.75)
    np.testing.assert_array_equal(iterations.average, start)  # before the first step
    iterations.run(times, 10, False)
    assert iterations.iterate.min() >= 0
    assert abs(iterations.iterate.sum() - 100) < 1e-10


def test_steps_diminish_as_documented():
    # One draw a batch, so small a step that nothing is cut off: the moves are the documented steps.
    times, work, start = problem(2, 3, 2)
    iterations = _core.SubgradientIterations(work, start, 1e-4, 0.6)
    first = times[0] * np.cumsum(work * start)
    for k, row in enumerate(times, start=1):
        before = iterations.iterate
        last = int(np.argmax(row * np.cumsum(work * before)))
        subgradient = row[last] * work * (np.arange(2) <= last)
        iterations.run(row[None, :].copy(), 1, False)
        move = -1e-4 * 100**2 / first.max() / k**0.6 * (subgradient - subgradient.mean())
        np.testing.assert_allclose(iterations.iterate - before, move, atol=1e-12)


@pytest.mark.parametrize("averaging", [False, True])
@pytest.mark.parametrize("levels", [2, 6, 15])
def test_reaches_the_optimum_of_the_sampled_problem(levels, averaging):
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
    result = minimise_by_subgradient(times, work, start, batch=20, passes=400, averaging=averaging)
    value = _core.level_runtimes(times, np.cumsum(work * result.block_sizes)).mean()
    # Nothing goes below the optimum; 6,000 steps leave about 1e-3.
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
    iterations = _core.SubgradientIterations(work, start, 0.1, 0.75)
    with pytest.raises(ValueError, match="times: expected 3 columns, got 2"):
        iterations.run(times[:, :2].copy(), 5, False)
    with pytest.raises(ValueError, match="batch: expected at least 1, got 0"):
        iterations.run(times, 0, False)
    with pytest.raises(ValueError, match="same length"):
        _core.SubgradientIterations(work[:2].copy(), start, 0.1, 0.75)
    with pytest.raises(ValueError, match="positive finite sum"):
        _core.SubgradientIterations(work, 0 * start, 0.1, 0.75)
    with pytest.raises(ValueError, match="step: expected a positive finite number, got 0"):
        _core.SubgradientIterations(work, start, 0.0, 0.75)
    # A constant step or one that falls too slowly does not converge.
    for power in (0.0, 0.5, 1.1, np.nan):
        with pytest.raises(ValueError, match=r"power: expected a number in \(1/2, 1\]"):
            _core.SubgradientIterations(work, start, 0.1, power)


LAW = stats.expon(loc=50, scale=1000)


def test_plans_keep_the_history():
    made = cgc.plan(8, 1000, LAW, method="subgradient", samples=16, cycles_per_derivative=0.5, draws=2000)
    assert made.history.shape == (50 * 2000 // 50,)
    assert not made.history.flags.writeable
    # In seconds: the last pass is a mean over the 2,000 draws, 50 a batch, at nearly the plan's sizes.
    last = made.history[-40:]
    assert last.mean() == pytest.approx(made.expected_runtime, abs=4 * last.std() / np.sqrt(40))
    assert cgc.plan(8, 1000, LAW, method="mean_time").history is None


def test_history_is_saved_and_older_plans_load(tmp_path):
    made = cgc.plan(4, 100, LAW, method="subgradient", draws=500)
    made.save(tmp_path / "plan.json")
    np.testing.assert_array_equal(cgc.Plan.load(tmp_path / "plan.json").history, made.history)
    form = made.to_dict()
    del form["history"]
    (tmp_path / "older.json").write_text(json.dumps(form))
    assert cgc.Plan.load(tmp_path / "older.json").history is None


def test_history_is_drawn():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    made = cgc.plan(4, 100, LAW, method="subgradient", draws=500)
    ax = made.plot_history()
    batches, means, expected = ax.get_lines()
    np.testing.assert_array_equal(batches.get_ydata(), made.history)
    assert len(batches.get_xdata()) == 500
    # Stretches of 1, 2, 4, ... iterations: 0, 1..2, 3..6, ...
    np.testing.assert_allclose(means.get_ydata()[:2], [made.history[0], made.history[1:3].mean()])
    assert means.get_ydata()[-1] == pytest.approx(made.history[255:].mean())
    assert set(expected.get_ydata()) == {made.expected_runtime}
    assert made.plot_history(ax) is ax
    pyplot.close("all")
    with pytest.raises(cgc.ArgumentValueError, match="history: expected a plan of the method subgradient"):
        cgc.plan(4, 100, LAW, method="uncoded").plot_history()
