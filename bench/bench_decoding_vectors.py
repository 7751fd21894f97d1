"""Decoding vectors of all levels for one order of arrival, beside numpy.linalg.lstsq level by level.

    python bench/bench_decoding_vectors.py [--workers 100]

One thread. The levels are those whose codes are cyclic, s = 1 .. N - 2, each decoded from the first N - s
workers that arrive. Times are medians of several orders; the goal at N = 100 is 20 times.

    core        _core.decode_in_order: vectors and predicted errors of all levels, one call
    together    decoding_vectors: the same, checked against the promises and kept
    one by one  decoding_vector of each code in turn
    known       decoding_vector of each code for rows that it has met
    lstsq       numpy.linalg.lstsq of each level: no prediction, no check
    solve       numpy.linalg.solve of the same systems in a basis of the row space made beforehand
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import time

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

import numpy as np

from cgc_fast import CyclicCode, NumericalError, _core
from cgc_fast.codes import decoding_vectors

GOAL = 20


def timed(function, orders):
    seconds = []
    for order in orders:
        start = time.perf_counter()
        function(order)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=100)
    workers = parser.parse_args().workers
    start = time.perf_counter()
    codes = [CyclicCode(workers, redundancy) for redundancy in range(1, workers - 1)]
    decoders = [code._make_decoder() for code in codes]
    print(f"N = {workers}: {len(codes)} matrices chosen in {time.perf_counter() - start:.1f} s")
    ones = np.ones(workers)
    bases = [np.linalg.svd(code.matrix)[2][: code.required_rows] for code in codes]
    systems = [code.matrix @ basis.T for code, basis in zip(codes, bases, strict=True)]

    def one_by_one(order):
        for code in codes:
            with contextlib.suppress(NumericalError):
                code.decoding_vector(tuple(sorted(order[: code.required_rows].tolist())))

    def lstsq(order):
        for code in codes:
            np.linalg.lstsq(code.matrix[np.sort(order[: code.required_rows])].T, ones, rcond=None)

    def solve(order):
        for code, basis, system in zip(codes, bases, systems, strict=True):
            np.linalg.solve(system[np.sort(order[: code.required_rows])].T, basis @ ones)

    rng = np.random.default_rng(0)
    orders = [rng.permutation(workers) for _ in range(11)]
    seconds = {
        "core": timed(lambda order: _core.decode_in_order(decoders, order), orders),
        "together": timed(lambda order: decoding_vectors(codes, order), orders),
        "one by one": timed(one_by_one, [rng.permutation(workers) for _ in range(11)]),
        "known": timed(one_by_one, orders),
        "lstsq": timed(lstsq, orders),
        "solve": timed(solve, orders),
    }
    for name, value in seconds.items():
        print(f"{name:12}{value * 1e3:9.2f} ms{seconds['lstsq'] / value:9.1f} x")
    # The answers: what every vector makes of the encoding matrix.
    for order in orders[:3]:
        for code, result in zip(codes, decoding_vectors(codes, order), strict=True):
            if isinstance(result, tuple):
                rows, vector = result
                if np.abs(vector @ code.matrix[list(rows)] - 1).max() > code.promise:
                    raise SystemExit(f"{code}: wrong vector")
    ratio = seconds["lstsq"] / seconds["core"]
    if workers == 100:
        print(f"goal of {GOAL} x {'reached' if ratio >= GOAL else 'missed'}")


if __name__ == "__main__":
    main()
