"""`scheme="auto"`: every scheme that fits the limits is planned and scored, and the best is taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgc_fast.arguments import Cost
from cgc_fast.censoring import complete
from cgc_fast.errors import ArgumentValueError
from cgc_fast.hold_out import PREMIUM, halves, is_larger, per_iteration, standard_error
from cgc_fast.plans import Plan
from cgc_fast.schedule import Feedback, Schedule
from cgc_fast.scheme_report import SchemeReport, SchemeScore, parts_stored, values_sent
from cgc_fast.scheme_search import SEARCHES
from cgc_fast.simulation import simulate
from cgc_fast.straggler_models import StragglerModel, Trace

__all__ = ["candidates", "choose_scheme", "split_model"]

Array = NDArray[np.float64]

_FEEDBACK: tuple[Feedback, ...] = ("none", "announce", "claim")
_WITHOUT_REDUNDANCY = ("uncoded", "load_balancing")


def candidates(feedback: Feedback, *, by_threshold: bool = False) -> dict[str, dict[str, Any]]:
    """Names of the schemes that need no more feedback than allowed, and how `plan` is asked for each.

    What has block sizes is planned for the completion probability `by_threshold`; the others never are.
    """
    asked: dict[str, dict[str, Any]] = {
        "uncoded": {"scheme": "cyclic", "method": "uncoded"},
        "cyclic": {"scheme": "cyclic", "method": None},
    }
    allowed = _FEEDBACK[: _FEEDBACK.index(feedback) + 1]
    for name, search in SEARCHES.items():
        usable = [kind for kind in search.feedback if kind in allowed]
        if usable:  # as much as there may be
            asked[name] = {"scheme": name, "method": "search", "feedback": usable[-1]}
    if by_threshold:
        asked["fractional_repetition"] = {"scheme": "fractional_repetition", "method": None}
    return asked


def split_model(model: StragglerModel, draws: int, seed: int) -> tuple[StragglerModel, Array, int]:
    """What plans may see of a model, draws (S, N) to score them on, and rows of these for one iteration."""
    generator = np.random.default_rng((seed, 2))
    if not isinstance(model, Trace):
        return model, model.draw(generator, draws), 1
    both = [
        Trace(rows, stopped)
        for rows, stopped in zip(halves(model.times), halves(model.censored), strict=True)
        if len(rows)
    ]
    hidden, repeats = complete(both[-1], generator)
    assert isinstance(hidden, Trace)
    return both[0], hidden.times, repeats


def choose_scheme(
    make: Callable[..., Plan],
    asked: Mapping[str, Mapping[str, Any]],
    model: StragglerModel,
    cost: Cost,
    *,
    threshold: float | None,
    latency: float,
    draws: int,
    seed: int,
) -> tuple[str, Plan, SchemeReport]:
    """Plan every candidate, score all on the same fresh draws, and take the best.

    Parameters
    ----------
    make : callable
        Model and keywords of a candidate -> Plan, or ArgumentValueError where the limits leave none.
    asked : mapping
        Name -> keywords.
    model : StragglerModel
        Of a trace the candidates see the first half and are scored on the second; the winner is made anew
        from all rows.
    threshold : float or None
        Seconds: take the scheme that completes by then most often. None: the fastest on average.
    draws, seed : int
        Draws to score on, and their seed.

    Returns
    -------
    name, plan, report

    Raises
    ------
    ArgumentValueError
        No candidate fits the limits.
    """
    shown, times, repeats = split_model(model, draws, seed)
    plans: dict[str, Plan] = {}
    schedules: dict[str, Schedule] = {}
    runtimes: dict[str, Array] = {}
    late: dict[str, Array] = {}
    refused: dict[str, str] = {}
    for name, keywords in asked.items():
        try:
            plans[name] = make(shown, **keywords)
        except ArgumentValueError as error:
            refused[name] = str(error)
            continue
        schedules[name] = plans[name].schedule()
        done = simulate(
            schedules[name],
            times,
            samples=cost.samples,
            cycles_per_derivative=cost.cycles_per_derivative,
            forward_cycles=cost.forward_cycles,
            latency=latency,
            threads=0,
        )
        runtimes[name] = per_iteration(done, repeats)
        if threshold is not None:
            late[name] = per_iteration(done > threshold, repeats)
    if not plans:
        reasons = "; ".join(f"{name}: {why}" for name, why in refused.items())
        raise ArgumentValueError(f"scheme auto: expected limits that some scheme fits in; {reasons}")
    parts = {name: parts_stored(schedule) for name, schedule in schedules.items()}
    if threshold is None:
        name, reason = _choice(runtimes, parts, _insured(schedules) if isinstance(model, Trace) else None)
    else:
        name, reason = _choice_by_threshold(late, runtimes, parts)

    def rank(other: str) -> tuple[bool, float, float]:
        return other != name, float(late[other].mean()) if late else 0.0, float(runtimes[other].mean())

    order = sorted(plans, key=rank)
    scores = []
    for other in order:
        own, schedule = runtimes[other], schedules[other]
        excess = np.zeros_like(own)
        differs = own != runtimes[name]  # not where both never end
        excess[differs] = own[differs] - runtimes[name][differs]
        scores.append(
            SchemeScore(
                other,
                _note(plans[other]),
                float(own.mean()),
                _error(own),
                float(excess.mean()),
                _error(excess),
                parts[other],
                values_sent(schedule, times, cost, latency),
                float(late[other].mean()) if late else None,
                _error(late[other]) if late else None,
            )
        )
    report = SchemeReport(tuple(scores), refused, len(runtimes[name]), reason)
    chosen = make(model, **asked[name]) if isinstance(model, Trace) else plans[name]
    return name, chosen, report


def _insured(schedules: Mapping[str, Schedule]) -> set[str]:
    """Names of the schemes that survive the loss of any worker."""
    return {
        name
        for name, schedule in schedules.items()
        if min(schedule.tolerance(k) for k, cell in enumerate(schedule.cells) if not cell.is_empty) > 0
    }


def _choice(
    runtimes: Mapping[str, Array], parts: Mapping[str, float], insured: set[str] | None
) -> tuple[str, str]:
    """Name of the scheme that stores least of those that the fastest does not clearly beat, and why.

    Where it matters who is insured against a worker that is slower than ever, these come first as long as
    they do not take much longer than the fastest, and are not clearly beaten by what does without.
    """
    ranked = _ranked(runtimes)
    fastest = ranked[0]
    if len(ranked) == 1:
        return fastest, "nothing else fits the limits"
    why = f"{fastest}, the fastest, is not better by more than noise, and stores more"
    among = ranked
    if insured is not None and fastest not in insured:
        dearest = (1.0 + PREMIUM) * float(runtimes[fastest].mean())
        simple = [runtimes[name] for name in _WITHOUT_REDUNDANCY if name in runtimes]
        affordable = [
            name
            for name in ranked
            if name in insured
            and float(runtimes[name].mean()) <= dearest
            and not any(is_larger(runtimes[name], other) for other in simple)
        ]
        if affordable:
            among = affordable
            why = f"{fastest}, the fastest, waits for every worker, and gains no more than {PREMIUM:.0%}"
    chosen = _least_stored(among, runtimes, parts)
    if chosen != fastest:
        return chosen, why
    longer = float(runtimes[ranked[1]].mean()) / float(runtimes[fastest].mean()) - 1.0
    return fastest, f"{fastest} is the fastest; the next, {ranked[1]}, takes {longer:.1%} longer"


def _choice_by_threshold(
    late: Mapping[str, Array], runtimes: Mapping[str, Array], parts: Mapping[str, float]
) -> tuple[str, str]:
    """The same by the fraction of draws that are not complete by the threshold; nothing is insured."""
    ranked = _ranked(late)
    best = ranked[0]
    if float(late[best].mean()) == 1.0:
        name, reason = _choice(runtimes, parts, None)
        return name, f"nothing is complete by the threshold in any draw; {reason}"
    if len(ranked) == 1:
        return best, "nothing else fits the limits"
    chosen = _least_stored(ranked, late, parts)
    if chosen != best:
        return chosen, f"{best}, the least often late, is not better by more than noise, and stores more"
    own, next_best = (float(late[name].mean()) for name in ranked[:2])
    return best, f"{best} is late in {own:.2%} of the draws; the next, {ranked[1]}, in {next_best:.2%}"


def _ranked(losses: Mapping[str, Array]) -> list[str]:
    return sorted(losses, key=lambda name: float(losses[name].mean()))


def _least_stored(among: list[str], losses: Mapping[str, Array], parts: Mapping[str, float]) -> str:
    """Of those that the first does not clearly beat, the one that stores least; of equals the first."""
    unbeaten = [name for name in among if not is_larger(losses[name], losses[among[0]])]
    return min(unbeaten, key=lambda name: (parts[name], among.index(name)))


def _error(values: Array) -> float:
    return standard_error(values) if np.isfinite(values).all() else float("inf")


def _note(plan: Plan) -> str:
    """How a plan was made, in a few words."""
    parts = [plan.method] if plan.block_sizes is not None else []
    if plan.scheme_report is not None:
        parts.append(plan.scheme_report.scores[0].note)
    return ", ".join(parts)
