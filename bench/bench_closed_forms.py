"""Closed-form plans of a million levels against sorting a million doubles with NumPy.

Prints the ratio of medians beside its budget; fails if an answer is wrong, not if it is slow.
Run: python bench/bench_closed_forms.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
from scipy import stats

from cgc_fast.closed_forms import mean_rate_block_sizes, mean_time_block_sizes
from cgc_fast.order_statistics import mean_order_statistics
from cgc_fast.straggler_models import IdenticalLaw

WORKERS = 1_000_000
COORDINATES = 20_000
BUDGET = 3.0
REPEATS = 15


def check(block_sizes: np.ndarray, times: np.ndarray, work: np.ndarray) -> None:
    """Every level must end at the same time, which is what defines the closed forms."""
    ends = times * np.cumsum(work * block_sizes)
    # A cumulative sum of 10^6 terms, each with a few roundings of 1e-16 relative to the sum.
    assert np.ptp(ends) <= 1e-9 * ends.mean(), np.ptp(ends) / ends.mean()
    assert abs(block_sizes.sum() - COORDINATES) <= 1e-9 * COORDINATES
    assert block_sizes.min() >= 0.0


def main() -> None:
    generator = np.random.default_rng(0)
    model = IdenticalLaw(stats.expon(loc=50, scale=1000), WORKERS)
    work = np.arange(1.0, WORKERS + 1)
    # 1 / T_(n) of times with uniform rates on [1, 2]: E = 1 + (N - n + 1) / (N + 1), n = N..1.
    rates = 1.0 + work / (WORKERS + 1)
    unsorted = generator.random(WORKERS)

    def mean_time() -> np.ndarray:
        return mean_time_block_sizes(mean_order_statistics(model).values[::-1], work, COORDINATES)

    def mean_rate() -> np.ndarray:
        return mean_rate_block_sizes(rates, work, COORDINATES)

    check(mean_time(), mean_order_statistics(model).values[::-1], work)
    check(mean_rate(), 1.0 / rates, work)
    jobs: dict[str, Callable[[], object]] = {
        "np.sort": lambda: np.sort(unsorted),
        "mean_time": mean_time,
        "mean_rate": mean_rate,
    }
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(REPEATS):  # side by side, so that a busy machine disturbs all alike
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            seconds[name].append(time.perf_counter() - start)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"N = {WORKERS}: np.sort {median['np.sort'] * 1e3:.1f} ms")
    for name in ("mean_time", "mean_rate"):
        ratio = median[name] / median["np.sort"]
        verdict = "within" if ratio <= BUDGET else "OVER"
        print(f"{name}: {median[name] * 1e3:.1f} ms, {ratio:.2f} x np.sort ({verdict} budget {BUDGET} x)")


if __name__ == "__main__":
    main()
