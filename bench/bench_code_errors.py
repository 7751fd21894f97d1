"""Decoding errors of cyclic codes against the number of workers N and of stragglers s, beside other matrices.

    python bench/bench_code_errors.py [--quick] [--families chosen ...] [--plot docs/images/code_errors.png]

    chosen       CyclicCode: harmonics, chosen by measured errors
    grouped      the same for cyclic codes in groups whose members share rows: the worst group, of which s
                 members straggle, and whatever rows are then missing; groups of s + 1 members repeat and lose
                 nothing, and a group of N that shares nothing is the code above
    gaussian     one draw of the Gaussian null space [TANDON17], taken as it is
    highest      the s highest harmonics, real: the cyclic MDS code with a phase for the other parity
    chebyshev    polynomials at Chebyshev nodes (Reed-Solomon), real
    complex      complex cyclic MDS [RAVIV20]: the powers 0 .. N-s-1 of the roots of unity

The error is what `predicted_error` bounds: residual and rounding of float64 (or float32) payloads in the norm
of docs/notation.md; the tests keep it within 1 .. 10 times the measured one. median and random: of 300 random
straggler sets; contiguous: all N; adversarial: a greedy search by exchanges, with other random numbers than
those that the codes are chosen with, and up to N = 100 stronger; for the complex code a few exchanges.

refused: share of random straggler sets on which `decoding_vector` asks for one more row (float64), of 20,000.
"""

from __future__ import annotations

import argparse
import os
import time

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

import numpy as np

from cgc_fast import CyclicCode, NumericalError, _core
from cgc_fast.cyclic_matrices import _null_matrix, _random_sets, _spaced_sets, _worst_found
from cgc_fast.schemes.cyclic_groups import cyclic_groups

GOAL = 1e-9
RANDOM_SETS, REFUSAL_SETS = 300, 20_000
FAMILIES = ("chosen", "grouped", "gaussian", "highest", "chebyshev", "complex")
LEVELS = {
    10: (1, 2, 5, 8),
    20: (1, 2, 5, 10, 15, 18),
    50: (1, 2, 5, 12, 25, 37, 45, 48),
    100: (1, 2, 5, 10, 25, 50, 75, 90, 95, 98),
    200: (1, 2, 10, 20, 50, 100, 150, 180, 190),
}


def gaussian_matrix(workers, redundancy):
    rng = np.random.default_rng([0, workers, redundancy])
    matrix = np.rint(rng.standard_normal((redundancy, workers)) * 2.0**32) / 2.0**32
    matrix[:, -1] = -matrix[:, :-1].sum(axis=1)
    return matrix


def chebyshev_matrix(workers, redundancy):
    """The polynomials of degree < N - s at the Chebyshev nodes are the low cosines; these are the others."""
    degrees = np.arange(workers - redundancy, workers)[:, None]
    return np.cos(np.pi * degrees * (np.arange(workers) + 0.5) / workers)


def codes_of(family, workers, redundancy):
    """Workers and redundancy of the codes whose worst is shown."""
    if family != "grouped":
        return [(workers, redundancy)]
    codes = {group.code() for group in cyclic_groups(workers, redundancy)}
    coded = {(code.workers, code.redundancy) for code in codes if isinstance(code, CyclicCode)}
    return sorted(coded - {(workers, redundancy)})


def decoder_of(family, workers, redundancy):
    if family in ("chosen", "grouped"):
        return CyclicCode(workers, redundancy)._make_decoder()
    make = {"gaussian": gaussian_matrix, "highest": _null_matrix, "chebyshev": chebyshev_matrix}[family]
    matrix = make(workers, redundancy)
    return _core.CyclicDecoder(matrix, _core.cyclic_coefficients(matrix))


def straggler_sets(workers, redundancy):
    contiguous = (np.arange(workers)[:, None] + np.arange(redundancy)) % workers
    rng = np.random.default_rng([1, workers, redundancy])
    return contiguous, _random_sets(workers, redundancy, RANDOM_SETS, rng)


def real_errors(family, workers, redundancy, quick):
    """Float64 errors, and of the same sets the float32 ones: median, random, contiguous, adversarial."""
    decoder = decoder_of(family, workers, redundancy)
    contiguous, random = straggler_sets(workers, redundancy)
    errors = decoder.profile(random, threads=2)
    starts = np.concatenate([contiguous, random, _spaced_sets(workers, redundancy)])
    effort = (
        {"searches": 2, "batch": 50, "steps": 20}
        if quick or workers > 100 or family in ("highest", "chebyshev")
        else {"searches": 5, "batch": 200, "steps": 40}
    )
    rng = np.random.default_rng([2, workers, redundancy])
    worst_set, adversarial = _worst_found(decoder, workers, starts, rng, **effort)
    double = (np.median(errors), errors.max(), decoder.profile(contiguous, threads=2).max(), adversarial)

    def single(stragglers):
        rows = np.setdiff1d(np.arange(workers), stragglers)
        return decoder.predicted_error(rows, decoder.decode(rows)[0], True)

    singles = [single(s) for s in random[:100]]
    return double, (
        np.median(singles),
        max(singles),
        max(map(single, contiguous[:: max(1, workers // 20)])),
        single(worst_set),
    )


def complex_errors(workers, redundancy):
    """The same for the complex code, whose N contiguous sets are one."""
    powers = np.arange(workers - redundancy)
    basis = np.exp(2j * np.pi * np.outer(powers, np.arange(workers)) / workers) / np.sqrt(workers)
    # Row 0 is the polynomial whose roots are the powers that the null space leaves out; its coefficients are
    # q-binomials, products that lose no digits.
    turn = -2j * np.pi / workers
    i = np.arange(redundancy)
    ratios = np.expm1(turn * (redundancy - i)) / np.expm1(turn * (i + 1))
    row = np.append(1.0, np.cumprod(-ratios * np.exp(turn * (workers - redundancy + i))))[::-1]
    matrix = np.zeros((workers, workers), complex)
    for w in range(workers):
        matrix[w, (w + np.arange(redundancy + 1)) % workers] = row / np.linalg.norm(row)
    system = matrix @ basis.conj().T
    assert np.abs(matrix - system @ basis).max() <= 1e-6  # the rows lie in the row space
    target = basis.conj().sum(axis=1)
    unit_roundoff = 2.0**-53

    def error(stragglers):
        rows = np.setdiff1d(np.arange(workers), stragglers)
        vector = np.linalg.lstsq(system[rows].T, target, rcond=None)[0]
        terms = vector[:, None] * matrix[rows]
        sums = np.cumsum(terms, axis=0)
        variance = (redundancy + 3) * (np.abs(terms) ** 2).sum(axis=0) + 2 * (np.abs(sums[1:]) ** 2).sum(
            axis=0
        )
        return np.abs(sums[-1] - 1).max() + 6 * unit_roundoff * np.sqrt(variance.max())

    contiguous, random = straggler_sets(workers, redundancy)
    few = [error(s) for s in random[:30]]
    alone = error(contiguous[0])
    rng = np.random.default_rng([2, workers, redundancy])
    worst = max(alone, *few)
    for _ in range(20):
        exchanged = contiguous[0].copy()
        exchanged[rng.integers(redundancy)] = rng.integers(redundancy, workers)
        worst = max(worst, error(exchanged))
    return np.median(few), max(few), alone, worst


def refused_share(workers, redundancy):
    """Share of random sets beyond the promise, and the share with one straggler less."""
    code = CyclicCode(workers, redundancy)
    rng = np.random.default_rng([3, workers, redundancy])
    sets = _random_sets(workers, redundancy, REFUSAL_SETS, rng)
    refused = code._make_decoder().profile(sets, threads=2) > code.promise
    again = np.ascontiguousarray(sets[refused, 1:])
    helped = code._make_decoder().profile(again, threads=2) <= code.promise if len(again) else np.array([])
    return float(refused.mean()), int(refused.sum()), int(helped.sum())


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="N = 10, 20 and 50, a weaker search")
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=FAMILIES)
    parser.add_argument("--plot", metavar="FILE", help="draw the errors of all families")
    arguments = parser.parse_args()
    numbers = {n: LEVELS[n] for n in LEVELS if n <= (50 if arguments.quick else 200)}
    table = {}
    beyond = []
    print(f"{'N':>4}{'s':>4}  {'code':10}{'median':>9}{'random':>9}{'contig.':>9}{'advers.':>9}", end="")
    print("   float32:  median   random  contig.  advers.   promise     refused (helped by one more row)")
    for workers, levels in numbers.items():
        for redundancy in levels:
            for family in arguments.families:
                codes = codes_of(family, workers, redundancy)
                if not codes:  # one group, or all groups repeat
                    continue
                line = f"{workers:4}{redundancy:4}  {family:10}"
                if family == "complex":
                    table[family, workers, redundancy] = double = complex_errors(workers, redundancy)
                    print(line + "".join(f"{min(e, 9e9):9.0e}" for e in double), flush=True)
                    continue
                errors = [real_errors(family, *code, arguments.quick) for code in codes]
                double, single = np.max(errors, axis=0)
                table[family, workers, redundancy] = double
                line += "".join(f"{min(e, 9e9):9.0e}" for e in double) + " " * 11
                line += "".join(f"{min(e, 9e9):9.0e}" for e in single)
                if family in ("chosen", "grouped"):
                    try:
                        promise = max(CyclicCode(*code).promise_for(np.float32) for code in codes)
                        line += f"{promise:10.0e}"
                    except NumericalError:
                        line += f"{'none':>10}"
                    share, refused, helped = max(refused_share(*code) for code in codes)
                    line += f"{share:12.1e} ({helped} of {refused})"
                    if max(double) > GOAL and workers <= 100:
                        beyond.append((family, workers, redundancy, max(double)))
                print(line, flush=True)
    for family in {"chosen", "grouped"}.intersection(arguments.families):
        ours = [of[1:] for of in beyond if of[0] == family]
        print(f"{family}, N <= 100: {len(ours)} levels with a set beyond {GOAL:.0e}:", end=" ")
        print(", ".join(f"N = {n}, s = {s}: {e:.0e}" for n, s, e in ours) or "none")
    for workers in (10, 20, 50, 100):
        if workers in numbers and "chosen" in arguments.families:
            start = time.perf_counter()
            for redundancy in numbers[workers]:
                _ = CyclicCode(workers, redundancy, seed=1).profile
            seconds = (time.perf_counter() - start) / len(numbers[workers])
            print(f"choosing a matrix, N = {workers}: {seconds:.2f} s on average")
    if arguments.plot:
        draw(table, numbers, arguments.plot)


def draw(table, numbers, file):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = {"chosen": "C0", "grouped": "C2", "gaussian": "C1", "complex": "C3"}
    names = {
        "chosen": "CyclicCode",
        "grouped": "in groups, rows shared",
        "gaussian": "plain Gaussian",
        "complex": "complex cyclic MDS",
    }
    panels = [n for n in numbers if n >= 20]
    figure, axes = plt.subplots(
        1, len(panels), figsize=(3.1 * len(panels), 3.8), sharey=True, layout="constrained"
    )
    for axis, workers in zip(axes, panels, strict=True):
        for family, colour in shown.items():
            levels = [s for s in numbers[workers] if (family, workers, s) in table]
            errors = np.array([table[family, workers, s] for s in levels])
            errors = np.minimum(errors, 1.0)
            worst = errors.max(axis=1)
            axis.semilogy(levels, worst, color=colour, marker=".", label=f"{names[family]}, worst")
            axis.semilogy(levels, errors[:, 0], ":", color=colour, label=f"{names[family]}, median")
        axis.axhline(GOAL, color="k", linewidth=0.8)
        axis.set_title(f"N = {workers}")
        axis.set_xlabel("stragglers s")
        axis.set_ylim(1e-15, 2)
    axes[-1].annotate("1e-9", (1.02, GOAL), xycoords=("axes fraction", "data"), va="center", fontsize=8)
    axes[0].set_ylabel("relative error, float64")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9)
    figure.savefig(file, dpi=110)


if __name__ == "__main__":
    main()
