"""Time of exact plans: beside a linear program, beside the subgradient method, and against the workers.

Prints ratios of medians beside their budgets and the cost against N; fails if a certificate is missed, not if
it is slow. What is compared is measured in turns, so that a busy machine disturbs all alike.
Run: python bench/bench_exact_plan.py [--largest N, default 1000; a few minutes] [--plot PATH, cost against N]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import optimize, sparse, stats

import cgc_fast as cgc
from cgc_fast.subgradient import minimise_by_subgradient

COORDINATES = 20_000
LAW = stats.expon(loc=50, scale=1000)
BUDGETS = {200: 25.0, 1000: 600.0}  # times the time at N = 50
HIGHS_BUDGET = 16.0  # HiGHS over ours at N = 50
WORKERS = (10, 20, 50, 100, 200, 500, 1000)
ACCURACIES = (1e-2, 1e-3, 1e-4, 1e-5)
PASSES = (1, 2, 5, 10, 20, 50, 100, 200, 500)  # of the subgradient method over its draws


def seconds_of(job: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = job()
    return time.perf_counter() - start, result


def exact(workers: int) -> cgc.Plan:
    plan = cgc.plan(workers, COORDINATES, LAW, samples=workers, method="exact")
    assert plan.relaxed_gap is not None
    assert plan.relaxed_gap <= (1e-6 if workers <= 200 else 1e-5), plan.relaxed_gap
    return plan


def linear_program(workers: int, draws: int) -> Callable[[], None]:
    """A job that minimises the mean z_s, z_s >= T_(N-n) W_n, W rising, over the draws; variables W, z."""
    ordered = np.sort(LAW.rvs((draws, workers), random_state=0), axis=1)[:, ::-1]
    rows = np.arange(draws * workers)
    epigraph = sparse.csr_matrix(
        (
            np.concatenate((ordered.ravel() / 1000.0, -np.ones(len(rows)))),
            (
                np.tile(rows, 2),
                np.concatenate((np.tile(np.arange(workers), draws), workers + rows // workers)),
            ),
        )
    )
    rising = sparse.diags_array([1.0, -1.0], offsets=[0, 1], shape=(workers - 1, workers + draws))
    constraints = sparse.vstack((epigraph, rising))
    n = np.arange(workers)
    weight = np.append(1.0 / ((n + 1) * (n + 2))[:-1], 1.0 / workers)

    def solve() -> None:
        solved = optimize.linprog(
            np.append(np.zeros(workers), np.full(draws, 1.0 / draws)),
            A_ub=constraints,
            b_ub=np.zeros(len(rows) + workers - 1),
            A_eq=np.append(weight, np.zeros(draws))[None, :],
            b_eq=[1.0],
            method="highs",
        )
        assert solved.status == 0, solved.message

    return solve


def against_workers(largest: int) -> dict[int, float]:
    """Median seconds of exact plans; prints them, and the ratios that have budgets."""
    highs, program = [], linear_program(50, 1000)
    seconds: dict[int, list[float]] = {workers: [] for workers in WORKERS if workers <= largest}
    gaps: dict[int, float | None] = {}
    for turn in range(5):
        highs.append(seconds_of(program)[0])
        for workers, times in seconds.items():
            often = 3 if workers <= 50 else 1
            for _ in range(often if workers <= 200 or turn < 2 else 0):
                spent, plan = seconds_of(lambda workers=workers: exact(workers))
                times.append(spent)
                gaps[workers] = plan.relaxed_gap
    medians = {workers: statistics.median(times) for workers, times in seconds.items()}
    print("|    N | seconds | over N = 50 | relaxed gap |\n|---|---|---|---|")
    for workers, median in medians.items():
        print(f"| {workers:4d} | {median:7.3f} | {median / medians[50]:.2f} | {gaps[workers]:.0e} |")
    print(f"\nHiGHS, N = 50, 1,000 draws: {statistics.median(highs):.3f} s")
    print(
        f"HiGHS over exact: {statistics.median(highs) / medians[50]:.1f} (budget: at least {HIGHS_BUDGET:g})"
    )
    for workers, budget in BUDGETS.items():
        if workers in medians:
            print(f"N = {workers} over N = 50: {medians[workers] / medians[50]:.1f} (budget: {budget:g})")
    print(f"fitted exponent from N = 50 on: {fit(medians)[0]:.2f}")
    return medians


def fit(medians: dict[int, float]) -> tuple[float, float]:
    """Exponent and factor of seconds ~ factor N^exponent from N = 50 on; below, fixed costs dominate."""
    points = [(np.log(workers), np.log(median)) for workers, median in medians.items() if workers >= 50]
    if len(points) < 2:
        return float("nan"), float("nan")
    slope, intercept = np.polyfit(*np.transpose(points), 1)
    return float(slope), float(np.exp(intercept))


def beside_the_subgradient_method(workers: int) -> None:
    """Seconds until the subgradient method's block sizes are as good as is asked for, drawing included."""
    spent, plan = seconds_of(lambda: exact(workers))
    assert plan.lower_bound is not None
    reached: dict[float, float] = {}
    best = np.inf
    start = np.full(workers, COORDINATES / workers)
    for passes in PASSES:

        def run(passes: int = passes) -> np.ndarray:
            times = np.sort(LAW.rvs((20_000, workers), random_state=1), axis=1)[:, ::-1]
            work = np.arange(1.0, workers + 1)
            return minimise_by_subgradient(
                np.ascontiguousarray(times), work, start, passes=passes
            ).block_sizes

        seconds, sizes = seconds_of(run)
        gap = cgc.expected_runtime(sizes, LAW, samples=workers) / plan.lower_bound - 1.0
        best = min(best, gap)
        for accuracy in ACCURACIES:
            if gap <= accuracy and accuracy not in reached:
                reached[accuracy] = seconds
    for accuracy in ACCURACIES:
        told = f"{reached[accuracy]:.3f} s" if accuracy in reached else f"never; its best is {best:.1e}"
        print(
            f"N = {workers}, subgradient method to {accuracy:g} of the optimum: {told}; exact: {spent:.3f} s"
        )


def plot(medians: dict[int, float], path: str) -> None:
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(6, 4))
    workers = np.array(list(medians))
    ax.loglog(workers, list(medians.values()), "o-", label="exact plan")
    slope, factor = fit(medians)
    line = factor * workers**slope
    ax.loglog(workers[workers >= 50], line[workers >= 50], "--", label=f"N^{slope:.2f}")
    ax.set_xlabel("workers N")
    ax.set_ylabel("seconds")
    ax.set_title("Exact plans, shifted exponential")
    ax.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--largest", type=int, default=1000)
    parser.add_argument("--plot", metavar="PATH")
    arguments = parser.parse_args()
    medians = against_workers(max(50, arguments.largest))
    for workers in (20, 50):
        beside_the_subgradient_method(workers)
    if arguments.plot:
        plot(medians, arguments.plot)


if __name__ == "__main__":
    main()
