"""What schemes are worth for a straggler model: runtime, storage and traffic, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgc_fast.arguments import Cost
from cgc_fast.schedule import Schedule
from cgc_fast.simulation import simulate

__all__ = ["SchemeReport", "SchemeScore", "parts_stored", "values_sent"]

Array = NDArray[np.float64]

_TRAFFIC_DRAWS = 200  # that the values sent are a mean over


@dataclass(frozen=True)
class SchemeScore:
    """One scheme on draws that its parameters were not chosen on.

    Attributes
    ----------
    name : str
        Scheme, or method where that says more (uncoded).
    note : str
        How it was made: method, who works with whom, feedback.
    runtime, standard_error : float
        Mean over the draws in seconds, and its standard error (infinite if that is not known).
    excess, excess_standard_error : float
        Mean runtime above that of the scheme that was chosen, on the same draws, in seconds.
    parts : float
        Most samples that a worker stores, in parts M/N.
    values_sent : float
        Values that all workers together send in an iteration, on average, in multiples of L.
    late, late_standard_error : float or None
        Fraction of the draws that are not complete by the threshold, and its standard error; None where that
        is not the objective.
    """

    name: str
    note: str
    runtime: float
    standard_error: float
    excess: float
    excess_standard_error: float
    parts: float
    values_sent: float
    late: float | None = None
    late_standard_error: float | None = None


@dataclass(frozen=True)
class SchemeReport:
    """Schemes on common draws of one model.

    Attributes
    ----------
    scores : tuple of SchemeScore
        The chosen one first, the others by their mean, or by how often they are late.
    refused : dict
        Name -> why, of those that do not fit the limits.
    draws : int
        Scored on; for a trace, the iterations of its second half.
    reason : str
        Why the first one was chosen, for reading; empty where there was nothing to choose.
    """

    scores: tuple[SchemeScore, ...]
    refused: dict[str, str]
    draws: int
    reason: str

    @property
    def margin(self) -> float:
        """How much longer the next best takes, as a fraction of the runtime of the chosen one.

        For the completion probability, by how much that is smaller. Negative where a simpler scheme was
        chosen that is not clearly worse; NaN without others.
        """
        chosen, *others = self.scores
        if not others:
            return float("nan")
        if chosen.late is not None:
            return min(score.late for score in others if score.late is not None) - chosen.late
        return min(score.excess for score in others) / chosen.runtime

    def to_dict(self) -> dict[str, Any]:
        """JSON form; infinity is the string "inf"."""
        form = asdict(self)
        form["scores"] = [
            {key: "inf" if value == np.inf else value for key, value in score.items()}
            for score in form["scores"]
        ]
        return form

    @classmethod
    def from_dict(cls, form: Mapping[str, Any]) -> SchemeReport:
        """Inverse of `to_dict`."""
        scores: list[SchemeScore] = []
        for score in form["scores"]:
            entries: dict[str, Any] = {key: np.inf if v == "inf" else v for key, v in score.items()}
            scores.append(SchemeScore(**entries))
        return cls(tuple(scores), dict(form["refused"]), form["draws"], form["reason"])

    def lines(self) -> list[str]:
        """For `Plan.summary`: a table, best first, and why."""
        chosen = self.scores[0]
        lines = [
            f"stores            {chosen.parts:.4g} parts of M/N samples a worker",
            f"sends             {chosen.values_sent:.4g} L values an iteration, all workers together",
        ]
        if len(self.scores) == 1:
            return lines
        width = max(len(score.name) for score in self.scores)
        late = "" if chosen.late is None else f"  {'late':>8}  {'±':>8}"
        lines += [
            f"chosen            {self.reason}",
            f"                  {'scheme':{width}}{late}  {'seconds':>10}  {'±':>8}  {'parts':>6}  "
            f"{'sent/L':>7}",
        ]
        for score in self.scores:
            late = "" if score.late is None else f"  {score.late:8.3%}  {score.late_standard_error:8.2g}"
            lines.append(
                f"                  {score.name:{width}}{late}  {score.runtime:10.5g}  "
                f"{score.standard_error:8.2g}  {score.parts:6.4g}  {score.values_sent:7.4g}  {score.note}"
            )
        return lines + [f"not considered    {name}: {why}" for name, why in self.refused.items()]


def values_sent(schedule: Schedule, times: Array, cost: Cost, latency: float = 0.0) -> float:
    """Values that all workers send in an iteration, in multiples of L; a mean over the first draws (S, N)."""
    sent = simulate(
        schedule,
        times[:_TRAFFIC_DRAWS],
        samples=cost.samples,
        cycles_per_derivative=cost.cycles_per_derivative,
        forward_cycles=cost.forward_cycles,
        latency=latency,
        details=True,
    ).values_sent
    return float(sent.sum(axis=1).mean()) / schedule.coordinates


def parts_stored(schedule: Schedule) -> float:
    """Most samples that a worker must hold, in parts M/N."""
    held = 0.0
    for worker in range(schedule.workers):
        _, lows, highs = schedule.visited_samples(worker)
        if not len(lows):
            continue
        order = np.argsort(lows, kind="stable")
        low, reach = lows[order], np.maximum.accumulate(highs[order])
        gaps = np.maximum(low[1:] - reach[:-1], 0.0).sum()
        held = max(held, float(reach[-1] - low[0] - gaps))
    return round(schedule.workers * held, 9)  # whole parts are whole
