"""Arguments that schemes share, checked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cgc_fast.errors import ArgumentTypeError, ArgumentValueError
from cgc_fast.schedule import integer

__all__ = ["check_block_sizes", "check_level"]


def check_level(level: Any, workers: int) -> int:
    """A redundancy level, 0 <= n < N."""
    number = integer(level, "level")
    if not 0 <= number < workers:
        raise ArgumentValueError(
            f"level: expected 0 to {workers - 1} (at most N - 1 of N workers may be missing), got {number}"
        )
    return number


def check_block_sizes(block_sizes: ArrayLike, workers: int, coordinates: int) -> NDArray[np.int64]:
    """Block sizes x (N,): how many coordinates each redundancy level gets; integers >= 0 with sum L."""
    sizes = np.asarray(block_sizes)
    if sizes.shape != (workers,):
        raise ArgumentValueError(
            f"block_sizes: expected shape ({workers},), one size a redundancy level; got {sizes.shape}"
        )
    if sizes.dtype.kind not in "iu":
        raise ArgumentTypeError(
            f"block_sizes: expected integers, got {sizes.dtype}; round relaxed sizes cumulatively first"
        )
    if (sizes < 0).any():
        level = int(np.flatnonzero(sizes < 0)[0])
        raise ArgumentValueError(f"block_sizes: expected sizes >= 0, got {sizes[level]} at level {level}")
    if int(sizes.sum()) != coordinates:
        raise ArgumentValueError(
            f"block_sizes: expected sum {coordinates}, the number of coordinates; got {sizes.sum()}"
        )
    return sizes.astype(np.int64)
