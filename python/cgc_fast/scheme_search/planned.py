"""A scheme with its parameters chosen: what a plan needs to keep, and what it is worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgc_fast.arguments import Cost
from cgc_fast.errors import ArgumentValueError
from cgc_fast.hold_out import standard_error
from cgc_fast.schedule import Schedule
from cgc_fast.schemes import scheme
from cgc_fast.simulation import simulate

__all__ = ["Limits", "PlannedScheme", "Score", "may_send_everything", "score"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Limits:
    """What the parameters of a scheme must respect, and what feedback takes.

    Attributes
    ----------
    max_parts : int or None
        Most samples that a worker may hold, in parts M/N.
    min_redundancy : int
        Workers that every cell survives the loss of.
    latency : float
        Seconds from a claim to its answer, or that an announcement takes.
    max_values_sent : float
        Most values that a worker may send, in multiples of L, in (0, 1]; only walks can be told to send less
        than 1.
    """

    max_parts: int | None = None
    min_redundancy: int = 0
    latency: float = 0.0
    max_values_sent: float = 1.0

    @property
    def parameters(self) -> dict[str, float]:
        """What schedules of walks are told of them."""
        return {} if self.max_values_sent == 1.0 else {"max_values_sent": self.max_values_sent}

    def check_survival(self, schedule: Schedule) -> None:
        """Raise ArgumentValueError if shortened walks leave cells that too few workers come to."""
        if self.max_values_sent == 1.0 or self.min_redundancy == 0:
            return
        filled = [cell for cell, tile in enumerate(schedule.cells) if not tile.is_empty]
        survived = min(map(schedule.tolerance, filled))
        if survived < self.min_redundancy:
            raise ArgumentValueError(
                f"max_values_sent, min_redundancy: expected cells that survive {self.min_redundancy} losses, "
                f"got {survived} where no worker sends more than {self.max_values_sent:g} L values"
            )

    def room_for(self, parts: float) -> bool:
        """Whether a worker may hold so many parts; one in a billion for the rounding of fractions."""
        return self.max_parts is None or parts <= self.max_parts * (1.0 + 1e-9)


@dataclass(frozen=True)
class Score:
    """Mean runtime over draws, seconds, and its standard error, the draws taken as independent."""

    runtime: float
    standard_error: float | None
    draws: int

    @classmethod
    def of(cls, runtimes: Array) -> Score:
        """Score of runtimes (S,)."""
        mean = float(runtimes.mean())
        known = len(runtimes) > 1 and np.isfinite(mean)
        return cls(mean, standard_error(runtimes) if known else None, len(runtimes))


@dataclass(frozen=True)
class PlannedScheme:
    """Parameters of a scheme that fit the draws they were chosen on.

    Attributes
    ----------
    scheme : str
        A name in `schemes.SCHEMES`.
    workers, coordinates : int
        N and L.
    parameters : dict
        What the scheme's function takes besides; JSON-able.
    in_sample : Score
        Of the limit of narrow cells, or of the schedule, on the draws that the parameters were chosen on.
    report : dict
        What was considered; JSON-able.
    """

    scheme: str
    workers: int
    coordinates: int
    parameters: dict[str, Any]
    in_sample: Score
    report: dict[str, Any]

    def schedule(self) -> Schedule:
        """Make the schedule."""
        return scheme(self.scheme, self.workers, self.coordinates, **self.parameters)

    def runtimes(self, times: Array, cost: Cost, *, latency: float = 0.0, threads: int = 1) -> Array:
        """Simulated runtimes (S,) of draws (S, N), seconds."""
        return _runtimes(self.schedule(), times, cost, latency, threads)

    def score(self, times: Array, cost: Cost, *, latency: float = 0.0, threads: int = 1) -> Score:
        """Score on other draws (S, N)."""
        return Score.of(self.runtimes(times, cost, latency=latency, threads=threads))

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, form: Mapping[str, Any]) -> PlannedScheme:
        """Inverse of `to_dict`."""
        return cls(**{**form, "in_sample": Score(**form["in_sample"])})


def may_send_everything(scheme: str, max_values_sent: float) -> ArgumentValueError:
    """Make the error for a limit below 1 where the scheme knows no less."""
    return ArgumentValueError(
        f"max_values_sent: expected at least 1, got {max_values_sent}: a worker of the scheme {scheme} may "
        "have to send every coordinate once; those of pairs and walked can share them"
    )


def score(schedule: Schedule, times: Array, cost: Cost, *, latency: float = 0.0, threads: int = 1) -> Score:
    """Simulate a schedule on draws (S, N)."""
    return Score.of(_runtimes(schedule, times, cost, latency, threads))


def _runtimes(schedule: Schedule, times: Array, cost: Cost, latency: float, threads: int) -> Array:
    return simulate(
        schedule,
        times,
        samples=cost.samples,
        cycles_per_derivative=cost.cycles_per_derivative,
        forward_cycles=cost.forward_cycles,
        latency=latency,
        threads=threads,
    )
