"""Plans for a straggler model: arguments checked, the search for scheme and objective, and what it found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgc_fast import completion_search, runtime_search
from cgc_fast.arguments import Cost, integer, quantity
from cgc_fast.censoring import complete
from cgc_fast.completion_search import CompletionSearch
from cgc_fast.errors import ArgumentTypeError, ArgumentValueError, unknown_name
from cgc_fast.levels import SCHEMES as BLOCK_SCHEMES
from cgc_fast.levels import make_levels
from cgc_fast.partition import check_boundaries
from cgc_fast.plan_search import Request, Search
from cgc_fast.plans import Plan
from cgc_fast.runtime_search import RuntimeSearch, given_enough_answers
from cgc_fast.schedule import Feedback
from cgc_fast.scheme_choice import candidates, choose_scheme
from cgc_fast.scheme_report import SchemeReport, SchemeScore, parts_stored, values_sent
from cgc_fast.scheme_search import SEARCHES, plan_scheme
from cgc_fast.scheme_search.planned import may_send_everything
from cgc_fast.straggler_models import StragglerModel, Trace, as_straggler_model

__all__ = ["METHODS", "OBJECTIVES", "SCHEMES", "Plan", "plan"]

# Methods by objective, of the schemes with block sizes.
OBJECTIVES = {
    "completion_probability": completion_search.METHODS,
    "expected_runtime": runtime_search.METHODS,
}
METHODS = OBJECTIVES["expected_runtime"]
SCHEMES = tuple(sorted({*BLOCK_SCHEMES, *SEARCHES, "auto"}))

_FEEDBACK: tuple[Feedback, ...] = ("none", "announce", "claim")
# Whole numbers beyond are rounded where block sizes are real.
_MOST_COORDINATES = 2**53
# Draws that the parameters of a scheme without block sizes are chosen on.
_SEARCH_DRAWS = 2_000


def plan(
    workers: int,
    coordinates: int,
    cycle_time: object,
    *,
    objective: str = "expected_runtime",
    threshold: float | None = None,
    scheme: str = "cyclic",
    method: str | None = None,
    samples: float = 1,
    cycles_per_derivative: float = 1.0,
    forward_cycles: float = 0.0,
    max_parts: int | None = None,
    min_redundancy: int = 0,
    max_values_sent: float | None = None,
    min_block: int = 1,
    boundaries: Sequence[int] | NDArray[np.int64] | None = None,
    sequential: bool = False,
    feedback: Feedback | None = None,
    latency: float = 0.0,
    draws: int = 20_000,
    seed: int = 0,
) -> Plan:
    """Choose the parameters of a scheme, or the scheme as well, for a straggler model.

    Parameters
    ----------
    workers, coordinates : int
        N >= 1 and L >= 1; L < N is allowed.
    cycle_time : frozen scipy.stats law, sequence of N laws, or Trace
        Seconds per cycle: i.i.d. workers, independent workers, or measured iterations. Censored entries of a
        trace are drawn from the pooled survival curve (`censoring.impute`); the expected runtime is then
        over the imputed rows.
    objective : {"expected_runtime", "completion_probability"}
        What to optimise: least E[tau], or largest P[tau <= threshold].
    threshold : float
        t, seconds, for the objective completion_probability only. If no block sizes can be complete by then,
        the plan says so and from when on they can: `plan.completion_report`.
    scheme : str
        Of the schemes with block sizes: "cyclic" codes [WANG22], or "fractional_repetition" with
        floor(N/(n+1)) groups at level n.

        The others have parameters of their own and no block sizes, and minimise the expected runtime over
        draws: "pairs" that meet, "walked" blocks, "shared_samples" (which needs feedback), and
        "load_balancing", uncoded with shares by speed. docs/schemes.md says when each wins.

        "auto" plans and scores all of these that fit, uncoded too, on common draws that none was chosen on
        (the second half of a trace), and returns the best; `plan.scheme_report` has the table, the margin and
        the reason. Of schemes that are not worse by 2 standard errors the one that stores least is taken:
        nothing chosen is worse than uncoded or load balancing beyond noise. For a trace, one that survives
        the loss of any worker comes first if it takes at most 3 % longer than the fastest. For the completion
        probability all are scored by the fraction of draws that are complete by the threshold; those without
        block sizes compete with the parameters that make their expected runtime least.
    method : str, optional
        None takes the best of all that give block sizes; it is never worse than the best single level or
        uncoded, by exact scores or on common draws. For a scheme without block sizes "search" is the only
        one. For fractional repetition "search" tries any numbers of groups, composed by speed where workers
        differ; its expected runtime is exact where they have one law with a density and the groups nest.

        For the expected runtime, "exact" (cyclic codes, i.i.d. workers whose law has a density) minimises it
        as if c = 0, with a certificate if c = 0; None uses it there. "sample_average" minimises the mean over
        draws with a certificate and, where c > 0, searches the set of levels (`sampled_plan`). "mean_time",
        "mean_rate", "subgradient" [WANG22] propose block sizes as if c = 0.

        For the completion probability, "exact" (cyclic codes, i.i.d. workers whose law has a density)
        climbs the exact probability from several starts, with a certificate where the law allows one
        (`has_log_concave_rate`), and searches the set of levels where c > 0 (`maximise_completion`); None
        uses it there. "sample_average" climbs the smoothed fraction of draws, judged on a hold-out
        (`sampled_completion`). "stationary" [WANG22] climbs from one start, either way. "large_threshold"
        [WANG22] is a closed form for exponential, gamma and Weibull tails.

        For both, "single_level" is the best classic gradient code [TANDON17]; "uncoded" waits for every
        worker. For a trace what the methods make of its first half competes on the second (`sampled_plan`),
        and the winner is made anew from all rows.
    samples, cycles_per_derivative, forward_cycles : float
        M (a scale of time), b and c: computing costs b cycles per sample and coordinate, and c once per
        sample that a worker touches.
    max_parts : int, optional
        Most parts of M/N samples that a worker may hold; levels that need more are not used.
    min_redundancy : int
        Least number d of missing workers that every coordinate must survive; lower levels are not used.
        If the law says that workers may never answer (`Never`), the expected runtime is that given that at
        most d of them do not; the completion probability counts such iterations as late.
    max_values_sent : float, optional
        Most values that a worker may send in an iteration, in multiples of L. No scheme sends more than 1;
        with less only "pairs" (at least 0.5) and "walked" (at least the inverse of a group) can do, whose
        workers then stop on their way around, at the price of redundancy.
    min_block : int
        Least size of a block that is not empty, 1..L; 1 for schemes without block sizes.
    boundaries : sequence of int, optional
        Coordinates where blocks and cells may be cut, strictly ascending in 0..L. Anywhere if None.
    sequential : bool
        Whether workers must walk coordinates in rising order only. All schemes do but pairs and walked.
    feedback : {"none", "announce", "claim"}, optional
        What workers learn during an iteration: nothing; which cells are decoded; or they also claim what they
        do next. By default the least that a scheme can do with, and none for "auto", which takes it as the
        most that there may be: shared samples compete only if it is "claim".
    latency : float
        Seconds that an announcement takes, or a claim from request to answer.
    draws, seed : int
        Monte Carlo draws of an iteration, for optimising (at most 2,000 by "search") and, independently, for
        scoring; and their seed. Neither matters to a closed form with exact means, except in its score.

    Returns
    -------
    Plan

    Raises
    ------
    ArgumentTypeError, ArgumentValueError
        Impossible arguments; unknown names; no level has a finite mean; a method cannot work with this
        model (the mean rate does not exist, uncoded is not among the levels allowed).

    Warns
    -----
    NotCertified
        "exact" or "sample_average" missed the gap that it promises; the plan says what it reached.

    Examples
    --------
    >>> from scipy import stats
    >>> made = plan(4, 100, stats.expon(loc=50, scale=1000), method="mean_time")
    >>> made.block_sizes
    array([35, 15, 17, 33])
    """
    workers = integer("workers", workers, 1)
    coordinates = integer("coordinates", coordinates, 1)
    if coordinates > _MOST_COORDINATES:
        raise ArgumentValueError(f"coordinates: expected at most 2^53, got {coordinates}")
    if not isinstance(objective, str) or objective not in OBJECTIVES:
        raise unknown_name("objective", objective, OBJECTIVES)
    if not isinstance(scheme, str) or scheme not in SCHEMES:
        raise unknown_name("scheme", scheme, SCHEMES)
    method = _check_method(scheme, method, objective)
    if not isinstance(sequential, bool):
        raise ArgumentTypeError(f"sequential: expected True or False, got {sequential!r}")
    if feedback is not None and feedback not in _FEEDBACK:
        raise unknown_name("feedback", feedback, _FEEDBACK)
    asked = _Asked(
        coordinates=coordinates,
        objective=objective,
        threshold=_check_threshold(objective, threshold),
        cost=Cost(samples, cycles_per_derivative, forward_cycles),
        max_parts=None if max_parts is None else integer("max_parts", max_parts, 1, workers),
        min_redundancy=integer("min_redundancy", min_redundancy, 0, workers - 1),
        max_values_sent=(
            None if max_values_sent is None else quantity("max_values_sent", max_values_sent, positive=True)
        ),
        min_block=integer("min_block", min_block, 1, coordinates),
        boundaries=None if boundaries is None else check_boundaries(boundaries, coordinates),
        sequential=sequential,
        latency=quantity("latency", latency),
        draws=integer("draws", draws, 1),
        seed=integer("seed", seed, 0),
    )
    model = as_straggler_model(cycle_time, workers)
    if scheme != "auto":
        return asked.plan(model, scheme=scheme, method=method, feedback=feedback)
    by_threshold = asked.threshold is not None
    _, chosen, report = choose_scheme(
        asked.plan,
        candidates("none" if feedback is None else feedback, by_threshold=by_threshold),
        model if by_threshold else given_enough_answers(model, asked.min_redundancy),
        asked.cost,
        threshold=asked.threshold,
        latency=asked.latency,
        draws=asked.draws,
        seed=asked.seed,
    )
    return replace(chosen, scheme_report=report)


@dataclass(frozen=True, eq=False)
class _Asked:
    """What a plan is asked for, checked, apart from model and scheme."""

    coordinates: int
    objective: str
    threshold: float | None
    cost: Cost
    max_parts: int | None
    min_redundancy: int
    max_values_sent: float | None
    min_block: int
    boundaries: NDArray[np.int64] | None
    sequential: bool
    latency: float
    draws: int
    seed: int

    def plan(
        self, model: StragglerModel, *, scheme: str, method: str | None, feedback: Feedback | None = None
    ) -> Plan:
        """Make the plan of one scheme."""
        if method == "search":
            return self._by_search(model, scheme, feedback)
        if feedback not in (None, "none"):
            raise ArgumentValueError(
                f"feedback: expected none for the scheme {scheme} and the method {method}, got {feedback}"
            )
        return self._with_block_sizes(model, scheme, method)

    def _with_block_sizes(self, model: StragglerModel, scheme: str, method: str | None) -> Plan:
        if self.max_values_sent is not None and self.max_values_sent < 1.0:
            raise may_send_everything(scheme, self.max_values_sent)
        levels = make_levels(
            scheme, model.workers, min_redundancy=self.min_redundancy, max_parts=self.max_parts
        )
        request = Request(
            scheme,
            levels,
            model,
            self.coordinates,
            self.cost,
            self.draws,
            self.seed,
            self.min_block,
            self.boundaries,
        )
        search: Search
        if self.threshold is not None:
            search = CompletionSearch(request, self.threshold)
        else:
            model = given_enough_answers(model, self.min_redundancy)
            search = RuntimeSearch(replace(request, model=model))
        found = search.run(method)
        return Plan(
            workers=model.workers,
            coordinates=self.coordinates,
            scheme=scheme,
            method=found.method,
            objective=self.objective,
            block_sizes=levels.expand(found.sizes).astype(np.int64),
            relaxed_block_sizes=levels.expand(found.relaxed),
            samples=self.cost.samples,
            cycles_per_derivative=self.cost.cycles_per_derivative,
            forward_cycles=self.cost.forward_cycles,
            expected_runtime=found.expected_runtime.value,
            expected_runtime_standard_error=found.expected_runtime.standard_error,
            lower_bound=found.lower_bound,
            relative_gap=found.relative_gap,
            relaxed_gap=found.relaxed_gap,
            cycle_time=model,
            parameters=self._parameters(method, "none"),
            sample_report=found.sample_report,
            completion_report=found.completion_report,
            history=found.history,
        )

    def _by_search(self, model: StragglerModel, scheme: str, feedback: Feedback | None) -> Plan:
        if self.min_block > 1:
            raise ArgumentValueError(
                f"min_block: expected 1 for the method search (scheme {scheme}), got {self.min_block}"
            )
        model = given_enough_answers(model, self.min_redundancy)
        whole, repeats = complete(model, np.random.default_rng(self.seed))
        found = plan_scheme(
            scheme,
            whole,
            self.coordinates,
            self.cost,
            max_parts=self.max_parts,
            min_redundancy=self.min_redundancy,
            max_values_sent=self.max_values_sent,
            boundaries=None if self.boundaries is None else self.boundaries.tolist(),
            sequential=self.sequential,
            feedback=feedback,
            latency=self.latency,
            draws=min(self.draws, _SEARCH_DRAWS),
            hold_out_draws=self.draws,
            repeats=repeats,
            threads=0,
            seed=self.seed,
        )
        planned, hold_out = found.planned, found.hold_out
        schedule = planned.schedule()
        note = found.composition
        if schedule.feedback != "none":
            note += f", {schedule.feedback}"
        error = np.inf if hold_out.standard_error is None else hold_out.standard_error
        times = whole.draw(np.random.default_rng((self.seed, 3)), self.draws)
        score = SchemeScore(
            name=scheme,
            note=note,
            runtime=hold_out.runtime,
            standard_error=error,
            excess=0.0,
            excess_standard_error=0.0,
            parts=parts_stored(schedule),
            values_sent=values_sent(schedule, times, self.cost, self.latency),
        )
        value, known = hold_out.runtime, error
        if found.exact_runtime is not None:
            value, known = found.exact_runtime, 0.0
        elif isinstance(whole, Trace):  # its rows are the model
            value, known = planned.in_sample.runtime, 0.0
        bound = planned.report.get("lower_bound")
        return Plan(
            workers=model.workers,
            coordinates=self.coordinates,
            scheme=scheme,
            method="search",
            objective=self.objective,
            block_sizes=None,
            relaxed_block_sizes=None,
            samples=self.cost.samples,
            cycles_per_derivative=self.cost.cycles_per_derivative,
            forward_cycles=self.cost.forward_cycles,
            expected_runtime=value,
            expected_runtime_standard_error=known,
            lower_bound=bound,
            relative_gap=None if bound is None else max(0.0, planned.in_sample.runtime / bound - 1.0),
            relaxed_gap=None,
            cycle_time=model,
            parameters={**self._parameters("search", schedule.feedback), "schedule": planned.parameters},
            scheme_report=SchemeReport((score,), {}, hold_out.draws, ""),
        )

    def _parameters(self, method: str | None, feedback: Feedback) -> dict[str, Any]:
        return {
            "method": method,
            "threshold": self.threshold,
            "max_parts": self.max_parts,
            "min_redundancy": self.min_redundancy,
            "max_values_sent": self.max_values_sent,
            "min_block": self.min_block,
            "boundaries": None if self.boundaries is None else self.boundaries.tolist(),
            "sequential": self.sequential,
            "feedback": feedback,
            "latency": self.latency,
            "draws": self.draws,
            "seed": self.seed,
        }


def _check_method(scheme: str, method: str | None, objective: str) -> str | None:
    """The method to use: "search" where there is no other."""
    known: tuple[str, ...] = OBJECTIVES[objective] if scheme in BLOCK_SCHEMES else ()
    if scheme in SEARCHES and objective == "expected_runtime":
        known = (*known, "search")
    if scheme == "auto":
        if method is not None:
            raise ArgumentValueError(f"method: expected None for the scheme auto, got {method!r}")
    elif not known:
        raise ArgumentValueError(
            f"objective: expected expected_runtime for the scheme {scheme}, got {objective}, which only "
            f"{' and '.join(BLOCK_SCHEMES)} are planned for, and 'auto' chooses by"
        )
    elif method is not None and (not isinstance(method, str) or method not in known):
        raise ArgumentValueError(
            f"method: expected one of {', '.join(sorted(known))}; got {method!r} for the objective "
            f"{objective} (scheme {scheme})"
        )
    return "search" if method is None and known == ("search",) else method


def _check_threshold(objective: str, threshold: float | None) -> float | None:
    """The threshold in seconds; None where there is none to ask for."""
    if objective == "completion_probability":
        if threshold is None:
            raise ArgumentValueError(
                "threshold: expected seconds > 0 for the objective completion_probability, got None"
            )
        return quantity("threshold", threshold, positive=True)
    if threshold is not None:
        raise ArgumentValueError(
            f"threshold: expected None for the objective {objective}, got {threshold!r}; give "
            "objective='completion_probability' to maximise the probability to complete by then"
        )
    return None
