"""Search for the block sizes of the least expected runtime: every method, and the best of them."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cgc_fast.closed_forms import mean_rate_block_sizes, mean_time_block_sizes
from cgc_fast.errors import ArgumentValueError, NotCertified, NumericalError
from cgc_fast.exact_method import ExactOptimum, better_rounding, minimise_exactly, relaxed_gap_target
from cgc_fast.exact_runtime import ExactRuntime, exactly_solvable
from cgc_fast.levels import CyclicLevels, make_levels
from cgc_fast.mixtures import never_probability
from cgc_fast.order_statistics import Means
from cgc_fast.plan_search import Outcome, Request, Search
from cgc_fast.runtime_model import Estimate, evaluate
from cgc_fast.sampled_plans import Rivals, SampledPlan, sampled_plan
from cgc_fast.straggler_models import AtMostNever, IdenticalLaw, StragglerModel, Trace
from cgc_fast.subgradient import BATCH, minimise_by_subgradient

__all__ = ["METHODS", "RuntimeSearch", "given_enough_answers"]

Array = NDArray[np.float64]

METHODS = (
    "exact",
    "mean_rate",
    "mean_time",
    "sample_average",
    "single_level",
    "subgradient",
    "uncoded",
)

# Relative difference of two sample means that counts as a tie.
_TIE = 5e-4

# Up to here the exact method is worth its time where no method is asked for.
_EXACT_WORKERS = 1000

# Statistics that the subgradient method keeps at once: 128 MiB.
_SUBGRADIENT_ENTRIES = 2**24


class RuntimeSearch(Search):
    """Plans of the least expected runtime.

    All but the mean rates of the levels are needed by every method: which levels have a finite mean decides
    which may be used at all.
    """

    methods = METHODS

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self.request = request
        self.optimum: ExactOptimum | None = None  # once the exact method has run
        self.history: Array | None = None  # seconds, once the subgradient method has run
        self.rivals: Rivals | None = None  # of the sampled optimum of a trace
        self.means: Means = self.levels.mean_statistics(
            self.model, draws=self.draws, generator=self.generator("means")
        )
        self.usable = np.isfinite(self.means.values)
        if not self.usable.any():
            raise ArgumentValueError(self._no_usable_level())

    def run(self, method: str | None) -> Outcome:
        """The block sizes of one method, or the best of all, scored exactly or on common draws."""
        proposals = self.all() if method is None else {method: self.propose(method)}
        relaxed = {
            name: [sizes] if name == "sample_average" else self.thinned(sizes)
            for name, sizes in proposals.items()
        }
        candidates = [(name, sizes) for name, options in relaxed.items() for sizes in options]
        rounded = [self._rounded(name, sizes) for name, sizes in candidates]
        evaluation = evaluate(
            self.levels, rounded, self.model, self.means, self.cost, self.draws, self.generator("score")
        )
        # Of each method the best of what `min_block` left.
        best: dict[str, int] = {}
        for index, (name, _) in enumerate(candidates):
            if name not in best or evaluation.sampled[index] < evaluation.sampled[best[name]]:
                best[name] = index
        estimates = {name: evaluation.estimates[index] for name, index in best.items()}
        winner = candidates[0][0]
        if method is None:
            winner = _best(
                {name: float(evaluation.sampled[index]) for name, index in best.items()}, estimates
            )
        sampled = self.sampled if "sample_average" in proposals else None
        if sampled and winner not in ("sample_average", sampled.report.chosen):
            sampled = None
        return Outcome(
            _method_name(winner, sampled),
            candidates[best[winner]][1],
            rounded[best[winner]],
            estimates[winner],
            *self._certificate(winner, estimates[winner].value, sampled),
            sample_report=None if sampled is None else sampled.report,
            history=self.history if winner == "subgradient" else None,
        )

    def _rounded(self, name: str, sizes: Array) -> Array:
        """Whole sizes; where the exact optimum may be cut anywhere, those of its quadratic model."""
        whole = self.rounded(sizes)
        if name != "exact" or self.optimum is None or self.min_block > 1 or self.cuts is not None:
            return whole
        return self.levels.gather(better_rounding(self.optimum, self.levels.expand(whole), self._allowed()))

    def _allowed(self) -> NDArray[np.bool_]:
        """Which of all redundancies (N,) may be used."""
        allowed = np.zeros(self.levels.workers, dtype=np.bool_)
        allowed[self.levels.redundancies[self.usable]] = True
        return allowed

    def _certificate(
        self, winner: str, value: float, sampled: SampledPlan | None
    ) -> tuple[float | None, float | None, float | None]:
        """Lower bound, relative gap and relaxed gap, as far as the winner has them."""
        if winner == "exact" and self.optimum is not None and self.cost.forward_cycles == 0:
            optimum, target = self.optimum, relaxed_gap_target(self.levels.workers)
            if optimum.gap > target:
                warnings.warn(
                    f"method exact reached the relative gap {optimum.gap:.2g} before rounding instead of "
                    f"{target:g} after {optimum.steps} steps",
                    NotCertified,
                    stacklevel=4,
                )
            return optimum.lower_bound, max(0.0, value / optimum.lower_bound - 1.0), optimum.gap
        if sampled is not None:
            return sampled.lower_bound, sampled.relative_gap, sampled.relaxed_gap
        return None, None, None

    def all(self) -> dict[str, Array]:
        """Every proposal that exists; single levels other than the best cannot win."""
        if isinstance(self.model, Trace):
            return self._chosen_on_hold_out()
        proposals = {"single_level": self.single_level()}
        exact = isinstance(self.levels, CyclicLevels) and exactly_solvable(self.model)
        exact = exact and self.levels.workers <= _EXACT_WORKERS
        if exact:
            try:
                proposals["exact"] = self.exact()
            except NumericalError:  # a density that the quadrature does not resolve
                exact = False
        if not exact or self.cost.forward_cycles > 0:
            proposals |= {"mean_time": self.mean_time(), "subgradient": self.subgradient()}
            if np.isfinite(self._rates).all():
                proposals["mean_rate"] = self.mean_rate()
        if self.levels.redundancies[0] == 0 and self.usable[0]:
            proposals["uncoded"] = self.uncoded()
        if not exact or self.cost.forward_cycles > 0:
            proposals["sample_average"] = self.sample_average()
        return proposals

    def _chosen_on_hold_out(self) -> dict[str, Array]:
        """What methods make of the first half of a trace competes on the second.

        The proposal that won there, made from all rows, has the name "sample_average" in any case; unless it
        is a one-level one, it must also beat those in the mean over all rows.
        """
        self.rivals = self._rivals
        proposals = {"sample_average": self.sample_average()}
        if self.sampled.report.chosen not in ("single_level", "uncoded"):
            proposals["single_level"] = self.single_level()
            if self.levels.redundancies[0] == 0 and self.usable[0]:
                proposals["uncoded"] = self.uncoded()
        return proposals

    def _rivals(self, times: Array) -> dict[str, list[Array]]:
        """Block proposals of the other methods, made from some rows (S, N) of the trace."""
        part = RuntimeSearch(replace(self.request, model=Trace(times)))
        # Levels at which some other row never ends cannot be used.
        part.usable = self.usable
        part.means = Means(np.where(self.usable, part.means.values, np.inf), part.means.exact)
        proposals = {"mean_time": part.mean_time(), "subgradient": part.subgradient()}
        if np.isfinite(part._rates).all():
            proposals["mean_rate"] = part.mean_rate()
        return {name: self.thinned(sizes) for name, sizes in proposals.items()}

    def exact(self) -> Array:
        """Minimise the exact expectation, c taken as 0."""
        if not isinstance(self.levels, CyclicLevels) or not exactly_solvable(self.model):
            raise ArgumentValueError(
                "method exact: expected the scheme cyclic and i.i.d. workers whose law has a density, got "
                f"{self.scheme} and {self.model!r}; use subgradient"
            )
        start = self.levels.expand(self.mean_time())
        self.optimum = minimise_exactly(ExactRuntime(self.model), start, self._allowed(), self.cost)
        return self.levels.gather(self.optimum.block_sizes)

    def mean_time(self) -> Array:
        """Mean-time approximation [WANG22]."""
        return mean_time_block_sizes(self.means.values, self.levels.work, self.coordinates)

    def mean_rate(self) -> Array:
        """Mean-rate approximation [WANG22]."""
        exist = np.isfinite(self._rates)
        if not exist.all():
            bad = int(self.levels.redundancies[np.argmin(exist)])
            raise ArgumentValueError(
                f"method mean_rate: the mean rate of level {bad}, E[1/R], is infinite for {self.model!r}: "
                "cycle times come too close to 0; use mean_time, or a law that is bounded away from 0"
                + (f", or max_parts={bad}" if bad else "")
            )
        return mean_rate_block_sizes(self._rates, self.levels.work, self.coordinates)

    def subgradient(self) -> Array:
        """Stochastic projected subgradient method [WANG22]."""
        levels, usable = self.levels, self.usable
        draws = min(self.draws, max(BATCH, _SUBGRADIENT_ENTRIES // self.levels.workers))
        times = self.model.draw(self.generator("optimise"), draws)
        statistics = np.ascontiguousarray(levels.statistics(times)[:, usable])
        sizes = np.zeros(len(usable))
        start = self.mean_time()[usable]
        result = minimise_by_subgradient(statistics, levels.work[usable], start)
        sizes[usable] = result.block_sizes
        self.history = self.cost.samples / levels.workers * self.cost.cycles_per_derivative * result.history
        return sizes

    def sample_average(self) -> Array:
        """Minimise the mean over draws."""
        return self.sampled.sizes

    @cached_property
    def sampled(self) -> SampledPlan:
        """The minimum of the sample average, judged on a hold-out."""
        return sampled_plan(
            self.levels,
            self.usable,
            self.model,
            self.coordinates,
            self.cost,
            min_block=self.min_block,
            boundaries=self.cuts,
            draws=self.draws,
            repeats=self.repeats,
            generators=(self.generator("optimise"), self.generator("hold_out")),
            rivals=self.rivals,
        )

    def single_level(self) -> Array:
        """All coordinates at the level of the least mean [TANDON17]."""
        # Forward passes multiply all levels' cycles alike.
        return self.one_level(int(np.argmin(self.levels.work * self.means.values)))

    def uncoded(self) -> Array:
        """All coordinates at level 0."""
        if self.levels.redundancies[0] != 0:
            raise ArgumentValueError(
                "method uncoded: its level 0 is excluded by min_redundancy; the lowest level allowed is "
                f"{self.levels.redundancies[0]}"
            )
        if not self.usable[0]:
            raise ArgumentValueError(
                f"method uncoded: the slowest worker's mean cycle time is infinite for {self.model!r}; the "
                f"lowest usable level is {self.levels.redundancies[np.argmax(self.usable)]}"
            )
        return self.one_level(0)

    @cached_property
    def _rates(self) -> Array:
        """E[1/R_k] of the usable levels, 0 at the others: these stay empty."""
        rates = self.levels.mean_statistics(
            self.model, rates=True, draws=self.draws, generator=self.generator("rates")
        )
        return np.where(self.usable, rates.values, 0.0)

    def _no_usable_level(self) -> str:
        every = make_levels(self.scheme, self.levels.workers)
        means = every.mean_statistics(self.model, draws=self.draws, generator=self.generator("means")).values
        finite = every.redundancies[np.isfinite(means)]
        allowed = f"{self.levels.redundancies[0]} to {self.levels.redundancies[-1]}"
        if not len(finite):
            return f"cycle_time: no level has a finite expected runtime for {self.model!r}"
        return (
            f"max_parts: no block sizes over the levels {allowed} have a finite expected runtime for "
            f"{self.model!r}; the lowest usable level is {finite[0]}, which takes max_parts >= "
            f"{finite[0] + 1}"
        )


def _best(sampled: dict[str, float], estimates: dict[str, Estimate]) -> str:
    """Name of the best proposal: by the common draws, and never above what is known of one-level ones.

    A block plan must beat the best one-level proposal on the common draws, and also in the number that it
    reports, which for a single level is exact where possible: so noise cannot make it look better, or
    report worse. Among block plans one with a certificate wins ties, since what it loses is luck of
    the draws.
    """
    if all(estimate.standard_error == 0 for estimate in estimates.values()):
        return min(estimates, key=lambda name: (estimates[name].value, name != "uncoded"))
    one_level = min(
        (name for name in ("uncoded", "single_level") if name in estimates),
        key=lambda name: estimates[name].value,
    )
    others = [name for name in sampled if name not in ("uncoded", "single_level")]
    best = min(others, key=sampled.__getitem__)
    if sampled.get("sample_average", np.inf) <= sampled[best] * (1.0 + _TIE):
        best = "sample_average"
    wins = sampled[best] < sampled[one_level] and estimates[best].value < estimates[one_level].value
    return best if wins else one_level


def _method_name(winner: str, sampled: SampledPlan | None) -> str:
    """The method that gave the sizes: another one, if it took the place of the sampled optimum."""
    return winner if sampled is None else sampled.report.chosen


def given_enough_answers(model: StragglerModel, min_redundancy: int) -> StragglerModel:
    """Condition i.i.d. workers that may never answer on as many answers as every level can do with."""
    if not isinstance(model, IdenticalLaw) or not never_probability(model.law) > 0:
        return model
    if min_redundancy == 0:
        raise ArgumentValueError(
            f"cycle_time: every worker may never answer ({model!r}), so all may, and the expected runtime is "
            "infinite at every level; give min_redundancy=d >= 1 to minimise the mean given that at most d "
            "workers never answer"
        )
    return AtMostNever(model.law, model.workers, min_redundancy)
