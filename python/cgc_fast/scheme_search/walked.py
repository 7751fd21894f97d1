"""Walked blocks: which group sizes, which sizes of blocks, who starts where, and how narrow the cells."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgc_fast.arguments import Cost
from cgc_fast.errors import ArgumentValueError
from cgc_fast.scheme_search.block_search import (
    Layout,
    Sizes,
    mean_runtime,
    optimise_sizes,
    shares_to_sizes,
    without,
)
from cgc_fast.scheme_search.composition import Composition, in_order
from cgc_fast.scheme_search.planned import Limits, PlannedScheme, Score, score
from cgc_fast.schemes.circles import Block, circle_schedule

__all__ = ["plan_walked"]

Array = NDArray[np.float64]

# Draws that the families of layouts are compared on; the best ones are improved on all.
_FEW = 400
_FOLLOWED = 3
# A block that is smaller is tried without; a change must gain so much.
_SMALL = 0.03
_GAIN = 5e-4
# Of the planned cells: what narrower ones would gain, and the most messages of a worker.
_LOSS = 4e-3
_MESSAGES = 2_000


def plan_walked(
    times: Array,
    coordinates: int,
    cost: Cost | None = None,
    *,
    composition: Composition | None = None,
    limits: Limits | None = None,
    swaps: int = 60,
    loss: float = _LOSS,
    max_messages: int = _MESSAGES,
    judge: Array | None = None,
    premium: float = 0.0,
    like: PlannedScheme | None = None,
    seed: int = 0,
) -> PlannedScheme:
    """Choose group sizes, block sizes, starts and cells on draws of the cycle times.

    Parameters
    ----------
    times : ndarray of float64 of shape (S, N)
        Draws in seconds per cycle; 2,000 are enough.
    coordinates : int
        L.
    cost : Cost, optional
        M, b and c.
    composition : Composition, optional
        Order and weights of the workers.
    limits : Limits, optional
        Parts that a worker may hold and losses to survive.
    swaps : int
        Exchanges of two places on the last circle that are tried.
    loss : float
        The cells are cut until the mean is within this of that of infinitely narrow ones, relatively.
    max_messages : int
        Of a worker, at most.
    judge : ndarray of float64 of shape (S', N), optional
        Other draws, on which the best layout is chosen after its sizes were on `times`: where speeds drift,
        what fits the past best is not what fits the future.
    premium : float
        A layout that survives the loss of any worker is taken before the best one, which does not, if its
        runtime is not longer by more than this, relatively.
    like : PlannedScheme, optional
        Take the numbers of groups and who walks from this one; nothing but sizes and places are sought.
    seed : int
        Of the exchanges.

    Returns
    -------
    PlannedScheme
        "walked"; `in_sample` is the mean of the schedule on `times`.

    Notes
    -----
    Families of layouts first: one, two or many group sizes, each with only the last block or all blocks
    walked; sizes by `optimise_sizes` on the first draws. The best are improved on all draws: blocks dropped,
    added, walked or not. Then the places of the workers on the last circle. In the end the cells: as
    few as `loss` allows. It takes about 2 s for N = 20 and 5 s for N = 48.
    """
    cost = Cost() if cost is None else cost
    limits = Limits() if limits is None else limits
    workers = times.shape[1]
    composition = in_order(workers) if composition is None else composition
    usable = usable_groups(composition, limits)
    few = times[:_FEW]
    ends = []
    families = _families(usable) if like is None else [_family(like)]
    for counts, walked in families:
        layout = make_layout(composition, counts, walked)
        if fits(layout, limits):
            ends.append(_drop_small(optimise_sizes(layout, few, coordinates, cost), few, coordinates, cost))
    if not ends:
        raise ArgumentValueError(
            f"max_parts: none of the layouts ({composition.name}) fits in {limits.max_parts} parts a worker"
        )
    ends.sort(key=lambda end: end.value)
    distinct = _distinct(ends)
    if limits.max_values_sent < 1.0:
        best, cells, found = _best_short_ways(distinct, times, coordinates, cost, limits, loss, max_messages)
    else:
        followed = [
            optimise_sizes(end.layout, times, coordinates, cost, end.shares)
            for end in distinct[: _FOLLOWED if judge is None else None]
        ]
        if like is None:
            followed += [
                _improve(end, composition, usable, limits, times, coordinates, cost)
                for end in sorted(followed, key=lambda end: end.value)[:_FOLLOWED]
            ]
        best = _insured_best(followed, judge, premium, coordinates, cost)
        best = _swap_places(best, times, coordinates, cost, swaps, seed)
        best = optimise_sizes(best.layout, times, coordinates, cost, best.shares)
        cells, found = plan_cells(best, times, coordinates, cost, limits, loss, max_messages)
    blocks = best.layout.sized(shares_to_sizes(best.shares, coordinates), cells)
    return PlannedScheme(
        "walked",
        workers,
        coordinates,
        {"blocks": [block.to_dict() for block in blocks], "feedback": "none", **limits.parameters},
        found,
        {
            "composition": composition.name,
            "narrow_cells_runtime": best.value,
            "families": [_describe(end) for end in distinct],
            "max_messages": max_messages,
        },
    )


def _insured_best(
    followed: Sequence[Sizes], judge: Array | None, premium: float, coordinates: int, cost: Cost
) -> Sizes:
    """The best layout, or the best that survives the loss of any worker, if worth the premium."""

    def judged(end: Sizes) -> float:
        if judge is None:
            return end.value
        return mean_runtime(end.layout, end.shares, judge, coordinates, cost)[0]

    best = min(followed, key=judged)
    if not _waits_for_all(best.layout):
        return best
    dearest = (1.0 + premium) * judged(best)
    insured = [end for end in followed if not _waits_for_all(end.layout) and judged(end) <= dearest]
    return min(insured, key=judged, default=best)


def _best_short_ways(
    ends: Sequence[Sizes],
    times: Array,
    coordinates: int,
    cost: Cost,
    limits: Limits,
    loss: float,
    max_messages: int,
) -> tuple[Sizes, int, Score]:
    """The best layout if nobody may send all coordinates, with sizes as without this limit, and its cells.

    What a layout is worth is known by simulation only: infinitely narrow cells are those of whole circles.
    """
    found: list[tuple[Sizes, int, Score]] = []
    refusal: ArgumentValueError | None = None
    for end in ends:
        try:
            found.append((end, *plan_cells(end, times, coordinates, cost, limits, loss, max_messages)))
        except ArgumentValueError as error:
            refusal = error
    if not found:
        assert refusal is not None
        raise refusal
    return min(found, key=lambda way: way[2].runtime)


def usable_groups(composition: Composition, limits: Limits) -> list[int]:
    """Numbers of groups, falling, that survive the loss of workers and fit in what one may hold."""
    workers = composition.workers
    counts = sorted({workers // r for r in range(1, workers + 1)}, reverse=True)
    counts = [
        g
        for g in counts
        if workers // g > limits.min_redundancy  # members of the smallest
        and limits.room_for(workers * float(np.diff(composition.bounds(g)).max()))
    ]
    if not counts:
        raise no_groups(limits)
    return counts


def no_groups(limits: Limits) -> ArgumentValueError:
    """Make the error for limits that no groups fit in."""
    return ArgumentValueError(
        f"max_parts, min_redundancy: no groups survive the loss of {limits.min_redundancy} workers with at "
        f"most {limits.max_parts} parts a worker; expected max_parts >= min_redundancy + 1"
    )


def make_layout(composition: Composition, counts: Iterable[int], walked: Iterable[int]) -> Layout:
    """Blocks of these numbers of groups, some walked: from as many starts as a group has pairs."""
    workers = composition.workers
    walked = {g for g in walked if g < workers}
    return Layout(
        tuple(
            Block(1, composition.groups(g), composition.bounds(g), -(-workers // g) if g in walked else 0)
            for g in counts
        )
    )


def fits(layout: Layout, limits: Limits) -> bool:
    """Whether nobody has to hold more than allowed."""
    return limits.room_for(float(layout.touched()[-1].max()) * layout.blocks[0].workers)


def _families(usable: Sequence[int]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    first, last = usable[0], usable[-1]
    sets = {(last,), (first, last), tuple(usable), (first, *usable[1:2], last), (*usable[1:2], last)}
    sets |= {(*usable[:3], last), (*usable[:2], *usable[len(usable) // 2 :][:1], last)}
    # Where workers may never answer only large groups are always done.
    sets |= {tuple(usable[skipped:]) for skipped in (2, len(usable) // 2) if usable[skipped:]}
    families = set()
    for counts in sets:
        distinct = tuple(sorted(set(counts), reverse=True))
        families |= {(distinct, distinct[-1:]), (distinct, distinct)}
    return sorted(families)


def _waits_for_all(layout: Layout) -> bool:
    """Whether there is a worker whom nobody can stand in for."""
    return min(len(group) for block in layout.blocks for group in block.groups) < 2


def _family(like: PlannedScheme) -> tuple[tuple[int, ...], tuple[int, ...]]:
    blocks = [Block.of(block) for block in like.parameters["blocks"]]
    counts = tuple(len(block.groups) for block in blocks)
    return counts, tuple(g for g, block in zip(counts, blocks, strict=True) if block.starts)


def _describe(end: Sizes) -> dict[str, Any]:
    return {
        "groups": [len(block.groups) for block in end.layout.blocks],
        "walked": [block.starts > 0 for block in end.layout.blocks],
        "shares": [round(float(share), 4) for share in end.shares],
        "runtime": end.value,
    }


def _key(layout: Layout) -> tuple[tuple[int, bool], ...]:
    return tuple((len(block.groups), block.starts > 0) for block in layout.blocks)


def _distinct(ends: Iterable[Sizes]) -> list[Sizes]:
    seen: dict[Any, Sizes] = {}
    for end in ends:
        seen.setdefault(_key(end.layout), end)
    return list(seen.values())


def _drop_small(end: Sizes, times: Array, coordinates: int, cost: Cost) -> Sizes:
    """Leave blocks out as long as that costs nothing worth speaking of."""
    while len(end.shares) > 1:
        index = int(np.argmin(end.shares))
        if end.shares[index] > _SMALL:
            break
        layout = without(end.layout, index)
        shares = np.delete(end.shares, index)
        less = optimise_sizes(layout, times, coordinates, cost, shares)
        if less.value > end.value * (1.0 + 0.2 * _GAIN):
            break
        end = less
    return end


def _improve(
    here: Sizes,
    composition: Composition,
    usable: Sequence[int],
    limits: Limits,
    times: Array,
    coordinates: int,
    cost: Cost,
) -> Sizes:
    """Take neighbours that gain: a block dropped, walked or not, or added; compared on few draws first."""
    few = times[:_FEW]
    looked_at = {_key(here.layout)}
    improved = True
    while improved:
        improved = False
        base = mean_runtime(here.layout, here.shares, few, coordinates, cost)[0]
        walked = {len(block.groups) for block in here.layout.blocks if block.starts}
        counts = [len(block.groups) for block in here.layout.blocks]
        share_of = dict(zip(counts, here.shares.tolist(), strict=True))
        moves = [(sorted({*counts, g}, reverse=True), {*walked, g}) for g in usable if g not in counts]
        moves += [(counts, walked ^ {g}) for g in counts if composition.workers // g > 1]
        moves += [([g for g in counts if g != gone], walked - {gone}) for gone in counts if len(counts) > 1]
        for new, walks in moves:
            layout = make_layout(composition, new, walks)
            if _key(layout) in looked_at or not fits(layout, limits):
                continue
            looked_at.add(_key(layout))
            start = np.array([share_of.get(g, 0.1) for g in new])
            found = optimise_sizes(layout, few, coordinates, cost, start, most=30)
            if found.value >= base * (1.0 - _GAIN):
                continue
            found = optimise_sizes(layout, times, coordinates, cost, found.shares)
            if found.value < here.value * (1.0 - _GAIN):
                here, improved = _drop_small(found, times, coordinates, cost), True
                break
    return here


def _swap_places(here: Sizes, times: Array, coordinates: int, cost: Cost, swaps: int, seed: int) -> Sizes:
    """Exchange places on the last circle where that gains."""
    last = here.layout.blocks[-1]
    if not last.starts:
        return here
    # On both halves of the draws, or the places would be made for these draws only.
    halves = [half for half in np.array_split(times, 2) if len(half)]

    def means(layout: Layout) -> Array:
        return np.array([mean_runtime(layout, here.shares, half, coordinates, cost)[0] for half in halves])

    generator = np.random.default_rng(seed)
    best, layout = means(here.layout), here.layout
    for _ in range(swaps):
        group = int(generator.integers(len(last.groups)))
        members = list(last.groups[group])
        if len(members) < 3:
            continue
        i, j = generator.choice(len(members), 2, replace=False)
        members[i], members[j] = members[j], members[i]
        groups = (*last.groups[:group], tuple(members), *last.groups[group + 1 :])
        block = Block(1, groups, last.bounds, last.starts)
        trial = Layout((*layout.blocks[:-1], block))
        found = means(trial)
        if (found < best).all():
            best, layout, last = found, trial, block
    return Sizes(layout, here.shares, float(best.mean()))


def plan_cells(
    best: Sizes,
    times: Array,
    coordinates: int,
    cost: Cost,
    limits: Limits,
    loss: float,
    max_messages: int,
) -> tuple[int, Score]:
    """The fewest cells between starts, a power of two, that lose no more than asked for; and the score.

    Raises
    ------
    ArgumentValueError
        Ways that may not go all around leave something out, however narrow the cells.
    """
    sizes = shares_to_sizes(best.shares, coordinates)
    chosen = 1
    found: Score | None = None
    for power in itertools.count():
        cells = 2**power
        blocks = best.layout.sized(sizes, cells)
        try:
            schedule = circle_schedule(
                blocks[0].workers, coordinates, blocks, max_values_sent=limits.max_values_sent
            )
            limits.check_survival(schedule)
        except ArgumentValueError:  # cells that nobody comes to may be too wide
            if cells >= coordinates:
                raise
            continue
        if found is not None and max(map(len, schedule.walks)) > max_messages:
            break
        tried = score(schedule, times, cost)
        if found is not None and tried.runtime >= found.runtime:
            break
        before, chosen, found = found, cells, tried
        if limits.max_values_sent == 1.0:
            enough = found.runtime <= best.value * (1.0 + loss)
        else:  # what infinitely narrow cells would take is known of whole circles only
            enough = before is not None and before.runtime <= found.runtime * (1.0 + loss)
        if enough:
            break
    assert found is not None
    return chosen, found
