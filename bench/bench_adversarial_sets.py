"""Errors on the worst straggler sets that searches find, predicted and measured.

    python bench/bench_adversarial_sets.py [--climbs 20 200 2000]

Two searches, neither of which knows the random numbers that the matrices are chosen with:

    table    of bench_code_errors.py: exchanges of one straggler drawn at random
    climb    the exchange, of all s (N - s), that makes the set worst, as long as one does; from the ten worst
             of the same first sets

measured: |error| / sum over the parts of |derivative|, the largest over 2,000 derivatives of each kind:
normal; heavy: cubed Cauchy; sparse: 1.5 parts a derivative on average; single: nearly all weight in one part;
searched: the worst 200 of these, altered at random 300 times, an alteration being kept if it makes the error
larger. Payloads and decoding are computed in float64 as workers and master do; the error is an exact sum,
rounded once.

payload, decoding, both: predictions for the same vector if payloads were rounded once, if decoding were exact
but for the rounding of its coefficients, and if both were so.

The second table has the largest and the geometric mean of the predicted errors of climbs from random sets.
The third, for all levels of docs/codes.md up to N = 100 with more than 1,000 sets, has the worst of the
climbs above and of 20,000 random sets that nothing else here uses, and how many of these are beyond 1e-9.

The fourth is of cyclic codes in groups, whose members share rows: so few that every set of missing rows is
decoded. The worst group of each level, the largest prediction and how many are beyond 1e-9; of the worst set
also the errors measured, as above. `--groups` prints this one alone.

The last, which `--auto` prints alone, is the same of the codes that ``plan.schedule(code="auto")`` takes, and
what they cost beside the cyclic code: work, and the runtime of a block at that level alone on 20,000 draws of
cycle times (shifted exponential, mu t0 = 0.05 and 1). Below it all levels of all N up to 100.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

import numpy as np
from scipy import stats

from bench_code_errors import GOAL, REFUSAL_SETS, straggler_sets
from bench_code_errors import LEVELS as TABLE_LEVELS
from cgc_fast import CyclicCode, _core
from cgc_fast.cyclic_matrices import _random_sets, _spaced_sets, _worst_found
from cgc_fast.schemes.cyclic import cyclic_schedule
from cgc_fast.schemes.cyclic_groups import cyclic_groups
from cgc_fast.simulation import simulate

LEVELS = ((50, 25), (100, 10), (100, 25), (100, 75), (100, 90), (50, 37), (100, 50))
GROUPED = ((50, 12), (50, 25), (50, 37), (100, 5), (100, 10), (100, 25), (100, 75), (100, 95))
UNIT_ROUNDOFF = 2.0**-53
DERIVATIVES, SEARCHED, ALTERATIONS = 2_000, 200, 300


def transposed(matrices):
    return np.swapaxes(matrices, 1, 2)


class Climber:
    """Exchanges of one straggler, all at once.

    With B = U R Q' and [U Z] orthogonal, a decoding vector is a = u + Z c, zero on the stragglers S. Let
    straggler i answer and responder j straggle in its place: a' = a + d g on the responders and d at i, with
    g column i of G = Z_R inv(Z_S) = -inv(U_R') U_S' and d = -a_j / g_j. sum_r a_r^2 |B_r|^2, which goes with
    the rounding of payloads, is then a quadratic in d for each pair; the pairs that make it largest are
    decoded.
    """

    def __init__(self, code):
        workers, rank = code.workers, code.required_rows
        self.decoder = code._make_decoder()
        left, singular, right = np.linalg.svd(code.matrix)
        self.range, self.complement = left[:, :rank], left[:, rank:]
        self.full = self.range @ (right[:rank] @ np.ones(workers) / singular[:rank])
        self.weights = (code.matrix**2).sum(axis=1)

    def exchanges(self, stragglers, kept=8):
        """The best exchanges by that quadratic: (K, s) to (K, kept, s)."""
        count, size = stragglers.shape
        rank = len(self.full) - size
        present = np.ones((count, len(self.full)), dtype=bool)
        np.put_along_axis(present, stragglers, False, axis=1)
        rows = np.nonzero(present)[1].reshape(count, rank)
        if size <= rank:
            gains = transposed(
                np.linalg.solve(transposed(self.complement[stragglers]), transposed(self.complement[rows]))
            )
        else:
            gains = -np.linalg.solve(transposed(self.range[rows]), transposed(self.range[stragglers]))
        vector = self.full[rows] - (gains @ self.full[stragglers][:, :, None])[:, :, 0]
        weights = self.weights[rows]
        with np.errstate(all="ignore"):
            steps = -vector[:, :, None] / gains
            linear = (vector * weights)[:, None, :] @ gains
            square = weights[:, None, :] @ gains**2 + self.weights[stragglers][:, None, :]
            scores = np.nan_to_num(steps * (2 * linear + steps * square), posinf=0.0, neginf=0.0)
        best = np.argpartition(scores.reshape(count, -1), -kept, axis=1)[:, -kept:]
        exchanged = np.repeat(stragglers[:, None, :], kept, axis=1)
        each = np.arange(count)[:, None]
        exchanged[each, np.arange(kept), best % size] = rows[each, best // size]
        return exchanged

    def climb(self, stragglers):
        """Where climbs from these sets (K, s) end: sets and predicted errors (K,)."""
        stragglers, errors = stragglers.copy(), self.decoder.profile(stragglers)
        climbing = np.arange(len(stragglers))
        while climbing.size:
            candidates = self.exchanges(stragglers[climbing])
            count, kept, size = candidates.shape
            found = self.decoder.profile(candidates.reshape(-1, size)).reshape(count, kept)
            best = found.argmax(axis=1)
            found = found[np.arange(count), best]
            worse = found > errors[climbing]
            climbing, best, candidates = climbing[worse], best[worse], candidates[worse]
            stragglers[climbing] = candidates[np.arange(climbing.size), best]
            errors[climbing] = found[worse]
        return stragglers, errors

    def worst_from(self, starts):
        """The worst set, and its error, of climbs from the ten worst of these."""
        stragglers, errors = self.climb(starts[np.argsort(self.decoder.profile(starts))[-10:]])
        return stragglers[errors.argmax()], errors.max()


def first_sets(workers, redundancy):
    contiguous, random = straggler_sets(workers, redundancy)
    return np.concatenate([contiguous, random, _spaced_sets(workers, redundancy)])


def measured_errors(code, rows, vector, sums):
    """Of decoding part sums (N, L), relative to the sums of their magnitudes."""
    payloads = []
    for row in rows:
        payload = np.zeros(sums.shape[1])
        for part, coefficient in zip(*code.support(row), strict=True):
            payload += coefficient * sums[part]
        payloads.append(payload)
    decoded = np.empty(sums.shape[1])
    _core.weighted_sum(payloads, vector, decoded)
    columns = zip(sums.T.tolist(), decoded.tolist(), strict=True)
    errors = np.array([abs(math.fsum([*column, -value])) for column, value in columns])
    return errors / np.abs(sums).sum(axis=0)


def kinds_of_derivatives(parts, rng):
    shape = (parts, DERIVATIVES)
    sparse = rng.standard_normal(shape) * (rng.random(shape) < 1.5 / parts)
    sparse[0] += ~sparse.any(axis=0)
    single = rng.uniform(-1e-3, 1e-3, shape)
    single[np.arange(DERIVATIVES) % parts, np.arange(DERIVATIVES)] = rng.uniform(1, 2, DERIVATIVES)
    return rng.standard_normal(shape), rng.standard_cauchy(shape) ** 3, sparse, single


def worst_measured(code, rows, vector, rng):
    """The largest error of each kind, and of the search."""
    largest, worst, errors = [], [], []
    for sums in kinds_of_derivatives(code.parts, rng):
        of_kind = measured_errors(code, rows, vector, sums)
        largest.append(of_kind.max())
        last = np.argsort(of_kind)[-SEARCHED:]
        worst.append(sums[:, last])
        errors.append(of_kind[last])
    last = np.argsort(np.concatenate(errors))[-SEARCHED:]
    sums, error = np.concatenate(worst, axis=1)[:, last], np.concatenate(errors)[last]
    for _ in range(ALTERATIONS):
        sizes = rng.choice([1e-14, 1e-3, 0.5, 2.0], size=sums.shape)
        factors = np.where(
            rng.random(sums.shape) < 3 / code.parts, 1 + sizes * rng.standard_normal(sums.shape), 1.0
        )
        altered = sums * factors
        found = measured_errors(code, rows, vector, altered)
        larger = found > error
        sums[:, larger], error[larger] = altered[:, larger], found[larger]
    return [*largest, error.max()]


def predictions_of_better_arithmetic(code, rows, vector):
    """Predicted with payloads rounded once, exact decoding, and both; cpp/src/decoding.cpp has the terms."""
    terms = vector[:, None] * code.matrix[rows]
    partial = np.cumsum(terms, axis=0)
    squares, partial_squares = (terms**2).sum(axis=0), (partial[1:] ** 2).sum(axis=0)
    residual = np.abs(partial[-1] - 1).max()
    variances = (4 * squares + 2 * partial_squares, (code.redundancy + 3) * squares, 2 * squares)
    # Exact decoding evaluates the residual's sum without its own rounding; that of the coefficients stays.
    return [residual + 6 * UNIT_ROUNDOFF * math.sqrt(variance.max()) for variance in variances]


def worst_of_every_set(codes):
    """Of the cyclic ones: largest prediction, how many are beyond the goal, sets, the code, missing rows."""
    worst = None
    for code in codes:
        if not isinstance(code, CyclicCode):
            continue
        decoder = code._make_decoder()
        sets = itertools.combinations(range(code.workers), code.redundancy)
        count, beyond, largest, at = 0, 0, 0.0, None
        while some := list(itertools.islice(sets, 200_000)):
            errors = decoder.profile(np.array(some), threads=2)
            count, beyond = count + len(some), beyond + int((errors > GOAL).sum())
            if errors.max() > largest:
                largest, at = errors.max(), some[int(errors.argmax())]
        if worst is None or largest > worst[0]:
            worst = largest, beyond, count, code, at
    return worst


def line_of_every_set(workers, redundancy, codes):
    worst = worst_of_every_set(codes)
    if worst is None:
        return f"{workers:4}{redundancy:4}{'repetition':>32}"
    largest, beyond, count, code, at = worst
    rows = np.setdiff1d(np.arange(code.workers), at)
    vector, _ = code._make_decoder().decode(rows)
    searched = max(worst_measured(code, rows, vector, np.random.default_rng([6, workers, redundancy])))
    line = f"{workers:4}{redundancy:4}{code.workers:6}{code.redundancy:9}{count:11}{beyond:8}"
    return line + f"{largest:11.1e}{searched:10.1e}"


HEAD = f"{'N':>4}{'s':>4}{'rows':>6}{'missing':>9}{'sets':>11}{'beyond':>8}{'predicted':>11}{'searched':>10}"


def every_set_of_groups():
    print(HEAD)
    for workers, redundancy in GROUPED:
        codes = {group.code() for group in cyclic_groups(workers, redundancy)}
        print(line_of_every_set(workers, redundancy, codes), flush=True)


def block_of(workers, redundancy, substitute):
    return cyclic_schedule(workers, 1, np.eye(workers, dtype=int)[redundancy], substitute=substitute)


def cost(schedule):
    """Samples x coordinates that a worker computes, as a share of all."""
    index, row = schedule.walks[0].cells[0], schedule.walks[0].rows[0]
    cell = schedule.cells[index]
    return (cell.high - cell.low) * cell.code.support_parts(row).size / cell.code.parts


def every_set_of_auto():
    print(f"{HEAD}{'groups':>8}{'work':>8}   runtime, mu t0 = 0.05{'1':>8}")
    for workers, redundancies in TABLE_LEVELS.items():
        for redundancy in redundancies:
            if workers > 100:
                continue
            made, cyclic = (block_of(workers, redundancy, substitute) for substitute in (True, False))
            line = line_of_every_set(workers, redundancy, {cell.code for cell in made.cells})
            ratios = []
            for start in (0.05, 1.0):
                law = stats.expon(loc=start / (1 + start), scale=1 / (1 + start))
                times = law.rvs((20_000, workers), random_state=workers)
                own, other = (simulate(of, times, samples=workers).mean() for of in (made, cyclic))
                ratios.append(own / other)
            work = cost(made) / cost(cyclic)
            print(f"{line:<53}{len(made.cells):8}{work:8.3f}{ratios[0]:25.2f}{ratios[1]:8.2f}", flush=True)
    worst, works, most_sets = 0.0, [], 0
    for workers in range(2, 101):
        for redundancy in range(1, workers):
            made = block_of(workers, redundancy, True)
            works.append(cost(made) * workers / (redundancy + 1))
            for code in {cell.code for cell in made.cells}:
                if isinstance(code, CyclicCode):
                    assert code.profile.sets == math.comb(code.workers, code.redundancy)
                    worst = max(worst, code.profile.worst)
                    most_sets = max(most_sets, code.profile.sets)
    works = np.array(works)
    print(
        f"all {works.size} levels of N = 2 .. 100: predicted {worst:.1e} at worst on every set, of at most "
        f"{most_sets} a code; work {works.mean():.4f} in the mean, at most {np.quantile(works, 0.99):.3f} at "
        f"99 % and {works.max():.3f} at all, no more than the cyclic code at {int((works < 1 + 1e-9).sum())}"
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--climbs", type=int, nargs="+", default=[20, 200, 2_000])
    parser.add_argument("--groups", action="store_true", help="only the codes of groups, on every set")
    parser.add_argument("--auto", action="store_true", help="only the codes that code='auto' takes, likewise")
    arguments = parser.parse_args()
    if arguments.groups or arguments.auto:
        if arguments.groups:
            every_set_of_groups()
        if arguments.auto:
            every_set_of_auto()
        return
    names = ("normal", "heavy", "sparse", "single", "searched", "pred./max", "payload", "decoding", "both")
    print(f"{'N':>4}{'s':>4}  {'search':8}{'predicted':>10}" + "".join(f"{name:>10}" for name in names))
    for workers, redundancy in LEVELS:
        code = CyclicCode(workers, redundancy)
        climber = Climber(code)
        starts = first_sets(workers, redundancy)
        rng = np.random.default_rng([2, workers, redundancy])
        found = {"table": _worst_found(climber.decoder, workers, starts, rng, 5, 200, 40)[0]}
        found["climb"] = climber.worst_from(starts)[0]
        for search, stragglers in found.items():
            rows = np.setdiff1d(np.arange(workers), stragglers)
            vector, predicted = climber.decoder.decode(rows)
            measured = worst_measured(code, rows, vector, rng)
            line = f"{workers:4}{redundancy:4}  {search:8}{predicted:10.1e}"
            line += "".join(f"{error:10.1e}" for error in measured) + f"{predicted / max(measured):10.1f}"
            line += "".join(f"{e:10.1e}" for e in predictions_of_better_arithmetic(code, rows, vector))
            print(line, flush=True)
    print(
        f"\n{'N':>4}{'s':>4}  largest of" + "".join(f"{n:>8}" for n in arguments.climbs) + "  geometric mean"
    )
    for workers, redundancy in LEVELS:
        rng = np.random.default_rng([4, workers, redundancy])
        sets = _random_sets(workers, redundancy, max(arguments.climbs), rng)
        climber = Climber(CyclicCode(workers, redundancy))
        errors = np.concatenate(
            [climber.climb(some)[1] for some in np.array_split(sets, max(1, len(sets) // 100))]
        )
        line = f"{workers:4}{redundancy:4}            " + "".join(
            f"{errors[:n].max():8.0e}" for n in arguments.climbs
        )
        print(line + f"{np.exp(np.log(errors).mean()):16.0e}", flush=True)
    print(f"\n{'N':>4}{'s':>4}   climb  random  beyond {GOAL:.0e}")
    for workers, redundancies in TABLE_LEVELS.items():
        for redundancy in redundancies:
            if workers > 100 or math.comb(workers, redundancy) <= 1_000:
                continue
            climber = Climber(CyclicCode(workers, redundancy))
            worst = climber.worst_from(first_sets(workers, redundancy))[1]
            rng = np.random.default_rng([5, workers, redundancy])
            errors = climber.decoder.profile(_random_sets(workers, redundancy, REFUSAL_SETS, rng))
            beyond = int((errors > GOAL).sum())
            print(f"{workers:4}{redundancy:4}{worst:8.0e}{errors.max():8.0e}{beyond:8}", flush=True)
    print()
    every_set_of_groups()
    print()
    every_set_of_auto()


if __name__ == "__main__":
    main()
