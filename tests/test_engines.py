"""What the serial engine promises, and what is refused before any worker starts."""

from __future__ import annotations

import numpy as np
import pytest

import cgc_fast as cgc
from cgc_fast import engines
from cgc_fast.engines.serial import SerialEngine
from cgc_fast.schedule import Cell, Schedule, Walk
from cgc_fast.schemes.cyclic import cyclic_schedule
from cgc_fast.schemes.fractional_repetition import fractional_repetition_schedule
from cgc_fast.schemes.single_level import single_level_schedule
from cgc_fast.schemes.uncoded import uncoded_schedule
from own_problems import Quadratic, Touched, make_shard

ENGINES = ["serial", "processes"]
SAMPLES, COORDINATES = 23, 40


def schedules(workers, coordinates=COORDINATES):
    sizes = np.zeros(workers, dtype=np.int64)
    share = coordinates // workers
    sizes[:] = share
    sizes[-1] += coordinates - share * workers
    return {
        "uncoded": uncoded_schedule(workers, coordinates),
        "single level": single_level_schedule(workers, coordinates, workers // 2),
        "cyclic": cyclic_schedule(workers, coordinates, sizes),
        "grouped": cyclic_schedule(workers, coordinates, sizes, grouped=True),
        "repetition": fractional_repetition_schedule(workers, coordinates, sizes),
    }


def tolerance(schedule):
    return max(cell.code.promise for cell in schedule.cells)


def error(gradient, problem, theta, workers):
    """The error norm: largest error over largest sum of absolute part derivatives."""
    return abs(gradient - problem.gradient(theta)).max() / problem.scale(theta, workers)


@pytest.mark.parametrize("scheme", ["uncoded", "single level", "cyclic", "grouped", "repetition"])
@pytest.mark.parametrize("workers", [1, 2, 5, 12])
def test_serial_time_is_the_simulated_time(scheme, workers):
    schedule = schedules(workers)[scheme]
    problem = Quadratic.random(SAMPLES, COORDINATES)
    draws = np.random.default_rng(2).exponential(size=(20, workers))
    draws[3, 0] = 50.0
    for forward_cycles in (0.0, 7.5):
        simulated = cgc.simulate(
            schedule, draws, samples=SAMPLES, cycles_per_derivative=2.0, forward_cycles=forward_cycles
        )
        with cgc.Cluster(
            schedule,
            problem,
            engine="serial",
            cycle_times=draws,
            cycles_per_derivative=2.0,
            forward_cycles=forward_cycles,
        ) as cluster:
            for expected in simulated:
                cluster.gradient(np.zeros(COORDINATES))
                # Both sum the same costs of at most `workers` visits, perhaps in another order.
                assert cluster.last_report.elapsed_s == pytest.approx(expected, rel=1e-13)


def test_the_serial_engine_computes_nothing_that_is_decoded_already():
    problem = Quadratic.random(SAMPLES, COORDINATES)
    touched = Touched(problem.weights, problem.targets)
    schedule = fractional_repetition_schedule(4, COORDINATES, np.array([0, 0, 0, COORDINATES]))
    with cgc.Cluster(schedule, touched, engine="serial", cycle_times=[[3.0, 1.0, 2.0, 4.0]]) as cluster:
        cluster.gradient(np.zeros(COORDINATES))
    assert touched.asked == [(0, COORDINATES, [[0, SAMPLES]])]


def test_each_worker_process_holds_only_the_samples_it_needs():
    # The shards of Quadratic are NaN elsewhere, so a finite gradient is the proof; and a factory works alike.
    problem = Quadratic.random(SAMPLES, COORDINATES)
    theta = np.ones(COORDINATES)
    schedule = single_level_schedule(5, COORDINATES, 1)
    for worker in range(5):
        ranges = schedule.sample_ranges(worker, SAMPLES)
        assert sum(high - low for low, high in ranges) < SAMPLES / 2
        assert np.isnan(problem.shard(ranges).weights).any()
    with cgc.Cluster(schedule, problem, factory=make_shard) as cluster:
        assert error(cluster.gradient(theta), problem, theta, 5) <= 1e-9


class _HasBoundaries(Quadratic):
    boundaries = (0, 10, COORDINATES)


class _IsSequential(Quadratic):
    sequential = True


def _backwards():
    cells = [
        Cell(0, 10, 0.0, 1.0, cgc.RepetitionCode(1)),
        Cell(10, COORDINATES, 0.0, 1.0, cgc.RepetitionCode(1)),
    ]
    return Schedule(1, COORDINATES, cells, [Walk(np.array([1, 0]), np.array([0, 0]))])


BAD = [
    (lambda p: cgc.Cluster("plan", p), cgc.ArgumentTypeError, "expected a Schedule"),
    (
        lambda p: cgc.Cluster(schedules(4)["cyclic"], p, engine="mpy"),
        ValueError,
        "mpi, processes, ray, serial; got 'mpy'",
    ),
    (lambda p: cgc.Cluster(uncoded_schedule(4, 7), p), ValueError, "expected 7 coordinates"),
    (lambda p: cgc.Cluster(uncoded_schedule(24, COORDINATES), p), ValueError, "as many samples as workers"),
    (lambda p: cgc.Cluster(uncoded_schedule(4, COORDINATES), object()), TypeError, "problem"),
    (
        lambda p: cgc.Cluster(uncoded_schedule(4, COORDINATES), p, cycle_times=np.ones(4)),
        ValueError,
        r"expected shape \(iterations, 4\)",
    ),
    (
        lambda p: cgc.Cluster(uncoded_schedule(2, COORDINATES), p, cycle_times=[[1.0, np.nan]]),
        ValueError,
        "positive seconds per cycle",
    ),
    (
        lambda p: cgc.Cluster(
            cyclic_schedule(2, COORDINATES, np.array([11, 29])), _HasBoundaries(p.weights, p.targets)
        ),
        ValueError,
        "cuts at coordinate 11",
    ),
    (lambda p: cgc.Cluster(_backwards(), _IsSequential(p.weights, p.targets)), ValueError, "walks back"),
]


@pytest.mark.parametrize(("make", "kind", "message"), BAD, ids=[message for *_, message in BAD])
def test_bad_input_is_refused_before_any_process_starts(make, kind, message, monkeypatch):
    import subprocess

    def no_process(*_, **__):
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", no_process)
    with pytest.raises(kind, match=message) as caught:
        make(Quadratic.random(SAMPLES, COORDINATES))
    assert isinstance(caught.value, cgc.CgcError)


def test_boundaries_and_sequential_problems_that_fit_are_accepted():
    problem = Quadratic.random(SAMPLES, COORDINATES)
    fits = cyclic_schedule(2, COORDINATES, np.array([10, 30]))
    for kind in (_HasBoundaries, _IsSequential):
        with cgc.Cluster(fits, kind(problem.weights, problem.targets), engine="serial") as cluster:
            assert np.isfinite(cluster.gradient(np.zeros(COORDINATES))).all()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("theta", "kind", "message"),
    [
        (np.zeros(COORDINATES + 1), ValueError, r"expected shape \(40,\), got \(41,\)"),
        (np.zeros((2, COORDINATES)), ValueError, "expected shape"),
        (np.array([np.nan] + [0.0] * (COORDINATES - 1)), ValueError, "nan at coordinate 0"),
        (np.zeros(COORDINATES, dtype=complex), TypeError, "real numbers"),
        (["a"] * COORDINATES, TypeError, "real numbers"),
    ],
)
def test_bad_theta_is_refused_and_the_cluster_goes_on(engine, theta, kind, message):
    problem = Quadratic.random(SAMPLES, COORDINATES)
    with cgc.Cluster(uncoded_schedule(2, COORDINATES), problem, engine=engine) as cluster:
        with pytest.raises(kind, match=message):
            cluster.gradient(theta)
        good = np.ones(COORDINATES, dtype=np.float32)
        assert error(cluster.gradient(good), problem, good, 2) <= 1e-12
    with pytest.raises(cgc.ClusterClosed):
        cluster.gradient(np.zeros(COORDINATES))
    cluster.close()


def test_an_engine_of_ones_own_is_registered():
    made = []

    def make(job, color):
        made.append(color)
        return SerialEngine(job)

    problem = Quadratic.random(SAMPLES, COORDINATES)
    schedule = uncoded_schedule(3, COORDINATES)
    with pytest.raises(cgc.ArgumentValueError, match="processes, ray, serial; got 'own'"):
        cgc.Cluster(schedule, problem, engine="own")
    engines.register("own", make)
    with cgc.Cluster(schedule, problem, engine="own", engine_options={"color": "red"}) as cluster:
        theta = np.ones(COORDINATES)
        assert error(cluster.gradient(theta), problem, theta, 3) <= tolerance(schedule)
    assert made == ["red"]
    with pytest.raises(cgc.ArgumentValueError, match="got 'other'"):
        cgc.Cluster(schedule, problem, engine="other")
    with pytest.raises(cgc.ArgumentValueError, match="expected one that no engine has, got 'serial'"):
        engines.register("serial", make)
    engines.unregister("own")
    with pytest.raises(cgc.ArgumentValueError, match="expected one that was registered, got 'own'"):
        engines.unregister("own")
