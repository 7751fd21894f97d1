"""Weighted sum of rows in separate buffers: bytes moved per second beside NumPy.

    python bench/bench_weighted_sum.py [--quick] [--length N ...] [--rows K ...] [--pages-of-numpy]

Every line is one (data type, k, length); every contender runs in turn, several times round, in one
process with one thread; rates are medians, ratios the medians of those of each round. A pass reads k rows
and writes one: for each contender (k + 1) * length * itemsize bytes are counted, whatever it really moves.

    cgc       weighted_sum: rows in separate buffers
    core      the same, timed inside the core: without the call from Python, whose cost is printed apart
    matmul    np.matmul(coefficients, stacked): rows stacked beforehand, the copy not counted
    einsum    np.einsum("k,kn->n", coefficients, stacked), likewise
    mul+add   np.multiply(row, a, out=work), np.add(out, work, out=out), row by row, over the whole length
    chunked   the same over chunks that stay in the cache
    copy      np.copyto(out, row): 2 * length * itemsize bytes, the bandwidth of the machine at that size
    copy*     the same for the k rows one after the other: the working set of the sum, nothing computed

ratio is against the best of the NumPy sums (matmul, einsum, mul+add, chunked), the goal >= 0.9; x matmul is
against matmul alone, the goal >= 1. Below 100,000 values both take the time inside the core. Lines of mixed
data types (float32 rows into a float64 sum) have no NumPy pass that reads as little: no ratio.

NumPy asks for huge pages for arrays of 4 MiB and more, so that the stacked copy may have them where the rows
have not: here rows have what the copy has, unless `--pages-of-numpy` leaves it to NumPy.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

import numpy as np

from cgc_fast import _core, build_info
from cgc_fast.combine import weighted_sum

GOAL, MATMUL_GOAL = 0.9, 1.0
CONTENDERS = ["cgc", "matmul", "einsum", "mul+add", "chunked", "copy", "copy*"]
SUMS = ["matmul", "einsum", "mul+add", "chunked"]
CORE_BELOW = 100_000
HUGE_FROM, HUGE_PAGE = 4 << 20, 2 << 20  # for arrays of so many bytes NumPy asks for pages of so many


def seconds_per_call(
    functions: dict[str, Callable[[], object]], rounds: int, target_s: float
) -> dict[str, list[float]]:
    """Seconds a call of each function in every round; they take turns, so that all see the same machine.

    A function that returns a float has measured itself.
    """
    repeats = {}
    for name, function in functions.items():
        function()
        start = time.perf_counter()
        function()
        repeats[name] = max(1, int(target_s / max(time.perf_counter() - start, 1e-9)))
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            for _ in range(repeats[name]):
                measured = function()
            elapsed = (time.perf_counter() - start) / repeats[name]
            times[name].append(measured if isinstance(measured, float) else elapsed)
    return times


def paired_ratio(theirs: list[float], ours: list[float]) -> float:
    """Median of the ratios round by round: a neighbour who takes the memory for a while meets both."""
    return statistics.median(a / b for a, b in zip(theirs, ours, strict=True))


def make_rows(
    rng: np.random.Generator, k: int, length: int, dtype: type, pages_of_numpy: bool
) -> list[np.ndarray]:
    """Rows in separate buffers, with pages as large as their stacked copy has."""
    size = np.dtype(dtype).itemsize
    if pages_of_numpy or k * length * size < HUGE_FROM:
        return [rng.standard_normal(length, dtype) for _ in range(k)]
    rows = []
    for _ in range(k):
        buffer = np.empty(max(HUGE_FROM, length * size + HUGE_PAGE), np.uint8)
        row = buffer[-buffer.ctypes.data % HUGE_PAGE :][: length * size].view(dtype)
        row[:] = rng.standard_normal(length, dtype)
        rows.append(row)
    return rows


def contenders(
    rows: list[np.ndarray], coefficients: np.ndarray
) -> tuple[dict[str, Callable[[], object]], dict]:
    length, dtype = rows[0].size, rows[0].dtype
    stacked = np.stack(rows)
    factors = coefficients.astype(dtype)
    outs = {name: np.empty(length, dtype) for name in CONTENDERS}
    work = np.empty(length, dtype)
    chunk = 16_384 // dtype.itemsize
    small = np.empty(chunk, dtype)

    def mul_add() -> None:
        out = outs["mul+add"]
        np.multiply(rows[0], factors[0], out=out)
        for row, factor in zip(rows[1:], factors[1:], strict=True):
            np.multiply(row, factor, out=work)
            np.add(out, work, out=out)

    def chunked() -> None:
        for start in range(0, length, chunk):
            out = outs["chunked"][start : start + chunk]
            scratch = small[: out.size]
            np.multiply(rows[0][start : start + chunk], factors[0], out=out)
            for row, factor in zip(rows[1:], factors[1:], strict=True):
                np.multiply(row[start : start + chunk], factor, out=scratch)
                np.add(out, scratch, out=out)

    def copies() -> None:
        for row in rows:
            np.copyto(outs["copy*"], row)

    functions: dict[str, Callable[[], object]] = {
        "cgc": lambda: weighted_sum(rows, coefficients, outs["cgc"]),
        "core": lambda: core_seconds(rows, coefficients, outs["cgc"], 1),
        "matmul": lambda: np.matmul(factors, stacked, out=outs["matmul"]),
        "einsum": lambda: np.einsum("k,kn->n", factors, stacked, out=outs["einsum"]),
        "mul+add": mul_add,
        "chunked": chunked,
        "copy": lambda: np.copyto(outs["copy"], rows[0]),
        "copy*": copies,
    }
    return functions, outs


def check(rows: list[np.ndarray], coefficients: np.ndarray, outs: dict[str, np.ndarray]) -> None:
    """All sums agree within (k + 2) roundings of the sum of magnitudes, each."""
    exact = sum(a * row.astype(np.float64) for a, row in zip(coefficients, rows, strict=True))
    magnitude = sum(np.abs(a * row.astype(np.float64)) for a, row in zip(coefficients, rows, strict=True))
    tolerance = (len(rows) + 2) * (np.finfo(rows[0].dtype).eps + np.finfo(np.float64).eps) * magnitude
    for name in ("cgc", *SUMS):
        if not (np.abs(outs[name] - exact) <= tolerance).all():
            raise SystemExit(f"{name}: wrong sum")


def core_seconds(rows: list[np.ndarray], coefficients: np.ndarray, out: np.ndarray, rounds: int) -> float:
    """Median over the rounds of the seconds that a sum takes inside the core."""
    repeats = max(1, 500_000 // (len(rows) * rows[0].size))
    return statistics.median(
        _core.seconds_per_weighted_sum(rows, coefficients, out, repeats) for _ in range(rounds)
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer lengths and rounds")
    parser.add_argument("--length", type=int, nargs="+", default=None)
    parser.add_argument("--rows", type=int, nargs="+", default=[2, 4, 8, 16, 32, 64])
    parser.add_argument("--pages-of-numpy", action="store_true", help="also where the copy's are larger")
    options = parser.parse_args()
    quick = options.quick
    lengths = [1_000, 100_000, 1_000_000] if quick else [1_000, 10_000, 100_000, 1_000_000, 10_000_000]
    lengths = options.length or lengths
    rounds, target_s = (7, 0.005) if quick else (15, 0.02)
    rng = np.random.default_rng(0)

    print(build_info())
    empty = [np.empty(0)] * 64
    for k in options.rows:
        a = np.ones(k)
        call = seconds_per_call(
            {"call": lambda k=k, a=a: weighted_sum(empty[:k], a, empty[0])}, rounds, target_s
        )
        print(f"call, k = {k}: {statistics.median(call['call']) * 1e6:.2f} us")
    print("GB/s: (k + 1) * length * itemsize bytes a sum; goals: ratio >= 0.9, x matmul >= 1")
    names = ["cgc", "core", *CONTENDERS[1:]]
    print(
        f"{'dtype':8}{'k':>3}{'length':>10}"
        + "".join(f"{name:>9}" for name in names)
        + f"{'ratio':>8}{'x matmul':>10}"
    )
    below = slower = 0
    for dtype in (np.float64, np.float32):
        for k in options.rows:
            for length in lengths:
                if k * length * np.dtype(dtype).itemsize > 1.4e9:
                    continue  # rows and their stacked copy must fit in memory
                rows = make_rows(rng, k, length, dtype, options.pages_of_numpy)
                coefficients = rng.standard_normal(k)
                functions, outs = contenders(rows, coefficients)
                heavy = k * length > 2e7
                times = seconds_per_call(functions, 7 if heavy else rounds, target_s)
                seconds = {name: statistics.median(values) for name, values in times.items()}
                check(rows, coefficients, outs)
                moved = (k + 1) * length * np.dtype(dtype).itemsize
                bytes_moved = dict.fromkeys(names, moved) | {
                    "copy": moved // (k + 1) * 2,
                    "copy*": moved // (k + 1) * 2 * k,
                }
                rates = {name: bytes_moved[name] / seconds[name] / 1e9 for name in names}
                ours = times["core" if length < CORE_BELOW else "cgc"]
                ratio = paired_ratio(times[min(SUMS, key=lambda name: seconds[name])], ours)
                beside_matmul = paired_ratio(times["matmul"], ours)
                below += ratio < GOAL
                slower += beside_matmul < MATMUL_GOAL
                print(
                    f"{np.dtype(dtype).name:8}{k:3}{length:10}"
                    + "".join(f"{rates[name]:9.1f}" for name in names)
                    + f"{ratio:8.2f}{beside_matmul:10.2f}"
                    + (" < goal" if ratio < GOAL else "")
                    + (" < matmul" if beside_matmul < MATMUL_GOAL else ""),
                    flush=True,
                )
    for k in options.rows:
        for length in lengths:
            if k * length * 4 > 1.4e9:
                continue
            rows = [rng.standard_normal(length, np.float32) for _ in range(k)]
            rate = (4 * k + 8) * length / core_seconds(rows, rng.standard_normal(k), np.empty(length), 5)
            print(f"mixed   {k:3}{length:10}{'':9}{rate / 1e9:9.1f}", flush=True)
    print(f"{below} below the goal, {slower} slower than matmul")


if __name__ == "__main__":
    main()
