"""Plans for a straggler model: arguments checked, the search for the objective, and what it found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cgc_fast import completion_search, runtime_search
from cgc_fast.arguments import Cost, integer, quantity
from cgc_fast.completion_search import CompletionSearch
from cgc_fast.errors import ArgumentTypeError, ArgumentValueError, unknown_name
from cgc_fast.levels import make_levels
from cgc_fast.partition import check_boundaries
from cgc_fast.plan_search import Request, Search
from cgc_fast.plans import Plan
from cgc_fast.runtime_search import RuntimeSearch, given_enough_answers
from cgc_fast.straggler_models import as_straggler_model

__all__ = ["METHODS", "OBJECTIVES", "Plan", "plan"]

# Methods by objective.
OBJECTIVES = {
    "completion_probability": completion_search.METHODS,
    "expected_runtime": runtime_search.METHODS,
}
METHODS = OBJECTIVES["expected_runtime"]

# Whole numbers beyond are rounded where block sizes are real.
_MOST_COORDINATES = 2**53


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
    min_block: int = 1,
    boundaries: Sequence[int] | NDArray[np.int64] | None = None,
    sequential: bool = False,
    draws: int = 20_000,
    seed: int = 0,
) -> Plan:
    """Choose block sizes for a straggler model.

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
    scheme : {"cyclic", "fractional_repetition"}
        Which codes the levels use.
    method : str, optional
        None takes the best of all; it is never worse than the best single level or uncoded, by exact scores
        or on common draws.

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
    min_block : int
        Least size of a block that is not empty, 1..L.
    boundaries : sequence of int, optional
        Coordinates where blocks may be cut, strictly ascending in 0..L. Anywhere if None.
    sequential : bool
        Whether workers must walk coordinates in rising order only. Both schemes always do.
    draws, seed : int
        Monte Carlo draws of an iteration, for optimising and, independently, for scoring; and their seed.
        Neither matters to a closed form with exact means, except in its score.

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
    draws = integer("draws", draws, 1)
    seed = integer("seed", seed, 0)
    if not isinstance(objective, str) or objective not in OBJECTIVES:
        raise unknown_name("objective", objective, OBJECTIVES)
    if method is not None and (not isinstance(method, str) or method not in OBJECTIVES[objective]):
        known = ", ".join(sorted(OBJECTIVES[objective]))
        raise ArgumentValueError(
            f"method: expected one of {known}; got {method!r} for the objective {objective}"
        )
    deadline = _check_threshold(objective, threshold)
    if not isinstance(sequential, bool):
        raise ArgumentTypeError(f"sequential: expected True or False, got {sequential!r}")
    cost = Cost(samples, cycles_per_derivative, forward_cycles)
    min_block = integer("min_block", min_block, 1, coordinates)
    levels = make_levels(scheme, workers, min_redundancy=min_redundancy, max_parts=max_parts)
    cuts = None if boundaries is None else check_boundaries(boundaries, coordinates)
    model = as_straggler_model(cycle_time, workers)
    request = Request(scheme, levels, model, coordinates, cost, draws, seed, min_block, cuts)
    search: Search
    if objective == "completion_probability":
        search = CompletionSearch(request, deadline)
    else:
        model = given_enough_answers(model, min_redundancy)
        search = RuntimeSearch(replace(request, model=model))
    found = search.run(method)
    return Plan(
        workers=workers,
        coordinates=coordinates,
        scheme=scheme,
        method=found.method,
        objective=objective,
        block_sizes=levels.expand(found.sizes).astype(np.int64),
        relaxed_block_sizes=levels.expand(found.relaxed),
        samples=cost.samples,
        cycles_per_derivative=cost.cycles_per_derivative,
        forward_cycles=cost.forward_cycles,
        expected_runtime=found.expected_runtime.value,
        expected_runtime_standard_error=found.expected_runtime.standard_error,
        lower_bound=found.lower_bound,
        relative_gap=found.relative_gap,
        relaxed_gap=found.relaxed_gap,
        cycle_time=model,
        parameters={
            "method": method,
            "threshold": threshold if threshold is None else deadline,
            "max_parts": None if max_parts is None else int(max_parts),
            "min_redundancy": int(min_redundancy),
            "min_block": min_block,
            "boundaries": None if cuts is None else cuts.tolist(),
            "sequential": sequential,
            "draws": draws,
            "seed": seed,
        },
        sample_report=found.sample_report,
        completion_report=found.completion_report,
        history=found.history,
    )


def _check_threshold(objective: str, threshold: float | None) -> float:
    """The threshold in seconds; 0 where there is none to ask for."""
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
    return 0.0
