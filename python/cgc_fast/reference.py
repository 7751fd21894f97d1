"""Slow NumPy twins of the compiled kernels: the specification in executable form.

Used by tests and benches only; nothing in the package imports this module. Each function says which kernel
it is the twin of, and is written for reading, not for speed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# --- block sizes: projection, rounding, runtimes, subgradient -----------------------------------------


def project_onto_simplex(point: NDArray[np.float64], total: float) -> NDArray[np.float64]:
    """Twin of `_core.project_onto_simplex`: max(0, v - threshold) for the threshold that gives the sum."""
    descending = np.sort(point)[::-1]
    candidates = (np.cumsum(descending) - total) / np.arange(1, len(point) + 1)
    threshold = candidates[np.flatnonzero(descending > candidates)[-1]]
    projected: NDArray[np.float64] = np.maximum(point - threshold, 0.0)
    return projected


def level_runtimes(times: NDArray[np.float64], cycles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Twin of `_core.level_runtimes`: levels with 0 cycles are done at 0, whatever their time."""
    used = cycles > 0
    latest: NDArray[np.float64] = (times[:, used] * cycles[used]).max(axis=1, initial=0.0)
    return latest


def group_times(
    times: NDArray[np.float64], groups: NDArray[np.int64], cycles: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Twin of `_core.group_times`: the slowest group's fastest member, per draw and level."""
    workers = times.shape[1]
    done = np.zeros((len(times), len(groups)))
    for k, count in enumerate(groups):
        spent = np.where(cycles[k] > 0, times, 1.0) * cycles[k]
        group_of = [worker * int(count) // workers for worker in range(workers)]
        for group in range(int(count)):
            members = [worker for worker in range(workers) if group_of[worker] == group]
            done[:, k] = np.maximum(done[:, k], spent[:, members].min(axis=1))
    return done


def subgradient_iterations(
    times: NDArray[np.float64], work: NDArray[np.float64], start: NDArray[np.float64], batch: int, step: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Twin of one `_core.SubgradientIterations.run` with averaging: last iterate, average, history."""
    total, iterate, squared_norms = start.sum(), start, 0.0
    iterates, history = [], []
    for first in range(0, len(times) - batch + 1, batch):
        draws = times[first : first + batch]
        level_times = draws * np.cumsum(work * iterate)
        last = level_times.argmax(axis=1)
        history.append(level_times.max(axis=1).mean())
        subgradients = [
            draw[k] * work * (np.arange(len(work)) <= k) for draw, k in zip(draws, last, strict=True)
        ]
        centred = np.mean(subgradients, axis=0)
        centred -= centred.mean()
        squared_norms += centred @ centred
        if squared_norms > 0:
            iterate = project_onto_simplex(iterate - step * total / np.sqrt(squared_norms) * centred, total)
        iterates.append(iterate)
    return iterate, np.mean(iterates, axis=0), np.array(history)


def coordinate_runtime(
    redundancy: NDArray[np.int64],
    times: NDArray[np.float64],
    samples: float = 1,
    cycles_per_derivative: float = 1.0,
    forward_cycles: float = 0.0,
) -> NDArray[np.float64]:
    """Runtime (S,) in the coordinate view: coordinates one by one, in the order given [WANG22].

    Coordinate l is there when N - s_l workers have delivered it; each has by then computed
    sum_{i <= l} (s_i + 1) parts of partial derivatives and touched max_{i <= l} (s_i + 1) parts (cyclic
    supports are nested).
    """
    workers = times.shape[1]
    ordered = np.sort(times, axis=1)
    parts, touched, latest = 0, 0, np.zeros(len(times))
    for s in redundancy:
        parts += s + 1
        touched = max(touched, s + 1)
        cycles = samples / workers * (cycles_per_derivative * parts + forward_cycles * touched)
        latest = np.maximum(latest, ordered[:, workers - 1 - s] * cycles)
    return latest


# --- codes and weighted sums --------------------------------------------------------------------------

# --- generalised linear models ------------------------------------------------------------------------

# --- schedules and simulation -------------------------------------------------------------------------
