"""Draws that a plan has not seen: how a trace is split, and when a difference of means is more than noise."""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["PREMIUM", "halves", "is_larger", "per_iteration", "standard_error"]

Array = NDArray[np.float64]
_Kind = TypeVar("_Kind", bound=np.generic)

# A difference counts if it is so many standard errors.
_NOISE = 2.0
# How much longer, relatively, a plan for measured times may take if it survives the loss of any worker and
# the fastest does not. A hold-out bounds the noise, not what changes after the last row: a worker that is
# slower than ever before, or gone, costs the one little and holds the other up.
PREMIUM = 0.03


def halves(rows: NDArray[_Kind], repeats: int = 1) -> tuple[NDArray[_Kind], NDArray[_Kind]]:
    """First and second half of the iterations (rows) of a trace, the first not the smaller.

    In time: neighbouring iterations may be dependent, so that rows picked at random would leak from one half
    into the other. `repeats` neighbouring rows stand for one iteration and stay together.
    """
    cut = (len(rows) // repeats + 1) // 2 * repeats
    return rows[:cut], rows[cut:]


def per_iteration(values: Array | NDArray[np.bool_], repeats: int) -> Array:
    """Means (S / repeats,) of the values (S,) of neighbouring rows that stand for one iteration."""
    return np.asarray(values.reshape(-1, repeats).mean(axis=1))


def standard_error(values: Array) -> float:
    """Of the mean of independent values (S,); infinite for less than two."""
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.inf


def is_larger(values: Array, others: Array) -> bool:
    """Whether the mean is larger than that of others on the same draws, by more than noise.

    Where some are infinite the one with fewer of these is the smaller, whatever the noise.
    """
    endless, others_endless = np.count_nonzero(np.isinf(values)), np.count_nonzero(np.isinf(others))
    if endless or others_endless:
        return bool(endless > others_endless)
    difference = values - others
    return bool(difference.mean() > _NOISE * standard_error(difference))
