"""What a worker hands over for a row: its values, and behind those of the last coordinate the loss.

Values are computed in float64. They are sent as they are, or rounded to float32 once and widened again by
whoever sums them. The loss is one number, and float64 in either case: it takes the place of 8 bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["loss_of", "loss_size", "place_for_values", "round_values"]


def loss_size(dtype: np.dtype[Any]) -> int:
    """How many values of a payload the loss takes the place of."""
    return 8 // dtype.itemsize


def loss_of(payload: NDArray[Any], width: int) -> NDArray[np.float64]:
    """View of the loss (1,) behind the `width` values of a payload; (0,) if it has no place there."""
    return payload[width:].view(np.float64)


def place_for_values(payload: NDArray[Any], width: int) -> NDArray[np.float64]:
    """Where the `width` values are computed: in the payload itself, or apart from one that is float32."""
    return payload[:width] if payload.dtype == np.float64 else np.empty(width)


def round_values(values: NDArray[np.float64], payload: NDArray[Any]) -> None:
    """Put values into a payload that they were computed apart from; what float32 cannot hold is infinite."""
    if payload.dtype != np.float64:
        with np.errstate(over="ignore", under="ignore"):
            payload[: len(values)] = values
