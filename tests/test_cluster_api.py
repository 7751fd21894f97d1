"""What a user asks of a cluster besides a plain gradient, for every engine where it makes sense."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import os
import signal
import threading
import time
import warnings

import numpy as np
import pytest
from scipy import stats

import cgc_fast as cgc
from cgc_fast._core import are_vectors
from cgc_fast.engines import Lost
from cgc_fast.reports import EventLog, LoggedSchedule, MeasuredTimes, read_events
from cgc_fast.schemes.cyclic import cyclic_schedule
from cgc_fast.schemes.fractional_repetition import fractional_repetition_schedule
from cgc_fast.schemes.single_level import single_level_schedule
from cgc_fast.schemes.uncoded import uncoded_schedule
from own_problems import Fault, Quadratic, Scripted

ENGINES = ["serial", "processes"]
SAMPLES, COORDINATES = 23, 40
THETA = np.linspace(-1, 1, COORDINATES)
SIZES = np.array([10, 10, 20, 0])  # of four workers
# A worker with this cycle time sleeps for as long as a test may last, one with the other not at all.
FOREVER, AT_ONCE = 1e6, 1e-9

PROBLEM = Quadratic.random(SAMPLES, COORDINATES)
EXPECTED = PROBLEM.gradient(THETA)


def assert_exact(gradient, where=slice(None), expected=EXPECTED):
    """Within the error norm; what was computed at another theta would be far off."""
    difference = abs(gradient - expected)[where]
    assert difference.max() <= 1e-9 * PROBLEM.scale(THETA, 4)


def schedules(coordinates):
    sizes = np.array([coordinates // 4, coordinates // 4, 0, 0])
    sizes[2] = coordinates - sizes.sum()
    return {
        "uncoded": uncoded_schedule(4, coordinates),
        "single level": single_level_schedule(4, coordinates, 2),
        "cyclic": cyclic_schedule(4, coordinates, sizes),
        "repetition": fractional_repetition_schedule(4, coordinates, sizes),
    }


@pytest.fixture(params=ENGINES, scope="module")
def cluster(request):
    """Four workers for all tests; no worker may be missing for the first ten coordinates."""
    with cgc.Cluster(cyclic_schedule(4, COORDINATES, SIZES), PROBLEM, engine=request.param) as made:
        yield made


def stuck_cluster(engine="processes", iterations=1):
    """The first iterations would last for ever, those after them no time."""
    draws = np.full((iterations + 5, 4), AT_ONCE)
    draws[:iterations] = FOREVER
    return cgc.Cluster(cyclic_schedule(4, COORDINATES, SIZES), PROBLEM, engine=engine, cycle_times=draws)


# --- out ------------------------------------------------------------------------------------------------


def test_out_is_filled_and_returned(cluster):
    out = np.full(COORDINATES, np.nan)
    assert cluster.gradient(THETA, out=out) is out
    assert_exact(out)
    partial = cluster.gradient(THETA, out=out, deadline_s=1e6)
    assert partial.values is out
    first, second = cluster.gradient(THETA), cluster.gradient(THETA)
    assert not np.may_share_memory(first, second)


def test_out_may_be_theta_itself(cluster):
    theta = THETA.copy()
    assert cluster.gradient(theta, out=theta) is theta
    assert_exact(theta)
    both = np.concatenate([THETA, np.zeros(COORDINATES // 2)])
    cluster.gradient(both[:COORDINATES], out=both[COORDINATES // 2 :])
    assert_exact(both[COORDINATES // 2 :])


def read_only():
    out = np.zeros(COORDINATES)
    out.flags.writeable = False
    return out


@pytest.mark.parametrize(
    ("out", "kind", "message"),
    [
        ([0.0] * COORDINATES, TypeError, "got list"),
        (np.zeros(COORDINATES, dtype=np.float32), TypeError, "got float32"),
        (np.zeros(COORDINATES + 1), ValueError, r"got shape \(41,\)"),
        (np.zeros((COORDINATES, 1)), ValueError, r"got shape \(40, 1\)"),
        (np.zeros(2 * COORDINATES)[::2], ValueError, "not contiguous"),
        (read_only(), ValueError, "read-only"),
    ],
)
def test_what_out_cannot_be(out, kind, message):
    with cgc.Cluster(uncoded_schedule(4, COORDINATES), PROBLEM, engine="serial") as cluster:
        for call in (cluster.gradient, cluster.value_and_gradient):
            cluster._has_value = True
            with pytest.raises(kind, match=message) as caught:
                call(THETA, out=out)
            assert isinstance(caught.value, cgc.CgcError)
        assert cluster.last_report is None  # no iteration was begun


def test_what_needs_no_second_look():
    theta, gradient, length = np.zeros(8), np.zeros(8), 8
    both = np.zeros(16)
    assert are_vectors(theta, gradient, length)
    assert are_vectors(both[:8], both[8:], length)
    odd = np.frombuffer(bytearray(65), dtype=np.uint8)[1:].view(np.float64)
    fixed = gradient[:]
    fixed.flags.writeable = False
    for other in (
        [0.0] * 8,
        None,
        theta.astype(np.float32),
        theta.astype(">f8"),
        theta[:7],
        theta.reshape(2, 4),
        both[::2],
        odd,
    ):
        assert not are_vectors(other, gradient, length)
        assert not are_vectors(theta, other, length)
    assert not are_vectors(np.ma.masked_array(theta), gradient, length)
    assert not are_vectors(theta, theta, length)
    assert not are_vectors(both[:8], both[7:15], length)
    assert not are_vectors(both[7:15], both[:8], length)
    assert not are_vectors(theta, fixed, length)
    assert are_vectors(fixed, theta, length)


# --- deadlines ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["uncoded", "single level", "cyclic", "repetition"])
def test_a_deadline_in_virtual_time_keeps_what_is_decoded_by_then(scheme):
    schedule = schedules(COORDINATES)[scheme]
    draws = np.random.default_rng(1).exponential(size=(1, 4))
    simulated = cgc.simulate(schedule, draws, samples=SAMPLES, details=True)
    decoded_s = np.zeros(COORDINATES)
    for index, cell in enumerate(schedule.cells):
        over = slice(cell.start, cell.stop)
        decoded_s[over] = np.maximum(decoded_s[over], simulated.decode_times[0, index])
    moments = np.unique(decoded_s)
    between = np.concatenate([[0.5 * moments[0]], 0.5 * (moments[1:] + moments[:-1]), [2 * moments[-1]]])
    for deadline_s in between:
        with cgc.Cluster(schedule, PROBLEM, engine="serial", cycle_times=draws) as cluster:
            partial = cluster.gradient(THETA, deadline_s=deadline_s)
        np.testing.assert_array_equal(partial.decoded, decoded_s <= deadline_s)
        np.testing.assert_array_equal(np.isnan(partial.values), ~partial.decoded)
        assert partial.complete == (deadline_s > moments[-1])
        assert partial.failure is None
        # The clock stops at the deadline, or at the last block.
        assert partial.elapsed_s == pytest.approx(min(deadline_s, moments[-1]), rel=1e-12)
        if partial.decoded.any():
            assert_exact(partial.values, partial.decoded)
        assert f"{partial.decoded.sum()} of {COORDINATES} coordinates" in repr(partial)


@pytest.mark.parametrize("engine", ENGINES)
def test_what_a_straggler_holds_up_is_missing_at_the_deadline(engine):
    draws = np.full((3, 4), AT_ONCE)
    draws[0, 3] = FOREVER
    schedule = cyclic_schedule(4, COORDINATES, SIZES)
    with cgc.Cluster(schedule, PROBLEM, engine=engine, cycle_times=draws) as cluster:
        partial = cluster.gradient(THETA, deadline_s=3.0)
        assert partial.decoded.tolist() == [False] * 10 + [True] * 30
        assert not partial.complete
        assert partial.failure is None
        assert partial.elapsed_s >= 3.0 * (1 - 1e-12)
        assert np.isnan(partial.values[:10]).all()
        assert_exact(partial.values, partial.decoded)
        assert not cluster.last_report.complete
        # What was left undone does not show in the next iterations.
        assert_exact(cluster.gradient(THETA))
        partial = cluster.gradient(THETA, deadline_s=1e6)
        assert partial.complete
        assert partial.failure is None
        assert_exact(partial.values)


def test_a_deadline_of_nothing(cluster):
    partial = cluster.gradient(THETA, deadline_s=0.0)
    assert not partial.decoded.any()
    assert np.isnan(partial.values).all()
    assert partial.failure is None
    assert_exact(cluster.gradient(THETA))
    for bad, kind in ((-1.0, ValueError), (np.nan, ValueError), (np.inf, ValueError), ("soon", TypeError)):
        with pytest.raises(kind, match="deadline_s: expected a finite number >= 0"):
            cluster.gradient(THETA, deadline_s=bad)
    assert_exact(cluster.gradient(THETA))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_hopeless_gradient_has_its_failure_and_what_came_all_the_same(engine):
    draws = np.full((4, 4), AT_ONCE)
    draws[0, 3] = np.inf  # the first block needs everybody
    draws[1, 1:] = np.inf  # no block does with one
    schedule = cyclic_schedule(4, COORDINATES, SIZES)
    with cgc.Cluster(schedule, PROBLEM, engine=engine, cycle_times=draws) as cluster:
        partial = cluster.gradient(THETA, deadline_s=3.0)
        assert isinstance(partial.failure, cgc.DecodeError)
        assert "worker(s) 3 never answer" in str(partial.failure)
        assert partial.decoded.tolist() == [False] * 10 + [True] * 30
        assert np.isnan(partial.values[:10]).all()
        assert_exact(partial.values, partial.decoded)
        # Where nothing at all can come nobody waits for the deadline.
        partial = cluster.gradient(THETA, deadline_s=1e6)
        assert isinstance(partial.failure, cgc.DecodeError)
        assert not partial.decoded.any()
        assert np.isnan(partial.values).all()
        assert partial.elapsed_s < 1e6
        assert_exact(cluster.gradient(THETA))


@pytest.mark.parametrize("engine", ENGINES)
def test_blocks_come_before_the_failure(engine):
    draws = np.full((2, 4), AT_ONCE)
    draws[0, 3] = np.inf
    with cgc.Cluster(uncoded_schedule(4, COORDINATES), PROBLEM, engine=engine, cycle_times=draws) as cluster:
        stream = cluster.stream(THETA)  # an iteration begins even so
        with pytest.raises(cgc.DecodeError, match="never answer"):
            next(stream)
        assert cluster.last_report.iteration == 1
        assert not cluster.last_report.complete
        with pytest.raises(StopIteration):
            next(stream)
        assert_exact(cluster.gradient(THETA))


# --- the loss -------------------------------------------------------------------------------------------


def linear_problems():
    generator = np.random.default_rng(0)
    features = generator.normal(size=(37, 12))
    classes = np.arange(37) % 3
    return {
        "least squares": cgc.problems.LeastSquares(features, generator.normal(size=37)),
        "logistic": cgc.problems.LogisticRegression(features, np.where(classes == 0, -1.0, 1.0)),
        "softmax": cgc.problems.SoftmaxRegression(features, classes, classes=3),
    }


def assert_value_and_gradient(cluster, problem, theta):
    loss, gradient = cluster.value_and_gradient(theta)
    assert isinstance(loss, float)
    # The losses of samples are not negative: their sum is the unit of the error norm. For the derivatives
    # the largest sum of absolute values over samples bounds that over parts from above.
    assert abs(loss - problem.loss(theta)) <= 1e-9 * problem.loss(theta)
    parts = [problem.shard([[i, i + 1]]).gradient(theta) for i in range(problem.samples)]
    assert abs(gradient - problem.gradient(theta)).max() <= 1e-9 * abs(np.array(parts)).sum(axis=0).max()


@pytest.mark.parametrize("kind", ["least squares", "logistic", "softmax"])
@pytest.mark.parametrize("scheme", ["uncoded", "single level", "cyclic", "repetition"])
def test_the_loss_rides_with_the_gradient(kind, scheme):
    problem = linear_problems()[kind]
    schedule = schedules(problem.coordinates)[scheme]
    draws = np.random.default_rng(2).exponential(size=(3, 4))
    with cgc.Cluster(schedule, problem, engine="serial", cycle_times=draws) as cluster:
        for seed in range(2):
            theta = np.random.default_rng(seed).normal(size=problem.coordinates)
            assert_value_and_gradient(cluster, problem, theta)
        # It takes no longer with the loss than without.
        before_s = cluster.last_report.elapsed_s
        cluster.gradient(theta)
    with cgc.Cluster(schedule, problem, engine="serial", cycle_times=draws[[1]]) as cluster:
        cluster.gradient(theta)
        assert cluster.last_report.elapsed_s == before_s


@pytest.mark.parametrize("scheme", ["single level", "repetition"])
def test_the_loss_rides_through_worker_processes(scheme):
    problem = linear_problems()["softmax"]
    theta = np.random.default_rng(3).normal(size=problem.coordinates)
    with cgc.Cluster(schedules(problem.coordinates)[scheme], problem) as cluster:
        for factor in (1.0, -0.5):
            assert_value_and_gradient(cluster, problem, factor * theta)
        out = np.empty(problem.coordinates)
        assert cluster.value_and_gradient(theta, out=out)[1] is out


def test_the_loss_comes_from_the_successor_of_a_worker_too():
    problem = linear_problems()["logistic"]
    theta = np.linspace(-1, 1, problem.coordinates)
    draws = np.full((3, 4), AT_ONCE)
    draws[1, 2] = 1.5 / (problem.samples / 4 * problem.coordinates)  # one second and a half
    # Nobody may be missing, and nobody else holds its samples.
    with cgc.Cluster(uncoded_schedule(4, problem.coordinates), problem, cycle_times=draws) as cluster:
        assert_value_and_gradient(cluster, problem, theta)
        victim = cluster.health().workers[2].process_id
        timer = threading.Timer(0.1, os.kill, (victim, signal.SIGKILL))
        timer.start()
        assert_value_and_gradient(cluster, problem, theta)
        timer.join()
        assert cluster.last_report.lost == [2]
        assert cluster.health().workers[2].deaths == 1
        assert cluster.health().workers[2].process_id not in (None, victim)


def test_the_loss_comes_from_whoever_visits_in_the_place_of_another():
    problem = linear_problems()["least squares"]
    theta = np.linspace(-1, 1, problem.coordinates)
    # Pairs that hold the same: with both slow, one lost is made up for by the other or by its successor.
    schedule = fractional_repetition_schedule(4, problem.coordinates, [0, problem.coordinates, 0, 0])
    draws = np.full((2, 4), AT_ONCE)
    draws[0, :2] = 0.3 / (problem.samples / 2 * problem.coordinates)
    with cgc.Cluster(schedule, problem, cycle_times=draws) as cluster:
        for worker in cluster.health().workers[:1]:
            os.kill(worker.process_id, signal.SIGKILL)
        assert_value_and_gradient(cluster, problem, theta)
        assert_value_and_gradient(cluster, problem, theta)


def test_a_problem_without_value_has_no_loss_to_ask_for(cluster):
    before = cluster.last_report
    with pytest.raises(cgc.ArgumentTypeError, match=r"a method value\(ranges, coefficients\).*Quadratic has"):
        cluster.value_and_gradient(THETA)
    assert cluster.last_report is before


class Overflowing(Quadratic):
    """The loss and the first derivative of each part are finite, their sums are not."""

    def value(self, ranges, coefficients):
        return 1e308

    def derivatives(self, start, stop, ranges, coefficients, out):
        super().derivatives(start, stop, ranges, coefficients, out)
        if self.theta[0] == 1.0:
            out[0] = 1e308


def test_a_loss_that_overflows_is_an_error():
    problem = Overflowing(PROBLEM.weights, PROBLEM.targets)
    with cgc.Cluster(uncoded_schedule(4, COORDINATES), problem, engine="serial") as cluster:
        with pytest.raises(cgc.NonFiniteGradient, match="the loss: the payloads are finite"):
            cluster.value_and_gradient(THETA)
        assert_exact(cluster.gradient(THETA))


def test_an_overflow_does_not_hide_what_else_happened(monkeypatch):
    problem = Overflowing(PROBLEM.weights, PROBLEM.targets)
    with cgc.Cluster(uncoded_schedule(4, COORDINATES), problem, engine="serial") as cluster:
        engine = cluster._master.engine
        wait = engine.wait

        def wait_for_all(timeout_s=None):
            events = wait(timeout_s)
            while not engine.is_idle():
                events += wait()
            # As if a process were gone in the same moment.
            return [*events, Lost(3, -9, "")] if events else events

        monkeypatch.setattr(engine, "wait", wait_for_all)
        monkeypatch.setattr(engine, "replace", lambda worker: None)
        with pytest.raises(cgc.NonFiniteGradient, match="their sum is not"):
            cluster.gradient(np.ones(COORDINATES))
        assert [w.delivered for w in cluster.health().workers] == [1] * 4
        assert cluster.health().workers[3].deaths == 1


# --- futures and asynchronous streams -------------------------------------------------------------------


def test_a_future_has_the_gradient_and_theta_may_be_overwritten(cluster):
    theta = THETA.copy()
    future = cluster.submit(theta)
    theta[:] = np.nan
    assert_exact(future.result(timeout=60))
    assert_exact(cluster.gradient(THETA))  # its turn is over


def test_an_iteration_under_way_makes_the_cluster_busy():
    with stuck_cluster() as cluster:
        future = cluster.submit(THETA)
        assert cluster.last_report.iteration == 1
        for call in (
            cluster.gradient,
            cluster.stream,
            cluster.submit,
            lambda theta: cluster.gradient(theta, deadline_s=1.0),
        ):
            with pytest.raises(cgc.ClusterBusy, match="an iteration is under way"):
                call(THETA)
        assert not future.done()
        assert not future.cancel()  # it is running
    with pytest.raises(cgc.ClusterClosed, match="closed while an iteration was under way"):
        future.result(timeout=60)


@pytest.mark.parametrize("engine", ENGINES)
def test_errors_end_up_in_the_future_and_bad_arguments_do_not(engine):
    draws = np.full((2, 4), AT_ONCE)
    draws[0, 3] = np.inf
    with cgc.Cluster(uncoded_schedule(4, COORDINATES), PROBLEM, engine=engine, cycle_times=draws) as cluster:
        with pytest.raises(cgc.ArgumentValueError, match="theta"):
            cluster.submit(THETA[1:])
        future = cluster.submit(THETA)
        with pytest.raises(cgc.DecodeError, match="never answer"):
            future.result(timeout=60)
        assert_exact(cluster.submit(THETA).result(timeout=60))


def test_futures_can_be_awaited(cluster):
    async def two():
        first = await asyncio.wrap_future(cluster.submit(THETA))
        return first, await asyncio.wrap_future(cluster.submit(THETA + 1))

    first, second = asyncio.run(two())
    assert_exact(first)
    assert_exact(second, expected=PROBLEM.gradient(THETA + 1))


def test_blocks_come_asynchronously_while_other_tasks_run(cluster):
    async def collect():
        gradient = np.full(COORDINATES, np.nan)
        other = asyncio.create_task(asyncio.sleep(0, "ran"))
        async for block in cluster.stream(THETA):
            gradient[block.coordinates] = block.values
        return gradient, await other

    gradient, other = asyncio.run(collect())
    assert_exact(gradient)
    assert other == "ran"
    assert_exact(cluster.gradient(THETA))


def test_a_cancelled_task_ends_its_iteration():
    with stuck_cluster() as cluster:

        async def wait_for_ever():
            async for _ in cluster.stream(THETA):
                raise AssertionError("no block can come")

        async def cancel():
            task = asyncio.create_task(wait_for_ever())
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(cancel())
        assert not cluster.last_report.complete
        assert_exact(cluster.gradient(THETA))


# --- streams --------------------------------------------------------------------------------------------


def test_leaving_a_loop_ends_the_iteration(cluster):
    for _ in cluster.stream(THETA):
        break
    assert_exact(cluster.gradient(THETA))

    async def leave():
        async for _ in cluster.stream(THETA):
            break

    asyncio.run(leave())
    gc.collect()
    assert_exact(cluster.gradient(THETA))


def test_an_error_in_the_loop_ends_the_iteration(cluster):
    def fail():
        for _ in cluster.stream(THETA):
            raise RuntimeError("of the user")

    with pytest.raises(RuntimeError, match="of the user"):
        fail()
    assert_exact(cluster.gradient(THETA))


def test_dropping_a_stream_or_leaving_its_with_ends_the_iteration(cluster):
    stream = cluster.stream(THETA)
    with pytest.raises(cgc.ClusterBusy):
        cluster.gradient(THETA)
    del stream
    gc.collect()
    assert_exact(cluster.gradient(THETA))
    with cluster.stream(THETA) as stream:
        next(stream)
    stream.close()
    assert list(stream) == []
    assert_exact(cluster.gradient(THETA))
    stream.close()  # of an iteration long over: must not end anything
    assert_exact(cluster.gradient(THETA))


def test_workers_are_at_it_from_the_moment_that_there_is_a_stream():
    with cgc.Cluster(uncoded_schedule(4, COORDINATES), PROBLEM) as cluster:
        stream = cluster.stream(THETA)
        assert cluster.last_report.iteration == 1
        # Nobody waits for blocks, and yet what the workers deliver is in memory.
        deadline = time.monotonic() + 60
        while not all(cluster._master.engine.payload(w, w).any() for w in range(4)):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        gradient = np.concatenate([block.values for block in stream])
    assert_exact(gradient)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_closed_cluster_says_so(engine):
    cluster = cgc.Cluster(uncoded_schedule(4, COORDINATES), PROBLEM, engine=engine)
    assert not cluster.closed
    stream = cluster.stream(THETA)
    cluster.close()
    assert cluster.closed
    with pytest.raises(cgc.ClusterClosed):
        next(stream)
    for call in (cluster.gradient, cluster.stream, cluster.submit):
        with pytest.raises(cgc.ClusterClosed, match="make a new one"):
            call(THETA)
    cluster.close()
    # What happened is still known, and its memory is gone even while the cluster is not: see conftest.
    assert not cluster.last_report.complete
    assert cluster.health().slow == ()


def test_closing_from_another_thread_ends_the_iteration():
    with stuck_cluster() as cluster:
        timer = threading.Timer(0.1, cluster.close)
        timer.start()
        with pytest.raises(cgc.ClusterClosed, match="while an iteration was under way"):
            cluster.gradient(THETA)
        timer.join()
        assert cluster.closed


# --- health and measured times --------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_health_names_the_slow(engine):
    # A visit takes 46 ms of the emulated clock, so that the real work does not show.
    draws = np.full((4, 4), 2e-4)
    draws[:, 2] *= 4
    schedule = single_level_schedule(4, COORDINATES, 0)
    with cgc.Cluster(schedule, PROBLEM, engine=engine, cycle_times=draws) as cluster:
        before = cluster.health()
        assert before.slow == ()
        assert all(np.isnan(w.cycle_time_s) and w.delivered == 0 for w in before.workers)
        assert [w.state for w in before.workers] == ["ready"] * 4
        for _ in range(4):
            cluster.gradient(THETA)
        health = cluster.health()
    assert 2 in health.slow
    assert health.workers[2].relative_time > 1.5
    for w in health.workers:
        assert (w.delivered, w.abandoned, w.non_finite, w.deaths, w.suspicions) == (4, 0, 0, 0, 0)
        assert (w.process_id is None) == (engine == "serial")
    if engine == "serial":
        assert health.slow == (2,)
        np.testing.assert_allclose([w.relative_time for w in health.workers], [1, 1, 4, 1])
    header, *lines = str(health).splitlines()
    assert header.split()[:3] == ["worker", "state", "s/cycle"]
    assert [line.split()[:2] for line in lines] == [[str(w), "ready"] for w in range(4)]
    assert [line.endswith("slow") for line in lines] == [w.worker in health.slow for w in health.workers]


def test_health_counts_nan_and_abandoned_work(tmp_path):
    problem = Scripted(PROBLEM.weights, PROBLEM.targets)
    problem.with_script({(1, 0): Fault("nan", times=None)}, tmp_path)
    draws = np.array([[1.0, 2.0, 3.0, 4.0]] * 2)
    schedule = single_level_schedule(4, COORDINATES, 3)  # any one worker decodes, each holds everything
    with cgc.Cluster(schedule, problem, engine="serial", cycle_times=draws) as cluster:
        with pytest.raises(cgc.NonFiniteGradient):
            cluster.gradient(THETA)
        # Each of the four rows was sent once, and once more by somebody else.
        assert sum(w.non_finite for w in cluster.health().workers) == 8
        cluster.gradient(THETA)
        workers = cluster.health().workers
    assert [w.delivered for w in workers] == [1, 0, 0, 0]
    assert sum(w.abandoned for w in workers) >= 3


@pytest.mark.parametrize("engine", ENGINES)
def test_measured_times_are_the_emulated_ones(engine):
    generator = np.random.default_rng(4)
    # The first visits take at least 40 ms.
    draws = 2e-4 * (1 + generator.exponential(size=(4, 4)))
    schedule = cyclic_schedule(4, COORDINATES, SIZES)
    with cgc.Cluster(schedule, PROBLEM, engine=engine, cycle_times=draws) as cluster:
        with pytest.raises(cgc.ArgumentValueError, match="no iteration has been measured yet"):
            cluster.trace()
        for _ in range(4):
            cluster.gradient(THETA)
        trace = cluster.trace()
    assert trace.times.shape == (4, 4)
    assert not trace.censored.any()  # the first block needs everybody
    if engine == "serial":
        np.testing.assert_allclose(trace.times, draws, rtol=1e-12)
    else:  # never sooner; later by what this machine takes to wake up a process
        assert (trace.times >= draws * (1 - 1e-6)).all()
        assert np.median(trace.times / draws) < 1.5
    plan = cgc.plan(workers=4, coordinates=COORDINATES, cycle_time=trace, draws=200)
    assert plan.block_sizes.sum() == COORDINATES
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cgc.PoorFitWarning)  # of sixteen draws
        fitted = cgc.fit(trace)
    assert fitted.law.mean() == pytest.approx(trace.times.mean(), rel=0.5)


@pytest.mark.parametrize("engine", ENGINES)
def test_who_delivered_nothing_is_censored(engine):
    draws = np.full((2, 4), 1e-5)
    draws[0, 1] = draws[1, 2] = FOREVER
    schedule = single_level_schedule(4, COORDINATES, 1)
    with cgc.Cluster(schedule, PROBLEM, engine=engine, cycle_times=draws) as cluster:
        for _ in range(2):
            cluster.gradient(THETA)
        trace = cluster.trace()
        elapsed_s = cluster.last_report.elapsed_s
    assert trace.censored[0, 1]
    assert trace.censored[1, 2]
    assert (trace.times <= np.where(trace.censored, draws, np.inf)).all()
    # Longer than the iteration for its only visit, half of all samples.
    assert trace.times[1, 2] == pytest.approx(elapsed_s / (SAMPLES / 2 * COORDINATES), rel=1e-12)


def test_work_in_the_place_of_others_counts_as_work():
    times = MeasuredTimes([{0: 10.0, 1: 20.0}, {2: 10.0, 3: 20.0}])
    times.begin()
    times.delivered(0, 0, 20.0)
    times.ordered(0, {2: 5.0})
    times.delivered(0, 2, 30.0)  # says nothing by itself: it may have waited for the order
    times.delivered(0, 1, 50.0)
    times.ordered(1, {2: 10.0, 0: 30.0})  # a successor, with the walk of its predecessor
    times.delivered(1, 2, 59.0)
    times.finish(60.0)
    measured, censored = times.table()
    assert censored.tolist() == [[False, True]]
    assert measured[0, 0] == 50.0 / (20.0 + 5.0)
    assert measured[0, 1] == 60.0 / (10.0 + 10.0 + 30.0)
    times.begin()  # nothing is left of the orders
    times.delivered(0, 0, 20.0)
    times.delivered(1, 2, 30.0)
    times.finish(60.0)
    assert times.table()[0][1].tolist() == [2.0, 3.0]


# --- the event log --------------------------------------------------------------------------------------


def logged_run(target, engine="serial", iterations=3):
    schedule = cyclic_schedule(4, COORDINATES, SIZES)
    draws = np.random.default_rng(0).exponential(size=(iterations, 4)) * (1.0 if engine == "serial" else 1e-5)
    reports = []
    with cgc.Cluster(schedule, PROBLEM, engine=engine, cycle_times=draws, events=target) as cluster:
        for _ in range(iterations - 1):
            cluster.gradient(THETA)
            reports.append(cluster.last_report)
        stream = cluster.stream(THETA)
        next(stream)
        stream.close()
        reports.append(cluster.last_report)
    return schedule, reports


@pytest.mark.parametrize("engine", ENGINES)
def test_the_log_reads_back_as_it_was(engine, tmp_path):
    path = tmp_path / "events.jsonl"
    schedule, reports = logged_run(path, engine)
    logged, iterations = cgc.read_events(path)
    assert logged == LoggedSchedule.of(schedule)
    assert list(iterations) == reports
    assert [report.complete for report in reports[:2]] == [True, True]
    if engine == "serial":  # processes may deliver all before the first block is asked for
        assert not reports[2].complete
    assert (logged.workers, logged.coordinates) == (4, COORDINATES)
    assert logged.visits == tuple(len(walk.cells) for walk in schedule.walks)
    filled = [cell for cell in logged.cells if cell.start < cell.stop and cell.low < cell.high]
    assert {(c.start, c.stop): c.tolerance for c in filled} == {(0, 10): 0, (10, 20): 1, (20, 40): 2}
    file = io.StringIO()
    logged_run(file, iterations=2)
    assert len(file.getvalue().splitlines()) == 3  # and the file is the caller's to close


def test_what_befell_workers_is_logged(tmp_path):
    path = tmp_path / "events.jsonl"
    draws = np.full((2, 4), AT_ONCE)
    draws[0, 2] = 1.5 / (SAMPLES / 4 * COORDINATES)  # one second and a half
    with cgc.Cluster(uncoded_schedule(4, COORDINATES), PROBLEM, cycle_times=draws, events=path) as cluster:
        timer = threading.Timer(0.1, os.kill, (cluster.health().workers[2].process_id, signal.SIGKILL))
        timer.start()
        assert_exact(cluster.gradient(THETA))
        timer.join()
        report = cluster.last_report
        assert_exact(cluster.gradient(THETA))
        after = cluster.last_report
    assert [(e.worker, e.what) for e in report.events] == [(2, "lost"), (2, "ready"), (2, "rescue")]
    assert report.events[0].detail == f"exit code {-signal.SIGKILL}"
    assert all(0 <= e.at_s <= report.elapsed_s for e in report.events)
    assert list(cgc.read_events(path)[1]) == [report, after]


def test_what_happens_between_iterations_is_of_the_beginning_of_the_next():
    with cgc.Cluster(single_level_schedule(4, COORDINATES, 1), PROBLEM) as cluster:
        cluster.gradient(THETA)
        victim = cluster.health().workers[2].process_id
        os.kill(victim, signal.SIGKILL)
        while cluster.health().workers[2].deaths == 0:
            assert_exact(cluster.gradient(THETA))
        (lost,) = [e for e in cluster.last_report.events if e.what == "lost"]
        assert 0 <= lost.at_s <= cluster.last_report.elapsed_s


def test_a_log_that_was_cut_off_is_read_up_to_there(tmp_path):
    path = tmp_path / "events.jsonl"
    _, reports = logged_run(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    _, iterations = read_events(path)
    assert [next(iterations), next(iterations)] == reports[:2]
    with pytest.warns(UserWarning, match=r"events\.jsonl, line 4: cut off in the middle"):
        assert next(iterations, None) is None
    path.write_bytes(whole[:-1])  # all of the last line but its end
    assert list(read_events(path)[1]) == reports


def test_what_is_no_event_log_is_refused(tmp_path):
    path = tmp_path / "events.jsonl"
    logged_run(path)
    lines = path.read_bytes().splitlines(keepends=True)

    def refused(content, message):
        path.write_bytes(content)
        with pytest.raises(cgc.ArgumentValueError, match=message):
            list(read_events(path)[1])

    begins = "expected an event log, which begins with its schedule"
    refused(b"", begins)
    refused(lines[1], begins)
    refused(lines[0][:-20], "line 1: expected an event as JSON")
    refused(b"\xff\xfe\x00", "line 1: expected an event as JSON")
    refused(b"[1, 2]\n", "line 1: expected an event as JSON")
    refused(b'{"event":"schedule"}\n', "line 1: expected an event as JSON")
    refused(lines[0] + lines[1][:-20] + b"\n" + lines[2], "line 2: expected an event as JSON")
    refused(lines[0] + lines[1] + b'{"event":"iteration"}\n', "line 3: expected an event as JSON")
    path.write_bytes(lines[0] + b'{"event":"of a later version"}\n' + lines[1])
    assert len(list(read_events(path)[1])) == 1
    with pytest.raises(FileNotFoundError):
        read_events(tmp_path / "absent.jsonl")


def test_a_place_that_cannot_be_written_is_refused_before_any_worker_starts(tmp_path, monkeypatch):
    import subprocess

    def no_process(*_, **__):
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", no_process)
    schedule = uncoded_schedule(4, COORDINATES)
    with pytest.raises(FileNotFoundError):
        cgc.Cluster(schedule, PROBLEM, events=tmp_path / "absent" / "events.jsonl")
    with pytest.raises(cgc.ArgumentTypeError, match="events: expected a path or a text file, got int"):
        cgc.Cluster(schedule, PROBLEM, events=3)


def test_every_schedule_can_be_logged():
    for schedule in schedules(COORDINATES).values():
        file = io.StringIO()
        EventLog(file, schedule).close()
        assert not file.closed
        assert file.getvalue().count("\n") == 1


# The law that the README plans for is one that measured times may be fitted with.
def test_fit_of_measured_times_finds_the_law():
    law = stats.expon(loc=2.0, scale=1.0)
    draws = law.rvs(size=(200, 4), random_state=np.random.default_rng(5))
    with cgc.Cluster(
        single_level_schedule(4, COORDINATES, 0), PROBLEM, engine="serial", cycle_times=draws
    ) as cluster:
        for _ in range(200):
            cluster.gradient(THETA)
        np.testing.assert_allclose(cluster.trace().times, draws, rtol=1e-12)
        # 800 draws: the mean is known to 1 / (3 √800) = 1.2 % of itself.
        assert cgc.fit(cluster.trace()).law.mean() == pytest.approx(law.mean(), rel=0.06)


def test_a_forked_child_leaves_the_iteration_alone(cluster):
    stream = cluster.stream(THETA)
    child = os.fork()
    if child == 0:
        status = 1
        with contextlib.suppress(BaseException):
            assert cluster.closed
            with pytest.raises(cgc.ClusterClosed, match="belong to the process that was forked"):
                cluster.gradient(THETA)
            stream.close()
            del stream
            gc.collect()
            cluster.close()
            status = 0
        os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    gradient = np.full(COORDINATES, np.nan)
    for block in stream:
        gradient[block.coordinates] = block.values
    assert_exact(gradient)
    assert_exact(cluster.gradient(THETA))
