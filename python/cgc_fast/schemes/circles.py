"""Blocks that groups of workers walk around: every member covers all of its group's samples, by its own way.

For each group the coordinates of a block are a circle. Its members start at equidistant points of it, at each
one going forward and one backward, and go on past other starts until they are around. A piece is done as soon
as the first of them has been there, so that nobody waits for the way of a slow one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgc_fast.arguments import integer, quantity
from cgc_fast.codes import RepetitionCode
from cgc_fast.errors import ArgumentValueError
from cgc_fast.schedule import Cell, Feedback, Schedule, Walk

__all__ = ["Block", "circle_schedule", "contiguous_groups", "directions", "equal_bounds"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Block:
    """Coordinates that the workers share in groups.

    Parameters
    ----------
    size : int
        Coordinates; a block of none is left out.
    groups : sequence of sequences of int
        Every worker once. The order of the members says where they walk, see `directions`.
    bounds : sequence of float, length groups + 1, optional
        Group k computes the samples [bounds[k], bounds[k + 1]), fractions of M; k / groups by default.
    starts : int
        Most points at which the members of a group start; 0 if all walk forward from the same one.
    cells : int
        Cells between neighbouring starts, >= 1: what a message carries. Without starts one is enough.
    cuts : sequence of sequences of float, optional
        Instead of `cells`, for each group that has one start: where its circle is cut, in (0, 1), rising.
    """

    size: int
    groups: tuple[tuple[int, ...], ...]
    bounds: tuple[float, ...]
    starts: int
    cells: int
    cuts: tuple[tuple[float, ...], ...] | None

    def __init__(
        self,
        size: int,
        groups: Iterable[Iterable[int]],
        bounds: Iterable[float] | None = None,
        starts: int = 0,
        cells: int = 1,
        cuts: Iterable[Iterable[float]] | None = None,
    ) -> None:
        object.__setattr__(self, "size", integer("size", size, 0))
        members = tuple(tuple(integer("groups", w, 0) for w in group) for group in groups)
        if sorted(itertools.chain(*members)) != list(range(sum(map(len, members)))) or not all(members):
            raise ArgumentValueError(f"groups: expected every worker in one group, none empty, got {members}")
        object.__setattr__(self, "groups", members)
        ends = equal_bounds(len(members)) if bounds is None else tuple(float(f) for f in bounds)
        if len(ends) != len(members) + 1 or (ends[0], ends[-1]) != (0.0, 1.0) or list(ends) != sorted(ends):
            raise ArgumentValueError("bounds: expected 0 = first <= ... <= last = 1, a group between two")
        object.__setattr__(self, "bounds", ends)
        object.__setattr__(self, "starts", integer("starts", starts, 0))
        object.__setattr__(self, "cells", integer("cells", cells, 1))
        own = None if cuts is None else tuple(tuple(float(f) for f in of) for of in cuts)
        if own is not None and (
            len(own) != len(members)
            or any(list(of) != sorted(of) or not all(0 < f < 1 for f in of) for of in own)
        ):
            raise ArgumentValueError("cuts: expected rising fractions in (0, 1), a sequence for each group")
        object.__setattr__(self, "cuts", own)

    @property
    def workers(self) -> int:
        """N."""
        return sum(map(len, self.groups))

    def heights(self) -> Array:
        """Fraction (N,) of the samples that each worker computes."""
        heights = np.empty(self.workers)
        for group, low, high in zip(self.groups, self.bounds[:-1], self.bounds[1:], strict=True):
            heights[list(group)] = high - low
        return heights

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "size": self.size,
            "groups": [list(group) for group in self.groups],
            "bounds": list(self.bounds),
            "starts": self.starts,
            "cells": self.cells,
            **({} if self.cuts is None else {"cuts": [list(of) for of in self.cuts]}),
        }

    @classmethod
    def of(cls, form: Block | Mapping[str, Any]) -> Block:
        """Take a block, or its JSON form."""
        return form if isinstance(form, Block) else cls(**form)


def equal_bounds(groups: int) -> tuple[float, ...]:
    """Sample bounds k / groups."""
    return tuple(k / groups for k in range(groups + 1))


def contiguous_groups(workers: int, groups: int) -> tuple[tuple[int, ...], ...]:
    """Worker w in group floor(w g / N)."""
    group = np.arange(workers) * groups // workers
    return tuple(tuple(np.flatnonzero(group == k).tolist()) for k in range(groups))


def directions(members: int, starts: int) -> tuple[Array, NDArray[np.bool_]]:
    """Where the members of a group start, in [0, 1), and which go backward: (r,) each.

    Of p starts, members 2 j and 2 j + 1 share number j mod p, the first going forward and the second
    backward. There are never more starts than pairs; a last member without a partner goes forward.
    """
    index = np.arange(members)
    most = min(starts, (members + 1) // 2)
    if most == 0:
        return np.zeros(members), np.zeros(members, dtype=np.bool_)
    return index // 2 % most / most, index % 2 == 1


def circle_schedule(
    workers: int,
    coordinates: int,
    blocks: Sequence[Block | Mapping[str, Any]],
    feedback: Feedback = "none",
    boundaries: Sequence[int] | None = None,
    max_values_sent: float = 1.0,
) -> Schedule:
    """Blocks one after the other, each walked around by groups of workers.

    Every cell has a RepetitionCode of those members of its group that come by: no coefficients, any of them
    delivers it, and the loss of all but one is survived. A worker visits every coordinate once at most, so it
    sends at most L values.

    Parameters
    ----------
    workers, coordinates : int
        N and L, >= 1.
    blocks : sequence of Block, or of their JSON forms
        In the order of the walks; their sizes sum to L.
    feedback : {"none", "announce"}
        Whether workers learn which cells are decoded.
    boundaries : sequence of int, optional
        Where cells may begin and end, besides 0 and L; every cut is moved to the nearest one.
    max_values_sent : float
        Most values that a worker may send, in multiples of L, in (0, 1]. Below 1
        nobody walks all the way around: the members of all groups stop after the same fraction of their
        circles, before the cell that would be too much. Blocks without starts are not shortened.

    Raises
    ------
    ArgumentValueError
        Sizes or workers that do not fit; coordinates that nobody would come to.
    """
    workers, coordinates = integer("workers", workers, 1), integer("coordinates", coordinates, 1)
    made = [Block.of(block) for block in blocks]
    if sum(block.size for block in made) != coordinates:
        raise ArgumentValueError(
            f"blocks: expected sizes that sum to {coordinates} (coordinates), got "
            f"{[block.size for block in made]}"
        )
    for block in made:
        if block.workers != workers:
            raise ArgumentValueError(f"blocks: expected groups of {workers} workers, got {block.workers}")

    allowed = None if boundaries is None else np.unique([0, *boundaries, coordinates])
    if allowed is not None and (allowed[0] < 0 or allowed[-1] > coordinates):
        raise ArgumentValueError(
            f"boundaries: expected coordinates in 0..{coordinates}, got {allowed[0]} to {allowed[-1]}"
        )
    edges = [0, *itertools.accumulate(block.size for block in made)]
    moved = edges if allowed is None else [_nearest(allowed, edge) for edge in edges]
    circles = [after - before for before, after in itertools.pairwise(moved)]
    on_circles = sum(circle for circle, block in zip(circles, made, strict=True) if block.starts > 0)
    way_around = _way_around(on_circles, coordinates, max_values_sent)
    cells: list[Cell] = []
    visits: list[list[NDArray[np.int64]]] = [[] for _ in range(workers)]
    rows: list[list[NDArray[np.int64]]] = [[] for _ in range(workers)]
    for block, start, circle in zip(made, edges[:-1], circles, strict=True):
        most = int(way_around * circle + 1e-9) if block.starts > 0 else circle
        for index, group in enumerate(block.groups):
            low, high = block.bounds[index : index + 2]
            cuts, ways = _ways(block, index, start, allowed)
            if low == high or len(cuts) < 2:
                continue
            first = len(cells)
            come_by = np.zeros(len(cuts) - 1, dtype=np.int64)  # members so far, of each cell
            for worker, way in zip(group, ways, strict=True):
                walked = way[: int(np.searchsorted(np.cumsum(np.diff(cuts)[way]), most, side="right"))]
                visits[worker].append(first + walked)
                rows[worker].append(come_by[walked])
                come_by[walked] += 1
            if not come_by.all():
                missed = int(np.argmin(come_by))
                raise ArgumentValueError(
                    f"max_values_sent: expected more than {max_values_sent:g}, or narrower cells: nobody "
                    f"of the group {list(group)} comes to the coordinates {cuts[missed]}..{cuts[missed + 1]}"
                )
            codes = {members: RepetitionCode(members) for members in set(come_by.tolist())}
            cells += [
                Cell(a, b, low, high, codes[members])
                for (a, b), members in zip(itertools.pairwise(cuts), come_by.tolist(), strict=True)
            ]
    walks = [
        Walk(np.concatenate(at), np.concatenate(of)) if at else Walk([], [])
        for at, of in zip(visits, rows, strict=True)
    ]
    return Schedule(workers, coordinates, tuple(cells), tuple(walks), feedback)


def _way_around(walked: int, coordinates: int, max_values_sent: float) -> float:
    """Fraction of every circle that its members may walk, so that nobody sends more than allowed.

    `walked`: coordinates of all circles; the rest is in blocks without starts.
    """
    if not 0.0 < quantity("max_values_sent", max_values_sent) <= 1.0:
        raise ArgumentValueError(f"max_values_sent: expected a number in (0, 1], got {max_values_sent}")
    left = max_values_sent * coordinates - (coordinates - walked)
    if left < 0.0 or (walked == 0 and max_values_sent < 1.0):
        raise ArgumentValueError(
            f"max_values_sent: expected at least {1.0 - walked / coordinates:g}, because so many of the "
            f"coordinates are in blocks without starts, got {max_values_sent:g}"
        )
    return min(1.0, left / walked) if walked else 1.0


def _ways(
    block: Block, group: int, start: int, allowed: NDArray[np.int64] | None
) -> tuple[list[int], list[NDArray[np.int64]]]:
    """Where the circle of a group is cut, and the cells in the order of each member."""
    members = len(block.groups[group])
    arcs = max(1, min(block.starts, (members + 1) // 2))
    pieces = arcs * block.cells if members > 1 and block.starts > 0 else 1

    def moved(cut: int) -> int:
        return start + cut if allowed is None else _nearest(allowed, start + cut)

    # In integers, so that the cuts are those of the starts wherever the cells are no wider than 1.
    places = [block.size * k // pieces for k in range(pieces + 1)]
    if block.cuts is not None and block.starts > 0 and members > 1 and arcs == 1:
        places = [0, *(int(block.size * f + 0.5) for f in block.cuts[group]), block.size]
        pieces = len(places) - 1
    cuts = sorted({moved(place) for place in places})
    count = len(cuts) - 1
    if count < 1:
        return cuts, []
    order = np.arange(count)
    ways = []
    for position, reverse in zip(*directions(members, block.starts), strict=True):
        at = cuts.index(moved(block.size * round(position * arcs) // arcs)) % count if pieces > 1 else 0
        ways.append(np.roll(order, -at)[::-1] if reverse else np.roll(order, -at))
    return cuts, ways


def _nearest(allowed: NDArray[np.int64], cut: int) -> int:
    """The allowed cut nearest to one, the lower of two."""
    after = int(np.searchsorted(allowed, cut))
    if after == 0:
        return int(allowed[0])
    if after == len(allowed) or cut - allowed[after - 1] <= allowed[after] - cut:
        return int(allowed[after - 1])
    return int(allowed[after])
