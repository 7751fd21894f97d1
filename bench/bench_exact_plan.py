"""Time of exact plans against the number of workers, and of a linear program on 1,000 draws by HiGHS.

Prints times, gaps and ratios beside their budgets; fails if a certificate is missed, not if it is slow.
Run: python bench/bench_exact_plan.py [largest N, default 200; 1000 takes a minute]
"""

from __future__ import annotations

import sys
import time

import numpy as np
from scipy import optimize, sparse, stats

import cgc_fast as cgc

COORDINATES = 20_000
LAW = stats.expon(loc=50, scale=1000)
BUDGETS = {200: 25.0, 1000: 600.0}  # times the time at N = 50
HIGHS_BUDGET = 16.0  # HiGHS over ours at N = 50


def exact(workers: int) -> float:
    """Seconds of the fastest of some plans."""
    times = []
    for _ in range(5 if workers <= 50 else 2 if workers <= 200 else 1):
        start = time.perf_counter()
        plan = cgc.plan(workers, COORDINATES, LAW, samples=workers, method="exact")
        times.append(time.perf_counter() - start)
    target = 1e-6 if workers <= 200 else 1e-5
    assert plan.relaxed_gap is not None
    assert plan.relaxed_gap <= target, plan.relaxed_gap
    print(f"N = {workers:5d}: {min(times):9.4f} s, gap {plan.relaxed_gap:.1e}, {plan.expected_runtime:.6g} s")
    return min(times)


def linear_program(workers: int, draws: int) -> float:
    """Seconds for min mean z_s, z_s >= T_(N-n) W_n, W rising, over the draws; variables W, z."""
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
    n = np.arange(workers)
    weight = np.append(1.0 / ((n + 1) * (n + 2))[:-1], 1.0 / workers)
    start = time.perf_counter()
    solved = optimize.linprog(
        np.append(np.zeros(workers), np.full(draws, 1.0 / draws)),
        A_ub=sparse.vstack((epigraph, rising)),
        b_ub=np.zeros(len(rows) + workers - 1),
        A_eq=np.append(weight, np.zeros(draws))[None, :],
        b_eq=[1.0],
        method="highs",
    )
    seconds = time.perf_counter() - start
    assert solved.status == 0, solved.message
    print(f"HiGHS, N = {workers}, {draws} draws: {seconds:.3f} s, {solved.fun * 1000 * COORDINATES:.6g} s")
    return seconds


def main() -> None:
    largest = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    base = exact(50)
    ratio = linear_program(50, 1000) / base
    print(f"HiGHS over exact at N = 50: {ratio:.1f} (budget: at least {HIGHS_BUDGET:g})")
    for workers, budget in BUDGETS.items():
        if workers <= largest:
            print(f"over N = 50: {exact(workers) / base:.1f} (budget {budget:g})")


if __name__ == "__main__":
    main()
