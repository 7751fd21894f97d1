"""The trade-off of runtime against storage and traffic: every scheme within limits for both."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cgc_fast import baselines
from cgc_fast.arguments import Cost, integer, quantity
from cgc_fast.errors import ArgumentValueError
from cgc_fast.hold_out import per_iteration, standard_error
from cgc_fast.planning import plan
from cgc_fast.plotting import import_pyplot
from cgc_fast.schedule import Feedback
from cgc_fast.scheme_choice import split_model
from cgc_fast.scheme_report import SchemeScore
from cgc_fast.straggler_models import StragglerModel, as_straggler_model

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Frontier", "FrontierPoint", "frontier"]

Array = NDArray[np.float64]

_BASELINE = "partial gradient coding"
_COLOURS = {
    "uncoded": "#707070",
    "load_balancing": "#7b3294",
    "cyclic": "#b2182b",
    "fractional_repetition": "#1b6ca8",
    "pairs": "#d9730d",
    "walked": "#2e7d32",
    "shared_samples": "#c2408b",
    _BASELINE: "#8c510a",
}


@dataclass(frozen=True)
class FrontierPoint:
    """A scheme planned for at most `max_parts` parts stored and `max_values_sent` L values sent by a worker.

    Attributes
    ----------
    max_parts, max_values_sent : int, float
        What it was allowed.
    score : SchemeScore
        Runtime on the common draws, parts stored, values sent; `excess` over the best within the same limits.
    efficient : bool
        No other point is as good in runtime, parts and values sent; of equals the first.
    """

    max_parts: int
    max_values_sent: float
    score: SchemeScore
    efficient: bool


@dataclass(frozen=True, eq=False)
class Frontier:
    """Points on common draws of one model, by parts allowed and then by runtime."""

    model: StragglerModel
    coordinates: int
    cost: Cost
    bound: float
    points: tuple[FrontierPoint, ...]

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw runtime against parts stored, a line a scheme and limit; discs grow with the values sent.

        Dotted lines are of limits below 1 for the values that a worker sends. Efficient points are filled;
        the dashed line is what no scheme can beat. Needs matplotlib.
        """
        plt = import_pyplot()
        if ax is None:
            _, ax = plt.subplots(figsize=(9.0, 5.5), layout="constrained")
        lines = {(point.score.name, point.max_values_sent) for point in self.points}
        order = list(dict.fromkeys(point.score.name for point in self.points))
        for name, most in sorted(lines, key=lambda line: (order.index(line[0]), -line[1])):
            own = sorted(
                (point for point in self.points if (point.score.name, point.max_values_sent) == (name, most)),
                key=lambda point: point.score.parts,
            )
            at = [point.score.parts for point in own]
            runtimes = [point.score.runtime for point in own]
            colour = _COLOURS[name]
            style = "-" if most == 1.0 else ":"
            ax.plot(at, runtimes, style, color=colour, linewidth=1.2, alpha=0.7, zorder=1)
            if most < 1.0:
                ax.annotate(
                    f"{most:g} L",
                    (at[-1], runtimes[-1]),
                    xytext=(8, 0),
                    textcoords="offset points",
                    color=colour,
                    fontsize=8,
                    va="center",
                )
            ax.scatter(
                at,
                runtimes,
                s=[12.0 + 160.0 * point.score.values_sent / self.model.workers for point in own],
                facecolors=[colour if point.efficient else "white" for point in own],
                edgecolors=colour,
                zorder=2,
                label=name.replace("_", " ") if most == 1.0 else None,
            )
        ax.axhline(self.bound, color="black", linestyle="--", linewidth=0.9, label="bound")
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ticks = sorted({point.max_parts for point in self.points})
        ax.set_xticks(ticks, [str(tick) for tick in ticks])
        ax.set_xlabel("parts of M/N samples that a worker stores")
        ax.set_ylabel("expected runtime, seconds")
        ax.set_title(
            "disc area: values sent; filled: nothing is better in all three", fontsize=10, loc="left"
        )
        ax.legend(fontsize=8, frameon=False)
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
        return ax


def frontier(
    workers: int,
    coordinates: int,
    cycle_time: object,
    *,
    max_parts: Sequence[int] | None = None,
    max_values_sent: Sequence[float] = (1.0,),
    samples: float = 1,
    cycles_per_derivative: float = 1.0,
    forward_cycles: float = 0.0,
    min_redundancy: int = 0,
    feedback: Feedback = "none",
    latency: float = 0.0,
    draws: int = 5_000,
    seed: int = 0,
) -> Frontier:
    """Plan and score every scheme for each number of parts that a worker may store, and of values to send.

    Parameters
    ----------
    workers, coordinates, cycle_time, samples, cycles_per_derivative, forward_cycles, min_redundancy, latency
        As in `cgc_fast.plan`.
    max_parts : sequence of int, optional
        By default 1, 2, 4, ... and N.
    max_values_sent : sequence of float
        Limits for the values that a worker sends, in multiples of L, each with all `max_parts`.
    feedback : {"none", "announce", "claim"}
        The most that there may be. With "claim" the baseline [RAMAMOORTHY24] is shown, too, whose workers are
        told coefficients in the end.
    draws, seed : int
        To score on; and their seed.

    Raises
    ------
    ArgumentTypeError, ArgumentValueError
        As in `cgc_fast.plan`; or nothing fits whatever the parts.

    Notes
    -----
    Each pair of limits costs a plan of the scheme "auto". Less than 1 is for pairs and walked blocks only.
    """
    workers = integer("workers", workers, 1)
    cost = Cost(samples, cycles_per_derivative, forward_cycles)
    if max_parts is None:
        max_parts = [2**k for k in range(workers.bit_length()) if 2**k < workers] + [workers]
    asked = sorted({integer("max_parts", parts, 1, workers) for parts in max_parts})
    if not asked:
        raise ArgumentValueError("max_parts: expected at least one number of parts, got none")
    limits = sorted({min(1.0, quantity("max_values_sent", most)) for most in max_values_sent}, reverse=True)
    if not limits:
        raise ArgumentValueError("max_values_sent: expected at least one limit, got none")
    model = as_straggler_model(cycle_time, workers)
    scores: list[tuple[int, float, SchemeScore]] = []
    refusal: ArgumentValueError | None = None
    for parts, most in itertools.product(asked, limits):
        try:
            made = plan(
                workers,
                coordinates,
                model,
                scheme="auto",
                samples=samples,
                cycles_per_derivative=cycles_per_derivative,
                forward_cycles=forward_cycles,
                max_parts=parts,
                max_values_sent=most,
                min_redundancy=min_redundancy,
                feedback=feedback,
                latency=latency,
                draws=draws,
                seed=seed,
            )
        except ArgumentValueError as error:
            refusal = error
            continue
        assert made.scheme_report is not None
        scores += [(parts, most, score) for score in made.scheme_report.scores]
    if not scores:
        assert refusal is not None
        raise refusal
    _, times, repeats = split_model(model, draws, seed)
    keywords: dict[str, Any] = {
        "samples": cost.samples,
        "cycles_per_derivative": cost.cycles_per_derivative,
        "forward_cycles": cost.forward_cycles,
    }
    if feedback == "claim" and limits[0] == 1.0:
        for parts in asked:
            if parts > max(1, min_redundancy):
                done = baselines.partial_gradient_coding(times, coordinates, parts, **keywords)
                done = per_iteration(done, repeats)
                least = min(
                    (score.runtime for at, most, score in scores if (at, most) == (parts, 1.0)),
                    default=float("nan"),
                )
                scores.append((parts, 1.0, _of_baseline(done, least, parts, workers)))
    bound = float(baselines.lower_bound(times, coordinates, **keywords).mean())
    # Schemes that do not need more than before are the same plan again.
    distinct = {
        (score.name, score.parts, most): (parts, most, score) for parts, most, score in reversed(scores)
    }
    kept = sorted(distinct.values(), key=lambda at: (at[0], -at[1], at[2].runtime))
    found = [score for _, _, score in kept]
    points = tuple(
        FrontierPoint(
            parts,
            most,
            score,
            not any(_dominates(other, score, first=before < here) for before, other in enumerate(found)),
        )
        for here, (parts, most, score) in enumerate(kept)
    )
    return Frontier(model, coordinates, cost, bound, points)


def _of_baseline(done: Array, least: float, parts: int, workers: int) -> SchemeScore:
    """Score of the baseline: every worker sends one vector."""
    mean = float(done.mean())
    return SchemeScore(
        name=_BASELINE,
        note="[RAMAMOORTHY24], messages free",
        runtime=mean,
        standard_error=standard_error(done) if np.isfinite(mean) else float("inf"),
        excess=mean - least,
        excess_standard_error=float("nan"),
        parts=float(parts),
        values_sent=float(workers),
    )


def _dominates(one: SchemeScore, other: SchemeScore, *, first: bool) -> bool:
    own, its = ((score.runtime, score.parts, score.values_sent) for score in (one, other))
    return all(a <= b for a, b in zip(own, its, strict=True)) and (own != its or first)
