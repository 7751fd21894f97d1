import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgc_fast import reference
from cgc_fast.codes import RepetitionCode
from cgc_fast.errors import ArgumentTypeError, ArgumentValueError
from cgc_fast.runtime_model import runtime
from cgc_fast.schedule import Cell, Schedule, Walk
from cgc_fast.schemes import cyclic_schedule, fractional_repetition_schedule, uncoded_schedule
from cgc_fast.simulation import Simulation, simulate
from small_schedules import any_codes, costs, cycle_time, delay, latency, repetition_codes, rows_of, schedules

ALONE, EITHER = RepetitionCode(1), RepetitionCode(2)


def exponential_times(workers, draws=50, seed=1):
    return 0.05 + np.random.default_rng(seed).exponential(1.0, (draws, workers))


def with_feedback(made, feedback):
    return Schedule(made.workers, made.coordinates, made.cells, made.walks, feedback)


def cyclic_runtime(sizes, times, samples, cycles_per_derivative, forward_cycles):
    """(M/N) max T_(N-n) (b W_n + c (n+1)) over the levels with x_n > 0."""
    workers, levels = len(sizes), np.flatnonzero(sizes)
    work = np.cumsum((np.arange(workers) + 1) * sizes)
    forward = forward_cycles * (np.arange(workers) + 1)
    cycles = samples / workers * (cycles_per_derivative * work + forward)
    ranked = np.sort(times, axis=1)[:, ::-1]  # column n is T_(N-n)
    return np.max([np.where(cycles[n], ranked[:, n], 0) * cycles[n] for n in levels], axis=0)


def relative_error(made):
    """Bound on the relative rounding error of a runtime.

    The height of a cell or a part, or of a run of touched samples, is a difference of fractions k/g below 1,
    each within 2^-53; it is at least 1/N, so its relative error is at most 2 N 2^-53. A cumulative cost adds
    one rounding a visit; 2^-50 covers the few products around.
    """
    return 2 * made.workers * 2.0**-53 + max(map(len, made.walks)) * 2.0**-53 + 2.0**-50


class TestWithoutFeedback:
    @given(st.data(), costs)
    def test_cyclic_blocks_have_the_published_runtime(self, data, cost):
        workers = data.draw(st.integers(1, 8))
        sizes = np.array(data.draw(st.lists(st.integers(0, 5), min_size=workers, max_size=workers)))
        sizes[data.draw(st.integers(0, workers - 1))] += 1
        times = data.draw(rows_of(workers, cycle_time))
        made = cyclic_schedule(workers, int(sizes.sum()), sizes)
        expected = cyclic_runtime(sizes, times, **cost)
        np.testing.assert_allclose(simulate(made, times, **cost), expected, rtol=relative_error(made))

    def test_many_cyclic_levels(self):
        sizes = np.random.default_rng(0).multinomial(3000, np.full(150, 1 / 150))
        sizes[::7] = 0
        made = cyclic_schedule(150, int(sizes.sum()), sizes)
        times = exponential_times(150)
        times[:, 3] = np.inf
        for c in (0.0, 900.0):
            np.testing.assert_allclose(
                simulate(made, times, samples=50, cycles_per_derivative=2.0, forward_cycles=c),
                cyclic_runtime(sizes, times, 50, 2.0, c),
                rtol=relative_error(made),
            )

    @pytest.mark.parametrize("forward_cycles", [0.0, 25.0])
    @pytest.mark.parametrize(
        ("scheme", "make"),
        [("cyclic", cyclic_schedule), ("fractional_repetition", fractional_repetition_schedule)],
    )
    def test_equals_the_runtime_that_plans_are_made_by(self, scheme, make, forward_cycles):
        for workers in (1, 2, 7, 20):
            sizes = np.random.default_rng(workers).multinomial(40, np.full(workers, 1 / workers))
            times = exponential_times(workers)
            times[::5, 0] = np.inf
            cost = {"samples": 9, "cycles_per_derivative": 2.0, "forward_cycles": forward_cycles}
            made = make(workers, 40, sizes)
            np.testing.assert_allclose(
                simulate(made, times, **cost),
                runtime(sizes, times, **cost, scheme=scheme),
                rtol=2 * relative_error(made),  # one for each side
            )

    @pytest.mark.parametrize("workers", [1, 5, 12])
    def test_fractional_repetition_waits_for_the_fastest_of_the_slowest_group(self, workers):
        sizes = np.arange(1, workers + 1)
        made = fractional_repetition_schedule(workers, int(sizes.sum()), sizes)
        times = exponential_times(workers)
        groups = workers // (np.arange(workers) + 1)
        expected = np.zeros(len(times))
        for g in np.unique(groups):
            work = np.sum(sizes[groups >= g] / groups[groups >= g])
            group = np.arange(workers) * g // workers
            slowest = np.max([times[:, group == k].min(axis=1) for k in range(g)], axis=0)
            expected = np.maximum(expected, 7 * work * slowest)
        np.testing.assert_allclose(simulate(made, times, samples=7), expected, rtol=relative_error(made))

    @given(schedules(), st.data(), costs, latency)
    def test_twin(self, made, data, cost, latency):
        compare_with_twin(made, data, cost, latency)

    def test_near_ties_are_resolved(self):
        # Costs that differ by worker through rounding only, delays that reverse the order of the arrivals.
        made = cyclic_schedule(7, 70, [20, 0, 10, 20, 0, 10, 10])
        times = 1.0 + 1e-15 * np.random.default_rng(0).integers(0, 40, (200, 7))
        delays = 1e-14 * np.random.default_rng(1).integers(0, 40, (200, 7))
        for c in (0.0, 11.0):
            got = simulate(made, times, forward_cycles=c, delay=delays, details=True)
            for draw in range(len(times)):
                runtime, decode_times, _ = reference.simulate(
                    made, times[draw], delays[draw], forward_cycles=c
                )
                # The order statistics themselves are exact; the costs of the twin are rounded otherwise.
                np.testing.assert_allclose(got.decode_times[draw], decode_times, rtol=relative_error(made))
                np.testing.assert_allclose(got.runtime[draw], runtime, rtol=relative_error(made))
            np.testing.assert_array_equal(simulate(made, times, forward_cycles=c, delay=delays), got.runtime)

    def test_a_worker_that_never_answers(self):
        times = np.array([[1.0, np.inf, 2.0]])
        assert simulate(uncoded_schedule(3, 6), times).tolist() == [np.inf]
        assert simulate(cyclic_schedule(3, 6, [0, 6, 0]), times).tolist() == [2 * 6 * 2 / 3]


def compare_with_twin(made, data, cost, latency):
    times = data.draw(rows_of(made.workers, cycle_time), label="cycle times")
    delays = data.draw(rows_of(made.workers, delay).map(lambda rows: rows[:1]), label="delays")[0]
    got = simulate(made, times, **cost, delay=delays, latency=latency, details=True)
    np.testing.assert_array_equal(simulate(made, times, **cost, delay=delays, latency=latency), got.runtime)
    for draw in range(len(times)):
        runtime, decode_times, values_sent = reference.simulate(
            made, times[draw], delays, **cost, latency=latency
        )
        # Dyadic numbers of few bits: all sums and products are exact.
        np.testing.assert_array_equal(got.decode_times[draw], decode_times)
        assert got.runtime[draw] == runtime
        np.testing.assert_array_equal(got.values_sent[draw], values_sent)


def pair(width, cells):
    """Two workers that walk towards each other through narrow cells over all samples."""
    cuts = np.linspace(0, width, cells + 1).astype(int)
    tiles = [Cell(start, stop, 0, 1, EITHER) for start, stop in itertools.pairwise(cuts)]
    forward = np.arange(cells)
    walks = [Walk(forward, np.zeros(cells, dtype=int)), Walk(forward[::-1], np.ones(cells, dtype=int))]
    return Schedule(2, width, tiles, walks, "announce")


class TestAnnouncements:
    def test_a_pair_meets_where_their_speeds_say(self):
        # Slices of a coordinate each: they meet after 1200 / (1/1 + 1/3) = 900 seconds.
        result = simulate(pair(1200, 1200), [1.0, 3.0], details=True)
        assert result.runtime.tolist() == [900.0]
        assert result.values_sent.tolist() == [[900.0, 300.0]]

    @given(st.integers(1, 40), st.tuples(cycle_time, cycle_time).filter(lambda t: min(t) < np.inf))
    def test_a_pair_is_late_by_at_most_one_cell(self, cells, times):
        width = 4 * cells
        runtime = simulate(pair(width, cells), times)[0]
        rate = sum(np.inf if t == 0 else 1 / t for t in times)
        meeting = width / rate
        # Until the one cell that is left: whichever of the two is done with it first, in 4 T at most.
        assert meeting <= runtime * (1 + 2.0**-50)
        assert runtime <= meeting * (1 + 2.0**-50) + 4 * min(times)

    def test_latency_wastes_the_time_until_a_worker_knows(self):
        # Worker 0 has the cell at 1; worker 1 goes on with it until 1.5, then has the other after 4 more.
        cells = [Cell(0, 1, 0, 1, EITHER), Cell(1, 2, 0, 1, ALONE)]
        made = Schedule(2, 2, cells, [Walk([0], [0]), Walk([0, 1], [1, 0])], "announce")
        assert simulate(made, [1.0, 4.0]).tolist() == [5.0]
        assert simulate(made, [1.0, 4.0], latency=0.5).tolist() == [5.5]
        assert simulate(made, [1.0, 4.0], latency=100.0).tolist() == [8.0]

    def test_delay_of_a_message_delays_its_announcement(self):
        cells = [Cell(0, 1, 0, 1, EITHER), Cell(1, 2, 0, 1, ALONE)]
        made = Schedule(2, 2, cells, [Walk([0], [0]), Walk([0, 1], [1, 0])], "announce")
        assert simulate(made, [1.0, 4.0], latency=0.5, delay=[1.0, 7.0]).tolist() == [2.5 + 4.0 + 7.0]

    def test_samples_of_skipped_cells_are_not_forwarded(self):
        # Worker 1 never starts cell 1, so cell 2 costs it both halves of the samples.
        halves = [Cell(0, 1, 0, 0.5, ALONE), Cell(0, 1, 0.5, 1, EITHER), Cell(1, 2, 0, 1, ALONE)]
        made = Schedule(2, 2, halves, [Walk([1], [0]), Walk([0, 1, 2], [0, 1, 0])], "announce")
        result = simulate(made, [1.0, 4.0], forward_cycles=1.0, details=True)
        assert result.decode_times.tolist() == [[4.0, 1.0, 4.0 + 4.0 * (1.0 + 0.5)]]

    def test_an_abandoned_forward_pass_counts_as_far_as_it_went(self):
        # Worker 1 has done 3 s of the 4 s of the pass when cell 0 is decoded; cell 1 has the same samples.
        tiles = [Cell(0, 1, 0, 1, EITHER), Cell(1, 2, 0, 1, ALONE)]
        made = Schedule(2, 2, tiles, [Walk([0], [0]), Walk([0, 1], [1, 0])], "announce")
        cost = {"cycles_per_derivative": 4.0, "forward_cycles": 4.0}
        assert simulate(made, [0.375, 1.0], **cost).tolist() == [3.0 + 1.0 + 4.0]
        # Decoded at 6 s, when the pass was over and half of the derivatives were computed for nothing.
        assert simulate(made, [0.75, 1.0], **cost).tolist() == [6.0 + 4.0]

    @given(schedules(feedback="announce"), st.data(), costs, latency)
    def test_twin(self, made, data, cost, latency):
        compare_with_twin(made, data, cost, latency)

    @given(schedules(), st.data(), costs, latency)
    def test_knowing_more_never_delays_a_cell(self, made, data, cost, latency):
        times = data.draw(rows_of(made.workers, cycle_time))
        without = simulate(made, times, **cost, details=True)
        knowing = simulate(with_feedback(made, "announce"), times, **cost, latency=latency, details=True)
        assert (knowing.decode_times <= without.decode_times).all()
        assert (knowing.runtime <= without.runtime).all()


def shared(workers, cells):
    """All workers share full-width cells, each in an order of its own start."""
    tiles = [Cell(0, 3, k / cells, (k + 1) / cells, RepetitionCode(workers)) for k in range(cells)]
    orders = [np.roll(np.arange(cells), -w * cells // workers) for w in range(workers)]
    walks = [Walk(order, np.full(cells, w)) for w, order in enumerate(orders)]
    return Schedule(workers, 3, tiles, walks, "claim")


class TestClaims:
    def test_work_is_shared_by_speed(self):
        # 8 cells of 3/8 cycles take 0.375, 0.375 and 0.75 s; after 1.125 s the first two have three each and
        # the third has one and works on the last until 1.5 s. The others claim that one again, and worker 0
        # has it at 1.5 s too: of a tie the lowest number wins.
        result = simulate(shared(3, 8), [1.0, 1.0, 2.0], details=True)
        assert result.runtime.tolist() == [1.5]
        assert result.values_sent.tolist() == [[3.0, 3.0, 3.0]]

    @given(st.integers(1, 4), st.integers(1, 6), st.data())
    def test_the_dead_cost_only_their_share(self, workers, per_worker, data):
        cells = workers * per_worker
        alive = data.draw(st.sets(st.integers(0, workers - 1), min_size=1))
        times = np.array([1.0 if w in alive else np.inf for w in range(workers)])
        result = simulate(shared(workers, cells), times, samples=cells, details=True)
        # Each cell takes a worker 3 s. The living need ceil(cells / alive) rounds to do everything.
        assert result.runtime.tolist() == [pytest.approx(3.0 * -(-cells // len(alive)), rel=1e-12)]
        assert (result.values_sent[0] == np.where(np.isfinite(times), 3.0, 0.0)).sum() >= workers - len(alive)

    def test_claims_ahead_hide_the_latency(self):
        # Four cells of 3 s, asked for in time, and news that nothing is left, 0.5 s late.
        assert simulate(shared(1, 4), [1.0], samples=4, latency=0.5).tolist() == [4 * 3.0 + 0.5]
        # Even where a cell lasts less than an answer takes: several are claimed at once. The first answer is
        # 4 s late, so that it comes at 4 s, and from then on the worker has always enough.
        assert simulate(shared(1, 8), [1.0], samples=8, latency=4.0).tolist() == [4.0 + 7 * 3.0 + 4.0]

    def test_the_first_cell_needs_no_answer_unless_another_has_it(self):
        tiles = [Cell(0, 3, k / 2, (k + 1) / 2, EITHER) for k in range(2)]
        made = Schedule(2, 3, tiles, [Walk([0, 1], [0, 0]), Walk([0, 1], [1, 1])], "claim")
        # Worker 1 waits for its answer until 0.5 s and has the second cell at 3.5 s; news until 4 s.
        assert simulate(made, [1.0, 1.0], samples=2, latency=0.5).tolist() == [4.0]

    @pytest.mark.parametrize("feedback", ["none", "announce", "claim"])
    def test_threads_change_nothing(self, feedback):
        made = with_feedback(shared(3, 24), feedback)
        times = exponential_times(3, draws=101)
        alone = simulate(made, times, latency=0.125, forward_cycles=2.0, details=True)
        for threads in (0, 2, 3, 200):
            together = simulate(made, times, latency=0.125, forward_cycles=2.0, details=True, threads=threads)
            np.testing.assert_array_equal(together.runtime, alone.runtime)
            np.testing.assert_array_equal(together.decode_times, alone.decode_times)
            np.testing.assert_array_equal(together.values_sent, alone.values_sent)
        assert simulate(made, times[:0], threads=4).shape == (0,)
        with pytest.raises(ArgumentValueError, match="threads: expected an integer >= 0"):
            simulate(made, times, threads=-1)

    def test_a_worker_sends_one_sum_for_each_range_of_coordinates(self):
        tiles = [Cell(0, 2, 0, 0.5, ALONE), Cell(0, 2, 0.5, 1, ALONE), Cell(2, 5, 0, 1, ALONE)]
        made = Schedule(1, 5, tiles, [Walk([0, 1, 2], [0, 0, 0])], "claim")
        result = simulate(made, [1.0], delay=0.25, details=True)
        assert result.decode_times.tolist() == [[5.25] * 3]
        assert result.values_sent.tolist() == [[5.0]]

    def test_nobody_answers(self):
        assert simulate(shared(2, 4), [np.inf, np.inf]).tolist() == [np.inf]

    @given(schedules(feedback="claim", codes=repetition_codes), st.data(), costs, latency)
    def test_twin(self, made, data, cost, latency):
        compare_with_twin(made, data, cost, latency)


@given(schedules(codes=any_codes), st.data(), costs)
def test_times_scale(made, data, cost):
    times = data.draw(rows_of(made.workers, cycle_time))
    for feedback in ("none", "announce"):
        same = with_feedback(made, feedback)
        np.testing.assert_array_equal(simulate(same, 2 * times, **cost), 2 * simulate(same, times, **cost))


class TestArguments:
    MADE = uncoded_schedule(3, 6)

    def test_shapes_of_draws(self):
        assert simulate(self.MADE, [1.0, 2.0, 3.0]).shape == (1,)
        assert simulate(self.MADE, np.ones((5, 3), dtype=np.float32)).shape == (5,)
        assert simulate(self.MADE, np.ones((0, 3))).shape == (0,)
        np.testing.assert_array_equal(
            simulate(self.MADE, np.arange(12.0).reshape(3, 4).T), 2 * np.arange(8.0, 12.0)
        )
        with pytest.raises(ArgumentValueError, match=r"shape \(S, 3\) or \(3,\).*got \(5, 4\)"):
            simulate(self.MADE, np.ones((5, 4)))
        with pytest.raises(ArgumentValueError, match=r"got \(1, 5, 3\)"):
            simulate(self.MADE, np.ones((1, 5, 3)))

    def test_delays_broadcast(self):
        times = np.ones((2, 3))
        for same in (0.5, [0.5], [0.5] * 3, [[0.5], [0.5]], np.full((2, 3), 0.5)):
            assert simulate(self.MADE, times, delay=same).tolist() == [2.5, 2.5]
        assert simulate(self.MADE, times, delay=[[0.5], [1.0]]).tolist() == [2.5, 3.0]
        assert simulate(self.MADE, times, delay=[0.0, 0.0, 4.0]).tolist() == [6.0, 6.0]
        with pytest.raises(ArgumentValueError, match=r"broadcasts to \(2, 3\), got \(2,\)"):
            simulate(self.MADE, times, delay=[0.5, 0.5])
        with pytest.raises(ArgumentValueError, match=r"broadcasts to \(2, 3\), got \(3, 3\)"):
            simulate(self.MADE, times, delay=np.ones((3, 3)))

    def test_impossible_times(self):
        for bad in (np.nan, -1.0):
            with pytest.raises(ArgumentValueError, match="cycle_times: expected seconds >= 0"):
                simulate(self.MADE, [1.0, bad, 1.0])
            with pytest.raises(ArgumentValueError, match="delay: expected seconds >= 0"):
                simulate(self.MADE, [1.0, 1.0, 1.0], delay=bad)
        with pytest.raises(ArgumentValueError, match="latency: expected a finite number >= 0"):
            simulate(self.MADE, [1.0, 1.0, 1.0], latency=np.inf)
        with pytest.raises(ArgumentTypeError, match="cycle_times: expected numbers"):
            simulate(self.MADE, ["fast", "slow", "slow"])

    def test_a_schedule_is_wanted(self):
        with pytest.raises(ArgumentTypeError, match="schedule: expected a Schedule, got list"):
            simulate([1, 2, 3], [1.0, 1.0, 1.0])

    def test_details(self):
        result = simulate(self.MADE, np.ones((4, 3)), details=True)
        assert isinstance(result, Simulation)
        assert result.runtime.shape == (4,)
        assert result.decode_times.shape == (4, 3)
        assert result.values_sent.tolist() == [[6.0] * 3] * 4
