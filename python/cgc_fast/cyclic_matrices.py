"""Matrices of cyclic codes, chosen for the accuracy of decoding: which are tried, how they are tested.

A cyclic code is its null space matrix H (s, N); `_core.cyclic_coefficients` has the rest. Two kinds:

- The s highest harmonics of the circle, row by row cos and sin of k·2πj/N: the real cyclic MDS code
  [RAVIV20]. The null space is the trigonometric polynomials of degree t = (N−s−1)/2, of which N − s points
  determine one, so that any N − s rows decode. This needs N − s odd. Otherwise degree t = (N−s)/2 is one
  harmonic too many, and sin(tθ − π/(2N)) joins H: the determinant of what is left at the points θ_i is a
  positive multiple of |cos(Σ θ_i / 2 − φ)|, which this phase keeps away from 0, as Σ θ_i / 2 is a multiple of
  π/N. The best choice for few workers, small s and small N − s; the error for s contiguous stragglers, the
  worst there are, grows exponentially with s (N − s) / N.
- Harmonics drawn at random, plus a Gaussian of a hundredth of their size. Rows are nearly shifts of each
  other, as for the first kind, so that none is worse than the others, and a gap of contiguous stragglers is
  no worse than a random set. Without the Gaussian, sets with a symmetry of their own (unions of cosets) may
  not decode at all; with it any N − s rows do with probability 1 [TANDON17], and these sets accurately.

Orthonormal rows in place of those of H would change nothing: a code depends on the null space alone.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cgc_fast import _core
from cgc_fast.errors import NumericalError

__all__ = ["ChosenMatrix", "CodeProfile", "choose_matrix", "promised_error", "tries_all_sets"]

# All sets are tried if there are no more, as there are with up to 16 workers: that takes no longer than to
# sample and to search.
_MOST_SETS = 13_000
_RANDOM_SETS = 1_000
# Draws are compared on so many random sets (and others); the best of them are then tested on all.
_SCREENING_SETS = 100
_DRAWN_DEVIATION = 0.01
# A matrix with errors below this on every set tried is taken at once: a tenth of the promise.
_GOOD_ERROR = 1e-10
# Rounds of draws until one keeps the promise on random and contiguous sets. The first has always sufficed;
# two more are made for the sake of adversarial sets.
_MOST_ROUNDS = 8
_ADVERSARIAL_ROUNDS = 3
_TEST_THREADS = 2


@dataclass(frozen=True)
class CodeProfile:
    """Predicted decoding errors of a cyclic code with s stragglers, measured when its matrix was chosen.

    Attributes
    ----------
    sets : int
        How many straggler sets were decoded: every one if there are at most 13,000, else all contiguous ones
        and 1,000 random ones; those of the search for adversarial ones not counted.
    median : float
        Of the predicted errors.
    contiguous, random : float
        The largest predicted error of the contiguous sets, and of the others.
    adversarial : float
        The largest that a greedy search finds: from the worst random, contiguous and equally spaced sets on,
        as long as exchanging one straggler makes the set worse. Of all sets if they are all there are.
    attempts : int
        How many matrices had been compared when this one was found the best.
    single : float
        The largest predicted error of the contiguous and random sets with payloads rounded to float32.
    """

    sets: int
    median: float
    contiguous: float
    random: float
    adversarial: float
    attempts: int
    single: float

    @property
    def worst(self) -> float:
        """The largest of all."""
        return max(self.contiguous, self.random, self.adversarial)


@dataclass(frozen=True)
class ChosenMatrix:
    """H (s, N), the coefficients of the rows (N, s+1) and what was measured; arrays are read-only."""

    null_matrix: NDArray[np.float64]
    coefficients: NDArray[np.float64]
    profile: CodeProfile


def promised_error(workers: int) -> float:
    """Return what every cyclic code of N workers promises; infinity where its own profile is the promise."""
    return 1e-9 if workers <= 100 else math.inf


def tries_all_sets(workers: int, redundancy: int) -> bool:
    """Whether the profile of a code is that of every straggler set there is."""
    return math.comb(workers, redundancy) <= _MOST_SETS


def choose_matrix(workers: int, redundancy: int, seed: int) -> tuple[ChosenMatrix, _core.CyclicDecoder]:
    """Compare matrices and return the best, with its decoder.

    O(N s³ + N³) operations a matrix for at most 24 of them (16 beyond 100 workers, 3 beyond 200), and
    O(min(s, N − s)³ + N²) for each of some 20,000 decoded sets. Two more rounds if adversarial sets ask
    for them.

    Raises
    ------
    NumericalError
        None keeps the promise on random and contiguous sets.
    """
    limit = promised_error(workers)
    attempts, finalists = _most_attempts(workers)
    if math.comb(workers, redundancy) == 1 or redundancy in (1, workers - 1):
        attempts = 1 + (redundancy == 1 and workers % 2 == 1)
    closest = math.inf
    best = None
    for round_ in range(_MOST_ROUNDS):
        first = round_ * attempts
        screened = []
        for attempt in range(first, first + attempts):
            generator = np.random.default_rng([seed, workers, redundancy, attempt])
            matrix = _null_matrix(workers, redundancy, generator if attempt else None)
            coefficients = _core.cyclic_coefficients(matrix)
            decoder = _core.CyclicDecoder(matrix, coefficients)
            sets = _screening_sets(workers, redundancy, generator)
            error = float(decoder.profile(sets, threads=_TEST_THREADS).max())
            screened.append((error, attempt, matrix, coefficients, decoder))
            if attempt == 0 and error <= _GOOD_ERROR / 10:  # it will hardly be beaten
                break
        screened.sort(key=lambda entry: entry[:2])
        for _, attempt, matrix, coefficients, decoder in screened[:finalists]:
            generator = np.random.default_rng([seed, workers, redundancy, attempt, 1])
            profile = _measured(decoder, workers, redundancy, generator, first + len(screened))
            typical = max(profile.contiguous, profile.random)
            closest = min(closest, typical)
            if typical <= limit and math.isfinite(profile.worst):
                if best is None or profile.worst < best[0].profile.worst:
                    best = ChosenMatrix(matrix, coefficients, profile), decoder
                if profile.worst <= _GOOD_ERROR:
                    break
        if best is not None and (best[0].profile.worst <= limit or round_ + 1 >= _ADVERSARIAL_ROUNDS):
            best[0].null_matrix.flags.writeable = best[0].coefficients.flags.writeable = False
            return best
    raise NumericalError(
        f"no cyclic code for N = {workers} workers and redundancy s = {redundancy} keeps the promised error "
        f"of {limit:.1e}: the best of {attempts * _MOST_ROUNDS} matrices of seed {seed} has {closest:.1e}; "
        "try another seed"
    )


def _most_attempts(workers: int) -> tuple[int, int]:
    """How many draws are compared in a round, and how many of them are tested in full."""
    if workers <= 50:
        return 24, 8
    if workers <= 100:
        return 24, 4
    return (16, 2) if workers <= 200 else (3, 1)


def _null_matrix(
    workers: int, redundancy: int, generator: np.random.Generator | None = None
) -> NDArray[np.float64]:
    """H (s, N) of the highest harmonics, or drawn.

    Values are rounded to multiples of 2^-32: then the sums are exact, and so is H·1 = 0.
    """
    if generator is None:
        matrix = _highest_harmonics(workers, redundancy)
    else:
        matrix = _drawn_harmonics(workers, redundancy, generator)
        matrix += _DRAWN_DEVIATION * generator.standard_normal(matrix.shape)
        matrix -= matrix.mean(axis=1, keepdims=True)
    matrix = np.rint(matrix * 2.0**32) / 2.0**32
    matrix[:, -1] = -matrix[:, :-1].sum(axis=1)
    return matrix


def _highest_harmonics(workers: int, redundancy: int) -> NDArray[np.float64]:
    angles = 2 * np.pi * np.arange(workers) / workers
    kept = workers - redundancy
    rows = []
    if redundancy and kept % 2 == 0:
        rows.append(np.sin(kept // 2 * angles - np.pi / (2 * workers)))
    for k in range(kept // 2 + 1, (workers + 1) // 2):
        rows += [np.cos(k * angles), np.sin(k * angles)]
    if redundancy and workers % 2 == 0:
        rows.append((-1.0) ** np.arange(workers))
    return np.array(rows).reshape(redundancy, workers)


def _drawn_harmonics(workers: int, redundancy: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Drawn harmonics, cos and sin; an odd s takes the alternating row (N even) or half a harmonic."""
    angles = 2 * np.pi * np.arange(workers) / workers
    harmonics = generator.permutation(np.arange(1, (workers + 1) // 2)).tolist()
    rows = []
    for k in harmonics[: redundancy // 2]:
        rows += [np.cos(k * angles), np.sin(k * angles)]
    if redundancy % 2 and workers % 2 == 0:
        rows.append((-1.0) ** np.arange(workers))
    elif redundancy % 2:
        rows.append(np.cos(harmonics[redundancy // 2] * angles + generator.uniform(0, 2 * np.pi)))
    return np.array(rows).reshape(redundancy, workers)


def _measured(
    decoder: _core.CyclicDecoder, workers: int, redundancy: int, generator: np.random.Generator, attempts: int
) -> CodeProfile:
    sets = _test_sets(workers, redundancy, generator)
    errors = decoder.profile(sets, threads=_TEST_THREADS)
    is_contiguous = np.zeros(len(sets), dtype=bool)
    if not tries_all_sets(workers, redundancy):
        is_contiguous[:workers] = True
        starts = np.concatenate([sets, _spaced_sets(workers, redundancy)])
        adversarial = _worst_found(decoder, workers, starts, generator)[1]
    else:
        gaps = (np.roll(np.sort(sets, axis=1), -1, axis=1) - np.sort(sets, axis=1)) % workers
        is_contiguous[:] = (gaps == 1).sum(axis=1) >= redundancy - 1
        adversarial = float(errors.max())
    contiguous = float(errors[is_contiguous].max(initial=0.0))
    random = float(errors[~is_contiguous].max(initial=0.0))
    single = float(decoder.profile(sets, threads=_TEST_THREADS, single=True).max())
    return CodeProfile(len(sets), float(np.median(errors)), contiguous, random, adversarial, attempts, single)


def _worst_found(
    decoder: _core.CyclicDecoder,
    workers: int,
    starts: NDArray[np.int64],
    generator: np.random.Generator,
    searches: int = 3,
    batch: int = 100,
    steps: int = 20,
) -> tuple[NDArray[np.int64], float]:
    """Search for a bad straggler set (s,): exchange one straggler while that makes the set worse.

    Each step decodes `batch` sets, each with one exchange drawn at random, and takes the worst; a search ends
    after two steps in a row that found nothing.
    """
    errors = decoder.profile(starts, threads=_TEST_THREADS)
    size = starts.shape[1]
    order = np.argsort(errors)[::-1]
    worst, worst_error = starts[order[0]], float(errors[order[0]])
    for start in order[:searches].tolist():
        current, error, idle = starts[start], float(errors[start]), 0
        for _ in range(steps):
            others = np.setdiff1d(np.arange(workers), current)
            candidates = np.tile(current, (batch, 1))
            places = generator.integers(size, size=batch)
            candidates[np.arange(batch), places] = generator.choice(others, size=batch)
            found = decoder.profile(candidates, threads=_TEST_THREADS)
            index = int(found.argmax())
            idle = 0 if found[index] > error else idle + 1
            if idle == 2:
                break
            if idle == 0:
                current, error = candidates[index], float(found[index])
        if error > worst_error:
            worst, worst_error = current, error
    return worst, worst_error


def _test_sets(workers: int, redundancy: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Straggler sets (sets, s) on which a matrix is tested: all, or the contiguous and 1,000 random ones."""
    if tries_all_sets(workers, redundancy):
        return np.array(list(itertools.combinations(range(workers), redundancy)), dtype=np.int64)
    contiguous = (np.arange(workers)[:, None] + np.arange(redundancy)) % workers
    return np.concatenate([contiguous, _random_sets(workers, redundancy, _RANDOM_SETS, generator)])


def _screening_sets(workers: int, redundancy: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Fewer of them, and the equally spaced ones."""
    if math.comb(workers, redundancy) <= _RANDOM_SETS:
        return _test_sets(workers, redundancy, generator)
    contiguous = (np.arange(0, workers, 5)[:, None] + np.arange(redundancy)) % workers
    random = _random_sets(workers, redundancy, _SCREENING_SETS, generator)
    return np.concatenate([contiguous, random, _spaced_sets(workers, redundancy)])


def _random_sets(
    workers: int, redundancy: int, count: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    orders = np.tile(np.arange(workers), (count, 1))
    return np.ascontiguousarray(generator.permuted(orders, axis=1)[:, :redundancy])


def _spaced_sets(workers: int, redundancy: int) -> NDArray[np.int64]:
    """For every step d the stragglers 0, d, 2d, ... (mod N), from the next free one when it closes."""
    sets = []
    for step in range(2, workers // 2 + 1):
        cosets = np.arange(math.gcd(step, workers))[:, None]
        multiples = step * np.arange(workers // cosets.size)
        sets.append(((cosets + multiples) % workers).ravel()[:redundancy])
    return np.array(sets, dtype=np.int64).reshape(-1, redundancy)
