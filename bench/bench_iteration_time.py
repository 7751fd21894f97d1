"""Measured mean iteration time of worker processes over the mean of `simulate`, on the same draws.

Cycle times are emulated (shifted exponential), for c = 0 and for the problem's own forward pass. The problem
is small, so that real computation stays below a tenth of each lane (`busy`, the workers' processor time as a
share of their lanes): what is left over 1 is the overhead of signal, wake-ups and decoding and, with
feedback, of noticing what others have done. That is a matter of milliseconds an iteration at most, so the
ratio depends on how long iterations take (``--uncoded-seconds``). Prints one line a scheme and clock; exits
non-zero above the budget.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

import cgc_fast as cgc
from cgc_fast.problems import SoftmaxRegression
from cgc_fast.schedule import Schedule
from cgc_fast.schemes.pairs import pairs_schedule
from cgc_fast.schemes.shared_samples import shared_samples_schedule
from cgc_fast.schemes.walked import walked_schedule

WORKERS, ITERATIONS, BUDGET = 8, 30, 1.05
PLANS = {
    "uncoded": {"method": "uncoded"},
    "best single level": {"method": "single_level"},
    "cyclic blocks": {"scheme": "cyclic"},
    "fractional repetition blocks": {"scheme": "fractional_repetition"},
}


def schedules(law: Any, problem: SoftmaxRegression, forward_cycles: float) -> Iterator[tuple[str, Schedule]]:
    """Every scheme: planned where the plan is quick, else with parameters of the usual size."""
    length = problem.coordinates
    for name, options in PLANS.items():
        plan = cgc.plan(
            WORKERS, length, law, samples=problem.samples, forward_cycles=forward_cycles, **options
        )
        yield name, plan.schedule()
    yield "pairs", pairs_schedule(WORKERS, length, cells=40)
    yield "pairs, announce", pairs_schedule(WORKERS, length, cells=40, feedback="announce")
    in_twos = [(w, w + 1) for w in range(0, WORKERS, 2)]
    blocks = [
        {"size": length // 5, "groups": in_twos},
        {"size": length - length // 5, "groups": [range(WORKERS)], "starts": 4, "cells": 8},
    ]
    yield "walked", walked_schedule(WORKERS, length, blocks)
    yield "walked, announce", walked_schedule(WORKERS, length, blocks, "announce")
    yield "shared samples, groups of 2", shared_samples_schedule(WORKERS, length, in_twos, pieces=24)
    yield "shared samples, one group", shared_samples_schedule(WORKERS, length, [range(WORKERS)], pieces=64)


def processor_seconds(pids: list[int]) -> float:
    """Processor time that these processes have used so far."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--uncoded-seconds", type=float, default=0.25, help="mean of an uncoded iteration, c = 0"
    )
    parser.add_argument("--only", default="", help="schemes whose name begins so")
    options = parser.parse_args()
    generator = np.random.default_rng(0)
    problem = SoftmaxRegression(generator.normal(size=(301, 500)), generator.integers(0, 10, 301), classes=10)
    theta = generator.normal(size=problem.coordinates) / 100
    expected = problem.gradient(theta)
    slowest = 0.05 + sum(1.0 / k for k in range(1, WORKERS + 1))
    scale = options.uncoded_seconds / (problem.samples / WORKERS * problem.coordinates * slowest)
    law = stats.expon(loc=0.05 * scale, scale=scale)
    draws = law.rvs(size=(ITERATIONS, WORKERS), random_state=generator)

    worst = 0.0
    print(f"{WORKERS} workers, L = {problem.coordinates}, M = {problem.samples}, {ITERATIONS} iterations")
    print(f"{'c':>6} {'scheme':<30} {'simulated ms':>12} {'measured ms':>12} {'ratio':>7} {'busy':>6}")
    for forward_cycles in (0.0, problem.forward_cycles):
        for name, schedule in schedules(law, problem, forward_cycles):
            if not name.startswith(options.only):
                continue
            simulated = cgc.simulate(schedule, draws, samples=problem.samples, forward_cycles=forward_cycles)
            measured = []
            with cgc.Cluster(schedule, problem, cycle_times=draws, forward_cycles=forward_cycles) as cluster:
                pids = [worker.process_id for worker in cluster.health().workers]
                before_s = processor_seconds(pids)
                for _ in range(ITERATIONS):
                    gradient = cluster.gradient(theta)
                    measured.append(cluster.last_report.elapsed_s)
                    if abs(gradient - expected).max() > 1e-9 * abs(expected).max() * WORKERS:
                        print("wrong gradient")
                        return 1
                busy = (processor_seconds(pids) - before_s) / (WORKERS * sum(measured))
            ratio = float(np.mean(measured) / simulated.mean())
            worst = max(worst, ratio)
            print(
                f"{forward_cycles:>6.0f} {name:<30} {1e3 * simulated.mean():>12.2f} "
                f"{1e3 * np.mean(measured):>12.2f} {ratio:>7.4f} {busy:>6.1%}"
            )
    print(f"worst ratio {worst:.4f}, budget {BUDGET}")
    return 0 if worst <= BUDGET else 1


if __name__ == "__main__":
    sys.exit(main())
