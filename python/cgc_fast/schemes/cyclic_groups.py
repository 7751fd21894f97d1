"""Groups of workers under cyclic codes of their own: their sizes, and how many members share a row."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc

from cgc_fast.codes import Code, CyclicCode, RepetitionCode

__all__ = ["CyclicGroup", "cyclic_groups", "expected_answers"]


class CyclicGroup(NamedTuple):
    """A group of workers of which any `redundancy` may be missing, 0 <= redundancy < members.

    Attributes
    ----------
    members : int
        m. The group has m / N of the samples, and each member computes (redundancy + 1) / m of these.
    redundancy : int
        n.
    sharing : int
        How many neighbours visit the same row. With k of them the code has m / k rows, of which (n + 1) / k
        - 1 may be missing: whoever is missing, n members are too few to take one row more than that. k has
        to divide m and n + 1; the work is the same for each.
    """

    members: int
    redundancy: int
    sharing: int = 1

    @classmethod
    def of_fewest_rows(cls, members: int, redundancy: int) -> CyclicGroup:
        """The group whose rows are shared by as many members as can be: it decodes soonest."""
        return cls(members, redundancy, math.gcd(members, redundancy + 1))

    def code(self, seed: int = 0) -> Code:
        """The code of the group: of repetition where all members share one row."""
        if self.members == self.redundancy + 1:
            return RepetitionCode(self.members)
        rows = self.members // self.sharing
        return CyclicCode(rows, (self.redundancy + 1) // self.sharing - 1, seed=seed)

    def rows(self) -> NDArray[np.int64]:
        """Which row each member visits, shape (m,)."""
        everyone = np.arange(self.members)
        return everyone if self.members == self.redundancy + 1 else everyone // self.sharing

    def decodes(self, answered: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probability that the group decodes if each member has answered with such a probability, alone."""
        rows, missing = self.members // self.sharing, (self.redundancy + 1) // self.sharing - 1
        somebody = 1.0 - (1.0 - answered) ** self.sharing
        probability: NDArray[np.float64] = bdtrc(rows - missing - 1, rows, somebody)
        return probability


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

    Those of least `expected_answers` among the ones that `_candidates` has; everybody computes as much.
    """
    return min(
        (
            tuple(CyclicGroup.of_fewest_rows(size, redundancy) for size in sizes)
            for sizes in _candidates(workers, redundancy)
        ),
        key=expected_answers,
    )


def _candidates(workers: int, redundancy: int) -> Iterator[tuple[int, ...]]:
    """Who is left over goes to some of the groups, to each a multiple of a divisor of n + 1.

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
