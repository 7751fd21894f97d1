"""Simulated iterations: when a schedule decodes, for given draws of the cycle times."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cgc_fast.arguments import Cost, integer, quantity
from cgc_fast.errors import ArgumentTypeError, ArgumentValueError
from cgc_fast.schedule import Schedule

__all__ = ["Simulation", "simulate"]


@dataclass(frozen=True, eq=False)
class Simulation:
    """What happened in simulated iterations.

    Attributes
    ----------
    runtime : float64 array, shape (S,)
        Seconds until every cell is decoded; infinity where that never happens.
    decode_times : float64 array, shape (S, C)
        Seconds until each cell is decoded; 0 for empty cells.
    values_sent : float64 array, shape (S, N)
        Values in the messages that left each worker no later than `runtime`.
    """

    runtime: NDArray[np.float64]
    decode_times: NDArray[np.float64]
    values_sent: NDArray[np.float64]


@overload
def simulate(
    schedule: Schedule,
    cycle_times: ArrayLike,
    *,
    samples: float = ...,
    cycles_per_derivative: float = ...,
    forward_cycles: float = ...,
    delay: ArrayLike = ...,
    latency: float = ...,
    threads: int = ...,
    details: Literal[False] = ...,
) -> NDArray[np.float64]: ...


@overload
def simulate(
    schedule: Schedule,
    cycle_times: ArrayLike,
    *,
    samples: float = ...,
    cycles_per_derivative: float = ...,
    forward_cycles: float = ...,
    delay: ArrayLike = ...,
    latency: float = ...,
    threads: int = ...,
    details: Literal[True],
) -> Simulation: ...


def simulate(
    schedule: Schedule,
    cycle_times: ArrayLike,
    *,
    samples: float = 1,
    cycles_per_derivative: float = 1.0,
    forward_cycles: float = 0.0,
    delay: ArrayLike = 0.0,
    latency: float = 0.0,
    threads: int = 1,
    details: bool = False,
) -> NDArray[np.float64] | Simulation:
    """Simulate one iteration for every draw of the workers' cycle times.

    Parameters
    ----------
    schedule : Schedule
        With N workers.
    cycle_times : array-like, shape (S, N) or (N,)
        T_w >= 0 in seconds per cycle; infinity for a worker that never answers. One row is one draw.
    samples : float
        M, a scale of time.
    cycles_per_derivative, forward_cycles : float
        b and c: cycles of a partial derivative of one sample, and of the first touch of a sample.
    delay : array-like, broadcast to (S, N)
        Seconds that a message of each worker is under way.
    latency : float
        Seconds that feedback takes; of no effect without feedback. Under "claim", from request to answer.
    threads : int
        Threads that share the draws, 0 for one a core. The result does not depend on it.
    details : bool
        Return a `Simulation` with decode times and traffic.

    Returns
    -------
    float64 array, shape (S,), or Simulation
        Seconds until the gradient is complete; infinity where it never is.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        Wrong shapes, NaN or negative times.

    Notes
    -----
    Without feedback a visit arrives T_w x (cycles of the walk so far) + delay after the start, and a cell is
    decoded with the `required_rows`-th earliest of its distinct rows; for the cyclic scheme this is
    `cgc.runtime`. The time of a draw is O(N log N) for cells that cost all N workers the same, plus O(1) for
    each other visit.

    Under "announce" the master announces each cell as it decodes it. A worker knows it `latency` later: it
    skips such a cell when it comes to it and abandons it when it is in it, going on at that moment. A visit
    begins with the forward pass over its new samples; of an abandoned one this counts as far as it went.

    Under "claim" the first cell of a walk is its worker's own from the start. A worker asks for more so early
    that the answer is there when it has done what it holds (at its own speed, forward passes included), and
    for so many cells that they last for a latency at least: the first of its walk that nobody has claimed;
    the claims hold at once. When all are claimed it gets the uncommitted cell with the fewest claimants so
    far, so that what a dead or slow worker holds is done by others. Whoever finishes a cell first commits
    it; `latency` later its other claimants drop it, done or not. `latency` after the last cell of its walk
    is committed a worker knows, and sends the sum of those that it committed in one message: they are
    decoded when it arrives.
    """
    if not isinstance(schedule, Schedule):
        raise ArgumentTypeError(f"schedule: expected a Schedule, got {type(schedule).__name__}")
    cost = Cost(samples, cycles_per_derivative, forward_cycles)
    draws = _times(cycle_times, "cycle_times")
    if draws.ndim not in (1, 2) or draws.shape[-1] != schedule.workers:
        raise ArgumentValueError(
            f"cycle_times: expected shape (S, {schedule.workers}) or ({schedule.workers},), one column a "
            f"worker; got {draws.shape}"
        )
    draws = np.atleast_2d(draws)
    runtime, decode_times, values_sent = schedule.compiled.simulate(
        schedule.feedback,
        cost.samples,
        cost.cycles_per_derivative,
        cost.forward_cycles,
        draws,
        _delays(delay, draws.shape),
        quantity("latency", latency),
        details,
        integer("threads", threads, 0) or os.cpu_count() or 1,
    )
    return Simulation(runtime, decode_times, values_sent) if details else runtime


def _times(values: ArrayLike, name: str) -> NDArray[np.float64]:
    try:
        times = np.ascontiguousarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ArgumentTypeError(f"{name}: expected numbers, got {values!r}") from None
    if np.isnan(times).any() or (times < 0.0).any():
        raise ArgumentValueError(
            f"{name}: expected seconds >= 0 (infinity: never), got NaN or a negative one"
        )
    return times


def _delays(delay: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Delays (S, N), or (1, N) where they are the same for all draws."""
    delays = _times(np.asarray(delay), "delay")
    rows = shape[0] if delays.ndim == 2 and delays.shape[0] != 1 else 1
    try:
        return np.ascontiguousarray(np.broadcast_to(delays, (rows, shape[1])))
    except ValueError:
        raise ArgumentValueError(
            f"delay: expected a shape that broadcasts to {shape}, got {delays.shape}"
        ) from None
