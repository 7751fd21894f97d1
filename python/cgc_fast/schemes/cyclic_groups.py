"""Groups of workers under cyclic codes of their own: their sizes, and who shares a row."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, binom

from cgc_fast.codes import Code, CyclicCode, RepetitionCode

__all__ = [
    "CyclicGroup",
    "cyclic_groups",
    "expected_answers",
    "groups_by_work",
    "sizes_of_groups",
    "work",
]


class CyclicGroup(NamedTuple):
    """A group of workers of which any `redundancy` may be missing, 0 <= redundancy < members.

    Attributes
    ----------
    members : int
        m.
    redundancy : int
        n.
    rows : int
        R, 1 <= R <= m. Neighbours share a row, and as many members visit one as another, up to one. With
        R = m nobody shares, and with R = 1, or where m = n + 1, all compute the same: repetition.
    """

    members: int
    redundancy: int
    rows: int

    @classmethod
    def of_fewest_rows(cls, members: int, redundancy: int) -> CyclicGroup:
        """The group with the work of R = m whose rows are shared by as many as can be: it decodes soonest."""
        return cls(members, redundancy, members // math.gcd(members, redundancy + 1))

    @property
    def missing(self) -> int:
        """How many rows may be missing: the most that `redundancy` members can leave without anybody."""
        least, larger = divmod(self.members, self.rows)
        smaller = self.rows - larger
        left = self.redundancy - least * smaller
        return self.redundancy // least if left < 0 else smaller + left // (least + 1)

    @property
    def share(self) -> Fraction:
        """Of the samples of the group, what each member computes: never less than (n + 1) / m."""
        return Fraction(self.missing + 1, self.rows)

    def code(self, seed: int = 0) -> Code:
        """The code of the group."""
        if self._repeats():
            return RepetitionCode(self.members)
        return CyclicCode(self.rows, self.missing, seed=seed)

    def row_of_member(self) -> NDArray[np.int64]:
        """Which row of the code each member visits, shape (m,)."""
        everyone = np.arange(self.members)
        return everyone if self._repeats() else everyone * self.rows // self.members

    def _repeats(self) -> bool:
        return self.rows == 1 or self.members == self.redundancy + 1

    def decodes(self, answered: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probability that the group decodes if each member has answered with such a probability, alone."""
        least, larger = divmod(self.members, self.rows)
        smaller = self.rows - larger
        nobody, nobody_of_larger = (1.0 - answered) ** least, (1.0 - answered) ** (least + 1)
        probability = np.zeros_like(answered)
        for lost in range(min(larger, self.missing) + 1):  # of the larger rows
            chance = nobody_of_larger**lost * (1.0 - nobody_of_larger) ** (larger - lost)
            others = bdtr(min(self.missing - lost, smaller), smaller, nobody)
            probability += binom(larger, lost) * chance * others
        return probability


def work(groups: Iterable[CyclicGroup]) -> Fraction:
    """Of all samples, what every worker computes: a group has as many of them as make all compute as much."""
    return 1 / sum((1 / group.share for group in groups), Fraction(0))


@lru_cache(maxsize=4096)
def groups_by_work(members: int, redundancy: int) -> tuple[CyclicGroup, ...]:
    """The group with any number of rows, those whose members compute least first, then those of fewest rows.

    The last to be reached is repetition, R = 1, where everybody computes everything.
    """
    groups = (CyclicGroup(members, redundancy, rows) for rows in range(1, members + 1))
    return tuple(sorted(groups, key=lambda group: (group.share, group.rows)))


def expected_answers(groups: tuple[CyclicGroup, ...]) -> float:
    """Mean number of answers, in random order, until all groups decode.

    Let N workers answer at independent times, uniform on [0, 1]. The K-th answer comes at K / (N + 1) in the
    mean, and who is among the first K does not depend on when they come: E[K] is N + 1 times the mean time
    at which all groups decode, the integral of 1 - prod_g P(g decodes by u). That is a polynomial in u of
    degree N, for which as many nodes as here are exact.
    """
    workers = sum(group.members for group in groups)
    weights = _quadrature(workers // 2 + 1)[1]
    all_decode = np.ones_like(weights)
    for group in set(groups):
        all_decode *= _decodes_at_nodes(group, workers // 2 + 1) ** groups.count(group)
    return float((workers + 1) * (weights @ (1.0 - all_decode)))


@lru_cache(maxsize=4096)
def cyclic_groups(workers: int, redundancy: int) -> tuple[CyclicGroup, ...]:
    """Split workers into floor(N / (n + 1)) groups, the largest first.

    Those of least `expected_answers` among the ones that `sizes_of_groups` has; everybody computes as much.
    """
    return min(
        (
            tuple(CyclicGroup.of_fewest_rows(size, redundancy) for size in sizes)
            for sizes in sizes_of_groups(workers, redundancy)
        ),
        key=expected_answers,
    )


def sizes_of_groups(workers: int, redundancy: int) -> Iterator[tuple[int, ...]]:
    """Sizes of floor(N / (n + 1)) groups, the largest first.

    Who is left over goes to some of the groups, to each a multiple of a divisor of n + 1.

    For N up to 100 the best of these need at most 23 % more answers than the best of all sizes, and 0.15 %
    in the mean over all n.
    """
    groups, left_over = divmod(workers, redundancy + 1)
    for divisor in range(1, redundancy + 2):
        if (redundancy + 1) % divisor:
            continue
        units, rest = divmod(left_over, divisor)
        for larger in range(1, max(1, min(groups, units)) + 1):
            extra = [divisor * (units // larger + (k < units % larger)) for k in range(larger)]
            extra += [0] * (groups - larger)
            extra[-1] += rest
            yield tuple(sorted((redundancy + 1 + more for more in extra), reverse=True))


@lru_cache(maxsize=256)  # candidates have the same few groups
def _decodes_at_nodes(group: CyclicGroup, nodes: int) -> NDArray[np.float64]:
    return group.decodes(_quadrature(nodes)[0])


@lru_cache(maxsize=16)
def _quadrature(nodes: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gauss-Legendre nodes and weights on [0, 1]."""
    points, weights = np.polynomial.legendre.leggauss(nodes)
    return 0.5 * (points + 1.0), 0.5 * weights
