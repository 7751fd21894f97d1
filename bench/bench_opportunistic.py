"""How many answers codes need at equal load, if they decode as soon as they can, beside repetition.

    python bench/bench_opportunistic.py [--orders 4000]

Every worker computes d of N parts, d a divisor of N. Of orders of arrival drawn at random, the mean number of
answers until the all-ones row is in the span of the rows that came:

    repetition   N / d groups of d workers with the same d parts: the first answer of each group
    groups       of 2 d workers with 2 d parts under a cyclic code of their own: the first d + 1 answers of
                 each; between repetition (groups of d) and the cyclic code (one group of N)
    arcs         row w is the plain sum of the parts w, ..., w + d - 1 (mod N): N / d rows that tile the
                 circle are a small set that decodes; otherwise whatever spans the all-ones row, found by rank
                 updates
    cyclic       the cyclic code: N - d + 1, whichever they are
    cyclic *     until every part is in the support of some answer: before that no code with cyclic supports
    random *     can decode; the same for supports of d parts drawn at random, each part in d of them

    runtime      (d / N) E[T_(K)] over that of repetition, T shifted exponential with mu t0 = 0.05

Where d does not divide N, two codes tolerate the d - 1 missing workers that the cyclic code does:

    grouped      floor(N / d) groups, each of m >= d workers with m / N of the samples under a cyclic code of
                 their own, in which gcd(m, d) neighbours share a row (repetition, if d divides N)
    repetition   as many groups with equal shares of the samples: the first answer of each, for N / d / groups
                 times the work

Their runtimes are over that of the cyclic code, and those of grouped codes over that of repetition for two
start times mu t0. Loads beyond N / 2 leave one group: where gcd(N, d) = 1 the cyclic code itself.
"""

from __future__ import annotations

import argparse

import numpy as np

from cgc_fast.schemes.cyclic_groups import CyclicGroup, cyclic_groups
from cgc_fast.schemes.fractional_repetition import group_members

WORKERS = (10, 20, 30, 40, 50)
MU_T0 = 0.05
STARTS = (0.05, 1.0)


class Span:
    """Rows one by one, and whether the all-ones row is in their span: an orthonormal basis, and what is left.

    A row costs O(N rank).
    """

    def __init__(self, parts: int) -> None:
        self._basis = np.empty((0, parts))
        self._left = np.ones(parts)

    def add(self, row: np.ndarray) -> bool:
        for _ in range(2):  # once more for what rounding has left
            row = row - (self._basis @ row) @ self._basis
        length = np.linalg.norm(row)
        if length > 1e-9:
            self._basis = np.vstack([self._basis, row / length])
            self._left = self._left - (self._basis[-1] @ self._left) * self._basis[-1]
        return bool(np.linalg.norm(self._left) < 1e-9 * len(row))


def arcs(workers: int, load: int) -> np.ndarray:
    """Supports (N, N) of the cyclic code, as plain sums."""
    return ((np.arange(workers) - np.arange(workers)[:, None]) % workers < load).astype(float)


def random_supports(workers: int, load: int, rng: np.random.Generator) -> np.ndarray:
    """Sum of `load` permutation matrices without common entries: cyclic supports after random exchanges."""
    supports = arcs(workers, load).astype(bool)
    for _ in range(40 * workers * load):
        a, b = rng.choice(workers, 2, replace=False)
        mine, other = np.flatnonzero(supports[a] & ~supports[b]), np.flatnonzero(supports[b] & ~supports[a])
        if mine.size:
            i, j = rng.choice(mine), rng.choice(other)
            supports[a, [i, j]], supports[b, [i, j]] = (False, True), (True, False)
    assert (supports.sum(axis=0) == load).all()
    assert (supports.sum(axis=1) == load).all()
    return supports.astype(float)


def decode_times(times: np.ndarray, groups: tuple[CyclicGroup, ...]) -> np.ndarray:
    """When every group decodes (S,); times (S, N): when each worker answers."""
    last, begin = np.zeros(len(times), dtype=times.dtype), 0
    for group in groups:
        own = times[:, begin : begin + group.members]
        begin += group.members
        first_members = np.searchsorted(
            np.arange(group.members) * group.rows // group.members, np.arange(group.rows)
        )
        rows = np.minimum.reduceat(own, first_members, axis=1)
        last = np.maximum(last, np.sort(rows, axis=1)[:, group.rows - group.missing - 1])
    return last


def group_answers(place: np.ndarray, groups: tuple[CyclicGroup, ...]) -> np.ndarray:
    """Answers (orders,) until every group decodes; place: of each worker in the order of arrival."""
    return decode_times(place, groups) + 1


def repetition(workers: int, groups: int) -> tuple[CyclicGroup, ...]:
    """Groups as equal as possible, the members of each of which all share one row."""
    _, _, sizes = group_members(workers, groups)
    return tuple(CyclicGroup(size, size - 1, 1) for size in sizes.tolist())


def cover_answers(place: np.ndarray, supports: np.ndarray) -> np.ndarray:
    """Answers until every part is in the support of one."""
    first = [place[:, supports[:, part] > 0].min(axis=1) for part in range(supports.shape[1])]
    return np.max(first, axis=0) + 1


def span_answers(orders: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Answers until the all-ones row is in the span."""
    counts = []
    for order in orders:
        span = Span(rows.shape[1])
        counts.append(next(k + 1 for k, row in enumerate(order) if span.add(rows[row])))
    return np.array(counts)


def runtime(workers: int, answers: np.ndarray, start: float = MU_T0) -> float:
    """E[T_(K)] for answers K that do not depend on the times, 1 / mu = 1."""
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, workers + 1))])
    return float((start + harmonic[workers] - harmonic[workers - answers]).mean())


def orders_of_arrival(
    workers: int, load: int, orders: int
) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """Who comes when (orders, N), the place of each worker, and the generator."""
    rng = np.random.default_rng([workers, load])
    drawn = rng.permuted(np.tile(np.arange(workers), (orders, 1)), axis=1)
    return drawn, np.argsort(drawn, axis=1), rng


def loads_that_divide(orders: int) -> None:
    names = ["repetition", "groups", "arcs", "cyclic", "cyclic *", "random *"]
    print("mean number of answers, and runtime over that of repetition (* lower bound for any code)")
    print(f"{'N':>4}{'d':>4}  " + "".join(f"{name:>16}" for name in names))
    beaten = 0
    for workers in WORKERS:
        for load in (d for d in range(2, workers) if workers % d == 0):
            drawn, place, rng = orders_of_arrival(workers, load, orders)
            answers = {
                "repetition": group_answers(place, repetition(workers, workers // load)),
                "arcs": span_answers(drawn[: orders // 10], arcs(workers, load)),
                "cyclic": np.full(1, workers - load + 1),
                "cyclic *": cover_answers(place, arcs(workers, load)),
                "random *": cover_answers(place, random_supports(workers, load, rng)),
            }
            if workers % (2 * load) == 0:
                answers["groups"] = group_answers(
                    place, (CyclicGroup(2 * load, load - 1, 2 * load),) * (workers // (2 * load))
                )
            base = runtime(workers, answers["repetition"])
            line = f"{workers:4}{load:4}  "
            for name in names:
                if name in answers:
                    mean, ratio = answers[name].mean(), runtime(workers, answers[name]) / base
                    line += f"{mean:9.2f}{ratio:7.2f}"
                    # Beyond the standard error of the difference, which common orders keep small.
                    beaten += name != "repetition" and mean < answers["repetition"].mean() - 0.05
                else:
                    line += f"{'':16}"
            print(line, flush=True)
    print(f"repetition is beaten in {beaten} places")


def other_loads(orders: int) -> None:
    print("\nloads that do not divide N: mean number of answers, and runtime over that of the cyclic code")
    print(f"{'N':>4}{'d':>4}{'groups':>8}{'cyclic':>9}{'grouped':>16}{'repetition':>16}", end="")
    starts = "".join(f"{f'mu t0 = {start:g}':>15}" for start in STARTS)
    print(f"{'its work':>10}{'cyclic *':>16}   grouped over repetition:{starts}")
    faster = dict.fromkeys(STARTS, 0)
    lines = 0
    for workers in WORKERS:
        for load in (d for d in range(2, workers) if workers % d):
            _, place, _ = orders_of_arrival(workers, load, orders)
            groups = workers // load
            answers = np.full(1, workers - load + 1)
            base = runtime(workers, answers)
            grouped = group_answers(place, cyclic_groups(workers, load - 1))
            repeated = group_answers(place, repetition(workers, groups))
            assert grouped.max() <= answers  # whoever is missing then, they are at most d - 1 in a group
            covered = cover_answers(place, arcs(workers, load))
            work = workers / groups / load
            ratios = [runtime(workers, grouped) / base, work * runtime(workers, repeated) / base]
            line = f"{workers:4}{load:4}{groups:8}{answers[0]:9}{grouped.mean():9.2f}{ratios[0]:7.2f}"
            line += f"{repeated.mean():9.2f}{ratios[1]:7.2f}{work:10.2f}"
            line += f"{covered.mean():9.2f}{runtime(workers, covered) / base:7.2f}   {'':24}"
            for start in STARTS:
                ratio = runtime(workers, grouped, start) / (work * runtime(workers, repeated, start))
                line += f"{ratio:15.2f}"
                faster[start] += ratio < 1.0
            print(line, flush=True)
            lines += 1
    for start, count in faster.items():
        print(f"mu t0 = {start:g}: grouped is faster than repetition in {count} of {lines} lines")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--orders", type=int, default=4_000, help="orders of arrival; arcs take a tenth")
    orders = parser.parse_args().orders
    loads_that_divide(orders)
    other_loads(orders)


if __name__ == "__main__":
    main()
