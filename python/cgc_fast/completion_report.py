"""What a plan for the largest completion probability says of itself."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["CompletionReport"]


@dataclass(frozen=True)
class CompletionReport:
    """Completion probability of the integer block sizes by the threshold, and how good that is.

    Attributes
    ----------
    threshold : float
        t, seconds.
    probability, failure_probability : float
        P[tau <= t] and P[tau > t]; exact, or the fractions of a trace's rows, or of fresh draws.
    standard_error : float
        Of both; 0 where they are exact, also for a trace, whose rows are the model.
    upper_bound, failure_lower_bound : float or None
        No real block sizes over the levels of `scope` have a larger probability, or a smaller one of failure.
        None where nothing proves it.
    log_gap : float or None
        Log of `upper_bound` over the probability of the real block sizes.
    starts : int
        Ascents that the block sizes are the best of; 0 for a method that climbs nothing.
    scope : str
        What the optimum is over and how far it is proved, in words.
    smallest_threshold : float
        Seconds: no block sizes over the levels allowed have a positive probability to complete earlier.
    possible : bool
        Whether there is a positive probability by the threshold; if not, `smallest_threshold` is what to
        ask for.
    in_sample_probability, hold_out_probability, hold_out_standard_error : float or None
        Where block sizes are made from draws: fraction of those, and of draws held out (of a trace, made
        from its first half, on its second). None elsewhere, or where a trace is too short.
    one_level : str or None
        The better of "single_level" and "uncoded" on the hold-out; the level was chosen on the other draws.
    one_level_hold_out_probability : float or None
        Its fraction there.
    replaced : bool
        The block sizes lost to that one on the hold-out by more than noise (2 standard errors of the paired
        difference); the plan is the one-level one.
    """

    threshold: float
    probability: float
    failure_probability: float
    standard_error: float
    scope: str
    smallest_threshold: float
    possible: bool
    starts: int = 0
    upper_bound: float | None = None
    failure_lower_bound: float | None = None
    log_gap: float | None = None
    in_sample_probability: float | None = None
    hold_out_probability: float | None = None
    hold_out_standard_error: float | None = None
    one_level: str | None = None
    one_level_hold_out_probability: float | None = None
    replaced: bool = False

    def to_dict(self) -> dict[str, Any]:
        """JSON form; infinity is the string "inf"."""
        form = asdict(self)
        if form["smallest_threshold"] == float("inf"):
            form["smallest_threshold"] = "inf"
        return form

    @classmethod
    def from_dict(cls, form: dict[str, Any]) -> CompletionReport:
        """Inverse of `to_dict`."""
        return cls(**{**form, "smallest_threshold": float(form["smallest_threshold"])})

    def text(self) -> str:
        """The completion probability as a line: near 1 by its failures."""
        if not self.possible:
            return f"0 by {self.threshold:.6g} s: possible from {self.smallest_threshold:.6g} s on"
        near = self.failure_probability < 0.01 and self.failure_probability > 0
        value = f"1 - {self.failure_probability:.6g}" if near else f"{self.probability:.6g}"
        return f"{value} by {self.threshold:.6g} s"

    def lines(self) -> list[str]:
        """For `Plan.summary`."""
        accuracy = "exact" if self.standard_error == 0 else f"standard error {self.standard_error:.2g}"
        lines = [f"completed         {self.text()} ({accuracy})"]
        if self.failure_lower_bound is not None and self.upper_bound is not None:
            bound = (
                f"failure >= {self.failure_lower_bound:.6g}"
                if self.failure_probability < 0.01
                else f"probability <= {self.upper_bound:.6g}"
            )
            lines.append(f"certificate       {bound}: {self.scope}")
        else:
            lines.append(f"                  {self.scope}")
        if self.hold_out_probability is not None:
            lines.append(
                f"sample            {self.in_sample_probability:.6g} of the draws optimised over, "
                f"{self.hold_out_probability:.6g} of others"
            )
        if self.replaced:
            lines.append(
                f"                  {self.one_level} replaces the sample's best, which lost on the others"
            )
        return lines
