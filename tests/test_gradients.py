"""Gradients through worker processes against plain ones: every problem and scheme, with missing workers."""

from __future__ import annotations

import numpy as np
import pytest

import cgc_fast as cgc
from cgc_fast.problems import LeastSquares, LogisticRegression, SoftmaxRegression
from cgc_fast.schedule import sample_index
from cgc_fast.schemes.cyclic import cyclic_schedule
from cgc_fast.schemes.fractional_repetition import fractional_repetition_schedule
from cgc_fast.schemes.single_level import single_level_schedule
from cgc_fast.schemes.uncoded import uncoded_schedule

SAMPLES, FEATURES = 61, 53  # neither divides by any number of workers below


def problems():
    generator = np.random.default_rng(7)
    # Features of very different sizes: an error that is small beside the largest coordinate still shows.
    features = generator.normal(size=(SAMPLES, FEATURES)) * 10.0 ** generator.uniform(-2, 2, FEATURES)
    return {
        "least squares": LeastSquares(features, generator.normal(size=SAMPLES)),
        "logistic": LogisticRegression(features, generator.integers(0, 2, SAMPLES)),
        "softmax": SoftmaxRegression(features, generator.integers(0, 3, SAMPLES), classes=3),
    }


PROBLEMS = problems()


def schedules(workers, coordinates):
    """The schemes; those with blocks use several levels and tolerate a third of the workers."""
    lowest = workers // 3
    sizes = np.zeros(workers, dtype=np.int64)
    sizes[lowest:] = coordinates // (workers - lowest)
    sizes[-1] += coordinates - sizes.sum()
    return {
        "uncoded": uncoded_schedule(workers, coordinates),
        "single level": single_level_schedule(workers, coordinates, workers // 2),
        "cyclic": cyclic_schedule(workers, coordinates, sizes),
        "grouped": cyclic_schedule(workers, coordinates, sizes, grouped=True),
        "repetition": fractional_repetition_schedule(workers, coordinates, sizes),
    }


def missing_sets(schedule, generator):
    """Sets of the largest size that every cell survives: contiguous (the worst for cyclic codes), random."""
    workers = schedule.workers
    size = min(schedule.tolerance(c) for c in range(len(schedule.cells)))
    sets = [[(first + k) % workers for k in range(size)] for first in range(0, workers, max(1, workers // 4))]
    sets += [generator.choice(workers, size, replace=False).tolist() for _ in range(4)]
    return sets


def plain(problem, theta, workers):
    """The plain gradient, and the unit of the error norm: max_l Σ_parts |∂_l f_part|."""
    bounds = [sample_index(k / workers, problem.samples) for k in range(workers + 1)]
    parts = np.empty((workers, problem.coordinates))
    problem.begin(theta, 0)
    for k in range(workers):
        ranges = np.array([[bounds[k], bounds[k + 1]]])
        problem.derivatives(0, problem.coordinates, ranges, np.ones(1), parts[k])
    return problem.gradient(theta), abs(parts).sum(axis=0).max()


@pytest.mark.parametrize("workers", [2, 5, 8, 12])
@pytest.mark.parametrize("scheme", ["uncoded", "single level", "cyclic", "grouped", "repetition"])
@pytest.mark.parametrize("name", PROBLEMS)
def test_gradients_with_missing_workers_are_exact(name, scheme, workers):
    problem = PROBLEMS[name]
    schedule = schedules(workers, problem.coordinates)[scheme]
    generator = np.random.default_rng(workers)
    sets = missing_sets(schedule, generator)
    # Speeds spread over orders of magnitude: each level decodes from another set of workers.
    draws = 10.0 ** generator.uniform(-9, -6.5, (len(sets), workers))
    for row, missing in zip(draws, sets, strict=True):
        row[missing] = np.inf
    tolerance = max(cell.code.promise for cell in schedule.cells)
    assert tolerance <= 1e-9
    with cgc.Cluster(schedule, problem, cycle_times=draws, forward_cycles=0.0) as cluster:
        for missing in sets:
            theta = generator.normal(size=problem.coordinates) / 100
            gradient = cluster.gradient(theta)
            expected, unit = plain(problem, theta, workers)
            assert abs(gradient - expected).max() <= tolerance * unit
            assert not {d.worker for d in cluster.last_report.deliveries} & set(missing)


@pytest.mark.parametrize("workers", [1, 3, 9])
def test_without_emulation_all_schemes_give_the_same_gradient(workers):
    problem = PROBLEMS["softmax"]
    theta = np.linspace(-1, 1, problem.coordinates)
    expected, unit = plain(problem, theta, workers)
    for schedule in schedules(workers, problem.coordinates).values():
        with cgc.Cluster(schedule, problem) as cluster:
            for _ in range(5):
                assert abs(cluster.gradient(theta) - expected).max() <= 1e-9 * unit
