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


def candidates(feedback: Feedback) -> dict[str, dict[str, Any]]:
    """Names of the schemes that need no more feedback than allowed, and how `plan` is asked for each."""
    asked: dict[str, dict[str, Any]] = {
        "uncoded": {"scheme": "cyclic", "method": "uncoded"},
        "cyclic": {"scheme": "cyclic", "method": None},
    }
    allowed = _FEEDBACK[: _FEEDBACK.index(feedback) + 1]
    for name, search in SEARCHES.items():
        usable = [kind for kind in search.feedback if kind in allowed]
        if usable:  # as much as there may be
            asked[name] = {"scheme": name, "method": "search", "feedback": usable[-1]}
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
    refused: dict[str, str] = {}
    for name, keywords in asked.items():
        try:
            plans[name] = make(shown, **keywords)
        except ArgumentValueError as error:
            refused[name] = str(error)
            continue
        schedules[name] = plans[name].schedule()
        runtimes[name] = per_iteration(
            simulate(
                schedules[name],
                times,
                samples=cost.samples,
                cycles_per_derivative=cost.cycles_per_derivative,
                forward_cycles=cost.forward_cycles,
                latency=latency,
                threads=0,
            ),
            repeats,
        )
    if not plans:
        reasons = "; ".join(f"{name}: {why}" for name, why in refused.items())
        raise ArgumentValueError(f"scheme auto: expected limits that some scheme fits in; {reasons}")
    parts = {name: parts_stored(schedule) for name, schedule in schedules.items()}
    name, reason = _choice(runtimes, parts, _insured(schedules) if isinstance(model, Trace) else None)
    order = sorted(plans, key=lambda other: (other != name, float(runtimes[other].mean())))
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
    ranked = sorted(runtimes, key=lambda name: float(runtimes[name].mean()))
    fastest = ranked[0]
    if len(ranked) == 1:
        return fastest, "nothing else fits the limits"
    why = f"{fastest}, the fastest, is not better by more than noise, and stores more"
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
            ranked = affordable
            why = f"{fastest}, the fastest, waits for every worker, and gains no more than {PREMIUM:.0%}"
    first = ranked[0]
    unbeaten = [name for name in ranked if not is_larger(runtimes[name], runtimes[first])]
    chosen = min(unbeaten, key=lambda name: (parts[name], ranked.index(name)))
    if chosen != fastest:
        return chosen, why
    longer = float(runtimes[ranked[1]].mean()) / float(runtimes[fastest].mean()) - 1.0
    return fastest, f"{fastest} is the fastest; the next, {ranked[1]}, takes {longer:.1%} longer"


def _error(values: Array) -> float:
    return standard_error(values) if np.isfinite(values).all() else float("inf")


def _note(plan: Plan) -> str:
    """How a plan was made, in a few words."""
    parts = [plan.method] if plan.block_sizes is not None else []
    if plan.scheme_report is not None:
        parts.append(plan.scheme_report.scores[0].note)
    return ", ".join(parts)
