"""Schedules with feedback on real engines: what announce and claim promise, without faults."""

from __future__ import annotations

import numpy as np
import pytest

import cgc_fast as cgc
from cgc_fast.schedule import Schedule
from cgc_fast.schemes.pairs import pairs_schedule
from cgc_fast.schemes.shared_samples import shared_samples_schedule
from own_problems import Quadratic

ENGINES = ["serial", "processes"]
WORKERS, SAMPLES, COORDINATES = 6, 60, 40


def announced(schedule):
    return Schedule(schedule.workers, schedule.coordinates, schedule.cells, schedule.walks, "announce")


def claimed(schedule):
    return Schedule(schedule.workers, schedule.coordinates, schedule.cells, schedule.walks, "claim")


SCHEDULES = {
    "pairs": lambda: pairs_schedule(WORKERS, COORDINATES, [(0, 5), (1, 4), (2, 3)], feedback="announce"),
    "shared samples": lambda: shared_samples_schedule(
        WORKERS, COORDINATES, [(0, 1, 2), (3, 4, 5)], pieces=12, ratio=3.0
    ),
    "one group": lambda: shared_samples_schedule(WORKERS, COORDINATES, [range(WORKERS)], pieces=20),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("scheme", SCHEDULES)
def test_gradients_are_exact(engine, scheme):
    problem = Quadratic.random(SAMPLES, COORDINATES)
    schedule = SCHEDULES[scheme]()
    generator = np.random.default_rng(0)
    with cgc.Cluster(schedule, problem, engine=engine) as cluster:
        for _ in range(20):
            theta = generator.normal(size=COORDINATES)
            error = abs(cluster.gradient(theta) - problem.gradient(theta)).max()
            assert error <= 1e-12 * problem.scale(theta, WORKERS)
            report = cluster.last_report
            decoded = [d.cell for d in report.deliveries]
            assert sorted(set(decoded)) == list(range(len(schedule.cells)))
            if schedule.feedback == "claim":  # no cell is in two sums
                assert len(decoded) == len(schedule.cells)


@pytest.mark.parametrize("forward_cycles", [0.0, 30.0])
@pytest.mark.parametrize("scheme", SCHEDULES)
def test_serial_time_is_the_simulated_time(scheme, forward_cycles):
    schedule = SCHEDULES[scheme]()
    problem = Quadratic.random(SAMPLES, COORDINATES)
    draws = np.random.default_rng(2).exponential(size=(30, WORKERS))
    draws[3, 0] = draws[4, 2] = np.inf
    options = {"cycles_per_derivative": 2.0, "forward_cycles": forward_cycles}
    simulated = cgc.simulate(schedule, draws, samples=SAMPLES, details=True, **options)
    with cgc.Cluster(schedule, problem, engine="serial", cycle_times=draws, **options) as cluster:
        for draw in range(len(draws)):
            cluster.gradient(np.zeros(COORDINATES))
            report = cluster.last_report
            assert report.elapsed_s == pytest.approx(simulated.runtime[draw], rel=1e-12)
            for cell, at_s in report.decoded_s.items():
                assert at_s == pytest.approx(simulated.decode_times[draw, cell], rel=1e-12)
