"""Search over the sets of levels that a plan may use, where each level that is used costs a forward pass.

With a forward pass (c > 0) a level costs time as soon as it is used at all, so the expected runtime is convex
only on a fixed set of levels. The set is searched: all of them if they are few, by adding, dropping and
exchanging levels from several starts otherwise. The certificate of the result refers to its set.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cgc_fast.sample_average import GAP, Minimum, SampleAverage, moved

__all__ = ["EXHAUSTIVE", "neighbours", "search_levels"]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

EXHAUSTIVE = 6  # levels up to which every set is looked at

# Gap of a set that is only compared with others, and the gain that a move must bring.
_SEARCH_GAP = 5e-4
_GAIN = 5e-4
# Statistics that the search looks at; the winners are minimised on all of them.
_SEARCH_ENTRIES = 200_000
# Starts are so many of the largest levels of the optimum for free forward passes, and all of them.
_START_SIZES = (2, 3, 5, 8)
# The second best start is followed up if it is so close to the best.
_CLOSE = 1.02
# Sets that one search looks at, at most.
_MOST_SETS = 300
# Levels with a smaller share are dropped together, and so are so many in a row.
_HARDLY = 1e-4
_RUNS = (1, 2, 4, 8)
# Part of the gain asked for that a set must promise.
_PROMISE = 0.2
# Share that a level starts with when it is added.
_NEW = 0.02


def search_levels(
    statistics: Array, work: Array, forward: float, *, least: float = 0.0, gap: float = GAP
) -> list[Minimum]:
    """Good sets of levels and the sample average's minimum on each, best first; never worse than one level.

    Parameters
    ----------
    statistics : ndarray of float64 of shape (S, K)
        Draws of the time statistics, finite and positive, in random order: the search itself looks at the
        first rows only.
    work : ndarray of float64 of shape (K,)
        Parts per coordinate.
    forward : float
        phi = c / (b L).
    least : float
        Smallest share of a level that is used.
    gap : float
        Of the minima returned.

    Notes
    -----
    Starts are the best single level, the lowest level, all levels, and the few that are largest in the
    optimum for c = 0; the search goes on from the best, and from the second if it is close. A neighbour drops
    levels, moves one by one place, or adds one; a set whose bound shows that it is no improvement is left
    at once, and most are after few linear programs, since cuts found for one set serve others. Ends in sets
    that no single move improves by more than 5e-4, or after 300 sets.
    """
    levels = len(work)
    few = statistics[: max(500, _SEARCH_ENTRIES // levels)]
    sampled = SampleAverage(few, work, forward)
    singles = work * few.mean(axis=0) * (1.0 + forward)
    best_one = _one(levels, int(np.argmin(singles)))
    if levels <= EXHAUSTIVE:
        ends = _every_set(sampled, best_one, least)
    else:
        ends = _local_searches(sampled, best_one, least)
    polished = SampleAverage(statistics, work, forward)
    minima = [
        polished.minimise(end.used, end.shares, least=least, gap=gap)
        for end in sorted(ends, key=lambda end: end.value)[:4]
    ]
    one = int(np.argmin(work * statistics.mean(axis=0)))
    minima.append(polished.minimise(_one(levels, one)))
    return sorted(minima, key=lambda minimum: minimum.value)


def _every_set(sampled: SampleAverage, first: Mask, least: float) -> list[Minimum]:
    """The best of all sets, each looked at only until its bound rules it out."""
    levels = len(first)
    best = sampled.minimise(first)
    codes = sorted(range(1, 2**levels), key=lambda code: code.bit_count())
    for code in codes:
        used = (code >> np.arange(levels) & 1).astype(np.bool_)
        if least * np.count_nonzero(used) > 1.0:
            continue
        found = _compare(sampled, used, None, least, best.value)
        if found.value < best.value:
            best = found
    return [best]


def _local_searches(sampled: SampleAverage, best_one: Mask, least: float) -> list[Minimum]:
    """Where the searches from the two best starts end."""
    levels = len(best_one)
    free = SampleAverage(sampled.statistics, sampled.work).minimise(gap=_SEARCH_GAP).shares
    room = levels if least == 0.0 else max(1, int(1.0 / least))
    order = np.argsort(-free, kind="stable")
    starts = {mask.tobytes(): mask for mask in (best_one, _one(levels, 0))}
    for count in sorted({min(size, room, levels) for size in _START_SIZES} | {min(room, levels)}):
        mask = np.zeros(levels, dtype=np.bool_)
        mask[order[:count]] = True
        starts[mask.tobytes()] = mask
    minima = [sampled.minimise(mask, free, least=least, gap=_SEARCH_GAP) for mask in starts.values()]
    minima.sort(key=lambda minimum: minimum.value)
    close = [minimum for minimum in minima[:2] if minimum.value <= _CLOSE * minima[0].value]
    return [_descend(sampled, start, least) for start in close]


def _descend(sampled: SampleAverage, start: Minimum, least: float) -> Minimum:
    """Take the first neighbour that improves, until none does."""
    here, improved, left = start, True, _MOST_SETS
    while improved:
        improved = False
        # Its bound, carried over, is what rules the neighbours out: leave room for what a move can gain.
        here = sampled.minimise(
            here.used, here.shares, least=least, gap=0.2 * _SEARCH_GAP, support=here.support
        )
        for used in _neighbours(sampled, here):
            if least * np.count_nonzero(used) > 1.0:
                continue
            left -= 1
            if left < 0:
                return here
            carried = np.where(used, np.maximum(here.shares, _NEW), 0.0)
            found = _compare(sampled, used, carried, least, here.value, here.support)
            if found.value < here.value * (1.0 - _GAIN):
                here, improved = found, True
                break
    return here


def _compare(
    sampled: SampleAverage,
    used: Mask,
    start: Array | None,
    least: float,
    best: float,
    support: Array | None = None,
) -> Minimum:
    """Minimise on a set, unless its bound reaches `best`."""
    enough = best * (1.0 - _GAIN)
    return sampled.minimise(used, start, least=least, gap=_SEARCH_GAP, enough=enough, support=support)


def _neighbours(sampled: SampleAverage, here: Minimum) -> Iterator[Mask]:
    """Sets with some levels dropped, with one moved by one place, or added."""
    yield from _thinned(sampled, here)
    yield from _moved_or_added(here.used)


def neighbours(used: Mask) -> Iterator[Mask]:
    """Sets with a level dropped, moved by one place, or added."""
    members = np.flatnonzero(used).tolist()
    if len(members) > 1:
        for level in members:
            yield _changed(used, drop=level)
    yield from _moved_or_added(used)


def _moved_or_added(used: Mask) -> Iterator[Mask]:
    for level in np.flatnonzero(used).tolist():
        for other in (level - 1, level + 1):
            if 0 <= other < len(used) and not used[other]:
                yield _changed(used, drop=level, add=other)
    for level in np.flatnonzero(~used).tolist():
        yield _changed(used, add=level)


def _thinned(sampled: SampleAverage, here: Minimum) -> list[Mask]:
    """Sets without a run of levels, or without all that are hardly used, the most promising first.

    Once the shares of those levels have moved to their neighbours, dropping the levels takes their terms out
    of the maxima. What that gains there is what it gains at the minimum, but for terms of second order: only
    sets for which it is a good part of the gain asked for are looked at.
    """
    members = np.flatnonzero(here.used)
    sets = [here.used & (here.shares > _HARDLY)]
    for length in _RUNS:
        for first in range(len(members) - length + 1):
            thinner = here.used.copy()
            thinner[members[first : first + length]] = False
            sets.append(thinner)
    promising: list[tuple[float, int, Mask]] = []
    for used in sets:
        if not 0 < np.count_nonzero(used) < len(members):
            continue
        shares = moved(here.shares, used)
        after = sampled.value(shares, used)
        if sampled.value(shares, here.used) - after > _PROMISE * _GAIN * here.value:
            promising.append((after, len(promising), used))
    return [used for *_, used in sorted(promising)]


def _changed(used: Mask, drop: int | None = None, add: int | None = None) -> Mask:
    other: Mask = used.copy()
    if drop is not None:
        other[drop] = False
    if add is not None:
        other[add] = True
    return other


def _one(levels: int, level: int) -> Mask:
    return _changed(np.zeros(levels, dtype=np.bool_), add=level)
