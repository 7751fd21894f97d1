"""Payloads sent as float32: what is left of the gradient, what is refused, what is put in its place."""

from __future__ import annotations

import logging
import pickle
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

import cgc_fast as cgc
from cgc_fast.codes import CyclicCode, RepetitionCode
from cgc_fast.errors import ArgumentValueError, NonFiniteGradient, NumericalError
from cgc_fast.payloads import loss_of, loss_size, place_for_values, round_values
from cgc_fast.plans import Plan
from cgc_fast.schemes import cyclic_schedule, fractional_repetition_schedule, shared_samples_schedule

WORKERS, COORDINATES, SAMPLES = 6, 41, 60


def least_squares(scale=1.0):
    rng = np.random.default_rng(5)
    features = scale * rng.standard_normal((SAMPLES, COORDINATES))
    return cgc.problems.LeastSquares(features, rng.standard_normal(SAMPLES))


def exact_gradient(problem, theta):
    problem.begin(theta, 1)
    out = np.empty(COORDINATES)
    problem.derivatives(0, COORDINATES, np.array([[0, SAMPLES]]), np.ones(1), out)
    return out, problem.value(np.array([[0, SAMPLES]]), np.ones(1))


def magnitudes(problem, theta):
    """max_l Σ_parts |∂_l f_part|, the unit of errors."""
    problem.begin(theta, 1)
    sums, out = np.zeros(COORDINATES), np.empty(COORDINATES)
    for part in range(WORKERS):
        bounds = np.array([[part * SAMPLES // WORKERS, (part + 1) * SAMPLES // WORKERS]])
        problem.derivatives(0, COORDINATES, bounds, np.ones(1), out)
        sums += np.abs(out)
    return sums.max()


def cyclic(payload, **keywords):
    return cyclic_schedule(WORKERS, COORDINATES, [6, 7, 9, 8, 6, 5], payload=payload, **keywords)


SCHEDULES = {
    "cyclic": cyclic("float32"),
    "repetition": replace(
        fractional_repetition_schedule(WORKERS, COORDINATES, [6, 7, 9, 8, 6, 5]), payload="float32"
    ),
}


@pytest.mark.parametrize("engine", ["serial", "processes"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_the_gradient_is_within_the_promise_for_float32_and_the_loss_as_good_as_ever(engine, name):
    schedule, problem = SCHEDULES[name], least_squares()
    promise = max(cell.code.promise_for("float32") for cell in schedule.cells)
    theta = np.random.default_rng(1).standard_normal(COORDINATES)
    times = np.tile([1e-5, 2e-5, 3e-5, 1e-5, 2e-5, 4e-5], (2, 1))
    exact, exact_loss = exact_gradient(problem, theta)
    with cgc.Cluster(schedule, problem, engine, times) as cluster:
        loss, gradient = cluster.value_and_gradient(theta)
        again = cluster.gradient(theta)
    assert gradient.dtype == np.float64
    error = np.abs(gradient - exact).max() / magnitudes(problem, theta)
    assert 1e-12 < error <= promise  # rounded on the way, and no more than that
    assert np.abs(again - exact).max() <= promise * magnitudes(problem, theta)
    assert loss == pytest.approx(exact_loss, rel=1e-9)


def test_both_engines_give_the_same_bits():
    problem, theta = least_squares(), np.linspace(-1, 1, COORDINATES)
    gradients = []
    for engine in ("serial", "processes"):
        # The same order of arrival, with gaps that no scheduler closes.
        times = 1e-5 * np.array([[1.0, 8.0, 3.0, 12.0, 5.0, 20.0]])
        with cgc.Cluster(SCHEDULES["cyclic"], problem, engine, times) as cluster:
            gradients.append(cluster.gradient(theta))
    np.testing.assert_array_equal(*gradients)


def test_missing_workers_are_made_up_for():
    problem, theta = least_squares(), np.ones(COORDINATES)
    schedule = cyclic_schedule(WORKERS, COORDINATES, [0, 0, 20, 21, 0, 0], payload="float32")
    exact, _ = exact_gradient(problem, theta)
    times = np.ones((15, WORKERS))
    for iteration, pair in enumerate((a, b) for a in range(WORKERS) for b in range(a)):
        times[iteration, pair] = np.inf
    with cgc.Cluster(schedule, problem, "serial", times) as cluster:
        for _ in range(len(times)):
            error = np.abs(cluster.gradient(theta) - exact).max() / magnitudes(problem, theta)
            assert error <= max(cell.code.promise_for("float32") for cell in schedule.cells)


def test_what_float32_cannot_hold_is_not_taken_for_a_gradient():
    with (
        cgc.Cluster(SCHEDULES["cyclic"], least_squares(1e20), "serial") as cluster,
        pytest.raises(NonFiniteGradient, match="sent NaN or infinity"),
    ):
        cluster.gradient(np.ones(COORDINATES))


# --- the schedule ---------------------------------------------------------------------------------------


def test_a_schedule_keeps_its_payload():
    assert cyclic("float64").payload == "float64"
    assert pickle.loads(pickle.dumps(SCHEDULES["cyclic"])).payload == "float32"
    draws = np.random.default_rng(0).exponential(size=(20, WORKERS))
    np.testing.assert_array_equal(
        cgc.simulate(cyclic("float32"), draws), cgc.simulate(cyclic("float64"), draws)
    )


def test_other_payloads_are_refused():
    with pytest.raises(ArgumentValueError, match="payload: expected one of float32, float64; got 'float16'"):
        cyclic("float16")
    with pytest.raises(
        ArgumentValueError, match="payload: expected 'float64' with feedback='claim', got 'float32'"
    ):
        replace(shared_samples_schedule(4, 10, [[0, 1], [2, 3]]), payload="float32")


def refuse_float32(monkeypatch, levels):
    """Let the cyclic codes of these levels leave nothing of float32 payloads."""

    def promise(code):
        if code.redundancy in levels:
            raise NumericalError(f"{code!r}: float32 payloads may be off by 1.0; use float64 payloads")
        return 1e-4

    monkeypatch.setattr(CyclicCode, "_single_promise", promise)


def test_a_code_that_leaves_too_little_is_an_error_that_names_the_alternatives(monkeypatch):
    refuse_float32(monkeypatch, {2})
    with pytest.raises(ArgumentValueError, match=r"because of cell 7, .*redundancy=2.*code='auto'"):
        cyclic("float32")
    cyclic("float64")


def plan_of(scheme="cyclic"):
    made = cgc.plan(WORKERS, COORDINATES, cycle_time=stats.expon(loc=1, scale=10), method="mean_time")
    return replace(made, scheme=scheme, block_sizes=np.array([6, 7, 9, 8, 6, 5]))


def test_auto_replaces_the_codes_that_leave_too_little_and_no_others(monkeypatch, caplog):
    refuse_float32(monkeypatch, {2, 4})
    plan: Plan = plan_of()
    with pytest.raises(ArgumentValueError, match="expected 'float64' because of cell 7"):
        plan.schedule(payload="float32")
    with caplog.at_level(logging.WARNING, "cgc_fast"):
        schedule = plan.schedule(code="auto", payload="float32")
    assert [record.args for record in caplog.records] == [("2, 4", "float32", 6 / 5, 4)]
    asked = plan.schedule()
    repeated = plan.schedule(code="repetition")
    for start, _ in asked.blocks:
        level = int(np.searchsorted(np.cumsum(plan.block_sizes), start, side="right"))
        model = repeated if level in (2, 4) else asked
        over = [
            [(cell.low, cell.high, cell.code) for cell in made.cells if cell.start <= start < cell.stop]
            for made in (schedule, model)
        ]
        assert over[0] == over[1]
        assert (
            min(schedule.tolerance(c) for c, cell in enumerate(schedule.cells) if cell.start == start)
            >= level
        )
    problem, theta = least_squares(), np.ones(COORDINATES)
    with cgc.Cluster(schedule, problem, "serial") as cluster:
        error = np.abs(cluster.gradient(theta) - exact_gradient(problem, theta)[0]).max()
    assert error <= 1e-4 * magnitudes(problem, theta)


def test_auto_takes_cyclic_codes_in_groups_before_repetition(monkeypatch, caplog):
    workers, sizes = 7, np.array([5, 6, 7, 8, 5, 4, 6])
    refused = {(7, 1), (7, 2), (4, 2)}  # in groups: 3 + 2 + 2 at level 1, 4 + 3 at level 2

    def promise(code):
        if (code.workers, code.redundancy) in refused:
            raise NumericalError(f"{code!r}: float32 payloads may be off by 1.0; use float64 payloads")
        return 1e-4

    monkeypatch.setattr(CyclicCode, "_single_promise", promise)
    plan = cgc.plan(workers, COORDINATES, cycle_time=stats.expon(loc=1, scale=10), method="mean_time")
    plan = replace(plan, block_sizes=sizes)
    with caplog.at_level(logging.WARNING, "cgc_fast"):
        schedule = plan.schedule(code="auto", payload="float32")
    assert [record.args for record in caplog.records] == [("1-2", "float32", 7 / 6, 2)]
    models = {1: plan.schedule("grouped"), 2: plan.schedule("repetition")}
    for level in range(workers):
        model = models.get(level, plan.schedule())
        start = sizes[:level].sum()
        own, other = ([c for c in made.cells if c.start <= start < c.stop] for made in (schedule, model))
        assert [(c.low, c.high, c.code) for c in own] == [(c.low, c.high, c.code) for c in other]
    problem, theta = least_squares(), np.ones(COORDINATES)
    for engine in ("serial", "processes"):
        with cgc.Cluster(schedule, problem, engine) as cluster:
            error = np.abs(cluster.gradient(theta) - exact_gradient(problem, theta)[0]).max()
        assert error <= 1e-4 * magnitudes(problem, theta)
    with pytest.raises(
        ArgumentValueError, match=r"CyclicCode\(workers=4, redundancy=2, seed=0\).*code='auto'"
    ):
        plan.schedule("grouped", payload="float32")


def test_auto_takes_rows_that_are_shared_unequally_before_repetition(monkeypatch, caplog):
    # Any 4 of 8 may be missing; 5 and 8 have no common divisor. Of rows that 3, 3 and 2 workers visit no more
    # than one can be lost.
    def promise(code):
        if code.workers == 8:
            raise NumericalError(f"{code!r}: float32 payloads may be off by 1.0; use float64 payloads")
        return 1e-4

    monkeypatch.setattr(CyclicCode, "_single_promise", promise)
    sizes = np.zeros(8, dtype=np.int64)
    sizes[4] = COORDINATES
    with caplog.at_level(logging.WARNING, "cgc_fast"):
        schedule = cyclic_schedule(8, COORDINATES, sizes, payload="float32", substitute=True)
    assert [record.args for record in caplog.records] == [
        ("4", "float32", float(Fraction(2, 3) / Fraction(5, 8)), 4)
    ]
    assert [cell.code for cell in schedule.cells] == [CyclicCode(3, 1)]
    assert [walk.rows.tolist() for walk in schedule.walks] == [[row] for row in (0, 0, 0, 1, 1, 1, 2, 2)]
    assert schedule.tolerance(0) == 4


def test_auto_replaces_a_code_for_which_no_matrix_is_found(monkeypatch, caplog):
    monkeypatch.setattr("cgc_fast.codes.choose_matrix", fail_at_two)
    with caplog.at_level(logging.WARNING, "cgc_fast"):
        schedule = plan_of().schedule(code="auto")
    assert [record.args[0] for record in caplog.records] == ["2"]
    assert sum(isinstance(cell.code, CyclicCode) for cell in schedule.cells) == 3


def fail_at_two(workers, redundancy, seed):
    from cgc_fast.cyclic_matrices import choose_matrix

    if redundancy == 2:
        raise NumericalError("no cyclic code keeps the promised error")
    return choose_matrix(workers, redundancy, seed)


def test_auto_changes_nothing_where_every_code_does(caplog):
    with caplog.at_level(logging.DEBUG, "cgc_fast"):
        schedule = plan_of().schedule(code="auto", payload="float32")
        repeated = plan_of("fractional_repetition").schedule(code="auto", payload="float32")
    assert not caplog.records
    assert [cell.code for cell in schedule.cells] == [cell.code for cell in cyclic("float32").cells]
    assert all(isinstance(cell.code, RepetitionCode) for cell in repeated.cells)
    assert repeated.payload == "float32"


# --- their layout ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("width", [1, 2, 7])
def test_the_loss_is_float64_behind_the_values(dtype, width):
    payload = np.zeros(width + loss_size(np.dtype(dtype)), dtype)
    loss_of(payload, width)[0] = np.pi
    values = place_for_values(payload, width)
    values[:] = np.arange(width) + 0.1
    round_values(values, payload)
    np.testing.assert_array_equal(payload[:width], (np.arange(width) + 0.1).astype(dtype))
    assert loss_of(payload, width)[0] == np.pi
    assert loss_of(payload[:width], width).size == 0
    assert np.shares_memory(values, payload) == (dtype == np.float64)
