"""Plan for stragglers, start workers, and get the exact gradient of a problem of one's own.

Run: python examples/own_problem.py
"""

from __future__ import annotations

import numpy as np
from scipy import stats

import cgc_fast as cgc
from huber_regression import HuberRegression, plain_gradient


def main() -> None:
    """Compare a gradient from four workers with the plain one."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((403, 120))
    targets = features @ rng.standard_normal(120) + rng.standard_t(2, size=403)
    problem = HuberRegression(features, targets, delta=1.0)

    plan = cgc.plan(
        workers=4,
        coordinates=problem.coordinates,
        cycle_time=stats.expon(loc=50, scale=1000),
        samples=problem.samples,
        forward_cycles=problem.forward_cycles,
    )
    print("block sizes by redundancy:", plan.block_sizes)

    theta = rng.standard_normal(problem.coordinates)
    with cgc.Cluster(plan.schedule(), problem, engine="processes") as cluster:
        gradient = cluster.gradient(theta)

    expected = plain_gradient(problem, theta)
    error = np.abs(gradient - expected).max() / np.abs(expected).max()
    print(f"largest difference to the plain gradient: {error:.1e} of its largest entry")


if __name__ == "__main__":
    main()
