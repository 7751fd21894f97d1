"""Searches for the parameters of schemes on draws of the cycle times, one file a scheme.

`plan_scheme` is the way in: it draws from a model, or splits a trace, tries who should work with whom, and
scores the result on draws that it was not chosen on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgc_fast.arguments import Cost, integer, quantity
from cgc_fast.errors import ArgumentValueError, unknown_name
from cgc_fast.schedule import Feedback
from cgc_fast.scheme_search.composition import Composition, by_speed, in_order
from cgc_fast.scheme_search.fractional_repetition import plan_fractional_repetition
from cgc_fast.scheme_search.pairs import plan_pairs
from cgc_fast.scheme_search.planned import PlannedScheme, Score
from cgc_fast.scheme_search.shared_samples import plan_shared_samples
from cgc_fast.scheme_search.walked import plan_walked
from cgc_fast.straggler_models import IdenticalLaw, StragglerModel, Trace

__all__ = [
    "SEARCHES",
    "PlannedScheme",
    "Score",
    "ScoredScheme",
    "plan_fractional_repetition",
    "plan_pairs",
    "plan_scheme",
    "plan_shared_samples",
    "plan_walked",
]

Array = NDArray[np.float64]

# Another composition than the plain one must be better on the hold-out by so many standard errors.
_NOISE = 2.0


@dataclass(frozen=True)
class ScoredScheme:
    """A planned scheme and its score on draws that its parameters were not chosen on.

    Attributes
    ----------
    planned : PlannedScheme
        Made from all draws; for a trace from all its rows.
    hold_out : Score
        Of a scheme made in the same way: for laws the same one on fresh draws; for a trace the one made from
        its first half, on its second, which was also asked who should work with whom, and for walked blocks
        which layout is best.
    composition : str
        Who works with whom.
    """

    planned: PlannedScheme
    hold_out: Score
    composition: str


@dataclass(frozen=True)
class _Limits:
    max_parts: int | None
    min_redundancy: int
    latency: float


def _fractional_repetition(times: Array, coordinates: int, cost: Cost, **others: Any) -> PlannedScheme:
    limits: _Limits = others["limits"]
    return plan_fractional_repetition(
        times,
        coordinates,
        cost,
        composition=others["composition"],
        max_parts=limits.max_parts,
        min_redundancy=limits.min_redundancy,
    )


def _walked(times: Array, coordinates: int, cost: Cost, **others: Any) -> PlannedScheme:
    limits: _Limits = others["limits"]
    return plan_walked(
        times,
        coordinates,
        cost,
        composition=others["composition"],
        max_parts=limits.max_parts,
        min_redundancy=limits.min_redundancy,
        judge=others.get("judge"),
        like=others.get("like"),
    )


def _pairs(times: Array, coordinates: int, cost: Cost, **others: Any) -> PlannedScheme:
    limits: _Limits = others["limits"]
    if limits.min_redundancy > 1:
        raise ArgumentValueError(
            f"scheme pairs: expected min_redundancy <= 1 (a pair survives one death), got "
            f"{limits.min_redundancy}"
        )
    return plan_pairs(times, coordinates, cost, composition=others["composition"], max_parts=limits.max_parts)


def _shared_samples(times: Array, coordinates: int, cost: Cost, **others: Any) -> PlannedScheme:
    limits: _Limits = others["limits"]
    workers = times.shape[1]
    group = workers if limits.max_parts is None else min(workers, limits.max_parts)
    if workers // -(-workers // group) <= limits.min_redundancy:
        raise ArgumentValueError(
            f"scheme shared_samples: expected max_parts > min_redundancy, got groups of {group} workers, "
            f"which do not survive the loss of {limits.min_redundancy}"
        )
    return plan_shared_samples(
        times,
        coordinates,
        cost,
        group=group,
        composition=others["composition"],
        max_parts=limits.max_parts,
        latency=limits.latency,
    )


_BACKWARD = ("pairs", "walked")
SEARCHES: dict[str, Callable[..., PlannedScheme]] = {
    "fractional_repetition": _fractional_repetition,
    "pairs": _pairs,
    "walked": _walked,
    "shared_samples": _shared_samples,
}


def plan_scheme(
    name: str,
    model: StragglerModel,
    coordinates: int,
    cost: Cost | None = None,
    *,
    max_parts: int | None = None,
    min_redundancy: int = 0,
    max_values_sent: float | None = None,
    boundaries: Sequence[int] | None = None,
    sequential: bool = False,
    feedback: Feedback = "none",
    latency: float = 0.0,
    draws: int = 2_000,
    hold_out_draws: int = 20_000,
    threads: int = 1,
    seed: int = 0,
) -> ScoredScheme:
    """Choose the parameters of a scheme for a straggler model, and score them on other draws.

    Parameters
    ----------
    name : str
        In `SEARCHES`.
    model : StragglerModel
        Of N workers.
    coordinates : int
        L.
    cost : Cost, optional
        M, b and c.
    max_parts : int, optional
        Most samples that a worker may hold, in parts M/N.
    min_redundancy : int
        Workers that every cell survives the loss of.
    max_values_sent : float, optional
        Most values that a worker may send, in multiples of L. No scheme here sends more than 1, none less.
    boundaries : sequence of int, optional
        Where cells may begin and end, besides 0 and L; cuts are moved to the nearest one.
    sequential : bool
        Coordinates only in rising order: no pairs and no walked blocks.
    feedback : {"none", "announce"}
        What workers of "pairs" and "walked" learn. The parameters are those without feedback; it saves
        traffic, and the redundant work of those who would be early.
    latency : float
        Seconds from a claim to its answer ("shared_samples"), or that an announcement takes.
    draws, hold_out_draws : int
        From a law, to choose on and to score on. A trace has its own.
    threads : int
        That score.
    seed : int
        Of the draws.

    Raises
    ------
    ArgumentTypeError, ArgumentValueError
        An unknown name, or limits that nothing fits in.

    Notes
    -----
    If all workers have one law, they are taken in order with equal weights. Otherwise fast ones are also put
    together with slow ones, with equal shares of the samples and with shares by speed. Which of these, and
    for walked blocks which layout, is decided on the second half of a trace, after a search on its first
    half, or on as many draws again; another composition than the plain one must win by 2 standard errors of
    the paired difference of the scores.
    """
    if name not in SEARCHES:
        raise unknown_name("scheme", name, SEARCHES)
    cost = Cost() if cost is None else cost
    coordinates = integer("coordinates", coordinates, 1)
    limits = _Limits(
        None if max_parts is None else integer("max_parts", max_parts, 1, model.workers),
        integer("min_redundancy", min_redundancy, 0, model.workers - 1),
        quantity("latency", latency),
    )
    chooser, scorer = (np.random.default_rng((seed, stream)) for stream in range(2))
    search = SEARCHES[name]
    if feedback not in ("none", "announce"):
        raise unknown_name("feedback", feedback, ("none", "announce"))
    if feedback == "announce" and name not in _BACKWARD:
        raise ArgumentValueError(f"feedback: expected none, the scheme {name} has its own, got announce")
    if sequential and name in _BACKWARD:
        raise ArgumentValueError(
            f"scheme {name}: expected sequential=False, because half of its workers walk the coordinates "
            "backward"
        )
    if max_values_sent is not None and quantity("max_values_sent", max_values_sent) < 1.0:
        raise ArgumentValueError(
            f"max_values_sent: expected at least 1, got {max_values_sent}: a worker of the scheme {name} may "
            "have to send every coordinate once"
        )
    if isinstance(model, Trace):
        everything = np.ascontiguousarray(model.times)
        half = (len(everything) + 1) // 2
        first, second = everything[:half], everything[half:]
    else:
        everything = model.draw(chooser, draws)
        first = everything
        second = model.draw(scorer, hold_out_draws if isinstance(model, IdenticalLaw) else draws)

    def made(times: Array, composition: Composition, **others: Any) -> PlannedScheme:
        planned = search(times, coordinates, cost, composition=composition, limits=limits, **others)
        changes: dict[str, Any] = {}
        if boundaries is not None and name != "shared_samples":  # whose cells are as wide as can be
            changes["boundaries"] = [int(cut) for cut in boundaries]
        if feedback == "announce":
            changes["feedback"] = feedback
        if not changes:
            return planned
        changed = replace(planned, parameters={**planned.parameters, **changes})
        return replace(changed, in_sample=changed.score(times, cost, latency=limits.latency))

    plain = in_order(model.workers)
    if isinstance(model, IdenticalLaw) or len(second) == 0:
        planned = made(everything, plain)
        hold_out = (
            planned.score(second, cost, latency=limits.latency, threads=threads)
            if len(second)
            else planned.in_sample
        )
        return ScoredScheme(planned, hold_out, plain.name)

    chosen: tuple[int, PlannedScheme, Array] | None = None
    refusal: ArgumentValueError | None = None
    for index, composition in enumerate((plain, *by_speed(first))):
        try:
            planned = made(first, composition, judge=second)
        except ArgumentValueError as error:  # shares by speed may not fit in max_parts
            refusal = refusal or error
            continue
        own = planned.runtimes(second, cost, latency=limits.latency, threads=threads)
        if chosen is None or _better(own, chosen[2]):
            chosen = index, planned, own
    if chosen is None:
        assert refusal is not None
        raise refusal
    index, planned, own = chosen
    if isinstance(model, Trace):
        planned = made(everything, (plain, *by_speed(everything))[index], like=planned)
        hold_out = Score.of(own)
    else:
        times = model.draw(scorer, hold_out_draws)
        hold_out = planned.score(times, cost, latency=limits.latency, threads=threads)
    return ScoredScheme(planned, hold_out, str(planned.report["composition"]))


def _better(runtimes: Array, others: Array) -> bool:
    """Whether the mean is smaller on the same draws, by more than noise."""
    if not np.isfinite(others).all():
        return bool(np.isfinite(runtimes).mean() > np.isfinite(others).mean())
    difference = others - runtimes
    if len(difference) < 2:
        return bool(difference.mean() > 0.0)
    return bool(difference.mean() > _NOISE * difference.std(ddof=1) / len(difference) ** 0.5)
