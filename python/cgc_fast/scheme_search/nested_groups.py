"""Exact runtime of fractional repetition whose groups nest, for i.i.d. workers whose law has a density.

Block k is done by t if each of its groups has a member with T <= theta_k = t / cycles_k; the cycles rise with
k, so the theta_k fall. Let every group of block k be a union of groups of block k - 1. For such a union G let
A_k(G) be the probability that all conditions of the blocks up to k hold within it, and B_k(G, j) that they
do and no member is faster than theta_j, j > k. With c running over the parts of G,

    A_k(G)    = prod_c A_{k-1}(c) - prod_c B_{k-1}(c, k)
    B_k(G, j) = prod_c B_{k-1}(c, j) - prod_c B_{k-1}(c, k)

from A_0 = 1 and B_0(j) = P[T > theta_j] of a single worker on: G fails block k where all of its members are
slower than theta_k. P[tau <= t] is the product of A_K over the groups of the last block.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgc_fast.exact_runtime import exactly_solvable
from cgc_fast.mixtures import kinks
from cgc_fast.schemes.circles import Block
from cgc_fast.straggler_models import StragglerModel

__all__ = ["NestedGroups", "nests"]

Array = NDArray[np.float64]
Groups = tuple[tuple[int, ...], ...]

_PANELS, _NODES = 12, 12
_HALVINGS = 7
_ACCURACY, _ACCEPTED = 1e-10, 1e-7
_NEGLIGIBLE = 1e-17


def nests(blocks: Sequence[Block]) -> bool:
    """Whether each group is a union of groups of the block before; all on equal shares and walked alike."""
    for block in blocks:
        heights = np.diff(block.bounds)
        if block.starts or not np.allclose(heights, heights[0], rtol=1e-9, atol=0.0):
            return False
    for finer, coarser in itertools.pairwise(blocks):
        home = {worker: k for k, group in enumerate(coarser.groups) for worker in group}
        if any(len({home[worker] for worker in group}) > 1 for group in finer.groups):
            return False
    return True


class NestedGroups:
    """Distribution of the runtime for given cycles of the blocks.

    Parameters
    ----------
    model : StragglerModel
        For which `exactly_solvable`.
    groups : sequence of groups
        Of each block, in the order of the walks; `nests`.
    """

    def __init__(self, model: StragglerModel, groups: Sequence[Groups]) -> None:
        assert exactly_solvable(model)
        self.law: Any = model.law
        self.groups = tuple(groups)
        self.low, self.high = (float(end) for end in model.law.support())
        inside = kinks(model.law)
        self._kinks = inside if math.isinf(self.high) else np.append(inside, self.high)

    @cached_property
    def _tree(self) -> tuple[Any, ...]:
        """Nodes of the last block: sorted tuples of nodes down to workers, (). Equal nodes behave alike."""
        nodes: dict[tuple[int, ...], tuple[Any, ...]] = {
            (worker,): () for group in self.groups[0] for worker in group
        }
        for groups in self.groups:
            home = {worker: group for group in groups for worker in group}
            parts: dict[tuple[int, ...], list[Any]] = {group: [] for group in groups}
            for members, node in nodes.items():
                parts[home[members[0]]].append(node)
            nodes = {group: tuple(sorted(children)) for group, children in parts.items()}
        return tuple(nodes.values())

    def failure(self, times: Array, cycles: Array) -> Array:
        """P[tau > t] for times t (Q,), to an absolute 1e-15; rising cycles (K,) until the blocks end."""
        slow = self.law.sf(times / cycles[:, None])  # (K, Q), rising with k
        seen: dict[tuple[int, Any], tuple[Array, Array]] = {}

        def node(k: int, children: tuple[Any, ...]) -> tuple[Array, Array]:
            """A (Q,) and B (K - k, Q) of a group of block k = 1..K, or of a worker, k = 0."""
            if k == 0:
                return np.ones(len(times)), slow
            if (k, children) not in seen:
                inside, slower = np.ones(len(times)), np.ones((len(cycles) - k + 1, len(times)))
                for child in children:
                    of_child = node(k - 1, child)
                    inside, slower = inside * of_child[0], slower * of_child[1]
                seen[k, children] = inside - slower[0], slower[1:] - slower[0]
            return seen[k, children]

        done = np.ones(len(times))
        for group in self._tree:
            done = done * node(len(cycles), group)[0]
        return np.asarray(1.0 - done)

    def mean(self, cycles: Array) -> float | None:
        """E[tau], relative accuracy 1e-7 or better, usually 1e-10; None where that is not reached.

        An integral of P[tau > t] over log(t - t_lo), t_lo the least possible runtime, in panels that end
        where t / cycles_k passes a kink of the law.
        """
        start = float(cycles[-1]) * self.low
        centre = math.log(cycles[-1] * max(float(self.law.median()) - self.low, 1e-300))
        grid = np.linspace(centre - 40.0, centre + 40.0, 641)
        with np.errstate(over="ignore"):
            failure = self.failure(start + np.exp(grid), cycles)
        certain = np.flatnonzero(failure < 1.0 - 1e-13)
        matters = np.flatnonzero(failure * np.exp(grid - centre) > _NEGLIGIBLE)
        if not len(certain) or not len(matters) or matters[-1] + 1 == len(grid):
            return None
        left, right = grid[max(int(certain[0]) - 1, 0)], grid[int(matters[-1]) + 1]
        places = np.multiply.outer(cycles, self._kinks).ravel() - start
        places = np.log(places[places > 0.0])
        inner = places[(places > left) & (places < right)]
        cuts = np.unique(np.concatenate([np.linspace(left, right, _PANELS + 1), inner]))
        nodes, weights = np.polynomial.legendre.leggauss(_NODES)
        before = math.inf
        for _ in range(_HALVINGS):
            half = 0.5 * np.diff(cuts)[:, None]
            z = (0.5 * (cuts[:-1] + cuts[1:])[:, None] + half * nodes).ravel()
            integrand = self.failure(start + np.exp(z), cycles) * np.exp(z)
            value = start + math.exp(left) + float(integrand @ (half * weights).ravel())
            if abs(value - before) <= _ACCURACY * value:
                return value
            change, before = abs(value - before), value
            cuts = np.sort(np.concatenate([cuts, 0.5 * (cuts[:-1] + cuts[1:])]))
        return before if change <= _ACCEPTED * before else None
