"""Derivative kernels of the built-in problems beside BLAS: residuals' @ features, one thread.

    python bench/bench_derivatives.py [--quick]

Every line is one (samples n, features D, classes K): the derivatives of all K * D coordinates from known
residuals, as after the forward pass, beside np.matmul(residuals.T, features), and the forward pass beside
np.matmul(features, theta.T). The forward pass also takes the exponentials and losses, which BLAS does not: on
few features they weigh. The two take turns in one process with one thread; medians of the ratios.

    ratio     time of BLAS / ours: above 1, ours is faster; the goal is >= 0.9 for K = 1, where memory limits

BLAS splits sums as it sees fit; our kernels do not, so that a part has the same bits on every worker.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

import numpy as np

from cgc_fast import _core, build_info

GOAL = 0.9
SHAPES = [
    (1_000, 100, 1),
    (1_000, 1_000, 1),
    (2_000, 5_000, 1),
    (500, 40_000, 1),
    (2_000, 784, 2),
    (2_000, 784, 3),
    (1_000, 3_000, 4),
    (500, 784, 10),
    (5_000, 784, 10),
    (20_000, 784, 10),
    (2_000, 100, 10),
    (1_000, 784, 20),
    (1_000, 500, 50),
    (4_000, 784, 50),
    (2_000, 1_024, 64),
]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    rounds = 7 if parser.parse_args().quick else 21
    rng = np.random.default_rng(0)
    print(build_info())
    print(
        f"{'n':>7}{'D':>7}{'K':>4}{'ours, ms':>10}{'GFLOP/s':>9}{'GB/s':>7}{'ratio':>8}{'forward ratio':>15}"
    )
    below = 0
    for samples, width, classes in SHAPES:
        features = rng.standard_normal((samples, width))
        theta = 0.01 * rng.standard_normal(classes * width)
        loss = "softmax" if classes > 1 else "squares"
        targets = (
            rng.integers(0, classes, samples).astype(float) if classes > 1 else rng.standard_normal(samples)
        )
        whole = np.array([[0, samples]])
        one, out = np.ones(1), np.empty(classes * width)
        model = _core.LinearModel(loss, classes, features, targets, whole)
        residuals = rng.standard_normal((samples, classes))
        product, logits = np.empty((classes, width)), np.empty((samples, classes))
        weights = theta.reshape(classes, width)

        def forward(model=model, theta=theta, whole=whole):
            model.begin(theta)
            model.forward(whole)

        functions = {
            "forward": forward,
            "ours": lambda m=model, n=out.size, w=whole, a=one, o=out: m.derivatives(0, n, w, a, o),
            "blas": lambda r=residuals, x=features, o=product: np.matmul(r.T, x, out=o),
            "blas forward": lambda x=features, t=weights, o=logits: np.matmul(x, t.T, out=o),
        }
        times: dict[str, list[float]] = {name: [] for name in functions}
        for _ in range(rounds + 1):
            for name, function in functions.items():
                start = time.perf_counter()
                function()
                times[name].append(time.perf_counter() - start)
        seconds = {name: statistics.median(values[1:]) for name, values in times.items()}

        # The answer, with residuals that are known: for least squares they are features @ theta - targets.
        if classes == 1:
            error = np.abs(out - (features @ theta - targets) @ features)
            scale = np.abs(features @ theta - targets) @ np.abs(features)
            if not (error <= 2 * (samples + width) * np.finfo(float).eps * scale.max()).all():
                raise SystemExit("wrong derivatives")
        # Round by round: a neighbour who takes the memory for a while meets both.
        ratio, forward_ratio = (
            statistics.median(a / b for a, b in zip(times[blas][1:], times[ours][1:], strict=True))
            for blas, ours in (("blas", "ours"), ("blas forward", "forward"))
        )
        below += classes == 1 and ratio < GOAL
        work = 2.0 * samples * width * classes
        print(
            f"{samples:7}{width:7}{classes:4}{seconds['ours'] * 1e3:10.3f}{work / seconds['ours'] / 1e9:9.1f}"
            f"{8.0 * samples * width / seconds['ours'] / 1e9:7.1f}{ratio:8.2f}"
            f"{forward_ratio:15.2f}" + (" < goal" if classes == 1 and ratio < GOAL else ""),
            flush=True,
        )
    print(f"{below} of the lines with one class below the goal")


if __name__ == "__main__":
    main()
