"""Searches for parameters of schemes: what they promise, what they reach, and that limits are kept."""

from __future__ import annotations

import functools
import json

import numpy as np
import pytest
from scipy import stats

import cgc_fast as cgc
from cgc_fast.arguments import Cost
from cgc_fast.datasets import load_trace
from cgc_fast.errors import ArgumentTypeError, ArgumentValueError
from cgc_fast.scheme_search import (
    SEARCHES,
    Limits,
    PlannedScheme,
    plan_fractional_repetition,
    plan_pairs,
    plan_scheme,
    plan_shared_samples,
    plan_walked,
)
from cgc_fast.scheme_search.composition import (
    Composition,
    balanced_order,
    bounds_within,
    by_speed,
    in_order,
)
from cgc_fast.scheme_search.fractional_repetition import candidate_groups
from cgc_fast.scheme_search.shared_samples import free_feedback
from cgc_fast.schemes import scheme, uncoded_schedule
from cgc_fast.schemes.circles import contiguous_groups, equal_bounds
from cgc_fast.schemes.shared_samples import piece_bounds, shared_samples_schedule
from cgc_fast.straggler_models import IdenticalLaw, LawPerWorker, Trace
from own_problems import Quadratic

COORDINATES = 20_000
UNIT = 1e7  # seconds, times (M/N) b


def draws(workers, start, count, seed=0):
    return start + np.random.default_rng((workers, seed)).exponential(1000.0, (count, workers))


def fresh(planned, start, cost, count=4_000, latency=0.0):
    """Mean on draws that nothing was chosen on, in the units of the published tables, with its error."""
    found = planned.score(draws(planned.workers, start, count, seed=1), cost, latency=latency)
    return found.runtime / UNIT, found.standard_error / UNIT


@functools.cache
def walked(start):
    return plan_walked(draws(20, start, 800), COORDINATES, Cost(20), swaps=5)


def test_the_parameters_survive_json():
    times = draws(6, 50.0, 60)
    for planned in (
        plan_walked(times, 90, Cost(6)),
        plan_pairs(times, 90, Cost(6)),
        plan_fractional_repetition(times, 90, Cost(6)),
        plan_shared_samples(times, 90, Cost(6), group=3),
    ):
        again = PlannedScheme.from_dict(json.loads(json.dumps(planned.to_dict())))
        assert again == planned
        made, remade = planned.schedule(), again.schedule()
        assert [(c.start, c.stop, c.low, c.high) for c in made.cells] == [
            (c.start, c.stop, c.low, c.high) for c in remade.cells
        ]
        for a, b in zip(made.walks, remade.walks, strict=True):
            np.testing.assert_array_equal(a.cells, b.cells)
        assert planned.score(times, Cost(6)) == again.score(times, Cost(6))


@pytest.mark.parametrize("name", ["walked", "pairs", "fractional_repetition"])
@pytest.mark.parametrize("workers", [5, 6])
def test_gradients_are_exact(name, workers):
    problem = Quadratic.random(23, 40)
    model = LawPerWorker([stats.expon(loc=0.1 * (w + 1), scale=1.0) for w in range(workers)])
    planned = plan_scheme(name, model, 40, Cost(23), draws=30, hold_out_draws=50).planned
    cycle_times = model.draw(np.random.default_rng(5), 4)
    theta = np.random.default_rng(1).normal(size=40)
    with cgc.Cluster(planned.schedule(), problem, engine="serial", cycle_times=cycle_times) as cluster:
        for _ in range(4):
            error = abs(cluster.gradient(theta) - problem.gradient(theta)).max()
            # Plain sums of repetition cells: 1e-12 of the part derivatives is their promise.
            assert error <= 1e-12 * problem.scale(theta, workers)


class TestTargets:
    """Means on 4,000 fresh draws against published figures; three standard errors allowed above a target."""

    @pytest.mark.parametrize(("start", "target"), [(50.0, 1.85), (1000.0, 5.45)])
    def test_walked_blocks(self, start, target):
        mean, error = fresh(walked(start), start, Cost(20))
        assert mean <= target + 3 * error
        assert walked(start).schedule().walks[0].cells.size <= walked(start).report["max_messages"]

    def test_walked_blocks_beat_fractional_repetition_and_the_published_optimum(self):
        times = draws(20, 50.0, 1_000)
        plain = plan_fractional_repetition(times, COORDINATES, Cost(20))
        mean, error = fresh(plain, 50.0, Cost(20))
        assert fresh(walked(50.0), 50.0, Cost(20))[0] + 3 * error < mean < 2.820 - 3 * error
        # The bound is that of the sampled problem, and the sizes were made on the same draws.
        assert plain.report["lower_bound"] <= plain.in_sample.runtime * (1 + 1e-12)
        assert plain.in_sample.runtime <= plain.report["lower_bound"] * 1.002

    @pytest.mark.parametrize(
        ("start", "forward", "target"),
        [(50.0, 0.0, 2.24), (50.0, 0.25, 4.05), (50.0, 1.0, 7.95), (1000.0, 0.0, 6.08), (1000.0, 0.25, 9.60)],
    )
    def test_fractional_repetition(self, start, forward, target):
        cost = Cost(20, 1.0, forward * COORDINATES)
        planned = plan_fractional_repetition(draws(20, start, 1_000), COORDINATES, cost)
        mean, error = fresh(planned, start, cost)
        assert mean <= target * 1.01 + 3 * error

    def test_pairs(self):
        planned = plan_pairs(draws(20, 1000.0, 500), COORDINATES, Cost(20))
        mean, error = fresh(planned, 1000.0, Cost(20))
        assert mean <= 5.80 + 3 * error

    def test_pairs_with_persistent_speeds_are_cut_where_they_meet(self):
        times = 3.0 ** np.array([1, 0, 2, 1]) * (1 + 0.1 * np.random.default_rng(0).random((200, 4)))
        planned = plan_pairs(times, 4_000, Cost(4))
        for cuts in planned.parameters["cuts"]:  # the second is three times as fast: it gets 3/4 of the way
            assert np.mean(np.abs(np.array(cuts) - 0.25) < 0.1) > 0.5
        assert planned.in_sample.runtime <= planned.report["narrow_cells_runtime"] * 1.001
        assert planned.parameters["cells"] < 200

    def test_pairs_that_are_told_send_half_of_what_uncoded_sends(self):
        planned = plan_pairs(draws(20, 1000.0, 50), COORDINATES, Cost(20))
        schedule = scheme("pairs", 20, COORDINATES, **{**planned.parameters, "feedback": "announce"})
        times = draws(20, 1000.0, 50, seed=1)
        told = cgc.simulate(schedule, times, samples=20, details=True)
        half = 0.5 * 20 * COORDINATES
        # Twice is sent only where a pair meets: at most a cell, or two if both finish at once.
        widest = max(cell.width for cell in schedule.cells)
        assert (told.values_sent.sum(axis=1) >= half).all()
        assert (told.values_sent.sum(axis=1) <= half + 10 * widest).all()

    @pytest.mark.parametrize(("group", "forward"), [(2, 0.25), (4, 1.0), (20, 0.0)])
    @pytest.mark.parametrize(("delay", "most"), [(0.001, 1.05), (0.01, 1.10)])
    def test_shared_samples(self, forward, group, delay, most):
        cost = Cost(20, 1.0, forward * COORDINATES)
        times = draws(20, 50.0, 300)
        bound = float(free_feedback(times, [range(20)], [0.0, 1.0], COORDINATES, cost).mean())
        planned = plan_shared_samples(
            times, COORDINATES, cost, group=group, limits=Limits(latency=delay * bound)
        )
        groups, bounds = contiguous_groups(20, 20 // group), equal_bounds(20 // group)
        free = free_feedback(draws(20, 50.0, 300, seed=1), groups, bounds, COORDINATES, cost)
        mean, _ = fresh(planned, 50.0, cost, 300, latency=delay * bound)
        assert mean <= most * free.mean() / UNIT  # on the same draws: nothing to allow for


class TestSharedSamples:
    def test_pieces_fall_in_size(self):
        sizes = np.diff(piece_bounds(7, 8.0))
        assert sizes.sum() == pytest.approx(1.0)
        np.testing.assert_allclose(sizes[1:] / sizes[:-1], 8.0 ** (-1 / 6), rtol=1e-12)
        np.testing.assert_allclose(np.diff(piece_bounds(4, 1.0)), 0.25)

    def test_nobody_asks_for_its_first_piece_and_all_may_take_every_piece(self):
        made = shared_samples_schedule(5, 8, [[3, 0], [1, 2, 4]], pieces=6)
        assert made.feedback == "claim"
        assert [made.walks[w].cells.tolist() for w in (3, 0)] == [[0, 2, 3, 4, 5, 1], [1, 2, 3, 4, 5, 0]]
        assert made.walks[2].cells.tolist() == [7, 9, 10, 11, 6, 8]
        assert all(made.tolerance(cell) == made.cells[cell].code.rows - 1 for cell in range(12))
        assert made.cells[0].low == 0.0
        assert made.cells[6].low == 0.4

    def test_a_worker_sends_one_sum(self):
        made = shared_samples_schedule(4, 8, [range(4)], pieces=40)
        times = draws(4, 10.0, 20)
        sent = cgc.simulate(made, times, details=True, latency=0.01).values_sent
        assert set(np.unique(sent)) <= {0.0, 8.0}

    def test_the_dead_cost_only_their_share(self):
        planned = plan_shared_samples(np.ones((1, 4)), 8, Cost(4), loss=0.01)
        times = np.array([[1.0, 1.0, np.inf, 1.0]])
        found = planned.score(times, Cost(4)).runtime
        assert 32 / 3 <= found <= 32 / 3 * 1.1

    def test_unfit_pieces_are_refused(self):
        with pytest.raises(ArgumentValueError, match="pieces: expected an integer >= 3, got 2"):
            shared_samples_schedule(3, 8, [range(3)], pieces=2)
        with pytest.raises(ArgumentValueError, match="ratio: expected a number >= 1"):
            shared_samples_schedule(3, 8, [range(3)], ratio=0.5)
        with pytest.raises(ArgumentValueError, match="expected 3 workers, got 2"):
            shared_samples_schedule(3, 8, [range(2)])


class TestCompositions:
    def test_fast_goes_with_slow(self):
        rates = np.array([8.0, 1.0, 2.0, 7.0, 3.0, 6.0, 5.0, 4.0])
        order = balanced_order(rates)
        assert sorted(order) == list(range(8))
        for size in (2, 4):
            sums = rates[list(order)].reshape(-1, size).sum(axis=1)
            np.testing.assert_array_equal(sums, np.full(8 // size, 4.5 * size))
        assert sorted(balanced_order(np.arange(1.0, 8.0))) == list(range(7))

    def test_groups_nest_and_share_by_weight(self):
        made = Composition("x", (2, 0, 3, 1), (0.4, 0.1, 0.3, 0.2))
        assert made.groups(2) == ((2, 0), (3, 1))
        np.testing.assert_allclose(made.bounds(2), [0.0, 0.5, 1.0])
        np.testing.assert_allclose(made.bounds(4), [0.0, 0.4, 0.5, 0.8, 1.0])
        assert in_order(6).bounds(3) == (0.0, 1 / 3, 2 / 3, 1.0)
        assert in_order(5).groups(2) == ((0, 1, 2), (3, 4))

    def test_shares_are_cut_off_at_what_fits(self):
        assert bounds_within((0.0, 0.3, 1.0), 0.7) == (0.0, 0.3, 1.0)
        # What is cut off goes to the others in proportion, and where that takes one above, to the last.
        np.testing.assert_allclose(bounds_within((0.0, 0.8, 0.85, 1.0), 0.6), [0.0, 0.6, 0.7, 1.0])
        np.testing.assert_allclose(bounds_within((0.0, 0.8, 0.81, 1.0), 0.45), [0.0, 0.45, 0.55, 1.0])
        assert bounds_within((0.0, 0.8, 1.0), 0.5) == (0.0, 0.5, 1.0)
        assert bounds_within((0.0, 0.8, 1.0), 0.4) == (0.0, 0.5, 1.0)

    def test_weights_are_mean_rates(self):
        times = np.array([[1.0, 2.0, np.inf, 0.5]])
        assert by_speed(times)[0].weights is None
        mixed = by_speed(times)[1]
        assert mixed.weights is not None
        assert sorted(mixed.weights) == pytest.approx([0.0, 1 / 7, 2 / 7, 4 / 7])
        assert mixed.order[int(np.argmax(mixed.weights))] == 3
        by_rate = by_speed(times)[2]
        np.testing.assert_allclose(by_rate.weights, np.array([1.0, 0.5, 0.0, 2.0]) / 3.5)

    def test_persistent_speeds_are_found_and_used(self):
        laws = [stats.expon(loc=t, scale=0.01 * t) for t in (1.0, 1.0, 9.0, 9.0, 1.0, 9.0)]
        alone = cgc.simulate(uncoded_schedule(6, 600), LawPerWorker(laws).draw(np.random.default_rng(0), 50))
        for name in ("pairs", "walked"):
            made = plan_scheme(name, LawPerWorker(laws), 600, draws=60, hold_out_draws=200)
            assert made.composition != "in order"
            assert made.hold_out.runtime < 0.35 * alone.mean()
        limited = plan_scheme("pairs", LawPerWorker(laws), 600, max_parts=2, draws=60, hold_out_draws=200)
        assert limited.composition == "fast with slow"

    def test_equal_laws_are_taken_in_order(self):
        made = plan_scheme("pairs", IdenticalLaw(stats.expon(loc=1), 4), 100, draws=50, hold_out_draws=50)
        assert made.composition == "in order"
        assert made.planned.parameters["pairs"] == [[0, 1], [2, 3]]


class TestLimits:
    @pytest.mark.parametrize("name", sorted(SEARCHES))
    @pytest.mark.parametrize("max_parts", [2, 3])
    def test_nobody_holds_more(self, name, max_parts):
        laws = [stats.expon(loc=1.0 + w % 3, scale=1.0) for w in range(7)]
        made = plan_scheme(
            name, LawPerWorker(laws), 84, max_parts=max_parts, min_redundancy=0, draws=60, hold_out_draws=60
        )
        schedule = made.planned.schedule()
        for worker in range(7):
            held = np.diff(schedule.sample_ranges(worker, 420)).sum()
            # Rounding a bound moves it by half a sample, and a worker's samples have few bounds.
            assert held * 7 / 420 <= max_parts + 0.05

    def test_every_cell_survives(self):
        model = IdenticalLaw(stats.expon(loc=1), 9)
        for name in ("walked", "fractional_repetition", "shared_samples"):
            made = plan_scheme(name, model, 90, min_redundancy=2, draws=60, hold_out_draws=60)
            schedule = made.planned.schedule()
            assert min(map(schedule.tolerance, range(len(schedule.cells)))) >= 2
            with pytest.raises(ArgumentValueError, match="min_redundancy"):
                plan_scheme(name, model, 90, min_redundancy=3, max_parts=3, draws=10)
        with pytest.raises(ArgumentValueError, match="a pair survives one death"):
            plan_scheme("pairs", model, 90, min_redundancy=2, draws=10)

    @pytest.mark.parametrize("name", ["walked", "pairs", "fractional_repetition"])
    def test_cells_are_cut_at_boundaries_only(self, name):
        model, boundaries = IdenticalLaw(stats.expon(loc=1), 6), [5, 40, 41, 77]
        made = plan_scheme(name, model, 90, boundaries=boundaries, draws=60, hold_out_draws=60)
        schedule = made.planned.schedule()
        cuts = {cut for cell in schedule.cells for cut in (cell.start, cell.stop)}
        assert cuts <= {0, *boundaries, 90}
        assert made.planned.in_sample.runtime > 0
        again = plan_scheme(name, model, 90, boundaries=range(90), draws=60, hold_out_draws=60)
        free = plan_scheme(name, model, 90, draws=60, hold_out_draws=60)
        assert again.hold_out == free.hold_out

    def test_what_cannot_be_is_refused(self):
        model = IdenticalLaw(stats.expon(loc=1), 4)
        for name in ("walked", "pairs"):
            with pytest.raises(ArgumentValueError, match="expected sequential=False"):
                plan_scheme(name, model, 90, sequential=True, draws=10)
        for name in sorted({*SEARCHES} - {"walked", "pairs"}):
            with pytest.raises(ArgumentValueError, match=r"max_values_sent: expected at least 1, got 0\.5"):
                plan_scheme(name, model, 90, max_values_sent=0.5, draws=10)
        made = plan_scheme("fractional_repetition", model, 90, sequential=True, draws=50, hold_out_draws=50)
        for walk in made.planned.schedule().walks:
            assert (np.diff([made.planned.schedule().cells[cell].start for cell in walk.cells]) > 0).all()

    @pytest.mark.parametrize("name", sorted({*SEARCHES} - {"load_balancing"}))
    def test_workers_that_never_answer(self, name):
        times = 1.0 + np.random.default_rng(0).exponential(1.0, (80, 6))
        times[np.arange(0, 80, 3), np.arange(0, 80, 3) % 6] = np.inf  # never two at once
        made = plan_scheme(name, Trace(times), 120, Cost(6))
        assert np.isfinite(made.hold_out.runtime)
        assert np.isfinite(made.planned.in_sample.runtime)

    def test_announcements_are_asked_for(self):
        model = IdenticalLaw(stats.expon(loc=1), 4)
        for name in ("pairs", "walked"):
            told, untold = (
                plan_scheme(name, model, 90, feedback=feedback, draws=50, hold_out_draws=50)
                for feedback in ("announce", "none")
            )
            assert told.planned.schedule().feedback == "announce"
            assert told.hold_out.runtime <= untold.hold_out.runtime
        with pytest.raises(ArgumentValueError, match="feedback: expected claim"):
            plan_scheme("shared_samples", model, 90, feedback="announce", draws=10)
        with pytest.raises(ArgumentValueError, match="feedback"):
            plan_scheme("pairs", model, 90, feedback="claim", draws=10)

    def test_pairs_need_two(self):
        with pytest.raises(ArgumentValueError, match="at least 2 workers"):
            plan_pairs(np.ones((3, 1)), 10)

    def test_unknown_schemes_are_refused(self):
        with pytest.raises((ArgumentValueError, ArgumentTypeError), match="pairs"):
            plan_scheme("paris", IdenticalLaw(stats.expon(loc=1), 4), 10)

    def test_groups_that_are_tried(self):
        assert candidate_groups(6) == [6, 3, 2, 1]
        assert candidate_groups(20) == [20, 10, 8, 7, 6, 5, 4, 3, 2, 1]
        assert set(candidate_groups(200)) >= {200 // r for r in range(1, 201)} | set(range(1, 9))


@pytest.mark.parametrize(
    ("name", "most"), [("gpu_training_10_workers", 0.25), ("llm_training_32_replicas", 0.90)]
)
def test_measured_traces(name, most):
    """Chosen on the first half, scored on the second; everybody stores two parts."""
    trace = load_trace(name)
    second = trace.times[(len(trace.times) + 1) // 2 :]
    made = plan_scheme("pairs", trace, COORDINATES, Cost(trace.workers), max_parts=2)
    alone = cgc.simulate(uncoded_schedule(trace.workers, COORDINATES), second, samples=trace.workers).mean()
    assert made.hold_out.runtime <= most * alone
    assert made.hold_out.draws == len(second)


def test_shuffled_traces_are_not_taken_for_persistent_ones():
    trace = load_trace("gpu_training_10_workers")
    times = np.random.default_rng(0).permuted(trace.times, axis=1)
    made = plan_scheme("pairs", Trace(times), COORDINATES, Cost(10), max_parts=2)
    plain = plan_pairs(times[: len(times) // 2], COORDINATES, Cost(10)).score(
        times[len(times) // 2 :], Cost(10)
    )
    assert made.hold_out.runtime <= plain.runtime + 2 * plain.standard_error
