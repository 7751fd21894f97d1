"""What the searches for block sizes share, whatever their objective, and what they give back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cgc_fast.arguments import Cost
from cgc_fast.censoring import complete
from cgc_fast.completion_report import CompletionReport
from cgc_fast.levels import Levels
from cgc_fast.partition import round_block_sizes
from cgc_fast.runtime_model import Estimate
from cgc_fast.sampled_plans import SampleReport
from cgc_fast.straggler_models import StragglerModel

__all__ = ["Outcome", "Request", "Search"]

Array = NDArray[np.float64]

_PURPOSES = ("means", "rates", "optimise", "score", "hold_out", "impute")


@dataclass(frozen=True, eq=False)
class Request:
    """What a plan is asked for, checked: scheme, levels allowed, model, and limits on blocks."""

    scheme: str
    levels: Levels
    model: StragglerModel
    coordinates: int
    cost: Cost
    draws: int
    seed: int
    min_block: int
    boundaries: NDArray[np.int64] | None


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a search found: sizes (K,) over the levels, real and whole, and what is known of them.

    The other entries are those of a `Plan`.
    """

    method: str
    relaxed: Array
    sizes: Array
    expected_runtime: Estimate
    lower_bound: float | None = None
    relative_gap: float | None = None
    relaxed_gap: float | None = None
    sample_report: SampleReport | None = None
    completion_report: CompletionReport | None = None
    history: Array | None = None


class Search(ABC):
    """Proposals of real block sizes (K,) over the levels allowed, with sum L, and the choice among them."""

    methods: ClassVar[tuple[str, ...]]

    def __init__(self, request: Request) -> None:
        self.scheme = request.scheme
        self.levels = request.levels
        self.coordinates = request.coordinates
        self.cost = request.cost
        self.draws = request.draws
        self.seed = request.seed
        self.min_block = request.min_block
        self.cuts = request.boundaries
        children = np.random.SeedSequence(request.seed).spawn(len(_PURPOSES))
        self._seeds = dict(zip(_PURPOSES, children, strict=True))
        # The model as planned for: nothing censored, `repeats` rows an iteration of a trace.
        self.model, self.repeats = complete(request.model, self.generator("impute"))

    @abstractmethod
    def run(self, method: str | None) -> Outcome:
        """The block sizes of one method, or the best of all for None."""

    def propose(self, method: str) -> Array:
        """Sizes of one of `methods`; each is a function of that name."""
        sizes: Array = getattr(self, method)()
        return sizes

    def generator(self, purpose: str) -> np.random.Generator:
        """Return a generator of its own for each purpose, so that draws to score with are fresh."""
        return np.random.default_rng(self._seeds[purpose])

    def rounded(self, sizes: Array) -> Array:
        """Whole sizes (K,), as floating-point numbers."""
        return round_block_sizes(sizes, self.coordinates, self.cuts).astype(np.float64)

    def one_level(self, level: int) -> Array:
        """All coordinates at the level of that index."""
        sizes = np.zeros(len(self.levels.work))
        sizes[level] = self.coordinates
        return sizes

    def thinned(self, sizes: Array) -> list[Array]:
        """The sizes, or with `min_block` those among their thinned versions that respect it.

        The smallest block is dropped, and the others scaled up, again and again. Which versions there are
        does not depend on `min_block`, so a smaller one leaves no fewer.
        """
        if self.min_block == 1:
            return [sizes]
        allowed = []
        while True:
            blocks = self.rounded(sizes)
            if blocks[blocks > 0].min() >= self.min_block:
                allowed.append(sizes)
            if np.count_nonzero(sizes) == 1:
                return allowed
            sizes = sizes.copy()
            sizes[np.argmin(np.where(sizes > 0, sizes, np.inf))] = 0.0
            sizes *= self.coordinates / sizes.sum()
