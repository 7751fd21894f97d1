"""Single level: classic gradient coding, the same redundancy for all coordinates."""

from __future__ import annotations

import numpy as np

from cgc_fast.arguments import integer
from cgc_fast.schedule import Schedule
from cgc_fast.schemes.cyclic import cyclic_schedule

__all__ = ["single_level_schedule"]


def single_level_schedule(workers: int, coordinates: int, level: int, seed: int = 0) -> Schedule:
    """Cyclic gradient coding with one redundancy level for all coordinates [TANDON17].

    Parameters
    ----------
    workers, coordinates : int
        N and L, >= 1.
    level : int
        How many workers may be missing, 0 <= n < N; 0 is the uncoded schedule.
    seed : int
        Of the encoding matrix.
    """
    workers, coordinates = integer("workers", workers, 1), integer("coordinates", coordinates, 1)
    block_sizes = np.zeros(workers, dtype=np.int64)
    block_sizes[integer("level", level, 0, workers - 1)] = coordinates
    return cyclic_schedule(workers, coordinates, block_sizes, seed)
