"""Codes: which parts a row sums, with which coefficients, and how rows are decoded.

A code describes rows over the equal parts of a cell's sample range; a row is not a process. Matrices are
made on first use: planning, invariants and simulation only count rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["Code", "RepetitionCode"]


class Code(ABC):
    """Rows over the equal parts of a sample range.

    Attributes
    ----------
    rows : int
        Number of rows.
    parts : int
        Number of equal parts that the sample range is cut into.
    redundancy : int
        How many rows may be missing, whichever they are, with the all-ones row still in the span.
    """

    rows: int
    parts: int
    redundancy: int

    @abstractmethod
    def support(self, row: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Parts (k,) that `row` sums, and their coefficients (k,)."""

    @abstractmethod
    def support_parts(self, row: int) -> NDArray[np.int64]:
        """Parts (k,) that `row` sums, without making a matrix."""

    @abstractmethod
    def can_decode(self, rows: Sequence[int] | NDArray[np.int64]) -> bool:
        """Whether the all-ones row is in the span of these rows."""

    @abstractmethod
    def decoding_vector(self, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float64]:
        """Coefficients a (len(rows),) with aᵀ B[rows] = 1ᵀ.

        Raises
        ------
        DecodeError
            The rows do not determine the sum.
        NumericalError
            They do, but not to the accuracy that the code promises; one more row may help.
        """


class RepetitionCode(Code):
    """Every row is the one part itself: any one row decodes, with coefficient 1."""
