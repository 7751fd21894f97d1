"""From a model of the cycle times to a scored scheme, whichever it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgc_fast.arguments import Cost, integer, quantity
from cgc_fast.errors import ArgumentValueError, unknown_name
from cgc_fast.hold_out import PREMIUM, halves, is_larger, per_iteration
from cgc_fast.schedule import Feedback
from cgc_fast.scheme_search.composition import Composition, by_speed, in_order
from cgc_fast.scheme_search.fractional_repetition import improve_exactly, plan_fractional_repetition
from cgc_fast.scheme_search.load_balancing import plan_load_balancing
from cgc_fast.scheme_search.pairs import plan_pairs
from cgc_fast.scheme_search.planned import Limits, PlannedScheme, Score, may_send_everything
from cgc_fast.scheme_search.shared_samples import plan_shared_samples
from cgc_fast.scheme_search.walked import plan_walked
from cgc_fast.straggler_models import AtMostNever, IdenticalLaw, StragglerModel, Trace

__all__ = ["SEARCHES", "SchemeSearch", "ScoredScheme", "plan_scheme"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SchemeSearch:
    """How a scheme is planned, and what it needs.

    Attributes
    ----------
    plan : callable
        Times (S, N), coordinates and cost, and the keywords `composition` and `limits`.
    feedback : tuple of {"none", "announce", "claim"}
        What its workers may learn, the least first.
    backward : bool
        Some walk the coordinates backward.
    cut : bool
        Its cells are narrower than the gradient, so that `boundaries` matter.
    grouped : bool
        It matters who works with whom.
    improve : callable or None
        From model, planned scheme and cost, a better one and its exact runtime; None where there is no such.
    judged : bool
        `plan` also takes `judge`, draws on which to compare its layouts, `premium`, what a layout that
        survives the loss of a worker may cost, and `like`, a scheme whose layout to take over.
    """

    plan: Callable[..., PlannedScheme]
    feedback: tuple[Feedback, ...] = ("none",)
    backward: bool = False
    cut: bool = True
    grouped: bool = True
    improve: Callable[..., tuple[PlannedScheme, float] | None] | None = None
    judged: bool = False


SEARCHES = {
    "fractional_repetition": SchemeSearch(plan_fractional_repetition, improve=improve_exactly),
    "load_balancing": SchemeSearch(plan_load_balancing, cut=False, grouped=False),
    "pairs": SchemeSearch(plan_pairs, ("none", "announce"), backward=True),
    "shared_samples": SchemeSearch(plan_shared_samples, ("claim",), cut=False),
    "walked": SchemeSearch(plan_walked, ("none", "announce"), backward=True, judged=True),
}


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
    exact_runtime : float or None
        Seconds, where it is known.
    """

    planned: PlannedScheme
    hold_out: Score
    composition: str
    exact_runtime: float | None = None


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
    feedback: Feedback | None = None,
    latency: float = 0.0,
    draws: int = 2_000,
    hold_out_draws: int = 20_000,
    repeats: int = 1,
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
        Most values that a worker may send, in multiples of L. No scheme here sends more than 1; only "pairs"
        and "walked" can do with less, as long as every coordinate is come to.
    boundaries : sequence of int, optional
        Where cells may begin and end, besides 0 and L; cuts are moved to the nearest one.
    sequential : bool
        Coordinates only in rising order: no pairs and no walked blocks.
    feedback : {"none", "announce", "claim"}, optional
        What the workers learn, by default the least that the scheme can do with. The parameters of "pairs"
        and "walked" are those without feedback; "announce" saves traffic, and the redundant work of those
        who would be early.
    latency : float
        Seconds from a claim to its answer, or that an announcement takes.
    draws, hold_out_draws : int
        From a law, to choose on and to score on. A trace has its own.
    repeats : int
        So many neighbouring rows of a trace stand for one iteration.
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
    search = SEARCHES[name]
    cost = Cost() if cost is None else cost
    coordinates = integer("coordinates", coordinates, 1)
    limits = Limits(
        None if max_parts is None else integer("max_parts", max_parts, 1, model.workers),
        integer("min_redundancy", min_redundancy, 0, model.workers - 1),
        quantity("latency", latency),
        1.0 if max_values_sent is None else min(1.0, quantity("max_values_sent", max_values_sent)),
    )
    feedback = search.feedback[0] if feedback is None else feedback
    if feedback not in search.feedback:
        raise ArgumentValueError(
            f"feedback: expected {' or '.join(search.feedback)} for the scheme {name}, got {feedback!r}"
        )
    if sequential and search.backward:
        raise ArgumentValueError(
            f"scheme {name}: expected sequential=False, because half of its workers walk the coordinates "
            "backward"
        )
    if limits.max_values_sent < 1.0 and not search.backward:
        raise may_send_everything(name, limits.max_values_sent)
    alike = isinstance(model, IdenticalLaw | AtMostNever)
    chooser, scorer = (np.random.default_rng((seed, stream)) for stream in range(2))
    if isinstance(model, Trace):
        everything = np.ascontiguousarray(model.times)
        first, second = halves(everything, repeats)
    else:
        everything = first = model.draw(chooser, draws)
        second = model.draw(scorer, hold_out_draws if alike else draws)

    def made(times: Array, composition: Composition, **others: Any) -> PlannedScheme:
        planned = search.plan(times, coordinates, cost, composition=composition, limits=limits, **others)
        changes: dict[str, Any] = {}
        if boundaries is not None and search.cut:
            changes["boundaries"] = [int(cut) for cut in boundaries]
        if feedback != search.feedback[0]:
            changes["feedback"] = feedback
        if not changes:
            return planned
        changed = replace(planned, parameters={**planned.parameters, **changes})
        return replace(changed, in_sample=changed.score(times, cost, latency=limits.latency))

    def runtimes(planned: PlannedScheme, times: Array) -> Array:
        own = planned.runtimes(times, cost, latency=limits.latency, threads=threads)
        return per_iteration(own, repeats)

    plain = in_order(model.workers)
    if alike or len(second) == 0:
        planned, exact = made(everything, plain), None
        improved = search.improve(model, planned, cost) if search.improve is not None else None
        if improved is not None:
            planned, exact = improved
            planned = replace(planned, in_sample=planned.score(everything, cost, latency=limits.latency))
        hold_out = Score.of(runtimes(planned, second)) if len(second) else planned.in_sample
        return ScoredScheme(planned, hold_out, str(planned.report["composition"]), exact)

    judging: dict[str, Any] = {}
    if search.judged:
        judging = {"judge": second, "premium": PREMIUM if isinstance(model, Trace) else 0.0}
    chosen: tuple[int, PlannedScheme, Array] | None = None
    refusal: ArgumentValueError | None = None
    for index, composition in enumerate((plain, *by_speed(first)) if search.grouped else (plain,)):
        try:
            planned = made(first, composition, **judging)
        except ArgumentValueError as error:  # shares by speed may not fit in max_parts
            refusal = refusal or error
            continue
        own = runtimes(planned, second)
        if chosen is None or is_larger(chosen[2], own):
            chosen = index, planned, own
    if chosen is None:
        assert refusal is not None
        raise refusal
    index, planned, own = chosen
    hold_out = Score.of(own)
    if isinstance(model, Trace):
        composition = (plain, *by_speed(everything))[index]
        planned = made(everything, composition, **({"like": planned} if search.judged else {}))
    else:
        hold_out = Score.of(runtimes(planned, model.draw(scorer, hold_out_draws)))
    return ScoredScheme(planned, hold_out, str(planned.report["composition"]))
