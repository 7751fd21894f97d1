"""Search for the block sizes of the largest completion probability: every method, and the best of them."""

from __future__ import annotations

import warnings
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from cgc_fast.arguments import Cost
from cgc_fast.closed_forms import equalised_block_sizes, mean_time_block_sizes
from cgc_fast.completion_report import CompletionReport
from cgc_fast.deadlines import smallest_threshold
from cgc_fast.errors import ArgumentValueError, NotCertified
from cgc_fast.exact_completion import (
    ODDS_GAP,
    CompletionOptimum,
    has_log_concave_rate,
    log_odds,
    maximise_completion,
)
from cgc_fast.exact_runtime import ExactRuntime, completion_solvable, level_cycles
from cgc_fast.levels import CyclicLevels
from cgc_fast.mixtures import never_probability
from cgc_fast.plan_search import Outcome, Request, Search
from cgc_fast.runtime_model import completion_of_draws, evaluate
from cgc_fast.sampled_completion import SampledCompletion, sampled_completion
from cgc_fast.straggler_models import IdenticalLaw, Trace, law_text

__all__ = ["METHODS", "CompletionSearch", "tail_power"]

Array = NDArray[np.float64]

METHODS = ("exact", "large_threshold", "sample_average", "single_level", "stationary", "uncoded")

# Up to here the exact method is worth its time where no method is asked for.
_EXACT_WORKERS = 1000

# Beyond this number of workers, where a start costs seconds, only the first two are climbed from.
_MANY_WORKERS = 200

# Families with P[T > t] = exp(-(t / scale)^k) up to slower factors, and their k; None: the shape.
_TAILS: dict[str, float | None] = {
    "expon": 1.0,
    "gamma": 1.0,
    "erlang": 1.0,
    "chi2": 1.0,
    "rayleigh": 2.0,
    "weibull_min": None,
}


def tail_power(law: Any) -> float | None:
    """K of tails P[T > t] ~ exp(-(t / scale)^k), by the law's family; None where there is no such k."""
    name = law.dist.name
    if type(getattr(stats, name, None)) is not type(law.dist) or name not in _TAILS:
        return None
    power = _TAILS[name]
    return power if power is not None else float(law.args[0] if law.args else law.kwds["c"])


class CompletionSearch(Search):
    """Plans of the largest completion probability by a threshold.

    Probabilities are exact for cyclic codes and i.i.d. workers whose law has a density, and fractions of
    draws or of a trace's rows otherwise.
    """

    methods = METHODS

    def __init__(self, request: Request, threshold: float) -> None:
        super().__init__(request)
        self.threshold = threshold
        self.smallest = smallest_threshold(self.levels, self.model, self.coordinates, self.cost)
        self.optimum: CompletionOptimum | None = None  # once an exact method has run
        self.sampled: SampledCompletion | None = None  # once a sampled method has run
        self.certifiable = self.exact_law is not None and has_log_concave_rate(self.exact_law)

    def run(self, method: str | None) -> Outcome:
        """The block sizes of one method, or the best of all that apply."""
        proposals = self.all() if method is None else {method: self.propose(method)}
        candidates = [
            (name, sizes)
            for name, proposed in proposals.items()
            for sizes in ([proposed] if self._is_sampled(name) else self.thinned(proposed))
        ]
        whole = [self.rounded(sizes) for _, sizes in candidates]
        scores = self._scores(whole)
        best = max(range(len(candidates)), key=lambda index: log_odds(*scores[index][:2]))
        (name, relaxed), (inside, failure, error) = candidates[best], scores[best]
        report = self._report(name, inside, failure, error)
        if report.replaced and report.one_level is not None:
            name = report.one_level
        means = self.levels.mean_statistics(self.model, draws=self.draws, generator=self.generator("means"))
        evaluation = evaluate(
            self.levels, [whole[best]], self.model, means, self.cost, self.draws, self.generator("score")
        )
        return Outcome(name, relaxed, whole[best], evaluation.estimates[0], completion_report=report)

    def all(self) -> dict[str, Array]:
        """Every proposal that may win; a sampled one has compared itself with the others."""
        if self.exact_law is None:
            return {"sample_average": self.sample_average()}
        # Of equals the first is taken.
        proposals = {}
        if self.levels.redundancies[0] == 0:
            proposals["uncoded"] = self.uncoded()
        proposals["single_level"] = self.single_level()
        if self._tail_power is not None:
            proposals["large_threshold"] = self.large_threshold()
        if self.levels.workers <= _EXACT_WORKERS:
            proposals["exact"] = self.exact()
        else:
            proposals["sample_average"] = self.sample_average()
        return proposals

    def exact(self) -> Array:
        """Climb the exact probability from several starts."""
        if self.exact_law is None:
            raise ArgumentValueError(
                "method exact: expected the scheme cyclic and i.i.d. workers whose law has a density, got "
                f"{self.scheme} and {self.model!r}; use sample_average"
            )
        return self._climbed(self._starts())

    def stationary(self) -> Array:
        """Climb from one start, the exact probability or the fraction of draws [WANG22]."""
        if self.exact_law is None:
            return self._sampled(several=False)
        return self._climbed(self._starts()[:1])

    def sample_average(self) -> Array:
        """Climb the fraction of draws from several starts, judged on a hold-out."""
        return self._sampled(several=True)

    def large_threshold(self) -> Array:
        """Equal exponents of failure at all levels [WANG22]: `large_threshold_block_sizes`."""
        power = self._tail_power
        if power is None:
            raise ArgumentValueError(
                "method large_threshold: expected i.i.d. workers with an exponential, gamma or Weibull law, "
                f"whose tails have a rule, got {self.model!r}; use exact or sample_average"
            )
        # A level fails by n + 1 slow workers, with the exponent (n + 1) / W_n^k: equal at all levels.
        return equalised_block_sizes(self._loads(power), self.levels.work, self.coordinates)

    def single_level(self) -> Array:
        """All coordinates at the level that is most likely to complete [TANDON17]."""
        cycles = self.levels.single_level_cycles(self.coordinates, self.cost)
        if self.exact_law is None:
            scores = self._scores([self.one_level(level) for level in range(len(cycles))])
            odds = np.array([log_odds(*score[:2]) for score in scores])
        else:
            # P[T_(k) <= a] = P[at least k of N workers are that fast], k = N - n.
            below, above = (
                self.exact_law.cdf(self.threshold / cycles),
                self.exact_law.sf(self.threshold / cycles),
            )
            slow = self.levels.redundancies + 1.0
            fast = self.levels.workers - self.levels.redundancies
            with np.errstate(divide="ignore"):
                odds = np.log(special.betainc(fast, slow, below)) - np.log(special.betainc(slow, fast, above))
        return self.one_level(int(np.argmax(odds)))

    def uncoded(self) -> Array:
        """All coordinates at level 0."""
        if self.levels.redundancies[0] != 0:
            raise ArgumentValueError(
                "method uncoded: its level 0 is excluded by min_redundancy; the lowest level allowed is "
                f"{self.levels.redundancies[0]}"
            )
        return self.one_level(0)

    @cached_property
    def exact_law(self) -> Any:
        """The law where probabilities are exact, otherwise None."""
        if isinstance(self.levels, CyclicLevels) and completion_solvable(self.model):
            return self.model.law
        return None

    @cached_property
    def _distribution(self) -> ExactRuntime:
        assert isinstance(self.model, IdenticalLaw)
        return ExactRuntime(self.model)

    @property
    def _tail_power(self) -> float | None:
        return tail_power(self.model.law) if isinstance(self.model, IdenticalLaw) else None

    def _loads(self, power: float) -> Array:
        """W_n of equal exponents, (n + 1)^(1/k), up to a factor."""
        return np.asarray((self.levels.redundancies + 1.0) ** (1.0 / power), dtype=np.float64)

    def _starts(self) -> list[Array]:
        """Block sizes (N,) to climb from."""
        levels = self.levels
        power = self._tail_power or 1.0
        starts: list[Array] = [
            equalised_block_sizes(self._loads(power), levels.work, self.coordinates),
            np.full(len(levels.work), self.coordinates / len(levels.work)),
            self.single_level(),
            self.one_level(0),
        ]
        means = levels.mean_statistics(self.model, draws=self.draws, generator=self.generator("means"))
        if np.isfinite(means.values).any():
            starts.insert(1, mean_time_block_sizes(means.values, levels.work, self.coordinates))
        if levels.workers > _MANY_WORKERS:
            starts = starts[:2]
        return [levels.expand(start) for start in starts]

    def _climbed(self, starts: list[Array]) -> Array:
        """The best of the ascents from the starts, only the first if it is proved to be the optimum."""
        allowed = np.zeros(self.levels.workers, dtype=np.bool_)
        allowed[self.levels.redundancies] = True
        if never_probability(self.exact_law) > 0:
            allowed = self._with_enough_answers(starts[0], allowed)
        some = starts[:1] if self.certifiable else starts
        arguments = (allowed, self.cost)
        self.optimum = maximise_completion(self._distribution, self.threshold, some, *arguments)
        if self.optimum.odds_gap > ODDS_GAP and len(some) < len(starts):
            self.optimum = maximise_completion(self._distribution, self.threshold, starts, *arguments)
        return self.levels.gather(self.optimum.block_sizes)

    def _with_enough_answers(self, start: Array, allowed: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The levels from the best lowest one on, for workers that may never answer.

        A level in use, however small, waits for N - n answers: the probability jumps where the lowest
        level in use becomes empty, and an ascent does not see that. The lowest levels are tried in turn, for
        c = 0, unless so many answers are too improbable.
        """
        workers, never = self.levels.workers, never_probability(self.exact_law)
        free = Cost(self.cost.samples, self.cost.cycles_per_derivative)
        best, chosen = -1.0, allowed
        for lowest in self.levels.redundancies:
            if stats.binom.cdf(lowest, workers, never) <= best:
                continue
            from_here = allowed & (np.arange(workers) >= lowest)
            found = maximise_completion(self._distribution, self.threshold, [start], from_here, free)
            if found.inside > best:
                best, chosen = found.inside, from_here
        return chosen

    def _sampled(self, *, several: bool) -> Array:
        self.sampled = sampled_completion(
            self.levels,
            self.model,
            self.coordinates,
            self.cost,
            self.threshold,
            thin=self.thinned,
            rounded=self.rounded,
            several=several,
            draws=self.draws,
            repeats=self.repeats,
            generators=(self.generator("optimise"), self.generator("hold_out")),
        )
        return self.sampled.sizes

    def _is_sampled(self, name: str) -> bool:
        return name == "sample_average" or (name == "stationary" and self.exact_law is None)

    def _scores(self, candidates: list[Array]) -> list[tuple[float, float, float]]:
        """P, 1 - P and their standard error of whole sizes (K,): exact, or on common fresh draws."""
        if self.exact_law is not None:
            time = np.array([self.threshold])
            scores = []
            for sizes in candidates:
                cycles = level_cycles(self.levels.expand(sizes), self.cost)
                inside, failure = self._distribution.probabilities(time, cycles)
                scores.append((float(inside[0]), float(failure[0]), 0.0))
            return scores
        fractions, count = completion_of_draws(
            self.levels,
            candidates,
            self.model,
            self.threshold,
            self.cost,
            self.draws,
            np.random.default_rng(self.seed),  # as `Plan.completion_probability` draws
        )
        errors = np.zeros(len(fractions))
        if not isinstance(self.model, Trace):
            errors = np.sqrt(fractions * (1.0 - fractions) / count)
        return [(float(p), float(1.0 - p), float(e)) for p, e in zip(fractions, errors, strict=True)]

    def _report(self, name: str, inside: float, failure: float, error: float) -> CompletionReport:
        entries: dict[str, Any] = {}
        if inside == 0.0 and self._impossible():
            entries["scope"] = "all levels allowed: the deadline is impossible"
            entries |= {"upper_bound": 0.0, "failure_lower_bound": 1.0}
        elif self.exact_law is not None and failure == 0.0:
            entries["scope"] = "all levels allowed: completion is certain"
            entries |= {"upper_bound": 1.0, "failure_lower_bound": 0.0}
        elif self._is_sampled(name) and self.sampled is not None:
            entries |= self.sampled.report
            entries["scope"] = f"best of {entries['starts']} starts on the sample"
            if isinstance(self.model, Trace):
                entries["scope"] += "; its own rows"
        elif self.optimum is not None:
            entries |= self._certificate(self.optimum, failure)
        else:
            entries["scope"] = "the best single level" if name == "single_level" else f"as {name} gives it"
        return CompletionReport(
            threshold=self.threshold,
            probability=inside,
            failure_probability=failure,
            standard_error=error,
            smallest_threshold=self.smallest,
            possible=inside > 0.0 or not self._impossible(),
            **entries,
        )

    def _impossible(self) -> bool:
        # Where times have atoms the smallest threshold may itself have a positive probability.
        return self.threshold <= self.smallest

    def _certificate(self, optimum: CompletionOptimum, failure: float) -> dict[str, Any]:
        """What the ascents prove of the real block sizes."""
        starts = "the one start" if optimum.starts == 1 else f"{optimum.starts} starts"
        entries: dict[str, Any] = {"starts": optimum.starts, "scope": f"best of {starts}"}
        if not self.certifiable or not optimum.inside > 0.0:
            return entries
        if optimum.odds_gap > ODDS_GAP:
            warnings.warn(
                f"the gap of the log odds of the completion probability is {optimum.odds_gap:.2g}, not "
                f"{ODDS_GAP:g}, after {starts}",
                NotCertified,
                stacklevel=5,
            )
        gap = optimum.failure * optimum.odds_gap
        log_bound = gap + float(
            np.log1p(-optimum.failure) if optimum.failure < 0.5 else np.log(optimum.inside)
        )
        upper = float(np.exp(min(log_bound, 0.0)))
        lower = max(0.0, -float(np.expm1(log_bound)))
        scope = "all levels allowed"
        if self.cost.forward_cycles > 0:
            if failure < lower * (1.0 - 1e-9):  # with fewer levels, outside of what the bound is over
                return entries
            scope = "the set of levels that was found by adding and dropping"
        return {
            "starts": optimum.starts,
            "scope": f"{scope}, proved: the density of 1/T is log-concave for {law_text(self.exact_law)}",
            "upper_bound": upper,
            "failure_lower_bound": min(failure, lower),
            "log_gap": gap,
        }
